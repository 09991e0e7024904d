package simnet

import (
	"maps"
	"slices"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// maxAliases bounds the alias records that one answer follows inside its zone.
const maxAliases = 16

// where says what the walk from the apex towards a name met.
type where uint8

const (
	nowhere  where = iota // the name does not exist
	exact                 // the name's own node
	wildcard              // the wildcard that covers it
	aliased               // a DNAME above it
	cut                   // a delegation at it or above it
)

// found is where a walk ended: at name, which has node.
type found struct {
	where where
	name  wire.Name
	node  node

	encloser wire.Name // nowhere, wildcard: the closest encloser (RFC 4592 §3.3.1)
}

// find walks down from the apex to name (RFC 1034 §4.3.2 step 3).
func (z *Zone) find(name wire.Name, typ wire.Type) found {
	encloser := z.origin
	for labels := z.origin.Labels(); labels <= name.Labels(); labels++ {
		at := name.Tail(labels)
		n, exists := z.nodes[at]
		switch {
		case !exists:
			// RFC 4592 §3.3.1: the source of synthesis is below the closest encloser.
			if n, ok := z.nodes[asterisk+encloser]; ok {
				return found{wildcard, asterisk + encloser, n, encloser}
			}
			return found{where: nowhere, encloser: encloser}
		case at != z.origin && n[wire.TypeNS] != nil && (at != name || typ != wire.TypeDS):
			return found{where: cut, name: at, node: n} // RFC 4035 §3.1.4.1: but the DS set is the parent's
		case at == name:
			return found{where: exact, name: at, node: n}
		case n[wire.TypeDNAME] != nil:
			return found{where: aliased, name: at, node: n} // RFC 6672 §2.4: nothing below it counts
		}
		encloser = at
	}
	return found{where: nowhere} // name is not in the zone
}

// answer completes m, the beginning of a response, with what the zone says to
// a question for name, spelled as given, and typ (RFC 1034 §4.3.2 step 3), with
// its signatures for who wants them.
func (z *Zone) answer(m *dns.Msg, name wire.Name, spelled string, typ wire.Type, do bool) {
	m.Authoritative = true
	followed := make([]wire.Name, 0, maxAliases)
	for len(followed) < maxAliases && name.Within(z.origin) && !slices.Contains(followed, name) {
		followed = append(followed, name)
		var alias dns.RR
		switch f := z.find(name, typ); f.where {
		case cut:
			z.refer(m, f, do)
		case aliased:
			alias = z.substitute(m, f, name, spelled, do)
		case exact, wildcard:
			alias = z.take(m, f, name, spelled, typ, do)
		case nowhere:
			z.deny(m, f, name, do)
		}
		cname, ok := alias.(*dns.CNAME)
		if !ok || typ == wire.TypeCNAME || typ == wire.TypeANY { // RFC 1034 §3.6.2: the alias is the answer
			return
		}
		target, err := wire.ParseName(cname.Target)
		if err != nil {
			return
		}
		name, spelled = target, cname.Target
	}
}

// take answers from the node that name, spelled as given, has or is synthesised
// from. It returns the first record, which may be an alias.
func (z *Zone) take(m *dns.Msg, f found, name wire.Name, spelled string, typ wire.Type, do bool) (first dns.RR) {
	if f.where == wildcard && (f.node[typ] != nil || f.node[wire.TypeCNAME] != nil) {
		f = z.expand(f, name, spelled)
	}
	var rrs []dns.RR
	switch {
	case typ == wire.TypeANY:
		for _, t := range slices.Sorted(maps.Keys(f.node)) {
			rrs = append(rrs, z.signedSet(f, t, do)...)
		}
	case typ == wire.TypeRRSIG && z.signer != nil:
		for _, t := range slices.Sorted(maps.Keys(f.node)) {
			rrs = append(rrs, z.signatures(f.name, t, f.node[t])...)
		}
	case typ == wire.TypeNSEC && z.signer != nil:
		rrs = z.ownNSEC(f, name)
		if !do {
			rrs = rrs[:min(len(rrs), 1)]
		}
	case f.node[typ] != nil:
		rrs = z.signedSet(f, typ, do)
	case f.node[wire.TypeCNAME] != nil:
		rrs = z.signedSet(f, wire.TypeCNAME, do)
	}
	if len(rrs) == 0 { // NODATA, RFC 2308 §2.2
		z.deny(m, f, name, do)
		return nil
	}
	if f.where == wildcard {
		rrs = renamed(rrs, spelled)
		if do && z.signer != nil {
			z.denyCloser(m, f, name)
		}
	}
	m.Answer = append(m.Answer, rrs...)
	if typ == wire.TypeNS {
		z.addAddresses(m, rrs) // RFC 1034 §4.3.2 step 6; root priming lives on it (RFC 9609 §4.1)
	}
	return rrs[0]
}

// expand returns f, a wildcard, as name, spelled as given, has it: in a zone of
// compact denials the name then exists like any other, and is signed itself.
func (z *Zone) expand(f found, name wire.Name, spelled string) found {
	if z.signer == nil || z.signer.Denial != Compact {
		return f
	}
	own := make(node, len(f.node))
	for t, set := range f.node {
		own[t] = renamed(set, spelled)
	}
	return found{where: exact, name: name, node: own}
}

// renamed returns copies of rrs that spelled owns.
func renamed(rrs []dns.RR, spelled string) []dns.RR {
	out := make([]dns.RR, len(rrs))
	for i, rr := range rrs {
		out[i] = dns.Copy(rr)
		out[i].Header().Name = spelled
	}
	return out
}

// substitute answers with the DNAME record of f and the alias that follows
// from it for name (RFC 6672 §3.1), which it returns. If there is no such name
// the response is YXDOMAIN.
func (z *Zone) substitute(m *dns.Msg, f found, name wire.Name, spelled string, do bool) (alias dns.RR) {
	dname, ok := f.node[wire.TypeDNAME][0].(*dns.DNAME)
	if !ok {
		return nil
	}
	m.Answer = append(m.Answer, z.signedSet(f, wire.TypeDNAME, do)...)
	target, err := wire.ParseName(dname.Target)
	if err != nil {
		return nil
	}
	substituted := name[:len(name)-len(f.name)] + target
	if len(substituted) > wire.MaxNameLen {
		m.Rcode = dns.RcodeYXDomain // RFC 6672 §2.2
		return nil
	}
	cname := &dns.CNAME{
		Hdr:    dns.RR_Header{Name: spelled, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: dname.Hdr.Ttl},
		Target: substituted.String(),
	}
	m.Answer = append(m.Answer, cname)
	return cname
}

// refer answers with the delegation f. AA speaks of the first name in the
// answer section (RFC 1035 §4.1.1), so it stays behind an alias.
func (z *Zone) refer(m *dns.Msg, f found, do bool) {
	m.Authoritative = len(m.Answer) > 0
	m.Ns = append(m.Ns, f.node[wire.TypeNS]...)
	if do {
		z.delegate(m, f)
	}
	z.addAddresses(m, f.node[wire.TypeNS])
}

// addAddresses adds the addresses that the zone has of the hosts of servers,
// in-domain and sibling glue included (RFC 9471 §2).
func (z *Zone) addAddresses(m *dns.Msg, servers []dns.RR) {
	for _, rr := range servers {
		ns, ok := rr.(*dns.NS)
		if !ok {
			continue
		}
		host, err := wire.ParseName(ns.Ns)
		if err != nil {
			continue
		}
		m.Extra = append(m.Extra, z.nodes[host][wire.TypeA]...)
		m.Extra = append(m.Extra, z.nodes[host][wire.TypeAAAA]...)
	}
}
