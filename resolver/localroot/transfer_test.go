package localroot

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// primary is a server that has the root zone, in memory. What it sends for a
// zone transfer can be changed.
type primary struct {
	mu sync.Mutex // of what follows: see set

	rrs   []dns.RR // the SOA record first
	dial  error    // why it cannot be reached
	hook  func(question uint16, messages []*dns.Msg) []*dns.Msg
	after func(conn net.Conn) // once everything is sent; nil: the connection ends

	asked []string // types
	conns sync.WaitGroup
}

// set changes p while it may be in use.
func (p *primary) set(change func(p *primary)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

// open returns a connection to p.
func (p *primary) open(context.Context, netip.AddrPort) (net.Conn, error) {
	var failure error
	p.set(func(p *primary) { failure = p.dial })
	if failure != nil {
		return nil, failure
	}
	ours, theirs := net.Pipe()
	p.conns.Go(func() { // ends with the connection
		defer theirs.Close()
		p.serve(&dns.Conn{Conn: theirs})
	})
	return ours, nil
}

func (p *primary) serve(conn *dns.Conn) {
	for {
		q, err := conn.ReadMsg()
		if err != nil {
			return
		}
		typ := q.Question[0].Qtype
		var messages []*dns.Msg
		var hook func(uint16, []*dns.Msg) []*dns.Msg
		p.set(func(p *primary) {
			p.asked = append(p.asked, dns.TypeToString[typ])
			messages, hook = p.answer(q), p.hook
		})
		if hook != nil {
			messages = hook(typ, messages)
		}
		for _, m := range messages {
			if err := conn.WriteMsg(m); err != nil {
				return
			}
		}
		if typ == dns.TypeAXFR {
			if p.after != nil {
				p.after(conn)
			}
			return
		}
	}
}

// answer returns the messages that answer q, with four records each.
func (p *primary) answer(q *dns.Msg) []*dns.Msg {
	reply := func(rrs ...dns.RR) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		m.Authoritative = true
		m.Answer = rrs
		return m
	}
	if q.Question[0].Qtype == dns.TypeSOA {
		return []*dns.Msg{reply(p.rrs[0])}
	}
	rest := append(append([]dns.RR{}, p.rrs...), p.rrs[0])
	var messages []*dns.Msg
	for len(rest) > 0 {
		n := min(4, len(rest))
		messages = append(messages, reply(rest[:n]...))
		rest = rest[n:]
		messages[len(messages)-1].Question = messages[0].Question
	}
	for _, m := range messages[1:] { // RFC 5936 §2.2: may be left out
		m.Question = nil
	}
	return messages
}

// questions returns what p was asked, and forgets it.
func (p *primary) questions() string {
	var asked string
	p.set(func(p *primary) { asked, p.asked = strings.Join(p.asked, " "), nil })
	return asked
}

// transferFrom transfers the zone from p in a bubble of its own time, and
// returns what came and how long it took.
func transferFrom(t *testing.T, p *primary) (rrs []dns.RR, took time.Duration, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		s, end, openErr := open(t.Context(), p.open, netip.AddrPort{})
		if openErr != nil {
			t.Fatal(openErr)
		}
		rrs, err = s.transfer()
		took = time.Since(begun)
		end()
		p.conns.Wait()
	})
	return rrs, took, err
}

func TestTransferTakesAZoneInManyMessages(t *testing.T) {
	p := &primary{rrs: records(t, ".", file(t, "root.zone"))}
	rrs, _, err := transferFrom(t, p)
	if err != nil || section(rrs) != section(p.rrs) {
		t.Errorf("%v, got\n%s\nwant\n%s", err, section(rrs), section(p.rrs))
	}
}

// change returns a hook that changes the message of a transfer with an index.
func change(index int, do func(m *dns.Msg)) func(uint16, []*dns.Msg) []*dns.Msg {
	return func(typ uint16, messages []*dns.Msg) []*dns.Msg {
		if index < 0 {
			index += len(messages)
		}
		do(messages[index])
		return messages
	}
}

