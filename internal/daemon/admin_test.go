package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/health"
	"shirube/internal/porttest"
	"shirube/internal/simnet"
)

// secret is the token of the tests' admin listeners.
const secret = "a-token-that-nobody-guesses"

// tokenFile returns a file with the secret.
func tokenFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// showing shows the secret.
func showing(r *http.Request) { r.Header.Set("Authorization", "Bearer "+secret) }

// withAdmin returns a server with an admin listener on a free port of loopback,
// started, and where the listener is.
func withAdmin(t *testing.T, change func(*config.Config)) (d *Daemon, at string) {
	t.Helper()
	cfg := config.Default()
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	cfg.Listen = []config.Listener{{Address: netip.AddrPortFrom(loopback.Addr(), porttest.Take(t)), Protocols: []config.Protocol{config.ProtocolUDP, config.ProtocolTCP}}}
	cfg.Admin.Listen = []config.AdminListener{{Address: loopback, TokenFile: tokenFile(t)}}
	cfg.Cache.AnswersSize, cfg.Resolver.PrimeRoot, cfg.DNSSEC.AutoTrustAnchor = 1<<20, false, false
	if change != nil {
		change(&cfg)
	}
	d, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := d.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return d, "http://" + d.admin.Where()[0]
}

// TestReloadChangesTheAdminListener moves it about while it is asked on an address
// that stays.
func TestReloadChangesTheAdminListener(t *testing.T) {
	token, socket := tokenFile(t), filepath.Join(t.TempDir(), "s")
	listener := func() config.AdminListener {
		return config.AdminListener{Address: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), porttest.Take(t)), TokenFile: token}
	}
	stays, goes, comes := listener(), listener(), listener()
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, []byte("another-that-nobody-guesses"), 0o600); err != nil {
		t.Fatal(err)
	}
	guarded := stays
	guarded.TokenFile = other
	r := startReloadable(t, func(cfg *config.Config) {
		cfg.Admin = config.Admin{Enabled: true, Socket: socket, Listen: []config.AdminListener{stays, goes}}
	})
	local := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}
	tcp := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	status := func(c *http.Client, at config.AdminListener, path string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+at.Address.String()+path, http.NoBody)
		if err != nil {
			t.Error(err)
			return 0
		}
		showing(req)
		rsp, err := c.Do(req)
		if err != nil {
			return 0
		}
		_ = rsp.Body.Close()
		return rsp.StatusCode
	}
	wants := func(when string, want map[string]int) {
		t.Helper()
		got := map[string]int{
			"stays": status(tcp, stays, "/metrics"), "goes": status(tcp, goes, "/metrics"), "comes": status(tcp, comes, "/metrics"),
			"socket": status(local, stays, "/metrics"), "profiles": status(local, stays, "/debug/pprof/cmdline"),
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: found %v; expected %v", when, got, want)
		}
	}
	var failed atomic.Int32
	stop := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() { // ends with stop
		for !isClosed(stop) {
			if status(tcp, stays, "/livez") != http.StatusOK || status(local, stays, "/livez") != http.StatusOK {
				failed.Add(1)
			}
		}
	})
	reload := func() error { _, err := r.Reload(t.Context()); return err }
	wants("at first", map[string]int{"stays": 200, "goes": 200, "comes": 0, "socket": 200, "profiles": 404})

	r.cfg.Admin.Listen, r.cfg.Admin.Profiles = []config.AdminListener{guarded, comes}, true
	if err := reload(); err != nil {
		t.Fatal(err)
	}
	wants("moved", map[string]int{"stays": 401, "goes": 0, "comes": 200, "socket": 200, "profiles": 200})

	good := r.cfg.Admin
	r.cfg.Admin.Listen, r.cfg.Admin.Profiles = []config.AdminListener{stays, {Address: r.cfg.Listen[0].Address, TokenFile: token}}, false
	if err := reload(); err == nil {
		t.Error("an address that is taken passes")
	}
	wants("refused", map[string]int{"stays": 401, "goes": 0, "comes": 200, "socket": 200, "profiles": 200})

	close(stop)
	asking.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d requests failed", failed.Load())
	}
	r.cfg.Admin = config.Admin{}
	if err := reload(); err != nil {
		t.Fatal(err)
	}
	wants("closed", map[string]int{"stays": 0, "goes": 0, "comes": 0, "socket": 0, "profiles": 0})
	if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket's file: %v", err)
	}
	r.cfg.Admin = good
	if err := reload(); err != nil {
		t.Fatal(err)
	}
	wants("back", map[string]int{"stays": 401, "goes": 0, "comes": 200, "socket": 200, "profiles": 200})
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// see asks for a page.
func see(t *testing.T, url string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	showing(req)
	rsp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rsp.Body.Close() }()
	b, err := io.ReadAll(rsp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return rsp.StatusCode, string(b)
}

