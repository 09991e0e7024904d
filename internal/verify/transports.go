package verify

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// transportChecks ask the good question over each transport.
func transportChecks() []check {
	list := []check{}
	for _, t := range []struct{ name, transport, way, shows string }{
		{"udp", "udp", "UDP", "UDP answers"},
		{"tcp", "tcp", "TCP", "TCP answers"},
		{"dot", "dot", "DoT", "DNS over TLS answers, with a certificate that is trusted"},
		{"doh-http1", "doh", "DoH by HTTP/1.1 POST", "DNS over HTTPS answers HTTP/1.1"},
		{"doh-post", "doh", "DoH by HTTP/2 POST", "DNS over HTTPS answers POST of HTTP/2"},
		{"doh-get", "doh", "DoH by HTTP/2 GET", "DNS over HTTPS answers GET of HTTP/2"},
		{"doh3-post", "doh3", "DoH3 by POST", "DNS over HTTPS answers POST of HTTP/3"},
		{"doh3-get", "doh3", "DoH3 by GET", "DNS over HTTPS answers GET of HTTP/3"},
		{"doq", "doq", "DoQ", "DNS over QUIC answers"},
	} {
		list = append(list, check{
			name: t.name, shows: t.shows, missing: both(needs("good", good), asked(t.transport)),
			run: func(ctx context.Context, p *probe) (string, error) { return p.answers(ctx, t.way) },
		})
	}
	return append(list, check{
		name: "tcp-pipelining", shows: "two questions on one TCP connection are both answered (RFC 7766)", missing: both(needs("good", good), asked("tcp")),
		run: pipelining,
	})
}

// asked says that the profile does not ask over a transport.
func asked(transport string) func(*Options) string {
	return func(o *Options) string {
		if slices.Contains(o.Expect.Transports, transport) {
			return ""
		}
		return "the profile does not expect " + transport
	}
}

// answers asks the good question by a way.
func (p *probe) answers(ctx context.Context, way string) (string, error) {
	r, err := p.ask(ctx, p.way(way), query(p.Questions.Good))
	if err == nil {
		err = wantAnswer(r)
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d records", len(r.Answer)), nil
}

// wantAnswer returns an error if r has no record of the type in question.
func wantAnswer(r *response) error {
	if err := wantCode(r, dns.RcodeSuccess); err != nil {
		return err
	}
	if !has(r.Answer, r.Question[0].Qtype) {
		return fmt.Errorf("found no record of type %s; expected one", dns.TypeToString[r.Question[0].Qtype])
	}
	return nil
}

// pipelining sends two questions in one piece, and wants both answers, in
// whatever order.
func pipelining(ctx context.Context, p *probe) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, p.QuestionTimeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(p.target, p.Ports.DNS).String())
	if err != nil {
		return "", err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return "", err
	}
	var both bytes.Buffer
	waited := map[uint16]bool{}
	for range 2 {
		m := query(p.Questions.Good)
		for waited[m.Id] {
			m.Id++
		}
		waited[m.Id] = true
		b, err := m.Pack()
		if err != nil {
			return "", err
		}
		both.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	}
	if _, err := both.WriteTo(c); err != nil {
		return "", err
	}
	for len(waited) > 0 {
		m, err := readFramed(c)
		if err != nil {
			return "", fmt.Errorf("%d of 2 answers came: %w", 2-len(waited), err)
		}
		if !waited[m.Id] {
			return "", errors.New("found an answer to nothing that was asked")
		}
		delete(waited, m.Id)
	}
	return "2 answers", nil
}

// readFramed reads a message behind its length (RFC 1035 §4.2.2).
func readFramed(r io.Reader) (*dns.Msg, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	m := new(dns.Msg)
	return m, m.Unpack(b)
}

// messageChecks are about headers and sections, over UDP.
func messageChecks() []check {
	return []check{
		{name: "recursion", shows: "RA is set, and AA is not", missing: needs("good", good), run: recursion},
		{name: "spelling", shows: "the question comes back in the letters that it was asked in", missing: needs("good", good), run: spelling},
		{name: "nxdomain", shows: "a name that does not exist is denied, with the SOA record", missing: needs("denied", denied), run: nxdomain},
		{name: "nodata", shows: "a type that does not exist is denied, with the SOA record", missing: needs("empty", empty), run: nodata},
		{name: "truncation", shows: "too much for UDP is truncated (TC), and not sent", missing: needs("big", big), run: truncation},
		{name: "big-answer", shows: "and comes whole over TCP", missing: both(needs("big", big), asked("tcp")), run: bigAnswer},
		{name: "any", shows: "ANY is answered with little (RFC 8482)", missing: needs("good", good), run: anyType},
		{name: "opcode", shows: "an operation that is none of a resolver's is NOTIMP", run: opcode},
		{name: "localhost", shows: "localhost is this machine (RFC 6761)", run: localhost},
		{name: "private-reverse", shows: "names of private addresses stay here (RFC 6303)", run: privateReverse},
		{name: "health-name", shows: "the name that load balancers ask for is answered", missing: needs("health", func(o *Options) Question { return o.Questions.Health }), run: healthName},
	}
}

