package upstream

import (
	"container/list"
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"shirube/internal/exchange"
	"shirube/internal/wire"
)

// The limits on connections that are not for the operator to move.
const (
	// maxIdle caps what a server may ask for with edns-tcp-keepalive, which
	// goes up to two hours (RFC 7828 §3.1).
	maxIdle = 30 * time.Second

	// tlsIdleFactor is how much longer than others a connection with TLS on it
	// may be idle: its handshake costs more than all that it carries.
	tlsIdleFactor = 5

	// serialConnections is how many connections may be open to a server that
	// answers one question on each: without, 64 in flight would come down to
	// two.
	serialConnections = 8

	// serialLife is for how long a server that closed a connection with
	// questions on it is taken for one.
	serialLife = 10 * time.Second
)

// longAgo is a deadline that is over.
var longAgo = time.Unix(1, 0)

// errGone ends what is on a connection that was closed here: idle, no longer
// trusted, or by Close.
var errGone = errors.New("the connection was closed")

// peer is who a connection goes to, and as whom they proved themselves. Nothing
// is ever asked on a connection to another peer.
type peer struct {
	addr netip.AddrPort
	over wire.Proto // TCP, DoT, DoH or DoQ
	name string     // of the certificate
	pins string     // one after the other
	path string     // of the URL, for DoH

	// anybody: they need not prove who they are (RFC 9539 §4.6.3.4).
	anybody bool
}

// peerOf returns to whom req goes.
func peerOf(req *exchange.Request) peer {
	if req.TLS == nil {
		return peer{addr: req.Server, over: wire.TCP}
	}
	var pins strings.Builder
	for _, pin := range req.TLS.Pins {
		pins.Write(pin)
	}
	p := peer{addr: req.Server, over: wire.DoT, name: req.TLS.Name, pins: pins.String(), path: req.TLS.Path}
	if p.path != "" {
		p.over = wire.DoH
	}
	return p
}

// streamed reports whether connections to p have a stream for each query.
func (p *peer) streamed() bool { return p.over == wire.DoH || p.over == wire.DoQ }

// patience returns how long a connection to p may take to be made, which is usual
// for others.
func (p *peer) patience(usual time.Duration) time.Duration {
	if p.anybody {
		return probeTimeout
	}
	return usual
}

// pool keeps connections to be used again (RFC 7766 §6.2.1), and several times
// at once (§6.2.1.1). It has a goroutine per connection, which ends with it.
//
// A connection has places, one for each query in flight. Who wants to ask takes
// one: on the connection there is, else on a new one, else they wait for one
// to become free. Connections that nobody has a place on are idle; when too many
// are open in all, the longest idle makes way.
type pool struct {
	total, perPeer, pipelined int
	idleFor, timeout          time.Duration

	// dial connects. Its error comes with what was being done.
	dial  func(context.Context, peer) (made link, op string, err error)
	count *counters

	running sync.WaitGroup // the goroutines of all connections

	mu     sync.Mutex // of all below, of lines, and of what connections say it is of
	lines  map[peer]*line
	idle   list.List // of *conn; the longest idle first
	open   int       // connections, those being made among them
	closed bool
}

// line is all connections to one peer. There is one as long as there are any.
type line struct {
	pool    *pool
	peer    peer
	conns   []*conn
	waiting list.List // of *waiter; the longest waiting first
	serving bool      // serve is at work

	// serialTil is until when each connection is for one query only, because
	// the server closed one before all answers.
	serialTil time.Time
}

// waiter waits for a place.
type waiter struct {
	ready chan struct{} // closed when one of these is set
	conn  *conn
	err   error
}

