package simnet_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"shirube/internal/simnet"
	"shirube/internal/wire"
)

const exampleZone = `
@               SOA   ns1 hostmaster 1 2 3 4 60
@               NS    ns1
@               NS    ns.sibling
@         7200  MX    10 www
ns1             A     192.0.2.1
www             A     192.0.2.80
www             A     192.0.2.81
www             AAAA  2001:db8::80
a.b.c           TXT   "deep"
alias           CNAME www
alias2          CNAME alias
out             CNAME www.example.net.
down            CNAME www.child
gone            CNAME nosuch
empty           CNAME b.c
loop1           CNAME loop2
loop2           CNAME loop1
*.wild          TXT   "any"
exists.wild     A     192.0.2.2
*.walias        CNAME www
x.*.star        A     192.0.2.3
old             DNAME new
old             TXT   "at the DNAME"
hidden.old      A     192.0.2.4
www.new         A     192.0.2.5
far             DNAME example.net.
long            DNAME a.label.that.makes.names.long.enough.to.burst
child           NS    ns.child
child           NS    ns.sibling
child           NS    ns.example.net.
child           DS    1 13 2 0000000000000000000000000000000000000000000000000000000000000000
ns.child        A     192.0.2.6
ns.child        AAAA  2001:db8::6
sibling         NS    ns.sibling
ns.sibling      A     192.0.2.7
below.child     A     192.0.2.8
https           HTTPS 1 . alpn=h2,h3
`

// denial is the SOA record of exampleZone as it goes with a denial.
const denial = "60 SOA example."

// show returns what matters of m: rcode and flags, then each record.
func show(m *dns.Msg) []string {
	head := wire.Rcode(m.Rcode).String()
	if m.Authoritative {
		head += " AA"
	}
	out := []string{head}
	for i, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			switch h := rr.Header(); {
			case h.Rrtype == dns.TypeOPT:
			case h.Rrtype == dns.TypeSOA && i == 1:
				out = append(out, fmt.Sprint(h.Ttl, " SOA ", h.Name))
			default:
				rdata := strings.ReplaceAll(strings.TrimPrefix(rr.String(), h.String()), "example.", "")
				out = append(out, fmt.Sprintf("%s %s %s %s", []string{"an", "ns", "ar"}[i],
					strings.TrimSuffix(h.Name, "example."), dns.TypeToString[h.Rrtype], rdata))
			}
		}
	}
	return out
}

func query(name string, typ uint16) *dns.Msg { return new(dns.Msg).SetQuestion(name, typ) }

