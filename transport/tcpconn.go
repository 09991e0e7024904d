package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"shirube/internal/stack"
	"shirube/internal/wire"
)

// bufferSize is the room for responses that are written together, in octets. A
// buffer that a long response made longer is not kept.
const bufferSize = 8192

// tcpConn serves one connection. The goroutine in run owns it; those of its
// deferred queries use only what is below inFlight, and pace.moved.
type tcpConn struct {
	tcp    *TCP
	conn   net.Conn
	client netip.AddrPort

	frames frames
	pace   pace
	q      wire.Query
	out    *[]byte // responses that were not written yet; nil: none

	inFlight chan struct{} // as many as there are deferred queries; MaxInFlight at most
	serving  sync.WaitGroup
	writing  sync.Mutex // held across a write: what waits keeps its own deadline
	ending   sync.Once
	cancel   context.CancelFunc // ends the queries in flight
}

func newTCPConn(t *TCP, conn net.Conn) *tcpConn {
	c := &tcpConn{tcp: t, conn: conn, client: remoteOf(conn), inFlight: make(chan struct{}, t.opt.MaxInFlight)}
	c.pace.begin(&t.opt, time.Now())
	return c
}

// run serves the connection until it ends, and leaves nothing behind.
func (c *tcpConn) run(ctx context.Context) {
	defer c.tcp.conns.remove(c)
	ctx, c.cancel = context.WithCancel(ctx)
	reason := c.read(ctx)
	c.flush()
	if reason.answersFirst() {
		c.serving.Wait()
	}
	c.end(reason)
	c.serving.Wait()
}

// end ends the connection; the first reason counts. Blocked reads and writes
// return, and queries in flight are cancelled.
func (c *tcpConn) end(reason CloseReason) {
	c.ending.Do(func() {
		c.tcp.n.closed[reason].Add(1)
		c.cancel()
		_ = c.conn.Close() // nobody is left to be told
	})
}

// read reads queries and answers them or hands them on, until the connection
// has to end.
func (c *tcpConn) read(ctx context.Context) CloseReason {
	for {
		if reason, ok := c.fill(); !ok {
			return reason
		}
		// Queries that came together (RFC 7766 §6.2.1.1) are answered together.
		for msg, cut, ok := c.frames.next(); ok; msg, cut, ok = c.frames.next() {
			if reason, ok := c.handle(ctx, msg, cut); !ok {
				return reason
			}
		}
		if !c.flush() {
			return ClosedReset // flush has ended the connection, with its reason
		}
	}
}

// fill waits for octets. It reports false when it has to wait no more, and why.
func (c *tcpConn) fill() (CloseReason, bool) {
	for {
		until, _ := c.pace.limit(&c.frames, len(c.inFlight) > 0, time.Now())
		if err := c.conn.SetReadDeadline(until); err != nil {
			return ClosedReset, false
		}
		// After the deadline was set: either this sees stop, or Shutdown, which
		// closes stop first, moves the deadline after us.
		if isClosed(c.tcp.stop) {
			return ClosedShutdown, false
		}
		n, err := c.conn.Read(c.frames.space())
		now := time.Now()
		if n > 0 {
			c.frames.added(n)
			c.pace.came(now)
			return 0, true
		}
		switch {
		case err == nil:
		case isClosed(c.tcp.stop):
			return ClosedShutdown, false
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return readFailure(err, c.frames.partial()), false
		}
		// The limit may have moved: answers have gone out meanwhile.
		if until, reason := c.pace.limit(&c.frames, len(c.inFlight) > 0, now); !now.Before(until) {
			return reason, false
		}
	}
}

