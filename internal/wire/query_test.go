package wire

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Queries as clients send them.
var (
	// plainQuery is what a stub asks: RD, one name, no EDNS.
	plainQuery = []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + "\x03wWw\x07eXample\x03com\x00\x00\x1C\x00\x01")
	// ednsQuery adds AD and an OPT record: 1232 octets, DO.
	ednsQuery = []byte("\x12\x34\x01\x20\x00\x01\x00\x00\x00\x00\x00\x01" + "\x03wWw\x07eXample\x03com\x00\x00\x1C\x00\x01" +
		"\x00\x00\x29\x04\xD0\x00\x00\x80\x00\x00\x00")
	// fullQuery adds CD, a cookie, NSID, and a TSIG record behind the OPT.
	fullQuery = []byte("\x12\x34\x01\x30\x00\x01\x00\x00\x00\x00\x00\x02" + "\x03wWw\x07eXample\x03com\x00\x00\x1C\x00\x01" +
		"\x00\x00\x29\x04\xD0\x00\x00\x80\x00\x00\x10" + "\x00\x0A\x00\x0801234567" + "\x00\x03\x00\x00" +
		"\x03key\xC0\x10\x00\xFA\x00\xFF\x00\x00\x00\x00\x00\x02\xAB\xCD")
)

// parse returns the Query in msg, which has to be good.
func parse(t testing.TB, msg []byte) *Query {
	t.Helper()
	q := &Query{Limit: MinUDPSize}
	if status := q.Parse(msg); status != OK {
		t.Fatalf("Parse(%x) = %d", msg, status)
	}
	return q
}

func TestParseReadsQueries(t *testing.T) {
	type view struct {
		typ                  Type
		rd, ad, cd, edns, do bool
		size                 uint16
	}
	for _, c := range []struct {
		what string
		msg  []byte
		want view
	}{
		{"plain", plainQuery, view{typ: TypeAAAA, rd: true}},
		{"EDNS", ednsQuery, view{typ: TypeAAAA, rd: true, ad: true, edns: true, do: true, size: 1232}},
		{"all there is", fullQuery, view{typ: TypeAAAA, rd: true, ad: true, cd: true, edns: true, do: true, size: 1232}},
	} {
		q := parse(t, c.msg)
		got := view{q.Type, q.RD, q.AD, q.CD, q.EDNS, q.DO, q.UDPSize}
		if got != c.want || q.Class != ClassIN || q.ID() != 0x1234 {
			t.Errorf("%s: ID %x, class %d, %+v, want %+v", c.what, q.ID(), q.Class, got, c.want)
		}
		if string(q.RawName()) != "\x03wWw\x07eXample\x03com\x00" || string(q.RawQuestion()) != string(q.RawName())+"\x00\x1C\x00\x01" {
			t.Errorf("%s: RawName %q, RawQuestion %q", c.what, q.RawName(), q.RawQuestion())
		}
		if want := (Question{MustParseName("www.example.com"), TypeAAAA}); q.Question() != want {
			t.Errorf("%s: Question %v, want %v", c.what, q.Question(), want)
		}
		if &q.Msg()[0] != &c.msg[0] || len(q.Msg()) != len(c.msg) {
			t.Errorf("%s: Msg is not the message", c.what)
		}
	}
}

func TestParseForgetsTheQueryBefore(t *testing.T) {
	q := parse(t, fullQuery)
	if status := q.Parse(plainQuery); status != OK {
		t.Fatalf("Parse = %d", status)
	}
	if q.EDNS || q.DO || q.AD || q.CD || q.UDPSize != 0 {
		t.Errorf("the plain query has %+v", q)
	}
	if data, ok := q.Option(10); ok {
		t.Errorf("the plain query has a cookie: %q", data)
	}
}

