package resolver

import (
	"context"
	"hash/maphash"
	"sync/atomic"
	"time"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// Fleet is what other servers know of zones, that believe what this one would:
// they have the same anchors, and judge by the same rules. It is safe for
// concurrent use.
type Fleet interface {
	// Zones returns what they know of those of zones that they know anything of.
	// It takes no longer than within, and ends with ctx. What it returns is the
	// caller's.
	Zones(ctx context.Context, zones []wire.Name, within time.Duration) []FleetZone
	// Doubt says that something that is known of zone is wrong: nothing is to be
	// returned of it any more that was learned until now.
	Doubt(zone wire.Name)
}

// FleetZone is what other servers know of a zone.
type FleetZone struct {
	Cut  *rrset.Cut  // nil: nothing
	Link *rrset.Link // of Trust Secure or Insecure; nil: nothing
}

// maxFleetZones is how many zones the fleet is asked for at once: names have
// few labels between a cut that is known and the next one.
const maxFleetZones = 4

// referrers are the zones that have referred to others lately: of the children
// of one that never does, nobody need be asked. Two that meet in a place hide
// each other; what that costs is the questions that are saved otherwise. It is
// safe for concurrent use.
type referrers struct {
	seed  maphash.Seed
	zones [1024]atomic.Uint64 // hashes
}

func (r *referrers) place(zone wire.Name) (*atomic.Uint64, uint64) {
	h := maphash.String(r.seed, string(zone)) | 1
	return &r.zones[h>>1%uint64(len(r.zones))], h
}

func (r *referrers) add(zone wire.Name) {
	if at, h := r.place(zone); at.Load() != h {
		at.Store(h)
	}
}

// has reports whether zone is one of them. The root is, and top-level zones are
// until one is known better.
func (r *referrers) has(zone wire.Name) bool {
	at, h := r.place(zone)
	return zone.Labels() <= 1 || at.Load() == h
}

// askFleet asks the fleet for cuts below the closest one that is known, and for
// what is proven of their keys, and remembers that. What a question may wait for
// the fleet in all is bounded, as all that it may cost.
//
// It is no part of its caller, which is on the stack while servers are asked.
//
//go:noinline
func (r *Resolver) askFleet(ctx context.Context, n wire.Name, w *work) {
	if w.fleet <= 0 {
		return
	}
	known := 0
	if cut := r.knownCut(n, w.outlive()); cut != nil {
		if known = cut.Zone.Labels(); !r.referrers.has(cut.Zone) {
			return
		}
	}
	var zones []wire.Name
	for labels := known + 1; labels <= n.Labels() && len(zones) < maxFleetZones; labels++ {
		zones = append(zones, n.Tail(labels))
	}
	if zones == nil {
		return
	}
	closest := r.takeAll(ctx, zones, n, w)
	if closest == nil {
		return
	}
	for _, host := range Glueless(closest) {
		if len(r.parentsGlue(host)) > 0 { // it may be looked up no more
			return
		}
		known := 0
		if cut := r.knownCut(host, w.outlive()); cut != nil {
			known = cut.Zone.Labels()
		}
		var above []wire.Name
		for labels := known + 1; labels < host.Labels() && len(above) < maxFleetZones; labels++ {
			above = append(above, host.Tail(labels))
		}
		if above != nil && w.fleet > 0 {
			r.takeAll(ctx, above, host, w)
		}
	}
}

// takeAll asks the fleet for zones that n may be in, and remembers what is of
// use. It returns the closest cut that is new to this server; nil: there is none.
func (r *Resolver) takeAll(ctx context.Context, zones []wire.Name, n wire.Name, w *work) (closest *rrset.Cut) {
	begun := time.Now()
	found := r.opt.Fleet.Zones(ctx, zones, w.fleet)
	w.fleet -= time.Since(begun)
	for _, z := range found {
		if c := r.take(z, n, w.outlive()); c != nil && (closest == nil || c.Zone.Within(closest.Zone)) {
			closest = c
		}
	}
	return closest
}

// maxFleetHosts is of how many servers without glue the fleet is asked where they
// are: one that answers is enough.
const maxFleetHosts = 2

// Glueless returns hosts that serve the zone of c and lie elsewhere, some if there
// are many; none if any of its servers has glue. Where they are is what the parents
// of their own zones say.
func Glueless(c *rrset.Cut) (hosts []wire.Name) {
	for i := range c.Servers {
		host := c.Servers[i].Host
		switch {
		case c.Servers[i].Addrs != nil:
			return nil
		case len(hosts) < maxFleetHosts && !host.Within(c.Zone):
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// take remembers what the fleet knows of a zone that n may be in, if it lives on
// after until, and this server would have learned it so: the cut no longer than
// the one above it allows, and no key that a nearer anchor or a negative one has
// the word on (which is looked for again when it is used). It returns the cut, if
// that is new.
func (r *Resolver) take(z FleetZone, n wire.Name, until time.Time) (fresh *rrset.Cut) {
	now := r.opt.Clock.Now()
	good := func(zone wire.Name, end time.Time) bool {
		return zone != wire.Root && n.Within(zone) && r.configured(zone) == nil && end.After(until) && within(now, end, r.opt.TTL.Max)
	}
	if c := z.Cut; c != nil && good(c.Zone, c.Until) && len(c.Servers) > 0 && len(c.Servers) <= maxServers {
		if own := r.opt.Memory.Cut(c.Zone); own == nil || own.Zone != c.Zone {
			r.stats.fleetCuts.Add(1)
			r.opt.Memory.PutCut(c)
			fresh = c
		}
	}
	l := z.Link
	if l == nil || r.opt.Anchors == nil || !good(l.Zone, l.Until) {
		return fresh
	}
	anchor, _, ok := r.opt.Anchors.Closest(l.Zone)
	proven := l.Trust == rrset.Secure && len(l.Keys) > 0 || l.Trust == rrset.Insecure
	if !ok || !proven || anchor == l.Zone || r.opt.Anchors.Negative(l.Zone) != nil {
		return fresh
	}
	if own := r.opt.Memory.Link(l.Zone); own == nil || own.Zone != l.Zone {
		r.stats.fleetLinks.Add(1)
		r.opt.Memory.PutLink(l)
	}
	return fresh
}

// doubtFleet has the fleet asked no more for what it knew of zone.
func (r *Resolver) doubtFleet(zone wire.Name) {
	if r.opt.Fleet != nil {
		r.opt.Fleet.Doubt(zone)
	}
}
