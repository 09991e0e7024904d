package daemon

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
)

// proxyHeaderFor is what a proxy says before a query of client, an IPv4 address.
func proxyHeaderFor(client string) []byte {
	a := netip.MustParseAddr(client).As4()
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x12\x00\x0c"), a[:]...)
	return append(b, 192, 0, 2, 53, 0x12, 0x34, 0, 53)
}

// proxyAsk asks l for the builtin name localhost over the network, with something
// before the query. A nil message without an error is silence, which is waited for
// only if that is to come.
func proxyAsk(t *testing.T, network string, l config.Listener, before []byte, silent bool) (*dns.Msg, error) {
	t.Helper()
	conn, err := net.Dial(network, l.Address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	patience := 30 * time.Second
	if network == "udp" && silent {
		patience = 300 * time.Millisecond
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	query, err := new(dns.Msg).SetQuestion("localhost.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	if network == "tcp" {
		query = append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
	}
	if _, err := conn.Write(append(before, query...)); err != nil {
		t.Fatal(err)
	}
	m, err := (&dns.Conn{Conn: conn}).ReadMsg()
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || network == "udp" && errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, nil
	}
	return m, err
}

// TestReloadReplacesProxies is of a listener that clients come to by themselves,
// then by a proxy, and by themselves again.
func TestReloadReplacesProxies(t *testing.T) {
	r := startReloadable(t, nil)
	r.cfg.AccessControl = []config.AccessRule{{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Action: config.ActionAllow}}
	set := func(from ...string) {
		t.Helper()
		l := r.cfg.Listen[0]
		l.ProxyProtocol.From = nil
		for _, prefix := range from {
			l.ProxyProtocol.From = append(l.ProxyProtocol.From, netip.MustParsePrefix(prefix))
		}
		r.cfg.Listen = []config.Listener{l}
		if _, err := r.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	const silence = -1
	ask := func(what string, before []byte, want int) {
		t.Helper()
		for _, network := range []string{"udp", "tcp"} {
			got := silence
			m, err := proxyAsk(t, network, r.cfg.Listen[0], before, want == silence)
			if m != nil {
				got = m.Rcode
			}
			if err != nil || got != want {
				t.Errorf("%s, %s: rcode %d, want %d, %v", what, network, got, want, err)
			}
		}
	}
	ask("without proxies", nil, dns.RcodeSuccess) // 127.0.0.1, before access_control changes
	set("127.0.0.0/8")
	ask("without a header", nil, silence)
	ask("a client who may ask", proxyHeaderFor("198.51.100.7"), dns.RcodeSuccess)
	ask("a client who may not", proxyHeaderFor("203.0.113.7"), dns.RcodeRefused)
	ask("a client who says he is the proxy", proxyHeaderFor("127.0.0.1"), dns.RcodeRefused)
	ask("the proxy itself", []byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"), dns.RcodeRefused)
	set("192.0.2.0/24")
	ask("not a proxy any more", proxyHeaderFor("198.51.100.7"), silence)
	if s := r.Stats(); s.UDP.Unlisted != 1 || s.UDP.NoProxy != 1 || s.TCP.Unlisted != 1 {
		t.Errorf("%d and %d datagrams were dropped, %d connections", s.UDP.Unlisted, s.UDP.NoProxy, s.TCP.Unlisted)
	}
	set()
	ask("without proxies again", nil, dns.RcodeRefused)
}
