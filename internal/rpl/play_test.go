package rpl

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/exchange"
	"shirube/internal/wire"
	"shirube/transport"
)

// relay is a resolver that sends every question to 192.0.2.1 and passes the
// answer on. It drops queries from 192.0.2.66, and answers those for ANY by
// itself.
type relay struct {
	world   *World
	clients []netip.Addr // of the queries, in their order
}

func (r *relay) TryServe(buf []byte, q *wire.Query) ([]byte, transport.Outcome) {
	r.clients = append(r.clients, q.Client.Addr())
	switch {
	case q.Client.Addr() == netip.MustParseAddr("192.0.2.66"):
		return buf, transport.Dropped
	case q.Type == wire.TypeANY:
		return wire.AppendReply(buf, q, wire.NotImp), transport.Answered
	}
	return buf, transport.Deferred
}

func (r *relay) Shed([]byte, *wire.Query, string) []byte { return nil }

func (r *relay) Reject(netip.AddrPort, wire.Rcode) (wire.Rcode, bool) { return 0, false }

func (r *relay) Serve(ctx context.Context, buf []byte, q *wire.Query) []byte {
	m := new(dns.Msg)
	if err := m.Unpack(q.Msg()); err != nil {
		return nil
	}
	m.SetReply(m)
	m.RecursionAvailable = true
	resp, err := r.world.Exchange(ctx, exchange.Request{
		Server: netip.MustParseAddrPort("192.0.2.1:53"), Question: q.Question(), Timeout: 10 * time.Second,
	})
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		m.Rcode = dns.RcodeServerFailure
	default:
		m.Answer, m.Rcode = resp.Msg.Answer, resp.Msg.Rcode
	}
	out, err := m.Pack()
	if err != nil {
		return nil
	}
	return append(buf, out...)
}

// The lines of steps that the tables are made of.
func asks(n int, more string) string {
	return fmt.Sprintf("STEP %d QUERY %s\nENTRY_BEGIN\nREPLY RD\nSECTION QUESTION\nwww.example. TXT\nENTRY_END\n", n, more)
}

func gets(n int, text string) string {
	return fmt.Sprintf("STEP %d CHECK_ANSWER\nENTRY_BEGIN\nMATCH all\nREPLY QR RD RA\nSECTION QUESTION\nwww.example. TXT\nSECTION ANSWER\nwww.example. TXT %s\nENTRY_END\n", n, text)
}

func fails(n int) string {
	return fmt.Sprintf("STEP %d CHECK_ANSWER\nENTRY_BEGIN\nMATCH rcode\nREPLY SERVFAIL\nENTRY_END\n", n)
}

func sees(n int, entry string) string {
	return fmt.Sprintf("STEP %d CHECK_OUT_QUERY\nENTRY_BEGIN\n%s\nENTRY_END\n", n, entry)
}

func replies(n int, entry string) string {
	return fmt.Sprintf("STEP %d REPLY\nENTRY_BEGIN\n%s\nENTRY_END\n", n, entry)
}

