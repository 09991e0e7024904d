// Package clients asks a server over every transport that clients use: for `shirube
// verify`, and for tests of the whole.
package clients

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"shirube/internal/wire"
)

// Path is where queries go over HTTP, unless a [Way] says otherwise.
const Path = "/dns-query"

// maxHTTPBody is how much of a response over HTTP, or of a stream of QUIC, is read,
// in octets: one more than a message can have, and its length.
const maxHTTPBody = wire.MaxMsgSize + 3

// Asker asks a server over one transport. One over DoQ or over HTTP/2 and HTTP/3 may
// be used concurrently: each query has a stream. The others are not to be.
type Asker interface {
	// Ask sends query, and returns the response. An error is that of the
	// connection, or that the server had nothing to say.
	Ask(ctx context.Context, query []byte) ([]byte, error)
	io.Closer
}

// A Way is a transport and how to use it.
type Way struct {
	Name  string
	Proto wire.Proto
	Clear bool   // DoH without TLS
	Path  string // of DoH; "": [Path]

	tokens quic.TokenStore // DoQ: of earlier connections; nil: all are the first
	dial   func(ctx context.Context, w Way, from netip.Addr, to netip.AddrPort, config *tls.Config) (Asker, error)
}

// Ways returns all there are.
func Ways() []Way {
	return []Way{
		{Name: "UDP", Proto: wire.UDP, dial: dialUDP},
		{Name: "TCP", Proto: wire.TCP, dial: dialTCP},
		{Name: "DoT", Proto: wire.DoT, dial: dialDoT},
		{Name: "DoH by HTTP/1.1 POST", Proto: wire.DoH, dial: web{major: 1}.dial},
		{Name: "DoH by HTTP/1.1 GET", Proto: wire.DoH, dial: web{major: 1, get: true}.dial},
		{Name: "DoH by HTTP/2 POST", Proto: wire.DoH, dial: web{major: 2}.dial},
		{Name: "DoH by HTTP/2 GET", Proto: wire.DoH, dial: web{major: 2, get: true}.dial},
		{Name: "DoH by HTTP/2 in cleartext", Proto: wire.DoH, Clear: true, dial: web{major: 2, clear: true}.dial},
		{Name: "DoH3 by POST", Proto: wire.DoH3, dial: web{major: 3}.dial},
		{Name: "DoH3 by GET", Proto: wire.DoH3, dial: web{major: 3, get: true}.dial},
		{Name: "DoQ", Proto: wire.DoQ, dial: dialDoQ},
	}
}

// Returning returns w as a client of DoQ uses it that comes back: it shows the token
// that it was given (RFC 9000 §8.1.3), and asks in 0-RTT (RFC 9250 §4.5) where the
// session cache of Dial's config has what that takes.
func (w Way) Returning() Way {
	w.tokens = quic.NewLRUTokenStore(1, 4) // servers, and tokens of each
	return w
}

// Session is how a connection of DoQ came to be.
type Session struct {
	Resumed bool // the handshake had no certificate
	Early   bool // what was sent before its end was taken
}

// SessionOf returns that of an [Asker] over DoQ; of others it says nothing.
func SessionOf(a Asker) Session {
	c, ok := a.(doq)
	if !ok {
		return Session{}
	}
	s := c.conn.ConnectionState()
	return Session{Resumed: s.TLS.DidResume, Early: s.Used0RTT}
}

// Dial connects from an address of this machine, the zero Addr for any, to a server
// that config trusts.
func (w Way) Dial(ctx context.Context, from netip.Addr, to netip.AddrPort, config *tls.Config) (Asker, error) {
	return w.dial(ctx, w, from, to, config.Clone())
}

// udp asks over UDP.
type udp struct{ net.Conn }

