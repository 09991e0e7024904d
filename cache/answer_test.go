package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/ede"
	"shirube/internal/wire"
)

// ttlsOf returns the TTLs of all records in m, in their order.
func ttlsOf(m *dns.Msg) []uint32 {
	var ttls []uint32
	for _, r := range slices.Concat(m.Answer, m.Ns, m.Extra) {
		if r.Header().Rrtype != dns.TypeOPT {
			ttls = append(ttls, r.Header().Ttl)
		}
	}
	return ttls
}

func TestAnswerCountsEachTTLDown(t *testing.T) {
	m := response(question("www.example.", wire.TypeA), rrs(t,
		"www.example. 3600 IN CNAME web.example.", "web.example. 300 IN A 192.0.2.1", "web.example. 300 IN A 192.0.2.2")...)
	m.Ns = rrs(t, "example. 86400 IN NS ns.example.")
	m.Extra = rrs(t, "ns.example. 7200 IN A 192.0.2.53")
	a := answerOf(t, m, epoch)
	q := query(t, "www.example.", wire.TypeA)
	for _, c := range []struct {
		at   time.Time
		want []uint32
	}{
		{after(-3600), []uint32{3600, 300, 300, 86400, 7200}}, // a clock that went back
		{after(-0.1), []uint32{3600, 300, 300, 86400, 7200}},
		{after(0), []uint32{3600, 300, 300, 86400, 7200}},
		{after(0.999), []uint32{3600, 300, 300, 86400, 7200}},
		{after(1), []uint32{3599, 299, 299, 86399, 7199}},
		{after(299.999), []uint32{3301, 1, 1, 86101, 6901}},
		{after(300), []uint32{3300, 0, 0, 86100, 6900}}, // to those who waited for it
		{after(4000), []uint32{0, 0, 0, 82400, 3200}},
		{after(1<<32 + 5), []uint32{0, 0, 0, 0, 0}}, // more seconds than fit into 32 bits
		{time.Unix(math.MaxInt32*100, 0), []uint32{0, 0, 0, 0, 0}},
	} {
		got := ttlsOf(unpack(t, a.Append(nil, q, c.at)))
		if !slices.Equal(got, c.want) {
			t.Errorf("after %v the TTLs are %d, want %d", c.at.Sub(epoch), got, c.want)
		}
	}
}

func TestAnswerLivesAsLongAsItsSmallestTTL(t *testing.T) {
	a := hosts(t, "www.example.", epoch, "www.example. 3600 IN CNAME web.example.", "web.example. 30 IN A 192.0.2.1")
	if want := after(30); !a.Expires().Equal(want) {
		t.Errorf("it expires at %v, want %v", a.Expires(), want)
	}
	if !a.alive(after(29.999)) || a.alive(after(30)) {
		t.Errorf("alive before and at its end: %v, %v", a.alive(after(29.999)), a.alive(after(30)))
	}
}

func TestAnswerAgesByTheMonotonicClock(t *testing.T) {
	stored := time.Now()
	a := hosts(t, "www.example.", stored, "www.example. 60 IN A 192.0.2.1")
	if now := stored.Add(59 * time.Second); !a.alive(now) || a.alive(now.Add(time.Second)) {
		t.Error("an answer stored by the running clock does not end after its 60 s")
	}
	if !strings.Contains(a.stored.String(), " m=") {
		t.Errorf("the monotonic reading of the time it was stored is lost: %v", a.stored)
	}
}

