package daemon

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/cache/shared"
	"shirube/internal/config"
	"shirube/internal/control"
	"shirube/internal/memcached"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// writeSecrets writes lines to a file of their own.
func writeSecrets(t *testing.T, lines ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secrets")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

var secretA, secretB = strings.Repeat("a1", shared.SecretLen), strings.Repeat("b2", shared.SecretLen)

// fleetConfig is a configuration with these servers, and all the time there is.
func fleetConfig(t *testing.T, servers ...*memcached.Process) config.Config {
	t.Helper()
	cfg := scenarioConfig(t)
	cfg.SharedCache.Enabled, cfg.SharedCache.SecretFile = true, writeSecrets(t, secretA)
	cfg.SharedCache.Budget = 100 * time.Millisecond
	for i, s := range servers {
		cfg.SharedCache.Servers = append(cfg.SharedCache.Servers, config.SharedServer{
			Name: fmt.Sprintf("memcached-%d", i), Address: config.Address{AddrPort: s.Addr},
		})
	}
	return cfg
}

// member is one server of a fleet, in the world of the scenarios.
type member struct {
	*Pipeline
	net *simnet.Net
}

func newMember(t *testing.T, cfg config.Config) *member {
	t.Helper()
	m := &member{net: simnet.New()}
	baseWorld(m.net)
	p, err := NewPipeline(cfg, m.net, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	m.Pipeline = p
	return m
}

// written waits until the fleet has been told all that the member knows.
func (m *member) written(t *testing.T) {
	t.Helper()
	for range 500 {
		done := uint64(0)
		for _, s := range m.Shared.Stats().Servers {
			done += s.Stored + s.Kept + s.Dropped + s.Errors
		}
		if s := m.Frontend.Stats().Shared; done == s.Set+s.Failed+m.Shared.Stats().ZonesTold {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("entries are not written: %+v", m.Shared.Stats())
}

func TestFleetResolvesANameOnce(t *testing.T) {
	mc := memcached.Start(t)
	a, b := newMember(t, fleetConfig(t, mc)), newMember(t, fleetConfig(t, mc))
	questions := []string{
		"www.example.com. A", "www.example.com. AAAA", "WWW.example.com. A +do", "alias.example.com. A", "none.example.com. A",
		"www.example.com. MX", "x.wild.example.com. TXT", "example.com. MX +do",
	}
	want := map[string]string{}
	for _, q := range questions {
		want[q] = answerOf(ask(t, a.Pipeline, q))
	}
	a.written(t)
	for _, q := range questions {
		if got := answerOf(ask(t, b.Pipeline, q)); got != want[q] {
			t.Errorf("%s: got\n%s\nexpected\n%s", q, got, want[q])
		}
	}
	if sent := b.net.Log().Questions(); len(sent) > 0 {
		t.Errorf("the second server asked %q", sent)
	}
	if s := b.Frontend.Stats().Shared; s.Hits != uint64(len(questions)) {
		t.Errorf("%+v, %+v", s, b.Shared.Stats())
	}
}

func TestFlushedNamesDoNotComeBackFromTheFleet(t *testing.T) {
	mc := memcached.Start(t)
	a, b := newMember(t, fleetConfig(t, mc)), newMember(t, fleetConfig(t, mc))
	ask(t, a.Pipeline, "www.example.com. A")
	a.written(t)
	for _, m := range []*member{b, a} {
		m.net.ResetLog()
		ask(t, m.Pipeline, "www.example.com. A")
		if sent := m.net.Log().Questions(); len(sent) > 0 {
			t.Errorf("asked %q before the order", sent)
		}
		m.flush(control.Flush{Name: wire.MustParseName("example.com."), Below: true})
		got := ask(t, m.Pipeline, "www.example.com. A")
		if sent := m.net.Log().Questions(); len(sent) == 0 || len(got.Answer) != 2 {
			t.Errorf("asked %q after the order; got\n%v", sent, got)
		}
		m.written(t)
	}
}

// answerOf returns a message without what is another each time; TTLs may have
// counted on.
func answerOf(m *dns.Msg) string {
	m = m.Copy()
	m.Id = 0
	for _, section := range [][]dns.RR{m.Answer, m.Ns} {
		for _, rr := range section {
			rr.Header().Ttl = 0
		}
	}
	return m.String()
}

func TestOtherRulesAreAnotherFleet(t *testing.T) {
	mc := memcached.Start(t)
	a := newMember(t, fleetConfig(t, mc))
	ask(t, a.Pipeline, "www.example.com. A")
	a.written(t)
	zone := config.Zone{Name: wire.MustParseName("example.com."), Servers: []config.Server{{Address: config.Address{AddrPort: netip.MustParseAddrPort("192.0.2.11:53")}}}}
	for name, change := range map[string]func(*config.Config){
		"generation": func(c *config.Config) { c.SharedCache.Generation = 1 },
		"secret":     func(c *config.Config) { c.SharedCache.SecretFile = writeSecrets(t, secretB) },
		"forwarder":  func(c *config.Config) { c.ForwardZones = []config.Zone{zone} },
		"stub":       func(c *config.Config) { c.StubZones = []config.Zone{zone} },
		"longest":    func(c *config.Config) { c.Cache.MaxTTL = time.Hour },
	} {
		cfg := fleetConfig(t, mc)
		change(&cfg)
		b := newMember(t, cfg)
		if m := ask(t, b.Pipeline, "www.example.com. A"); m.Rcode != dns.RcodeSuccess || len(b.net.Log().Questions()) == 0 {
			t.Errorf("%s: it took what is not its own:\n%v", name, m)
		}
		if b.sharedStats().Fleet.ID == a.sharedStats().Fleet.ID && !strings.Contains("forwarder stub", name) { // of one zone only
			t.Errorf("%s: nothing shows that it keeps to itself", name)
		}
	}
	same := newMember(t, fleetConfig(t, mc))
	if ours, its := a.sharedStats().Fleet.ID, same.sharedStats().Fleet.ID; ours != its || ours == 0 {
		t.Errorf("servers of one fleet are %d and %d", ours, its)
	}
	if ask(t, same.Pipeline, "www.example.com. A"); len(same.net.Log().Questions()) > 0 {
		t.Error("the same rules in another process are other rules")
	}
}

// Every setting that decides what an answer is, or whether it is believed, keeps
// servers apart that have it otherwise: one that does not validate, say.
func TestEverySettingThatJudgesIsAScopeOfItsOwn(t *testing.T) {
	name := wire.MustParseName("www.example.com.")
	seen := map[uint64]string{scopes(fleetConfig(t))(name): "none"}
	for what, change := range map[string]func(*config.Config){
		"validation":           func(c *config.Config) { c.DNSSEC.Validation = !c.DNSSEC.Validation },
		"root anchor":          func(c *config.Config) { c.DNSSEC.RootTrustAnchor = !c.DNSSEC.RootTrustAnchor },
		"anchors":              func(c *config.Config) { c.DNSSEC.TrustAnchors = append(c.DNSSEC.TrustAnchors, ". IN DS 1 8 2 00") },
		"files of anchors":     func(c *config.Config) { c.DNSSEC.TrustAnchorFiles = []string{"a"} },
		"time":                 func(c *config.Config) { c.DNSSEC.OverrideTime = "-1" },
		"iterations":           func(c *config.Config) { c.DNSSEC.MaxNSEC3Iterations++ },
		"below what is denied": func(c *config.Config) { c.DNSSEC.HardenBelowNXDomain = !c.DNSSEC.HardenBelowNXDomain },
		"algorithms":           func(c *config.Config) { c.DNSSEC.DisabledAlgorithms = append(c.DNSSEC.DisabledAlgorithms, "RSASHA1") },
		"digests":              func(c *config.Config) { c.DNSSEC.DisabledDSDigests = append(c.DNSSEC.DisabledDSDigests, "SHA-1") },
		"hints":                func(c *config.Config) { c.Resolver.RootHints = "hints" },
		"port":                 func(c *config.Config) { c.Resolver.Port++ },
		"longest":              func(c *config.Config) { c.Cache.MaxTTL++ },
		"shortest":             func(c *config.Config) { c.Cache.MinTTL++ },
		"longest denial":       func(c *config.Config) { c.Cache.MaxNegativeTTL++ },
		"what is left out":     func(c *config.Config) { c.Cache.MinimalResponses = !c.Cache.MinimalResponses },
	} {
		cfg := fleetConfig(t)
		change(&cfg)
		scope := scopes(cfg)(name)
		if other, again := seen[scope]; again {
			t.Errorf("%s is in one scope with %s", what, other)
		}
		seen[scope] = what
	}
}

func TestSecretsOfTheSharedCacheHaveToBeGood(t *testing.T) {
	for name, tt := range map[string]struct {
		lines []string
		want  string
	}{
		"one":               {[]string{"# ours", "", secretA}, ""},
		"two and names":     {[]string{secretA, secretB, "names " + strings.Repeat("c3", 32)}, ""},
		"none":              {[]string{"# nothing"}, "found 0 secrets"},
		"three":             {[]string{secretA, secretB, strings.Repeat("c3", 32)}, "found 3 secrets"},
		"twice":             {[]string{secretA, secretA}, "same secret twice"},
		"short":             {[]string{secretA[2:]}, "line 1: found 62 characters; expected 64"},
		"no digits":         {[]string{"", "x" + secretA[1:]}, "line 2: found 64 characters; expected 64"},
		"names twice":       {[]string{secretA, "names " + secretA, "names " + secretB}, "line 3: found a second"},
		"much":              {[]string{strings.Repeat("#", maxSecretFile)}, "longer than 4096"},
		"two on a line":     {[]string{secretA + " " + secretB}, "line 1"},
		"names and nothing": {[]string{"names " + secretA}, "found 0 secrets"},
	} {
		cfg := fleetConfig(t)
		cfg.SharedCache.SecretFile = writeSecrets(t, tt.lines...)
		p, err := NewPipeline(cfg, simnet.New(), slog.New(slog.DiscardHandler))
		if err == nil {
			p.Close()
		}
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v; expected %s", name, err, tt.want)
		case err != nil && strings.Contains(err.Error(), secretA[:8]):
			t.Errorf("%s: the error shows a secret: %v", name, err)
		}
	}
	cfg := fleetConfig(t)
	cfg.SharedCache.SecretFile = filepath.Join(t.TempDir(), "missing")
	if _, err := NewPipeline(cfg, simnet.New(), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "shared_cache: secret_file: open") {
		t.Errorf("without the file: %v", err)
	}
}

func TestUnauthenticatedSharedCacheIsLoud(t *testing.T) {
	cfg := fleetConfig(t)
	cfg.SharedCache.Authentication, cfg.SharedCache.SecretFile = config.SharedNone, ""
	var log bytes.Buffer
	p, err := NewPipeline(cfg, simnet.New(), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "NOT AUTHENTICATED") {
		t.Errorf("the log says %s", log.String())
	}
}

func TestReloadFollowsTheSharedCache(t *testing.T) {
	file := writeSecrets(t, secretA)
	server := func(name string) config.SharedServer {
		return config.SharedServer{Name: name, Address: config.Address{AddrPort: netip.MustParseAddrPort("127.0.0.1:9")}}
	}
	r := startReloadable(t, func(c *config.Config) {
		c.SharedCache.Enabled, c.SharedCache.SecretFile, c.SharedCache.Servers = true, file, []config.SharedServer{server("a")}
	})
	first := r.Pipeline().Shared
	if err := os.WriteFile(file, []byte(secretB+"\n"+secretA+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Reload(t.Context()); err != nil || r.Pipeline().Shared != first {
		t.Errorf("another cache, though only its secrets have changed: %v", err)
	}
	secrets := shared.Secrets{Values: [][]byte{bytes.Repeat([]byte{0xb2}, 32), bytes.Repeat([]byte{0xa1}, 32)}}
	if changed, err := first.UseSecrets(secrets); changed || err != nil {
		t.Errorf("the secrets were not taken up: %v", err)
	}
	if err := os.WriteFile(file, []byte("nothing\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "secret_file") {
		t.Errorf("bad secrets: %v", err)
	}
	if err := os.WriteFile(file, []byte(secretA+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.cfg.SharedCache.Servers = []config.SharedServer{server("b")}
	changed, err := r.Reload(t.Context())
	if err != nil || !slices.Equal(changed, []string{"shared_cache.servers"}) || r.Pipeline().Shared == first || len(first.Members()) != 0 {
		t.Errorf("%v, %v, %v", changed, err, first.Members())
	}
	got := r.Stats().Shared.Servers
	if _, ok := got["b"]; !ok || len(got) != 1 {
		t.Errorf("%+v", got)
	}
	r.cfg.SharedCache.Enabled = false
	if _, err := r.Reload(t.Context()); err != nil || r.Pipeline().Shared != nil {
		t.Errorf("it cannot be switched off: %v", err)
	}
}

// Nobody notices what happens to memcached: not by an answer, and not by time
// beyond the budget of the few who are there when it does.
func TestMemcachedThatGoesAwayChangesNoAnswer(t *testing.T) {
	servers := []*memcached.Process{memcached.Start(t), memcached.Start(t), memcached.Start(t)}
	cfg := fleetConfig(t, servers...)
	cfg.SharedCache.Budget = 5 * time.Millisecond
	m := newMember(t, cfg)
	m.net.Serve("192.0.2.11", "example.com.", `
example.com. 3600 SOA ns1.example.com. host.example.com. 1 1800 900 604800 300
example.com. 3600 NS ns1.example.com.
ns1.example.com. 3600 A 192.0.2.11
*.load.example.com. 300 A 198.51.100.1
`)
	var mu sync.Mutex
	var took []time.Duration
	failed := 0
	run := func(from, to int) {
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := from + w; i < to; i += 4 {
					begun := time.Now()
					got := ask(t, m.Pipeline, fmt.Sprintf("n%d.load.example.com. A", i))
					mu.Lock()
					took = append(took, time.Since(begun))
					if got == nil || got.Rcode != dns.RcodeSuccess || len(got.Answer) != 1 {
						failed++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	}
	const goneAway = 1000 // questions
	run(0, goneAway/2)
	well := slices.Sorted(slices.Values(took))
	took = nil
	for _, s := range servers {
		s.Kill()
	}
	run(goneAway/2, goneAway/2+goneAway)
	ill := slices.Sorted(slices.Values(took))
	if failed > 0 {
		t.Errorf("%d answers were not as they should be", failed)
	}
	s := m.Shared.Stats()
	if s.Skipped < goneAway*3/4 {
		t.Errorf("%d of %d questions were not held up: %+v", s.Skipped, goneAway, s)
	}
	// The counter above says it exactly. A machine that is busy, and with other things
	// than before, can be held to this much.
	if a, b := well[len(well)/2], ill[len(ill)/2]; b > 2*a+cfg.SharedCache.Budget+time.Millisecond {
		t.Errorf("half of them took up to %v; before, %v", b, a)
	}
}
