package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"shirube/internal/deadline"
	"shirube/internal/netx"
	"shirube/internal/stack"
	"shirube/internal/wire"
)

// bufferSize is the room for responses that are written together, in octets. A
// buffer that a long response made longer is not kept.
const bufferSize = 16 << 10

// yieldAfter is how many times a connection is read before others get a turn, even
// if there is always more to read: its reads and writes do not wait.
const yieldAfter = 16

// tcpConn serves one connection. The goroutine in run owns it; those of its
// deferred queries use only what is below inFlight, and pace.moved. There may be
// a hundred thousand of them, most of which are idle: what only those need that
// are not is not here, but in frames' inbox, out and late.
type tcpConn struct {
	tcp     *TCP
	conn    net.Conn
	stream  *netx.Stream // of conn, or of what is under its TLS; nil: that is no bare TCP connection
	bare    bool         // stream is conn's
	hastens bool         // conn has settle called before it waits
	client  netip.AddrPort
	local   netip.AddrPort // that the client has asked
	counted bool           // among its client's, by the roster

	frames frames
	first  [prefixLen]byte // where the next message begins, without a stream
	pace   pace
	armed  time.Time // conn's read deadline, but for what others made of it; zero: it has passed
	out    *[]byte   // responses that were not written yet; nil: none

	ctx      *deadline.Context // of the queries in flight
	inFlight chan struct{}     // as many as there are deferred queries; MaxInFlight at most. nil: never any
	serving  sync.WaitGroup
	late     latecomers
	writing  sync.Mutex  // held across a write: what waits keeps its own deadline
	slow     atomic.Bool // a write had to wait for the client
	ending   sync.Once
	over     atomic.Bool // it was ended
}

func newTCPConn(t *TCP, conn net.Conn) *tcpConn {
	c := &tcpConn{tcp: t, conn: conn, client: addrPort(conn.RemoteAddr())}
	c.frames.pool = &t.inboxes
	c.late.pool = &t.buffers
	c.pace.begin(t.opt.Load(), time.Now())
	c.takeStream(conn)
	return c
}

// takeStream has c read and written at the least cost, if conn, which carries
// nothing but messages, is bare TCP.
func (c *tcpConn) takeStream(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		c.stream, _ = netx.NewStream(tcp, &c.frames) // without one it is read as any other
		c.bare = c.stream != nil
	}
}

// run serves the connection until it ends, and leaves nothing behind.
func (c *tcpConn) run(ctx context.Context) {
	defer c.tcp.conns.remove(c)
	c.ctx = deadline.New(ctx, time.Time{})
	reason, ok := c.open()
	c.local = addrPort(c.conn.LocalAddr())
	if secured := securedOf(c.conn); secured != nil {
		secured.inner.hasten(c.settle, c.patience)
		c.hastens, c.stream = true, secured.inner.haste.stream
	}
	if ok {
		reason = c.read()
	}
	c.flush()
	if reason.answersFirst() {
		c.serving.Wait()
	}
	c.end(reason)
	_ = c.conn.Close() // nobody is left to be told
	c.serving.Wait()
	c.frames.release()
}

// open finds out who the client is, if a proxy has to say so. It reports false
// when the connection has to end, and why.
func (c *tcpConn) open() (CloseReason, bool) {
	p := proxiedOf(c.conn)
	if p == nil {
		return 0, true
	}
	if reason, ok := c.guard(time.Now()); !ok {
		return reason, false
	}
	err := p.greet()
	switch {
	case err == nil:
	case errors.Is(err, errNoProxy):
		return ClosedNoProxy, false
	case isClosed(c.tcp.stop):
		return ClosedShutdown, false
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ClosedFirstByte, false
	default:
		return readFailure(err, p.begun), false
	}
	if c.client = addrPort(c.conn.RemoteAddr()); !c.tcp.conns.know(c) {
		return ClosedOverClient, false
	}
	if c.conn == net.Conn(p) {
		c.takeStream(p.Conn)
	}
	return 0, true
}

// end ends the connection; the first reason counts. Blocked reads and writes
// return, and queries in flight are cancelled. It is run that closes it: Close
// would wait for the goroutine that reads, which may have called this.
func (c *tcpConn) end(reason CloseReason) {
	c.ending.Do(func() {
		c.tcp.n.closed[reason].Add(1)
		c.over.Store(true)
		c.ctx.End()
		_ = c.conn.SetDeadline(longAgo) // or it is closed
	})
}

// read reads queries and answers them or hands them on, until the connection
// has to end.
func (c *tcpConn) read() CloseReason {
	for round := 1; ; round++ {
		if round%yieldAfter == 0 {
			runtime.Gosched() // see udpReader.run
		}
		if reason, ok := c.fill(); !ok {
			return reason
		}
		if reason, ok := c.respond(); !ok {
			return reason
		}
		if c.stream != nil { // and who is under TLS has shaken hands
			return c.attend()
		}
		// With TLS they may have come together in records of their own.
		if !c.hastens && !c.flush() {
			return ClosedReset // flush has ended the connection, with its reason
		}
	}
}

