package netx

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	loopbacks     = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	loopbackPorts = []netip.AddrPort{netip.AddrPortFrom(loopbacks[0], 0), netip.AddrPortFrom(loopbacks[1], 0)}
)

// mustListenUDP opens sockets that are closed when the test ends.
func mustListenUDP(t *testing.T, addr netip.AddrPort, n int) []*net.UDPConn {
	t.Helper()
	conns, err := ListenUDP(t.Context(), addr, n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, c := range conns {
			_ = c.Close()
		}
	})
	return conns
}

func addrOf(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

func TestListenUDPSocketsShareOnePort(t *testing.T) {
	for _, a := range loopbacks {
		conns := mustListenUDP(t, netip.AddrPortFrom(a, 0), 4)
		if canShare && len(conns) != 4 {
			t.Fatalf("%d sockets", len(conns))
		}
		for _, c := range conns {
			if addrOf(c) != addrOf(conns[0]) || addrOf(c).Port() == 0 {
				t.Errorf("a socket listens on %s, the first on %s", addrOf(c), addrOf(conns[0]))
			}
		}
	}
}

func TestListenUDPSpreadsClientsOverSockets(t *testing.T) {
	if !canShare {
		return // one socket is the contract there
	}
	conns := mustListenUDP(t, netip.AddrPortFrom(loopbacks[0], 0), 2)
	const clients = 64
	for range clients {
		c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(addrOf(conns[0])))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
	total := 0
	for i, c := range conns {
		got := drain(t, c)
		if got == 0 {
			t.Errorf("socket %d got none of %d clients", i, clients)
		}
		total += got
	}
	if total != clients {
		t.Errorf("%d of %d datagrams arrived", total, clients)
	}
}

// drain counts the datagrams that wait in c: on loopback they are there when
// the sender's call returns.
func drain(t *testing.T, c *net.UDPConn) (n int) {
	t.Helper()
	var b [16]byte
	for {
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, err := c.Read(b[:])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
}

// A second server must be told, not given half of the first one's clients.
func TestListenUDPRefusesAnAddressInUse(t *testing.T) {
	for _, n := range []int{1, 3} {
		taken := addrOf(mustListenUDP(t, netip.AddrPortFrom(loopbacks[0], 0), n)[0])
		for _, m := range []int{1, 3} {
			conns, err := ListenUDP(t.Context(), taken, m)
			if !errors.Is(err, syscall.EADDRINUSE) {
				t.Fatalf("%d sockets on an address with %d: %v, %v", m, n, conns, err)
			}
			if !strings.Contains(err.Error(), taken.String()) || !strings.Contains(err.Error(), "another program") {
				t.Errorf("the error does not say what is wrong: %v", err)
			}
		}
	}
}

func TestListenTCPRefusesAnAddressInUse(t *testing.T) {
	l, err := ListenTCP(t.Context(), netip.AddrPortFrom(loopbacks[0], 0))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	taken := l.Addr().(*net.TCPAddr).AddrPort()
	_, err = ListenTCP(t.Context(), taken)
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), taken.String()) {
		t.Errorf("%v", err)
	}
}

func TestListenErrorsNameTheAddress(t *testing.T) {
	strange := netip.MustParseAddrPort("192.0.2.77:0") // TEST-NET-1: nobody has it
	if _, err := ListenUDP(t.Context(), strange, 1); err == nil || !strings.Contains(err.Error(), "192.0.2.77") ||
		!strings.Contains(err.Error(), "no interface") {
		t.Errorf("UDP: %v", err)
	}
	if _, err := ListenTCP(t.Context(), strange); err == nil || !strings.Contains(err.Error(), "192.0.2.77") {
		t.Errorf("TCP: %v", err)
	}
	if _, err := ListenUDP(t.Context(), netip.AddrPort{}, 1); err == nil {
		t.Error("UDP: no error for no address")
	}
	if _, err := ListenUDP(t.Context(), netip.AddrPortFrom(loopbacks[0], 0), 0); err == nil {
		t.Error("UDP: no error for no sockets")
	}
	if _, err := ListenTCP(t.Context(), netip.AddrPort{}); err == nil {
		t.Error("TCP: no error for no address")
	}
}

func TestExplainHintsAtPrivilege(t *testing.T) {
	denied := &net.OpError{Op: "listen", Net: "udp4", Err: os.NewSyscallError("bind", syscall.EACCES)}
	low, high := netip.MustParseAddrPort("127.0.0.1:53"), netip.MustParseAddrPort("127.0.0.1:5353")
	if err := explain(denied, low); !strings.Contains(err.Error(), "CAP_NET_BIND_SERVICE") || !errors.Is(err, syscall.EACCES) {
		t.Errorf("port 53: %v", err)
	}
	if err := explain(denied, high); strings.Contains(err.Error(), "CAP_NET_BIND_SERVICE") {
		t.Errorf("port 5353: %v", err)
	}
}

func TestListenTakesIPv4MappedAddressAsIPv4(t *testing.T) {
	mapped := netip.AddrPortFrom(netip.AddrFrom16(loopbacks[0].As16()), 0)
	if a := addrOf(mustListenUDP(t, mapped, 1)[0]); a.Addr() != loopbacks[0] {
		t.Errorf("listens on %s", a)
	}
}
