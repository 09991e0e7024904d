package daemon

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"shirube/internal/config"
	"shirube/internal/porttest"
)

// TestServerWhoseAddressIsElsewhereIsAlive listens on an address that no interface
// has: nobody can ask there, and the service manager must not take that for a
// server that hangs. An address that is there and silent is what it is to notice.
func TestServerWhoseAddressIsElsewhereIsAlive(t *testing.T) {
	for at, alive := range map[string]bool{"192.0.2.77": true, "127.0.0.1": false} {
		cfg := scenarioConfig(t)
		cfg.Resolver.RootHints, cfg.Resolver.DoNotQueryLocalhost, cfg.Resolver.PrimeRoot = "testdata/nobody.hints", false, false
		cfg.Listen = []config.Listener{{
			Address: netip.AddrPortFrom(netip.MustParseAddr(at), porttest.Take(t)), Protocols: []config.Protocol{config.ProtocolUDP}, Freebind: true,
		}}
		d, err := New(cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Start(); err != nil {
			t.Fatal(err)
		}
		if got, _ := d.answers(t.Context(), 10*time.Second, 0); !got {
			t.Errorf("%s: it is not alive", at)
		}
		// Nobody reads any more.
		if err := d.udp.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, _ := d.answers(t.Context(), 100*time.Millisecond, d.udp.Stats().Received); got != alive {
			t.Errorf("%s: without readers it is alive: %t", at, got)
		}
		if err := d.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
