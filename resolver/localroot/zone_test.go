package localroot

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// records returns the records of text, with names relative to origin.
func records(t *testing.T, origin, text string) []dns.RR {
	t.Helper()
	zp := dns.NewZoneParser(strings.NewReader(text), origin, "")
	var rrs []dns.RR
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		rrs = append(rrs, rr)
	}
	if err := zp.Err(); err != nil {
		t.Fatal(err)
	}
	return rrs
}

// file returns the content of a file in testdata.
func file(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// root returns the zone of testdata/root.zone.
func root(t *testing.T) *zone {
	t.Helper()
	z, err := build(records(t, ".", file(t, "root.zone")))
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// section returns records as "owner TYPE", with the type covered for RRSIG.
func section(rrs []dns.RR) string {
	var out []string
	for _, rr := range rrs {
		text := rr.Header().Name + " " + dns.TypeToString[rr.Header().Rrtype]
		if sig, ok := rr.(*dns.RRSIG); ok {
			text += "(" + dns.TypeToString[sig.TypeCovered] + ")"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

func TestAnswerIsWhatARootServerWouldSay(t *testing.T) {
	const (
		referral = ": com. NS, com. NS, com. DS, com. RRSIG(DS): ns1.com. A, ns1.com. AAAA, ns2.net. A"
		soa      = ". SOA, . RRSIG(SOA)"
		apex     = ". NSEC, . RRSIG(NSEC)"
	)
	for ask, want := range map[string]string{
		"com. A":              "NOERROR" + referral,
		"com. NS":             "NOERROR" + referral,
		"www.example.com. MX": "NOERROR" + referral,
		"ns1.com. A":          "NOERROR" + referral,
		"www.net. A":          "NOERROR: net. NS, net. NSEC, net. RRSIG(NSEC): ns2.net. A",
		"com. DS":             "NOERROR aa com. DS, com. RRSIG(DS): : ",
		"net. DS":             "NOERROR aa: " + soa + ", net. NSEC, net. RRSIG(NSEC): ",
		"example.com. DS":     "NOERROR" + referral,
		". NS":                "NOERROR aa . NS, . RRSIG(NS): : ns.root. A",
		". SOA":               "NOERROR aa " + soa + ": : ",
		". DNSKEY":            "NOERROR aa . DNSKEY: : ",
		". DS":                "NOERROR aa: " + soa + ", " + apex + ": ",
		". A":                 "NOERROR aa: " + soa + ", " + apex + ": ",
		"ns.root. A":          "NOERROR aa ns.root. A, ns.root. RRSIG(A): : ",
		"ns.root. AAAA":       "NOERROR aa: " + soa + ", ns.root. NSEC, ns.root. RRSIG(NSEC): ",
		"root. A":             "NOERROR aa: " + soa + ", net. NSEC, net. RRSIG(NSEC): ", // it has a name below it
		"x.root. A":           "NXDOMAIN aa: " + soa + ", ns.root. NSEC, ns.root. RRSIG(NSEC), net. NSEC, net. RRSIG(NSEC): ",
		"a. A":                "NXDOMAIN aa: " + soa + ", " + apex + ": ",
		"www.test. DS":        "NXDOMAIN aa: " + soa + ", ns.root. NSEC, ns.root. RRSIG(NSEC), " + apex + ": ",
		"nfl. A":              "NXDOMAIN aa: " + soa + ", net. NSEC, net. RRSIG(NSEC), " + apex + ": ",
	} {
		name, typ, _ := strings.Cut(ask, " ")
		q := wire.Question{Name: wire.MustParseName(name), Type: wire.Type(dns.StringToType[typ])}
		m := root(t).answer(q)
		if m == nil {
			t.Errorf("%s: no answer", ask)
			continue
		}
		got := dns.RcodeToString[m.Rcode]
		if m.Authoritative {
			got += " aa"
		}
		if m.Answer != nil {
			got += " " + section(m.Answer)
		}
		got += ": " + section(m.Ns) + ": " + section(m.Extra)
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", ask, got, want)
		}
		if m.Question[0].Name != name || !m.Response {
			t.Errorf("%s: header %v", ask, m)
		}
		if _, err := m.Pack(); err != nil {
			t.Errorf("%s: %v", ask, err)
		}
	}
}

func TestAnswerLeavesOddQuestionsToTheRoot(t *testing.T) {
	for _, typ := range []uint16{dns.TypeANY, dns.TypeAXFR, dns.TypeRRSIG, dns.TypeOPT} {
		if m := root(t).answer(wire.Question{Name: wire.Root, Type: wire.Type(typ)}); m != nil {
			t.Errorf("%s: got %v", dns.TypeToString[typ], m)
		}
	}
}

func TestAnswerSharesNothingWithTheZone(t *testing.T) {
	z := root(t)
	for _, q := range []wire.Question{
		{Name: wire.MustParseName("com."), Type: wire.TypeA},
		{Name: wire.Root, Type: wire.TypeNS},
		{Name: wire.MustParseName("nothing."), Type: wire.TypeA},
	} {
		before := z.answer(q).String()
		m := z.answer(q)
		for _, rr := range slices.Concat(m.Answer, m.Ns, m.Extra) {
			rr.Header().Name, rr.Header().Ttl = "changed.", 1
		}
		if after := z.answer(q).String(); after != before {
			t.Errorf("%v: a change of one answer reached the next", q)
		}
	}
}

func TestAnswerOfAnUnsignedZoneHasNoProof(t *testing.T) {
	z, err := build(records(t, ".", ". 1 SOA . . 1 1 1 1 1\n. 1 NS ns.test.\ntest. 1 NS ns.test."))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"nothing.": ". SOA", "a.test.": "test. NS"} {
		m := z.answer(wire.Question{Name: wire.MustParseName(name), Type: wire.TypeA})
		if got := section(m.Ns); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestBuildRefusesWhatIsNoRootZone(t *testing.T) {
	const good = ". 1 SOA . . 1 1 1 1 1\n. 1 NS ns.test.\n"
	var many strings.Builder
	for i := range maxPerSet + 1 {
		fmt.Fprintf(&many, "test. 1 NS n%d.test.\n", i)
	}
	for text, want := range map[string]error{
		good:                                  nil,
		good + good:                           nil, // duplicates
		good + "test. 1 CH TXT x\n":           nil, // another class
		"":                                    errSOA,
		". 1 NS ns.test.\n":                   errSOA,
		good + ". 1 SOA . . 2 1 1 1 1\n":      errSOA,
		"test. 1 SOA . . 1 1 1 1 1\n":         errSOA,
		". 1 SOA . . 1 1 1 1 1\n":             errServers,
		good + "a.test. 1 CNAME b.test.\n":    errOdd,
		good + "test. 1 DNAME b.test.\n":      errOdd,
		good + "*.test. 1 A 192.0.2.1\n":      errOdd,
		good + many.String():                  errTooMany,
		good + "test. 1 NS ns.test.\n; end\n": nil,
	} {
		if _, err := build(records(t, ".", text)); !errors.Is(err, want) {
			t.Errorf("%.200q: %v, want %v", text, err, want)
		}
	}
}

func TestCanonicalKeySortsAsRFC4034Does(t *testing.T) {
	// RFC 4034 §6.1.
	names := []string{
		"example.", "a.example.", "yljkjljk.a.example.", "Z.a.example.", "zABC.a.EXAMPLE.",
		"z.example.", `\001.z.example.`, "*.z.example.", `\200.z.example.`,
	}
	names = append([]string{".", `\000.`, `\000\000.`, `\000\001.`, `a.\000\001.`, `\001.`, `\002.`}, names...)
	for i := 1; i < len(names); i++ {
		a, b := canonicalKey(wire.MustParseName(names[i-1])), canonicalKey(wire.MustParseName(names[i]))
		if a >= b {
			t.Errorf("%s (%q) does not come before %s (%q)", names[i-1], a, names[i], b)
		}
	}
}
