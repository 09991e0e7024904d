//go:build !race

package daemon

import (
	"context"
	"crypto/tls"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/wire"
	"shirube/transport/clients"
)

// TestClientsOfDoQThatComeBackAskIn0RTT connects three times as one client: as nobody,
// as one that has a session, and as one that also asks before the handshake's end.
// The race detector finds the library's client opening a stream while it reads what the
// server allows (quic-go issue 4303); nothing but tests and bench uses it so.
func TestClientsOfDoQThatComeBackAskIn0RTT(t *testing.T) {
	s := serveEverywhere(t, nil)
	var way clients.Way
	for _, w := range clients.Ways() {
		if w.Proto == wire.DoQ {
			way = w
		}
	}
	config := &tls.Config{
		RootCAs: s.authority.Pool(), MinVersion: tls.VersionTLS13, ServerName: "127.0.0.1",
		ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}
	query := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA)
	packed, err := query.Pack()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		way  clients.Way
		want clients.Session
	}{
		{"the first time", way, clients.Session{}},
		{"the second time", way, clients.Session{Resumed: true}},
		{"with early queries", way.Returning(), clients.Session{Resumed: true, Early: true}},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		c, err := tt.way.Dial(ctx, netip.Addr{}, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.port(way)), config)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if m, _ := askWay(t, c, packed, 30*time.Second); m == nil || m.Rcode != dns.RcodeSuccess || len(m.Answer) == 0 {
			t.Errorf("%s: answered with %v", tt.name, m)
		}
		if got := clients.SessionOf(c); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
