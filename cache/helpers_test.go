package cache

import (
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// epoch is when tests begin that bring their own clock. It has no monotonic
// reading.
var epoch = time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)

// after returns the time that is seconds after epoch.
func after(seconds float64) time.Time {
	return epoch.Add(time.Duration(seconds * float64(time.Second)))
}

func name(s string) wire.Name { return wire.MustParseName(s) }

func question(n string, typ wire.Type) wire.Question {
	return wire.Question{Name: name(n), Type: typ}
}

// rr reads a record in zone file format.
func rr(tb testing.TB, s string) dns.RR {
	tb.Helper()
	r, err := dns.NewRR(s)
	if err != nil || r == nil {
		tb.Fatalf("%q is no record: %v", s, err)
	}
	return r
}

func rrs(tb testing.TB, records ...string) []dns.RR {
	tb.Helper()
	var out []dns.RR
	for _, s := range records {
		out = append(out, rr(tb, s))
	}
	return out
}

// option changes a query message before it is packed.
type option func(*dns.Msg)

func withID(id uint16) option { return func(m *dns.Msg) { m.Id = id } }
func withDO(m *dns.Msg)       { m.SetEdns0(1232, true) }
func withCD(m *dns.Msg)       { m.CheckingDisabled = true }
func withAD(m *dns.Msg)       { m.AuthenticatedData = true }
func withoutRD(m *dns.Msg)    { m.RecursionDesired = false }

func withEDNS(size uint16) option { return func(m *dns.Msg) { m.SetEdns0(size, false) } }

// query returns the query for spelling and typ as it comes in over UDP.
func query(tb testing.TB, spelling string, typ wire.Type, options ...option) *wire.Query {
	tb.Helper()
	m := new(dns.Msg)
	m.SetQuestion(spelling, uint16(typ))
	for _, o := range options {
		o(m)
	}
	b, err := m.Pack()
	if err != nil {
		tb.Fatalf("packing the query: %v", err)
	}
	return parse(tb, b)
}

func parse(tb testing.TB, msg []byte) *wire.Query {
	tb.Helper()
	q := new(wire.Query)
	if status := q.Parse(msg); status != wire.OK {
		tb.Fatalf("Parse says %d of the query %x", status, msg)
	}
	q.Limit = q.UDPLimit(1232)
	return q
}

// response returns the message that answers q with records.
func response(q wire.Question, records ...dns.RR) *dns.Msg {
	m := new(dns.Msg)
	m.Response, m.RecursionAvailable, m.Compress = true, true, true
	m.Question = []dns.Question{{Name: q.Name.String(), Qtype: uint16(q.Type), Qclass: dns.ClassINET}}
	m.Answer = records
	return m
}

func pack(tb testing.TB, m *dns.Msg) []byte {
	tb.Helper()
	b, err := m.Pack()
	if err != nil {
		tb.Fatalf("packing %v: %v", m, err)
	}
	return b
}

// answerOf returns the Answer that m is at stored.
func answerOf(tb testing.TB, m *dns.Msg, stored time.Time) *Answer {
	tb.Helper()
	a, err := NewAnswer(pack(tb, m), nil, stored, nil)
	if err != nil {
		tb.Fatalf("NewAnswer: %v", err)
	}
	return a
}

// hosts answers a question for an address of n.
func hosts(tb testing.TB, n string, stored time.Time, records ...string) *Answer {
	tb.Helper()
	return answerOf(tb, response(question(n, wire.TypeA), rrs(tb, records...)...), stored)
}

func unpack(tb testing.TB, msg []byte) *dns.Msg {
	tb.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(msg); err != nil {
		tb.Fatalf("the response %x cannot be unpacked: %v", msg, err)
	}
	return m
}

// ask returns what c answers q at now; nil when it has nothing.
func ask(tb testing.TB, c *Answers, q *wire.Query, now time.Time) (*dns.Msg, Hit) {
	tb.Helper()
	buf, hit := c.Append([]byte("before"), q, now)
	if string(buf[:6]) != "before" {
		tb.Fatalf("Append overwrote what was in the buffer: %q", buf[:6])
	}
	if !hit.Found {
		if len(buf) != 6 || hit.EDE != nil {
			tb.Fatalf("a miss appended %x and brought the error %v", buf[6:], hit.EDE)
		}
		return nil, hit
	}
	return unpack(tb, buf[6:]), hit
}
