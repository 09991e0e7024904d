package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"shirube/internal/config"
	"shirube/internal/porttest"
)

// TestLogStatsAtAnyTime asks for counters while the server starts: the signal
// that asks comes when it likes.
func TestLogStatsAtAnyTime(t *testing.T) {
	var out lockedBuffer
	cfg := scenarioConfig(t)
	cfg.Listen = []config.Listener{{
		Address:   netip.MustParseAddrPort("127.0.0.1:0"),
		Protocols: []config.Protocol{config.ProtocolUDP, config.ProtocolTCP},
	}}
	d, err := New(cfg, slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	d.LogStats()
	if got := out.String(); !strings.Contains(got, "not started") {
		t.Errorf("got %q", got)
	}
	var wg sync.WaitGroup
	wg.Go(d.LogStats)
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	d.LogStats()
	if got := out.String(); !strings.Contains(got, "msg=statistics goroutines=") {
		t.Errorf("got %q", got)
	}
	if err := d.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestStartBindsNothingAfterAnError(t *testing.T) {
	cfg := scenarioConfig(t)
	good := config.Listener{Address: netip.MustParseAddrPort("127.0.0.1:0"), Protocols: []config.Protocol{config.ProtocolUDP, config.ProtocolTCP}}
	bad := config.Listener{Address: netip.MustParseAddrPort("192.0.2.250:1"), Protocols: []config.Protocol{config.ProtocolUDP}} // nobody's
	cfg.Listen = []config.Listener{good, bad}
	d, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	err = d.Start()
	if err == nil || !strings.Contains(err.Error(), "192.0.2.250:1") {
		t.Fatalf("got %v, want an error that names the address", err)
	}
	if s := d.Pipeline().Frontend.Stats(); s.Flights != 0 {
		t.Errorf("%+v", s)
	}
}

// TestShutdownAbandonsWhatIsBeingResolved asks a server whose only name server is
// silent, and does not let it wait for that.
func TestShutdownAbandonsWhatIsBeingResolved(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.53.255.254:0") // testdata/nobody.hints
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	cfg := scenarioConfig(t)
	cfg.Resolver.RootHints, cfg.Resolver.DoNotQueryLocalhost, cfg.Resolver.PrimeRoot = "testdata/nobody.hints", false, false
	cfg.Resolver.Port = silent.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	cfg.Resolver.Timeout = time.Minute
	port := porttest.Take(t)
	cfg.Listen = []config.Listener{{
		Address:   netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port),
		Protocols: []config.Protocol{config.ProtocolUDP, config.ProtocolTCP},
	}}
	d, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	raw, _ := parseAsk(t, "www.example.com. A")
	c, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write(raw); err != nil {
		t.Fatal(err)
	}
	if _, _, err := silent.ReadFrom(make([]byte, 512)); err != nil { // then it waits
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if err := d.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(begun); took > cfg.Resolver.Timeout/2 {
		t.Errorf("took %v", took)
	}
}

// lockedBuffer is a buffer for several writers.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestLogAsJSONSaysWhereClientsAreListenedTo(t *testing.T) {
	var out bytes.Buffer
	list := []endpoint{{at: netip.MustParseAddrPort("192.0.2.1:53"), proto: config.ProtocolUDP}, {proto: config.ProtocolDoHCleartext, socket: "/run/shirube/doh.sock", group: "haproxy"}}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("ready", "listen", list)
	if got := out.String(); !strings.Contains(got, `"listen":["192.0.2.1:53/udp","/run/shirube/doh.sock/doh_cleartext"]`) {
		t.Errorf("got %s", got)
	}
}