func TestPlay(t *testing.T) {
	all := rangeOf(0, 100, says("here"))
	for name, tt := range map[string]struct {
		config, scenario string
		err              string        // what the error has in it
		took             time.Duration // of simulated time
	}{
		"a query and its answer":        {"", all + asks(1, "") + gets(2, "here"), "", 0},
		"another answer":                {"", all + asks(1, "") + gets(2, "there"), `test.rpl:21: step 2 CHECK_ANSWER: step 1: answer: no www.example. 3600 IN TXT "there"`, 0},
		"an answer to no query":         {"", all + gets(2, "here"), "there is no answer that was not checked before", 0},
		"an answer checked twice":       {"", all + asks(1, "") + gets(2, "here") + gets(3, "here"), "there is no answer that was not checked before", 0},
		"answers in another order":      {"", rangeOf(2, 2, says("one")) + rangeOf(3, 9, says("two")) + asks(1, "") + asks(2, "") + gets(3, "two") + gets(4, "one"), "", 0},
		"silence":                       {"", all + asks(1, "ADDRESS 192.0.2.66") + gets(2, "here"), "step 1: no answer", 0},
		"an answer out of time":         {"", asks(1, "") + gets(2, "here"), "step 1: no answer", 7 * time.Second},
		"time passes":                   {"", "STEP 1 TIME_PASSES ELAPSE 3600.5\n", "", 3600*time.Second + 500*time.Millisecond},
		"steps without effect":          {"", "STEP 1 NOTHING\nSTEP 2 TRAFFIC\n", "", 0},
		"a query is seen":               {"", asks(1, "") + sees(2, "MATCH qname\nSECTION QUESTION\nwww.example. A") + replies(3, says("late")) + gets(4, "late"), "", 0},
		"a query is seen and answered":  {"", asks(1, "") + sees(2, says("at once", "ADJUST copy_id")) + gets(3, "at once"), "", 0},
		"a query is seen before ranges": {"", all + asks(1, "") + sees(2, says("first", "ADJUST copy_id")) + gets(3, "first"), "", 0},
		"no query is seen":              {"", sees(2, "MATCH qname\nSECTION QUESTION\nwww.example. A"), "test.rpl:3: step 2 CHECK_OUT_QUERY: no such query was sent", patience},
		"no query to reply to":          {"", replies(2, says("x")), "step 2 REPLY: no such query is outstanding", patience},
		"a reply to another query":      {"", asks(1, "") + replies(2, strings.ReplaceAll(says("x"), "www", "mail")), "step 2 REPLY: no such query is outstanding", patience},
		"a query times out":             {"", asks(1, "") + "STEP 2 TIMEOUT\n" + fails(3), "", 0},
		"a connection breaks":           {"", asks(1, "") + "STEP 2 ERROR ADDRESS 192.0.2.1\n" + fails(3), "", 0},
		"no query to time out":          {"", asks(1, "") + "STEP 2 TIMEOUT ADDRESS 192.0.2.2\n", "no such query is outstanding", patience},
		"queries sent":                  {"", all + asks(1, "") + "STEP 2 CHECK_SENT\n192.0.2.1 www.example. TXT\nSENT_END\nSTEP 3 CHECK_SENT\nSENT_END\n", "", 0},
		"other queries sent":            {"", all + asks(1, "") + "STEP 2 CHECK_SENT\nSENT_END\n", "step 2 CHECK_SENT: sent\n  192.0.2.1 www.example. TXT\nwant\n  ", 0},
		"in time":                       {"", rangeOf(0, 100, says("slow", "ADJUST sleep=2")) + asks(1, "") + gets(2, "slow") + "STEP 3 CHECK_TIME WITHIN 2\n", "", 2 * time.Second},
		"late":                          {"", rangeOf(0, 100, says("slow", "ADJUST sleep=2")) + asks(1, "") + gets(2, "slow") + "STEP 3 CHECK_TIME WITHIN 1.9\n", "the answer took 2s", 2 * time.Second},
		"the time of nothing":           {"", "STEP 3 CHECK_TIME WITHIN 1\n", "no answer was checked before", 0},
		"Deckard: a query waits":        {deckardConfig, rangeOf(1, 1, says("here", "ADJUST sleep=2")) + asks(1, "") + "STEP 2 TIME_PASSES ELAPSE 1\n" + strings.Replace(gets(3, "here"), "MATCH all", "MATCH answer", 1), "", 3 * time.Second},
		"Deckard: the last answer":      {deckardConfig, rangeOf(1, 1, says("one")) + rangeOf(2, 2, says("two")) + asks(1, "") + asks(2, "") + gets(3, "one"), `answer: no www.example. 3600 IN TXT "one"`, 0},
		"Deckard: checked twice":        {deckardConfig, all + asks(1, "") + gets(2, "here") + gets(3, "here"), "", 0},
		"Deckard: no query before":      {deckardConfig, all + gets(2, "here"), "no query was sent before", 0},
		"Deckard: a reply for later":    {deckardConfig, asks(1, "") + sees(2, "MATCH qname") + replies(3, says("later")) + gets(4, "later"), "", 0},
		"Deckard: octets":               {deckardConfig, "STEP 1 QUERY\nENTRY_BEGIN\nRAW\nb5c9ca3d\nENTRY_END\n", "", 0},
		"a query that is malformed":     {"", "STEP 1 QUERY\nENTRY_BEGIN\nREPLY RD\nENTRY_END\nSTEP 2 CHECK_ANSWER\nENTRY_BEGIN\nMATCH rcode flags\nREPLY QR RD RA FORMERR\nENTRY_END\n", "", 0},
		"an opcode that is not served":  {"", "STEP 1 QUERY\nENTRY_BEGIN\nREPLY NOTIFY\nSECTION QUESTION\na. SOA\nENTRY_END\nSTEP 2 CHECK_ANSWER\nENTRY_BEGIN\nMATCH rcode opcode\nREPLY NOTIFY NOTIMPL\nENTRY_END\n", "", 0},
		"an answer without a delay":     {"", "STEP 1 QUERY\nENTRY_BEGIN\nMATCH TCP\nREPLY QUERY\nSECTION QUESTION\na. ANY\nENTRY_END\nSTEP 2 CHECK_ANSWER\nENTRY_BEGIN\nMATCH rcode TCP\nREPLY NOTIMP\nENTRY_END\n", "", 0},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			sc := mustRead(t, tt.config+"CONFIG_END\nSCENARIO_BEGIN x\n"+tt.scenario+"SCENARIO_END\n")
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				world := NewWorld(sc)
				err := Play(t.Context(), sc, world, &relay{world: world}, Options{})
				if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %s", err, tt.err)
				}
				if took := time.Since(begun); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
			})
		})
	}
}

