package transport

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"shirube/internal/stack"
	"shirube/internal/wire"
)

// The codes of RFC 9250 §4.3 that are used.
const (
	doqNoError          = 0x0
	doqProtocolError    = 0x2
	doqRequestCancelled = 0x3
	doqExcessiveLoad    = 0x4
	doqUnspecifiedError = 0x5
)

// DoQStats is what a [DoQ] has seen since it was made.
type DoQStats struct {
	Counts
	QUICStats
	ProtocolErrors uint64 // connections ended because the client does not speak DoQ
	Cancelled      uint64 // streams that the client reset before its query was complete
	TooSlow        uint64 // streams whose query took longer than StreamTime
	Untaken        uint64 // streams that were ended because the client takes no responses
}

// DoQ serves DNS over QUIC (RFC 9250): each query has a stream, and each stream
// that is served a goroutine.
type DoQ struct {
	service
	*quicServer

	n                                           counters
	protocolErrors, cancelled, tooSlow, untaken atomic.Uint64

	exchanges sync.Pool // of *doqExchange
}

// doqExchange is the memory that one query and its response need, lengths
// included.
type doqExchange struct {
	q       wire.Query
	in, out []byte
}

// NewDoQ returns a server without sockets.
func NewDoQ(opt QUICOptions) *DoQ {
	opt = opt.withDefaults(DefaultDoQStreams)
	d := &DoQ{service: newService(opt.Handler, opt.Slots, opt.Timeout, opt.UDPSize, opt.Log)}
	d.tap = opt.Tap
	d.exchanges.New = func() any {
		return &doqExchange{in: make([]byte, 0, wire.MinUDPSize), out: make([]byte, 0, 2*wire.MinUDPSize)}
	}
	d.quicServer = newQUICServer(opt, wire.DoQ, -1, d.service.log) // RFC 9250 §4.2: queries are bidirectional
	d.open = func(*quicConn) error { return nil }
	d.part = func(*quicConn) {} // RFC 9250 has no way to say it
	d.tire = (*quicConn).drop
	d.quicServer.serve = d.stream
	d.bye = doqNoError
	return d
}

// Configure changes UDPSize, the time-outs and MaxStreams to those of opt: MaxStreams,
// and a longer IdleTimeout, for connections that come from now on. The rest of opt
// does not count.
func (d *DoQ) Configure(opt QUICOptions) {
	d.set.change(opt.Timeout, opt.UDPSize)
	d.limit(opt.withDefaults(DefaultDoQStreams))
}

// Stats returns the current numbers. Each is exact; together they are not of one
// moment.
func (d *DoQ) Stats() DoQStats {
	s := DoQStats{
		QUICStats: d.stats(), ProtocolErrors: d.protocolErrors.Load(), Cancelled: d.cancelled.Load(), TooSlow: d.tooSlow.Load(), Untaken: d.untaken.Load(),
	}
	d.n.addTo(&s.Counts)
	return s
}

// stream answers the query on one stream.
func (d *DoQ) stream(c *quicConn, str *quic.Stream) {
	x := d.exchanges.Get().(*doqExchange)
	defer func() {
		if cap(x.in)+cap(x.out) <= bufferSize {
			d.exchanges.Put(x)
		}
	}()
	cut, err := x.receive(str)
	if err != nil {
		d.misread(c, str, err)
		return
	}
	q, msg := &x.q, x.in[prefixLen:]
	status := parse(q, msg, cut)
	if why := doqBreach(q, msg, status); why != "" {
		d.breach(c, why)
		return
	}
	if status == wire.UnsupportedOpcode && !d.replaySafe(c) {
		return
	}
	q.Client, q.Local, q.Proto, q.Received, q.Limit = addrPort(c.RemoteAddr()), addrPort(c.LocalAddr()), wire.DoQ, time.Now(), wire.MaxMsgSize
	x.out = append(x.out[:0], 0, 0)
	rsp, outcome := d.answer(&d.n, x.out, msg, q, status)
	if outcome == Deferred {
		rsp, outcome = d.deferred(str, x)
	}
	if outcome != Answered {
		str.CancelWrite(doqUnspecifiedError) // there is no other way to say nothing
		return
	}
	x.out = rsp
	if !c.held.take(len(rsp)) {
		d.untaken.Add(1)
		str.CancelWrite(doqExcessiveLoad)
		return
	}
	defer c.held.give(len(rsp))
	binary.BigEndian.PutUint16(rsp, uint16(len(rsp)-prefixLen))
	_ = str.SetWriteDeadline(time.Now().Add(d.limits.Load().message))
	if _, err := str.Write(rsp); err != nil {
		str.CancelWrite(doqUnspecifiedError) // or the client has gone
		return
	}
	_ = str.Close()
}

