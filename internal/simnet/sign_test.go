package simnet_test

import (
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/dnssec"
	"shirube/internal/rrset"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// signings has the ways to sign that differ in what is answered.
var signings = map[string]simnet.Signing{
	"NSEC":             {},
	"NSEC3":            {Denial: simnet.NSEC3},
	"NSEC3 with salt":  {Denial: simnet.NSEC3, Iterations: 5, Salt: "aabbccdd"},
	"NSEC3 opt-out":    {Denial: simnet.NSEC3, OptOut: true},
	"compact":          {Denial: simnet.Compact},
	"Ed25519":          {Keys: []*simnet.Key{simnet.NewKey("example.", simnet.KeyOptions{Algorithm: dns.ED25519})}},
	"RSA":              {Keys: []*simnet.Key{simnet.NewKey("example.", simnet.KeyOptions{Algorithm: dns.RSASHA256})}},
	"two keys divided": {Keys: []*simnet.Key{simnet.NewKey("example.", simnet.KeyOptions{}), simnet.NewKey("example.", simnet.KeyOptions{Flags: dns.ZONE})}},
}

// ask returns what a server of z answers to a question with or without DO.
func ask(t *testing.T, z *simnet.Zone, name string, typ uint16, do bool) *dns.Msg {
	t.Helper()
	m := simnet.NewServer(z).Answer(query(name, typ).SetEdns0(1232, do))
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	got := new(dns.Msg)
	if err := got.Unpack(b); err != nil {
		t.Fatal(err)
	}
	return got
}

// sets returns the RRsets of a section with their signatures.
func sets(section []dns.RR) []rrset.Set {
	var out []rrset.Set
	at := func(name wire.Name, typ wire.Type) *rrset.Set {
		for i := range out {
			if out[i].Name == name && out[i].Type == typ {
				return &out[i]
			}
		}
		out = append(out, rrset.Set{Name: name, Type: typ})
		return &out[len(out)-1]
	}
	for _, rr := range section {
		name := wire.MustParseName(rr.Header().Name)
		if sig, ok := rr.(*dns.RRSIG); ok {
			s := at(name, wire.Type(sig.TypeCovered))
			s.Sigs = append(s.Sigs, sig)
			continue
		}
		s := at(name, wire.Type(rr.Header().Rrtype))
		s.RRs = append(s.RRs, rr)
	}
	return out
}

// keysOf returns the keys of z, as they are found by the digests of the first.
func keysOf(t *testing.T, z *simnet.Zone, ds string) []*dns.DNSKEY {
	t.Helper()
	answer := sets(ask(t, z, z.Origin().String(), dns.TypeDNSKEY, true).Answer)
	rr, ok := simnet.RRs(ds)[0].(*dns.DS)
	if len(answer) != 1 || !ok {
		t.Fatalf("DNSKEY: %v, DS: %s", answer, ds)
	}
	keys, proof, err := dnssec.VerifyKeys(z.Origin(), []*dns.DS{rr}, answer[0], time.Now(), dnssec.NewBudget())
	if err != nil || proof.Trust != rrset.Secure {
		t.Fatalf("keys: %v, %v", proof, err)
	}
	return keys
}

func TestSignedZoneProvesWhatItAnswers(t *testing.T) {
	for name, s := range signings {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			z := mustZone(t, "example.", exampleZone).Sign(s)
			key := simnet.NewKey("example.", simnet.KeyOptions{})
			if len(s.Keys) > 0 {
				key = s.Keys[0]
			}
			keys := keysOf(t, z, key.DS())
			for _, q := range []struct {
				name  string
				types string
			}{
				{"", "SOA NS MX DNSKEY TXT DS NSEC3PARAM NSEC"},
				{"www.", "A AAAA MX RRSIG ANY NSEC"},
				{"b.c.", "A TXT"},
				{"c.", "A"},
				{"a.b.c.", "TXT A"},
				{"nosuch.", "A DS"},
				{"x.www.", "A"},
				{"x.nosuch.", "A"},
				{"x.a.b.c.", "A"},
				{"alias.", "A CNAME"},
				{"gone.", "A"},
				{"empty.", "A"},
				{"out.", "A"},
				{"x.wild.", "TXT A"},
				{"x.y.wild.", "TXT A"},
				{"*.wild.", "TXT A"},
				{"x.exists.wild.", "A"},
				{"x.walias.", "A"},
				{"y.star.", "A"},
				{"x.star.", "TXT"},
				{"www.old.", "A CNAME"},
				{"nosuch.old.", "A"},
				{"old.", "TXT MX DNAME"},
				{"child.", "NS DS A"},
				{"www.child.", "A DS"},
				{"sibling.", "DS A"},
				{"x.sibling.", "A"},
			} {
				for typ := range strings.FieldsSeq(q.types) {
					judge(t, z, keys, q.name+"example.", dns.StringToType[typ])
				}
			}
		})
	}
}