// respond answers the messages that have arrived, or hands them on. It reports
// false when the connection has to end, and why.
func (c *tcpConn) respond() (CloseReason, bool) {
	if len(c.inFlight) > 0 {
		c.late.admit()
	}
	// Queries that came together (RFC 7766 §6.2.1.1) are answered together.
	for msg, cut, ok := c.frames.next(); ok; msg, cut, ok = c.frames.next() {
		if reason, ok := c.handle(msg, cut); !ok {
			return reason, false
		}
	}
	return 0, true
}

// attend is read where nothing has to be tried in vain: see [netx.Stream.Attend].
func (c *tcpConn) attend() CloseReason {
	for {
		var reason CloseReason
		err := c.stream.Attend(func() (done bool) {
			reason, done = c.turn()
			return done
		})
		switch {
		case err == nil:
			return reason
		case isClosed(c.tcp.stop):
			return ClosedShutdown
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return readFailure(err, c.frames.partial())
		}
		if reason, ok := c.extend(); !ok {
			return reason
		}
		if reason, ok := c.guard(time.Now()); !ok {
			return reason
		}
	}
}

// turn answers all that has come. It reports true when the connection has to end,
// and why.
func (c *tcpConn) turn() (CloseReason, bool) {
	for round := 1; ; round++ {
		if round%yieldAfter == 0 {
			runtime.Gosched()
		}
		n, err := c.take()
		switch {
		case n > 0:
			c.frames.added(n)
			c.pace.came(time.Now())
			if reason, ok := c.respond(); !ok {
				return reason, true
			}
		case err != nil && !errors.Is(err, netx.ErrEmpty):
			return readFailure(err, c.frames.partial()), true
		case !c.flush():
			return ClosedReset, true // flush has ended the connection, with its reason
		default:
			c.frames.Wait()
			reason, ok := c.guard(c.pace.received)
			return reason, !ok
		}
	}
}

// settle is called by the goroutine that reads before it waits for octets. Should
// it end the connection, that cannot be read any more.
func (c *tcpConn) settle() { c.flush() }

// patience is called when a write has to wait for the client, and returns for how
// long it may.
func (c *tcpConn) patience() time.Duration {
	c.slow.Store(true)
	return c.tcp.opt.Load().MessageTimeout
}

// fill waits for octets. It reports false when it has to wait no more, and why.
func (c *tcpConn) fill() (CloseReason, bool) {
	for {
		if reason, ok := c.guard(time.Now()); !ok {
			return reason, false
		}
		n, err := c.receive()
		if n > 0 {
			c.frames.added(n)
			c.pace.came(time.Now())
			return 0, true
		}
		switch {
		case err == nil:
		case isClosed(c.tcp.stop):
			return ClosedShutdown, false
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return readFailure(err, c.frames.partial()), false
		}
		if reason, ok := c.extend(); !ok {
			return reason, false
		}
	}
}

// guard is called before the wait for octets. It reports false when there is to be
// none, and why.
func (c *tcpConn) guard(now time.Time) (CloseReason, bool) {
	if err := c.arm(now); err != nil {
		return ClosedReset, false
	}
	// After the deadline was set: either this sees stop, or Shutdown, which
	// closes stop first, moves the deadline after us. So does end.
	switch {
	case c.over.Load():
		return ClosedReset, false // or why it was
	case isClosed(c.tcp.stop):
		return ClosedShutdown, false
	}
	return 0, true
}

// extend is called when the read deadline has passed. It reports false when that
// is the end, and why. The limit may have moved: answers have gone out meanwhile.
func (c *tcpConn) extend() (CloseReason, bool) {
	c.armed = time.Time{}
	now := time.Now()
	until, reason := c.limit(now)
	return reason, now.Before(until)
}

// limit returns until when to wait for octets, and why not longer.
func (c *tcpConn) limit(now time.Time) (time.Time, CloseReason) {
	return c.pace.limit(&c.frames, len(c.inFlight) > 0, c.tcp.idleTime(), now)
}

// arm sees to it that what waits for octets does not do so for too long. The
// deadline moves later with every message. It is set anew only when it has
// passed: once in a while, not for each.
func (c *tcpConn) arm(now time.Time) error {
	until, _ := c.limit(now)
	if !c.armed.IsZero() && !until.Before(c.armed) {
		return nil
	}
	c.armed = until
	return c.conn.SetReadDeadline(until)
}

