package frontend

import (
	"sync/atomic"

	"shirube/internal/ede"
	"shirube/internal/wire"
)

// stale appends the stale answer to q with the reason why q gets no better one,
// and counts it in by. It reports false when there is none.
func (f *Frontend) stale(buf []byte, q *wire.Query, by *atomic.Uint64, why string) ([]byte, bool) {
	start := len(buf)
	buf, hit := f.opt.Answers.Stale(buf, q, f.opt.Clock.Now())
	if !hit.Found {
		return buf, false
	}
	by.Add(1)
	return f.finish(buf, start, q, &ede.Error{Code: hit.EDE.Code, Text: why}), true
}

// staleAtOnce reports whether q gets a stale answer without further ado: an
// operator who does not let clients wait for a better one takes it for as good
// as any, to be renewed when it is used. RFC 8767 §5 has no stale data for
// queries without RD; but of those clients that memory is opened to, the
// operator's own, none is to be told of less than is there.
func (f *Frontend) staleAtOnce(q *wire.Query) bool {
	if f.opt.ClientTimeout >= 0 {
		return false
	}
	found, _ := f.opt.Answers.HoldsStale(q, f.opt.Clock.At(q.Received))
	return found
}
