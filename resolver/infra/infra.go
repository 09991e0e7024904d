// Package infra remembers how name servers have behaved, and chooses among
// them. It knows each server by its address and the zone it was asked about:
// one address may serve a thousand zones, and be lame for one of them.
package infra

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"shirube/internal/wire"
)

// The figures of server selection.
const (
	// FirstTimeout is how long to wait for a server nothing is known of
	// (Unbound 376 ms, Knot Resolver 400 ms).
	FirstTimeout = 400 * time.Millisecond
	// MinTimeout and MaxTimeout bound what is derived from measured RTTs.
	MinTimeout = 50 * time.Millisecond
	MaxTimeout = 4 * time.Second
	// Band is how much slower than the best a server may be and still be
	// chosen as readily (Unbound's RTT_BAND). An unknown server counts as
	// FirstTimeout, so it lies within the band of a good one and is explored
	// without being looked for.
	Band = 400 * time.Millisecond
	// explore is one in how many choices falls on any server that is not
	// backed off, whatever its RTT.
	explore = 20
	// DeadAfter is how many timeouts in a row put a server out of use, first
	// for MinBackoff, then for twice as long each time, to MaxBackoff.
	DeadAfter  = 5
	MinBackoff = 5 * time.Second
	MaxBackoff = time.Minute
	// LameFor is how long a server that refused or failed to answer for a
	// zone is only a last resort for it.
	LameFor = time.Minute
	// BareFor is how many questions a server that failed on EDNS is asked
	// without it, before EDNS is tried again: servers get mended, and without
	// EDNS there is no DNSSEC (RFC 4035 §4.1).
	BareFor = 50
)

// Cause is a way for an exchange to fail.
type Cause uint8

// The causes.
const (
	Timeout     Cause = iota // no acceptable answer in time
	Unreachable              // no route, port closed, connection refused
	Malformed                // an answer that cannot be parsed
	Lame                     // an answer that is of no use: REFUSED, SERVFAIL, a referral upwards
	numCauses
)

// Options configures a [Table]. Zero means the default.
type Options struct {
	Servers int // most (address, zone) pairs remembered; default 100,000
}

// Table is what is known of all servers. It is safe for concurrent use.
type Table struct {
	limit int

	mu      sync.Mutex
	servers map[key]*server
	stats   Stats
}

// Stats is a snapshot of what a [Table] has seen.
type Stats struct {
	Servers  int    // pairs remembered now
	Evicted  uint64 // pairs forgotten for want of room
	Failures [numCauses]uint64
}

type key struct {
	addr netip.AddrPort
	zone wire.Name
}

// server is what is known of one address for one zone. Times are compared, not
// flagged: a state that has an end needs nobody to end it.
type server struct {
	srtt, rttvar time.Duration // RFC 6298 §2; srtt 0: never answered
	backoff      time.Duration // the last one imposed
	deadUntil    time.Time
	lameUntil    time.Time
	sameUntil    time.Time // a timeout before belongs to the last one counted
	timeouts     uint8     // in a row
	bare         uint8     // questions yet to be asked without EDNS
}

// New returns an empty table.
func New(opt Options) *Table {
	if opt.Servers == 0 {
		opt.Servers = 100_000
	}
	return &Table{limit: opt.Servers, servers: make(map[key]*server)}
}

// Stats returns a snapshot.
func (t *Table) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.stats
	s.Servers = len(t.servers)
	return s
}

// at returns the record of addr for zone, making room for it if need be. Which
// one is forgotten does not matter much: to forget is to explore.
func (t *Table) at(addr netip.AddrPort, zone wire.Name) *server {
	k := key{addr, zone}
	s := t.servers[k]
	if s == nil {
		if len(t.servers) >= t.limit {
			for old := range t.servers { // in random order
				delete(t.servers, old)
				t.stats.Evicted++
				break
			}
		}
		s = new(server)
		t.servers[k] = s
	}
	return s
}

