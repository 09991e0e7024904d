package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"shirube/dnstap"
	"shirube/internal/wire"
)

// TCPOptions configures a [TCP]. A zero field but Handler means its default.
type TCPOptions struct {
	Handler Handler
	Slots   *Slots     // shared with the other transports; nil: DefaultSlots of its own
	Proto   wire.Proto // what the listeners speak; wire.TCP unless it is another stream
	UDPSize int        // octets, said to clients in OPT records

	Timeout          time.Duration // for a deferred query, from its arrival
	FirstByteTimeout time.Duration // from a connection's start to its first octet
	MessageTimeout   time.Duration // from a message's first octet to its last; for the client to take a response
	IdleTimeout      time.Duration // since the last message in either direction, with none in flight; less when connections run short

	MaxConns          int // at once
	MaxConnsPerClient int // at once, from an IPv4 address or an IPv6 /64
	MaxInFlight       int // deferred queries of one connection; more stay unread

	Tap *dnstap.Tap  // is told of every query and response; nil: nobody is
	Log *slog.Logger // nil: nowhere
}

// withDefaults fills in what was left zero.
func (o TCPOptions) withDefaults() TCPOptions {
	if o.Proto == wire.UDP {
		o.Proto = wire.TCP
	}
	o.FirstByteTimeout = orDefault(o.FirstByteTimeout, DefaultFirstByteTimeout)
	o.MessageTimeout = orDefault(o.MessageTimeout, DefaultMessageTimeout)
	o.IdleTimeout = orDefault(o.IdleTimeout, DefaultIdleTimeout)
	o.MaxConns = orDefault(o.MaxConns, DefaultMaxConns)
	o.MaxConnsPerClient = orDefault(o.MaxConnsPerClient, DefaultMaxConnsPerClient)
	o.MaxInFlight = orDefault(o.MaxInFlight, DefaultMaxInFlight)
	return o
}

// TCPStats is what a [TCP] has seen since it was made.
type TCPStats struct {
	Counts
	Open         int                     // connections now
	Accepted     uint64                  // connections served
	OverTotal    uint64                  // connections refused because of MaxConns
	OverClient   uint64                  // connections refused because of MaxConnsPerClient
	Unlisted     uint64                  // connections refused because a proxy was expected ([Proxies])
	AcceptErrors uint64                  // failed calls of Accept, for want of descriptors mostly
	Stalled      uint64                  // times a connection was not read because of MaxInFlight
	Closed       [NumCloseReasons]uint64 // connections served, by what ended them
}

// TCP serves DNS over streams (RFC 7766): TCP, or what a listener makes of it.
// Each connection has a goroutine, which answers what it can and hands the rest
// to others, so that answers overtake each other (RFC 7766 §7).
type TCP struct {
	service
	opt     atomic.Pointer[TCPOptions]
	conns   *roster
	n       tcpCounters
	inboxes sync.Pool // of *inbox
	buffers sync.Pool // of *[]byte, for responses

	draining atomic.Bool

	mu        sync.Mutex // guards what is below it, and Start against Shutdown
	listeners []net.Listener
	ctx       context.Context    // that connections are served under; nil: not started
	cancel    context.CancelFunc // ends the queries in flight

	accepting sync.WaitGroup
	serving   sync.WaitGroup // connections
	stop      chan struct{}  // closed when nothing more is to be accepted or read
	idle      chan struct{}  // closed after stop, when no connection is left
}

type tcpCounters struct {
	counters
	acceptErrors atomic.Uint64
	unlisted     atomic.Uint64
	stalled      atomic.Uint64
	closed       [NumCloseReasons]atomic.Uint64
}

// NewTCP returns a server for listeners, which it owns from now on. It accepts
// nothing before [TCP.Start].
//
// What a listener yields is read and written at the least cost if it is a
// [*net.TCPConn]. It may be anything else, such as TLS over one, that keeps to
// these rules:
//
//   - Accept does not wait for the client. What has to be exchanged before the
//     first message, is exchanged by the first Read, within its deadline, which
//     is FirstByteTimeout.
//   - RemoteAddr is a [*net.TCPAddr] of the client, from the start; or, if NetConn
//     returns a connection of [Proxies.Listener], when the header was read from that,
//     which is done here before the first Read.
//   - A Read that ended at its deadline can be followed by others, which lose
//     nothing, once octets have come.
//   - A Read of two octets leaves the rest of what came along with them to the
//     next one, without asking the system for it. While a connection is idle its
//     Read is given room for no more.
//   - One Write goes out as few segments or records as it fits into, without a
//     wait for more (RFC 7766 §8).
//   - Read, Write, Close and the setting of deadlines may run at the same time.
//     Close ends the others, and does not wait for the client for long.
func NewTCP(opt TCPOptions, listeners ...net.Listener) *TCP {
	opt = opt.withDefaults()
	t := &TCP{
		service:   newService(opt.Handler, opt.Slots, opt.Timeout, opt.UDPSize, opt.Log),
		listeners: listeners,
		conns:     newRoster(opt.MaxConns, opt.MaxConnsPerClient),
		inboxes:   sync.Pool{New: func() any { return new(inbox) }},
		buffers:   sync.Pool{New: func() any { return new(make([]byte, 0, bufferSize)) }},
		cancel:    func() {},
		stop:      make(chan struct{}),
		idle:      make(chan struct{}),
	}
	t.tap = opt.Tap
	t.opt.Store(&opt)
	return t
}

