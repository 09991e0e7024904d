package transport

import (
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/quic-go/quicvarint"

	"shirube/internal/wire"
)

// DoH3Stats is what a [DoH3] has seen since it was made.
type DoH3Stats struct {
	WebCounts
	QUICStats
}

// DoH3 serves DNS over HTTP/3 (RFC 8484, RFC 9114), as [DoH] does over the other
// versions. Package http3 has no way to tell the clients of a connection to go whose
// streams somebody else bounds.
type DoH3 struct {
	web
	*quicServer

	streams sync.Pool // of *h3Stream
}

// h3Stream is the memory that the stream of a request needs.
type h3Stream struct {
	*h3Reader

	out []byte
}

// NewDoH3 returns a server without sockets.
func NewDoH3(opt QUICOptions) *DoH3 {
	opt = opt.withDefaults(DefaultStreams)
	d := new(DoH3)
	d.init(newService(opt.Handler, opt.Slots, opt.Timeout, opt.UDPSize, opt.Log), wire.DoH3, webRules{path: opt.Path})
	d.tap = opt.Tap
	d.streams.New = func() any { return &h3Stream{h3Reader: newH3Reader(h3ReadAhead)} }
	d.quicServer = newQUICServer(opt, wire.DoH3, quicControlStreams, d.web.log)
	d.bye = quic.ApplicationErrorCode(http3.ErrCodeNoError)
	d.open = d.openHTTP
	d.part = d.parting
	d.tire = func(c *quicConn) { c.leave() } // RFC 9114 §5.1: the client is told first
	d.serve = d.request
	return d
}

// Configure changes Path, UDPSize, the time-outs and MaxStreams to those of opt, as
// that of [DoQ] does. The rest of opt does not count.
func (d *DoH3) Configure(opt QUICOptions) {
	d.rule(webRules{path: opt.Path})
	d.set.change(opt.Timeout, opt.UDPSize)
	d.limit(opt.withDefaults(DefaultStreams))
}

// Stats returns the current numbers. Each is exact; together they are not of one
// moment.
func (d *DoH3) Stats() DoH3Stats { return DoH3Stats{d.n.counts(), d.stats()} }

// Drain has clients told that they had better go when they have their answers
// (GOAWAY).
func (d *DoH3) Drain(on bool) { d.draining.Store(on) }

// request answers the request on one stream.
func (d *DoH3) request(c *quicConn, str *quic.Stream) {
	_ = str.SetWriteDeadline(time.Now().Add(d.timeout() + d.limits.Load().message))
	s := d.streams.Get().(*h3Stream)
	defer d.release(s)
	s.begin(str, maxH3Request)
	err := s.header()
	if err == nil && s.size <= maxHeader && !s.asks() {
		err = errH3Malformed
	}
	if err != nil {
		d.spoilt(c, str, err)
		return
	}
	c.http.requests.Add(1)
	d.n.requests.Add(1)
	x := d.exchanges.Get().(*webExchange)
	defer d.recycle(x)
	head := s.method == http.MethodHead
	rsp, status, err := d.reply(c, str, s, x)
	switch {
	case err != nil:
		d.spoilt(c, str, err)
		return
	case str.Context().Err() != nil:
		d.gone(&c.http.webConn)
		return
	case status != 0:
		s.refuse(d, status, head)
	case rsp == nil:
		abort(str, http3.ErrCodeInternalError) // RFC 8484 has no way to say nothing
		return
	case !c.held.take(len(rsp)):
		d.n.untaken.Add(1)
		abort(str, http3.ErrCodeExcessiveLoad)
		return
	default:
		defer c.held.give(len(rsp))
		s.answer(d, rsp, head)
	}
	if _, err := str.Write(s.out); err != nil {
		abort(str, http3.ErrCodeRequestCanceled)
		return
	}
	str.CancelRead(quic.StreamErrorCode(http3.ErrCodeNoError)) // RFC 9114 §4.1: no need to send the rest
	_ = str.Close()
	if d.draining.Load() {
		c.leave()
	}
}

// release keeps s for the next request, unless a long one has made it large.
func (d *DoH3) release(s *h3Stream) {
	if cap(s.out)+cap(s.block) > bufferSize {
		s.out, s.block = nil, nil
	}
	s.begin(nil, 0)
	d.streams.Put(s)
}

// spoilt ends a stream, or all, whose request came to nothing: to have streams ended
// costs the client as much as to reset them.
func (d *DoH3) spoilt(c *quicConn, str *quic.Stream, err error) {
	why := errH3Incomplete // too slowly, or reset
	if errors.As(err, &why) && why.whole {
		_ = c.CloseWithError(quic.ApplicationErrorCode(why.code), "")
		return
	}
	abort(str, why.code)
	if c.http.reset(time.Now()) {
		d.n.abusive.Add(1)
		c.http.cut()
	}
}

// reply returns the response to the request whose fields are in s: a message, or a
// status that is no success. Neither is to say nothing.
func (d *DoH3) reply(c *quicConn, str *quic.Stream, s *h3Stream, x *webExchange) (rsp []byte, status int, err error) {
	if s.size > maxHeader {
		return nil, http.StatusRequestHeaderFieldsTooLarge, nil
	}
	path, query := s.target()
	cut, failure := false, d.check(x, s.method, path, query, s.media, s.length)
	if failure == webOK && s.method == http.MethodPost {
		if x.msg, cut, err = s.body(x.msg[:0], s.length); err != nil {
			return nil, 0, err
		}
	}
	if failure == webOK {
		about := &c.http.webConn
		about.once.Do(func() { about.webEnds = about.ends() })
		x.q.HTTP = 3
		rsp, failure = d.exchange(str.Context(), x, about.client, about.local, cut)
	}
	if failure != webOK {
		d.n.errors[failure].Add(1)
		return nil, webErrors[failure].status, nil
	}
	return rsp, 0, nil
}

// answer puts a response with a message into out, whose octets are left out if it
// was asked for by HEAD.
func (s *h3Stream) answer(d *DoH3, rsp []byte, head bool) {
	s.out = d.appendFields(beginH3Fields(s.out[:0]), rsp, &qpackCodes, true)
	if head {
		rsp = nil
	}
	s.finish(rsp)
}

// refuse puts a response with a status that is no success into out.
func (s *h3Stream) refuse(d *DoH3, status int, head bool) {
	text := http.StatusText(status)
	s.out = d.appendFailure(beginH3Fields(s.out[:0]), status, len(text), &qpackCodes)
	if head {
		text = ""
	}
	s.finish([]byte(text))
}

// finish puts the body behind the fields.
func (s *h3Stream) finish(body []byte) {
	endH3Fields(s.out)
	if len(body) > 0 {
		s.out = quicvarint.Append(append(s.out, h3Data), uint64(len(body)))
		s.out = append(s.out, body...)
	}
}