func TestNewAnswerWritesTTLsIntoTheMessage(t *testing.T) {
	msg := pack(t, response(question("www.example.", wire.TypeA),
		rrs(t, "www.example. 3600 IN CNAME web.example.", "web.example. 300 IN A 192.0.2.1")...))
	a, err := NewAnswer(msg, []uint32{40, 20}, epoch, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := ttlsOf(unpack(t, a.Append(nil, query(t, "www.example.", wire.TypeA), after(5))))
	if want := []uint32{35, 15}; !slices.Equal(got, want) {
		t.Errorf("the TTLs are %d, want %d", got, want)
	}
	if want := after(20); !a.Expires().Equal(want) {
		t.Errorf("it expires at %v, want %v", a.Expires(), want)
	}
}

func TestNewAnswerTakesATTLWithItsTopBitSetFor0(t *testing.T) { // RFC 2181 §8
	for _, ttls := range [][]uint32{{1 << 31, 300}, {300, math.MaxUint32}} {
		a, err := NewAnswer(pack(t, response(question("www.example.", wire.TypeA),
			rrs(t, "www.example. 1 IN CNAME web.example.", "web.example. 1 IN A 192.0.2.1")...)), ttls, epoch, nil)
		if err != nil {
			t.Fatal(err)
		}
		if a.life() != 0 {
			t.Errorf("with the TTLs %d it lives %v", ttls, a.life())
		}
		for i, got := range ttlsOf(unpack(t, a.Append(nil, query(t, "www.example.", wire.TypeA), epoch))) {
			if want := ttls[i] & (300 * (1 - ttls[i]>>31)); got != want {
				t.Errorf("TTL %d became %d, want %d", ttls[i], got, want)
			}
		}
	}
}

func TestNewAnswerRefusesWhatIsNoWholeResponse(t *testing.T) {
	good := func() *dns.Msg {
		return response(question("www.example.", wire.TypeA), rrs(t, "www.example. 300 IN A 192.0.2.1")...)
	}
	edit := func(f func(*dns.Msg)) []byte {
		m := good()
		f(m)
		return pack(t, m)
	}
	if _, err := NewAnswer(pack(t, good()), nil, epoch, nil); err != nil {
		t.Fatalf("NewAnswer refuses a good one: %v", err)
	}
	for what, msg := range map[string][]byte{
		"nothing":              nil,
		"half a header":        pack(t, good())[:7],
		"the header only":      pack(t, good())[:12],
		"the last octet gone":  pack(t, good())[:len(pack(t, good()))-1],
		"an octet too many":    append(pack(t, good()), 0),
		"a query":              edit(func(m *dns.Msg) { m.Response = false }),
		"a NOTIFY":             edit(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }),
		"a truncated response": edit(func(m *dns.Msg) { m.Truncated = true }), // RFC 2181 §9
		"an OPT record":        edit(func(m *dns.Msg) { m.SetEdns0(1232, true) }),
		"no question":          edit(func(m *dns.Msg) { m.Question = nil }),
		"two questions":        edit(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }),
		"256 questions": edit(func(m *dns.Msg) {
			m.Question = slices.Repeat(m.Question, 256)
		}),
	} {
		if _, err := NewAnswer(msg, nil, epoch, nil); !errors.Is(err, ErrAnswer) {
			t.Errorf("%s: the error is %v", what, err)
		}
	}
	for _, ttls := range [][]uint32{{}, {1, 2}} {
		if _, err := NewAnswer(pack(t, good()), ttls, epoch, nil); !errors.Is(err, ErrAnswer) {
			t.Errorf("%d TTLs for one record: the error is %v", len(ttls), err)
		}
	}
}

func TestAnswerComesInTheSpellingOfTheClient(t *testing.T) {
	a := hosts(t, "www.example.", epoch, "www.example. 300 IN A 192.0.2.1", "www.example. 300 IN A 192.0.2.2")
	for _, spelling := range []string{"www.example.", "WWW.EXAMPLE.", "wWw.eXaMpLe."} {
		m := unpack(t, a.Append(nil, query(t, spelling, wire.TypeA, withID(0xBEEF)), epoch))
		if m.Question[0].Name != spelling || m.Id != 0xBEEF {
			t.Errorf("asked for %s, the question that came back is %s, of ID %x", spelling, m.Question[0].Name, m.Id)
		}
		for _, r := range m.Answer {
			if r.Header().Name != spelling {
				t.Errorf("asked for %s, the owner name is %s", spelling, r.Header().Name)
			}
		}
	}
}

