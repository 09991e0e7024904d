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

	"github.com/quic-go/quic-go"

	"shirube/dnstap"
	"shirube/internal/wire"
)

// Defaults for options of DoQ and DoH3 that are left zero.
const (
	DefaultDoQStreams  = 64
	DefaultStreamTime  = 3 * time.Second  // CVE-2026-32934: an octet a stream
	DefaultQUICIdle    = 30 * time.Second // dnsproxy's, lowered from 5 min after its goroutines ran out
	quicHandshakeTime  = 3 * time.Second  // of silence; twice that in all
	quicStreamWindow   = 8 << 10          // octets of one stream that nobody has read; a query has maxQuery
	quicConnWindow     = 32 << 10         // of all streams of a connection
	quicLeastWindow    = quicStreamWindow // … when all connections together may have sent
	quicBudget         = 64 << 20         // … that many
	quicIdleGrace      = 3 * time.Second  // after IdleTimeout, in which a client is told of the end, and takes the connection for good until then
	quicControlStreams = 8                // of HTTP/3: it needs three, and others are to be let pass (RFC 9114 §6.2.3)

	// The least and the most that a connection which the server closes is kept, for
	// three round trips, after its last answer.
	minLinger, maxLinger = 50 * time.Millisecond, time.Second

	// A client whose address is not known to be its own costs a connection and the
	// work of a handshake. With so many of them under way, each has to show that
	// it gets what is sent there (Retry, RFC 9000 §8.1.2) …
	retryAbove = 128
	// … and so many are all that are.
	maxQUICHandshakes = 1024
)

// QUICOptions configures a [DoQ] or a [DoH3]. A zero field but Handler and TLS
// means its default.
type QUICOptions struct {
	Handler Handler
	Slots   *Slots // shared with the other transports; nil: DefaultSlots of its own
	Conns   *Conns // shared with the other encrypted transports; nil: its own
	UDPSize int    // octets, said to clients in OPT records

	TLS *tls.Config // for the protocol doq, or h3

	// Keys returns what makes that which a client can show another server of the
	// fleet that has the same (RFC 9000 §8.1.3, §10.3): for stateless resets, and for
	// tokens. It is asked when a socket begins to be served. Zero: random; so nil.
	Keys func() (reset, token [32]byte)

	Path string // of DoH3; DefaultPath

	Timeout        time.Duration // for a deferred query, from its arrival
	StreamTime     time.Duration // from a stream's first octet to its last
	MessageTimeout time.Duration // for the client to take a response
	IdleTimeout    time.Duration // since the last query
	MaxStreams     int           // at once on a connection

	Tap *dnstap.Tap  // is told of every query and response; nil: nobody is
	Log *slog.Logger // nil: nowhere
}

func (o QUICOptions) withDefaults(streams int) QUICOptions {
	if o.Conns == nil {
		o.Conns = NewConns(ConnsOptions{})
	}
	o.StreamTime = orDefault(o.StreamTime, DefaultStreamTime)
	o.MessageTimeout = orDefault(o.MessageTimeout, DefaultMessageTimeout)
	o.IdleTimeout = orDefault(o.IdleTimeout, DefaultQUICIdle)
	o.MaxStreams = orDefault(o.MaxStreams, streams)
	return o
}

// QUICStats is what became of the connections of a [DoQ] or a [DoH3].
type QUICStats struct {
	Open       int    // connections now
	Accepted   uint64 // connections served
	Early      uint64 // of them, that asked before the handshake was over (0-RTT)
	Retries    uint64 // clients asked to show their address
	Refused    uint64 // because of too many handshakes; [ConnsStats] has the others
	Handshakes int64  // under way
	Stalled    uint64 // times that a connection's streams were not accepted because of MaxStreams
}

// quicLimits are what may be changed while queries are served.
type quicLimits struct {
	streamTime, message, idle time.Duration // as in QUICOptions
	streams                   int           // MaxStreams
	roomy, cramped            *quic.Config
}

// quicServer accepts connections and streams of QUIC, and has them served.
type quicServer struct {
	opt    QUICOptions // of NewDoQ or NewDoH3: see limits
	limits atomic.Pointer[quicLimits]
	uni    int64 // unidirectional streams; -1: none
	proto  wire.Proto
	log    quietLog
	open   func(*quicConn) error               // for a new connection
	part   func(*quicConn)                     // for one that is to take no more streams
	tire   func(*quicConn)                     // for one that asks nothing
	serve  func(c *quicConn, str *quic.Stream) // for a new stream, on a goroutine of its own
	bye    quic.ApplicationErrorCode           // says that nothing is wrong

	accepted, early, retries, refused, stalled atomic.Uint64
	handshakes                                 atomic.Int64

	mu      sync.Mutex      // guards what is below it, and Start against Shutdown
	ctx     context.Context // of Start; nil: not started
	stopped bool
	sockets []*quicSocket
}

