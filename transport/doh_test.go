package transport

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/http2"

	"shirube/internal/lab/ca"
	"shirube/internal/netx"
	"shirube/internal/wire"
)

// trust is an authority, and a certificate for dns.example and the loopback
// addresses that it issued.
type trust struct {
	*ca.Authority

	cert tls.Certificate
}

var newTrust = sync.OnceValues(func() (trust, error) {
	a, err := ca.New("Authority of these tests")
	if err != nil {
		return trust{}, err
	}
	i, err := a.Issue(ca.Leaf{Names: []string{"dns.example"}, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}})
	if err != nil {
		return trust{}, err
	}
	cert, err := tls.X509KeyPair(i.Certificate, i.Key)
	return trust{a, cert}, err
})

// trusted returns the tests' trust.
func trusted(tb testing.TB) trust {
	tb.Helper()
	t, err := newTrust()
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// server returns the configuration of a server for protocols.
func (t trust) server(protocols ...string) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{t.cert}, NextProtos: protocols, MinVersion: tls.VersionTLS12}
}

// client returns the configuration of a client that trusts the authority.
func (t trust) client(protocols ...string) *tls.Config {
	return &tls.Config{RootCAs: t.Pool(), NextProtos: protocols, MinVersion: tls.VersionTLS12}
}

func listenTCP(tb testing.TB, addr string) net.Listener {
	tb.Helper()
	l, err := netx.ListenTCP(tb.Context(), netip.MustParseAddrPort(addr))
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// startDoH starts a server on loopback, with and without TLS.
func startDoH(tb testing.TB, opt DoHOptions) (d *DoH, secure, plain netip.AddrPort) {
	tb.Helper()
	if opt.TLS == nil {
		opt.TLS = trusted(tb).server("h2", "http/1.1")
	}
	l, c := listenTCP(tb, "127.0.0.1:0"), listenTCP(tb, "127.0.0.1:0")
	opt.Timeout, opt.MessageTimeout = cmp.Or(opt.Timeout, patience), cmp.Or(opt.MessageTimeout, patience)
	d = NewDoH(opt)
	d.Add(l, true)
	d.Start(context.Background())
	d.Add(c, false)
	shutDown(tb, d)
	return d, l.Addr().(*net.TCPAddr).AddrPort(), c.Addr().(*net.TCPAddr).AddrPort()
}

// A webWay is a version of HTTP, with or without TLS.
type webWay struct {
	name  string
	major int
	tls   bool
}

var webWays = []webWay{{"HTTP/2", 2, true}, {"HTTP/1.1", 1, true}, {"HTTP/2 in cleartext", 2, false}, {"HTTP/1.1 in cleartext", 1, false}}

// client returns a client of w, which has connections of its own.
func (w webWay) client(tb testing.TB) *http.Client {
	tb.Helper()
	p := new(http.Protocols)
	p.SetHTTP1(w.major == 1)
	p.SetHTTP2(w.major == 2 && w.tls)
	p.SetUnencryptedHTTP2(w.major == 2 && !w.tls)
	tr := &http.Transport{TLSClientConfig: trusted(tb).client(), Protocols: p, DisableCompression: true}
	tb.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// url returns where the server is for w.
func (w webWay) url(secure, plain netip.AddrPort) string {
	if w.tls {
		return "https://" + secure.String() + DefaultPath
	}
	return "http://" + plain.String() + DefaultPath
}

// getURL returns the URL to ask msg by GET.
func getURL(url string, msg []byte) string {
	return url + "?dns=" + base64.RawURLEncoding.EncodeToString(msg)
}

// do makes a request, and returns the response with its body.
func do(t *testing.T, c *http.Client, method, url, media string, body io.Reader, fields ...string) (*webResponse, []byte) {
	t.Helper()
	rsp, raw, err := try(t.Context(), c, method, url, media, body, fields...)
	if err != nil {
		t.Fatal(err)
	}
	return rsp, raw
}

func try(ctx context.Context, c *http.Client, method, url, media string, body io.Reader, fields ...string) (*webResponse, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, nil, err
	}
	if media != "" {
		r.Header.Set("Content-Type", media)
	}
	for i := 0; i < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	rsp, err := c.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = rsp.Body.Close() }()
	raw, err := io.ReadAll(rsp.Body)
	return &webResponse{rsp.Status, rsp.Proto, rsp.StatusCode, rsp.ProtoMajor, rsp.Header, rsp.ContentLength}, raw, err
}