func dialUDP(ctx context.Context, _ Way, from netip.Addr, to netip.AddrPort, _ *tls.Config) (Asker, error) {
	var d net.Dialer
	if from.IsValid() {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	c, err := d.DialContext(ctx, "udp", to.String())
	return udp{c}, err
}

func (c udp) Ask(ctx context.Context, query []byte) ([]byte, error) {
	if err := until(ctx, c); err != nil {
		return nil, err
	}
	if _, err := c.Write(query); err != nil {
		return nil, err
	}
	b := make([]byte, wire.MaxMsgSize)
	n, err := c.Read(b)
	return b[:n], err
}

// until gives c the deadline of ctx.
func until(ctx context.Context, c net.Conn) error {
	deadline, _ := ctx.Deadline()
	return c.SetDeadline(deadline)
}

// stream asks over TCP, with TLS or without.
type stream struct{ net.Conn }

func tcpDialer(from netip.Addr) *net.Dialer {
	if !from.IsValid() {
		return new(net.Dialer)
	}
	return &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
}

func dialTCP(ctx context.Context, _ Way, from netip.Addr, to netip.AddrPort, _ *tls.Config) (Asker, error) {
	c, err := tcpDialer(from).DialContext(ctx, "tcp", to.String())
	return stream{c}, err
}

func dialDoT(ctx context.Context, _ Way, from netip.Addr, to netip.AddrPort, config *tls.Config) (Asker, error) {
	config.NextProtos = []string{"dot"}
	c, err := (&tls.Dialer{NetDialer: tcpDialer(from), Config: config}).DialContext(ctx, "tcp", to.String())
	return stream{c}, err
}

func (c stream) Ask(ctx context.Context, query []byte) ([]byte, error) {
	if err := until(ctx, c); err != nil {
		return nil, err
	}
	if _, err := c.Write(framed(query)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(c, b)
	return b, err
}

// framed returns a message behind its length (RFC 1035 §4.2.2).
func framed(msg []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...)
}

// web asks over HTTP.
type web struct {
	major      int
	get, clear bool

	url    string
	client *http.Client
	end    func() error
}

func (w web) dial(_ context.Context, how Way, from netip.Addr, to netip.AddrPort, config *tls.Config) (Asker, error) {
	path := cmp.Or(how.Path, Path)
	w.url = "https://" + to.String() + path
	if w.major == 3 {
		socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)))
		if err != nil {
			return nil, err
		}
		t := &quic.Transport{Conn: socket}
		h := &http3.Transport{TLSClientConfig: config, Dial: func(ctx context.Context, _ string, config *tls.Config, conf *quic.Config) (*quic.Conn, error) {
			return t.DialEarly(ctx, net.UDPAddrFromAddrPort(to), config, conf)
		}}
		w.client, w.end = &http.Client{Transport: h}, func() error { return errors.Join(h.Close(), t.Close(), socket.Close()) }
		return w, nil
	}
	p := new(http.Protocols)
	p.SetHTTP1(w.major == 1)
	p.SetHTTP2(w.major == 2 && !w.clear)
	p.SetUnencryptedHTTP2(w.clear)
	if w.clear {
		w.url = "http://" + to.String() + path
	}
	h := &http.Transport{TLSClientConfig: config, Protocols: p, DialContext: tcpDialer(from).DialContext, DisableCompression: true}
	w.client, w.end = &http.Client{Transport: h}, func() error { h.CloseIdleConnections(); return nil }
	return w, nil
}

func (w web) Close() error { return w.end() }

func (w web) Ask(ctx context.Context, query []byte) ([]byte, error) {
	const media = "application/dns-message"
	method, url, body := http.MethodPost, w.url, io.Reader(bytes.NewReader(query))
	if w.get {
		method, url, body = http.MethodGet, w.url+"?dns="+base64.RawURLEncoding.EncodeToString(query), nil
	}
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", media)
	if !w.get {
		r.Header.Set("Content-Type", media)
	}
	rsp, err := w.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rsp.Body.Close() }() // read to its end
	msg, err := io.ReadAll(io.LimitReader(rsp.Body, maxHTTPBody))
	switch {
	case err != nil:
		return nil, err
	case len(msg) > wire.MaxMsgSize:
		return nil, fmt.Errorf("a response of more than %d octets", wire.MaxMsgSize)
	case rsp.StatusCode != http.StatusOK || rsp.ProtoMajor != w.major || rsp.Header.Get("Content-Type") != media:
		return nil, fmt.Errorf("%s %s, %s", rsp.Proto, rsp.Status, rsp.Header.Get("Content-Type"))
	}
	return msg, nil
}

// doq asks over QUIC.
type doq struct {
	conn *quic.Conn
	end  func() error
}

func dialDoQ(ctx context.Context, w Way, from netip.Addr, to netip.AddrPort, config *tls.Config) (Asker, error) {
	config.NextProtos = []string{"doq"}
	if config.ServerName == "" {
		config.ServerName = to.Addr().String()
	}
	socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)))
	if err != nil {
		return nil, err
	}
	t := &quic.Transport{Conn: socket}
	end := func() error { return errors.Join(t.Close(), socket.Close()) }
	dial := t.Dial
	if w.tokens != nil {
		dial = t.DialEarly
	}
	c, err := dial(ctx, net.UDPAddrFromAddrPort(to), config, &quic.Config{TokenStore: w.tokens})
	if err != nil {
		return nil, errors.Join(err, end())
	}
	return doq{c, end}, nil
}

func (c doq) Close() error { return errors.Join(c.conn.CloseWithError(0, ""), c.end()) }

// Ask sends query with the ID 0, and puts its own back into the response (RFC 9250
// §4.2.1).
func (c doq) Ask(ctx context.Context, query []byte) ([]byte, error) {
	str, err := c.conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	if err := str.SetDeadline(deadline); err != nil {
		return nil, err
	}
	msg := framed(query)
	msg[2], msg[3] = 0, 0
	if _, err := str.Write(msg); err != nil {
		return nil, err
	}
	if err := str.Close(); err != nil {
		return nil, err
	}
	rsp, err := io.ReadAll(io.LimitReader(str, maxHTTPBody))
	switch {
	case err != nil:
		return nil, err
	case len(rsp) < 4 || int(binary.BigEndian.Uint16(rsp)) != len(rsp)-2:
		return nil, errors.New("a response of another length than it says")
	}
	copy(rsp[2:4], query)
	return rsp[2:], nil
}
