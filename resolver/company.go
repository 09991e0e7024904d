package resolver

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/miekg/dns"

	"shirube/dnssec"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// The types under which company is remembered. They are none of any record (RFC
// 6895 §3.1: for Q- and Meta-TYPEs), so nothing else finds it: it is said in
// passing, and neither an answer nor a way to a zone's servers.
const (
	besideNS   wire.Type = 241
	besideA    wire.Type = 242
	besideAAAA wire.Type = 243
)

// company is what a response holds beside what was asked for and what proves
// it. Clients may get it with [Options.Full], and nobody acts on it.
type company struct {
	servers []rrset.Set // the NS set of the zone that has the answer, or none
	addrs   []rrset.Set // of names in the answer and in servers
}

// accompany adds to rep, which is what msg means to q, its company.
func (r *Resolver) accompany(rep *reply, msg *dns.Msg, q wire.Question, zone wire.Name, at authority, now time.Time) {
	if !r.opt.Full {
		return
	}
	if rep.Fallback != nil {
		r.accompany(rep.Fallback, msg, q, zone, at, now)
	}
	if rep.Verdict != Positive && rep.Verdict != Negative {
		return
	}
	rd := &reading{sections: scrub(msg, q.Name, zone), q: q, aa: msg.Authoritative, now: now, ttls: r.opt.TTL}
	c := &company{}
	if rep.Verdict == Positive || rep.Rcode == wire.NoError && len(rep.Denial) == 0 { // with a denial, it is the place to slip in one
		c.servers = rd.servers(rep)
	}
	for _, name := range c.hosts(rep) {
		if !r.foreign(name, at) { // else others have the word on it
			c.addrs = append(c.addrs, rd.addresses(name)...)
		}
	}
	rep.company = c.without(rep.Sets)
}

// servers returns the NS set in the authority section of a zone that the last
// name of rep is in.
func (rd *reading) servers(rep *reply) []rrset.Set {
	last := rep.lastName(rd.q)
	for _, rec := range rd.authority {
		if rec.typ == wire.TypeNS && last.Within(rec.name) { // the first: no name is in two zones
			if s, ok := rd.set(rd.authority, rec.name, wire.TypeNS, rd.proofRank()); ok && !rd.over {
				return []rrset.Set{s}
			}
			return nil
		}
	}
	return nil
}

// lastName returns the name that rep, the reply to q, has data of or denies.
// The DS set of a name is the word of the zone above it.
func (rep *reply) lastName(q wire.Question) wire.Name {
	for _, s := range rep.Sets {
		if target, ok := aliasTarget(s); ok && q.Type != wire.TypeCNAME {
			q.Name = target
		}
	}
	return above(q)
}

// addresses returns the addresses of name in the additional section.
func (rd *reading) addresses(name wire.Name) []rrset.Set {
	var sets []rrset.Set
	for _, typ := range [...]wire.Type{wire.TypeA, wire.TypeAAAA} {
		rd.over = false
		if s, ok := rd.set(rd.additional, name, typ, rrset.Additional); ok && !rd.over && len(s.RRs) <= maxAdditionalAddrs {
			sets = append(sets, s)
		}
	}
	return sets
}

// hosts returns the names in rep and in c whose addresses are company, those of
// servers last.
func (c *company) hosts(rep *reply) []wire.Name {
	var names []wire.Name
	if n := len(rep.Sets); n > 0 && rep.Verdict == Positive {
		names = targetsOf(rep.Sets[n-1])
	}
	for _, s := range c.servers {
		for _, host := range hostsOf(s) {
			if !slices.Contains(names, host) {
				names = append(names, host)
			}
		}
	}
	return names[:min(len(names), 2*maxAdditionalNames)]
}

