package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// cookieQuery has nothing but a header and a client cookie (RFC 7873 §5.4).
var cookieQuery = []byte("\x12\x34\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\x00\x00\x29\x04\xD0\x00\x00\x00\x00\x00\x0C" + "\x00\x0A\x00\x0801234567")

// withOptions returns ednsQuery with these octets as the RDATA of its OPT record.
func withOptions(options string) []byte {
	msg := append(bytes.Clone(ednsQuery), options...)
	binary.BigEndian.PutUint16(msg[len(ednsQuery)-2:], uint16(len(options)))
	return msg
}

// cookieOption is a COOKIE option of n octets, which are all c.
func cookieOption(n int, c string) string {
	return "\x00\x0A" + string([]byte{byte(n >> 8), byte(n)}) + strings.Repeat(c, n)
}

func TestParseKnowsCookiesByTheirLength(t *testing.T) {
	for n := range 300 { // RFC 7873 §5.2.2: 8, or 16 to 40
		want := CookieMalformed
		switch {
		case n == 8:
			want = CookieClient
		case n >= 16 && n <= 40:
			want = CookieUnproven
		}
		q := parse(t, withOptions(cookieOption(n, "c")))
		if q.Cookie != want || len(q.RawCookie()) != n {
			t.Errorf("%d octets are cookie %d, %q; want %d", n, q.Cookie, q.RawCookie(), want)
		}
	}
}

func TestFirstCookieCounts(t *testing.T) {
	const nsid = "\x00\x03\x00\x00"
	for _, c := range []struct {
		what, options string
		want          Cookie
		cookie        string
	}{
		{"none", nsid, CookieNone, ""},
		{"client before server", cookieOption(8, "a") + cookieOption(24, "b"), CookieClient, "aaaaaaaa"},
		{"good before malformed", nsid + cookieOption(8, "a") + cookieOption(7, "b"), CookieClient, "aaaaaaaa"},
		{"malformed before good", cookieOption(7, "a") + cookieOption(8, "b"), CookieMalformed, "aaaaaaa"},
		{"empty before good", cookieOption(0, "") + nsid + cookieOption(8, "b"), CookieMalformed, ""},
		{"many", strings.Repeat(cookieOption(8, "a"), MaxOptions), CookieClient, "aaaaaaaa"},
	} {
		q := parse(t, withOptions(c.options))
		if q.Cookie != c.want || string(q.RawCookie()) != c.cookie {
			t.Errorf("%s: cookie %d, %q; want %d, %q", c.what, q.Cookie, q.RawCookie(), c.want, c.cookie)
		}
	}
}

func TestNSIDIsAskedForByItsOptionWhateverIsInIt(t *testing.T) {
	for options, want := range map[string]bool{
		"":                                 false,
		"\x00\x03\x00\x00":                 true,
		"\x00\x03\x00\x02hi":               true, // RFC 5001 §2.1
		"\x00\x03\x00\x00\x00\x03\x00\x00": true,
		"\x03\x00\x00\x00":                 false,
		"\x00\x0A\x00\x08\x00\x03\x00\x00\x00\x03\x00\x00": false, // within a cookie
	} {
		if q := parse(t, withOptions(options)); q.NSID != want {
			t.Errorf("options %x ask for NSID: %v", options, q.NSID)
		}
	}
}

func TestIdleTimeIsAskedForByItsOptionWhateverIsInIt(t *testing.T) {
	for options, want := range map[string]bool{
		"":                                 false,
		"\x00\x0B\x00\x00":                 true,
		"\x00\x0B\x00\x02\x00\x64":         true, // RFC 7828 §3.2.1 has clients send nothing
		"\x00\x03\x00\x00\x00\x0B\x00\x00": true,
		"\x0B\x00\x00\x00":                 false,
	} {
		q := parse(t, withOptions(options))
		if q.Keepalive != want || !q.Clone().Keepalive == want {
			t.Errorf("options %x ask for the idle time: %v", options, q.Keepalive)
		}
		if q.Parse(plainQuery) != OK || q.Keepalive {
			t.Errorf("options %x are not forgotten", options)
		}
	}
}

func TestParseForgetsTheOptionsBefore(t *testing.T) {
	q := parse(t, fullQuery)
	if !q.NSID || q.Cookie != CookieClient || string(q.RawCookie()) != "01234567" {
		t.Fatalf("the query is %+v", q)
	}
	for _, msg := range [][]byte{plainQuery, ednsQuery} {
		if q.Parse(fullQuery) != OK || q.Parse(msg) != OK || q.NSID || q.Cookie != CookieNone || len(q.RawCookie()) != 0 {
			t.Errorf("%x is %+v", msg, q)
		}
	}
}

func TestCloneOwnsItsCookie(t *testing.T) {
	msg := bytes.Clone(fullQuery)
	c := parse(t, msg).Clone()
	clear(msg)
	if string(c.RawCookie()) != "01234567" || !c.NSID || c.Cookie != CookieClient {
		t.Errorf("the clone is %+v with the cookie %q", c, c.RawCookie())
	}
}

