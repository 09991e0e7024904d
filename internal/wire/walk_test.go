package wire

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// packed returns a response with the given records as miekg/dns packs it, its
// names compressed. Each section's records are in presentation format.
func packed(t testing.TB, answer, authority, additional []string) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion("www.example.com.", dns.TypeAAAA)
	m.Response, m.Compress = true, true
	for _, s := range []struct {
		to   *[]dns.RR
		from []string
	}{{&m.Answer, answer}, {&m.Ns, authority}, {&m.Extra, additional}} {
		for _, text := range s.from {
			rr, err := dns.NewRR(text)
			if err != nil {
				t.Fatal(err)
			}
			*s.to = append(*s.to, rr)
		}
	}
	msg, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

// manyTTLs is a response in which every record has its own TTL, the least of
// them 7, and a record of a type that nobody knows.
func manyTTLs(t testing.TB) []byte {
	return packed(t,
		[]string{"www.example.com. 300 IN CNAME a.example.com.", "a.example.com. 60 IN AAAA 2001:db8::1"},
		[]string{"example.com. 172800 IN NS ns.example.com.", "example.com. 7 IN TYPE65280 \\# 3 abcdef"},
		[]string{"ns.example.com. 3600 IN A 192.0.2.1"})
}

func TestAppendTTLOffsetsFindsEveryTTL(t *testing.T) {
	msg := manyTTLs(t)
	offsets, least, ok := AppendTTLOffsets([]uint16{1, 2}, msg)
	if !ok || least != 7 || len(offsets) != 7 || offsets[0] != 1 || offsets[1] != 2 {
		t.Fatalf("AppendTTLOffsets = %v, %d, %v", offsets, least, ok)
	}
	var ttls []uint32
	for _, off := range offsets[2:] {
		ttls = append(ttls, binary.BigEndian.Uint32(msg[off:]))
	}
	if want := []uint32{300, 60, 172800, 7, 3600}; !slices.Equal(ttls, want) {
		t.Errorf("the TTLs are %d, want %d", ttls, want)
	}
}

func TestAppendTTLOffsetsStepsOverOPT(t *testing.T) {
	q := parse(t, ednsQuery)
	msg := AppendOPT(AppendReply(nil, q, NoError), 0, q, 1232, NoError)
	offsets, least, ok := AppendTTLOffsets(nil, msg)
	if !ok || len(offsets) != 0 || least != maxTTL {
		t.Errorf("AppendTTLOffsets = %v, %d, %v", offsets, least, ok)
	}
}

func TestAppendTTLOffsetsTakesATTLAbove31BitsForZero(t *testing.T) {
	msg := packed(t, []string{"www.example.com. 300 IN A 192.0.2.1", "www.example.com. 300 IN A 192.0.2.2"}, nil, nil)
	offsets, _, _ := AppendTTLOffsets(nil, msg)
	binary.BigEndian.PutUint32(msg[offsets[1]:], 1<<31) // RFC 2181 §8
	if _, least, ok := AppendTTLOffsets(nil, msg); !ok || least != 0 {
		t.Errorf("the least TTL is %d, %v, want 0", least, ok)
	}
	binary.BigEndian.PutUint32(msg[offsets[1]:], 1<<31-1)
	if _, least, ok := AppendTTLOffsets(nil, msg); !ok || least != 300 {
		t.Errorf("the least TTL is %d, %v, want 300", least, ok)
	}
}

func TestAppendTTLOffsetsTakesMessagesWithoutAQuestion(t *testing.T) {
	if offsets, _, ok := AppendTTLOffsets(nil, make([]byte, HeaderLen)); !ok || len(offsets) != 0 {
		t.Errorf("AppendTTLOffsets = %v, %v", offsets, ok)
	}
}

func TestAppendTTLOffsetsRefusesBrokenMessages(t *testing.T) {
	msg := manyTTLs(t)
	for n := range len(msg) {
		if offsets, _, ok := AppendTTLOffsets(nil, msg[:n:n]); ok {
			t.Errorf("the first %d octets of %d: %v", n, len(msg), offsets)
		}
	}
	if _, _, ok := AppendTTLOffsets(nil, append(bytes.Clone(msg), 0)); ok {
		t.Error("an octet behind the last record is taken")
	}
	if _, _, ok := AppendTTLOffsets(nil, make([]byte, MaxMsgSize+1)); ok {
		t.Error("more than 65,535 octets are taken, which offsets of 16 bits cannot say")
	}
	more := bytes.Clone(msg)
	more[7]++ // one answer more than there is
	if _, _, ok := AppendTTLOffsets(nil, more); ok {
		t.Error("a count that is too high is taken")
	}
}

func TestAppendTTLOffsetsReachesTheEndOfTheLongestMessage(t *testing.T) {
	msg := make([]byte, HeaderLen, MaxMsgSize)
	for len(msg)+11 <= MaxMsgSize { // the smallest record there is
		msg = append(msg, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 0)
		binary.BigEndian.PutUint16(msg[10:], binary.BigEndian.Uint16(msg[10:])+1)
	}
	msg[len(msg)-1] = byte(MaxMsgSize - len(msg)) // what is left is its RDATA
	msg = msg[:MaxMsgSize]
	offsets, least, ok := AppendTTLOffsets(nil, msg)
	if !ok || len(offsets) != (MaxMsgSize-HeaderLen)/11 || least != 256 {
		t.Fatalf("AppendTTLOffsets finds %d TTLs, the least %d, %v", len(offsets), least, ok)
	}
	Age(msg, offsets, 6)
	if _, least, ok = AppendTTLOffsets(nil, msg); !ok || least != 250 {
		t.Errorf("6 s later the least is %d, %v", least, ok)
	}
}

