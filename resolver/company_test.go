package resolver

import (
	"fmt"
	"slices"
	"testing"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// companyOf returns the company of m, a response of example.com.'s to q.
func companyOf(t *testing.T, m *dns.Msg, q wire.Question) *company {
	t.Helper()
	r, err := New(Options{Exchanger: &scripted{}, Memory: nothing{}, Full: true})
	if err != nil {
		t.Fatal(err)
	}
	rep := r.judge(m, q, authority{cut: testCut("example.com")}, testNow)
	if rep.company == nil {
		t.Fatalf("%v: no company, verdict %v: %s", q, rep.Verdict, rep.Why)
	}
	return rep.company
}

func TestCompanyIsBounded(t *testing.T) {
	q := question("example.com MX")
	numbered := func(from, n int, format string) (text string) {
		for i := from; i < from+n; i++ {
			text += fmt.Sprintf(format+"\n", i)
		}
		return text
	}
	all := numbered(0, 2*maxPerSet, "h%d.example.com 300 A 192.0.2.1")
	for _, tt := range []struct {
		name           string
		r              response
		servers, addrs int
	}{
		{"few", response{an: numbered(0, 3, "example.com 300 MX 1 h%d.example.com"), ns: numbered(2, 3, "example.com 300 NS h%d.example.com"), ar: all}, 1, 5},
		{"many hosts", response{an: numbered(0, 30, "example.com 300 MX 1 h%d.example.com"), ns: numbered(30, 30, "example.com 300 NS h%d.example.com"), ar: all}, 1, 2 * maxAdditionalNames},
		{"too many servers", response{an: "example.com 300 MX 1 h0.example.com", ns: numbered(1, maxPerSet+1, "example.com 300 NS h%d.example.com"), ar: all}, 0, 1},
		{"many addresses", response{an: "example.com 300 MX 1 h0.example.com", ar: numbered(0, maxAdditionalAddrs, "h0.example.com 300 A 192.0.2.%d")}, 0, 1},
		{"too many addresses", response{
			an: "example.com 300 MX 1 h0.example.com\nexample.com 300 MX 2 h1.example.com",
			ar: numbered(0, maxPerSet+1, "h0.example.com 300 A 192.0.2.%d") + "h1.example.com 300 A 192.0.2.1",
		}, 0, 1},
	} {
		tt.r.flags = aa
		if c := companyOf(t, tt.r.msg(t, q), q); len(c.servers) != tt.servers || len(c.addrs) != tt.addrs {
			t.Errorf("%s: %d NS sets and %d of addresses, want %d and %d", tt.name, len(c.servers), len(c.addrs), tt.servers, tt.addrs)
		}
	}
}

func TestCompanyIsOfHostsInTheAnswer(t *testing.T) {
	for data, want := range map[string][]wire.Name{
		"a.example.com 300 NS h.example.com":                                              {"\x01h\x07example\x03com\x00"},
		"a.example.com 300 MX 1 h.example.com":                                            {"\x01h\x07example\x03com\x00"},
		"a.example.com 300 MX 1 h.example.com\na.example.com 300 MX 2 h.example.com":      {"\x01h\x07example\x03com\x00"},
		"a.example.com 300 SRV 1 1 53 h.example.com":                                      {"\x01h\x07example\x03com\x00"},
		"a.example.com 300 SVCB 1 h.example.com":                                          {"\x01h\x07example\x03com\x00"},
		"a.example.com 300 HTTPS 1 h.example.com":                                         {"\x01h\x07example\x03com\x00"},
		"a.example.com 300 TXT h.example.com":                                             nil,
		"a.example.com 300 PTR h.example.com":                                             nil,
		"a.example.com 300 SOA h.example.com h.example.com 1 1 1 1 1":                     nil,
		"a.example.com 300 NAPTR 1 1 \"s\" \"SIP+D2U\" \"\" _sip._udp.h.example.com":      nil,
		"a.example.com 300 MX 1 h.example.com\na.example.com 300 MX 2 other.example.net.": {"\x01h\x07example\x03com\x00", "\x05other\x07example\x03net\x00"},
	} {
		set := rrset.Set{RRs: records(t, data)}
		if got := targetsOf(set); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", data, got, want)
		}
	}
}

func TestDenialHasNoCompany(t *testing.T) {
	const soa = "example.com 300 SOA ns.example.com host.example.com 1 1 1 1 60\n"
	for name, tt := range map[string]struct {
		r       response
		q       string
		servers int
	}{
		"NXDOMAIN":                 {response{rcode: dns.RcodeNameError, ns: soa + "example.com 300 NS ns.example.com"}, "www.example.com A", 0},
		"NODATA":                   {response{ns: soa + "example.com 300 NS ns.example.com"}, "www.example.com A", 0},
		"NXDOMAIN without SOA":     {response{rcode: dns.RcodeNameError, ns: "example.com 300 NS ns.example.com"}, "www.example.com A", 0},
		"NODATA without SOA":       {response{ns: "example.com 300 NS ns.example.com"}, "www.example.com A", 1},
		"an alias that is denied":  {response{an: "www.example.com 300 CNAME a.example.com", ns: soa + "example.com 300 NS ns.example.com"}, "www.example.com A", 0},
		"a DS set, of its parent":  {response{an: "www.example.com 300 DS 1 8 2 00", ns: "example.com 300 NS ns.example.com"}, "www.example.com DS", 1},
		"a DS set, of its subject": {response{an: "www.example.com 300 DS 1 8 2 00", ns: "www.example.com 300 NS ns.example.com"}, "www.example.com DS", 0},
	} {
		tt.r.flags, tt.r.ar = aa, "ns.example.com 300 A 192.0.2.1"
		q := question(tt.q)
		if c := companyOf(t, tt.r.msg(t, q), q); len(c.servers) != tt.servers || len(c.addrs) != tt.servers {
			t.Errorf("%s: %d NS sets and %d of addresses, want %d of each", name, len(c.servers), len(c.addrs), tt.servers)
		}
	}
}

func TestAnswerWithNothingButCompanyIsNotKept(t *testing.T) { // RFC 2308 §5
	servers := []rrset.Set{{Name: wire.MustParseName("example.com."), Type: wire.TypeNS}}
	data := []rrset.Set{{Name: wire.MustParseName("example.com."), Type: wire.TypeA}}
	for _, tt := range []struct {
		ans  Answer
		c    company
		want bool
	}{
		{Answer{}, company{servers: servers}, true},
		{Answer{}, company{}, false},
		{Answer{Records: data}, company{servers: servers}, false},
		{Answer{Denial: data}, company{servers: servers}, false},
	} {
		if tt.ans.accompany(&tt.c); tt.ans.NoCache != tt.want {
			t.Errorf("%d records, %d in the denial: NoCache %v", len(tt.ans.Records), len(tt.ans.Denial), tt.ans.NoCache)
		}
	}
}
