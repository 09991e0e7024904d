package resolver

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

var (
	testNow  = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	testTTLs = TTLs{Max: 24 * time.Hour, MaxNegative: time.Hour}
)

// Flags of a response.
const (
	aa = 1 << iota
	ra
	tc
)

// response is one row's response, in the words of a zone file, one record a
// line.
type response struct {
	flags      int
	rcode      int
	an, ns, ar string
}

// msg returns r as it arrives: packed, sent and unpacked.
func (r response) msg(t testing.TB, q wire.Question) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(q.Name.String(), uint16(q.Type))
	m.Response, m.RecursionDesired, m.Compress = true, false, true
	m.Authoritative, m.RecursionAvailable, m.Truncated = r.flags&aa != 0, r.flags&ra != 0, r.flags&tc != 0
	m.Answer, m.Ns, m.Extra = records(t, r.an), records(t, r.ns), records(t, r.ar)
	m.SetEdns0(1232, false)
	m.Rcode = r.rcode
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	back := new(dns.Msg)
	if err := back.Unpack(b); err != nil {
		t.Fatal(err)
	}
	return back
}

// records reads lines of a zone file. A line of an owner, a type and no more is
// a record without RDATA.
func records(t testing.TB, text string) []dns.RR {
	t.Helper()
	var rrs []dns.RR
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) == 2 {
			typ := dns.StringToType[f[1]]
			rr := dns.TypeToRR[typ]()
			*rr.Header() = dns.RR_Header{Name: dns.Fqdn(f[0]), Rrtype: typ, Class: dns.ClassINET, Ttl: 300}
			rrs = append(rrs, rr)
			continue
		}
		rr, err := dns.NewRR(strings.TrimSpace(line))
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		rrs = append(rrs, rr)
	}
	return rrs
}

// question reads "name TYPE".
func question(s string) wire.Question {
	name, typ, _ := strings.Cut(s, " ")
	return wire.Question{Name: wire.MustParseName(name), Type: wire.Type(dns.StringToType[typ])}
}

func testCut(zone string) *rrset.Cut {
	return &rrset.Cut{Zone: wire.MustParseName(zone), Until: testNow.Add(24 * time.Hour)}
}

var (
	verdictNames = [...]string{"lame", "positive", "negative", "referral", "alias"}
	rankNames    = [...]string{"?", "additional", "authority", "non-auth", "auth-authority", "auth"}
)

// describe returns rep as the tables below spell it: the verdict first, then a
// line for each set (=), denial (-), server of a cut and so on.
func describe(rep *reply) string {
	var b strings.Builder
	b.WriteString(verdictNames[rep.Verdict])
	if rep.Rcode != wire.NoError {
		fmt.Fprintf(&b, " %v", rep.Rcode)
	}
	if rep.Why != "" {
		fmt.Fprintf(&b, ": %s", rep.Why)
	}
	for _, s := range rep.Sets {
		fmt.Fprintf(&b, "\n= %s", describeSet(s))
	}
	for _, s := range rep.Denial {
		fmt.Fprintf(&b, "\n- %v %v %v %s", s.Name, s.Type, s.Until.Sub(testNow), rankNames[s.Rank])
	}
	if rep.Target != "" {
		fmt.Fprintf(&b, "\n> %v", rep.Target)
	}
	if rep.Cut != nil {
		fmt.Fprintf(&b, "\ncut %v %v", rep.Cut.Zone, rep.Cut.Until.Sub(testNow))
		for _, s := range rep.Cut.Servers {
			fmt.Fprintf(&b, "\n@ %v", s.Host)
			for _, a := range s.Addrs {
				fmt.Fprintf(&b, " %v", a)
			}
		}
	}
	if rep.Fallback != nil {
		fmt.Fprintf(&b, "\nelse %s", strings.ReplaceAll(describe(rep.Fallback), "\n", "\n  "))
	}
	return b.String()
}

func describeSet(s rrset.Set) string {
	text := fmt.Sprintf("%v %v %v %s", s.Name, s.Type, s.Until.Sub(testNow), rankNames[s.Rank])
	for _, rr := range s.RRs {
		text += " " + strings.TrimPrefix(rr.String(), rr.Header().String())
	}
	if len(s.Sigs) > 0 {
		text += fmt.Sprintf(" +%d", len(s.Sigs))
	}
	return text
}

// Records that many rows have.
const (
	soa    = "example.com 3600 SOA ns1.example.com host.example.com 1 7200 3600 1209600 900\n"
	soaSig = "example.com 3600 RRSIG SOA 13 2 3600 20261201000000 20261101000000 7 example.com AAAA\n"
	ns     = "example.com 3600 NS ns1.example.com\n"
	nsAddr = "ns1.example.com 3600 A 192.0.2.53\n"
)

// row is one odd, or not so odd, server.
type row struct {
	name string
	q    string // default "www.example.com A"
	zone string // of the cut; default "example.com"
	response
	want string
}