// timeout returns how long an answer may take (RFC 6298 §2).
func (s *server) timeout() time.Duration {
	rto := FirstTimeout
	if s.srtt > 0 {
		rto = s.srtt + max(4*s.rttvar, MinTimeout/2)
	}
	return min(max(rto<<s.timeouts, MinTimeout), MaxTimeout)
}

// Hint says how to ask a chosen server.
type Hint struct {
	Timeout time.Duration
	Bare    bool // without EDNS
}

// Choose returns the index of the candidate to ask about zone next, and how.
// It needs at least one candidate. A server within [Band] of the best is as
// likely as the best; one that is dead or lame for the zone is chosen only
// when all are.
func (t *Table) Choose(zone wire.Name, candidates []netip.AddrPort, now time.Time) (int, Hint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rank := func(a netip.AddrPort) (cost time.Duration, s *server) {
		s = t.servers[key{a, zone}]
		if s == nil {
			return FirstTimeout, nil
		}
		cost = s.timeout()
		if s.lameUntil.After(now) {
			cost += time.Minute // after every server that may answer
		}
		if s.deadUntil.After(now) {
			cost += time.Hour
		}
		return cost, s
	}
	best := time.Duration(1<<63 - 1)
	for _, a := range candidates {
		cost, _ := rank(a)
		best = min(best, cost)
	}
	limit := best + Band
	if rand.IntN(explore) == 0 {
		limit = max(limit, time.Minute-1)
	}
	chosen, seen := 0, 0
	var known *server
	for i, a := range candidates {
		if cost, s := rank(a); cost <= limit {
			seen++
			if rand.IntN(seen) == 0 { // each of those seen with the same probability
				chosen, known = i, s
			}
		}
	}
	if known == nil {
		return chosen, Hint{Timeout: FirstTimeout}
	}
	hint := Hint{Timeout: known.timeout(), Bare: known.bare > 0}
	if hint.Bare {
		known.bare--
	}
	return chosen, hint
}

// Answered records that the server answered usefully after rtt; rtt 0 says
// that it was not measured.
func (t *Table) Answered(addr netip.AddrPort, zone wire.Name, rtt time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.at(addr, zone)
	s.timeouts, s.backoff = 0, 0
	s.deadUntil, s.lameUntil = time.Time{}, time.Time{}
	switch {
	case rtt <= 0:
	case s.srtt == 0: // RFC 6298 §2.2
		s.srtt, s.rttvar = rtt, rtt/2
	default: // RFC 6298 §2.3
		s.rttvar += ((s.srtt - rtt).Abs() - s.rttvar) / 4
		s.srtt += (rtt - s.srtt) / 8
	}
}

// Failed records that the server did not answer usefully. Questions that were
// under way together and time out together count once: it is one silence,
// however busy the server was.
func (t *Table) Failed(addr netip.AddrPort, zone wire.Name, cause Cause, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stats.Failures[cause]++
	s := t.at(addr, zone)
	switch {
	case cause == Lame: // and alive
		s.timeouts, s.backoff, s.deadUntil = 0, 0, time.Time{}
		s.lameUntil = now.Add(LameFor)
	case cause == Malformed:
		s.lameUntil = now.Add(LameFor)
	case s.deadUntil.After(now): // as expected
	case cause == Unreachable:
		s.bury(now)
	case !s.sameUntil.After(now):
		s.sameUntil = now.Add(s.timeout()) // when the last question sent until now, with that timeout, is over
		if s.timeouts++; s.timeouts >= DeadAfter {
			s.bury(now)
			s.timeouts = DeadAfter - 1 // one more failure, one more backoff
		}
	}
}

// bury puts s out of use, for twice as long as the last time.
func (s *server) bury(now time.Time) {
	s.backoff = min(max(2*s.backoff, MinBackoff), MaxBackoff)
	s.deadUntil = now.Add(s.backoff)
}

// Bare records that the server answers without EDNS only.
func (t *Table) Bare(addr netip.AddrPort, zone wire.Name) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at(addr, zone).bare = BareFor
}