func TestParseLeavesWhatTheTransportFilledIn(t *testing.T) {
	q := Query{Client: netip.MustParseAddrPort("192.0.2.1:5353"), Received: time.Unix(1, 0), Limit: 4096, Proto: DoQ}
	before := q
	if status := q.Parse(fullQuery); status != OK {
		t.Fatalf("Parse = %d", status)
	}
	if q.Client != before.Client || !q.Received.Equal(before.Received) || q.Limit != before.Limit || q.Proto != before.Proto {
		t.Errorf("Parse changed %+v to %+v", before, q)
	}
}

// TestParseTakesWhatIsOddButAllowed keeps the checks from growing until they
// turn clients away.
func TestParseTakesWhatIsOddButAllowed(t *testing.T) {
	set := func(at int, octets ...byte) []byte {
		msg := bytes.Clone(ednsQuery)
		copy(msg[at:], octets)
		return msg
	}
	class := len(plainQuery) - 2
	label63 := "\x3F" + strings.Repeat("a", 63)
	for what, msg := range map[string][]byte{
		"AA, TC and RA set, which mean nothing in a query": set(2, 0x07, 0x80),
		"Z set":                         set(3, 0x40), // RFC 6895 §2: ignored
		"an RCODE":                      set(3, 0x0F),
		"class CH":                      set(class, 0, 3),
		"class 65535":                   set(class, 255, 255),
		"type 0":                        set(class-2, 0, 0),
		"unknown EDNS flags":            set(len(ednsQuery)-4, 0x7F, 0xFF), // RFC 6891 §6.1.4: ignored
		"an extended RCODE":             set(len(ednsQuery)-6, 0xFF),
		"a UDP size of 0":               set(len(ednsQuery)-8, 0, 0),
		"a UDP size of 65535":           set(len(ednsQuery)-8, 255, 255),
		"32 options":                    withOptions(strings.Repeat("\x00\x03\x00\x00", MaxOptions)),
		"an OPT record behind another":  append([]byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x02\x00\x00\x02\x00\x01"+"\x03key\x00\x00\xFA\x00\xFF\x00\x00\x00\x00\x00\x00"), ednsQuery[len(plainQuery):]...),
		"two records that are not OPT":  []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x02\x00\x00\x02\x00\x01" + "\x00\x00\xFA\x00\xFF\x00\x00\x00\x00\x00\x00" + "\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00"),
		"the root, and nothing allowed": []byte("\x12\x34\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01"),
		"a name of 255 octets": []byte("\x12\x34\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00" + label63 + label63 + label63 + "\x3D" + strings.Repeat("a", 61) +
			"\x00\x00\x01\x00\x01"),
	} {
		var q Query
		if status := q.Parse(msg); status != OK {
			t.Errorf("%s: Parse = %d", what, status)
		}
	}
}

func TestParseReadsTheQuestionUnderAnUnknownEDNSVersion(t *testing.T) {
	msg := bytes.Clone(fullQuery)
	msg[len(plainQuery)+6] = 1
	q := &Query{}
	if status := q.Parse(msg); status != UnsupportedVersion {
		t.Fatalf("Parse = %d", status)
	}
	if !q.EDNS || !q.DO || q.UDPSize != 1232 || q.Type != TypeAAAA || q.ID() != 0x1234 || !q.RD {
		t.Errorf("the query is %+v", q)
	}
	if data, ok := q.Option(10); ok { // which may mean anything in version 1
		t.Errorf("the cookie was read: %q", data)
	}
}

func TestUDPSizeIsAtLeast512(t *testing.T) {
	for offered, want := range map[uint16]uint16{0: 512, 511: 512, 512: 512, 513: 513, 65535: 65535} { // RFC 6891 §6.2.3
		msg := bytes.Clone(ednsQuery)
		binary.BigEndian.PutUint16(msg[len(plainQuery)+3:], offered)
		if q := parse(t, msg); q.UDPSize != want {
			t.Errorf("a size of %d is read as %d, want %d", offered, q.UDPSize, want)
		}
	}
}

func TestUDPLimitIsTheSmallerOfferAndAtLeast512(t *testing.T) {
	for _, c := range []struct {
		edns       bool
		size       uint16
		most, want int
	}{
		{false, 0, 1232, 512},
		{true, 512, 1232, 512},
		{true, 1400, 1232, 1232},
		{true, 900, 1232, 900},
		{true, 4096, 100, 512},
		{true, 65535, 65535, 65535},
	} {
		q := Query{EDNS: c.edns, UDPSize: c.size}
		if got := q.UDPLimit(c.most); got != c.want {
			t.Errorf("offered %d (EDNS %v), at most %d: %d, want %d", c.size, c.edns, c.most, got, c.want)
		}
	}
}

func TestOptionFindsTheFirstOfItsCode(t *testing.T) {
	msg := append(bytes.Clone(ednsQuery), "\x00\x03\x00\x00"+"\x00\x0A\x00\x02ab"+"\x00\x0A\x00\x02cd"+"\xFF\xFF\x00\x01z"...)
	binary.BigEndian.PutUint16(msg[len(ednsQuery)-2:], uint16(len(msg)-len(ednsQuery)))
	q := parse(t, msg)
	for code, want := range map[uint16]string{3: "", 10: "ab", 65535: "z"} {
		data, ok := q.Option(code)
		if !ok || string(data) != want || cap(data) != len(data) {
			t.Errorf("option %d is %q (cap %d), %v, want %q", code, data, cap(data), ok, want)
		}
	}
	if data, ok := q.Option(8); ok {
		t.Errorf("option 8, which is not there, is %q", data)
	}
}

func TestCloneOwnsItsMemory(t *testing.T) {
	msg := bytes.Clone(fullQuery)
	q := parse(t, msg)
	q.Client = netip.MustParseAddrPort("192.0.2.1:53")
	c := q.Clone()
	clear(msg)
	if c.Client != q.Client || c.ID() != 0x1234 || c.Question().Name != MustParseName("www.example.com") {
		t.Errorf("the clone is %+v", c)
	}
	if data, ok := c.Option(10); !ok || string(data) != "01234567" {
		t.Errorf("the clone's cookie is %q, %v", data, ok)
	}
}

func TestReadingAQueryAllocatesNothing(t *testing.T) {
	var q Query
	sum := 0
	for _, msg := range [][]byte{plainQuery, ednsQuery, fullQuery, plainQuery[:20]} {
		allocs := testing.AllocsPerRun(100, func() {
			if q.Parse(msg) == OK {
				data, _ := q.Option(10)
				sum += len(data) + len(q.RawName()) + q.UDPLimit(1232) + int(q.ID())
			}
		})
		if allocs != 0 {
			t.Errorf("reading %x allocates %v times", msg, allocs)
		}
	}
	if sum == 0 {
		t.Error("nothing was read")
	}
}

// FuzzQueryParse holds Parse to what miekg/dns makes of the same octets.
func FuzzQueryParse(f *testing.F) {
	for _, m := range readMalformed(f) {
		f.Add(m.msg)
	}
	for _, msg := range [][]byte{plainQuery, ednsQuery, fullQuery, cookieQuery} {
		f.Add(msg)
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		before := bytes.Clone(msg)
		var q Query
		status := q.Parse(msg)
		if status >= NumStatus || !bytes.Equal(msg, before) {
			t.Fatalf("Parse = %d, and the message is now %x", status, msg)
		}
		if status == OK || status == UnsupportedVersion {
			agree(t, &q, status)
		} else if good(msg) {
			t.Fatalf("Parse = %d for a good query", status)
		}
	})
}