// webResponse is what a response says besides its body, which was read.
type webResponse struct {
	Status, Proto          string
	StatusCode, ProtoMajor int
	Header                 http.Header
	ContentLength          int64
}

// askWeb sends a query for label by POST, and returns the answer.
func askWeb(t *testing.T, c *http.Client, url, label string) *dns.Msg {
	t.Helper()
	rsp, raw := do(t, c, http.MethodPost, url, mediaType, bytes.NewReader(packQuery(t, 0, label)))
	if rsp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", label, rsp.Status)
	}
	return unpack(t, raw)
}

func TestDoHAnswersByGetAndPost(t *testing.T) {
	d, secure, plain := startDoH(t, DoHOptions{Handler: newScripted()})
	for _, way := range webWays {
		t.Run(way.name, func(t *testing.T) {
			c, url := way.client(t), way.url(secure, plain)
			for _, label := range []string{"hit", "miss", "big", "bigmiss"} {
				msg := packQuery(t, 0, label)
				for _, method := range []string{http.MethodPost, http.MethodGet} {
					at, media, body := url, mediaType, io.Reader(bytes.NewReader(msg))
					if method == http.MethodGet {
						at, media, body = getURL(url, msg), "", nil
					}
					rsp, raw := do(t, c, method, at, media, body)
					if rsp.StatusCode != http.StatusOK || rsp.ProtoMajor != way.major || rsp.Header.Get("Content-Type") != mediaType ||
						rsp.Header.Get("Cache-Control") != "max-age=0" || rsp.ContentLength != int64(len(raw)) {
						t.Fatalf("%s %s: %s %s %v, %d octets", method, label, rsp.Proto, rsp.Status, rsp.Header, len(raw))
					}
					m := unpack(t, raw)
					wantRcode(t, m, dns.RcodeSuccess)
					if strings.HasPrefix(label, "big") != (len(raw) == 60_000) {
						t.Errorf("%s %s: %d octets", method, label, len(raw))
					}
				}
			}
			rsp, raw := do(t, c, http.MethodHead, getURL(url, packQuery(t, 0, "hit")), "", nil)
			if rsp.StatusCode != http.StatusOK || len(raw) != 0 || rsp.ContentLength == 0 {
				t.Errorf("HEAD: %s, %d octets", rsp.Status, len(raw))
			}
		})
	}
	s := d.Stats()
	wantBalance(t, s.Counts, 0)
	if s.Requests != 4*9 || s.Get != 4*5 || s.Answered != 4*9 || s.Deferred != 4*4 {
		t.Errorf("%+v", s)
	}
}

// TestDoHTellsWhereHTTP3Is asks with TLS, whose clients come here themselves, and
// without.
func TestDoHTellsWhereHTTP3Is(t *testing.T) {
	_, secure, plain := startDoH(t, DoHOptions{Handler: newScripted(), HTTP3Port: 8443})
	for _, way := range webWays {
		want := ""
		if way.tls {
			want = `h3=":8443"; ma=86400`
		}
		rsp, _ := do(t, way.client(t), http.MethodPost, way.url(secure, plain), mediaType, bytes.NewReader(packQuery(t, 0, "hit")))
		if got := rsp.Header.Get("Alt-Svc"); got != want {
			t.Errorf("%s: %q, want %q", way.name, got, want)
		}
	}
}

