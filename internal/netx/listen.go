// Package netx opens the sockets that clients are served on, with what the
// standard library leaves out: several sockets on one UDP address, the address
// that a datagram was sent to, and protection against fragments.
package netx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// Binding says how an address is bound. The zero value binds what this host has.
type Binding struct {
	Free bool // also what no interface has yet (ip(7), IP_FREEBIND)
}

// ListenUDP is [Binding.ListenUDP] at an address of this host.
func ListenUDP(ctx context.Context, addr netip.AddrPort, n int) ([]*net.UDPConn, error) {
	return Binding{}.ListenUDP(ctx, addr, n)
}

// ListenTCP is [Binding.ListenTCP] at an address of this host.
func ListenTCP(ctx context.Context, addr netip.AddrPort) (*net.TCPListener, error) {
	return Binding{}.ListenTCP(ctx, addr)
}

// ListenUDP opens n UDP sockets on addr; the kernel spreads clients over them
// (SO_REUSEPORT). With port 0 the kernel picks the port of the first, and the
// others join it. Where the system cannot share an address so, and that is
// everywhere but on Linux, one socket is opened whatever n is.
//
// An IPv6 socket takes no IPv4 datagrams. A socket on a wildcard address says
// of each datagram where it was sent to: see [ParsePacketInfo]. Replies go out
// without path MTU discovery, so nobody can make them fragment by forged ICMP
// messages (RFC 9715 §3.1), and never to a broadcast address.
//
// The error names the address, and what to do about it where that is known. On
// an error nothing stays open.
func (b Binding) ListenUDP(ctx context.Context, addr netip.AddrPort, n int) ([]*net.UDPConn, error) {
	if !addr.IsValid() || n < 1 {
		return nil, fmt.Errorf("listen on %d UDP sockets at %s: not an address and a number of sockets", n, addr)
	}
	if !canShare {
		n = 1
	}
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	conns := make([]*net.UDPConn, 0, n)
	for len(conns) < n {
		c, err := b.listenUDP(ctx, addr, len(conns) > 0)
		if err == nil {
			conns = append(conns, c)
			addr = netip.AddrPortFrom(addr.Addr(), localPort(c))
			if len(conns) == 1 && n > 1 {
				err = share(c)
			}
		}
		if err != nil {
			for _, c := range conns {
				err = errors.Join(err, c.Close())
			}
			return nil, explain(err, addr)
		}
	}
	return conns, nil
}

// listenUDP opens one socket. One that joins others says so before it is
// bound. The first does so after ([share]): bound alone, it finds out whether
// somebody else has the address, where SO_REUSEPORT would give it half of the
// other's clients and no error.
func (b Binding) listenUDP(ctx context.Context, addr netip.AddrPort, join bool) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		return onFD(rc, func(fd int) error {
			return errors.Join(b.prepare(fd, addr.Addr()), prepareUDP(fd, addr.Addr(), join))
		})
	}}
	pc, err := lc.ListenPacket(ctx, network("udp", addr.Addr()), addr.String())
	if err != nil {
		return nil, err
	}
	return pc.(*net.UDPConn), nil // what ListenPacket returns for udp4 and udp6
}

// prepare sets the options of a socket of any kind that is to be bound to addr.
func (b Binding) prepare(fd int, addr netip.Addr) error {
	if !b.Free {
		return nil
	}
	return setFree(fd, addr)
}

// share lets other sockets of this user join c's address.
func share(c *net.UDPConn) error {
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return onFD(rc, setShared)
}

// ListenTCP opens a TCP listener on addr, with SO_REUSEADDR, so that a restart
// does not wait for the old connections to be forgotten (the standard library
// sets it). Connections have no keep-alive probes: whoever serves them has
// deadlines that are shorter. The error is as [ListenUDP]'s.
func (b Binding) ListenTCP(ctx context.Context, addr netip.AddrPort) (*net.TCPListener, error) {
	if !addr.IsValid() {
		return nil, fmt.Errorf("listen on TCP at %s: not an address", addr)
	}
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	lc := net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, rc syscall.RawConn) error {
		return onFD(rc, func(fd int) error { return b.prepare(fd, addr.Addr()) })
	}}
	lc.SetMultipathTCP(false) // a second path is worth nothing to a connection of a few packets
	l, err := lc.Listen(ctx, network("tcp", addr.Addr()), addr.String())
	if err != nil {
		return nil, explain(err, addr)
	}
	return l.(*net.TCPListener), nil // what Listen returns for tcp4 and tcp6
}

// network returns the network of the standard library that is proto on a's
// family only: with "udp6" and "tcp6" a socket gets IPV6_V6ONLY.
func network(proto string, a netip.Addr) string {
	if a.Is4() {
		return proto + "4"
	}
	return proto + "6"
}

func localPort(c *net.UDPConn) uint16 {
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

// onFD runs f on the file descriptor of rc.
func onFD(rc syscall.RawConn, f func(fd int) error) error {
	var err error
	if ctlErr := rc.Control(func(fd uintptr) { err = f(int(fd)) }); ctlErr != nil {
		return ctlErr
	}
	return err
}

// explain adds to err, from listening on addr and naming it, what an operator
// can do about it.
func explain(err error, addr netip.AddrPort) error {
	var hint string
	switch {
	case errors.Is(err, syscall.EACCES) && addr.Port() < 1024 && addr.Port() != 0:
		hint = "ports below 1024 need root or the capability CAP_NET_BIND_SERVICE"
	case errors.Is(err, syscall.EADDRINUSE):
		hint = fmt.Sprintf("another program listens there; `ss -lnptu sport = %d` shows which", addr.Port())
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = "no interface of this host has the address; with freebind that would be no matter"
	case errors.Is(err, syscall.EAFNOSUPPORT):
		hint = "this host has no such address family"
	default:
		return err
	}
	return fmt.Errorf("%w (%s)", err, hint)
}
