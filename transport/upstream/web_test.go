package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/exchange"
	"shirube/internal/wire"
)

// site is a server of DNS over HTTPS.
type site struct {
	addr netip.AddrPort
	*httptest.Server

	mu   sync.Mutex
	seen []*http.Request // with a body that is read
	raw  [][]byte
}

// serveWeb serves DNS over HTTPS until the test ends. The answer to the question is
// what handle makes of it.
func serveWeb(t testing.TB, id identity, handle func(w http.ResponseWriter, query []byte), edits ...func(*tls.Config)) *site {
	t.Helper()
	s := new(site)
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.seen, s.raw = append(s.seen, r), append(s.raw, raw)
		s.mu.Unlock()
		handle(w, raw)
	}))
	s.EnableHTTP2 = true
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{id.cert.Raw}, PrivateKey: id.key}}}
	for _, edit := range edits {
		edit(s.TLS)
		s.EnableHTTP2 = false
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	s.addr = netip.MustParseAddrPort(s.Listener.Addr().String())
	return s
}

// answersWeb answers with what f makes of the query.
func answersWeb(f func([]byte) []byte) func(http.ResponseWriter, []byte) {
	return func(w http.ResponseWriter, query []byte) {
		w.Header().Set("Content-Type", "application/dns-message")
		_, _ = w.Write(f(query)) // to who may have gone
	}
}

// overWeb returns a request to s for how it is known.
func (s *site) overWeb(name string, pins ...[]byte) exchange.Request {
	req := request(s.addr)
	req.TLS = &exchange.TLS{Name: name, Pins: pins, Path: "/dns-query"}
	return req
}

func TestExchangeOverHTTPSPosts(t *testing.T) { // RFC 8484 §4.1
	ca := newAuthority(t)
	s := serveWeb(t, ca.server(t, "dns.example"), answersWeb(good))
	c := newClient(t, Options{RootCAs: roots(ca), CaseRandomisation: true, Cookies: true})
	for range 3 {
		if resp := exchangeOK(t, c, s.overWeb("dns.example")); !resp.TCP || resp.Cookie || resp.RTT <= 0 || resp.Size == 0 {
			t.Errorf("%+v", resp)
		}
	}
	if got := c.Stats(); got.Connections != (Connections{Open: 1, Made: 1, Secured: 1}) || got.DoH != (Sent{IPv4: 3}) || got.TCP != (Sent{}) || got.Servers.Known != 0 {
		t.Errorf("Stats are %+v", got)
	}
	for i, r := range s.seen {
		_, agent := r.Header["User-Agent"]
		_, encoding := r.Header["Accept-Encoding"]
		if r.Method != http.MethodPost || r.URL.RequestURI() != "/dns-query" || r.ProtoMajor != 2 || agent || encoding ||
			r.Header.Get("Content-Type") != mediaType || r.Header.Get("Accept") != mediaType {
			t.Errorf("%s %s %s, %v", r.Method, r.URL, r.Proto, r.Header)
		}
		if want := "dns.example:" + strings.TrimPrefix(s.addr.String(), "127.0.0.1:"); r.Host != want || r.TLS.ServerName != "dns.example" {
			t.Errorf("authority %s, want %s; SNI %q", r.Host, want, r.TLS.ServerName)
		}
		m := new(dns.Msg)
		if err := m.Unpack(s.raw[i]); err != nil || m.Id != 0 || len(s.raw[i])%paddingBlock != 0 || m.Question[0].Name != "www.example." {
			t.Errorf("%v: %d octets\n%v", err, len(s.raw[i]), m)
		}
		for _, o := range m.IsEdns0().Option {
			if o.Option() != dns.EDNS0PADDING {
				t.Errorf("option %v", o)
			}
		}
	}
}

