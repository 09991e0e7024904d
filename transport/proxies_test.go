package transport

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/netx"
	"shirube/internal/wire"
)

// echo is a Handler that answers with the client's address, from memory or, if
// the name begins with "miss", later.
type echo struct{ *scripted }

func (h echo) reply(buf []byte, q *wire.Query) []byte {
	start := len(buf)
	return wire.AppendOPT(wire.AppendReply(buf, q, wire.NoError), start, q, 1232, wire.NoError,
		wire.Option{Code: dns.EDNS0EDE, Data: []byte{0, 0}, Text: q.Client.String()})
}

func (h echo) TryServe(buf []byte, q *wire.Query) ([]byte, Outcome) {
	if string(firstLabel(q)) == "miss" {
		return buf, Deferred
	}
	return h.reply(buf, q), Answered
}

func (h echo) Serve(_ context.Context, buf []byte, q *wire.Query) []byte { return h.reply(buf, q) }

func newProxies(tb testing.TB, from ...string) *Proxies {
	tb.Helper()
	prefixes := make([]netip.Prefix, len(from))
	for i, text := range from {
		prefixes[i] = netip.MustParsePrefix(text)
	}
	p, err := NewProxies(prefixes, false)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// startProxiedUDP starts a server behind proxies at addr, and returns its address.
func startProxiedUDP(tb testing.TB, opt UDPOptions, p *Proxies, addr string) (*UDP, netip.AddrPort) {
	tb.Helper()
	conns, err := netx.ListenUDP(tb.Context(), netip.MustParseAddrPort(addr), 1)
	if err != nil {
		tb.Fatal(err)
	}
	u := NewUDP(unhurriedUDP(opt))
	u.Start(context.Background())
	u.AddBehind(p, conns...)
	shutDown(tb, u)
	return u, conns[0].LocalAddr().(*net.UDPAddr).AddrPort()
}

// startProxiedTCP is startProxiedUDP over TCP.
func startProxiedTCP(tb testing.TB, opt TCPOptions, p *Proxies, addr string) (*TCP, netip.AddrPort) {
	tb.Helper()
	l, err := netx.ListenTCP(tb.Context(), netip.MustParseAddrPort(addr))
	if err != nil {
		tb.Fatal(err)
	}
	s := NewTCP(unhurried(opt), p.Listener(l))
	s.Start(context.Background())
	shutDown(tb, s)
	return s, l.Addr().(*net.TCPAddr).AddrPort()
}

func TestUDPClientIsTheOneThatTheProxyNames(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:0", "[::1]:0"} {
		eachLoop(t, func(t *testing.T, loop netx.Loop) {
			u, at := startProxiedUDP(t, UDPOptions{Handler: echo{newScripted()}, Loop: loop}, newProxies(t, "127.0.0.0/8", "::1/128"), listen)
			c := dial(t, "udp", at)
			for i, tt := range proxyCases {
				for _, label := range []string{"hit", "miss"} {
					if len(tt.header) > 60_000 {
						continue // more than a datagram takes
					}
					write(t, c, slices.Concat(tt.header, packQuery(t, uint16(i), label)))
					if tt.want == "none" {
						continue // the next answer has another ID
					}
					m := unpack(t, receiveUDP(t, c))
					want := tt.want
					if want == "" {
						want = c.LocalAddr().String()
					}
					if got := edeOf(t, m); m.Id != uint16(i) || got != want {
						t.Errorf("%s: %s with ID %d is the client, want %s", tt.name, got, m.Id, want)
					}
				}
			}
			good, bad := uint64(0), uint64(0)
			for _, tt := range proxyCases {
				if len(tt.header) > 60_000 {
					continue // could not be sent
				}
				if tt.want == "none" {
					bad += 2
				} else {
					good += 2
				}
			}
			eventually(t, "all are counted", func() bool { return u.Stats().Received == good+bad })
			if st := u.Stats(); st.NoProxy != bad || st.Unlisted != 0 || st.Status[wire.OK] != good {
				t.Errorf("%d without a header, want %d: %+v", st.NoProxy, bad, st)
			}
		})
	}
}

