package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"shirube/internal/deadline"
)

// Bounds of a connection of HTTP/2, besides MaxStreams and those of its requests.
const (
	connWindow   = 65535     // octets of all requests that the client may send unasked; RFC 9113 §6.9.2
	streamWindow = 65535     // of one: no message is longer
	headerTable  = 4 << 10   // octets of fields that the client may have remembered; RFC 9113 §6.5.2
	maxHeld      = 256 << 10 // octets of requests that are not complete and of responses that nobody takes

	// A header is sent in so many CONTINUATION frames at most, and so many octets
	// (CVE-2024-27316): one that may be as long as that fits into the first frame.
	maxContinuations = 8
	maxBlock         = 2 * maxHeader

	// To be allowed fewer octets than that at a time is nothing to be glad of.
	minUpdate = 1 << 10

	// A client may send so many frames that ask for nothing (PING, SETTINGS,
	// PRIORITY, empty DATA; CVE-2019-9512, CVE-2019-9515, CVE-2019-9518), and a few
	// more with each request.
	maxIdleFrames       = 1000
	idleFramesByRequest = 8

	// leaveTime is how long a client has, that has been told to go and asks for
	// nothing, to say that it has been told; lingerTime is how long its side is
	// still read when ours is closed, so that it hears of the reason.
	leaveTime  = time.Second
	lingerTime = 250 * time.Millisecond
	maxLate    = 256 << 10 // octets that are read then
)

const (
	maxStreamID = 1<<31 - 1 // RFC 9113 §5.1.1
	maxWindow   = 1<<31 - 1 // RFC 9113 §6.9.1
)

// h2Conn serves one connection of HTTP/2 (RFC 9113). The goroutine in run reads
// it, and answers what memory can; those of deferred queries answer by themselves.
type h2Conn struct {
	doh     *DoH
	server  *h2Server
	conn    net.Conn
	about   *webConn
	message time.Duration // MessageTimeout
	idle    time.Duration // IdleTimeout, if there is room

	streamLimit int // MaxStreams

	// Of the goroutine in run alone.
	frames   h2Frames
	head     h2Head
	x        *webExchange // nil: none is borrowed
	secure   bool         // conn is TLS
	prefaced bool         // the client's preface has come
	settled  bool         // its first SETTINGS, too
	last     uint32       // the highest number of a stream that it has opened
	unread   int64        // octets of connWindow that it was not given back
	credit   int          // frames that it may send for nothing
	started  time.Time
	received time.Time // when the last octets came
	begun    time.Time // when the frame or header began that is partial
	begunAt  int       // the frames.done that begun is for
	armed    time.Time // conn's read deadline; zero: it has passed, or was never set
	goneBy   time.Time // when it is left, if it asks for nothing more; zero: it is not leaving

	ctx     *deadline.Context // of the queries in flight
	serving sync.WaitGroup

	mu        sync.Mutex // guards what is below it
	wrote     sync.Cond  // of mu: writing has changed, or broken
	out       []byte     // frames that wait to be written
	ends      []int      // where responses end in out
	box       *h2Outbox  // where out and ends were borrowed; nil: they were not
	writing   bool       // somebody writes, and will take out along
	busy      bool       // the goroutine in run answers, and will write
	broken    bool       // nothing can be written any more
	tableSaid bool
	leaving   bool      // the client has been told to go
	heard     bool      // … and knows
	active    time.Time // when a request last came, or a response went
	window    int64     // octets of all responses that the client takes
	initial   int64     // of one
	streams   []*h2Stream
	waiting   int // streams that wait for the client
	orphans   int // queries in flight whose streams have ended
	held      int // octets, of maxHeld
}

// newH2Conn returns a connection of d. The preface has come already, if prefaced.
func newH2Conn(d *DoH, conn net.Conn, about *webConn, prefaced bool) *h2Conn {
	now, limits := time.Now(), d.limits.Load()
	c := &h2Conn{
		doh: d, server: &d.http2, conn: conn, about: about, prefaced: prefaced,
		message: limits.message, idle: limits.idle, streamLimit: limits.streams,
		started: now, received: now, active: now, begunAt: -1,
		credit: maxIdleFrames, window: connWindow, initial: streamWindow,
	}
	c.frames.pool = &d.http2.inboxes
	c.wrote.L = &c.mu
	c.head.fieldEmit = c.head.emit
	c.head.decoder = hpack.NewDecoder(headerTable, c.head.fieldEmit)
	c.head.decoder.SetMaxStringLength(maxBlock)
	return c
}

// run serves the connection until it ends, and leaves nothing behind.
func (c *h2Conn) run(ctx context.Context) {
	c.server.add(c)
	defer c.server.remove(c)
	c.ctx = deadline.New(ctx, time.Time{})
	if t, ok := c.conn.(*tls.Conn); ok {
		c.secure = true
		c.about.shook(t.ConnectionState().DidResume)
	}
	c.about.inner.hasten(c.settle, func() time.Duration { return c.message })
	c.greet()
	end := c.read()
	c.close(end)
	c.serving.Wait()
}

// greet says what the client has to know (RFC 9113 §3.4).
func (c *h2Conn) greet() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.room()
	c.out = appendSettings(c.out,
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(c.streamLimit)},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: maxHeader})
}

// read reads frames and does what they say, until the connection has to end.
func (c *h2Conn) read() HTTP2End {
	for round := 1; ; round++ {
		if round%yieldAfter == 0 {
			runtime.Gosched() // see udpReader.run
		}
		if end := c.fill(); end != h2GoesOn {
			return end
		}
		if end := c.take(); end != h2GoesOn {
			return end
		}
	}
}

