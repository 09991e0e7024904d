package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/control"
	"shirube/internal/porttest"
	"shirube/internal/simnet"
	"shirube/internal/wire"
	"shirube/resolver"
	"shirube/transport"
)

// controlled is inBubble for a Daemon around the pipeline that has no transports.
func controlled(t *testing.T, change func(*config.Config, *simnet.Net), test func(t *testing.T, d *Daemon, n *simnet.Net)) {
	t.Helper()
	inBubble(t, func(c *config.Config, n *simnet.Net) {
		if change != nil {
			change(c, n)
		}
	}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		cfg := &p.Config
		cfg.Listen = nil
		tap, err := newTap(cfg, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		d := &Daemon{
			tap:     tap,
			current: p.current, log: slog.New(slog.DiscardHandler), sweeps: make(chan sweep, maxSweeps),
			slots: transport.NewSlots(0, 0), started: make(chan struct{}),
		}
		d.udp, d.tcp = transport.NewUDP(d.udpOptions(cfg)), transport.NewTCP(d.tcpOptions(cfg))
		if err := d.newSecure(cfg); err != nil {
			t.Fatal(err)
		}
		close(d.started)
		ctx, cancel := context.WithCancel(t.Context())
		d.ctx = ctx
		d.tasks.follow(ctx, d.wanted(p))
		test(t, d, n)
		cancel()
		d.tasks.follow(ctx, nil)
	})
}

// brokenExample has example.com. anchored, and not signed: it is bogus.
func brokenExample(t *testing.T) func(*config.Config, *simnet.Net) {
	t.Helper()
	key, _ := signedKey(t)
	return func(cfg *config.Config, _ *simnet.Net) {
		cfg.DNSSEC.Validation, cfg.DNSSEC.RootTrustAnchor = true, false
		cfg.DNSSEC.TrustAnchors = []config.TrustAnchor{config.TrustAnchor(key.ToDS(dns.SHA256).String())}
	}
}

func TestNegativeAnchorHasItsNamesJudgedAnew(t *testing.T) {
	name := wire.MustParseName("example.com.")
	controlled(t, brokenExample(t), func(t *testing.T, d *Daemon, _ *simnet.Net) {
		expect := func(when string, rcode int) {
			t.Helper()
			for _, q := range []string{"www.example.com. A", "www.example.com. A +do"} {
				if m := ask(t, d.Pipeline(), q); m == nil || m.Rcode != rcode || m.AuthenticatedData {
					t.Errorf("%s, %s: want %s without AD, got\n%v", when, q, dns.RcodeToString[rcode], m)
				}
			}
		}
		expect("while it is validated", dns.RcodeServerFailure)
		expect("while that is remembered", dns.RcodeServerFailure)
		n, err := d.addNegative(name, time.Hour, "a test")
		if err != nil || n.Name != "example.com." || n.Reason != "a test" || !n.Until.Equal(time.Now().Add(time.Hour)) {
			t.Errorf("%+v, %v", n, err)
		}
		expect("at once after it was added", dns.RcodeSuccess)
		if got := d.negatives(); len(got) != 1 || got[0] != n {
			t.Errorf("listed are %+v", got)
		}
		if !d.removeNegative(name) {
			t.Error("it was not there to be removed")
		}
		expect("at once after it was removed", dns.RcodeServerFailure)
		if d.removeNegative(name) || len(d.negatives()) != 0 {
			t.Errorf("it is there: %+v", d.negatives())
		}
		if _, err := d.addNegative(name, 8*24*time.Hour, ""); err == nil {
			t.Error("one for more than a week was added")
		}
	})
}

// TestWhatWasBeingResolvedIsJudgedAnewToo has a resolution under way while a
// negative trust anchor is removed.
func TestWhatWasBeingResolvedIsJudgedAnewToo(t *testing.T) {
	name := wire.MustParseName("example.com.")
	controlled(t, brokenExample(t), func(t *testing.T, d *Daemon, n *simnet.Net) {
		if _, err := d.addNegative(name, time.Hour, ""); err != nil {
			t.Fatal(err)
		}
		n.Break("192.0.2.21", simnet.Latency(150*time.Millisecond, 0)) // of what the alias leads to
		answered := make(chan *dns.Msg)
		go func() { answered <- ask(t, d.Pipeline(), "alias.example.com. A") }() // owner: this test; end: the answer's; bound: one
		time.Sleep(100 * time.Millisecond)
		d.removeNegative(name)
		if m := <-answered; m == nil || m.Rcode != dns.RcodeSuccess {
			t.Fatalf("who asked before is answered\n%v", m)
		}
		time.Sleep(d.cfg().Resolver.Timeout)
		synctest.Wait()
		if m := ask(t, d.Pipeline(), "alias.example.com. A"); m == nil || m.Rcode != dns.RcodeServerFailure {
			t.Errorf("what was resolved without validation is still remembered:\n%v", m)
		}
	})
}

