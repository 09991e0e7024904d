package daemon

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/exchange"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// together asks n questions at once, as spec makes them of a number, and
// returns the responses.
func together(t *testing.T, p *Pipeline, n int, spec string) []*dns.Msg {
	t.Helper()
	answers := make([]*dns.Msg, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { answers[i] = ask(t, p, fmt.Sprintf(spec, i)) })
	}
	wg.Wait()
	return answers
}

// warm asks for the example.com cut, so that a test begins below it.
func warm(t *testing.T, p *Pipeline, n *simnet.Net) {
	t.Helper()
	if m := ask(t, p, "example.com. DS"); m.Rcode != dns.RcodeSuccess {
		t.Fatalf("cannot warm up: %v", m)
	}
	n.ResetLog()
}

func TestColdZoneIsLookedForOnceByAHundred(t *testing.T) {
	inBubble(t, func(_ *config.Config, n *simnet.Net) {
		var com strings.Builder
		for i := range 100 {
			fmt.Fprintf(&com, "z%d.com. 3600 NS ns.z%d.com.\nns.z%d.com. 3600 A 192.0.2.41\n", i, i, i)
			n.Serve("192.0.2.41", fmt.Sprintf("z%d.com.", i), fmt.Sprintf("www.z%d.com. 300 A 198.51.100.1", i))
		}
		n.Serve("192.0.2.2", "com.", com.String())
		n.Join("192.0.2.1", "192.0.2.9", "192.0.2.10") // three root servers
	}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		for i, m := range together(t, p, 100, "www.z%d.com. A") {
			if len(m.Answer) != 1 {
				t.Fatalf("%d: %v", i, m)
			}
		}
		counts := n.Log().PerQuestion()
		if got := counts[wire.Question{Name: wire.MustParseName("com."), Type: wire.TypeA}]; got != 1 {
			t.Errorf("the root was asked for com. %d times, want once", got)
		}
		if got := len(n.Log()); got != 1+100+100 {
			t.Errorf("%d queries in all, want 201", got)
		}
		if s := p.Resolver.Stats(); s.Shared != 99 || s.Queries != 201 {
			t.Errorf("%d shared and %d sent, want 99 and 201", s.Shared, s.Queries)
		}
	})
}

func TestAddressOfANameServerIsLookedUpOnceByAHundred(t *testing.T) {
	inBubble(t, func(_ *config.Config, n *simnet.Net) {
		n.Serve("192.0.2.2", "com.", "glueless.com. 3600 NS ns.other.net.")
		n.Serve("192.0.2.21", "glueless.com.", "*.glueless.com. 300 A 198.51.100.20")
	}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		for i, m := range together(t, p, 100, "n%d.glueless.com. A") {
			if len(m.Answer) != 1 {
				t.Fatalf("%d: %v", i, m)
			}
		}
		for q, count := range n.Log().PerQuestion() {
			if count != 1 {
				t.Errorf("%v was asked %d times", q, count)
			}
		}
		if got := len(n.Log()); got != 5+100 {
			t.Errorf("%d queries in all, want 105", got)
		}
	})
}

// TestQuestionsThatWaitForEachOtherEnd: two zones whose servers are in each
// other, asked for at the same time from both ends, by many.
func TestQuestionsThatWaitForEachOtherEnd(t *testing.T) {
	inBubble(t, func(_ *config.Config, n *simnet.Net) {
		n.Serve("192.0.2.2", "com.", "loop.com. 3600 NS ns.loop.net.")
		n.Serve("192.0.2.3", "net.", "loop.net. 3600 NS ns.loop.com.")
	}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		var wg sync.WaitGroup
		begun := time.Now()
		for i := range 50 {
			for _, zone := range []string{"loop.com", "loop.net"} {
				wg.Go(func() {
					if m := ask(t, p, fmt.Sprintf("n%d.%s. A", i, zone)); m.Rcode != dns.RcodeServerFailure {
						t.Errorf("%v", m)
					}
				})
			}
		}
		wg.Wait()
		if took := time.Since(begun); took > 200*time.Millisecond {
			t.Errorf("took %v", took)
		}
		if got := len(n.Log()); got > 12 {
			t.Errorf("%d queries for 100 questions:\n%s", got, n.Log())
		}
		// TsuNAME: at most one look in 5 s, whatever is asked.
		n.ResetLog()
		for i := range 49 {
			ask(t, p, fmt.Sprintf("again%d.loop.com. A", i))
			time.Sleep(100 * time.Millisecond)
		}
		if got := n.Questions(); len(got) > 0 {
			t.Errorf("sent %v", got)
		}
	})
}