// judge asks z a question and checks that what comes is proven.
func judge(t *testing.T, z *simnet.Zone, keys []*dns.DNSKEY, name string, typ uint16) {
	t.Helper()
	m := ask(t, z, name, typ, true)
	budget := &dnssec.Budget{Verifications: 100, Hashes: 100}
	fail := func(what string, err error) {
		t.Helper()
		t.Errorf("%s %s: %s: %v\n%v", name, dns.TypeToString[typ], what, err, m)
	}
	verify := func(s *rrset.Set) dnssec.Proof {
		p, err := dnssec.VerifySet(s, z.Origin(), keys, time.Now(), budget)
		if err != nil {
			fail(s.Name.String()+" "+s.Type.String(), err)
		}
		return p
	}
	if typ == dns.TypeRRSIG {
		if len(m.Answer) == 0 {
			fail("no signatures", nil)
		}
		return
	}
	var proofs []rrset.Set
	var ns, ds *rrset.Set
	for _, s := range sets(m.Ns) {
		switch s.Type {
		case wire.TypeNS:
			ns = &s
			continue
		case wire.TypeDS:
			ds = &s
		case wire.TypeNSEC, wire.TypeNSEC3:
			proofs = append(proofs, s)
		}
		verify(&s)
	}
	denied, synthesised := wire.MustParseName(name), false
	for _, s := range sets(m.Answer) {
		if synthesised && s.Type == wire.TypeCNAME {
			denied = wire.MustParseName(s.RRs[0].(*dns.CNAME).Target)
			continue // RFC 6672 §5.3.1
		}
		p := verify(&s)
		if p.Wildcard != "" {
			if _, err := dnssec.DenyCloser(s.Name, p.Wildcard, z.Origin(), proofs, budget); err != nil {
				fail("closer", err)
			}
		}
		synthesised = s.Type == wire.TypeDNAME
		if cname, ok := s.RRs[0].(*dns.CNAME); ok && typ != dns.TypeCNAME {
			denied = wire.MustParseName(cname.Target)
		} else if s.Type == wire.Type(typ) || typ == dns.TypeANY {
			denied = ""
		}
	}
	var err error
	switch {
	case denied == "" || !denied.Within(z.Origin()):
	case ds != nil:
	case ns != nil:
		var kind dnssec.DSDenial
		if kind, _, err = dnssec.DenyDS(ns.Name, z.Origin(), proofs, budget); err == nil && kind != dnssec.Unsigned {
			fail("delegation is "+kind.String(), nil)
		}
	case m.Rcode == dns.RcodeNameError:
		_, err = dnssec.DenyName(denied, z.Origin(), proofs, budget)
	case wire.Type(typ) == wire.TypeDS && denied != z.Origin():
		_, _, err = dnssec.DenyDS(denied, z.Origin(), proofs, budget)
	case typ == dns.TypeDS: // the parent's to deny
	case typ == dns.TypeCNAME && synthesised:
	default:
		_, err = dnssec.DenyType(wire.Question{Name: denied, Type: wire.Type(typ)}, z.Origin(), proofs, budget)
	}
	if err != nil {
		fail("denial", err)
	}
}

func TestSignedZoneTellsSignaturesOnlyWhoWantsThem(t *testing.T) {
	for name, s := range signings {
		z := mustZone(t, "example.", exampleZone)
		signed := z.Sign(s)
		for _, q := range []string{"www.", "nosuch.", "x.wild.", "x.child.", "b.c.", "www.old.", "gone."} {
			for _, typ := range []uint16{dns.TypeA, dns.TypeTXT, dns.TypeDS} {
				got, want := show(ask(t, signed, q+"example.", typ, false)), show(ask(t, z, q+"example.", typ, false))
				if strings.Join(got, "\n") != strings.Join(want, "\n") {
					t.Errorf("%s: %s %s: got %q, want %q", name, q, dns.TypeToString[typ], got, want)
				}
			}
		}
	}
}

func TestSigningIsRepeatable(t *testing.T) {
	one := ask(t, mustZone(t, "example.", exampleZone).Sign(simnet.Signing{Expiration: time.Unix(2e9, 0), Inception: time.Unix(1, 0)}), "www.example.", dns.TypeA, true)
	two := ask(t, mustZone(t, "example.", exampleZone).Sign(simnet.Signing{Expiration: time.Unix(2e9, 0), Inception: time.Unix(1, 0)}), "www.example.", dns.TypeA, true)
	if one.Id, two.Id = 0, 0; one.String() != two.String() {
		t.Errorf("got\n%v\nand\n%v", one, two)
	}
}

func TestLookalikesHaveTheTag(t *testing.T) {
	for _, a := range []uint8{dns.ECDSAP256SHA256, dns.RSASHA256, dns.ED25519} {
		k := simnet.NewKey("example.", simnet.KeyOptions{Algorithm: a})
		seen := map[string]bool{k.Record().PublicKey: true}
		for _, other := range k.Lookalikes(40) {
			if other.Record().KeyTag() != k.Record().KeyTag() || seen[other.Record().PublicKey] {
				t.Errorf("algorithm %d: got %v like %v", a, other.Record(), k.Record())
			}
			seen[other.Record().PublicKey] = true
		}
	}
}

func TestKeyOfUnknownAlgorithmSignsNothingThatVerifies(t *testing.T) {
	k := simnet.NewKey("example.", simnet.KeyOptions{Algorithm: 200})
	z := mustZone(t, "example.", exampleZone).Sign(simnet.Signing{Keys: []*simnet.Key{k}})
	if got := ask(t, z, "www.example.", dns.TypeA, true).Answer; len(got) != 3 {
		t.Errorf("got %v, want two addresses and a signature", got)
	}
	ds := k.DS(dns.SHA256, dns.SHA384, 77)
	if got := simnet.RRs(ds); len(got) != 3 || !strings.Contains(ds, " 200 77 ") {
		t.Errorf("got %v", got)
	}
}