func TestAnswerWithoutRoomLosesItsAdditionalSectionFirst(t *testing.T) { // RFC 2181 §9
	m := response(question("a.", wire.TypeNS))
	m.Question[0].Name = "a."
	for i := range 10 {
		host := fmt.Sprintf("ns%d.%s.a.", i, strings.Repeat("x", 20))
		m.Answer = append(m.Answer, &dns.NS{Hdr: dns.RR_Header{Name: "a.", Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: 60}, Ns: host})
		m.Extra = append(m.Extra, &dns.A{Hdr: dns.RR_Header{Name: host, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 30}, A: net.IPv4(192, 0, 2, byte(i))})
	}
	a := answerOf(t, m, epoch)
	required, _ := a.upTo(0)
	for _, c := range []struct {
		what      string
		limit     int
		answer    int
		extra     int
		truncated bool
	}{
		{"for all", len(a.msg), 10, 10, false},
		{"for all but one octet", len(a.msg) - 1, 10, 0, false},
		{"for the answer section", len(required), 10, 0, false},
		{"for less", len(required) - 1, 0, 0, true},
	} {
		q := query(t, "a.", wire.TypeNS)
		q.Limit = c.limit
		for how, out := range map[string][]byte{"live": a.Append(nil, q, after(7)), "stale": a.appendStale(nil, q, 70, 20)} {
			got := unpack(t, out)
			if len(out) > c.limit || got.Truncated != c.truncated || len(got.Answer) != c.answer || len(got.Extra) != c.extra {
				t.Errorf("room %s, %s: TC %v, %d and %d records in %d octets", c.what, how, got.Truncated, len(got.Answer), len(got.Extra), len(out))
			}
			ttl := map[string]uint32{"live": 53, "stale": 20}[how]
			for _, rr := range got.Answer {
				if rr.Header().Ttl != ttl {
					t.Errorf("room %s, %s: %v", c.what, how, rr)
				}
			}
		}
	}
}

func TestAnswerWithoutRoomLosesWhatIsSpareNext(t *testing.T) { // RFC 2181 §9
	record := func(name string, ttl uint32, text string) dns.RR {
		return &dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: ttl}, Txt: []string{text}}
	}
	m := response(question("a.", wire.TypeTXT))
	m.Question[0].Name = "a."
	m.Answer = []dns.RR{record("a.", 60, "answer")}
	m.Ns = []dns.RR{record("b.a.", 50, "proof"), record("a.", 40, "spare"), record("a.", 40, "spare as well")}
	m.Extra = []dns.RR{record("c.a.", 60, "additional")}
	a := answerOf(t, m, epoch)
	a.MarkSpare(2)
	authority, _ := a.upTo(0)
	required, _ := a.upTo(2)
	for _, c := range []struct {
		what              string
		limit             int
		answer, ns, extra int
		truncated         bool
	}{
		{"for all", len(a.msg), 1, 3, 1, false},
		{"for all but one octet", len(a.msg) - 1, 1, 3, 0, false},
		{"for the authority section", len(authority), 1, 3, 0, false},
		{"for all but one octet of it", len(authority) - 1, 1, 1, 0, false},
		{"for what is required", len(required), 1, 1, 0, false},
		{"for less", len(required) - 1, 0, 0, 0, true},
	} {
		q := query(t, "a.", wire.TypeTXT)
		q.Limit = c.limit
		for how, out := range map[string][]byte{"live": a.Append(nil, q, after(7)), "stale": a.appendStale(nil, q, 70, 20)} {
			got := unpack(t, out)
			if len(out) > c.limit || got.Truncated != c.truncated || len(got.Answer) != c.answer || len(got.Ns) != c.ns || len(got.Extra) != c.extra {
				t.Errorf("room %s, %s: TC %v, %d, %d and %d records in %d octets", c.what, how, got.Truncated, len(got.Answer), len(got.Ns), len(got.Extra), len(out))
			}
			for i, rr := range got.Ns {
				want := map[string]uint32{"live": []uint32{43, 33, 33}[i], "stale": 20}[how]
				if rr.Header().Ttl != want {
					t.Errorf("room %s, %s: %v, want TTL %d", c.what, how, rr, want)
				}
			}
		}
	}
}

