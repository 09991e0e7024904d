package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"
)

// A place is where a proxy's header is, of a connection with TLS.
type place int

const (
	nowhere place = iota
	outside
	inside
	twice // outside and inside
)

func (p place) String() string { return [...]string{"nowhere", "outside", "inside", "twice"}[p] }

// connect shakes hands with a server, with a header of client at a place. An error is
// that of the handshake.
func (p place) connect(ctx context.Context, at string, header []byte, config *tls.Config) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", at)
	if err != nil {
		return nil, err
	}
	if p == outside || p == twice {
		if _, err := c.Write(header); err != nil {
			return nil, err
		}
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	t := tls.Client(c, config)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		return nil, err
	}
	if p == inside || p == twice {
		if _, err := t.Write(header); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// headerPlaces are where the server expects a header and where the client puts it.
// What is wanted is that it is answered.
var headerPlaces = []struct {
	insideTLS bool
	from      string // the proxies
	at        place
	answered  bool
}{
	{false, "127.0.0.0/8", outside, true},
	{true, "127.0.0.0/8", inside, true},
	{false, "127.0.0.0/8", inside, false},
	{true, "127.0.0.0/8", outside, false},
	{false, "127.0.0.0/8", nowhere, false},
	{true, "127.0.0.0/8", nowhere, false},
	{false, "127.0.0.0/8", twice, false},
	{true, "127.0.0.0/8", twice, false},
	{false, "192.0.2.0/24", outside, false},
	{true, "192.0.2.0/24", inside, false},
}

// TestDoTClientIsTheOneThatAHeaderOutsideOrInsideOfTLSNames: who is not heard is
// closed on, and nobody is heard as the proxy.
func TestDoTClientIsTheOneThatAHeaderOutsideOrInsideOfTLSNames(t *testing.T) {
	t.Parallel()
	const client = "198.51.100.7"
	header := headerOf(netip.MustParseAddr(client), 4711)
	for _, c := range headerPlaces {
		p, err := NewProxies([]netip.Prefix{netip.MustParsePrefix(c.from)}, c.insideTLS)
		if err != nil {
			t.Fatal(err)
		}
		conns := NewConns(ConnsOptions{PerClient: 1, Handshakes: 1}) // of which a proxy needs more
		l := listenTCP(t, "127.0.0.1:0")
		opt := TCPOptions{Handler: echo{newScripted()}}
		if c.answered { // others are closed on in their time
			opt = unhurried(opt)
		} else {
			opt.FirstByteTimeout, opt.MessageTimeout = time.Second, time.Second
		}
		s := NewTCP(opt, Secure(p.Listener(l), conns, trusted(t).server("dot")))
		s.Start(context.Background())
		shutDown(t, s)
		for range 3 {
			conn, err := c.at.connect(t.Context(), l.Addr().String(), header, trustedClient(t, "dot"))
			if err == nil {
				_, _ = conn.Write(frame(packQuery(t, 1, "hit"), packQuery(t, 2, "miss"))) // or it is closed by now
				for range 2 {
					if !c.answered {
						wantClosed(t, conn)
						break
					}
					if got, want := edeOf(t, unpack(t, receiveTCP(t, conn))), client+":4711"; got != want {
						t.Errorf("%v, inside: %v: %s is the client, want %s", c.at, c.insideTLS, got, want)
					}
				}
				_ = conn.Close()
			} else if c.answered {
				t.Errorf("%v, inside: %v: %v", c.at, c.insideTLS, err)
			}
		}
		eventually(t, "all are closed", func() bool { return s.Stats().Open == 0 && conns.Stats().Open == 0 })
		if st := s.Stats(); (st.Answered > 0) != c.answered {
			t.Errorf("%v, inside: %v: %+v", c.at, c.insideTLS, st)
		}
		s.conns.mu.Lock()
		if n := len(s.conns.clients); n != 0 {
			t.Errorf("%d clients are remembered", n)
		}
		s.conns.mu.Unlock()
	}
}

// trustedClient is the configuration of a client that knows the server by its
// address.
func trustedClient(t *testing.T, protocols ...string) *tls.Config {
	config := trusted(t).client(protocols...)
	config.ServerName = "127.0.0.1"
	return config
}

// TestDoHClientIsTheOneThatAHeaderOutsideOrInsideOfTLSNames is the same over HTTP, of
// both versions.
func TestDoHClientIsTheOneThatAHeaderOutsideOrInsideOfTLSNames(t *testing.T) {
	const client = "198.51.100.7:4711"
	header := headerOf(netip.MustParseAddr("198.51.100.7"), 4711)
	for _, c := range headerPlaces {
		p, err := NewProxies([]netip.Prefix{netip.MustParsePrefix(c.from)}, c.insideTLS)
		if err != nil {
			t.Fatal(err)
		}
		seen := make(chan netip.AddrPort, 8)
		conns := NewConns(ConnsOptions{PerClient: 1, Handshakes: 1})
		d := NewDoH(DoHOptions{
			Handler: watching{newScripted(), seen}, TLS: trusted(t).server("h2", "http/1.1"), Conns: conns,
			Proxies: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, HTTP3Port: 443,
			Timeout: patience, MessageTimeout: patience,
		})
		l := listenTCP(t, "127.0.0.1:0")
		d.Add(p.Listener(l), true)
		d.Start(context.Background())
		shutDown(t, d)
		for _, way := range webWays[:2] {
			for range 3 {
				web := way.client(t)
				tr := web.Transport.(*http.Transport)
				tr.DialTLSContext = func(ctx context.Context, _, at string) (net.Conn, error) {
					return c.at.connect(ctx, at, header, trustedClient(t, map[int]string{1: "http/1.1", 2: "h2"}[way.major]))
				}
				if way.major == 2 { // or package http would not know
					tr.Protocols.SetUnencryptedHTTP2(true)
				}
				rsp, _, err := try(t.Context(), web, http.MethodPost, "https://"+l.Addr().String()+DefaultPath, mediaType,
					bytes.NewReader(packQuery(t, 0, "hit")), "X-Forwarded-For", "192.0.2.99")
				tr.CloseIdleConnections()
				if (err == nil && rsp.StatusCode == http.StatusOK) != c.answered {
					t.Fatalf("%v, inside: %v, %s: %v, %v", c.at, c.insideTLS, way.name, rsp, err)
				}
				if !c.answered {
					continue
				}
				if got := (<-seen).String(); got != client || rsp.ProtoMajor != way.major {
					t.Errorf("%v, inside: %v, %s: %s is the client by %s, want %s", c.at, c.insideTLS, way.name, got, rsp.Proto, client)
				}
			}
		}
		eventually(t, "all are closed", func() bool { return conns.Stats().Open == 0 })
	}
}

// TestProxyInsideTLSIsCutWhenItDribbles: a handshake, and then a header that does
// not come, has no more time than a first octet.
func TestProxyInsideTLSIsCutWhenItDribbles(t *testing.T) {
	t.Parallel()
	p, err := NewProxies([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, true)
	if err != nil {
		t.Fatal(err)
	}
	header := headerOf(netip.MustParseAddr("198.51.100.7"), 4711)
	conns := NewConns(ConnsOptions{})
	const cut = 2 * time.Second // enough for a handshake on a busy machine
	dot, web := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
	s := NewTCP(TCPOptions{Handler: newScripted(), FirstByteTimeout: cut}, Secure(p.Listener(dot), conns, trusted(t).server("dot")))
	s.Start(context.Background())
	shutDown(t, s)
	d := NewDoH(DoHOptions{Handler: newScripted(), Conns: conns, TLS: trusted(t).server("h2", "http/1.1"), MessageTimeout: cut})
	d.Add(p.Listener(web), true)
	d.Start(context.Background())
	shutDown(t, d)
	var waiting sync.WaitGroup
	for _, l := range []net.Listener{dot, web} {
		for _, n := range []int{0, 1, 17, len(header) - 1} {
			waiting.Go(func() {
				c, err := inside.connect(t.Context(), l.Addr().String(), header[:n], trustedClient(t, "dot", "h2"))
				if err != nil {
					t.Error(err)
					return
				}
				defer func() { _ = c.Close() }()
				if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("the connection is open: %d octets, %v", n, err)
				}
			})
		}
	}
	waiting.Wait()
	eventually(t, "all are closed", func() bool { return conns.Stats().Open == 0 })
}
