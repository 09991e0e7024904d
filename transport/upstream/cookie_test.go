package upstream

import (
	"bytes"
	"context"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// cookies is Options that send cookies and nothing else.
var cookies = Options{Cookies: true}

// theirs is a server cookie.
var theirs = []byte("server's cookie.")

// bakes makes a script that answers with the client's cookie and the server's.
func bakes(a asked) []byte {
	return answerWith(goodAddr, with(dns.RcodeSuccess, baked(a.cookie()[:8], theirs)))(a.raw)
}

func TestExchangeSendsANewCookieEachTimeToAServerWithout(t *testing.T) {
	s := serveUDPScript(t, func(a asked) []byte { return good(a.raw) })
	c := newClient(t, cookies)
	const total = 50
	for range total {
		if resp := exchangeOK(t, c, request(s.addr)); resp.Cookie {
			t.Error("a reply without a cookie has one")
		}
	}
	seen := map[string]bool{}
	for _, q := range s.queries() {
		if len(q.cookie()) != clientCookieLen {
			t.Fatalf("cookie %x", q.cookie())
		}
		seen[string(q.cookie())] = true
	}
	if len(seen) != total { // RFC 9018 §3
		t.Errorf("%d cookies in %d queries", len(seen), total)
	}
	if got := c.Stats(); got.Cookies != (Cookies{Sent: total}) || got.Servers != (Servers{}) {
		t.Errorf("Stats are %+v", got)
	}
}

func TestExchangeSendsTheServersCookieBack(t *testing.T) {
	s := serveScript(t, bakes)
	other := serveScript(t, bakes)
	c := newClient(t, cookies)
	for range 3 {
		if resp := exchangeOK(t, c, request(s.addr)); !resp.Cookie || resp.TCP || resp.Resent != 0 {
			t.Errorf("%+v", resp)
		}
	}
	req := request(s.addr)
	req.TCP = true
	if resp := exchangeOK(t, c, req); !resp.Cookie {
		t.Error("none over TCP")
	}
	exchangeOK(t, c, request(other.addr))
	queries := s.queries()
	client := queries[0].cookie()
	for _, q := range queries[1:] {
		if !bytes.Equal(q.cookie(), append(bytes.Clone(client), theirs...)) {
			t.Errorf("sent %x after %x", q.cookie(), client)
		}
	}
	if got := other.queries()[0].cookie(); len(got) != 8 || bytes.Equal(got, client) {
		t.Errorf("another server was sent %x too", got)
	}
	if got := c.Stats(); got.Cookies != (Cookies{Sent: 5, Proven: 5, Learned: 2}) || got.Servers != (Servers{Known: 2}) {
		t.Errorf("Stats are %+v", got)
	}
}

func TestExchangeTakesTheNewestServerCookie(t *testing.T) {
	n := byte(0)
	s := serveScript(t, func(a asked) []byte {
		n++
		return answerWith(goodAddr, with(dns.RcodeSuccess, baked(a.cookie()[:8], bytes.Repeat([]byte{n}, 32))))(a.raw)
	})
	c := newClient(t, cookies)
	for range 3 {
		exchangeOK(t, c, request(s.addr))
	}
	queries := s.queries()
	for i, q := range queries[1:] {
		if want := append(bytes.Clone(queries[0].cookie()), bytes.Repeat([]byte{byte(i + 1)}, 32)...); !bytes.Equal(q.cookie(), want) {
			t.Errorf("sent %x, want %x", q.cookie(), want)
		}
	}
}

// wrongCookies are options that are not the answer to any query of ours.
func wrongCookies(client []byte) map[string]dns.EDNS0 {
	flipped := bytes.Clone(client)
	flipped[7] ^= 1
	return map[string]dns.EDNS0{
		"one bit of the client cookie":   baked(flipped, theirs),
		"no client cookie":               baked(),
		"seven octets":                   baked(client[:7]),
		"nine octets":                    baked(client, theirs[:1]),
		"server cookie of seven octets":  baked(client, theirs[:7]),
		"server cookie of thirty-three":  baked(client, make([]byte, 33)),
		"the server cookie and no other": baked(theirs),
	}
}

func TestExchangeDropsRepliesWithAWrongCookie(t *testing.T) {
	for name := range wrongCookies(make([]byte, 8)) {
		forge := func(q []byte) []byte {
			a := asked{msg: new(dns.Msg)}
			if err := a.msg.Unpack(q); err != nil {
				panic(err)
			}
			return answerWith(badAddr, with(dns.RcodeSuccess, wrongCookies(a.cookie()[:8])[name]))(q)
		}
		for _, known := range []bool{false, true} {
			var forging atomic.Bool
			s := &authority{script: bakes}
			server := serveBoth(t, func(d datagram) {
				if forging.Load() {
					d.reply(forge(d.query))
					d.reply(good(d.query))
				} else {
					s.udp(d)
				}
			}, s.tcp)
			for _, o := range []Options{cookies, {Cookies: true, TCPOnMismatch: true}} {
				c := newClient(t, o)
				forging.Store(false)
				if known {
					exchangeOK(t, c, request(server))
				}
				forging.Store(true)
				resp := exchangeOK(t, c, request(server))
				got := c.Stats()
				if got.Dropped.Cookie != 1 {
					t.Errorf("%s, known %v: dropped %+v", name, known, got.Dropped)
				}
				// Good has no cookie, which is no matter before there was one.
				if overTCP := known || o.TCPOnMismatch; resp.TCP != overTCP || (got.Spoofing.NearMisses == 1) != overTCP {
					t.Errorf("%s, known %v: TCP %v, %+v", name, known, resp.TCP, got.Spoofing)
				}
			}
		}
	}
}

func TestExchangeTakesTheFirstCookieOption(t *testing.T) { // RFC 7873 §5.3
	s := serveUDPScript(t, func(a asked) []byte {
		return answerWith(goodAddr, with(dns.RcodeSuccess, baked(a.cookie()[:8], theirs), baked(bytes.Repeat([]byte{1}, 16))))(a.raw)
	})
	if resp := exchangeOK(t, newClient(t, cookies), request(s.addr)); !resp.Cookie {
		t.Error("the second one counts")
	}
}

func TestExchangeAsksOverTCPWhenACookieIsMissing(t *testing.T) {
	for name, forge := range map[string]func([]byte) []byte{
		"answer without EDNS":    bad,
		"answer without cookie":  answerWith(badAddr, with(dns.RcodeSuccess)),
		"FORMERR":                rcodeOnly(dns.RcodeFormatError),
		"BADCOOKIE":              answerWith(badAddr, with(int(badCookie))),
		"error without question": func(q []byte) []byte { return wire.AppendHeader(nil, q, wire.ServFail) },
		"malformed":              func(q []byte) []byte { b := bad(q); return b[:len(b)-2] },
	} {
		forged := false
		s := serveScript(t, func(a asked) []byte {
			if forged && !a.tcp {
				return forge(a.raw)
			}
			return bakes(a)
		})
		c := newClient(t, cookies)
		exchangeOK(t, c, request(s.addr))
		s.set(&forged, true)
		if resp := exchangeOK(t, c, request(s.addr)); !resp.TCP || !resp.Cookie {
			t.Errorf("%s: TCP %v, Cookie %v", name, resp.TCP, resp.Cookie)
		}
		if got := c.Stats(); got.Dropped != (Dropped{NoCookie: 1}) || got.Spoofing != (Spoofing{NearMisses: 1}) || got.Cookies.Shunned != 0 {
			t.Errorf("%s: %+v", name, got)
		}
		s.set(&forged, false) // and nothing was forgotten
		s.queries()
		exchangeOK(t, c, request(s.addr))
		if q := s.queries(); len(q) != 1 || len(q[0].cookie()) != 24 {
			t.Errorf("%s: then sent %x in %d queries", name, q[0].cookie(), len(q))
		}
	}
}

func TestExchangeForgetsTheCookieOfAServerThatCeasedToSendThem(t *testing.T) {
	ceased := false
	s := serveScript(t, func(a asked) []byte {
		if ceased {
			return good(a.raw)
		}
		return bakes(a)
	})
	c := newClient(t, cookies)
	exchangeOK(t, c, request(s.addr))
	s.set(&ceased, true)
	if resp := exchangeOK(t, c, request(s.addr)); !resp.TCP {
		t.Error("believed a reply without a cookie")
	}
	s.queries()
	for range 2 {
		if resp := exchangeOK(t, c, request(s.addr)); resp.TCP {
			t.Error("went over TCP again")
		}
	}
	for _, q := range s.queries() {
		if q.cookie() != nil {
			t.Errorf("sent %x", q.cookie())
		}
	}
	if got := c.Stats().Cookies; got.Shunned != 1 {
		t.Errorf("%+v", got)
	}

	// Five minutes later it is tried again, with a new client cookie.
	s.set(&ceased, false)
	c.servers.update(s.addr, 0, func(e *server) { e.shunsTil -= int64(cookieLessLife) })
	exchangeOK(t, c, request(s.addr))
	if q := s.queries(); len(q) != 1 || len(q[0].cookie()) != 8 {
		t.Errorf("then sent %x", q[0].cookie())
	}
}

func TestExchangeAsksAgainWithTheNewCookieAfterBADCOOKIE(t *testing.T) {
	s := serveScript(t, func(a asked) []byte {
		if len(a.cookie()) == 8 {
			return answerWith(badAddr, with(int(badCookie), baked(a.cookie(), theirs)))(a.raw)
		}
		return bakes(a)
	})
	c := newClient(t, cookies)
	if resp := exchangeOK(t, c, request(s.addr)); !resp.Cookie || resp.TCP || resp.Resent != 1 {
		t.Errorf("%+v", resp)
	}
	exchangeOK(t, c, request(s.addr))
	queries := s.queries()
	if len(queries) != 3 || !bytes.Equal(queries[1].cookie(), append(bytes.Clone(queries[0].cookie()), theirs...)) {
		t.Errorf("%d queries, the second with %x after %x", len(queries), queries[1].cookie(), queries[0].cookie())
	}
	if got := c.Stats().Cookies; got != (Cookies{Sent: 3, Proven: 3, Learned: 1, Bad: 1}) {
		t.Errorf("%+v", got)
	}
}

func TestExchangeAsksOverTCPAfterASecondBADCOOKIE(t *testing.T) { // RFC 7873 §5.3
	for name, server := range map[string][]byte{"new cookie each time": theirs, "no server cookie": nil} {
		n := byte(0)
		s := serveScript(t, func(a asked) []byte {
			if a.tcp {
				return bakes(a)
			}
			n++
			var cookie []byte
			if server != nil {
				cookie = bytes.Repeat([]byte{n}, 16)
			}
			return answerWith(badAddr, with(int(badCookie), baked(a.cookie()[:8], cookie)))(a.raw)
		})
		resp := exchangeOK(t, newClient(t, cookies), request(s.addr))
		if got := s.over(); got != "UDP UDP TCP" || resp.Resent != 2 {
			t.Errorf("%s: asked over %s, Resent %d", name, got, resp.Resent)
		}
	}
}

func TestExchangeAsksOverTCPAfterBADCOOKIEWithoutACookie(t *testing.T) {
	s := serveScript(t, func(a asked) []byte {
		if a.tcp {
			return good(a.raw)
		}
		return answerWith(badAddr, with(int(badCookie)))(a.raw)
	})
	c := newClient(t, cookies)
	exchangeOK(t, c, request(s.addr))
	if got := s.over(); got != "UDP TCP" || c.Stats().Servers.Known != 0 {
		t.Errorf("asked over %s; %+v", got, c.Stats())
	}
}

func TestExchangeDropsTheCookieThatAServerFailsOn(t *testing.T) {
	s := serveScript(t, func(a asked) []byte {
		if a.cookie() != nil {
			return rcodeOnly(dns.RcodeFormatError)(a.raw)
		}
		return answerWith(goodAddr, with(dns.RcodeSuccess))(a.raw)
	})
	c := newClient(t, cookies)
	for i, want := range []string{
		"UDP UDP", // without the cookie it answers
		"TCP TCP", // is that so? yes
		"UDP",
		"UDP",
	} {
		resp := exchangeOK(t, c, request(s.addr))
		if got := s.over(); got != want || resp.Msg.IsEdns0() == nil {
			t.Errorf("question %d: asked over %s, want %s;\n%v", i, got, want, resp.Msg)
		}
	}
	if got := c.Stats(); got.Cookies != (Cookies{Sent: 2, Without: 2, Shunned: 1}) || got.Servers.Known != 1 {
		t.Errorf("%+v", got)
	}
	// An hour later it is sent one again.
	c.servers.update(s.addr, 0, func(e *server) { e.shunsTil -= int64(oddityLife) })
	exchangeOK(t, c, request(s.addr))
	if got := s.over(); got != "UDP UDP" {
		t.Errorf("asked over %s", got)
	}
}

func TestExchangeLearnsNothingFromAForgedFORMERR(t *testing.T) {
	forge := true
	s := serveScript(t, func(a asked) []byte {
		switch {
		case a.cookie() == nil:
			return good(a.raw)
		case forge && !a.tcp:
			return rcodeOnly(dns.RcodeFormatError)(a.raw)
		}
		return bakes(a)
	})
	c := newClient(t, cookies)
	for i, want := range []string{"UDP UDP", "TCP", "UDP"} {
		exchangeOK(t, c, request(s.addr))
		if got := s.over(); got != want {
			t.Errorf("question %d: asked over %s, want %s", i, got, want)
		}
		s.set(&forge, false)
	}
	if got := c.Stats().Cookies; got.Shunned != 0 || got.Learned != 1 {
		t.Errorf("%+v", got)
	}
}

func TestExchangeDoesNotAskOverTCPForeverWhetherCookiesFail(t *testing.T) {
	s := serveUDPScript(t, func(a asked) []byte {
		if a.cookie() != nil {
			return rcodeOnly(dns.RcodeFormatError)(a.raw)
		}
		return good(a.raw)
	})
	c := newClient(t, cookies)
	refusals := []uint64{0, 1, 1, 1} // of TCP
	for i, want := range []string{"UDP UDP", "UDP", "UDP UDP", "UDP UDP"} {
		exchangeOK(t, c, request(s.addr))
		if got := s.over(); got != want || c.Stats().Errors.Refused != refusals[i] {
			t.Errorf("question %d: asked over %s, want %s; %+v", i, got, want, c.Stats().Errors)
		}
	}
	if got := c.Stats().Cookies; got.Shunned != 0 {
		t.Errorf("%+v", got)
	}
}

func TestExchangeReturnsTheFORMERROfAServerWithoutEDNS(t *testing.T) {
	s := serveScript(t, func(a asked) []byte {
		if a.msg.IsEdns0() != nil {
			return wire.AppendHeader(nil, a.raw, wire.FormErr)
		}
		return good(a.raw)
	})
	for _, tcp := range []bool{false, true} {
		c := newClient(t, cookies)
		req := request(s.addr)
		req.TCP = tcp
		resp, err := c.Exchange(context.Background(), req)
		if err != nil || resp.Msg.Rcode != dns.RcodeFormatError || c.Stats().Servers.Known != 0 || resp.Resent != 1 {
			t.Errorf("TCP %v: %v, %+v, %+v", tcp, err, resp, c.Stats())
		}
		s.queries()
		req.Bare = true
		exchangeOK(t, c, req)
		if q := s.queries(); len(q) != 1 || q[0].cookie() != nil {
			t.Errorf("bare: %d queries", len(q))
		}
	}
}

// A question without EDNS can neither carry a cookie nor settle whether the
// server fails on them.
func TestBareExchangeIgnoresCookies(t *testing.T) {
	s := serveScript(t, func(a asked) []byte { return good(a.raw) })
	c := newClient(t, cookies)
	c.servers.update(s.addr, 1, func(e *server) {
		e.cookie.length, e.verifyAt = 16, 1
	})
	req := request(s.addr)
	req.Bare = true
	for range 2 {
		if resp := exchangeOK(t, c, req); resp.TCP || resp.Cookie {
			t.Errorf("%+v", resp)
		}
	}
	if got := s.over(); got != "UDP UDP" {
		t.Errorf("asked over %s", got)
	}
}

func TestExchangeShunsAServerWhoseCookiesAreWrongOverTCP(t *testing.T) {
	s := serveScript(t, func(a asked) []byte {
		if a.cookie() != nil {
			return answerWith(badAddr, with(dns.RcodeSuccess, baked(make([]byte, 16))))(a.raw)
		}
		return good(a.raw)
	})
	c := newClient(t, cookies)
	req := request(s.addr)
	req.TCP = true
	exchangeOK(t, c, req)
	exchangeOK(t, c, request(s.addr))
	if got := s.over(); got != "TCP TCP UDP" || c.Stats().Cookies.Shunned != 1 {
		t.Errorf("asked over %s; %+v", got, c.Stats())
	}
}

func TestExchangeUsesACookieFromOneAddressAndForADayOnly(t *testing.T) {
	for name, change := range map[string]func(*server){
		"another address of ours": func(e *server) { e.cookie.local = netip.MustParseAddr("192.0.2.77") },
		"a day later":             func(e *server) { e.cookie.born -= int64(cookieLife) },
	} {
		s := serveScript(t, bakes)
		c := newClient(t, cookies)
		for range 2 {
			exchangeOK(t, c, request(s.addr))
		}
		if e := c.servers.get(s.addr, 1); e.cookie.local != netip.MustParseAddr("127.0.0.1") {
			t.Errorf("learned on %v", e.cookie.local)
		}
		c.servers.update(s.addr, 0, change)
		for range 2 {
			exchangeOK(t, c, request(s.addr))
		}
		q := s.queries()
		old, fresh, kept := q[1].cookie(), q[2].cookie(), q[3].cookie()
		if len(fresh) != 8 || bytes.Equal(fresh, old[:8]) || !bytes.Equal(kept, append(bytes.Clone(fresh), theirs...)) {
			t.Errorf("%s: sent %x, then %x and %x", name, old, fresh, kept)
		}
	}
}

func TestExchangeTakesAnySpellingWithTheCookie(t *testing.T) {
	s := serveUDPScript(t, func(a asked) []byte { return lowered(func([]byte) []byte { return bakes(a) })(a.raw) })
	c := newClient(t, Options{Cookies: true, CaseRandomisation: true})
	for range 2 {
		if resp := exchangeOK(t, c, request(s.addr)); resp.TCP || resp.Resent != 0 {
			t.Errorf("%+v", resp)
		}
	}
	if q := s.queries(); len(q) != 2 || q[1].spelling() != "www.example." || c.Stats().Spoofing != (Spoofing{Folding: 1}) {
		t.Errorf("%d queries, %+v", len(q), c.Stats())
	}
}

// The rule of the house: what an attacker off the path can send teaches nothing
// about a server.
func TestNoErrorThatMayBeForgedTeachesAnything(t *testing.T) {
	for name, forge := range map[string]func([]byte) []byte{
		"FORMERR":                rcodeOnly(dns.RcodeFormatError),
		"SERVFAIL":               rcodeOnly(dns.RcodeServerFailure),
		"REFUSED":                rcodeOnly(dns.RcodeRefused),
		"NOTIMP":                 rcodeOnly(dns.RcodeNotImplemented),
		"BADVERS":                answerWith(badAddr, with(dns.RcodeBadVers)),
		"BADCOOKIE":              answerWith(badAddr, with(int(badCookie))),
		"another cookie":         answerWith(badAddr, with(dns.RcodeSuccess, baked(make([]byte, 24)))),
		"another spelling":       lowered(bad),
		"truncated":              answerWith(badAddr, func(m *dns.Msg) { m.Truncated = true }),
		"malformed":              func(q []byte) []byte { b := bad(q); return b[:len(b)-2] },
		"error without question": func(q []byte) []byte { return wire.AppendHeader(nil, q, wire.FormErr) },
		"keepalive":              answerWith(badAddr, with(dns.RcodeSuccess, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE, Timeout: 9999})),
	} {
		for _, tcp := range []bool{false, true} { // whether the server can be asked over TCP
			s := serveScript(t, func(a asked) []byte {
				if a.tcp && a.msg.Id%2 == 0 { // now and then, TCP fails too
					return nil
				}
				return good(a.raw)
			})
			var server netip.AddrPort
			if tcp {
				server = serveBoth(t, replies(forge), s.tcp)
			} else {
				server = serveUDP(t, "127.0.0.1", replies(forge))
			}
			c := newClient(t, Options{Cookies: true, CaseRandomisation: true, TCPOnMismatch: true, TCPTimeout: 20 * time.Millisecond})
			for range 4 {
				req := request(server)
				req.Timeout = 20 * time.Millisecond
				c.Exchange(context.Background(), req) //nolint:errcheck // whatever comes of it
			}
			got := c.servers.get(server, 1)
			got.used, got.verifyAt = 0, 0 // which only has a question asked over TCP
			if got != nothing {
				t.Errorf("%s, TCP %v: learned %+v", name, tcp, got)
			}
		}
	}
}

