package daemon

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shirube/internal/config"
	"shirube/internal/exchange"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// outstanding counts the questions that a server has been sent and not
// answered, and how many there were at most of one.
type outstanding struct {
	mu   sync.Mutex
	now  map[wire.Question]int
	most int
}

// fault counts a question until its answer has left.
func (o *outstanding) fault() simnet.Fault {
	return func(req exchange.Request, r *simnet.Reply) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.now == nil {
			o.now = make(map[wire.Question]int)
		}
		q := req.Question
		o.now[q]++
		o.most = max(o.most, o.now[q])
		time.AfterFunc(r.After, func() {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.now[q]--
		})
	}
}

// TestThousandClientsMakeOneQuestion: questions that are under way at once are
// as many chances for who guesses at their IDs and ports (Rebirthday,
// CVE-2025-5994).
func TestThousandClientsMakeOneQuestion(t *testing.T) {
	variants := []string{"www.example.com. A", "WWW.example.COM. A +do", "www.Example.com. A +noedns", "www.example.com. A +tcp", "www.example.com. A +ad"}
	var o outstanding
	inBubble(t, func(cfg *config.Config, n *simnet.Net) {
		cfg.Limits.Waiters = 2000
		n.SetRTT("192.0.2.11", 300*time.Millisecond)
		n.Break("192.0.2.11", o.fault())
	}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		begun := time.Now()
		var answered atomic.Int32
		var wg sync.WaitGroup
		for i := range 1000 {
			wg.Go(func() {
				time.Sleep(time.Duration(i%10) * 20 * time.Millisecond) // all of them before the answer
				if m := ask(t, p, variants[i%len(variants)]); m != nil && len(m.Answer) == 2 {
					answered.Add(1)
				}
			})
		}
		wg.Wait()
		if answered.Load() != 1000 {
			t.Errorf("%d of 1000 answered", answered.Load())
		}
		if got := len(n.Log()); got != 3 || o.most != 1 {
			t.Errorf("%d queries, %d of one question at once, want 3 and 1\n%v", got, o.most, n.Log())
		}
		if took := time.Since(begun); took > 321*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

// TestThousandNamesMakeOneQuestionOnTheWay: who wants a birthday asks for many
// names, each of which needs the same answer first.
func TestThousandNamesMakeOneQuestionOnTheWay(t *testing.T) {
	for _, tt := range []struct {
		name string
		spec func(i int) string
		addr string // whose questions are counted
	}{
		{"a shorter name", func(i int) string { return fmt.Sprintf("r%d.a.example.com. A", i) }, "192.0.2.11"},
		{"a cut", func(i int) string { return fmt.Sprintf("r%d.other.net. A", i) }, "192.0.2.3"},
		{"a server without glue", func(i int) string { return fmt.Sprintf("r%d.glueless.com. A", i) }, victim},
		{"the target of an alias", func(i int) string { return fmt.Sprintf("r%d.many.com. A", i) }, victim},
		{"with and without CD", func(i int) string { return "www.example.com. A" + []string{"", " +cd"}[i%2] }, "192.0.2.11"},
	} {
		t.Run(strings.ReplaceAll(tt.name, " ", "-"), func(t *testing.T) {
			var o outstanding
			inBubble(t, func(_ *config.Config, n *simnet.Net) {
				n.Serve("192.0.2.2", "com.", "example.com. NS ns1.example.com.\nns1.example.com. A 192.0.2.11\nglueless.com. 3600 NS ns.other.net.\nmany.com. NS ns.many.com.\nns.many.com. A 192.0.2.44")
				n.Serve("192.0.2.44", "many.com.", "*.many.com. 300 CNAME www.other.net.")
				n.Serve("192.0.2.11", "example.com.", "*.a.example.com. 300 A 198.51.100.1\nwww.example.com. 300 A 198.51.100.1")
				n.Serve(victim, "glueless.com.", "*.glueless.com. 300 A 198.51.100.1")
				n.SetRTT(tt.addr, 300*time.Millisecond)
				n.Break(tt.addr, o.fault())
			}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
				var wg sync.WaitGroup
				for i := range 1000 {
					wg.Go(func() { _ = ask(t, p, tt.spec(i)) })
				}
				wg.Wait()
				if o.most != 1 {
					t.Errorf("%d of one question at once", o.most)
				}
			})
		})
	}
}

// With the usual limit, most of a thousand clients are turned away; the
// question is asked once nevertheless, also by those who come back.
func TestThousandClientsMakeOneQuestionThoughMostAreTurnedAway(t *testing.T) {
	inBubble(t, func(_ *config.Config, n *simnet.Net) { n.SetRTT("192.0.2.11", 300*time.Millisecond) }, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		got := flood(t, p, 10_000, 100*time.Millisecond, func(int) string { return "www.example.com. A" })
		if got[wire.NoError] != 100 || got[wire.ServFail] != 900 {
			t.Errorf("answers %v, want 100 and 900 failures", got)
		}
		if len(n.Log()) != 3 {
			t.Errorf("%d queries, want 3", len(n.Log()))
		}
		checkResponse(ask(t, p, "www.example.com. A"), step{answer: wwwAnswer}, t.Errorf) // being turned away is no failure of the name
	})
}

