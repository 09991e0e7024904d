package cache

import (
	"hash/maphash"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// MemoryOptions configures [Memory]. Zero means the default.
type MemoryOptions struct {
	Bytes int64 // default 64 MiB; one quarter of it is for zone cuts
}

// Memory holds the RRsets and zone cuts that resolution works with. It is safe
// for concurrent use.
type Memory struct {
	sets *store[wire.Question, rrset.Set]
	cuts *store[wire.Name, *rrset.Cut]
}

// NewMemory returns an empty memory.
func NewMemory(opt MemoryOptions) *Memory {
	if opt.Bytes == 0 {
		opt.Bytes = 64 << 20
	}
	return &Memory{
		sets: newStore[wire.Question, rrset.Set](opt.Bytes - opt.Bytes/4),
		cuts: newStore[wire.Name, *rrset.Cut](opt.Bytes / 4),
	}
}

func shardOf[K comparable, V any](s *store[K, V], k K) *shard[K, V] {
	return &s.shards[maphash.Comparable(s.seed, k)%shardCount]
}

// Cut returns the live cut closest to n, at or above it, or nil.
func (m *Memory) Cut(n wire.Name) *rrset.Cut {
	now := time.Now()
	for ok := true; ok; n, ok = n.Parent() {
		if cut, found := shardOf(m.cuts, n).get(n); found && now.Before(cut.Until) {
			return cut
		}
	}
	return nil
}

// PutCut stores a cut in place of what was known of its zone: the parent's
// last word counts.
func (m *Memory) PutCut(c *rrset.Cut) {
	size := int64(len(c.Zone)) + 160
	for _, s := range c.Servers {
		size += int64(len(s.Host)+24*len(s.Addrs)) + 40
	}
	for _, ds := range c.DS {
		size += rrSize(ds)
	}
	for _, k := range c.Keys {
		size += rrSize(k)
	}
	m.cuts.put(shardOf(m.cuts, c.Zone), c.Zone, c, size, nil)
}

// Set returns the live set of n and typ, if there is one.
func (m *Memory) Set(n wire.Name, typ wire.Type) (rrset.Set, bool) {
	q := wire.Question{Name: n, Type: typ}
	s, ok := shardOf(m.sets, q).get(q)
	if !ok || !time.Now().Before(s.Until) {
		return rrset.Set{}, false
	}
	return s, true
}

// PutSet stores a set, unless a live one of higher rank (RFC 2181 §5.4.1) or
// of better trust is there. One without life left is not stored.
func (m *Memory) PutSet(s rrset.Set) {
	now := time.Now()
	if !now.Before(s.Until) {
		return
	}
	q := wire.Question{Name: s.Name, Type: s.Type}
	m.sets.put(shardOf(m.sets, q), q, s, setSize(s), func(old rrset.Set) bool {
		return now.Before(old.Until) && (old.Rank > s.Rank || old.Trust > s.Trust)
	})
}

// setSize returns about how many bytes s takes in memory.
func setSize(s rrset.Set) int64 {
	size := int64(len(s.Name)) + 160
	for _, rr := range s.RRs {
		size += rrSize(rr)
	}
	for _, sig := range s.Sigs {
		size += rrSize(sig)
	}
	if s.Denial != nil {
		size += 64
		for _, d := range s.Denial.Sets {
			size += setSize(d)
		}
	}
	return size
}

// rrSize returns about how many bytes rr takes in memory: its names and data
// are about as long as on the wire, twice over for text forms, and then there
// is the Go value.
func rrSize(rr dns.RR) int64 { return int64(2*dns.Len(rr)) + 128 }

// MemoryStats is a snapshot of [Memory].
type MemoryStats struct {
	Sets StoreStats
	Cuts StoreStats
}

// Stats returns a snapshot.
func (m *Memory) Stats() MemoryStats {
	return MemoryStats{Sets: m.sets.stats(), Cuts: m.cuts.stats()}
}