func runRows(t *testing.T, rows []row) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			if r.q == "" {
				r.q = "www.example.com A"
			}
			if r.zone == "" {
				r.zone = "example.com"
			}
			q := question(r.q)
			got := describe(classify(r.msg(t, q), q, testCut(r.zone), testNow, testTTLs))
			if want := strings.ReplaceAll(strings.TrimSpace(r.want), "\t", ""); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestClassifyPositive(t *testing.T) {
	runRows(t, []row{
		{
			name:     "the data",
			response: response{flags: aa, an: "www.example.com 300 A 192.0.2.1\nwww.example.com 300 A 192.0.2.2", ns: ns, ar: nsAddr},
			want:     "positive\n= www.example.com. A 5m0s auth 192.0.2.1 192.0.2.2",
		},
		{
			name:     "AA clear",
			response: response{an: "www.example.com 300 A 192.0.2.1"},
			want:     "positive\n= www.example.com. A 5m0s non-auth 192.0.2.1",
		},
		{
			name:     "from an open resolver: the data is there, and as good as without AA",
			response: response{flags: ra, an: "www.example.com 300 A 192.0.2.1"},
			want:     "positive\n= www.example.com. A 5m0s non-auth 192.0.2.1",
		},
		{
			name:     "mixed case",
			response: response{flags: aa, an: "WwW.eXample.COM 300 A 192.0.2.1\nwww.EXAMPLE.com 300 A 192.0.2.2"},
			want:     "positive\n= www.example.com. A 5m0s auth 192.0.2.1 192.0.2.2",
		},
		{
			name:     "promiscuous NS and addresses: nothing but the data is used (CVE-2025-11411)",
			response: response{flags: aa, an: "www.example.com 300 A 192.0.2.1", ns: "example.com 3600 NS ns.evil.example", ar: "mail.example.com 300 A 192.0.2.66"},
			want:     "positive\n= www.example.com. A 5m0s auth 192.0.2.1",
		},
		{
			name:     "other names and types beside it",
			response: response{flags: aa, an: "mail.example.com 300 A 192.0.2.9\nwww.example.com 300 TXT x\nwww.example.com 300 A 192.0.2.1\nwww.example.net 300 A 192.0.2.9"},
			want:     "positive\n= www.example.com. A 5m0s auth 192.0.2.1",
		},
		{
			name:     "duplicates",
			response: response{flags: aa, an: strings.Repeat("www.example.com 300 A 192.0.2.1\n", 3)},
			want:     "positive\n= www.example.com. A 5m0s auth 192.0.2.1",
		},
		{
			name:     "TTLs differ: the least (RFC 2181 §5.2)",
			response: response{flags: aa, an: "www.example.com 300 A 192.0.2.1\nwww.example.com 60 A 192.0.2.2"},
			want:     "positive\n= www.example.com. A 1m0s auth 192.0.2.1 192.0.2.2",
		},
		{
			name:     "TTL with the top bit set is 0 (RFC 2181 §8)",
			response: response{flags: aa, an: "www.example.com 2147483648 A 192.0.2.1"},
			want:     "positive\n= www.example.com. A 0s auth 192.0.2.1",
		},
		{
			name:     "the largest TTL is cut to the bound",
			response: response{flags: aa, an: "www.example.com 2147483647 A 192.0.2.1"},
			want:     "positive\n= www.example.com. A 24h0m0s auth 192.0.2.1",
		},
		{
			name:     "signature, of a smaller TTL, and those of other sets",
			response: response{flags: aa, an: "www.example.com 300 A 192.0.2.1\nwww.example.com 200 RRSIG A 13 3 300 20261201000000 20261101000000 7 example.com AAAA\nwww.example.com 10 RRSIG TXT 13 3 300 20261201000000 20261101000000 7 example.com AAAA"},
			want:     "positive\n= www.example.com. A 3m20s auth 192.0.2.1 +1",
		},
		{
			name: "from a wildcard: the proof is kept (RFC 4035 §3.1.3.3)",
			response: response{
				flags: aa, an: "www.example.com 300 A 192.0.2.1\nwww.example.com 300 RRSIG A 13 2 300 20261201000000 20261101000000 7 example.com AAAA",
				ns: ns + "a.example.com 900 NSEC z.example.com A RRSIG NSEC\na.example.com 900 RRSIG NSEC 13 3 900 20261201000000 20261101000000 7 example.com AAAA",
			},
			want: "positive\n= www.example.com. A 5m0s auth 192.0.2.1 +1\n- a.example.com. NSEC 15m0s auth-authority",
		},
		{
			name: "not from a wildcard: no proof is kept",
			response: response{
				flags: aa, an: "www.example.com 300 A 192.0.2.1\nwww.example.com 300 RRSIG A 13 3 300 20261201000000 20261101000000 7 example.com AAAA",
				ns: "a.example.com 900 NSEC z.example.com A RRSIG NSEC",
			},
			want: "positive\n= www.example.com. A 5m0s auth 192.0.2.1 +1",
		},
		{
			name: "the wildcard itself is none of its own expansions (RFC 4034 §3.1.3)", q: "*.example.com A",
			response: response{
				flags: aa, an: "*.example.com 300 A 192.0.2.1\n*.example.com 300 RRSIG A 13 2 300 20261201000000 20261101000000 7 example.com AAAA",
				ns: "a.example.com 900 NSEC z.example.com A RRSIG NSEC",
			},
			want: "positive\n= *.example.com. A 5m0s auth 192.0.2.1 +1",
		},
		{
			name: "a question for signatures", q: "www.example.com RRSIG",
			response: response{flags: aa, an: "www.example.com 200 RRSIG A 13 3 300 20261201000000 20261101000000 7 example.com AAAA"},
			want:     "positive\n= www.example.com. RRSIG 3m20s auth A 13 3 300 20261201000000 20261101000000 7 example.com. AAAA",
		},
		{
			name: "parent and child on one server: the child's data, asked of the parent", zone: "com",
			response: response{flags: aa, an: "www.example.com 300 A 192.0.2.1", ns: ns, ar: nsAddr},
			want:     "positive\n= www.example.com. A 5m0s auth 192.0.2.1",
		},
		{
			name: "NS set of the zone itself", q: "example.com NS",
			response: response{flags: aa, an: ns, ar: nsAddr},
			want:     "positive\n= example.com. NS 1h0m0s auth ns1.example.com.",
		},
		{
			name: "NS set of the zone itself, AA clear", q: "example.com NS",
			response: response{an: ns, ar: nsAddr},
			want:     "positive\n= example.com. NS 1h0m0s non-auth ns1.example.com.",
		},
		{
			name: "DS set at a cut, from the parent", q: "example.com DS", zone: "com",
			response: response{flags: aa, an: "example.com 300 DS 1 13 2 AABB"},
			want:     "positive\n= example.com. DS 5m0s auth 1 13 2 AABB",
		},
		{
			name: "DS set in a referral", q: "example.com DS", zone: "com",
			response: response{ns: ns + "example.com 300 DS 1 13 2 AABB", ar: nsAddr},
			want:     "positive\n= example.com. DS 5m0s authority 1 13 2 AABB",
		},
		{
			name:     "with NXDOMAIN",
			response: response{flags: aa, rcode: dns.RcodeNameError, an: "www.example.com 300 A 192.0.2.1", ns: soa},
			want:     "lame NXDOMAIN: NXDOMAIN with the data\nelse positive\n  = www.example.com. A 5m0s auth 192.0.2.1",
		},
		{
			name:     "a record without RDATA among others (RFC 2136 §2.4 has such)",
			response: response{flags: aa, an: "www.example.com A\nwww.example.com 300 A 192.0.2.1"},
			want:     "positive\n= www.example.com. A 5m0s auth 192.0.2.1",
		},
	})
}

