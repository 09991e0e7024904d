package cache

import (
	"crypto/sha1"
	"encoding/base32"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// spanSet returns a signed NSEC set that lives for an hour.
func spanSet(tb testing.TB, zone, owner, next string) rrset.Set {
	tb.Helper()
	sig := rr(tb, owner+" 300 IN RRSIG NSEC 13 1 300 20261231000000 20261101000000 1 "+zone+" "+strings.Repeat("A", 86)+"==").(*dns.RRSIG)
	return rrset.Set{
		Name: name(owner), Type: wire.TypeNSEC, RRs: rrs(tb, owner+" 300 IN NSEC "+next+" A RRSIG NSEC"), Sigs: []*dns.RRSIG{sig},
		Rank: rrset.AuthAuthority, Trust: rrset.Secure, Until: time.Now().Add(time.Hour),
	}
}

// soaSet returns a zone's SOA set.
func soaSet(tb testing.TB, zone string) rrset.Set {
	tb.Helper()
	return rrset.Set{
		Name: name(zone), Type: wire.TypeSOA, RRs: rrs(tb, zone+" 300 IN SOA ns."+zone+" host."+zone+" 1 2 3 4 60"),
		Trust: rrset.Secure, Until: time.Now().Add(time.Hour),
	}
}

func putSpan(tb testing.TB, m *Memory, zone, owner, next string) {
	tb.Helper()
	m.PutDenials(name(zone), []rrset.Set{soaSet(tb, zone), spanSet(tb, zone, owner, next)})
}

// hashedSet returns an NSEC3 set of example. from one hash to another.
func hashedSet(tb testing.TB, params string, from, to [20]byte) rrset.Set {
	tb.Helper()
	b32 := base32.HexEncoding
	owner := b32.EncodeToString(from[:]) + ".example."
	return rrset.Set{
		Name: name(owner), Type: wire.TypeNSEC3, RRs: rrs(tb, owner+" 300 IN NSEC3 1 0 "+params+" "+b32.EncodeToString(to[:])+" A RRSIG"),
		Trust: rrset.Secure, Until: time.Now().Add(time.Hour),
	}
}

// at returns the owner of the NSEC set about n, or "".
func at(m *Memory, zone, n string) string {
	s, ok := m.NSEC(name(zone), name(n))
	if !ok {
		return ""
	}
	return s.Name.String()
}

func TestSpanIsFoundByWhatIsInIt(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	for _, s := range [][2]string{{"example.", "b.example."}, {"b.example.", "x.d.example."}, {"m.example.", "example."}} {
		putSpan(t, m, "example.", s[0], s[1])
	}
	for n, want := range map[string]string{
		"example.": "example.", "a.example.": "example.", "z.a.example.": "example.", `\000.example.`: "example.",
		"b.example.": "b.example.", "a.b.example.": "b.example.", "c.example.": "b.example.", "d.example.": "b.example.", "a.d.example.": "b.example.",
		"x.d.example.": "", "y.d.example.": "", "e.example.": "", "l.example.": "",
		"m.example.": "m.example.", "z.example.": "m.example.", `\255.example.`: "m.example.",
	} {
		if got := at(m, "example.", n); got != want {
			t.Errorf("%s: the record of %q, want %q", n, got, want)
		}
	}
	if got := at(m, "test.", "a.test."); got != "" {
		t.Errorf("a zone that nothing is known of has the record of %s", got)
	}
	s, _ := m.NSEC(name("example."), name("c.example."))
	want := spanSet(t, "example.", "b.example.", "x.d.example.")
	if len(s.RRs) != 1 || !dns.IsDuplicate(s.RRs[0], want.RRs[0]) || len(s.Sigs) != 1 || !dns.IsDuplicate(s.Sigs[0], want.Sigs[0]) ||
		s.Trust != rrset.Secure || s.Type != wire.TypeNSEC {
		t.Errorf("the set is %+v", s)
	}
	if _, soa, ok := m.Chain(name("example.")); !ok || len(soa.RRs) != 1 {
		t.Errorf("the SOA set is %+v", soa)
	}
}

func TestHashSpanIsFoundByWhatIsInIt(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	hash := func(first byte) [20]byte { return [20]byte{first} }
	m.PutDenials(name("example."), []rrset.Set{
		hashedSet(t, "0 -", hash(10), hash(20)), hashedSet(t, "0 -", hash(20), hash(40)), hashedSet(t, "0 -", hash(200), hash(10)),
	})
	for first, want := range map[byte]struct {
		from      byte
		match, ok bool
	}{
		5: {200, false, true}, 10: {10, true, true}, 15: {10, false, true}, 20: {20, true, true}, 39: {20, false, true},
		40: {}, 100: {}, 200: {200, true, true}, 255: {200, false, true},
	} {
		s, match, ok := m.NSEC3(name("example."), hash(first))
		if match != want.match || ok != want.ok || ok && s.Name != hashedSet(t, "0 -", hash(want.from), hash(0)).Name {
			t.Errorf("%d: %v, match %v, ok %v; want %+v", first, s.Name, match, ok, want)
		}
	}
	if got := at(m, "example.", "a.example."); got != "" {
		t.Errorf("a chain of hashes has the NSEC record of %s", got)
	}
}

func TestAnotherChainTakesThePlaceOfAll(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	putSpan(t, m, "example.", "example.", "b.example.")
	for i, params := range []string{"0 -", "1 -", "1 ab", "1 cd"} {
		m.PutDenials(name("example."), []rrset.Set{hashedSet(t, params, [20]byte{10}, [20]byte{20})})
		if got := m.Stats().Denials.Entries; got != 1 {
			t.Errorf("%s: %d records are left", params, got)
		}
		c, soa, ok := m.Chain(name("example."))
		salt := []string{"", "", "\xab", "\xcd"}[i]
		if want := (rrset.Chain{Hashed: true, Iterations: uint16(min(i, 1)), Salt: salt}); !ok || c != want || len(soa.RRs) != 1 {
			t.Errorf("%s: the chain is %+v", params, c)
		}
	}
}

func TestNewerSpanEndsThoseInIt(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	for i := range 9 {
		putSpan(t, m, "example.", fmt.Sprintf("n%d.example.", i), fmt.Sprintf("n%d.example.", i+1))
	}
	putSpan(t, m, "example.", "n9.example.", "example.")
	putSpan(t, m, "example.", "n2.example.", "n7.example.")
	if got := at(m, "example.", "n4.example."); got != "n2.example." {
		t.Errorf("n4 is in the record of %q", got)
	}
	if got := m.Stats().Denials.Entries; got != 6 {
		t.Errorf("%d records, want 6", got)
	}
	putSpan(t, m, "example.", "n8.example.", "example.") // the last one now
	if got := m.Stats().Denials.Entries; got != 5 {
		t.Errorf("%d records, want 5", got)
	}
}

func TestDenialsEndWithTheirLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(MemoryOptions{})
		long := spanSet(t, "example.", "b.example.", "c.example.")
		long.Until = time.Now().Add(2 * time.Hour)
		m.PutDenials(name("example."), []rrset.Set{soaSet(t, "example."), spanSet(t, "example.", "a.example.", "b.example."), long})
		time.Sleep(time.Hour)
		if got := at(m, "example.", "aa.example.") + at(m, "example.", "bb.example."); got != "b.example." {
			t.Errorf("after an hour there is %q", got)
		}
		if _, soa, ok := m.Chain(name("example.")); !ok || len(soa.RRs) != 0 {
			t.Errorf("after an hour the SOA set is %+v", soa)
		}
	})
}

