package daemon

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/cache/shared"
	"shirube/internal/config"
	"shirube/internal/control"
	"shirube/internal/memcached"
	"shirube/internal/wire"
)

// throughRelays is cfg for a server whose way to each memcached is its own.
func throughRelays(t *testing.T, cfg config.Config, servers []*memcached.Process) (config.Config, []*relay) {
	t.Helper()
	cfg.SharedCache.Servers = append([]config.SharedServer(nil), cfg.SharedCache.Servers...)
	var relays []*relay
	for i, s := range servers {
		r := newRelay(t, s.Addr)
		relays = append(relays, r)
		cfg.SharedCache.Servers[i].Address = config.Address{AddrPort: r.Addr().(*net.TCPAddr).AddrPort()}
	}
	return cfg, relays
}

// moveExample has the world of m say something else of www.example.com.
func (m *member) moveExample(to string) {
	m.net.Serve(exampleCom, "example.com.", fmt.Sprintf(`
example.com. 3600 SOA ns1.example.com. host.example.com. 2 1800 900 604800 300
example.com. 3600 NS ns1.example.com.
ns1.example.com. 3600 A 192.0.2.11
www.example.com. 300 A %s
`, to))
}

// One server of the fleet is cut off from one memcached, whichever, while a name
// is flushed: by another server, or by itself. Neither it, nor the others, nor one
// that starts later give the old answer again, also when the way is there again.
func TestServerCutOffFromOneMemcachedBringsNothingBack(t *testing.T) {
	t.Parallel() // it waits more than it works
	const moved = "198.51.100.77"
	www := wire.Question{Name: wire.MustParseName("www.example.com."), Type: wire.TypeA}
	for i := range 3 {
		for _, itself := range []bool{false, true} {
			what := fmt.Sprintf("cut off from %d, gives the order: %v", i, itself)
			servers := []*memcached.Process{memcached.Start(t), memcached.Start(t), memcached.Start(t)}
			cfg := fleetConfig(t, servers...)
			far, relays := throughRelays(t, cfg, servers)
			a, b := newFollower(t, cfg), newFollower(t, far)
			ask(t, a.Pipeline, "www.example.com. A")
			a.written(t)
			relays[i].mute.Store(true)
			ask(t, b.Pipeline, "www.example.com. A") // from the fleet; or itself, and told to who stands in
			gives, learns := a, b
			if itself {
				gives, learns = b, a
			}
			before := learns.Shared.Stats().Fleet.Learned
			// A machine that is busy may have had most memcached be late: the order is
			// given to them then, as to the one that is out of reach.
			if done, err := gives.order(t.Context(), control.Flush{Name: www.Name, Fleet: true}); err != nil || done.Fleet == nil || done.Fleet.Of != len(servers) {
				t.Errorf("%s: %+v, %v", what, done, err)
			}
			eventually(t, what+": the other has read of it", func() bool { return learns.Shared.Stats().Fleet.Learned > before })
			eventually(t, what+": the other has forgotten it", func() bool { return len(learns.entry(t.Context(), www).Memory) == 0 })
			relays[i].mute.Store(false)
			relays[i].cut()
			eventually(t, what+": all are asked again", func() bool {
				for _, s := range b.Shared.Stats().Servers {
					if s.State == shared.Out {
						return false
					}
				}
				return b.Shared.Stats().Fleet.Read == len(servers)
			})
			late := newFollower(t, cfg)
			for _, m := range []*member{late, b, a} {
				m.moveExample(moved)
				if got := ask(t, m.Pipeline, "www.example.com. A"); len(got.Answer) != 1 || !strings.Contains(got.Answer[0].String(), moved) {
					t.Errorf("%s: got\n%v", what, got)
				}
			}
		}
	}
}

// A clock that is an hour wrong makes its server, and what it writes, of little use
// to the others, and the other way round. Nobody gives a wrong answer for it, or
// one that lives too long, and those whose clocks are right go on sharing.
func TestClocksAnHourWrongHarmNobody(t *testing.T) {
	mc := memcached.Start(t)
	clocked := func(by time.Duration) *member {
		cfg := fleetConfig(t, mc)
		cfg.Debug.ClockOffsetFile = filepath.Join(t.TempDir(), "offset")
		if err := os.WriteFile(cfg.Debug.ClockOffsetFile, fmt.Appendf(nil, "%f\n", by.Seconds()), 0o600); err != nil {
			t.Fatal(err)
		}
		return newMember(t, cfg)
	}
	all := map[string]*member{"ahead": clocked(time.Hour), "behind": clocked(-time.Hour), "right": clocked(0)}
	for i, order := range [][]string{{"ahead", "right", "behind"}, {"ahead", "behind", "right"}, {"behind", "right", "ahead"}, {"right", "ahead", "behind"}} {
		name := fmt.Sprintf("n%d.wild.example.com.", i)
		for range 2 {
			for _, who := range order {
				got := ask(t, all[who].Pipeline, name+" TXT")
				if got.Rcode != dns.RcodeSuccess || len(got.Answer) != 1 || got.Answer[0].Header().Ttl > 300 || got.Answer[0].Header().Ttl < 290 {
					t.Errorf("%s, %s: got\n%v", name, who, got)
				}
				all[who].written(t)
			}
		}
	}
	if skew := all["right"].Shared.Stats().Skew; skew < 59*time.Minute {
		t.Errorf("it saw clocks %v ahead", skew)
	}
	ask(t, all["right"].Pipeline, "late.wild.example.com. TXT")
	all["right"].written(t)
	if sent := clocked(0).sent(t, "late.wild.example.com. TXT"); len(sent) > 0 {
		t.Errorf("those whose clocks are right do not share: asked %q", sent)
	}
}
