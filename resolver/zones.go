package resolver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/exchange"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// Zone is a part of the name space whose servers are configured instead of
// being learned from its parent.
type Zone struct {
	Name    wire.Name
	Servers []ZoneServer
	Hosts   []ZoneHost // further servers: their addresses are looked up

	// Forward: the servers are resolvers, and are asked to recurse (RFC 1034
	// §5.3.1). Otherwise they are the zone's own, as of a stub zone.
	Forward bool
	// First: when no server answers, the zone is resolved as if it were not
	// configured (Unbound's forward-first and stub-first).
	First bool
	// NoCache: nothing that the servers say is remembered (Unbound's
	// forward-no-cache and stub-no-cache), but that they failed.
	NoCache bool

	lookAt *atomic.Int64 // for Hosts, not before this Unix time, in nanoseconds
}

// ZoneServer is a configured server. Its address is the operator's word: it may
// be one that is never asked otherwise.
type ZoneServer struct {
	Addr netip.AddrPort
	TCP  bool          // never over UDP
	TLS  *exchange.TLS // over TLS only, and who has to be there; nil: without

	recurse bool // a forwarder
}

// ZoneHost is a configured server that is known by its name.
type ZoneHost struct {
	Name wire.Name
	Port uint16 // 0: [Options].Port
	TCP  bool
	TLS  *exchange.TLS
}

// configure indexes zones. One that was the same before is the very same now, for
// what is known of its servers is known by it.
func (r *Resolver) configure(zones []Zone, before map[wire.Name]*Zone) error {
	r.zones = make(map[wire.Name]*Zone, len(zones))
	for _, conf := range zones {
		z := &conf
		switch {
		case z.Name == "":
			return errors.New("resolver: a configured zone has no name")
		case r.zones[z.Name] != nil:
			return fmt.Errorf("resolver: zone %v is configured twice", z.Name)
		case len(z.Servers)+len(z.Hosts) == 0:
			return fmt.Errorf("resolver: zone %v has no server", z.Name)
		}
		for _, s := range z.Servers {
			if a := s.Addr.Addr(); !s.Addr.IsValid() || s.Addr.Port() == 0 || a.IsUnspecified() || a.IsMulticast() {
				return fmt.Errorf("resolver: no server of zone %v can be at %v", z.Name, s.Addr)
			}
		}
		z.Servers = slices.Clone(z.Servers)
		for i := range z.Servers {
			z.Servers[i].recurse = z.Forward
		}
		if old := before[z.Name]; old != nil && old.same(z) {
			z = old
		} else {
			z.lookAt = new(atomic.Int64)
		}
		r.zones[z.Name] = z
	}
	return nil
}

// same reports whether z is configured as other is.
func (z *Zone) same(other *Zone) bool {
	a, b := *z, *other
	a.lookAt, b.lookAt = nil, nil
	return reflect.DeepEqual(a, b)
}

// authority is who to ask next: the servers of a cut, or those configured for
// a zone.
type authority struct {
	cut    *rrset.Cut
	conf   *Zone // nil: the cut's own servers
	failed *Zone // the configured zone in whose place others are asked
	keys   bool  // those of the zone are asked for along with the first question
}

// hidden reports whether the cut of a is to be forgotten: found below a stub
// zone that did not answer, it would go before that zone once it does.
func (a authority) hidden() bool {
	return a.failed != nil && !a.failed.Forward && a.cut.Zone != a.failed.Name && a.cut.Zone.Within(a.failed.Name)
}

// configured returns the configured zone closest to n, at or above it, or nil.
func (r *Resolver) configured(n wire.Name) *Zone {
	for ok := len(r.zones) > 0 && n != ""; ok; n, ok = n.Parent() {
		if z := r.zones[n]; z != nil {
			return z
		}
	}
	return nil
}

// closest returns whom to ask first about q, when conf is the configured zone
// that has the say. What is configured goes before what was learned above it,
// and a forwarder before what was learned below it too: its zone is not walked
// (MaginotDNS, Li et al. 2023: what a forwarder says and what recursion finds
// must not mix).
func (r *Resolver) closest(ctx context.Context, q wire.Question, conf *Zone, w *work) authority {
	if conf != nil && conf.Forward {
		return authority{cut: &rrset.Cut{Zone: conf.Name}, conf: conf}
	}
	if r.opt.Fleet != nil && conf == nil {
		r.askFleet(ctx, above(q), w)
	}
	cut := r.knownCut(above(q), w.outlive())
	switch {
	case conf != nil && (cut == nil || conf.Name.Within(cut.Zone)):
		return authority{cut: &rrset.Cut{Zone: conf.Name}, conf: conf}
	case cut != nil:
		return authority{cut: cut}
	}
	return authority{cut: r.primed(ctx, w)}
}