// TestDoHTellsWhatIsNoMessage asks in every way that is not RFC 8484's.
func TestDoHTellsWhatIsNoMessage(t *testing.T) {
	d, secure, plain := startDoH(t, DoHOptions{Handler: newScripted()})
	msg := packQuery(t, 0, "hit")
	response := bytes.Clone(msg)
	response[2] |= 0x80
	b64 := base64.RawURLEncoding.EncodeToString
	type request struct {
		what, method, path, media string
		body                      []byte
		status                    int
	}
	requests := []request{
		{"another path", http.MethodGet, "/?dns=" + b64(msg), "", nil, 404},
		{"another path", http.MethodPost, DefaultPath + "/", mediaType, msg, 404},
		{"another method", http.MethodPut, DefaultPath, mediaType, msg, 405},
		{"no variable", http.MethodGet, DefaultPath, "", nil, 400},
		{"another variable", http.MethodGet, DefaultPath + "?name=example.org&type=A", "", nil, 400},
		{"no base64url", http.MethodGet, DefaultPath + "?dns=a+b/c", "", nil, 400},
		{"no escape", http.MethodGet, DefaultPath + "?dns=%2", "", nil, 400},
		{"nothing", http.MethodGet, DefaultPath + "?dns=", "", nil, 400},
		{"a header cut off", http.MethodGet, DefaultPath + "?dns=" + b64(msg[:11]), "", nil, 400},
		{"a response", http.MethodGet, DefaultPath + "?dns=" + b64(response), "", nil, 400},
		{"too long", http.MethodGet, DefaultPath + "?dns=" + strings.Repeat("A", maxGet), "", nil, 414},
		{"no media type", http.MethodPost, DefaultPath, "", msg, 415},
		{"another media type", http.MethodPost, DefaultPath, "application/dns-json", msg, 415},
		{"no body", http.MethodPost, DefaultPath, mediaType, nil, 400},
		{"a response", http.MethodPost, DefaultPath, mediaType, response, 400},
		{"too long", http.MethodPost, DefaultPath, mediaType, make([]byte, maxPost+1), 413},

		{"among other variables", http.MethodGet, DefaultPath + "?x=1&dns=" + b64(msg) + "&y", "", nil, 200},
		{"padded", http.MethodGet, DefaultPath + "?dns=" + base64.URLEncoding.EncodeToString(append(bytes.Clone(msg), 0)), "", nil, 200},
		{"escaped for no reason", http.MethodGet, DefaultPath + "?dns=%41" + b64(msg)[1:], "", nil, 200},
		{"media type with a parameter", http.MethodPost, DefaultPath, "Application/DNS-Message ; a=b", msg, 200},
	}
	for _, way := range webWays {
		t.Run(way.name, func(t *testing.T) {
			c, base := way.client(t), strings.TrimSuffix(way.url(secure, plain), DefaultPath)
			for _, r := range requests {
				rsp, _ := do(t, c, r.method, base+r.path, r.media, bytes.NewReader(r.body))
				if rsp.StatusCode != r.status {
					t.Errorf("%s, %s: %s, want %d", r.method, r.what, rsp.Status, r.status)
				}
				if rsp.StatusCode == http.StatusMethodNotAllowed && rsp.Header.Get("Allow") == "" {
					t.Error("405 without Allow")
				}
			}
		})
	}
	want := [NumWebErrors]uint64{WebBadRequest: 9 * 4, WebNotFound: 2 * 4, WebMethod: 4, WebTooLarge: 4, WebURITooLong: 4, WebMediaType: 2 * 4}
	if s := d.Stats(); s.Errors != want {
		t.Errorf("%v, want %v", s.Errors, want)
	}
}

// TestDoHReadsABodyAfterAnEmptyVariable asks with memory that a GET has used which
// decoded nothing.
func TestDoHReadsABodyAfterAnEmptyVariable(t *testing.T) {
	x := new(webExchange)
	if failure := x.readURL("dns="); failure != webOK || len(x.msg) != 0 {
		t.Fatalf("dns=: %v, %d octets", failure, len(x.msg))
	}
	msg := packQuery(t, 0, "hit")
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, DefaultPath, bytes.NewReader(msg))
	r.Header.Set("Content-Type", mediaType)
	r.Body = io.NopCloser(iotest.OneByteReader(r.Body))
	if cut, failure := x.readBody(r); cut || failure != webOK || !bytes.Equal(x.msg, msg) {
		t.Errorf("a body: %v, %v, %x", cut, failure, x.msg)
	}
}

// TestDoHChecksHeadersBeforeAnythingElse sends what UDP and TCP answer by
// themselves.
func TestDoHChecksHeadersBeforeAnythingElse(t *testing.T) {
	_, secure, plain := startDoH(t, DoHOptions{Handler: newScripted()})
	c, url := webWays[0].client(t), webWays[0].url(secure, plain)
	for _, m := range []struct {
		what  string
		edit  func(msg []byte) []byte
		rcode int
	}{
		{"an update", func(msg []byte) []byte { msg[2] |= 5 << 3; return msg }, dns.RcodeNotImplemented},
		{"two questions", func(msg []byte) []byte { msg[5] = 2; return msg }, dns.RcodeFormatError},
		{"a thousand answers", func(msg []byte) []byte { msg[6] = 4; return msg }, dns.RcodeFormatError},
		{"longer than any query", func(msg []byte) []byte { return append(msg, make([]byte, maxQuery)...) }, dns.RcodeFormatError},
	} {
		rsp, raw := do(t, c, http.MethodPost, url, mediaType, bytes.NewReader(m.edit(packQuery(t, 7, "hit"))))
		if rsp.StatusCode != http.StatusOK || len(raw) < wire.HeaderLen || int(wire.RcodeOf(raw)) != m.rcode {
			t.Errorf("%s: %s, %x", m.what, rsp.Status, raw)
		}
	}
}

