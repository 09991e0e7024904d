package transport

import (
	"net/http"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/net/http2"

	"shirube/internal/deadline"
)

// h2State is what a stream that is open waits for.
type h2State uint8

const (
	h2Reading h2State = iota // the rest of the request
	h2Serving                // the Handler
	h2Sending                // the client, to take the rest of the response
)

// h2Stream is a request, or its response, that is not complete (RFC 9113 §5.1).
// Those that are answered at once never become one.
type h2Stream struct {
	id     uint32
	state  h2State
	since  time.Time // of h2Reading and h2Sending
	window int64     // octets of the response that the client takes
	client netip.AddrPort

	ended  bool   // the request has come to its end
	taken  int64  // octets of the client's allowance
	octets int64  // of the request's body that have come
	length int64  // of it, as was said; -1: it was not
	body   []byte // of it, maxQuery and one at most
	rest   []byte // of the response

	ctx  *deadline.Context // of h2Serving
	gone bool              // while the Handler had the query
}

// find returns the stream with that number; nil: it is not open.
func (c *h2Conn) find(id uint32) *h2Stream {
	if i, ok := c.place(id); ok {
		return c.streams[i]
	}
	return nil
}

// place returns where in streams that one is, or would be.
func (c *h2Conn) place(id uint32) (int, bool) {
	return slices.BinarySearchFunc(c.streams, id, func(s *h2Stream, id uint32) int { return int(s.id) - int(id) })
}

// open returns a new stream.
func (c *h2Conn) open(id uint32, state h2State, now time.Time) *h2Stream {
	s := c.server.streams.Get().(*h2Stream)
	*s = h2Stream{id: id, state: state, since: now, window: c.initial, length: -1, body: s.body[:0], rest: s.rest[:0]}
	i, _ := c.place(id)
	c.streams = slices.Insert(c.streams, i, s)
	if state != h2Serving {
		c.waiting++
	}
	return s
}

// shut takes s away from the streams that are open. Whoever serves it keeps it.
func (c *h2Conn) shut(s *h2Stream) {
	if i, ok := c.place(s.id); ok {
		c.streams = slices.Delete(c.streams, i, i+1)
	}
	c.held -= len(s.body) + len(s.rest)
	if s.state == h2Serving {
		s.gone = true
		s.ctx.End()
		c.orphans++
		return
	}
	c.waiting--
	c.recycle(s)
}

// recycle keeps s for the next one, unless it has become large.
func (c *h2Conn) recycle(s *h2Stream) {
	if cap(s.body)+cap(s.rest) > bufferSize {
		s.body, s.rest = nil, nil
	}
	c.server.streams.Put(s)
}

// abort ends a stream, which need not be open, without a response.
func (c *h2Conn) abort(id uint32, code http2.ErrCode) {
	if s := c.find(id); s != nil {
		c.shut(s)
	}
	c.out = appendReset(c.out, id, code)
}

// fault is abort for what the client has done: to have streams reset costs it as
// much as to reset them (CVE-2025-8671).
func (c *h2Conn) fault(id uint32, code http2.ErrCode) HTTP2End {
	c.abort(id, code)
	return c.wasReset()
}

// wasReset notes a stream that came to nothing.
func (c *h2Conn) wasReset() HTTP2End {
	if !c.about.reset(c.received) {
		return h2GoesOn
	}
	c.doh.n.abusive.Add(1)
	return HTTP2Resets
}

// data takes a part of a request's body (RFC 9113 §6.1). What came is read at once:
// so the connection's allowance is the same again, and that of a stream never
// grows, as no message is longer.
func (c *h2Conn) data(f *h2Frame) HTTP2End {
	if f.stream == 0 || f.stream > c.last {
		return HTTP2Protocol
	}
	if c.unread += int64(len(f.payload)); c.unread > connWindow { // RFC 9113 §6.9.1: padding counts
		return HTTP2FlowControl
	}
	if c.unread >= connWindow/2 {
		c.out = appendWindowUpdate(c.out, 0, uint32(c.unread))
		c.unread = 0
	}
	part, ok := f.unpadded()
	if !ok {
		return HTTP2Protocol
	}
	s := c.find(f.stream)
	if s == nil || s.ended { // RFC 9113 §5.1; it may have been on its way
		c.abort(f.stream, http2.ErrCodeStreamClosed)
		return c.charge()
	}
	ends := f.flags&http2.FlagDataEndStream != 0
	if s.taken += int64(len(f.payload)); s.taken > streamWindow {
		return c.fault(s.id, http2.ErrCodeFlowControl)
	}
	s.octets += int64(len(part))
	if s.length >= 0 && (s.octets > s.length || ends && s.octets < s.length) {
		return c.fault(s.id, http2.ErrCodeProtocol) // RFC 9113 §8.1.1
	}
	if s.state != h2Reading { // it has its answer, or nearly
		s.ended = ends
		return h2GoesOn
	}
	kept := part[:min(len(part), maxQuery+1-len(s.body))]
	s.body = append(s.body, kept...)
	c.held += len(kept)
	switch {
	case ends:
		s.ended = true
		c.posted(s)
	case len(part) == 0:
		return c.charge()
	}
	return h2GoesOn
}

