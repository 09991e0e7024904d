package dnstap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// Bounds on a collector's time.
const (
	connectTimeout = 5 * time.Second // to take a connection, and to say that it is ready
	writeTimeout   = 5 * time.Second // to take a chunk
	finishTimeout  = 5 * time.Second // to confirm the end
)

// Stream says where a collector listens.
type Stream struct {
	Network string      // "unix" or "tcp"
	Address string      // a path, or host and port
	TLS     *tls.Config // over TCP; nil: in the clear
}

// opener returns a function that connects.
func (s *Stream) opener() (func(context.Context) (sink, error), error) {
	switch {
	case s.Network != "unix" && s.Network != "tcp":
		return nil, fmt.Errorf("found the network %q; expected unix or tcp", s.Network)
	case s.Network == "unix" && s.TLS != nil:
		return nil, errors.New("TLS is for TCP")
	}
	conf := *s
	return func(ctx context.Context) (sink, error) { return conf.connect(ctx) }, nil
}

// connect connects, and waits for the collector to be ready.
func (s *Stream) connect(end context.Context) (sink, error) {
	ctx, cancel := context.WithTimeout(end, connectTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, s.Network, s.Address)
	if err != nil {
		return nil, err
	}
	if s.TLS != nil {
		secure := tls.Client(conn, s.TLS)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("TLS with %s: %w", s.Address, err)
		}
		conn = secure
	}
	// What the end of the tap, or the time-out, interrupts.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	err = handshake(conn)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("frame streams handshake with %s: %w", s.Address, err)
	}
	out := &stream{conn: conn, ended: make(chan struct{})}
	out.stop = context.AfterFunc(end, func() { _ = conn.Close() })
	// Owner: the output's writer. End: the connection's. Bound: one.
	go out.watch()
	return out, nil
}

// handshake is READY, ACCEPT, START.
func handshake(conn net.Conn) error {
	if _, err := conn.Write(AppendControl(nil, ControlReady)); err != nil {
		return err
	}
	switch typ, err := ReadControl(conn); {
	case err != nil:
		return err
	case typ != ControlAccept:
		return fmt.Errorf("found a control frame of type %d; expected ACCEPT", typ)
	}
	_, err := conn.Write(AppendControl(nil, ControlStart))
	return err
}

// stream is a connection to a collector.
type stream struct {
	conn  net.Conn
	stop  func() bool
	ended chan struct{} // closed when the collector has said FINISH, or nothing more will come
	why   error         // that it ended; nil: FINISH
}

// watch reads what the collector says. That it hung up is known at once so, and
// not by what is lost.
func (s *stream) watch() {
	defer close(s.ended)
	for {
		typ, err := ReadControl(s.conn)
		if err != nil {
			s.why = err
			_ = s.conn.Close() // whoever writes need not wait
			return
		}
		if typ == ControlFinish {
			return
		}
	}
}

func (s *stream) write(b []byte) (int, error) {
	if err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return s.conn.Write(b)
}

func (s *stream) tick(time.Time) error { return nil }

func (s *stream) gone() <-chan struct{} { return s.ended }

func (s *stream) finish(well bool) error {
	defer s.stop()
	defer s.conn.Close()
	if !well {
		return nil
	}
	if _, err := s.write(AppendControl(nil, ControlStop)); err != nil {
		return err
	}
	t := time.NewTimer(finishTimeout)
	defer t.Stop()
	select {
	case <-s.ended:
		return s.why
	case <-t.C:
		return errors.New("no FINISH in time")
	}
}
