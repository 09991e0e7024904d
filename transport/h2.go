package transport

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2"
)

// HTTP2End is why a connection of HTTP/2 ended.
type HTTP2End uint8

// The ends.
const (
	HTTP2ByClient    HTTP2End       = iota // who closed it, or was lost
	HTTP2Idle                              // no request for IdleTimeout
	HTTP2SlowWriter                        // a frame or the settings took longer than MessageTimeout
	HTTP2SlowReader                        // the client did not take what it was sent for so long
	HTTP2Resets                            // too many requests that the client did not wait for, or that had to be reset
	HTTP2Flood                             // too many frames that ask for nothing
	HTTP2Header                            // a header that is too long, or comes in too many pieces
	HTTP2Protocol                          // what RFC 9113 does not allow
	HTTP2FrameSize                         // a frame of another length than it may have
	HTTP2FlowControl                       // more than was allowed, or an allowance beyond all bounds
	HTTP2Compression                       // fields that cannot be read
	HTTP2Shutdown                          // by Drain or Shutdown
	NumHTTP2Ends                           // how many there are, for arrays of counters
	h2GoesOn         = NumHTTP2Ends        // it does not end
)

var http2Ends = [NumHTTP2Ends]struct {
	name string
	code http2.ErrCode
}{
	{"client", http2.ErrCodeNo},
	{"idle", http2.ErrCodeNo},
	{"slow_writer", http2.ErrCodeEnhanceYourCalm},
	{"slow_reader", http2.ErrCodeEnhanceYourCalm},
	{"resets", http2.ErrCodeEnhanceYourCalm},
	{"flood", http2.ErrCodeEnhanceYourCalm},
	{"header", http2.ErrCodeEnhanceYourCalm},
	{"protocol", http2.ErrCodeProtocol},
	{"frame_size", http2.ErrCodeFrameSize},
	{"flow_control", http2.ErrCodeFlowControl},
	{"compression", http2.ErrCodeCompression},
	{"shutdown", http2.ErrCodeNo},
}

// String returns a word for e that can be a label of a metric.
func (e HTTP2End) String() string { return http2Ends[e].name }

// HTTP2Stats is what became of the connections of HTTP/2, and their streams.
type HTTP2Stats struct {
	Open     int                  // connections now
	Accepted uint64               // connections served
	Refused  uint64               // streams beyond MaxStreams, or beyond what is kept for one connection
	TooSlow  uint64               // streams whose request did not come, or whose response was not taken, in MessageTimeout
	Ends     [NumHTTP2Ends]uint64 // connections served, by what ended them
}

// h2Server has the connections of HTTP/2.
type h2Server struct {
	accepted, refused, tooSlow atomic.Uint64
	ends                       [NumHTTP2Ends]atomic.Uint64
	inboxes                    sync.Pool     // of *h2Inbox
	streams                    sync.Pool     // of *h2Stream
	outboxes                   sync.Pool     // of *h2Outbox
	stop                       chan struct{} // closed when clients are to go

	mu    sync.Mutex
	conns map[*h2Conn]struct{}
}

func (s *h2Server) init() {
	s.inboxes.New = func() any { return new(h2Inbox) }
	s.streams.New = func() any { return new(h2Stream) }
	s.outboxes.New = func() any { return &h2Outbox{frames: make([]byte, 0, bufferSize)} }
	s.stop = make(chan struct{})
	s.conns = make(map[*h2Conn]struct{})
}

func (s *h2Server) add(c *h2Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepted.Add(1)
	s.conns[c] = struct{}{}
}

func (s *h2Server) remove(c *h2Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// leave has all clients told to go. To call it twice does nothing.
func (s *h2Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if isClosed(s.stop) {
		return
	}
	close(s.stop)
	for c := range s.conns {
		c.wake()
	}
}

// hurry has the idle connections look how long they may still be so.
func (s *h2Server) hurry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.wake()
	}
}

func (s *h2Server) stats() HTTP2Stats {
	n := HTTP2Stats{Accepted: s.accepted.Load(), Refused: s.refused.Load(), TooSlow: s.tooSlow.Load()}
	for i := range s.ends {
		n.Ends[i] = s.ends[i].Load()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n.Open = len(s.conns)
	return n
}

// The names that package http calls its ways to serve HTTP/2 by: with TLS, that of
// the protocol; and without.
const (
	h2OverTLS   = http2.NextProtoTLS
	h2Cleartext = "unencrypted_http2"
)

// serveHTTP2 returns how connections are served that speak HTTP/2. Package http
// accepts them, shakes hands and finds out; its own HTTP/2, which has a goroutine
// and a few kilobytes for each request, costs three times what the C servers do.
func (d *DoH) serveHTTP2() map[string]func(*http.Server, *tls.Conn, http.Handler) {
	serve := func(conn net.Conn, h http.Handler, prefaced bool) {
		ctx := h.(interface{ BaseContext() context.Context }).BaseContext() // as it gives it to its own
		newH2Conn(d, conn, ctx.Value(webConnKey{}).(*webConn), prefaced).run(ctx)
	}
	return map[string]func(*http.Server, *tls.Conn, http.Handler){
		h2OverTLS: func(_ *http.Server, c *tls.Conn, h http.Handler) { serve(c, h, false) },
		h2Cleartext: func(_ *http.Server, c *tls.Conn, h http.Handler) {
			inner := c.NetConn().(interface{ UnencryptedNetConn() net.Conn }).UnencryptedNetConn()
			serve(inner, h, true)
		},
	}
}