// deferred answers the query in x, which memory did not. It may block.
func (d *DoQ) deferred(str *quic.Stream, x *doqExchange) ([]byte, Outcome) {
	rsp, ok := d.take(&d.n, x.out, &x.q)
	if !ok {
		return rsp, Answered
	}
	stack.Reserve()
	if rsp = d.service.serve(str.Context(), &d.n, x.out, &x.q); rsp == nil {
		return nil, Dropped
	}
	d.answered(&d.n, &x.q, rsp[prefixLen:])
	return rsp, Answered
}

// errNoQuery is that a stream does not have one message on it.
var errNoQuery = errors.New("not one message on a stream")

// receive reads the message on str, with its length, up to the end of the stream
// (RFC 9250 §4.2). It may be cut, if it is longer than any query. Memory is taken
// for what has come, not for what was announced.
func (x *doqExchange) receive(str io.Reader) (cut bool, err error) {
	x.in = x.in[:0]
	for {
		if len(x.in) == cap(x.in) {
			x.in = slices.Grow(x.in, len(x.in))
		}
		n, err := str.Read(x.in[len(x.in):cap(x.in)])
		x.in = x.in[:len(x.in)+n]
		announced := -1
		if len(x.in) >= prefixLen {
			announced = int(binary.BigEndian.Uint16(x.in))
		}
		switch have := len(x.in) - prefixLen; {
		case announced >= 0 && have > announced: // RFC 9250 §4.3.3: more than one message
			return false, errNoQuery
		case have > maxQuery:
			x.in = x.in[:prefixLen+maxQuery]
			return true, nil
		case errors.Is(err, io.EOF) && (announced < 0 || have != announced):
			return false, errNoQuery // RFC 9250 §4.3.3: FIN within a message
		case errors.Is(err, io.EOF):
			return false, nil
		case err != nil:
			return false, err
		}
	}
}

// misread ends a stream, or all, whose query could not be read.
func (d *DoQ) misread(c *quicConn, str *quic.Stream, err error) {
	var timeout net.Error
	switch {
	case errors.Is(err, errNoQuery):
		d.breach(c, errNoQuery.Error())
		return
	case errors.As(err, &timeout) && timeout.Timeout():
		d.tooSlow.Add(1)
		str.CancelRead(doqExcessiveLoad)
	default:
		d.cancelled.Add(1)
	}
	str.CancelWrite(doqRequestCancelled) // RFC 9250 §4.3.1
}

// doqBreach returns what of msg, parsed into q with status, a client of DoQ must
// not send; "" for nothing.
func doqBreach(q *wire.Query, msg []byte, status wire.Status) string {
	switch {
	case status == wire.Ignored:
		return "not a query"
	case msg[0]|msg[1] != 0: // RFC 9250 §4.2.1
		return "a message ID that is not 0"
	case status == wire.OK && q.Keepalive: // RFC 9250 §5.5.2
		return "edns-tcp-keepalive"
	}
	return ""
}

// breach ends a connection whose client does not speak DoQ (RFC 9250 §4.3.3).
func (d *DoQ) breach(c *quicConn, why string) {
	d.protocolErrors.Add(1)
	_ = c.CloseWithError(doqProtocolError, why)
}

// replaySafe waits for the end of the handshake, before which nothing but queries
// may be answered (RFC 9250 §4.5). It reports false when the connection ends.
func (d *DoQ) replaySafe(c *quicConn) bool {
	select {
	case <-c.HandshakeComplete():
		return true
	case <-c.Context().Done():
		return false
	}
}