func mustZone(t *testing.T, origin, text string) *simnet.Zone {
	t.Helper()
	z, err := simnet.ParseZone(origin, text)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestServerAnswersByRFC1034Algorithm(t *testing.T) {
	burst := strings.Repeat(strings.Repeat("x", 63)+".", 3) + strings.Repeat("y", 30)
	referral := []string{
		"NOERROR",
		"ns child. NS ns.child.", "ns child. NS ns.sibling.", "ns child. NS ns.net.",
		"ar ns.child. A 192.0.2.6", "ar ns.child. AAAA 2001:db8::6", "ar ns.sibling. A 192.0.2.7",
	}
	for _, tt := range []struct {
		what, name string
		typ        uint16
		want       []string
	}{
		{"an RRset", "www", dns.TypeA, []string{"NOERROR AA", "an www. A 192.0.2.80", "an www. A 192.0.2.81"}},
		{"a type the parser knows", "https", dns.TypeHTTPS, []string{"NOERROR AA", `an https. HTTPS 1 . alpn="h2,h3"`}},
		{"NS at the apex with addresses", "", dns.TypeNS, []string{
			"NOERROR AA", "an  NS ns1.", "an  NS ns.sibling.", "ar ns1. A 192.0.2.1", "ar ns.sibling. A 192.0.2.7",
		}},
		{"ANY", "www", dns.TypeANY, []string{
			"NOERROR AA", "an www. A 192.0.2.80", "an www. A 192.0.2.81", "an www. AAAA 2001:db8::80",
		}},
		{"ANY at an alias", "alias", dns.TypeANY, []string{"NOERROR AA", "an alias. CNAME www."}},
		{"no such type", "www", dns.TypeMX, []string{"NOERROR AA", denial}},
		{"no such name", "nosuch", dns.TypeA, []string{"NXDOMAIN AA", denial}},
		{"no such name below a leaf", "x.www", dns.TypeA, []string{"NXDOMAIN AA", denial}},
		{"empty non-terminal", "b.c", dns.TypeA, []string{"NOERROR AA", denial}},
		{"empty non-terminal, ANY", "c", dns.TypeANY, []string{"NOERROR AA", denial}},

		{"alias", "alias", dns.TypeAAAA, []string{"NOERROR AA", "an alias. CNAME www.", "an www. AAAA 2001:db8::80"}},
		{"two aliases", "alias2", dns.TypeAAAA, []string{
			"NOERROR AA", "an alias2. CNAME alias.", "an alias. CNAME www.", "an www. AAAA 2001:db8::80",
		}},
		{"the alias itself", "alias", dns.TypeCNAME, []string{"NOERROR AA", "an alias. CNAME www."}},
		{"alias to no such type", "alias", dns.TypeMX, []string{"NOERROR AA", "an alias. CNAME www.", denial}},
		{"alias to an empty non-terminal", "empty", dns.TypeA, []string{"NOERROR AA", "an empty. CNAME b.c.", denial}},
		{"alias to no such name", "gone", dns.TypeA, []string{"NXDOMAIN AA", "an gone. CNAME nosuch.", denial}},
		{"alias out of the zone", "out", dns.TypeA, []string{"NOERROR AA", "an out. CNAME www.net."}},
		{"alias below a cut", "down", dns.TypeA, slices.Concat(
			[]string{"NOERROR AA", "an down. CNAME www.child."}, referral[1:],
		)},
		{"alias loop", "loop1", dns.TypeA, []string{"NOERROR AA", "an loop1. CNAME loop2.", "an loop2. CNAME loop1."}},

		{"referral", "www.child", dns.TypeA, referral},
		{"referral at the cut", "child", dns.TypeNS, referral},
		{"referral for occluded data", "below.child", dns.TypeA, referral},
		{"referral for DS below the cut", "x.child", dns.TypeDS, referral},
		{"DS at the cut", "child", dns.TypeDS, []string{"NOERROR AA", "an child. DS 1 13 2 " + strings.Repeat("0", 64)}},
		{"no DS at the cut", "sibling", dns.TypeDS, []string{"NOERROR AA", denial}},

		{"wildcard", "x.wild", dns.TypeTXT, []string{"NOERROR AA", `an x.wild. TXT "any"`}},
		{"wildcard over several labels", "x.y.wild", dns.TypeTXT, []string{"NOERROR AA", `an x.y.wild. TXT "any"`}},
		{"wildcard without the type", "x.wild", dns.TypeA, []string{"NOERROR AA", denial}},
		{"wildcard, ANY", "x.wild", dns.TypeANY, []string{"NOERROR AA", `an x.wild. TXT "any"`}},
		{"the wildcard itself", "*.wild", dns.TypeTXT, []string{"NOERROR AA", `an *.wild. TXT "any"`}},
		{"a name beside the wildcard", "exists.wild", dns.TypeTXT, []string{"NOERROR AA", denial}},
		{"no such name below it", "x.exists.wild", dns.TypeTXT, []string{"NXDOMAIN AA", denial}},
		{"wildcard alias", "x.walias", dns.TypeAAAA, []string{
			"NOERROR AA", "an x.walias. CNAME www.", "an www. AAAA 2001:db8::80",
		}},
		{"wildcard that is an empty non-terminal", "y.star", dns.TypeA, []string{"NOERROR AA", denial}},

		{"DNAME", "www.old", dns.TypeA, []string{
			"NOERROR AA", "an old. DNAME new.", "an www.old. CNAME www.new.", "an www.new. A 192.0.2.5",
		}},
		{"DNAME hides what is below it", "hidden.old", dns.TypeA, []string{
			"NXDOMAIN AA", "an old. DNAME new.", "an hidden.old. CNAME hidden.new.", denial,
		}},
		{"the alias that follows from a DNAME", "nosuch.old", dns.TypeCNAME, []string{
			"NOERROR AA", "an old. DNAME new.", "an nosuch.old. CNAME nosuch.new.",
		}},
		{"other data at the DNAME", "old", dns.TypeTXT, []string{"NOERROR AA", `an old. TXT "at the DNAME"`}},
		{"the DNAME itself", "old", dns.TypeDNAME, []string{"NOERROR AA", "an old. DNAME new."}},
		{"DNAME out of the zone", "a.b.far", dns.TypeA, []string{
			"NOERROR AA", "an far. DNAME net.", "an a.b.far. CNAME a.b.net.",
		}},
		{"DNAME to a name too long", burst + ".long", dns.TypeA, []string{
			"YXDOMAIN AA", "an long. DNAME a.label.that.makes.names.long.enough.to.burst.",
		}},

		{"other zone", "www.example.net.", dns.TypeA, []string{"REFUSED"}},
		{"zone transfer", "", dns.TypeAXFR, []string{"NOTIMP"}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			s := simnet.NewServer(mustZone(t, "example.", exampleZone))
			name := tt.name
			if !strings.HasSuffix(name, ".") {
				name = strings.TrimPrefix(name+".example.", ".")
			}
			got := s.Answer(query(name, tt.typ))
			if !slices.Equal(show(got), tt.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(show(got), "\n"), strings.Join(tt.want, "\n"))
			}
			if _, err := got.Pack(); err != nil {
				t.Errorf("cannot be packed: %v", err)
			}
		})
	}
}

