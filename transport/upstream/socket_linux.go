package upstream

import (
	"context"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"shirube/internal/deadline"
)

// socket is a UDP socket connected to one server, for one query. Its memory is
// used again for the next one.
//
// It is made by hand because it is the cost of a cold resolution: four fifths
// of an exchange's CPU time is the kernel's, for making a socket and taking it
// apart. Of the thirteen system calls and all the allocations that net.DialUDP
// makes (BenchmarkDialUDP) eight are left and twelve; options are set before
// anything can arrive; and the whole length of what was cut is known.
type socket struct {
	poller *poller
	fd     int
	ready  chan struct{} // has one when there may be something to be read
	told   bool          // there was, and nobody has found the end of it yet
	timer  *time.Timer
	ctx    context.Context // the exchange's
	done   <-chan struct{} // ctx is over
	alarm  deadline.Alarm  // alike

	add   func(epoll uintptr) // s.addTo, bound once
	event unix.EpollEvent     // that it asks for
	err   error               // what came of it

	local, remote, from sockaddr
}

// init makes s fit for use.
func (s *socket) init() {
	s.ready = make(chan struct{}, 1)
	s.timer = time.NewTimer(time.Hour)
	s.timer.Stop()
	s.alarm.Ring = s.wake
	s.add = s.addTo
}

// addTo has an epoll instance watch s.
func (s *socket) addTo(epoll uintptr) {
	s.event = unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(s.fd)}
	s.err = unix.EpollCtl(int(epoll), unix.EPOLL_CTL_ADD, s.fd, &s.event)
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
		closeNow(fd)
	}
	s.fd = fd
	return op, err
}

// connect prepares fd to talk to server, from port, and to nobody else.
func (s *socket) connect(fd int, server netip.AddrPort, port uint16) (op string, err error) {
	// Whatever an ICMP "fragmentation needed" says, which anybody can send:
	// neither fragment nor believe it (RFC 9715 §3.1).
	if addr := server.Addr(); addr.Is4() {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT)
		s.local.set(netip.IPv4Unspecified(), port)
	} else {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT)
		s.local.set(netip.IPv6Unspecified(), port)
	}
	if err != nil {
		return "set path MTU discovery", err
	}
	if err := bind(fd, &s.local); err != nil {
		return "bind", err
	}
	s.remote.set(server.Addr(), server.Port())
	return "connect", connect(fd, &s.remote)
}

// send sends msg. Without an error the caller closes s; after one it is closed.
func (s *socket) send(p *poller, msg []byte) (op string, err error) {
	// Before the poller knows the socket, so that its system call is made
	// while the query travels. A reply that is here by then is found by it.
	if err := sendOn(s.fd, msg); err != nil {
		closeNow(s.fd)
		return "send", err
	}
	return "receive", s.watch(p)
}

// watch has p tell s what comes. After an error s is closed.
func (s *socket) watch(p *poller) error {
	select {
	case <-s.ready: // meant for who had s or its descriptor before
	default:
	}
	s.poller, s.told = p, false
	err := p.watch(s)
	if err != nil {
		s.close()
	}
	return err
}

// wake has whoever waits for s look.
func (s *socket) wake() {
	select {
	case s.ready <- struct{}{}:
	default: // they have been told
	}
}

// localAddr returns the address that s, which is open, sends from; no address if
// the kernel does not say.
func (s *socket) localAddr() netip.Addr {
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

// wakeAfter makes receive return when d has passed since sent, or ctx is done.
func (s *socket) wakeAfter(ctx context.Context, sent time.Time, d time.Duration) {
	if until, ok := ctx.Deadline(); ok {
		d = min(d, until.Sub(sent))
	}
	s.timer.Reset(d)
	s.ctx, s.done = ctx, s.alarm.Attend(ctx)
}

// receive waits for a datagram and returns its whole length, also when buf, that
// gets its beginning, is shorter, and whether it is the server's. The error is
// the socket's own, [os.ErrDeadlineExceeded], [context.Canceled], or [ErrClosed].
func (s *socket) receive(buf []byte) (int, bool, error) {
	for {
		if !s.told {
			if err := s.wait(); err != nil {
				return 0, false, err
			}
			s.told = true
		}
		n, err := receiveOn(s.fd, buf, &s.from)
		switch err { //nolint:errorlint // straight from the kernel
		case syscall.EAGAIN:
			s.told = false
		case syscall.EINTR:
		default:
			// The kernel drops what others send only from connect on, and keeps
			// what came after bind.
			return n, err == nil && s.from.same(&s.remote), err
		}
	}
}

// wait returns when there may be something to be read.
func (s *socket) wait() error {
	select {
	case <-s.ready:
	case <-s.timer.C:
		select {
		case <-s.ready: // on a busy machine both may be: what has come counts
			s.timer.Reset(0)
		default:
			return os.ErrDeadlineExceeded
		}
	case <-s.done:
		return context.Canceled
	}
	switch {
	case s.poller.closed.Load():
		return ErrClosed
	case s.alarm.Rung():
		return context.Canceled
	}
	return nil
}

// close gives the descriptor and the port back.
func (s *socket) close() {
	s.poller.forget(s)
	closeNow(s.fd)
	s.timer.Stop()
	if s.ctx != nil {
		s.alarm.Leave(s.ctx)
		s.ctx, s.done = nil, nil
	}
}