func TestDoHSaysNothingWhereNothingIsToBeSaid(t *testing.T) {
	d, secure, plain := startDoH(t, DoHOptions{Handler: newScripted()})
	for _, way := range webWays {
		c, url := way.client(t), way.url(secure, plain)
		for _, label := range []string{"drop", "none"} {
			rsp, _, err := try(t.Context(), c, http.MethodPost, url, mediaType, bytes.NewReader(packQuery(t, 0, label)))
			if err == nil {
				t.Errorf("%s, %s: %s", way.name, label, rsp.Status)
			}
		}
		for _, label := range []string{"panic", "crash", "over"} {
			wantRcode(t, askWeb(t, c, url, label), dns.RcodeServerFailure)
		}
	}
	s := d.Stats()
	wantBalance(t, s.Counts, 0)
	if s.Panics != 8 || s.Unfit != 4 {
		t.Errorf("%+v", s)
	}
}

// TestDoHIsFoundByAddress asks as who knows the server by its address alone: there
// is no SNI, and the authority is the address (RFC 9462 §6.3).
func TestDoHIsFoundByAddress(t *testing.T) {
	l := listenTCP(t, "[::1]:0")
	d := NewDoH(DoHOptions{Handler: newScripted(), TLS: trusted(t).server("h2", "http/1.1")})
	d.Add(l, true)
	d.Start(context.Background())
	shutDown(t, d)
	for _, way := range webWays[:2] {
		c := way.client(t)
		wantRcode(t, askWeb(t, c, fmt.Sprintf("https://%s%s", l.Addr(), DefaultPath), "hit"), dns.RcodeSuccess)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, getURL(fmt.Sprintf("https://%s%s", l.Addr(), DefaultPath), packQuery(t, 0, "hit")), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "192.0.2.53" // the address that the client was given, whatever is between
		rsp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = rsp.Body.Close()
		if rsp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", way.name, rsp.Status)
		}
	}
}

func TestDoHBelievesOnlyProxies(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("10.0.0.0/8")}
	for _, c := range []struct {
		what, want string
		secure     bool
		proxies    []netip.Prefix
		fields     []string
	}{
		{"a proxy", "192.0.2.1:0", false, proxies, []string{"X-Forwarded-For", "192.0.2.1"}},
		{"a proxy, IPv6", "[2001:db8::1]:0", false, proxies, []string{"X-Forwarded-For", "2001:db8::1"}},
		{"a proxy, with ports", "[2001:db8::1]:0", false, proxies, []string{"X-Forwarded-For", "[2001:db8::1]:4711"}},
		{"what the client made up", "192.0.2.1:0", false, proxies, []string{"X-Forwarded-For", "198.51.100.1, 192.0.2.1"}},
		{"what the client made up, in a field of its own", "192.0.2.1:0", false, proxies, []string{"X-Forwarded-For", "junk", "X-Forwarded-For", "192.0.2.1"}},
		{"two proxies", "192.0.2.1:0", false, proxies, []string{"X-Forwarded-For", "192.0.2.1, 10.1.1.1"}},
		{"a proxy for itself", "127.0.0.1", false, proxies, nil},
		{"no proxy", "127.0.0.1", false, nil, []string{"X-Forwarded-For", "192.0.2.1"}},
		{"over TLS", "127.0.0.1", true, proxies, []string{"X-Forwarded-For", "192.0.2.1"}},
		{"not an address", "", false, proxies, []string{"X-Forwarded-For", "unknown"}},
	} {
		seen := make(chan netip.AddrPort, 1)
		_, secure, plain := startDoH(t, DoHOptions{Handler: watching{newScripted(), seen}, Proxies: c.proxies})
		way := webWay{major: 2, tls: c.secure}
		rsp, _ := do(t, way.client(t), http.MethodPost, way.url(secure, plain), mediaType, bytes.NewReader(packQuery(t, 0, "hit")), c.fields...)
		if c.want == "" {
			if rsp.StatusCode != http.StatusBadRequest {
				t.Errorf("%s: %s", c.what, rsp.Status)
			}
			continue
		}
		if got := <-seen; got.String() != c.want && got.Addr().String() != c.want {
			t.Errorf("%s: %v, want %s", c.what, got, c.want)
		}
	}
}