func TestServerAnswersFromClosestZone(t *testing.T) {
	parent := mustZone(t, "example.", "child NS ns.child\nchild DS 1 13 2 00\nns.child A 192.0.2.6")
	child := mustZone(t, "child.example.", "www A 192.0.2.9")
	root := mustZone(t, ".", "example. NS ns.example.\nns.example. A 192.0.2.1")
	for _, tt := range []struct {
		what  string
		zones []*simnet.Zone
		typ   uint16
		name  string
		want  []string
	}{
		{"data of the child", []*simnet.Zone{parent, child}, dns.TypeA, "www.child.example.", []string{"NOERROR AA", "an www.child. A 192.0.2.9"}},
		{"DS of the parent", []*simnet.Zone{parent, child}, dns.TypeDS, "child.example.", []string{"NOERROR AA", "an child. DS 1 13 2 00"}},
		{"DS where only the child is", []*simnet.Zone{child}, dns.TypeDS, "child.example.", []string{"NOERROR AA", "300 SOA child.example."}},
		{"DS where the grandparent is too", []*simnet.Zone{root, child}, dns.TypeDS, "child.example.", []string{"NOERROR AA", "300 SOA child.example."}},
		{"DS of the root", []*simnet.Zone{root}, dns.TypeDS, ".", []string{"NOERROR AA", "300 SOA ."}},
		{"referral of the grandparent", []*simnet.Zone{root, child}, dns.TypeA, "x.example.", []string{"NOERROR", "ns  NS ns.", "ar ns. A 192.0.2.1"}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			got := show(simnet.NewServer(tt.zones...).Answer(query(tt.name, tt.typ)))
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestServerWithReplacesZone(t *testing.T) {
	before := simnet.NewServer(mustZone(t, "example.", "www A 192.0.2.1"))
	after := before.With(mustZone(t, "example.", "www A 192.0.2.2"))
	for s, want := range map[*simnet.Server]string{before: "192.0.2.1", after: "192.0.2.2"} {
		if got := show(s.Answer(query("www.example.", dns.TypeA)))[1]; got != "an www. A "+want {
			t.Errorf("got %q, want %s", got, want)
		}
	}
}

func TestServerKeepsSpellingOfSynthesisedOwner(t *testing.T) {
	s := simnet.NewServer(mustZone(t, "example.", exampleZone))
	for name, typ := range map[string]uint16{"wWw.WiLd.example.": dns.TypeTXT, "wWw.oLd.example.": dns.TypeCNAME} {
		m := s.Answer(query(name, typ))
		if !slices.ContainsFunc(m.Answer, func(rr dns.RR) bool { return rr.Header().Name == name }) {
			t.Errorf("%s: not the owner in %v", name, m.Answer)
		}
	}
}

func TestServerEDNS(t *testing.T) {
	s := simnet.NewServer(mustZone(t, "example.", exampleZone))

	if opt := s.Answer(query("www.example.", dns.TypeA)).IsEdns0(); opt != nil {
		t.Errorf("OPT %v in the answer to a query without", opt)
	}
	opt := s.Answer(query("www.example.", dns.TypeA).SetEdns0(4096, true)).IsEdns0()
	if opt == nil || opt.UDPSize() != 1232 || !opt.Do() {
		t.Errorf("got OPT %v, want size 1232 and DO", opt)
	}
	versioned := query("www.example.", dns.TypeA).SetEdns0(4096, false)
	versioned.IsEdns0().SetVersion(1)
	if m := s.Answer(versioned); m.Rcode != dns.RcodeBadVers || m.IsEdns0() == nil || len(m.Answer) != 0 {
		t.Errorf("version 1: got %v, want BADVERS", m)
	}
}

func TestServerTurnsAwayOddQueries(t *testing.T) {
	s := simnet.NewServer(mustZone(t, "example.", exampleZone))
	two := query("www.example.", dns.TypeA)
	two.Question = append(two.Question, two.Question[0])
	none := query("www.example.", dns.TypeA)
	none.Question = nil
	update := query("www.example.", dns.TypeA)
	update.Opcode = dns.OpcodeUpdate
	chaos := query("www.example.", dns.TypeA)
	chaos.Question[0].Qclass = dns.ClassCHAOS
	for _, tt := range []struct {
		what  string
		query *dns.Msg
		want  int
	}{
		{"two questions", two, dns.RcodeFormatError},
		{"no question", none, dns.RcodeFormatError},
		{"update", update, dns.RcodeNotImplemented},
		{"class CH", chaos, dns.RcodeRefused},
		{"a name that is none", query("a..b.", dns.TypeA), dns.RcodeFormatError},
	} {
		if got := s.Answer(tt.query); got.Rcode != tt.want || len(got.Answer) != 0 || !got.Response {
			t.Errorf("%s: got %s, want %s", tt.what, dns.RcodeToString[got.Rcode], dns.RcodeToString[tt.want])
		}
	}
}

func TestServerEndsLongChain(t *testing.T) {
	var text strings.Builder
	for i := range 40 {
		text.WriteString("n" + strconv.Itoa(i) + " CNAME n" + strconv.Itoa(i+1) + "\n")
	}
	m := simnet.NewServer(mustZone(t, "example.", text.String())).Answer(query("n0.example.", dns.TypeA))
	if len(m.Answer) != 16 || m.Rcode != dns.RcodeSuccess {
		t.Errorf("got %d aliases and %s, want 16 and NOERROR", len(m.Answer), dns.RcodeToString[m.Rcode])
	}
}

func TestParseZone(t *testing.T) {
	for _, tt := range []struct{ what, origin, text, wantErr string }{
		{"relative names and default TTL", "example.", "www A 192.0.2.1", ""},
		{"origin without a final dot", "example", "www A 192.0.2.1", ""},
		{"duplicates", "example.", "www A 192.0.2.1\nwww 60 A 192.0.2.1", ""},
		{"not an origin", "a..b", "", "origin"},
		{"not a record", "example.", "www A not-an-address", "bad A"},
		{"record out of the zone", "example.", "www.example.net. A 192.0.2.1", "out of zone"},
		{"two SOA records", "example.", "@ SOA a b 1 1 1 1 1\n@ SOA a b 2 1 1 1 1", "2 SOA"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			z, err := simnet.ParseZone(tt.origin, tt.text)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("got error %v, want one with %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if z.Origin() != wire.MustParseName("example.") {
				t.Errorf("got origin %s", z.Origin())
			}
			m := simnet.NewServer(z).Answer(query("www.example.", dns.TypeA))
			if len(m.Answer) != 1 || m.Answer[0].Header().Ttl != 3600 {
				t.Errorf("got %v, want one record of 3600 s", m.Answer)
			}
		})
	}
}
