package frontend

import (
	"context"
	"errors"
	"sync"
	"time"

	"shirube/internal/ede"
	"shirube/internal/hist"
	"shirube/internal/share"
	"shirube/internal/stack"
	"shirube/internal/wire"
)

// flights lets callers that want the same thing at the same time share the
// work. The work runs under the server's context, not under a caller's: that
// the first of them gives up is no reason to let the others down.
type flights[K comparable, V any] struct {
	server context.Context                 // ends when the server does
	ended  func(val V, took time.Duration) // told of each flight's end, after those who waited for it; nil: nobody is

	mu       sync.Mutex
	m        map[K]*flight[V]
	networks share.Shares[wire.Network] // who started the flights
	wg       sync.WaitGroup
	took     hist.Histogram
	shed     [2]uint64 // callers turned away: too many flights, too many waiters
}

// bounds is how many there may be.
type bounds struct {
	most    int // flights at once
	share   int // of them, started by one network; 0: all
	waiters int // callers of one flight at once
}

type flight[V any] struct {
	done    chan struct{} // closed when val is there; nil: nobody waits. Guarded by flights.mu until then
	val     V
	begun   time.Time
	network wire.Network // that it counts against; 0: none
	callers int          // guarded by flights.mu
}

// Reasons to turn a caller away, as clients are told. Made once: there are many when
// there are any.
var (
	errFlights = &ede.Error{Code: ede.Other, Text: "too many questions are being resolved"}
	errNetwork = &ede.Error{Code: ede.Other, Text: "too many questions of your network are being resolved"}
	errWaiters = &ede.Error{Code: ede.Other, Text: "too many clients wait for this question"}
)

// errPatience ends the wait of a caller who has something else to give.
var errPatience = errors.New("not yet")

// wait returns what came of fl, which the caller has joined. It gives up with
// ctx's error, or, when patience comes, with errPatience; a caller who does not
// then wait again has to leave. A nil patience never comes.
func (f *flights[K, V]) wait(ctx context.Context, fl *flight[V], patience <-chan time.Time) (val V, err error) {
	select {
	case <-fl.done:
		return fl.val, nil
	case <-patience:
		return val, errPatience
	case <-ctx.Done():
		f.leave(fl)
		return val, ctx.Err()
	}
}

// leave gives up the place of one caller of fl. The flight goes on.
func (f *flights[K, V]) leave(fl *flight[V]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl.callers--
}

// join returns the flight for k, which it starts if there is none, as board
// does it.
func (f *flights[K, V]) join(k K, network wire.Network, b bounds, work func(context.Context) V) (*flight[V], error) {
	fl, leads, err := f.board(k, network, b, time.Now())
	if leads {
		f.launch(k, fl, work)
	}
	return fl, err
}

// launch has fl, which the caller leads, done on a goroutine of its own.
func (f *flights[K, V]) launch(k K, fl *flight[V], work func(context.Context) V) {
	f.mu.Lock()
	fl.awaited()
	f.mu.Unlock()
	// Owner: f. End: when work returns, by its deadline or the server's end at
	// the latest. Bound: bounds.most; board turns excess callers away.
	go func() {
		stack.Reserve()
		f.lead(k, fl, func() V { return work(f.server) })
	}()
}

// board returns the flight for k. If there is none it makes one, on behalf of a
// client of network, begun now, and has the caller lead it; the zero network is
// this server's own. It counts against the network to its end: who hangs up and
// asks the next question has no more for it. The error is errFlights, errNetwork
// or errWaiters.
func (f *flights[K, V]) board(k K, network wire.Network, b bounds, now time.Time) (fl *flight[V], leads bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl := f.m[k]; fl != nil {
		if fl.callers >= b.waiters {
			f.shed[1]++
			return nil, false, errWaiters
		}
		fl.callers++
		fl.awaited()
		return fl, false, nil
	}
	if len(f.m) >= b.most {
		f.shed[0]++
		return nil, false, errFlights
	}
	if b.share <= 0 {
		network = 0
	}
	if network != 0 && !f.networks.Take(network, b.share) {
		return nil, false, errNetwork
	}
	fl = &flight[V]{begun: now, network: network, callers: 1}
	if f.m == nil {
		f.m = make(map[K]*flight[V])
	}
	f.m[k] = fl
	f.wg.Add(1)
	return fl, true, nil
}

// under reports whether there is a flight for k.
func (f *flights[K, V]) under(k K) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.m[k] != nil
}

// awaited has the end of f told. Who calls it holds flights.mu, or has not begun
// f.
func (f *flight[V]) awaited() {
	if f.done == nil {
		f.done = make(chan struct{})
	}
}

// lead does the work of fl, which board gave the caller to lead with the same k,
// and wakes those who wait for it. It reports whether nobody does, nor will.
func (f *flights[K, V]) lead(k K, fl *flight[V], work func() V) (alone bool) {
	defer f.wg.Done()
	defer func() {
		took := time.Since(fl.begun)
		f.took.Observe(took)
		f.mu.Lock()
		delete(f.m, k)
		f.mu.Unlock()
		if fl.network != 0 {
			f.networks.Give(fl.network)
		}
		if alone = fl.done == nil; !alone {
			close(fl.done)
		}
		if f.ended != nil {
			f.ended(fl.val, took)
		}
	}()
	fl.val = work()
	return alone // as the deferred function finds
}

// flightStats is a snapshot of flights.
type flightStats struct {
	underWay, networks                    int
	shedFlights, shedNetwork, shedWaiters uint64
}

func (f *flights[K, V]) stats() flightStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	networks, denied := f.networks.Stats()
	return flightStats{underWay: len(f.m), networks: networks, shedFlights: f.shed[0], shedNetwork: denied, shedWaiters: f.shed[1]}
}
