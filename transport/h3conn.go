package transport

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/quic-go/quicvarint"
)

// Unidirectional streams of HTTP/3, by their type (RFC 9114 §6.2, RFC 9204 §4.2).
const (
	h3ControlStream = 0x0
	h3PushStream    = 0x1
	h3Encoder       = 0x2
	h3Decoder       = 0x3
	h3StreamTypes   = 4 // of them, that mean something
)

// h3NoStreamYet is the stream that a GOAWAY has before it is known which ones have
// come (RFC 9114 §5.2).
const h3NoStreamYet = 1<<62 - 4

// h3Conn is a connection of HTTP/3 (RFC 9114).
type h3Conn struct {
	webConn

	control  *quic.SendStream
	there    [h3StreamTypes]atomic.Bool // the client's unidirectional streams
	requests atomic.Int64
}

// openHTTP makes a connection one of HTTP/3.
func (d *DoH3) openHTTP(c *quicConn) error {
	control, err := c.OpenUniStream()
	if err != nil { // RFC 9114 §6.2 has clients allow three
		return err
	}
	c.http = &h3Conn{control: control, webConn: webConn{
		ends: func() webEnds { return webEnds{client: addrPort(c.RemoteAddr()), local: addrPort(c.LocalAddr())} },
		cut:  func() { _ = c.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeExcessiveLoad), "") },
	}}
	if err := d.tell(c, appendH3Settings(nil)); err != nil {
		return err
	}
	// Owner: c. End: the connection's. Bound: one, and quicControlStreams.
	c.socket.serving.Go(func() {
		for {
			str, err := c.AcceptUniStream(context.Background())
			if err != nil {
				return
			}
			c.socket.serving.Go(func() { d.hear(c, str) })
		}
	})
	return nil
}

// tell writes to the control stream. One goroutine does: that of c.
func (d *DoH3) tell(c *quicConn, b []byte) error {
	_ = c.http.control.SetWriteDeadline(time.Now().Add(d.limits.Load().message))
	_, err := c.http.control.Write(b)
	return err
}

// hear reads a unidirectional stream, for as long as there is something to be known
// from it.
func (d *DoH3) hear(c *quicConn, str *quic.ReceiveStream) {
	typ, err := quicvarint.Read(quicvarint.NewReader(str))
	switch {
	case err != nil: // RFC 9114 §6.2: it may end before it has a type
		return
	case typ >= h3StreamTypes: // RFC 9114 §6.2
		str.CancelRead(quic.StreamErrorCode(http3.ErrCodeStreamCreationError))
		return
	case typ == h3PushStream || !c.http.there[typ].CompareAndSwap(false, true): // RFC 9114 §6.2.1, §6.2.2; RFC 9204 §4.2
		_ = c.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeStreamCreationError), "")
		return
	case typ != h3ControlStream: // of a table with no octets nothing can be said (RFC 9204 §3.2.3)
		return
	}
	r := newH3Reader(h3ControlRead)
	r.begin(str, math.MaxInt64)
	var why h3Error
	if err := r.control(c.http); errors.As(err, &why) {
		_ = c.CloseWithError(quic.ApplicationErrorCode(why.code), "")
		return
	}
	// RFC 9114 §6.2.1: it must not end. If the connection has, this does nothing.
	_ = c.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeClosedCriticalStream), "")
}

// control reads the client's control stream up to its end.
func (r *h3Reader) control(c *h3Conn) error {
	for frames := int64(0); ; frames++ {
		typ, n, err := r.next()
		switch {
		case err != nil:
			return err
		case n > maxH3Control || frames > maxIdleFrames+idleFramesByRequest*c.requests.Load():
			return errH3Flood
		case frames == 0 && typ != h3Settings:
			return h3Error{http3.ErrCodeMissingSettings, true} // RFC 9114 §6.2.1
		case frames == 0:
			err = r.settings(n)
		case typ == h3CancelPush, typ == h3PriorityOfPush: // RFC 9114 §7.2.3, RFC 9218 §7.2: nothing is pushed
			return h3Error{http3.ErrCodeIDError, true}
		case typ <= h3LastOfHTTP2 && typ != h3GoAway:
			return errH3Unexpected
		default: // GOAWAY and MAX_PUSH_ID are about what is pushed, and priorities are for a client's own answers
			err = r.skip(n)
		}
		if err != nil {
			return err
		}
	}
}

// parting has the client go (RFC 9114 §5.2): it may be asking at this moment, so
// that what comes until it can have heard is answered.
func (d *DoH3) parting(c *quicConn) {
	if d.tell(c, appendH3GoAway(nil, h3NoStreamYet)) != nil {
		return // it has gone
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.lingerTime())
	defer cancel()
	for c.next(ctx) {
	}
	_ = d.tell(c, appendH3GoAway(nil, uint64(c.after)))
	// Owner: the socket. End: the connection's, which waits for what is in flight.
	// Bound: one.
	c.socket.serving.Go(c.reject)
}

// reject tells a client that asks all the same that its requests were not looked at
// (RFC 9114 §4.1.1).
func (c *quicConn) reject() {
	for {
		str, err := c.AcceptStream(context.Background())
		if err != nil {
			return
		}
		abort(str, http3.ErrCodeRequestRejected)
	}
}

// abort ends a stream without a response.
func abort(str *quic.Stream, code http3.ErrCode) {
	str.CancelRead(quic.StreamErrorCode(code))
	str.CancelWrite(quic.StreamErrorCode(code))
}