func TestFlushedNamesAreAskedForAgain(t *testing.T) {
	controlled(t, nil, func(t *testing.T, d *Daemon, n *simnet.Net) {
		all := []string{"192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.11 www.example.com. A"}
		for _, tt := range []struct {
			what  string
			flush control.Flush
			sent  []string
		}{
			{"nothing", control.Flush{Name: wire.MustParseName("other.net."), Below: true}, nil},
			{"another type", control.Flush{Name: wire.MustParseName("www.example.com."), Type: wire.TypeMX}, nil},
			{"the type", control.Flush{Name: wire.MustParseName("www.example.com."), Type: wire.TypeA}, all[2:]},
			{"the name", control.Flush{Name: wire.MustParseName("www.example.com.")}, all[2:]},
			{"the zone without what is below", control.Flush{Name: wire.MustParseName("example.com.")}, nil},
			{"the zone", control.Flush{Name: wire.MustParseName("example.com."), Below: true}, all[1:]},
			{"everything", control.Flush{Name: wire.Root, Below: true}, all},
		} {
			ask(t, d.Pipeline(), "www.example.com. A")
			n.ResetLog()
			got := d.flush(tt.flush)
			ask(t, d.Pipeline(), "www.example.com. A")
			if sent := n.Questions(); !slices.Equal(sent, tt.sent) {
				t.Errorf("%s: sent %q, want %q; %+v", tt.what, sent, tt.sent, got)
			}
		}
	})
}

func TestLookupSaysWhomANameIsAskedOf(t *testing.T) {
	controlled(t, func(cfg *config.Config, _ *simnet.Net) {
		cfg.ForwardZones = []config.Zone{{Name: wire.MustParseName("forward.test."), Servers: []config.Server{{Address: config.Address{AddrPort: netip.MustParseAddrPort("192.0.2.77:53")}}}}}
	}, func(t *testing.T, d *Daemon, n *simnet.Net) {
		name := wire.MustParseName("www.example.com.")
		if l := d.lookup(name); l.Zone != "." || l.Kind != "hints" || len(l.Servers) == 0 || l.Servers[0].Known {
			t.Errorf("before anything is known: %+v", l)
		}
		ask(t, d.Pipeline(), "www.example.com. A")
		n.ResetLog()
		l := d.lookup(name)
		if l.Zone != "example.com." || l.Kind != "learned" || l.Expires == nil || l.DS != "unknown" || l.Dead != nil || l.Trust != nil {
			t.Errorf("%+v", l)
		}
		if len(l.Servers) != 1 || l.Servers[0].Host != "ns1.example.com." || l.Servers[0].Address != "192.0.2.11:53" || !l.Servers[0].Known || l.Servers[0].TimeoutMillis == 0 {
			t.Errorf("%+v", l.Servers)
		}
		if sent := n.Questions(); len(sent) != 0 {
			t.Errorf("it asks: %q", sent)
		}
		if l := d.lookup(wire.MustParseName("x.forward.test.")); l.Zone != "forward.test." || l.Kind != "forward" || len(l.Servers) != 1 || l.Servers[0].Address != "192.0.2.77:53" {
			t.Errorf("%+v", l)
		}
		n.Break("192.0.2.11", simnet.Silent())
		for i := range 4 {
			ask(t, d.Pipeline(), "silence"+strings.Repeat("x", i)+".example.com. A")
		}
		l = d.lookup(name)
		if l.Dead == nil || !l.Dead.Until.After(time.Now()) || l.Dead.Why == "" || l.Servers[0].Silences == 0 {
			t.Errorf("when its server is silent: %+v", l)
		}
		n.Break("192.0.2.21", simnet.Rcode(wire.Refused))
		ask(t, d.Pipeline(), "www.other.net. A")
		if l := d.lookup(wire.MustParseName("www.other.net.")); len(l.Servers) != 1 || l.Servers[0].LameUntil == nil {
			t.Errorf("when its server refuses: %+v", l)
		}
	})
}

func TestFlightsAreListedWithTheirWaiters(t *testing.T) {
	controlled(t, nil, func(t *testing.T, d *Daemon, n *simnet.Net) {
		if f := d.flights(); len(f.Flights)+len(f.Asking)+f.Omitted != 0 {
			t.Errorf("%+v", f)
		}
		n.Break("192.0.2.11", simnet.Latency(300*time.Millisecond, 0))
		done := make(chan *dns.Msg, 3)
		for range 3 {
			go func() { done <- ask(t, d.Pipeline(), "www.example.com. A") }() // owner: this test; end: the answer's; bound: three
		}
		time.Sleep(150 * time.Millisecond)
		f := d.flights()
		if len(f.Flights) != 1 || f.Flights[0] != (control.Flight{Name: "www.example.com.", Type: "A", AgeMillis: 150, Waiters: 3}) {
			t.Errorf("%+v", f)
		}
		if want := (control.Asking{Zone: "example.com.", Name: "www.example.com.", Type: "A", Server: "192.0.2.11:53"}); len(f.Asking) != 1 || f.Asking[0] != want {
			t.Errorf("%+v", f.Asking)
		}
		for range 3 {
			<-done
		}
	})
}