// agree fails t where miekg/dns reads the message of q in another way.
func agree(t *testing.T, q *Query, status Status) {
	if q.NoQuestion() {
		if m := new(dns.Msg); q.Cookie == CookieNone || m.Unpack(q.msg) == nil && (len(m.Question) != 0 || m.IsEdns0() == nil) {
			t.Fatalf("%x has no question, and is %+v", q.msg, q)
		}
		return
	}
	name, end, err := dns.UnpackDomainName(q.msg, HeaderLen)
	if err != nil || end != q.at.question-4 || end-HeaderLen != len(q.RawName()) {
		t.Fatalf("the name ends at %d (%v), for Parse at %d", end, err, q.at.question-4)
	}
	if n, err := ParseName(name); err != nil || n != q.Question().Name {
		t.Fatalf("the name is %s (%v), for Parse %s", name, err, q.Question().Name)
	}
	for code := range uint16(64) {
		if data, ok := q.Option(code); ok && len(data) > len(q.msg) {
			t.Fatalf("option %d has %d octets", code, len(data))
		}
	}
	var m dns.Msg
	if m.Unpack(q.msg) != nil {
		return // the RDATA of a record that Parse steps over, or of an option
	}
	one := m.Question[0]
	if m.Response || m.Opcode != dns.OpcodeQuery || m.Id != q.ID() || one.Qtype != uint16(q.Type) || one.Qclass != q.Class {
		t.Fatalf("the query is %v, for Parse %+v", &m, q)
	}
	if m.RecursionDesired != q.RD || m.AuthenticatedData != q.AD || m.CheckingDisabled != q.CD {
		t.Fatalf("the flags are %v, for Parse %+v", m.MsgHdr, q)
	}
	opt := m.IsEdns0()
	if (opt != nil) != q.EDNS {
		t.Fatalf("the OPT record is %v, for Parse %v", opt, q.EDNS)
	}
	if opt == nil {
		return
	}
	if opt.Do() != q.DO || max(opt.UDPSize(), MinUDPSize) != q.UDPSize || (opt.Version() != 0) != (status == UnsupportedVersion) {
		t.Fatalf("the OPT record is %v, for Parse %+v", opt, q)
	}
	if status == OK && len(opt.Option) > MaxOptions {
		t.Fatalf("Parse took %d options", len(opt.Option))
	}
}

