// Package upstream asks one server one question over the network: over UDP,
// over TCP when the answer is truncated (RFC 7766 §5) or may be forged, and over
// TLS where a forwarder is to be known by name or key (RFC 7858).
//
// What comes back is believed only when it matches what was sent: ID, port,
// question, the spelling of the name and the cookie. What is nothing like a reply
// is dropped and counted, and the wait goes on: whoever can make a resolver give
// up early with one crafted datagram can take its servers away from it (TuDoor,
// CVE-2023-26437). What is nearly one has the question asked over TCP. Every
// query over UDP has a socket for itself, connected to the server, on a port
// drawn anew from all unprivileged ones (RFC 5452 §9.2).
//
// What a server can do is remembered, but never because of a message that
// somebody else may have sent. Connections are kept for a while and shared
// (RFC 7766 §6.2.1).
package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"shirube/dnstap"
	"shirube/internal/exchange"
	"shirube/internal/wire"
)

// The limits that are not for the operator to move.
const (
	// maxStrays is how many datagrams one exchange drops before it gives up.
	// With the port known to an attacker, each is a guess at the ID, so this
	// leaves 17 guesses in 65,536 (RFC 5452 §5).
	maxStrays = 16

	// maxPortDraws is how many ports are drawn for one query. With half of
	// all ports in use, one query in 65,536 finds none.
	maxPortDraws = 16

	// maxEDNSSize is the largest UDP payload size to offer (RFC 6891 §6.2.5).
	maxEDNSSize = 4096

	// mostInFlight is the largest MaxInFlight: half of the ports.
	mostInFlight = numPorts / 2

	// mostPipelined is the largest Pipelined: so few that an ID drawn for one
	// more is nearly always free.
	mostPipelined = 1000

	// logPause is how long the log stays quiet about trouble of this machine
	// after it spoke of some. The counters go on.
	logPause = time.Minute
)

// Options configures a [Client]. The zero value of each field is its default.
type Options struct {
	// EDNSSize is the UDP payload size offered to servers, in octets: 512 to
	// 4096, by default 1232 (RFC 9715 §3.1). A larger datagram is dropped.
	EDNSSize int

	// MaxInFlight is how many exchanges may be under way at once: at most
	// 32,256, by default 12,000. Each has one descriptor. One more fails with
	// [ErrBusy].
	MaxInFlight int

	// TCPTimeout is the longest that one attempt over TCP may take, from the
	// connection's first packet to the answer's last octet. By default 3 s.
	TCPTimeout time.Duration

	// CaseRandomisation sends each name in a random mix of upper and lower case,
	// and takes no reply that does not have it in the same one (draft
	// vixie-dnsext-dns0x20): a bit per letter that an attacker has to guess.
	// After a reply in another spelling the question goes over TCP. Servers
	// that change the spelling over TCP too are remembered for an hour, and
	// asked in lower case.
	CaseRandomisation bool

	// Cookies sends cookies (RFC 7873), over UDP and TCP, with EDNS only. A
	// reply with another cookie than was sent is dropped; one without, from a
	// server that sent one before, has the question asked over TCP.
	Cookies bool

	// TCPOnMismatch has the question go over TCP as soon as a datagram comes
	// from the server that is almost a reply: it has the ID but not the
	// question, the question but not the ID, or another cookie. Such are
	// guesses at a reply (SAD DNS, CVE-2020-25705). Without it they are
	// dropped, up to 16 of them.
	TCPOnMismatch bool

	// Connections is how many connections may be open at once, to all servers
	// together: at most 32,256, by default 1,024, which is more than all the
	// questions below one zone cut can take. Each has one descriptor and one
	// goroutine. When so many are open the longest idle one is closed; when none
	// is idle the question fails with [ErrBusy].
	Connections int

	// ConnectionsPerServer is how many connections may be open to one server,
	// by default 2. The second is opened when the first is full (RFC 7766
	// §6.2.2). A few more may be finishing, or be needed by a server that
	// answers only one question on each.
	ConnectionsPerServer int

	// Pipelined is how many queries may be in flight on one connection: at
	// most 1,000, by default 32. More wait.
	Pipelined int

	// IdleTimeout is how long a connection without queries is kept, unless the
	// server says otherwise (RFC 7828): by default 3 s. With TLS on it, it is
	// kept five times as long.
	IdleTimeout time.Duration

	// Opportunistic is how authorities are asked that can be asked encrypted. By
	// default they are asked in the clear.
	Opportunistic Opportunistic

	// RootCAs are the authorities that name servers' certificates may be from.
	// By default those of the system.
	RootCAs *x509.CertPool

	// Tap is told of every query sent and every reply that was accepted. By
	// default nobody is.
	Tap *dnstap.Tap

	// Log is told, at most once a minute, when this machine cannot send, out of
	// descriptors, ports or exchanges, and when a server cannot prove with TLS
	// who it is. By default nobody is.
	Log *slog.Logger
}

