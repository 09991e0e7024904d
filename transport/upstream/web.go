package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/exchange"
	"shirube/internal/wire"
)

// The limits on DNS over HTTPS that are not for the operator to move.
const (
	// maxHeader is how many octets the header fields of a response may have.
	maxHeader = 16 << 10

	// maxAge is the longest that an answer may have been kept elsewhere: more is
	// taken for that (RFC 9111 §1.2.2), and no TTL is longer.
	maxAge = 1<<31 - 1

	// webPort is left out of URLs (RFC 9110 §4.2.2).
	webPort = 443

	// mediaType is that of queries and of answers (RFC 8484 §6).
	mediaType = "application/dns-message"
)

// errNotHTTP2 reports a server with another version of HTTP, which would answer
// one question at a time (RFC 8484 §5.2).
var errNotHTTP2 = errors.New("the server does not speak HTTP/2")

// web is a connection of HTTP/2.
type web struct {
	conn   *http.ClientConn
	url    *url.URL
	from   netip.AddrPort
	gone   chan struct{} // closed when the connection takes no more requests
	closed sync.Once     // gone is
}

// dialWeb makes a connection of HTTP/2 of conn, which is one of TLS to to.
func dialWeb(ctx context.Context, conn net.Conn, to peer) (made link, op string, err error) {
	transport := &http.Transport{
		DialTLSContext:         func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true, // it would only tell of the client
		Protocols:              new(http.Protocols),
	}
	transport.Protocols.SetHTTP2(true)
	w := &web{url: to.url(), from: tcpAsker(conn), gone: make(chan struct{})}
	if w.conn, err = transport.NewClientConn(ctx, "https", to.addr.String()); err != nil {
		reset(conn)
		conn.Close()
		return link{}, "handshake", fmt.Errorf("%w: %w", errNotHTTP2, err)
	}
	w.conn.SetStateHook(func(c *http.ClientConn) {
		if c.Err() != nil {
			w.closed.Do(func() { close(w.gone) })
		}
	})
	return link{streams: w}, "", nil
}

// url returns what p is asked by. No other is ever followed to (RFC 8484 §3).
func (p *peer) url() *url.URL {
	host, port := p.name, strconv.Itoa(int(p.addr.Port()))
	if host == "" {
		host = p.addr.Addr().String()
	}
	at := net.JoinHostPort(host, port)
	if p.addr.Port() == webPort {
		at = at[:len(at)-len(port)-1]
	}
	return &url.URL{Scheme: "https", Host: at, Path: p.path}
}

// ask implements [streams].
func (w *web) ask(ctx context.Context, query []byte) (msg []byte, age time.Duration, err error) {
	req := (&http.Request{
		Method: http.MethodPost, URL: w.url, Host: w.url.Host, ContentLength: int64(len(query)),
		// The client may go on to read the body after the answer (RFC 9113 §8.1), when
		// the query's memory is somebody else's.
		Body: io.NopCloser(bytes.NewReader(bytes.Clone(query))),
		Header: http.Header{
			"Accept":       {mediaType}, // RFC 8484 §4.1
			"Content-Type": {mediaType},
			"User-Agent":   nil, // RFC 8484 §8.2: nothing that tells clients apart
		},
	}).WithContext(ctx)
	resp, err := w.conn.RoundTrip(req)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", io.EOF, err)
	}
	defer resp.Body.Close() // and with it the stream
	if err := acceptable(resp); err != nil {
		return nil, 0, err
	}
	if msg, err = readAnswer(resp.Body); err != nil && !errors.Is(err, exchange.ErrMalformed) {
		err = fmt.Errorf("%w: %w", io.EOF, err)
	}
	return msg, ageOf(resp.Header.Get("Age")), err
}

// acceptable reports why resp has no answer.
func acceptable(resp *http.Response) error {
	media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case resp.StatusCode < 200 || resp.StatusCode > 299: // RFC 8484 §4.2.1; redirections too
		return fmt.Errorf("%w: HTTP status %d", exchange.ErrMalformed, resp.StatusCode)
	case err != nil || media != mediaType: // RFC 8484 §4.2
		return fmt.Errorf("%w: not of the type %s", exchange.ErrMalformed, mediaType)
	case resp.ContentLength > wire.MaxMsgSize:
		return fmt.Errorf("%w: %d octets", exchange.ErrMalformed, resp.ContentLength)
	}
	return nil
}

// ageOf returns what the field Age says; 0 if that makes no sense.
func ageOf(field string) time.Duration {
	n, err := strconv.ParseUint(field, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0
	}
	return time.Duration(min(n, maxAge)) * time.Second
}

// grow takes from all TTLs of m what has passed of them elsewhere (RFC 8484 §5.1).
func grow(m *dns.Msg, age time.Duration) {
	seconds := uint32(age / time.Second)
	for _, section := range [...][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			if h := rr.Header(); h.Rrtype != dns.TypeOPT {
				h.Ttl -= min(h.Ttl, seconds)
			}
		}
	}
}

func (w *web) ended() <-chan struct{} { return w.gone }
func (w *web) local() netip.AddrPort  { return w.from }
func (w *web) close()                 { _ = w.conn.Close() } // nobody waits for anything on it
