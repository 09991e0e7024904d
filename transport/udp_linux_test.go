package transport

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"shirube/internal/netx"
)

// TestUDPReaderSurvivesICMP makes the socket report what ICMP says about
// earlier responses, which the kernel keeps to itself otherwise.
func TestUDPReaderSurvivesICMP(t *testing.T) {
	conns, err := netx.ListenUDP(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), 1)
	if err != nil {
		t.Fatal(err)
	}
	rc, err := conns[0].SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var optErr error
	err = rc.Control(func(fd uintptr) {
		optErr = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_RECVERR, 1)
	})
	if err != nil || optErr != nil {
		t.Fatal(err, optErr)
	}
	h := newScripted()
	u := NewUDP(UDPOptions{Handler: h}, conns...)
	u.Start(context.Background())
	shutDown(t, u)
	at := conns[0].LocalAddr().(*net.UDPAddr).AddrPort()
	const gone = 30
	for i := range uint16(gone) {
		c := dial(t, "udp", at)
		write(t, c, packQuery(t, i, "slow"))
		h.waitBegan(t, 1)
		_ = c.Close() // nobody is there for the answer
	}
	close(h.release)
	eventually(t, "ICMP errors arrive", func() bool {
		s := u.Stats()
		return s.Answered == gone && s.ReadErrors+s.SendErrors[SendUnreachable] > 0
	})
	c := dial(t, "udp", at)
	for i := range uint16(10) {
		askUDP(t, c, i, "hit")
	}
}
