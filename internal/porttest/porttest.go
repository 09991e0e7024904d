// Package porttest gives tests port numbers that stay theirs.
//
// A test that has the kernel choose a port, for one socket, and binds another
// socket at the same number fails by chance: the number may be another's over
// the other transport, and when the first socket is closed the kernel gives it
// to whoever wants just any. Packages are tested in processes that run at the
// same time, and the servers in them ask from random ports.
package porttest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"
	"testing"
)

// The ports that are given: above those of services, and below those that Linux
// gives to clients unless it is told otherwise (ip_local_port_range begins at
// 32768). The ports of package lab, and of tests that need a certain one, are below.
const (
	first = 10_000
	count = 22_000
)

// maxTries is how many ports are tried, of which a machine uses a few.
const maxTries = 1000

// Take returns a port that has no socket at any address, over UDP or TCP, and
// is the test's alone until it ends: no other call of this package returns it, in
// any process of this network, and no socket that is bound to any port or to a
// random one gets it. What binds an address of this machine does, as often as it
// likes; for what binds the wildcard address see [TakeWildcard].
//
// Where the system is not Linux nothing is held, and the port was free a moment ago.
func Take(t testing.TB) uint16 { return take(t, false) }

// TakeWildcard is [Take] for what binds the wildcard address over UDP. That is
// how sockets with random ports are bound, too: such a one may take the port, and
// where that can happen the server that is tested has to be started anew.
func TakeWildcard(t testing.TB) uint16 { return take(t, true) }

func take(t testing.TB, wildcard bool) uint16 {
	t.Helper()
	p, err := Hold(wildcard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Release)
	return p.Number
}

// Port is a port that is held.
type Port struct {
	Number uint16

	held []func() // close what holds it
}

// Hold is [Take], or [TakeWildcard], for what is no test; Release ends it. The
// error says that all ports are taken, or what else is in the way.
func Hold(wildcard bool) (*Port, error) {
	var err error
	for range maxTries {
		p := &Port{Number: uint16(first + rand.IntN(count))}
		if err = p.hold(wildcard); err == nil {
			return p, nil
		}
		p.Release()
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return nil, fmt.Errorf("no port from %d to %d is free: %w", first, first+count-1, err)
}

// Release lets others have the port.
func (p *Port) Release() {
	for _, end := range p.held {
		end()
	}
	p.held = nil
}

// hold takes the port, if it is free. Nobody else of this package has it first, so
// that what others hold it by is never seen as another's socket.
func (p *Port) hold(wildcard bool) error {
	if err := p.lock(); err != nil {
		return err
	}
	if err := p.free(); err != nil {
		return err
	}
	return p.guard(wildcard)
}

// free tries whether anybody has the port, at any address.
func (p *Port) free() error {
	for _, a := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		at := netip.AddrPortFrom(a, p.Number)
		family := map[bool]string{true: "4", false: "6"}[a.Is4()]
		u, err := net.ListenUDP("udp"+family, net.UDPAddrFromAddrPort(at))
		if a.Is6() && noIPv6(err) {
			continue
		}
		if err != nil {
			return err
		}
		l, err := net.ListenTCP("tcp"+family, net.TCPAddrFromAddrPort(at))
		if err := errors.Join(err, u.Close()); err != nil {
			return err
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	return nil
}

// noIPv6 reports whether err says that the host has no IPv6.
func noIPv6(err error) bool {
	return errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL)
}
