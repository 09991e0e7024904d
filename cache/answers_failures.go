package cache

import (
	"hash/maphash"
	"time"

	"shirube/internal/ede"
	"shirube/internal/wire"
)

// The bounds of how long a failure to resolve may be remembered (RFC 9520
// §3.2).
const (
	minFailure = time.Second
	maxFailure = 5 * time.Minute
)

// failure is a question that could not be answered.
type failure struct {
	err    *ede.Error
	stored time.Time
	lasts  time.Duration // from then on
}

// alive reports whether the question need not be tried again at now.
func (f failure) alive(now time.Time) bool { return f.since(now, f.lasts) }

// since reports whether the last failure is less than a time ago at now.
func (f failure) since(now time.Time, ago time.Duration) bool {
	return within(now, f.stored.Add(ago), ago)
}

// Fail remembers that q could not be answered, and why: err, its cause
// excepted, is sent along with the SERVFAIL; it may be nil. The failure is the
// same with and without DO. One that follows another, without an answer in
// between and within the longest time that one is remembered, lasts twice as
// long (RFC 9520 §3.2). An answer that is still alive hides it, and so does one
// that is stale: then the question is tried again after AnswersOptions.Recheck,
// which does not grow, for whoever is answered notices nothing of the failure
// and should be the first to notice its end.
func (c *Answers) Fail(q wire.Question, cd bool, err *ede.Error, now time.Time) {
	c.FailFor(q, cd, err, now, 0)
}

// FailFor is Fail for a failure that lasts at least for the given time.
func (c *Answers) FailFor(q wire.Question, cd bool, err *ede.Error, now time.Time, least time.Duration) {
	var b [maxKey]byte
	key := appendKey(b[:0], []byte(q.Name), q.Type, false, cd)
	f := failure{err: sendable(err), stored: now, lasts: max(least, c.opt.Load().MinFailure)}
	failures := c.failures.Load()
	if e := lookup(failures, key); e != nil {
		if old := e.val; now.Sub(old.stored)-old.lasts < c.opt.Load().MaxFailure {
			f.lasts = max(least, min(2*old.lasts, c.opt.Load().MaxFailure))
		}
	}
	failures.put(maphash.Bytes(failures.seed, key), string(key), f, keySize(key)+errorSize(f.err),
		func(old failure) bool { return old.since(now, min(old.lasts, c.opt.Load().Recheck)) }) // another flight's, just now
}

// Failing returns for how much longer q need not be tried again at now.
func (c *Answers) Failing(q wire.Question, cd bool, now time.Time) time.Duration {
	var b [maxKey]byte
	e := lookup(c.failures.Load(), appendKey(b[:0], []byte(q.Name), q.Type, false, cd))
	if e == nil || !e.val.alive(now) {
		return 0
	}
	return e.val.stored.Add(e.val.lasts).Sub(now)
}
