package dnssec

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// longest is a name of as many labels as there can be, below zone.
func longest(zone wire.Name) wire.Name {
	for len(zone)+2 <= wire.MaxNameLen {
		zone = "\x01a" + zone
	}
	return zone
}

// claim proves something about name.
type claim func(name, zone wire.Name, proofs []rrset.Set, b *Budget) (Proof, error)

// denyType is [DenyType] as a claim.
func denyType(t wire.Type) claim {
	return func(name, zone wire.Name, proofs []rrset.Set, b *Budget) (Proof, error) {
		return DenyType(wire.Question{Name: name, Type: t}, zone, proofs, b)
	}
}

// claims are all there are.
var claims = map[string]claim{
	"DenyName":    DenyName,
	"DenyType":    denyType(wire.TypeA),
	"DenyType DS": denyType(wire.TypeDS),
	"DenyCloser": func(name, zone wire.Name, proofs []rrset.Set, b *Budget) (Proof, error) {
		return DenyCloser(name, asterisk+zone, zone, proofs, b)
	},
	"DenyDS": func(name, zone wire.Name, proofs []rrset.Set, b *Budget) (Proof, error) {
		_, p, err := DenyDS(name, zone, proofs, b)
		return p, err
	},
}

// TestNSEC3BombEndsAtTheBudget: a long name, and records that match every other
// of its ancestors, so that each has to be hashed (CVE-2023-50868).
func TestNSEC3BombEndsAtTheBudget(t *testing.T) {
	zone := wire.MustParseName("example")
	name := longest(zone)
	proofs := parseNSEC3(t, "=q.example iterations=50 salt="+long)
	for what, claim := range claims {
		for _, hashes := range []int{0, 1, 2, 3, DefaultHashes} {
			b := &Budget{Hashes: hashes}
			_, err := claim(name, zone, proofs, b)
			if what == "DenyCloser" && hashes > 0 { // it has one name to hash only
				if errors.Is(err, ErrBudget) || b.Hashes != hashes-1 {
					t.Errorf("%s with %d hashes: %d left, %v", what, hashes, b.Hashes, err)
				}
				continue
			}
			if e, ok := errors.AsType[*ede.Error](err); !ok || !errors.Is(err, ErrBudget) || e.Code == ede.NSECMissing {
				t.Errorf("%s with %d hashes: %v", what, hashes, err)
			}
			if b.Hashes != 0 {
				t.Errorf("%s with %d hashes leaves %d", what, hashes, b.Hashes)
			}
		}
	}
}

func TestCostlyNSEC3TakesNoHash(t *testing.T) {
	zone := wire.MustParseName("example")
	for _, proofs := range []string{"@example iterations=51", "@example iterations=65535", "@example salt=" + long + "00", "@example salt=" + strings.Repeat("00", 255)} {
		for what, claim := range claims {
			p, err := claim(longest(zone), zone, parseNSEC3(t, proofs), &Budget{})
			if err != nil || p.Trust != rrset.Insecure || p.Note == nil || p.Note.Code != ede.UnsupportedNSEC3Iterations {
				t.Errorf("%s by %s: %+v, %v", what, proofs, p, err)
			}
		}
	}
}

// TestProofCostsFewHashes: the walk begins at the zone, so that a long name costs
// no more than a short one, if only what exists is short.
func TestProofCostsFewHashes(t *testing.T) {
	zone := wire.MustParseName("example")
	b := NewBudget()
	p, err := DenyName(longest(zone), zone, parseNSEC3(t, "=example SOA NS\n<a.example\n<*.example"), b)
	if err != nil || p.Trust != rrset.Secure {
		t.Fatal(p, err)
	}
	if spent := DefaultHashes - b.Hashes; spent != 4 { // the name, its zone, the next closer name, the wildcard
		t.Errorf("%d hashes", spent)
	}
	b = NewBudget()
	if _, err = DenyName(wire.MustParseName("b.example"), zone, parseNSEC3(t, nxOfB), b); err != nil {
		t.Fatal(err)
	}
	if spent := DefaultHashes - b.Hashes; spent != 3 { // the name is the next closer one
		t.Errorf("%d hashes", spent)
	}
}