func TestURLsOfServersAreAsTheyAreConfigured(t *testing.T) {
	for want, p := range map[string]peer{
		"https://dns.example/dns-query":     {addr: netip.MustParseAddrPort("192.0.2.1:443"), name: "dns.example", path: "/dns-query"},
		"https://dns.example:8443/a/b":      {addr: netip.MustParseAddrPort("192.0.2.1:8443"), name: "dns.example", path: "/a/b"},
		"https://192.0.2.1/dns-query":       {addr: netip.MustParseAddrPort("192.0.2.1:443"), path: "/dns-query"},
		"https://[2001:db8::1]/dns-query":   {addr: netip.MustParseAddrPort("[2001:db8::1]:443"), path: "/dns-query"},
		"https://[2001:db8::1]:444/q%20%3F": {addr: netip.MustParseAddrPort("[2001:db8::1]:444"), path: "/q ?"},
	} {
		if got := p.url().String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestExchangeOverHTTPSTakesAgeFromTTLs(t *testing.T) { // RFC 8484 §5.1
	ca := newAuthority(t)
	age := ""
	s := serveWeb(t, ca.server(t, "dns.example"), func(w http.ResponseWriter, query []byte) {
		w.Header().Set("Age", age)
		answersWeb(answerWith(goodAddr, func(m *dns.Msg) { m.SetEdns0(1232, true) }))(w, query)
	})
	c := newClient(t, Options{RootCAs: roots(ca)})
	for field, ttl := range map[string]uint32{
		"": 300, "0": 300, "250": 50, "300": 0, "301": 0, "4294967296": 0, "99999999999999999999": 0, "-5": 300, "soon": 300,
	} {
		age = field
		resp := exchangeOK(t, c, s.overWeb("dns.example"))
		if got := resp.Msg.Answer[0].Header().Ttl; got != ttl || !resp.Msg.IsEdns0().Do() {
			t.Errorf("Age %q: a TTL of %d, want %d", field, got, ttl)
		}
	}
}

func TestExchangeOverHTTPSTakesNothingElseForAnAnswer(t *testing.T) {
	ca := newAuthority(t)
	id := ca.server(t, "dns.example")
	elsewhere := serveWeb(t, id, answersWeb(good))
	typed := func(media string, status int, body []byte) func(http.ResponseWriter, []byte) {
		return func(w http.ResponseWriter, query []byte) {
			w.Header().Set("Content-Type", media)
			w.Header().Set("Location", elsewhere.URL+"/dns-query")
			w.WriteHeader(status)
			if body == nil {
				body = good(query)
			}
			_, _ = w.Write(body) // to who may have gone
		}
	}
	for name, test := range map[string]struct {
		handle    func(http.ResponseWriter, []byte)
		malformed bool
	}{
		"not found":           {typed(mediaType, 404, nil), true},
		"elsewhere":           {typed(mediaType, 307, nil), true},
		"unavailable":         {typed(mediaType, 503, nil), true},
		"a page":              {typed("text/html", 200, nil), true},
		"no type":             {typed("", 200, nil), true},
		"JSON":                {typed("application/dns-json", 200, nil), true},
		"nothing":             {typed(mediaType, 200, []byte{}), true},
		"too long":            {typed(mediaType, 200, make([]byte, 1<<16)), true},
		"endless":             {func(w http.ResponseWriter, _ []byte) { endless(w) }, true},
		"garbage":             {typed(mediaType, 200, []byte("this is no answer")), true},
		"another ID":          {answersWeb(edited(good, func(b []byte) []byte { b[0]++; return b })), true},
		"another question":    {answersWeb(edited(good, func(b []byte) []byte { b[13]++; return b })), true},
		"truncated":           {answersWeb(answerWith(goodAddr, func(m *dns.Msg) { m.Truncated = true })), true},
		"many header fields":  {func(w http.ResponseWriter, q []byte) { verbose(w); answersWeb(good)(w, q) }, false},
		"the stream's end":    {func(http.ResponseWriter, []byte) { panic(http.ErrAbortHandler) }, false},
		"less than announced": {func(w http.ResponseWriter, q []byte) { w.Header().Set("Content-Length", "200"); answersWeb(good)(w, q) }, false},
	} {
		s := serveWeb(t, id, test.handle)
		c := newClient(t, Options{RootCAs: roots(ca)})
		resp, err := c.Exchange(context.Background(), s.overWeb("dns.example"))
		if e, ok := errors.AsType[*Error](err); !ok || e.Over != wire.DoH || errors.Is(err, exchange.ErrMalformed) != test.malformed || resp.Msg != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !test.malformed && !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v is not taken for the server's", name, err)
		}
		if resp.Size > 1<<16 {
			t.Errorf("%s: took %d octets", name, resp.Size)
		}
	}
	if len(elsewhere.seen) != 0 {
		t.Errorf("followed %d times", len(elsewhere.seen))
	}
	s := serveWeb(t, id, typed("application/DNS-message; charset=none", 203, nil))
	exchangeOK(t, newClient(t, Options{RootCAs: roots(ca)}), s.overWeb("dns.example"))
}

// endless sends more than there is memory for, to who reads it.
func endless(w http.ResponseWriter) {
	w.Header().Set("Content-Type", mediaType)
	block := make([]byte, 1<<16)
	for range 1 << 16 {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

// verbose adds header fields of 64 KiB.
func verbose(w http.ResponseWriter) {
	for range 64 {
		w.Header().Add("Cookie", strings.Repeat("x", 1<<10))
	}
}

func TestExchangeOverHTTPSNeedsHTTP2(t *testing.T) { // RFC 8484 §5.2
	ca := newAuthority(t)
	for _, protocols := range [][]string{{"http/1.1"}, nil} {
		s := serveWeb(t, ca.server(t, "dns.example"), answersWeb(good), func(c *tls.Config) { c.NextProtos = protocols })
		_, err := newClient(t, Options{RootCAs: roots(ca)}).Exchange(context.Background(), s.overWeb("dns.example"))
		if e, ok := errors.AsType[*Error](err); !ok || e.Op != "handshake" || len(s.seen) != 0 {
			t.Errorf("%v: %v", protocols, err)
		}
	}
}

func TestExchangeOverHTTPSKnowsTheServer(t *testing.T) {
	ca := newAuthority(t)
	id, stranger := ca.server(t, "dns.example"), newAuthority(t)
	s := serveWeb(t, id, answersWeb(good))
	for name, test := range map[string]struct {
		req exchange.Request
		ok  bool
	}{
		"name":         {s.overWeb("dns.example"), true},
		"another name": {s.overWeb("dns.example.net"), false},
		"key":          {s.overWeb("", id.pin()), true},
		"another key":  {s.overWeb("dns.example", stranger.pin()), false},
	} {
		c := newClient(t, Options{RootCAs: roots(ca)})
		_, err := c.Exchange(context.Background(), test.req)
		if (err == nil) != test.ok || c.Stats().Errors.Untrusted > 0 == test.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConnectionsOfHTTPSAreNotShared(t *testing.T) {
	ca := newAuthority(t)
	id := ca.server(t, "a.example", "b.example")
	s := serveWeb(t, id, answersWeb(good))
	c := newClient(t, Options{RootCAs: roots(ca)})
	other := s.overWeb("a.example")
	other.TLS.Path = "/other"
	for i, req := range []exchange.Request{s.overWeb("a.example"), s.overWeb("b.example"), s.overWeb("a.example", id.pin()), other} {
		for range 2 {
			exchangeOK(t, c, req)
		}
		if got := c.Stats().Connections; got.Made != uint64(i+1) || got.Open != int64(i+1) {
			t.Errorf("%d: %+v", i, got)
		}
	}
}

func TestExchangeOverHTTPSBoundsStreams(t *testing.T) {
	const streams, questions = 10, 100
	ca := newAuthority(t)
	var open, most atomic.Int64
	s := serveWeb(t, ca.server(t, "dns.example"), func(w http.ResponseWriter, query []byte) {
		if n := open.Add(1); n > most.Load() {
			most.Store(n)
		}
		time.Sleep(time.Millisecond) // so that some are open at once
		open.Add(-1)
		answersWeb(good)(w, query)
	})
	c := newClient(t, Options{RootCAs: roots(ca), Pipelined: streams, ConnectionsPerServer: 1})
	var all sync.WaitGroup
	for range questions {
		all.Go(func() { // ends with its exchange
			if _, err := c.Exchange(context.Background(), s.overWeb("dns.example")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := c.Stats().Connections; got.Made != 1 || got.Waited == 0 || most.Load() > streams || most.Load() < 2 {
		t.Errorf("%d streams at once; %+v", most.Load(), got)
	}
}

func TestConnectionsOfHTTPSThatEndAreReplaced(t *testing.T) {
	ca := newAuthority(t)
	s := serveWeb(t, ca.server(t, "dns.example"), answersWeb(good))
	c := newClient(t, Options{RootCAs: roots(ca)})
	for range 3 {
		exchangeOK(t, c, s.overWeb("dns.example"))
		s.CloseClientConnections()
	}
	eventually(t, "the last is gone", func() bool { return c.Stats().Connections.Open == 0 })
	if got := c.Stats().Connections; got.Made < 3 || got.Resumed == 0 {
		t.Errorf("%+v", got)
	}
}

func TestExchangeOverHTTPSWaitsNoLongerThanAllowed(t *testing.T) {
	ca := newAuthority(t)
	silent, done := new(atomic.Bool), make(chan struct{})
	s := serveWeb(t, ca.server(t, "dns.example"), func(w http.ResponseWriter, query []byte) {
		if silent.Load() {
			<-done
		}
		answersWeb(good)(w, query)
	})
	defer close(done)
	c := newClient(t, Options{RootCAs: roots(ca), TCPTimeout: 200 * time.Millisecond})
	silent.Store(true)
	if _, err := c.Exchange(context.Background(), s.overWeb("dns.example")); !errors.Is(err, exchange.ErrTimeout) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Exchange(ctx, s.overWeb("dns.example")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	silent.Store(false)
	patient, err := c.With(Options{})
	if err != nil {
		t.Fatal(err)
	}
	exchangeOK(t, patient, s.overWeb("dns.example"))
	if got := c.Stats(); got.Timeouts != 1 || got.Connections.Made < 2 {
		t.Errorf("%+v", got)
	}
}

func TestExchangeOverHTTPSLeavesNothingBehind(t *testing.T) {
	ca := newAuthority(t)
	s := serveWeb(t, ca.server(t, "dns.example"), answersWeb(good))
	goroutines, fds := runtime.NumGoroutine(), descriptors(t)
	for range 5 {
		c := newClient(t, Options{RootCAs: roots(ca), IdleTimeout: 5 * time.Millisecond})
		exchangeOK(t, c, s.overWeb("dns.example"))
		eventually(t, "it is closed for being idle", func() bool { return c.Stats().Connections.Idle == 1 })
		exchangeOK(t, c, s.overWeb("dns.example"))
		c.Close()
		if _, err := c.Exchange(context.Background(), s.overWeb("dns.example")); !errors.Is(err, ErrClosed) {
			t.Errorf("%v", err)
		}
	}
	settles(t, "goroutines", goroutines, runtime.NumGoroutine)
	settles(t, "descriptors", fds, func() int { return descriptors(t) })
}
