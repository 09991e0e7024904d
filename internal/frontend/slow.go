package frontend

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"shirube/internal/hist"
	"shirube/resolver"
)

// Slow says which resolutions the log tells of, step by step. The zero value is
// none, and costs nothing.
type Slow struct {
	After    time.Duration // that they take so long, at least; 0: none
	Interval time.Duration // between two of them; the others are counted
}

// recording returns what keeps the steps of a resolution; nil: nothing does.
func (f *Frontend) recording(t *traced) *resolver.Recording {
	if f.opt.Slow.After <= 0 && t == nil {
		return nil
	}
	return resolver.NewRecording()
}

// Exemplar is a resolution that the log tells of.
type Exemplar struct {
	ID   string // that the log gives it; "": there is none
	Took time.Duration
	At   time.Time // when it ended
}

// slowness counts slow resolutions, and knows which of them the log has told of.
type slowness struct {
	seen, told atomic.Uint64

	mu        sync.Mutex
	last      time.Time                    // that the log was told
	untold    int                          // since then
	exemplars [hist.NumBounds + 1]Exemplar // the last one of each bucket of the histogram
}

// take counts a resolution that took so long, and reports whether the log is to be
// told, with how many it was not told of before.
func (s *slowness) take(took, interval time.Duration, now time.Time) (id string, untold int, ok bool) {
	s.seen.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.last.IsZero() && now.Sub(s.last) < interval {
		s.untold++
		return "", 0, false
	}
	s.told.Add(1)
	id, untold = fmt.Sprintf("%016x", rand.Uint64()), s.untold
	s.last, s.untold = now, 0
	s.exemplars[hist.Index(took)] = Exemplar{ID: id, Took: took, At: now}
	return id, untold, true
}

// ended is called at the end of each flight, when those who waited for it are told;
// a client who leads one is not yet.
func (out *outcome) ended(took time.Duration) {
	f := out.f
	if out.traced != nil {
		f.tellSpans(out, took)
	}
	slow := &f.opt.Slow
	if slow.After <= 0 || took < slow.After {
		return
	}
	id, untold, ok := f.slow.take(took, slow.Interval, time.Now())
	if !ok {
		return
	}
	attrs := []any{"id", id, "question", out.k.q.String(), "took", took.Round(time.Microsecond), "result", out.result()}
	if out.traced != nil {
		attrs = append(attrs, "trace_id", out.traced.id.String())
	}
	if untold > 0 {
		attrs = append(attrs, "others", untold)
	}
	if out.steps != nil {
		events, omitted := out.steps.Events()
		attrs = append(attrs, "steps", steps(events))
		if omitted > 0 {
			attrs = append(attrs, "omitted", omitted)
		}
	}
	f.opt.Log.Warn("a resolution was slow", attrs...)
}

// result says what came of out, for people.
func (out *outcome) result() string {
	switch {
	case out.err != nil:
		return out.err.Error()
	case out.ans != nil:
		return out.ans.Rcode.String()
	}
	return "found by another server"
}

// Exemplars returns resolutions that the log tells of: the last one of each bucket
// of [Stats] Took.
func (f *Frontend) Exemplars() (list []Exemplar) {
	s := &f.slow
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.exemplars {
		if e.ID != "" {
			list = append(list, e)
		}
	}
	return list
}

// steps are what a resolution did, as the log has it: a list of objects, as those
// of `shirube trace --json`, or one text.
type steps []resolver.Event

// MarshalJSON implements [json.Marshaler].
func (s steps) MarshalJSON() ([]byte, error) { return json.Marshal([]resolver.Event(s)) }

// MarshalText implements [encoding.TextMarshaler].
func (s steps) MarshalText() ([]byte, error) {
	var b strings.Builder
	for i, e := range s {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(e.String())
	}
	return []byte(b.String()), nil
}