func TestClassifyAlias(t *testing.T) {
	runRows(t, []row{
		{
			name:     "chain inside the zone",
			response: response{flags: aa, an: "www.example.com 300 CNAME web.example.com\nweb.example.com 200 CNAME a.example.com\na.example.com 100 A 192.0.2.1"},
			want: `positive
				= www.example.com. CNAME 5m0s auth web.example.com.
				= web.example.com. CNAME 3m20s non-auth a.example.com.
				= a.example.com. A 1m40s non-auth 192.0.2.1`,
		},
		{
			name:     "chain in the wrong order",
			response: response{flags: aa, an: "a.example.com 100 A 192.0.2.1\nweb.example.com 200 CNAME a.example.com\nwww.example.com 300 CNAME web.example.com"},
			want: `positive
				= www.example.com. CNAME 5m0s auth web.example.com.
				= web.example.com. CNAME 3m20s non-auth a.example.com.
				= a.example.com. A 1m40s non-auth 192.0.2.1`,
		},
		{
			name:     "chain leaves the zone",
			response: response{flags: aa, an: "www.example.com 300 CNAME web.example.net"},
			want:     "alias\n= www.example.com. CNAME 5m0s auth web.example.net.\n> web.example.net.",
		},
		{
			name:     "chain leaves the zone, and the server goes on",
			response: response{flags: aa, an: "www.example.com 300 CNAME web.example.net\nweb.example.net 300 A 192.0.2.66"},
			want:     "alias\n= www.example.com. CNAME 5m0s auth web.example.net.\n> web.example.net.",
		},
		{
			name:     "chain leaves the zone and comes back",
			response: response{flags: aa, an: "www.example.com 300 CNAME web.example.net\nweb.example.net 300 CNAME a.example.com\na.example.com 300 A 192.0.2.66"},
			want:     "alias\n= www.example.com. CNAME 5m0s auth web.example.net.\n> web.example.net.",
		},
		{
			name:     "chain not ended by the server",
			response: response{flags: aa, an: "www.example.com 300 CNAME web.example.com"},
			want:     "alias\n= www.example.com. CNAME 5m0s auth web.example.com.\n> web.example.com.",
		},
		{
			name:     "with referral: the name at its end is asked for",
			response: response{flags: aa, an: "www.example.com 300 CNAME web.sub.example.com", ns: "sub.example.com 300 NS ns.sub.example.com", ar: "ns.sub.example.com 300 A 192.0.2.1"},
			want:     "alias\n= www.example.com. CNAME 5m0s auth web.sub.example.com.\n> web.sub.example.com.",
		},
		{
			name:     "with data of the same owner: it is not looked at (RFC 1034 §3.6.2)",
			response: response{flags: aa, an: "www.example.com 300 A 192.0.2.66\nwww.example.com 300 CNAME web.example.net"},
			want:     "alias\n= www.example.com. CNAME 5m0s auth web.example.net.\n> web.example.net.",
		},
		{
			name:     "two for one name (RFC 2181 §10.1)",
			response: response{flags: aa, an: "www.example.com 300 CNAME a.example.com\nwww.example.com 300 CNAME b.example.com"},
			want:     "lame: malformed alias",
		},
		{
			name: "two for one name, asked for", q: "www.example.com CNAME",
			response: response{flags: aa, an: "www.example.com 300 CNAME a.example.com\nwww.example.com 300 CNAME b.example.com"},
			want:     "lame: malformed alias",
		},
		{
			name:     "the same twice",
			response: response{flags: aa, an: "www.example.com 300 CNAME a.example.net\nwww.example.com 300 CNAME A.example.net"},
			want:     "alias\n= www.example.com. CNAME 5m0s auth a.example.net.\n> a.example.net.",
		},
		{
			name:     "without a target",
			response: response{flags: aa, an: "www.example.com CNAME\nwww.example.com 300 TXT x"},
			want:     "lame: malformed record",
		},
		{
			name:     "loop: found by whoever goes on, and no denial ends it",
			response: response{flags: aa, an: "www.example.com 300 CNAME a.example.com\na.example.com 300 CNAME www.example.com", ns: soa},
			want: `alias
				= www.example.com. CNAME 5m0s auth a.example.com.
				= a.example.com. CNAME 5m0s non-auth www.example.com.
				> www.example.com.`,
		},
		{
			name:     "to itself",
			response: response{flags: aa, an: "www.example.com 300 CNAME www.example.com"},
			want:     "alias\n= www.example.com. CNAME 5m0s auth www.example.com.\n> www.example.com.",
		},
		{
			name: "asked for", q: "www.example.com CNAME",
			response: response{flags: aa, an: "www.example.com 300 CNAME web.example.com\nweb.example.com 300 A 192.0.2.1"},
			want:     "positive\n= www.example.com. CNAME 5m0s auth web.example.com.",
		},
		{
			name: "NSEC beside it, asked for (RFC 4035 §2.5)", q: "www.example.com NSEC",
			response: response{flags: aa, an: "www.example.com 300 CNAME web.example.com\nwww.example.com 300 NSEC x.example.com CNAME RRSIG NSEC"},
			want:     "positive\n= www.example.com. NSEC 5m0s auth x.example.com. CNAME RRSIG NSEC",
		},
		{
			name: "instead of NSEC", q: "www.example.com NSEC",
			response: response{flags: aa, an: "www.example.com 300 CNAME web.example.net"},
			want:     "alias\n= www.example.com. CNAME 5m0s auth web.example.net.\n> web.example.net.",
		},
		{
			name: "from a wildcard: the proof is kept", q: "x.example.com A",
			response: response{
				flags: aa, an: "x.example.com 300 CNAME web.example.net\nx.example.com 300 RRSIG CNAME 13 2 300 20261201000000 20261101000000 7 example.com AAAA",
				ns: "a.example.com 900 NSEC z.example.com A RRSIG NSEC",
			},
			want: `alias
				= x.example.com. CNAME 5m0s auth web.example.net. +1
				- a.example.com. NSEC 15m0s auth-authority
				> web.example.net.`,
		},
		{
			name:     "ends in NXDOMAIN (RFC 6604 §3)",
			response: response{flags: aa, rcode: dns.RcodeNameError, an: "www.example.com 300 CNAME web.example.com", ns: soa},
			want:     "negative NXDOMAIN\n= www.example.com. CNAME 5m0s auth web.example.com.\n- example.com. SOA 15m0s auth-authority",
		},
		{
			name:     "ends in NODATA",
			response: response{flags: aa, an: "www.example.com 300 CNAME web.example.com", ns: soa},
			want:     "negative\n= www.example.com. CNAME 5m0s auth web.example.com.\n- example.com. SOA 15m0s auth-authority",
		},
		{
			name:     "ends in NXDOMAIN elsewhere, as this server believes",
			response: response{flags: aa, rcode: dns.RcodeNameError, an: "www.example.com 300 CNAME web.example.net", ns: soa},
			want:     "alias\n= www.example.com. CNAME 5m0s auth web.example.net.\n> web.example.net.",
		},
		{
			name:     "ends in NXDOMAIN without SOA: the name at its end is asked for",
			response: response{flags: aa, rcode: dns.RcodeNameError, an: "www.example.com 300 CNAME web.example.com"},
			want:     "alias\n= www.example.com. CNAME 5m0s auth web.example.com.\n> web.example.com.",
		},
		{
			name:     "ends in a resolver's denial: the name at its end is asked for",
			response: response{flags: ra, rcode: dns.RcodeNameError, an: "www.example.com 300 CNAME web.example.com", ns: soa},
			want:     "alias\n= www.example.com. CNAME 5m0s non-auth web.example.com.\n> web.example.com.",
		},
		{
			name:     "ends in YXDOMAIN elsewhere",
			response: response{flags: aa, rcode: dns.RcodeYXDomain, an: "www.example.com 300 CNAME web.example.com", ns: soa},
			want:     "alias\n= www.example.com. CNAME 5m0s auth web.example.com.\n> web.example.com.",
		},
		{
			name: "in place of the zone's own NS set", q: "example.com NS",
			response: response{flags: aa, an: "example.com 300 CNAME web.example.com\nweb.example.com 300 NS ns.evil.example"},
			want:     "lame: alias in place of the zone's NS set",
		},
	})
}

