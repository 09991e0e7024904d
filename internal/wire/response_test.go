package wire

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// unpack returns msg as miekg/dns reads it, which has to.
func unpack(t testing.TB, msg []byte) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(msg); err != nil {
		t.Fatalf("%x: %v", msg, err)
	}
	return m
}

func TestAppendHeaderEchoesIDOpcodeAndRDOnly(t *testing.T) {
	for what, c := range map[string]struct {
		msg   string
		rcode Rcode
		want  string
	}{
		"all zero":    {"\x00\x00\x00\x00", NoError, "\x00\x00\x80\x80"},
		"all ones":    {"\xAB\xCD\xFF\xFF", FormErr, "\xAB\xCD\xF9\x81"},
		"a query":     {"\x12\x34\x01\x20", Refused, "\x12\x34\x81\x85"},
		"an update":   {"\x12\x34\x28\x00", NotImp, "\x12\x34\xA8\x84"},
		"the 12 bits": {"\x12\x34\x00\x00", BadVers | 3, "\x12\x34\x80\x83"},
	} {
		msg := c.msg + strings.Repeat("\xFF", 8) + "what follows"
		got := AppendHeader([]byte("xx"), []byte(msg), c.rcode)
		if string(got) != "xx"+c.want+strings.Repeat("\x00", 8) {
			t.Errorf("%s: AppendHeader = %x", what, got)
		}
	}
}

func TestAppendReplyHasTheQuestionInItsSpelling(t *testing.T) {
	q := parse(t, fullQuery)
	got := AppendReply([]byte("xx"), q, ServFail)[2:]
	if !bytes.Equal(got[HeaderLen:], q.RawQuestion()) {
		t.Errorf("the question is %q, want %q", got[HeaderLen:], q.RawQuestion())
	}
	m := unpack(t, got)
	want := dns.MsgHdr{Id: 0x1234, Response: true, RecursionDesired: true, RecursionAvailable: true, CheckingDisabled: true, Rcode: dns.RcodeServerFailure}
	if m.MsgHdr != want {
		t.Errorf("the header is %+v, want %+v", m.MsgHdr, want)
	}
	q = parse(t, []byte("\x12\x34\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01"))
	if m = unpack(t, AppendReply(nil, q, NoError)); m.RecursionDesired || m.CheckingDisabled || !m.RecursionAvailable {
		t.Errorf("without RD and CD the header is %+v", m.MsgHdr)
	}
}

func TestReaddressAnswersAnotherClient(t *testing.T) {
	stored := packed(t, []string{"www.example.com. 300 IN AAAA 2001:db8::1"}, nil, nil)
	for _, c := range []struct {
		what        string
		stored, ask [2]byte // octets 2 and 3 of the headers
		do          bool
		want        [2]byte
	}{
		{"RD and CD are the client's", [2]byte{0x81, 0x90}, [2]byte{0x00, 0x00}, false, [2]byte{0x80, 0x80}},
		{"RD and CD are the client's, set", [2]byte{0x80, 0x80}, [2]byte{0x01, 0x10}, false, [2]byte{0x81, 0x90}},
		{"AD is shown to a client with AD", [2]byte{0x80, 0xA0}, [2]byte{0x00, 0x20}, false, [2]byte{0x80, 0xA0}},
		{"AD is shown to a client with DO", [2]byte{0x80, 0xA0}, [2]byte{0x00, 0x00}, true, [2]byte{0x80, 0xA0}},
		{"AD is hidden from others (RFC 6840 §5.8)", [2]byte{0x80, 0xA0}, [2]byte{0x00, 0x00}, false, [2]byte{0x80, 0x80}},
		{"AD is not the client's to set", [2]byte{0x80, 0x80}, [2]byte{0x00, 0x20}, true, [2]byte{0x80, 0x80}},
		{"AA, TC and the rcode stay", [2]byte{0x86, 0x83}, [2]byte{0x00, 0x00}, false, [2]byte{0x86, 0x83}},
		{"the client's AA, TC, Z and rcode are dropped", [2]byte{0x80, 0x80}, [2]byte{0x07, 0xCF}, false, [2]byte{0x81, 0x80}},
		{"a stored query becomes a response", [2]byte{0x00, 0x40}, [2]byte{0x00, 0x00}, false, [2]byte{0x80, 0x80}},
	} {
		ask := bytes.Clone(plainQuery)
		if c.do {
			ask = bytes.Clone(ednsQuery)
		}
		copy(ask[2:], c.ask[:])
		msg := bytes.Clone(stored)
		copy(msg[2:], c.stored[:])
		q := parse(t, ask)
		Readdress(msg, q)
		if [2]byte(msg[2:]) != c.want {
			t.Errorf("%s: the flags are %x, want %x", c.what, msg[2:4], c.want)
		}
		m := unpack(t, msg)
		if m.Id != 0x1234 || m.Question[0].Name != "wWw.eXample.com." || m.Question[0].Qtype != dns.TypeAAAA {
			t.Errorf("%s: the response is to %d, %v", c.what, m.Id, m.Question)
		}
		if m.Answer[0].Header().Name != "wWw.eXample.com." { // compressed, so spelt as the question is
			t.Errorf("%s: the answer is %v", c.what, m.Answer)
		}
	}
}

