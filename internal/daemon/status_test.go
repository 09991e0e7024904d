package daemon

import (
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/dnstap"
	"shirube/dnstap/collector"
	"shirube/internal/config"
	"shirube/internal/metrics"
	"shirube/internal/otlp"
	"shirube/internal/simnet"
	"shirube/internal/wire"
	"shirube/transport/clients"
)

// seePage returns what the status page is told.
func seePage(t *testing.T, at string) (doc statusDocument) {
	t.Helper()
	status, text := see(t, at+"/status.json")
	if err := json.Unmarshal([]byte(text), &doc); err != nil || status != http.StatusOK {
		t.Fatalf("%d, %v: %s", status, err, text)
	}
	return doc
}

// TestPageShowsWhoAsksMost switches it on by a reload, and wants the settings of
// privacy to be kept to.
func TestPageShowsWhoAsksMost(t *testing.T) {
	d, at := withAdmin(t, nil)
	askLocal(t, d, "localhost.", dns.TypeA)
	if doc := seePage(t, at); doc.Top != nil || len(d.Stats().Dnstap) != 0 {
		t.Errorf("nobody wants to know, and there is %+v", doc.Top)
	}
	reload := func(change func(*config.DnstapTop)) {
		t.Helper()
		cfg := *d.cfg()
		change(&cfg.Dnstap.Top)
		d.Load = func() (config.Config, error) { return cfg, nil }
		if _, err := d.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	shows := func(want topStatus) {
		t.Helper()
		until := time.Now().Add(20 * time.Second)
		for {
			top := seePage(t, at).Top
			if top != nil && top.Queries == want.Queries {
				if top.Sample != want.Sample || !slices.Equal(top.Names, want.Names) || !slices.Equal(top.Clients, want.Clients) {
					t.Errorf("found %+v; want %+v", *top, want)
				}
				return
			}
			if time.Now().After(until) {
				t.Fatalf("found %+v; want %+v", top, want)
			}
			time.Sleep(time.Millisecond)
		}
	}
	reload(func(c *config.DnstapTop) { c.Enabled, c.Sample, c.Entries, c.Privacy.IPv4Bits = true, 1, 2, 8 })
	for name, times := range map[string]int{"LocalHost.": 3, "www.localhost.": 2, "a.localhost.": 1} {
		for range times {
			askLocal(t, d, name, dns.TypeA)
		}
	}
	want := topStatus{Sample: 1, LatelyStats: collector.LatelyStats{Queries: 6, TopStats: collector.TopStats{
		Names:   []collector.TopCount{{Key: "localhost.", Queries: 3}, {Key: "www.localhost.", Queries: 2}},
		Clients: []collector.TopCount{{Key: "127.0.0.0", Queries: 6}},
	}}}
	shows(want)
	reload(func(*config.DnstapTop) {}) // the counts stay
	shows(want)
	reload(func(c *config.DnstapTop) { c.Privacy.Hash = true })
	askLocal(t, d, "localhost.", dns.TypeA)
	until := time.Now().Add(20 * time.Second)
	for {
		top := seePage(t, at).Top
		if top.Queries == 1 {
			if a, err := netip.ParseAddr(top.Clients[0].Key); err != nil || a == netip.MustParseAddr("127.0.0.0") || a == netip.MustParseAddr("127.0.0.1") {
				t.Errorf("the address is shown as %s", top.Clients[0].Key)
			}
			break
		}
		if time.Now().After(until) {
			t.Fatalf("found %+v", top)
		}
		time.Sleep(time.Millisecond)
	}
	reload(func(c *config.DnstapTop) { c.Enabled = false })
	if doc := seePage(t, at); doc.Top != nil || len(d.Stats().Dnstap) != 0 {
		t.Errorf("it was switched off, and there is %+v", doc.Top)
	}
}

func TestPageShowsCollectorsAndWhetherTheyTakeWhatTheyAreTold(t *testing.T) {
	s := metrics.Snapshot{
		Dnstap: dnstap.Stats{
			{Name: "unix:/run/tap.sock", State: dnstap.Connected, Sent: 7},
			{Name: "tcp:192.0.2.1:6000", State: dnstap.Stalled, Sent: 3, Dropped: 2},
			{Name: topOutput, State: dnstap.Connected, Sent: 9}, // tells nobody
		},
		Traces: &otlp.Stats{},
	}
	want := []collectorStatus{
		{Name: "unix:/run/tap.sock", State: "connected", Up: true, Sent: 7},
		{Name: "tcp:192.0.2.1:6000", State: "stalled", Sent: 3, Dropped: 2},
		{Name: "traces", State: "not used yet", Up: true},
	}
	if got := collectors(&s); !slices.Equal(got, want) {
		t.Errorf("found %+v", got)
	}
	s.Dnstap = nil
	s.Traces = &otlp.Stats{Requests: 4, Failures: 4, Sent: 1, Dropped: 2, Failed: 3}
	if got := collectors(&s); !slices.Equal(got, []collectorStatus{{Name: "traces", State: "failing", Sent: 1, Dropped: 5}}) {
		t.Errorf("found %+v", got)
	}
	s.Traces.Up = true
	if got := collectors(&s); !got[0].Up || got[0].State != "in use" {
		t.Errorf("found %+v", got)
	}
}

func TestPageShowsServersInTrouble(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		ask(t, p, "www.example.com. A")
		if list := troubledServers(p); len(list) != 0 {
			t.Errorf("found %+v", list)
		}
		n.Break("192.0.2.21", simnet.Rcode(wire.Refused))
		ask(t, p, "www.other.net. A")
		want := troubledServer{Server: "192.0.2.21:53", Zone: "other.net.", Why: "is of no help"}
		list := troubledServers(p)
		if len(list) != 1 || list[0].Until.Before(p.Clock.Now()) {
			t.Fatalf("found %+v", list)
		}
		list[0].Until = time.Time{}
		if list[0] != want {
			t.Errorf("found %+v; want %+v", list[0], want)
		}
	})
}