func TestClassifyDNAME(t *testing.T) {
	long := strings.Repeat(strings.Repeat("a", 63)+".", 3) + "example.com A"
	runRows(t, []row{
		{
			name: "with the server's CNAME", q: "www.old.example.com A",
			response: response{flags: aa, an: "old.example.com 300 DNAME new.example.com\nwww.old.example.com 300 CNAME www.new.example.com\nwww.new.example.com 100 A 192.0.2.1"},
			want: `positive
				= old.example.com. DNAME 5m0s auth new.example.com.
				= www.old.example.com. CNAME 5m0s auth www.new.example.com.
				= www.new.example.com. A 1m40s non-auth 192.0.2.1`,
		},
		{
			name: "without a CNAME", q: "www.old.example.com A",
			response: response{flags: aa, an: "old.example.com 300 DNAME example.net"},
			want: `alias
				= old.example.com. DNAME 5m0s auth example.net.
				= www.old.example.com. CNAME 5m0s auth www.example.net.
				> www.example.net.`,
		},
		{
			name: "with a wrong CNAME, before it", q: "www.old.example.com A",
			response: response{flags: aa, an: "www.old.example.com 300 CNAME www.evil.example\nold.example.com 300 DNAME example.net"},
			want: `alias
				= old.example.com. DNAME 5m0s auth example.net.
				= www.old.example.com. CNAME 5m0s auth www.example.net.
				> www.example.net.`,
		},
		{
			name: "with a wrong CNAME that was asked for", q: "www.old.example.com CNAME",
			response: response{flags: aa, an: "old.example.com 300 DNAME example.net\nwww.old.example.com 300 CNAME www.evil.example"},
			want: `positive
				= old.example.com. DNAME 5m0s auth example.net.
				= www.old.example.com. CNAME 5m0s auth www.example.net.`,
		},
		{
			name: "at the name itself: no alias (RFC 6672 §2.3)", q: "old.example.com A",
			response: response{flags: aa, an: "old.example.com 300 DNAME example.net\nold.example.com 300 A 192.0.2.1"},
			want:     "positive\n= old.example.com. A 5m0s auth 192.0.2.1",
		},
		{
			name: "asked for", q: "old.example.com DNAME",
			response: response{flags: aa, an: "old.example.com 300 DNAME example.net"},
			want:     "positive\n= old.example.com. DNAME 5m0s auth example.net.",
		},
		{
			name: "two for one owner (RFC 6672 §2.4)", q: "www.old.example.com A",
			response: response{flags: aa, an: "old.example.com 300 DNAME example.net\nold.example.com 300 DNAME example.org"},
			want:     "lame: malformed alias",
		},
		{
			name: "out of the zone", q: "www.old.example.com A", zone: "old.example.com",
			response: response{flags: aa, an: "example.com 300 DNAME evil.example\nwww.old.example.com 300 A 192.0.2.1"},
			want:     "positive\n= www.old.example.com. A 5m0s auth 192.0.2.1",
		},
		{
			name: "result too long (RFC 6672 §2.2)", q: long,
			response: response{flags: aa, rcode: dns.RcodeYXDomain, an: "example.com 300 DNAME " + strings.Repeat("b", 58) + ".net"},
			want:     "negative YXDOMAIN\n= example.com. DNAME 5m0s auth " + strings.Repeat("b", 58) + ".net.",
		},
		{
			name: "result too long, and the server does not say so", q: long,
			response: response{flags: aa, an: "example.com 300 DNAME " + strings.Repeat("b", 58) + ".net"},
			want:     "negative YXDOMAIN\n= example.com. DNAME 5m0s auth " + strings.Repeat("b", 58) + ".net.",
		},
		{
			name: "result just not too long", q: long,
			response: response{flags: aa, rcode: dns.RcodeYXDomain, an: "example.com 300 DNAME " + strings.Repeat("b", 57) + ".net"},
			want: `alias
				= example.com. DNAME 5m0s auth ` + strings.Repeat("b", 57) + `.net.
				= ` + strings.Repeat(strings.Repeat("a", 63)+".", 3) + `example.com. CNAME 5m0s auth ` + strings.Repeat(strings.Repeat("a", 63)+".", 3) + strings.Repeat("b", 57) + `.net.
				> ` + strings.Repeat(strings.Repeat("a", 63)+".", 3) + strings.Repeat("b", 57) + `.net.`,
		},
		{
			name:     "YXDOMAIN without one",
			response: response{flags: aa, rcode: dns.RcodeYXDomain, ns: soa},
			want:     "lame YXDOMAIN: YXDOMAIN without a DNAME record",
		},
		{
			name:     "YXDOMAIN with the data",
			response: response{flags: aa, rcode: dns.RcodeYXDomain, an: "www.example.com 300 A 192.0.2.1"},
			want:     "lame YXDOMAIN: YXDOMAIN with the data",
		},
		{
			name:     "YXDOMAIN with a DNAME record and the data",
			q:        "www.old.example.com A",
			response: response{flags: aa, rcode: dns.RcodeYXDomain, an: "old.example.com 300 DNAME new.example.com\nwww.new.example.com 300 A 192.0.2.1"},
			want:     "lame YXDOMAIN: YXDOMAIN with the data",
		},
	})
}