// Configure changes UDPSize, the time-outs and the bounds to those of opt: for
// what begins from now on, and of a connection that is open already only Timeout,
// MessageTimeout of answers, and IdleTimeout. The rest of opt does not count.
func (t *TCP) Configure(opt TCPOptions) {
	before := t.opt.Load()
	opt.Handler, opt.Slots, opt.Proto, opt.Log = before.Handler, before.Slots, before.Proto, before.Log
	opt = opt.withDefaults()
	t.conns.limit(opt.MaxConns, opt.MaxConnsPerClient)
	t.set.change(opt.Timeout, opt.UDPSize)
	t.opt.Store(&opt)
}

// Start begins to accept. The end of ctx ends the queries in flight, but only
// [TCP.Shutdown] ends the server. To start twice, or after Shutdown, does
// nothing.
func (t *TCP) Start(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx != nil || isClosed(t.stop) {
		return
	}
	t.ctx, t.cancel = context.WithCancel(ctx)
	for _, l := range t.listeners {
		t.listen(l)
	}
}

// listen begins to accept on l. The caller holds mu, and has seen that t has been
// started.
func (t *TCP) listen(l net.Listener) {
	ctx := t.ctx
	// Owner: t. End: Shutdown or Remove close l. Bound: one for each listener.
	t.accepting.Go(func() { t.accept(ctx, l) })
}

// Add accepts on listeners too, which t owns from now on: at once, if t has been
// started. After Shutdown it closes them.
func (t *TCP) Add(listeners ...net.Listener) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range listeners {
		if isClosed(t.stop) {
			_ = l.Close() // nobody was served on it
			continue
		}
		t.listeners = append(t.listeners, l)
		if t.ctx != nil {
			t.listen(l)
		}
	}
}

// Remove closes listeners, if t has them. The connections that were accepted on
// them go on until they end by themselves.
func (t *TCP) Remove(listeners ...net.Listener) (err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.listeners = slices.DeleteFunc(t.listeners, func(l net.Listener) bool {
		if !slices.Contains(listeners, l) {
			return false
		}
		err = errors.Join(err, l.Close())
		return true
	})
	return err
}

// accept accepts connections until l is closed.
func (t *TCP) accept(ctx context.Context, l net.Listener) {
	wait := backoff{min: 5 * time.Millisecond, max: time.Second}
	for {
		conn, err := l.Accept()
		if err != nil {
			if isClosed(t.stop) || errors.Is(err, net.ErrClosed) {
				return
			}
			t.n.acceptErrors.Add(1)
			t.log.error("accept a connection", "listener", l.Addr().String(), "err", err)
			if !wait.failed(t.stop) {
				return
			}
			continue
		}
		wait.ok()
		c, by := newTCPConn(t, conn), proxiedOf(conn)
		if by != nil && !by.listed {
			t.n.unlisted.Add(1)
			_ = conn.Close() // nobody that is to be heard
			continue
		}
		if !t.conns.add(c, by == nil) {
			_ = conn.Close() // counted by the roster
			continue
		}
		t.tellIdle()
		// Owner: t. End: the client's, a deadline's, or Shutdown's. Bound:
		// MaxConns. Excess: closed, above.
		t.serving.Go(func() { c.run(ctx) })
	}
}

// recycle keeps a buffer of responses for the next ones, unless it has become
// too large.
func (t *TCP) recycle(buf *[]byte) {
	if cap(*buf) <= bufferSize {
		*buf = (*buf)[:0]
		t.buffers.Put(buf)
	}
}

// Drain has clients that ask how long their connections may be silent told that
// they had better close them when they have their answers (RFC 7828 §3.3.2). They
// are served for as long as they do not.
func (t *TCP) Drain(on bool) { t.draining.Store(on) }

// Shutdown stops accepting, closes the connections without a query in flight
// at once and the others when they have their answers. When ctx is done first
// it cancels what is still in flight, and returns ctx's error. It can be called
// again, also while another call waits.
func (t *TCP) Shutdown(ctx context.Context) error {
	closed := t.stopAccepting()
	var abandoned error
	select {
	case <-t.idle:
	case <-ctx.Done():
		abandoned = fmt.Errorf("%s connections were abandoned: %w", t.opt.Load().Proto, ctx.Err())
	}
	t.cancel()
	if abandoned != nil {
		t.conns.each(func(c *tcpConn) { _ = c.conn.Close() }) // ends blocked writes; the connection cleans up
	}
	<-t.idle // Serve returns when its context is done
	return errors.Join(abandoned, closed)
}

// stopAccepting closes the listeners, and makes the connections end when they
// have answered what they have read, once.
func (t *TCP) stopAccepting() (err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if isClosed(t.stop) {
		return nil
	}
	close(t.stop)
	for _, l := range t.listeners {
		err = errors.Join(err, l.Close())
	}
	// The roster is closed: whoever comes late is turned away. Reads that are
	// blocked wake up; later ones see stop (see tcpConn.fill).
	t.conns.close()
	t.conns.each(func(c *tcpConn) { _ = c.conn.SetReadDeadline(longAgo) })
	// Owner: Shutdown. End: that of the last connection. Bound: one.
	go func() {
		t.accepting.Wait() // nobody accepts: nobody adds to serving
		t.serving.Wait()
		close(t.idle)
	}()
	return err
}

// Stats returns the current numbers. Each is exact; together they are not of
// one moment.
func (t *TCP) Stats() TCPStats {
	s := t.conns.stats()
	t.n.addTo(&s.Counts)
	s.AcceptErrors = t.n.acceptErrors.Load()
	s.Unlisted = t.n.unlisted.Load()
	s.Stalled = t.n.stalled.Load()
	for i := range t.n.closed {
		s.Closed[i] = t.n.closed[i].Load()
	}
	return s
}