func TestDenialsThatSayTooMuchAreNotKept(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	big := spanSet(t, "example.", "b.example.", "c.example.")
	for range 30 {
		big.Sigs = append(big.Sigs, big.Sigs[0])
	}
	two := spanSet(t, "example.", "d.example.", "e.example.")
	two.RRs = append(two.RRs, two.RRs...)
	ended := spanSet(t, "example.", "f.example.", "g.example.")
	ended.Until = time.Now()
	m.PutDenials(name("example."), []rrset.Set{
		big, two, ended,
		spanSet(t, "example.", "a.example.", "test."), // out of the zone
		spanSet(t, "example.", "a.test.", "b.test."),
		spanSet(t, "example.", "b.example.", "a.example."), // backwards
		soaSet(t, "example."), soaSet(t, "test."),
	})
	if st := m.Stats().Denials; st.Entries != 0 || st.Zones != 0 || st.Bytes != 0 {
		t.Errorf("the statistics are %+v", st)
	}
}

func TestFlushForgetsTheDenialsOfAllZonesThatHaveAName(t *testing.T) {
	zones := []string{"example.", "a.example.", "b.a.example.", "c.example.", "test."}
	for scope, left := range map[Scope]int{
		{Name: name("x.a.example.")}:              3,
		{Name: name("a.example."), Below: true}:   2,
		{Name: name("b.a.example."), Type: 1}:     2,
		{Name: name("nowhere.")}:                  5,
		Everything:                                0,
		{Name: name("y.test."), Type: 1}:          4,
		{Name: name("example."), Below: true}:     1,
		{Name: name("w.b.a.example."), Type: 255}: 2,
	} {
		m := NewMemory(MemoryOptions{})
		for _, z := range zones {
			putSpan(t, m, z, z, "zz."+z)
		}
		if got := m.Flush(scope).Denials; got != len(zones)-left {
			t.Errorf("%+v: %d records are forgotten, want %d", scope, got, len(zones)-left)
		}
		if st := m.Stats().Denials; st.Entries != left || st.Zones != left || left == 0 && st.Bytes != 0 {
			t.Errorf("%+v: the statistics are %+v, want %d left", scope, st, left)
		}
	}
}