func TestListsOfFlightsAreBounded(t *testing.T) {
	controlled(t, nil, func(t *testing.T, d *Daemon, n *simnet.Net) {
		n.Break("192.0.2.11", simnet.Latency(300*time.Millisecond, 0))
		n.Break("192.0.2.1", simnet.Latency(100*time.Millisecond, 0))
		const asked = maxListed + 5
		for i := range asked {
			from := fmt.Sprintf("+from=127.0.%d.1", i%200) // no network has too many
			question := fmt.Sprintf("n%d.example.com. A %s", i, from)
			go func() { ask(t, d.Pipeline(), question) }() // owner: this test; end: the answer's; bound: asked
		}
		time.Sleep(50 * time.Millisecond)
		f := d.flights()
		if len(f.Flights) != maxListed || f.Omitted != asked-maxListed || len(f.Asking) > maxListed {
			t.Errorf("%d flights, %d omitted, %d questions to servers", len(f.Flights), f.Omitted, len(f.Asking))
		}
		time.Sleep(10 * time.Second)
	})
}

func TestSweepsAreBounded(t *testing.T) {
	controlled(t, brokenExample(t), func(t *testing.T, d *Daemon, _ *simnet.Net) {
		var out lockedBuffer
		d.log = slog.New(slog.NewTextHandler(&out, nil))
		for range maxSweeps + 2 { // the sweeper has one of them in its hand
			d.judgeAnew(wire.MustParseName("example.com."), time.Second)
			if out.String() != "" {
				break
			}
			synctest.Wait()
		}
		if got := out.String(); strings.Count(got, "too many changes at once") != 1 {
			t.Errorf("got %q", got)
		}
	})
}

func TestTraceOfAServerUsesItsMemory(t *testing.T) {
	controlled(t, nil, func(t *testing.T, d *Daemon, n *simnet.Net) {
		ask(t, d.Pipeline(), "www.example.com. AAAA")
		n.ResetLog()
		var steps []resolver.Step
		q := wire.Question{Name: wire.MustParseName("www.example.com."), Type: wire.TypeA}
		end, err := d.trace(t.Context(), q, func(e any) { steps = append(steps, e.(resolver.Event).Step) })
		if err != nil || end.Step != control.StepAnswer || end.Rcode != "NOERROR" || len(end.Records) != 2 ||
			end.Records[0] != "www.example.com.\t300\tIN\tA\t198.51.100.1" {
			t.Errorf("%v, %+v", err, end)
		}
		if want := []resolver.Step{resolver.StepQuestion, resolver.StepZone, resolver.StepQuery, resolver.StepVerdict}; !slices.Equal(steps, want) {
			t.Errorf("got the steps %q, want %q", steps, want)
		}
		if sent := n.Questions(); !slices.Equal(sent, []string{"192.0.2.11 www.example.com. A"}) {
			t.Errorf("sent %q", sent)
		}
		n.Break("192.0.2.11", simnet.Rcode(wire.Refused))
		q.Name = wire.MustParseName("other.example.com.")
		if _, err := d.trace(t.Context(), q, func(any) {}); err == nil || !strings.Contains(err.Error(), "other.example.com. A: ") {
			t.Errorf("got %v", err)
		}
	})
}

// names adds the paths of all numbers below v to out, and reports lists.
func names(t *testing.T, out map[string]bool, path string, v any) {
	t.Helper()
	section, ok := v.(map[string]any)
	if !ok {
		if k := reflect.TypeOf(v).Kind(); k == reflect.Array || k == reflect.Slice {
			t.Errorf("%s is a list: its elements need names in counterWords", path)
		}
		out[path] = true
		return
	}
	for name, inner := range section {
		names(t, out, strings.TrimPrefix(path+"."+name, "."), inner)
	}
}

// TestCountersKeepTheirNames compares the counters with those that were promised
// once: more may come, none may go.
func TestCountersKeepTheirNames(t *testing.T) {
	got := make(map[string]bool)
	names(t, got, "", control.Counters(Stats{}, counterWords()))
	text, err := os.ReadFile("testdata/counters.txt")
	if err != nil {
		t.Fatal(err)
	}
	promised := strings.Fields(string(text))
	if len(promised) < 100 {
		t.Errorf("only %d counters are promised", len(promised))
	}
	for _, name := range promised {
		if !got[name] {
			t.Errorf("%s is gone: people read it", name)
		}
	}
}