func TestSpareIsNoMoreThanTheAuthoritySection(t *testing.T) {
	a := answerOf(t, response(question("a.", wire.TypeA)), epoch)
	if a.MarkSpare(70_000); a.spare != 0 {
		t.Errorf("%d records are spare where there is none", a.spare)
	}
}

func TestAnswerIsCutOffWhereTheClientsSizeEnds(t *testing.T) {
	// One string makes the length exact: 12 + (1+1+2+2) + (2+10+1+len).
	long := func(octets int) *Answer {
		m := response(question("a.", wire.TypeTXT))
		m.Question[0].Name = "a."
		m.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: "a.", Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 60}}}
		for left := octets - 12 - 7 - 12; left > 0; {
			n := min(left, 256)
			if left-n == 0 || left-n > 1 {
				m.Answer[0].(*dns.TXT).Txt = append(m.Answer[0].(*dns.TXT).Txt, strings.Repeat("x", n-1))
				left -= n
				continue
			}
			m.Answer[0].(*dns.TXT).Txt = append(m.Answer[0].(*dns.TXT).Txt, strings.Repeat("x", n-2))
			left -= n - 1
		}
		a := answerOf(t, m, epoch)
		if len(a.msg) != octets {
			t.Fatalf("the response has %d octets, want %d", len(a.msg), octets)
		}
		return a
	}
	for _, c := range []struct {
		what   string
		octets int
		limit  int // 0: UDP's
		opts   []option
		cut    bool
	}{
		{"512 without EDNS", 512, 0, nil, false},
		{"513 without EDNS", 513, 0, nil, true},
		{"501 with EDNS for 512", 512 - wire.OPTLen, 0, []option{withEDNS(512)}, false},
		{"502 with EDNS for 512", 512 - wire.OPTLen + 1, 0, []option{withEDNS(512)}, true},
		{"with EDNS for less than 512", 512 - wire.OPTLen, 0, []option{withEDNS(100)}, false}, // RFC 6891 §6.2.3
		{"1221 with EDNS for 1232", 1232 - wire.OPTLen, 0, []option{withEDNS(1232)}, false},
		{"1222 with EDNS for 1232", 1232 - wire.OPTLen + 1, 0, []option{withEDNS(1232)}, true},
		{"1222 with EDNS for more than we send", 1222, 0, []option{withEDNS(4096)}, true},
		{"16 KiB over TCP", MaxAnswer, wire.MaxMsgSize, nil, false},
		{"all there is over TCP", wire.MaxMsgSize, wire.MaxMsgSize, nil, false},
		{"no room for OPT over TCP", wire.MaxMsgSize, wire.MaxMsgSize, []option{withEDNS(512)}, true},
		{"no room for anything", 100, 1, nil, true},
	} {
		q := query(t, "A.", wire.TypeTXT, append(c.opts, withCD, withID(7))...)
		if c.limit != 0 {
			q.Limit = c.limit
		}
		out := long(c.octets).Append(nil, q, after(1))
		m := unpack(t, out)
		if m.Truncated != c.cut || (len(m.Answer) == 0) != c.cut {
			t.Errorf("%s: TC %v with %d records", c.what, m.Truncated, len(m.Answer))
		}
		if m.Id != 7 || m.Question[0].Name != "A." || !m.CheckingDisabled || !m.RecursionDesired || !m.RecursionAvailable || !m.Response {
			t.Errorf("%s: the header is %+v, the question %+v", c.what, m.MsgHdr, m.Question)
		}
		if c.cut && len(out) != 12+7 {
			t.Errorf("%s: cut off after %d octets", c.what, len(out))
		}
	}
}

func TestAnswerThatIsCutOffKeepsItsRcode(t *testing.T) {
	m := response(question("a.", wire.TypeA))
	m.Rcode = dns.RcodeNameError
	m.AuthenticatedData = true
	for range 40 {
		m.Ns = append(m.Ns, rr(t, "a. 60 IN NS a-name-server-with-a-long-name.example."))
	}
	m.Compress = false
	got := unpack(t, answerOf(t, m, epoch).Append(nil, query(t, "a.", wire.TypeA, withAD), epoch))
	if !got.Truncated || got.Rcode != dns.RcodeNameError {
		t.Errorf("TC is %v, the rcode %d", got.Truncated, got.Rcode)
	}
	if got.AuthenticatedData {
		t.Error("AD is set in a response without any data")
	}
}

