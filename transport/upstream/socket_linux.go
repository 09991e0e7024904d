package upstream

import (
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket is a UDP socket connected to one server, for one query. Its memory is
// used again for the next one.
//
// It is made by hand because it is the cost of a cold resolution: four fifths
// of an exchange's CPU time is the kernel's, for making a socket and taking it
// apart. Beside net.DialUDP (BenchmarkDialUDP) that saves two system calls of
// thirteen, ten allocations and a twelfth of the CPU time; options are set before
// anything can arrive; and the whole length of what was cut is known.
type socket struct {
	fd   int
	file *os.File // keeps the descriptor under the runtime's poller
	raw  syscall.RawConn

	// Of one call of receive.
	buf  []byte
	n    int
	from syscall.Sockaddr
	err  error
	read func(fd uintptr) bool // s.recvfrom, bound once

	// What bind and connect are told.
	local4, remote4 unix.SockaddrInet4
	local6, remote6 unix.SockaddrInet6
}

// open makes s a socket that talks to server from port. Without an error, send
// has to follow. When the port is taken the error is EADDRINUSE and op is
// "bind"; op is always what failed.
func (s *socket) open(server netip.AddrPort, port uint16) (op string, err error) {
	family := unix.AF_INET
	if !server.Addr().Is4() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "open socket", err
	}
	if op, err = s.connect(fd, server, port); err != nil {
		unix.Close(fd)
	}
	s.fd = fd
	return op, err
}

// send sends msg. Without an error the caller closes s; after one it is closed.
func (s *socket) send(msg []byte) (op string, err error) {
	// Before the poller knows the socket, so that its system calls are made
	// while the query travels. A reply that is here by then is found by the
	// first attempt to read.
	if _, err := unix.Write(s.fd, msg); err != nil {
		unix.Close(s.fd)
		return "send", err
	}
	s.file = os.NewFile(uintptr(s.fd), "udp") // non-blocking: it goes to the poller
	if s.raw, err = s.file.SyscallConn(); err != nil {
		s.close()
	}
	return "receive", err
}

// local returns the address that s, which is open, sends from; no address if the
// kernel does not say.
func (s *socket) local() netip.Addr {
	addr, err := syscall.Getsockname(s.fd)
	if err != nil {
		return netip.Addr{}
	}
	switch a := addr.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrFrom4(a.Addr)
	case *syscall.SockaddrInet6:
		return netip.AddrFrom16(a.Addr)
	}
	return netip.Addr{}
}

// connect prepares fd to talk to server, from port, and to nobody else.
func (s *socket) connect(fd int, server netip.AddrPort, port uint16) (op string, err error) {
	// Whatever an ICMP "fragmentation needed" says, which anybody can send:
	// neither fragment nor believe it (RFC 9715 §3.1).
	var local, remote unix.Sockaddr
	if addr := server.Addr(); addr.Is4() {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT)
		s.local4.Port, s.remote4.Port, s.remote4.Addr = int(port), int(server.Port()), addr.As4()
		local, remote = &s.local4, &s.remote4
	} else {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT)
		s.local6.Port, s.remote6.Port, s.remote6.Addr = int(port), int(server.Port()), addr.As16()
		local, remote = &s.local6, &s.remote6
	}
	if err != nil {
		return "set path MTU discovery", err
	}
	if err := unix.Bind(fd, local); err != nil {
		return "bind", err
	}
	return "connect", unix.Connect(fd, remote)
}

// wakeAt makes receive return at t, if not before. It may be called while
// receive waits.
func (s *socket) wakeAt(t time.Time) error { return s.file.SetReadDeadline(t) }

// receive waits for a datagram and returns its whole length, also when buf, that
// gets its beginning, is shorter, and whether it is the server's. The error is
// the socket's own, or wraps [os.ErrDeadlineExceeded].
func (s *socket) receive(buf []byte) (n int, fromServer bool, err error) {
	s.buf = buf
	if err := s.raw.Read(s.read); err != nil {
		return 0, false, err
	}
	return s.n, s.fromServer(), s.err
}

// recvfrom receives once, and reports whether that is all there is to wait for.
// It is package syscall's because x/sys asks the kernel for the protocol too,
// to say what the peer's address is an address of.
func (s *socket) recvfrom(fd uintptr) (done bool) {
	for {
		s.n, s.from, s.err = syscall.Recvfrom(int(fd), s.buf, unix.MSG_TRUNC)
		if s.err != syscall.EINTR { //nolint:errorlint // straight from the kernel
			return s.err != syscall.EAGAIN //nolint:errorlint // alike
		}
	}
}

// fromServer reports whether the server sent what was received last. The kernel
// sees to that only from connect on, and keeps what came after bind.
func (s *socket) fromServer() bool {
	switch from := s.from.(type) {
	case *syscall.SockaddrInet4:
		return from.Port == s.remote4.Port && from.Addr == s.remote4.Addr
	case *syscall.SockaddrInet6:
		return from.Port == s.remote6.Port && from.Addr == s.remote6.Addr
	}
	return false
}

// close gives the descriptor and the port back.
func (s *socket) close() {
	s.file.Close()
}
