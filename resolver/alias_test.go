package resolver

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

func TestFollowStopsAfterSoManyAliases(t *testing.T) {
	q := question("n0.example.com A")
	var an strings.Builder
	for i := range 200 {
		fmt.Fprintf(&an, "n%d.example.com 300 CNAME n%d.example.com\n", i, i+1)
	}
	an.WriteString("n200.example.com 300 A 192.0.2.1\n")
	rep := classify(response{flags: aa, an: an.String()}.msg(t, q), q, testCut("example.com"), testNow, testTTLs)
	want := wire.MustParseName(fmt.Sprintf("n%d.example.com.", maxAliases))
	if rep.Verdict != Alias || rep.aliases() != maxAliases || rep.Target != want {
		t.Errorf("verdict %v after %d aliases, on to %v; want an alias after %d, on to %v", rep.Verdict, rep.aliases(), rep.Target, maxAliases, want)
	}
}

func TestFollowStopsADNAMEThatFeedsOnItself(t *testing.T) {
	q := question("www.example.com A")
	r := response{flags: aa, an: "example.com 300 DNAME a.example.com"} // www.a, www.a.a, www.a.a.a …
	rep := classify(r.msg(t, q), q, testCut("example.com"), testNow, testTTLs)
	if rep.Verdict != Alias || rep.aliases() != maxAliases {
		t.Errorf("verdict %v after %d aliases, want an alias after %d", rep.Verdict, rep.aliases(), maxAliases)
	}
}

func TestAliasTarget(t *testing.T) {
	tests := []struct {
		name, text, want string
		ok               bool
	}{
		{"one", "a.example 1 CNAME B.example", "b.example.", true},
		{"to the root", "a.example 1 CNAME .", ".", true},
		{"none", "", "", false},
		{"two", "a.example 1 CNAME b.example\na.example 1 CNAME c.example", "", false},
		{"of another type", "a.example 1 A 192.0.2.1", "", false},
		{"without a target", "a.example CNAME", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := aliasTarget(rrset.Set{RRs: records(t, tt.text)})
			var want wire.Name
			if tt.ok {
				want = wire.MustParseName(tt.want)
			}
			if ok != tt.ok || got != want {
				t.Errorf("got %q, %v", got, ok)
			}
		})
	}
}

func TestSubstitute(t *testing.T) {
	label := func(n int) string { return strings.Repeat("a", n) + "." }
	tests := []struct {
		name, q, dname string
		want           string // "" too long
		ok             bool
	}{
		// RFC 6672 §2.2, table 1
		{"one label", "a.example.com.", "example.com 1 DNAME example.net", "a.example.net.", true},
		{"two labels", "a.x.example.com.", "x.example.com 1 DNAME example.net", "a.example.net.", true},
		{"several labels", "a.b.example.com.", "example.com 1 DNAME example.net", "a.b.example.net.", true},
		{"within itself", "a.x.example.com.", "example.com 1 DNAME x.example.com", "a.x.x.example.com.", true},
		{"to the root", "cyc.example.com.", "example.com 1 DNAME .", "cyc.", true},
		{"of the root", "shortloop.x.", "x 1 DNAME .", "shortloop.", true},
		{"255 octets", label(63) + label(63) + label(63) + "x.", "x 1 DNAME " + label(61), label(63) + label(63) + label(63) + label(61), true},
		{"256 octets", label(63) + label(63) + label(63) + "x.", "x 1 DNAME " + label(62), "", true},
		{"without a target", "a.example.com.", "example.com DNAME", "", false},
		{"of another type", "a.example.com.", "example.com 1 A 192.0.2.1", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rrs := records(t, tt.dname)
			d := rrset.Set{Name: wire.MustParseName(rrs[0].Header().Name), Type: wire.TypeDNAME, RRs: rrs, Rank: rrset.AuthAnswer, Until: testNow}
			name := wire.MustParseName(tt.q)
			next, sets, ok := substitute(name, d)
			if ok != tt.ok {
				t.Fatalf("ok %v, want %v", ok, tt.ok)
			}
			if !ok {
				return
			}
			if tt.want == "" {
				if next != "" || len(sets) != 1 {
					t.Errorf("got %v and %d sets, want none and the DNAME set", next, len(sets))
				}
				return
			}
			if next.String() != tt.want || len(sets) != 2 {
				t.Fatalf("got %v and %d sets, want %s and 2", next, len(sets), tt.want)
			}
			cname := sets[1]
			target, ok := aliasTarget(cname)
			if !ok || target != next || cname.Name != name || cname.Rank != d.Rank || !cname.Until.Equal(d.Until) {
				t.Errorf("CNAME set %+v", cname)
			}
			if ttl := cname.RRs[0].Header().Ttl; ttl != rrs[0].Header().Ttl { // RFC 6672 §3.1
				t.Errorf("CNAME with TTL %d, DNAME with %d", ttl, rrs[0].Header().Ttl)
			}
		})
	}
}

func TestExpandedCountsLabels(t *testing.T) {
	tests := []struct {
		owner  string
		labels uint8
		want   bool
	}{
		{"www.example.com.", 3, false},
		{"www.example.com.", 2, true},
		{"*.example.com.", 2, false},
		{"*.example.com.", 1, true},
		{"*a.example.com.", 2, true},
		{".", 0, false},
	}
	for _, tt := range tests {
		s := rrset.Set{Name: wire.MustParseName(tt.owner), Sigs: []*dns.RRSIG{{Labels: tt.labels}}}
		if got := expanded(s); got != tt.want {
			t.Errorf("%s with %d labels signed: expanded %v, want %v", tt.owner, tt.labels, got, tt.want)
		}
	}
}

func BenchmarkClassify(b *testing.B) {
	long := response{flags: aa, rcode: dns.RcodeNameError, ns: soa + lines(maxRecords, "n%d.example.com 900 NSEC z.example.com A")}
	for name, r := range map[string]response{"referral": seeds[6], "answer": seeds[0], "chain": seeds[1], "500 records": long} {
		b.Run(name, func(b *testing.B) {
			q := question("www.example.com A")
			m := r.msg(b, q)
			cut := testCut("com")
			b.ReportAllocs()
			for b.Loop() {
				classify(m, q, cut, testNow, testTTLs)
			}
		})
	}
}