func TestAnswerShowsADToThoseWhoAskForIt(t *testing.T) { // RFC 6840 §5.8
	for _, secure := range []bool{false, true} {
		m := response(question("www.example.", wire.TypeA), rrs(t, "www.example. 300 IN A 192.0.2.1")...)
		m.AuthenticatedData = secure
		a := answerOf(t, m, epoch)
		for _, c := range []struct {
			what  string
			opts  []option
			shown bool
		}{
			{"nothing", nil, false},
			{"EDNS only", []option{withEDNS(1232)}, false},
			{"CD only", []option{withCD}, false},
			{"DO", []option{withDO}, true},
			{"AD", []option{withAD}, true},
			{"DO and AD", []option{withDO, withAD}, true},
		} {
			got := unpack(t, a.Append(nil, query(t, "www.example.", wire.TypeA, c.opts...), epoch)).AuthenticatedData
			if got != (secure && c.shown) {
				t.Errorf("secure %v, asked with %s: AD is %v", secure, c.what, got)
			}
		}
	}
}

func TestAnswerCopiesRDAndCDAndIsNeverAuthoritative(t *testing.T) {
	m := response(question("www.example.", wire.TypeA), rrs(t, "www.example. 300 IN A 192.0.2.1")...)
	m.Authoritative, m.RecursionDesired, m.CheckingDisabled, m.RecursionAvailable, m.Zero = true, true, true, false, true
	a := answerOf(t, m, epoch)
	for _, c := range []struct {
		opts   []option
		rd, cd bool
	}{
		{nil, true, false},
		{[]option{withCD}, true, true},
		{[]option{withoutRD}, false, false},
		{[]option{withoutRD, withCD}, false, true},
	} {
		got := unpack(t, a.Append(nil, query(t, "www.example.", wire.TypeA, c.opts...), epoch))
		if got.RecursionDesired != c.rd || got.CheckingDisabled != c.cd { // RFC 1035 §4.1.1, RFC 4035 §3.2.2
			t.Errorf("RD %v and CD %v came back as %v and %v", c.rd, c.cd, got.RecursionDesired, got.CheckingDisabled)
		}
		if got.Authoritative || got.Zero || !got.RecursionAvailable || !got.Response {
			t.Errorf("the header is %+v", got.MsgHdr)
		}
	}
}

func TestAnswerKeepsTheErrorButNotItsCause(t *testing.T) {
	msg := pack(t, response(question("www.example.", wire.TypeA), rrs(t, "www.example. 300 IN A 192.0.2.1")...))
	why := ede.Wrap(errors.New("much memory"), ede.StaleAnswer, "the servers are away")
	a, err := NewAnswer(msg, nil, epoch, why)
	if err != nil {
		t.Fatal(err)
	}
	if got := a.EDE(); got == nil || got.Code != ede.StaleAnswer || got.Text != why.Text || got.Err != nil {
		t.Errorf("the error that goes with it is %#v", got)
	}
	if why.Err == nil {
		t.Error("NewAnswer changed what it was lent")
	}
	if a, _ = NewAnswer(msg, nil, epoch, nil); a.EDE() != nil {
		t.Errorf("without an error %v goes with it", a.EDE())
	}
}

func TestAnswerIsNotConfusedByAnotherQuestion(t *testing.T) {
	a := hosts(t, "a.", epoch, "a. 300 IN A 192.0.2.1")
	long := strings.Repeat("long.", 40)
	for _, limit := range []int{0, 20, 512, wire.MaxMsgSize} {
		q := query(t, long, wire.TypeA)
		q.Limit = limit
		if out := a.Append(nil, q, epoch); binary.BigEndian.Uint16(out) != q.ID() {
			t.Errorf("limit %d: the response is %x", limit, out)
		}
	}
}