// watching is a scripted Handler that tells who asks.
type watching struct {
	*scripted

	clients chan netip.AddrPort
}

func (h watching) TryServe(buf []byte, q *wire.Query) ([]byte, Outcome) {
	h.clients <- q.Client
	return h.scripted.TryServe(buf, q)
}

func TestDoHOnAUnixSocket(t *testing.T) {
	path := t.TempDir() + "/doh.sock"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan netip.AddrPort, 1)
	d := NewDoH(DoHOptions{Handler: watching{newScripted(), seen}})
	d.Add(l, false)
	d.Start(context.Background())
	shutDown(t, d)
	c := webWay{major: 2}.client(t)
	c.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	rsp, _ := do(t, c, http.MethodPost, "http://dns.example"+DefaultPath, mediaType, bytes.NewReader(packQuery(t, 0, "hit")), "X-Forwarded-For", "192.0.2.77")
	if got := <-seen; rsp.StatusCode != http.StatusOK || got.String() != "192.0.2.77:0" {
		t.Errorf("%s, %v", rsp.Status, got)
	}
}

func TestDoHLimitsHeaders(t *testing.T) {
	_, secure, plain := startDoH(t, DoHOptions{Handler: newScripted()})
	for _, way := range webWays {
		c, url := way.client(t), way.url(secure, plain)
		rsp, _, err := try(t.Context(), c, http.MethodPost, url, mediaType, bytes.NewReader(packQuery(t, 0, "hit")), "X-Long", strings.Repeat("x", maxHeader+8<<10))
		if err == nil && rsp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s: %s", way.name, rsp.Status)
		}
		wantRcode(t, askWeb(t, c, url, "hit"), dns.RcodeSuccess)
	}
}

func TestConnsAreLimitedOverAllListeners(t *testing.T) {
	conns := NewConns(ConnsOptions{Total: 3, PerClient: 2, Handshakes: -1})
	_, secure, _ := startDoH(t, DoHOptions{Handler: newScripted(), Conns: conns})
	_, secure2, _ := startDoH(t, DoHOptions{Handler: newScripted(), Conns: conns})
	shakes := func(from string, to netip.AddrPort) (net.Conn, error) {
		dialer := tls.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}, Config: trusted(t).client("h2")}
		c, err := dialer.DialContext(t.Context(), "tcp", to.String())
		if err == nil {
			t.Cleanup(func() { _ = c.Close() })
		}
		return c, err
	}
	first, err := shakes("127.0.0.1", secure)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := shakes("127.0.0.1", secure2); err != nil {
		t.Fatal(err)
	}
	if _, err := shakes("127.0.0.1", secure2); err == nil {
		t.Error("a third connection of one client")
	}
	if _, err := shakes("127.0.0.2", secure); err != nil {
		t.Error(err)
	}
	if _, err := shakes("127.0.0.3", secure); err == nil {
		t.Error("a fourth connection in all")
	}
	if s := conns.Stats(); s.Open != 3 || s.Clients != 2 || s.OverClient != 1 || s.OverTotal != 1 || s.Accepted != 3 {
		t.Errorf("%+v", s)
	}
	_ = first.Close()
	eventually(t, "a connection that is closed makes room", func() bool { return conns.Stats().Open == 2 })
}

func TestHandshakesOfAClientAreLimitedButForResumedOnes(t *testing.T) {
	const rate = 2 // and so handshakeBurst × rate at once
	conns := NewConns(ConnsOptions{Handshakes: rate})
	_, secure, _ := startDoH(t, DoHOptions{Handler: newScripted(), Conns: conns})
	ask := func(config *tls.Config) error {
		tr := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
		c := &http.Client{Transport: tr, Timeout: patience}
		_, _, err := try(t.Context(), c, http.MethodPost, webWays[0].url(secure, secure), mediaType, bytes.NewReader(packQuery(t, 0, "hit")))
		return err
	}
	session := trusted(t).client("http/1.1")
	session.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for i := range 10 * handshakeBurst * rate { // all but the first cost nothing
		if err := ask(session); err != nil {
			t.Fatalf("resumed handshake %d: %v", i, err)
		}
	}
	if s := conns.Stats(); s.Resumed != s.Accepted-1 {
		t.Errorf("%+v", s)
	}
	failed := 0
	for range 3 * handshakeBurst * rate {
		if ask(trusted(t).client("http/1.1")) != nil {
			failed++
		}
	}
	if s := conns.Stats(); failed < handshakeBurst*rate || s.OverRate != uint64(failed) {
		t.Errorf("%d of %d failed, %+v", failed, 3*handshakeBurst*rate, s)
	}
}

