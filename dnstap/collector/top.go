package collector

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"shirube/dnstap"
	"shirube/internal/topk"
	"shirube/internal/wire"
)

// Top finds the names that clients ask for most, and the clients that ask most. It
// is safe for concurrent use.
type Top struct {
	names, clients *topk.Top
}

// NewTop returns a Top that tells k names and k clients apart.
func NewTop(k int) *Top { return &Top{names: topk.New(k), clients: topk.New(k)} }

// Add counts the query that r is about.
func (t *Top) Add(r *dnstap.Record) {
	if name, _, _, ok := r.Question(); ok {
		var room [wire.MaxNameLen]byte
		t.names.Add(fold(room[:0], name))
	}
	if a := r.Query.Addr(); a.IsValid() {
		b := a.As16()
		t.clients.Add(b[:])
	}
}

// Halve makes what came before count half.
func (t *Top) Halve() {
	t.names.Halve()
	t.clients.Halve()
}

// fold appends name in lower case. The lengths of labels are less than any letter.
func fold(b, name []byte) []byte {
	for _, c := range name {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		b = append(b, c)
	}
	return b
}

// TopStats is what a [Top] has found.
type TopStats struct {
	Names   []TopCount `json:"names"`
	Clients []TopCount `json:"clients"`
}

// TopCount is how many queries there were of a name or client: at most so many,
// and at least so many less Excess.
type TopCount struct {
	Key     string `json:"key"`
	Queries uint64 `json:"queries"`
	Excess  uint64 `json:"excess,omitempty"`
}

// Stats returns the first n names and clients.
func (t *Top) Stats(n int) TopStats {
	return TopStats{
		Names: topCounts(t.names.List(n), func(key string) string { return nameOf([]byte(key)) }),
		Clients: topCounts(t.clients.List(n), func(key string) string {
			return netip.AddrFrom16([16]byte([]byte(key))).Unmap().String()
		}),
	}
}

func topCounts(list []topk.Count, text func(key string) string) []TopCount {
	out := make([]TopCount, 0, len(list))
	for _, c := range list {
		out = append(out, TopCount{Key: text(c.Key), Queries: c.Count, Excess: c.Excess})
	}
	return out
}

// halfLife is after how long what came to a [Lately] counts half.
const halfLife = time.Minute

// maxHalvings is how often counts of 64 bits can be halved before nothing is left.
const maxHalvings = 64

// Lately finds the names and clients of the last minutes: what came before counts
// half after each minute. It is safe for concurrent use.
type Lately struct {
	top     *Top
	queries atomic.Uint64 // alike

	mu     sync.Mutex
	halved time.Time
}

// NewLately returns a Lately that begins at now.
func NewLately(now time.Time) *Lately { return &Lately{top: NewTop(topCounters), halved: now} }

// Take counts what frame is about, if that is a query of a client. The frame is
// borrowed.
func (l *Lately) Take(frame []byte) {
	var r dnstap.Record
	if r.Decode(frame) != nil || r.Type != uint32(dnstap.ClientQuery) { // this process's own are not malformed
		return
	}
	l.age(r.QueryTime)
	l.queries.Add(1)
	l.top.Add(&r)
}

// age has what is old by now count less.
func (l *Lately) age(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := int(min(now.Sub(l.halved)/halfLife, maxHalvings))
	for range n {
		l.top.Halve()
		l.queries.Store(l.queries.Load() / 2)
	}
	if n > 0 {
		l.halved = now
	}
}

// LatelyStats is what a [Lately] has found. Counts are of queries that were taken,
// less what is long ago.
type LatelyStats struct {
	Queries uint64 `json:"queries"` // of all names and clients
	TopStats
}

// Stats returns the first n names and clients at now.
func (l *Lately) Stats(n int, now time.Time) LatelyStats {
	l.age(now)
	s := LatelyStats{l.queries.Load(), l.top.Stats(n)}
	s.Names, s.Clients = counted(s.Names), counted(s.Clients)
	return s
}

// counted returns the entries of list, which is in order, that are left.
func counted(list []TopCount) []TopCount {
	for len(list) > 0 && list[len(list)-1].Queries == 0 {
		list = list[:len(list)-1]
	}
	return list
}