// good reports whether msg is beyond doubt a query that Parse has to take, as
// miekg/dns reads it: it may say no to one whose names are compressed in a way
// that needs judging.
func good(msg []byte) bool {
	var m dns.Msg
	if m.Unpack(msg) != nil || m.Response || m.Opcode != dns.OpcodeQuery || len(m.Question) != 1 || len(m.Extra) > 2 {
		return false
	}
	// miekg/dns corrects counts that lie, and does not mind a message that
	// ends within the question or goes on after the last record.
	if binary.BigEndian.Uint64(msg[4:]) != 1<<48|uint64(len(m.Extra)) {
		return false
	}
	_, off, _ := dns.UnpackDomainName(msg, HeaderLen)
	if !plain(msg, HeaderLen, off, m.Question[0].Name) || off+4 > len(msg) {
		return false
	}
	off += 4
	opts := 0
	for _, rr := range m.Extra {
		_, end, _ := dns.UnpackDomainName(msg, off)
		if !plain(msg, off, end, rr.Header().Name) && string(msg[off:end]) != "\xC0\x0C" {
			return false
		}
		if opt, ok := rr.(*dns.OPT); ok {
			opts++
			if opts > 1 || msg[off] != 0 || opt.Version() != 0 || len(opt.Option) > MaxOptions {
				return false
			}
		}
		_, off, _ = dns.UnpackRR(msg, off)
	}
	return off == len(msg)
}

// plain reports whether the name in msg[start:end] is uncompressed.
func plain(msg []byte, start, end int, name string) bool {
	var buf [MaxNameLen]byte
	n, err := dns.PackDomainName(name, buf[:], 0, nil, false)
	return err == nil && bytes.Equal(buf[:n], msg[start:end])
}

func BenchmarkParse(b *testing.B) {
	for _, c := range []struct {
		name string
		msg  []byte
	}{{"plain", plainQuery}, {"edns", ednsQuery}, {"full", fullQuery}} {
		b.Run(c.name, func(b *testing.B) {
			var q Query
			for b.Loop() {
				if q.Parse(c.msg) != OK {
					b.Fatal("not OK")
				}
			}
		})
	}
}