// acquire returns a connection to to on which a place was taken, before timer
// fires or ctx is done. It is a new one, for one query, if retry says that the
// server closed one that was used before. The error comes with what was being
// done; it is ErrBusy when there are too many connections.
func (p *pool) acquire(ctx context.Context, to peer, retry bool, timer <-chan time.Time) (c *conn, op string, err error) {
	p.mu.Lock()
	l := p.lines[to]
	if l == nil {
		l = &line{pool: p, peer: to}
		p.lines[to] = l
	}
	if retry {
		l.serialTil = time.Now().Add(serialLife)
	}
	c, err = l.take()
	var w *waiter
	if c == nil && err == nil {
		w = &waiter{ready: make(chan struct{})}
		l.waiting.PushBack(w)
	}
	l.tidy()
	p.mu.Unlock()

	if w != nil {
		p.count.waited.Add(1)
		c, err = l.wait(ctx, w, timer)
	}
	if err != nil {
		return nil, "connect", err
	}
	select {
	case <-c.ready:
		if c.made.err == nil {
			return c, "", nil
		}
		return nil, c.made.op, c.made.err
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer:
		err = os.ErrDeadlineExceeded
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.release(c)
	return nil, "connect", err
}

// wait waits for w to be given a place.
func (l *line) wait(ctx context.Context, w *waiter, timer <-chan time.Time) (*conn, error) {
	var err error
	select {
	case <-w.ready:
		return w.conn, w.err
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer:
		err = os.ErrDeadlineExceeded
	}
	l.pool.mu.Lock()
	defer l.pool.mu.Unlock()
	if w.conn != nil { // at the last moment: somebody else can have it
		l.pool.release(w.conn)
		return nil, err
	}
	for e := l.waiting.Front(); e != nil; e = e.Next() {
		if e.Value == w {
			l.waiting.Remove(e)
			break
		}
	}
	l.tidy()
	return nil, err
}

// The methods below are called with the pool's lock held. None of them waits.

// take takes a place, or returns nil when there is none but there will be.
func (l *line) take() (*conn, error) {
	p := l.pool
	if p.closed {
		return nil, ErrClosed
	}
	c := l.free()
	if c == nil && l.mayOpen() {
		for p.open >= p.total && p.evict() { // who waits for another line may take what is free
		}
		if p.open < p.total {
			c = l.connect()
		} else if len(l.conns) == 0 {
			p.count.shed.Add(1)
			return nil, ErrBusy
		}
	}
	if c == nil {
		return nil, nil
	}
	c.taken++
	if c.idle != nil {
		p.idle.Remove(c.idle)
		c.idle = nil
		c.wakeAt(time.Time{})
	}
	return c, nil
}

// serial reports whether each connection is for one query now.
func (l *line) serial() bool {
	return !l.serialTil.IsZero() && time.Now().Before(l.serialTil)
}

// free returns the connection with the most free places, nil when none has one.
// A query that nobody waits for any more has its place all the same: its answer
// may come yet.
func (l *line) free() *conn {
	if l.serial() {
		return nil
	}
	var best *conn
	for _, c := range l.conns {
		if c.state <= live && !c.single && max(c.taken, len(c.calls)) < l.pool.pipelined && (best == nil || c.taken < best.taken) {
			best = c
		}
	}
	return best
}

// mayOpen reports whether one more connection may be made. Those that only
// finish what is on them count half, so that dead ones can be replaced.
func (l *line) mayOpen() bool {
	most := l.pool.perPeer
	if l.serial() {
		most = max(most, serialConnections)
	}
	usable := 0
	for _, c := range l.conns {
		if c.state <= live {
			usable++
		}
	}
	return usable < most && len(l.conns) < 2*most
}

// connect begins to make a connection.
func (l *line) connect() *conn {
	p := l.pool
	ctx, cancel := context.WithTimeout(context.Background(), l.peer.patience(p.timeout))
	c := &conn{
		line: l, cancel: cancel, ready: make(chan struct{}),
		calls: make(map[uint16]*call), idleFor: p.idleFor, single: l.serial(),
	}
	if l.peer.over.Encrypted() {
		c.idleFor *= tlsIdleFactor
	}
	l.conns = append(l.conns, c)
	p.open++
	p.count.open.Add(1)
	// Owner: the pool. End: that of the connection, which is closed when
	// idle, by an error, and by Close. Bound: p.total.
	p.running.Go(func() { c.run(ctx) })
	return c
}

// serve gives places to those who wait, as long as there are any.
func (l *line) serve() {
	if l.serving { // called by take, below: it evicted one of l's
		return
	}
	l.serving = true
	defer func() { l.serving = false }()
	for e := l.waiting.Front(); e != nil; e = l.waiting.Front() {
		c, err := l.take()
		if c == nil && err == nil {
			return
		}
		w := l.waiting.Remove(e).(*waiter)
		w.conn, w.err = c, err
		close(w.ready)
	}
}

// tidy forgets l when there is nothing on it.
func (l *line) tidy() {
	if len(l.conns) == 0 && l.waiting.Len() == 0 && l.pool.lines[l.peer] == l {
		delete(l.pool.lines, l.peer)
	}
}

// release gives a place on c back.
func (p *pool) release(c *conn) {
	c.taken--
	if c.state == dead {
		return
	}
	c.line.serve()
	switch {
	case c.taken > 0:
	case c.state == live && !c.single:
		c.idle = p.idle.PushBack(c)
		c.wakeAt(time.Now().Add(c.idleFor))
	default: // all that was left on it is done, or nobody needs it any more
		p.remove(c, errGone)
	}
}

// evict closes the longest idle connection, and reports whether there was one.
func (p *pool) evict() bool {
	e := p.idle.Front()
	if e == nil {
		return false
	}
	p.count.evicted.Add(1)
	p.remove(e.Value.(*conn), errGone)
	return true
}

// remove takes c out of the pool for the reason err, of which all queries on it
// fail, and has its goroutine close it.
func (p *pool) remove(c *conn, err error) {
	if c.state == dead {
		return
	}
	l := c.line
	c.state, c.err = dead, err
	if c.idle != nil {
		p.idle.Remove(c.idle)
		c.idle = nil
	}
	for i := range l.conns {
		if l.conns[i] == c {
			l.conns = append(l.conns[:i], l.conns[i+1:]...)
			break
		}
	}
	p.open--
	p.count.open.Add(-1)
	c.failCalls(err)
	c.cancel()
	c.wakeAt(longAgo)
	l.serve()
	l.tidy()
}

// close closes all connections and waits for their goroutines.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	for _, l := range p.lines {
		for len(l.conns) > 0 {
			p.remove(l.conns[0], ErrClosed)
		}
		l.serve() // take tells them that it is closed
		l.tidy()
	}
	p.mu.Unlock()
	p.running.Wait()
}
