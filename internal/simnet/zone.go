package simnet

import (
	"fmt"
	"strings"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// What a zone gets that its text leaves out.
const (
	defaultTTL     = 3600 // seconds
	defaultMinimum = 300  // seconds; of the SOA record, so the TTL of denials
)

// Zone is the data of one zone. It is immutable.
type Zone struct {
	origin wire.Name
	nodes  map[wire.Name]node // empty non-terminals included
	denial dns.RR             // the SOA record as it goes with a denial
	signer *signer            // nil: it is not signed
}

// node is what one name owns: nothing, for an empty non-terminal.
type node map[wire.Type][]dns.RR

// ParseZone returns the zone that text describes in master file format (RFC
// 1035 §5.1). Records without a TTL get 3600 s, and a zone without an SOA
// record gets one whose minimum is 300 s. The error says what is wrong with
// the text: it does not parse, or has a record outside of origin.
func ParseZone(origin, text string) (*Zone, error) {
	name, err := wire.ParseName(origin)
	if err != nil {
		return nil, fmt.Errorf("origin %q: %w", origin, err)
	}
	z := &Zone{origin: name, nodes: map[wire.Name]node{name: {}}}
	rrs, err := parse(name.String(), text)
	if err != nil {
		return nil, fmt.Errorf("zone %s: %w", name, err)
	}
	for _, rr := range rrs {
		if err := z.add(rr); err != nil {
			return nil, fmt.Errorf("zone %s: %w", name, err)
		}
	}
	if err := z.addSOA(); err != nil {
		return nil, fmt.Errorf("zone %s: %w", name, err)
	}
	return z, nil
}

// Origin returns the name of the zone's apex.
func (z *Zone) Origin() wire.Name { return z.origin }

// parse returns the records of text, with names relative to origin.
func parse(origin, text string) ([]dns.RR, error) {
	zp := dns.NewZoneParser(strings.NewReader(text), origin, "")
	zp.SetDefaultTTL(defaultTTL)
	var rrs []dns.RR
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		rrs = append(rrs, rr)
	}
	return rrs, zp.Err()
}

// add puts rr into the zone, and the names between it and the apex, which
// exist from then on (RFC 4592 §2.2.2). A duplicate is dropped (RFC 2181 §5).
func (z *Zone) add(rr dns.RR) error {
	owner, err := wire.ParseName(rr.Header().Name)
	if err != nil {
		return fmt.Errorf("owner %q: %w", rr.Header().Name, err)
	}
	if !owner.Within(z.origin) {
		return fmt.Errorf("%s is out of zone", owner)
	}
	for up := owner; z.nodes[up] == nil; up, _ = up.Parent() {
		z.nodes[up] = node{} // ends at the apex, which has a node
	}
	typ := wire.Type(rr.Header().Rrtype)
	set := z.nodes[owner][typ]
	for _, other := range set {
		if dns.IsDuplicate(rr, other) {
			return nil
		}
	}
	z.nodes[owner][typ] = append(set, rr)
	return nil
}

// addSOA gives the zone an SOA record if it has none, and prepares the copy
// that goes with denials.
func (z *Zone) addSOA() error {
	apex := z.nodes[z.origin]
	if len(apex[wire.TypeSOA]) == 0 {
		rrs, err := parse(z.origin.String(), fmt.Sprintf("@ SOA . . 1 3600 600 86400 %d", defaultMinimum))
		if err != nil {
			return err
		}
		apex[wire.TypeSOA] = rrs
	}
	if len(apex[wire.TypeSOA]) > 1 {
		return fmt.Errorf("%d SOA records", len(apex[wire.TypeSOA]))
	}
	soa, ok := dns.Copy(apex[wire.TypeSOA][0]).(*dns.SOA)
	if !ok {
		return fmt.Errorf("SOA of type %T", apex[wire.TypeSOA][0])
	}
	soa.Hdr.Ttl = min(soa.Hdr.Ttl, soa.Minttl) // RFC 2308 §3
	z.denial = soa
	return nil
}
