package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"

	"shirube/internal/exchange"
)

// besides is what an authority has besides its port for the clear.
type besides struct {
	authority

	mu    sync.Mutex
	names []string // that the handshakes told (SNI)
}

// selfSigned returns a configuration with a certificate that nobody can verify.
func (s *besides) selfSigned(t testing.TB, protocol string) *tls.Config {
	t.Helper()
	id := newAuthority(t)
	cert := tls.Certificate{Certificate: [][]byte{id.cert.Raw}, PrivateKey: id.key}
	return &tls.Config{NextProtos: []string{protocol}, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.names = append(s.names, hello.ServerName)
		return &cert, nil
	}}
}

// serveDoT serves the script over TLS until the test ends.
func serveDoT(t testing.TB, script func(asked) []byte) *besides {
	t.Helper()
	s := &besides{authority: authority{script: script}}
	config := s.selfSigned(t, "dot")
	s.addr = serveTCP(t, "127.0.0.1", func(conn net.Conn) {
		secure := tls.Server(conn, config)
		if secure.Handshake() == nil {
			s.tcp(secure)
		}
	})
	return s
}

// serveDoQ serves the script over QUIC until the test ends.
func serveDoQ(t testing.TB, script func(asked) []byte) *besides {
	t.Helper()
	s := &besides{authority: authority{script: script}}
	l, err := quic.ListenAddr("127.0.0.1:0", s.selfSigned(t, "doq"), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.addr = addrPortOf(l.Addr())
	var all sync.WaitGroup
	all.Go(func() { // ends with the listener; so do the others
		for {
			conn, err := l.Accept(context.Background())
			if err != nil {
				return
			}
			all.Go(func() { s.quic(conn, &all) })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return s
}

func (s *besides) quic(conn *quic.Conn, all *sync.WaitGroup) {
	for {
		str, err := conn.AcceptStream(context.Background())
		if err != nil {
			return
		}
		all.Go(func() {
			defer str.Close()
			if q, err := readFrame(bufio.NewReader(str)); err == nil {
				if b := s.answer(q, true); b != nil {
					_, _ = str.Write(frame(b)) // to who may have gone
				}
			}
		})
	}
}

// hopeful returns a client that looks for encrypted transports of open at at.
func hopeful(t testing.TB, open, at netip.AddrPort, edit func(*Options)) *Client {
	t.Helper()
	o := Options{CaseRandomisation: true, Cookies: true, Opportunistic: Opportunistic{DoT: true, Port: at.Port(), Clear: open.Port()}}
	if edit != nil {
		edit(&o)
	}
	return newClient(t, o)
}

// overQUIC has DoQ looked for, and not DoT.
func overQUIC(o *Options) { o.Opportunistic.DoT, o.Opportunistic.DoQ = false, true }

// lookedFor asks a question in the open, and waits until it is known what the server
// has besides.
func lookedFor(t *testing.T, c *Client, open netip.AddrPort) Encryption {
	t.Helper()
	if resp := exchangeOK(t, c, request(open)); resp.TCP {
		t.Errorf("asked encrypted before that was tried")
	}
	eventually(t, "the probe ends", func() bool { return c.Stats().Encryption.Probes > 0 && c.probing.Load() == 0 })
	return c.Stats().Encryption
}

func TestAuthoritiesThatCanAreAskedEncrypted(t *testing.T) {
	for name, test := range map[string]struct {
		serve func(testing.TB, func(asked) []byte) *besides
		edit  func(*Options)
	}{
		"DoT": {serveDoT, nil},
		"DoQ": {serveDoQ, overQUIC},
	} {
		open, secure := serveScript(t, answering), test.serve(t, answering)
		c := hopeful(t, open.addr, secure.addr, test.edit)
		if got := lookedFor(t, c, open.addr); got != (Encryption{Probes: 1, Worked: 1}) {
			t.Fatalf("%s: %+v", name, got)
		}
		for range 5 {
			if resp := exchangeOK(t, c, request(open.addr)); !resp.TCP || resp.Cookie || resp.Resent != 0 {
				t.Errorf("%s: %+v", name, resp)
			}
		}
		got := c.Stats()
		if got.Encryption != (Encryption{Probes: 1, Worked: 1, Answers: 5}) || got.Connections.Made != 1 || got.Connections.Secured != 1 {
			t.Errorf("%s: %+v, %+v", name, got.Encryption, got.Connections)
		}
		if sent := got.TCP.IPv4 + got.DoQ.IPv4; sent != 5 || got.UDP != (Sent{IPv4: 1}) || len(open.queries()) != 1 {
			t.Errorf("%s: %+v", name, got)
		}
		for _, q := range secure.queries() {
			if len(q.raw)%paddingBlock != 0 || q.cookie() != nil || q.spelling() != "www.example." || name == "DoQ" && (q.msg.Id != 0 || len(q.msg.IsEdns0().Option) != 1) {
				t.Errorf("%s: %v", name, q.msg) // RFC 9250 §4.2.1, §5.5.2: no ID, no keepalive
			}
		}
		if len(secure.names) != 1 || secure.names[0] != "" {
			t.Errorf("%s: names %q are told", name, secure.names)
		}
	}
}

func TestNothingIsTriedThatWasNotAskedFor(t *testing.T) {
	secure := serveDoT(t, answering)
	open := serveScript(t, answering)
	elsewhere := serveScript(t, answering)
	for name, test := range map[string]struct {
		edit func(*Options)
		req  func(*exchange.Request)
	}{
		"off":          {func(o *Options) { o.Opportunistic.DoT = false }, func(*exchange.Request) {}},
		"forwarder":    {nil, func(r *exchange.Request) { r.RD = true }},
		"another port": {nil, func(r *exchange.Request) { r.Server = elsewhere.addr }},
	} {
		c := hopeful(t, open.addr, secure.addr, test.edit)
		for range 3 {
			req := request(open.addr)
			test.req(&req)
			exchangeOK(t, c, req)
		}
		if got := c.Stats(); got.Encryption != (Encryption{}) || got.Connections.Made != 0 {
			t.Errorf("%s: %+v", name, got.Encryption)
		}
	}
}

// later lets d pass for what c knows of a server's ways.
func later(c *Client, open netip.AddrPort, d time.Duration) {
	c.servers.update(open, time.Now().UnixNano(), func(s *server) {
		for w := range s.ways {
			s.ways[w].since -= int64(d)
		}
	})
}

func TestAuthoritiesThatCannotAreLeftAloneForADay(t *testing.T) {
	for name, handle := range map[string]func(net.Conn){
		"closes":          func(net.Conn) {},
		"no TLS":          func(conn net.Conn) { write(conn, []byte("220 mail.example ESMTP\r\n")); silentTCP(conn) },
		"another service": func(conn net.Conn) { write(conn, []byte{21, 3, 3, 0, 2, 2, 120}) }, // no_application_protocol
	} {
		open, other := serveScript(t, answering), serveTCP(t, "127.0.0.1", handle)
		c := hopeful(t, open.addr, other, nil)
		lookedFor(t, c, open.addr)
		later(c, open.addr, damping-time.Minute)
		for range 5 {
			exchangeOK(t, c, request(open.addr))
		}
		if got := c.Stats().Encryption; got != (Encryption{Probes: 1, Failed: 1}) {
			t.Errorf("%s: %+v", name, got)
		}
		later(c, open.addr, time.Minute)
		exchangeOK(t, c, request(open.addr))
		eventually(t, "it is tried again after a day", func() bool { return c.Stats().Encryption.Failed == 2 })
	}
}

func TestAuthoritiesAreTriedAnewAfterThreeDays(t *testing.T) {
	open, secure := serveScript(t, answering), serveDoT(t, answering)
	c := hopeful(t, open.addr, secure.addr, nil)
	lookedFor(t, c, open.addr)
	later(c, open.addr, persistence-time.Minute)
	if resp := exchangeOK(t, c, request(open.addr)); !resp.TCP {
		t.Error("in the clear before that")
	}
	later(c, open.addr, 2*time.Minute)
	if resp := exchangeOK(t, c, request(open.addr)); !resp.TCP {
		t.Error("the last answer does not count")
	}
	later(c, open.addr, persistence)
	if resp := exchangeOK(t, c, request(open.addr)); resp.TCP {
		t.Error("encrypted, without a look")
	}
	eventually(t, "it is tried again", func() bool { return c.Stats().Encryption.Worked == 2 })
}

// RFC 9539 §4.6.1: nobody waits for a probe.
func TestProbesDelayNoQuestion(t *testing.T) {
	open := serveScript(t, answering)
	for name, edit := range map[string]func(*Options){"DoT": nil, "DoQ": overQUIC} {
		silent := serveBoth(t, func(datagram) {}, silentTCP)
		c := hopeful(t, open.addr, silent, edit)
		for range 20 {
			if resp := exchangeOK(t, c, request(open.addr)); resp.TCP {
				t.Errorf("%s: %+v", name, resp)
			}
		}
		if n, got := c.probing.Load(), c.Stats().Encryption; n != 1 || got != (Encryption{Probes: 1}) {
			t.Errorf("%s: %d probes under way, %+v", name, n, got)
		}
		c.Close() // ends it
		if n := c.probing.Load(); n != 0 {
			t.Errorf("%s: %d probes are left", name, n)
		}
	}
}

func TestProbesAreBounded(t *testing.T) {
	silent := serveTCP(t, "0.0.0.0", silentTCP)
	c := hopeful(t, netip.MustParseAddrPort("127.0.0.1:53"), silent, func(o *Options) { overQUIC(o); o.Opportunistic.DoT = true })
	now := time.Now().UnixNano()
	for i := range maxProbes + 10 {
		c.probe(netip.MustParseAddrPort(fmt.Sprintf("127.0.7.%d:53", i+1)), wayTLS, now)
		c.probe(netip.MustParseAddrPort("127.0.7.1:53"), wayTLS, now) // is under way
	}
	if n, got := c.probing.Load(), c.Stats().Encryption; n != maxProbes || got.Deferred < 10 {
		t.Errorf("%d probes under way, %+v", n, got)
	}
	goroutines := runtime.NumGoroutine()
	c.Close()
	settles(t, "goroutines", goroutines-maxProbes, runtime.NumGoroutine)
}

func TestQuestionsFallBackToTheClear(t *testing.T) {
	for name, test := range map[string]struct {
		serve  func(testing.TB, func(asked) []byte) *besides
		edit   func(*Options)
		answer func([]byte) []byte // once it is asked questions
	}{
		"silent, DoT": {serveDoT, nil, nil},
		"silent, DoQ": {serveDoQ, overQUIC, nil},
		"refuses":     {serveDoT, nil, rcodeOnly(dns.RcodeRefused)},
		"a resolver":  {serveDoQ, overQUIC, answerWith(badAddr, func(m *dns.Msg) { m.RecursionAvailable = true })},
		"garbage":     {serveDoT, nil, edited(good, func(b []byte) []byte { return b[:20] })},
	} {
		t.Run(name, func(t *testing.T) {
			open := serveScript(t, answering)
			secure := test.serve(t, func(a asked) []byte {
				if test.answer == nil {
					return nil
				}
				return test.answer(a.raw)
			})
			c := hopeful(t, open.addr, secure.addr, test.edit)
			lookedFor(t, c, open.addr)
			for i := range maxStrikes {
				req := request(open.addr)
				req.Timeout = 2 * time.Second
				if resp := exchangeOK(t, c, req); resp.TCP || resp.Resent == 0 {
					t.Errorf("%+v", resp)
				}
				if got := c.Stats().Encryption; got.FellBack != uint64(i+1) || got.Answers != 0 {
					t.Errorf("%+v", got)
				}
				eventually(t, "the probe ends", func() bool { return c.probing.Load() == 0 })
			}
			exchangeOK(t, c, request(open.addr))
			if got := c.Stats().Encryption; got.FellBack != maxStrikes || got.GivenUp != 1 {
				t.Errorf("%+v", got)
			}
		})
	}
}

// A server that says the same in the clear keeps its encryption: anybody can ask
// for names that it refuses.
func TestRefusalsAreNoReasonToGiveUpEncryption(t *testing.T) {
	var refuse atomic.Bool
	script := func(a asked) []byte {
		if refuse.Load() {
			return rcodeOnly(dns.RcodeRefused)(a.raw)
		}
		return good(a.raw)
	}
	open, secure := serveScript(t, script), serveDoT(t, script)
	c := hopeful(t, open.addr, secure.addr, nil)
	lookedFor(t, c, open.addr)
	refuse.Store(true)
	for range 3 * maxStrikes {
		if resp, err := c.Exchange(context.Background(), request(open.addr)); err != nil || resp.Msg.Rcode != dns.RcodeRefused {
			t.Errorf("%v, %v", resp.Msg, err)
		}
	}
	refuse.Store(false)
	if resp := exchangeOK(t, c, request(open.addr)); !resp.TCP {
		t.Errorf("%+v; %+v", resp, c.Stats().Encryption)
	}
}

// The connection ends while it is idle (RFC 9539 §4.6.7), and the session is
// resumed (§4.6.3.2).
func TestConnectionsToAuthoritiesThatEndAreMadeAnew(t *testing.T) {
	for name, test := range map[string]struct {
		serve func(testing.TB, func(asked) []byte) *besides
		edit  func(*Options)
	}{"DoT": {serveDoT, nil}, "DoQ": {serveDoQ, overQUIC}} {
		open, secure := serveScript(t, answering), test.serve(t, answering)
		c := hopeful(t, open.addr, secure.addr, func(o *Options) {
			if test.edit != nil {
				test.edit(o)
			}
			o.IdleTimeout = 10 * time.Millisecond
		})
		lookedFor(t, c, open.addr)
		for range 3 {
			if resp := exchangeOK(t, c, request(open.addr)); !resp.TCP {
				t.Errorf("%s: %+v", name, resp)
			}
			eventually(t, "it is closed for being idle", func() bool { return c.Stats().Connections.Open == 0 })
		}
		if got := c.Stats(); got.Connections.Resumed == 0 || got.Encryption != (Encryption{Probes: 1, Worked: 1, Answers: 3}) {
			t.Errorf("%s: %+v, %+v", name, got.Encryption, got.Connections)
		}
	}
}

func TestEncryptedTransportsLeaveNothingBehind(t *testing.T) {
	open, dot, doq := serveScript(t, answering), serveDoT(t, answering), serveDoQ(t, answering)
	goroutines, fds := runtime.NumGoroutine(), descriptors(t)
	for range 5 {
		for at, edit := range map[netip.AddrPort]func(*Options){dot.addr: nil, doq.addr: overQUIC} {
			c := hopeful(t, open.addr, at, edit)
			lookedFor(t, c, open.addr)
			var all sync.WaitGroup
			for i := range 20 {
				all.Go(func() { // ends with its exchange
					ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*time.Millisecond)
					defer cancel()
					_, _ = c.Exchange(ctx, request(open.addr)) // some have no time
				})
			}
			all.Wait()
			c.Close()
		}
	}
	settles(t, "goroutines", goroutines, runtime.NumGoroutine)
	settles(t, "descriptors", fds, func() int { return descriptors(t) })
}