func TestShakersRememberABoundedNumber(t *testing.T) {
	s := shakers{until: make(map[netip.Prefix]time.Time)}
	s.rate.Store(1)
	now := time.Now()
	for i := range maxShakers + 1000 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if !s.pay(clientOf(a), now) {
			t.Fatal("the first handshake of a client was refused")
		}
	}
	if len(s.until) > maxShakers {
		t.Errorf("%d are remembered", len(s.until))
	}
	for range handshakeBurst + 1 {
		s.pay(clientOf(netip.IPv6Loopback()), now)
	}
	if s.refused.Load() != 1 || s.pay(clientOf(netip.IPv6Loopback()), now) || !s.pay(clientOf(netip.IPv6Loopback()), now.Add(time.Second)) {
		t.Error("a client may not make the burst, or more, or none a second later")
	}
}

func TestDoHShutdownAnswersWhatIsInFlight(t *testing.T) {
	for _, way := range webWays {
		t.Run(way.name, func(t *testing.T) {
			h := newScripted()
			d, secure, plain := startDoH(t, DoHOptions{Handler: h})
			c, url := way.client(t), way.url(secure, plain)
			answered := make(chan error, 1)
			go func() {
				rsp, _, err := try(t.Context(), c, http.MethodPost, url, mediaType, bytes.NewReader(packQuery(t, 0, "slow")))
				if err == nil && rsp.StatusCode != http.StatusOK {
					err = errors.New(rsp.Status)
				}
				answered <- err
			}()
			h.waitBegan(t, 1)
			down := make(chan error, 1)
			go func() { down <- d.Shutdown(t.Context()) }()
			eventually(t, "nobody is accepted any more", func() bool {
				c, err := net.Dial("tcp", secure.String())
				if err == nil {
					_ = c.Close()
				}
				return err != nil
			})
			h.release <- struct{}{}
			if err := <-answered; err != nil {
				t.Error(err)
			}
			if err := <-down; err != nil {
				t.Error(err)
			}
			wantBalance(t, d.Stats().Counts, 0)
		})
	}
}

func TestDoHShutdownAbandonsWhenItsContextEnds(t *testing.T) {
	h := newScripted()
	d, secure, plain := startDoH(t, DoHOptions{Handler: h})
	c, url := webWays[0].client(t), webWays[0].url(secure, plain)
	var asking sync.WaitGroup
	asking.Go(func() {
		if _, _, err := try(t.Context(), c, http.MethodPost, url, mediaType, bytes.NewReader(packQuery(t, 0, "slow"))); err == nil {
			t.Error("an answer")
		}
	})
	h.waitBegan(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := d.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	asking.Wait()
	if d.opt.Conns.Stats().Open != 0 {
		t.Errorf("%+v", d.opt.Conns.Stats())
	}
}

func TestDoHShedsWithoutASlot(t *testing.T) {
	h := newScripted()
	defer close(h.release)
	d, secure, plain := startDoH(t, DoHOptions{Handler: h, Slots: NewSlots(1, 0)})
	c, url := webWays[0].client(t), webWays[0].url(secure, plain)
	go func() {
		_, _, _ = try(t.Context(), c, http.MethodPost, url, mediaType, bytes.NewReader(packQuery(t, 0, "slow")))
	}()
	h.waitBegan(t, 1)
	m := askWeb(t, c, url, "miss")
	wantRcode(t, m, dns.RcodeServerFailure)
	if edeOf(t, m) != busyText || d.Stats().Shed != 1 {
		t.Errorf("%v, %+v", m, d.Stats())
	}
}

// TestDoHConnectionsAreReused holds the server to one connection for all requests
// of a client, also after errors.
func TestDoHConnectionsAreReused(t *testing.T) {
	d, secure, plain := startDoH(t, DoHOptions{Handler: newScripted()})
	for _, way := range webWays {
		c, url := way.client(t), way.url(secure, plain)
		for i, label := range []string{"hit", "miss", "big", "panic", "hit"} {
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
				if info.Reused != (i > 0) {
					t.Errorf("%s, request %d: reused %v", way.name, i, info.Reused)
				}
			}})
			if _, _, err := try(ctx, c, http.MethodPost, url, mediaType, bytes.NewReader(packQuery(t, 0, label))); err != nil {
				t.Error(err)
			}
		}
	}
	if s := d.opt.Conns.Stats(); s.Accepted != uint64(len(webWays)) {
		t.Errorf("%+v", s)
	}
}

