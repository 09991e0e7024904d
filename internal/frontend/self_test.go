package frontend

import (
	"context"
	"crypto/x509"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/discovery"
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/policy"
	"shirube/resolver"
	"shirube/transport"
)

// itself returns a directory with something of everything but certificates.
func itself(t testing.TB) *discovery.Directory {
	t.Helper()
	d, err := discovery.New(discovery.Options{
		DDR:     discovery.DDR{Enabled: true, Name: wire.MustParseName("dns.example.")},
		RESINFO: discovery.RESINFO{Enabled: true, QNameMin: true},
		Chaos:   discovery.Chaos{ID: "one"},
		HB46PP: discovery.HB46PP{Views: []discovery.View{{
			Name: "all", Clients: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, URL: "https://isp.example/", VerifyCert: true, TTL: 60,
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// chaos makes the class of a query CHAOS.
func chaos(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }

// selfQuestions are questions that a server answers about itself.
var selfQuestions = []struct {
	name   string
	typ    uint16
	change func(*dns.Msg)
	found  int // records
}{
	{"_dns.resolver.arpa.", dns.TypeSVCB, nil, 0}, // there is no listener
	{"_dns.dns.example.", dns.TypeSVCB, nil, 0},
	{"x.Resolver.arpa.", dns.TypeA, nil, 0},
	{"resolver.arpa.", dns.TypeANY, nil, 0},
	{"resolver.arpa.", dns.TypeRESINFO, nil, 1},
	{"dns.example.", dns.TypeRESINFO, nil, 1},
	{"4over6.info.", dns.TypeTXT, nil, 1},
	{"4over6.info.", dns.TypeAAAA, nil, 0},
	{"id.server.", dns.TypeTXT, chaos, 1},
}

// TestAServerHasTheLastWordOnItself asks with RD and without (RFC 9606 §3), and
// where memory holds something else.
func TestAServerHasTheLastWordOnItself(t *testing.T) {
	var resolved []string
	f := newFrontend(t, func(_ context.Context, q wire.Question) (*resolver.Answer, error) {
		resolved = append(resolved, q.String())
		return &resolver.Answer{Rcode: wire.NXDomain}, nil
	}, func(o *Options) { o.Builtins = policy.NewBuiltins(nil) })
	for _, tt := range selfQuestions {
		if tt.change == nil {
			answer(t, f, query(t, tt.name, tt.typ, nil)) // an answer that is remembered
		}
	}
	if len(resolved) == 0 {
		t.Fatal("a server that says nothing of itself resolves nothing either")
	}
	opt := f.opt
	opt.Self = itself(t)
	itself, err := f.With(opt)
	if err != nil {
		t.Fatal(err)
	}
	resolved = nil
	for _, tt := range selfQuestions {
		for _, rd := range []bool{true, false} {
			q := query(t, tt.name, tt.typ, func(m *dns.Msg) {
				m.RecursionDesired = rd
				if tt.change != nil {
					tt.change(m)
				}
			})
			m := answer(t, itself, q)
			if m.Rcode != dns.RcodeSuccess || !m.Authoritative || m.AuthenticatedData || m.Truncated || m.RecursionDesired != rd || len(m.Answer) != tt.found || len(m.Ns) != 1-tt.found || m.IsEdns0() == nil {
				t.Errorf("%s, RD %v: %v", tt.name, rd, m)
			}
			if q.Policy != wire.PolicyBuiltin {
				t.Errorf("%s: taps are told of policy %d", tt.name, q.Policy)
			}
		}
	}
	if len(resolved) > 0 {
		t.Errorf("asked of others: %v", resolved)
	}
	for name, change := range map[string]func(*dns.Msg){"version.bind.": chaos, "example.com.": chaos, "resolver.arpa.": func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAXFR }} {
		if m := answer(t, itself, query(t, name, dns.TypeTXT, change)); m.Rcode != dns.RcodeRefused {
			t.Errorf("%s: %v", name, m)
		}
	}
}

func TestWhoMayNotAskIsNotToldOfTheServerEither(t *testing.T) {
	f := newFrontend(t, nil, func(o *Options) { o.Self = itself(t) })
	for _, tt := range selfQuestions {
		q := query(t, tt.name, tt.typ, tt.change)
		q.Client = netip.MustParseAddrPort("192.0.2.1:1")
		if m := answer(t, f, q); m.Rcode != dns.RcodeRefused || len(m.Answer)+len(m.Ns) > 0 {
			t.Errorf("%s: %v", tt.name, m)
		}
	}
}

func TestClientsInNoViewHearOfAFailure(t *testing.T) {
	f := newFrontend(t, nil, func(o *Options) { o.Self = itself(t) })
	q := query(t, "4over6.info.", dns.TypeTXT, nil)
	q.Client = netip.MustParseAddrPort("127.0.0.2:1")
	m := answer(t, f, q)
	if _, _, codes := told(t, m); m.Rcode != dns.RcodeServerFailure || len(m.Answer)+len(m.Ns) > 0 || !slices.Equal(codes, []uint16{dns.ExtendedErrorCodeProhibited}) {
		t.Errorf("found %v", m)
	}
}

// nameless returns a certificate that proves nothing.
func nameless(netip.Addr, string) *x509.Certificate {
	return &x509.Certificate{NotAfter: time.Now().Add(time.Hour)}
}

func TestWhatTheServerSaysFitsOrIsCutOff(t *testing.T) {
	listeners := func() (list []discovery.Listener) {
		for port := uint16(1000); port < 1009; port++ {
			list = append(list, discovery.Listener{At: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), Proto: wire.DoT})
		}
		return list
	}
	d, err := discovery.New(discovery.Options{DDR: discovery.DDR{
		Enabled: true, Name: wire.MustParseName("a.name.of.some.length.isp.example."), Preference: []wire.Proto{wire.DoT}, Opportunistic: true,
		Live: discovery.Live{Listeners: listeners, Certificate: nameless},
	}})
	if err != nil {
		t.Fatal(err)
	}
	f := newFrontend(t, nil, func(o *Options) { o.Self = d })
	for _, tt := range []struct {
		limit           int
		answers, extras int
		tc              bool
	}{{wire.MaxMsgSize, 4, 1, false}, {360, 4, 0, false}, {300, 0, 0, true}} {
		q := query(t, "_dns.resolver.arpa.", dns.TypeSVCB, nil)
		q.Local, q.Limit = netip.MustParseAddrPort("127.0.0.1:53"), tt.limit
		out, outcome := f.TryServe(nil, q)
		if outcome == transport.Deferred {
			out = f.Serve(t.Context(), nil, q)
		}
		m := new(dns.Msg)
		if err := m.Unpack(out); err != nil {
			t.Fatal(err)
		}
		if len(out) > tt.limit || len(m.Answer) != tt.answers || len(m.Extra)-1 != tt.extras || m.Truncated != tt.tc { // one is OPT
			t.Errorf("limit %d: %d octets, %v", tt.limit, len(out), m)
		}
	}
}

func TestOtherNamesAreAnsweredFromMemoryAsBefore(t *testing.T) {
	f := newFrontend(t, func(context.Context, wire.Question) (*resolver.Answer, error) {
		return &resolver.Answer{Records: []rrset.Set{set(t, "www.example.com. 300 A 192.0.2.1", time.Hour, rrset.Insecure)}}, nil
	}, func(o *Options) { o.Self = itself(t) })
	q := query(t, "www.example.com.", dns.TypeA, nil)
	answer(t, f, q)
	if m := answer(t, f, q); len(m.Answer) != 1 || f.Stats().Hits != 1 {
		t.Errorf("no hit: %v", m)
	}
}
