package transport

import (
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"shirube/internal/share"
)

// Defaults of [ConnsOptions].
const (
	DefaultTLSConns          = 8192
	DefaultTLSConnsPerClient = 256
	DefaultHandshakes        = 50 // full ones a second: 1 % of a core's time, by one client
)

// handshakeBurst is how many seconds' worth of handshakes a client may make at
// once: a household that comes back after an outage.
const handshakeBurst = 4

// maxShakers is how many clients are remembered that have shaken hands lately;
// maxLook how many of them are looked at to find one that can be forgotten.
const (
	maxShakers = 65536
	maxLook    = 64
)

// ConnsOptions configures a [Conns]. A zero field means its default.
type ConnsOptions struct {
	Total     int // connections at once
	PerClient int // of them, from an IPv4 address or an IPv6 /64

	// Handshakes is how many full ones a client may make in a second on average.
	// A handshake costs more than a thousand answers (dnsdist issue 12164), and
	// one that resumes a session next to nothing, so that these do not count.
	// Negative: as many as it likes.
	Handshakes int
}

// Conns bounds the encrypted connections of a server, over all transports that
// share it, and those of one client.
type Conns struct {
	opt      atomic.Pointer[ConnsOptions]
	open     atomic.Int64
	over     atomic.Uint64
	clients  share.Shares[netip.Prefix]
	shakers  shakers
	resumed  atomic.Uint64
	accepted atomic.Uint64
	windows  atomic.Int64 // octets that clients of QUIC may send before they are read
	narrow   atomic.Uint64

	mu      sync.Mutex // guards what is below it
	alarm   alarm
	hurries []func()
}

// ConnsStats is what a [Conns] has seen.
type ConnsStats struct {
	Open       int64  // now
	Clients    int    // that have one
	Accepted   uint64 // in all
	Resumed    uint64 // of them, that resumed a session
	OverTotal  uint64 // refused because of Total
	OverClient uint64 // refused because of PerClient
	OverRate   uint64 // refused because of Handshakes
	Window     int64  // octets that clients of QUIC may send before they are read
	Narrow     uint64 // connections of QUIC whose clients may send little, because others may send much
}

// NewConns returns a Conns without connections.
func NewConns(opt ConnsOptions) *Conns {
	c := &Conns{shakers: shakers{until: make(map[netip.Prefix]time.Time)}}
	c.Configure(opt)
	return c
}

// Configure changes the bounds, for connections that come from now on.
func (c *Conns) Configure(opt ConnsOptions) {
	opt.Total = orDefault(opt.Total, DefaultTLSConns)
	opt.PerClient = orDefault(opt.PerClient, DefaultTLSConnsPerClient)
	if opt.Handshakes == 0 {
		opt.Handshakes = DefaultHandshakes
	}
	c.opt.Store(&opt)
	c.shakers.rate.Store(int64(opt.Handshakes))
}

// enter takes a connection of a client in, which leave lets out, and reports
// whether there is room. Where there are handshakes, the client pays for one.
func (c *Conns) enter(client netip.Addr, handshakes bool) bool {
	who := clientOf(client)
	if !c.place() {
		return false
	}
	if !c.clients.Take(who, c.opt.Load().PerClient) {
		c.open.Add(-1)
		return false
	}
	if handshakes && !c.shakers.pay(who, time.Now()) {
		c.leave(client)
		return false
	}
	c.accepted.Add(1)
	c.tellIdle()
	return true
}

// windowLeft returns how many octets the next client of QUIC may send before they
// are read.
func (c *Conns) windowLeft() int64 {
	if c.windows.Load()+quicConnWindow <= quicBudget {
		return quicConnWindow
	}
	return quicLeastWindow
}

// window adds octets to what clients of QUIC may send before they are read.
func (c *Conns) window(octets int64) {
	c.windows.Add(octets)
	if octets == quicLeastWindow {
		c.narrow.Add(1)
	}
}