func TestClassifyNegative(t *testing.T) {
	runRows(t, []row{
		{
			name:     "NXDOMAIN",
			response: response{flags: aa, rcode: dns.RcodeNameError, ns: soa + soaSig},
			want:     "negative NXDOMAIN\n- example.com. SOA 15m0s auth-authority",
		},
		{
			name:     "NXDOMAIN, AA clear",
			response: response{rcode: dns.RcodeNameError, ns: soa},
			want:     "negative NXDOMAIN\n- example.com. SOA 15m0s authority",
		},
		{
			name:     "NXDOMAIN without SOA may not be kept (RFC 2308 §5)",
			response: response{flags: aa, rcode: dns.RcodeNameError},
			want:     "negative NXDOMAIN",
		},
		{
			name:     "NXDOMAIN without SOA, AA clear",
			response: response{rcode: dns.RcodeNameError},
			want:     "negative NXDOMAIN",
		},
		{
			name:     "NXDOMAIN with NS (RFC 2308 §2.1, type 1)",
			response: response{flags: aa, rcode: dns.RcodeNameError, ns: soa + ns, ar: nsAddr},
			want:     "negative NXDOMAIN\n- example.com. SOA 15m0s auth-authority",
		},
		{
			name:     "NXDOMAIN with upward referral",
			response: response{rcode: dns.RcodeNameError, ns: ". 3600 NS a.root-servers.net"},
			want:     "lame NXDOMAIN: referral with NXDOMAIN",
		},
		{
			name:     "NXDOMAIN of an open resolver",
			response: response{flags: ra, rcode: dns.RcodeNameError, ns: soa},
			want:     "lame NXDOMAIN: a resolver's answer\nelse negative NXDOMAIN\n  - example.com. SOA 15m0s authority",
		},
		{
			name:     "NXDOMAIN of an open resolver, without SOA",
			response: response{flags: ra, rcode: dns.RcodeNameError},
			want:     "lame NXDOMAIN: a resolver's answer\nelse negative NXDOMAIN",
		},
		{
			name:     "RA with AA is no open resolver's answer",
			response: response{flags: aa | ra, rcode: dns.RcodeNameError, ns: soa},
			want:     "negative NXDOMAIN\n- example.com. SOA 15m0s auth-authority",
		},
		{
			name:     "NODATA",
			response: response{flags: aa, ns: soa},
			want:     "negative\n- example.com. SOA 15m0s auth-authority",
		},
		{
			name:     "NODATA, AA clear",
			response: response{ns: soa},
			want:     "negative\n- example.com. SOA 15m0s authority",
		},
		{
			name:     "NODATA of an open resolver",
			response: response{flags: ra, ns: soa},
			want:     "lame: a resolver's answer\nelse negative\n  - example.com. SOA 15m0s authority",
		},
		{
			name:     "NODATA without SOA (RFC 2308 §2.2, type 3)",
			response: response{flags: aa},
			want:     "lame: empty answer\nelse negative",
		},
		{
			name:     "NODATA with the zone's NS set, without SOA",
			response: response{flags: aa, ns: ns, ar: nsAddr},
			want:     "negative",
		},
		{
			name:     "NODATA with SOA of another zone",
			response: response{flags: aa, ns: "other.example.com 300 SOA a b 1 2 3 4 5"},
			want:     "negative",
		},
		{
			name:     "NODATA with SOA from above the zone",
			response: response{flags: aa, ns: "com 300 SOA a b 1 2 3 4 5"},
			want:     "negative",
		},
		{
			name:     "NODATA with SOA from above the zone, AA clear",
			response: response{ns: "com 300 SOA a b 1 2 3 4 5"},
			want:     "lame: empty answer\nelse negative",
		},
		{
			name: "NODATA of the child, on its parent's server", zone: "com",
			response: response{flags: aa, ns: soa},
			want:     "negative\n- example.com. SOA 15m0s auth-authority",
		},
		{
			name:     "two SOA records are none",
			response: response{flags: aa, rcode: dns.RcodeNameError, ns: soa + "example.com 300 SOA a b 2 3 4 5 6"},
			want:     "negative NXDOMAIN",
		},
		{
			name:     "SOA TTL below MINIMUM (RFC 2308 §5)",
			response: response{flags: aa, ns: "example.com 60 SOA a b 1 2 3 4 900"},
			want:     "negative\n- example.com. SOA 1m0s auth-authority",
		},
		{
			name:     "MINIMUM below SOA TTL",
			response: response{flags: aa, ns: "example.com 900 SOA a b 1 2 3 4 60"},
			want:     "negative\n- example.com. SOA 1m0s auth-authority",
		},
		{
			name:     "both above the bound",
			response: response{flags: aa, ns: "example.com 86400 SOA a b 1 2 3 4 86400"},
			want:     "negative\n- example.com. SOA 1h0m0s auth-authority",
		},
		{
			name:     "MINIMUM with the top bit set",
			response: response{flags: aa, ns: "example.com 900 SOA a b 1 2 3 4 4294967295"},
			want:     "negative\n- example.com. SOA 0s auth-authority",
		},
		{
			name:     "with NSEC: all of it has the time of the denial (RFC 9077 §3)",
			response: response{flags: aa, rcode: dns.RcodeNameError, ns: soa + "a.example.com 3600 NSEC z.example.com A\nexample.com 3600 NSEC a.example.com NS SOA"},
			want: `negative NXDOMAIN
				- example.com. SOA 15m0s auth-authority
				- a.example.com. NSEC 15m0s auth-authority
				- example.com. NSEC 15m0s auth-authority`,
		},
		{
			name:     "with NSEC of a smaller TTL: nothing outlives its record",
			response: response{flags: aa, rcode: dns.RcodeNameError, ns: soa + "a.example.com 60 NSEC z.example.com A"},
			want: `negative NXDOMAIN
				- example.com. SOA 1m0s auth-authority
				- a.example.com. NSEC 1m0s auth-authority`,
		},
		{
			name:     "with signature of a smaller TTL",
			response: response{flags: aa, rcode: dns.RcodeNameError, ns: soa + strings.Replace(soaSig, "3600", "30", 1)},
			want:     "negative NXDOMAIN\n- example.com. SOA 30s auth-authority",
		},
		{
			name:     "with NSEC that reaches beyond the zone (CVE-2026-13321)",
			response: response{flags: aa, rcode: dns.RcodeNameError, ns: soa + "a.example.com 900 NSEC example.org A\nb.example.com 900 NSEC z.example.com A"},
			want: `negative NXDOMAIN
				- example.com. SOA 15m0s auth-authority
				- b.example.com. NSEC 15m0s auth-authority`,
		},
		{
			name: "DS set denied by the parent", q: "example.com DS", zone: "com",
			response: response{flags: aa, ns: "com 900 SOA a b 1 2 3 4 900"},
			want:     "negative\n- com. SOA 15m0s auth-authority",
		},
		{
			name: "DS set denied by the child, on its parent's server", q: "example.com DS", zone: "com",
			response: response{flags: aa, ns: soa},
			want:     "lame: the zone's own denial of its DS set\nelse negative",
		},
		{
			name: "DS set of the root", q: ". DS", zone: ".",
			response: response{flags: aa, ns: ". 900 SOA a b 1 2 3 4 900"},
			want:     "negative\n- . SOA 15m0s auth-authority",
		},
		{
			name: "DS set in a referral that has none: a server without DNSSEC", q: "example.com DS", zone: "com",
			response: response{ns: ns, ar: nsAddr},
			want:     "lame: referral for a DS question\nelse negative",
		},
	})
}