func TestAgeStopsAtZero(t *testing.T) {
	for age, want := range map[uint32][]uint32{
		0:         {300, 60, 172800, 7, 3600},
		7:         {293, 53, 172793, 0, 3593},
		60:        {240, 0, 172740, 0, 3540},
		1<<32 - 1: {0, 0, 0, 0, 0},
	} {
		msg := manyTTLs(t)
		offsets, _, _ := AppendTTLOffsets(nil, msg)
		Age(msg, offsets, age)
		for i, off := range offsets {
			if got := binary.BigEndian.Uint32(msg[off:]); got != want[i] {
				t.Errorf("%d s later TTL %d is %d, want %d", age, i, got, want[i])
			}
		}
		unpack(t, msg)
	}
}

func TestAgeTakesATTLAbove31BitsForZero(t *testing.T) {
	msg := manyTTLs(t)
	offsets, _, _ := AppendTTLOffsets(nil, msg)
	binary.BigEndian.PutUint32(msg[offsets[0]:], 1<<31)
	Age(msg, offsets, 1)
	if got := binary.BigEndian.Uint32(msg[offsets[0]:]); got != 0 { // RFC 2181 §8
		t.Errorf("the TTL is %d, want 0", got)
	}
}

func TestTruncateLeavesHeaderAndQuestion(t *testing.T) {
	q := parse(t, ednsQuery)
	msg := packed(t, []string{"www.example.com. 300 IN AAAA 2001:db8::1"}, []string{"example.com. 300 IN NS ns.example.com."}, []string{"ns.example.com. 300 IN A 192.0.2.1"})
	msg[3] |= byte(NXDomain)
	Readdress(msg, q)
	got := Truncate(append([]byte("xx"), msg...), 2, q)[2:]
	m := unpack(t, got)
	if !m.Truncated || !m.Response || m.Rcode != dns.RcodeNameError || m.Id != 0x1234 {
		t.Errorf("the header is %+v", m.MsgHdr)
	}
	if len(got) != HeaderLen+len(q.RawQuestion()) || string(got[4:HeaderLen]) != "\x00\x01\x00\x00\x00\x00\x00\x00" || !bytes.Equal(got[HeaderLen:], q.RawQuestion()) {
		t.Errorf("what is left is %x", got)
	}
	q.Limit = MinUDPSize
	if m = unpack(t, AppendOPT(got, 0, q, 1232, NXDomain)); m.IsEdns0() == nil || !m.Truncated { // RFC 6891 §7
		t.Errorf("with an OPT record it is %v", m)
	}
}

func TestAppendOPTCarriesSizeRcodeDOAndOptions(t *testing.T) {
	q := parse(t, ednsQuery)
	buf := AppendReply([]byte("xx"), q, BadVers)
	buf = AppendOPT(buf, 2, q, 1400, BadVers,
		Option{Code: OptionEDE, Data: []byte{0, 22}, Text: "no server answered"},
		Option{Code: dns.EDNS0NSID, Text: "ns1"})
	m := unpack(t, buf[2:])
	opt := m.IsEdns0()
	if opt == nil || opt.UDPSize() != 1400 || !opt.Do() || opt.Version() != 0 || opt.Z() != 0 || m.Rcode != dns.RcodeBadVers {
		t.Fatalf("the response is %v", m)
	}
	if len(opt.Option) != 2 {
		t.Fatalf("the options are %v", opt.Option)
	}
	ede, ok := opt.Option[0].(*dns.EDNS0_EDE)
	if !ok || ede.InfoCode != 22 || ede.ExtraText != "no server answered" {
		t.Errorf("the first option is %v", opt.Option[0])
	}
	if nsid, ok := opt.Option[1].(*dns.EDNS0_NSID); !ok || nsid.Nsid != "6e7331" {
		t.Errorf("the second option is %v", opt.Option[1])
	}
}