// leave lets a connection out.
func (c *Conns) leave(client netip.Addr) {
	c.clients.Give(clientOf(client))
	c.open.Add(-1)
	c.relax()
}

// enterProxy takes a connection in that many clients share, which leaveProxy lets
// out.
func (c *Conns) enterProxy() bool {
	if !c.place() {
		return false
	}
	c.accepted.Add(1)
	c.tellIdle()
	return true
}

func (c *Conns) leaveProxy() {
	c.open.Add(-1)
	c.relax()
}

// place takes one of all places, and reports whether one was left.
func (c *Conns) place() bool {
	if c.open.Add(1) <= int64(c.opt.Load().Total) {
		return true
	}
	c.open.Add(-1)
	c.over.Add(1)
	return false
}

// resume gives a client back what enter took for a handshake: it needed none.
func (c *Conns) resume(client netip.Addr) {
	c.resumed.Add(1)
	c.shakers.refund(clientOf(client))
}

// pressed reports whether a client has shaken hands so often that it had better
// be who it says it is.
func (c *Conns) pressed(client netip.Addr) bool {
	return c.shakers.pressed(clientOf(client), time.Now())
}

// Stats returns the current numbers.
func (c *Conns) Stats() ConnsStats {
	clients, overClient := c.clients.Stats()
	return ConnsStats{
		Open: c.open.Load(), Clients: clients, Accepted: c.accepted.Load(), Resumed: c.resumed.Load(),
		OverTotal: c.over.Load(), OverClient: overClient, OverRate: c.shakers.refused.Load(),
		Window: c.windows.Load(), Narrow: c.narrow.Load(),
	}
}

// shakers bounds how often each client shakes hands. Of each it knows until when
// its handshakes so far are paid for, at the rate that is allowed (the generic
// cell rate algorithm); who is in the past owes nothing, and need not be known.
type shakers struct {
	rate    atomic.Int64 // a second; negative: any
	refused atomic.Uint64

	mu    sync.Mutex
	until map[netip.Prefix]time.Time // maxShakers at most
}

// pay notes a handshake of who, and reports whether it can be afforded.
func (s *shakers) pay(who netip.Prefix, now time.Time) bool {
	rate := s.rate.Load()
	if rate < 0 {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	until, known := s.until[who]
	if until.Before(now) {
		until = now
	}
	if until.Sub(now) >= handshakeBurst*time.Second {
		s.refused.Add(1)
		return false
	}
	if !known && len(s.until) >= maxShakers {
		s.forget(now)
	}
	s.until[who] = until.Add(time.Second / time.Duration(rate))
	return true
}

// pressed reports whether who owes half of what may be owed.
func (s *shakers) pressed(who netip.Prefix, now time.Time) bool {
	if s.rate.Load() < 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.until[who].Sub(now) >= handshakeBurst*time.Second/2
}

// forget makes room for one more. Whoever is forgotten without having paid is one
// of more clients than can be watched.
func (s *shakers) forget(now time.Time) {
	looked := 0
	for who, until := range s.until {
		looked++
		if until.Before(now) || looked == maxLook {
			delete(s.until, who)
			return
		}
	}
}

// refund takes back a handshake of who.
func (s *shakers) refund(who netip.Prefix) {
	rate := s.rate.Load()
	if rate < 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if until, known := s.until[who]; known {
		s.until[who] = until.Add(-time.Second / time.Duration(rate))
	}
}

// admitted is a connection that a Conns counts until it is closed.
type admitted struct {
	net.Conn

	conns   *Conns
	client  netip.AddrPort // the other end, be it a proxy
	shared  bool           // by many clients of a proxy
	leaving sync.Once
	shaken  sync.Once
	haste   *haste // nil: none
}

// NetConn returns the connection itself.
func (a *admitted) NetConn() net.Conn { return a.Conn }

// Close closes the connection, and lets it out.
func (a *admitted) Close() error {
	a.leaving.Do(func() {
		if a.shared {
			a.conns.leaveProxy()
		} else {
			a.conns.leave(a.client.Addr())
		}
	})
	return a.Conn.Close()
}

// shook says that the client has shaken hands.
func (a *admitted) shook(resumed bool) {
	a.shaken.Do(func() {
		if resumed && !a.shared {
			a.conns.resume(a.client.Addr())
		}
	})
}

// door is a listener whose connections a Conns has room for. What it accepts are
// [*admitted], or with config [*tls.Conn] over such; nobody has shaken hands yet. If
// it is inside of TLS that a proxy says who asks, it is a [*proxiedConn] over all that.
type door struct {
	net.Listener

	conns   *Conns
	config  *tls.Config           // nil: cleartext
	proxies func() []netip.Prefix // that are believed, without config
	closing sync.Once
}

// Close closes the listener. To call it again does nothing.
func (d *door) Close() (err error) {
	d.closing.Do(func() { err = d.Listener.Close() })
	return err
}

// Accept waits for a connection that there is room for.
func (d *door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		unread, inside := c.(*unreadConn)
		if inside && d.config != nil {
			c = unread.Conn
		}
		a := &admitted{Conn: c, conns: d.conns, client: addrPort(c.RemoteAddr())}
		if !d.admit(a, inside) {
			_ = c.Close() // counted by conns
			continue
		}
		switch {
		case d.config == nil:
			return a, nil
		case inside:
			return &proxiedConn{Conn: secure(tls.Server(a, d.config)), listed: unread.listed}, nil
		}
		return tls.Server(a, d.config), nil
	}
}