func TestAdminListenerTellsWhatTheServerHasDone(t *testing.T) {
	d, at := withAdmin(t, func(cfg *config.Config) { cfg.DNSSEC.AutoTrustAnchor = true })
	for range 3 {
		askLocal(t, d, "localhost.", dns.TypeA)
	}
	_, text := see(t, at+"/metrics")
	for _, want := range []string{
		`shirube_answers_total{source="local"} 3`, `shirube_responses_by_type_total{transport="udp",type="A"} 3`,
		`shirube_responses_total{rcode="NOERROR",transport="udp"} 3`, `shirube_ready 1`, `shirube_trust_anchor_root_keys `,
		`shirube_connections{transport="tcp"} 0`, `go_goroutines `, `shirube_cache_limit_bytes{memory="answers"} 1.048576e+06`,
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("without %s", want)
		}
	}
	status, text := see(t, at+"/status.json")
	var doc statusDocument
	if err := json.Unmarshal([]byte(text), &doc); err != nil || status != http.StatusOK {
		t.Fatalf("%d, %v: %s", status, err, text)
	}
	if doc.Responses["udp"] != 3 || doc.Rcodes["NOERROR"] != 3 || doc.Sources["local"] != 3 || !doc.Ready || len(doc.Listeners) != 2 {
		t.Errorf("found %+v", doc)
	}
}

