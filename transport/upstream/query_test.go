package upstream

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/miekg/dns"

	"shirube/internal/exchange"
	"shirube/internal/wire"
)

// packed returns the query that d describes as miekg/dns makes it.
func packed(t *testing.T, d draft) []byte {
	t.Helper()
	var m dns.Msg
	m.Id = d.id
	m.RecursionDesired, m.CheckingDisabled = d.req.RD, d.req.CD
	name, _, err := dns.UnpackDomainName(append(d.spelling, d.req.Question.Name...), 0)
	if err != nil {
		t.Fatalf("%q: %v", d.spelling, err)
	}
	m.Question = []dns.Question{{Name: name, Qtype: uint16(d.req.Question.Type), Qclass: dns.ClassINET}}
	if !d.req.Bare {
		m.SetEdns0(uint16(d.ednsSize), true)
		opt := m.IsEdns0()
		if d.cookie != nil {
			opt.Option = append(opt.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: hex.EncodeToString(d.cookie)})
		}
		if d.keepalive {
			opt.Option = append(opt.Option, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE})
		}
		if d.padded {
			pad := new(dns.EDNS0_PADDING)
			opt.Option = append(opt.Option, pad)
			for m.Len()%128 != 0 {
				pad.Padding = append(pad.Padding, 0)
			}
		}
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatalf("%q: %v", d.req.Question.Name, err)
	}
	return b
}

func FuzzQueryIsWhatMiekgPacks(f *testing.F) {
	for i, name := range []string{".", "example.", "www.example.com.", `a\.b.c\000d.\255.`} {
		f.Add([]byte(wire.MustParseName(name)), uint16(1), uint16(4711), uint16(1232), byte(i), uint16(0))
		f.Add([]byte(wire.MustParseName(name)), uint16(48), uint16(0xFFFF), uint16(512), byte(0xFF<<i), uint16(0x5555))
	}
	longest := bytes.Repeat(append([]byte{63}, bytes.Repeat([]byte{'x'}, 63)...), 3)
	f.Add(append(append(longest, 61), append(bytes.Repeat([]byte{'y'}, 61), 0)...), uint16(28), uint16(0), uint16(4096), byte(0xFE), uint16(0xFFFF))
	f.Fuzz(func(t *testing.T, name []byte, typ, id, size uint16, flags byte, random uint16) {
		n, err := wire.FromWire(name)
		if err != nil {
			return
		}
		is := func(i int) bool { return flags>>i&1 == 1 }
		req := exchange.Request{Question: wire.Question{Name: n, Type: wire.Type(typ)}, Bare: is(0), RD: is(1), CD: is(2)}
		d := draft{req: &req, id: id, ednsSize: int(size), keepalive: is(3), padded: is(4)}
		if is(5) {
			d.cookie = bytes.Repeat([]byte{byte(random)}, []int{8, 16, 24, 40}[random%4])
		}
		if is(6) {
			d.spelling = appendSpelling(nil, n, bytes.Repeat([]byte{byte(random), byte(random >> 8)}, 16))
		}
		var s scratch
		q := s.build(d)
		if want := packed(t, d); !bytes.Equal(q.msg, want) {
			t.Fatalf("built\n%x, want\n%x", q.msg, want)
		}
		if got := s.out[:2]; int(got[0])<<8|int(got[1]) != len(q.msg) || &s.out[2] != &q.msg[0] {
			t.Fatalf("length field %x before %d octets", got, len(q.msg))
		}
		if d.cookie != nil && !d.req.Bare && !bytes.Equal(q.cookie, d.cookie[:8]) {
			t.Fatalf("the query says that its client cookie is %x, not %x", q.cookie, d.cookie)
		}
		if d.padded && !d.req.Bare && len(q.msg)%128 != 0 {
			t.Fatalf("%d octets long, which is no multiple of 128", len(q.msg))
		}
	})
}

func TestBuildAllocatesNothing(t *testing.T) {
	req := exchange.Request{Question: question, RD: true}
	s := new(scratch)
	if n := testing.AllocsPerRun(100, func() {
		s.build(draft{req: &req, id: 1, ednsSize: 1232, cookie: s.cookie[:], spelling: s.spelling[:len(question.Name)], keepalive: true, padded: true})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