func TestExchangeSendsFewQueriesWhateverTheServerSays(t *testing.T) {
	var n atomic.Int32
	scripts := map[string]func(asked) []byte{
		"BADCOOKIE for ever": func(a asked) []byte {
			server := bytes.Repeat([]byte{byte(n.Add(1))}, 16)
			return answerWith(badAddr, with(int(badCookie), baked(append(a.cookie(), make([]byte, 8)...)[:8], server)))(a.raw)
		},
		"FORMERR for ever": func(a asked) []byte { return rcodeOnly(dns.RcodeFormatError)(a.raw) },
		"FORMERR, then another spelling": func(a asked) []byte {
			if a.cookie() != nil {
				return rcodeOnly(dns.RcodeFormatError)(a.raw)
			}
			return lowered(good)(a.raw)
		},
		"truncated for ever":    func(a asked) []byte { return octets(2, 2)(a.raw) },
		"another question":      func(a asked) []byte { return octets(13, 1)(a.raw) },
		"other cookie for ever": func(a asked) []byte { return answerWith(badAddr, with(0, baked(make([]byte, 8))))(a.raw) },
	}
	for name, script := range scripts {
		for kind, serve := range map[string]func(testing.TB, func(asked) []byte) *authority{"both": serveScript, "UDP": serveUDPScript} {
			s := serve(t, script)
			c := newClient(t, Options{Cookies: true, CaseRandomisation: true, TCPOnMismatch: true})
			for range 3 {
				resp, err := c.Exchange(context.Background(), request(s.addr))
				if n := len(s.queries()); n > 4 || n != resp.Resent+1 {
					t.Errorf("%s, %s: %d queries, Resent %d, %v", name, kind, n, resp.Resent, err)
				}
			}
		}
	}
}
