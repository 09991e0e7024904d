package simnet

import (
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// link is a record of the NSEC or NSEC3 chain.
type link struct {
	hash  string    // NSEC3: of the name it is about, in base 32
	owner wire.Name // of the record
	rr    dns.RR
}

// compare orders links as their chain does: by owner, or by hash.
func (l link) compare(other link) int {
	if l.hash != "" {
		return strings.Compare(l.hash, other.hash)
	}
	return wire.Compare(l.owner, other.owner)
}

// link makes the chain of NSEC or NSEC3 records. Compact denials need none.
func (z *Zone) link() {
	if z.signer.Denial == Compact {
		return
	}
	about := make(map[link]wire.Name)
	var chain []link
	for name, n := range z.nodes {
		if z.denies(name, n) {
			l := z.linkOf(name)
			about[l] = name
			chain = append(chain, l)
		}
	}
	slices.SortFunc(chain, link.compare)
	for i, l := range chain {
		next := chain[(i+1)%len(chain)]
		types := z.bitmap(about[l])
		if l.hash == "" {
			chain[i].rr = z.nsec(l.owner, next.owner.String(), types)
			continue
		}
		chain[i].rr = z.nsec3(l, next, types)
	}
	z.signer.chain = chain
}

// denies reports whether the chain has a record for n, at name: not for what is
// below a cut or a DNAME, which is not the zone's to deny.
func (z *Zone) denies(name wire.Name, n node) bool {
	switch {
	case z.occluded(name):
		return false
	case z.signer.Denial == NSEC:
		return len(n) > 0 // RFC 4034 §4: empty non-terminals have none
	case z.signer.OptOut: // RFC 5155 §7.1
		return z.holds(name)
	}
	return true
}

// occluded reports whether name is below a cut or a DNAME.
func (z *Zone) occluded(name wire.Name) bool {
	for labels := z.origin.Labels(); labels < name.Labels(); labels++ {
		at := name.Tail(labels)
		if n := z.nodes[at]; n[wire.TypeDNAME] != nil || at != z.origin && n[wire.TypeNS] != nil {
			return true
		}
	}
	return false
}

// holds reports whether there is anything but unsigned delegations at name or
// below it.
func (z *Zone) holds(name wire.Name) bool {
	for at, n := range z.nodes {
		delegation := at != z.origin && n[wire.TypeNS] != nil && n[wire.TypeDS] == nil
		if len(n) > 0 && at.Within(name) && !delegation && !z.occluded(at) {
			return true
		}
	}
	return false
}

// linkOf returns the link for name, without its record.
func (z *Zone) linkOf(name wire.Name) link {
	if z.signer.Denial == NSEC {
		return link{owner: name}
	}
	hash := strings.ToLower(dns.HashName(name.String(), dns.SHA1, z.signer.Iterations, z.signer.Salt))
	return link{hash: hash, owner: wire.MustParseName(hash + "." + strings.TrimPrefix(z.origin.String(), "."))}
}

// bitmap returns the types that name has, signatures and NSEC included.
func (z *Zone) bitmap(name wire.Name) []uint16 {
	n := z.nodes[name]
	has := make(map[uint16]bool)
	cut := name != z.origin && n[wire.TypeNS] != nil
	for t := range n {
		if !cut || t == wire.TypeNS || t == wire.TypeDS { // RFC 4035 §2.3: the rest is the child's
			has[uint16(t)] = true
		}
	}
	if z.signer.Denial != NSEC3 {
		has[dns.TypeNSEC] = true
	}
	if z.signer.Denial != NSEC3 || len(n) > 0 && (!cut || n[wire.TypeDS] != nil) { // RFC 5155 §7.1
		has[dns.TypeRRSIG] = true
	}
	return slices.Sorted(maps.Keys(has))
}

// nsec returns an NSEC record.
func (z *Zone) nsec(owner wire.Name, next string, types []uint16) dns.RR {
	return &dns.NSEC{Hdr: z.denialHeader(owner, dns.TypeNSEC), NextDomain: next, TypeBitMap: types}
}

// nsec3 returns the NSEC3 record of l.
func (z *Zone) nsec3(l, next link, types []uint16) dns.RR {
	s := z.signer
	rr := &dns.NSEC3{
		Hdr: z.denialHeader(l.owner, dns.TypeNSEC3), Hash: dns.SHA1, Iterations: s.Iterations,
		SaltLength: uint8(hex.DecodedLen(len(s.Salt))), Salt: s.Salt,
		HashLength: 20, NextDomain: strings.ToUpper(next.hash), TypeBitMap: types,
	}
	if s.OptOut {
		rr.Flags = 1 // RFC 5155 §3.1.2.1
	}
	return rr
}

func (z *Zone) denialHeader(owner wire.Name, typ uint16) dns.RR_Header {
	return dns.RR_Header{Name: owner.String(), Rrtype: typ, Class: dns.ClassINET, Ttl: z.denial.Header().Ttl} // RFC 9077 §3
}

// proof returns the signed records of the chain that match or cover names.
func (z *Zone) proof(names ...wire.Name) []dns.RR {
	var out []dns.RR
	var used []int
	for _, name := range names {
		i, found := slices.BinarySearchFunc(z.signer.chain, z.linkOf(name), link.compare)
		if !found {
			i = (i + len(z.signer.chain) - 1) % len(z.signer.chain) // the last one goes round
		}
		if !slices.Contains(used, i) {
			used = append(used, i)
			out = append(out, z.signedLink(z.signer.chain[i])...)
		}
	}
	return out
}

func (z *Zone) signedLink(l link) []dns.RR {
	set := []dns.RR{l.rr}
	return slices.Concat(set, z.signatures(l.owner, wire.Type(l.rr.Header().Rrtype), set))
}

// matches reports whether the chain has a record for name.
func (z *Zone) matches(name wire.Name) bool {
	_, found := slices.BinarySearchFunc(z.signer.chain, z.linkOf(name), link.compare)
	return found
}

// encloser returns the closest encloser of name that the NSEC3 chain can prove,
// and the next closer name (RFC 5155 §7.2.1).
func (z *Zone) encloser(name wire.Name) (ce, closer wire.Name) {
	for closer = name; ; closer = ce {
		ce, _ = closer.Parent() // ends at the apex
		if ce == z.origin || z.matches(ce) {
			return ce, closer
		}
	}
}

// soa returns the SOA record for a denial, signed for who wants that.
func (z *Zone) soa(do bool) []dns.RR {
	out := []dns.RR{z.denial}
	if !do {
		return out
	}
	for _, sig := range z.signatures(z.origin, wire.TypeSOA, z.nodes[z.origin][wire.TypeSOA]) {
		sig = dns.Copy(sig)
		sig.Header().Ttl = z.denial.Header().Ttl
		out = append(out, sig)
	}
	return out
}

// deny completes m with the proof that name has nothing to the question: there
// is no such name, or f has no such type (RFC 4035 §3.1.3, RFC 5155 §7.2).
func (z *Zone) deny(m *dns.Msg, f found, name wire.Name, do bool) {
	if f.where == nowhere {
		m.Rcode = dns.RcodeNameError // of the last name in the chain: RFC 6604 §3
	}
	m.Ns = append(m.Ns, z.soa(do)...)
	if z.signer == nil || !do {
		return
	}
	switch z.signer.Denial {
	case Compact:
		m.Rcode = dns.RcodeSuccess // RFC 9824 §3.1
		m.Ns = append(m.Ns, z.compact(f, name)...)
	case NSEC:
		switch f.where {
		case nowhere:
			m.Ns = append(m.Ns, z.proof(name, asterisk+f.encloser)...)
		case wildcard:
			m.Ns = append(m.Ns, z.proof(name, f.name)...)
		default:
			m.Ns = append(m.Ns, z.proof(name)...)
		}
	case NSEC3:
		m.Ns = append(m.Ns, z.deny3(f, name)...)
	}
}

// deny3 is deny by NSEC3 records.
func (z *Zone) deny3(f found, name wire.Name) []dns.RR {
	if f.where != nowhere && f.where != wildcard && z.matches(name) {
		return z.proof(name)
	}
	ce, closer := z.encloser(name)
	switch f.where {
	case nowhere:
		return z.proof(ce, closer, asterisk+ce)
	case wildcard:
		return z.proof(ce, closer, f.name)
	}
	return z.proof(ce, closer) // opt-out
}

// compact returns the record that denies name in the way of RFC 9824: made up as
// if it existed.
func (z *Zone) compact(f found, name wire.Name) []dns.RR {
	types := []uint16{dns.TypeRRSIG, dns.TypeNSEC, typeNXNAME}
	if f.where != nowhere {
		types = z.bitmap(f.name)
	}
	return z.signedLink(link{owner: name, rr: z.nsec(name, `\000.`+strings.TrimPrefix(name.String(), "."), types)})
}

// ownNSEC returns the NSEC record of f, at name, if it has one.
func (z *Zone) ownNSEC(f found, name wire.Name) []dns.RR {
	switch {
	case z.signer.Denial == Compact && f.where == exact:
		return z.compact(f, name)
	case z.signer.Denial == NSEC && f.where == exact && len(f.node) > 0:
		return z.proof(f.name)
	}
	return nil
}

// denyCloser completes m with the proof that nothing matches name better than
// the wildcard that it was answered from (RFC 4035 §3.1.3.3, RFC 5155 §7.2.6).
func (z *Zone) denyCloser(m *dns.Msg, f found, name wire.Name) {
	switch z.signer.Denial {
	case NSEC:
		m.Ns = append(m.Ns, z.proof(name)...)
	case NSEC3:
		m.Ns = append(m.Ns, z.proof(name.Tail(f.encloser.Labels()+1))...)
	}
}

// delegate completes the referral m with the DS set of f, or with the proof that
// there is none (RFC 4035 §3.1.4, RFC 5155 §7.2.7).
func (z *Zone) delegate(m *dns.Msg, f found) {
	switch {
	case z.signer == nil:
	case f.node[wire.TypeDS] != nil:
		m.Ns = append(m.Ns, z.signedSet(f, wire.TypeDS, true)...)
	case z.signer.Denial == NSEC:
		m.Ns = append(m.Ns, z.proof(f.name)...)
	case z.signer.Denial == NSEC3:
		m.Ns = append(m.Ns, z.deny3(f, f.name)...)
	default:
		m.Ns = append(m.Ns, z.compact(f, f.name)...)
	}
}
