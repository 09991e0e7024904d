package discovery

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/ede"
	"shirube/internal/wire"
)

// unpackRESINFO returns the strings of the one RESINFO record, whose RDATA is that
// of TXT (RFC 9606 §3).
func unpackRESINFO(t *testing.T, m *dns.Msg) (out []string) {
	t.Helper()
	if m == nil || len(m.Answer) != 1 {
		t.Fatalf("not one record: %v", m)
	}
	generic, ok := m.Answer[0].(*dns.RESINFO)
	if !ok {
		t.Fatalf("found %T", m.Answer[0])
	}
	return generic.Txt
}

func TestRESINFOSaysWhatTheServerDoes(t *testing.T) {
	d := directory(t, Options{
		DDR: DDR{Name: wire.MustParseName(name + ".")},
		RESINFO: RESINFO{
			Enabled: true, QNameMin: true, InfoURL: "https://isp.example/dns",
			Errors: []ede.Code{ede.Bogus, 22, ede.Other, 5, 7, 7, 23, 1},
		},
	})
	want := []string{"qnamemin", "exterr=0-1,5-7,22-23", "infourl=https://isp.example/dns"}
	for _, at := range []string{"resolver.arpa.", name + ".", "DNS.isp.EXAMPLE."} {
		if got := unpackRESINFO(t, ask(t, d, "", at, dns.TypeRESINFO, time.Now())); !slices.Equal(got, want) {
			t.Errorf("%s: found %q; want %q", at, got, want)
		}
	}
	if m := ask(t, d, "", name+".", dns.TypeA, time.Now()); m != nil {
		t.Errorf("another type of the server's name is answered here: %v", m)
	}
	if m := ask(t, d, "", "x."+name+".", dns.TypeRESINFO, time.Now()); m != nil {
		t.Errorf("another name is answered here: %v", m)
	}
	if s := d.Stats(); s.RESINFO != 3 {
		t.Errorf("%+v", s)
	}
	off := directory(t, Options{DDR: DDR{Name: wire.MustParseName(name + ".")}})
	if m := ask(t, off, "", "resolver.arpa.", dns.TypeRESINFO, time.Now()); len(m.Answer) != 0 || len(m.Ns) != 1 {
		t.Errorf("switched off: %v", m)
	}
	if m := ask(t, off, "", name+".", dns.TypeRESINFO, time.Now()); m != nil {
		t.Errorf("switched off, and not asked of others: %v", m)
	}
}

