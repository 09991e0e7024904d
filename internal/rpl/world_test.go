package rpl

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/exchange"
	"shirube/internal/wire"
)

// worldOf returns the servers of a scenario with the given ranges, at its one
// step, which has number 10.
func worldOf(t *testing.T, config, ranges string) *World {
	t.Helper()
	return NewWorld(mustRead(t, config+"CONFIG_END\nSCENARIO_BEGIN x\n"+ranges+"STEP 10 NOTHING\nSCENARIO_END\n"))
}

// rangeOf returns the lines of a range of the server 192.0.2.1.
func rangeOf(from, to int, entries ...string) string {
	s := fmt.Sprintf("RANGE_BEGIN %d %d\nADDRESS 192.0.2.1\n", from, to)
	for _, e := range entries {
		s += "ENTRY_BEGIN\n" + e + "\nENTRY_END\n"
	}
	return s + "RANGE_END\n"
}

// says returns the lines of an entry that answers www.example. with a text.
func says(text string, more ...string) string {
	return strings.Join(more, "\n") + "\nMATCH qname qtype\nREPLY QR AA\nSECTION QUESTION\nwww.example. TXT\nSECTION ANSWER\nwww.example. TXT " + text
}

func request() exchange.Request {
	return exchange.Request{
		Server:   netip.MustParseAddrPort("192.0.2.1:53"),
		Question: wire.Question{Name: wire.MustParseName("www.example."), Type: wire.TypeTXT},
		Timeout:  400 * time.Millisecond,
	}
}

// ask returns the texts that a server answers with, or the error.
func ask(t *testing.T, w *World, req exchange.Request) string {
	t.Helper()
	resp, err := w.Exchange(t.Context(), req)
	if err != nil {
		return err.Error()
	}
	var texts []string
	for _, rr := range resp.Msg.Answer {
		if txt, ok := rr.(*dns.TXT); ok {
			texts = append(texts, txt.Txt...)
		}
	}
	return strings.Join(texts, " ")
}

const deckardConfig = "do-ip6: no\n"

func TestExchangeAnswersFromTheRangesInForce(t *testing.T) {
	timeout := exchange.ErrTimeout.Error()
	edit := func(f func(*exchange.Request)) exchange.Request {
		req := request()
		f(&req)
		return req
	}
	for name, tt := range map[string]struct {
		config, ranges string
		req            exchange.Request
		want           string
	}{
		"the first entry that matches": {"", rangeOf(0, 10, says("tcp", "MATCH TCP"), says("first"), says("second")), request(), "first"},
		"not before the range":         {"", rangeOf(11, 20, says("late")), request(), timeout},
		"not after the range":          {"", rangeOf(0, 9, says("early")), request(), timeout},
		"not at another server":        {"", rangeOf(0, 10, says("one")), edit(func(r *exchange.Request) { r.Server = netip.MustParseAddrPort("192.0.2.2:53") }), timeout},
		"at any server":                {"", strings.Replace(rangeOf(0, 10, says("all")), "ADDRESS 192.0.2.1\n", "", 1), request(), "all"},
		"not to another question":      {"", rangeOf(0, 10, says("www")), edit(func(r *exchange.Request) { r.Question.Type = wire.TypeA }), timeout},
		"Unbound: the last range":      {"", rangeOf(0, 10, says("one")) + rangeOf(0, 10, says("two")), request(), "two"},
		"Deckard: the first range":     {deckardConfig, rangeOf(0, 10, says("one")) + rangeOf(0, 10, says("two")), request(), "one"},
		"the next range":               {"", rangeOf(0, 10, says("one")) + rangeOf(0, 10, says("two", "MATCH TCP")), request(), "one"},
		"DO and EDNS":                  {"", rangeOf(0, 10, says("yes", "MATCH DO")), request(), "yes"},
		"without EDNS":                 {"", rangeOf(0, 10, says("bare", "MATCH noedns")), edit(func(r *exchange.Request) { r.Bare = true }), "bare"},
		"RD is clear":                  {"", rangeOf(0, 10, "MATCH flags\nREPLY QUERY\nADJUST do_not_answer", says("no")), request(), timeout},
		"RD and CD":                    {"", rangeOf(0, 10, "MATCH flags\nREPLY RD CD\nADJUST do_not_answer", says("no")), edit(func(r *exchange.Request) { r.RD, r.CD = true, true }), timeout},
		"TLS goes over TCP":            {"", rangeOf(0, 10, says("tls", "MATCH TCP")), edit(func(r *exchange.Request) { r.TLS = &exchange.TLS{} }), "tls"},
		"over TCP at once":             {"", rangeOf(0, 10, says("tcp", "MATCH TCP")), edit(func(r *exchange.Request) { r.TCP = true }), "tcp"},
		"over TCP after TC":            {"", rangeOf(0, 10, says("cut", "MATCH UDP", "REPLY TC"), says("whole")), request(), "whole"},
		"over TCP because it is long":  {"", rangeOf(0, 10, says(strings.Repeat(strings.Repeat("x", 200)+" ", 7))), request(), strings.Repeat(strings.Repeat("x", 200)+" ", 6) + strings.Repeat("x", 200)},
		"another question came back":   {"", rangeOf(0, 10, strings.Replace(says("no"), "MATCH qname qtype", "MATCH qname", 1)), edit(func(r *exchange.Request) { r.Question.Type = wire.TypeA }), timeout},
		"no response came back":        {"", rangeOf(0, 10, strings.Replace(says("no"), "QR AA", "AA", 1)), request(), timeout},
		"a failure needs no question":  {"", rangeOf(0, 10, "REPLY QR REFUSED"), request(), ""},
		"an answer does":               {"", rangeOf(0, 10, "REPLY QR\nSECTION ANSWER\nwww.example. TXT no"), request(), timeout},
		"the query is copied":          {"", rangeOf(0, 10, "ADJUST copy_query\nREPLY QR\nSECTION ANSWER\nwww.example. TXT yes"), request(), "yes"},
		"malformed":                    {"", rangeOf(0, 10, "HEX_ANSWER_BEGIN\n000084\nHEX_ANSWER_END"), request(), "malformed answer: it is shorter than a header"},
		"sleep within the time-out":    {"", rangeOf(0, 10, says("slow", "ADJUST packet_sleep=1")), edit(func(r *exchange.Request) { r.Timeout = 2 * time.Second }), "slow"},
		"sleep beyond the time-out":    {"", rangeOf(0, 10, says("slow", "ADJUST sleep=1")), request(), timeout},
		"sleep over TCP":               {"", rangeOf(0, 10, says("slow", "ADJUST sleep=1")), edit(func(r *exchange.Request) { r.TCP = true }), "slow"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if got := ask(t, worldOf(t, tt.config, tt.ranges), tt.req); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		})
	}
}

