// Package simnet is a network of authoritative servers in memory, whose
// answers, faults and delays a test scripts. Nothing in it does I/O: under
// testing/synctest its seconds take no time.
//
// A [Zone] is parsed from the text of a master file, and may be signed; a [Server] answers from
// zones as RFC 1034 §4.3.2 has it, and a [Net] holds servers by address,
// applies a [Fault] or several to what they answer, and logs every query.
package simnet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/exchange"
	"shirube/internal/wire"
)

// DefaultRTT is the time from a query to its response, unless set otherwise.
const DefaultRTT = 10 * time.Millisecond

// MaxQueries bounds the queries that a Net takes and logs, so that a resolver
// that never gives up fails its test instead of filling the memory.
const MaxQueries = 100_000

// ErrFlood reports that a Net was sent more than [MaxQueries] queries.
var ErrFlood = errors.New("simnet: too many queries")

// Net is the network. It is safe for concurrent use. At an address where no
// server is, queries are lost.
type Net struct {
	start time.Time

	mu    sync.Mutex
	hosts map[netip.Addr]*host
	log   Log
}

// host is one machine, at one or more addresses. Net.mu guards it; what its
// fields point to is immutable.
type host struct {
	server *Server
	rtt    time.Duration
	faults []Fault
}

// New returns an empty network whose clock starts now.
func New() *Net {
	return &Net{start: time.Now(), hosts: make(map[netip.Addr]*host)}
}

// Serve makes the server at addr serve zone from text (see [ParseZone]),
// instead of what it served under that name so far. It panics if addr, zone or
// text is wrong: they are the test's own words, as with [wire.MustParseName].
func (n *Net) Serve(addr, zone, text string) {
	z, err := ParseZone(zone, text)
	if err != nil {
		panic("simnet: " + err.Error())
	}
	n.serve(addr, z)
}

// ServeSigned is Serve for a zone that is signed, now.
func (n *Net) ServeSigned(addr, zone, text string, s Signing) {
	z, err := ParseZone(zone, text)
	if err != nil {
		panic("simnet: " + err.Error())
	}
	n.serve(addr, z.Sign(s))
}

// serve makes the server at addr serve z.
func (n *Net) serve(addr string, z *Zone) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.at(netip.MustParseAddr(addr))
	h.server = h.server.With(z)
}

// Attach puts s at addr, instead of the server that was there.
func (n *Net) Attach(addr netip.Addr, s *Server) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.at(addr).server = s
}

// Join makes others addresses of the server at addr too: zones, faults and RTT
// are the same at all of them. Match one of them with [At]. It panics if an
// address is wrong.
func (n *Net) Join(addr string, others ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.at(netip.MustParseAddr(addr))
	for _, a := range others {
		n.hosts[netip.MustParseAddr(a)] = h
	}
}

// Break gives the server at addr faults, which are applied in order, instead
// of those that it had. Without any it is well again. It panics if addr is
// wrong.
func (n *Net) Break(addr string, faults ...Fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.at(netip.MustParseAddr(addr)).faults = faults
}

// SetRTT sets the time from a query to the server's response. It panics if
// addr is wrong.
func (n *Net) SetRTT(addr string, rtt time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.at(netip.MustParseAddr(addr)).rtt = rtt
}

// at returns the host at addr, which is put there if need be.
func (n *Net) at(addr netip.Addr) *host {
	if n.hosts[addr] == nil {
		n.hosts[addr] = &host{server: NewServer(), rtt: DefaultRTT}
	}
	return n.hosts[addr]
}

// Exchange sends the question to the server and returns what it answers, as
// the upstream transport does: over TCP if the request says so or the answer
// over UDP was truncated. The port is ignored. The errors are
// [exchange.ErrTimeout], [exchange.ErrMalformed], the context's, [ErrFlood],
// and what faults make up; a Response comes with them for its Size.
func (n *Net) Exchange(ctx context.Context, req exchange.Request) (exchange.Response, error) {
	return OverTCPIfTruncated(ctx, req, n.send)
}