// handle deals with one message, which was longer than msg if cut. It reports
// false when the connection has to end, and why.
func (c *tcpConn) handle(ctx context.Context, msg []byte, cut bool) (CloseReason, bool) {
	q := &c.q
	status := parse(q, msg, cut)
	q.Client, q.Proto, q.Received, q.Limit = c.client, c.tcp.opt.Proto, c.pace.received, wire.MaxMsgSize
	rsp, outcome := c.tcp.answer(&c.tcp.n.counters, c.room(), msg, q, status)
	switch {
	case status == wire.Ignored: // who sends this does not speak DNS, or is no client
		return ClosedNoQuery, false
	case outcome == Deferred:
		return c.hand(ctx)
	case outcome == Answered:
		return ClosedReset, c.put(rsp)
	default:
		return 0, true
	}
}

// hand gives the query to a goroutine of its own, with memory of its own.
func (c *tcpConn) hand(ctx context.Context) (CloseReason, bool) {
	if !c.enter(ctx) {
		c.tcp.n.dropped.Add(1)
		return ClosedShutdown, false
	}
	rsp, ok := c.tcp.take(&c.tcp.n.counters, c.room(), &c.q)
	if !ok {
		<-c.inFlight
		return ClosedReset, c.put(rsp)
	}
	own := c.q.Clone()
	// Owner: c. End: Serve's deadline, or the connection's. Bound: MaxInFlight,
	// and Slots, of which it has one. Excess: waits, in enter; shed, above.
	c.serving.Go(func() {
		stack.Reserve()
		c.finish(ctx, own)
	})
	return 0, true
}

// enter waits until fewer than MaxInFlight queries are in flight. It reports
// false when the connection ends first. What waits behind the query is as good
// as unread: its time begins when reading goes on.
func (c *tcpConn) enter(ctx context.Context) bool {
	select {
	case c.inFlight <- struct{}{}:
		return true
	default:
	}
	c.tcp.n.stalled.Add(1)
	if !c.flush() {
		return false
	}
	select {
	case c.inFlight <- struct{}{}:
		c.pace.came(time.Now())
		c.q.Received = c.pace.received
		return true
	case <-ctx.Done():
		return false
	}
}

// finish answers a deferred query, on a goroutine of its own.
func (c *tcpConn) finish(ctx context.Context, q *wire.Query) {
	rsp := c.tcp.serve(ctx, &c.tcp.n.counters, make([]byte, prefixLen, wire.MinUDPSize), q)
	if rsp != nil {
		c.tcp.n.answered.Add(1)
		binary.BigEndian.PutUint16(rsp, uint16(len(rsp)-prefixLen))
		c.write(rsp)
	}
	<-c.inFlight // after the write: a client that does not read gets no more answered
}

// room returns the responses that wait to be written, with room for the length
// of one more behind them.
func (c *tcpConn) room() []byte {
	if c.out == nil {
		c.out = c.tcp.buffers.Get().(*[]byte)
	}
	return append(*c.out, 0, 0)
}

// put adds a response: rsp is what room returned, with the response behind it.
// It reports false when the connection has ended.
func (c *tcpConn) put(rsp []byte) bool {
	start := len(*c.out)
	binary.BigEndian.PutUint16(rsp[start:], uint16(len(rsp)-start-prefixLen))
	*c.out = rsp
	return len(rsp) < bufferSize || c.flush()
}

// flush writes the responses that wait, and gives their buffer back. It reports
// false when the connection has ended.
func (c *tcpConn) flush() bool {
	if c.out == nil {
		return true
	}
	out := c.out
	c.out = nil
	ok := len(*out) == 0 || c.write(*out)
	if cap(*out) <= bufferSize {
		*out = (*out)[:0]
		c.tcp.buffers.Put(out)
	}
	return ok
}

// write writes whole responses, lengths included, in one call (RFC 7766 §8).
// The client has MessageTimeout to take them, the wait for others' writes
// included. If he does not, the connection ends.
func (c *tcpConn) write(b []byte) bool {
	deadline := time.Now().Add(c.tcp.opt.MessageTimeout)
	c.writing.Lock()
	defer c.writing.Unlock()
	err := c.conn.SetWriteDeadline(deadline)
	if err == nil {
		_, err = c.conn.Write(b)
	}
	if err != nil {
		c.end(writeFailure(err))
		return false
	}
	c.pace.moved(time.Now())
	return true
}
