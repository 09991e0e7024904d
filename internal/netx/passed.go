package netx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
)

// Passed is sockets that somebody else has bound for this process, and that are
// as good as what it would bind itself. A nil one has none. It is safe for
// concurrent use.
type Passed struct {
	mu      sync.Mutex
	sockets []passed
}

type passed struct {
	name   string
	at     netip.AddrPort
	file   *os.File
	stream bool
}

// Pass adds the socket fd, which p owns from now on. The error says what it is, if
// it is none that clients could be served on; then it is closed.
func (p *Passed) Pass(name string, fd int) error {
	f := os.NewFile(uintptr(fd), name)
	if f == nil {
		return fmt.Errorf("passed descriptor %d (%s): there is no such", fd, name)
	}
	s := passed{name: name, file: f}
	var err error
	if s.at, s.stream, err = boundTo(fd); err != nil {
		return errors.Join(fmt.Errorf("passed descriptor %d (%s): %w", fd, name, err), f.Close())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sockets = append(p.sockets, s)
	return nil
}

// take removes and returns the sockets at addr.
func (p *Passed) take(addr netip.AddrPort, stream bool) (taken []passed) {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sockets = slices.DeleteFunc(p.sockets, func(s passed) bool {
		if s.at != addr || s.stream != stream {
			return false
		}
		taken = append(taken, s)
		return true
	})
	return taken
}

// Unused is a socket that was passed in vain.
type Unused struct {
	Name string
	At   netip.AddrPort
}

// Drop closes the sockets that are at none of the addresses in keep, which would
// be in the way of those that are to be bound, and returns what they were.
func (p *Passed) Drop(keep []netip.AddrPort) (dropped []Unused) {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sockets = slices.DeleteFunc(p.sockets, func(s passed) bool {
		if slices.Contains(keep, s.at) {
			return false
		}
		_ = s.file.Close() // of no use to anybody here
		dropped = append(dropped, Unused{s.name, s.at})
		return true
	})
	return dropped
}

// ListenUDP is [Binding.ListenUDP], with the sockets that were passed for addr among those
// that it returns. If there are more of these than n, all of them are: clients
// send to them. If there are fewer, and no others can be bound beside them, those
// have to do.
func (p *Passed) ListenUDP(ctx context.Context, b Binding, addr netip.AddrPort, n int) ([]*net.UDPConn, error) {
	var conns []*net.UDPConn
	for _, s := range p.take(addr, false) {
		c, err := net.FilePacketConn(s.file)
		err = errors.Join(err, s.file.Close())
		if err == nil {
			conns = append(conns, c.(*net.UDPConn)) // as boundTo has said
			err = prepare(c.(*net.UDPConn), addr.Addr())
		}
		if err != nil {
			for _, c := range conns {
				err = errors.Join(err, c.Close())
			}
			return nil, fmt.Errorf("the socket %s that was passed for %s: %w", s.name, addr, err)
		}
	}
	if len(conns) == 0 {
		return b.ListenUDP(ctx, addr, n)
	}
	return b.join(ctx, addr, conns, n), nil
}

// join adds sockets on addr to conns until there are n, as far as they can be
// bound: not beside those that another user has bound.
func (b Binding) join(ctx context.Context, addr netip.AddrPort, conns []*net.UDPConn, n int) []*net.UDPConn {
	for canShare && len(conns) < n {
		c, err := b.listenUDP(ctx, addr, true)
		if err != nil {
			return conns
		}
		conns = append(conns, c)
	}
	return conns
}

// prepare sets the options that ListenUDP does.
func prepare(c *net.UDPConn, addr netip.Addr) error {
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return onFD(rc, func(fd int) error { return prepareUDP(fd, addr, canShare) })
}

// ListenTCP is [Binding.ListenTCP], but returns the listener that was passed for addr, if
// one was.
func (p *Passed) ListenTCP(ctx context.Context, b Binding, addr netip.AddrPort) (*net.TCPListener, error) {
	list := p.take(addr, true)
	if len(list) == 0 {
		return b.ListenTCP(ctx, addr)
	}
	for _, s := range list[1:] {
		_ = s.file.Close() // one accepts for all
	}
	l, err := net.FileListener(list[0].file)
	if err = errors.Join(err, list[0].file.Close()); err != nil {
		return nil, fmt.Errorf("the socket %s that was passed for %s: %w", list[0].name, addr, err)
	}
	return l.(*net.TCPListener), nil // as boundTo has said
}
