package resolver

import (
	"context"
	"fmt"
	"net/netip"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// Zone is a part of the name space whose servers are configured instead of
// being learned from its parent.
type Zone struct {
	Name    wire.Name
	Servers []ZoneServer
	Hosts   []wire.Name // further servers, by name: their addresses are looked up

	// Forward: the servers are resolvers, and are asked to recurse (RFC 1034
	// §5.3.1). Otherwise they are the zone's own, as of a stub zone.
	Forward bool
	// First: when no server answers, the zone is resolved as if it were not
	// configured (Unbound's forward-first and stub-first).
	First bool
}

// ZoneServer is a configured server. Its address is the operator's word: it may
// be one that is never asked otherwise.
type ZoneServer struct {
	Addr netip.AddrPort
	TCP  bool // never over UDP
}

// configure indexes zones.
func (r *Resolver) configure(zones []Zone) error {
	r.zones = make(map[wire.Name]*Zone, len(zones))
	for i := range zones {
		z := &zones[i]
		if r.zones[z.Name] != nil {
			return fmt.Errorf("resolver: zone %v is configured twice", z.Name)
		}
		if len(z.Servers)+len(z.Hosts) == 0 {
			return fmt.Errorf("resolver: zone %v has no server", z.Name)
		}
		r.zones[z.Name] = z
	}
	return nil
}

// authority is who to ask next: the servers of a cut, or those configured for
// a zone.
type authority struct {
	cut  *rrset.Cut
	conf *Zone // nil: the cut's own servers
}

// configured returns the configured zone closest to n, at or above it, or nil.
func (r *Resolver) configured(n wire.Name) *Zone {
	for ok := len(r.zones) > 0; ok; n, ok = n.Parent() {
		if z := r.zones[n]; z != nil {
			return z
		}
	}
	return nil
}

// closest returns whom to ask first about q. The DS set of a zone is its
// parent's to give (RFC 4035 §2.4), so the search for it begins above the name.
// What is configured goes before what was learned above it, and a forwarder
// before what was learned below it too: its zone is not walked (MaginotDNS: what
// a forwarder says and what was found by recursion must not mix).
func (r *Resolver) closest(ctx context.Context, q wire.Question, w *work) authority {
	n := above(q)
	conf := r.configured(n)
	if conf != nil && conf.Forward {
		return authority{&rrset.Cut{Zone: conf.Name}, conf}
	}
	cut := r.opt.Memory.Cut(n)
	switch {
	case conf != nil && (cut == nil || conf.Name.Within(cut.Zone)):
		return authority{&rrset.Cut{Zone: conf.Name}, conf}
	case cut != nil:
		return authority{cut: cut}
	}
	return authority{cut: r.primed(ctx, w)}
}

// unconfigured returns whom to ask about q as if no zone were configured.
func (r *Resolver) unconfigured(ctx context.Context, q wire.Question, w *work) authority {
	if cut := r.opt.Memory.Cut(above(q)); cut != nil {
		return authority{cut: cut}
	}
	return authority{cut: r.primed(ctx, w)}
}

// above returns the name whose closest cut has the answer to q.
func above(q wire.Question) wire.Name {
	if parent, ok := q.Name.Parent(); ok && q.Type == wire.TypeDS {
		return parent
	}
	return q.Name
}
