package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"shirube/dnstap"
	"shirube/internal/wire"
)

// Defaults for options of DoH and DoH3 that are left zero.
const (
	DefaultPath        = "/dns-query"     // that of every example in RFC 8484
	DefaultStreams     = 100              // RFC 9113 §6.5.2: no less
	DefaultDoHIdleTime = 30 * time.Second // Unbound's; browsers come back for the next page
)

// DoHOptions configures a [DoH]. A zero field but Handler means its default.
type DoHOptions struct {
	Handler Handler
	Slots   *Slots // shared with the other transports; nil: DefaultSlots of its own
	Conns   *Conns // shared with the other encrypted transports; nil: its own
	UDPSize int    // octets, said to clients in OPT records

	// TLS is for the protocols h2 and http/1.1, the better first.
	TLS  *tls.Config
	Path string // DefaultPath

	// HTTP3Port is where clients that speak HTTP/3 find the same at the address that
	// they have asked (RFC 7838); 0: nowhere.
	HTTP3Port uint16

	// Proxies are believed whom they ask for, on listeners without TLS. Whoever
	// comes by a unix socket is one.
	Proxies []netip.Prefix

	Timeout        time.Duration // for a deferred query, from its arrival
	MessageTimeout time.Duration // for a handshake; for a request; for the client to take a response
	IdleTimeout    time.Duration // since the last request
	MaxStreams     int           // of HTTP/2, at once on a connection

	Tap *dnstap.Tap  // is told of every query and response; nil: nobody is
	Log *slog.Logger // nil: nowhere
}

// DoHStats is what a [DoH] has seen since it was made.
type DoHStats struct {
	WebCounts
	HTTP2        HTTP2Stats
	AcceptErrors uint64 // failed calls of Accept, for want of descriptors mostly
}

// DoH serves DNS over HTTPS (RFC 8484), HTTP/1.1 and HTTP/2, and without TLS to
// proxies that have it. Each connection has a goroutine, which answers what memory
// can; a connection of HTTP/2 has others for the rest, of which there are
// MaxStreams at most.
type DoH struct {
	web
	opt    DoHOptions // of NewDoH: see limits
	limits atomic.Pointer[dohLimits]
	http2  h2Server

	acceptErrors atomic.Uint64

	mu      sync.Mutex // guards what is below it, and Start against Shutdown
	doors   []*door
	ctx     context.Context // of the queries in flight; nil: not started
	stopped bool
	stop    chan struct{}      // closed when nothing more is to be accepted
	cancel  context.CancelFunc // ends the queries in flight
	servers []*webServer       // the last one has the connections that come, those before it have theirs
	serving sync.WaitGroup     // listeners, and servers
}

// dohLimits are what may be changed while requests are served.
type dohLimits struct {
	message, idle time.Duration // as in DoHOptions
	streams       int           // MaxStreams
}

// NewDoH returns a server without listeners.
func NewDoH(opt DoHOptions) *DoH {
	if opt.Conns == nil {
		opt.Conns = NewConns(ConnsOptions{})
	}
	d := &DoH{opt: opt, stop: make(chan struct{}), cancel: func() {}}
	d.init(newService(opt.Handler, opt.Slots, opt.Timeout, opt.UDPSize, opt.Log), wire.DoH, opt.rules())
	d.tap = opt.Tap
	d.http2.init()
	d.limits.Store(opt.limits())
	opt.Conns.whenShort(d.http2.hurry)
	d.short = opt.Conns.short
	return d
}

// limits returns what may be changed of opt's bounds.
func (o *DoHOptions) limits() *dohLimits {
	return &dohLimits{
		message: orDefault(o.MessageTimeout, DefaultMessageTimeout),
		idle:    orDefault(o.IdleTimeout, DefaultDoHIdleTime), streams: orDefault(o.MaxStreams, DefaultStreams),
	}
}

// rules returns what may be changed while requests are served.
func (o *DoHOptions) rules() webRules {
	r := webRules{path: o.Path, proxies: o.Proxies}
	if o.HTTP3Port != 0 {
		r.altSvc = fmt.Sprintf(`h3=":%d"; ma=86400`, o.HTTP3Port) // RFC 7838 §3.1: for a day
	}
	return r
}

// Configure changes Path, HTTP3Port, Proxies, UDPSize, the time-outs and MaxStreams to
// those of opt: the time-outs and MaxStreams for connections that come from now on.
// The rest of opt does not count. Connections that came by proxies stay theirs.
func (d *DoH) Configure(opt DoHOptions) {
	d.rule(opt.rules())
	d.mu.Lock()
	defer d.mu.Unlock()
	before, timeout := *d.limits.Load(), d.timeout()
	d.set.change(opt.Timeout, opt.UDPSize)
	d.limits.Store(opt.limits())
	if d.ctx != nil && !d.stopped && (before != *d.limits.Load() || timeout != d.timeout()) {
		d.succeed()
	}
}

