package upstream

import (
	"bufio"
	"container/list"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"shirube/internal/exchange"
)

// state is that of a connection.
type state uint8

// The states, in their order.
const (
	dialling state = iota
	live
	draining // no new queries: it is not trusted to bring answers
	dead     // not in the pool any more
)

// conn is one connection in a pool. All without a word of their own are under
// the pool's lock.
type conn struct {
	line   *line              // never changes
	cancel context.CancelFunc // never changes; ends dialling

	ready chan struct{} // closed when it is made, or failed to be
	made  dialled       // set before that

	single    bool // for one query
	state     state
	err       error            // why it is dead
	calls     map[uint16]*call // by ID; nil for one that nobody waits for
	abandoned int              // nil ones among calls
	taken     int              // places
	asked     int              // queries sent on it, ever
	heard     int              // answers
	idle      *list.Element    // in the pool's list; nil when not idle
	idleFor   time.Duration    // until it is closed

	loose atomic.Int64 // octets received that belong to no answer yet
}

// link is what a connection was made of: one of the two.
type link struct {
	nc      net.Conn // with queries one after the other, and answers in any order
	streams streams  // with a stream for each query
}

// dialled is what dialling came to.
type dialled struct {
	link

	wake  *time.Timer // of streams: as the deadline of nc
	local netip.Addr  // of ours
	op    string      // what failed
	err   error
}

// call is one query in flight.
type call struct {
	q      query
	done   chan struct{} // closed when these are set:
	msg    []byte
	err    error
	heard  int  // answers on the connection before it
	size   int  // octets received for it
	shared bool // other queries were sent on the connection, before or after it
}

// wakeAt makes the goroutine that reads c look up at t; never, for the zero
// Time.
func (c *conn) wakeAt(t time.Time) {
	switch {
	case c.made.nc != nil:
		c.made.nc.SetReadDeadline(t) //nolint:errcheck // fails when closed, and is not needed then
	case c.made.wake != nil && t.IsZero():
		c.made.wake.Stop()
	case c.made.wake != nil:
		c.made.wake.Reset(time.Until(t))
	}
}

// run makes the connection, and reads it until it ends.
func (c *conn) run(ctx context.Context) {
	p := c.line.pool
	made, op, err := p.dial(ctx, c.line.peer)
	c.cancel()
	if !p.made(c, made, op, err) {
		return
	}
	if made.streams != nil {
		c.attend(made.streams)
		return
	}
	err = c.read()
	p.mu.Lock()
	p.remove(c, err)
	abort := c.abandoned > 0 || errors.Is(c.err, exchange.ErrMalformed)
	p.mu.Unlock()
	if abort {
		reset(made.nc)
	}
	made.nc.Close()
}

// made says that c was dialled, or why not, and reports whether it is to be read.
func (p *pool) made(c *conn, made link, op string, err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer close(c.ready)
	switch {
	case c.state == dead: // nobody waited that long, or Close
		c.made = dialled{op: "connect", err: c.err}
		if err == nil {
			made.close()
		}
		return false
	case err != nil:
		c.made = dialled{op: op, err: err}
		p.remove(c, err)
		return false
	}
	c.made.link, c.state = made, live
	if made.streams != nil {
		c.made.wake = time.NewTimer(maxIdle)
		c.made.wake.Stop() // it is in use
	} else {
		c.made.local = tcpAsker(made.nc).Addr().Unmap()
	}
	p.count.made.Add(1)
	return true
}

// reset makes nc end with a reset instead of in TIME_WAIT, or in waiting for a
// dead host to acknowledge what it was sent.
func reset(nc net.Conn) {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = t.NetConn()
	}
	if t, ok := nc.(*net.TCPConn); ok {
		t.SetLinger(0) //nolint:errcheck // then it ends in TIME_WAIT
	}
}

// read hands out answers until there are no more, and returns why.
func (c *conn) read() error {
	p := c.line.pool
	r := bufio.NewReaderSize(counting{c}, firstRead)
	for {
		if _, err := r.Peek(1); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				return err
			}
			if p.inUse(c) { // somebody took a place as the time was up
				continue
			}
			return errGone
		}
		msg, err := readFrame(r)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = errGone
		}
		if err == nil {
			err = p.deliver(c, msg)
		}
		if err != nil {
			return err
		}
	}
}

