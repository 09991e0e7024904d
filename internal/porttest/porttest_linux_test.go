package porttest

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bindAll binds both transports at a, as servers do, and returns what went wrong.
func bindAll(t *testing.T, a string, port uint16) error {
	t.Helper()
	at := netip.AddrPortFrom(netip.MustParseAddr(a), port)
	family := map[bool]string{true: "4", false: "6"}[at.Addr().Is4()]
	u, err := net.ListenUDP("udp"+family, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	defer func() { _ = u.Close() }()
	l, err := net.ListenTCP("tcp"+family, net.TCPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	return l.Close()
}

func TestPortIsFreeAtEveryAddressOfThisMachine(t *testing.T) {
	port := Take(t)
	for range 2 { // a server may be started anew
		for _, a := range []string{"127.0.0.1", "127.0.0.2", "::1"} {
			if err := bindAll(t, a, port); err != nil {
				t.Error(err)
			}
		}
	}
	if c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port)))); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("somebody listens: %v, %v", c, err)
	}
}

// TestWildcardPortIsFreeAtEveryAddress tries some, of which a random source port may
// take one at the wrong moment.
func TestWildcardPortIsFreeAtEveryAddress(t *testing.T) {
	var errs error
	for range 5 {
		var err error
		port := TakeWildcard(t)
		for _, a := range []string{"127.0.0.1", "0.0.0.0", "::"} {
			err = errors.Join(err, bindAll(t, a, port))
		}
		if err == nil {
			return
		}
		errs = errors.Join(errs, err)
	}
	t.Error(errs)
}

// TestHeldPortIsNobodyElses binds what a client with a random port does, before and
// after the port is released.
func TestHeldPortIsNobodyElses(t *testing.T) {
	p, err := Hold(false)
	if err != nil {
		t.Fatal(err)
	}
	random := func(network string) error {
		c, err := net.ListenUDP(network, &net.UDPAddr{Port: int(p.Number)})
		if err == nil {
			_ = c.Close()
		}
		return err
	}
	for _, network := range []string{"udp4", "udp6"} {
		if err := random(network); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: got %v", network, err)
		}
	}
	if err := (&Port{Number: p.Number}).hold(false); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("it is given twice: %v", err)
	}
	p.Release()
	for _, network := range []string{"udp4", "udp6"} {
		err := random(network)
		for end := time.Now().Add(time.Minute); err != nil && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			err = random(network) // somebody may have it for a moment
		}
		if err != nil {
			t.Errorf("%s, when it is released: %v", network, err)
		}
	}
}

// TestPortThatSomebodyHasIsNotTaken has sockets of strangers in the way.
func TestPortThatSomebodyHasIsNotTaken(t *testing.T) {
	u, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 3)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = u.Close() }()
	l, err := net.ListenTCP("tcp6", &net.TCPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for _, a := range []net.Addr{u.LocalAddr(), l.Addr()} {
		p := &Port{Number: netip.MustParseAddrPort(a.String()).Port()}
		if err := p.hold(false); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: got %v", a, err)
		}
		p.Release()
	}
}

// TestPortIsHeldUntilTheProcessEnds has another process hold one, and kills it.
func TestPortIsHeldUntilTheProcessEnds(t *testing.T) {
	const variable = "SHIRUBE_PORTTEST_HOLD"
	if os.Getenv(variable) != "" {
		_, _ = os.Stdout.WriteString(strconv.Itoa(int(Take(t))) + "\n")
		select {} // until it is killed
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), variable+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var line strings.Builder
	for b := make([]byte, 1); b[0] != '\n'; line.Write(b) {
		if _, err := out.Read(b); err != nil {
			t.Fatal(err)
		}
	}
	n, err := strconv.ParseUint(strings.TrimSpace(line.String()), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	p := &Port{Number: uint16(n)}
	if err := p.hold(false); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v", err)
	}
	p.Release()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		err := p.hold(false)
		p.Release()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("of a process that has ended: %v", err)
		}
	}
}
