package daemon

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"shirube/internal/config"
	"shirube/internal/ede"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

func TestScenariosClient(t *testing.T) {
	large := func(n *simnet.Net) {
		var zone strings.Builder
		for i := range 60 {
			fmt.Fprintf(&zone, "large.example.com. 300 A 198.51.%d.1\n", i)
		}
		for i := range 90 {
			fmt.Fprintf(&zone, "huge.example.com. 300 TXT \"%d %s\"\n", i, strings.Repeat("x", 240))
		}
		n.Serve("192.0.2.11", "example.com.", zone.String())
	}
	prohibited, notAuth, notSupported := int(ede.Prohibited)+1, int(ede.NotAuthoritative)+1, int(ede.NotSupported)+1
	clientIs := func(action config.Action) func(cfg *config.Config) {
		return func(cfg *config.Config) {
			cfg.AccessControl = []config.AccessRule{{Prefix: netip.MustParsePrefix("127.0.0.0/8"), Action: action}}
		}
	}
	play(t, []scenario{
		{name: "refuses who may not ask", cfg: clientIs(config.ActionRefuse), steps: []step{
			{ask: "www.example.com. A", rcode: wire.Refused, ede: prohibited, none: true},
		}},
		{name: "refuses who is in no rule", cfg: func(cfg *config.Config) {
			cfg.AccessControl = []config.AccessRule{{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Action: config.ActionAllow}}
		}, steps: []step{{ask: "www.example.com. A", rcode: wire.Refused, ede: prohibited, none: true}}},
		{name: "is silent to who is denied", cfg: clientIs(config.ActionDeny), steps: []step{{ask: "www.example.com. A", lost: true, none: true}}},
		{name: "refuses a query without RD", steps: []step{
			{ask: "www.example.com. A", answer: wwwAnswer},
			{ask: "www.example.com. A +nord", rcode: wire.Refused, ede: notAuth, none: true},
		}},
		{name: "lets snoop who may", cfg: clientIs(config.ActionAllowSnoop), steps: []step{
			{ask: "www.example.com. A +nord", rcode: wire.Refused, ede: notAuth, none: true},
			{ask: "www.example.com. A", answer: wwwAnswer},
			{ask: "www.example.com. A +nord", answer: wwwAnswer, none: true},
		}},
		{name: "truncates for the client", world: large, steps: []step{
			{ask: "large.example.com. A +noedns", tc: true, noAns: true},
			{ask: "large.example.com. A +bufsize=600", tc: true, noAns: true, none: true},
			{ask: "large.example.com. A", tc: false, none: true},
			{ask: "large.example.com. A +noedns +tcp", tc: false, none: true},
		}},
		{name: "gives a large answer to who waits but does not keep it", world: large, steps: []step{
			{ask: "huge.example.com. TXT +tcp", most: 5},
			{ask: "huge.example.com. TXT +tcp", sent: []string{"192.0.2.11 huge.example.com. TXT", "192.0.2.11 huge.example.com. TXT"}}, // over TCP again
		}},
		{name: "answers without EDNS to who has none", steps: []step{
			{ask: "www.example.com. A +noedns", answer: wwwAnswer, noEDE: true},
			{ask: "nx.example.com. A +noedns", rcode: wire.NXDomain, soa: "example.com."},
		}},
		{name: "keeps answers with and without DO apart but asks once", steps: []step{
			{ask: "www.example.com. A", answer: wwwAnswer, most: 3},
			{ask: "www.example.com. A +do", answer: wwwAnswer, none: true},
			{ask: "www.example.com. A +cd", answer: wwwAnswer, none: true},
		}},
		{name: "refuses other classes", steps: []step{{ask: "version.bind. TXT +ch", rcode: wire.Refused, ede: notSupported, none: true}}},
		{name: "refuses zone transfers", steps: []step{
			{ask: "example.com. AXFR +tcp", rcode: wire.Refused, ede: notSupported, none: true},
			{ask: "example.com. IXFR +tcp", rcode: wire.Refused, ede: notSupported, none: true},
			{ask: "example.com. IXFR +soa", rcode: wire.Refused, ede: notSupported, none: true}, // as RFC 1995 §3 has it
			{ask: "example.com. IXFR +tcp", rcode: wire.Refused, ede: notSupported, none: true},
		}},
		{name: "finds types malformed that cannot be asked for", steps: []step{
			{ask: "example.com. OPT", rcode: wire.FormErr, ede: notSupported, none: true},
			{ask: "example.com. TSIG", rcode: wire.FormErr, ede: notSupported, none: true},
			{ask: "example.com. MAILB", rcode: wire.FormErr, ede: notSupported, none: true},
		}},
		{name: "answers ANY with one record of its own", steps: []step{
			{ask: "example.com. ANY", answer: []string{`example.com. HINFO "RFC8482" ""`}, none: true},
		}},
		{name: "asks for types it does not know", world: func(n *simnet.Net) {
			n.Serve("192.0.2.11", "example.com.", `t.example.com. 300 TYPE65280 \# 4 0A000001`)
		}, steps: []step{{ask: "t.example.com. TYPE65280", rcode: wire.NoError, ttls: []int{300}}}},
	})
}

