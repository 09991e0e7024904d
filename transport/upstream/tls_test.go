package upstream

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/exchange"
	"shirube/internal/wire"
)

// identity is a certificate with its key.
type identity struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// pin returns what the identity is pinned by.
func (i identity) pin() []byte {
	sum := sha256.Sum256(i.cert.RawSubjectPublicKeyInfo)
	return sum[:]
}

// newIdentity returns one that parent signed, or itself if parent is zero.
func newIdentity(t testing.TB, parent identity, edit func(*x509.Certificate)) identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: serial.String()},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	edit(template)
	if parent.cert == nil {
		parent = identity{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, &key.PublicKey, parent.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return identity{cert, key}
}

// newAuthority returns a certificate authority.
func newAuthority(t testing.TB) identity {
	return newIdentity(t, identity{}, func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	})
}

// server returns a certificate for a server at these names.
func (i identity) server(t testing.TB, names ...string) identity {
	return newIdentity(t, i, func(c *x509.Certificate) {
		c.DNSNames = names
		c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})
}

// roots returns a pool of the identities' certificates.
func roots(ids ...identity) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, i := range ids {
		pool.AddCert(i.cert)
	}
	return pool
}

// secured is an authority over TLS.
type secured struct {
	authority

	mu     sync.Mutex
	states []tls.ConnectionState // of handshakes that ended well
}

// serveTLS serves the script with the certificates of chain, and the key of the
// first. Over UDP and TCP there is nobody to be heard.
func serveTLS(t testing.TB, script func(asked) []byte, chain []identity, edits ...func(*tls.Config)) *secured {
	t.Helper()
	s := &secured{authority: authority{script: script}}
	config := &tls.Config{NextProtos: []string{"dot"}, MinVersion: tls.VersionTLS12}
	leaf := tls.Certificate{PrivateKey: chain[0].key}
	for _, i := range chain {
		leaf.Certificate = append(leaf.Certificate, i.cert.Raw)
	}
	config.Certificates = []tls.Certificate{leaf}
	for _, edit := range edits {
		edit(config)
	}
	plain := func(d datagram) { t.Errorf("a datagram in the clear: %x", d.query) }
	s.addr = serveBoth(t, plain, func(conn net.Conn) {
		c := tls.Server(conn, config)
		if err := c.HandshakeContext(t.Context()); err != nil {
			return
		}
		s.mu.Lock()
		s.states = append(s.states, c.ConnectionState())
		s.mu.Unlock()
		s.tcp(c)
	})
	return s
}

// answering answers all.
func answering(a asked) []byte { return good(a.raw) }

// overTLS returns a request to s for how it is known.
func overTLS(s *secured, name string, pins ...[]byte) exchange.Request {
	req := request(s.addr)
	req.TLS = &exchange.TLS{Name: name, Pins: pins}
	return req
}

func TestExchangeOverTLSKnowsTheServerByItsName(t *testing.T) {
	ca := newAuthority(t)
	s := serveTLS(t, answering, []identity{ca.server(t, "dns.example")})
	for _, name := range []string{"dns.example", "DNS.Example.", "127.0.0.1"} {
		c := newClient(t, Options{RootCAs: roots(ca), CaseRandomisation: true, Cookies: true, TCPOnMismatch: true})
		for range 2 {
			if resp := exchangeOK(t, c, overTLS(s, name)); !resp.TCP || resp.Cookie || resp.Resent != 0 {
				t.Errorf("%+v", resp)
			}
		}
		if got := c.Stats(); got.Connections != (Connections{Open: 1, Made: 1, Secured: 1}) || got.UDP != (Sent{}) || got.TCP != (Sent{IPv4: 2}) || got.Servers.Known != 0 {
			t.Errorf("Stats are %+v", got)
		}
		c.Close()
	}
	for _, state := range s.states {
		if state.NegotiatedProtocol != "dot" || state.Version < tls.VersionTLS12 {
			t.Errorf("protocol %q, version %x", state.NegotiatedProtocol, state.Version)
		}
	}
	for _, q := range s.queries() {
		if q.cookie() != nil || q.spelling() != "www.example." {
			t.Errorf("a cookie or a spelling, which tell more than they protect:\n%v", q.msg)
		}
	}
}