func TestAppendOPTCopiesDO(t *testing.T) { // RFC 3225 §3
	msg := bytes.Clone(ednsQuery)
	msg[len(plainQuery)+7] = 0x7F // every flag but DO, none of which is known
	q := parse(t, msg)
	opt := unpack(t, AppendOPT(AppendReply(nil, q, NoError), 0, q, 1232, NoError)).IsEdns0()
	if opt == nil || opt.Do() || opt.Z() != 0 {
		t.Errorf("the OPT record is %v", opt)
	}
}

func TestAppendOPTWithoutEDNSInTheQueryAppendsNothing(t *testing.T) { // RFC 6891 §7
	q := parse(t, plainQuery)
	buf := AppendReply(nil, q, NoError)
	if got := AppendOPT(bytes.Clone(buf), 0, q, 1232, NoError, Option{Code: OptionEDE, Data: []byte{0, 0}}); !bytes.Equal(got, buf) {
		t.Errorf("the response is %x, want %x", got, buf)
	}
}

func TestAppendOPTCountsWithOtherAdditionalRecords(t *testing.T) {
	q := parse(t, ednsQuery)
	msg := packed(t, nil, nil, []string{"ns.example.com. 300 IN A 192.0.2.1"})
	q.Limit = MinUDPSize
	if m := unpack(t, AppendOPT(msg, 0, q, 1232, NoError)); len(m.Extra) != 2 || m.IsEdns0() == nil {
		t.Errorf("the additional section is %v", m.Extra)
	}
}

func TestAppendOPTLeavesOutOptionsBeyondTheLimit(t *testing.T) {
	q := parse(t, ednsQuery)
	long := Option{Code: 65001, Data: make([]byte, 100)}
	short := Option{Code: 65002, Text: "1234"}
	bare := HeaderLen + len(q.RawQuestion()) + OPTLen
	for limit, want := range map[int][]uint16{
		0:                               nil, // the bare record is there whatever the limit
		bare:                            nil,
		bare + short.Len() - 1:          nil,
		bare + short.Len():              {65002},
		bare + long.Len():               {65001},
		bare + long.Len() + short.Len(): {65001, 65002},
	} {
		q.Limit = limit
		got := AppendOPT(AppendReply(nil, q, NoError), 0, q, 1232, NoError, long, short)
		opt := unpack(t, got).IsEdns0()
		if opt == nil || len(opt.Option) != len(want) {
			t.Errorf("limit %d: the OPT record is %v, want %d", limit, opt, want)
			continue
		}
		for i, o := range opt.Option {
			if o.Option() != want[i] {
				t.Errorf("limit %d: option %d is %d, want %d", limit, i, o.Option(), want[i])
			}
		}
		if limit >= bare && len(got) > limit {
			t.Errorf("limit %d: %d octets", limit, len(got))
		}
	}
}

func TestAppendOPTNeverWritesALengthThatDoesNotFit(t *testing.T) {
	q := parse(t, ednsQuery)
	q.Limit = 1 << 20 // more than a message can have
	got := AppendOPT(AppendReply(nil, q, NoError), 0, q, 1232, NoError, Option{Code: 65001, Data: make([]byte, MaxMsgSize)}, Option{Code: 65002})
	opt := unpack(t, got).IsEdns0()
	if opt == nil || len(opt.Option) != 1 || opt.Option[0].Option() != 65002 {
		t.Errorf("the OPT record is %v", opt)
	}
}

func TestRcodeOfIsTheHeadersFourBits(t *testing.T) {
	if got := RcodeOf([]byte{0, 0, 0, 0xF3}); got != NXDomain {
		t.Errorf("RcodeOf = %v", got)
	}
}