func TestClassifyReferral(t *testing.T) {
	runRows(t, []row{
		{
			name: "with glue", zone: "com",
			response: response{
				ns: ns + "example.com 7200 NS ns2.example.com",
				ar: nsAddr + "ns1.example.com 3600 AAAA 2001:db8::53\nns2.example.com 7200 A 192.0.2.54",
			},
			want: `referral
				cut example.com. 1h0m0s
				@ ns1.example.com. 192.0.2.53 2001:db8::53
				@ ns2.example.com. 192.0.2.54`,
		},
		{
			name: "glue out of bailiwick", zone: "com",
			response: response{ns: ns + "example.com 3600 NS ns.example.net", ar: nsAddr + "ns.example.net 3600 A 192.0.2.66"},
			want: `referral
				cut example.com. 1h0m0s
				@ ns1.example.com. 192.0.2.53
				@ ns.example.net.`,
		},
		{
			name: "glue of a sibling", zone: "com",
			response: response{ns: "example.com 3600 NS ns.other.com", ar: "ns.other.com 3600 A 192.0.2.1"},
			want:     "referral\ncut example.com. 1h0m0s\n@ ns.other.com. 192.0.2.1",
		},
		{
			name: "addresses of names that are no servers (CVE-2026-42960)", zone: "com",
			response: response{ns: ns, ar: nsAddr + "www.example.com 60 A 192.0.2.66\nbank.com 60 A 192.0.2.66"},
			want:     "referral\ncut example.com. 1h0m0s\n@ ns1.example.com. 192.0.2.53",
		},
		{
			name: "more than six addresses, some twice (CVE-2026-3592)", zone: "com",
			response: response{ns: ns, ar: nsAddr + nsAddr + lines(8, "ns1.example.com 3600 A 192.0.2.%d")},
			want:     "referral\ncut example.com. 1h0m0s\n@ ns1.example.com. 192.0.2.53 192.0.2.0 192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4",
		},
		{
			name: "more than thirteen servers, some twice (NXNSAttack)", zone: "com",
			response: response{ns: ns + ns + lines(135, "example.com 3600 NS n%d.victim.example")},
			want:     "referral\ncut example.com. 1h0m0s\n@ ns1.example.com." + strings.TrimSuffix("\n"+lines(12, "@ n%d.victim.example."), "\n"),
		},
		{
			name: "TTL least of the NS set", zone: "com",
			response: response{ns: ns + "example.com 60 NS ns2.example.com", ar: nsAddr},
			want:     "referral\ncut example.com. 1m0s\n@ ns1.example.com. 192.0.2.53\n@ ns2.example.com.",
		},
		{
			name: "TTL least of the glue", zone: "com",
			response: response{ns: ns, ar: nsAddr + "ns1.example.com 60 AAAA 2001:db8::53"},
			want:     "referral\ncut example.com. 1m0s\n@ ns1.example.com. 192.0.2.53 2001:db8::53",
		},
		{
			name: "TTL that of the cut above at most", zone: "com",
			response: response{ns: "example.com 604800 NS ns1.example.com"},
			want:     "referral\ncut example.com. 24h0m0s\n@ ns1.example.com.",
		},
		{
			name: "with AA, as some servers set it", zone: "com",
			response: response{flags: aa, ns: ns, ar: nsAddr},
			want:     "referral\ncut example.com. 1h0m0s\n@ ns1.example.com. 192.0.2.53",
		},
		{
			name: "with RA", zone: "com",
			response: response{flags: ra, ns: ns, ar: nsAddr},
			want:     "referral\ncut example.com. 1h0m0s\n@ ns1.example.com. 192.0.2.53",
		},
		{
			name: "in the answer section", q: "example.com NS", zone: "com",
			response: response{an: ns, ar: nsAddr},
			want:     "referral\ncut example.com. 1h0m0s\n@ ns1.example.com. 192.0.2.53",
		},
		{
			name: "over several labels", zone: ".",
			response: response{ns: ns, ar: nsAddr},
			want:     "referral\ncut example.com. 1h0m0s\n@ ns1.example.com. 192.0.2.53",
		},
		{
			name: "to the name itself", q: "sub.example.com A",
			response: response{ns: "sub.example.com 300 NS ns.sub.example.com"},
			want:     "referral\ncut sub.example.com. 5m0s\n@ ns.sub.example.com.",
		},
		{
			name: "towards a DS set", q: "example.co.uk DS", zone: "uk",
			response: response{ns: "co.uk 300 NS ns.co.uk"},
			want:     "referral\ncut co.uk. 5m0s\n@ ns.co.uk.",
		},
		{
			name: "servers without names", zone: "com",
			response: response{ns: "example.com NS\nexample.com NS"},
			want:     "lame: referral sideways",
		},
	})
}