func TestPlayAsksAsTheScenariosClients(t *testing.T) {
	sc := mustRead(t, "CONFIG_END\nSCENARIO_BEGIN x\n"+asks(1, "")+asks(2, "ADDRESS 2001:db8::1")+"SCENARIO_END\n")
	synctest.Test(t, func(t *testing.T) {
		world := NewWorld(sc)
		h := &relay{world: world}
		if err := Play(t.Context(), sc, world, h, Options{Timeout: time.Second}); err != nil {
			t.Fatal(err)
		}
		if want := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("2001:db8::1")}; !slices.Equal(h.clients, want) {
			t.Errorf("clients %v, want %v", h.clients, want)
		}
	})
}

func TestPlayForgets(t *testing.T) {
	sc := mustRead(t, "CONFIG_END\nSCENARIO_BEGIN x\nSTEP 1 FLUSH_MESSAGE www.example. IN TXT\nSCENARIO_END\n")
	if why := Unplayable(sc, Options{}); !strings.Contains(why, "FLUSH_MESSAGE") {
		t.Errorf("without memory that can forget it is not played because %q", why)
	}
	var forgot []string
	opt := Options{Forget: func(q dns.Question) { forgot = append(forgot, q.Name) }}
	if why := Unplayable(sc, opt); why != "" {
		t.Errorf("not played because %s", why)
	}
	synctest.Test(t, func(t *testing.T) {
		if err := Play(t.Context(), sc, NewWorld(sc), &relay{}, opt); err != nil || !slices.Equal(forgot, []string{"www.example."}) {
			t.Errorf("forgot %q, error %v", forgot, err)
		}
	})
}

func TestUnplayableSaysWhy(t *testing.T) {
	for text, want := range map[string]string{
		"STEP 1 INFRA_RTT 192.0.2.1 a. 10":                             "looks inside of Unbound: STEP 1 INFRA_RTT 192.0.2.1 a. 10",
		"STEP 1 TIME_PASSES EVAL ${1}":                                 "looks inside of Unbound: STEP 1 TIME_PASSES EVAL ${1}",
		rangeOf(0, 1, "ADJUST increment_ecs_scope") + "STEP 1 NOTHING": "needs EDNS client subnet",
		"STEP 1 NOTHING": "",
	} {
		if got := Unplayable(mustRead(t, "CONFIG_END\nSCENARIO_BEGIN x\n"+text+"\nSCENARIO_END\n"), Options{}); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestPlayEndsWithItsContext(t *testing.T) {
	for name, steps := range map[string]string{
		"time":   "STEP 1 TIME_PASSES ELAPSE 1000\n",
		"answer": asks(1, "") + gets(2, "x"),
		"query":  sees(1, "MATCH qname"),
	} {
		sc := mustRead(t, "CONFIG_END\nSCENARIO_BEGIN x\n"+steps+"SCENARIO_END\n")
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			world := NewWorld(sc)
			begun := time.Now()
			if err := Play(ctx, sc, world, &relay{world: world}, Options{}); err == nil || time.Since(begun) != time.Second {
				t.Errorf("%s: ended after %v with error %v", name, time.Since(begun), err)
			}
		})
	}
}

func TestQueriesAsGoodAsThoseWanted(t *testing.T) {
	want := []string{"192.0.2.1 . NS", "192.0.2.1 a. A", "192.0.2.2 a. A bare", "192.0.2.3 b. NS"}
	for name, tt := range map[string]struct {
		got  []string
		good bool
	}{
		"the same":            {want, true},
		"the root not asked":  {want[1:], true},
		"the root asked late": {append(want[1:], want[0]), true},
		"asked again":         {[]string{want[1], want[1], want[2], want[2], want[3]}, true},
		"another server":      {[]string{want[1], "192.0.2.9 a. A TCP", want[2], want[3]}, true},
		"nothing":             {nil, false},
		"one too few":         {want[:3], false},
		"another order":       {[]string{want[2], want[1], want[3]}, false},
		"another question":    {append([]string{"192.0.2.1 a. AAAA"}, want...), false},
		"not as wanted":       {[]string{want[1], "192.0.2.2 a. A", want[3]}, false},
	} {
		if got := asGood(slices.Clone(tt.got), want); got != tt.good {
			t.Errorf("%s: %v", name, got)
		}
	}
	if !asGood(want[:1], nil) || asGood(want[1:], nil) {
		t.Error("where none is wanted, only the root's servers may be asked for")
	}
}
