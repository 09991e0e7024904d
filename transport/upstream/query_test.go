package upstream

import (
	"bytes"
	"testing"

	"github.com/miekg/dns"

	"shirube/internal/exchange"
	"shirube/internal/wire"
)

// packed returns the query for req as miekg/dns makes it.
func packed(t *testing.T, req exchange.Request, id uint16, size int) []byte {
	t.Helper()
	var m dns.Msg
	m.Id = id
	m.Question = []dns.Question{{Name: req.Question.Name.String(), Qtype: uint16(req.Question.Type), Qclass: dns.ClassINET}}
	if !req.Bare {
		m.SetEdns0(uint16(size), true)
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatalf("%q: %v", req.Question.Name, err)
	}
	return b
}

func FuzzQueryIsWhatMiekgPacks(f *testing.F) {
	for _, name := range []string{".", "example.", "www.example.com.", `a\.b.c\000d.\255.`} {
		f.Add([]byte(wire.MustParseName(name)), uint16(1), uint16(4711), uint16(1232), false)
		f.Add([]byte(wire.MustParseName(name)), uint16(48), uint16(0xFFFF), uint16(512), true)
	}
	longest := bytes.Repeat(append([]byte{63}, bytes.Repeat([]byte{'x'}, 63)...), 3)
	f.Add(append(append(longest, 61), append(bytes.Repeat([]byte{'y'}, 61), 0)...), uint16(28), uint16(0), uint16(4096), false)
	f.Fuzz(func(t *testing.T, name []byte, typ, id, size uint16, bare bool) {
		n, err := wire.FromWire(name)
		if err != nil {
			return
		}
		req := exchange.Request{Question: wire.Question{Name: n, Type: wire.Type(typ)}, Bare: bare}
		var s scratch
		q := s.build(&req, id, int(size))
		if want := packed(t, req, id, int(size)); !bytes.Equal(q.msg, want) {
			t.Fatalf("built\n%x, want\n%x", q.msg, want)
		}
		if got := s.out[:2]; int(got[0])<<8|int(got[1]) != len(q.msg) || &s.out[2] != &q.msg[0] {
			t.Fatalf("length field %x before %d octets", got, len(q.msg))
		}
	})
}

func TestBuildAllocatesNothing(t *testing.T) {
	req := exchange.Request{Question: question}
	s := new(scratch)
	if n := testing.AllocsPerRun(100, func() { s.build(&req, 1, 1232) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