func TestUDPOthersThanProxiesAreNotHeard(t *testing.T) {
	u, at := startProxiedUDP(t, UDPOptions{Handler: echo{newScripted()}}, newProxies(t, "192.0.2.0/24", "127.0.0.9/32"), "127.0.0.1:0")
	c := dial(t, "udp", at)
	write(t, c, packQuery(t, 1, "hit"))
	write(t, c, slices.Concat(proxyHeader(0x21, 0x12, proxyInet4), packQuery(t, 2, "hit")))
	eventually(t, "they are counted", func() bool { return u.Stats().Unlisted == 2 })
	proxy, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.9:0")), net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	if err := proxy.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	write(t, proxy, slices.Concat(proxyHeader(0x21, 0x12, proxyInet4), packQuery(t, 3, "hit")))
	if m := unpack(t, receiveUDP(t, proxy)); m.Id != 3 || edeOf(t, m) != "198.51.100.7:4660" {
		t.Errorf("the proxy gets %v", m)
	}
	if st := u.Stats(); st.Received != 3 || st.Unlisted != 2 || st.NoProxy != 0 || st.Status[wire.OK] != 1 {
		t.Errorf("%+v", st)
	}
}

// A header takes no room from a query, and gives it none.
func TestUDPQueryBehindAHeaderMayBeAsLongAsAny(t *testing.T) {
	_, at := startProxiedUDP(t, UDPOptions{Handler: echo{newScripted()}}, newProxies(t, "127.0.0.0/8"), "127.0.0.1:0")
	c := dial(t, "udp", at)
	long := proxyHeader(0x21, 0x12, proxyInet4+string(bytes.Repeat([]byte{4}, MaxProxyHeader-28)))
	for _, header := range [][]byte{long, proxyHeader(0x21, 0x12, proxyInet4)} {
		for _, size := range []int{maxQuery, maxQuery + 1, maxQuery + 300, 20_000} {
			write(t, c, slices.Concat(header, padded(t, uint16(size), size)))
			want := dns.RcodeSuccess
			if size > maxQuery {
				want = dns.RcodeFormatError
			}
			m := unpack(t, receiveUDP(t, c))
			if wantRcode(t, m, want); m.Id != uint16(size) {
				t.Errorf("ID %d of a message of %d octets", m.Id, size)
			}
		}
	}
}

func TestTCPClientIsTheOneThatTheProxyNames(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:0", "[::1]:0"} {
		s, at := startProxiedTCP(t, TCPOptions{Handler: echo{newScripted()}}, newProxies(t, "127.0.0.0/8", "::1/128"), listen)
		refused := uint64(0)
		for i, tt := range proxyCases {
			c := dial(t, "tcp", at)
			write(t, c, append(bytes.Clone(tt.header), frame(packQuery(t, uint16(i), "hit"), packQuery(t, uint16(i), "miss"))...))
			if tt.want == "none" {
				refused++
				wantClosed(t, c)
				continue
			}
			want := tt.want
			if want == "" {
				want = c.LocalAddr().String()
			}
			for range 2 {
				m := unpack(t, receiveTCP(t, c))
				if got := edeOf(t, m); m.Id != uint16(i) || got != want {
					t.Errorf("%s: %s with ID %d is the client, want %s", tt.name, got, m.Id, want)
				}
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "all are closed", func() bool { return s.Stats().Open == 0 })
		if st := s.Stats(); st.Closed[ClosedNoProxy] != refused || st.Unlisted != 0 || st.Accepted != uint64(len(proxyCases)) {
			t.Errorf("%d of %d connections had no header: %+v", st.Closed[ClosedNoProxy], refused, st)
		}
		s.conns.mu.Lock()
		if n := len(s.conns.clients); n != 0 {
			t.Errorf("%d clients are remembered", n)
		}
		s.conns.mu.Unlock()
	}
}

