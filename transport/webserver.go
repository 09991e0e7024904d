package transport

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
)

// webServer has the connections of a [DoH] that came while the same limits were in
// force: of HTTP/1.1, and of those of HTTP/2 their beginning. Those limits cannot be
// changed in an [http.Server] that has begun to serve. It is its own listener.
type webServer struct {
	http.Server

	arrived chan net.Conn
	retired chan struct{} // closed when no more are to come
	once    sync.Once     // of closing it
	open    atomic.Int64  // connections, with those that are being handed over
}

// retire has no more connections come. To call it again does nothing.
func (s *webServer) retire() { s.once.Do(func() { close(s.retired) }) }

// count notes a connection that has ended.
func (s *webServer) count(_ net.Conn, state http.ConnState) {
	if state == http.StateClosed || state == http.StateHijacked {
		s.open.Add(-1)
	}
}

// webListener is what a webServer accepts connections from.
type webListener struct{ *webServer }

// Accept implements [net.Listener].
func (l webListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.arrived:
		return c, nil
	case <-l.retired:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (l webListener) Close() error {
	l.retire()
	return nil
}

// Addr implements [net.Listener]. There is none: the doors have addresses.
func (l webListener) Addr() net.Addr { return new(net.UnixAddr) }

// succeed has connections that come from now on served by the limits that are in
// force now. The caller holds mu, and has seen that d has been started.
func (d *DoH) succeed() {
	limits := d.limits.Load()
	s := &webServer{arrived: make(chan net.Conn), retired: make(chan struct{})}
	ctx := d.ctx
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true) // only the listeners without TLS have it
	s.Server = http.Server{
		Handler:           &d.web,
		Protocols:         protocols,
		TLSNextProto:      d.serveHTTP2(),
		ReadHeaderTimeout: limits.message, // also of a handshake
		ReadTimeout:       limits.message,
		WriteTimeout:      d.timeout() + limits.message, // from when the request was read
		IdleTimeout:       limits.idle,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       d.connContext,
		ConnState:         s.count,
		// What clients get wrong in a handshake is theirs to see.
		ErrorLog: slog.NewLogLogger(d.log.log.Handler(), slog.LevelDebug),
	}
	d.servers = slices.DeleteFunc(d.servers, func(old *webServer) bool {
		old.retire()
		return old.open.Load() == 0
	})
	d.servers = append(d.servers, s)
	// Owner: d. End: when the limits change, or Shutdown. Bound: one. The server has
	// one for each connection, of which there are as many as Conns allows, and for each
	// request that is being answered.
	d.serving.Go(func() { _ = s.Serve(webListener{s}) }) // no error but that it was closed
}