// Client asks servers. Its methods may be called concurrently. Beside the
// exchanges under way it has connections that may be used again, each with a
// descriptor and a goroutine, which end by themselves when idle, or with Close;
// up to [MaxKept] sockets, until Close; and from the first question over UDP on one descriptor and one goroutine that
// waits for all sockets, until Close.
type Client struct {
	opt     Options   // with defaults filled in
	scratch sync.Pool // of *scratch
	*network
}

// network is what a Client has open, knows and counts. All that [Client.With]
// returns have one together.
type network struct {
	draw     func() (port, id uint16) // replaced in tests only
	servers  *servers                 // what is remembered of them
	pool     *pool                    // of connections
	pollers  pollers                  // of sockets
	sessions tls.ClientSessionCache   // of TLS, of all servers that prove who they are
	chances  tls.ClientSessionCache   // of those that need not
	probing  atomic.Int64             // probes under way
	closed   atomic.Bool

	inFlight atomic.Int64
	quiet    atomic.Int64 // when the log may be told again, in Unix nanoseconds
	count    counters
}

// scratch is the memory that one exchange needs, for the next one to use again.
type scratch struct {
	out     [2 + maxQueryLen]byte // TCP's length field and the query
	in      []byte                // one octet longer than the largest datagram that is taken
	socket  socket
	attempt attempt

	random   [clientCookieLen + wire.MaxNameLen/8 + 1]byte // for a cookie and a spelling
	spelling [wire.MaxNameLen]byte
	cookie   [maxCookieLen]byte
}

func newScratch(ednsSize int) *scratch {
	s := &scratch{in: make([]byte, ednsSize+1)}
	s.socket.init()
	return s
}

// New returns a Client. The error says which option makes no sense.
func New(o Options) (*Client, error) {
	n := &network{
		draw: drawPortAndID, servers: newServers(),
		sessions: tls.NewLRUClientSessionCache(maxSessions), chances: tls.NewLRUClientSessionCache(maxChances),
	}
	c, err := build(o, n)
	if err != nil {
		return nil, err
	}
	n.pool = &pool{
		total: c.opt.Connections, perPeer: c.opt.ConnectionsPerServer, pipelined: c.opt.Pipelined,
		idleFor: c.opt.IdleTimeout, timeout: c.opt.TCPTimeout,
		dial: c.dial, count: &n.count, lines: make(map[peer]*line),
	}
	return c, nil
}

// With returns a Client that goes by o, has the connections of c and knows of
// servers what c knows. Both may be used at the same time; to close one is to
// close both. What is about connections themselves (Connections,
// ConnectionsPerServer, Pipelined, IdleTimeout, RootCAs) stays as it is in c, and so
// does Tap.
func (c *Client) With(o Options) (*Client, error) {
	o.Tap = c.opt.Tap
	return build(o, c.network)
}

// build returns a Client with n.
func build(o Options, n *network) (*Client, error) {
	o.EDNSSize = cmp.Or(o.EDNSSize, 1232)
	o.MaxInFlight = cmp.Or(o.MaxInFlight, 12_000)
	o.TCPTimeout = cmp.Or(o.TCPTimeout, 3*time.Second)
	o.Connections = cmp.Or(o.Connections, 1024)
	o.ConnectionsPerServer = cmp.Or(o.ConnectionsPerServer, 2)
	o.Pipelined = cmp.Or(o.Pipelined, 32)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 3*time.Second)
	o.Opportunistic.Port = cmp.Or(o.Opportunistic.Port, 853) // RFC 9539 §4.6.3: as DoT (RFC 7858 §3.1) and DoQ (RFC 9250 §4.1.1)
	o.Opportunistic.Clear = cmp.Or(o.Opportunistic.Clear, 53)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if err := o.check(); err != nil {
		return nil, err
	}
	c := &Client{opt: o, network: n}
	c.scratch.New = func() any { return newScratch(o.EDNSSize) }
	return c, nil
}