func TestQueryForACookieNeedsNoQuestion(t *testing.T) {
	q := parse(t, fullQuery) // leaves something to be forgotten
	if status := q.Parse(cookieQuery); status != OK {
		t.Fatalf("Parse = %d", status)
	}
	if !q.NoQuestion() || q.Type != 0 || q.Class != 0 || q.Cookie != CookieClient || !q.EDNS || !q.RD || q.CD {
		t.Errorf("the query is %+v", q)
	}
	if len(q.RawName()) != 0 || len(q.RawQuestion()) != 0 || q.Question() != (Question{}) || q.Question().String() == "" {
		t.Errorf("its question is %q, %q, %v", q.RawName(), q.RawQuestion(), q.Question())
	}
	q.Limit = MinUDPSize
	reply := AppendOPT(AppendReply(nil, q, NoError), 0, q, 1232, NoError, Option{Code: OptionCookie, Data: q.RawCookie()})
	m := unpack(t, reply)
	if len(m.Question) != 0 || !m.Response || m.Id != 0x1234 || m.Rcode != dns.RcodeSuccess || len(m.IsEdns0().Option) != 1 {
		t.Errorf("the response is %v", m)
	}
	if reply = Truncate(reply, 0, q); len(reply) != HeaderLen {
		t.Errorf("cut off it has %d octets", len(reply))
	}
	if parse(t, ednsQuery).NoQuestion() {
		t.Error("a question is none")
	}
}

func TestQueryForACookieIsTurnedAwayWhereverItIsCut(t *testing.T) {
	var q Query
	for n := HeaderLen; n < len(cookieQuery); n++ {
		if status := q.Parse(cookieQuery[:n]); status != Malformed {
			t.Errorf("the first %d octets: Parse = %d", n, status)
		}
	}
}

func TestOPTRoomHoldsTheCookie(t *testing.T) {
	data := make([]byte, CookieLen)
	for _, c := range []struct {
		msg    []byte
		cookie Cookie
	}{
		{plainQuery, CookieNone},
		{ednsQuery, CookieNone},
		{fullQuery, CookieMalformed},
		{fullQuery, CookieClient},
		{fullQuery, CookieUnproven},
		{fullQuery, CookieOld},
		{fullQuery, CookieValid},
	} {
		q := parse(t, c.msg)
		q.Cookie = c.cookie
		reply := AppendReply(nil, q, NoError)
		bare := len(reply)
		var options []Option
		if q.Cookie.Answered() {
			options = []Option{{Code: OptionCookie, Data: data}}
		}
		if got := len(AppendOPT(reply, 0, q, 1232, NoError, options...)) - bare; got != q.OPTRoom() {
			t.Errorf("EDNS %v, cookie %d: the OPT record has %d octets, and room for %d", q.EDNS, c.cookie, got, q.OPTRoom())
		}
	}
}

func TestCookiesThatProveSomethingAreAnswered(t *testing.T) {
	for c, want := range map[Cookie][2]bool{
		CookieNone: {}, CookieMalformed: {}, CookieClient: {false, true}, CookieUnproven: {false, true}, CookieOld: {true, true}, CookieValid: {true, true},
	} {
		if got := [2]bool{c.Proven(), c.Answered()}; got != want {
			t.Errorf("cookie %d: proven, answered %v, want %v", c, got, want)
		}
	}
}

// FuzzOptions holds the walk over the options to a slower one, which cannot read
// too far.
func FuzzOptions(f *testing.F) {
	for _, options := range []string{"", "\x00\x03\x00\x00", cookieOption(8, "a") + cookieOption(24, "b"), cookieOption(7, "a"), "\x00\x0A\x00", "\x00\x0A\xFF\xFF"} {
		f.Add([]byte(options))
	}
	f.Fuzz(func(t *testing.T, options []byte) {
		if len(options) > 4096 {
			return
		}
		var q Query
		status := q.Parse(withOptions(string(options)))
		codes, values, err := slowly(options)
		if (err == nil) != (status == OK) {
			t.Fatalf("Parse = %d, want error %v", status, err)
		}
		if err != nil {
			return
		}
		nsid, cookie, data := false, CookieNone, []byte(nil)
		for i, code := range codes {
			nsid = nsid || code == OptionNSID
			if code == OptionCookie && cookie == CookieNone {
				cookie, data = cookieOf(len(values[i])), values[i]
			}
		}
		if q.NSID != nsid || q.Cookie != cookie || !bytes.Equal(q.RawCookie(), data) {
			t.Fatalf("NSID %v, cookie %d %x; want %v, %d %x", q.NSID, q.Cookie, q.RawCookie(), nsid, cookie, data)
		}
	})
}

// slowly reads options, at most so many as Parse does.
func slowly(options []byte) (codes []uint16, values [][]byte, err error) {
	r := bytes.NewReader(options)
	for r.Len() > 0 {
		var head struct{ Code, Length uint16 }
		if err := binary.Read(r, binary.BigEndian, &head); err != nil || int(head.Length) > r.Len() || len(codes) == MaxOptions {
			return nil, nil, fmt.Errorf("option %d: %w, or too long or too many", len(codes), err)
		}
		data := make([]byte, head.Length)
		_, _ = r.Read(data)
		codes, values = append(codes, head.Code), append(values, data)
	}
	return codes, values, nil
}
