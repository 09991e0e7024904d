package frontend

import (
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/health"
	"shirube/internal/wire"
	"shirube/policy"
	"shirube/transport"
)

// newHealth returns a frontend with a health name, and the state that it goes by.
// Only 127.0.0.0/8 may ask; 198.51.100.0/24 may ask for the health name.
func newHealth(t *testing.T, notReady HealthAnswer) (*Frontend, *health.State) {
	t.Helper()
	state := new(health.State)
	return newFrontend(t, nil, func(opt *Options) {
		opt.Health = &Health{
			Name: wire.MustParseName("health.example."), State: state, NotReady: notReady,
			Addresses: []netip.Addr{netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("192.0.2.7")},
			Clients:   []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
		}
	}), state
}

func TestHealthNameHasWhatMonitorsAskFor(t *testing.T) {
	f, _ := newHealth(t, HealthServFail)
	for typ, want := range map[uint16]string{
		dns.TypeA:    "HEALTH.example.\t0\tIN\tA\t192.0.2.7",
		dns.TypeAAAA: "HEALTH.example.\t0\tIN\tAAAA\t2001:db8::7",
		dns.TypeTXT:  "HEALTH.example.\t0\tIN\tTXT\t\"ready\"",
		dns.TypeSOA:  "HEALTH.example.\t0\tIN\tSOA\tlocalhost. nobody.invalid. 1 3600 1200 604800 10800",
		dns.TypeMX:   "",
		dns.TypeANY:  "",
	} {
		for _, rd := range []bool{true, false} {
			m := answer(t, f, query(t, "HEALTH.example.", typ, func(m *dns.Msg) { m.RecursionDesired = rd }))
			if m.Rcode != dns.RcodeSuccess || !m.Authoritative || m.IsEdns0() == nil {
				t.Errorf("type %d, RD %v: %v", typ, rd, m)
			}
			switch {
			case want == "" && (len(m.Answer) != 0 || len(m.Ns) != 1 || m.Ns[0].Header().Ttl != 0):
				t.Errorf("type %d: %v", typ, m)
			case want != "" && (len(m.Answer) != 1 || m.Answer[0].String() != want):
				t.Errorf("type %d: found %v; want %s", typ, m.Answer, want)
			}
		}
	}
}

func TestHealthNameSaysThatTheServerIsNotReady(t *testing.T) {
	for notReady, want := range map[HealthAnswer]int{
		HealthServFail: dns.RcodeServerFailure, HealthRefused: dns.RcodeRefused, HealthNXDomain: dns.RcodeNameError, HealthNoData: dns.RcodeSuccess,
	} {
		f, state := newHealth(t, notReady)
		state.Begin(health.Draining, "", 0, time.Now().Add(-time.Second))
		if m := answer(t, f, query(t, "health.example.", dns.TypeA, nil)); m.Rcode != want || len(m.Answer) != 0 {
			t.Errorf("found %v; want code %d", m, want)
		}
		state.End(health.Draining)
		if m := answer(t, f, query(t, "health.example.", dns.TypeA, nil)); m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
			t.Errorf("ready again: %v", m)
		}
	}
	f, state := newHealth(t, HealthSilence)
	state.Begin(health.Draining, "", 0, time.Now().Add(-time.Second))
	if out, outcome := f.TryServe(nil, query(t, "health.example.", dns.TypeA, nil)); outcome != transport.Dropped || len(out) != 0 {
		t.Errorf("found %x, %v; want silence", out, outcome)
	}
}

func TestMonitorsMayAskForTheHealthNameAlone(t *testing.T) {
	f, _ := newHealth(t, HealthServFail)
	for _, tt := range []struct {
		client, name string
		want         int
	}{
		{"198.51.100.9", "health.example.", dns.RcodeSuccess},
		{"::ffff:198.51.100.9", "health.example.", dns.RcodeSuccess},
		{"198.51.100.9", "localhost.", dns.RcodeRefused},
		{"203.0.113.1", "health.example.", dns.RcodeRefused},
		{"127.0.0.1", "health.example.", dns.RcodeSuccess},
	} {
		q := query(t, tt.name, dns.TypeA, nil)
		q.Client = netip.AddrPortFrom(netip.MustParseAddr(tt.client), 1)
		if m := answer(t, f, q); m.Rcode != tt.want {
			t.Errorf("%s asks for %s: %v", tt.client, tt.name, m)
		}
	}
}

// What is near the name is not it.
func TestOtherNamesAreNotTheHealthName(t *testing.T) {
	f, _ := newHealth(t, HealthServFail)
	for _, name := range []string{"a.health.example.", "health.exampl.", "healthy.example.", "healtg.example."} {
		if q := query(t, name, dns.TypeA, nil); f.opt.Health.asked(q) {
			t.Errorf("%s is taken for it", name)
		}
	}
	if f.opt.Health.asked(query(t, "health.example.", dns.TypeA, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS })) {
		t.Error("another class is taken for it")
	}
}

func TestHealthNameIsAnsweredWithoutAllocations(t *testing.T) {
	f, state := newHealth(t, HealthServFail)
	q := query(t, "health.example.", dns.TypeA, nil)
	buf := make([]byte, 0, 512)
	for range 2 {
		if n := testing.AllocsPerRun(100, func() { f.TryServe(buf, q) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
		state.Begin(health.Draining, "", 0, time.Now().Add(-time.Second))
	}
}

func TestBadHealthNamesAreRefused(t *testing.T) {
	good := Health{Name: wire.MustParseName("health.example."), State: new(health.State)}
	for what, spoil := range map[string]func(h *Health){
		"no name":       func(h *Health) { h.Name = "" },
		"the root":      func(h *Health) { h.Name = wire.Root },
		"no state":      func(h *Health) { h.State = nil },
		"two addresses": func(h *Health) { h.Addresses = []netip.Addr{netip.IPv6Loopback(), netip.IPv6Unspecified()} },
		"too many prefixes": func(h *Health) {
			h.Clients = make([]netip.Prefix, maxHealthClients+1)
		},
	} {
		h := good
		spoil(&h)
		if _, err := h.prepared(); err == nil {
			t.Errorf("%s passes", what)
		}
	}
	if _, err := good.prepared(); err != nil {
		t.Error(err)
	}
	everybody, err := policy.New(policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	bad := Options{Policy: everybody, Answers: newFrontend(t, nil, nil).opt.Answers, Resolver: stub(nil), Health: new(Health)}
	if _, err := New(bad); err == nil {
		t.Error("a frontend with a bad one is made")
	}
}