func TestSharedSilenceIsOneQueryToo(t *testing.T) {
	inBubble(t, func(_ *config.Config, n *simnet.Net) { n.Break("192.0.2.1", simnet.Silent()) }, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		for i, m := range together(t, p, 100, "n%d.example.com. A") {
			if m == nil || m.Rcode != dns.RcodeServerFailure {
				t.Errorf("%d: %v", i, m)
			}
		}
		if got := len(n.Log()); got > 2*3 { // com. and, because it failed, everything
			t.Errorf("%d queries for 100 questions:\n%s", got, n.Log())
		}
	})
}

func TestLateServerIsOvertaken(t *testing.T) {
	inBubble(t, func(_ *config.Config, n *simnet.Net) {
		twoServers(n)
		n.Break("192.0.2.11", simnet.Silent().If(simnet.At("192.0.2.11")))
	}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		warm(t, p, n)
		for range 100 {
			ask(t, p, "example.com. DS") // save for second tries
			time.Sleep(time.Hour)
		}
		begun := time.Now()
		for i := range 30 {
			n.ResetLog()
			begun := time.Now()
			ask(t, p, fmt.Sprintf("n%d.example.com. A", i))
			if took := time.Since(begun); took > 220*time.Millisecond {
				t.Errorf("question %d took %v:\n%s", i, took, n.Log())
			}
			if got := len(n.Log()); got > 3 {
				t.Errorf("question %d took %d queries:\n%s", i, got, n.Log())
			}
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("30 questions took %v", took)
		}
		if s := p.Resolver.Stats(); s.Hedged == 0 || s.HedgesWon != s.Hedged || s.Infra.Late != s.Hedged {
			t.Errorf("%d second tries, %d won, %d late", s.Hedged, s.HedgesWon, s.Infra.Late)
		}
	})
}

func TestSecondTriesAreAShareOfAllQueries(t *testing.T) {
	const zones = 200
	inBubble(t, func(_ *config.Config, n *simnet.Net) {
		var com strings.Builder
		for i := range zones { // every server of the world is late
			fmt.Fprintf(&com, "z%[1]d.com. 3600 NS a.z%[1]d.com.\nz%[1]d.com. 3600 NS b.z%[1]d.com.\na.z%[1]d.com. 3600 A 198.51.100.%[1]d\nb.z%[1]d.com. 3600 A 203.0.113.%[1]d\n", i)
			for _, a := range []string{"198.51.100", "203.0.113"} {
				addr := fmt.Sprintf("%s.%d", a, i)
				n.Serve(addr, fmt.Sprintf("z%d.com.", i), fmt.Sprintf("www.z%d.com. 300 A 198.51.100.1", i))
				n.SetRTT(addr, 300*time.Millisecond)
			}
		}
		n.Serve("192.0.2.2", "com.", com.String())
	}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		for i := range zones {
			if m := ask(t, p, fmt.Sprintf("www.z%d.com. A", i)); len(m.Answer) != 1 {
				t.Errorf("%d: %v", i, m)
			}
		}
		s := p.Resolver.Stats()
		if s.Hedged == 0 || s.Hedged > s.Queries/9 || s.HedgesDenied == 0 {
			t.Errorf("%d second tries of %d queries, %d denied", s.Hedged, s.Queries, s.HedgesDenied)
		}
		if s.HedgesWon != 0 {
			t.Errorf("%d second tries won against a server that answered first", s.HedgesWon)
		}
		if got := uint64(len(n.Log())); got != s.Queries {
			t.Errorf("%d queries sent, %d counted", got, s.Queries)
		}
	})
}