// receive waits for octets, puts them into frames and returns how many came.
func (c *tcpConn) receive() (int, error) {
	f := &c.frames
	if c.bare {
		return c.stream.Read()
	}
	if f.Wait(); f.inbox != nil {
		return c.conn.Read(f.Space())
	}
	n, err := c.conn.Read(c.first[:])
	if n > 0 {
		copy(f.Space(), c.first[:n])
	}
	return n, err
}

// take puts what is there into frames, and returns how many octets that are.
func (c *tcpConn) take() (int, error) {
	if c.bare {
		return c.stream.Read()
	}
	return c.conn.Read(c.frames.Space())
}

// handle deals with one message, which was longer than msg if cut. It reports
// false when the connection has to end, and why.
func (c *tcpConn) handle(msg []byte, cut bool) (CloseReason, bool) {
	q := &c.frames.q
	status := parse(q, msg, cut)
	q.Client, q.Local, q.Proto, q.Received, q.Limit = c.client, c.local, c.tcp.opt.Load().Proto, c.pace.received, wire.MaxMsgSize
	q.Idle = c.tcp.promisedIdle()
	rsp, outcome := c.tcp.answer(&c.tcp.n.counters, c.room(), msg, q, status)
	switch {
	case status == wire.Ignored: // who sends this does not speak DNS, or is no client
		return ClosedNoQuery, false
	case outcome == Deferred:
		return c.hand(q)
	case outcome == Answered:
		return ClosedReset, c.put(rsp)
	default:
		return 0, true
	}
}

// hand gives q to a goroutine of its own, with memory of its own.
func (c *tcpConn) hand(q *wire.Query) (CloseReason, bool) {
	if !c.enter(q) {
		c.tcp.n.dropped.Add(1)
		return ClosedShutdown, false
	}
	rsp, ok := c.tcp.take(&c.tcp.n.counters, c.room(), q)
	if !ok {
		<-c.inFlight
		return ClosedReset, c.put(rsp)
	}
	own := q.Clone()
	c.late.admit()
	// Owner: c. End: Serve's deadline, or the connection's. Bound: MaxInFlight,
	// and Slots, of which it has one. Excess: waits, in enter; shed, above.
	c.serving.Go(func() {
		stack.Reserve()
		c.finish(own)
	})
	return 0, true
}

// enter waits until fewer than MaxInFlight queries are in flight. It reports
// false when the connection ends first. What waits behind q is as good as
// unread: its time begins when reading goes on.
func (c *tcpConn) enter(q *wire.Query) bool {
	if c.inFlight == nil {
		c.inFlight = make(chan struct{}, c.tcp.opt.Load().MaxInFlight)
	}
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
		q.Received = c.pace.received
		return true
	case <-c.ctx.Done():
		return false
	}
}

// finish answers a deferred query, on a goroutine of its own.
func (c *tcpConn) finish(q *wire.Query) {
	rsp := c.tcp.serve(c.ctx, &c.tcp.n.counters, make([]byte, prefixLen, wire.MinUDPSize), q)
	if rsp != nil {
		c.tcp.answered(&c.tcp.n.counters, q, rsp[prefixLen:])
		binary.BigEndian.PutUint16(rsp, uint16(len(rsp)-prefixLen))
		if !c.late.join(rsp) && c.write(rsp) {
			c.pace.moved(time.Now())
		}
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
	out, late := c.out, c.late.dismiss()
	c.out = nil
	switch {
	case late == nil:
	case out == nil:
		out = late
	default:
		*out = append(*out, *late...)
		c.tcp.recycle(late)
	}
	if out == nil {
		return true
	}
	ok := len(*out) == 0 || c.write(*out)
	c.tcp.recycle(out)
	return ok
}

// write writes whole responses, lengths included, in one call (RFC 7766 §8).
// The client has MessageTimeout to take them, the wait for others' writes
// included. If he does not, the connection ends.
func (c *tcpConn) write(b []byte) bool {
	var until time.Time // zero: what is written at once needs none
	if !c.writing.TryLock() {
		until = time.Now().Add(c.patience())
		c.writing.Lock()
	}
	defer c.writing.Unlock()
	if err := c.writeBy(until, b); err != nil {
		c.end(writeFailure(err))
		return false
	}
	// Or else they go out in the moment that their queries came.
	if c.slow.Load() {
		c.slow.Store(false)
		c.pace.moved(time.Now())
	}
	return true
}

// writeBy writes b, until a time if it has to wait. The caller holds writing.
func (c *tcpConn) writeBy(until time.Time, b []byte) error {
	if c.bare {
		n, err := c.stream.TryWrite(b)
		if err != nil || n == len(b) {
			return err
		}
		b = b[n:]
	}
	if !c.hastens { // else the deadline is set for what does not fit
		if until.IsZero() {
			until = time.Now().Add(c.patience())
		}
		if err := c.conn.SetWriteDeadline(until); err != nil {
			return err
		}
	}
	_, err := c.conn.Write(b)
	return err
}