func TestTCPOthersThanProxiesAreNotHeard(t *testing.T) {
	s, at := startProxiedTCP(t, TCPOptions{Handler: echo{newScripted()}}, newProxies(t, "192.0.2.0/24"), "127.0.0.1:0")
	for range 3 {
		wantClosed(t, dial(t, "tcp", at))
	}
	if st := s.Stats(); st.Unlisted != 3 || st.Accepted != 0 || st.Open != 0 {
		t.Errorf("%+v", st)
	}
}

// headerOf returns what a proxy sends for a client before its queries.
func headerOf(client netip.Addr, port uint16) []byte {
	a := client.As16()
	return proxyHeader(0x21, 0x21, string(a[:])+proxyInet6[16:32]+string([]byte{byte(port >> 8), byte(port), 0, 53}))
}

func TestTCPLimitsConnectionsOfClientsBehindOneProxy(t *testing.T) {
	s, at := startProxiedTCP(t, TCPOptions{Handler: echo{newScripted()}, MaxConnsPerClient: 2}, newProxies(t, "127.0.0.0/8"), "127.0.0.1:0")
	open := func(client string) net.Conn {
		t.Helper()
		c := dial(t, "tcp", at)
		write(t, c, append(headerOf(netip.MustParseAddr(client), 4000), frame(packQuery(t, 1, "hit"))...))
		return c
	}
	var last net.Conn
	for _, client := range []string{"2001:db8::1", "2001:db8:0:1::1", "192.0.2.1", "2001:db8::2", "192.0.2.1"} { // two of each network but one
		last = open(client)
		unpack(t, receiveTCP(t, last))
	}
	wantClosed(t, open("2001:db8::3"))
	wantClosed(t, open("192.0.2.1"))
	eventually(t, "they are closed", func() bool { return s.Stats().Open == 5 })
	if st := s.Stats(); st.OverClient != 2 || st.Closed[ClosedOverClient] != 2 || st.OverTotal != 0 {
		t.Errorf("%+v", st)
	}
	_ = last.Close()
	eventually(t, "there is room again", func() bool { return s.Stats().Open == 4 })
	unpack(t, receiveTCP(t, open("192.0.2.1")))
}

// proxiedTest runs f against a server behind proxies, in fake time.
func proxiedTest(t *testing.T, f func(t *testing.T, s *TCP, c net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		s := NewTCP(TCPOptions{Handler: echo{newScripted()}}, newProxies(t, "192.0.2.0/24").Listener(p))
		s.Start(context.Background())
		shutDown(t, s)
		c, _ := p.dial(t, "192.0.2.1:4000")
		f(t, s, c)
	})
}

func TestTCPDribblingAHeaderExtendsNothing(t *testing.T) {
	proxiedTest(t, func(t *testing.T, s *TCP, c net.Conn) {
		start := time.Now()
		for _, b := range headerOf(netip.MustParseAddr("2001:db8::1"), 1) {
			if _, err := c.Write([]byte{b}); err != nil {
				break
			}
			time.Sleep(900 * time.Millisecond)
		}
		closedAfter(c)
		if d := time.Since(start); d < DefaultFirstByteTimeout || d > DefaultFirstByteTimeout+time.Second {
			t.Errorf("closed after %s", d)
		}
		wantReason(t, s, ClosedFirstByte)
	})
}

func TestTCPHeaderAloneDoesNotExtendTheFirstBytesTime(t *testing.T) {
	proxiedTest(t, func(t *testing.T, s *TCP, c net.Conn) {
		time.Sleep(time.Second)
		write(t, c, headerOf(netip.MustParseAddr("2001:db8::1"), 1))
		if d := closedAfter(c); d != DefaultFirstByteTimeout-time.Second {
			t.Errorf("closed after %s", d)
		}
		wantReason(t, s, ClosedFirstByte)
	})
}

