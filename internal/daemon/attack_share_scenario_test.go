package daemon

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"shirube/internal/config"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// manyZones delegates count zones of com. to the server at addr, and gives each
// a server of its own that is silent as well: <prefix>0.com. and so on.
func manyZones(n *simnet.Net, count int) {
	var com strings.Builder
	com.WriteString("com. 900 SOA ns.com. host.com. 1 1800 900 604800 900\nexample.com. 172800 NS ns1.example.com.\nns1.example.com. 172800 A 192.0.2.11\n")
	for i := range count {
		fmt.Fprintf(&com, "good%d.com. 3600 NS ns.good%d.com.\nns.good%d.com. 3600 A 192.0.2.200\n", i, i, i)
		fmt.Fprintf(&com, "dead%d.com. 3600 NS ns.dead%d.com.\nns.dead%d.com. 3600 A 198.18.%d.%d\n", i, i, i, i/250, i%250)
		n.Serve("192.0.2.200", fmt.Sprintf("good%d.com.", i), fmt.Sprintf("www.good%d.com. 300 A 198.51.100.1", i))
		n.Serve(fmt.Sprintf("198.18.%d.%d", i/250, i%250), fmt.Sprintf("dead%d.com.", i), "")
		n.Break(fmt.Sprintf("198.18.%d.%d", i/250, i%250), simnet.Silent())
	}
	n.Serve("192.0.2.2", "com.", com.String())
}

// others asks for names in other zones of the same top-level zone, from another
// network, a hundred of them within two seconds, and wants an answer to each.
func others(t *testing.T, p *Pipeline) {
	t.Helper()
	for i := range 100 {
		time.Sleep(20 * time.Millisecond)
		begun := time.Now()
		m := ask(t, p, fmt.Sprintf("www.good%d.com. A +from=127.255.0.1", i))
		if m == nil || wire.Rcode(m.Rcode) != wire.NoError || len(m.Answer) != 1 {
			t.Errorf("www.good%d.com.: %v", i, m)
		}
		if took := time.Since(begun); took > 50*time.Millisecond {
			t.Errorf("www.good%d.com. took %v", i, took)
		}
	}
}

// TestRandomSubdomainsTakeASixteenthOfThePlaces: a crowd of names a second, for
// two seconds, below a zone whose servers are silent, from clients everywhere,
// and a hundred names in other zones meanwhile.
func TestRandomSubdomainsTakeASixteenthOfThePlaces(t *testing.T) {
	for _, below := range []string{"", ".www", ".a.b.c"} { // what is minimised is shared, and waited for nevertheless
		t.Run("r"+below, func(t *testing.T) {
			inBubble(t, func(_ *config.Config, n *simnet.Net) {
				manyZones(n, 100)
				n.Break("192.0.2.11", simnet.Silent())
			}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
				_ = ask(t, p, "www.other.net. A") // com. is not known yet
				var wg sync.WaitGroup
				most := 0
				wg.Go(func() { others(t, p) })
				wg.Go(func() {
					for range 200 {
						time.Sleep(10 * time.Millisecond)
						most = max(most, p.Frontend.Stats().Flights)
					}
				})
				got := flood(t, p, crowdRate, 2*time.Second, func(i int) string { return fmt.Sprintf("r%d%s.example.com. A", i, below) })
				wg.Wait()
				if got[wire.ServFail] != 2*crowdRate {
					t.Errorf("answers %v", got)
				}
				s, f := p.Resolver.Stats(), p.Frontend.Stats()
				if s.ShedCrowded == 0 || s.ZonesAsked != 0 || f.ShedFlights != 0 || f.Flights != 0 || f.Networks != 0 {
					t.Errorf("%+v, %+v", s, f)
				}
				// Those on their way to the zone and back are not counted to it.
				if most < 600 || most > 10_000/16+300 {
					t.Errorf("%d questions at once", most)
				}
			})
		})
	}
}

// TestOneNetworkTakesASixteenthOfThePlaces: its flood is over so many zones
// that none of them is remarkable.
func TestOneNetworkTakesASixteenthOfThePlaces(t *testing.T) {
	inBubble(t, func(_ *config.Config, n *simnet.Net) { manyZones(n, 5000) }, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		_ = ask(t, p, "www.good0.com. A")
		var wg sync.WaitGroup
		wg.Go(func() { others(t, p) })
		shed := 0
		var mu sync.Mutex
		paced(2*crowdRate, crowdRate, func(i int) {
			m := ask(t, p, fmt.Sprintf("r%d.dead%d.com. A +from=127.9.9.%d", i, i%5000, i%256))
			failed(t, m, 0)
			mu.Lock()
			defer mu.Unlock()
			if strings.Contains(m.String(), errNetworkText) {
				shed++
			}
		})
		wg.Wait()
		f := p.Frontend.Stats()
		if shed == 0 || int(f.ShedNetwork) != shed || f.ShedFlights != 0 || f.Flights != 0 || f.Networks != 0 {
			t.Errorf("%d told so, %+v", shed, f)
		}
	})
}

// errNetworkText is what a client is told whose network asks too much.
const errNetworkText = "too many questions of your network are being resolved"

func TestQuestionTurnedAwayByACrowdIsNoFailure(t *testing.T) {
	inBubble(t, func(cfg *config.Config, n *simnet.Net) {
		cfg.Limits.InFlightPerZone = 2
		n.Serve("192.0.2.2", "com.", "com. 900 SOA ns.com. host.com. 1 1800 900 604800 900\nexample.com. NS ns1.example.com.\nns1.example.com. A 192.0.2.11\nglueless.com. 3600 NS n1.example.com.\nglueless.com. 3600 NS n2.example.com.")
		n.Serve("192.0.2.11", "example.com.", "*.example.com. 60 A 192.0.2.11")
		n.Serve("192.0.2.11", "glueless.com.", "www.glueless.com. 300 A 198.51.100.1")
	}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		checkResponse(ask(t, p, "stale.example.com. A"), step{rcode: wire.NoError}, t.Errorf)
		time.Sleep(61 * time.Second)
		n.SetRTT("192.0.2.11", 300*time.Millisecond)
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() {
				checkResponse(ask(t, p, fmt.Sprintf("slow%d.example.com. A", i)), step{rcode: wire.NoError}, t.Errorf)
			})
		}
		time.Sleep(100 * time.Millisecond)
		n.ResetLog()
		begun := time.Now()
		failed(t, ask(t, p, "more.example.com. A"), other)
		checkResponse(ask(t, p, "stale.example.com. A"), step{rcode: wire.NoError, ede: staleAnswer}, t.Errorf)
		if took := time.Since(begun); took != 0 || len(n.Log()) != 0 {
			t.Errorf("took %v, sent %v", took, n.Log())
		}
		failed(t, ask(t, p, "www.glueless.com. A"), other) // its servers' addresses are there
		wg.Wait()
		for _, name := range []string{"more.example.com.", "stale.example.com.", "www.glueless.com."} {
			checkResponse(ask(t, p, name+" A"), step{rcode: wire.NoError, noEDE: true}, t.Errorf)
		}
		if s := p.Frontend.Stats(); s.StaleBusy != 1 || s.Failures != 2 {
			t.Errorf("%+v", s)
		}
		if s := p.Resolver.Stats(); s.ShedCrowded < 3 || s.DeadFound != 0 {
			t.Errorf("%+v", s)
		}
	})
}
