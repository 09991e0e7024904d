package cache

import (
	"hash/maphash"
	"net/netip"
	"time"
	"unsafe"

	"github.com/miekg/dns"

	"shirube/internal/clock"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// MemoryOptions configures [Memory]. Zero means the default.
type MemoryOptions struct {
	// Bytes is how much memory may be taken; default 64 MiB. One quarter of it
	// is for zone cuts, one eighth for links of the chain of trust, and one eighth
	// for NSEC and NSEC3 records that deny many names. Of the half that is left, for
	// sets, denials have one eighth, 4 MiB at most: a flood of names that do not exist (PRSD) drives
	// nothing else out. What needs more than 1/64 of its share is not kept.
	Bytes int64
	Clock *clock.Clock // nil: the real time
}

// Memory holds the RRsets, zone cuts, links of the chain of trust and denials
// that resolution works with. It is safe for concurrent use.
type Memory struct {
	clock   *clock.Clock
	sets    *store[wire.Question, packedSet]
	cuts    *store[wire.Name, keptCut]
	links   *store[wire.Name, *rrset.Link]
	denials *denials
}

// keptCut is a cut as it is kept.
type keptCut struct {
	*rrset.Cut
	life time.Duration // when it was stored
}

// clockSlack is how much earlier than what it finds in memory a query may be:
// that came from others while it waited for its turn. What is from later still
// was put there before the clock was set back, and is not to be used: it would
// live for as long again.
const clockSlack = 10 * time.Second

// within reports whether at now less than life is left until the end, but
// something.
func within(now, until time.Time, life time.Duration) bool {
	left := until.Sub(now)
	return left > 0 && left <= life+clockSlack
}

// NewMemory returns an empty memory.
func NewMemory(opt MemoryOptions) *Memory {
	if opt.Bytes == 0 {
		opt.Bytes = 64 << 20
	}
	p := partsOf(opt.Bytes)
	sets := newStore[wire.Question, packedSet](p.sets)
	sets.yields = func(s packedSet) bool { return s.denied }
	return &Memory{
		clock:   opt.Clock,
		sets:    sets,
		cuts:    newStore[wire.Name, keptCut](p.cuts),
		links:   newStore[wire.Name, *rrset.Link](p.links),
		denials: newDenials(p.denials),
	}
}

// parts is what the parts of a [Memory] may take, in bytes.
type parts struct{ sets, cuts, links, denials int64 }

func partsOf(all int64) parts { return parts{all / 2, all / 4, all / 8, all / 8} }

// Resize sets how much memory may be taken, as MemoryOptions.Bytes does. What
// does not fit any more is forgotten.
func (m *Memory) Resize(size int64) {
	p := partsOf(size)
	m.sets.resize(p.sets)
	m.cuts.resize(p.cuts)
	m.links.resize(p.links)
	m.denials.resize(p.denials)
}

// Cut returns the live cut closest to n, at or above it, or nil. It is shared,
// and must not be changed.
func (m *Memory) Cut(n wire.Name) *rrset.Cut {
	now := m.clock.Now()
	for ok := true; ok; n, ok = n.Parent() {
		if e := m.cuts.get(maphash.String(m.cuts.seed, string(n)), n); e != nil && e.val.alive(now) {
			e.touch()
			return e.val.Cut
		}
	}
	return nil
}

// alive reports whether c may still be used at now.
func (c keptCut) alive(now time.Time) bool { return c.Until.IsZero() || within(now, c.Until, c.life) }

// PutCut stores a cut in place of what was known of its zone: the parent's
// last word counts, even if it is to be forgotten at once. It keeps c.
func (m *Memory) PutCut(c *rrset.Cut) {
	h := maphash.String(m.cuts.seed, string(c.Zone))
	kept := keptCut{c, c.Until.Sub(m.clock.Now())}
	if !c.Until.IsZero() && kept.life <= 0 {
		m.cuts.drop(h, c.Zone, func(keptCut) bool { return true })
		return
	}
	m.cuts.put(h, c.Zone, kept, cutSize(c), nil)
}

// Link returns the live link closest to n, at or above it, or nil. It is
// shared, and must not be changed.
func (m *Memory) Link(n wire.Name) *rrset.Link {
	now := m.clock.Now()
	for ok := true; ok; n, ok = n.Parent() {
		e := m.links.get(maphash.String(m.links.seed, string(n)), n)
		if e != nil && within(now, e.val.Until, e.val.Until.Sub(e.val.Since)) {
			e.touch()
			return e.val
		}
	}
	return nil
}

// PutLink stores a link in place of the zone's old one. One without life left
// only ends the old one. It keeps l.
func (m *Memory) PutLink(l *rrset.Link) {
	h := maphash.String(m.links.seed, string(l.Zone))
	if !m.clock.Now().Before(l.Until) {
		m.links.drop(h, l.Zone, func(*rrset.Link) bool { return true })
		return
	}
	m.links.put(h, l.Zone, l, linkSize(l), nil)
}

// hashSet returns the hash of q. The sets of a name that are looked for one after
// the other are in the same bucket, and so few that they may be.
func (m *Memory) hashSet(q wire.Question) uint64 {
	h := maphash.String(m.sets.seed, string(q.Name))
	switch q.Type {
	case wire.TypeA, wire.TypeAAAA, wire.TypeCNAME, wire.TypeDNAME, rrset.AnyType:
		return h
	}
	return h ^ uint64(q.Type)*0x9E3779B97F4A7C15 // the golden ratio: odd, and its bits look random
}

// Set returns the live set of n and typ, if there is one. Its records are the
// caller's own.
func (m *Memory) Set(n wire.Name, typ wire.Type) (rrset.Set, bool) {
	if e := m.liveSet(n, typ); e != nil {
		return e.val.unpack()
	}
	return rrset.Set{}, false
}

// AppendAddrs appends to dst the addresses in the live set of n and typ, if there is
// one. It makes no records of them, as [Memory.Set] does.
func (m *Memory) AppendAddrs(dst []netip.Addr, n wire.Name, typ wire.Type) []netip.Addr {
	if e := m.liveSet(n, typ); e != nil {
		return wire.AppendAddrs(dst, e.val.msg)
	}
	return dst
}

// liveSet returns the live set of n and typ, and notes that it was wanted, or nil.
func (m *Memory) liveSet(n wire.Name, typ wire.Type) *entry[wire.Question, packedSet] {
	q := wire.Question{Name: n, Type: typ}
	e := m.sets.get(m.hashSet(q), q)
	if e == nil || !e.val.alive(m.clock.Now()) {
		return nil
	}
	e.touch()
	return e
}

// PutSet stores a set, unless a live one of better trust is there, or of the
// same trust and higher rank (RFC 2181 §5.4.1). One without life left, of more
// than [MaxAnswer] octets, or that would not come back the same is not stored;
// without life it still ends the old one, which is outdated. It keeps nothing
// of s.
func (m *Memory) PutSet(s rrset.Set) {
	now := m.clock.Now()
	keep := func(old packedSet) bool {
		return old.alive(now) && (old.trust > s.Trust || old.trust == s.Trust && old.rank > s.Rank)
	}
	q := wire.Question{Name: s.Name, Type: s.Type}
	h := m.hashSet(q)
	if !now.Before(s.Until) {
		m.sets.drop(h, q, func(old packedSet) bool { return !keep(old) })
		return
	}
	p, err := packSet(s)
	if err != nil {
		return // no failure: whoever wants it asks for it again
	}
	p.name = p.ownName() // it may be the end of a longer one
	q.Name = p.name
	p.life = s.Until.Sub(now)
	m.sets.put(h, q, p, p.size(), keep)
}

// cutSize returns about how many bytes c takes in memory.
func cutSize(c *rrset.Cut) int64 {
	size := int64(len(c.Zone)) + 136
	size += 40 * int64(cap(c.Servers))
	for _, s := range c.Servers {
		size += int64(len(s.Host)+len(s.Host)/8+8) + 24*int64(cap(s.Addrs))
	}
	if c.DS != nil {
		size += setSize(c.DS)
	}
	return size
}

// setSize returns about how many bytes s takes in memory.
func setSize(s *rrset.Set) int64 {
	size := int64(unsafe.Sizeof(*s)) + int64(len(s.Name)) + 16*int64(cap(s.RRs)) + 8*int64(cap(s.Sigs))
	for _, rr := range s.RRs {
		size += rrSize(rr)
	}
	for _, sig := range s.Sigs {
		size += rrSize(sig)
	}
	if s.Denial != nil {
		for i := range s.Denial.Sets {
			size += setSize(&s.Denial.Sets[i])
		}
	}
	return size
}

// linkSize returns about how many bytes l takes in memory.
func linkSize(l *rrset.Link) int64 {
	size := int64(len(l.Zone)) + 128 + 8*int64(cap(l.Keys))
	for _, k := range l.Keys {
		size += rrSize(k)
	}
	if l.Err != nil {
		size += 96 + 2*int64(len(l.Err.Error()))
	}
	return size
}

// rrSize returns about how many bytes rr, a record of DNSSEC, takes in memory: its name and data are about as long as on the wire, twice over for
// text forms, and then there is the Go value.
func rrSize(rr dns.RR) int64 { return int64(2*dns.Len(rr)) + 128 }

// MemoryStats is a snapshot of [Memory].
type MemoryStats struct {
	Sets    StoreStats
	Cuts    StoreStats
	Links   StoreStats
	Denials DenialStats // NSEC and NSEC3 records, of so many zones
}

// Stats returns a snapshot.
func (m *Memory) Stats() MemoryStats {
	return MemoryStats{Sets: m.sets.stats(), Cuts: m.cuts.stats(), Links: m.links.stats(), Denials: m.denials.stats()}
}
