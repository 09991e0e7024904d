package frontend

import (
	"context"
	"sync/atomic"

	"shirube/cache/shared"
	"shirube/internal/wire"
)

// LoadShared looks many keys up in the shared cache, and hands what is there to
// each, on several goroutines. It ends with ctx.
type LoadShared func(ctx context.Context, keys []shared.Key, each func(shared.Key, shared.Entry))

// Preload puts what the fleet knows of questions into memory, where memory does
// not know it yet, and returns of how many. It ends with ctx.
func (f *Frontend) Preload(ctx context.Context, questions []wire.Question, load LoadShared) int {
	var keys []shared.Key
	for _, q := range questions {
		if _, known := f.opt.Answers.Expires(q, false, false); known {
			continue
		}
		if k, may := f.keyOf(flightKey{q: q}); may {
			keys = append(keys, k)
		}
	}
	var loaded atomic.Int64
	load(ctx, keys, func(k shared.Key, e shared.Entry) {
		if f.adopt(k, &e) {
			loaded.Add(1)
		}
	})
	return int(loaded.Load())
}

// adopt puts e, which is about k, into memory in both its forms, if it is a good
// answer.
func (f *Frontend) adopt(k shared.Key, e *shared.Entry) bool {
	now := f.opt.Clock.Now()
	if e.Failed() || !e.Fresh(now) || f.superseded() {
		return false
	}
	out := &outcome{f: f, k: flightKey{k.Question, false, f.generation}, at: when(e.Stored, now)}
	var err error
	if out.ans, err = unpack(e, out.at, when(e.Deadline, now)); err != nil {
		f.opt.Log.Warn("cannot read an answer of the shared cache", "question", k.String(), "error", err)
		return false
	}
	for _, do := range [...]bool{false, true} {
		if _, err := out.form(do); err != nil {
			return false // why not is logged and remembered there
		}
	}
	f.asked.flight(k.Question, now)
	return true
}

// SharedKey returns the key of the answer to q in the shared cache, if there may
// be one.
func (f *Frontend) SharedKey(q wire.Question) (shared.Key, bool) { return f.keyOf(flightKey{q: q}) }
