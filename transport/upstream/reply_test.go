package upstream

import (
	"encoding/binary"
	"encoding/hex"
	"runtime"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"shirube/internal/exchange"
	"shirube/internal/wire"
)

// FuzzReplyIsAcceptedOnlyWhenItMatches looks at what is accepted with the eyes
// of another parser, and at what that costs.
func FuzzReplyIsAcceptedOnlyWhenItMatches(f *testing.F) {
	req := exchange.Request{Question: question}
	q := new(scratch).build(draft{req: &req, id: 0x1234, ednsSize: 1232})
	f.Add(q.msg)
	f.Add(good(q.msg))
	f.Add(octets(2, 2)(q.msg))
	f.Add(answerWith(goodAddr, with(int(badCookie), baked(theirs, theirs), baked(theirs)))(q.msg))
	f.Add(wire.AppendHeader(nil, q.msg, wire.Refused))
	ordinary, _ := ordinaryReply(f)
	for _, msg := range append([][]byte{ordinary}, values(hostileMessages())...) {
		if len(msg) < 8192 { // mutating the long ones is a waste of time
			binary.BigEndian.PutUint16(msg, q.id)
			f.Add(msg)
		}
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		if q.judge(msg) != matches {
			return
		}
		checkMatch(t, msg)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m, err := parse(msg)
		runtime.ReadMemStats(&after)
		if memory := after.TotalAlloc - before.TotalAlloc; memory > 2*mostMemory { // the fuzzer's own share included
			t.Errorf("takes %d octets of memory", memory)
		}
		if err != nil {
			return
		}
		if n := len(m.Answer) + len(m.Ns) + len(m.Extra); n > maxRecords || n != records(msg) {
			t.Errorf("%d records of %d", n, records(msg))
		}
		checkEDNS(t, msg, m)
		_ = m.String() // must not panic: logs and taps write it
	})
}

// checkEDNS fails the test when our reading of the OPT record is not m's.
func checkEDNS(t *testing.T, msg []byte, m *dns.Msg) {
	t.Helper()
	e, err := vet(msg)
	if err != nil {
		t.Fatal(err)
	}
	if got := e.rcodeOf(msg); int(got) != m.Rcode {
		t.Errorf("rcode %v, want %d", got, m.Rcode)
	}
	var want *dns.EDNS0_COOKIE
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if c, ok := o.(*dns.EDNS0_COOKIE); ok && want == nil {
				want = c
			}
		}
	}
	data, ok := e.option(optCookie)
	if ok != (want != nil) || ok && hex.EncodeToString(data) != want.Cookie {
		t.Errorf("cookie %x, %v; want %v", data, ok, want)
	}
}

// records returns how many records msg says that it has.
func records(msg []byte) (n int) {
	for off := 6; off < wire.HeaderLen; off += 2 {
		n += int(binary.BigEndian.Uint16(msg[off:]))
	}
	return n
}

// checkMatch fails the test when msg is not the reply to FuzzReply's query.
func checkMatch(t *testing.T, msg []byte) {
	t.Helper()
	var m dns.Msg
	if err := m.Unpack(msg[:wire.HeaderLen]); err != nil {
		t.Fatalf("no header: %v", err)
	}
	if m.Id != 0x1234 || !m.Response || m.Opcode != dns.OpcodeQuery {
		t.Errorf("accepted the header %+v", m.MsgHdr)
	}
	switch qd := binary.BigEndian.Uint16(msg[4:]); qd {
	case 0:
		if m.Rcode != dns.RcodeFormatError && m.Rcode != dns.RcodeServerFailure && m.Rcode != dns.RcodeNotImplemented && m.Rcode != dns.RcodeRefused {
			t.Errorf("accepted %s without a question", dns.RcodeToString[m.Rcode])
		}
	case 1:
		name, off, err := dns.UnpackDomainName(msg, wire.HeaderLen)
		if err != nil || !strings.EqualFold(name, "www.example.") || string(msg[off:off+4]) != "\x00\x01\x00\x01" {
			t.Errorf("accepted the question %q (%v)", name, err)
		}
	default:
		t.Errorf("accepted %d questions", qd)
	}
}

// values returns the values of m.
func values(m map[string][]byte) (all [][]byte) {
	for _, v := range m {
		all = append(all, v)
	}
	return all
}

func TestJudgeAllocatesNothing(t *testing.T) {
	req := exchange.Request{Question: question}
	q := new(scratch).build(draft{req: &req, id: 1, ednsSize: 1232})
	reply := good(q.msg)
	if n := testing.AllocsPerRun(100, func() {
		if q.judge(reply) != matches || !vets(reply) {
			t.Error("not accepted")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// vets reports whether vet finds nothing wrong with msg.
func vets(msg []byte) bool {
	_, err := vet(msg)
	return err == nil
}