// quicSocket is a socket with the connections that were accepted on it.
type quicSocket struct {
	*net.UDPConn

	server    *quicServer
	transport *quic.Transport     // nil: not started
	listener  *quic.EarlyListener // as transport
	accept    context.Context     // of accepting connections and streams
	stop      context.CancelFunc  // ends it

	mu      sync.Mutex // guards conns
	conns   map[*quicConn]struct{}
	serving sync.WaitGroup // connections, and who accepts them
}

// quicConn is a connection.
type quicConn struct {
	*quic.Conn

	*visitor

	server  *quicServer
	socket  *quicSocket
	streams chan struct{} // as many as are being served; MaxStreams at most, as of when it came
	serving sync.WaitGroup
	idle    *time.Timer  // closes the connection
	active  atomic.Int64 // when it last asked: nanoseconds since 1970
	http    *h3Conn      // of DoH3
	held    held

	leave context.CancelFunc // has the client go, when its queries have their answers
	after quic.StreamID      // the stream after the last one accepted
}

// held is how many octets of responses a connection has that the client does not
// take: of those that it may have at once, each could have the longest.
type held struct{ octets atomic.Int64 }

// take takes n octets in, which give lets out, and reports false when there are
// maxHeld already.
func (h *held) take(n int) bool {
	if h.octets.Add(int64(n))-int64(n) <= maxHeld {
		return true
	}
	h.give(n)
	return false
}

func (h *held) give(n int) { h.octets.Add(-int64(n)) }

// visitor is a client that has been let in, from its first packet to its
// connection's end.
type visitor struct {
	server   *quicServer
	client   netip.AddrPort
	limits   *quicLimits // that it came under; what they say of time may be out of date
	window   int64       // octets that it may send before they are read
	accepted atomic.Bool // awaitHandshake says when it has shaken hands
	shaken   sync.Once
}

type visitorKey struct{}

func newQUICServer(opt QUICOptions, proto wire.Proto, uni int64, log quietLog) *quicServer {
	s := &quicServer{opt: opt, proto: proto, uni: uni, log: log}
	s.limit(opt)
	opt.Conns.whenShort(s.hurry)
	return s
}

// limit has what comes from now on go by opt.
func (s *quicServer) limit(opt QUICOptions) {
	s.limits.Store(&quicLimits{
		streamTime: opt.StreamTime, message: opt.MessageTimeout, idle: opt.IdleTimeout, streams: opt.MaxStreams,
		roomy: s.config(opt, quicConnWindow), cramped: s.config(opt, quicLeastWindow),
	})
}

// config returns what a connection goes by that the client may send window octets
// on before they are read.
func (s *quicServer) config(opt QUICOptions, window int64) *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout:           quicHandshakeTime,
		MaxIdleTimeout:                 opt.IdleTimeout + quicIdleGrace,
		InitialStreamReceiveWindow:     quicStreamWindow,
		MaxStreamReceiveWindow:         quicStreamWindow,
		InitialConnectionReceiveWindow: uint64(window),
		MaxConnectionReceiveWindow:     uint64(window),
		MaxIncomingStreams:             int64(opt.MaxStreams),
		MaxIncomingUniStreams:          s.uni,
		// What may be replayed are questions, which change nothing (RFC 9250 §4.5).
		Allow0RTT: true,
	}
}

// configFor returns what a connection goes by that begins now.
func (s *quicServer) configFor(*quic.ClientInfo) (*quic.Config, error) {
	if s.opt.Conns.windowLeft() == quicConnWindow {
		return s.limits.Load().roomy, nil
	}
	return s.limits.Load().cramped, nil
}

// Start begins to accept. The end of ctx ends the queries in flight, but only
// Shutdown ends the server. To start twice, or after Shutdown, does nothing.
func (s *quicServer) Start(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx != nil || s.stopped {
		return
	}
	s.ctx = ctx
	for _, k := range s.sockets {
		k.start(ctx)
	}
}

// Add accepts on socket too, which s owns from now on: at once, if s has been
// started. After Shutdown it closes it.
func (s *quicServer) Add(socket *net.UDPConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		_ = socket.Close() // nobody was served on it
		return
	}
	k := &quicSocket{UDPConn: socket, server: s, conns: make(map[*quicConn]struct{})}
	s.sockets = append(s.sockets, k)
	if s.ctx != nil {
		k.start(s.ctx)
	}
}

// Remove ends the service on socket, if s has it, as Shutdown does.
func (s *quicServer) Remove(ctx context.Context, socket *net.UDPConn) error {
	s.mu.Lock()
	i := slices.IndexFunc(s.sockets, func(k *quicSocket) bool { return k.UDPConn == socket })
	if i < 0 {
		s.mu.Unlock()
		return nil
	}
	k := s.sockets[i]
	s.sockets = slices.Delete(s.sockets, i, i+1)
	s.mu.Unlock()
	return k.end(ctx)
}