func TestExchangeOverTLSPadsToBlocks(t *testing.T) { // RFC 8467 §4.1
	ca := newAuthority(t)
	s := serveTLS(t, answering, []identity{ca.server(t, "dns.example")})
	c := newClient(t, Options{RootCAs: roots(ca)})
	for labels := range 120 {
		req := overTLS(s, "dns.example")
		req.Question.Name = wire.MustParseName(strings.Repeat("a.", labels+1))
		exchangeOK(t, c, req)
	}
	sizes := map[int]int{}
	for _, q := range s.queries() {
		sizes[len(q.raw)]++
	}
	if len(sizes) != 3 || sizes[128] == 0 || sizes[256] == 0 || sizes[384] == 0 {
		t.Errorf("octets: queries are %v", sizes)
	}
	req := overTLS(s, "dns.example")
	req.Bare = true
	exchangeOK(t, c, req)
	if q := s.queries()[0]; len(q.raw) != 12+len(question.Name)+4 {
		t.Errorf("%d octets without EDNS", len(q.raw))
	}
}

func TestExchangeOverTLSRefusesWhoIsNotTheServer(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	right := ca.server(t, "dns.example")
	expired := newIdentity(t, ca, func(c *x509.Certificate) {
		c.DNSNames, c.NotAfter = []string{"dns.example"}, time.Now().Add(-time.Minute)
	})
	forClients := newIdentity(t, ca, func(c *x509.Certificate) {
		c.DNSNames, c.ExtKeyUsage = []string{"dns.example"}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
	wrong := newIdentity(t, identity{}, func(*x509.Certificate) {}).pin()
	for name, test := range map[string]struct {
		chain []identity
		name  string
		pins  [][]byte
	}{
		"another name":                   {[]identity{right}, "dns.example.net", nil},
		"another address":                {[]identity{right}, "127.0.0.2", nil},
		"unknown authority":              {[]identity{other.server(t, "dns.example")}, "dns.example", nil},
		"authority sent along":           {[]identity{other.server(t, "dns.example"), other}, "dns.example", nil},
		"expired":                        {[]identity{expired}, "dns.example", nil},
		"for clients":                    {[]identity{forClients}, "dns.example", nil},
		"another key":                    {[]identity{right}, "", [][]byte{wrong}},
		"another key, right name":        {[]identity{right}, "dns.example", [][]byte{wrong}},
		"pinned authority sent along":    {[]identity{other.server(t, "dns.example"), ca}, "", [][]byte{ca.pin()}},
		"pinned authority, another name": {[]identity{right, ca}, "dns.example.net", [][]byte{ca.pin()}},
		"pinned certificate sent along":  {[]identity{other.server(t, "dns.example"), right}, "dns.example", [][]byte{right.pin()}},
	} {
		s := serveTLS(t, answering, test.chain)
		var log bytes.Buffer
		c := newClient(t, Options{RootCAs: roots(ca), Log: slog.New(slog.NewTextHandler(&log, nil))})
		for range 2 {
			resp, err := c.Exchange(context.Background(), overTLS(s, test.name, test.pins...))
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Op != "handshake" || e.Over != wire.DoT || resp.Msg != nil || !strings.Contains(err.Error(), "over DoT: handshake") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if got := c.Stats(); got.Errors != (Errors{Untrusted: 2}) || got.TCP != (Sent{}) || got.Connections != (Connections{}) {
			t.Errorf("%s: Stats are %+v", name, got)
		}
		if strings.Count(log.String(), "level=WARN") != 1 || !strings.Contains(log.String(), s.addr.String()) {
			t.Errorf("%s: logged\n%s", name, &log)
		}
		if n := len(s.queries()); n != 0 {
			t.Errorf("%s: told them %d queries", name, n)
		}
	}
}

func TestExchangeOverTLSKnowsTheServerByItsKey(t *testing.T) { // RFC 7858 §4.2
	ca := newAuthority(t)
	right := ca.server(t, "dns.example")
	alone := newIdentity(t, identity{}, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	between := newIdentity(t, ca, func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	})
	below := between.server(t, "dns.example")
	wrong := newIdentity(t, identity{}, func(*x509.Certificate) {}).pin()
	for name, test := range map[string]struct {
		chain []identity
		name  string
		pins  [][]byte
	}{
		"the certificate's":             {[]identity{right}, "", [][]byte{right.pin()}},
		"whatever the name":             {[]identity{right}, "dns.example.net", [][]byte{right.pin()}},
		"self-signed and expired":       {[]identity{alone}, "", [][]byte{alone.pin()}},
		"the second of two":             {[]identity{right}, "", [][]byte{wrong, right.pin()}},
		"its authority's":               {[]identity{right, ca}, "dns.example", [][]byte{ca.pin()}},
		"its authority's, without name": {[]identity{right, ca}, "", [][]byte{ca.pin()}},
		"an authority's in between":     {[]identity{below, between}, "dns.example", [][]byte{between.pin()}},
		"that authority's authority's":  {[]identity{below, between, ca}, "dns.example", [][]byte{ca.pin()}},
	} {
		s := serveTLS(t, answering, test.chain)
		c := newClient(t, Options{RootCAs: roots()})
		if _, err := c.Exchange(context.Background(), overTLS(s, test.name, test.pins...)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		c.Close()
	}
}

func TestExchangeOverTLSNeedsVersion12(t *testing.T) {
	ca := newAuthority(t)
	for version, ok := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		s := serveTLS(t, answering, []identity{ca.server(t, "dns.example")}, func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version })
		_, err := newClient(t, Options{RootCAs: roots(ca)}).Exchange(context.Background(), overTLS(s, "dns.example"))
		if (err == nil) != ok {
			t.Errorf("version %x: %v", version, err)
		}
	}
}

// Unbound, April 2026: a connection that was authenticated for one name was used
// for another.
func TestConnectionsAreNotSharedAcrossNamesOrKeys(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	id := ca.server(t, "a.example", "b.example")
	s := serveTLS(t, answering, []identity{id})
	c := newClient(t, Options{RootCAs: roots(ca)})
	for i, req := range []exchange.Request{
		overTLS(s, "a.example"), overTLS(s, "b.example"), overTLS(s, "a.example", id.pin()), overTLS(s, "", id.pin()),
		overTLS(s, "", stranger.pin(), id.pin()),
	} {
		for range 2 {
			exchangeOK(t, c, req)
		}
		if got := c.Stats().Connections; got != (Connections{Open: int64(i + 1), Made: uint64(i + 1), Secured: uint64(i + 1)}) {
			t.Errorf("%d: %+v", i, got)
		}
	}
	for _, req := range []exchange.Request{overTLS(s, "c.example"), overTLS(s, "", stranger.pin()), overTLS(s, "a.example", stranger.pin())} {
		if _, err := c.Exchange(context.Background(), req); err == nil {
			t.Errorf("%+v was taken for who it is not", req.TLS)
		}
	}
	req := request(s.addr)
	req.TCP, req.Timeout = true, 100*time.Millisecond
	if _, err := c.Exchange(context.Background(), req); err == nil {
		t.Error("asked in the clear, on a connection with TLS")
	}
}

func TestSessionsAreResumedWithTheSamePeerOnly(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	id := ca.server(t, "a.example", "b.example")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		s := serveTLS(t, asksToKeep(0), []identity{id}, func(c *tls.Config) { c.MaxVersion = version }) // a connection for each
		c := newClient(t, Options{RootCAs: roots(ca)})
		ask := func(name string, pins ...[]byte) error {
			_, err := c.Exchange(context.Background(), overTLS(s, name, pins...))
			eventually(t, "the connection is closed", func() bool { return c.Stats().Connections.Open == 0 })
			return err
		}
		for _, test := range []struct {
			name    string
			pins    [][]byte
			resumed uint64 // in all, so far
		}{
			{"a.example", nil, 0},
			{"a.example", nil, 1},
			{"b.example", nil, 1},
			{"b.example", nil, 2},
			{"a.example", [][]byte{id.pin()}, 2},
			{"a.example", [][]byte{id.pin()}, 3},
		} {
			if err := ask(test.name, test.pins...); err != nil {
				t.Fatalf("%x, %s: %v", version, test.name, err)
			}
			if got := c.Stats().Connections.Resumed; got != test.resumed {
				t.Errorf("%x, %s with %d pins: %d resumed, want %d", version, test.name, len(test.pins), got, test.resumed)
			}
		}
		if err := ask("a.example", stranger.pin()); err == nil {
			t.Errorf("%x: a session was resumed with a server that has another key", version)
		}
		c.Close()
	}
}

func TestSessionsAreBounded(t *testing.T) {
	c := newClient(t, Options{})
	state := new(tls.ClientSessionState)
	kept := 0
	for i := range 3 * maxSessions {
		sessions{to: peer{addr: numbered(i)}, cache: c.sessions}.Put("key", state)
	}
	for i := range 3 * maxSessions {
		if _, ok := (sessions{to: peer{addr: numbered(i)}, cache: c.sessions}).Get("key"); ok {
			kept++
		}
	}
	if kept != maxSessions {
		t.Errorf("%d sessions are remembered, %d are the most", kept, maxSessions)
	}
}

func TestExchangeOverTLSSharesAConnection(t *testing.T) {
	ca := newAuthority(t)
	s := serveTLS(t, answering, []identity{ca.server(t, "dns.example")})
	c := newClient(t, Options{RootCAs: roots(ca), Pipelined: 10, ConnectionsPerServer: 1})
	var all sync.WaitGroup
	for range 60 {
		all.Go(func() { // ends with its exchange
			if _, err := c.Exchange(context.Background(), overTLS(s, "dns.example")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := c.Stats().Connections; got.Made != 1 || got.Waited == 0 {
		t.Errorf("%+v", got)
	}
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	for _, l := range c.pool.lines {
		if got := l.conns[0].idleFor; got != 15*time.Second {
			t.Errorf("kept idle for %v", got)
		}
	}
}

func TestExchangeOverTLSNeverGoesInTheClear(t *testing.T) {
	udp := func(d datagram) { t.Errorf("a datagram: %x", d.query) }
	for name, handle := range map[string]func(net.Conn){
		"closed":  func(net.Conn) {},
		"silent":  silentTCP,
		"garbage": func(conn net.Conn) { write(conn, []byte("this is no TLS at all, is it? no")); silentTCP(conn) },
		"an alert": func(conn net.Conn) {
			write(conn, []byte{21, 3, 3, 0, 2, 2, 40}) // handshake_failure
			if b, err := io.ReadAll(conn); err == nil && bytes.Contains(b, []byte("www")) {
				t.Errorf("in the clear: %q", b)
			}
		},
	} {
		server := serveBoth(t, udp, handle)
		c := newClient(t, Options{})
		req := request(server)
		req.TLS, req.Timeout = &exchange.TLS{Name: "dns.example"}, 50*time.Millisecond
		start := time.Now()
		_, err := c.Exchange(context.Background(), req)
		if e, ok := errors.AsType[*Error](err); !ok || e.Over != wire.DoT || time.Since(start) > patience {
			t.Errorf("%s: %v after %v", name, err, time.Since(start))
		}
		if name == "silent" && (!errors.Is(err, exchange.ErrTimeout) || time.Since(start) < 150*time.Millisecond) {
			t.Errorf("%s: %v after %v", name, err, time.Since(start))
		}
		if got := c.Stats(); got.TCP != (Sent{}) || got.Errors.Untrusted != 0 {
			t.Errorf("%s: Stats are %+v", name, got)
		}
		c.Close()
	}
}

func TestExchangeRefusesTLSWithoutIdentity(t *testing.T) {
	pin := make([]byte, 32)
	for name, auth := range map[string]exchange.TLS{
		"nothing":      {},
		"short pin":    {Name: "dns.example", Pins: [][]byte{pin[:31]}},
		"long pin":     {Pins: [][]byte{pin, append(pin, 0)}},
		"many pins":    {Pins: make([][]byte, maxPins+1)},
		"an empty pin": {Pins: [][]byte{nil}},
	} {
		req := request(netip.MustParseAddrPort("127.0.0.1:853"))
		req.TLS = &auth
		if _, err := newClient(t, Options{}).Exchange(context.Background(), req); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestExchangeAsksForRecursionAndNoChecking(t *testing.T) {
	s := serveScript(t, answering)
	c := newClient(t, Options{CaseRandomisation: true, Cookies: true})
	for _, tcp := range []bool{false, true} {
		for _, bits := range [][2]bool{{false, false}, {true, false}, {true, true}} {
			req := request(s.addr)
			req.TCP, req.RD, req.CD = tcp, bits[0], bits[1]
			exchangeOK(t, c, req)
			if q := s.queries()[0].msg; q.RecursionDesired != req.RD || q.CheckingDisabled != req.CD || q.Opcode != dns.OpcodeQuery {
				t.Errorf("TCP %v, want %v:\n%v", tcp, bits, q)
			}
		}
	}
}
