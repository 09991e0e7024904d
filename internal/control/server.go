package control

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"shirube/internal/localsock"
)

// The limits of the socket. It is for people and monitoring on this machine:
// what goes beyond them is a mistake or an attack.
const (
	maxConnections = 64      // at once, of those who may use it; one more is closed on arrival
	maxStrangers   = 8       // of those who may not, and are told so
	maxHeader      = 8 << 10 // octets of a request without its body
	maxBody        = 8 << 10 // octets of its body
	maxTraces      = 8       // at once; one more is turned away

	requestTime = 5 * time.Second  // for a request to come
	writeTime   = 5 * time.Second  // for the client to take what it is given; each line of a trace has as much
	idleTime    = 30 * time.Second // between two requests
	reloadTime  = time.Minute      // for a reload, with the answer to it
)

// Options configures a [Server].
type Options struct {
	Path    string // of the socket
	Group   int    // ID of a group that may use it, besides root and the server's own user; negative: none
	UID     int    // the server's own user
	Backend Backend
	Log     *slog.Logger // told who changes what; nil: nobody is
}

// Server serves the socket.
type Server struct {
	opt      Options
	http     http.Server
	cancel   context.CancelFunc
	traces   chan struct{} // a place for each
	patience time.Duration // writeTime, but in tests

	serving  sync.WaitGroup
	listener *localsock.Listener
}

// New returns a Server. It opens nothing and starts nothing.
func New(opt Options) (*Server, error) {
	if opt.Path == "" {
		return nil, errors.New("control: no path for the socket")
	}
	if err := opt.Backend.check(); err != nil {
		return nil, err
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{opt: opt, traces: make(chan struct{}, maxTraces), patience: writeTime}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.http = http.Server{
		Handler:        s.handler(),
		ReadTimeout:    requestTime,
		WriteTimeout:   requestTime + writeTime, // from the end of the header on
		IdleTimeout:    idleTime,
		MaxHeaderBytes: maxHeader - 4096, // net/http allows that much more
		ErrorLog:       slog.NewLogLogger(opt.Log.Handler(), slog.LevelDebug),
		BaseContext:    func(net.Listener) context.Context { return ctx },
		ConnContext:    localsock.WithPeer,
	}
	return s, nil
}

// Path returns where the socket is.
func (s *Server) Path() string { return s.opt.Path }

// Listen opens the socket. Its errors name the path, and what to do about it.
func (s *Server) Listen(ctx context.Context) (err error) {
	s.listener, err = localsock.Listen(ctx, localsock.Options{
		Path: s.opt.Path, UID: s.opt.UID, Group: s.opt.Group, Section: "control",
		Friends: maxConnections, Strangers: maxStrangers, Log: s.opt.Log,
	})
	return err
}

// Start begins to serve the socket that Listen has opened.
func (s *Server) Start() {
	// Owner: s. End: Close. Bound: one; and one for each connection, of which the
	// listener lets in maxConnections and maxStrangers.
	s.serving.Go(func() {
		if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			s.opt.Log.Error("the control socket is gone", "path", s.opt.Path, "error", err)
		}
	})
}

// Close ends all requests and removes the socket. It is called once,
// whatever came of Listen, and whether Start was called or not.
func (s *Server) Close() error {
	s.cancel() // traces
	err := s.http.Close()
	if s.listener != nil {
		if cerr := s.listener.Close(); !errors.Is(cerr, net.ErrClosed) {
			err = errors.Join(err, cerr)
		}
	}
	s.serving.Wait()
	for range maxTraces { // those under way end, and no other begins
		s.traces <- struct{}{}
	}
	return err
}
