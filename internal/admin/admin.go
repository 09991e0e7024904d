// Package admin serves what monitoring and people look at over HTTP: metrics,
// whether the server is alive and ready, a page with its state, and profiles.
// Nothing can be changed here; that is what the control socket is for.
//
// It listens on a unix socket for users of this machine, and where it is told to
// over TCP, where clients have to show a certificate or a token. On loopback too:
// there is every user of the machine, every container with its network, and every
// page in a browser on it, and none of them can be told from another.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"shirube/internal/health"
	"shirube/internal/localsock"
	"shirube/internal/netx"
)

// The limits of each listener. It is for a few programs and people: what goes
// beyond them is a mistake or an attack.
const (
	maxConnections = 64      // at once; one more is closed on arrival
	maxStrangers   = 8       // of those on the unix socket that may not use it, and are told so
	maxHeader      = 8 << 10 // octets of a request
	maxProfiles    = 1       // profiles being taken at once; one more is turned away

	requestTime = 5 * time.Second  // for a request to come
	writeTime   = 15 * time.Second // for the answer to be made, and taken by the client
	profileTime = 60 * time.Second // the longest that a profile may be taken for
	idleTime    = 90 * time.Second // between two requests: Prometheus asks every 15 to 60 seconds
)

// Backend is what there is to be seen. All functions are needed.
type Backend struct {
	Metrics http.Handler  // the answer to a scrape
	Health  *health.State // whether the server is ready
	Status  func() any    // the document of the status page
}

// Options configures a [Server].
type Options struct {
	Socket    string // the path of the unix socket; "": none
	Group     int    // ID of a group that may use it, besides root and UID; negative: none
	UID       int    // the server's own user
	Addresses []Address
	Profiles  bool // serve what net/http/pprof has
	NoPage    bool // the status is that of something else than a server: there is no page of it
	Backend   Backend
	Log       *slog.Logger // nil: nowhere
}

// Address is a place over TCP. It needs ClientCA or Token, or both.
type Address struct {
	At       netip.AddrPort
	Cert     string // a file with the certificates of the server, PEM; "": no TLS
	Key      string // a file with the key
	ClientCA string // a file with certificates that those of clients are signed by, PEM; "": clients need none
	Token    string // a file with what clients have to show; "": nothing
}

// check returns what is wrong with a.
func (a *Address) check() error {
	switch {
	case !a.At.IsValid():
		return errors.New("no address")
	case (a.Cert == "") != (a.Key == ""):
		return errors.New("a certificate and a key belong together")
	case a.ClientCA != "" && a.Cert == "":
		return errors.New("certificates of clients need one of the server")
	case a.ClientCA == "" && a.Token == "":
		return errors.New("everybody who reaches it could read it: over TCP it needs certificates of clients, or a token")
	}
	return nil
}

// Server serves all listeners.
type Server struct {
	opt      Options
	profiles chan struct{} // a place for each
	cancel   context.CancelFunc
	ctx      context.Context

	serving     sync.WaitGroup
	connections atomic.Int32
	doors       []*door
}

// door is one listener, and what is asked of who comes by it.
type door struct {
	name     string
	listener net.Listener
	http     http.Server
	admit    func(r *http.Request) access
	tls      *tlsFiles // nil: without

	certified bool // clients are to have certificates
}