// TestOneZoneTakesAQuarterOfTheDenials: whoever has a zone can make records for
// it without end.
func TestOneZoneTakesAQuarterOfTheDenials(t *testing.T) {
	const limit = 4 << 20
	m := NewMemory(MemoryOptions{Bytes: limit})
	putSpan(t, m, "test.", "test.", "zz.test.")
	rng := rand.New(rand.NewPCG(3, 4))
	for range 10_000 {
		owner := fmt.Sprintf("a%x.example.", rng.Uint64())
		putSpan(t, m, "example.", owner, `\000.`+owner)
	}
	if st := m.Stats().Denials; st.Bytes > limit/8/zoneShare+16<<10 || st.Evicted == 0 || st.Zones != 2 {
		t.Errorf("the statistics are %+v", st)
	}
	if got := at(m, "test.", "a.test."); got == "" {
		t.Error("another zone's record was forgotten")
	}
}

// TestDenialsAreThoseOfAPlainSearch puts many spans in any order and compares
// with a list.
func TestDenialsAreThoseOfAPlainSearch(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 9))
	var hashes [][20]byte
	for i := range 3000 {
		hashes = append(hashes, sha1.Sum(fmt.Appendf(nil, "%d", i)))
	}
	slices.SortFunc(hashes, func(a, b [20]byte) int { return slices.Compare(a[:], b[:]) })
	m := NewMemory(MemoryOptions{})
	known := make(map[int]bool)
	for _, i := range rng.Perm(len(hashes))[:2000] {
		known[i] = true
		m.PutDenials(name("example."), []rrset.Set{hashedSet(t, "0 -", hashes[i], hashes[(i+1)%len(hashes)])})
	}
	if got := m.Stats().Denials.Entries; got != 2000 {
		t.Fatalf("%d records, want 2000", got)
	}
	for range 10_000 {
		var h [20]byte
		for i := range h {
			h[i] = byte(rng.Uint32())
		}
		if rng.IntN(2) == 0 {
			h = hashes[rng.IntN(len(hashes))]
		}
		i, match := slices.BinarySearchFunc(hashes, h, func(a, b [20]byte) int { return slices.Compare(a[:], b[:]) })
		if !match {
			i = (i + len(hashes) - 1) % len(hashes)
		}
		s, gotMatch, ok := m.NSEC3(name("example."), h)
		if ok != known[i] || ok && (gotMatch != match || s.Name != hashedSet(t, "0 -", hashes[i], h).Name) {
			t.Fatalf("%x: %v, match %v, ok %v; want number %d, match %v, ok %v", h, s.Name, gotMatch, ok, i, match, known[i])
		}
	}
}

func TestDenialsTakeReadersAndWritersAtOnce(t *testing.T) {
	m := NewMemory(MemoryOptions{Bytes: 1 << 20})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 1000 {
				zone := fmt.Sprintf("z%d.example.", i%7)
				owner := fmt.Sprintf("n%d-%d.%s", g, i, zone)
				putSpan(t, m, zone, owner, "zz."+zone)
				if s, ok := m.NSEC(name(zone), name("x."+owner)); ok && len(s.RRs) != 1 {
					t.Errorf("a set of %d records", len(s.RRs))
				}
				m.Chain(name(zone))
				if i%100 == 0 {
					m.Flush(Scope{Name: name(zone)})
					m.Stats()
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkDenials(b *testing.B) {
	m := NewMemory(MemoryOptions{Bytes: 1 << 30})
	for i := range 100_000 {
		putSpan(b, m, "example.", fmt.Sprintf("n%06d.example.", i), fmt.Sprintf("n%06d.example.", i+1))
	}
	zone := name("example.")
	hit, miss := name("n050000x.example."), name("o.example.")
	b.Run("hit", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.NSEC(zone, hit)
		}
	})
	b.Run("miss", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.NSEC(zone, miss)
		}
	})
	b.Run("put", func(b *testing.B) {
		sets := []rrset.Set{spanSet(b, "example.", "n050000.example.", "n050001.example.")}
		b.ReportAllocs()
		for b.Loop() {
			m.PutDenials(zone, sets)
		}
	})
}
