package netx

import (
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func getsockopt(t *testing.T, c syscall.Conn, level, opt int) (v int) {
	t.Helper()
	rc, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = onFD(rc, func(fd int) (err error) {
		v, err = unix.GetsockoptInt(fd, level, opt)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestUDPSocketOptions(t *testing.T) {
	tests := []struct {
		name, addr       string
		level, opt, want int
	}{
		{"v4 takes no path MTU", "127.0.0.1:0", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT},
		{"v6 takes no path MTU", "[::1]:0", unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT},
		{"v4 wildcard reports destinations", "0.0.0.0:0", unix.IPPROTO_IP, unix.IP_PKTINFO, 1},
		{"v6 wildcard reports destinations", "[::]:0", unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1},
		{"v4 address does not", "127.0.0.1:0", unix.IPPROTO_IP, unix.IP_PKTINFO, 0},
		{"v6 address does not", "[::1]:0", unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 0},
		{"v6 is v6 only", "[::]:0", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1},
		{"no broadcasts", "0.0.0.0:0", unix.SOL_SOCKET, unix.SO_BROADCAST, 0},
		{"shared", "0.0.0.0:0", unix.SOL_SOCKET, unix.SO_REUSEPORT, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for i, c := range mustListenUDP(t, netip.MustParseAddrPort(tt.addr), 2) {
				if v := getsockopt(t, c, tt.level, tt.opt); v != tt.want {
					t.Errorf("socket %d: %d, not %d", i, v, tt.want)
				}
			}
		})
	}
}

func TestTCPListenerCanBeReopenedAtOnce(t *testing.T) {
	l, err := ListenTCP(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if v := getsockopt(t, l, unix.SOL_SOCKET, unix.SO_REUSEADDR); v != 1 {
		t.Errorf("SO_REUSEADDR is %d", v)
	}
}

// receive returns the packet info of the next datagram, and who sent it.
func receive(t *testing.T, c *net.UDPConn) (PacketInfo, netip.AddrPort) {
	t.Helper()
	var b [16]byte
	var control [ControlSize]byte
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, n, _, from, err := c.ReadMsgUDPAddrPort(b[:], control[:])
	if err != nil {
		t.Fatal(err)
	}
	return ParsePacketInfo(control[:n]), from
}

func TestReplyLeavesFromTheAddressThatWasAsked(t *testing.T) {
	tests := []struct{ listen, ask string }{
		{"0.0.0.0:0", "127.0.0.1"},
		{"0.0.0.0:0", "127.0.0.2"},
		{"0.0.0.0:0", "127.1.2.3"},
		{"[::]:0", "::1"},
	}
	for _, tt := range tests {
		server := mustListenUDP(t, netip.MustParseAddrPort(tt.listen), 1)[0]
		asked := netip.AddrPortFrom(netip.MustParseAddr(tt.ask), addrOf(server).Port())
		client, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(asked)) // connected: takes replies from asked only
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = client.Close() }()
		if _, err := client.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
		info, from := receive(t, server)
		if info.Local != asked.Addr() || info.Group {
			t.Errorf("%s on %s: arrived as %+v", tt.ask, tt.listen, info)
		}
		if _, _, err := server.WriteMsgUDPAddrPort([]byte("!"), info.AppendControl(nil), from); err != nil {
			t.Fatal(err)
		}
		var b [16]byte
		_ = client.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := client.Read(b[:]); err != nil {
			t.Errorf("%s on %s: %v", tt.ask, tt.listen, err)
		}
	}
}

func TestBroadcastIsRecognised(t *testing.T) {
	server := mustListenUDP(t, netip.MustParseAddrPort("0.0.0.0:0"), 1)[0]
	client, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 255, 255, 255), Port: int(addrOf(server).Port())})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	if _, err := client.Write([]byte("?")); err != nil {
		t.Fatal(err)
	}
	if info, _ := receive(t, server); !info.Group || info.Local.String() == "127.255.255.255" {
		t.Errorf("a broadcast arrived as %+v", info)
	}
}

func TestBroadcastIsNotSent(t *testing.T) {
	server := mustListenUDP(t, netip.MustParseAddrPort("127.0.0.1:0"), 1)[0]
	to := netip.MustParseAddrPort("127.255.255.255:9")
	if _, _, err := server.WriteMsgUDPAddrPort([]byte("!"), nil, to); err == nil {
		t.Error("a broadcast left the socket")
	}
}
