package collector

import (
	"net/netip"

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