func TestNoMoreThanTwoServersAreAskedAtOnce(t *testing.T) {
	inBubble(t, func(_ *config.Config, n *simnet.Net) {
		var com strings.Builder
		for i := range 10 {
			fmt.Fprintf(&com, "slow.com. 3600 NS n%[1]d.slow.com.\nn%[1]d.slow.com. 3600 A 192.0.2.%[2]d\n", i, 100+i)
		}
		n.Serve("192.0.2.2", "com.", com.String())
	}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		for i := range 300 { // save for second tries
			ask(t, p, fmt.Sprintf("n%d.example.com. A", i))
		}
		n.ResetLog()
		ask(t, p, "www.slow.com. A")
		log := n.Log()[1:] // the first goes to com.
		for i, e := range log {
			under := 0
			for _, other := range log[:i+1] {
				if e.At-other.At < 400*time.Millisecond { // the least that a question to a silent server takes
					under++
				}
			}
			if under > 2 {
				t.Fatalf("query %d is the third under way:\n%s", i, log)
			}
		}
		if s := p.Resolver.Stats(); s.Hedged < 5 || s.HedgesWon > 0 {
			t.Errorf("%d second tries, %d won", s.Hedged, s.HedgesWon)
		}
	})
}

func TestQueriesOfSecondTriesArePaidFor(t *testing.T) {
	inBubble(t, func(cfg *config.Config, n *simnet.Net) {
		cfg.Resolver.MaxQueries = 8
		var com strings.Builder
		for i := range 13 {
			fmt.Fprintf(&com, "slow.com. 3600 NS n%[1]d.slow.com.\nn%[1]d.slow.com. 3600 A 192.0.2.%[2]d\n", i, 100+i)
		}
		n.Serve("192.0.2.2", "com.", com.String())
	}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		for i := range 300 {
			ask(t, p, fmt.Sprintf("n%d.example.com. A", i))
		}
		n.ResetLog()
		ask(t, p, "www.slow.com. A")
		if got := len(n.Log()); got != 8 {
			t.Errorf("%d queries, want 8:\n%s", got, n.Log())
		}
	})
}

// deadWorld is a zone whose servers are all silent.
func deadWorld(_ *config.Config, n *simnet.Net) {
	twoServers(n)
	n.Break("192.0.2.11", simnet.Silent())
}

func TestDeadZoneCostsItsNamesOneWait(t *testing.T) {
	inBubble(t, deadWorld, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		warm(t, p, n)
		if m := ask(t, p, "n0.example.com. A"); m.Rcode != dns.RcodeServerFailure {
			t.Fatalf("got %v", m)
		}
		begun := time.Now()
		n.ResetLog()
		for i := range 200 {
			if m := ask(t, p, fmt.Sprintf("m%d.example.com. A", i)); m.Rcode != dns.RcodeServerFailure {
				t.Fatalf("got %v", m)
			}
		}
		if took := time.Since(begun); took != 0 || len(n.Log()) != 0 {
			t.Errorf("200 names below a dead zone took %v and %d queries", took, len(n.Log()))
		}
		if s := p.Resolver.Stats(); s.DeadZones != 1 || s.DeadSpared < 200 || s.DeadFound != 1 {
			t.Errorf("%d dead zones, %d found, %d questions spared", s.DeadZones, s.DeadFound, s.DeadSpared)
		}
		// One second later one of a hundred finds out.
		time.Sleep(time.Second)
		together(t, p, 100, "o%d.example.com. A")
		if got := len(n.Log()); got > 6 {
			t.Errorf("%d queries to find out:\n%s", got, n.Log())
		}
	})
}