func TestTransferRefusesWhatIsNoTransfer(t *testing.T) {
	soa := func(serial uint32) dns.RR {
		rr := dns.Copy(records(t, ".", file(t, "root.zone"))[0])
		rr.(*dns.SOA).Serial = serial
		return rr
	}
	for name, test := range map[string]struct {
		hook func(uint16, []*dns.Msg) []*dns.Msg
		want error
	}{
		"refused":          {change(0, func(m *dns.Msg) { m.Rcode, m.Answer = dns.RcodeRefused, nil }), errRefused},
		"refused later":    {change(1, func(m *dns.Msg) { m.Rcode = dns.RcodeServerFailure }), errRefused},
		"another ID":       {change(0, func(m *dns.Msg) { m.Id++ }), errFormat},
		"another ID later": {change(2, func(m *dns.Msg) { m.Id++ }), errFormat},
		"a query":          {change(0, func(m *dns.Msg) { m.Response = false }), errFormat},
		"truncated":        {change(1, func(m *dns.Msg) { m.Truncated = true }), errFormat},
		"another question": {change(0, func(m *dns.Msg) { m.Question[0].Name = "com." }), errFormat},
		"no question":      {change(0, func(m *dns.Msg) { m.Question = nil }), errFormat},
		"no SOA first":     {change(0, func(m *dns.Msg) { m.Answer = m.Answer[1:] }), errFormat},
		"another serial at the end": {change(-1, func(m *dns.Msg) {
			m.Answer[len(m.Answer)-1] = soa(8)
		}), errFormat},
		"more after the end": {change(-1, func(m *dns.Msg) { m.Answer = append(m.Answer, m.Answer[0]) }), errFormat},
		"an end in between":  {change(1, func(m *dns.Msg) { m.Answer = append([]dns.RR{soa(7)}, m.Answer...) }), errFormat},
		"an early end":       {func(_ uint16, m []*dns.Msg) []*dns.Msg { return m[:3] }, io.EOF},
		"nothing":            {func(uint16, []*dns.Msg) []*dns.Msg { return nil }, io.EOF},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			p := &primary{rrs: records(t, ".", file(t, "root.zone")), hook: test.hook}
			_, _, err := transferFrom(t, p)
			if errors.Is(test.want, io.EOF) && errors.Is(err, io.ErrClosedPipe) { // a pipe takes no deadline once its other end is closed
				err = io.EOF
			}
			if !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
}

// begun has a transfer begin with the SOA record.
func begun(_ uint16, messages []*dns.Msg) []*dns.Msg {
	messages[0].Answer = messages[0].Answer[:1]
	return messages[:1]
}

func TestTransferIsBounded(t *testing.T) {
	few := records(t, ".", "x. 1 NS ns.x.")
	var many []dns.RR
	for range 2000 {
		many = append(many, few[0])
	}
	large := records(t, ".", `x. 1 TXT "`+strings.Repeat("x", 255)+`"`)
	for range 7 {
		large = append(large, large...) // 128 records, 35 KB
	}
	for name, test := range map[string]struct {
		rrs     []dns.RR
		pause   time.Duration
		want    string
		longest time.Duration
	}{
		"records":         {many, 0, errTooMany.Error(), time.Second},
		"octets":          {large, 0, errTooLarge.Error(), time.Second},
		"time":            {few, time.Second, "timeout", transferTime},
		"time of message": {few, time.Minute, "timeout", 2 * messageTime},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			p := &primary{rrs: records(t, ".", file(t, "root.zone"))}
			var id uint16
			p.hook = func(typ uint16, messages []*dns.Msg) []*dns.Msg {
				id = messages[0].Id
				return begun(typ, messages)
			}
			p.after = func(conn net.Conn) {
				c := conn.(*dns.Conn)
				m := &dns.Msg{MsgHdr: dns.MsgHdr{Response: true, Id: id}, Answer: test.rrs}
				for c.WriteMsg(m) == nil {
					time.Sleep(test.pause)
				}
			}
			_, took, err := transferFrom(t, p)
			if err == nil || !strings.Contains(err.Error(), test.want) || took > test.longest {
				t.Errorf("%v after %v, want %s after at most %v", err, took, test.want, test.longest)
			}
		})
	}
}

func TestTransferEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &primary{rrs: records(t, ".", file(t, "root.zone")), hook: func(uint16, []*dns.Msg) []*dns.Msg {
			time.Sleep(messageTime / 2)
			return nil
		}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s, end, err := open(ctx, p.open, netip.AddrPort{})
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if _, err := s.transfer(); err == nil || time.Since(begun) != time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		end()
		p.conns.Wait()
	})
}