func recursion(ctx context.Context, p *probe) (string, error) {
	r, err := p.want(ctx, query(p.Questions.Good), dns.RcodeSuccess)
	switch {
	case err != nil:
		return "", err
	case !r.RecursionAvailable || !r.RecursionDesired || r.Authoritative:
		return "", fmt.Errorf("found RD %v, RA %v, AA %v; expected true, true, false", r.RecursionDesired, r.RecursionAvailable, r.Authoritative)
	}
	return "RA", nil
}

func spelling(ctx context.Context, p *probe) (string, error) {
	m := query(p.Questions.Good)
	var mixed strings.Builder
	for i, c := range m.Question[0].Name {
		letter := strings.ToLower(string(c))
		if i%2 == 0 {
			letter = strings.ToUpper(string(c))
		}
		mixed.WriteString(letter)
	}
	m.Question[0].Name = mixed.String()
	r, err := p.want(ctx, m, dns.RcodeSuccess)
	if err != nil {
		return "", err
	}
	if got := r.Question[0].Name; got != mixed.String() {
		return "", fmt.Errorf("found %s; expected %s", got, mixed.String())
	}
	return mixed.String(), nil
}

func nxdomain(ctx context.Context, p *probe) (string, error) {
	r, err := p.want(ctx, query(p.Questions.Denied), dns.RcodeNameError)
	if err != nil {
		return "", err
	}
	return "NXDOMAIN", wantDenial(r)
}

func nodata(ctx context.Context, p *probe) (string, error) {
	r, err := p.want(ctx, query(p.Questions.Empty), dns.RcodeSuccess)
	switch {
	case err != nil:
		return "", err
	case has(r.Answer, r.Question[0].Qtype):
		return "", fmt.Errorf("found %d records; expected none", len(r.Answer))
	}
	return "no records", wantDenial(r)
}

// wantDenial returns an error if r does not say for how long there is nothing.
func wantDenial(r *response) error {
	if !has(r.Ns, dns.TypeSOA) {
		return errors.New("found no SOA record; expected one, for clients to keep the denial (RFC 2308)")
	}
	return nil
}

func truncation(ctx context.Context, p *probe) (string, error) {
	m := query(p.Questions.Big)
	r, err := p.ask(ctx, p.way("UDP"), m)
	switch {
	case err != nil:
		return "", err
	case !r.Truncated || r.octets > ednsSize:
		return "", fmt.Errorf("found TC %v and %d octets; expected TC and %d octets at most", r.Truncated, r.octets, ednsSize)
	}
	m.IsEdns0().SetUDPSize(dns.MaxMsgSize - 1)
	if r, err = p.ask(ctx, p.way("UDP"), m); err != nil {
		return "", err
	}
	if limit := p.Expect.UDPSize; limit > 0 && r.octets > limit {
		return "", fmt.Errorf("found %d octets for a client that takes any; expected %d at most, which are not fragmented", r.octets, limit)
	}
	return fmt.Sprintf("TC, %d octets", r.octets), nil
}

func bigAnswer(ctx context.Context, p *probe) (string, error) {
	r, err := p.ask(ctx, p.way("TCP"), query(p.Questions.Big))
	if err == nil {
		err = wantAnswer(r)
	}
	switch {
	case err != nil:
		return "", err
	case r.Truncated || r.octets <= ednsSize:
		return "", fmt.Errorf("found TC %v and %d octets; expected all of more than %d octets", r.Truncated, r.octets, ednsSize)
	}
	return fmt.Sprintf("%d octets", r.octets), nil
}

func anyType(ctx context.Context, p *probe) (string, error) {
	m := query(Question{p.Questions.Good.Name, dns.TypeANY})
	r, err := p.ask(ctx, p.way("UDP"), m)
	switch {
	case err != nil:
		return "", err
	case len(r.Answer) > 1 && !r.Truncated:
		return "", fmt.Errorf("found %d records; expected one at most", len(r.Answer))
	}
	return fmt.Sprintf("%s, %d records", rcode(r.Msg), len(r.Answer)), nil
}

func opcode(ctx context.Context, p *probe) (string, error) {
	m := new(dns.Msg).SetQuestion(".", dns.TypeSOA)
	m.Opcode = dns.OpcodeStatus
	r, err := p.ask(ctx, p.way("UDP"), m)
	if err != nil {
		return "", err
	}
	return "NOTIMP", wantCode(r, dns.RcodeNotImplemented)
}

func localhost(ctx context.Context, p *probe) (string, error) {
	r, err := p.want(ctx, query(Question{"localhost.", dns.TypeA}), dns.RcodeSuccess)
	if err != nil {
		return "", err
	}
	for _, rr := range r.Answer {
		if a, ok := rr.(*dns.A); ok && a.A.IsLoopback() {
			return a.A.String(), nil
		}
	}
	return "", errors.New("found no address of loopback; expected 127.0.0.1")
}

func privateReverse(ctx context.Context, p *probe) (string, error) {
	r, err := p.want(ctx, query(Question{"1.0.168.192.in-addr.arpa.", dns.TypePTR}), dns.RcodeNameError)
	if err != nil {
		return "", err
	}
	return "NXDOMAIN", wantDenial(r)
}

func healthName(ctx context.Context, p *probe) (string, error) {
	r, err := p.ask(ctx, p.way("UDP"), query(p.Questions.Health))
	if err != nil {
		return "", err
	}
	return "answered", wantAnswer(r)
}
