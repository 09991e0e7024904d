package localroot

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// zone is the root zone, complete and immutable.
type zone struct {
	soa    *dns.SOA
	sets   map[wire.Question][]dns.RR // by owner and type
	sigs   map[wire.Question][]dns.RR // RRSIG records by owner and type covered
	exists map[wire.Name]bool         // owners, and the names between them and the root (RFC 4592 §2.2.2)
	nsec   []denier                   // in canonical order
}

// denier is the owner of an NSEC record, with its place in canonical order.
type denier struct {
	key   string
	owner wire.Name
}

// What makes records no root zone that can be answered from.
var (
	errSOA     = errors.New("not exactly one SOA record of the root")
	errServers = errors.New("no NS record of the root")
	errOdd     = errors.New("the root has no wildcards and no aliases")
	errTooMany = errors.New("too many records")
)

// build returns the zone that rrs make up, which it keeps. Records of other
// classes are dropped; nothing is out of zone. The errors are those above.
func build(rrs []dns.RR) (*zone, error) {
	z := &zone{
		sets:   make(map[wire.Question][]dns.RR),
		sigs:   make(map[wire.Question][]dns.RR),
		exists: map[wire.Name]bool{wire.Root: true},
	}
	for _, rr := range rrs {
		if rr.Header().Class != dns.ClassINET {
			continue
		}
		if err := z.add(rr); err != nil {
			return nil, err
		}
	}
	soa := z.sets[wire.Question{Name: wire.Root, Type: wire.TypeSOA}]
	if len(soa) != 1 {
		return nil, errSOA
	}
	z.soa = soa[0].(*dns.SOA) //nolint:forcetypeassert // add files records by their type
	if len(z.sets[wire.Question{Name: wire.Root, Type: wire.TypeNS}]) == 0 {
		return nil, errServers
	}
	slices.SortFunc(z.nsec, func(a, b denier) int { return strings.Compare(a.key, b.key) })
	return z, nil
}

// maxPerSet bounds the records of one RRset: to find duplicates is quadratic.
// The largest set of the root has 13.
const maxPerSet = 100

// add files one record. A duplicate is dropped (RFC 2181 §5).
func (z *zone) add(rr dns.RR) error {
	name, err := wire.ParseName(rr.Header().Name)
	if err != nil {
		return fmt.Errorf("owner %q: %w", rr.Header().Name, err)
	}
	into, key := z.sets, wire.Question{Name: name, Type: wire.Type(rr.Header().Rrtype)}
	switch rr := rr.(type) {
	case *dns.CNAME, *dns.DNAME:
		return fmt.Errorf("%w: %v", errOdd, name)
	case *dns.RRSIG:
		into, key.Type = z.sigs, wire.Type(rr.TypeCovered)
	case *dns.NSEC:
		if into[key] == nil {
			z.nsec = append(z.nsec, denier{canonicalKey(name), name})
		}
	}
	if strings.HasPrefix(string(name), "\x01*") {
		return fmt.Errorf("%w: %v", errOdd, name)
	}
	set := into[key]
	if slices.ContainsFunc(set, func(have dns.RR) bool { return dns.IsDuplicate(have, rr) }) {
		return nil
	}
	if len(set) == maxPerSet {
		return fmt.Errorf("%w: %v", errTooMany, key)
	}
	into[key] = append(set, rr)
	for n, ok := name, true; ok && !z.exists[n]; n, ok = n.Parent() {
		z.exists[n] = true
	}
	return nil
}

// answer returns what a server of the root would say to q (RFC 1034 §4.3.2),
// with all DNSSEC records; nil for questions about more than data. The message
// shares nothing with z.
func (z *zone) answer(q wire.Question) *dns.Msg {
	if q.Type == wire.TypeRRSIG || q.Type.Meta() {
		return nil
	}
	m := new(dns.Msg)
	m.Response, m.Authoritative = true, true
	m.Question = []dns.Question{{Name: q.Name.String(), Qtype: uint16(q.Type), Qclass: dns.ClassINET}}
	set := z.sets[q]
	switch cut, delegated := z.cut(q); {
	case delegated:
		m.Authoritative = false
		z.refer(m, cut)
	case set != nil:
		m.Answer = z.take(m.Answer, q)
		if q.Type == wire.TypeNS {
			z.addAddresses(m, set)
		}
	default:
		z.deny(m, q.Name)
	}
	return m
}

