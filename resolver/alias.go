package resolver

import (
	"slices"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// maxAliases is how many aliases of one response are followed. Those beyond
// are not lost: their names are asked for, and counted then.
const maxAliases = 11

// follow walks the aliases of the answer section from the name asked about, as
// far as they stay in the zone. What it does not pass on its way does not exist
// for it (CVE-2026-0398). Without Sets in the result nothing was found.
func (rd *reading) follow() *reply {
	rep := &reply{Verdict: Negative} // so far
	name := rd.q.Name
	for {
		next, sets, ok := rd.alias(name)
		if !ok {
			return lame(wire.NoError, "malformed alias")
		}
		if sets == nil {
			return rd.data(rep, name)
		}
		rep.Sets = append(rep.Sets, sets...)
		if next == "" { // RFC 6672 §2.2
			rep.Verdict, rep.Rcode, rep.Target = Negative, wire.YXDomain, ""
			return rep
		}
		if rd.q.Type == wire.TypeCNAME { // of a DNAME: the alias is the data
			rep.Verdict = Positive
			return rep
		}
		rep.Verdict, rep.Target, name = Alias, next, next
		if !name.Within(rd.cut.Zone) || rep.owns(name) || rep.aliases() >= maxAliases {
			return rep
		}
	}
}

// data completes rep, which led to name, with the data of name if it is there.
func (rd *reading) data(rep *reply, name wire.Name) *reply {
	s, ok := rd.set(rd.answer, name, rd.q.Type, rd.rank(name))
	switch {
	case !ok:
		return rep
	case s.Type == wire.TypeCNAME && len(s.RRs) > 1: // RFC 2181 §10.1
		return lame(wire.NoError, "malformed alias")
	}
	rep.Verdict, rep.Target, rep.Sets = Positive, "", append(rep.Sets, s)
	return rep
}

// owns reports whether the aliases of r passed name already: they are a loop.
func (r *reply) owns(name wire.Name) bool {
	return slices.ContainsFunc(r.Sets, func(s rrset.Set) bool { return s.Name == name && s.Type == wire.TypeCNAME })
}

// alias returns the CNAME record of name, and the DNAME record it comes from
// if it does. No sets: name has no alias here. A DNAME record whose result is
// too long gives no next name. Other data beside an alias is not looked at: a
// name that has one has nothing else (RFC 1034 §3.6.2).
func (rd *reading) alias(name wire.Name) (next wire.Name, sets []rrset.Set, ok bool) {
	for _, rec := range rd.answer {
		if rec.typ != wire.TypeDNAME || rec.name == name || !name.Within(rec.name) { // RFC 6672 §2.3: not the owner itself
			continue
		}
		s, found := rd.set(rd.answer, rec.name, wire.TypeDNAME, rd.rank(name))
		if !found || len(s.RRs) != 1 { // RFC 6672 §2.4: a DNAME record is alone
			return "", nil, false
		}
		return substitute(name, s)
	}
	if rd.besideAlias(name) {
		return "", nil, true
	}
	s, found := rd.set(rd.answer, name, wire.TypeCNAME, rd.rank(name))
	if !found {
		return "", nil, true
	}
	next, ok = aliasTarget(s)
	return next, []rrset.Set{s}, ok
}

// besideAlias reports whether the question is for the alias itself, or for
// what may stand beside one and does (RFC 4035 §2.5).
func (rd *reading) besideAlias(name wire.Name) bool {
	switch rd.q.Type {
	case wire.TypeCNAME:
		return true
	case wire.TypeRRSIG, wire.TypeNSEC:
		return slices.ContainsFunc(rd.answer, func(r record) bool { return r.name == name && r.typ == rd.q.Type })
	}
	return false
}

// aliasTarget returns where the CNAME set s leads. A name with several has no
// meaning (RFC 2181 §10.1).
func aliasTarget(s rrset.Set) (wire.Name, bool) {
	if len(s.RRs) != 1 {
		return "", false
	}
	cname, ok := s.RRs[0].(*dns.CNAME)
	if !ok {
		return "", false
	}
	target, err := wire.ParseName(cname.Target)
	return target, err == nil
}

// substitute applies the DNAME set d to name, which is below its owner (RFC
// 6672 §2.2). It returns the new name, and d with the CNAME record made of it:
// the server's own is not looked at, it could say anything. The new name is ""
// when it would be too long.
func substitute(name wire.Name, d rrset.Set) (wire.Name, []rrset.Set, bool) {
	dname, ok := d.RRs[0].(*dns.DNAME)
	if !ok {
		return "", nil, false
	}
	target, err := wire.ParseName(dname.Target)
	if err != nil {
		return "", nil, false
	}
	prefix := name[:len(name)-len(d.Name)]
	if len(prefix)+len(target) > wire.MaxNameLen {
		return "", []rrset.Set{d}, true
	}
	next := prefix + target
	cname := &dns.CNAME{
		Hdr:    dns.RR_Header{Name: name.String(), Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: dname.Hdr.Ttl}, // RFC 6672 §3.1
		Target: next.String(),
	}
	synthesized := rrset.Set{
		Name: name, Type: wire.TypeCNAME, RRs: []dns.RR{cname},
		Rank: d.Rank, Trust: d.Trust, Until: d.Until,
	}
	return next, []rrset.Set{d, synthesized}, true
}

// appendNew appends the sets of more that section does not have: aliases may
// pass one DNAME record, or one proof, several times, and a section has no
// record twice (RFC 2181 §5).
func appendNew(section, more []rrset.Set) []rrset.Set {
	if len(section) == 0 && len(more) == 1 {
		return more[:1:1]
	}
	for _, s := range more {
		if !slices.ContainsFunc(section, func(have rrset.Set) bool { return have.Name == s.Name && have.Type == s.Type }) {
			section = append(section, s)
		}
	}
	return section
}
