package localroot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// The limits of one server's transfer. The root has about 25,000 records in
// 1.3 MB on the wire and 2.2 MB in a file (2025).
const (
	maxOctets    = 16 << 20
	maxRecords   = 200_000
	transferTime = time.Minute      // for all of it
	messageTime  = 10 * time.Second // for the connection, and for each message
)

// What ends a transfer.
var (
	errTooLarge = fmt.Errorf("more than %d octets", maxOctets)
	errRefused  = errors.New("the server refused")
	errFormat   = errors.New("not an answer to what was asked")
)

// session is a TCP connection to a server that has the zone.
type session struct {
	conn  dns.Conn
	left  *io.LimitedReader
	until time.Time // when it has to be over
}

// limited is a connection that can be read so far.
type limited struct {
	net.Conn
	io.Reader
}

// Read implements [io.Reader].
func (l limited) Read(p []byte) (int, error) { return l.Reader.Read(p) }

// dialFunc opens a TCP connection.
type dialFunc func(ctx context.Context, server netip.AddrPort) (net.Conn, error)

// dialTCP is the real one.
func dialTCP(ctx context.Context, server netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{Timeout: messageTime, KeepAlive: -1}
	return d.DialTCP(ctx, "tcp", netip.AddrPort{}, server)
}

// open connects to server. Whoever calls it has to call end.
func open(ctx context.Context, dial dialFunc, server netip.AddrPort) (s *session, end func(), err error) {
	conn, err := dial(ctx, server)
	if err != nil {
		return nil, nil, err
	}
	// One goroutine at most, of context's, that ends at once.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	left := &io.LimitedReader{R: conn, N: maxOctets}
	s = &session{left: left, until: time.Now().Add(transferTime)}
	s.conn.Conn = limited{conn, left}
	return s, func() { stop(); conn.Close() }, nil
}

// ask sends a question about the root and returns the first message of the
// answer, which has rcode NOERROR.
func (s *session) ask(typ uint16) (*dns.Msg, error) {
	q := new(dns.Msg).SetQuestion(".", typ)
	q.RecursionDesired = false
	if err := s.conn.SetDeadline(s.deadline()); err != nil {
		return nil, err
	}
	if err := s.conn.WriteMsg(q); err != nil {
		return nil, err
	}
	m, err := s.read(q.Id)
	if err != nil {
		return nil, err
	}
	if len(m.Question) != 1 || m.Question[0] != q.Question[0] { // RFC 5936 §2.2.1: in the first message
		return nil, errFormat
	}
	return m, nil
}

// read returns the next message, which has to have the id.
func (s *session) read(id uint16) (*dns.Msg, error) {
	if err := s.conn.SetDeadline(s.deadline()); err != nil {
		return nil, err
	}
	m, err := s.conn.ReadMsg()
	switch {
	case err != nil && s.left.N <= 0:
		return nil, errTooLarge
	case err != nil:
		return nil, err
	case m.Id != id || !m.Response || m.Opcode != dns.OpcodeQuery || m.Truncated:
		return nil, errFormat
	case m.Rcode != dns.RcodeSuccess:
		return nil, fmt.Errorf("%w: %s", errRefused, dns.RcodeToString[m.Rcode])
	}
	return m, nil
}

// deadline returns when the next step has to be done.
func (s *session) deadline() time.Time {
	if next := time.Now().Add(messageTime); next.Before(s.until) {
		return next
	}
	return s.until
}

// serial asks for the SOA record of the root.
func (s *session) serial() (*dns.SOA, error) {
	m, err := s.ask(dns.TypeSOA)
	if err != nil {
		return nil, err
	}
	if !m.Authoritative || len(m.Answer) == 0 {
		return nil, errFormat
	}
	soa, ok := apexSOA(m.Answer[0])
	if !ok {
		return nil, errFormat
	}
	return soa, nil
}

// apexSOA returns rr if it is an SOA record of the root.
func apexSOA(rr dns.RR) (*dns.SOA, bool) {
	soa, ok := rr.(*dns.SOA)
	return soa, ok && soa.Hdr.Name == "." && soa.Hdr.Class == dns.ClassINET
}

// transfer asks for the whole zone (RFC 5936 §2.2): it begins and ends with
// the SOA record, and nothing follows.
func (s *session) transfer() ([]dns.RR, error) {
	m, err := s.ask(dns.TypeAXFR)
	if err != nil {
		return nil, err
	}
	var first *dns.SOA
	var rrs []dns.RR
	for {
		for i, rr := range m.Answer {
			soa, isSOA := apexSOA(rr)
			switch {
			case first == nil && !isSOA:
				return nil, errFormat
			case first == nil:
				first = soa
			case isSOA && (soa.Serial != first.Serial || i != len(m.Answer)-1):
				return nil, errFormat
			case isSOA:
				return rrs, nil
			case len(rrs) == maxRecords:
				return nil, errTooMany
			}
			rrs = append(rrs, rr)
		}
		if m, err = s.read(m.Id); err != nil {
			return nil, err
		}
	}
}
