package resolver

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// apexServers is the type under which the names of servers are remembered that
// a zone gives itself and its parent does not. No record is of it, nor is any
// question resolved for it (RFC 6895 §3.1: a meta-type): this is the zone's word
// in passing (RFC 2181 §5.4.1), of use when all servers that the parent names
// have failed, and for nothing else.
const apexServers wire.Type = 240

// lastResort looks for servers of s that have not been asked, now that all the
// others have been and none was of help. Parent and child may disagree about
// who serves a zone or where they are, and one of them may be right. It reports
// whether it found any. Each way is tried once for a question, the cheap ones
// first, and all that is looked up counts against maxGlueless.
func (r *Resolver) lastResort(ctx context.Context, s *search, w *work) (found bool) {
	for s.conf == nil && len(s.avoid) == 0 && !found && s.resorts < 4 { // not for a second opinion
		s.resorts++
		switch s.resorts {
		case 1, 3: // the second time for those that the zone itself has named
			found = r.resortToGlue(s)
		case 2:
			found = r.resortToApex(ctx, s, w)
		case 4:
			found = r.resortToParent(ctx, s, w)
		}
	}
	return found
}

// resortToGlue adds the addresses that the parents of the servers' own zones
// gave for them, and that better ones were used in place of.
func (r *Resolver) resortToGlue(s *search) bool {
	before := len(s.tries)
	for _, host := range s.hosts() {
		if addrs := r.parentsGlue(host); len(addrs) > 0 {
			s.add(addrs, r.reach(host, s.authority))
		}
	}
	return len(s.tries) > before
}

// hosts returns the names of the servers of s.
func (s *search) hosts() []wire.Name {
	hosts := make([]wire.Name, 0, len(s.cut.Servers)+len(s.apex))
	for _, srv := range s.cut.Servers {
		hosts = append(hosts, srv.Host)
	}
	return append(hosts, s.apex...)
}

// parentsGlue returns the addresses of host that came with a referral to a zone
// that it is in.
func (r *Resolver) parentsGlue(host wire.Name) []netip.Addr {
	for cut := r.opt.Memory.Cut(host); cut != nil; {
		i := slices.IndexFunc(cut.Servers, func(srv rrset.Server) bool { return srv.Host == host })
		if i >= 0 && len(cut.Servers[i].Addrs) > 0 {
			return r.knownAddrs(cut.Servers[i])
		}
		parent, ok := cut.Zone.Parent()
		if !ok {
			return nil
		}
		cut = r.opt.Memory.Cut(parent)
	}
	return nil
}

// resortToApex adds the servers that the zone itself has named, while it was
// reached.
func (r *Resolver) resortToApex(ctx context.Context, s *search, w *work) bool {
	set, ok := r.opt.Memory.Set(s.cut.Zone, apexServers)
	if !ok {
		return false
	}
	before := len(s.tries)
	for _, host := range hostsOf(set) {
		if slices.Contains(s.hosts(), host) || len(s.apex) == maxServers {
			continue
		}
		s.apex = append(s.apex, host)
		r.offer(s, rrset.Server{Host: host})
	}
	return len(s.tries) > before || r.findAddress(ctx, s, w)
}

// resortToParent asks the parent for the addresses of servers whose names are
// in the zone itself, and which came without glue: nobody else can tell (RFC
// 9471 §2: they should have come).
func (r *Resolver) resortToParent(ctx context.Context, s *search, w *work) bool {
	above, ok := s.cut.Zone.Parent()
	if !ok || len(w.path) >= w.limits.Depth {
		return false
	}
	before := len(s.tries)
	for _, srv := range s.cut.Servers {
		if len(srv.Addrs) > 0 || s.looked >= maxGlueless || !r.needsItself(srv.Host, s.authority) {
			continue
		}
		s.looked++
		if addrs := r.askParent(ctx, srv.Host, above, s, w); len(addrs) > 0 {
			s.add(addrs, r.reach(srv.Host, s.authority))
			break
		}
		s.note(srv.Host.String() + ": no address")
	}
	return len(s.tries) > before
}