func TestAppendAddrsFindsThoseOfTheAnswer(t *testing.T) {
	msg := packed(t,
		[]string{"www.example.com. 300 IN CNAME a.example.com.", "a.example.com. 60 IN AAAA 2001:db8::1", "a.example.com. 60 IN A 192.0.2.1", "a.example.com. 60 IN AAAA ::ffff:192.0.2.2", `a.example.com. 60 IN TYPE65280 \# 4 c0000203`},
		nil, []string{"ns.example.com. 3600 IN A 192.0.2.9"})
	before := netip.MustParseAddr("192.0.2.7")
	want := []netip.Addr{before, netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("::ffff:192.0.2.2")}
	if got := AppendAddrs([]netip.Addr{before}, msg); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for n := range len(msg) { // a part of it has a part of them
		if got := AppendAddrs([]netip.Addr{before}, msg[:n:n]); len(got) > len(want) || !slices.Equal(got, want[:len(got)]) {
			t.Errorf("of the first %d octets: %v", n, got)
		}
	}
	for _, m := range readMalformed(t) {
		if got := AppendAddrs(nil, m.msg); len(got) > len(m.msg)/15 {
			t.Errorf("%x: %v", m.msg, got)
		}
	}
	odd := bytes.Clone(msg)
	at := bytes.LastIndex(odd, []byte{0, 4, 192, 0, 2, 1})
	odd[at+1]-- // an A record of three octets
	if got := AppendAddrs(nil, odd); slices.Contains(got, netip.MustParseAddr("192.0.2.1")) {
		t.Errorf("of an A record of three octets: %v", got)
	}
}

func TestSkipNameTakesOnlyPointersBack(t *testing.T) {
	header := strings.Repeat("\x00", HeaderLen)
	for _, c := range []struct {
		what, rest string
		off        int // in rest
		next       int // in rest; −1: not a name
	}{
		{"the root", "\x00", 0, 1},
		{"a pointer back", "\x01a\x00\xC0\x0C", 3, 5},
		{"a label and a pointer back", "\x01a\x00\x01b\xC0\x0C", 3, 7},
		{"a pointer to itself", "\x01a\x00\xC0\x0F", 3, -1},
		{"a pointer to its own label", "\x01a\x00\x01b\xC0\x0F", 3, -1},
		{"a pointer onwards", "\x01a\x00\xC0\x11\x00", 3, -1},
		{"a pointer into the header", "\x01a\x00\xC0\x0B", 3, -1},
		{"half a pointer", "\x01a\x00\xC0", 3, -1},
		{"a label of type 01", "\x41\x00", 0, -1},
		{"a label of type 10", "\x80\x00", 0, -1},
		{"a label that runs off", "\x02a", 0, -1},
		{"no end", "\x01a", 0, -1},
		{"128 labels", strings.Repeat("\x01a", 128) + "\x00", 0, -1},
		{"127 labels", strings.Repeat("\x01a", 127) + "\x00", 0, 255},
	} {
		next, ok := skipName([]byte(header+c.rest), HeaderLen+c.off)
		if ok != (c.next >= 0) || ok && next != HeaderLen+c.next {
			t.Errorf("%s: %d, %v, want %d", c.what, next-HeaderLen, ok, c.next)
		}
	}
}

// FuzzAppendTTLOffsets holds the walk to the TTLs that miekg/dns reads, in what
// comes in and in what miekg/dns makes of it.
func FuzzAppendTTLOffsets(f *testing.F) {
	f.Add(manyTTLs(f))
	f.Add(ednsQuery)
	f.Add(fullQuery)
	for _, m := range readMalformed(f) {
		f.Add(m.msg)
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		offsets, least, ok := AppendTTLOffsets(nil, msg)
		var m dns.Msg
		if ok {
			sameTTLs(t, msg, offsets, least, nil)
		}
		if m.Unpack(msg) != nil {
			return
		}
		if ok {
			sameTTLs(t, msg, offsets, least, &m)
		}
		m.Compress = true
		again, err := m.Pack()
		if err != nil || len(again) > MaxMsgSize {
			return
		}
		if offsets, least, ok = AppendTTLOffsets(nil, again); !ok {
			t.Fatalf("AppendTTLOffsets does not take what miekg/dns packs: %x", again)
		}
		sameTTLs(t, again, offsets, least, &m)
	})
}

// sameTTLs fails t where the TTLs at offsets are not those of m, in their
// order, or least is not the least of them. Without m it looks at least only.
func sameTTLs(t *testing.T, msg []byte, offsets []uint16, least uint32, m *dns.Msg) {
	var got, want []uint32
	smallest := uint32(maxTTL)
	for _, off := range offsets {
		ttl := binary.BigEndian.Uint32(msg[off:])
		got = append(got, ttl)
		if ttl > maxTTL {
			ttl = 0
		}
		smallest = min(smallest, ttl)
	}
	if smallest != least {
		t.Fatalf("the TTLs are %d, and the least %d", got, least)
	}
	if m == nil {
		return
	}
	for _, rr := range slices.Concat(m.Answer, m.Ns, m.Extra) {
		if rr.Header().Rrtype != dns.TypeOPT {
			want = append(want, rr.Header().Ttl)
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("the TTLs are %d, for miekg/dns %d, in %x", got, want, msg)
	}
}

func BenchmarkAppendTTLOffsets(b *testing.B) {
	msg := manyTTLs(b)
	var buf [16]uint16
	for b.Loop() {
		if _, _, ok := AppendTTLOffsets(buf[:0], msg); !ok {
			b.Fatal("not well formed")
		}
	}
}
