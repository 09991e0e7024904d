package frontend

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"shirube/cache/shared"
)

// How servers of a fleet leave a question to one of them.
const (
	// popularFor is how soon after the end of an answer somebody has to ask for it
	// again for it to be a popular one: about once a second, so that in a fleet
	// others miss it in the time that it takes to resolve. The time from a given
	// moment to the next who asks tells how often somebody does, and takes nothing
	// to count.
	popularFor = time.Second
	// popularWaiters is how many clients have to wait for one answer, so that it is
	// popular, though none was there before.
	popularWaiters = 2
	// maxYield is how long a question waits for another server that resolves it;
	// twice as long as that takes on average, if that is less.
	maxYield = 100 * time.Millisecond
)

// How answers are renewed that the whole fleet has, and that expire everywhere at
// once.
const (
	maxSpread   = 500 * time.Millisecond // by which those who are due at once are spread, by chance; a quarter of what is left of the answer, if that is less
	minReread   = 50 * time.Millisecond  // before it is looked what another server has found; as long as it resolves, if that is more
	maxRereads  = 7                      // times, each after twice as long: longer in all than a lease of who has died lasts
	maxDeferred = 1024                   // answers that wait so; one more is left to expire
)

// yielding is what a Frontend keeps of leaving questions to others.
type yielding struct {
	took     atomic.Int64 // how long resolutions take, on average, in nanoseconds
	cost     atomic.Int64 // how many queries, in costUnit
	deferred atomic.Int64 // answers to be renewed that wait

	saved                  atomic.Uint64 // queries, in costUnit
	claimed, yielded, left atomic.Uint64
}

// costUnit is the part of a query that averages are counted in.
const costUnit = 16

// average takes one more value into an average of the last few.
func average(avg *atomic.Int64, value int64) {
	old := avg.Load() // one that gets lost is no harm
	if old == 0 {
		avg.Store(value)
		return
	}
	avg.Store(old + (value-old)/8)
}

// resolved notes what it took to resolve out.
func (y *yielding) resolved(out *outcome) {
	average(&y.took, int64(max(time.Since(out.begun), 1)))
	average(&y.cost, int64(out.ans.Queries)*costUnit)
}

// spare notes that another server has resolved what this one need not: that takes
// one query at least, also where nothing was resolved yet.
func (y *yielding) spare() { y.saved.Add(uint64(max(y.cost.Load(), costUnit))) }

// patience returns how long to wait for another server that resolves something.
func (y *yielding) patience() time.Duration {
	if took := time.Duration(y.took.Load()); took > 0 {
		return min(2*took, maxYield)
	}
	return maxYield
}

// fromFleet has out, an answer that is to live on after until, be what the fleet knows, or what another server finds that is
// at it at this moment. Else it returns an answer that may be of use if no better
// one can be had, or nil, and out says how long it may still wait for the fleet.
//
// It is no part of its caller, which is on the stack while servers are asked.
//
//go:noinline
func (f *Frontend) fromFleet(out *outcome, until time.Time) (ok bool, stale *outcome) {
	k, may := f.keyOf(out.k)
	if !may {
		return false, nil
	}
	if !until.IsZero() { // it was asked already whether another server has renewed it: see turn
		out.patience = f.opt.Sharing.Budget
		return false, nil
	}
	ok, stale = f.borrow(&out.ctx, k, out, time.Time{})
	if ok {
		return true, nil
	}
	out.patience = f.opt.Sharing.Budget - time.Since(out.begun)
	if out.patience > 0 && f.popular(out, stale) && f.yield(&out.ctx, k, out) {
		return true, nil
	}
	return false, stale
}

// popular reports whether other servers of the fleet are likely to miss an answer
// to the question of out at this moment, too. All others do not pay for asking.
func (f *Frontend) popular(out, stale *outcome) bool {
	now := f.opt.Clock.Now()
	lately := func(end time.Time) bool {
		passed := now.Sub(end)
		return passed >= 0 && passed < popularFor
	}
	for _, do := range [...]bool{false, true} {
		if end, ok := f.opt.Answers.Expires(out.k.q, do, out.k.cd); ok && lately(end) {
			return true
		}
	}
	return stale != nil && lately(stale.expired) || f.flights.company(out.k) >= popularWaiters
}

// company returns how many callers wait for the flight for k.
func (f *flights[K, V]) company(k K) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl := f.m[k]; fl != nil {
		return fl.callers
	}
	return 0
}

// yield asks for the lease of k, and waits for who has it, if another server
// does. It reports whether that one has found an answer, or that there is none.
func (f *Frontend) yield(ctx context.Context, k shared.Key, out *outcome) bool {
	begun := time.Now()
	claim := f.opt.Sharing.Cache.Claim(ctx, k, out.patience)
	out.patience = max(out.patience-time.Since(begun), 0)
	if claim != shared.Anothers {
		f.sharing.yielding.claimed.Add(1)
		return false
	}
	f.sharing.yielding.yielded.Add(1)
	e, found := f.opt.Sharing.Cache.Await(ctx, k, f.sharing.yielding.patience())
	if !found {
		return false
	}
	ok, _ := f.take(&e, out, time.Time{})
	return ok
}

// turn reports whether it is for this server to renew d, which the fleet has
// too. If it is not yet, because others may be at it, d comes again later; and
// not if it need not, because one of them has.
func (f *Frontend) turn(server context.Context, k flightKey, d *due) bool {
	key, may := f.keyOf(k)
	if !may {
		return true
	}
	if left := f.left(k); d.looks == 0 && left > 0 {
		f.deferDue(d, rand.N(min(left/4+1, maxSpread)))
		return false
	}
	out := &outcome{f: f, k: k}
	if ok, _ := f.borrow(server, key, out, d.until); ok {
		f.refresher.renewed.Add(1)
		return false
	}
	if f.opt.Sharing.Cache.Claim(server, key, f.opt.Sharing.Budget) != shared.Anothers {
		f.sharing.yielding.claimed.Add(1)
		return true
	}
	f.sharing.yielding.left.Add(1)
	if d.looks <= maxRereads {
		wait := max(time.Duration(f.sharing.yielding.took.Load()), minReread) << max(int(d.looks)-1, 0)
		f.deferDue(d, wait/2+rand.N(wait))
	}
	return false
}

// left returns how long the answer to k lives on.
func (f *Frontend) left(k flightKey) (left time.Duration) {
	now := f.opt.Clock.Now()
	for _, do := range [...]bool{false, true} {
		if end, ok := f.opt.Answers.Expires(k.q, do, k.cd); ok {
			left = max(left, end.Sub(now))
		}
	}
	return left
}

// deferDue has d come to the refresher again after a while.
func (f *Frontend) deferDue(d *due, wait time.Duration) {
	y := &f.sharing.yielding
	if y.deferred.Add(1) > maxDeferred {
		y.deferred.Add(-1)
		f.refresher.dropped.Add(1)
		return
	}
	later := *d
	later.looks++
	// Owner: the runtime, until the timer fires; what it does then does not wait.
	// Bound: maxDeferred; what is more is left to expire.
	time.AfterFunc(wait, func() {
		y.deferred.Add(-1)
		select {
		case f.refresher.queue <- later:
		default:
			f.refresher.dropped.Add(1)
		}
	})
}
