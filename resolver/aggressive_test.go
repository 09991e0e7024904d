package resolver

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/cache"
	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// trusting has a trust anchor for the root.
type trusting struct{}

func (trusting) Closest(wire.Name) (wire.Name, []*dns.DS, bool) { return wire.Root, nil, true }
func (trusting) Negative(wire.Name) *ede.Error                  { return nil }

// deducing returns a resolver that remembers, of example., which is secure, the
// records with the given spans.
func deducing(tb testing.TB, hashed bool) *Resolver {
	tb.Helper()
	m := cache.NewMemory(cache.MemoryOptions{})
	r, err := New(Options{Exchanger: &scripted{}, Memory: m, Anchors: trusting{}, AggressiveNSEC: true})
	if err != nil {
		tb.Fatal(err)
	}
	until := time.Now().Add(time.Hour)
	zone := wire.MustParseName("example.")
	m.PutLink(&rrset.Link{Zone: zone, Trust: rrset.Secure, Since: time.Now(), Until: until})
	set := func(text string) rrset.Set {
		rr, err := dns.NewRR(text)
		if err != nil {
			tb.Fatal(err)
		}
		h := rr.Header()
		sig, err := dns.NewRR(fmt.Sprintf("%s 300 IN RRSIG %s 8 %d 300 20261231000000 20261101000000 1 example. %sAA==", h.Name,
			dns.TypeToString[h.Rrtype], dns.CountLabel(h.Name), strings.Repeat("A", 340)))
		if err != nil {
			tb.Fatal(err)
		}
		return rrset.Set{
			Name: wire.MustParseName(h.Name), Type: wire.Type(h.Rrtype), RRs: []dns.RR{rr}, Sigs: []*dns.RRSIG{sig.(*dns.RRSIG)},
			Trust: rrset.Secure, Until: until,
		}
	}
	sets := []rrset.Set{set("example. 300 IN SOA ns.example. host.example. 1 2 3 4 300")}
	if !hashed {
		sets = append(sets, set("example. 300 IN NSEC a.example. NS SOA RRSIG NSEC"), set("m.example. 300 IN NSEC w.example. A RRSIG NSEC"))
		m.PutDenials(zone, sets)
		return r
	}
	hash := dns.HashName("example.", dns.SHA1, 0, "")
	sets = append(sets,
		set(hash+".example. 300 IN NSEC3 1 0 0 - "+hash[:31]+"V NS SOA RRSIG"), // just behind it
		set(hash[:31]+"V.example. 300 IN NSEC3 1 0 0 - "+hash+" A RRSIG"),      // all the others
	)
	m.PutDenials(zone, sets)
	return r
}

func TestDeductionNeedsNoServer(t *testing.T) {
	for _, hashed := range []bool{false, true} {
		r := deducing(t, hashed)
		q := wire.Question{Name: wire.MustParseName("random.example."), Type: wire.TypeA}
		rep, ok := r.deduce(q)
		if !ok || rep.Rcode != wire.NXDomain || len(rep.Denial) != 3 || rep.trust() != rrset.Secure {
			t.Errorf("hashed %v: %+v, %v", hashed, rep, ok)
		}
	}
}

// TestDeductionTakesNoMoreHashesThanItsLimit: a name of many labels below the
// zone would take one for each (CVE-2023-50868).
func TestDeductionTakesNoMoreHashesThanItsLimit(t *testing.T) {
	r := deducing(t, true)
	for labels, want := range map[int]bool{1: true, maxDeducedHashes - 2: true, maxDeducedHashes - 1: false, 100: false} {
		before := r.Stats().Hashes
		_, ok := r.deduce(wire.Question{Name: wire.MustParseName(strings.Repeat("a.", labels) + "example."), Type: wire.TypeA})
		if used := r.Stats().Hashes - before; ok != want || used > maxDeducedHashes {
			t.Errorf("%d labels: %v after %d hashes, want %v", labels, ok, used, want)
		}
	}
}

// TestNarrowSpansAreNotRemembered: they deny next to nothing.
func TestNarrowSpansAreNotRemembered(t *testing.T) {
	r := deducing(t, false)
	zone := wire.MustParseName("example.")
	hash := func(first byte) string {
		return fmt.Sprintf("%c%c", "0123456789abcdefghijklmnopqrstuv"[first>>3], "0123456789abcdefghijklmnopqrstuv"[first&7<<2]) + strings.Repeat("0", 30)
	}
	span := func(text string) rrset.Set {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		return rrset.Set{Name: wire.MustParseName(rr.Header().Name), Type: wire.Type(rr.Header().Rrtype), RRs: []dns.RR{rr}, Trust: rrset.Secure}
	}
	wide := span(hash(1) + ".example. 300 IN NSEC3 1 0 0 - " + hash(2) + " A")
	narrow := span(hash(1) + ".example. 300 IN NSEC3 1 0 0 - " + hash(1)[:8] + "1" + strings.Repeat("0", 23) + " A")
	costly := span(hash(1) + ".example. 300 IN NSEC3 1 0 51 - " + hash(2) + " A")
	for _, tt := range []struct {
		name string
		sets []rrset.Set
		want bool
	}{
		{"wide", []rrset.Set{wide}, true},
		{"narrow", []rrset.Set{narrow}, false},
		{"narrow and wide", []rrset.Set{narrow, wide}, true},
		{"costly", []rrset.Set{costly}, false},
		{"the only one", []rrset.Set{span(hash(1) + ".example. 300 IN NSEC3 1 0 0 - " + hash(1) + " A")}, true},
		{"nothing in it", []rrset.Set{span(`a.example. 300 IN NSEC \000.a.example. A`)}, false},
		{"something in it", []rrset.Set{span(`a.example. 300 IN NSEC b.example. A`)}, true},
	} {
		if got := r.ofUse(&proof{zone: zone, sets: tt.sets}); got != tt.want {
			t.Errorf("%s: of use: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func BenchmarkDeduce(b *testing.B) {
	for name, hashed := range map[string]bool{"NSEC": false, "NSEC3": true} {
		b.Run(name, func(b *testing.B) {
			r := deducing(b, hashed)
			q := wire.Question{Name: wire.MustParseName("random.example."), Type: wire.TypeA}
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := r.deduce(q); !ok {
					b.Fatal("not deduced")
				}
			}
		})
	}
}
