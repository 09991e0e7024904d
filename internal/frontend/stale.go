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
