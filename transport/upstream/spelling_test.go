package upstream

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/exchange"
	"shirube/internal/wire"
)

// spelling is Options that randomise case and nothing else.
var spelling = Options{CaseRandomisation: true}

func TestExchangeSpellsTheNameAtRandom(t *testing.T) {
	s := serveUDPScript(t, func(a asked) []byte { return good(a.raw) })
	c := newClient(t, spelling)
	req := request(s.addr)
	req.Question.Name = wire.MustParseName("www.exa-mple0.a")
	const total = 400
	for range total {
		exchangeOK(t, c, req)
	}
	upper := map[int]int{}
	seen := map[string]bool{}
	for _, q := range s.queries() {
		name := q.spelling()
		if !strings.EqualFold(name, "www.exa-mple0.a.") {
			t.Fatalf("asked for %q", name)
		}
		seen[name] = true
		for i, c := range name {
			if 'A' <= c && c <= 'Z' {
				upper[i]++
			}
		}
	}
	if len(upper) != 11 || len(seen) < total*3/4 { // 2,048 spellings
		t.Errorf("%d letters were in capitals, in %d spellings", len(upper), len(seen))
	}
	for i, n := range upper {
		if n < total/2-70 || n > total/2+70 { // seven standard deviations
			t.Errorf("letter %d was a capital %d times of %d", i, n, total)
		}
	}
}

func TestExchangeReturnsNamesInLowerCase(t *testing.T) {
	rr := func(s string) dns.RR {
		rr, err := dns.NewRR(s)
		if err != nil {
			t.Fatal(err)
		}
		return rr
	}
	for _, compress := range []bool{true, false} {
		for name, test := range map[string]struct {
			answer func(qname string) []dns.RR
			want   []string
		}{
			"owner": {
				func(q string) []dns.RR { return []dns.RR{rr(q + " 60 IN A 192.0.2.1")} },
				[]string{"www.example.\t60\tIN\tA\t192.0.2.1"},
			},
			"what else the server spells": {
				func(q string) []dns.RR { return []dns.RR{rr(q + " 60 IN CNAME Web.Example.ORG.")} },
				[]string{"www.example.\t60\tIN\tCNAME\tWeb.Example.ORG."},
			},
			"alias of a DNAME": {
				func(q string) []dns.RR {
					return []dns.RR{rr("example. 60 IN DNAME example.net."), rr(q + " 60 IN CNAME " + q[:4] + "example.net.")}
				},
				[]string{"example.\t60\tIN\tDNAME\texample.net.", "www.example.\t60\tIN\tCNAME\twww.example.net."},
			},
		} {
			answer := func(raw []byte) []byte {
				return answerWith(goodAddr, func(m *dns.Msg) {
					m.Compress = compress
					m.Answer = test.answer(m.Question[0].Name)
				})(raw)
			}
			c := newClient(t, spelling)
			resp, err := c.Exchange(context.Background(), request(serveUDP(t, "127.0.0.1", replies(answer))))
			if err != nil || resp.Msg.Question[0].Name != "www.example." || len(resp.Msg.Answer) != len(test.want) {
				t.Fatalf("%s: %v, %v", name, err, resp.Msg)
			}
			for i, got := range resp.Msg.Answer {
				if got.String() != test.want[i] {
					t.Errorf("%s, compressed %v: %q, want %q", name, compress, got, test.want[i])
				}
			}
		}
	}
}

// What is compressed to an end of the question's name is in its spelling too.
func TestExchangeReturnsTheZoneInLowerCase(t *testing.T) {
	answer := func(raw []byte) []byte {
		return answerWith(goodAddr, func(m *dns.Msg) {
			m.Compress = true
			zone := m.Question[0].Name[4:]
			soa, err := dns.NewRR(zone + " 60 IN SOA ns." + zone + " host." + zone + " 1 2 3 4 5")
			if err != nil {
				panic(err)
			}
			m.Ns = []dns.RR{soa}
		})(raw)
	}
	resp := exchangeOK(t, newClient(t, spelling), request(serveUDP(t, "127.0.0.1", replies(answer))))
	if got := resp.Msg.Ns[0].String(); got != "example.\t60\tIN\tSOA\tns.example. host.example. 1 2 3 4 5" {
		t.Error(got)
	}
}

