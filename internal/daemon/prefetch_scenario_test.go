package daemon

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"shirube/internal/config"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

func TestScenariosPrefetch(t *testing.T) {
	const www = "192.0.2.11 www.example.com. A"
	first := step{ask: "www.example.com. A", answer: wwwAnswer, ttls: []int{300, 300}}
	again := step{after: time.Second, ask: "www.example.com. A", ttls: []int{299, 299}, none: true}
	play(t, []scenario{
		{name: "renews what is popular before it expires", steps: []step{
			first, again,
			{after: 270 * time.Second, ask: "www.example.com. A", ttls: []int{29, 29}, noEDE: true, within: time.Nanosecond, settle: time.Second, sent: []string{www}},
			{after: 29 * time.Second, ask: "www.example.com. A", answer: wwwAnswer, ttls: []int{271, 271}, noEDE: true, none: true},
		}},
		{name: "renews nothing before a tenth is left", steps: []step{
			first, again,
			{after: 268 * time.Second, ask: "www.example.com. A", ttls: []int{31, 31}, settle: time.Second, none: true},
		}},
		{name: "renews nothing that is not popular", steps: []step{
			first,
			{after: 280 * time.Second, ask: "www.example.com. A", ttls: []int{20, 20}, settle: time.Second, none: true},
			{after: 20 * time.Second, ask: "www.example.com. A", ttls: []int{300, 300}, most: 1},
		}},
		{name: "renews nothing if told not to", cfg: func(cfg *config.Config) { cfg.Cache.Prefetch = false }, steps: []step{
			first, again,
			{after: 280 * time.Second, ask: "www.example.com. A", settle: time.Second, none: true},
		}},
		{name: "renews nothing for who does not ask for recursion", cfg: func(cfg *config.Config) {
			cfg.AccessControl[0].Action = config.ActionAllowSnoop
		}, steps: []step{
			first, again,
			{after: 280 * time.Second, ask: "www.example.com. A +nord", answer: wwwAnswer, settle: time.Second, none: true},
		}},
		{name: "renews an answer once", steps: []step{
			first, again,
			{after: 272 * time.Second, ask: "www.example.com. A", settle: time.Second, sent: []string{www}},
			{ask: "www.example.com. A", settle: time.Second, none: true},
			{after: 271 * time.Second, ask: "www.example.com. A", settle: time.Second, sent: []string{www}}, // popular again
		}},
		{name: "keeps the old answer when it cannot be renewed", steps: []step{
			first, again,
			{after: 271 * time.Second, do: failing, ask: "www.example.com. A", settle: time.Second, sent: []string{www}},
			{after: time.Second, ask: "www.example.com. A", answer: wwwAnswer, ttls: []int{26, 26}, noEDE: true, settle: time.Second, none: true},
			{after: 27 * time.Second, ask: "www.example.com. A", answer: wwwAnswer, ttls: []int{30, 30}, ede: staleAnswer, none: true}, // failed a moment ago
			{after: 2 * time.Second, do: working, ask: "www.example.com. A", answer: wwwAnswer, ttls: []int{300, 300}, noEDE: true, most: 1},
		}},
		{name: "tries again after half a minute", world: records("long.example.com. 1000 A 198.51.100.1"), steps: []step{
			{ask: "long.example.com. A", ttls: []int{1000}},
			{after: time.Second, ask: "long.example.com. A"},
			{after: 900 * time.Second, do: failing, ask: "long.example.com. A", settle: time.Second, sent: []string{"192.0.2.11 long.example.com. A"}},
			{after: 28 * time.Second, do: working, ask: "long.example.com. A", settle: time.Second, none: true},
			{ask: "long.example.com. A", settle: time.Second, sent: []string{"192.0.2.11 long.example.com. A"}},
			{ask: "long.example.com. A", ttls: []int{1000}, none: true},
		}},
		{name: "takes over what has changed with and without DO", steps: []step{
			first, again,
			{ask: "www.example.com. A +do", none: true},
			{after: 271 * time.Second, do: records("www.example.com. 300 A 203.0.113.1"), ask: "www.example.com. A", answer: wwwAnswer, settle: time.Second, sent: []string{www}},
			{ask: "www.example.com. A", answer: []string{"www.example.com. A 203.0.113.1"}, ttls: []int{300}, none: true},
			{ask: "www.example.com. A +do", answer: []string{"www.example.com. A 203.0.113.1"}, ttls: []int{300}, none: true},
		}},
		{name: "takes over that a name is gone", steps: []step{
			first, again,
			{after: 271 * time.Second, do: records(""), ask: "www.example.com. A", answer: wwwAnswer, settle: time.Second, sent: []string{www}},
			{ask: "www.example.com. A", rcode: wire.NXDomain, noEDE: true, none: true},
		}},
		{name: "takes over that an answer is not to be kept", steps: []step{
			first, again,
			{after: 271 * time.Second, do: records("www.example.com. 0 A 203.0.113.1"), ask: "www.example.com. A", answer: wwwAnswer, settle: time.Second, sent: []string{www}},
			{ask: "www.example.com. A", answer: []string{"www.example.com. A 203.0.113.1"}, ttls: []int{0}, sent: []string{www}},
		}},
		{name: "renews a denial", steps: []step{
			{ask: "nx.example.com. A", rcode: wire.NXDomain},
			{ask: "nx.example.com. A", rcode: wire.NXDomain, none: true},
			{after: 271 * time.Second, ask: "nx.example.com. A", rcode: wire.NXDomain, settle: time.Second, sent: []string{"192.0.2.11 nx.example.com. A"}},
			{after: 200 * time.Second, ask: "nx.example.com. A", rcode: wire.NXDomain, none: true},
		}},
	})
}