// askParent asks the servers of the zone that has the name above, which is the
// parent's, for the addresses of host, a server of s.
func (r *Resolver) askParent(ctx context.Context, host, above wire.Name, s *search, w *work) []netip.Addr {
	for _, typ := range r.families() {
		if !w.lookup() || ctx.Err() != nil {
			return nil
		}
		r.stats.lookups.Add(1)
		q := wire.Question{Name: host, Type: typ}
		w.tellStep(StepLookup, q, s.cut.Zone)
		w.path = append(w.path, q) // not entered: to the client's question this one may be the way
		rep, err := r.askZone(ctx, q, r.closest(ctx, wire.Question{Name: above, Type: wire.TypeNS}, r.configured(above), w), w)
		w.leave()
		if addrs, until := r.glueIn(rep, host, s.cut.Zone); err == nil && len(addrs) > 0 {
			r.addToCut(s.cut, host, addrs, until)
			return addrs
		}
	}
	return nil
}

// glueIn returns the addresses of host, a server of zone, in what the parent
// said when it was asked for them: in its answer section, or with a referral.
func (r *Resolver) glueIn(rep *reply, host, zone wire.Name) ([]netip.Addr, time.Time) {
	switch {
	case rep.Verdict == Positive && len(rep.Sets) == 1:
		return r.addresses(&Answer{Records: rep.Sets}), rep.Sets[0].Until
	case rep.Verdict == Referral && rep.Cut.Zone == zone:
		for _, srv := range rep.Cut.Servers {
			if srv.Host == host && len(srv.Addrs) > 0 {
				return r.knownAddrs(srv), rep.Cut.Until
			}
		}
	}
	return nil, time.Time{}
}

// addToCut remembers addrs as the glue of host in cut, until the given time.
func (r *Resolver) addToCut(cut *rrset.Cut, host wire.Name, addrs []netip.Addr, until time.Time) {
	if r.opt.Memory.Cut(cut.Zone) != cut { // it is hidden, or outdated
		return
	}
	more := *cut
	more.Servers = slices.Clone(cut.Servers)
	for i := range more.Servers {
		if more.Servers[i].Host == host {
			more.Servers[i].Addrs = addrs
		}
	}
	more.Until = earlier(until, cut.Until)
	r.opt.Memory.PutCut(&more)
}

// minApexTTL is the least time that a zone can have its parent's word on it
// forgotten after. To ask the parent more often is of no use to anybody.
const minApexTTL = time.Minute

// rememberApex draws from a zone's own NS set what it may say of itself: that
// its parent is to be asked again sooner than the parent says, as before it
// moves (draft-ietf-dnsop-ns-revalidation §4: the lesser TTL of the two holds),
// and that it has servers which the parent does not name. These are remembered
// no longer than the parent's word is good: a zone must not keep itself alive
// (ghost domains).
func (r *Resolver) rememberApex(at authority, rep *reply) {
	if at.conf != nil || at.failed != nil || rep.Apex == nil || at.cut.Until.IsZero() {
		return
	}
	set, cut := *rep.Apex, at.cut
	if until := later(set.Until, r.opt.Clock.Now().Add(minApexTTL)); until.Before(cut.Until) && r.opt.Memory.Cut(cut.Zone) == cut {
		shorter := *cut
		shorter.Until = until
		cut = &shorter
		r.opt.Memory.PutCut(cut)
	}
	if !slices.ContainsFunc(set.RRs, func(rr dns.RR) bool { return isNews(rr, cut) }) || len(set.RRs) > maxServers {
		return
	}
	set.Type, set.Sigs, set.Rank = apexServers, nil, rrset.AuthAuthority
	set.Until = earlier(set.Until, cut.Until)
	r.opt.Memory.PutSet(set)
}

// isNews reports whether rr names a server that is none of cut's.
func isNews(rr dns.RR, cut *rrset.Cut) bool {
	host, ok := nameServer(rr)
	return ok && !slices.ContainsFunc(cut.Servers, func(srv rrset.Server) bool { return srv.Host == host })
}

// later returns the later of two times.
func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// apexSet returns the NS set of the zone asked that the response holds, if the
// zone itself says it.
func (rd *reading) apexSet() *rrset.Set {
	recs := rd.authority
	if rd.q == (wire.Question{Name: rd.cut.Zone, Type: wire.TypeNS}) {
		recs = rd.answer
	}
	if !rd.aa {
		return nil
	}
	if set, ok := rd.set(recs, rd.cut.Zone, wire.TypeNS, rrset.AuthAuthority); ok {
		found := set // only this one is kept
		return &found
	}
	return nil
}
