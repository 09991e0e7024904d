package daemon

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/porttest"
)

// reloadable is a started server whose next configuration is in cfg.
type reloadable struct {
	*Daemon
	cfg config.Config
	out lockedBuffer // its log
}

// startReloadable starts a server on one free port. Its only name server is
// nobody.
func startReloadable(t *testing.T, change func(*config.Config)) *reloadable {
	t.Helper()
	r := &reloadable{cfg: scenarioConfig(t)}
	r.cfg.Resolver.RootHints, r.cfg.Resolver.DoNotQueryLocalhost, r.cfg.Resolver.PrimeRoot = "testdata/nobody.hints", false, false
	r.cfg.Listen = []config.Listener{listenOn(porttest.Take(t))}
	if change != nil {
		change(&r.cfg)
	}
	level := new(slog.LevelVar)
	d, err := New(r.cfg, slog.New(slog.NewTextHandler(&r.out, &slog.HandlerOptions{Level: level})))
	if err != nil {
		t.Fatal(err)
	}
	d.Level = level
	d.Load = func() (config.Config, error) { return r.cfg, nil }
	r.Daemon = d
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Shutdown(t.Context()); err != nil && !errors.Is(err, t.Context().Err()) {
			t.Error(err)
		}
	})
	return r
}

// listenOn is a listener for UDP and TCP on a loopback port.
func listenOn(port uint16) config.Listener {
	return config.Listener{
		Address:   netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port),
		Protocols: []config.Protocol{config.ProtocolUDP, config.ProtocolTCP},
	}
}

// askListener asks the listener l for the builtin name localhost.
func askListener(network string, l config.Listener) (*dns.Msg, error) {
	c := dns.Client{Net: network, Timeout: 30 * time.Second}
	m, _, err := c.Exchange(new(dns.Msg).SetQuestion("localhost.", dns.TypeA), l.Address.String())
	return m, err
}

func TestReloadPutsPolicyInForceAtOnce(t *testing.T) {
	r := startReloadable(t, nil)
	for _, tt := range []struct {
		action config.Action
		rcode  int
	}{{config.ActionAllow, dns.RcodeSuccess}, {config.ActionRefuse, dns.RcodeRefused}, {config.ActionAllow, dns.RcodeSuccess}} {
		r.cfg.AccessControl = []config.AccessRule{{Prefix: netip.MustParsePrefix("127.0.0.0/8"), Action: tt.action}}
		if _, err := r.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, network := range []string{"udp", "tcp"} {
			if m, err := askListener(network, r.cfg.Listen[0]); err != nil || m.Rcode != tt.rcode {
				t.Errorf("%s, %s: got %v, %v", tt.action, network, m, err)
			}
		}
	}
	if s := r.Stats().Frontend; s.Local != 4 || s.Refused != 2 {
		t.Errorf("counters were lost: %+v", s)
	}
}

func TestReloadAddsAndRemovesListeners(t *testing.T) {
	r := startReloadable(t, nil)
	first, second := r.cfg.Listen[0], listenOn(porttest.Take(t))
	conn, err := net.Dial("tcp", first.Address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	old := &dns.Conn{Conn: conn}
	for _, tt := range []struct {
		listen  []config.Listener
		open    []config.Listener
		closed  []config.Listener
		changed []string
	}{
		{[]config.Listener{first, second}, []config.Listener{first, second}, nil, []string{"listen"}},
		{[]config.Listener{first, second}, []config.Listener{first, second}, nil, []string{}},
		{[]config.Listener{second}, []config.Listener{second}, []config.Listener{first}, []string{"listen"}},
	} {
		r.cfg.Listen = tt.listen
		if changed, err := r.Reload(t.Context()); err != nil || !slices.Equal(changed, tt.changed) {
			t.Fatalf("changed %q, %v", changed, err)
		}
		for _, l := range tt.open {
			for _, network := range []string{"udp", "tcp"} {
				if m, err := askListener(network, l); err != nil || m.Rcode != dns.RcodeSuccess {
					t.Errorf("%s on %s: got %v, %v", network, l.Address, m, err)
				}
			}
		}
		for _, l := range tt.closed {
			for _, network := range []string{"udp", "tcp"} {
				if m, err := askListener(network, l); err == nil {
					t.Errorf("%s on %s, which was removed: got %v", network, l.Address, m)
				}
			}
		}
		if got := r.status().Listeners; len(got) != 2*len(tt.listen) {
			t.Errorf("the status says %v", got)
		}
	}
	if err := old.WriteMsg(new(dns.Msg).SetQuestion("localhost.", dns.TypeA)); err != nil {
		t.Error(err)
	}
	if m, err := old.ReadMsg(); err != nil || m.Rcode != dns.RcodeSuccess {
		t.Errorf("a connection to a listener that was removed: got %v, %v", m, err)
	}
}

func TestReloadThatFailsChangesNothing(t *testing.T) {
	r := startReloadable(t, nil)
	good := r.cfg
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	busy := listenOn(taken.Addr().(*net.TCPAddr).AddrPort().Port())
	free := listenOn(porttest.Take(t))
	for _, tt := range []struct {
		what   string
		change func(*config.Config) error
		want   string
	}{
		{"a bad file", func(*config.Config) error { return errors.New("shirube.yaml:1:1: listne: unknown key") }, "listne: unknown key"},
		{"a taken port", func(c *config.Config) error {
			c.Listen = []config.Listener{c.Listen[0], free, busy}
			return nil
		}, busy.Address.String()},
		{"all addresses in place of one", func(c *config.Config) error {
			all := listenOn(c.Listen[0].Address.Port())
			all.Address = netip.AddrPortFrom(netip.IPv4Unspecified(), all.Address.Port())
			c.Listen = []config.Listener{all}
			return nil
		}, "a change between one address and all of them needs a restart"},
		{"hints that are not there", func(c *config.Config) error { c.Resolver.RootHints = "testdata/none"; return nil }, "resolver.root_hints"},
		{"what needs a restart", func(c *config.Config) error {
			c.Log.Format, c.Debug.Enabled, c.Log.Level = config.FormatJSON, true, config.LevelDebug
			return nil
		}, "a change of log.format, debug.enabled needs a restart"},
	} {
		for range 3 {
			r.Load = func() (config.Config, error) {
				next := good
				next.AccessControl = []config.AccessRule{{Prefix: netip.MustParsePrefix("127.0.0.0/8"), Action: config.ActionDeny}}
				err := tt.change(&next)
				return next, err
			}
			before := r.Pipeline()
			if _, err := r.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: got %v, want %q", tt.what, err, tt.want)
			}
			if r.Pipeline() != before || r.logLevel() != "info" {
				t.Errorf("%s: something has changed", tt.what)
			}
		}
		if m, err := askListener("udp", good.Listen[0]); err != nil || m.Rcode != dns.RcodeSuccess {
			t.Errorf("after %s: got %v, %v", tt.what, m, err)
		}
		if m, err := askListener("tcp", free); err == nil {
			t.Errorf("after %s: a listener stays, and says %v", tt.what, m)
		}
	}
	if got := r.out.String(); strings.Count(got, "cannot reload the configuration; going on with the one before") != 15 {
		t.Errorf("the log has\n%s", got)
	}
}
