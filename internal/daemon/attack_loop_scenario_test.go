package daemon

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/exchange"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// tsuNAME makes two zones whose servers are in each other, with ttl.
func tsuNAME(ttl int) func(*config.Config, *simnet.Net) {
	return func(_ *config.Config, n *simnet.Net) {
		n.Serve("192.0.2.2", "com.", fmt.Sprintf("loop.com. %d NS ns1.loop.net.\nloop.com. %d NS ns2.loop.net.", ttl, ttl))
		n.Serve("192.0.2.3", "net.", fmt.Sprintf("loop.net. %d NS ns1.loop.com.\nloop.net. %d NS ns2.loop.com.", ttl, ttl))
	}
}

// TestTsuNAMESendsNextToNothing: Moura et al., IMC 2021. A hundred questions a
// second for a minute, and what goes out in the last half of it.
func TestTsuNAMESendsNextToNothing(t *testing.T) {
	for _, tt := range []struct {
		name  string
		ttl   int
		spec  func(i int) string
		first int // queries in the first half minute
		rest  int // and in the second: one in five seconds at most
	}{
		{"one name", 3600, func(int) string { return "www.loop.com. A" }, 6, 0},
		{"one name, both types, of both zones", 3600, func(i int) string {
			return fmt.Sprintf("www.loop.%s. %s", [...]string{"com", "net"}[i%2], [...]string{"A", "AAAA"}[i/2%2])
		}, 24, 0},
		{"a new name each time", 3600, func(i int) string { return fmt.Sprintf("r%d.loop.com. A", i) }, 24, 0},
		// The cuts are forgotten at once; only the failure is remembered (RFC 9520 §3.2).
		{"one name, with a life of a second", 1, func(int) string { return "www.loop.com. A" }, 6 * 5, 6},
		{"a new name each time, with a life of a second", 1, func(i int) string { return fmt.Sprintf("r%d.loop.com. A", i) }, 24, 6},
		{"a new name of both zones, with a life of a second", 1, func(i int) string {
			return fmt.Sprintf("r%d.loop.%s. A", i, [...]string{"com", "net"}[i%2])
		}, 24, 6},
	} {
		t.Run(strings.ReplaceAll(tt.name, " ", "-"), func(t *testing.T) {
			inBubble(t, tsuNAME(tt.ttl), func(t *testing.T, p *Pipeline, n *simnet.Net) {
				got := flood(t, p, 100, time.Minute, tt.spec)
				if got[wire.ServFail] != 6000 {
					t.Errorf("answers %v, want 6000 failures", got)
				}
				first, rest := 0, 0
				for _, e := range n.Log() {
					if e.At < 30*time.Second {
						first++
					} else {
						rest++
					}
				}
				if first < 3 || first > tt.first || rest > tt.rest {
					t.Errorf("%d and %d queries sent, want at most %d and %d\n%.3000v", first, rest, tt.first, tt.rest, n.Log())
				}
			})
		})
	}
}

