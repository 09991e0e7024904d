//go:build unix

package netx

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"shirube/internal/porttest"
)

// closable is a socket.
type closable interface {
	syscall.Conn
	Close() error
}

// pass makes a duplicate of a socket's descriptor and closes the socket, as a
// process that ends does.
func pass(t *testing.T, p *Passed, name string, c closable) {
	t.Helper()
	rc, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var dup int
	if err := onFD(rc, func(fd int) (err error) { dup, err = syscall.Dup(fd); return err }); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Pass(name, dup); err != nil {
		t.Fatal(err)
	}
}

func TestPassedSocketsTakeThePlaceOfNewOnes(t *testing.T) {
	for _, a := range loopbacks {
		p, at := new(Passed), netip.AddrPortFrom(a, porttest.Take(t))
		before := mustListenUDP(t, at, 2)
		mustWrite(t, dialUDP(t, at), "while there is no process")
		for _, c := range before {
			pass(t, p, "udp", c)
		}
		l, err := ListenTCP(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		pass(t, p, "tcp", l)
		waiting, err := net.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = waiting.Close() }()

		conns, err := p.ListenUDP(t.Context(), Binding{}, at, 2)
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for _, c := range conns {
			got += drain(t, c)
			defer func() { _ = c.Close() }()
		}
		if len(conns) != 2 || got != 1 {
			t.Errorf("%d sockets, %d datagrams", len(conns), got)
		}
		after, err := p.ListenTCP(t.Context(), Binding{}, at)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = after.Close() }()
		c, err := after.Accept()
		if err != nil || c.RemoteAddr().String() != waiting.LocalAddr().String() {
			t.Errorf("got %v, %v", c, err)
		} else {
			_ = c.Close()
		}
		if unused := p.Drop(nil); len(unused) != 0 {
			t.Errorf("%q were left", unused)
		}
	}
}

func TestPassedSocketsAreJoinedByOthers(t *testing.T) {
	p := new(Passed)
	// As a socket unit has it: bound alone, and without any option of ours.
	plain, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	at := addrOf(plain)
	pass(t, p, "unit", plain)
	conns, err := p.ListenUDP(t.Context(), Binding{}, at, 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range conns {
		if addrOf(c) != at {
			t.Errorf("a socket is at %v, not at %v", addrOf(c), at)
		}
		defer func() { _ = c.Close() }()
	}
	if want := 3; canShare && len(conns) != want {
		t.Errorf("%d sockets, want %d", len(conns), want)
	}
	more, err := p.ListenUDP(t.Context(), Binding{}, netip.MustParseAddrPort("127.0.0.1:0"), 1)
	if err != nil || len(more) != 1 {
		t.Errorf("another address: %v, %v", more, err)
	}
	for _, c := range more {
		_ = c.Close()
	}
}

func TestWhatIsPassedInVainIsClosed(t *testing.T) {
	p := new(Passed)
	at := netip.AddrPortFrom(loopbacks[0], porttest.Take(t))
	c := mustListenUDP(t, at, 1)[0]
	pass(t, p, "old", c)
	if unused := p.Drop([]netip.AddrPort{at}); len(unused) != 0 {
		t.Errorf("what is wanted was dropped: %v", unused)
	}
	if unused := p.Drop(nil); len(unused) != 1 || unused[0] != (Unused{"old", at}) {
		t.Errorf("got %v", unused)
	}
	again, err := ListenUDP(t.Context(), at, 1)
	if err != nil {
		t.Fatalf("it is not closed: %v", err)
	}
	_ = again[0].Close()
	if unused := (*Passed)(nil).Drop(nil); unused != nil {
		t.Errorf("got %q", unused)
	}
}

func TestPassRefusesWhatIsNoSocketForClients(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	dup, err := syscall.Dup(int(r.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	unix, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	for want, fd := range map[string]int{"not a socket": dup, "neither IPv4 nor IPv6": unix, "does not listen": stream} {
		if err := new(Passed).Pass("odd", fd); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "odd") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
