package transport

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"shirube/internal/stack"
	"shirube/internal/wire"
)

// Bounds of one request, in octets, and of one connection.
const (
	maxGet    = 4 << 10         // of a URL's query; checked before anything is decoded (CVE-2026-32936)
	maxPost   = wire.MaxMsgSize // that are announced; what is read is maxQuery
	maxHeader = 16 << 10        // of all fields

	// A client that resets so many requests in so short a time does not want
	// answers (CVE-2023-44487).
	maxResets   = 200
	resetWindow = 30 * time.Second
)

// mediaType is the type of DNS messages (RFC 8484 §6).
const mediaType = "application/dns-message"

// WebError is why a request was no DNS message, as an HTTP status.
type WebError uint8

// The reasons.
const (
	WebBadRequest WebError = iota // 400: no message in it
	WebNotFound                   // 404: another path
	WebMethod                     // 405: neither GET nor POST
	WebTooLarge                   // 413: a body that is longer than a message can be
	WebURITooLong                 // 414
	WebMediaType                  // 415: a body of another type
	NumWebErrors                  // how many there are, for arrays of counters
	webOK         = NumWebErrors
)

var webErrors = [NumWebErrors]struct {
	name   string
	status int
}{
	{"bad_request", http.StatusBadRequest},
	{"not_found", http.StatusNotFound},
	{"method", http.StatusMethodNotAllowed},
	{"too_large", http.StatusRequestEntityTooLarge},
	{"uri_too_long", http.StatusRequestURITooLong},
	{"media_type", http.StatusUnsupportedMediaType},
}

// String returns a word for e that can be a label of a metric.
func (e WebError) String() string { return webErrors[e].name }

// WebCounts is what became of the requests of HTTP. Counts are of those only that
// held a message.
type WebCounts struct {
	Counts
	Requests uint64
	Get      uint64               // of them, by GET or HEAD
	Errors   [NumWebErrors]uint64 // of them, by what was wrong
	Resets   uint64               // of them, that the client did not wait for
	Abusive  uint64               // connections closed because of too many of these
	Untaken  uint64               // of them, over HTTP/3, that were aborted because the client takes no responses
}

type webCounters struct {
	counters
	requests, get, resets, abusive atomic.Uint64
	untaken                        atomic.Uint64
	errors                         [NumWebErrors]atomic.Uint64
}

func (n *webCounters) counts() (c WebCounts) {
	n.addTo(&c.Counts)
	c.Requests, c.Get, c.Resets, c.Abusive = n.requests.Load(), n.get.Load(), n.resets.Load(), n.abusive.Load()
	c.Untaken = n.untaken.Load()
	for i := range n.errors {
		c.Errors[i] = n.errors[i].Load()
	}
	return c
}

// web answers DNS queries in requests of HTTP, of whatever version (RFC 8484).
type web struct {
	service
	n         webCounters
	proto     wire.Proto
	rules     atomic.Pointer[webRules]
	draining  atomic.Bool
	short     func() bool // connections run short; of HTTP/1.1, where a client cannot be told later
	exchanges sync.Pool   // of *webExchange
	clock     atomic.Pointer[webDate]
}

// webRules are what may be changed while requests are served.
type webRules struct {
	path    string
	altSvc  string         // where the same is served over HTTP/3 (RFC 7838); empty: nowhere
	proxies []netip.Prefix // that are believed whom they ask for
}

// webDate is a second as HTTP writes it (RFC 9110 §5.6.7).
type webDate struct {
	second int64
	text   string
}

// date returns what time it is.
func (h *web) date() string {
	now := time.Now()
	d := h.clock.Load()
	if d == nil || d.second != now.Unix() {
		d = &webDate{now.Unix(), now.UTC().Format(http.TimeFormat)}
		h.clock.Store(d)
	}
	return d.text
}

// webExchange is the memory that one request and its response need.
type webExchange struct {
	q       wire.Query
	msg     []byte // as long as what has arrived
	out     []byte
	decoded []byte
}

// init prepares h to answer with s.
func (h *web) init(s service, proto wire.Proto, r webRules) {
	h.service, h.proto = s, proto
	h.rule(r)
	h.exchanges.New = func() any {
		return &webExchange{msg: make([]byte, 0, wire.MinUDPSize), out: make([]byte, 0, 2*wire.MinUDPSize)}
	}
}

// rule has the requests that come from now on go by r.
func (h *web) rule(r webRules) {
	if r.path == "" {
		r.path = DefaultPath
	}
	h.rules.Store(&r)
}

// recycle keeps x for the next request, unless a long message made it large.
func (h *web) recycle(x *webExchange) {
	if cap(x.msg)+cap(x.out)+cap(x.decoded) <= bufferSize {
		h.exchanges.Put(x)
	}
}

