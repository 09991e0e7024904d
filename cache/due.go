package cache

import (
	"math"
	"time"
)

// minPrefetch is the shortest life of an answer that is renewed before its
// end: with less, the tenth that is left is too short to be of use, and nobody
// who sets such a TTL means it to be kept (BIND's prefetch has the same bound).
const minPrefetch = 9 * time.Second

// maxPrefetch is the longest: what it is counted in, milliseconds in 32 bits,
// goes to 49 days.
const maxPrefetch = 30 * 24 * time.Hour

// What slot.refresh holds besides the age from which on the answer is due,
// in milliseconds.
const (
	never   = math.MaxUint32     // not to be renewed
	unasked = math.MaxUint32 - 1 // no hit so far
)

// due reports whether s, found at now by one more who asked for it, is to be
// renewed, and by this one: a tenth of its life is left (as Unbound has it), and
// it was asked for before. Of all who ask, one hears true; and another after
// again, should the answer still be the same.
//
// It writes at most twice in an answer's life, the first time it is asked for
// and when it is due.
func (s *slot) due(now int64, again time.Duration) bool {
	at := s.refresh.Load()
	switch at {
	case never:
		return false
	case unasked:
		s.refresh.CompareAndSwap(unasked, s.dueAge())
		return false
	}
	age := uint32(max(s.age(now), 0) / int64(time.Millisecond))
	return age >= at && s.refresh.CompareAndSwap(at, age+uint32(min(again, maxPrefetch)/time.Millisecond))
}

// dueAge returns the age from which on s is due, in milliseconds.
func (s *slot) dueAge() uint32 {
	life := time.Duration(s.life())
	if life < minPrefetch || life > maxPrefetch {
		return never
	}
	return uint32((life - life/10) / time.Millisecond)
}
