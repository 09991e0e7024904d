package main

import (
	"crypto"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// signLife is how long signatures hold, from an hour ago.
const signLife = 30 * 24 * time.Hour

// sign signs all zones, from the bottom up, so that every parent has the DS
// records of its children, and returns the root's DS record as the trust anchor.
func (net *internet) sign() (anchor string, err error) {
	ds := map[string]string{} // of each child, by its parent's name
	for i := range net.zones {
		if err := net.zones[i].sign(ds); err != nil {
			return "", err
		}
	}
	for i := range net.tlds {
		net.tlds[i].text += ds[net.tlds[i].name]
		if err := net.tlds[i].sign(ds); err != nil {
			return "", err
		}
	}
	net.root.text += ds["."] + enemyDelegation()
	if err := net.root.sign(ds); err != nil {
		return "", err
	}
	return strings.TrimSpace(ds[""]), nil
}

// sign signs z with one key and a chain of NSEC records, and adds its DS record
// to what ds has for its parent.
func (z *zone) sign(ds map[string]string) error {
	key := &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: z.name, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: zoneTTL},
		Flags: dns.ZONE | dns.SEP, Protocol: 3, Algorithm: dns.ECDSAP256SHA256,
	}
	private, err := generate(key)
	if err != nil {
		return fmt.Errorf("a key for %s: %w", z.name, err)
	}
	sets, err := z.sets()
	if err != nil {
		return err
	}
	sets.add(key)
	z.key = key.String()
	sets.chain(z.name)
	var b strings.Builder
	for _, name := range sets.names {
		for typ, set := range sets.at[name] {
			for _, rr := range set {
				b.WriteString(rr.String() + "\n")
			}
			if !sets.signed(z.name, name, typ) {
				continue
			}
			sig, err := signature(key, private.(crypto.Signer), set)
			if err != nil {
				return fmt.Errorf("signing %s %s: %w", name, dns.TypeToString[typ], err)
			}
			b.WriteString(sig.String() + "\n")
		}
	}
	z.text = b.String()
	parent := ""
	if z.name != "." {
		_, parent, _ = strings.Cut(z.name, ".")
		if parent == "" {
			parent = "."
		}
	}
	ds[parent] += key.ToDS(dns.SHA256).String() + "\n"
	return nil
}

// generate makes key one that there was not yet, and returns its private part.
func generate(key *dns.DNSKEY) (crypto.PrivateKey, error) {
	for {
		private, err := key.Generate(256)
		if err != nil || key.KeyTag() != 0 { // miekg/dns takes 0, the tag of one key in 65,536, for one that is missing
			return private, err
		}
	}
}

// signature signs set.
func signature(key *dns.DNSKEY, private crypto.Signer, set []dns.RR) (*dns.RRSIG, error) {
	from := time.Now().Add(-time.Hour)
	sig := &dns.RRSIG{
		Algorithm: key.Algorithm, KeyTag: key.KeyTag(), SignerName: key.Hdr.Name,
		Inception: uint32(from.Unix()), Expiration: uint32(from.Add(signLife).Unix()),
	}
	err := sig.Sign(private, set)
	sig.Hdr.Ttl = set[0].Header().Ttl // RFC 4034 §3; Sign leaves it 0
	return sig, err
}

// rrsets are the records of a zone, by owner and type.
type rrsets struct {
	at    map[string]map[uint16][]dns.RR
	names []string // owners, in canonical order once chain has been called
}

// sets reads the zone's text.
func (z *zone) sets() (*rrsets, error) {
	s := &rrsets{at: map[string]map[uint16][]dns.RR{}}
	p := dns.NewZoneParser(strings.NewReader(z.text), z.name, "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		s.add(rr)
	}
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("zone %s: %w", z.name, err)
	}
	return s, nil
}

func (s *rrsets) add(rr dns.RR) {
	name, typ := rr.Header().Name, rr.Header().Rrtype
	if s.at[name] == nil {
		s.at[name] = map[uint16][]dns.RR{}
		s.names = append(s.names, name)
	}
	s.at[name][typ] = append(s.at[name][typ], rr)
}

// signed reports whether the zone of the given apex signs the set of name and
// typ: not what is its child's (RFC 4035 §2.2).
func (s *rrsets) signed(apex, name string, typ uint16) bool {
	if s.cut(apex, name) {
		return typ == dns.TypeDS || typ == dns.TypeNSEC
	}
	return !s.glue(apex, name)
}

// cut reports whether name is delegated.
func (s *rrsets) cut(apex, name string) bool { return name != apex && s.at[name][dns.TypeNS] != nil }

// glue reports whether name is below a delegation.
func (s *rrsets) glue(apex, name string) bool {
	for name != apex && name != "." {
		_, name, _ = strings.Cut(name, ".")
		if name == "" {
			name = "."
		}
		if s.cut(apex, name) {
			return true
		}
	}
	return false
}

// chain adds the NSEC records (RFC 4034 §4).
func (s *rrsets) chain(apex string) {
	slices.SortFunc(s.names, func(a, b string) int { return wire.Compare(wire.MustParseName(a), wire.MustParseName(b)) })
	chained := slices.DeleteFunc(slices.Clone(s.names), func(name string) bool { return s.glue(apex, name) })
	for i, name := range chained {
		types := []uint16{dns.TypeNSEC, dns.TypeRRSIG}
		for typ := range s.at[name] {
			if !s.cut(apex, name) || typ == dns.TypeNS || typ == dns.TypeDS {
				types = append(types, typ)
			}
		}
		slices.Sort(types)
		s.add(&dns.NSEC{
			Hdr:        dns.RR_Header{Name: name, Rrtype: dns.TypeNSEC, Class: dns.ClassINET, Ttl: zoneTTL},
			NextDomain: chained[(i+1)%len(chained)], TypeBitMap: types,
		})
	}
}