func TestDeadZoneIsBackSoonAfterItsServers(t *testing.T) {
	inBubble(t, deadWorld, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		warm(t, p, n)
		for i := range 600 { // ten minutes of a question a second
			ask(t, p, fmt.Sprintf("n%d.example.com. A", i))
			time.Sleep(time.Second)
		}
		if got := len(n.Log()); got > 400 {
			t.Errorf("%d queries in ten minutes: %s", got, n.Log()[:60])
		}
		n.Break("192.0.2.11")
		begun := time.Now()
		for i := 0; ; i++ {
			if m := ask(t, p, fmt.Sprintf("m%d.example.com. A", i)); m.Rcode == dns.RcodeNameError {
				break
			}
			if time.Since(begun) > time.Minute {
				t.Fatal("never noticed")
			}
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(begun); took > 11*time.Second {
			t.Errorf("noticed after %v", took)
		}
		n.ResetLog()
		for i := range 10 {
			if m := ask(t, p, fmt.Sprintf("l%d.example.com. A", i)); m.Rcode != dns.RcodeNameError {
				t.Errorf("afterwards: %v", m)
			}
		}
		if s := p.Resolver.Stats(); s.DeadZones != 0 {
			t.Errorf("%d dead zones", s.DeadZones)
		}
	})
}

// TestZoneIsNotDeadBecauseOfOneQuestion: servers exist that are silent about
// types they do not know, and about single names.
func TestZoneIsNotDeadBecauseOfOneQuestion(t *testing.T) {
	inBubble(t, func(_ *config.Config, n *simnet.Net) {
		n.Break("192.0.2.11", simnet.Silent().If(simnet.Type(65)), simnet.Silent().If(simnet.Question("odd.example.com.", wire.TypeA)))
	}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		warm(t, p, n)
		ask(t, p, "www.example.com. TYPE65")
		if m := ask(t, p, "www.example.com. A"); m.Rcode != dns.RcodeSuccess {
			t.Errorf("after an unknown type: %v", m)
		}
		var wg sync.WaitGroup
		wg.Go(func() { ask(t, p, "odd.example.com. A") })
		time.Sleep(500 * time.Millisecond)
		ask(t, p, "www.example.com. AAAA") // answered meanwhile
		wg.Wait()
		if m := ask(t, p, "n1.example.com. A"); m.Rcode != dns.RcodeNameError {
			t.Errorf("after an odd name: %v", m)
		}
		if s := p.Resolver.Stats(); s.DeadFound != 0 {
			t.Errorf("%d dead zones were found\n%s", s.DeadFound, n.Log())
		}
	})
}

func TestRefusalByAllServersIsNotADeadZone(t *testing.T) {
	inBubble(t, func(_ *config.Config, n *simnet.Net) {
		twoServers(n)
		n.Break("192.0.2.11", simnet.Rcode(wire.Refused).If(simnet.Question("www.example.com.", wire.TypeA)))
	}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		warm(t, p, n)
		if m := ask(t, p, "www.example.com. A"); m.Rcode != dns.RcodeServerFailure || len(n.Log()) != 3 {
			t.Errorf("%v after %v", m, n.Questions())
		}
		if m := ask(t, p, "example.com. MX"); m.Rcode != dns.RcodeSuccess {
			t.Errorf("the next question: %v", m)
		}
	})
}

// noRoute is what the transport reports at once where there is no route.
func noRoute() simnet.Fault {
	return func(_ exchange.Request, r *simnet.Reply) {
		r.After = 0
		r.Err = &net.OpError{Op: "connect", Net: "udp", Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}
	}
}

func TestMachineWithoutIPv6CostsNothing(t *testing.T) {
	const zones = 100
	inBubble(t, func(_ *config.Config, n *simnet.Net) {
		var com strings.Builder
		for i := range zones {
			fmt.Fprintf(&com, "z%[1]d.com. 3600 NS a.z%[1]d.com.\na.z%[1]d.com. 3600 A 198.51.100.%[1]d\na.z%[1]d.com. 3600 AAAA 2001:db8::%[2]x\n", i, i+1)
			n.Serve(fmt.Sprintf("198.51.100.%d", i), fmt.Sprintf("z%d.com.", i), fmt.Sprintf("*.z%d.com. 300 A 198.51.100.1", i))
			n.Break(fmt.Sprintf("2001:db8::%x", i+1), noRoute())
		}
		n.Serve("192.0.2.2", "com.", com.String())
	}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		round := func(name string) (sent int) {
			n.ResetLog()
			for i := range zones {
				begun := time.Now()
				if m := ask(t, p, fmt.Sprintf("%s.z%d.com. A", name, i)); m.Rcode != dns.RcodeSuccess {
					t.Errorf("%s %d: %v", name, i, m)
				}
				if took := time.Since(begun); took > 50*time.Millisecond {
					t.Errorf("%s %d took %v", name, i, took)
				}
			}
			for addr, count := range n.Log().PerServer() {
				if addr.Is6() {
					sent += count
				}
			}
			return sent
		}
		if got := round("first"); got > 4 {
			t.Errorf("IPv6 was tried %d times before it was noticed", got)
		}
		for i := range zones {
			n.Break(fmt.Sprintf("2001:db8::%x", i+1))
			n.Join(fmt.Sprintf("198.51.100.%d", i), fmt.Sprintf("2001:db8::%x", i+1))
		}
		time.Sleep(time.Minute)
		round("second") // one in twenty finds out that it is back
		if got := round("third"); got < 20 {
			t.Errorf("IPv6 was used %d times after it came back", got)
		}
		if s := p.Resolver.Stats(); s.Infra.FamilyOut != [2]uint64{0, 1} {
			t.Errorf("put last %v times", s.Infra.FamilyOut)
		}
	})
}

