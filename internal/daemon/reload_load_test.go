package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/lab"
	"shirube/internal/porttest"
	"shirube/internal/wire"
)

// load is clients that ask one question after the other and miss none.
type load struct {
	stop           chan struct{}
	clients        sync.WaitGroup
	answered, lost atomic.Uint64
	first          atomic.Pointer[string] // what was wrong first
}

// startLoad has clients ask the server at questions, over UDP and TCP.
func startLoad(t *testing.T, at netip.AddrPort, questions []wire.Question) *load {
	t.Helper()
	l := &load{stop: make(chan struct{})}
	for i, network := range []string{"udp", "udp", "udp", "tcp"} {
		conn, err := net.Dial(network, at.String())
		if err != nil {
			t.Fatal(err)
		}
		c := &dns.Conn{Conn: conn, UDPSize: 1232}
		l.clients.Go(func() { // owner: this test; end: stop; bound: four
			defer func() { _ = c.Close() }()
			for n := i; ; n += 7 {
				select {
				case <-l.stop:
					return
				default:
				}
				l.ask(c, network, questions[n%len(questions)])
			}
		})
	}
	return l
}

// ask asks one question, once.
func (l *load) ask(c *dns.Conn, network string, question wire.Question) {
	q := new(dns.Msg).SetQuestion(question.Name.String(), uint16(question.Type))
	_ = c.SetDeadline(time.Now().Add(time.Minute)) // what a busy machine has late is not lost
	err := c.WriteMsg(q)
	var m *dns.Msg
	if err == nil {
		m, err = c.ReadMsg()
	}
	if err == nil && (m.Id != q.Id || m.Rcode == dns.RcodeServerFailure || m.Rcode == dns.RcodeRefused) {
		err = fmt.Errorf("%s: got\n%v", network, m)
	}
	if err != nil {
		l.lost.Add(1)
		text := err.Error()
		l.first.CompareAndSwap(nil, &text)
		return
	}
	l.answered.Add(1)
}

// end ends the clients and reports what they have lost.
func (l *load) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.clients.Wait()
	if n := l.lost.Load(); n > 0 {
		t.Errorf("%d of %d queries were lost; the first: %s", n, n+l.answered.Load(), *l.first.Load())
	}
}

// held is what a process holds.
type held struct {
	goroutines, descriptors int
	heap                    uint64
}

// hold measures it when nothing is under way.
func hold(t *testing.T, d *Daemon) held {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); d.slots.Stats().InUse+d.upstream.Stats().Connections.Open > 0 && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(100 * time.Millisecond)
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return held{runtime.NumGoroutine(), len(files) - d.upstream.Stats().Sockets.Kept, m.HeapAlloc}
}

// TestReloadUnderLoadLosesNothing reloads all the time, with files that are bad
// among the others, while clients ask and each answer counts.
func TestReloadUnderLoadLosesNothing(t *testing.T) {
	l, err := lab.Start(t.Context(), lab.Options{Seed: 1, Signed: true})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	questions := l.Questions()
	cfg := scenarioConfig(t)
	hints := filepath.Join(t.TempDir(), "root.hints")
	if err := os.WriteFile(hints, []byte(l.Hints()), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Resolver.RootHints, cfg.Resolver.Port, cfg.Resolver.DoNotQueryLocalhost = hints, l.Port(), false
	cfg.BuiltinZones.Except = lab.Reverse()
	cfg.DNSSEC.Validation, cfg.DNSSEC.RootTrustAnchor, cfg.DNSSEC.AutoTrustAnchor = true, false, false
	cfg.DNSSEC.TrustAnchors = []config.TrustAnchor{config.TrustAnchor(l.Anchor())}
	cfg.Limits.InFlightPerNetwork, cfg.Limits.InFlightPerZone = cfg.Limits.InFlight, cfg.Limits.InFlight
	// An answer that a busy machine has after two seconds is not sent over UDP, as it
	// should be, and one that it has after six is an error. Neither is a reload's doing.
	cfg.Limits.UDPDiscardTimeout, cfg.Resolver.Timeout = time.Minute, 30*time.Second
	first, second := listenOn(porttest.Take(t)), listenOn(porttest.Take(t))
	cfg.Listen = []config.Listener{first}
	d, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}()

	bad := errors.New("shirube.yaml:1:1: listne: unknown key")
	reloads := func(times int) {
		for i := range times {
			next := cfg
			switch i % 4 {
			case 0:
				next.Listen = []config.Listener{first, second}
			case 1:
				next.Cache.AnswersSize, next.Cache.RRsetsSize = 8<<20, 8<<20
				next.ForwardZones = []config.Zone{{Name: wire.MustParseName("nobody.invalid."), Servers: []config.Server{{Address: config.Address{AddrPort: netip.MustParseAddrPort("192.0.2.1:53")}}}}}
			case 2:
				next.AccessControl = append(next.AccessControl[:1:1], config.AccessRule{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Action: config.ActionDeny})
				next.DNSSEC.NegativeTrustAnchors = []config.NegativeTrustAnchor{{Name: wire.MustParseName("nobody.invalid."), For: time.Hour}}
				next.Limits.UDPSize, next.Limits.TCPIdleTimeout = 4096, time.Minute
			}
			d.Load = func() (config.Config, error) {
				if i%4 == 3 {
					return config.Config{}, bad
				}
				return next, nil
			}
			if _, err := d.Reload(t.Context()); (err != nil) != (i%4 == 3) {
				t.Fatalf("reload %d: %v", i, err)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	clients := startLoad(t, first.Address, questions)
	reloads(40)
	clients.end(t)
	before := hold(t, d)
	clients = startLoad(t, first.Address, questions)
	reloads(200)
	clients.end(t)
	after := hold(t, d)
	t.Logf("%d answers during 200 reloads; held before %+v, after %+v", clients.answered.Load(), before, after)
	if after.goroutines > before.goroutines+10 || after.descriptors > before.descriptors+2 || after.heap > before.heap+8<<20 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if clients.answered.Load() < 1000 {
		t.Errorf("only %d answers: that is no load", clients.answered.Load())
	}
}