// knownCut returns the closest cut that lives on after until, at n or above it,
// or nil. A cut that ends with the answer that is being refreshed is learned
// anew too, from its parent: the answer's next query would have to, and
// somebody would wait for it; and a zone that has moved is noticed in time.
func (r *Resolver) knownCut(n wire.Name, until time.Time) *rrset.Cut {
	cut := r.opt.Memory.Cut(n)
	for cut != nil && !cut.Until.IsZero() && !cut.Until.After(until) {
		parent, ok := cut.Zone.Parent()
		if !ok {
			return cut // the root has no parent; it is primed when it must
		}
		cut = r.opt.Memory.Cut(parent)
	}
	return cut
}

// instead returns whom to ask about q as if failed were not configured.
func (r *Resolver) instead(ctx context.Context, q wire.Question, failed *Zone, w *work) authority {
	var outer *Zone
	if parent, ok := failed.Name.Parent(); ok {
		outer = r.configured(parent)
	}
	at := r.closest(ctx, q, outer, w)
	at.failed = failed
	return at
}

// above returns the name whose closest cut has the answer to q: the DS set of a
// zone is its parent's to give (RFC 4035 §2.4).
func above(q wire.Question) wire.Name {
	if parent, ok := q.Name.Parent(); ok && q.Type == wire.TypeDS {
		return parent
	}
	return q.Name
}

// parental reports whether q is for what the parent of a configured zone says
// of it: all else of that name is the zone's, and the two do not know of each
// other. A zone of one's own need not exist to its parent.
func (r *Resolver) parental(q wire.Question) bool {
	return q.Type == wire.TypeDS && r.zones[q.Name] != nil
}

// needsItself reports whether the address of host has to be asked of the very
// servers of at.
func (r *Resolver) needsItself(host wire.Name, at authority) bool {
	if at.conf != nil && len(at.conf.Servers) > 0 {
		return false // those with an address can tell
	}
	return host.Within(at.cut.Zone) && r.configured(host) == r.configured(at.cut.Zone)
}

// reach returns how to ask host, a server of at whose address was looked up or
// came as glue; the address is still to be filled in.
func (r *Resolver) reach(host wire.Name, at authority) ZoneServer {
	port := r.opt.Port
	if at.conf == nil {
		return ZoneServer{Addr: netip.AddrPortFrom(netip.Addr{}, port)}
	}
	like := ZoneServer{recurse: at.conf.Forward}
	if i := slices.IndexFunc(at.conf.Hosts, func(h ZoneHost) bool { return h.Name == host }); i >= 0 {
		h := at.conf.Hosts[i]
		like.TCP, like.TLS = h.TCP, h.TLS
		setDefault(&h.Port, port)
		port = h.Port
	}
	like.Addr = netip.AddrPortFrom(netip.Addr{}, port)
	return like
}

// How often the addresses of a zone's hosts are looked up before they are needed,
// and how long that may take.
const (
	hostsAgain = time.Minute
	hostsTime  = time.Second
)

// findHosts looks up the servers of a configured zone that are known by name
// only. When those with an address fail it may be too late: it may be they who
// know. It is done on behalf of one client question in a while, for all.
func (r *Resolver) findHosts(ctx context.Context, s *search, w *work) {
	if s.conf == nil || len(s.conf.Servers) == 0 || len(s.glueless) == 0 || len(w.path) > 1 {
		return
	}
	now := r.opt.Clock.Now()
	at := s.conf.lookAt.Load()
	if within(now, time.Unix(0, at), hostsAgain) || !s.conf.lookAt.CompareAndSwap(at, now.Add(hostsAgain).UnixNano()) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, hostsTime)
	defer cancel()
	for r.findAddress(ctx, s, w) { // bounded by maxGlueless
	}
}

// minimiser returns the one for the way from at.
func (r *Resolver) minimiser(at authority) minimiser {
	m := minimiser{mode: r.opt.Minimise, shown: at.cut.Zone.Labels()}
	if at.conf != nil && at.conf.Forward {
		m.mode = Off // a forwarder has to know
	}
	return m
}

