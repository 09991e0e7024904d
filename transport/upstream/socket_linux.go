package upstream

import (
	"context"
	"errors"
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
	poller  *poller
	port    uint16
	fd      int
	family  int  // 0 is IPv4
	keeps   bool // it can be kept for another query
	watched bool // it was, so that the poller knows the descriptor

	ready chan struct{} // has one when there may be something to be read
	told  bool          // there was, and nobody has found the end of it yet
	timer *time.Timer
	ctx   context.Context // the exchange's
	done  <-chan struct{} // ctx is over
	alarm deadline.Alarm  // alike

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

// open makes s a socket that talks to server from port, and to nobody else.
// Without an error, send has to follow. When the port is taken the error is
// EADDRINUSE and op is "bind"; op is always what failed.
func (s *socket) open(p *poller, server netip.AddrPort, port uint16) (op string, err error) {
	if !p.inUse.add(port) {
		return "bind", unix.EADDRINUSE
	}
	s.poller, s.port, s.family = p, port, familyOf(server)
	s.remote.set(server.Addr(), server.Port())
	s.keeps, s.watched = p.kept.keeps(s.family, port), false
	if s.keeps {
		s.fd, s.watched = p.kept.get(s.family)
	}
	if !s.watched {
		if s.fd, op, err = newSocket(s.family); err != nil {
			p.inUse.remove(port)
			return op, err
		}
	}
	if s.keeps {
		op, err = s.connectFrom(port)
	} else {
		op, err = s.bindAndConnect(port)
	}
	switch {
	case err != nil && s.watched && op == "bind": // as good as before
		p.kept.put(s.fd, s.family)
		p.inUse.remove(port)
	case err != nil:
		s.discard()
	}
	return op, err
}

// discard closes s, which is not attached.
func (s *socket) discard() {
	closeNow(s.fd)
	s.poller.inUse.remove(s.port)
}

// connectFrom connects s, and has the kernel give it port.
func (s *socket) connectFrom(port uint16) (op string, err error) {
	if err := choosePort(s.fd, port); err != nil {
		return "choose port", err
	}
	err = connect(s.fd, &s.remote)
	if errors.Is(err, unix.EAGAIN) { // no port is free of the one that it may have
		s.poller.kept.foreign.found(port, time.Now())
		s.poller.kept.foreign.look(&s.poller.inUse)
		return "bind", unix.EADDRINUSE
	}
	return "connect", err
}

// bindAndConnect connects s from port, which it has as long as it is open.
func (s *socket) bindAndConnect(port uint16) (op string, err error) {
	unspecified := netip.IPv4Unspecified()
	if s.family != 0 {
		unspecified = netip.IPv6Unspecified()
	}
	s.local.set(unspecified, port)
	if err := bind(s.fd, &s.local); err != nil {
		return "bind", err
	}
	return "connect", connect(s.fd, &s.remote)
}

// send sends msg. Without an error the caller closes s; after one it is closed.
func (s *socket) send(msg []byte) (op string, err error) {
	if s.watched { // each thing that comes is told once
		s.attach()
	}
	if err := sendOn(s.fd, msg); err != nil {
		if s.watched {
			s.poller.forget(s)
		}
		s.discard()
		return "send", err
	}
	if s.watched {
		return "", nil
	}
	// Before the poller knows the socket, so that its system call is made
	// while the query travels. A reply that is here by then is found by it.
	return "receive", s.watch()
}

// watch has the poller tell s what comes. After an error s is closed.
func (s *socket) watch() error {
	s.attach()
	err := s.poller.watch(s)
	if err != nil {
		s.keeps = false
		s.close()
	}
	return err
}

// attach makes s the one that the poller tells of its descriptor.
func (s *socket) attach() {
	select {
	case <-s.ready: // meant for who had s or its descriptor before
	default:
	}
	s.told = false
	s.poller.attach(s)
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

// close gives the port back, and the descriptor unless it is kept.
func (s *socket) close() {
	s.poller.forget(s)
	if s.keeps && strip(s.fd) {
		s.poller.kept.put(s.fd, s.family)
	} else {
		closeNow(s.fd)
	}
	s.poller.inUse.remove(s.port)
	s.timer.Stop()
	if s.ctx != nil {
		s.alarm.Leave(s.ctx)
		s.ctx, s.done = nil, nil
	}
}