// check says which option makes no sense. None is at its default any more.
func (o *Options) check() error {
	switch {
	case o.EDNSSize < wire.MinUDPSize || o.EDNSSize > maxEDNSSize:
		return fmt.Errorf("EDNS size %d is not between %d and %d", o.EDNSSize, wire.MinUDPSize, maxEDNSSize)
	case o.MaxInFlight < 0 || o.MaxInFlight > mostInFlight:
		return fmt.Errorf("%d exchanges at once are not between 1 and %d", o.MaxInFlight, mostInFlight)
	case o.TCPTimeout < 0:
		return fmt.Errorf("TCP timeout %v is negative", o.TCPTimeout)
	case o.Connections < 0 || o.Connections > mostInFlight:
		return fmt.Errorf("%d connections are not between 1 and %d", o.Connections, mostInFlight)
	case o.ConnectionsPerServer < 0:
		return fmt.Errorf("%d connections per server are less than one", o.ConnectionsPerServer)
	case o.Pipelined < 0 || o.Pipelined > mostPipelined:
		return fmt.Errorf("%d queries on a connection are not between 1 and %d", o.Pipelined, mostPipelined)
	case o.IdleTimeout < 0:
		return fmt.Errorf("idle timeout %v is negative", o.IdleTimeout)
	}
	return nil
}

// Close closes all connections, and waits until they are. Questions under way
// fail with [ErrClosed], as do all later ones. It may be called more than once.
func (c *Client) Close() {
	c.closed.Store(true)
	c.pool.close()
	c.pollers.close()
}

// Exchange asks req.Server req.Question and returns its answer, whatever the
// answer's rcode. An answer has the question asked in its question section, or,
// when it is an error of an old server's, nothing.
//
// The error wraps [exchange.ErrTimeout] when no acceptable answer came in time,
// [exchange.ErrMalformed] when one came that cannot be parsed, and otherwise
// what went wrong, all in an [*Error] that says with whom; but it is ctx.Err()
// when ctx ended first, [ErrRequest] for what cannot be asked, and it wraps
// [ErrBusy] when too many exchanges are under way, or [ErrClosed] after Close.
//
// Neither a truncated answer nor one in doubt is ever returned: when TCP fails
// after it, TCP's error is. Names are in lower case where the question's own
// spelling may have got into the answer. With an error the Response is empty but
// for Size and Resent.
func (c *Client) Exchange(ctx context.Context, req exchange.Request) (exchange.Response, error) {
	if err := ctx.Err(); err != nil {
		return exchange.Response{}, err
	}
	if err := check(&req); err != nil {
		return exchange.Response{}, err
	}
	if c.closed.Load() {
		return exchange.Response{}, ErrClosed
	}
	defer c.inFlight.Add(-1)
	if c.inFlight.Add(1) > int64(c.opt.MaxInFlight) {
		c.count.busy.Add(1)
		c.complain(ErrBusy)
		return exchange.Response{}, ErrBusy
	}
	s := c.scratch.Get().(*scratch)
	a := &s.attempt
	a.client, a.req, a.scratch = c, req, s
	defer func() {
		*a = attempt{} // keeps nothing of the request
		c.scratch.Put(s)
	}()
	if c.opt.CaseRandomisation || c.opt.Cookies || c.opt.Opportunistic.any() {
		a.now = time.Now().UnixNano()
		a.known = c.servers.get(req.Server, a.now)
	}
	resp, err := a.ask(ctx)
	resp.Size, resp.Resent = a.octets, max(a.sends-1, 0)
	return resp, err
}

// check refuses what cannot be asked, and writes an IPv4 address that is mapped
// into IPv6 as what it is.
func check(req *exchange.Request) error {
	addr := req.Server.Addr().Unmap()
	switch {
	case !addr.IsValid() || addr.IsUnspecified() || addr.IsMulticast() || addr.Zone() != "" || req.Server.Port() == 0:
		return fmt.Errorf("%w: no server can be at %v", ErrRequest, req.Server)
	case req.Question.Name == "":
		return fmt.Errorf("%w: no name to ask for", ErrRequest)
	case req.Timeout <= 0:
		return fmt.Errorf("%w: no time to wait for an answer", ErrRequest)
	}
	req.Server = netip.AddrPortFrom(addr, req.Server.Port())
	return checkTLS(req.TLS)
}

// complain tells the log why this machine cannot send, unless it was told just
// now.
func (c *Client) complain(why error) {
	now := time.Now().UnixNano()
	until := c.quiet.Load()
	if now >= until && c.quiet.CompareAndSwap(until, now+int64(logPause)) {
		c.opt.Log.Warn("cannot ask name servers", "error", why, "in_flight", c.inFlight.Load(), "limit", c.opt.MaxInFlight)
	}
}
