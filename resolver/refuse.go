package resolver

import (
	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// Refuses returns what [Resolver.Resolve] would say at once, and without asking
// anybody, because the only servers that can know are not to be asked now: too many
// questions wait for them, or none of them answers. Nil: Resolve has to find out.
//
// In a flood of random names most questions end like this. To find out here takes
// no memory, and a fraction of the time; and while all is well, none.
func (r *Resolver) Refuses(q Query) *ede.Error {
	now := r.opt.Clock.Now
	crowding, some := r.crowding.lately(now), r.dead.some.Load()
	if !crowding && !some {
		return nil
	}
	z, ok := r.onlyZone(q)
	switch {
	case !ok:
		return nil
	case crowding && r.crowds.Full(z, r.room(z)):
		if r.remembersBelow(q.Question, z.zone) {
			return nil
		}
		r.crowds.Denied()
		r.stats.refused()
		return r.turnedAway(z, now())
	case !some:
		return nil
	}
	_, why := r.dead.state(z, now())
	if why == nil || r.remembersBelow(q.Question, z.zone) {
		return nil
	}
	r.dead.spared.Add(1)
	r.stats.refused()
	return ede.Of(why)
}

// refused counts a question that is not resolved.
func (c *counters) refused() {
	c.resolutions.Add(1)
	c.failures.Add(1)
}

// onlyZone returns whose servers the way to q begins at, if there is no other way.
func (r *Resolver) onlyZone(q Query) (z zoneKey, ok bool) {
	conf, cut := r.configured(above(q.Question)), r.opt.Memory.Cut(above(q.Question))
	switch {
	case q.Type == wire.TypeDS: // a referral may have told
		return z, false
	case conf != nil && conf.First:
		return z, false
	case conf != nil && (conf.Forward || cut == nil || conf.Name.Within(cut.Zone)):
		return zoneKey{conf.Name, conf}, true
	case cut == nil || cut.Zone == wire.Root, !q.Until.IsZero() && !cut.Until.After(q.Until):
		return z, false
	case r.opt.Fleet != nil && r.referrers.has(cut.Zone): // the fleet may know of one further down
		return z, false
	}
	return zoneKey{zone: cut.Zone}, true
}

// remembersBelow reports whether anything is in memory that may answer q, of a name
// in zone, or spare its servers the question.
func (r *Resolver) remembersBelow(q wire.Question, zone wire.Name) bool {
	if _, ok := r.opt.Memory.Set(q.Name, q.Type); ok {
		return true
	}
	if _, ok := r.opt.Memory.Set(q.Name, wire.TypeCNAME); ok {
		return true
	}
	for n, ok := q.Name, true; ok && n != zone; n, ok = n.Parent() {
		for _, typ := range [...]wire.Type{rrset.AnyType, wire.TypeDNAME} {
			if _, ok := r.opt.Memory.Set(n, typ); ok {
				return true
			}
		}
	}
	if r.opt.Anchors == nil || !r.opt.AggressiveNSEC {
		return false
	}
	_, _, ok := r.opt.Memory.Chain(zone)
	return ok
}