// targetsOf returns the hosts that are named in a set, of which their addresses
// are asked for next (RFC 1034 §3.7, RFC 2782).
func targetsOf(set rrset.Set) []wire.Name {
	names := hostsOf(set)
	for _, rr := range set.RRs {
		text := ""
		switch rr := rr.(type) {
		case *dns.MX:
			text = rr.Mx
		case *dns.SRV:
			text = rr.Target
		default:
			if svcb, ok := serviceOf(rr); ok {
				text = svcb.Target
			}
		}
		if name, err := wire.ParseName(text); err == nil && text != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names[:min(len(names), maxAdditionalNames)]
}

// without returns c without what is among sets: what is in the answer section
// is not said again (RFC 2181 §5).
func (c *company) without(sets []rrset.Set) *company {
	said := func(s rrset.Set) bool {
		return slices.ContainsFunc(sets, func(have rrset.Set) bool { return have.Name == s.Name && have.Type == s.Type })
	}
	return &company{servers: slices.DeleteFunc(c.servers, said), addrs: slices.DeleteFunc(c.addrs, said)}
}

// keepCompany returns what stands beside rep, the end of the answer ans to q:
// what came with it, else what memory has; nil: nothing.
func (r *Resolver) keepCompany(ctx context.Context, q wire.Question, rep *reply, ans *Answer, w *work) *company {
	if !r.opt.Full || len(w.path) != 1 || rep.Verdict == Alias {
		return nil
	}
	c := rep.company
	if c == nil {
		c = r.recallCompany(q, rep, w)
	} else {
		c = r.vouch(ctx, c, rep, w)
		if !rep.NoCache {
			r.learnCompany(c)
		}
	}
	c = &company{servers: dropBelow(c.servers, ans.Trust), addrs: dropBelow(c.addrs, ans.Trust)}
	hosts := c.hosts(rep) // where the servers are left out, their addresses are
	c.addrs = slices.DeleteFunc(c.addrs, func(s rrset.Set) bool { return !slices.Contains(hosts, s.Name) })
	return c
}

// vouch returns c with the trust that its sets deserve beside rep. Where rep is
// secure, they are verified with the keys of the zone that signed it, or left
// out: none of them is worth to ask anybody for another zone's.
func (r *Resolver) vouch(ctx context.Context, c *company, rep *reply, w *work) *company {
	trust := rep.trust()
	if trust != rrset.Secure {
		until := r.opt.Clock.Now().Add(r.opt.TTL.Max)
		if trust != rrset.Insecure {
			trust = rrset.Unchecked // beside what is bogus: nobody looked
		}
		return &company{servers: trusted(c.servers, trust, until), addrs: trusted(c.addrs, trust, until)}
	}
	l := r.signedBy(rep)
	if l == nil {
		return &company{}
	}
	return &company{servers: r.verified(ctx, c.servers, l, w), addrs: r.verified(ctx, c.addrs, l, w)}
}

// signedBy returns the link of the zone that has signed the end of rep, which
// is secure; nil if it is forgotten again.
func (r *Resolver) signedBy(rep *reply) *rrset.Link {
	for _, sets := range [...][]rrset.Set{rep.Sets, rep.Denial} {
		for i := len(sets) - 1; i >= 0; i-- {
			if zone := signerOf(&sets[i]); zone != "" {
				if l := r.opt.Memory.Link(zone); l != nil && l.Zone == zone && l.Trust == rrset.Secure {
					return l
				}
				return nil
			}
		}
	}
	return nil
}

// verified returns the sets that l's zone has signed and that exist as they are:
// the proof that a wildcard needs is not looked for.
func (r *Resolver) verified(ctx context.Context, sets []rrset.Set, l *rrset.Link, w *work) []rrset.Set {
	var good []rrset.Set
	for _, s := range sets {
		if signerOf(&s) != l.Zone {
			continue
		}
		p, err := r.verify(ctx, &s, l, w)
		if errors.Is(err, dnssec.ErrBudget) || ctx.Err() != nil {
			return good
		}
		if err == nil && p.Wildcard == "" && p.Trust == rrset.Secure {
			s.Trust, s.Until = p.Trust, r.endOf(s.Until, p)
			good = append(good, s)
		}
	}
	return good
}

// learnCompany remembers c for who asks again in another way: with DO, or when
// the answer has expired. The word of a zone on its servers does not outlive its
// parent's (ghost domains).
func (r *Resolver) learnCompany(c *company) {
	for _, sets := range [...][]rrset.Set{c.servers, c.addrs} {
		for _, s := range sets {
			if cut := r.opt.Memory.Cut(s.Name); cut != nil && !cut.Until.IsZero() {
				s.Until = earlier(s.Until, cut.Until)
			}
			s.Type = besideType(s.Type)
			r.opt.Memory.PutSet(s)
		}
	}
}

// besideType returns the type that company of the given type is remembered
// under.
func besideType(typ wire.Type) wire.Type {
	switch typ {
	case wire.TypeNS:
		return besideNS
	case wire.TypeA:
		return besideA
	}
	return besideAAAA
}

// recallCompany returns what memory has of the company of rep, the end of the
// answer to q. A denial has none.
func (r *Resolver) recallCompany(q wire.Question, rep *reply, w *work) *company {
	c := &company{}
	if rep.Verdict != Positive {
		return c
	}
	c.servers = r.recallServers(q, w)
	for _, host := range c.hosts(rep) {
		for _, typ := range [...]wire.Type{wire.TypeA, wire.TypeAAAA} {
			c.addrs = append(c.addrs, r.recallBeside(host, typ, w)...)
		}
	}
	return c.without(rep.Sets)
}

// recallServers returns the NS set that was seen beside answers of the zone
// that has the answer to q: of the closest cut, or of a zone below it that is
// the same servers'.
func (r *Resolver) recallServers(q wire.Question, w *work) []rrset.Set {
	top := wire.Root
	if conf := r.configured(above(q)); conf != nil {
		top = conf.Name
	} else if cut := r.opt.Memory.Cut(above(q)); cut != nil {
		top = cut.Zone
	}
	for n, ok := above(q), true; ok && n.Within(top); n, ok = n.Parent() {
		if sets := r.recallBeside(n, wire.TypeNS, w); sets != nil {
			return sets
		}
	}
	return nil
}

// recallBeside returns the set of the given type that was seen beside answers.
func (r *Resolver) recallBeside(name wire.Name, typ wire.Type, w *work) []rrset.Set {
	s, ok := r.opt.Memory.Set(name, besideType(typ))
	if !ok || s.Trust < r.least(w) || !s.Until.After(w.outlive()) {
		return nil
	}
	s.Type = typ
	return []rrset.Set{s}
}

// accompany adds c to a. A denial without a SOA record must not be kept (RFC
// 2308 §5), and c says nothing about how long it holds.
func (a *Answer) accompany(c *company) {
	if c == nil {
		return
	}
	a.Authority, a.Additional = c.servers, appendNew(a.Additional, c.addrs)
	if len(a.Records)+len(a.Denial) == 0 && len(c.servers) > 0 {
		a.NoCache = true
	}
}
