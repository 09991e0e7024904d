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
			if n, ok := z.nodes["\x01*"+encloser]; ok {
				return found{wildcard, "\x01*" + encloser, n}
			}
			return found{where: nowhere}
		case at != z.origin && n[wire.TypeNS] != nil && (at != name || typ != wire.TypeDS):
			return found{cut, at, n} // RFC 4035 §3.1.4.1: but the DS set is the parent's
		case at == name:
			return found{exact, at, n}
		case n[wire.TypeDNAME] != nil:
			return found{aliased, at, n} // RFC 6672 §2.4: nothing below it counts
		}
		encloser = at
	}
	return found{where: nowhere} // name is not in the zone
}

// answer completes m, the beginning of a response, with what the zone says to
// a question for name, spelled as given, and typ (RFC 1034 §4.3.2 step 3).
func (z *Zone) answer(m *dns.Msg, name wire.Name, spelled string, typ wire.Type) {
	m.Authoritative = true
	followed := make([]wire.Name, 0, maxAliases)
	for len(followed) < maxAliases && name.Within(z.origin) && !slices.Contains(followed, name) {
		followed = append(followed, name)
		var alias dns.RR
		switch f := z.find(name, typ); f.where {
		case cut:
			z.refer(m, f)
		case aliased:
			alias = z.substitute(m, f, name, spelled)
		case exact, wildcard:
			alias = z.take(m, f, spelled, typ)
		case nowhere:
			m.Rcode = dns.RcodeNameError // of the last name in the chain: RFC 6604 §3
			m.Ns = append(m.Ns, z.denial)
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

// take answers from the node that the question's name, spelled as given, has
// or is synthesised from. It returns the first record, which may be an alias.
func (z *Zone) take(m *dns.Msg, f found, spelled string, typ wire.Type) (first dns.RR) {
	var rrs []dns.RR
	switch {
	case typ == wire.TypeANY:
		for _, t := range slices.Sorted(maps.Keys(f.node)) {
			rrs = append(rrs, f.node[t]...)
		}
	case f.node[typ] != nil:
		rrs = f.node[typ]
	case f.node[wire.TypeCNAME] != nil:
		rrs = f.node[wire.TypeCNAME][:1]
	}
	if f.where == wildcard {
		rrs = renamed(rrs, spelled)
	}
	if len(rrs) == 0 { // NODATA, RFC 2308 §2.2
		m.Ns = append(m.Ns, z.denial)
		return nil
	}
	m.Answer = append(m.Answer, rrs...)
	if typ == wire.TypeNS {
		z.addAddresses(m, rrs) // RFC 1034 §4.3.2 step 6; root priming lives on it (RFC 9609 §4.1)
	}
	return rrs[0]
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
func (z *Zone) substitute(m *dns.Msg, f found, name wire.Name, spelled string) (alias dns.RR) {
	dname, ok := f.node[wire.TypeDNAME][0].(*dns.DNAME)
	if !ok {
		return nil
	}
	m.Answer = append(m.Answer, dname)
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
func (z *Zone) refer(m *dns.Msg, f found) {
	m.Authoritative = len(m.Answer) > 0
	m.Ns = append(m.Ns, f.node[wire.TypeNS]...)
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