func TestWritingAResponseAllocatesNothing(t *testing.T) {
	q := parse(t, fullQuery)
	q.Limit = 1232
	stored := packed(t, []string{"www.example.com. 300 IN AAAA 2001:db8::1"}, nil, nil)
	offsets, _, _ := AppendTTLOffsets(nil, stored)
	var buf [MinUDPSize]byte
	var ttls [8]uint16
	code := [2]byte{0, 3}
	text := strings.Repeat("x", 10)
	for what, f := range map[string]func() int{
		"AppendHeader": func() int { return len(AppendHeader(buf[:0], q.Msg(), FormErr)) },
		"AppendReply":  func() int { return len(AppendReply(buf[:0], q, ServFail)) },
		"AppendOPT": func() int {
			cookie, _ := q.Option(10)
			reply := AppendReply(buf[:0], q, NoError)
			return len(AppendOPT(reply, 0, q, 1232, NoError, Option{Code: OptionEDE, Data: code[:], Text: text}, Option{Code: 10, Data: cookie}))
		},
		"a hit": func() int {
			msg := append(buf[:0], stored...)
			Readdress(msg, q)
			Age(msg, offsets, 10)
			return len(Truncate(msg, 0, q))
		},
		"AppendTTLOffsets": func() int {
			offsets, _, _ := AppendTTLOffsets(ttls[:0], stored)
			return len(offsets)
		},
	} {
		n := 0
		if allocs := testing.AllocsPerRun(100, func() { n += f() }); allocs != 0 || n == 0 {
			t.Errorf("%s allocates %v times, and makes %d octets", what, allocs, n)
		}
	}
}

// FuzzResponse writes responses to whatever Parse takes, and has miekg/dns read
// them.
func FuzzResponse(f *testing.F) {
	for _, msg := range [][]byte{plainQuery, ednsQuery, fullQuery} {
		f.Add(msg, uint16(ServFail), uint16(1232), uint16(22), "no server answered", uint16(65001), []byte("abc"), uint32(10))
	}
	f.Add(ednsQuery, uint16(NoError), uint16(512), uint16(0), "\x00", uint16(0), []byte{}, uint32(0))
	f.Add(ednsQuery, uint16(4095), uint16(0), uint16(65535), "", uint16(65535), []byte{}, uint32(1<<32-1))
	f.Fuzz(func(t *testing.T, msg []byte, rcode, limit, info uint16, text string, code uint16, data []byte, age uint32) {
		var q Query
		status := q.Parse(msg)
		if status != OK && status != UnsupportedVersion {
			if status != Ignored {
				if m := unpack(t, AppendHeader(nil, msg, FormErr)); !m.Response || m.Rcode != dns.RcodeFormatError {
					t.Fatalf("the bare header is %v", m.MsgHdr)
				}
			}
			return
		}
		if q.NoQuestion() { // see TestQueryForACookieNeedsNoQuestion
			if m := unpack(t, AppendOPT(AppendReply(nil, &q, ServFail), 0, &q, 1400, ServFail)); len(m.Question) != 0 || m.IsEdns0() == nil {
				t.Fatalf("the reply to no question is %v", m)
			}
			return
		}
		q.Limit = int(limit)
		rcode &= 0xFFF // twelve bits
		code |= 0x8000 // an option that miekg/dns does not look into
		ede := Option{Code: OptionEDE, Data: binary.BigEndian.AppendUint16(nil, info), Text: text}
		other := Option{Code: code, Data: data}

		reply := AppendReply(nil, &q, Rcode(rcode))
		reply = AppendOPT(reply, 0, &q, 1400, Rcode(rcode), ede, other)
		m := unpack(t, reply)
		checkHeader(t, m, &q)
		wantRcode := int(rcode)
		if !q.EDNS {
			wantRcode &= 0xF
		}
		if m.Rcode != wantRcode || m.Truncated || m.AuthenticatedData || m.Authoritative || len(m.Answer)+len(m.Ns) != 0 {
			t.Fatalf("the reply is %v, want rcode %d", m, wantRcode)
		}
		bare := HeaderLen + len(q.RawQuestion())
		if q.EDNS {
			bare += OPTLen
			checkOPT(t, m.IsEdns0(), &q, ede, other, int(limit)-bare)
		} else if m.IsEdns0() != nil {
			t.Fatalf("the reply to a query without EDNS is %v", m)
		}
		if len(reply) > max(bare, int(limit)) {
			t.Fatalf("the reply has %d octets, of %d", len(reply), limit)
		}
		checkHit(t, &q, age)
	})
}

