package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// UDPOptions configures a [UDP]. A zero field but Handler means its default.
type UDPOptions struct {
	Handler Handler
	Slots   *Slots // shared with the other transports; nil: DefaultSlots of its own

	// MaxSize is the longest response in octets, and what is said to clients
	// in OPT records. A client that takes less gets less (RFC 9715 §3.2).
	MaxSize int

	// Timeout is how long a deferred query may take, from its arrival.
	Timeout time.Duration

	// DiscardTimeout is the age at which an answer is not sent any more. The
	// client has given up by then, and answers that an attacker can hold back
	// for longer, he can make burst at one address (DNSBomb, CVE-2024-33655).
	DiscardTimeout time.Duration

	Log *slog.Logger // nil: nowhere
}

// UDPStats is what a [UDP] has seen since it was made.
type UDPStats struct {
	Counts
	Late       uint64                // answers that were discarded for their age
	BadSource  uint64                // datagrams that nobody can be answered on
	ReadErrors uint64                // ICMP errors of earlier responses included
	SendErrors [NumSendErrors]uint64 // responses that were not sent, by what went wrong
}

// UDP serves DNS over UDP on sockets that share their clients, with a
// goroutine for each.
type UDP struct {
	service
	maxSize int
	discard time.Duration
	readers []*udpReader
	buffers sync.Pool // of *[]byte, for the answers to deferred queries

	mu      sync.Mutex // guards the two below it, and Start against Shutdown
	started bool
	cancel  context.CancelFunc // ends the queries in flight

	reading sync.WaitGroup
	serving sync.WaitGroup
	stop    chan struct{} // closed when no more queries are to be read
	idle    chan struct{} // closed after stop, when nothing is in flight
	closing sync.Once
	closed  error // what closing the sockets came to
}

// NewUDP returns a server for conns, which it owns from now on: see
// netx.ListenUDP. It serves nothing before [UDP.Start].
func NewUDP(opt UDPOptions, conns ...*net.UDPConn) *UDP {
	u := &UDP{
		service: newService(opt.Handler, opt.Slots, opt.Timeout, opt.MaxSize, opt.Log),
		discard: orDefault(opt.DiscardTimeout, DefaultDiscardTimeout),
		cancel:  func() {},
		stop:    make(chan struct{}),
		idle:    make(chan struct{}),
	}
	u.maxSize = int(u.udpSize)
	u.buffers.New = func() any { b := make([]byte, 0, u.maxSize); return &b }
	for _, c := range conns {
		u.readers = append(u.readers, newUDPReader(u, c))
	}
	return u
}

// Start begins to serve. The end of ctx ends the queries in flight, but only
// [UDP.Shutdown] ends the server. To start twice, or after Shutdown, does
// nothing.
func (u *UDP) Start(ctx context.Context) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.started || isClosed(u.stop) {
		return
	}
	u.started = true
	ctx, u.cancel = context.WithCancel(ctx)
	for _, r := range u.readers {
		// Owner: u. End: Shutdown. Bound: one for each socket.
		u.reading.Go(func() { r.run(ctx) })
	}
}

// Shutdown stops reading, lets the queries in flight finish, and closes the
// sockets. When ctx is done first it cancels what is still in flight, and
// returns ctx's error. It can be called again, also while another call waits.
func (u *UDP) Shutdown(ctx context.Context) error {
	u.stopReading()
	var abandoned error
	select {
	case <-u.idle:
	case <-ctx.Done():
		abandoned = fmt.Errorf("UDP queries were abandoned: %w", ctx.Err())
	}
	u.cancel()
	<-u.idle // Serve returns when its context is done
	u.closing.Do(func() {
		for _, r := range u.readers {
			u.closed = errors.Join(u.closed, r.conn.Close())
		}
	})
	return errors.Join(abandoned, u.closed)
}

// stopReading makes the readers end after the datagram that they have, once.
func (u *UDP) stopReading() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if isClosed(u.stop) {
		return
	}
	close(u.stop)
	for _, r := range u.readers {
		// Wakes a blocked read, and makes later ones fail. The only error is
		// that the socket is closed, and then no read blocks.
		_ = r.conn.SetReadDeadline(longAgo)
	}
	// Owner: Shutdown. End: that of the last query in flight. Bound: one.
	go func() {
		u.reading.Wait() // no reader: nobody adds to serving
		u.serving.Wait()
		close(u.idle)
	}()
}

// longAgo is a deadline that has passed on every clock.
var longAgo = time.Unix(1, 0)

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Stats returns the current numbers. Each is exact; together they are not of
// one moment.
func (u *UDP) Stats() UDPStats {
	var s UDPStats
	for _, r := range u.readers {
		r.n.addTo(&s.Counts)
		s.Late += r.n.late.Load()
		s.BadSource += r.n.badSource.Load()
		s.ReadErrors += r.n.readErrors.Load()
		for i := range r.n.sendErrors {
			s.SendErrors[i] += r.n.sendErrors[i].Load()
		}
	}
	return s
}