// Add accepts on l too, which d owns from now on: at once, if d has been started.
// After Shutdown it closes it. secure says that clients speak TLS there.
func (d *DoH) Add(l net.Listener, secure bool) {
	b := &door{Listener: l, conns: d.opt.Conns}
	if secure {
		b.config = d.opt.TLS
	} else {
		b.proxies = func() []netip.Prefix { return d.rules.Load().proxies }
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		_ = l.Close() // nobody was served on it
		return
	}
	d.doors = append(d.doors, b)
	if d.ctx != nil {
		d.listen(b)
	}
}

// Remove closes l, if d has it. The connections that were accepted on it go on
// until they end by themselves.
func (d *DoH) Remove(l net.Listener) (err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.doors = slices.DeleteFunc(d.doors, func(b *door) bool {
		if b.Listener != l {
			return false
		}
		err = b.Close() // which the server may do too
		return true
	})
	return err
}

// connContext puts into the context of c's requests what is known of c.
func (d *DoH) connContext(ctx context.Context, c net.Conn) context.Context {
	a := admittedOf(c) // all listeners are doors
	_, cleartext := c.(*admitted)
	ends := func() webEnds {
		return webEnds{addrPort(c.RemoteAddr()), addrPort(c.LocalAddr()), cleartext && a.shared && believed(c, d.rules.Load().proxies)}
	}
	return context.WithValue(ctx, webConnKey{}, &webConn{
		ends: ends, shook: a.shook, cut: func() { _ = a.Close() }, inner: a,
	})
}

// Start begins to accept. The end of ctx ends the queries in flight, but only
// [DoH.Shutdown] ends the server. To start twice, or after Shutdown, does
// nothing.
func (d *DoH) Start(ctx context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx != nil || d.stopped {
		return
	}
	d.ctx, d.cancel = context.WithCancel(ctx)
	d.succeed()
	for _, b := range d.doors {
		d.listen(b)
	}
}

// listen begins to accept at b. The caller holds mu, and has seen that d has been
// started.
func (d *DoH) listen(b *door) {
	// Owner: d. End: Shutdown or Remove close b. Bound: one for each listener.
	d.serving.Go(func() { d.accept(b) })
}

// accept gives the connections that come through b to the server that has those
// which come, until b is closed.
func (d *DoH) accept(b *door) {
	wait := backoff{min: 5 * time.Millisecond, max: time.Second}
	for {
		c, err := b.Accept()
		switch {
		case err == nil:
			wait.ok()
			d.hand(c)
		case isClosed(d.stop) || errors.Is(err, net.ErrClosed):
			return
		default:
			d.acceptErrors.Add(1)
			d.log.error("accept a connection", "listener", b.Addr().String(), "err", err)
			if !wait.failed(d.stop) {
				return
			}
		}
	}
}

// hand gives c to the last of the servers.
func (d *DoH) hand(c net.Conn) {
	for {
		s := d.latest()
		select {
		case s.arrived <- c:
			return
		case <-s.retired: // for another one, or for none
			s.open.Add(-1)
		}
		if isClosed(d.stop) {
			_ = c.Close() // nobody was served on it
			return
		}
	}
}

// latest returns the server that has the connections which come, and counts one for
// it.
func (d *DoH) latest() *webServer {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.servers[len(d.servers)-1]
	s.open.Add(1)
	return s
}

// Drain has clients told that they had better go when they have their answers.
func (d *DoH) Drain(on bool) { d.draining.Store(on) }

// Shutdown stops accepting, tells clients to go (GOAWAY), and closes each
// connection when its requests have their answers. When ctx is done first it
// cancels what is still in flight, and returns ctx's error. It can be called
// again.
func (d *DoH) Shutdown(ctx context.Context) error {
	d.mu.Lock()
	var closed error
	if !d.stopped {
		d.stopped = true
		close(d.stop)
	}
	for _, b := range d.doors {
		closed = errors.Join(closed, b.Close())
	}
	d.doors = nil
	servers := d.servers
	d.mu.Unlock()
	d.http2.leave()
	errs := make([]error, len(servers))
	var ending sync.WaitGroup
	for i, s := range servers {
		ending.Go(func() { errs[i] = s.Shutdown(ctx) }) // one each, end with ctx
	}
	ending.Wait()
	err := errors.Join(errs...)
	d.cancel()
	if err != nil && errors.Is(err, ctx.Err()) {
		err = fmt.Errorf("%s requests were abandoned: %w", d.proto, err)
		for _, s := range servers {
			err = errors.Join(err, s.Close())
		}
	}
	d.serving.Wait()
	return errors.Join(err, closed)
}

// Stats returns the current numbers. Each is exact; together they are not of one
// moment.
func (d *DoH) Stats() DoHStats { return DoHStats{d.n.counts(), d.http2.stats(), d.acceptErrors.Load()} }