// start begins to accept. The caller holds the server's mu.
func (k *quicSocket) start(ctx context.Context) {
	s := k.server
	t := &quic.Transport{Conn: k.UDPConn, VerifySourceAddress: s.doubts, ConnContext: s.admit}
	if s.opt.Keys != nil {
		reset, token := s.opt.Keys()
		if reset != [32]byte{} {
			t.StatelessResetKey = (*quic.StatelessResetKey)(&reset)
		}
		if token != [32]byte{} {
			t.TokenGeneratorKey = (*quic.TokenGeneratorKey)(&token)
		}
	}
	l, err := t.ListenEarly(s.opt.TLS, &quic.Config{HandshakeIdleTimeout: quicHandshakeTime, GetConfigForClient: s.configFor})
	if err != nil { // of a socket that is none, or a configuration that no test has seen
		s.log.error("cannot listen for QUIC", "transport", s.proto.String(), "listener", k.LocalAddr().String(), "err", err)
		return
	}
	k.transport, k.listener = t, l
	k.accept, k.stop = context.WithCancel(ctx)
	context.AfterFunc(ctx, k.abandon)
	// Owner: k. End: that of k. Bound: one.
	k.serving.Go(k.run)
}

// errTooMany is why a connection is refused. Nobody sees it.
var errTooMany = errors.New("too many connections or handshakes")

// doubts reports whether the client at a has to show that the address is its own.
func (s *quicServer) doubts(a net.Addr) bool {
	if s.handshakes.Load() < retryAbove && !s.opt.Conns.pressed(addrPort(a).Addr()) {
		return false
	}
	s.retries.Add(1)
	return true
}

// admit lets a client in, if there is room.
func (s *quicServer) admit(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	v := &visitor{server: s, client: addrPort(info.RemoteAddr), limits: s.limits.Load(), window: s.opt.Conns.windowLeft()}
	if s.handshakes.Add(1) > maxQUICHandshakes {
		s.handshakes.Add(-1)
		s.refused.Add(1)
		return nil, errTooMany
	}
	if !s.opt.Conns.enter(v.client.Addr(), true) {
		s.handshakes.Add(-1)
		return nil, errTooMany // counted by Conns
	}
	s.opt.Conns.window(v.window)
	context.AfterFunc(ctx, func() { // the connection has ended
		s.opt.Conns.window(-v.window)
		if !v.accepted.Load() {
			v.shook(false)
		}
		s.opt.Conns.leave(v.client.Addr())
	})
	return context.WithValue(ctx, visitorKey{}, v), nil
}

// shook says that the handshake has ended, well or not.
func (v *visitor) shook(resumed bool) {
	v.shaken.Do(func() {
		v.server.handshakes.Add(-1)
		if resumed {
			v.server.opt.Conns.resume(v.client.Addr())
		}
	})
}

// run accepts connections until k ends.
func (k *quicSocket) run() {
	s := k.server
	for {
		conn, err := k.listener.Accept(k.accept)
		if err != nil {
			return // nothing else ends it
		}
		v := conn.Context().Value(visitorKey{}).(*visitor)
		v.accepted.Store(true)
		c := &quicConn{Conn: conn, visitor: v, server: s, socket: k, streams: make(chan struct{}, v.limits.streams)}
		ctx, leave := context.WithCancel(k.accept)
		c.leave = leave
		// Packets that ask nothing do not keep a connection.
		c.idle = time.AfterFunc(time.Hour, c.checkIdle) // who reads c.idle
		c.idle.Reset(s.idleTime())
		c.active.Store(time.Now().UnixNano())
		k.add(c)
		s.accepted.Add(1)
		// Owner: k. End: the client's, a deadline's, or that of k. Bound: that of
		// Conns. Excess: refused, by admit. The second one ends with the handshake.
		k.serving.Go(func() { c.run(ctx) })
		k.serving.Go(c.awaitHandshake)
	}
}

func (k *quicSocket) add(c *quicConn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.conns[c] = struct{}{}
}

func (k *quicSocket) remove(c *quicConn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.conns, c)
}

// awaitHandshake notes the end of the handshake.
func (c *quicConn) awaitHandshake() {
	select {
	case <-c.HandshakeComplete():
	case <-c.Context().Done():
		if !isClosed(c.HandshakeComplete()) {
			c.shook(false)
			return
		}
	}
	state := c.ConnectionState()
	c.shook(state.TLS.DidResume)
	if state.Used0RTT {
		c.server.early.Add(1)
	}
}