// New returns a Server. It reads the files that opt names, opens nothing and
// starts nothing.
func New(opt Options) (*Server, error) {
	b := &opt.Backend
	if b.Metrics == nil || b.Health == nil || b.Status == nil {
		return nil, errors.New("admin: the Backend lacks functions")
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	for i := range opt.Addresses {
		a := &opt.Addresses[i]
		if err := a.check(); err != nil {
			return nil, fmt.Errorf("admin: %s: %w", a.At, err)
		}
		if err := a.readable(); err != nil {
			return nil, fmt.Errorf("admin: %s: %w", a.At, err)
		}
	}
	s := &Server{opt: opt, profiles: make(chan struct{}, maxProfiles)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// readable reports whether the files of a can be used.
func (a *Address) readable() error {
	if a.Token != "" {
		if _, err := readToken(a.Token); err != nil {
			return err
		}
	}
	if a.Cert != "" {
		_, err := (&tlsFiles{a.Cert, a.Key, a.ClientCA}).load()
		return err
	}
	return nil
}

// Listen opens all listeners. Where before, if it is not nil, listens too, both do
// until one is closed. After an error none is open.
func (s *Server) Listen(ctx context.Context, before *Server) error {
	if s.opt.Socket != "" {
		l, err := s.listenLocally(ctx, before)
		if err != nil {
			return err
		}
		s.add(&door{name: s.opt.Socket, listener: l, admit: admitLocal})
	}
	for i := range s.opt.Addresses {
		a := &s.opt.Addresses[i]
		l, err := before.listenAgain(a.At)
		if l == nil && err == nil {
			l, err = netx.ListenTCP(ctx, a.At)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("admin: %w", err), s.closeDoors())
		}
		d := &door{name: l.Addr().String(), listener: &bounded{TCPListener: l}, admit: a.admit, certified: a.ClientCA != ""}
		if a.Cert != "" {
			d.tls = &tlsFiles{a.Cert, a.Key, a.ClientCA}
		}
		s.add(d)
	}
	return nil
}

// listenLocally opens the unix socket.
func (s *Server) listenLocally(ctx context.Context, before *Server) (*localsock.Listener, error) {
	opt := localsock.Options{
		Path: s.opt.Socket, UID: s.opt.UID, Group: s.opt.Group, Section: "admin",
		Friends: maxConnections, Strangers: maxStrangers, Log: s.opt.Log,
	}
	if before != nil && before.opt.Socket == opt.Path {
		return before.doors[0].listener.(*localsock.Listener).Again(opt) // it is the first, if there is one
	}
	return localsock.Listen(ctx, opt)
}

// listenAgain returns another listener on an address of s; nil if it has not got
// that.
func (s *Server) listenAgain(at netip.AddrPort) (*net.TCPListener, error) {
	if s == nil {
		return nil, nil
	}
	for _, d := range s.doors {
		b, ok := d.listener.(*bounded)
		if !ok || d.name != netip.AddrPortFrom(at.Addr().Unmap(), at.Port()).String() {
			continue
		}
		f, err := b.File()
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // it is a copy
		l, err := net.FileListener(f)
		if err != nil {
			return nil, err
		}
		return l.(*net.TCPListener), nil // what b is
	}
	return nil, nil
}

// add prepares d to be served.
func (s *Server) add(d *door) {
	d.http = http.Server{
		Handler:        s.handler(d),
		ReadTimeout:    requestTime,
		WriteTimeout:   requestTime + writeTime, // from the end of the header on
		IdleTimeout:    idleTime,
		MaxHeaderBytes: maxHeader - 4096, // net/http allows that much more
		ErrorLog:       slog.NewLogLogger(s.opt.Log.Handler(), slog.LevelDebug),
		BaseContext:    func(net.Listener) context.Context { return s.ctx },
		ConnContext:    localsock.WithPeer,
		ConnState:      s.count,
	}
	if d.tls != nil {
		d.http.TLSConfig = d.tls.config()
	}
	s.doors = append(s.doors, d)
}

// Where says where the server listens.
func (s *Server) Where() []string {
	var list []string
	for _, d := range s.doors {
		list = append(list, d.name)
	}
	return list
}

// Start begins to serve what Listen has opened.
func (s *Server) Start() {
	for _, d := range s.doors {
		if l, ok := d.listener.(*localsock.Listener); ok {
			if err := l.Restrict(); err != nil { // it may have been made for another group
				s.opt.Log.Error("the admin socket keeps the group that it had", "error", err)
			}
		}
		// Owner: s. End: Close. Bound: one for each listener; and one for each
		// connection, of which maxConnections are let in.
		s.serving.Go(func() {
			serve := d.http.Serve
			if d.tls != nil {
				serve = func(l net.Listener) error { return d.http.ServeTLS(l, "", "") }
			}
			if err := serve(d.listener); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				s.opt.Log.Error("an admin listener is gone", "listen", d.name, "error", err)
			}
		})
	}
}

// Close ends all requests and closes the listeners. It is called once, whatever
// came of Listen, and whether Start was called or not.
func (s *Server) Close() error {
	s.cancel()
	err := s.closeDoors()
	s.serving.Wait()
	return err
}

// Shutdown is Close for who is followed by another Server: who has connected is
// answered, until ctx ends. That of package net/http would hang up on those whose
// request it has not read yet.
func (s *Server) Shutdown(ctx context.Context) error {
	for _, d := range s.doors {
		_ = d.listener.Close() // Close says so again
	}
	s.serving.Wait()
	for _, d := range s.doors {
		d.http.SetKeepAlivesEnabled(false)
	}
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for s.connections.Load() > 0 && ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return s.Close()
}

// lookAgain is how often it is looked whether the last connection has ended.
const lookAgain = 5 * time.Millisecond

// count counts connections.
func (s *Server) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.connections.Add(1)
	case http.StateClosed:
		s.connections.Add(-1)
	}
}

func (s *Server) closeDoors() (err error) {
	for _, d := range s.doors {
		err = errors.Join(err, d.http.Close())
		if cerr := d.listener.Close(); !errors.Is(cerr, net.ErrClosed) {
			err = errors.Join(err, cerr)
		}
	}
	return err
}

// bounded closes connections beyond maxConnections on arrival.
type bounded struct {
	*net.TCPListener
	open atomic.Int32
}

// Accept implements [net.Listener].
func (b *bounded) Accept() (net.Conn, error) {
	for {
		c, err := b.TCPListener.Accept()
		if err != nil {
			return nil, err
		}
		if b.open.Add(1) <= maxConnections {
			return &counted{Conn: c, open: &b.open}, nil
		}
		b.open.Add(-1)
		_ = c.Close() // nothing was said on it
	}
}

// counted is a connection that has a place.
type counted struct {
	net.Conn
	open    *atomic.Int32
	closing sync.Once
}

// Close implements [net.Conn].
func (c *counted) Close() error {
	c.closing.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}