// webConn is what is known of a request's connection. It is in its context.
type webConn struct {
	// ends is called once, with the first request: before, the client may not be
	// known.
	ends  func() webEnds
	shook func(resumed bool)
	cut   func() // closes the connection

	inner *admitted // the connection of TCP; nil: it is QUIC

	once sync.Once
	webEnds

	mu     sync.Mutex
	resets int       // in the window
	since  time.Time // when the window began
}

// webEnds are who asks and who is asked.
type webEnds struct {
	client, local netip.AddrPort
	believed      bool // a proxy, that says for whom it asks
}

type webConnKey struct{}

// reset notes a request that the client did not wait for, and reports whether
// these are too many.
func (c *webConn) reset(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.since) > resetWindow {
		c.resets, c.since = 0, now
	}
	c.resets++
	return c.resets > maxResets
}

// ServeHTTP implements [http.Handler], for HTTP/1.1; [h2Conn] and [DoH3] have their
// own ways. Whatever a DNS response says, its HTTP status is 200 (RFC 8484 §4.2.1).
// Where on another transport nothing would be sent, the request is aborted.
func (h *web) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(webConnKey{}).(*webConn)
	h.n.requests.Add(1)
	c.once.Do(func() { c.webEnds = c.ends() })
	if r.TLS != nil {
		c.shook(r.TLS.DidResume)
	}
	x := h.exchanges.Get().(*webExchange)
	defer h.recycle(x)
	cut, failure := h.read(x, r)
	client := c.client
	if failure == webOK && c.believed {
		var ok bool
		if client, ok = forwardedFor(r.Header["X-Forwarded-For"], c.client, h.rules.Load().proxies); !ok {
			failure = WebBadRequest
		}
	}
	var rsp []byte
	if failure == webOK {
		x.q.HTTP = uint8(r.ProtoMajor)
		rsp, failure = h.exchange(r.Context(), x, client, c.local, cut)
	}
	switch {
	case r.Context().Err() != nil:
		h.gone(c)
	case failure != webOK:
		h.fail(w, failure)
	case rsp == nil:
		panic(http.ErrAbortHandler)
	default:
		if h.draining.Load() || h.short() {
			w.Header()["Connection"] = goAway
		}
		if at := h.rules.Load().altSvc; r.TLS != nil && at != "" { // a proxy's clients do not come here
			w.Header()["Alt-Svc"] = []string{at}
		}
		send(w, rsp)
	}
}

// gone counts a request whose client has not waited for the response.
func (h *web) gone(c *webConn) {
	h.n.resets.Add(1)
	if c.reset(time.Now()) {
		h.n.abusive.Add(1)
		c.cut()
	}
}

// allowed are the methods that are served.
const allowed = "GET, HEAD, POST"

// fail answers a request that holds no message.
func (h *web) fail(w http.ResponseWriter, e WebError) {
	h.n.errors[e].Add(1)
	if e == WebMethod {
		w.Header().Set("Allow", allowed) // RFC 9110 §15.5.6
	}
	status := webErrors[e].status
	http.Error(w, http.StatusText(status), status)
}

// goAway has a connection end after the response.
var goAway = []string{"close"}

// contentType is the field of every response. It is shared, and not written to.
var contentType = []string{mediaType}

// send answers with a message.
func send(w http.ResponseWriter, rsp []byte) {
	fields := w.Header()
	fields["Content-Type"] = contentType
	fields["Content-Length"] = []string{strconv.Itoa(len(rsp))}
	fields["Cache-Control"] = []string{"max-age=" + strconv.FormatUint(uint64(wire.Freshness(rsp)), 10)} // RFC 8484 §5.1
	_, _ = w.Write(rsp)                                                                                  // who is gone needs none
}

// exchange answers the message in x; nil: with nothing.
func (h *web) exchange(ctx context.Context, x *webExchange, client, local netip.AddrPort, cut bool) ([]byte, WebError) {
	rsp, outcome, failure := h.atOnce(x, client, local, time.Now(), cut)
	if failure != webOK {
		return nil, failure
	}
	if outcome == Deferred {
		rsp, outcome = h.deferred(ctx, x)
	}
	if outcome != Answered {
		return nil, webOK
	}
	x.out = rsp
	return rsp, webOK
}

// atOnce answers the message in x, which came at that time, if memory can.
func (h *web) atOnce(x *webExchange, client, local netip.AddrPort, now time.Time, cut bool) ([]byte, Outcome, WebError) {
	q := &x.q
	status := parse(q, x.msg, cut)
	if status == wire.Ignored {
		h.n.received.Add(1)
		h.n.status[status].Add(1)
		return nil, Dropped, WebBadRequest // RFC 8484 has no message that is no query
	}
	q.Client, q.Local, q.Proto, q.Received, q.Limit = client, local, h.proto, now, wire.MaxMsgSize
	rsp, outcome := h.answer(&h.n.counters, x.out[:0], x.msg, q, status)
	return rsp, outcome, webOK
}