// fill waits for octets.
func (c *h2Conn) fill() HTTP2End {
	for {
		now := c.received
		if c.armed.IsZero() {
			now = time.Now()
		}
		until, end := c.limit(now)
		if end != h2GoesOn {
			return end
		}
		if c.armed.IsZero() || until.Before(c.armed) {
			c.armed = until
			if err := c.conn.SetReadDeadline(until); err != nil {
				return HTTP2ByClient
			}
		}
		// After the deadline was set: either this sees it, or who calls (wake) moves
		// the deadline after us.
		if isClosed(c.server.stop) && c.beginLeaving() {
			continue
		}
		if c.hasLeft() {
			return HTTP2Shutdown
		}
		n, err := c.conn.Read(c.frames.space())
		if n > 0 {
			c.received = time.Now()
			c.frames.added(n)
			return h2GoesOn
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.armed = time.Time{} // the limit may have moved, or somebody calls
		default:
			return c.lost()
		}
	}
}

// lost is the end of a connection that cannot be read.
func (c *h2Conn) lost() HTTP2End {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		return HTTP2SlowReader
	}
	return HTTP2ByClient
}

// limit returns until when to wait for octets, or why not any longer.
func (c *h2Conn) limit(now time.Time) (until time.Time, end HTTP2End) {
	c.mu.Lock()
	defer c.mu.Unlock()
	silence := c.doh.opt.Conns.idleTime(c.idle)
	idle := c.active.Add(silence)
	switch {
	case len(c.streams) > 0: // it waits, or is told below that it does so for too long
		until = now.Add(silence)
	case c.leaving:
		until, end = c.goneBy, HTTP2Shutdown
	default:
		until, end = idle, HTTP2Idle
	}
	if !c.settled && c.started.Add(c.message).Before(until) {
		until, end = c.started.Add(c.message), HTTP2SlowWriter
	}
	if c.frames.partial() || c.head.open {
		if c.begunAt != c.frames.done && !c.head.open { // whatever dribbles in later does not move begun
			c.begun, c.begunAt = c.received, c.frames.done
		}
		if c.begun.Add(c.message).Before(until) {
			until, end = c.begun.Add(c.message), HTTP2SlowWriter
		}
	}
	if end != h2GoesOn && !now.Before(until) {
		return until, end
	}
	if c.waiting == 0 {
		return until, h2GoesOn
	}
	next, end := c.expire(now)
	if !next.IsZero() && next.Before(until) {
		until = next
	}
	return until, end
}

// take does what the frames say that have come.
func (c *h2Conn) take() (end HTTP2End) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = true
	c.room()
	if !c.prefaced {
		all, right := c.frames.skip(http2.ClientPreface)
		if !right {
			return HTTP2Protocol // RFC 9113 §3.4
		}
		if c.prefaced = all; !all {
			return h2GoesOn
		}
	}
	for {
		f, ok, end := c.frames.next()
		if !ok {
			return end
		}
		if end = c.frame(&f); end != h2GoesOn {
			return end
		}
		for len(c.out) >= bufferSize && !c.broken { // who does not read is not read
			if c.flush(); c.writing {
				c.wrote.Wait()
			}
		}
	}
}

// beginLeaving tells the client to go, and reports whether it was not yet told.
func (c *h2Conn) beginLeaving() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return false
	}
	c.room()
	c.leave()
	c.flush()
	return true
}

// leave tells the client to go (RFC 9113 §6.8): it may be asking at this moment,
// so that it is asked to say when it has heard.
func (c *h2Conn) leave() {
	if c.leaving {
		return
	}
	c.leaving = true
	c.goneBy = time.Now().Add(leaveTime)
	c.out = appendGoAway(c.out, maxStreamID, http2.ErrCodeNo)
	c.out = append(appendFrame(c.out, http2.FramePing, 0, 0, 8), "shirube!"...)
}

// hasLeft reports whether the client has been told to go, and has nothing more to
// wait for.
func (c *h2Conn) hasLeft() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaving && c.heard && len(c.streams) == 0
}

// wake has the goroutine in run look at its limit.
func (c *h2Conn) wake() { _ = c.conn.SetReadDeadline(longAgo) } // or it is closed

// settle is called by the goroutine in run before it waits.
func (c *h2Conn) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = false
	c.rest()
	if c.x != nil {
		c.doh.recycle(c.x)
		c.x = nil
	}
}

// rest writes what waits, and has no memory for it any more.
func (c *h2Conn) rest() {
	if c.flush(); len(c.out) == 0 && !c.writing {
		c.vacate()
	}
}

// close ends the connection, and tells the client why.
func (c *h2Conn) close(end HTTP2End) {
	c.server.ends[end].Add(1)
	c.ctx.End()
	c.mu.Lock()
	for len(c.streams) > 0 {
		s := c.streams[0]
		if s.state == h2Serving {
			c.doh.n.resets.Add(1)
		}
		c.shut(s)
	}
	if end != HTTP2ByClient && end != HTTP2SlowReader {
		c.room()
		c.out = appendGoAway(c.out, c.last, http2Ends[end].code)
	}
	c.flush()
	for c.writing {
		c.wrote.Wait()
	}
	c.broken = true // who comes now comes too late
	c.vacate()
	c.mu.Unlock()
	c.frames.release()
	if end != HTTP2ByClient && end != HTTP2SlowReader {
		c.linger()
	}
	_ = c.conn.Close()
}

// linger closes our side and waits a moment for the client to close its own: what
// it has sent meanwhile would have the system throw away what it was told.
func (c *h2Conn) linger() {
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || c.conn.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, c.conn, maxLate) // whatever it is
}
