package daemon

import (
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/porttest"
	"shirube/internal/wire"
)

// accessClients are clients on this machine by what they may do; the zero
// action is in no rule.
var accessClients = map[config.Action]string{
	config.ActionAllow: "127.0.0.11", config.ActionAllowSnoop: "127.0.0.12",
	config.ActionAllowCookie: "127.0.0.16", config.ActionRefuse: "127.0.0.13", config.ActionDeny: "127.0.0.14", "": "127.0.0.15",
}

// accessServer runs a server that knows accessClients, and returns where it
// listens.
func accessServer(t *testing.T) (*Daemon, netip.AddrPort) {
	t.Helper()
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), porttest.Take(t))
	cfg := scenarioConfig(t)
	cfg.Resolver.RootHints, cfg.Resolver.DoNotQueryLocalhost = "testdata/nobody.hints", false // what is asked stays on this machine
	cfg.Listen = []config.Listener{{Address: at, Protocols: []config.Protocol{config.ProtocolUDP, config.ProtocolTCP}}}
	cfg.AccessControl = nil
	for action, addr := range accessClients {
		if action != "" {
			cfg.AccessControl = append(cfg.AccessControl, config.AccessRule{Prefix: netip.PrefixFrom(netip.MustParseAddr(addr), 32), Action: action})
		}
	}
	d, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Shutdown(t.Context()) }) // connections are still open
	return d, at
}

// accessMessages are messages of every kind that a transport tells apart, and
// what is answered to those who may ask.
func accessMessages(t *testing.T) map[string]struct {
	msg   []byte
	rcode wire.Rcode
} {
	t.Helper()
	m := new(dns.Msg).SetQuestion("example.com.", dns.TypeANY) // which is answered without asking anybody
	m.SetEdns0(1232, false)
	query := func(change func(msg []byte)) []byte {
		msg, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		change(msg)
		return msg
	}
	return map[string]struct {
		msg   []byte
		rcode wire.Rcode
	}{
		"a query":                 {query(func([]byte) {}), wire.NoError},
		"two questions":           {query(func(msg []byte) { msg[5] = 2 }), wire.FormErr},
		"a header":                {query(func([]byte) {})[:wire.HeaderLen], wire.FormErr},
		"an update":               {query(func(msg []byte) { msg[2] |= 5 << 3 }), wire.NotImp},
		"another version of EDNS": {query(func(msg []byte) { msg[len(msg)-5] = 1 }), wire.BadVers},
	}
}

// accessConn sends messages over UDP or TCP.
type accessConn struct {
	net.Conn
	stream bool
}

func dialFrom(t *testing.T, network, from string, to netip.AddrPort) accessConn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}
	if network == "tcp" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := dialer.DialContext(t.Context(), network, to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return accessConn{c, network == "tcp"}
}

func (c accessConn) send(t *testing.T, msg []byte) {
	t.Helper()
	if c.stream {
		msg = append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...)
	}
	if _, err := c.Write(msg); err != nil {
		t.Fatal(err)
	}
}

// receive returns the next response within patience, or nil.
func (c accessConn) receive(t *testing.T, patience time.Duration) []byte {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	var n int
	var err error
	if c.stream {
		if n, err = io.ReadFull(c, buf[:2]); err == nil {
			n, err = io.ReadFull(c, buf[:binary.BigEndian.Uint16(buf)])
		}
	} else {
		n, err = c.Read(buf)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// TestAccessRulesHoldForEveryMessageOnEveryTransport: who is denied hears
// nothing, and who is refused hears nothing else, also when the message is one
// that the transport answers by itself.
func TestAccessRulesHoldForEveryMessageOnEveryTransport(t *testing.T) {
	d, at := accessServer(t)
	received := func() uint64 { s := d.Stats(); return s.UDP.Received + s.TCP.Received }
	for _, network := range []string{"udp", "tcp"} {
		for action, from := range accessClients {
			for kind, tt := range accessMessages(t) {
				t.Run(network+"/"+string(action)+"/"+kind, func(t *testing.T) {
					c := dialFrom(t, network, from, at)
					before := received()
					c.send(t, tt.msg)
					if action == config.ActionDeny {
						for end := time.Now().Add(10 * time.Second); received() == before && time.Now().Before(end); {
							time.Sleep(time.Millisecond)
						}
						if raw := c.receive(t, 20*time.Millisecond); raw != nil || received() != before+1 {
							t.Errorf("%d received, answered %x", received()-before, raw)
						}
						return
					}
					want := tt.rcode
					if action == config.ActionRefuse || action == "" ||
						action == config.ActionAllowCookie && network == "udp" && kind == "a query" { // without a cookie
						want = wire.Refused
					}
					m, raw := new(dns.Msg), c.receive(t, 10*time.Second)
					if err := m.Unpack(raw); err != nil {
						t.Fatalf("%x: %v", raw, err)
					}
					got := m.Rcode & 0xF
					if opt := m.IsEdns0(); opt != nil {
						got |= opt.ExtendedRcode()
					}
					if wire.Rcode(got) != want || raw[0] != tt.msg[0] || raw[1] != tt.msg[1] {
						t.Errorf("answered %v, want %v\n%v", wire.Rcode(got), want, m)
					}
				})
			}
		}
	}
	kinds := uint64(len(accessMessages(t)))
	if s := d.Pipeline().Frontend.Stats(); s.Denied != 2*kinds || s.Refused != 2*2*kinds {
		t.Errorf("%d denied, %d refused, want %d and %d", s.Denied, s.Refused, 2*kinds, 4*kinds)
	}
}