func TestExchangeAsksOverTCPWhenTheSpellingIsNotEchoed(t *testing.T) {
	s := serveScript(t, func(a asked) []byte {
		if a.tcp {
			return good(a.raw)
		}
		return lowered(bad)(a.raw)
	})
	c := newClient(t, spelling)
	for range 3 {
		resp := exchangeOK(t, c, request(s.addr))
		if !resp.TCP || resp.Resent != 1 || resp.Cookie {
			t.Errorf("TCP %v, Resent %d, Cookie %v", resp.TCP, resp.Resent, resp.Cookie)
		}
	}
	if got := s.over(); got != "UDP TCP UDP TCP UDP TCP" {
		t.Errorf("asked over %s", got)
	}
	got := c.Stats()
	if got.Spoofing != (Spoofing{NearMisses: 3}) || got.Dropped != (Dropped{Spelling: 3}) || got.Answers != 3 {
		t.Errorf("Stats are %+v", got)
	}
	if got.Servers.Known != 0 {
		t.Error("something was learned from replies that may have been forged")
	}
}

func TestExchangeRemembersAServerThatFoldsOverTCP(t *testing.T) {
	s := serveScript(t, func(a asked) []byte { return lowered(good)(a.raw) })
	c := newClient(t, spelling)
	for range 3 {
		exchangeOK(t, c, request(s.addr))
	}
	queries := s.queries()
	if len(queries) != 4 || !queries[1].tcp || queries[2].tcp || queries[3].tcp {
		t.Fatalf("%d queries", len(queries))
	}
	for _, q := range queries[2:] {
		if q.spelling() != "www.example." {
			t.Errorf("asked for %s", q.spelling())
		}
	}
	if got := c.Stats(); got.Spoofing != (Spoofing{NearMisses: 1, Folding: 1}) || got.Servers != (Servers{Known: 1}) {
		t.Errorf("Stats are %+v", got)
	}

	// An hour later it is tried again.
	c.servers.update(s.addr, 0, func(e *server) { e.foldsTil -= int64(oddityLife) })
	exchangeOK(t, c, request(s.addr))
	if got := s.over(); got != "UDP TCP" {
		t.Errorf("then asked over %s", got)
	}
}

func TestExchangeTakesAnotherSpellingOnlyTwiceInARow(t *testing.T) {
	s := serveUDPScript(t, func(a asked) []byte { return lowered(good)(a.raw) })
	c := newClient(t, spelling)
	for range 2 {
		resp := exchangeOK(t, c, request(s.addr))
		if resp.TCP || resp.Resent != 1 {
			t.Errorf("TCP %v, Resent %d", resp.TCP, resp.Resent)
		}
	}
	got := c.Stats()
	if got.Spoofing != (Spoofing{NearMisses: 2, Respelled: 2}) || got.Servers.Known != 0 {
		t.Errorf("Stats are %+v", got)
	}
	queries := s.queries()
	if len(queries) != 4 {
		t.Fatalf("%d queries for 2 questions", len(queries))
	}
	if queries[0].msg.Id == queries[1].msg.Id && queries[0].spelling() == queries[1].spelling() {
		t.Error("the second query is the first again")
	}
}

func TestExchangeSurvivesOneForgedSpellingWithoutTCP(t *testing.T) {
	first := true
	s := serveUDPScript(t, func(a asked) []byte {
		if first {
			first = false
			return lowered(bad)(a.raw)
		}
		return good(a.raw)
	})
	exchangeOK(t, newClient(t, spelling), request(s.addr))
}

func TestExchangeReportsTCPsErrorWhenDoubtRemains(t *testing.T) {
	tc := answerWith(badAddr, func(m *dns.Msg) { m.Truncated = true })
	n := 0
	s := serveUDPScript(t, func(a asked) []byte {
		if n++; n == 1 {
			return lowered(bad)(a.raw)
		}
		return tc(a.raw)
	})
	resp, err := newClient(t, spelling).Exchange(context.Background(), request(s.addr))
	if e, ok := errors.AsType[*Error](err); !ok || e.Over != wire.TCP || !errors.Is(err, syscall.ECONNREFUSED) || resp.Msg != nil || resp.Resent != 1 {
		t.Errorf("%+v, %v", resp, err)
	}
}

func TestExchangeTakesTheSpellingOfANameWithoutLetters(t *testing.T) {
	for _, name := range []string{".", "1.2.3.", `\255\000-_.`} {
		s := serveScript(t, func(a asked) []byte { return good(a.raw) })
		req := request(s.addr)
		req.Question.Name = wire.MustParseName(name)
		c := newClient(t, spelling)
		exchangeOK(t, c, req)
		if got := s.over(); got != "UDP" || c.Stats().Spoofing != (Spoofing{}) {
			t.Errorf("%s: asked over %s, %+v", name, got, c.Stats())
		}
	}
}