func TestExchangeReportsSizeTimeAndTransport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := worldOf(t, "", rangeOf(0, 10, says("cut", "MATCH UDP", "REPLY TC"), says("whole", "ADJUST sleep=2")))
		begun := time.Now()
		resp, err := w.Exchange(t.Context(), request())
		if err != nil {
			t.Fatal(err)
		}
		cut, whole := 45, 47 // header 12, question 17, answer 12 and 4 or 6 of text
		if !resp.TCP || resp.Resent != 1 || resp.RTT != 2*time.Second || time.Since(begun) != 2*time.Second || resp.Size != cut+whole {
			t.Errorf("got %+v after %v", resp, time.Since(begun))
		}
		if got, want := w.Sent(), "0s 192.0.2.1 www.example. TXT\n0s 192.0.2.1 www.example. TXT TCP\n"; got != want {
			t.Errorf("the log is\n%swant\n%s", got, want)
		}
	})
}

func TestLogSaysHowAQueryWent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := worldOf(t, "", "")
		req := request()
		req.Bare, req.RD, req.TCP = true, true, true
		for _, req.TLS = range []*exchange.TLS{nil, {}} {
			ask(t, w, req)
		}
		if got, want := w.Sent(), "0s 192.0.2.1 www.example. TXT TCP bare RD\n400ms 192.0.2.1 www.example. TXT TLS bare RD\n"; got != want {
			t.Errorf("the log is\n%swant\n%s", got, want)
		}
	})
}

func TestExchangeSpeaksEDNSAsTheDialectHasIt(t *testing.T) {
	for config, want := range map[string][2]bool{"": {false, false}, deckardConfig: {true, false}} {
		synctest.Test(t, func(t *testing.T) {
			w := worldOf(t, config, rangeOf(0, 10, says("x")))
			req := request()
			for i, bare := range []bool{false, true} {
				req.Bare = bare
				resp, err := w.Exchange(t.Context(), req)
				if err != nil {
					t.Fatal(err)
				}
				if got := resp.Msg.IsEdns0() != nil; got != want[i] {
					t.Errorf("%q, bare %v: EDNS %v, want %v", config, bare, got, want[i])
				}
			}
		})
	}
}