func TestScenariosSelection(t *testing.T) {
	var nrd strings.Builder
	for i := range 1500 {
		fmt.Fprintf(&nrd, "attack.com. 3600 NS n%[1]d.victim%[1]d.net.\n", i)
	}
	var mixed strings.Builder
	for i := range 5 {
		fmt.Fprintf(&mixed, "mixed.com. 3600 NS n%[1]d.mixed.com.\nn%[1]d.mixed.com. 3600 A 192.0.2.%[2]d\n", i, 50+i)
	}
	play(t, []scenario{
		{
			// NRDelegation, CVE-2022-3204.
			name: "bounds what a referral to 1500 servers costs",
			world: func(n *simnet.Net) {
				n.Serve("192.0.2.2", "com.", nrd.String())
				var net strings.Builder
				for i := range 1500 {
					fmt.Fprintf(&net, "victim%[1]d.net. 3600 NS ns.victim%[1]d.net.\nns.victim%[1]d.net. 3600 A 192.0.2.66\n", i)
				}
				n.Serve("192.0.2.3", "net.", net.String())
				n.Break("192.0.2.66", simnet.Rcode(wire.Refused))
			},
			steps: []step{
				{ask: "a.attack.com. A", rcode: wire.ServFail, ede: unreachable, most: 40, within: time.Second},
				{ask: "b.attack.com. A", rcode: wire.ServFail, ede: unreachable, none: true},
				{after: 4 * time.Second, ask: "c.attack.com. A", rcode: wire.ServFail, ede: unreachable, none: true},
			},
		},
		{
			name: "passes five servers that fail in five ways",
			world: func(n *simnet.Net) {
				n.Serve("192.0.2.2", "com.", mixed.String())
				n.Serve("192.0.2.54", "mixed.com.", "www.mixed.com. 300 A 198.51.100.8")
				n.Break("192.0.2.50", simnet.Rcode(wire.ServFail))
				n.Break("192.0.2.51", simnet.Rcode(wire.Refused))
				n.Break("192.0.2.52", simnet.Rcode(wire.Rcode(9)))
				n.Break("192.0.2.53", simnet.Rcode(wire.NotImp))
			},
			steps: []step{
				{ask: "www.mixed.com. A", answer: []string{"www.mixed.com. A 198.51.100.8"}, most: 2 + 3 + 2 + 1, within: 100 * time.Millisecond, noEDE: true},
				{ask: "mixed.com. A", noAns: true, most: 8},
			},
		},
		{
			name: "says that everybody refuses", world: func(n *simnet.Net) {
				n.Serve("192.0.2.2", "com.", mixed.String())
				for i := range 5 {
					n.Break(fmt.Sprintf("192.0.2.%d", 50+i), simnet.Rcode(wire.Refused))
				}
			},
			steps: []step{{ask: "www.mixed.com. A", rcode: wire.ServFail, ede: unreachable, most: 2 + 5 + 5, within: 200 * time.Millisecond}},
		},
		{
			name: "takes an answer without AA from a zone that has no better", world: func(n *simnet.Net) {
				n.Break("192.0.2.11", simnet.NoAA())
			},
			steps: []step{{ask: "www.example.com. A", answer: wwwAnswer, most: 3}},
		},
		{
			name: "does not believe an answer that is truncated over TCP", world: broken(simnet.Mutate(func(m *dns.Msg) { m.Truncated = true })),
			steps: []step{{ask: "www.example.com. A", answer: wwwAnswer, most: 2 + 3, within: 200 * time.Millisecond}},
		},
		{
			name: "goes on when TCP does not work after a truncated answer", world: broken(simnet.Truncate(), simnet.Unreachable().If(simnet.TCP)),
			steps: []step{{ask: "www.example.com. A", answer: wwwAnswer, most: 2 + 3, within: 200 * time.Millisecond}},
		},
		{
			name: "finds a server that answers over TCP only", world: func(n *simnet.Net) {
				n.Break("192.0.2.11", simnet.Silent().If(simnet.UDP))
			},
			steps: []step{
				{ask: "www.example.com. A", answer: wwwAnswer, most: 2 + 3, within: 1300 * time.Millisecond},
				{ask: "example.com. MX", answer: []string{"example.com. MX 10 mail.example.com."}, most: 1, within: 50 * time.Millisecond},
				{ask: "nx.example.com. A", rcode: wire.NXDomain, most: 1, within: 50 * time.Millisecond},
			},
		},
		{
			name: "remembers no zone as dead whose server answers in the end", world: func(n *simnet.Net) {
				n.Break("192.0.2.11", simnet.Silent().If(simnet.First(2)))
			},
			steps: []step{
				{ask: "www.example.com. A", answer: wwwAnswer, most: 5},
				{ask: "nx.example.com. A", rcode: wire.NXDomain, most: 1},
			},
		},
	})
}