// askLocal asks d over UDP.
func askLocal(t *testing.T, d *Daemon, name string, typ uint16) *dns.Msg {
	t.Helper()
	m, _, err := new(dns.Client).Exchange(new(dns.Msg).SetQuestion(name, typ), d.where()[0].at.String())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestPageShowsWhatTheDocumentHas compares what the page's script reads with
// what is there.
func TestPageShowsWhatTheDocumentHas(t *testing.T) {
	d, _ := withAdmin(t, nil)
	text, err := json.Marshal(d.statusPage())
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../admin/status.html")
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, m := range regexp.MustCompile(`\b(?:s|before)\.([a-z_]+)\b`).FindAllStringSubmatch(string(page), -1) {
		read++
		if _, ok := doc[m[1]]; !ok {
			t.Errorf("the page reads %s, which the document does not have", m[1])
		}
	}
	if read < 20 {
		t.Errorf("the page reads %d members", read)
	}
}

func TestReadinessFollowsTheServersLife(t *testing.T) {
	d, at := withAdmin(t, func(cfg *config.Config) { cfg.Health.Name = "health.example" })
	probe := func(want int, rcode int) {
		t.Helper()
		if status, body := see(t, at+"/readyz"); status != want {
			t.Errorf("%d, %s", status, body)
		}
		if m := askLocal(t, d, "health.example.", dns.TypeA); m.Rcode != rcode {
			t.Errorf("the health name: %v", m)
		}
	}
	probe(http.StatusOK, dns.RcodeSuccess)
	if err := d.Drain(true); err != nil {
		t.Fatal(err)
	}
	probe(http.StatusServiceUnavailable, dns.RcodeServerFailure)
	if status, _ := see(t, at+"/livez"); status != http.StatusOK {
		t.Errorf("draining, and not alive: %d", status)
	}
	if err := d.Drain(false); err != nil {
		t.Fatal(err)
	}
	probe(http.StatusOK, dns.RcodeSuccess)
}

func TestServerIsNotReadyBeforeItServes(t *testing.T) {
	cfg := config.Default()
	cfg.Cache.AnswersSize = 1 << 20
	d, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if c := d.Pipeline().Health.Causes(); len(c) != 1 || c[0].Code != health.Starting || d.Pipeline().Health.Ready(time.Now()) {
		t.Errorf("found %v", c)
	}
	d.tellHealth(Stopping)
	if c := d.Pipeline().Health.Causes(); len(c) != 1 || c[0].Code != health.Stopping {
		t.Errorf("at the end: %v", c)
	}
}

func TestAdminListenerIsWhereItIsConfigured(t *testing.T) {
	cfg := config.Default()
	cfg.Cache.AnswersSize = 1 << 20
	d, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	t.Setenv("RUNTIME_DIRECTORY", "")
	if opt, err := d.adminOptions(cfg.Admin); opt != nil || err != nil {
		t.Errorf("by default: %+v, %v", opt, err)
	}
	t.Setenv("RUNTIME_DIRECTORY", "/run/shirube")
	if opt, err := d.adminOptions(cfg.Admin); err != nil || opt.Socket != "/run/shirube/admin.sock" {
		t.Errorf("with systemd: %+v, %v", opt, err)
	}
	if opt, err := d.adminOptions(config.Admin{}); opt != nil || err != nil {
		t.Errorf("switched off: %+v, %v", opt, err)
	}
	if _, err := d.adminOptions(config.Admin{Enabled: true, Socket: "x", Group: "no such group"}); err == nil || !strings.Contains(err.Error(), "admin.group") {
		t.Errorf("with a group that is not there: %v", err)
	}
}

// TestRootOutOfReachCountsAfterItsGrace has nobody answer, then one who was asked
// something else, then nobody again until the watch ends.
func TestRootOutOfReachCountsAfterItsGrace(t *testing.T) {
	inBubble(t, func(cfg *config.Config, _ *simnet.Net) { cfg.Resolver.RootHints = "testdata/silent.hints" }, func(t *testing.T, p *Pipeline, _ *simnet.Net) {
		ctx, end := context.WithCancel(t.Context())
		var answers atomic.Uint64
		done := make(chan struct{})
		// Owner: this test. End: that of ctx. Bound: one.
		go func() {
			defer close(done)
			rootWatch(time.Minute).follow(ctx, func() *Pipeline { return p }, answers.Load)
		}()
		after := func(wait time.Duration, want bool) {
			t.Helper()
			time.Sleep(wait)
			synctest.Wait()
			if got := p.Health.Ready(time.Now()); got != want {
				t.Errorf("ready is %v; %v", got, p.Health.Causes())
			}
		}
		after(55*time.Second, true)
		if c := p.Health.Causes(); len(c) != 1 || c[0].Code != health.NoRoot || c[0].Text == "" {
			t.Errorf("found %v", c)
		}
		after(10*time.Second, false)
		answers.Add(1)
		after(askAgain, true)
		after(2*time.Minute, false)
		end()
		<-done
		after(0, true)
	})
}

func TestRootWithinReachIsNoCause(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, p *Pipeline, _ *simnet.Net) {
		ctx, end := context.WithTimeout(t.Context(), 10*time.Minute)
		defer end()
		rootWatch(time.Minute).follow(ctx, func() *Pipeline { return p }, func() uint64 { return 0 })
		if asked := p.Resolver.Stats().Queries; !p.Health.Ready(time.Now()) || asked < 20 || asked > 60 {
			t.Errorf("%v; %d queries in ten minutes", p.Health.Causes(), asked)
		}
	})
}

func TestHealthNameKeepsItsStateOverAReload(t *testing.T) {
	d, _ := withAdmin(t, func(cfg *config.Config) { cfg.Health.Name = "health.example" })
	if err := d.Drain(true); err != nil {
		t.Fatal(err)
	}
	d.Load = func() (config.Config, error) {
		cfg := *d.cfg()
		cfg.Health.NotReady = config.NotReadyRefused
		return cfg, nil
	}
	changed, err := d.Reload(t.Context())
	if err != nil || len(changed) != 1 {
		t.Fatalf("%v, %v", changed, err)
	}
	if m := askLocal(t, d, "health.example.", dns.TypeA); m.Rcode != dns.RcodeRefused {
		t.Errorf("found %v", m)
	}
}