func TestExchangeTakesEntriesForNSWhenMinimised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := worldOf(t, "", rangeOf(0, 10, `MATCH qname qtype
REPLY QR
SECTION QUESTION
www.example. NS
SECTION ANSWER
www.example. NS ns.example.
SECTION AUTHORITY
www.example. NS ns.example.`))
		req := request()
		req.Question.Type = wire.TypeA
		if _, err := w.Exchange(t.Context(), req); !errors.Is(err, exchange.ErrTimeout) {
			t.Errorf("not minimised: error %v, want %v", err, exchange.ErrTimeout)
		}
		w.Minimised = true
		resp, err := w.Exchange(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if m := resp.Msg; m.Question[0].Qtype != dns.TypeA || len(m.Answer) != 0 || len(m.Ns) != 1 {
			t.Errorf("minimised: got %v", m)
		}
		req.Question.Type = wire.TypeTXT // no step of minimisation
		if _, err := w.Exchange(t.Context(), req); !errors.Is(err, exchange.ErrTimeout) {
			t.Errorf("TXT: error %v, want %v", err, exchange.ErrTimeout)
		}
	})
}

func TestDeckardAnswersOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sc := mustRead(t, deckardConfig+"CONFIG_END\nSCENARIO_BEGIN x\nSTEP 1 REPLY\nENTRY_BEGIN\n"+says("past")+"\nENTRY_END\nSTEP 2 NOTHING\n"+
			"STEP 3 REPLY\nENTRY_BEGIN\n"+says("one")+"\nENTRY_END\nSTEP 4 REPLY\nENTRY_BEGIN\n"+says("two")+"\nENTRY_END\nSCENARIO_END\n")
		w := NewWorld(sc)
		w.step(1)
		for _, want := range []string{"one", "two", exchange.ErrTimeout.Error()} {
			if got := ask(t, w, request()); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	})
}

func TestHeldQueryIsAnsweredWhenARangeComesIntoForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWorld(mustRead(t, "CONFIG_END\nSCENARIO_BEGIN x\n"+rangeOf(2, 2, says("now"))+"STEP 1 NOTHING\nSTEP 2 NOTHING\nSCENARIO_END\n"))
		got := make(chan string, 1)
		go func() { got <- ask(t, w, request()) }() // ends with its answer, which is waited for
		synctest.Wait()
		w.step(1)
		if s := <-got; s != "now" {
			t.Errorf("got %q, want now", s)
		}
	})
}

func TestStepSettlesTheQuerySentLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := worldOf(t, "", "")
		answer := fate{entry: entryOf(t, says("answered"))}
		first, second := make(chan string, 1), make(chan string, 1)
		other := request()
		other.Server = netip.MustParseAddrPort("192.0.2.2:53")
		if w.settle(nil, netip.Addr{}, answer) {
			t.Error("a query is outstanding that nobody sent")
		}
		go func() { first <- ask(t, w, request()) }() // each ends with its answer, which is waited for
		synctest.Wait()
		go func() { second <- ask(t, w, other) }()
		synctest.Wait()
		if w.settle(entryOf(t, "MATCH qname\nSECTION QUESTION\nmail.example. A"), netip.Addr{}, answer) {
			t.Error("a query is settled that the entry does not match")
		}
		if !w.settle(nil, netip.Addr{}, fate{err: errReset}) || !w.settle(nil, netip.MustParseAddr("192.0.2.1"), answer) {
			t.Error("an outstanding query is not settled")
		}
		if w.settle(nil, netip.Addr{}, answer) {
			t.Error("a query is settled twice")
		}
		if got := <-first; got != "answered" {
			t.Errorf("the first query: %q", got)
		}
		if got := <-second; !strings.Contains(got, syscall.ECONNREFUSED.Error()) {
			t.Errorf("the second query: %q", got)
		}
		if len(w.held) != 0 {
			t.Errorf("%d queries are still held", len(w.held))
		}
	})
}

func TestExchangeEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, ranges := range map[string]string{
			"held":    "",
			"asleep":  rangeOf(0, 10, says("slow", "ADJUST sleep=60")),
			"dropped": rangeOf(0, 10, "ADJUST do_not_answer"),
		} {
			w := worldOf(t, "", ranges)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			req := request()
			req.Timeout = time.Minute
			if _, err := w.Exchange(ctx, req); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: error %v", name, err)
			}
			cancel()
		}
	})
}

func TestExchangeStopsFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := worldOf(t, "", rangeOf(0, 10, says("x")))
		for range MaxQueries {
			if _, err := w.Exchange(t.Context(), request()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Exchange(t.Context(), request()); !errors.Is(err, ErrFlood) {
			t.Errorf("error %v, want %v", err, ErrFlood)
		}
	})
}
