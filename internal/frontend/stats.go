package frontend

import (
	"net/netip"
	"sync/atomic"

	"shirube/internal/ede"
	"shirube/internal/hist"
	"shirube/internal/wire"
)

// stripes spreads counting over cache lines, by client port: readers on
// different cores seldom write the same line.
const stripes = 16

type counters [stripes]stripe

// stripe is one share of all counts. It fills whole cache lines: three, and
// more for what only failures and the like write.
type stripe struct {
	hits, misses, local, denied, refused, rejected  atomic.Uint64
	resolved, failures, abandoned, panics           atomic.Uint64
	staleLate, staleFailed, staleFailing, staleBusy atomic.Uint64
	cookies, badCookies, cookieless                 atomic.Uint64
	_                                               [56]byte
	reasons                                         [NumReasons]atomic.Uint64
	_                                               [40]byte
}

// NumReasons is how many codes of Extended DNS Errors are counted apart: those
// that this server gives, and one for all others, the last.
const NumReasons = int(ede.NegativeTrustAnchor) + 2

// reason counts why, the reason that goes with a response.
func (s *stripe) reason(why *ede.Error) {
	s.reasons[min(int(why.Code), NumReasons-1)].Add(1)
}

// of returns the stripe to count q in; nil stands for no client's query.
func (c *counters) of(q *wire.Query) *stripe {
	if q == nil {
		return &c[0]
	}
	return c.at(q.Client)
}

// at returns the stripe to count client's messages in.
func (c *counters) at(client netip.AddrPort) *stripe { return &c[client.Port()%stripes] }

// Stats is a snapshot of what a [Frontend] has done.
type Stats struct {
	Hits      uint64 // answered from memory
	Misses    uint64 // handed to Serve
	Local     uint64 // answered by this server's own word
	Denied    uint64 // dropped by policy
	Refused   uint64 // refused by policy
	Rejected  uint64 // asked for what is not served
	Resolved  uint64 // answered after a resolution
	Failures  uint64 // answered SERVFAIL
	Abandoned uint64 // not answered: the client's time was up
	Panics    uint64 // caught while resolving

	// Answered stale, which is neither resolved nor failed (RFC 8767).
	StaleLate    uint64 // no answer within the client's time
	StaleFailed  uint64 // the resolution failed
	StaleFailing uint64 // one failed lately, and none was tried
	StaleBusy    uint64 // turned away, as counted below

	Cookies    uint64 // valid ones of clients (RFC 7873)
	BadCookies uint64 // of another server, forged or too old
	Cookieless uint64 // turned away by policy for want of a valid one

	Refreshed      uint64 // answers renewed before they expired
	RefreshFailed  uint64 // such that could not be
	RefreshDropped uint64 // such that were not tried: the queue was full, or too many questions were being resolved

	Reasons [NumReasons]uint64 // responses with an Extended DNS Error, by its code (RFC 8914), to clients without EDNS too
	Took    hist.Snapshot      // how long flights took: resolutions, whoever waited for them

	Slow     uint64 // resolutions that took longer than what the log is told of
	SlowTold uint64 // of them, that it was told of

	Shared Shares // of what the fleet shares

	ShedFlights uint64 // turned away: too many questions being resolved
	ShedNetwork uint64 // turned away: too many questions of the client's network being resolved
	ShedWaiters uint64 // turned away: too many clients wait for the question
	Flights     int    // questions being resolved now
	Networks    int    // of clients who asked them
}

// Shares counts what was taken from the shared cache, and what was given.
type Shares struct {
	Hits     uint64 // questions that were not resolved: another server had
	Renewed  uint64 // of them, for answers to be renewed before they expire
	Failures uint64 // questions that were not tried: another server had failed
	Stale    uint64 // answers that had expired, taken for want of better ones
	Set      uint64 // answers given
	Failed   uint64 // failures told
	Floods   uint64 // denials not given: too many of their zone

	Claimed uint64 // questions, and answers to be renewed, that were left to this server, or that nobody else had claimed
	Yielded uint64 // questions that another server was at, and that waited for it
	Left    uint64 // answers to be renewed that were left to another server
	Saved   uint64 // queries that need not be sent, as far as the average tells
}

// stats returns a snapshot.
func (s *sharing) stats() Shares {
	return Shares{
		Hits: s.hits.Load(), Renewed: s.renewed.Load(), Failures: s.failures.Load(), Stale: s.stale.Load(),
		Set: s.set.Load(), Failed: s.failed.Load(), Floods: s.floods.Load(),
		Claimed: s.yielding.claimed.Load(), Yielded: s.yielding.yielded.Load(), Left: s.yielding.left.Load(),
		Saved: s.yielding.saved.Load() / costUnit,
	}
}

// Stats returns a snapshot.
func (f *Frontend) Stats() Stats {
	var s Stats
	for i := range f.counts {
		c := &f.counts[i]
		s.Hits += c.hits.Load()
		s.Misses += c.misses.Load()
		s.Local += c.local.Load()
		s.Denied += c.denied.Load()
		s.Refused += c.refused.Load()
		s.Rejected += c.rejected.Load()
		s.Resolved += c.resolved.Load()
		s.Failures += c.failures.Load()
		s.Abandoned += c.abandoned.Load()
		s.Panics += c.panics.Load()
		s.StaleLate += c.staleLate.Load()
		s.StaleFailed += c.staleFailed.Load()
		s.StaleFailing += c.staleFailing.Load()
		s.StaleBusy += c.staleBusy.Load()
		s.Cookies += c.cookies.Load()
		s.BadCookies += c.badCookies.Load()
		s.Cookieless += c.cookieless.Load()
		for j := range c.reasons {
			s.Reasons[j] += c.reasons[j].Load()
		}
	}
	r := &f.refresher
	s.Refreshed, s.RefreshFailed, s.RefreshDropped = r.renewed.Load(), r.failed.Load(), r.dropped.Load()
	s.Slow, s.SlowTold = f.slow.seen.Load(), f.slow.told.Load()
	s.Shared = f.sharing.stats()
	fl := f.flights.stats()
	s.Took = f.flights.took.Snapshot()
	s.Flights, s.Networks = fl.underWay, fl.networks
	s.ShedFlights, s.ShedNetwork, s.ShedWaiters = fl.shedFlights, fl.shedNetwork, fl.shedWaiters
	return s
}
