package resolver

import (
	"cmp"
	"net/netip"
	"time"

	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/resolver/infra"
)

// Lookup is whom a name would be asked of now, for people to read.
type Lookup struct {
	Zone    wire.Name
	Kind    string    // "learned", "hints", "stub" or "forward"
	Until   time.Time // zero: for ever
	DS      *rrset.Set
	Servers []LookupServer

	DeadUntil time.Time // zero: the zone may be asked
	DeadWhy   error
	Link      *rrset.Link // the deepest that is known; nil: none, or nothing is validated
}

// LookupServer is one address of a server.
type LookupServer struct {
	Host  wire.Name      // "": it is configured by its address
	Addr  netip.AddrPort // zero: it is not known
	Known *infra.Known   // nil: nothing is known
}

// Lookup returns what is known of the zone whose servers n would be asked of
// now. It asks nobody, and changes nothing.
func (r *Resolver) Lookup(n wire.Name) Lookup {
	now := r.opt.Clock.Now()
	l, conf := r.lookupZone(n)
	if r.opt.Anchors != nil {
		l.Link = r.opt.Memory.Link(n)
	}
	l.DeadUntil, l.DeadWhy = r.dead.state(zoneKey{l.Zone, conf}, now)
	for i := range l.Servers {
		s := &l.Servers[i]
		if k, ok := r.infra.Known(s.Addr, l.Zone, now); ok {
			s.Known = &k
		}
	}
	return l
}

// lookupZone returns the zone that n would be asked of and its servers, as
// closest has it, and the configuration if it is a configured one.
func (r *Resolver) lookupZone(n wire.Name) (Lookup, *Zone) {
	conf, cut := r.configured(n), r.opt.Memory.Cut(n)
	if conf != nil && (conf.Forward || cut == nil || conf.Name.Within(cut.Zone)) {
		return r.lookupConfigured(conf), conf
	}
	l := Lookup{Zone: wire.Root, Kind: "hints"}
	servers := r.root.Servers
	if cut != nil {
		l.Zone, l.Kind, l.Until, l.DS, servers = cut.Zone, "learned", cut.Until, cut.DS, cut.Servers
	}
	for _, s := range servers {
		l.Servers = append(l.Servers, r.lookupServer(s, r.opt.Port)...)
	}
	return l, nil
}

// lookupConfigured is lookupZone for a configured zone.
func (r *Resolver) lookupConfigured(conf *Zone) Lookup {
	l := Lookup{Zone: conf.Name, Kind: "stub"}
	if conf.Forward {
		l.Kind = "forward"
	}
	for _, s := range conf.Servers {
		l.Servers = append(l.Servers, LookupServer{Addr: s.Addr})
	}
	for _, h := range conf.Hosts {
		l.Servers = append(l.Servers, r.lookupServer(rrset.Server{Host: h.Name}, cmp.Or(h.Port, r.opt.Port))...)
	}
	return l
}

// lookupServer returns the addresses of s that are known and may be asked;
// without any, s alone.
func (r *Resolver) lookupServer(s rrset.Server, port uint16) []LookupServer {
	addrs := r.knownAddrs(s)
	if len(addrs) == 0 {
		return []LookupServer{{Host: s.Host}}
	}
	var out []LookupServer
	for _, a := range addrs {
		out = append(out, LookupServer{Host: s.Host, Addr: netip.AddrPortFrom(a, port)})
	}
	return out
}

// state returns until when z is not to be asked, and why; zero: it may be.
func (d *deadZones) state(z zoneKey, now time.Time) (time.Time, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if dead := d.zones[z]; dead != nil && dead.pending(now) {
		return dead.until, dead.why
	}
	return time.Time{}, nil
}

// Asking is a question that a server's answer is waited for.
type Asking struct {
	Zone     wire.Name
	Question wire.Question
	Server   netip.AddrPort // the first that was asked
}

// Asking returns most of what servers are being asked now, in no order, but not
// more than limit.
func (r *Resolver) Asking(limit int) []Asking {
	r.flights.mu.Lock()
	defer r.flights.mu.Unlock()
	var out []Asking
	for k, fl := range r.flights.m {
		if len(out) >= limit {
			break
		}
		out = append(out, Asking{Zone: k.zone, Question: k.q, Server: fl.server})
	}
	return out
}