// OverTCPIfTruncated sends req, and sends it again over TCP if the answer over
// UDP was truncated, as the upstream transport does. The Response counts both.
func OverTCPIfTruncated(ctx context.Context, req exchange.Request,
	send func(context.Context, exchange.Request) (exchange.Response, error),
) (exchange.Response, error) {
	resp, err := send(ctx, req)
	if err != nil || resp.TCP || !resp.Msg.Truncated {
		return resp, err
	}
	received := resp.Size
	req.TCP = true
	resp, err = send(ctx, req)
	resp.Size += received
	resp.Resent = 1
	return resp, err
}

// send sends one query, and waits for the response.
func (n *Net) send(ctx context.Context, req exchange.Request) (exchange.Response, error) {
	h, err := n.accept(req)
	if err != nil {
		return exchange.Response{}, err
	}
	r := h.reply(req)
	if r.Lost || r.After > req.Timeout {
		if err := wait(ctx, req.Timeout); err != nil {
			return exchange.Response{}, err
		}
		return exchange.Response{}, exchange.ErrTimeout
	}
	if req.TCP && r.Err == nil { // RFC 9293 §3.5: the handshake takes a round trip of its own
		if err := wait(ctx, r.After); err != nil {
			return exchange.Response{}, err
		}
	}
	if err := wait(ctx, r.After); err != nil {
		return exchange.Response{}, err
	}
	if r.Err != nil {
		return exchange.Response{}, r.Err
	}
	msg, size, err := transmit(r.Msg, req)
	if err != nil {
		return exchange.Response{}, err
	}
	return exchange.Response{Msg: msg, RTT: r.After, Size: size, TCP: req.TCP}, nil
}

// accept logs a query, and returns the host it goes to as it is right now.
func (n *Net) accept(req exchange.Request) (host, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.log) == MaxQueries {
		return host{}, ErrFlood
	}
	addr := req.Server.Addr()
	n.log = append(n.log, Entry{
		At: time.Since(n.start), Server: addr, Question: req.Question, TCP: req.TCP, Bare: req.Bare,
	})
	if h := n.hosts[addr]; h != nil {
		return *h, nil
	}
	return host{server: NewServer(), faults: []Fault{Silent()}}, nil
}

// reply returns what h sends back. It holds no lock: a hook may change the
// network.
func (h host) reply(req exchange.Request) Reply {
	query := new(dns.Msg).SetQuestion(req.Question.Name.String(), uint16(req.Question.Type))
	query.RecursionDesired, query.CheckingDisabled = req.RD, req.CD
	if !req.Bare {
		query.SetEdns0(UDPSize, true) // RFC 4035 §3.2.1: as the upstream transport does
	}
	r := Reply{After: h.rtt, query: query, server: h.server}
	r.Msg = h.server.Answer(query)
	if len(h.faults) > 0 {
		r.Msg = r.Msg.Copy() // faults edit it
	}
	for _, f := range h.faults {
		f(req, &r)
	}
	if r.Msg == nil && r.Err == nil {
		r.Lost = true
	}
	return r
}

// transmit returns m as it arrives, and its length in octets: whatever cannot
// be on the wire is an error here, and nothing is shared with the sender.
func transmit(m *dns.Msg, req exchange.Request) (*dns.Msg, int, error) {
	if !req.TCP {
		size := UDPSize
		if req.Bare {
			size = wire.MinUDPSize
		}
		m.Truncate(size)
	}
	b, err := m.Pack()
	if err != nil {
		return nil, 0, fmt.Errorf("simnet: response to %s: %w", req.Question, err)
	}
	got := new(dns.Msg)
	if err := got.Unpack(b); err != nil {
		return nil, len(b), fmt.Errorf("%w: %w", exchange.ErrMalformed, err)
	}
	return got, len(b), nil
}

// wait waits for d, or until ctx is done, and then returns its error.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
