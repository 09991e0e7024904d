package shared

import (
	"sync"
	"sync/atomic"
	"time"
)

// When a server is out, and for how long.
const (
	tripBad    = 8                      // look-ups that went wrong: in a row, or lately and no fewer than went well
	tripTime   = 100 * time.Millisecond // that they have to be late: what holds up all of them for a moment is this machine
	badPeriod  = 250 * time.Millisecond // in which what went wrong counts half as much
	minOut     = 200 * time.Millisecond // the first time
	maxOut     = 5 * time.Second        // twice as long each time it comes soon again, to this
	calm       = 10 * time.Second       // without trouble, and the next time is half as long
	rampTime   = 10 * time.Second       // in which it gets its questions back
	rampStart  = 10                     // per cent that it gets at once
	probes     = 3                      // answered in a row before it is in again
	probeLimit = 20 * time.Millisecond  // for each of them
)

// verdict is how a look-up ended.
type verdict uint8

const (
	well  verdict = iota
	late          // without an answer in time
	wrong         // with an error, or an answer that cannot be: nothing but the server, or the way to it, is at fault
)

// State is what a server is good for.
type State uint8

// The states of a server.
const (
	In      State = iota // asked
	Ramping              // asked some of its questions, after it was out
	Out                  // not asked
)

var stateNames = [...]string{"in", "ramping", "out"}

// String returns a word for s.
func (s State) String() string { return stateNames[s] }

// breaker decides whether a server is asked.
type breaker struct {
	out atomic.Bool // state is Out, for those who only look

	mu     sync.Mutex
	state  State
	good   float64 // look-ups that went well, lately
	bad    float64
	streak int // of bad ones
	since  time.Time
	begun  time.Time // the streak
	worse  time.Time // since when bad is not what is left of earlier trouble
	level  int       // times that it was out, without calm between
	last   time.Time // when it went out
	in     time.Time // when it was let in again
	trips  uint64
}

// note counts one look-up. It reports true when the server is to be left alone
// from now on: to one caller, who has to see to its return.
func (b *breaker) note(v verdict, now time.Time) (tripped bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for periods := now.Sub(b.since) / badPeriod; periods > 0; periods-- {
		if periods > 16 || b.good+b.bad < 0.5 {
			b.good, b.bad = 0, 0
			break
		}
		b.good, b.bad = b.good/2, b.bad/2
	}
	if now.Sub(b.since) >= badPeriod {
		b.since = now
	}
	if v == well {
		b.good++
		b.streak = 0
		return false
	}
	if b.streak == 0 {
		b.begun = now
	}
	if b.bad < 1 {
		b.worse = now
	}
	b.bad++
	b.streak++
	if b.state == Out || !b.fails(v, now) {
		return false
	}
	b.level = max(b.level-int(now.Sub(b.last)/calm), 0) + 1
	b.state, b.last = Out, now
	b.out.Store(true)
	b.good, b.bad, b.streak = 0, 0, 0
	b.trips++
	return true
}

// fails reports whether so much has gone wrong, for so long, that it is the server
// that fails. The caller holds mu.
func (b *breaker) fails(v verdict, now time.Time) bool {
	lasted := func(since time.Time) bool { return v == wrong || now.Sub(since) >= tripTime }
	return b.streak >= tripBad && lasted(b.begun) || b.bad >= tripBad && b.bad >= b.good && lasted(b.worse)
}

// pause returns how long the server is left alone, before it is tried again.
func (b *breaker) pause() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return min(minOut<<min(max(b.level-1, 0), 8), maxOut)
}

// failed notes that the server is no better yet.
func (b *breaker) failed(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.level++
	b.last = now
}

// letIn has the server asked again, little by little.
func (b *breaker) letIn(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state, b.in = Ramping, now
	b.out.Store(false)
}

// admits reports whether the server is asked about the key with the given hash.
// While it ramps, the same keys are always among the first.
func (b *breaker) admits(hash uint64, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.state {
	case Out:
		return false
	case Ramping:
		passed := now.Sub(b.in)
		if passed >= rampTime {
			b.state = In
			return true
		}
		share := rampStart + (100-rampStart)*uint64(max(passed, 0))/uint64(rampTime)
		return hash%100 < share
	}
	return true
}

// stats returns the state, and how often the server went out.
func (b *breaker) stats() (State, uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state, b.trips
}