func TestScenariosMinimisationIsRemembered(t *testing.T) {
	strict := func(cfg *config.Config) { cfg.Resolver.QNameMinimisation = config.MinimisationStrict }
	deny := func(n *simnet.Net) { n.Break("192.0.2.11", simnet.DenyEmptyNonTerminals()) }
	deep := []string{"a.b.c.d.example.com. A 198.51.100.3"}
	play(t, []scenario{
		{name: "does not ask for a name again that has no cut", steps: []step{
			{ask: "a.b.c.d.example.com. A", answer: deep, most: 6},
			{ask: "z.b.c.d.example.com. A", rcode: wire.NXDomain, sent: []string{"192.0.2.11 z.b.c.d.example.com. A"}},
			{ask: "y.c.d.example.com. MX", rcode: wire.NXDomain, sent: []string{"192.0.2.11 y.c.d.example.com. MX"}},
			{ask: "d.example.com. A", noAns: true, soa: "example.com.", none: true},
			{after: 301 * time.Second, ask: "x.d.example.com. A", rcode: wire.NXDomain, sent: []string{"192.0.2.11 d.example.com. A", "192.0.2.11 x.d.example.com. A"}},
		}},
		{name: "knows a name from its data", steps: []step{
			{ask: "www.example.com. A", answer: wwwAnswer, most: 3},
			{ask: "x.www.example.com. A", rcode: wire.NXDomain, sent: []string{"192.0.2.11 x.www.example.com. A"}},
		}},
		{name: "knows a name from its alias", steps: []step{
			{ask: "alias.example.com. A", most: 6},
			{ask: "x.alias.example.com. A", rcode: wire.NXDomain, sent: []string{"192.0.2.11 x.alias.example.com. A"}},
		}},
		{name: "answers from what it learned on the way", world: func(n *simnet.Net) {
			n.Serve("192.0.2.11", "example.com.", "mid.example.com. 300 A 198.51.100.61\nwww.mid.example.com. 300 A 198.51.100.60")
		}, steps: []step{
			{ask: "www.mid.example.com. A", most: 4},
			{ask: "mid.example.com. A", answer: []string{"mid.example.com. A 198.51.100.61"}, none: true},
		}},
		{name: "remembers a denial of a part too, and shows the full name", world: deny, steps: []step{
			{ask: "a.b.c.d.example.com. A", answer: deep, most: 4},
			{ask: "a.b.c.d.example.com. MX", noAns: true, sent: []string{"192.0.2.11 a.b.c.d.example.com. MX"}},
		}},
		{name: "takes a denial of a part for all below it if strict", cfg: strict, world: deny, steps: []step{
			{ask: "a.b.c.d.example.com. A", rcode: wire.NXDomain, most: 3},
			{ask: "z.y.x.d.example.com. A", rcode: wire.NXDomain, soa: "example.com.", none: true},
		}},
		{name: "does not show a top-level zone more because of what its child said", steps: []step{
			{ask: "example.com. A", noAns: true, most: 3},
			{
				ask: "www.example.com. A", answer: wwwAnswer,
				do: func(n *simnet.Net) {
					n.Serve("192.0.2.11", "example.com.", "example.com. 172800 A 198.51.100.7\nwww.example.com. 60 A 198.51.100.1\nwww.example.com. 60 A 198.51.100.2")
				},
			},
			{after: 20 * time.Hour, ask: "example.com. A", most: 1},
			{after: 5 * time.Hour, ask: "www.example.com. A", sent: []string{"192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.11 www.example.com. A"}},
		}},
		{name: "finds a cut where there was none", steps: []step{
			{ask: "x.d.example.com. A", rcode: wire.NXDomain, most: 4},
			{
				ask: "y.d.example.com. A", answer: []string{"y.d.example.com. A 198.51.100.70"},
				do: func(n *simnet.Net) {
					n.Serve("192.0.2.11", "example.com.", "d.example.com. 300 NS ns.d.example.com.\nns.d.example.com. 300 A 192.0.2.71")
					n.Serve("192.0.2.71", "d.example.com.", "y.d.example.com. 300 A 198.51.100.70")
				},
				sent: []string{"192.0.2.11 y.d.example.com. A", "192.0.2.71 y.d.example.com. A"},
			},
		}},
	})
}

