package transport

import (
	"encoding/binary"
	"net/http"
	"net/netip"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
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
	case len(c.streams)+c.orphans >= c.streamLimit || c.held > maxHeld:
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
		if client, ok = forwardedFor(h.forwarded, client, c.doh.rules.Load().proxies); !ok {
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