// TestRandomSubdomainsOfADeadZoneLeaveOthersAlone: a zone whose servers are
// silent, and names of it that nobody asked before, two hundred a second.
func TestRandomSubdomainsOfADeadZoneLeaveOthersAlone(t *testing.T) {
	const rate, seconds = 200, 10
	inBubble(t, nil, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		_ = ask(t, p, "www.example.com. A") // the way there is known
		_ = ask(t, p, "www.other.net. A")
		n.Break("192.0.2.11", simnet.Silent())
		n.ResetLog()
		var slowest time.Duration
		most := 0
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := range seconds * 10 {
				time.Sleep(100 * time.Millisecond)
				begun := time.Now()
				m := ask(t, p, fmt.Sprintf("n%d.other.net. A", i))
				if m == nil || wire.Rcode(m.Rcode) != wire.NXDomain {
					t.Errorf("the other zone: %v", m)
				}
				slowest = max(slowest, time.Since(begun))
				most = max(most, p.Frontend.Stats().Flights)
			}
		})
		got := flood(t, p, rate, seconds*time.Second, func(i int) string { return fmt.Sprintf("r%d.example.com. A", i) })
		wg.Wait()
		if got[wire.ServFail] != rate*seconds {
			t.Errorf("answers %v", got)
		}
		if slowest > 30*time.Millisecond {
			t.Errorf("the other zone took %v", slowest)
		}
		if most == 0 || most > rate*6+1 { // no question lives longer than its six seconds
			t.Errorf("%d questions under way", most)
		}
		if left := p.Frontend.Stats().Flights; left != 0 {
			t.Errorf("%d questions still under way", left)
		}
		if got := sentTo(n, "192.0.2.11"); got > 6*rate { // all of the first seconds
			t.Errorf("%d queries at the dead server for %d names", got, rate*seconds)
		}
		if most := mostOfOne(n); most > 3 {
			t.Errorf("%d sends of one question", most)
		}
	})
}

// TestRandomSubdomainsOfADeadZoneAreNoReasonToAskIt: a server that has been
// silent for half a minute is asked now and then, not for every new name.
func TestRandomSubdomainsOfADeadZoneAreNoReasonToAskIt(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		_ = ask(t, p, "www.example.com. A")
		n.Break("192.0.2.11", simnet.Silent())
		n.ResetLog()
		flood(t, p, 50, time.Minute, func(i int) string { return fmt.Sprintf("r%d.example.com. A", i) })
		late := 0
		for _, e := range n.Log() {
			if e.At >= 30*time.Second {
				late++
			}
		}
		if late > 6 { // one in five seconds
			t.Errorf("%d queries in the last half minute at a server that has been dead for thirty seconds", late)
		}
	})
}

// More questions than there are places: they are turned away at once, without
// a packet, and the places are free again when the flood is over.
func TestRandomSubdomainsTakeNoMoreThanAllPlaces(t *testing.T) {
	inBubble(t, func(cfg *config.Config, n *simnet.Net) {
		cfg.Limits.InFlight, cfg.Limits.InFlightPerZone = 50, 50
		n.Break("192.0.2.11", simnet.Silent())
	}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		got := flood(t, p, 1000, time.Second, func(i int) string { return fmt.Sprintf("r%d.example.com. A", i) })
		if got[wire.ServFail] != 1000 {
			t.Errorf("answers %v", got)
		}
		stats := p.Frontend.Stats()
		if stats.Flights != 0 || stats.ShedFlights < 900 {
			t.Errorf("%d under way, %d turned away", stats.Flights, stats.ShedFlights)
		}
		if names := len(n.Log().PerQuestion()); names > 50+2 {
			t.Errorf("questions about %d names sent", names)
		}
		time.Sleep(time.Minute)
		checkResponse(ask(t, p, "www.other.net. A"), step{answer: []string{"www.other.net. A 198.51.100.9"}}, t.Errorf)
	})
}

// TestRandomSubdomainsOfALiveZoneCostOnePacketEach: nothing is multiplied.
func TestRandomSubdomainsOfALiveZoneCostOnePacketEach(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		_ = ask(t, p, "www.example.com. A")
		n.ResetLog()
		got := flood(t, p, 500, 4*time.Second, func(i int) string { return fmt.Sprintf("r%d.example.com. A", i) })
		if got[wire.NXDomain] != 2000 {
			t.Errorf("answers %v", got)
		}
		if len(n.Log()) != 2000 || mostOfOne(n) != 1 {
			t.Errorf("%d queries for 2000 names", len(n.Log()))
		}
	})
}

// TestPulsingServersHoldNoQuestionLongerThanItsTime: a server that holds its answers back until
// just before the timeout makes them come in one pulse; who asked over UDP too
// long ago gets none (DNSBomb, CVE-2024-33655, is the transport's to end). What
// the resolver has to do is to wait no longer than its time.
func TestPulsingServersHoldNoQuestionLongerThanItsTime(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		_ = ask(t, p, "www.example.com. A")
		n.Break("192.0.2.11", simnet.Latency(20*time.Second, 0))
		n.ResetLog()
		begun := time.Now()
		got := flood(t, p, 1000, 100*time.Millisecond, func(i int) string { return fmt.Sprintf("p%d.example.com. A", i) })
		if took := time.Since(begun); got[wire.ServFail] != 100 || took > 6200*time.Millisecond {
			t.Errorf("answers %v after %v", got, took)
		}
		if most := mostOfOne(n); most > 3 || len(n.Log()) > 300 {
			t.Errorf("%d queries, %d of one", len(n.Log()), most)
		}
	})
}
