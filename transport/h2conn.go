package transport

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
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

// h2Head is the header that is being read, and the request that it makes.
type h2Head struct {
	h2Request

	id        uint32 // its stream
	open      bool   // CONTINUATION is to follow
	last      bool   // nothing follows: no body
	block     []byte // what has come, if it comes in pieces
	pieces    int
	decoder   *hpack.Decoder
	overlong  bool // more fields than are read
	fieldEmit func(hpack.HeaderField)
}

// h2Conn serves one connection of HTTP/2 (RFC 9113). The goroutine in run reads
// it, and answers what memory can; those of deferred queries answer by themselves.
type h2Conn struct {
	doh     *DoH
	server  *h2Server
	conn    net.Conn
	about   *webConn
	message time.Duration // MessageTimeout
	idle    time.Duration

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
	now := time.Now()
	c := &h2Conn{
		doh: d, server: &d.http2, conn: conn, about: about, prefaced: prefaced,
		message: d.server.ReadTimeout, idle: d.server.IdleTimeout,
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
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(c.doh.streams())},
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
	idle := c.active.Add(c.idle)
	switch {
	case len(c.streams) > 0: // it waits, or is told below that it does so for too long
		until = now.Add(c.idle)
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

// frame does what one frame says.
func (c *h2Conn) frame(f *h2Frame) HTTP2End {
	switch {
	case !c.settled && (f.typ != http2.FrameSettings || f.flags&http2.FlagSettingsAck != 0): // RFC 9113 §3.4
		return HTTP2Protocol
	case c.head.open && (f.typ != http2.FrameContinuation || f.stream != c.head.id): // RFC 9113 §6.2
		return HTTP2Protocol
	}
	switch f.typ {
	case http2.FrameData:
		return c.data(f)
	case http2.FrameHeaders:
		return c.headers(f)
	case http2.FrameContinuation:
		return c.continuation(f)
	case http2.FrameRSTStream:
		return c.reset(f)
	case http2.FrameSettings:
		return c.settings(f)
	case http2.FramePing:
		return c.ping(f)
	case http2.FrameWindowUpdate:
		return c.windowUpdate(f)
	case http2.FramePriority: // RFC 9113 §5.3.2: it says nothing
		switch {
		case f.stream == 0:
			return HTTP2Protocol
		case len(f.payload) != 5:
			return HTTP2FrameSize
		}
		return c.charge()
	case http2.FrameGoAway: // RFC 9113 §6.8: it asks for nothing more
		switch {
		case f.stream != 0:
			return HTTP2Protocol
		case len(f.payload) < 8:
			return HTTP2FrameSize
		}
		return c.charge()
	case http2.FramePushPromise: // RFC 9113 §8.4
		return HTTP2Protocol
	default: // RFC 9113 §4.1
		return c.charge()
	}
}

// charge has the client pay for a frame that asks for nothing.
func (c *h2Conn) charge() HTTP2End {
	if c.credit--; c.credit < 0 {
		return HTTP2Flood
	}
	return h2GoesOn
}

// headers begins a header (RFC 9113 §6.2).
func (c *h2Conn) headers(f *h2Frame) HTTP2End {
	if f.stream%2 == 0 { // RFC 9113 §5.1.1
		return HTTP2Protocol
	}
	block, ok := f.unpadded()
	if !ok {
		return HTTP2Protocol
	}
	if f.flags&http2.FlagHeadersPriority != 0 {
		if len(block) < 5 {
			return HTTP2FrameSize
		}
		block = block[5:]
	}
	c.head.id, c.head.last = f.stream, f.flags&http2.FlagHeadersEndStream != 0
	if f.flags&http2.FlagHeadersEndHeaders != 0 {
		return c.headed(block)
	}
	c.head.open, c.head.pieces = true, 0
	c.head.block = append(c.head.block[:0], block...)
	c.begun = c.received
	return h2GoesOn
}

// continuation goes on with a header (RFC 9113 §6.10).
func (c *h2Conn) continuation(f *h2Frame) HTTP2End {
	if !c.head.open {
		return HTTP2Protocol
	}
	if c.head.pieces++; c.head.pieces > maxContinuations || len(c.head.block)+len(f.payload) > maxBlock {
		return HTTP2Header
	}
	c.head.block = append(c.head.block, f.payload...)
	if f.flags&http2.FlagHeadersEndHeaders == 0 {
		return h2GoesOn
	}
	block := c.head.block
	c.head.block, c.head.open = nil, false
	return c.headed(block)
}

// emit notes a field of the header.
func (h *h2Head) emit(f hpack.HeaderField) {
	if h.field(f); h.size > maxHeader {
		h.overlong = true
		h.decoder.SetEmitEnabled(false) // the others count for the table only
	}
}

// decode reads a header.
func (h *h2Head) decode(block []byte) error {
	h.reset()
	h.overlong = false
	h.decoder.SetEmitEnabled(true)
	if _, err := h.decoder.Write(block); err != nil {
		return err
	}
	return h.decoder.Close()
}

// headed does what a whole header says: begin a stream, or end one.
func (c *h2Conn) headed(block []byte) HTTP2End {
	h := &c.head
	if h.decode(block) != nil {
		return HTTP2Compression // RFC 9113 §4.3
	}
	if s := c.find(h.id); s != nil {
		return c.trailers(s)
	}
	if h.id <= c.last { // RFC 9113 §5.1.1
		return HTTP2Protocol
	}
	c.last = h.id
	switch {
	case c.leaving && c.heard: // RFC 9113 §6.8: it knows that this is not answered
		return h2GoesOn
	case len(c.streams)+c.orphans >= c.doh.streams() || c.held > maxHeld:
		c.server.refused.Add(1)
		return c.fault(h.id, http2.ErrCodeRefusedStream) // RFC 9113 §5.1.2
	case !h.overlong && !h.complete():
		return c.fault(h.id, http2.ErrCodeProtocol) // RFC 9113 §8.1.1
	}
	c.credit = min(c.credit+idleFramesByRequest, maxIdleFrames)
	c.active = c.received
	c.doh.n.requests.Add(1)
	return c.request()
}

// trailers ends a stream whose body was read (RFC 9113 §8.1).
func (c *h2Conn) trailers(s *h2Stream) HTTP2End {
	switch {
	case s.ended: // RFC 9113 §5.1
		return c.fault(s.id, http2.ErrCodeStreamClosed)
	case !c.head.last, c.head.malformed, c.head.overlong, c.head.method+c.head.scheme+c.head.path+c.head.authority != "", s.length >= 0 && s.octets != s.length:
		return c.fault(s.id, http2.ErrCodeProtocol)
	}
	s.ended = true
	if s.state == h2Reading {
		c.posted(s)
	}
	return h2GoesOn
}

// request begins to answer the request whose header was read.
func (c *h2Conn) request() HTTP2End {
	h := &c.head
	c.about.once.Do(func() { c.about.webEnds = c.about.ends() })
	client := c.about.client
	if h.overlong {
		c.refuse(h.id, c.unlessLast(client), http.StatusRequestHeaderFieldsTooLarge)
		return h2GoesOn
	}
	if h.last && h.length > 0 { // RFC 9113 §8.1.1
		return c.fault(h.id, http2.ErrCodeProtocol)
	}
	path, query := h.target()
	failure := c.doh.check(c.exchange(), h.method, path, query, h.media, h.length)
	if failure == webOK && c.about.believed {
		var ok bool
		if client, ok = forwardedFor(h.forwarded, client, c.doh.proxies); !ok {
			failure = WebBadRequest
		}
	}
	switch {
	case failure != webOK:
		c.fail(h.id, c.unlessLast(client), failure)
	case h.method != http.MethodPost:
		c.ask(h.id, c.unlessLast(client), client, false)
	default:
		if s := c.unlessLast(client); s != nil {
			return h2GoesOn // data goes on
		}
		c.x.msg = c.x.msg[:0]
		c.ask(h.id, nil, client, false)
	}
	return h2GoesOn
}

// unlessLast returns a new stream for a request with a body, nil for one without.
func (c *h2Conn) unlessLast(client netip.AddrPort) *h2Stream {
	if c.head.last {
		return nil
	}
	s := c.open(c.head.id, h2Reading, c.received)
	s.client, s.length = client, c.head.length
	return s
}

// reset ends a stream that the client does not want any more (RFC 9113 §6.4).
func (c *h2Conn) reset(f *h2Frame) HTTP2End {
	switch {
	case f.stream == 0 || f.stream > c.last:
		return HTTP2Protocol
	case len(f.payload) != 4:
		return HTTP2FrameSize
	}
	if s := c.find(f.stream); s != nil {
		c.doh.n.resets.Add(1)
		c.shut(s)
	}
	return c.wasReset()
}

// settings does what the client wants (RFC 9113 §6.5).
func (c *h2Conn) settings(f *h2Frame) HTTP2End {
	switch ack := f.flags&http2.FlagSettingsAck != 0; {
	case f.stream != 0:
		return HTTP2Protocol
	case ack && len(f.payload) != 0, len(f.payload)%6 != 0:
		return HTTP2FrameSize
	case ack:
		return c.charge()
	}
	for p := f.payload; len(p) > 0; p = p[6:] {
		s := http2.Setting{ID: http2.SettingID(binary.BigEndian.Uint16(p)), Val: binary.BigEndian.Uint32(p[2:])}
		if end := c.setting(s); end != h2GoesOn {
			return end
		}
	}
	c.settled = true
	c.out = appendFrame(c.out, http2.FrameSettings, http2.FlagSettingsAck, 0, 0)
	c.pump()
	return c.charge()
}

// setting does what one setting wants. Those of responses that are never sent, of
// fields that are never remembered, and of frames that are never longer than
// anybody takes, are only checked (RFC 9113 §6.5.2).
func (c *h2Conn) setting(s http2.Setting) HTTP2End {
	switch s.ID {
	case http2.SettingInitialWindowSize:
		if s.Val > maxWindow {
			return HTTP2FlowControl
		}
		change := int64(s.Val) - c.initial
		c.initial = int64(s.Val)
		for _, open := range c.streams { // RFC 9113 §6.9.2
			if open.window += change; open.window > maxWindow {
				return HTTP2FlowControl
			}
		}
	case http2.SettingEnablePush:
		if s.Val > 1 {
			return HTTP2Protocol
		}
	case http2.SettingMaxFrameSize:
		if s.Val < maxFrame || s.Val > 1<<24-1 {
			return HTTP2Protocol
		}
	}
	return h2GoesOn
}

// ping answers a PING (RFC 9113 §6.7), or is the answer to ours.
func (c *h2Conn) ping(f *h2Frame) HTTP2End {
	switch {
	case f.stream != 0:
		return HTTP2Protocol
	case len(f.payload) != 8:
		return HTTP2FrameSize
	case f.flags&http2.FlagPingAck != 0:
		c.heard = c.leaving // all that was asked before has come
		return c.charge()
	}
	c.out = appendFrame(c.out, http2.FramePing, http2.FlagPingAck, 0, len(f.payload))
	c.out = append(c.out, f.payload...)
	return c.charge()
}

// windowUpdate allows more octets (RFC 9113 §6.9).
func (c *h2Conn) windowUpdate(f *h2Frame) HTTP2End {
	if len(f.payload) != 4 {
		return HTTP2FrameSize
	}
	n := int64(binary.BigEndian.Uint32(f.payload) &^ (1 << 31))
	switch s := c.find(f.stream); {
	case f.stream > c.last:
		return HTTP2Protocol
	case f.stream == 0 && n == 0:
		return HTTP2Protocol
	case f.stream == 0:
		if c.window += n; c.window > maxWindow {
			return HTTP2FlowControl
		}
	case n == 0:
		return c.fault(f.stream, http2.ErrCodeProtocol)
	case s == nil: // it has ended
		return c.charge()
	default:
		if s.window += n; s.window > maxWindow {
			return c.fault(f.stream, http2.ErrCodeFlowControl)
		}
	}
	c.pump()
	if n < minUpdate {
		return c.charge()
	}
	return h2GoesOn
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

// h2Outbox is what a connection of HTTP/2 has only while there is something to be
// written.
type h2Outbox struct {
	frames, records []byte // before and after encryption
	ends            []int
}

// room has out borrowed from those of all connections.
func (c *h2Conn) room() {
	if c.box == nil {
		c.box = c.server.outboxes.Get().(*h2Outbox)
		c.out = append(c.box.frames[:0], c.out...)
		c.ends = append(c.box.ends[:0], c.ends...)
	}
}

// vacate gives out back, unless a long response has made it large.
func (c *h2Conn) vacate() {
	if c.box != nil && cap(c.out)+cap(c.box.records) <= 4*bufferSize {
		c.box.frames, c.box.ends = c.out[:0], c.ends[:0]
		c.server.outboxes.Put(c.box)
	}
	c.box, c.out, c.ends = nil, nil, nil
}

// flush writes what waits, and what comes to wait meanwhile, unless somebody else
// does. mu is let go meanwhile.
func (c *h2Conn) flush() {
	for len(c.out) > 0 && !c.writing && !c.broken {
		out, ends := c.out, c.ends
		c.out, c.ends, c.writing = nil, nil, true
		c.mu.Unlock()
		err := c.write(out, ends)
		c.mu.Lock()
		c.writing = false
		if len(c.out) == 0 {
			c.out, c.ends = out[:0], ends[:0]
		}
		if err != nil {
			c.broken = true
			c.about.cut() // who reads ends it
		}
		c.wrote.Broadcast()
	}
}

// write writes frames in one call. With TLS each response is a record: there are
// clients, dnsperf among them, that find no more than one in what they read.
func (c *h2Conn) write(out []byte, ends []int) error {
	if !c.secure || len(ends) < 2 {
		_, err := c.conn.Write(out)
		return err
	}
	c.about.inner.gather(c.box.records[:0])
	at := 0
	for i, end := range ends {
		if i == len(ends)-1 {
			end = len(out)
		}
		if _, err := c.conn.Write(out[at:end]); err != nil {
			return err
		}
		at = end
	}
	var err error
	c.box.records, err = c.about.inner.scatter()
	return err
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
