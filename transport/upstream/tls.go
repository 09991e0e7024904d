package upstream

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"shirube/internal/exchange"
	"shirube/internal/wire"
)

// The limits on TLS that are not for the operator to move.
const (
	// maxPins is how many keys one server may have.
	maxPins = 16

	// maxSessions is how many TLS sessions are remembered, all servers
	// together, to resume them.
	maxSessions = 64

	// maxChances is how many are besides, of servers that need not prove who they
	// are (RFC 9539 §4.6.3.2).
	maxChances = 1024
)

// errPins reports a server with none of the keys that it was to have.
var errPins = errors.New("no key of the server's is the one pinned")

// checkTLS refuses what no server can be known by.
func checkTLS(t *exchange.TLS) error {
	switch {
	case t == nil:
		return nil
	case t.Name == "" && len(t.Pins) == 0: // RFC 8310 §5: strict, or not at all
		return fmt.Errorf("%w: neither name nor key to know the server by", ErrRequest)
	case t.Path != "" && t.Path[0] != '/':
		return fmt.Errorf("%w: the path %q does not begin with a slash", ErrRequest, t.Path)
	case len(t.Pins) > maxPins:
		return fmt.Errorf("%w: %d keys pinned, %d are the most", ErrRequest, len(t.Pins), maxPins)
	}
	for _, pin := range t.Pins {
		if len(pin) != sha256.Size {
			return fmt.Errorf("%w: a pin of %d octets is no SHA-256", ErrRequest, len(pin))
		}
	}
	return nil
}

// dial makes a connection for the pool. The error comes with what was being
// done.
func (c *Client) dial(ctx context.Context, to peer) (made link, op string, err error) {
	if to.over == wire.DoQ {
		return c.dialQUIC(ctx, to)
	}
	conn, op, err := c.dialTCP(ctx, to)
	if err != nil || to.over != wire.DoH {
		return link{nc: conn}, op, err
	}
	return dialWeb(ctx, conn, to)
}

// dialTCP makes a connection of TCP, with TLS on it if to wants that.
func (c *Client) dialTCP(ctx context.Context, to peer) (conn net.Conn, op string, err error) {
	dialer := net.Dialer{KeepAlive: -1}
	tcp, err := dialer.DialTCP(ctx, "tcp", netip.AddrPort{}, to.addr)
	if err != nil {
		return nil, "connect", err
	}
	if !to.over.Encrypted() {
		return tcp, "", nil
	}
	secure := tls.Client(tcp, c.tlsConfig(to))
	if err := secure.HandshakeContext(ctx); err != nil {
		reset(tcp)
		tcp.Close()
		return nil, "handshake", err
	}
	c.secured(secure.ConnectionState())
	return secure, "", nil
}

// secured counts a connection that is encrypted.
func (c *Client) secured(state tls.ConnectionState) {
	c.count.secured.Add(1)
	if state.DidResume {
		c.count.resumed.Add(1)
	}
}

// protocols are the names of transports in handshakes (ALPN), of RFC 7858, RFC 9113 §3.2 and RFC 9250 §4.1.
var protocols = [wire.NumProtos]string{wire.DoT: "dot", wire.DoH: "h2", wire.DoQ: "doq"}

// tlsConfig says how to authenticate to: by its keys if any are pinned, else by
// its name, or not at all.
func (c *Client) tlsConfig(to peer) *tls.Config {
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12, // RFC 9325 §3.1.1
		ServerName:         to.name,
		RootCAs:            c.opt.RootCAs,
		NextProtos:         []string{protocols[to.over]},
		ClientSessionCache: sessions{to: to, cache: c.sessions},
	}
	switch {
	case to.anybody:
		// Who would reject a certificate would send the same query in the clear
		// instead (RFC 9539 §4.6.3.4). No name is sent either (§4.6.3.3).
		config.InsecureSkipVerify = true
		config.ClientSessionCache = sessions{to: to, cache: c.chances}
	case to.pins != "":
		// Of the default verification. The other is done for every connection,
		// also when a session is resumed.
		config.InsecureSkipVerify, config.VerifyConnection = true, to.verify
	}
	return config
}

// verify reports whether the server has a key that is pinned: its own, or that
// of an authority that signed it for its name (RFC 7858 §4.2). Certificates that
// it merely sends along, as anybody can, prove nothing.
func (to peer) verify(state tls.ConnectionState) error {
	for i, cert := range state.PeerCertificates {
		if to.pinned(cert) && (i == 0 || to.signed(state.PeerCertificates, cert)) {
			return nil
		}
	}
	return errPins
}

// pinned reports whether the key of cert is.
func (to peer) pinned(cert *x509.Certificate) bool {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	for pins := to.pins; len(pins) >= sha256.Size; pins = pins[sha256.Size:] {
		if pins[:sha256.Size] == string(sum[:]) {
			return true
		}
	}
	return false
}

// signed reports whether a chain leads from the first of certs, which has to be
// for to's name if it has one, to authority.
func (to peer) signed(certs []*x509.Certificate, authority *x509.Certificate) bool {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(authority)
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	_, err := certs[0].Verify(x509.VerifyOptions{DNSName: to.name, Roots: roots, Intermediates: between})
	return err == nil
}

// sessions are the TLS sessions with one peer. Package tls keeps them by the
// server's name alone, but a session must not be resumed with a server that
// would have to prove itself by something else.
type sessions struct {
	to    peer
	cache tls.ClientSessionCache // of all peers
}

// Get implements [tls.ClientSessionCache].
func (s sessions) Get(key string) (*tls.ClientSessionState, bool) { return s.cache.Get(s.key(key)) }

// Put implements [tls.ClientSessionCache].
func (s sessions) Put(key string, state *tls.ClientSessionState) { s.cache.Put(s.key(key), state) }

func (s sessions) key(key string) string {
	return fmt.Sprintf("%s %v %q %x %s", s.to.addr, s.to.over, s.to.name, s.to.pins, key)
}