// askPatiently is askZone; but where there is another way, half of the time is
// left for it.
func (r *Resolver) askPatiently(ctx context.Context, q wire.Question, at authority, w *work) (*reply, error) {
	if deadline, ok := ctx.Deadline(); ok && at.conf != nil && at.conf.First {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
	}
	return r.askZone(ctx, q, at, w)
}

// judge decides what msg means to q.
func (r *Resolver) judge(msg *dns.Msg, q wire.Question, at authority, now time.Time) *reply {
	cut := at.cut
	if at.conf != nil {
		cut = denier(msg, q, cut)
	}
	if at.conf != nil && at.conf.Forward {
		rep := r.judgeForwarder(msg, q, cut, now)
		r.clip(rep, at)
		r.accompany(rep, msg, q, cut.Zone, at, now)
		return rep
	}
	rep := classify(msg, q, cut, now, r.opt.TTL)
	if rep.Verdict == Referral && r.opt.AnyGlue {
		r.addGlue(rep.Cut, msg, now)
	}
	r.clip(rep, at)
	r.accompany(rep, msg, q, cut.Zone, at, now)
	return rep
}

// judgeForwarder is judge for a forwarder's response: a resolver's, and no less
// believed for it.
func (r *Resolver) judgeForwarder(msg *dns.Msg, q wire.Question, cut *rrset.Cut, now time.Time) *reply {
	msg.Authoritative, msg.RecursionAvailable = true, false // else classify would hold it against a zone's own server
	unanswered := len(msg.Answer) == 0
	rep := classify(msg, q, cut, now, r.opt.TTL)
	switch {
	case rep.Verdict == Referral: // it was asked for the answer
		return lame(rep.Rcode, "referral from a forwarder")
	case rep.Verdict == Lame && rep.Fallback != nil && unanswered:
		return rep.Fallback // NODATA without SOA: forwarders in homes do that, and the next one would too
	}
	return rep
}

// denier returns what msg is to be scrubbed to: cut, the configured zone, which
// need not begin where the operator's zone does. A response without an answer
// may be the denial of a zone that begins above, as long as q's name is in it;
// what it says is kept as that denial only.
func denier(msg *dns.Msg, q wire.Question, cut *rrset.Cut) *rrset.Cut {
	if len(msg.Answer) > 0 {
		return cut
	}
	for _, rr := range msg.Ns[:min(len(msg.Ns), maxRecords)] {
		switch rr.Header().Rrtype {
		case dns.TypeNS: // a referral
			return cut
		case dns.TypeSOA:
			if zone, err := wire.ParseName(rr.Header().Name); err == nil && cut.Zone.Within(zone) && q.Name.Within(zone) {
				return &rrset.Cut{Zone: zone}
			}
		}
	}
	return cut
}

// clip cuts the alias chain of rep off where it enters a zone that others are
// known to have the word on: those configured for it, or those of a cut below
// the one that was asked.
func (r *Resolver) clip(rep *reply, at authority) {
	last := len(rep.Sets) - 1
	for i, s := range rep.Sets {
		if s.Type != wire.TypeCNAME || i == last && rep.Verdict != Negative { // the data, or an alias that is followed anyway
			continue
		}
		if target, ok := aliasTarget(s); ok && r.foreign(target, at) {
			clipped := reply{Verdict: Alias, Sets: rep.Sets[:i+1], Target: target}
			if slices.ContainsFunc(clipped.Sets, expanded) {
				clipped.Denial = slices.DeleteFunc(rep.Denial, func(s rrset.Set) bool { return s.Type == wire.TypeSOA })
			}
			*rep = clipped
			return
		}
	}
}

// foreign reports whether others than the servers of at are known to have the
// word on n, a name below their zone's.
func (r *Resolver) foreign(n wire.Name, at authority) bool {
	domain := r.configured(at.cut.Zone)
	switch conf := r.configured(n); {
	case conf != domain:
		return conf == nil || conf != at.failed
	case domain != nil && domain.Forward:
		return false // cuts in there are not walked
	}
	cut := r.opt.Memory.Cut(n)
	return cut != nil && cut.Zone != at.cut.Zone && cut.Zone.Within(at.cut.Zone)
}