func TestScenariosLoops(t *testing.T) {
	serve := func(zone string) func(n *simnet.Net) {
		return func(n *simnet.Net) { n.Serve("192.0.2.11", "example.com.", zone) }
	}
	scramble := simnet.Mutate(func(m *dns.Msg) { m.Question[0].Name = "other." + m.Question[0].Name })
	long := strings.Repeat("l.", 115)
	deep := strings.Repeat("x.", 119) // 121 labels with example.com., 251 octets
	play(t, []scenario{
		{name: "counts the aliases that memory has", world: chain(12), steps: []step{
			{ask: "n6.example.com. A", rcode: wire.NoError, most: 3 + 2 + 6},
			{ask: "n0.example.com. A", rcode: wire.ServFail, ede: other, most: 6, within: 200 * time.Millisecond},
			{ask: "n0.example.com. A", rcode: wire.ServFail, ede: other, none: true},
			{ask: "n1.other.net. A", rcode: wire.NoError, none: true}, // eleven
		}},
		{name: "counts the aliases of one response", world: func(n *simnet.Net) {
			var zone strings.Builder
			for i := range 15 {
				fmt.Fprintf(&zone, "n%d.example.com. 300 CNAME n%d.example.com.\n", i, i+1)
			}
			n.Serve("192.0.2.11", "example.com.", zone.String()+"n15.example.com. 300 A 198.51.100.77")
		}, steps: []step{
			{ask: "n0.example.com. A", rcode: wire.ServFail, ede: other, most: 4, within: 50 * time.Millisecond},
			{ask: "n4.example.com. A", rcode: wire.NoError, most: 2, within: 20 * time.Millisecond},
		}},
		{name: "ends a DNAME that feeds on itself", world: serve("d.example.com. 300 DNAME x.d.example.com."), steps: []step{
			{ask: "a.d.example.com. A", rcode: wire.ServFail, ede: other, most: 2 + 2 + 11, within: 200 * time.Millisecond},
			{ask: "a.d.example.com. A", rcode: wire.ServFail, ede: other, none: true},
		}},
		{name: "ends a DNAME that feeds on itself when the name is too long", world: serve("d.example.com. 300 DNAME longer-than-one.d.example.com."), steps: []step{
			{ask: strings.Repeat("x.", 100) + "d.example.com. A", rcode: wire.YXDomain, most: 2 + 10 + 5, within: 300 * time.Millisecond},
		}},
		{name: "ends two DNAMEs that lead to each other", world: func(n *simnet.Net) {
			n.Serve("192.0.2.11", "example.com.", "d.example.com. 300 DNAME e.other.net.")
			n.Serve("192.0.2.21", "other.net.", "e.other.net. 300 DNAME d.example.com.")
		}, steps: []step{
			{ask: "a.d.example.com. A", rcode: wire.ServFail, ede: other, most: 2*4 + 1, within: 200 * time.Millisecond},
		}},
		{name: "ends an alias through a DNAME and back", world: serve("a.example.com. 300 CNAME b.d.example.com.\nd.example.com. 300 DNAME e.example.com.\nb.e.example.com. 300 CNAME a.example.com."), steps: []step{
			{ask: "a.example.com. A", rcode: wire.ServFail, ede: other, most: 5, within: 100 * time.Millisecond},
		}},
		{name: "ends an alias that leads to longer and longer names", world: func(n *simnet.Net) {
			n.Break("192.0.2.11", simnet.Mutate(func(m *dns.Msg) {
				m.Ns, m.Rcode = nil, dns.RcodeSuccess
				m.Answer = simnet.RRs(m.Question[0].Name + " 300 CNAME x." + m.Question[0].Name)
			}))
		}, steps: []step{
			{ask: "a.example.com. A", rcode: wire.ServFail, ede: other, most: 2 + 12 + 10, within: 500 * time.Millisecond},
		}},
		{name: "ends an alias of a server's name", world: func(n *simnet.Net) {
			n.Serve("192.0.2.2", "com.", "a.com. 300 NS ns.other.net.")
			n.Serve("192.0.2.21", "other.net.", "ns.other.net. 300 CNAME ns.a.com.")
		}, steps: []step{
			{ask: "www.a.com. A", rcode: wire.ServFail, ede: unreachable, most: 2 + 2 + 2 + 2, within: 200 * time.Millisecond}, // the last ones where net. says that the server is
		}},
		{name: "asks a server that always says FORMERR three times at most", world: func(n *simnet.Net) { n.Break("192.0.2.11", simnet.Rcode(wire.FormErr)) }, steps: []step{
			// CVE-2026-5950. With EDNS, then without.
			{ask: "www.example.com. A", rcode: wire.ServFail, ede: unreachable, sent: []string{"192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.11 www.example.com. A", "192.0.2.11 www.example.com. A"}, within: 50 * time.Millisecond},
			{ask: "www.example.com. A", rcode: wire.ServFail, ede: unreachable, none: true},
			{after: 61 * time.Second, ask: "www.example.com. A", rcode: wire.ServFail, ede: unreachable, most: 3},
		}},
		{name: "asks a server that always says BADVERS three times at most", world: func(n *simnet.Net) {
			n.Break("192.0.2.11", simnet.Rcode(wire.BadVers).If(simnet.EDNS), simnet.Rcode(wire.FormErr).If(func(req exchange.Request) bool { return req.Bare }))
		}, steps: []step{
			{ask: "www.example.com. A", rcode: wire.ServFail, ede: unreachable, most: 2 + 3, within: 50 * time.Millisecond},
		}},
		{name: "asks a server that truncates and has no TCP three times at most", world: func(n *simnet.Net) {
			n.Break("192.0.2.11", simnet.Truncate(), simnet.Silent().If(simnet.TCP))
		}, steps: []step{
			{ask: "www.example.com. A", rcode: wire.ServFail, ede: unreachable, most: 2 + 2*3, within: 6001 * time.Millisecond},
		}},
		{name: "asks a server that truncates over TCP too once", world: func(n *simnet.Net) {
			n.Break("192.0.2.11", simnet.Mutate(func(m *dns.Msg) { m.Truncated = true }))
		}, steps: []step{
			{ask: "www.example.com. A", rcode: wire.ServFail, ede: unreachable, most: 2 + 2, within: 100 * time.Millisecond},
		}},
		{name: "asks a server of malformed answers three times at most", world: func(n *simnet.Net) { n.Break("192.0.2.11", simnet.Malformed()) }, steps: []step{
			{ask: "www.example.com. A", rcode: wire.ServFail, ede: unreachable, most: 2 + 3, within: 6001 * time.Millisecond},
		}},
		{name: "believes no answer to another question", world: func(n *simnet.Net) {
			n.Serve("192.0.2.11", "example.com.", "other.www.example.com. 300 A 203.0.113.66\nwww.example.com. 300 A 198.51.100.1")
			n.Break("192.0.2.11", scramble, simnet.Mutate(func(m *dns.Msg) {
				m.Answer = simnet.RRs("other.www.example.com. 300 A 203.0.113.66")
			}))
		}, steps: []step{
			{ask: "www.example.com. A", noAns: true, most: 2 + 3, rcode: wire.NoError},
		}},
		{name: "shows ten shorter names at most of one with 121 labels", steps: []step{
			{ask: deep + "example.com. A", rcode: wire.NXDomain, most: 2 + 10, within: 200 * time.Millisecond},
			{ask: deep + "example.com. A", rcode: wire.NXDomain, none: true},
		}},
		{name: "shows ten shorter names at most even if they all exist", world: serve(deep + "example.com. 300 A 198.51.100.3"), steps: []step{
			{ask: deep + "example.com. A", answer: []string{deep + "example.com. A 198.51.100.3"}, most: 2 + 9, within: 200 * time.Millisecond},
		}},
		{name: "shows ten shorter names at most to servers that refuse them", world: func(n *simnet.Net) { n.Break("192.0.2.11", simnet.Rcode(wire.ServFail)) }, steps: []step{
			{ask: deep + "example.com. A", rcode: wire.ServFail, ede: unreachable, most: 2 + 2, within: 100 * time.Millisecond},
		}},
		{name: "follows sixteen referrals at most of a name with a cut at each label", world: func(n *simnet.Net) {
			for i := range 40 {
				zone := long[:2*i] + "example.com."
				n.Serve(fmt.Sprintf("192.0.2.%d", 100+i), zone, fmt.Sprintf("l.%s 300 NS ns.l.%s\nns.l.%s 300 A 192.0.2.%d", zone, zone, zone, 101+i))
			}
			n.Serve("192.0.2.2", "com.", "example.com. 300 NS ns.example.com.\nns.example.com. 300 A 192.0.2.100")
		}, steps: []step{
			{ask: long + "example.com. A", rcode: wire.ServFail, ede: unreachable, most: 17 + 10, within: 500 * time.Millisecond},
		}},
	})
}
