package cache

import (
	"encoding/binary"
	"math"
	"time"

	"shirube/internal/wire"
)

// Due is an answer that is to be renewed before it expires.
type Due struct {
	Question wire.Question // its zero value: nothing is due
	CD       bool
	// Until is what the parts of the new answer have to outlive. What does not
	// is to be fetched anew; what does may come from memory.
	Until time.Time
}

// minPrefetch is the shortest life of an answer that is renewed before its
// end: with less, the tenth that is left is too short to be of use, and nobody
// who sets such a TTL means it to be kept (BIND's prefetch has the same bound).
const minPrefetch = 9 * time.Second

// maxPrefetch is the longest: what it is counted in, milliseconds in 32 bits,
// goes to 49 days.
const maxPrefetch = 30 * 24 * time.Hour

// What [Answer.refresh] holds besides the age from which on the answer is due,
// in milliseconds.
const (
	never   = math.MaxUint32     // not to be renewed
	unasked = math.MaxUint32 - 1 // no hit so far
)

// due reports whether a, found at now by one more who asked for it, is to be
// renewed, and by this one: a tenth of its life is left (as Unbound has it), and
// it was asked for before. Of all who ask, one hears true; and another after
// again, should the answer still be the same.
//
// It writes at most twice in an answer's life, the first time it is asked for
// and when it is due.
func (a *Answer) due(now time.Time, again time.Duration) bool {
	at := a.refresh.Load()
	switch at {
	case never:
		return false
	case unasked:
		a.refresh.CompareAndSwap(unasked, a.dueAge())
		return false
	}
	age := uint32(max(now.Sub(a.stored), 0) / time.Millisecond)
	return age >= at && a.refresh.CompareAndSwap(at, age+uint32(min(again, maxPrefetch)/time.Millisecond))
}

// dueAge returns the age from which on a is due, in milliseconds.
func (a *Answer) dueAge() uint32 {
	if a.life() < minPrefetch || a.life() > maxPrefetch {
		return never
	}
	return uint32((a.life() - a.life()/10) / time.Millisecond)
}

// dueOf returns what is due about e. It allocates nothing: the name is the
// key's.
func dueOf(e *entry[string, *Answer]) Due {
	fixed := len(e.key) - 3 // type and bits
	return Due{
		Question: wire.Question{
			Name: wire.Name(e.key[:fixed]),
			Type: wire.Type(binary.BigEndian.Uint16([]byte(e.key[fixed:]))),
		},
		CD:    e.key[fixed+2]&keyCD != 0,
		Until: e.val.Expires().Add(minPrefetch), // else the next one were not worth renewing
	}
}
