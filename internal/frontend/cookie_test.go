package frontend

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/clock"
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/policy"
	"shirube/resolver"
	"shirube/transport"
)

const (
	clientCookie = "0102030405060708"
	testNSID     = "tokyo-1"
)

// newCookies returns cookies with a secret that all that are made so share.
func newCookies(t testing.TB) *policy.Cookies {
	t.Helper()
	c, err := policy.NewCookies([][]byte{bytes.Repeat([]byte{7}, policy.SecretLen)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// oneAddress resolves every name to an address, but those that begin with fail.
func oneAddress(t testing.TB) stub {
	return func(_ context.Context, q wire.Question) (*resolver.Answer, error) {
		name := q.Name.String()
		if strings.HasPrefix(name, "fail") {
			return nil, errors.New("no server answers")
		}
		return &resolver.Answer{Records: []rrset.Set{set(t, name+" 300 A 192.0.2.1", time.Hour, rrset.Insecure)}}, nil
	}
}

// withCookies gives a frontend cookies and an NSID, and clients in 127.0.1.0/24
// the action allow_cookie.
func withCookies(t testing.TB) func(*Options) {
	rules, err := policy.New(policy.Options{Rules: []policy.Rule{
		{Prefix: netip.MustParsePrefix("127.0.0.0/8"), Action: policy.Allow},
		{Prefix: netip.MustParsePrefix("127.0.1.0/24"), Action: policy.AllowCookie},
		{Prefix: netip.MustParsePrefix("127.0.2.0/24"), Action: policy.Refuse},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return func(o *Options) {
		o.Policy, o.Cookies, o.NSID = rules, newCookies(t), []byte(testNSID)
	}
}

// cookie adds a COOKIE option with these hexadecimal digits to a query.
func cookie(digits string) func(*dns.Msg) {
	return func(m *dns.Msg) {
		opt := m.IsEdns0()
		opt.Option = append(opt.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: digits})
	}
}

// nsid adds n options that ask for the NSID.
func nsid(n int) func(*dns.Msg) {
	return func(m *dns.Msg) {
		for opt := m.IsEdns0(); n > 0; n-- {
			opt.Option = append(opt.Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID})
		}
	}
}

func both(m *dns.Msg) { cookie(clientCookie)(m); nsid(2)(m) }

// told is what is in the OPT record of a response.
func told(t *testing.T, m *dns.Msg) (cookie, nsid string, ede []uint16) {
	t.Helper()
	opt := m.IsEdns0()
	if opt == nil {
		t.Fatalf("no OPT record in %v", m)
	}
	for _, o := range opt.Option {
		switch o := o.(type) {
		case *dns.EDNS0_COOKIE:
			if cookie != "" {
				t.Errorf("two cookies in %v", m)
			}
			cookie = o.Cookie
		case *dns.EDNS0_NSID:
			if nsid != "" {
				t.Errorf("two NSIDs in %v", m)
			}
			octets, _ := hex.DecodeString(o.Nsid)
			nsid = string(octets)
		case *dns.EDNS0_EDE:
			ede = append(ede, o.InfoCode)
		}
	}
	return cookie, nsid, ede
}

// good reports whether cookie is one that a server with the shared secret made
// for client now.
func good(t *testing.T, cookie string, client netip.Addr) bool {
	t.Helper()
	octets, err := hex.DecodeString(cookie)
	return err == nil && strings.HasPrefix(cookie, clientCookie) && newCookies(t).Judge(octets, client, time.Now()) == wire.CookieValid
}

func TestEveryKindOfResponseHasTheCookieAndTheNSIDOnce(t *testing.T) {
	f := newFrontend(t, oneAddress(t), func(o *Options) {
		withCookies(t)(o)
		o.Builtins = policy.NewBuiltins(nil)
	})
	for _, tt := range []struct {
		what, name string
		typ        uint16
		client     string
		change     func(*dns.Msg)
		rcode      int
	}{
		{"a miss", "www.example.com.", dns.TypeA, "127.0.0.1", nil, dns.RcodeSuccess},
		{"a hit", "www.example.com.", dns.TypeA, "127.0.0.1", nil, dns.RcodeSuccess},
		{"a failure", "fail.example.com.", dns.TypeA, "127.0.0.1", nil, dns.RcodeServerFailure},
		{"a failure from memory", "fail.example.com.", dns.TypeA, "127.0.0.1", nil, dns.RcodeServerFailure},
		{"who is refused", "www.example.com.", dns.TypeA, "127.0.2.1", nil, dns.RcodeRefused},
		{"without RD", "www.example.com.", dns.TypeA, "127.0.0.1", func(m *dns.Msg) { m.RecursionDesired = false }, dns.RcodeRefused},
		{"a transfer", "www.example.com.", dns.TypeAXFR, "127.0.0.1", nil, dns.RcodeRefused},
		{"ANY", "www.example.com.", dns.TypeANY, "127.0.0.1", nil, dns.RcodeSuccess},
		{"a builtin zone", "localhost.", dns.TypeA, "127.0.0.1", nil, dns.RcodeSuccess},
	} {
		q := query(t, tt.name, tt.typ, func(m *dns.Msg) {
			both(m)
			if tt.change != nil {
				tt.change(m)
			}
		})
		q.Client = netip.AddrPortFrom(netip.MustParseAddr(tt.client), 1234)
		m := answer(t, f, q)
		cookie, id, _ := told(t, m)
		if m.Rcode != tt.rcode || id != testNSID || !good(t, cookie, q.Client.Addr()) {
			t.Errorf("%s: NSID %q, cookie %s in %v", tt.what, id, cookie, m)
		}
	}
	q := query(t, "busy.example.com.", dns.TypeA, both)
	f.TryServe(nil, q)
	m := new(dns.Msg)
	if err := m.Unpack(f.Shed(nil, q, "server busy")); err != nil {
		t.Fatal(err)
	}
	if cookie, id, _ := told(t, m); m.Rcode != dns.RcodeServerFailure || id != testNSID || !good(t, cookie, q.Client.Addr()) {
		t.Errorf("who is turned away: NSID %q, cookie %s in %v", id, cookie, m)
	}
}

func TestNothingIsToldUnasked(t *testing.T) {
	f := newFrontend(t, oneAddress(t), withCookies(t))
	for what, change := range map[string]func(*dns.Msg){
		"EDNS":    nil,
		"no EDNS": func(m *dns.Msg) { m.Extra = nil },
	} {
		m := answer(t, f, query(t, "www.example.com.", dns.TypeA, change))
		if opt := m.IsEdns0(); opt != nil && len(opt.Option) > 0 || m.Rcode != dns.RcodeSuccess {
			t.Errorf("%s: %v", what, m)
		}
	}
	silent := newFrontend(t, oneAddress(t), nil) // has neither
	m := answer(t, silent, query(t, "www.example.com.", dns.TypeA, both))
	if opt := m.IsEdns0(); opt == nil || len(opt.Option) > 0 {
		t.Errorf("without cookies and NSID: %v", m)
	}
}

func TestMalformedCookiesAreFORMERR(t *testing.T) {
	f, off := newFrontend(t, oneAddress(t), withCookies(t)), newFrontend(t, oneAddress(t), nil)
	for n := range 64 { // RFC 7873 §5.2.2
		malformed := n != 8 && (n < 16 || n > 40)
		q := query(t, "www.example.com.", dns.TypeA, func(m *dns.Msg) {
			// As any option: miekg/dns would not pack an empty cookie.
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_LOCAL{Code: dns.EDNS0COOKIE, Data: make([]byte, n)}}
		})
		want := dns.RcodeSuccess
		if malformed {
			want = dns.RcodeFormatError
		}
		m := answer(t, f, q)
		if cookie, _, _ := told(t, m); m.Rcode != want || (cookie == "") != malformed || len(m.Question) != 1 {
			t.Errorf("%d octets: %v", n, m)
		}
		q.Parse(q.Msg())
		if m := answer(t, off, q); m.Rcode != dns.RcodeSuccess || len(m.IsEdns0().Option) != 0 {
			t.Errorf("%d octets, to a server without cookies: %v", n, m)
		}
	}
	if s := f.Stats(); s.Rejected != 64-26 || s.BadCookies != 25 {
		t.Errorf("%d rejected, %d bad", s.Rejected, s.BadCookies)
	}
}

// ask asks f over proto from client with change, and returns the response and its
// cookie.
func ask(t *testing.T, f *Frontend, proto wire.Proto, client string, change func(*dns.Msg)) (*dns.Msg, string) {
	t.Helper()
	q := query(t, "www.example.com.", dns.TypeA, change)
	q.Proto, q.Client = proto, netip.AddrPortFrom(netip.MustParseAddr(client), 1234)
	m := answer(t, f, q)
	if m.IsEdns0() == nil {
		return m, ""
	}
	cookie, _, _ := told(t, m)
	return m, cookie
}

func TestCookiesComeBackAndAreRenewed(t *testing.T) {
	now := new(clock.Clock)
	f := newFrontend(t, oneAddress(t), func(o *Options) { withCookies(t)(o); o.Clock = now })
	_, first := ask(t, f, wire.UDP, "127.0.0.1", cookie(clientCookie))
	for _, at := range []time.Duration{0, 29 * time.Minute} {
		now.Set(at)
		if _, again := ask(t, f, wire.UDP, "127.0.0.1", cookie(first)); again != first {
			t.Errorf("after %v: %s, want %s", at, again, first)
		}
	}
	now.Set(31 * time.Minute)
	_, second := ask(t, f, wire.UDP, "127.0.0.1", cookie(first))
	if second == first || len(second) != 2*wire.CookieLen || !strings.HasPrefix(second, clientCookie) {
		t.Errorf("after half an hour: %s after %s", second, first)
	}
	now.Set(90 * time.Minute)
	if _, third := ask(t, f, wire.UDP, "127.0.0.1", cookie(second)); third == second {
		t.Errorf("an hour later: %s again", third)
	}
	if _, other := ask(t, f, wire.UDP, "127.0.0.2", cookie(second)); other == second || len(other) != 2*wire.CookieLen {
		t.Errorf("another client with the same cookie is given %s", other)
	}
	if s := f.Stats(); s.Cookies != 4 || s.BadCookies != 1 || s.Cookieless != 0 {
		t.Errorf("%d good, %d bad", s.Cookies, s.BadCookies)
	}
}

func TestServersThatShareASecretTakeEachOthersCookies(t *testing.T) {
	a, b, alone := newFrontend(t, oneAddress(t), withCookies(t)), newFrontend(t, oneAddress(t), withCookies(t)), newFrontend(t, oneAddress(t), func(o *Options) {
		withCookies(t)(o)
		var err error
		if o.Cookies, err = policy.NewCookies(nil); err != nil {
			t.Fatal(err)
		}
	})
	for _, proto := range []wire.Proto{wire.UDP, wire.TCP} {
		_, theirs := ask(t, a, proto, "127.0.0.1", cookie(clientCookie))
		if _, got := ask(t, b, proto, "127.0.0.1", cookie(theirs)); got != theirs {
			t.Errorf("%v: the other server gives %s for %s", proto, got, theirs)
		}
		if m, got := ask(t, alone, proto, "127.0.0.1", cookie(theirs)); got == theirs || m.Rcode != dns.RcodeSuccess {
			t.Errorf("%v: a server with a secret of its own says %v", proto, m)
		}
	}
}

func TestAllowCookieAsksForACookieOverUDPOnly(t *testing.T) {
	f := newFrontend(t, oneAddress(t), withCookies(t))
	const client = "127.0.1.1"
	_, valid := ask(t, f, wire.TCP, client, cookie(clientCookie))
	noEDNS := func(m *dns.Msg) { m.Extra = nil }
	for what, tt := range map[string]struct {
		change func(*dns.Msg)
		rcode  int // over UDP
		tc     bool
		ede    uint16 // 0: none
	}{
		"valid":         {cookie(valid), dns.RcodeSuccess, false, 0},
		"client's only": {cookie(clientCookie), dns.RcodeBadCookie, false, 0},
		"forged":        {cookie(valid[:40] + "00000000"), dns.RcodeBadCookie, false, 0},
		"long":          {cookie(valid + "00"), dns.RcodeBadCookie, false, 0},
		"malformed":     {cookie("01020304"), dns.RcodeFormatError, false, dns.ExtendedErrorCodeOther + 1},
		"none":          {nil, dns.RcodeRefused, true, dns.ExtendedErrorCodeProhibited + 1},
		"no EDNS":       {noEDNS, dns.RcodeRefused, true, 0},
	} {
		m, got := ask(t, f, wire.UDP, client, tt.change)
		if m.Rcode != tt.rcode || m.Truncated != tt.tc || (tt.rcode == dns.RcodeSuccess) != (len(m.Answer) == 1) || len(m.Question) != 1 {
			t.Errorf("%s: %v", what, m)
		}
		if wantCookie := tt.rcode == dns.RcodeBadCookie || tt.rcode == dns.RcodeSuccess; good(t, got, netip.MustParseAddr(client)) != wantCookie {
			t.Errorf("%s: cookie %q", what, got)
		}
		if tt.rcode == dns.RcodeBadCookie { // what it is given is good
			if m, again := ask(t, f, wire.UDP, client, cookie(got)); m.Rcode != dns.RcodeSuccess || again != got {
				t.Errorf("%s: asked again, %v", what, m)
			}
		}
		if what != "no EDNS" {
			if _, _, ede := told(t, m); (len(ede) == 1) != (tt.ede > 0) || len(ede) == 1 && ede[0] != tt.ede-1 {
				t.Errorf("%s: EDE %v, want %d", what, ede, int(tt.ede)-1)
			}
		}
		if what != "malformed" {
			if m, _ := ask(t, f, wire.TCP, client, tt.change); m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
				t.Errorf("%s over TCP: %v", what, m)
			}
		}
		if m, _ := ask(t, f, wire.UDP, "127.0.0.1", tt.change); what != "malformed" && m.Rcode != dns.RcodeSuccess {
			t.Errorf("%s, of a client that needs no cookie: %v", what, m)
		}
	}
	if s := f.Stats(); s.Cookieless != 5 {
		t.Errorf("%d turned away", s.Cookieless)
	}
}

// cookieOnly returns a query without question (RFC 7873 §5.4).
func cookieOnly(t *testing.T, client, digits string) *wire.Query {
	t.Helper()
	m := new(dns.Msg)
	m.SetEdns0(1232, false)
	m.Question = nil
	cookie(digits)(m)
	raw, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	q := &wire.Query{Client: netip.AddrPortFrom(netip.MustParseAddr(client), 1234), Received: time.Now(), Limit: 1232}
	if status := q.Parse(raw); status != wire.OK {
		t.Fatal(status)
	}
	return q
}

func TestCookieCanBeAskedForWithoutAQuestion(t *testing.T) {
	f := newFrontend(t, nil, withCookies(t))
	off := newFrontend(t, nil, nil)
	for _, client := range []string{"127.0.0.1", "127.0.1.1", "127.0.2.1"} { // allowed, with a cookie only, refused
		addr := netip.MustParseAddr(client)
		valid := hex.EncodeToString(newCookies(t).Append(nil, []byte("\x01\x02\x03\x04\x05\x06\x07\x08"), addr, time.Now()))
		for digits, want := range map[string]int{
			clientCookie:              dns.RcodeSuccess,
			valid:                     dns.RcodeSuccess,
			clientCookie + valid[:32]: dns.RcodeBadCookie,
			"01020304":                dns.RcodeFormatError,
		} {
			if client == "127.0.2.1" {
				want = dns.RcodeRefused
			}
			m := answer(t, f, cookieOnly(t, client, digits))
			got, _, _ := told(t, m)
			if m.Rcode != want || len(m.Question)+len(m.Answer)+len(m.Ns) != 0 || good(t, got, addr) != (digits != "01020304") {
				t.Errorf("%s with %s: cookie %s, %v", client, digits, got, m)
			}
		}
	}
	if m := answer(t, off, cookieOnly(t, "127.0.0.1", clientCookie)); m.Rcode != dns.RcodeFormatError || len(m.IsEdns0().Option) != 1 {
		t.Errorf("a server without cookies says %v", m)
	}
}

// TestLongAnswersLeaveRoomForTheCookie holds because a client that misses its
// cookie throws the answer away (RFC 7873 §5.3).
func TestLongAnswersLeaveRoomForTheCookie(t *testing.T) {
	for n := 1; n <= 240; n++ { // octets of text in each of two records
		text := " 300 TXT \"" + strings.Repeat("x", n) + `"`
		f := newFrontend(t, func(_ context.Context, q wire.Question) (*resolver.Answer, error) {
			return &resolver.Answer{Records: []rrset.Set{
				set(t, q.Name.String()+text, time.Hour, rrset.Insecure), set(t, q.Name.String()+text, time.Hour, rrset.Insecure),
			}}, nil
		}, withCookies(t))
		for range 2 { // a miss and a hit
			q := query(t, "www.example.com.", dns.TypeTXT, func(m *dns.Msg) { m.IsEdns0().SetUDPSize(512); both(m) })
			q.Limit = 512
			m := answer(t, f, q)
			m.Compress = true
			if cookie, _, _ := told(t, m); !good(t, cookie, q.Client.Addr()) || m.Len() > 512 || m.Truncated != (len(m.Answer) == 0) {
				t.Fatalf("with %d octets of text, %d of the answer: cookie %q in %v", n, m.Len(), cookie, m)
			}
		}
	}
}

func TestNSIDIsBounded(t *testing.T) {
	f := newFrontend(t, oneAddress(t), func(o *Options) { o.NSID = make([]byte, MaxNSID) })
	_, err := New(Options{Policy: f.opt.Policy, Answers: f.opt.Answers, Resolver: f.opt.Resolver, NSID: make([]byte, MaxNSID+1)})
	if err == nil || !strings.Contains(err.Error(), "129 octets") {
		t.Error(err)
	}
}

// known returns a frontend and the query for what it has in memory, with change.
func known(b *testing.B, change func(*dns.Msg)) (*Frontend, *wire.Query) {
	b.Helper()
	f := newFrontend(b, oneAddress(b), withCookies(b))
	if q := query(b, "www.example.com.", dns.TypeA, nil); f.Serve(b.Context(), nil, q) == nil {
		b.Fatal("no answer")
	}
	return f, query(b, "www.example.com.", dns.TypeA, change)
}

func BenchmarkHit(b *testing.B) {
	valid := hex.EncodeToString(newCookies(b).Append(nil, []byte("\x01\x02\x03\x04\x05\x06\x07\x08"), netip.MustParseAddr("127.0.0.1"), time.Now()))
	for _, bb := range []struct {
		name   string
		change func(*dns.Msg)
	}{
		{"no options", nil},
		{"nsid", nsid(1)},
		{"client cookie", cookie(clientCookie)},
		{"valid cookie", cookie(valid)},
		{"bad cookie", cookie(valid[:40] + "00000000")},
	} {
		b.Run(bb.name, func(b *testing.B) {
			f, q := known(b, bb.change)
			buf, msg := make([]byte, 0, 1232), q.Msg()
			b.ReportAllocs()
			for b.Loop() {
				if q.Parse(msg) != wire.OK {
					b.Fatal("not parsed")
				}
				if _, outcome := f.TryServe(buf, q); outcome != transport.Answered {
					b.Fatal("no hit")
				}
			}
		})
	}
}