// deferred answers the query in x, which memory did not. It may block.
func (h *web) deferred(ctx context.Context, x *webExchange) ([]byte, Outcome) {
	rsp, ok := h.take(&h.n.counters, x.out[:0], &x.q)
	if !ok {
		return rsp, Answered
	}
	if rsp = h.later(ctx, x); rsp == nil {
		return nil, Dropped
	}
	return rsp, Answered
}

// later answers the query in x, which has a slot; nil: with nothing. It may block.
func (h *web) later(ctx context.Context, x *webExchange) []byte {
	stack.Reserve()
	rsp := h.serve(ctx, &h.n.counters, x.out[:0], &x.q)
	if rsp != nil {
		h.answered(&h.n.counters, &x.q, rsp)
		x.out = rsp
	}
	return rsp
}

// read reads the message in r into x. It may be cut, if it is longer than any
// query.
func (h *web) read(x *webExchange, r *http.Request) (cut bool, failure WebError) {
	failure = h.check(x, r.Method, r.URL.Path, r.URL.RawQuery, r.Header.Get("Content-Type"), r.ContentLength)
	if failure != webOK || r.Method != http.MethodPost {
		return false, failure
	}
	return x.readBody(r)
}

// check reports what is wrong with a request, and reads its message into x if that
// is not its body.
func (h *web) check(x *webExchange, method, path, query, media string, length int64) WebError {
	if path != h.rules.Load().path {
		return WebNotFound
	}
	switch method {
	case http.MethodGet, http.MethodHead:
		h.n.get.Add(1)
		return x.readURL(query)
	case http.MethodPost:
		return checkBody(media, length)
	}
	return WebMethod
}

// checkBody reports what is wrong with a body of that type and length.
func checkBody(media string, length int64) WebError {
	if media, _, _ := strings.Cut(media, ";"); media != mediaType && !strings.EqualFold(strings.TrimSpace(media), mediaType) {
		return WebMediaType
	}
	if length > maxPost {
		return WebTooLarge
	}
	return webOK
}

// readURL reads the message in the variable dns of a URL's query (RFC 8484 §4.1).
func (x *webExchange) readURL(query string) WebError {
	if len(query) > maxGet {
		return WebURITooLong
	}
	for query != "" {
		var field string
		field, query, _ = strings.Cut(query, "&")
		value, ok := strings.CutPrefix(field, "dns=")
		if !ok {
			continue
		}
		if strings.IndexByte(value, '%') >= 0 { // nothing in it has to be escaped, but may be
			var err error
			if value, err = url.QueryUnescape(value); err != nil {
				return WebBadRequest
			}
		}
		x.msg = append(x.msg[:0], strings.TrimRight(value, "=")...) // RFC 8484 §6: none, but some send them
		var err error
		if x.decoded, err = base64.RawURLEncoding.AppendDecode(x.decoded[:0], x.msg); err != nil {
			return WebBadRequest
		}
		x.msg, x.decoded = x.decoded, x.msg
		return webOK
	}
	return WebBadRequest
}

// readBody reads the message that is r's body. Memory is taken for what has come,
// not for what was announced.
func (x *webExchange) readBody(r *http.Request) (cut bool, failure WebError) {
	x.msg = x.msg[:0]
	for {
		if len(x.msg) == cap(x.msg) {
			// Never by nothing: a GET may have left no memory at all, and to read
			// into none would go on for ever.
			x.msg = slices.Grow(x.msg, max(len(x.msg), wire.MinUDPSize))
		}
		n, err := r.Body.Read(x.msg[len(x.msg):cap(x.msg)])
		x.msg = x.msg[:len(x.msg)+n]
		switch {
		case len(x.msg) > maxQuery:
			x.msg = x.msg[:maxQuery]
			return true, webOK // what else there is, is left to HTTP to throw away
		case errors.Is(err, io.EOF):
			return false, webOK
		case err != nil:
			return false, WebBadRequest // also one that came too slowly
		}
	}
}

// forwardedFor returns whom a proxy asks for, as the last of the addresses in lines,
// the fields X-Forwarded-For, that is not itself a proxy's: those before it are anybody's
// word. Without the field it is the proxy that asks. It reports false when the
// field cannot be read.
func forwardedFor(lines []string, proxy netip.AddrPort, proxies []netip.Prefix) (netip.AddrPort, bool) {
	client := proxy
	for _, line := range slices.Backward(lines) {
		for line != "" {
			at := strings.LastIndexByte(line, ',')
			text := strings.Trim(line[at+1:], " \t")
			line = line[:max(at, 0)]
			a, err := netip.ParseAddr(strings.Trim(text, "[]"))
			if err != nil {
				withPort, err := netip.ParseAddrPort(text)
				if err != nil {
					return netip.AddrPort{}, false
				}
				a = withPort.Addr()
			}
			client = netip.AddrPortFrom(a.Unmap().WithZone(""), 0)
			if !trusts(proxies, client.Addr()) {
				return client, true
			}
		}
	}
	return client, true
}

// trusts reports whether a is one of proxies.
func trusts(proxies []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(a) })
}
