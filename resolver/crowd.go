package resolver

import (
	"errors"
	"math"

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

// room returns how many resolutions may wait for the servers of at. What they
// wait for need not be those servers: it may be the addresses of them, or the
// answer to another one's query. A flood of random names below one cut (PRSD)
// is confined to that cut, while its parent, which refers to it from memory,
// goes on.
func (r *Resolver) room(at authority) int {
	switch {
	case at.cut.Zone == wire.Root: // a cold start; and without it there is nothing
		return math.MaxInt
	case at.conf != nil, at.cut.Zone.Labels() == 1:
		return wideShare * r.opt.ZoneInFlight
	}
	return r.opt.ZoneInFlight
}

// crowd lets a resolution in that waits for the servers of at, until it calls
// [Resolver.disperse].
func (r *Resolver) crowd(at authority) error {
	if r.crowds.Take(zoneKey{at.cut.Zone, at.conf}, r.room(at)) {
		return nil
	}
	return ede.Wrap(ErrCrowded, ede.Other, "too many questions wait for the servers of %v", at.cut.Zone)
}

// disperse ends what crowd began.
func (r *Resolver) disperse(at authority) { r.crowds.Give(zoneKey{at.cut.Zone, at.conf}) }