// admit reports whether there is room for a, which is a proxy's if inside.
func (d *door) admit(a *admitted, inside bool) bool {
	a.shared = inside || proxiedOf(a) != nil || d.config == nil && believed(a, d.proxies())
	if a.shared {
		return d.conns.enterProxy()
	}
	return d.conns.enter(a.client.Addr(), d.config != nil)
}

// believed reports whether who is at the other end of c, without TLS, is believed
// for whom it asks: one of proxies, or who may use a unix socket.
func believed(c net.Conn, proxies []netip.Prefix) bool {
	_, local := c.LocalAddr().(*net.UnixAddr)
	return local || trusts(proxies, addrPort(c.RemoteAddr()).Addr())
}

// Secure returns l with TLS, as [TCP] wants its listeners. Its connections are
// among those that conns has room for.
func Secure(l net.Listener, conns *Conns, config *tls.Config) net.Listener {
	return secured{&door{Listener: l, conns: conns, config: config}}
}

// secured is a listener whose connections shake hands when they are first read.
type secured struct{ *door }

// Accept waits for a connection that there is room for.
func (s secured) Accept() (net.Conn, error) {
	c, err := s.door.Accept()
	if t, ok := c.(*tls.Conn); ok {
		return secure(t), nil
	}
	return c, err
}

// secure returns a connection that a door has accepted, as [TCP] wants it.
func secure(t *tls.Conn) *securedConn {
	return &securedConn{Conn: t, inner: t.NetConn().(*admitted)}
}

// securedOf returns the securedConn that c is, or that a proxy's header is read
// from; nil: none.
func securedOf(c net.Conn) *securedConn {
	if p, ok := c.(*proxiedConn); ok {
		c = p.Conn
	}
	s, _ := c.(*securedConn)
	return s
}

// admittedOf returns what c, which a door has accepted, rests on.
func admittedOf(c net.Conn) *admitted {
	if s := securedOf(c); s != nil {
		return s.inner
	}
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return c.(*admitted)
}

// securedConn is a connection with TLS that says when it has shaken hands.
type securedConn struct {
	*tls.Conn

	inner *admitted
	shook bool // of who reads
}

// Read reads, after a handshake at the first time.
func (c *securedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.shook {
		c.shook = true
		c.inner.shook(c.ConnectionState().DidResume)
	}
	return n, err
}