func TestChaosNamesAreAnsweredWhereTheyAreConfigured(t *testing.T) {
	d := directory(t, Options{Chaos: Chaos{ID: "tokyo-1"}})
	for _, tt := range []struct {
		name  string
		typ   uint16
		class uint16
		want  string
	}{
		{"id.server.", dns.TypeTXT, dns.ClassCHAOS, "tokyo-1"},
		{"HOSTNAME.bind.", dns.TypeTXT, dns.ClassCHAOS, "tokyo-1"},
		{"version.bind.", dns.TypeTXT, dns.ClassCHAOS, ""},
		{"version.server.", dns.TypeTXT, dns.ClassCHAOS, ""},
		{"id.server.", dns.TypeA, dns.ClassCHAOS, ""},
		{"x.id.server.", dns.TypeTXT, dns.ClassCHAOS, ""},
		{"id.server.", dns.TypeTXT, dns.ClassINET, ""},
		{"id.server.", dns.TypeTXT, dns.ClassHESIOD, ""},
	} {
		q := new(dns.Msg).SetQuestion(tt.name, tt.typ)
		q.Question[0].Qclass = tt.class
		raw, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		var w wire.Query
		if w.Parse(raw) != wire.OK {
			t.Fatal(tt.name)
		}
		s, outcome := d.Find(wire.AppendFolded(nil, w.RawName()), &w, time.Now())
		if (outcome == Said) != (tt.want != "") {
			t.Errorf("%+v: %v", tt, outcome)
		}
		if outcome != Said {
			continue
		}
		m := message(t, &w, &s)
		if got := m.Answer[0].(*dns.TXT); !slices.Equal(got.Txt, []string{tt.want}) || got.Hdr.Class != dns.ClassCHAOS || got.Hdr.Ttl != 0 {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

// isp has two regions, one inside the other.
func isp(others Others) HB46PP {
	return HB46PP{Others: others, Views: []View{
		{Name: "east", Clients: []netip.Prefix{netip.MustParsePrefix("2001:db8:e000::/36"), netip.MustParsePrefix("192.0.2.0/24")}, URL: "https://prov-east.isp.example/v6mig/config", VerifyCert: true, TTL: 3600},
		{Name: "west", Clients: []netip.Prefix{netip.MustParsePrefix("2001:db8:e100::/40")}, URL: "http://[2001:db8::46]:8080/config", TTL: 60},
	}}
}

func TestProvisioningIsToldByPrefix(t *testing.T) {
	const (
		east = "v=v6mig-1 url=https://prov-east.isp.example/v6mig/config t=b"
		west = "v=v6mig-1 url=http://[2001:db8::46]:8080/config t=a"
		none = ""
	)
	for _, tt := range []struct {
		client string
		typ    uint16
		others Others
		rcode  int
		want   string
		ttl    uint32
		ours   bool
	}{
		{"2001:db8:e000::1", dns.TypeTXT, OthersServFail, 0, east, 3600, true},
		{"2001:db8:efff:ffff::1", dns.TypeTXT, OthersServFail, 0, east, 3600, true},
		{"2001:db8:e100::1", dns.TypeTXT, OthersServFail, 0, west, 60, true}, // the most specific one
		{"192.0.2.9", dns.TypeTXT, OthersServFail, 0, east, 3600, true},
		{"::ffff:192.0.2.9", dns.TypeTXT, OthersServFail, 0, east, 3600, true},
		{"2001:db8:e000::1", dns.TypeA, OthersServFail, 0, none, 0, true},
		{"2001:db8:e000::1", dns.TypeANY, OthersServFail, 0, none, 0, true},
		{"2001:db8:f000::1", dns.TypeTXT, OthersServFail, dns.RcodeServerFailure, none, 0, true},
		{"198.51.100.1", dns.TypeTXT, OthersServFail, dns.RcodeServerFailure, none, 0, true},
		{"198.51.100.1", dns.TypeTXT, OthersNoData, 0, none, 0, true},
		{"198.51.100.1", dns.TypeTXT, OthersRecurse, 0, none, 0, false},
		{"2001:db8:e000::1", dns.TypeTXT, OthersRecurse, 0, east, 3600, true},
	} {
		d := directory(t, Options{HB46PP: isp(tt.others)})
		q := queryAt(t, "", "4over6.INFO.", tt.typ)
		q.Client = netip.AddrPortFrom(netip.MustParseAddr(tt.client), 4000)
		s, outcome := d.Find(wire.AppendFolded(nil, q.RawName()), q, time.Now())
		if (outcome == Said) != tt.ours {
			t.Errorf("%+v: %v", tt, outcome)
		}
		if !tt.ours {
			continue
		}
		m := message(t, q, &s)
		var text string
		var ttl uint32
		if len(m.Answer) == 1 {
			rr := m.Answer[0].(*dns.TXT)
			text, ttl = strings.Join(rr.Txt, "|"), rr.Hdr.Ttl
		}
		if m.Rcode != tt.rcode || text != tt.want || ttl != tt.ttl {
			t.Errorf("%+v: %v", tt, m)
		}
		if denied := len(m.Ns) == 1; denied != (tt.rcode == 0 && tt.want == "") {
			t.Errorf("%+v: SOA %v", tt, m.Ns)
		}
	}
}

// A router that is told that there is no record gives up (§3.6): whatever is
// wrong, that must not happen by itself.
func TestFailingProvisioningIsNeverNoData(t *testing.T) {
	d := directory(t, Options{HB46PP: isp(OthersServFail)})
	q := queryAt(t, "", "4over6.info.", dns.TypeTXT)
	for _, client := range []netip.AddrPort{{}, netip.MustParseAddrPort("[2001:db8::1%eth0]:1")} {
		q.Client = client
		if s, outcome := d.Find([]byte(hb46ppName), q, time.Now()); outcome != Said || s.Rcode != wire.ServFail || s.Why == nil || s.SOA != nil {
			t.Errorf("%v: %v, %+v", client, outcome, s)
		}
	}
	if s := d.Stats(); s.ProvisionFailed != 2 || s.Unprovisioned != 0 {
		t.Errorf("%+v", s)
	}
}

func TestProvisioningIsNobodysWithoutViews(t *testing.T) {
	if m := ask(t, directory(t, Options{}), "", "4over6.info.", dns.TypeTXT, time.Now()); m != nil {
		t.Errorf("found %v", m)
	}
	if m := ask(t, directory(t, Options{HB46PP: isp(OthersServFail)}), "", "x.4over6.info.", dns.TypeTXT, time.Now()); m != nil {
		t.Errorf("found %v", m)
	}
}

func TestBadViewsAreRefused(t *testing.T) {
	good := View{Name: "east", Clients: []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}, URL: "https://isp.example/", VerifyCert: true, TTL: 1}
	long := good
	long.URL += strings.Repeat("x", 255-len("v=v6mig-1 url= t=b")-len(long.URL))
	if text, err := long.Text(); err != nil || len(text) != 255 {
		t.Errorf("%d octets: %v", len(text), err)
	}
	for what, spoil := range map[string]func(*View){
		"http with a certificate to verify": func(v *View) { v.URL = "http://isp.example/" },
		"another scheme":                    func(v *View) { v.URL = "ftp://isp.example/" },
		"no host":                           func(v *View) { v.URL = "https:///x" },
		"a space":                           func(v *View) { v.URL = "https://isp.example/ t=a" },
		"an international name":             func(v *View) { v.URL = "https://例え.example/" },
		"no URL":                            func(v *View) { v.URL = "" },
		"a control character":               func(v *View) { v.URL = "https://isp.example/\n" },
		"256 octets":                        func(v *View) { v.URL = long.URL + "x" },
	} {
		v := good
		spoil(&v)
		if text, err := v.Text(); err == nil {
			t.Errorf("%s passes: %q", what, text)
		}
	}
	if _, err := New(Options{HB46PP: HB46PP{Views: []View{good, {Name: "west", Clients: good.Clients, URL: good.URL, VerifyCert: true}}}}); err == nil || !strings.Contains(err.Error(), "east has too") {
		t.Errorf("the same prefix twice: %v", err)
	}
}

func TestPrefixesOfViewsAreBounded(t *testing.T) {
	v := View{Name: "all", URL: "http://isp.example/"}
	for i := range maxViewPrefixes + 1 {
		v.Clients = append(v.Clients, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32))
	}
	if _, err := New(Options{HB46PP: HB46PP{Views: []View{v}}}); err == nil {
		t.Error("one too many passes")
	}
	v.Clients = v.Clients[1:]
	if _, err := New(Options{HB46PP: HB46PP{Views: []View{v}}}); err != nil {
		t.Error(err)
	}
}