// TestFewDeadAndSlowServersHideWell: 1 % of the servers are dead and 5 % slow.
func TestFewDeadAndSlowServersHideWell(t *testing.T) {
	const zones, servers, names = 250, 500, 8
	inBubble(t, func(_ *config.Config, n *simnet.Net) {
		var com strings.Builder
		for i := range servers {
			zone, addr := fmt.Sprintf("z%d.com.", i/2), fmt.Sprintf("198.18.%d.%d", i/250, i%250)
			fmt.Fprintf(&com, "%[1]s 86400 NS n%[2]d.%[1]s\nn%[2]d.%[1]s 86400 A %[3]s\n", zone, i%2, addr)
			n.Serve(addr, zone, fmt.Sprintf("*.%s 300 A 198.51.100.1", zone))
			n.SetRTT(addr, time.Duration(10+i%40)*time.Millisecond)
			switch {
			case i%100 == 7:
				n.Break(addr, simnet.Silent())
			case i%20 == 3:
				n.SetRTT(addr, 600*time.Millisecond)
			}
		}
		n.Serve("192.0.2.2", "com.", com.String())
	}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		var took []time.Duration
		for name := range names {
			for zone := range zones {
				begun := time.Now()
				if m := ask(t, p, fmt.Sprintf("n%d.z%d.com. A", name, zone)); len(m.Answer) != 1 {
					t.Fatalf("%v", m)
				}
				took = append(took, time.Since(begun))
				time.Sleep(7 * time.Millisecond)
			}
		}
		slices.Sort(took)
		p95, p99, last := took[len(took)*95/100], took[len(took)*99/100], took[len(took)-1]
		if p95 > 70*time.Millisecond || p99 > 260*time.Millisecond || last > 700*time.Millisecond {
			t.Errorf("p95 %v, p99 %v, the slowest %v", p95, p99, last)
		}
		if most := zones*(names+1)*105/100 + 1; len(n.Log()) > most {
			t.Errorf("%d queries, want at most %d", len(n.Log()), most)
		}
		t.Logf("p95 %v, p99 %v, the slowest %v, %d queries, %+v", p95, p99, last, len(n.Log()), p.Resolver.Stats())
	})
}
