package daemon

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"shirube/internal/config"
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
	if s := d.Frontend.Stats(); s.Flights != 0 {
		t.Errorf("%+v", s)
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