func TestClassifyLame(t *testing.T) {
	runRows(t, []row{
		{name: "REFUSED", response: response{rcode: dns.RcodeRefused}, want: "lame REFUSED: REFUSED"},
		{name: "SERVFAIL", response: response{rcode: dns.RcodeServerFailure}, want: "lame SERVFAIL: SERVFAIL"},
		{name: "FORMERR", response: response{rcode: dns.RcodeFormatError}, want: "lame FORMERR: FORMERR"},
		{name: "NOTIMP", response: response{rcode: dns.RcodeNotImplemented}, want: "lame NOTIMP: NOTIMP"},
		{name: "BADVERS", response: response{rcode: dns.RcodeBadVers}, want: "lame BADVERS: BADVERS"},
		{name: "extended rcode whose low bits are NXDOMAIN's", response: response{flags: aa, rcode: 16 + 3, ns: soa}, want: "lame RCODE19: RCODE19"},
		{name: "SERVFAIL with the data", response: response{flags: aa, rcode: dns.RcodeServerFailure, an: "www.example.com 300 A 192.0.2.1"}, want: "lame SERVFAIL: SERVFAIL"},
		{
			name: "truncated (RFC 2181 §9)", response: response{flags: aa | tc, an: "www.example.com 300 A 192.0.2.1"},
			want: "lame: truncated answer",
		},
		{name: "empty", response: response{}, want: "lame: empty answer\nelse negative"},
		{name: "empty, of an open resolver", response: response{flags: ra}, want: "lame: a resolver's answer\nelse negative"},
		{name: "referral upwards", response: response{ns: "com 3600 NS a.gtld-servers.net"}, want: "lame: referral upwards"},
		{name: "referral to the root", response: response{ns: ". 3600 NS a.root-servers.net", ar: "a.root-servers.net 60 A 198.41.0.4"}, want: "lame: referral upwards"},
		{name: "referral upwards, with AA", response: response{flags: aa, ns: "com 3600 NS a.gtld-servers.net"}, want: "lame: referral upwards"},
		{name: "referral to itself", response: response{ns: ns, ar: nsAddr}, want: "lame: referral to itself"},
		{name: "referral sideways", response: response{ns: "other.example.com 3600 NS ns1.example.com", ar: nsAddr}, want: "lame: referral sideways"},
		{name: "referral to somebody else's zone", response: response{ns: "example.net 3600 NS ns1.example.net"}, want: "lame: referral sideways"},
		{
			name: "referral below the name", q: "example.com A", zone: "com",
			response: response{ns: "www.example.com 3600 NS ns1.example.com"},
			want:     "lame: referral sideways",
		},
		{
			name: "referral to two zones", q: "example.com A", zone: "com",
			response: response{ns: "www.example.com 3600 NS ns1.example.com\nexample.net 3600 NS ns1.example.net"},
			want:     "lame: referral sideways",
		},
		{
			name:     "other classes",
			response: response{flags: aa, an: "www.example.com 300 CH A 192.0.2.1\nwww.example.com 300 HS A 192.0.2.1"},
			want:     "lame: answer to another question\nelse negative",
		},
		{
			name:     "signature without the data",
			response: response{flags: aa, an: "www.example.com 200 RRSIG A 13 3 300 20261201000000 20261101000000 7 example.com AAAA"},
			want:     "lame: answer to another question\nelse negative",
		},
		{
			name:     "another type",
			response: response{flags: aa, an: "www.example.com 300 TXT x"},
			want:     "lame: answer to another question\nelse negative",
		},
		{
			name:     "another name's data",
			response: response{flags: aa, an: "mail.example.com 300 A 192.0.2.1"},
			want:     "lame: answer to another question\nelse negative",
		},
		{
			name:     "no RDATA",
			response: response{flags: aa, an: "www.example.com A"},
			want:     "lame: answer to another question\nelse negative",
		},
	})
}

