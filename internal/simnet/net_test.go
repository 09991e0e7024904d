package simnet_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/exchange"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

const addr = "192.0.2.1"

// request asks the server at addr for www.example. A, within a second.
func request() exchange.Request {
	return exchange.Request{
		Server:   netip.AddrPortFrom(netip.MustParseAddr(addr), 53),
		Question: wire.Question{Name: wire.MustParseName("www.example."), Type: wire.TypeA},
		Timeout:  time.Second,
	}
}

// network has a server of example. at addr.
func network() *simnet.Net {
	n := simnet.New()
	n.Serve(addr, "example.", `
www   A 192.0.2.80
a.ent A 192.0.2.81
`)
	return n
}

func bare(r *exchange.Request)  { r.Bare = true }
func tcp(r *exchange.Request)   { r.TCP = true }
func short(r *exchange.Request) { r.Timeout = 5 * time.Millisecond }

func asking(name string, typ wire.Type) func(*exchange.Request) {
	return func(r *exchange.Request) {
		r.Question = wire.Question{Name: wire.MustParseName(name), Type: typ}
	}
}

func TestFaults(t *testing.T) {
	const right = "NOERROR AA an www. A 192.0.2.80"
	refused := simnet.Rcode(wire.Refused)
	for _, tt := range []struct {
		what   string
		faults []simnet.Fault
		edit   func(*exchange.Request)
		want   string // the message, or
		err    error
		took   time.Duration // DefaultRTT unless given
		sent   int           // 1 unless given
	}{
		{what: "none", want: right},
		{what: "none, over TCP", edit: tcp, want: right, took: 20 * time.Millisecond},
		{what: "none, but too late", edit: short, err: exchange.ErrTimeout, took: 5 * time.Millisecond},
		{what: "silent", faults: []simnet.Fault{simnet.Silent()}, err: exchange.ErrTimeout, took: time.Second},
		{what: "refused", faults: []simnet.Fault{refused}, want: "REFUSED"},
		{what: "servfail", faults: []simnet.Fault{simnet.Rcode(wire.ServFail)}, want: "SERVFAIL"},
		{what: "badvers", faults: []simnet.Fault{simnet.Rcode(wire.BadVers)}, want: "BADVERS"},
		{what: "formerr on EDNS", faults: []simnet.Fault{simnet.Rcode(wire.FormErr).If(simnet.EDNS)}, want: "FORMERR"},
		{what: "formerr on EDNS, without", faults: []simnet.Fault{simnet.Rcode(wire.FormErr).If(simnet.EDNS)}, edit: bare, want: right},
		{what: "silent on EDNS", faults: []simnet.Fault{simnet.Silent().If(simnet.EDNS)}, err: exchange.ErrTimeout, took: time.Second},
		{what: "silent on EDNS, without", faults: []simnet.Fault{simnet.Silent().If(simnet.EDNS)}, edit: bare, want: right},
		{what: "truncated", faults: []simnet.Fault{simnet.Truncate()}, want: right, took: 30 * time.Millisecond, sent: 2},
		{
			what: "truncated, TCP broken", faults: []simnet.Fault{simnet.Truncate(), simnet.Unreachable().If(simnet.TCP)},
			err: syscall.ECONNREFUSED, took: 20 * time.Millisecond, sent: 2,
		},
		{
			what: "truncated, TCP silent", faults: []simnet.Fault{simnet.Truncate(), simnet.Silent().If(simnet.TCP)},
			err: exchange.ErrTimeout, took: 1010 * time.Millisecond, sent: 2,
		},
		{what: "UDP broken, over TCP", faults: []simnet.Fault{simnet.Silent().If(simnet.UDP)}, edit: tcp, want: right, took: 20 * time.Millisecond},
		{what: "unreachable", faults: []simnet.Fault{simnet.Unreachable()}, err: syscall.ECONNREFUSED},
		{what: "malformed", faults: []simnet.Fault{simnet.Malformed()}, err: exchange.ErrMalformed},
		{what: "slow", faults: []simnet.Fault{simnet.Latency(300*time.Millisecond, 0)}, want: right, took: 300 * time.Millisecond},
		{what: "AA cleared", faults: []simnet.Fault{simnet.NoAA()}, want: "NOERROR an www. A 192.0.2.80"},
		{what: "empty", faults: []simnet.Fault{simnet.Empty()}, want: "NOERROR AA"},
		{
			what: "empty non-terminal denied", faults: []simnet.Fault{simnet.DenyEmptyNonTerminals()},
			edit: asking("ent.example.", wire.TypeA), want: "NXDOMAIN AA 300 SOA example.",
		},
		{what: "a name with data not denied", faults: []simnet.Fault{simnet.DenyEmptyNonTerminals()}, want: right},
		{what: "referral up", faults: []simnet.Fault{simnet.ReferUp()}, want: "NOERROR ns . NS a.root-servers.net. ns . NS b.root-servers.net."},
		{
			what: "referral sideways", faults: []simnet.Fault{simnet.Refer("net. NS ns.net.\nns.net. A 192.0.2.9")},
			want: "NOERROR ns net. NS ns.net. ar ns.net. A 192.0.2.9",
		},
		{what: "matching question", faults: []simnet.Fault{refused.If(simnet.Question("www.example.", wire.TypeA))}, want: "REFUSED"},
		{what: "other type", faults: []simnet.Fault{refused.If(simnet.Question("www.example.", wire.TypeMX))}, want: right},
		{what: "matching type", faults: []simnet.Fault{refused.If(simnet.Type(wire.TypeA))}, want: "REFUSED"},
		{what: "below a name", faults: []simnet.Fault{refused.If(simnet.Below("example."))}, want: "REFUSED"},
		{what: "not below a name", faults: []simnet.Fault{refused.If(simnet.Below("x.www.example."))}, want: right},
		{what: "all matches", faults: []simnet.Fault{refused.If(simnet.EDNS, simnet.TCP)}, want: right},
		{what: "in order", faults: []simnet.Fault{refused, simnet.Rcode(wire.ServFail)}, want: "SERVFAIL"},
		{
			what: "scripted", want: "NOERROR an www. A 192.0.2.99",
			faults: []simnet.Fault{simnet.Script(func(q wire.Question, _ exchange.Request) *dns.Msg {
				return &dns.Msg{Answer: simnet.RRs(q.Name.String() + " A 192.0.2.99")}
			})},
		},
		{
			what: "scripted silence", err: exchange.ErrTimeout, took: time.Second,
			faults: []simnet.Fault{simnet.Script(func(wire.Question, exchange.Request) *dns.Msg { return nil })},
		},
		{
			what: "mutated", want: right + " ar bank. A 192.0.2.66",
			faults: []simnet.Fault{simnet.Mutate(func(m *dns.Msg) {
				m.Extra = append(m.Extra, simnet.RRs("bank. A 192.0.2.66")...)
			})},
		},
	} {
		t.Run(tt.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := network()
				n.Break(addr, tt.faults...)
				req := request()
				if tt.edit != nil {
					tt.edit(&req)
				}
				start := time.Now()
				resp, err := n.Exchange(t.Context(), req)
				if took, want := time.Since(start), cmp.Or(tt.took, simnet.DefaultRTT); took != want {
					t.Errorf("took %v, want %v", took, want)
				}
				if !errors.Is(err, tt.err) {
					t.Fatalf("got error %v, want %v", err, tt.err)
				}
				if tt.err == nil {
					if got := strings.Join(show(resp.Msg), " "); got != tt.want {
						t.Errorf("got %q, want %q", got, tt.want)
					}
				}
				if sent := len(n.Log()); sent != max(tt.sent, 1) {
					t.Errorf("%d queries were sent:\n%s", sent, n.Log())
				}
			})
		})
	}
}

func TestExchangeReportsHowTheAnswerCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.SetRTT(addr, 70*time.Millisecond)
		resp, err := n.Exchange(t.Context(), request())
		if err != nil || resp.TCP || resp.RTT != 70*time.Millisecond || resp.Size != resp.Msg.Len() {
			t.Errorf("over UDP: got %+v, %v", resp, err)
		}
		n.Break(addr, simnet.Truncate())
		full := resp.Size
		resp, err = n.Exchange(t.Context(), request())
		if err != nil || !resp.TCP || resp.RTT != 70*time.Millisecond || resp.Size <= full {
			t.Errorf("after truncation: got %+v, %v; want both answers in Size", resp, err)
		}
	})
}

func TestExchangeTruncatesWhatDoesNotFit(t *testing.T) {
	for _, tt := range []struct {
		what    string
		records int
		edit    func(*exchange.Request)
		wantTCP bool
	}{
		{"fits 1232", 10, func(*exchange.Request) {}, false},
		{"exceeds 512", 10, bare, true},
		{"exceeds 1232", 20, func(*exchange.Request) {}, true},
	} {
		t.Run(tt.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := simnet.New()
				var text strings.Builder
				for i := range tt.records {
					fmt.Fprintf(&text, "www TXT %02d%s\n", i, strings.Repeat("x", 70))
				}
				n.Serve(addr, "example.", text.String())
				req := request()
				req.Question.Type = wire.TypeTXT
				tt.edit(&req)
				resp, err := n.Exchange(t.Context(), req)
				if err != nil || resp.TCP != tt.wantTCP || len(resp.Msg.Answer) != tt.records {
					t.Errorf("got %d records, TCP %v, %v", len(resp.Msg.Answer), resp.TCP, err)
				}
			})
		})
	}
}

func TestExchangeEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Millisecond)
		defer cancel()
		start := time.Now()
		for _, faults := range [][]simnet.Fault{nil, {simnet.Silent()}} {
			n.Break(addr, faults...)
			if _, err := n.Exchange(ctx, request()); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got error %v", err)
			}
		}
		if took := time.Since(start); took != 3*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

func TestExchangeWithNobodyAtAddressTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New()
		if _, err := n.Exchange(t.Context(), request()); !errors.Is(err, exchange.ErrTimeout) {
			t.Errorf("got error %v", err)
		}
		if len(n.Log()) != 1 {
			t.Errorf("the query was not logged: %v", n.Log())
		}
	})
}

func TestExchangeHandsOutCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		spoil := simnet.Mutate(func(m *dns.Msg) { m.Answer[0].Header().Ttl = 1 })
		n.Break(addr, spoil)
		for _, want := range []uint32{1, 3600, 3600} {
			resp, err := n.Exchange(t.Context(), request())
			if err != nil {
				t.Fatal(err)
			}
			if got := resp.Msg.Answer[0].Header().Ttl; got != want {
				t.Errorf("got TTL %d, want %d", got, want)
			}
			resp.Msg.Answer[0].Header().Ttl = 7
			n.Break(addr)
		}
	})
}

func TestFirstCountsOnlyWhatGotThatFar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.Break(addr, simnet.Silent().If(simnet.EDNS, simnet.First(2)))
		var got []bool
		for _, isBare := range []bool{true, false, true, false, false} {
			req := request()
			req.Bare = isBare
			_, err := n.Exchange(t.Context(), req)
			got = append(got, err == nil)
		}
		if want := []bool{true, false, true, false, true}; !slices.Equal(got, want) {
			t.Errorf("answered: %v, want %v", got, want)
		}
	})
}

func TestLatencyDrawsFromItsBand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.Break(addr, simnet.Latency(50*time.Millisecond, 20*time.Millisecond))
		seen := make(map[time.Duration]bool)
		for range 50 {
			resp, err := n.Exchange(t.Context(), request())
			if err != nil {
				t.Fatal(err)
			}
			if resp.RTT < 50*time.Millisecond || resp.RTT > 70*time.Millisecond {
				t.Errorf("RTT %v", resp.RTT)
			}
			seen[resp.RTT] = true
		}
		if len(seen) < 10 {
			t.Errorf("%d different RTTs in 50", len(seen))
		}
	})
}

func TestNetChangesDuringScenario(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		ask := func() string {
			resp, err := n.Exchange(t.Context(), request())
			if err != nil {
				return err.Error()
			}
			return strings.Join(show(resp.Msg), " ")
		}
		step := func(want string) {
			t.Helper()
			if got := ask(); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		step("NOERROR AA an www. A 192.0.2.80")
		n.Break(addr, simnet.Rcode(wire.Refused))
		step("REFUSED")
		n.Break(addr)
		n.Serve(addr, "example.", "www A 192.0.2.82")
		step("NOERROR AA an www. A 192.0.2.82")
		n.Serve(addr, "www.example.", "@ A 192.0.2.83")
		step("NOERROR AA an www. A 192.0.2.83")
		n.Attach(netip.MustParseAddr(addr), simnet.NewServer())
		step("REFUSED")
	})
}

func TestScriptMayChangeTheNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.Break(addr, simnet.Script(func(wire.Question, exchange.Request) *dns.Msg {
			n.Break(addr)
			return new(dns.Msg)
		}))
		for _, want := range []int{0, 1} {
			resp, err := n.Exchange(t.Context(), request())
			if err != nil || len(resp.Msg.Answer) != want {
				t.Errorf("got %v, %v; want %d records", resp.Msg, err, want)
			}
		}
	})
}

func TestJoinedAddressesAreOneServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const v6 = "2001:db8::1"
		n := network()
		n.Join(addr, v6)
		req := request()
		req.Server = netip.AddrPortFrom(netip.MustParseAddr(v6), 53)
		if _, err := n.Exchange(t.Context(), req); err != nil {
			t.Errorf("over IPv6: %v", err)
		}
		n.Break(addr, simnet.Malformed().If(simnet.At(v6)))
		if _, err := n.Exchange(t.Context(), req); !errors.Is(err, exchange.ErrMalformed) {
			t.Errorf("over IPv6: %v", err)
		}
		if _, err := n.Exchange(t.Context(), request()); err != nil {
			t.Errorf("over IPv4: %v", err)
		}
	})
}

func TestExchangeReportsScriptThatCannotBeSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.Break(addr, simnet.Mutate(func(m *dns.Msg) { m.Answer[0].Header().Name = "a..b." }))
		_, err := n.Exchange(t.Context(), request())
		if err == nil || errors.Is(err, exchange.ErrMalformed) || errors.Is(err, exchange.ErrTimeout) {
			t.Errorf("got error %v, want one that blames the script", err)
		}
	})
}

func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		time.Sleep(time.Second)
		n.Break(addr, simnet.Truncate())
		req := request()
		if _, err := n.Exchange(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		n.Break(addr)
		req.Bare = true
		req.Server = netip.MustParseAddrPort("[2001:db8::2]:53")
		req.Question.Type = wire.TypeNS
		if _, err := n.Exchange(t.Context(), req); err == nil {
			t.Fatal("an answer from nobody")
		}

		log := n.Log()
		if got, want := log.String(), "1s 192.0.2.1 www.example. A\n"+
			"1.01s 192.0.2.1 www.example. A TCP\n"+
			"1.03s 2001:db8::2 www.example. NS bare\n"; got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
		if got, want := n.Questions(), []string{
			"192.0.2.1 www.example. A", "192.0.2.1 www.example. A", "2001:db8::2 www.example. NS",
		}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if got := log.PerServer()[netip.MustParseAddr(addr)]; got != 2 {
			t.Errorf("%d queries to %s, want 2", got, addr)
		}
		if got := log.PerQuestion()[req.Question]; got != 1 {
			t.Errorf("%d queries for %s, want 1", got, req.Question)
		}
		n.ResetLog()
		if len(n.Log()) != 0 || len(log) != 3 {
			t.Errorf("after the reset: %v; taken before: %v", n.Log(), log)
		}
	})
}

func TestExchangeStopsFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New()
		req := request()
		req.Timeout = 0
		for range simnet.MaxQueries {
			if _, err := n.Exchange(t.Context(), req); !errors.Is(err, exchange.ErrTimeout) {
				t.Fatalf("got error %v", err)
			}
		}
		if _, err := n.Exchange(t.Context(), req); !errors.Is(err, simnet.ErrFlood) {
			t.Errorf("got error %v, want %v", err, simnet.ErrFlood)
		}
	})
}

func TestNetIsSafeForConcurrentUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := network()
		n.Break(addr, simnet.Latency(time.Millisecond, time.Millisecond), simnet.Silent().If(simnet.First(3)))
		var wg sync.WaitGroup // 8 askers, each ends after 20 questions; waited for below
		for i := range 8 {
			wg.Go(func() {
				for range 20 {
					if i == 0 {
						n.Serve(addr, "example.", "www A 192.0.2.80")
						n.SetRTT(addr, 20*time.Millisecond)
					}
					if _, err := n.Exchange(t.Context(), request()); err != nil && !errors.Is(err, exchange.ErrTimeout) {
						t.Errorf("got error %v", err)
					}
				}
			})
		}
		wg.Wait()
		if got := len(n.Log()); got != 160 {
			t.Errorf("%d queries were logged, want 160", got)
		}
	})
}

func TestServePanicsOnTextThatIsNoZone(t *testing.T) {
	for what, f := range map[string]func(){
		"zone":    func() { simnet.New().Serve(addr, "example.", "www A nowhere") },
		"address": func() { simnet.New().Serve("nowhere", "example.", "") },
		"records": func() { simnet.RRs("www.example. A nowhere") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", what)
				}
			}()
			f()
		}()
	}
}
