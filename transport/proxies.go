package transport

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
)

// MaxProxies bounds the prefixes of one [Proxies]: each datagram is held to all.
const MaxProxies = 64

// Proxies are those who may say on whose behalf they ask, and have to: by a header
// of the PROXY protocol, version 2, at the start of each datagram and of each
// connection (for UDP as dnsdist, Unbound and Knot Resolver have it). Who is in
// the header is the client to everything but the way back. Nobody else is heard:
// one who could say who he is could say that he is anybody. Without any proxies
// everybody is heard, and speaks for himself; so does a nil *Proxies.
type Proxies struct {
	rules atomic.Pointer[proxyRules]
}

// proxyRules are who is a proxy, and how it speaks.
type proxyRules struct {
	from   []netip.Prefix
	inside bool // of TLS, as its first octets
}

// NewProxies returns the proxies with addresses in from, at most MaxProxies.
// insideTLS says that on connections with TLS they send the header after the
// handshake, and not before.
func NewProxies(from []netip.Prefix, insideTLS bool) (*Proxies, error) {
	p := new(Proxies)
	return p, p.Replace(from, insideTLS)
}

// Replace has those in from be the proxies from now on. Connections that came by
// others stay.
func (p *Proxies) Replace(from []netip.Prefix, insideTLS bool) error {
	if len(from) > MaxProxies {
		return fmt.Errorf("%d address ranges of proxies; at most %d are allowed", len(from), MaxProxies)
	}
	from = slices.Clone(from)
	for i, prefix := range from {
		if !prefix.IsValid() {
			return fmt.Errorf("%v is no address range of proxies", prefix)
		}
		from[i] = prefix.Masked()
	}
	p.rules.Store(&proxyRules{from, insideTLS})
	return nil
}

// now returns the rules of this moment.
func (p *Proxies) now() *proxyRules {
	if p == nil {
		return new(proxyRules)
	}
	return p.rules.Load()
}

// expected reports whether nobody but proxies is heard.
func (p *Proxies) expected() bool { return len(p.now().from) > 0 }

// lists reports whether a is a proxy's.
func (p *Proxies) lists(a netip.Addr) bool { return p.now().lists(a) }

func (r *proxyRules) lists(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, prefix := range r.from {
		if prefix.Contains(a) {
			return true
		}
	}
	return false
}

// unwrapProxy returns the message in b, a datagram from a proxy, and whose it is. It
// reports false if there is no good header before it.
func unwrapProxy(b []byte) (p proxied, msg []byte, ok bool) {
	if len(b) < proxyFixedLen {
		return p, nil, false
	}
	n, ok := proxyLen(b[:proxyFixedLen])
	if !ok || n > len(b) {
		return p, nil, false
	}
	p, ok = parseProxy(b[:n])
	return p, b[n:], ok
}

// Listener returns a listener for l whose connections are from these proxies, if
// there are any: the header is theirs to read, before anything else, and
// RemoteAddr is the client's from then on. TLS goes over it, so that the header is
// outside of it; or if it is to be inside, who puts TLS over it reads it there.
func (p *Proxies) Listener(l net.Listener) net.Listener { return &proxyListener{l, p} }

type proxyListener struct {
	net.Listener

	proxies *Proxies
}

// Accept implements [net.Listener].
func (l *proxyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	rules := l.proxies.now()
	if err != nil || len(rules.from) == 0 {
		return c, err
	}
	listed := rules.lists(addrPort(c.RemoteAddr()).Addr())
	if rules.inside {
		return &unreadConn{c, listed}, nil
	}
	return &proxiedConn{Conn: c, listed: listed}, nil
}

// unreadConn is a connection whose header is inside of the TLS that [door] puts over
// it. Without TLS nothing can be read from it.
type unreadConn struct {
	net.Conn

	listed bool
}

// Read fails.
func (*unreadConn) Read([]byte) (int, error) { return 0, errNoProxy }

// errNoProxy is what a connection without a good header fails with.
var errNoProxy = errors.New("no header of the PROXY protocol, version 2, from who has to send one")

// proxiedConn is a connection that comes by a proxy.
type proxiedConn struct {
	net.Conn

	listed bool // its other end is one of the proxies

	once  sync.Once
	begun bool                    // octets of the header have come
	err   error                   // what came of reading it
	ends  atomic.Pointer[proxied] // nil: the connection's own
}

// proxiedOf returns the proxiedConn that c is or, as TLS connections say, rests
// on; nil: none.
func proxiedOf(c net.Conn) *proxiedConn {
	for {
		over, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			p, _ := c.(*proxiedConn)
			return p
		}
		c = over.NetConn()
	}
}

// RemoteAddr returns the client's address, but the proxy's before the header was
// read, and if that names none.
func (c *proxiedConn) RemoteAddr() net.Addr {
	if p := c.ends.Load(); p != nil {
		return net.TCPAddrFromAddrPort(p.client)
	}
	return c.Conn.RemoteAddr()
}

// LocalAddr returns the address that the client has asked, by the same rule.
func (c *proxiedConn) LocalAddr() net.Addr {
	if p := c.ends.Load(); p != nil {
		return net.TCPAddrFromAddrPort(p.server)
	}
	return c.Conn.LocalAddr()
}

// Read reads what follows the header.
func (c *proxiedConn) Read(b []byte) (int, error) {
	if err := c.greet(); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

// greet reads the header, if that was not done yet. An error stays.
func (c *proxiedConn) greet() error {
	c.once.Do(func() {
		c.err = c.readHeader()
		if c.begun && errors.Is(c.err, io.EOF) {
			c.err = io.ErrUnexpectedEOF
		}
	})
	return c.err
}

func (c *proxiedConn) readHeader() error {
	if !c.listed {
		return errNoProxy
	}
	header := make([]byte, proxyFixedLen, MaxProxyHeader)
	for got := 0; got < len(header); { // not one octet more than are the header's
		n, err := c.Conn.Read(header[got:])
		got += n
		c.begun = c.begun || n > 0
		switch {
		case !maybeProxy(header[:got]): // no need to wait for more of it
			return errNoProxy
		case err != nil && got < len(header):
			return err
		}
	}
	n, ok := proxyLen(header)
	if !ok {
		return errNoProxy
	}
	header = header[:n]
	if _, err := io.ReadFull(c.Conn, header[proxyFixedLen:]); err != nil {
		return err
	}
	p, ok := parseProxy(header)
	switch {
	case !ok:
		return errNoProxy
	case p.client.IsValid():
		c.ends.Store(&p)
	}
	return nil
}