// lines returns n lines, format filled with 0 to n−1.
func lines(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format+"\n", i)
	}
	return b.String()
}

func TestClassifyEndsACutWithTheOneAbove(t *testing.T) {
	q := question("www.example.com A")
	r := response{ns: ns, ar: nsAddr}
	above := testCut("com")
	above.Until = testNow.Add(time.Minute)
	if got := classify(r.msg(t, q), q, above, testNow, testTTLs); !got.Cut.Until.Equal(above.Until) {
		t.Errorf("cut ends after %v, want 1m0s: a child outlives its parent (ghost domain)", got.Cut.Until.Sub(testNow))
	}
	above.Until = time.Time{} // hints: for ever
	if got := classify(r.msg(t, q), q, above, testNow, testTTLs); got.Cut.Until.Sub(testNow) != time.Hour {
		t.Errorf("cut below the hints ends after %v, want 1h0m0s", got.Cut.Until.Sub(testNow))
	}
}

func TestClassifyRaisesTTLsToTheLeast(t *testing.T) {
	ttls := TTLs{Min: 2 * time.Minute, Max: time.Hour, MaxNegative: time.Minute}
	for _, tt := range []struct {
		name string
		q    string
		zone string
		response
		want time.Duration
	}{
		{"data", "www.example.com A", "example.com", response{flags: aa, an: "www.example.com 5 A 192.0.2.1"}, 2 * time.Minute},
		{"denial, which has a bound of its own", "www.example.com A", "example.com", response{flags: aa, ns: "example.com 5 SOA a b 1 2 3 4 5"}, time.Minute},
		{"cut", "www.example.com A", "com", response{ns: "example.com 5 NS ns1.example.com"}, 2 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := question(tt.q)
			rep := classify(tt.msg(t, q), q, testCut(tt.zone), testNow, ttls)
			var until time.Time
			switch rep.Verdict {
			case Positive:
				until = rep.Sets[0].Until
			case Negative:
				until = rep.Denial[0].Until
			case Referral:
				until = rep.Cut.Until
			}
			if got := until.Sub(testNow); got != tt.want {
				t.Errorf("kept for %v, want %v", got, tt.want)
			}
		})
	}
}

// TestDenialsWithoutSOARecordHaveTheirBound asks where nothing but NSEC records,
// with a TTL of a day, say what is not there.
func TestDenialsWithoutSOARecordHaveTheirBound(t *testing.T) {
	for name, r := range map[string]response{
		"NODATA":             {flags: aa, ns: "www.example.com 86400 NSEC z.example.com AAAA"},
		"NODATA, a fallback": {ns: "www.example.com 86400 NSEC z.example.com AAAA"},
		"NXDOMAIN":           {flags: aa, rcode: dns.RcodeNameError, ns: "a.example.com 86400 NSEC z.example.com A"},
		"unsigned referral":  {ns: "www.example.com 86400 NS ns.example.net\nwww.example.com 86400 NSEC z.example.com NS"},
	} {
		q := question("www.example.com A")
		rep := classify(r.msg(t, q), q, testCut("example.com"), testNow, testTTLs)
		if rep.Fallback != nil {
			rep = rep.Fallback
		}
		sets := rep.Denial
		if rep.Cut != nil && rep.Cut.DS != nil {
			sets = append(rep.Cut.DS.Denial.Sets, *rep.Cut.DS)
		}
		if len(sets) == 0 {
			t.Errorf("%s: no denial: %s", name, describe(rep))
		}
		for _, s := range sets {
			if got := s.Until.Sub(testNow); got != testTTLs.MaxNegative {
				t.Errorf("%s: %v %v is kept for %v, want %v", name, s.Name, s.Type, got, testTTLs.MaxNegative)
			}
		}
	}
}

func TestClassifyRespellsOwnersAlike(t *testing.T) {
	q := question("www.example.com A")
	r := response{flags: aa, an: "WWW.example.com 300 A 192.0.2.1\nwww.EXAMPLE.com 300 A 192.0.2.2\nwwW.example.com 300 RRSIG A 13 3 300 20261201000000 20261101000000 7 example.com AAAA"}
	set := classify(r.msg(t, q), q, testCut("example.com"), testNow, testTTLs).Sets[0]
	for _, rr := range append(set.RRs, set.Sigs[0]) {
		if got := rr.Header().Name; got != "www.example.com." {
			t.Errorf("owner %q, want it in lower case", got)
		}
	}
}

func TestClassifyGivesTheAddressesOfTheZonesOwnServers(t *testing.T) {
	q := question(". NS")
	r := response{
		flags: aa,
		an:    ". 3600 NS a.root-servers.net\n. 3600 NS b.root-servers.net",
		ar:    "a.root-servers.net 3600 A 198.41.0.4\na.root-servers.net 3600 AAAA 2001:503:ba3e::2:30\nwww.example.com 60 A 192.0.2.66",
	}
	rep := classify(r.msg(t, q), q, testCut("."), testNow, testTTLs)
	a := wire.MustParseName("a.root-servers.net.")
	if rep.Verdict != Positive || len(rep.Glue) != 1 || len(rep.Glue[a]) != 2 ||
		rep.Glue[a][0] != netip.MustParseAddr("198.41.0.4") || rep.Glue[a][1] != netip.MustParseAddr("2001:503:ba3e::2:30") {
		t.Errorf("verdict %v, glue %v", rep.Verdict, rep.Glue)
	}
}

func TestAliasesOfAReplyAreCountedByName(t *testing.T) {
	q := question("www.old.example.com A")
	r := response{flags: aa, an: "old.example.com 300 DNAME new.example.com\nwww.new.example.com 300 CNAME web.example.net"}
	rep := classify(r.msg(t, q), q, testCut("example.com"), testNow, testTTLs)
	if got := rep.aliases(); got != 2 {
		t.Errorf("%d aliases, want 2: a DNAME record and its CNAME record are one step", got)
	}
}