// cut returns the delegation at q's name or above it. The DS set at one is the
// root's own (RFC 4035 §3.1.4.1).
func (z *zone) cut(q wire.Question) (wire.Name, bool) {
	labels := q.Name.Labels()
	for n := 1; n <= labels; n++ {
		at := q.Name.Tail(n)
		if z.sets[wire.Question{Name: at, Type: wire.TypeNS}] != nil && (at != q.Name || q.Type != wire.TypeDS) {
			return at, true
		}
	}
	return "", false
}

// refer makes m the referral to the zone at cut, with its DS set or the proof
// that there is none (RFC 4035 §3.1.4).
func (z *zone) refer(m *dns.Msg, cut wire.Name) {
	servers := wire.Question{Name: cut, Type: wire.TypeNS}
	m.Ns = z.take(m.Ns, servers) // not signed: it is not the root's to sign
	proof := wire.Question{Name: cut, Type: wire.TypeDS}
	if z.sets[proof] == nil {
		proof.Type = wire.TypeNSEC
	}
	m.Ns = z.take(m.Ns, proof)
	z.addAddresses(m, z.sets[servers])
}

// deny makes m the denial of a type of name, or of the name (RFC 4035 §3.1.3).
func (z *zone) deny(m *dns.Msg, name wire.Name) {
	m.Ns = z.take(m.Ns, wire.Question{Name: wire.Root, Type: wire.TypeSOA})
	proof, ok := z.denier(name)
	if ok {
		m.Ns = z.take(m.Ns, wire.Question{Name: proof, Type: wire.TypeNSEC})
	}
	if z.exists[name] {
		return
	}
	m.Rcode = dns.RcodeNameError
	encloser, _ := name.Parent()
	for !z.exists[encloser] {
		encloser, _ = encloser.Parent() // ends at the root
	}
	// RFC 4035 §3.1.3.2: and there is no wildcard that could have made it.
	if again, ok := z.denier("\x01*" + encloser); ok && again != proof {
		m.Ns = z.take(m.Ns, wire.Question{Name: again, Type: wire.TypeNSEC})
	}
}

// denier returns the owner of the NSEC record at name or before it; there is
// none in a zone that is not signed.
func (z *zone) denier(name wire.Name) (wire.Name, bool) {
	i, found := slices.BinarySearchFunc(z.nsec, canonicalKey(name), func(d denier, key string) int { return strings.Compare(d.key, key) })
	if !found {
		i--
	}
	if i < 0 {
		return "", false
	}
	return z.nsec[i].owner, true
}

// take appends copies of a set and its signatures: who gets them may change
// them.
func (z *zone) take(rrs []dns.RR, key wire.Question) []dns.RR {
	for _, rr := range slices.Concat(z.sets[key], z.sigs[key]) {
		rrs = append(rrs, dns.Copy(rr))
	}
	return rrs
}

// addAddresses adds the addresses that the zone has of servers (RFC 9471 §2).
func (z *zone) addAddresses(m *dns.Msg, servers []dns.RR) {
	for _, rr := range servers {
		ns, ok := rr.(*dns.NS)
		if !ok {
			continue
		}
		host, err := wire.ParseName(ns.Ns)
		if err != nil {
			continue
		}
		for _, typ := range [...]wire.Type{wire.TypeA, wire.TypeAAAA} {
			for _, rr := range z.sets[wire.Question{Name: host, Type: typ}] {
				m.Extra = append(m.Extra, dns.Copy(rr))
			}
		}
	}
}

// canonicalKey returns a string that sorts as n does in canonical order (RFC
// 4034 §6.1): the last label first, each ended by an octet that no label has.
func canonicalKey(n wire.Name) string {
	var labels []string
	for len(n) > 1 {
		l := int(n[0])
		labels = append(labels, string(n[1:1+l]))
		n = n[1+l:]
	}
	var b strings.Builder
	for _, label := range slices.Backward(labels) {
		for _, c := range []byte(label) {
			if c <= 1 { // so that 0 is free for the end
				b.WriteByte(1)
				c++
			}
			b.WriteByte(c)
		}
		b.WriteByte(0)
	}
	return b.String()
}
