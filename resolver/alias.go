package resolver

import (
	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

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
