package shared

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

// A lease is a mark that says that a server is about to find the answer to a
// question, so that the others need not at the same moment. It binds nobody:
// who waits for its holder does so for a short time, and then finds the answer
// himself, so that a holder that died costs that time and no more. It is never
// given back. An answer that is as young as the lease shows that it is used up,
// and it ends soon.

// leaseLife is how long a lease lasts: longer than most resolutions. memcached
// counts in seconds.
const leaseLife = 3 * time.Second

// The time between two looks for what a holder has found is drawn between
// these, so that those who wait do not look together.
const (
	minPoll = 4 * time.Millisecond
	maxPoll = 16 * time.Millisecond
)

// maxClaims is how many leases wait to be asked of a server at once; one more
// is not asked for.
const maxClaims = 64

// Claim is what came of asking for a lease.
type Claim uint8

// What may come of it.
const (
	Unheard  Claim = iota // nobody knows: no server said so in time
	Ours                  // the others leave the question to us
	Anothers              // another server is at it
)

// claim is a lease that a server is asked for.
type claim struct {
	item *memcache.Item
	gone atomic.Bool   // nobody waits any more
	done chan struct{} // closed when err is there
	err  error
}

// Claim asks for the lease of k, for as long as within at most.
func (c *Cache) Claim(ctx context.Context, k Key, within time.Duration) Claim {
	now := time.Now()
	d := c.ring.digest(k)
	s, _ := c.pick(d.route(), now)
	if s == nil || within <= 0 {
		return Unheard
	}
	cl := &claim{item: c.lease(keyName(forLease, c.opt.Generation, d)), done: make(chan struct{})}
	if !s.claim(cl) || !c.waits(ctx, s, within, cl.done, &cl.gone) {
		c.counts.unheard.Add(1)
		return Unheard
	}
	switch {
	case cl.err == nil:
		c.counts.leased.Add(1)
		return Ours
	case errors.Is(cl.err, memcache.ErrNotStored):
		c.counts.yielded.Add(1)
		return Anothers
	}
	c.counts.unheard.Add(1)
	return Unheard
}

// lease returns the item that is a lease from now on.
func (c *Cache) lease(name string) *memcache.Item {
	body := appendTime([]byte{bodyLease}, c.opt.Clock.Now())
	return &memcache.Item{Key: name, Value: c.ring.seal(name, body), Expiration: int32(leaseLife / time.Second)}
}

// waits waits for done, for as long as within, the budget and ctx allow.
func (c *Cache) waits(ctx context.Context, s *server, within time.Duration, done <-chan struct{}, gone *atomic.Bool) bool {
	select {
	case <-done:
		return true
	default:
	}
	timer := time.NewTimer(min(within, c.opt.Budget))
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		gone.Store(true)
		c.tardy(s, within)
	case <-ctx.Done():
		gone.Store(true)
	}
	return false
}

// tardy counts that s had nothing to say within a time. A server that has not in
// most of the budget is not well.
func (c *Cache) tardy(s *server, within time.Duration) {
	if within > c.opt.Budget/2 {
		s.counts.late.Add(1)
		s.judge(late, time.Now())
	}
}

// Await returns what the holder of the lease of k finds, if that is there before
// patience ends. It gives up as soon as there is nothing to wait for: the lease
// has ended, or is used up, or its server does not answer.
func (c *Cache) Await(ctx context.Context, k Key, patience time.Duration) (Entry, bool) {
	d := c.ring.digest(k)
	w := waiter{c: c, k: k, end: time.Now().Add(patience)}
	w.answer, w.failure = keyName(forAnswer, c.opt.Generation, d), keyName(forFailure, c.opt.Generation, d)
	w.lease = keyName(forLease, c.opt.Generation, d)
	for {
		left := time.Until(w.end)
		if left <= 0 {
			break
		}
		timer := time.NewTimer(min(minPoll+rand.N(maxPoll-minPoll), left)) //nolint:gosec // chance, not a secret
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return Entry{}, false
		}
		s, _ := c.pick(d.route(), time.Now())
		if s == nil {
			break
		}
		e, found, more := w.look(ctx, s)
		if found {
			c.counts.awaited.Add(1)
			return e, true
		}
		if !more {
			break
		}
	}
	c.counts.inVain.Add(1)
	return Entry{}, false
}

// waiter waits for what the holder of a lease finds.
type waiter struct {
	c                      *Cache
	k                      Key
	answer, failure, lease string
	end                    time.Time
}

// look looks once, and reports whether there is anything, and if not, whether
// to look again.
func (w *waiter) look(ctx context.Context, s *server) (e Entry, found, more bool) {
	c := w.c
	all := fetcher{c: c, ctx: ctx, s: s, begun: time.Now(), keys: []string{w.answer, w.failure, w.lease}}
	defer all.end()
	if !all.fetch() {
		return e, false, false
	}
	items := all.items
	now := c.opt.Clock.Now()
	e, held := c.open(s, w.k, w.answer, items[w.answer])
	if held && !e.Failed() && e.Fresh(now) {
		return e, true, false
	}
	f, failed := c.open(s, w.k, w.failure, items[w.failure])
	if failed && f.Failed() && f.Fresh(now) {
		return f, true, false
	}
	since, ok := c.leased(s, w.lease, items[w.lease])
	if !ok || held && !e.Stored.Before(since) || failed && !f.Stored.Before(since) {
		return Entry{}, false, false
	}
	return Entry{}, false, true
}

// leased returns when the lease in item was given, if it is one that holds.
func (c *Cache) leased(s *server, name string, item *memcache.Item) (since time.Time, ok bool) {
	if item == nil || len(item.Value) == 0 {
		return since, false
	}
	body, err := c.ring.open(name, item.Value)
	if err == nil && (len(body) != leaseLen || body[0] != bodyLease) {
		err = errForm
	}
	if err != nil {
		s.counts.rejected.Add(1)
		c.reject(s, err)
		return since, false
	}
	r := reader{b: body[1:]}
	since = r.time()
	now := c.opt.Clock.Now()
	// One from another time was brought back by somebody, or its writer's clock is
	// wrong; it would only have us wait.
	return since, since.Sub(now) <= maxSkew && now.Sub(since) <= leaseLife+maxSkew
}

// leaseLen is how long the body of a lease is: what it is, and its time.
const leaseLen = 1 + 8

// claim has cl asked for when its turn comes, which is before that of entries
// that are to be written: somebody waits. It reports whether it will be.
func (s *server) claim(cl *claim) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil || len(s.claims) >= maxClaims {
		return false
	}
	s.claims = append(s.claims, cl)
	s.startSetter()
	return true
}

// nextClaim returns the lease to be asked for next, or nil. The caller holds mu.
func (s *server) nextClaim() *claim {
	for len(s.claims) > 0 {
		cl := s.claims[0]
		s.claims[0] = nil
		s.claims = s.claims[1:]
		if !cl.gone.Load() {
			return cl
		}
	}
	return nil
}

// lay asks for a lease.
func (s *server) lay(cl *claim) {
	defer close(cl.done)
	if cl.err = s.ctx.Err(); cl.err != nil {
		return
	}
	cl.err = s.client.Add(cl.item)
	if cl.err != nil && !isCacheError(cl.err) {
		s.counts.errors.Add(1)
		s.broken(cl.err)
	}
}