func TestExchangeTakesAnErrorWithoutAQuestionAndLearnsNothing(t *testing.T) {
	s := serveScript(t, func(a asked) []byte { return wire.AppendHeader(nil, a.raw, wire.Refused) })
	for _, tcp := range []bool{false, true} {
		c := newClient(t, spelling)
		req := request(s.addr)
		req.TCP = tcp
		resp, err := c.Exchange(context.Background(), req)
		if err != nil || resp.Msg.Rcode != dns.RcodeRefused || c.Stats().Servers.Known != 0 {
			t.Errorf("TCP %v: %v, %v, %+v", tcp, resp.Msg, err, c.Stats())
		}
	}
}

// nearly are replies that are almost right, with what they are counted as.
var nearly = map[string]struct {
	reply func([]byte) []byte
	want  Dropped
}{
	"wrong ID, right question":        {octets(1, 1), Dropped{ID: 1}},
	"right ID, other name":            {octets(13, 'w'^'x'), Dropped{Question: 1}},
	"right ID, other type":            {octets(12+13+1, 1^28), Dropped{Question: 1}},
	"right ID, no question":           {octets(5, 1), Dropped{Question: 1}},
	"right ID, header alone":          {func(q []byte) []byte { return bad(q)[:12] }, Dropped{Question: 1}},
	"right ID, a query":               {octets(2, 0x80), Dropped{Header: 1}},
	"right ID, opcode NOTIFY":         {octets(2, 0x20), Dropped{Header: 1}},
	"right ID, over the size offered": {edited(bad, func(b []byte) []byte { return append(b, make([]byte, 1300)...) }), Dropped{Long: 1}},
}

// unrelated are datagrams that are nothing like a reply.
var unrelated = map[string]func([]byte) []byte{
	"empty":                   func([]byte) []byte { return nil },
	"short":                   func(q []byte) []byte { return bad(q)[:11] },
	"wrong ID, wrong name":    octets(1, 1, 13, 'w'^'x'),
	"wrong ID, wrong type":    octets(1, 1, 12+13+1, 1^28),
	"wrong ID, no question":   octets(1, 1, 5, 1),
	"wrong ID, a query":       octets(1, 1, 2, 0x80),
	"wrong ID, header alone":  func(q []byte) []byte { return octets(1, 1)(q)[:12] },
	"wrong ID, over the size": edited(octets(1, 1), func(b []byte) []byte { return append(b, make([]byte, 1300)...) }),
}

func TestExchangeAsksOverTCPAfterANearMiss(t *testing.T) {
	for name, test := range nearly {
		var tcp authority
		tcp.script = func(a asked) []byte { return good(a.raw) }
		c := newClient(t, Options{TCPOnMismatch: true})
		resp := exchangeOK(t, c, request(serveBoth(t, replies(test.reply, bad), tcp.tcp)))
		got := c.Stats()
		if !resp.TCP || got.Spoofing != (Spoofing{NearMisses: 1}) || got.Dropped != test.want || got.Servers.Known != 0 {
			t.Errorf("%s: TCP %v, %+v", name, resp.TCP, got)
		}
	}
}

func TestExchangeOutwaitsWhatIsNothingLikeAReply(t *testing.T) {
	for name, f := range unrelated {
		c := newClient(t, Options{TCPOnMismatch: true, CaseRandomisation: true, Cookies: true})
		resp := exchangeOK(t, c, request(serveUDP(t, "127.0.0.1", replies(f, good)))) // nobody listens on TCP
		if resp.TCP || c.Stats().Spoofing != (Spoofing{}) {
			t.Errorf("%s: TCP %v, %+v", name, resp.TCP, c.Stats())
		}
	}
}

func TestExchangeReportsTCPsErrorAfterANearMiss(t *testing.T) {
	c := newClient(t, Options{TCPOnMismatch: true})
	resp, err := c.Exchange(context.Background(), request(serveUDP(t, "127.0.0.1", replies(octets(1, 1), good))))
	if e, ok := errors.AsType[*Error](err); !ok || e.Over != wire.TCP || !errors.Is(err, syscall.ECONNREFUSED) || resp.Msg != nil || resp.Size == 0 {
		t.Errorf("%+v, %v", resp, err)
	}
}

func TestSpellingTakesNoMoreOctetsThanAName(t *testing.T) {
	longest := wire.Name(bytes.Repeat(append([]byte{1}, 'x'), 127)) + wire.Root
	if len(longest) != wire.MaxNameLen {
		t.Fatalf("%d octets", len(longest))
	}
	s := serveUDPScript(t, func(a asked) []byte { return good(a.raw) })
	req := exchange.Request{Server: s.addr, Question: wire.Question{Name: longest, Type: wire.TypeA}, Timeout: 5 * time.Second}
	exchangeOK(t, newClient(t, Options{CaseRandomisation: true, Cookies: true}), req)
	if name := s.queries()[0].spelling(); strings.Count(name, "X") < 20 || strings.Count(name, "x") < 20 { // of 127
		t.Errorf("spelled %s", name)
	}
}