// TestDoHTellsClientsToGo drains a server, and takes a listener from it.
func TestDoHTellsClientsToGo(t *testing.T) {
	d, secure, plain := startDoH(t, DoHOptions{Handler: newScripted()})
	for _, way := range webWays {
		c, url := way.client(t), way.url(secure, plain)
		askWeb(t, c, url, "hit")
		before := d.opt.Conns.Stats().Accepted
		d.Drain(true)
		askWeb(t, c, url, "hit") // is told, and answered
		d.Drain(false)
		askWeb(t, c, url, "hit")
		if after := d.opt.Conns.Stats().Accepted; after != before+1 {
			t.Errorf("%s: %d new connections, want 1", way.name, after-before)
		}
	}
	l := listenTCP(t, "127.0.0.1:0")
	d.Add(l, true)
	c, at := webWays[0].client(t), l.Addr().(*net.TCPAddr).AddrPort()
	askWeb(t, c, webWays[0].url(at, at), "hit")
	if err := d.Remove(l); err != nil {
		t.Error(err)
	}
	askWeb(t, c, webWays[0].url(at, at), "hit") // on the connection that it has
	if c, err := net.Dial("tcp", at.String()); err == nil {
		_ = c.Close()
		t.Error("a listener that was removed accepts")
	}
}

// dialTLS connects to a server with TLS.
func dialTLS(tb testing.TB, to netip.AddrPort, protocol string) *tls.Conn {
	tb.Helper()
	c := tls.Client(dial(tb, "tcp", to), func() *tls.Config {
		config := trusted(tb).client(protocol)
		config.ServerName = to.Addr().String()
		return config
	}())
	if err := c.Handshake(); err != nil {
		tb.Fatal(err)
	}
	return c
}

// TestDoHCutsSlowClients dribbles in each way, and wants the connection to end
// long before it would be done.
func TestDoHCutsSlowClients(t *testing.T) {
	t.Parallel()
	const message, idle = 2 * time.Second, 3 * time.Second // enough for a handshake on a busy machine
	d, secure, _ := startDoH(t, DoHOptions{Handler: newScripted(), MessageTimeout: message, IdleTimeout: idle})
	clients := map[string]net.Conn{"no handshake": dial(t, "tcp", secure)}
	for what, text := range map[string]string{
		"half a header":        "POST /dns-query HTTP/1.1\r\nHost: a\r\n",
		"an octet of 65,535":   "POST /dns-query HTTP/1.1\r\nHost: a\r\nContent-Type: application/dns-message\r\nContent-Length: 65535\r\n\r\nx",
		"idle":                 "GET /dns-query HTTP/1.1\r\nHost: a\r\n\r\n",
		"half a preface":       "PRI * HTTP",
		"no SETTINGS":          http2.ClientPreface,
		"half a frame":         http2.ClientPreface + string(appendSettings(nil)) + "\x00\x00\x08",
		"half a header, by h2": http2.ClientPreface + string(appendSettings(nil)) + string(appendFrame(nil, http2.FrameHeaders, 0, 1, 0)),
	} {
		protocol := "http/1.1"
		if strings.HasPrefix(text, "PRI") {
			protocol = "h2"
		}
		clients[what] = dialTLS(t, secure, protocol)
		write(t, clients[what], []byte(text))
	}
	for what, c := range clients {
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v", what, err)
		}
	}
	eventually(t, "nothing is left of them", func() bool { return d.opt.Conns.Stats().Open == 0 })
	if n := d.Stats().HTTP2.Ends[HTTP2SlowWriter]; n != 4 {
		t.Errorf("%d connections of HTTP/2 were too slow, want 4", n)
	}
}
