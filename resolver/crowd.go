package resolver

import (
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"shirube/internal/ede"
	"shirube/internal/wire"
)

// ErrCrowded is wrapped by the errors of questions that were not asked because
// too many others wait for the servers of the same zone. It is no failure of the
// question: the next one may be luckier.
var ErrCrowded = errors.New("too many questions wait for the servers of one zone")

// wideShare is how many times the room of one zone a top-level zone has, and
// one whose servers are configured. Many zones' names lead there, so a flood
// over one of these is not to be everybody's; and nobody but the operator and
// the root says whose servers they are.
const wideShare = 4

// room returns how many resolutions may wait for the servers of z. What they
// wait for need not be those servers: it may be the addresses of them, or the
// answer to another one's query. A flood of random names below one cut (PRSD)
// is confined to that cut, while its parent, which refers to it from memory,
// goes on.
func (r *Resolver) room(z zoneKey) int {
	switch {
	case z.zone == wire.Root: // a cold start; and without it there is nothing
		return math.MaxInt
	case z.conf != nil, z.zone.Labels() == 1:
		return wideShare * r.opt.ZoneInFlight
	}
	return r.opt.ZoneInFlight
}

// crowd lets a resolution in that waits for the servers of at, until it calls
// [Resolver.disperse].
func (r *Resolver) crowd(at authority) error {
	z := zoneKey{at.cut.Zone, at.conf}
	if r.crowds.Take(z, r.room(z)) {
		return nil
	}
	return r.turnedAway(z, r.opt.Clock.Now())
}

// turnedAway returns why a question is not asked of the servers of z at now.
func (r *Resolver) turnedAway(z zoneKey, now time.Time) *ede.Error {
	r.crowding.last.Store(now.UnixNano())
	return r.crowding.why(z.zone)
}

// disperse ends what crowd began.
func (r *Resolver) disperse(at authority) { r.crowds.Give(zoneKey{at.cut.Zone, at.conf}) }

// crowdingLasts is for how long after a question was turned away others are looked
// at for whether they would be: it costs those a twentieth of a resolution that are
// not.
const crowdingLasts = time.Second

// crowding is what is known of questions that were turned away lately, which are
// many when there are any, and of one zone. It is safe for concurrent use.
type crowding struct {
	last  atomic.Int64 // when there was one; Unix time in nanoseconds
	error atomic.Pointer[crowdedZone]
}

// crowdedZone is what questions of a zone are told that are turned away.
type crowdedZone struct {
	zone wire.Name
	err  *ede.Error
}

// lately reports whether questions were turned away a while before now, which is asked
// for if there were any.
func (c *crowding) lately(now func() time.Time) bool {
	last := c.last.Load()
	return last != 0 && now().Sub(time.Unix(0, last)).Abs() < crowdingLasts
}

// why returns what those are told who ask too much of zone: all the same, made
// once.
func (c *crowding) why(zone wire.Name) *ede.Error {
	if e := c.error.Load(); e != nil && e.zone == zone {
		return e.err
	}
	e := &crowdedZone{wire.Name(strings.Clone(string(zone))), ede.Wrap(ErrCrowded, ede.Other, "too many questions wait for the servers of %v", zone)}
	c.error.Store(e)
	return e.err
}
