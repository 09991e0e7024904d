package shared

import (
	"context"
	"errors"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

// fetcher has the values of some keys looked up at one server, all within the
// budget: one after the other as they are needed, and on the caller's goroutine,
// where few ask at the moment; else all at once, together with what others ask
// for. The first way takes half as much processor time, and another round trip
// where a further key is needed.
type fetcher struct {
	c     *Cache
	ctx   context.Context
	s     *server
	begun time.Time
	keys  []string

	whole bool                      // all were looked up at once
	items map[string]*memcache.Item // of all, then
	vain  bool                      // something had no answer in time
}

// item returns what is there under key, which is one of those of f; nil: nothing,
// or it was not known in time.
func (f *fetcher) item(key string) *memcache.Item {
	if f.whole || f.vain {
		return f.items[key]
	}
	item, err := f.one(key)
	switch {
	case err == nil:
		return item
	case errors.Is(err, errElsewhere) && f.fetch():
		return f.items[key]
	}
	f.vain = true
	return nil
}

// one looks key up on the caller's goroutine. The error is errElsewhere if that is
// not the way.
func (f *fetcher) one(key string) (*memcache.Item, error) {
	begun, until := time.Now(), f.begun.Add(f.c.opt.Budget)
	if f.ctx.Err() != nil || !begun.Before(until) {
		return nil, errLate
	}
	sl := f.s.seize()
	if sl == nil {
		return nil, errElsewhere
	}
	item, err := f.s.lookUp(sl, until, key)
	switch {
	case errors.Is(err, errElsewhere):
	case errors.Is(err, errLate):
		f.c.tardy(f.s, until.Sub(begun))
	default:
		f.s.answered(err)
	}
	return item, err
}

// fetch looks all keys up, and reports whether there was an answer in time.
func (f *fetcher) fetch() bool {
	l := f.s.ask(time.Now(), f.keys...)
	if l == nil || !f.c.waits(f.ctx, f.s, time.Until(f.begun.Add(f.c.opt.Budget)), l.done, &l.gone) {
		f.vain = true
		return false
	}
	f.s.answered(l.err)
	f.whole, f.items = true, l.items
	return true
}

// end counts what f has found out.
func (f *fetcher) end() {
	f.s.counts.gets.Add(1)
	if !f.vain {
		f.s.counts.took.Observe(time.Since(f.begun))
	}
}
