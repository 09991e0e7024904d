package porttest

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// lock makes the port this call's, of all of this package. A name without a file
// (unix(7), "abstract") is bound once in a network, which is whose the port is,
// and is gone with the process, however that ends: nothing is left to clean up.
func (p *Port) lock() error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fmt.Sprintf("@shirube-porttest-%d", p.Number), Net: "unix"})
	if err != nil {
		return err
	}
	p.held = append(p.held, func() { _ = l.Close() })
	return nil
}

// The addresses at which a port is held: nobody's, and not those that tests use.
var (
	guard4 = [4]byte{127, 255, 255, 254}
	guard6 = [16]byte{0x01, 14: 0x99, 15: 0x99} // 100::9999, where packets are discarded (RFC 6666)
)

// guard binds sockets to the port, at addresses that no test has. The kernel gives
// then the port to no TCP connection (connect(2) passes over ports that are bound),
// and, if they are not wanted for a server, to no UDP socket at the wildcard
// address, which is where random source ports are tried.
func (p *Port) guard(wildcard bool) error {
	kinds := []int{unix.SOCK_STREAM}
	if !wildcard {
		kinds = append(kinds, unix.SOCK_DGRAM)
	}
	for _, kind := range kinds {
		for family, at := range map[int]unix.Sockaddr{
			unix.AF_INET:  &unix.SockaddrInet4{Port: int(p.Number), Addr: guard4},
			unix.AF_INET6: &unix.SockaddrInet6{Port: int(p.Number), Addr: guard6},
		} {
			err := p.bind(family, kind, at)
			if err != nil && (family == unix.AF_INET || !noIPv6(err)) {
				return err
			}
		}
	}
	return nil
}

// bind binds a socket to an address that need not be this machine's. A TCP socket
// that does not listen is in nobody's way who sets SO_REUSEADDR, as servers do.
func (p *Port) bind(family, kind int, at unix.Sockaddr) error {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	p.held = append(p.held, func() { _ = unix.Close(fd) })
	level, option := unix.IPPROTO_IP, unix.IP_FREEBIND
	if family == unix.AF_INET6 {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_FREEBIND
	}
	if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if kind == unix.SOCK_STREAM {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return os.NewSyscallError("bind", unix.Bind(fd, at))
}