func TestTCPProxyThatGoesIsNoTrouble(t *testing.T) {
	for n, want := range map[int]CloseReason{0: ClosedByClient, 5: ClosedMidMessage, 16: ClosedMidMessage, 30: ClosedMidMessage, 52: ClosedByClient} {
		proxiedTest(t, func(t *testing.T, s *TCP, c net.Conn) {
			write(t, c, headerOf(netip.MustParseAddr("2001:db8::1"), 1)[:n])
			_ = c.Close()
			wantReason(t, s, want)
		})
	}
}

func TestTCPShutdownEndsTheWaitForAHeader(t *testing.T) {
	s, at := startProxiedTCP(t, TCPOptions{Handler: echo{newScripted()}}, newProxies(t, "127.0.0.0/8"), "127.0.0.1:0")
	c := dial(t, "tcp", at)
	write(t, c, []byte(proxySignature))
	eventually(t, "it is connected", func() bool { return s.Stats().Open == 1 })
	start := time.Now()
	if err := s.Shutdown(t.Context()); err != nil || time.Since(start) > patience/2 {
		t.Errorf("after %s: %v", time.Since(start), err)
	}
	if st := s.Stats(); st.Closed[ClosedShutdown] != 1 {
		t.Errorf("%+v", st)
	}
}

func TestNewProxiesRefusesBadLists(t *testing.T) {
	one := netip.MustParsePrefix("192.0.2.0/24")
	for what, from := range map[string][]netip.Prefix{
		"too many": slices.Repeat([]netip.Prefix{one}, MaxProxies+1), "no prefix": {one, {}},
	} {
		if _, err := NewProxies(from, false); err == nil {
			t.Errorf("%s are taken", what)
		}
	}
	if _, err := NewProxies(slices.Repeat([]netip.Prefix{one}, MaxProxies), false); err != nil {
		t.Error(err)
	}
}

func TestProxiesAreReplacedWhileTheyAreServed(t *testing.T) {
	p := newProxies(t)
	_, udp := startProxiedUDP(t, UDPOptions{Handler: echo{newScripted()}}, p, "127.0.0.1:0")
	_, tcp := startProxiedTCP(t, TCPOptions{Handler: echo{newScripted()}}, p, "127.0.0.1:0")
	u, c := dial(t, "udp", udp), dial(t, "tcp", tcp)
	if got := edeOf(t, askUDP(t, u, 1, "hit")); got != u.LocalAddr().String() {
		t.Errorf("without proxies %s is the client", got)
	}
	if got := edeOf(t, askTCP(t, c, 1, "hit")); got != c.LocalAddr().String() {
		t.Errorf("without proxies %s is the client", got)
	}
	if err := p.Replace([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, false); err != nil {
		t.Fatal(err)
	}
	if got := edeOf(t, askTCP(t, c, 1, "hit")); got != c.LocalAddr().String() {
		t.Errorf("on a connection from before %s is the client", got)
	}
	c = dial(t, "tcp", tcp)
	hit, header := packQuery(t, 2, "hit"), proxyHeader(0x21, 0x12, proxyInet4)
	write(t, u, slices.Concat(header, hit))
	write(t, c, slices.Concat(header, frame(hit)))
	for _, m := range []*dns.Msg{unpack(t, receiveUDP(t, u)), unpack(t, receiveTCP(t, c))} {
		if got := edeOf(t, m); got != "198.51.100.7:4660" {
			t.Errorf("with proxies %s is the client", got)
		}
	}
}

func TestProxiesListAddresses(t *testing.T) {
	p := newProxies(t, "192.0.2.77/24", "fe80::/10", "2001:db8::1/128")
	for addr, want := range map[string]bool{
		"192.0.2.1": true, "::ffff:192.0.2.1": true, "192.0.3.1": false, "fe80::1%lo": true, "fe80::1": true,
		"2001:db8::1": true, "2001:db8::2": false, "::": false,
	} {
		if got := p.lists(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
	if p.lists(netip.Addr{}) {
		t.Error("no address is listed")
	}
}