func TestPageShowsCertificatesByTheirLife(t *testing.T) {
	s := serveEverywhere(t, nil)
	list := s.secure.certificateStatus()
	if len(list) != 1 || list[0].Names == "" || time.Until(time.Unix(list[0].Expires, 0)) < time.Minute {
		t.Errorf("found %+v", list)
	}
	c := &x509.Certificate{DNSNames: []string{"a.example", "b.example"}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1), net.IPv6loopback}}
	if got := shownNames(c); got != "a.example, b.example, 192.0.2.1, …" {
		t.Errorf("found %s", got)
	}
}

// TestHealthNameIsAnsweredOverEveryTransport drains with each of the answers that
// can be configured, and asks in each way.
func TestHealthNameIsAnsweredOverEveryTransport(t *testing.T) {
	s := serveEverywhere(t, func(cfg *config.Config) { cfg.Health.Name = "health.example" })
	raw, err := new(dns.Msg).SetQuestion("Health.example.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	everywhere := func(rcode, answers int) {
		t.Helper()
		asked := make(map[wire.Proto]bool)
		for _, w := range clients.Ways() {
			asked[w.Proto] = true
			m, _ := askWay(t, s.dial(t, w, "127.0.0.1"), raw, 20*time.Second)
			if m == nil || m.Rcode != rcode || len(m.Answer) != answers {
				t.Errorf("%s: want rcode %d and %d answers:\n%v", w.Name, rcode, answers, m)
			}
		}
		if len(asked) != int(wire.NumProtos) {
			t.Errorf("asked only over %v", asked)
		}
	}
	everywhere(dns.RcodeSuccess, 1)
	if err := s.Drain(true); err != nil {
		t.Fatal(err)
	}
	for answer, rcode := range map[config.NotReady]int{
		config.NotReadyServFail: dns.RcodeServerFailure, config.NotReadyRefused: dns.RcodeRefused,
		config.NotReadyNXDomain: dns.RcodeNameError, config.NotReadyNoData: dns.RcodeSuccess,
	} {
		cfg := *s.cfg()
		cfg.Health.NotReady = answer
		s.Load = func() (config.Config, error) { return cfg, nil }
		if _, err := s.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		everywhere(rcode, 0)
	}
	if err := s.Drain(false); err != nil {
		t.Fatal(err)
	}
	everywhere(dns.RcodeSuccess, 1)
}

// TestScrapeCostsTheSameWhoeverIsConnected counts what a scrape and the page take of
// memory with a few connections and with thousands: who walked through them would
// need more. Time is no measure on a machine that does other things.
func TestScrapeCostsTheSameWhoeverIsConnected(t *testing.T) {
	const few, many = 10, 3000 // two descriptors each, for both ends are here
	d, _ := withAdmin(t, func(cfg *config.Config) {
		cfg.Limits.TCPConnections, cfg.Limits.TCPConnectionsPerClient = 2*many, 2*many
		cfg.Limits.TCPIdleTimeout = time.Minute
	})
	registry, err := metrics.New(d.snapshot)
	if err != nil {
		t.Fatal(err)
	}
	scrape := func() {
		w := httptest.NewRecorder()
		registry.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
		if w.Code != http.StatusOK {
			t.Error(w.Code)
		}
		if err := json.NewEncoder(io.Discard).Encode(d.statusPage()); err != nil {
			t.Error(err)
		}
	}
	cost := func() float64 {
		scrape()
		return testing.AllocsPerRun(5, scrape)
	}
	open := 0
	connect := func(n int) {
		t.Helper()
		for ; open < n; open++ {
			c, err := net.Dial("tcp", d.where()[1].at.String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
		}
		for until := time.Now().Add(20 * time.Second); d.Stats().TCP.Open < n; time.Sleep(time.Millisecond) {
			if time.Now().After(until) {
				t.Fatalf("%d connections are open", d.Stats().TCP.Open)
			}
		}
	}
	connect(few)
	little := cost()
	connect(many)
	if much := cost(); much > little*1.1+100 {
		t.Errorf("%v allocations with %d connections, %v with %d", little, few, much, many)
	}
}
