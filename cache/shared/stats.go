package shared

import (
	"sync"
	"time"

	"shirube/internal/hist"
)

// reasons are why values are not used, and what each is counted as.
var reasons = [NumReasons]struct {
	name string
	err  error
}{
	{"version", errVersion},
	{"secret", errSecret},
	{"tag", errTag},
	{"form", errForm},
	{"size", errSize},
	{"question", errQuestion},
	{"future", errFuture},
	{"old", errOld},
	{"flushed", errFlushed},
}

// NumReasons is how many reasons there are not to use a value.
const NumReasons = 9

// Reasons returns a word for each reason, in the order of [Stats].
func Reasons() (words []string) {
	for _, r := range reasons {
		words = append(words, r.name)
	}
	return words
}

// Stats is a snapshot of a [Cache].
type Stats struct {
	Hits     uint64 // answers that were good
	Stale    uint64 // answers that had expired
	Failures uint64 // questions that another server could not answer a moment ago
	Misses   uint64 // nothing was there, or not in time, or not as it should be
	Skipped  uint64 // questions not asked for: no server was there

	Leased  uint64 // leases that were given to us
	Yielded uint64 // that another server had
	Unheard uint64 // of which no server said anything in time
	Awaited uint64 // answers that another server found while we waited
	InVain  uint64 // waits that brought none: who has the lease is slow, or dead, or was of no luck

	ZonesTold  uint64 // cuts, and keys of zones, written
	ZonesFound uint64 // that were found

	StandIns uint64        // entries written to another server than their own
	TooLarge uint64        // entries not written for their size
	Skew     time.Duration // the most that a writer's clock was ahead of ours, in the last five to ten minutes

	Fleet FleetStats

	Rejected [NumReasons]uint64 // values that were not used, by why; see [Reasons]
	Servers  map[string]ServerStats
}

// ServerStats is a snapshot of one server.
type ServerStats struct {
	State       State
	Trips       uint64 // times that it went out
	Connections int
	Dials       uint64 // tries to connect

	Gets     uint64 // questions asked for
	Hits     uint64
	Batches  uint64 // requests that they went in
	Late     uint64 // that had no answer in time
	Errors   uint64 // that failed, with entries that could not be written
	Busy     uint64 // that were not asked: too many waited
	Rejected uint64 // answers that were not used

	Stored  uint64 // entries written
	Kept    uint64 // entries not written, for something was there
	Dropped uint64 // entries not written, for they had to wait too long
	Refused uint64 // entries that it had no room for

	Took hist.Snapshot // how long the questions took that had an answer in time
}

// Stats returns a snapshot.
func (c *Cache) Stats() Stats {
	n := &c.counts
	s := Stats{
		Hits: n.hits.Load(), Stale: n.stale.Load(), Failures: n.failures.Load(), Misses: n.misses.Load(),
		Leased: n.leased.Load(), Yielded: n.yielded.Load(), Unheard: n.unheard.Load(),
		Awaited: n.awaited.Load(), InVain: n.inVain.Load(),
		ZonesTold: n.zonesTold.Load(), ZonesFound: n.zonesFound.Load(),
		Skipped: n.skipped.Load(), StandIns: n.standIns.Load(), TooLarge: n.tooLarge.Load(),
		Skew:    n.skew.most(time.Since(c.begun)),
		Fleet:   c.fleetStats(),
		Servers: make(map[string]ServerStats),
	}
	for i := range s.Rejected {
		s.Rejected[i] = n.rejected[i].Load()
	}
	for _, server := range *c.servers.Load() {
		s.Servers[server.Name] = server.stats()
	}
	return s
}

func (s *server) stats() ServerStats {
	n := &s.counts
	st := ServerStats{
		Gets: n.gets.Load(), Hits: n.hits.Load(), Batches: n.batches.Load(), Late: n.late.Load(),
		Errors: n.errors.Load(), Busy: n.busy.Load(), Rejected: n.rejected.Load(),
		Stored: n.stored.Load(), Kept: n.kept.Load(), Dropped: n.dropped.Load(), Refused: n.refused.Load(),
		Took: n.took.Snapshot(),
	}
	st.State, st.Trips = s.breaker.stats()
	st.Connections, st.Dials = s.dialer.stats()
	return st
}

// skewPeriod is how long it is remembered at least that a clock was ahead. It is
// twice as long at most: a clock that was set right is no trouble any more.
const skewPeriod = 5 * time.Minute

// skew is the most that the clock of a writer was ahead, lately. Times are since
// any one moment. The zero value has seen none.
type skew struct {
	mu          sync.Mutex
	period      int64 // that is under way
	now, before time.Duration
}

// note takes note of a writer's clock.
func (s *skew) note(ahead, at time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn(at)
	s.now = max(s.now, ahead)
}

// most returns the most of this period and the one before.
func (s *skew) most(at time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn(at)
	return max(s.now, s.before)
}

// turn begins the period of a time. The caller holds mu.
func (s *skew) turn(at time.Duration) {
	switch period := int64(at / skewPeriod); {
	case period <= s.period:
		return
	case period == s.period+1:
		s.period, s.now, s.before = period, 0, s.now
	default:
		s.period, s.now, s.before = period, 0, 0
	}
}