func TestScenariosPrefetchAliases(t *testing.T) {
	play(t, []scenario{
		{name: "renews the alias and not what it leads to", steps: []step{ // 300 s and 600 s
			{ask: "alias.example.com. A", ttls: []int{300, 600}},
			{ask: "alias.example.com. A", none: true},
			{after: 271 * time.Second, ask: "alias.example.com. A", settle: time.Second, sent: []string{"192.0.2.11 alias.example.com. A"}},
			{ask: "alias.example.com. A", ttls: []int{300, 329}, none: true},
		}},
		{name: "renews what an alias leads to and not the alias", world: records("far.example.com. 3600 CNAME www.other.net."), steps: []step{ // 600 s
			{ask: "far.example.com. A", ttls: []int{3600, 600}},
			{ask: "far.example.com. A", none: true},
			{after: 541 * time.Second, ask: "far.example.com. A", settle: time.Second, sent: []string{"192.0.2.21 www.other.net. A"}},
			{ask: "far.example.com. A", ttls: []int{3059, 600}, none: true},
		}},
		{name: "renews together what expires together", world: func(n *simnet.Net) {
			records("far.example.com. 605 CNAME www.other.net.")(n) // 5 s more would not be worth renewing
		}, steps: []step{
			{ask: "far.example.com. A", ttls: []int{605, 600}},
			{ask: "far.example.com. A", none: true},
			{after: 541 * time.Second, ask: "far.example.com. A", settle: time.Second, sent: []string{"192.0.2.11 far.example.com. A", "192.0.2.21 www.other.net. A"}},
		}},
	})
}

// delegate makes com. delegate example.com. to addr, for ttl seconds.
func delegate(ttl int, addr string) func(n *simnet.Net) {
	return func(n *simnet.Net) {
		n.Serve("192.0.2.2", "com.", fmt.Sprintf("com. 900 SOA ns.com. host.com. 1 1800 900 604800 900\n"+
			"example.com. %[1]d NS ns1.example.com.\nns1.example.com. %[1]d A %[2]s", ttl, addr))
	}
}

func TestScenariosPrefetchCuts(t *testing.T) {
	const www, again = "192.0.2.11 www.example.com. A", 271 * time.Second // of 300 s
	popular := []step{{ask: "www.example.com. A", answer: wwwAnswer}, {ask: "www.example.com. A", none: true}}
	play(t, []scenario{
		{name: "learns a cut anew that ends with the answer", world: delegate(300, "192.0.2.11"), steps: append(popular[:2:2],
			step{after: again, ask: "www.example.com. A", settle: time.Second, sent: []string{"192.0.2.2 example.com. A", www}},
			step{after: 30 * time.Second, ask: "mail.example.com. A", rcode: wire.NXDomain, sent: []string{"192.0.2.11 mail.example.com. A"}}, // the cut is new
		)},
		{name: "uses a cut that lives on", world: delegate(330, "192.0.2.11"), steps: append(popular[:2:2],
			step{after: again, ask: "www.example.com. A", settle: time.Second, sent: []string{www}},
		)},
		{name: "notices that a zone has moved", world: delegate(300, "192.0.2.11"), steps: append(popular[:2:2],
			step{
				after: again, ask: "www.example.com. A", answer: wwwAnswer, settle: time.Second,
				do: func(n *simnet.Net) {
					delegate(300, "192.0.2.31")(n)
					n.Serve("192.0.2.31", "example.com.", "www.example.com. 300 A 203.0.113.1")
				},
			},
			step{ask: "www.example.com. A", answer: []string{"www.example.com. A 203.0.113.1"}, none: true},
		)},
		{name: "keeps answer and cut when the parent does not answer", world: delegate(300, "192.0.2.11"), steps: append(popular[:2:2],
			step{
				after: again, ask: "www.example.com. A", settle: time.Second, sent: []string{"192.0.2.2 example.com. A", "192.0.2.2 www.example.com. A"},
				do: func(n *simnet.Net) { n.Break("192.0.2.2", simnet.Rcode(wire.ServFail)) },
			},
			step{ask: "www.example.com. A", answer: wwwAnswer, noEDE: true, none: true},
			step{ask: "mail.example.com. A", rcode: wire.NXDomain, sent: []string{"192.0.2.11 mail.example.com. A"}},
		)},
	})
}

