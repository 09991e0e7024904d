package transport

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"shirube/internal/netx"
	"shirube/internal/porttest"
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

// count returns how many entries a directory of /proc has.
func count(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestUDPRestartsLeakNothing(t *testing.T) {
	const restarts = 1000
	eachLoop(t, func(t *testing.T, loop netx.Loop) {
		at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), porttest.Take(t))
		restart := func() {
			conns, err := netx.ListenUDP(t.Context(), at, 2)
			if err != nil {
				t.Fatal(err)
			}
			u := NewUDP(UDPOptions{Handler: newScripted(), Loop: loop, Batch: 4}, conns...)
			u.Start(context.Background())
			c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(patience))
			askUDP(t, c, 1, "hit")
			if err := errors.Join(c.Close(), u.Shutdown(t.Context())); err != nil {
				t.Fatal(err)
			}
		}
		for range 10 { // until the runtime has the threads that it wants
			restart()
		}
		fds, threads, goroutines := count(t, "/proc/self/fd"), count(t, "/proc/self/task"), runtime.NumGoroutine()
		for range restarts {
			restart()
		}
		if n := count(t, "/proc/self/fd"); n != fds {
			t.Errorf("%d descriptors, before %d", n, fds)
		}
		if n := count(t, "/proc/self/task"); n > threads+10 {
			t.Errorf("%d threads, before %d", n, threads)
		}
		eventually(t, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= goroutines })
	})
}

func TestUDPCountsWhatTheKernelThrewAway(t *testing.T) {
	conns, err := netx.ListenUDP(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := netx.SetBuffers(conns[0], netx.Buffers{Receive: 4096}); err != nil {
		t.Fatal(err)
	}
	h := newGated()
	u := NewUDP(UDPOptions{Handler: h}, conns...)
	u.Start(context.Background())
	shutDown(t, u)
	c := dial(t, "udp", conns[0].LocalAddr().(*net.UDPAddr).AddrPort())
	write(t, c, packQuery(t, 0, "gate"))
	h.waitBegan(t, 1)
	for i := range uint16(100) {
		write(t, c, packQuery(t, i, "hit"))
	}
	lost := u.Stats().Overflow
	if lost == 0 {
		t.Fatal("nothing was lost")
	}
	close(h.open)
	for range 100 - lost {
		receiveUDP(t, c)
	}
	if err := u.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if s := u.Stats(); s.Overflow != lost || s.Answered != 100-lost {
		t.Errorf("%d were lost: %+v", lost, s)
	}
}

// A front proxy looks like one client, which the kernel gives one socket.
func TestUDPSteeringSpreadsOneClientOverAllReaders(t *testing.T) {
	eachLoop(t, func(t *testing.T, loop netx.Loop) {
		conns, err := netx.ListenUDP(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), 3)
		if err == nil {
			err = netx.Steer(conns, netx.SteerRandom)
		}
		if err != nil {
			t.Fatal(err)
		}
		u := NewUDP(UDPOptions{Handler: newScripted(), Loop: loop}, conns...)
		u.Start(context.Background())
		shutDown(t, u)
		c := dial(t, "udp", conns[0].LocalAddr().(*net.UDPAddr).AddrPort())
		for i := range uint16(300) {
			askUDP(t, c, i, "hit")
		}
		for i, r := range u.readers {
			if r.n.answered.Load() == 0 {
				t.Errorf("reader %d answered nothing", i)
			}
		}
		if s := u.Stats(); s.Skew < 1 || s.Skew > 1.5 {
			t.Errorf("skew %v", s.Skew)
		}
	})
}
