package transport

import (
	"context"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"shirube/internal/wire"
)

// DoH3Stats is what a [DoH3] has seen since it was made.
type DoH3Stats struct {
	WebCounts
	QUICStats
}

// DoH3 serves DNS over HTTP/3 (RFC 8484, RFC 9114), as [DoH] does over the other
// versions.
type DoH3 struct {
	web
	*quicServer

	http http3.Server
}

// NewDoH3 returns a server without sockets.
func NewDoH3(opt QUICOptions) *DoH3 {
	opt = opt.withDefaults(DefaultStreams)
	d := new(DoH3)
	d.init(newService(opt.Handler, opt.Slots, opt.Timeout, opt.UDPSize, opt.Log), wire.DoH3, webRules{path: opt.Path})
	d.tap = opt.Tap
	d.quicServer = newQUICServer(opt, wire.DoH3, quicControlStreams, d.web.log)
	d.bye = quic.ApplicationErrorCode(http3.ErrCodeNoError)
	d.open = d.openHTTP
	d.serve = d.request
	d.http = http3.Server{Handler: &d.web, MaxHeaderBytes: maxHeader, ConnContext: d.connContext}
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

// connContext puts into the context of a connection's requests what is known of
// it.
func (d *DoH3) connContext(ctx context.Context, c *quic.Conn) context.Context {
	return context.WithValue(ctx, webConnKey{}, &webConn{
		ends:  func() webEnds { return webEnds{client: addrPort(c.RemoteAddr()), local: addrPort(c.LocalAddr())} },
		shook: func(bool) {}, // QUIC says so itself
		cut:   func() { _ = c.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeExcessiveLoad), "") },
	})
}

// openHTTP makes a connection one of HTTP/3.
func (d *DoH3) openHTTP(c *quicConn) error {
	raw, err := d.http.NewRawServerConn(c.Conn)
	if err != nil {
		return err
	}
	c.http = raw
	// Owner: c. End: the connection's. Bound: one, and quicControlStreams.
	c.socket.serving.Go(func() {
		for {
			str, err := c.AcceptUniStream(context.Background())
			if err != nil {
				return
			}
			c.socket.serving.Go(func() { raw.HandleUnidirectionalStream(str) })
		}
	})
	return nil
}

// request answers the request on one stream.
func (d *DoH3) request(c *quicConn, str *quic.Stream) {
	_ = str.SetWriteDeadline(time.Now().Add(d.timeout() + d.limits.Load().message))
	c.http.(*http3.RawServerConn).HandleRequestStream(str)
}
