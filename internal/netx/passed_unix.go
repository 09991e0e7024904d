//go:build unix

package netx

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// boundTo returns the address that a socket is bound to, and whether it listens
// for streams.
func boundTo(fd int) (at netip.AddrPort, stream bool, err error) {
	typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return at, false, fmt.Errorf("not a socket: %w", err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return at, false, err
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		at = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		at = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	default:
		return at, false, errors.New("neither IPv4 nor IPv6")
	}
	switch typ {
	case unix.SOCK_DGRAM:
		return at, false, nil
	case unix.SOCK_STREAM:
		if listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || listens == 0 {
			return at, true, errors.New("it does not listen")
		}
		return at, true, nil
	}
	return at, false, errors.New("neither datagrams nor a stream")
}