// run serves the streams of a connection until it, or ctx, ends, and leaves
// nothing behind.
func (c *quicConn) run(ctx context.Context) {
	s := c.server
	defer c.socket.remove(c)
	defer c.leave()
	if err := s.open(c); err == nil {
		for c.next(ctx) {
		}
		s.part(c)
	}
	c.serving.Wait()
	c.idle.Stop()
	c.linger()
	_ = c.CloseWithError(s.bye, "")
}

// linger waits for a moment for the last answers to arrive: what is lost on the way
// is not sent again once the connection is closed.
func (c *quicConn) linger() {
	t := time.NewTimer(c.lingerTime())
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.Context().Done():
	}
}

// lingerTime returns for how long something may be on its way.
func (c *quicConn) lingerTime() time.Duration {
	return min(max(3*c.ConnectionStats().SmoothedRTT, minLinger), maxLinger)
}

// idleTime returns how long a connection may ask nothing.
func (s *quicServer) idleTime() time.Duration { return s.opt.Conns.idleTime(s.limits.Load().idle) }

// hurry has the idle connections look how long they may still be so.
func (s *quicServer) hurry() {
	now, idle := time.Now().UnixNano(), s.idleTime()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.sockets {
		k.mu.Lock()
		for c := range k.conns {
			c.idle.Reset(max(0, idle-time.Duration(now-c.active.Load())))
		}
		k.mu.Unlock()
	}
}

// checkIdle ends the connection, unless a query is in flight: at once, where
// connections run short.
func (c *quicConn) checkIdle() {
	idle := c.server.idleTime()
	switch {
	case len(c.streams) > 0:
		c.idle.Reset(idle)
	case idle < c.server.limits.Load().idle:
		c.drop()
	default:
		c.server.tire(c)
	}
}

// drop closes the connection, for it asks nothing.
func (c *quicConn) drop() { _ = c.CloseWithError(c.server.bye, "idle") }

// next has the next stream served. It reports false when there will be no more.
func (c *quicConn) next(ctx context.Context) bool {
	str, err := c.AcceptStream(ctx)
	if err != nil {
		return false
	}
	c.after = str.StreamID() + 4 // RFC 9000 §2.1: the client's next one
	select {
	case c.streams <- struct{}{}:
	default: // one that has ended for the client has not for us
		c.server.stalled.Add(1)
		select {
		case c.streams <- struct{}{}:
		case <-c.Context().Done():
			return false
		}
	}
	_ = str.SetReadDeadline(time.Now().Add(c.server.limits.Load().streamTime))
	// Owner: c. End: the deadlines of stream and query, or the connection's. Bound:
	// MaxStreams. Excess: waits, above; the client has no credit for more anyway.
	c.serving.Go(func() {
		defer func() { <-c.streams }()
		c.server.serve(c, str)
		c.active.Store(time.Now().UnixNano())
		c.idle.Reset(c.server.idleTime())
	})
	return true
}

// end stops accepting, and closes each connection when its queries have their
// answers. When ctx is done first it cancels what is still in flight, and returns
// ctx's error.
func (k *quicSocket) end(ctx context.Context) error {
	if k.transport == nil {
		return k.Close()
	}
	k.stop()
	err := k.listener.Close()
	idle := make(chan struct{})
	// Owner: end. End: that of the last connection. Bound: one.
	go func() {
		k.serving.Wait()
		close(idle)
	}()
	select {
	case <-idle:
	case <-ctx.Done():
		err = errors.Join(fmt.Errorf("%s queries were abandoned: %w", k.server.proto, ctx.Err()), err)
		k.abandon()
		<-idle
	}
	return errors.Join(err, k.transport.Close(), k.Close())
}

// abandon closes all connections, which cancels their queries.
func (k *quicSocket) abandon() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for c := range k.conns {
		_ = c.CloseWithError(k.server.bye, "")
	}
}

// Shutdown stops accepting, and closes each connection when its queries have
// their answers. When ctx is done first it cancels what is still in flight, and
// returns ctx's error. It can be called again.
func (s *quicServer) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopped = true
	sockets := s.sockets
	s.sockets = nil
	s.mu.Unlock()
	errs := make([]error, len(sockets))
	var ending sync.WaitGroup
	for i, k := range sockets {
		ending.Go(func() { errs[i] = k.end(ctx) }) // one each, end with ctx
	}
	ending.Wait()
	return errors.Join(errs...)
}

func (s *quicServer) stats() QUICStats {
	q := QUICStats{
		Accepted: s.accepted.Load(), Early: s.early.Load(), Retries: s.retries.Load(),
		Refused: s.refused.Load(), Handshakes: s.handshakes.Load(), Stalled: s.stalled.Load(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.sockets {
		k.mu.Lock()
		q.Open += len(k.conns)
		k.mu.Unlock()
	}
	return q
}
