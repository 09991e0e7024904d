package transport

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
)

// pipes is a listener without a network, for tests under synctest, and for
// those that have to know how the stream was cut into reads and writes.
type pipes struct {
	conns chan net.Conn
	fail  func() error // nil, or what Accept fails with
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	if p.fail != nil {
		if err := p.fail(); err != nil {
			return nil, err
		}
	}
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { p.once.Do(func() { close(p.done) }); return nil }

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// pipeEnd is the server's end of a connection from addr. It counts writes.
type pipeEnd struct {
	net.Conn
	addr   netip.AddrPort
	writes *atomic.Int64
}

func (e pipeEnd) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(e.addr) }

func (e pipeEnd) Write(b []byte) (int, error) {
	e.writes.Add(1)
	return e.Conn.Write(b)
}

// dial returns the client's end of a new connection, and the number of the
// server's writes to it.
func (p *pipes) dial(t *testing.T, from string) (net.Conn, *atomic.Int64) {
	t.Helper()
	client, server := net.Pipe()
	t.Cleanup(func() { _ = client.Close() })
	end := pipeEnd{Conn: server, addr: netip.MustParseAddrPort(from), writes: new(atomic.Int64)}
	p.conns <- end
	return client, end.writes
}

// servePipes starts a server on pipes.
func servePipes(t *testing.T, opt TCPOptions) (*TCP, *pipes) {
	t.Helper()
	p := newPipes()
	s := NewTCP(opt, p)
	s.Start(context.Background())
	shutDown(t, s)
	return s, p
}