// posted answers a request whose body has come.
func (c *h2Conn) posted(s *h2Stream) {
	x := c.exchange()
	cut := len(s.body) > maxQuery
	x.msg = append(x.msg[:0], s.body[:min(len(s.body), maxQuery)]...)
	c.held -= len(s.body)
	s.body = s.body[:0]
	c.ask(s.id, s, s.client, cut)
}

// ask answers the message in x of a stream; s is nil if it was complete at once.
func (c *h2Conn) ask(id uint32, s *h2Stream, client netip.AddrPort, cut bool) {
	h, x := &c.doh.web, c.x
	x.q.HTTP = 2
	rsp, outcome, failure := h.atOnce(x, client, c.about.local, c.received, cut)
	if failure != webOK {
		c.fail(id, s, failure)
		return
	}
	if outcome == Deferred {
		var ok bool
		if rsp, ok = h.take(&h.n.counters, x.out[:0], &x.q); !ok {
			outcome = Answered
		}
	}
	switch outcome {
	case Answered:
		x.out = rsp
		c.respond(id, s, rsp)
	case Dropped:
		c.abort(id, http2.ErrCodeInternal) // RFC 8484 has no way to say nothing
	case Deferred:
		c.hand(id, s)
	}
}

// exchange returns the memory that the connection's goroutine answers with.
func (c *h2Conn) exchange() *webExchange {
	if c.x == nil {
		c.x = c.doh.exchanges.Get().(*webExchange)
	}
	return c.x
}

// hand gives the query in x to a goroutine of its own.
func (c *h2Conn) hand(id uint32, s *h2Stream) {
	x := c.x
	c.x = nil
	if s == nil {
		s = c.open(id, h2Serving, c.received)
		s.ended = true
	} else {
		s.state = h2Serving
		c.waiting--
	}
	s.ctx = deadline.New(c.ctx, time.Time{})
	head := c.head.method == http.MethodHead && c.head.id == id
	// Owner: c. End: Serve's deadline, the stream's, or the connection's. Bound:
	// MaxStreams, and Slots, of which it has one. Excess: refused, by headed; shed,
	// by ask.
	c.serving.Go(func() { c.finish(s, x, head) })
}

// finish answers a deferred query, on a goroutine of its own.
func (c *h2Conn) finish(s *h2Stream, x *webExchange, head bool) {
	h := &c.doh.web
	defer h.recycle(x)
	rsp := h.later(s.ctx, x)
	c.mu.Lock()
	defer c.mu.Unlock()
	s.ctx.End()
	c.active = time.Now()
	for c.writing && len(c.out) > bufferSize && !c.broken {
		c.wrote.Wait()
	}
	c.room()
	if s.gone {
		c.orphans--
		c.recycle(s)
	} else {
		s.state = h2Sending
		c.waiting++
		if rsp == nil {
			c.abort(s.id, http2.ErrCodeInternal)
		} else {
			c.send(s.id, s, rsp, head)
		}
	}
	if !c.busy {
		c.rest()
		if c.leaving { // it may have been the last
			c.wake()
		}
	}
}

// respond answers the stream whose request was read last with a message.
func (c *h2Conn) respond(id uint32, s *h2Stream, rsp []byte) {
	c.send(id, s, rsp, c.head.method == http.MethodHead && c.head.id == id)
}