func TestNSECTakesNoHash(t *testing.T) {
	zone := wire.MustParseName("example")
	for what, claim := range claims {
		if _, err := claim(longest(zone), zone, parseNSEC(t, "example example SOA NS"), &Budget{}); errors.Is(err, ErrBudget) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestProofsLookedAtAreBounded(t *testing.T) {
	for _, c := range []struct {
		parse        func(testing.TB, string) []rrset.Set
		useless, use string
	}{
		{parseNSEC, "q.example r.example A\n", "example example SOA NS"},
		{parseNSEC3, "=q.example A\n", "@example SOA NS"},
	} {
		for n, want := range map[int]string{MaxProofs - 1: "secure", MaxProofs: ""} {
			proofs := c.parse(t, strings.Repeat(c.useless, n)+c.use)
			if got := prove(t, "example", "NX b.example", proofs); got != want {
				t.Errorf("behind %d records: %q, want %q", n, got, want)
			}
			one := proofs[0] // all in one set
			one.RRs = nil
			for _, s := range proofs[:n] {
				one.RRs = append(one.RRs, s.RRs...)
			}
			if got := prove(t, "example", "NX b.example", append([]rrset.Set{one}, proofs[n])); got != want {
				t.Errorf("behind a set of %d records: %q, want %q", n, got, want)
			}
		}
	}
}

// FuzzDenial takes records in wire format, one behind the other, for proofs.
func FuzzDenial(f *testing.F) {
	for _, z := range testZones {
		zone := parseZone(f, z.apex, z.text)
		nsec3, _ := zone.nsec3(true, "aabb", 1)
		for _, sets := range [][]rrset.Set{zone.nsec(), nsec3} {
			var records []byte
			for i := range sets[:min(3, len(sets))] {
				buf := make([]byte, 1024)
				n, err := dns.PackRR(sets[i].RRs[0], buf, 0, nil, false)
				if err != nil {
					f.Fatal(err)
				}
				records = append(records, buf[:n]...)
			}
			for _, name := range zone.around()[:10] {
				f.Add([]byte(zone.apex), []byte(name), uint16(wire.TypeA), records)
			}
		}
	}
	f.Fuzz(func(t *testing.T, zone, name []byte, qtype uint16, records []byte) {
		apex, err := wire.FromWire(zone)
		if err != nil {
			return
		}
		qname, err := wire.FromWire(name)
		if err != nil {
			return
		}
		var proofs []rrset.Set
		for off := 0; off < len(records); {
			rr, next, err := dns.UnpackRR(records, off)
			if err != nil || next <= off {
				break
			}
			off = next
			owner, err := wire.ParseName(rr.Header().Name)
			if err != nil {
				continue
			}
			proofs = append(proofs, rrset.Set{Name: owner, Type: wire.Type(rr.Header().Rrtype), RRs: []dns.RR{rr}})
		}
		all := maps.Clone(claims)
		all["DenyType fuzzed"] = denyType(wire.Type(qtype))
		for what, claim := range all {
			b := NewBudget()
			p, err := claim(qname, apex, proofs, b)
			switch _, known := errors.AsType[*ede.Error](err); {
			case b.Hashes < 0 || b.Verifications != DefaultVerifications:
				t.Errorf("%s leaves %+v", what, b)
			case err != nil && (!known || p != Proof{}):
				t.Errorf("%s: %+v, %v", what, p, err)
			case err == nil && p.Trust != rrset.Secure && p.Trust != rrset.Insecure:
				t.Errorf("%s: %+v", what, p)
			case err == nil && !qname.Within(apex):
				t.Errorf("%s proves something about %s in %s", what, qname, apex)
			}
		}
	})
}

func TestHashingAllocatesNothing(t *testing.T) {
	name, salt := wire.MustParseName("www.example.com"), []byte("salt")
	if n := testing.AllocsPerRun(100, func() { HashName(name, salt, 5) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestHashNameTakesTheLongestNameAndSalt(t *testing.T) {
	name := longest(wire.Root)
	salt := []byte(strings.Repeat("s", MaxSalt))
	if HashName(name, salt, 1) != HashName(name, append(salt, 0), 1) {
		t.Error("more than MaxSalt octets of salt are looked at")
	}
	if HashName(name, salt, 1) == HashName(name, salt[1:], 1) {
		t.Error("not all of the salt is looked at")
	}
	want := dns.HashName(name.String(), dns.SHA1, 1, strings.Repeat("73", MaxSalt))
	if got, _ := parseHash(want); got != HashName(name, salt, 1) {
		t.Errorf("another hash than %s", want)
	}
}

// TestProofsAllocateLittle: the next names of NSEC records, and the wildcard.
func TestProofsAllocateLittle(t *testing.T) {
	zone, name := wire.MustParseName("example"), wire.MustParseName("b.example")
	for _, c := range []struct {
		kind   string
		proofs []rrset.Set
		most   float64
	}{
		{"NSEC", parseNSEC(t, "example a.example SOA NS\na.example c.example A"), 3},
		{"NSEC3", parseNSEC3(t, nxOfB), 1},
	} {
		b := NewBudget()
		n := testing.AllocsPerRun(100, func() {
			b.Hashes = DefaultHashes
			if _, err := DenyName(name, zone, c.proofs, b); err != nil {
				t.Fatal(err)
			}
		})
		if n > c.most {
			t.Errorf("%s: %v allocations, want %v at most", c.kind, n, c.most)
		}
	}
}

func BenchmarkDenyName(b *testing.B) {
	zone, name := wire.MustParseName("example"), wire.MustParseName("b.example")
	iterations := func(n string) string {
		return strings.ReplaceAll(strings.ReplaceAll(nxOfB, "example\n", "example iterations="+n+"\n"), "SOA", "iterations="+n+" SOA")
	}
	for _, c := range []struct {
		kind   string
		proofs []rrset.Set
	}{
		{"NSEC", parseNSEC(b, "example a.example SOA NS\na.example c.example A")},
		{"NSEC3/0", parseNSEC3(b, iterations("0"))},
		{"NSEC3/50", parseNSEC3(b, iterations("50"))},
	} {
		b.Run(c.kind, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := DenyName(name, zone, c.proofs, &Budget{Hashes: 3}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkNSEC3Bomb is the most that one question can cost.
func BenchmarkNSEC3Bomb(b *testing.B) {
	zone := wire.MustParseName("example")
	name := longest(zone)
	proofs := parseNSEC3(b, strings.Repeat("=q.example iterations=50 salt="+long+"\n", MaxProofs))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DenyName(name, zone, proofs, NewBudget()); !errors.Is(err, ErrBudget) {
			b.Fatal(err)
		}
	}
}