// counting counts what is read from a connection.
type counting struct{ c *conn }

// Read implements [io.Reader].
func (r counting) Read(b []byte) (int, error) {
	n, err := r.c.made.nc.Read(b)
	r.c.loose.Add(int64(n))
	r.c.line.pool.count.octets.Add(uint64(n))
	return n, err
}

// inUse reports whether c, whose time to be idle is up, is in use again. If not,
// it is out of the pool afterwards.
func (p *pool) inUse(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.state == dead {
		return false
	}
	if c.taken == 0 {
		p.count.idled.Add(1)
		p.remove(c, errGone)
	}
	return c.taken > 0
}

// deliver gives msg to who asked for it. What answers nothing that was asked on
// this connection is an error: nobody but the server can have put it there, so
// whatever else comes from it is worth nothing either.
func (p *pool) deliver(c *conn, msg []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.state == dead {
		return c.err
	}
	p.count.received.Add(1)
	id := binary.BigEndian.Uint16(msg)
	cl, ok := c.calls[id]
	switch {
	case !ok:
		p.count.dropped[wrongID].Add(1)
		return errOtherAnswer
	case cl == nil:
		c.abandoned--
		c.loose.Add(-int64(2 + len(msg)))
		p.count.late.Add(1)
	default:
		if v := cl.q.judge(msg); v != matches {
			p.count.dropped[v].Add(1)
			return errOtherAnswer
		}
		cl.msg, cl.size = msg, 2+len(msg)
		c.loose.Add(-int64(cl.size))
		close(cl.done)
	}
	delete(c.calls, id)
	c.heard++
	if cl != nil {
		p.release(c)
	} else {
		c.line.serve()
	}
	return nil
}

// failCalls ends all calls on c with err. The pool's lock is held.
func (c *conn) failCalls(err error) {
	for _, cl := range c.calls {
		if cl != nil {
			cl.err, cl.size, cl.shared = err, int(c.loose.Load()), c.asked > 1
			close(cl.done)
		}
	}
	clear(c.calls)
}

// lost says that c failed with err.
func (p *pool) lost(c *conn, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(c, err)
}

// begin reports whether the next query on c is its first.
func (p *pool) begin(c *conn) (first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.asked++
	return c.asked == 1
}

// register says that cl is about to be sent on c. It reports whether its ID is
// free there. The error is why c is dead.
func (p *pool) register(c *conn, cl *call) (ok bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.state == dead {
		cl.shared = c.asked > 1
		return false, c.err
	}
	if _, taken := c.calls[cl.q.id]; taken {
		return false, nil
	}
	cl.heard = c.heard
	c.calls[cl.q.id] = cl
	return true, nil
}

// abandon says that nobody waits for cl any more, and that it took too long, or
// longer than somebody cared to wait. A connection on which nothing came since
// is taken for half open, and gets no new queries. Afterwards the call's query
// is not looked at any more.
func (p *pool) abandon(c *conn, cl *call, timedOut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.calls[cl.q.id] != cl { // answered, or dead, at the last moment
		return
	}
	cl.size = int(c.loose.Load())
	c.calls[cl.q.id] = nil
	c.abandoned++
	if timedOut && c.heard == cl.heard || c.abandoned >= p.pipelined {
		c.drain()
	}
	p.release(c)
}

// drain has c take no new queries. The pool's lock is held.
func (c *conn) drain() {
	if c.state == live {
		c.state = draining
	}
}

// keepAlive has c closed when it was idle for d, as the server wants it (RFC
// 7828 §3.2.2); as soon as nothing is on it, if d is 0 (§3.4).
func (p *pool) keepAlive(c *conn, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.idleFor = min(d, maxIdle)
	switch {
	case c.idle != nil && d == 0:
		p.remove(c, errGone)
	case c.idle != nil:
		c.wakeAt(time.Now().Add(c.idleFor))
	case d == 0:
		c.drain()
	}
}
