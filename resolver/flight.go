package resolver

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"shirube/internal/wire"
)

// flights lets resolutions that ask the servers of one zone the same question
// at the same time share the answer: a cold top-level zone is looked for once,
// however many names below it are wanted, and there is one query under way
// that a forger could guess, not many (the birthday attack, RFC 5452 §5).
//
// It cannot deadlock: whoever leads a flight waits for the network only, with
// its timeouts, and never for another flight. Its bound is that of the
// resolutions under way: each leads one at most.
type flights struct {
	mu     sync.Mutex
	m      map[flightKey]*flight
	shared atomic.Uint64
}

type flightKey struct {
	zoneKey
	failed *Zone // what else decides how a response is judged
	q      wire.Question
}

// flight is one question under way to one server, and to a second one if the
// first is late.
type flight struct {
	server netip.AddrPort // the first
	done   chan struct{}  // closed when asked is there; nil: nobody waits. Guarded by flights.mu until then
	asked  []*asked       // nil: its leader was called away. Not to be changed: the leader has them too
}

// board returns the flight for k, and whether the caller leads it: to the given
// server. A flight whose server the caller would not ask, because want says so,
// is none of its business: then it returns nil, and the caller flies alone.
func (f *flights) board(k flightKey, server netip.AddrPort, want func(netip.AddrPort) bool) (fl *flight, leads bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl := f.m[k]; fl != nil {
		if !want(fl.server) {
			return nil, true
		}
		f.shared.Add(1)
		if fl.done == nil {
			fl.done = make(chan struct{})
		}
		return fl, false
	}
	fl = &flight{server: server}
	if f.m == nil {
		f.m = make(map[flightKey]*flight)
	}
	f.m[k] = fl
	return fl, true
}

// land ends fl, which the caller leads, with what was found out. It reports
// whether others have that too.
func (f *flights) land(k flightKey, fl *flight, found []*asked) (shared bool) {
	f.mu.Lock()
	delete(f.m, k)
	f.mu.Unlock()
	if fl.done == nil {
		return false
	}
	for _, a := range found {
		if a.err == nil {
			fl.asked = append(fl.asked, a)
		}
	}
	close(fl.done)
	return true
}

// wait returns what the leader of fl found out: nil if it was called away.
func (fl *flight) wait(ctx context.Context) ([]*asked, error) {
	select {
	case <-fl.done:
		found := make([]*asked, 0, len(fl.asked))
		for _, a := range fl.asked { // each its own, to work with
			own := *a
			own.rep = a.rep.clone()
			found = append(found, &own)
		}
		return found, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// clone returns a copy of rep whose slices are its own. What they hold is
// immutable.
func (rep *reply) clone() *reply {
	own := *rep
	own.Sets, own.Denial = slices.Clone(rep.Sets), slices.Clone(rep.Denial)
	if rep.Fallback != nil {
		own.Fallback = rep.Fallback.clone()
	}
	return &own
}
