package frontend

import (
	"context"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	"shirube/cache/shared"
	"shirube/internal/clock"
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/resolver"
)

// SharedZones is where the servers of a fleet tell each other of zones. It is of
// use when it can be, and never in the way.
type SharedZones interface {
	// Zones returns what the fleet knows of the zones of these names. It takes no
	// longer than within.
	Zones(ctx context.Context, names []wire.Name, scope uint64, within time.Duration) []shared.Zone
	// TellZone tells the fleet. It does not wait.
	TellZone(scope uint64, z shared.Zone)
	// Doubt has nothing returned any more that was learned of zone until now.
	Doubt(zone wire.Name)
}

// Known is what a server knows of zones.
type Known interface {
	Cut(n wire.Name) *rrset.Cut
	Link(n wire.Name) *rrset.Link
}

// ZonesOptions configures [Zones]. Zero means the default.
type ZonesOptions struct {
	Cache  SharedZones            // needed
	Memory Known                  // needed
	Scope  func(wire.Name) uint64 // see Sharing; default: there is one
	Clock  *clock.Clock           // that Memory is kept by; nil: the real time
	Log    *slog.Logger           // default: none
}

// Zones has busy zones shared by a fleet: who serves them, and what is proven of
// their keys, so that a server that has just started need not go down to each
// from the root. It implements [resolver.Fleet]. A nil Zones shares nothing.
type Zones struct {
	opt  ZonesOptions
	seed maphash.Seed

	mu    sync.Mutex
	slots []zoneSlot
}

var _ resolver.Fleet = (*Zones)(nil)

// When a zone is shared.
const (
	busyZone   = 2                // resolutions that it took part in, lately: more than a zone that nobody asks for again
	zonePeriod = time.Minute      // in which they come to count half as much
	zoneSlots  = 4096             // zones told apart; of those that meet, the busiest stays
	retellZone = 10 * time.Minute // until a zone is told again that has not changed: memcached may have lost it
	leastZone  = 10 * time.Second // of life that is left, so that it is worth it
)

// zoneSlot is what is known of one zone.
type zoneSlot struct {
	zone  uint64      // its hash
	count float64     // resolutions
	at    time.Time   // when count was so
	told  [2]lastTold // of the cut, of the keys
}

// lastTold is what the fleet was told last.
type lastTold struct {
	since time.Time // when that was learned
	at    time.Time // when it was told
}

// NewZones returns a Zones.
func NewZones(opt ZonesOptions) *Zones {
	if opt.Scope == nil {
		opt.Scope = func(wire.Name) uint64 { return 0 }
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	return &Zones{opt: opt, seed: maphash.MakeSeed(), slots: make([]zoneSlot, zoneSlots)}
}

// Zones implements [resolver.Fleet].
func (z *Zones) Zones(ctx context.Context, zones []wire.Name, within time.Duration) []resolver.FleetZone {
	var out []resolver.FleetZone
	// Zones that are configured here are not asked for, and all others are of one
	// scope.
	for _, got := range z.opt.Cache.Zones(ctx, zones, z.opt.Scope(wire.Root), within) {
		known, err := unpackZone(&got, z.opt.Clock.Now())
		if err != nil {
			z.opt.Log.Warn("cannot read what the shared cache has of a zone", "zone", got.Name.String(), "error", err)
			continue
		}
		out = append(out, known)
	}
	return out
}

// Doubt implements [resolver.Fleet].
func (z *Zones) Doubt(zone wire.Name) { z.opt.Cache.Doubt(zone) }

// tell tells the fleet of the zones that names are in, and of those above them,
// that are busy: an answer about names has just been found. The root is not
// shared: each server has its own hints and anchors.
func (z *Zones) tell(names []wire.Name) {
	if z == nil {
		return
	}
	now := z.opt.Clock.Now()
	seen := make(map[wire.Name]bool, 4)
	for _, n := range names {
		for _, host := range z.tellAbove(n, seen, now) {
			z.tellAbove(host, seen, now)
		}
	}
}

// tellAbove is tell for the zones that n is in, but for those seen. It returns
// hosts that serve the closest of them and have their addresses elsewhere: the
// cuts of the zones that these are in say where, as their parents do.
func (z *Zones) tellAbove(n wire.Name, seen map[wire.Name]bool, now time.Time) (hosts []wire.Name) {
	for first := true; ; first = false {
		cut := z.opt.Memory.Cut(n)
		if cut == nil || cut.Zone == wire.Root || seen[cut.Zone] {
			return hosts
		}
		seen[cut.Zone] = true
		z.tellZone(cut, now)
		if first {
			hosts = resolver.Glueless(cut)
		}
		n, _ = cut.Zone.Parent()
	}
}

// tellZone tells the fleet of the zone of cut, if it is busy, and what it has not
// been told.
func (z *Zones) tellZone(cut *rrset.Cut, now time.Time) {
	scope := z.opt.Scope(cut.Zone)
	if scope != z.opt.Scope(wire.Root) { // it is served by whom this server is told
		return
	}
	link := z.opt.Memory.Link(cut.Zone)
	if link != nil && (link.Zone != cut.Zone || link.Trust == rrset.Bogus) {
		link = nil
	}
	cutToo, linkToo := z.busy(cut, link, now)
	if cutToo {
		z.send(scope, packCut(cut, now))
	}
	if linkToo {
		z.send(scope, packLink(link))
	}
}

func (z *Zones) send(scope uint64, out *shared.Zone) {
	if out != nil && len(out.Text) < shared.MaxValue {
		z.opt.Cache.TellZone(scope, *out)
	}
}

// busy counts one resolution that the zone of cut took part in, and reports what
// the fleet is to be told of it.
func (z *Zones) busy(cut *rrset.Cut, link *rrset.Link, now time.Time) (cutToo, linkToo bool) {
	hash := maphash.String(z.seed, string(cut.Zone))
	z.mu.Lock()
	defer z.mu.Unlock()
	s := &z.slots[hash%uint64(len(z.slots))]
	if periods := now.Sub(s.at) / zonePeriod; periods > 0 {
		s.count /= float64(uint64(1) << min(periods, 60))
		s.at = now
	}
	if s.zone != hash {
		if s.count--; s.count >= 0 {
			return false, false
		}
		*s = zoneSlot{zone: hash, at: now}
	}
	if s.count++; s.count < busyZone {
		return false, false
	}
	cutToo = !cut.Since.IsZero() && worthTelling(&s.told[0], cut.Since, cut.Until, now)
	linkToo = link != nil && worthTelling(&s.told[1], link.Since, link.Until, now)
	return cutToo, linkToo
}

// worthTelling reports whether what was learned at since and ends at until is to
// be told at now, and takes it that it is.
func worthTelling(last *lastTold, since, until, now time.Time) bool {
	if until.Sub(now) < leastZone || last.since.Equal(since) && now.Sub(last.at) < retellZone {
		return false
	}
	*last = lastTold{since: since, at: now}
	return true
}