func TestScenariosMemory(t *testing.T) {
	ttl := func(seconds int) func(n *simnet.Net) {
		return func(n *simnet.Net) {
			n.Serve("192.0.2.11", "example.com.", fmt.Sprintf("t.example.com. %d A 198.51.100.1\nexample.com. %d SOA ns1 host 1 1 1 1 %d", seconds, seconds, seconds))
		}
	}
	play(t, []scenario{
		{name: "does not keep TTL 0", world: ttl(0), steps: []step{
			{ask: "t.example.com. A", ttls: []int{0}},
			{ask: "t.example.com. A", ttls: []int{0}, sent: []string{"192.0.2.11 t.example.com. A"}},
		}},
		{name: "keeps a minimum if told", world: ttl(0), cfg: func(cfg *config.Config) { cfg.Cache.MinTTL = 10 * time.Second }, steps: []step{
			{ask: "t.example.com. A", ttls: []int{10}},
			{after: 9 * time.Second, ask: "t.example.com. A", ttls: []int{1}, none: true},
			{after: 2 * time.Second, ask: "t.example.com. A", ttls: []int{10}, most: 1},
		}},
		{name: "keeps nothing longer than a day", world: ttl(1000000), steps: []step{
			{ask: "t.example.com. A", ttls: []int{86400}},
			{after: 86399 * time.Second, ask: "t.example.com. A", ttls: []int{1}, none: true},
		}},
		{name: "keeps a denial for an hour at most", world: ttl(1000000), steps: []step{
			{ask: "nx.example.com. A", rcode: wire.NXDomain},
			{after: 3599 * time.Second, ask: "nx.example.com. A", rcode: wire.NXDomain, none: true},
			{after: 2 * time.Second, ask: "nx.example.com. A", rcode: wire.NXDomain, most: 1},
		}},
		{name: "keeps one denial apart from the other", steps: []step{
			{ask: "www.example.com. TXT", noAns: true, soa: "example.com."},
			{ask: "www.example.com. SRV", noAns: true, most: 1},
			{ask: "www.example.com. A", answer: wwwAnswer, most: 1},
		}},
		{name: "backs off from what fails", world: func(n *simnet.Net) { n.Break("192.0.2.11", simnet.Rcode(wire.ServFail)) }, steps: []step{
			{ask: "www.example.com. A", rcode: wire.ServFail, ede: unreachable},
			{after: 900 * time.Millisecond, ask: "www.example.com. A", rcode: wire.ServFail, ede: unreachable, none: true},
			{after: 200 * time.Millisecond, ask: "www.example.com. A", rcode: wire.ServFail, most: 1},
			{after: 1900 * time.Millisecond, ask: "www.example.com. A", rcode: wire.ServFail, none: true},
			{after: 200 * time.Millisecond, ask: "www.example.com. A", rcode: wire.ServFail, most: 1},
			{after: 3900 * time.Millisecond, ask: "www.example.com. A", rcode: wire.ServFail, none: true},
			{
				after: 4 * time.Second, ask: "www.example.com. A", answer: wwwAnswer, noEDE: true,
				do: func(n *simnet.Net) { n.Break("192.0.2.11") },
			},
		}},
		{name: "forgives a failure in between", cfg: func(cfg *config.Config) { cfg.Cache.ServeStale.Enabled = false }, world: func(n *simnet.Net) { n.Break("192.0.2.11", simnet.Rcode(wire.ServFail)) }, steps: []step{
			{ask: "www.example.com. AAAA", rcode: wire.ServFail},
			{after: 1100 * time.Millisecond, ask: "www.example.com. AAAA", ttls: []int{60}, do: func(n *simnet.Net) { n.Break("192.0.2.11") }},
			{after: 61 * time.Second, ask: "www.example.com. AAAA", rcode: wire.ServFail, do: func(n *simnet.Net) { n.Break("192.0.2.11", simnet.Rcode(wire.ServFail)) }},
			{after: 1100 * time.Millisecond, ask: "www.example.com. AAAA", rcode: wire.ServFail, most: 1}, // 1 s again, not 2
		}},
		{name: "takes the least TTL of a set", world: func(n *simnet.Net) {
			n.Serve("192.0.2.11", "example.com.", "t.example.com. 300 A 198.51.100.1\nt.example.com. 30 A 198.51.100.2")
		}, steps: []step{{ask: "t.example.com. A", ttls: []int{30, 30}}}}, // RFC 2181 §5.2
	})
}