func TestControlSocketIsWhereItIsConfigured(t *testing.T) {
	for _, tt := range []struct {
		cfg     config.Control
		systemd string
		want    string
	}{
		{config.Control{Enabled: true}, "", ""},
		{config.Control{Enabled: true}, "/run/shirube", "/run/shirube/control.sock"},
		{config.Control{Enabled: true}, "/run/a:/run/b", "/run/a/control.sock"},
		{config.Control{Enabled: true, Socket: "/x/y"}, "/run/shirube", "/x/y"},
		{config.Control{Socket: "/x/y"}, "/run/shirube", ""},
	} {
		t.Setenv("RUNTIME_DIRECTORY", tt.systemd)
		if got := controlPath(tt.cfg); got != tt.want {
			t.Errorf("%+v with %q: got %q, want %q", tt.cfg, tt.systemd, got, tt.want)
		}
	}
	for name, want := range map[string]int{"": -1, "root": 0, "0": 0, "4242": 4242} {
		if got, err := groupID(name); err != nil || got != want {
			t.Errorf("group %q: got %d, %v; want %d", name, got, err, want)
		}
	}
	for _, name := range []string{"no such group", "-1", "99999999999"} {
		if got, err := groupID(name); err == nil {
			t.Errorf("group %q is %d", name, got)
		}
	}
}

// TestDaemonServesItsControlSocket starts a whole server and asks it.
func TestDaemonServesItsControlSocket(t *testing.T) {
	cfg := scenarioConfig(t)
	cfg.Listen = []config.Listener{{Address: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), porttest.Take(t)), Protocols: []config.Protocol{config.ProtocolUDP}}}
	cfg.Control.Socket = filepath.Join(t.TempDir(), "s")
	var out lockedBuffer
	level := new(slog.LevelVar)
	d, err := New(cfg, slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level})))
	if err != nil {
		t.Fatal(err)
	}
	d.Version, d.Level = "v1", level
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	c := control.NewClient(cfg.Control.Socket)
	raw, err := c.Do(t.Context(), "GET", "/v1/status", nil, nil)
	var s control.Status
	if err != nil || json.Unmarshal(raw, &s) != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	if s.Version != "v1" || s.State != control.StateReady || s.PID != os.Getpid() || s.LogLevel != "info" || len(s.Caches) != 2 || s.Validation.Enabled ||
		len(s.Listeners) != 1 || s.Listeners[0] != (control.Listener{Address: cfg.Listen[0].Address.String(), Protocol: "udp"}) {
		t.Errorf("%+v", s)
	}
	for _, want := range []string{"debug", "info", "warn", "error"} {
		if _, err := c.Do(t.Context(), "PUT", "/v1/log", nil, map[string]string{"level": want}); err != nil || d.logLevel() != want {
			t.Errorf("the level is %s, want %s: %v", d.logLevel(), want, err)
		}
	}
	if _, err := c.Do(t.Context(), "PUT", "/v1/log", nil, map[string]string{"level": "INFO+1"}); err == nil || d.logLevel() != "error" {
		t.Errorf("%v; the level is %s", err, d.logLevel())
	}
	if raw, err := c.Do(t.Context(), "GET", "/v1/stats", nil, nil); err != nil || !strings.Contains(string(raw), `"goroutines"`) {
		t.Errorf("%v: %s", err, raw)
	}
	if _, err := c.Do(t.Context(), "GET", "/v1/lookup", url.Values{"name": {"."}}, nil); err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.String(), "path="+cfg.Control.Socket) {
		t.Errorf("the log does not say where the socket is:\n%s", out.String())
	}
	if err := d.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := c.Do(t.Context(), "GET", "/v1/status", nil, nil); !errors.Is(err, control.ErrUnreachable) {
		t.Errorf("after the end: %v", err)
	}
	if _, err := os.Lstat(cfg.Control.Socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket stays: %v", err)
	}
}

// TestStartFailsWithoutTheSocketThatIsAskedFor: who relies on it should not find
// out when he needs it.
func TestStartFailsWithoutTheSocketThatIsAskedFor(t *testing.T) {
	cfg := scenarioConfig(t)
	cfg.Listen = []config.Listener{{Address: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), porttest.Take(t)), Protocols: []config.Protocol{config.ProtocolUDP}}}
	cfg.Control.Socket = filepath.Join(t.TempDir(), "none", "s")
	d, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(); err == nil || !strings.Contains(err.Error(), cfg.Control.Socket) {
		t.Errorf("got %v", err)
	}
}