// checkHeader fails t when m is not a response to q.
func checkHeader(t *testing.T, m *dns.Msg, q *Query) {
	t.Helper()
	if !m.Response || m.Id != q.ID() || m.Opcode != dns.OpcodeQuery || !m.RecursionAvailable || m.RecursionDesired != q.RD || m.CheckingDisabled != q.CD || m.Zero {
		t.Fatalf("the header is %+v, of a response to %+v", m.MsgHdr, q)
	}
	name, _, err := dns.UnpackDomainName(q.RawName(), 0)
	if want := (dns.Question{Name: name, Qtype: uint16(q.Type), Qclass: q.Class}); err != nil || len(m.Question) != 1 || m.Question[0] != want {
		t.Fatalf("the question is %v, want %v", m.Question, want)
	}
}

// checkOPT fails t when opt is not what AppendOPT owes q, with the options that
// fit into room octets behind the bare record.
func checkOPT(t *testing.T, opt *dns.OPT, q *Query, ede, other Option, room int) {
	t.Helper()
	if opt == nil || opt.UDPSize() != 1400 || opt.Do() != q.DO || opt.Version() != 0 || opt.Z() != 0 {
		t.Fatalf("the OPT record is %v", opt)
	}
	rest := opt.Option
	if ede.Len() <= room {
		room -= ede.Len()
		got, ok := rest[0].(*dns.EDNS0_EDE)
		if !ok || got.InfoCode != binary.BigEndian.Uint16(ede.Data) || got.ExtraText != ede.Text {
			t.Fatalf("the first option is %v, want EDE %d %q", rest[0], ede.Data, ede.Text)
		}
		rest = rest[1:]
	}
	if other.Len() <= room {
		got, ok := rest[0].(*dns.EDNS0_LOCAL)
		if !ok || got.Code != other.Code || !bytes.Equal(got.Data, other.Data) {
			t.Fatalf("an option is %v, want %d %x", rest[0], other.Code, other.Data)
		}
		rest = rest[1:]
	}
	if len(rest) != 0 {
		t.Fatalf("there are %d options too many", len(rest))
	}
}

// checkHit makes a stored answer to q's question one to q, age seconds later,
// and cuts it off.
func checkHit(t *testing.T, q *Query, age uint32) {
	t.Helper()
	stored := []byte{0, 0, bitQR | bitRD, bitRA | bitAD | bitCD | byte(NXDomain), 0, 1, 0, 1, 0, 0, 0, 0}
	stored = AppendFolded(stored, q.RawName())
	stored = append(stored, q.RawQuestion()[len(q.RawName()):]...)
	stored = append(stored, "\xC0\x0C\xFF\x00\x00\x01\x00\x00\x01\x2C\x00\x02ok"...)
	offsets, least, ok := AppendTTLOffsets(nil, stored)
	if !ok || least != 300 {
		t.Fatalf("AppendTTLOffsets = %v, %d, %v", offsets, least, ok)
	}
	Readdress(stored, q)
	Age(stored, offsets, age)
	m := unpack(t, stored)
	checkHeader(t, m, q)
	if m.AuthenticatedData != (q.DO || q.AD) || m.Rcode != dns.RcodeNameError {
		t.Fatalf("the hit is %v", m)
	}
	if rr := m.Answer[0].Header(); rr.Name != m.Question[0].Name || rr.Ttl != 300-min(300, age) {
		t.Fatalf("%d s later the answer is %v", age, m.Answer)
	}
	m = unpack(t, Truncate(stored, 0, q))
	checkHeader(t, m, q)
	if !m.Truncated || len(m.Answer)+len(m.Ns)+len(m.Extra) != 0 {
		t.Fatalf("cut off it is %v", m)
	}
}

func BenchmarkHit(b *testing.B) {
	q := parse(b, ednsQuery)
	q.Limit = 1232
	stored := packed(b, []string{"www.example.com. 300 IN AAAA 2001:db8::1", "www.example.com. 300 IN AAAA 2001:db8::2"}, nil, nil)
	offsets, _, _ := AppendTTLOffsets(nil, stored)
	var buf [MinUDPSize]byte
	for b.Loop() {
		msg := append(buf[:0], stored...)
		Readdress(msg, q)
		Age(msg, offsets, 10)
		AppendOPT(msg, 0, q, 1232, NoError)
	}
}

func BenchmarkAppendReply(b *testing.B) {
	q := parse(b, ednsQuery)
	q.Limit = 1232
	code := []byte{0, 22}
	var buf [MinUDPSize]byte
	for b.Loop() {
		reply := AppendReply(buf[:0], q, ServFail)
		AppendOPT(reply, 0, q, 1232, ServFail, Option{Code: OptionEDE, Data: code, Text: "no server answered"})
	}
}