func TestScenariosPrefetchHoldsToTheBoundsOnTTLs(t *testing.T) {
	popular := func(ask string, ttl, then int, sent ...string) []step {
		at := time.Duration(ttl) * time.Second * 9 / 10
		return []step{
			{ask: ask},
			{ask: ask, none: true},
			{after: at - 2*time.Second, ask: ask, settle: time.Second, none: true},
			{after: 2 * time.Second, ask: ask, settle: time.Second, sent: sent},
			{ask: ask, ttls: []int{then}, none: true},
		}
	}
	play(t, []scenario{
		{
			name: "renews by the maximum", world: records("t.example.com. 100000 A 198.51.100.1"),
			cfg:   func(cfg *config.Config) { cfg.Cache.MaxTTL = 100 * time.Second },
			steps: popular("t.example.com. A", 100, 100, "192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.11 t.example.com. A"), // cuts have it too
		},
		{
			name: "renews by the minimum", world: records("t.example.com. 0 A 198.51.100.1"),
			cfg:   func(cfg *config.Config) { cfg.Cache.MinTTL = 50 * time.Second },
			steps: popular("t.example.com. A", 50, 50, "192.0.2.11 t.example.com. A"),
		},
		{
			name: "renews by the maximum for denials", cfg: func(cfg *config.Config) { cfg.Cache.MaxNegativeTTL = 100 * time.Second },
			steps: append(popular("www.example.com. TXT", 100, 0, "192.0.2.11 www.example.com. TXT")[:4],
				step{ask: "www.example.com. TXT", noAns: true, soa: "example.com.", none: true}),
		},
		{
			name: "renews nothing too short", world: records("t.example.com. 8 A 198.51.100.1"),
			steps: []step{
				{ask: "t.example.com. A"},
				{ask: "t.example.com. A", none: true},
				{after: 7500 * time.Millisecond, ask: "t.example.com. A", settle: 100 * time.Millisecond, none: true},
			},
		},
	})
}

func TestPrefetchAsksOnceForAllWhoHit(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		for range 2 {
			ask(t, p, "www.example.com. A")
		}
		time.Sleep(275 * time.Second)
		n.ResetLog()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if m := ask(t, p, "www.example.com. A"); len(m.Answer) != 2 {
					t.Errorf("got %v", m)
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Second)
		if got := n.Questions(); len(got) != 1 {
			t.Errorf("sent %v, want one", got)
		}
		if s := p.Frontend.Stats(); s.Refreshed != 1 || s.Misses != 1 || s.RefreshFailed+s.RefreshDropped != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestPrefetchIsJoinedByWhoFindsTheAnswerExpired(t *testing.T) {
	inBubble(t, func(_ *config.Config, n *simnet.Net) { n.SetRTT("192.0.2.11", 300*time.Millisecond) }, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		for range 2 {
			ask(t, p, "www.example.com. A")
		}
		time.Sleep(299900 * time.Millisecond)
		n.ResetLog()
		ask(t, p, "www.example.com. A")
		time.Sleep(200 * time.Millisecond)
		if m := ask(t, p, "www.example.com. A"); len(m.Answer) != 2 || m.Answer[0].Header().Ttl != 300 {
			t.Errorf("got %v", m)
		}
		if got := n.Questions(); len(got) != 1 {
			t.Errorf("sent %v, want one", got)
		}
		synctest.Wait() // for the refresher to count what the client has already
		if s := p.Frontend.Stats(); s.Misses != 2 || s.Refreshed != 1 {
			t.Errorf("misses %d, refreshed %d; want 2 and 1", s.Misses, s.Refreshed)
		}
	})
}

func TestPrefetchDoesNotKeepADelegationAlive(t *testing.T) { // ghost domains: Jiang et al., NDSS 2012
	inBubble(t, func(_ *config.Config, n *simnet.Net) {
		n.Serve("192.0.2.2", "com.", `
com. 900 SOA ns.com. host.com. 1 1800 900 604800 900
example.com. 100 NS ns1.example.com.
ns1.example.com. 100 A 192.0.2.11
`)
		records("g.example.com. 30 A 198.51.100.1")(n)
	}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		ask(t, p, "g.example.com. A")
		n.Serve("192.0.2.2", "com.", "com. 900 SOA ns.com. host.com. 1 1800 900 604800 900") // let go
		for range 160 {
			ask(t, p, "g.example.com. A")
			time.Sleep(time.Second)
		}
		if m := ask(t, p, "g.example.com. A"); m.Rcode != int(wire.NXDomain) {
			t.Errorf("the delegation is still alive: %v", m)
		}
		if s := p.Frontend.Stats(); s.Refreshed < 3 {
			t.Errorf("refreshed only %d times", s.Refreshed)
		}
	})
}

func TestAddressesRotate(t *testing.T) {
	inBubble(t, func(cfg *config.Config, _ *simnet.Net) { cfg.Cache.RotateRRsets = true }, func(t *testing.T, p *Pipeline, _ *simnet.Net) {
		first := make(map[string]int)
		for range 200 {
			m := ask(t, p, "www.example.com. A +do")
			if len(m.Answer) != 2 {
				t.Fatalf("got %v", m)
			}
			first[m.Answer[0].String()]++
		}
		if len(first) != 2 {
			t.Errorf("the first addresses were %v", first)
		}
	})
}
