package daemon

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// elsewhereZone is example.com. as a server of the operator's has it.
func elsewhereZone(n *simnet.Net, at string) {
	n.Serve(at, "example.com.", `
example.com. 3600 SOA ns1.example.com. host.example.com. 1 1800 900 604800 300
example.com. 3600 NS ns1.example.com.
www.example.com. 300 A 203.0.113.77
alias.example.com. 300 CNAME www.other.net.
`)
}

// reloadWith reloads d with a changed configuration.
func reloadWith(t *testing.T, d *Daemon, change func(*config.Config)) {
	t.Helper()
	next := d.Pipeline().Config
	change(&next)
	d.Load = func() (config.Config, error) { return next, nil }
	if _, err := d.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// address asks for www.example.com. and returns the last address in the answer.
func address(t *testing.T, d *Daemon) string {
	t.Helper()
	m := ask(t, d.Pipeline(), "www.example.com. A")
	if m == nil || len(m.Answer) == 0 {
		t.Fatalf("got %v", m)
	}
	return m.Answer[len(m.Answer)-1].(*dns.A).A.String()
}

const (
	public  = "198.51.100.2"
	private = "203.0.113.77"
)

// ownServers has the operator's server asked for example.com.
func ownServers(cfg *config.Config) {
	cfg.StubZones = []config.Zone{{
		Name:    wire.MustParseName("example.com."),
		Servers: []config.Server{{Address: config.Address{AddrPort: netip.MustParseAddrPort("192.0.2.77:53")}}},
	}}
}

func nobodys(cfg *config.Config) { cfg.StubZones = nil }

func TestReloadForgetsWhatOthersHaveTheWordOn(t *testing.T) {
	controlled(t, func(_ *config.Config, n *simnet.Net) { elsewhereZone(n, "192.0.2.77") }, func(t *testing.T, d *Daemon, n *simnet.Net) {
		other := func() {
			t.Helper()
			n.ResetLog()
			if m := ask(t, d.Pipeline(), "www.other.net. A"); m == nil || len(m.Answer) != 1 || len(n.Log()) != 0 {
				t.Errorf("what has nothing to do with it was forgotten: %v, %v", m, n.Log())
			}
		}
		ask(t, d.Pipeline(), "www.other.net. A")
		for _, tt := range []struct {
			change func(*config.Config)
			want   string
		}{{nobodys, public}, {ownServers, private}, {ownServers, private}, {nobodys, public}} {
			reloadWith(t, d, tt.change)
			for range 2 {
				if got := address(t, d); got != tt.want {
					t.Errorf("got %s, want %s", got, tt.want)
				}
			}
			other()
		}
	})
}

// What the old configuration is about to find is given to who asked it, and to
// nobody else.
func TestReloadRemembersNothingThatTheOldConfigurationStillFinds(t *testing.T) {
	controlled(t, func(_ *config.Config, n *simnet.Net) {
		elsewhereZone(n, "192.0.2.77")
		n.Break("192.0.2.11", simnet.Latency(300*time.Millisecond, 0))
	}, func(t *testing.T, d *Daemon, _ *simnet.Net) {
		old := make(chan string)
		go func() { old <- address(t, d) }() // owner: this test; end: the answer's; bound: one
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		reloadWith(t, d, ownServers)
		if got := address(t, d); got != private {
			t.Errorf("while the other is under way: got %s", got)
		}
		if got := <-old; got != public {
			t.Errorf("who asked before got %s", got)
		}
		for range 20 {
			if got := address(t, d); got != private {
				t.Errorf("afterwards: got %s", got)
			}
			time.Sleep(time.Second)
		}
	})
}

func TestReloadJudgesAnewWhatIsValidatedInAnotherWay(t *testing.T) {
	anchored := brokenExample(t)
	rcode := func(t *testing.T, d *Daemon) int {
		t.Helper()
		return ask(t, d.Pipeline(), "www.example.com. A").Rcode
	}
	negative := []config.NegativeTrustAnchor{{Name: wire.MustParseName("example.com."), For: time.Hour}}
	controlled(t, anchored, func(t *testing.T, d *Daemon, _ *simnet.Net) {
		anchors := d.Pipeline().Config.DNSSEC.TrustAnchors
		for i, tt := range []struct {
			change func(*config.Config)
			want   int
		}{
			{func(*config.Config) {}, dns.RcodeServerFailure},
			{func(c *config.Config) { c.DNSSEC.NegativeTrustAnchors = negative }, dns.RcodeSuccess},
			{func(c *config.Config) { c.DNSSEC.NegativeTrustAnchors = nil }, dns.RcodeServerFailure},
			{func(c *config.Config) { c.DNSSEC.TrustAnchors = nil }, dns.RcodeSuccess},
			{func(c *config.Config) { c.DNSSEC.TrustAnchors = anchors }, dns.RcodeServerFailure},
			{func(c *config.Config) { c.DNSSEC.Permissive = true }, dns.RcodeSuccess},
			{func(c *config.Config) { c.DNSSEC.Permissive = false }, dns.RcodeServerFailure},
			{func(c *config.Config) { c.DNSSEC.Validation = false }, dns.RcodeSuccess},
			{func(c *config.Config) { c.DNSSEC.Validation = true }, dns.RcodeServerFailure},
		} {
			reloadWith(t, d, tt.change)
			for range 2 {
				if got := rcode(t, d); got != tt.want {
					t.Errorf("step %d: got %s, want %s", i, dns.RcodeToString[got], dns.RcodeToString[tt.want])
				}
			}
		}
	})
}

func TestReloadKeepsTheNegativeAnchorsThatWereAddedByOrder(t *testing.T) {
	controlled(t, brokenExample(t), func(t *testing.T, d *Daemon, _ *simnet.Net) {
		name := wire.MustParseName("example.com.")
		if _, err := d.addNegative(name, 2*time.Hour, "told their NOC"); err != nil {
			t.Fatal(err)
		}
		reloadWith(t, d, func(c *config.Config) {
			c.DNSSEC.NegativeTrustAnchors = []config.NegativeTrustAnchor{{Name: wire.MustParseName("other.net."), For: time.Hour}}
		})
		time.Sleep(30 * time.Minute)
		reloadWith(t, d, func(c *config.Config) { c.DNSSEC.RootTrustAnchor = !c.DNSSEC.RootTrustAnchor })
		got := make(map[string]time.Duration)
		for _, n := range d.negatives() {
			got[n.Name] = time.Until(n.Until)
		}
		if len(got) != 2 || got["example.com."] != 90*time.Minute || got["other.net."] != 30*time.Minute {
			t.Errorf("got %v", got)
		}
		if !d.removeNegative(name) {
			t.Error("it cannot be removed")
		}
		reloadWith(t, d, func(c *config.Config) { c.DNSSEC.NegativeTrustAnchors = nil })
		if left := d.negatives(); len(left) != 0 {
			t.Errorf("got %v", left)
		}
	})
}

func TestManyChangesForgetEverything(t *testing.T) {
	from, to := &Pipeline{Config: config.Default()}, &Pipeline{Config: config.Default()}
	zone := func(name string) config.Zone { return config.Zone{Name: wire.MustParseName(name)} }
	for i := range maxOutdated {
		to.Config.ForwardZones = append(to.Config.ForwardZones, zone(string(rune('a'+i%26))+string(rune('a'+i/26))+".example."))
	}
	if got := outdated(from, to); len(got) != maxOutdated {
		t.Errorf("got %v", got)
	}
	to.Config.StubZones = []config.Zone{zone("one.more.example.")}
	if got := outdated(from, to); !slices.Equal(got, []wire.Name{wire.Root}) {
		t.Errorf("got %v", got)
	}
	if got := outdated(to, to); len(got) != 0 {
		t.Errorf("nothing has changed, and %v goes", got)
	}
}