// send answers a stream with a message, whose octets are left out if it was asked
// for by HEAD.
func (c *h2Conn) send(id uint32, s *h2Stream, rsp []byte, head bool) {
	if c.doh.draining.Load() {
		c.leave()
	}
	at := c.beginFields()
	c.out = c.doh.appendFields(c.out, rsp, &hpackCodes, c.secure)
	if head {
		rsp = nil
	}
	c.endFields(at, id, len(rsp) == 0)
	c.body(id, s, rsp)
}

// fail answers a stream whose request holds no message.
func (c *h2Conn) fail(id uint32, s *h2Stream, e WebError) {
	c.doh.n.errors[e].Add(1)
	c.refuse(id, s, webErrors[e].status)
}

// refuse answers a stream with a status that is no success.
func (c *h2Conn) refuse(id uint32, s *h2Stream, status int) {
	text := http.StatusText(status)
	at := c.beginFields()
	c.out = c.doh.appendFailure(c.out, status, len(text), &hpackCodes)
	if c.head.method == http.MethodHead && c.head.id == id {
		text = ""
	}
	c.endFields(at, id, text == "")
	c.body(id, s, []byte(text))
}

// beginFields begins a HEADERS frame, and returns where.
func (c *h2Conn) beginFields() (at int) {
	at = len(c.out)
	c.out = append(c.out, make([]byte, frameHeaderLen)...)
	if !c.tableSaid { // RFC 7541 §4.2: whatever the client allows, nothing is remembered
		c.tableSaid = true
		c.out = append(c.out, h2TableNone...)
	}
	return at
}

// endFields ends the HEADERS frame that begins at that place.
func (c *h2Conn) endFields(at int, id uint32, last bool) {
	flags := http2.FlagHeadersEndHeaders
	if last {
		flags |= http2.FlagHeadersEndStream
	}
	appendFrame(c.out[:at], http2.FrameHeaders, flags, id, len(c.out)-at-frameHeaderLen)
}

// body sends as much of a response's octets as the client takes (RFC 9113 §6.9),
// keeps the rest, and ends the stream if there is none.
func (c *h2Conn) body(id uint32, s *h2Stream, rsp []byte) {
	window := c.initial
	if s != nil {
		window = s.window
	}
	n := max(0, min(int64(len(rsp)), window, c.window))
	c.window -= n
	sent, rest := rsp[:n], rsp[n:]
	for len(sent) > 0 {
		part := sent[:min(len(sent), maxFrame)]
		sent = sent[len(part):]
		flags := http2.Flags(0)
		if len(sent)+len(rest) == 0 {
			flags = http2.FlagDataEndStream
		}
		c.out = appendFrame(c.out, http2.FrameData, flags, id, len(part))
		c.out = append(c.out, part...)
	}
	c.ends = append(c.ends, len(c.out))
	switch {
	case len(rest) == 0 && s != nil:
		if !s.ended {
			c.out = appendReset(c.out, id, http2.ErrCodeNo) // RFC 9113 §8.1: no need to send the rest
		}
		c.shut(s)
	case len(rest) == 0:
	case s == nil:
		s = c.open(id, h2Sending, c.received)
		s.ended = true
		fallthrough
	default:
		if s.state != h2Sending || len(s.rest) == 0 {
			s.since = time.Now()
		}
		s.state = h2Sending
		s.window -= n
		c.held += len(rest) - len(s.rest)
		s.rest = append(s.rest[:0], rest...)
	}
}

// pump sends what the client takes by now of the responses that wait.
func (c *h2Conn) pump() {
	for i := 0; i < len(c.streams) && c.window > 0; {
		s := c.streams[i]
		if s.state == h2Sending && s.window > 0 {
			c.body(s.id, s, s.rest)
		}
		if i < len(c.streams) && c.streams[i] == s { // it has not ended
			i++
		}
	}
}

// expire ends the streams that have waited for the client for too long, and
// returns when the next will have.
func (c *h2Conn) expire(now time.Time) (next time.Time, end HTTP2End) {
	for i := 0; i < len(c.streams); {
		s := c.streams[i]
		until := s.since.Add(c.message)
		switch {
		case s.state == h2Serving:
			i++
		case now.Before(until):
			if next.IsZero() || until.Before(next) {
				next = until
			}
			i++
		default:
			c.doh.http2.tooSlow.Add(1)
			if end = c.fault(s.id, http2.ErrCodeCancel); end != h2GoesOn {
				return next, end
			}
		}
	}
	return next, h2GoesOn
}
