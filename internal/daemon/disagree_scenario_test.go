package daemon

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// noGlue drops the additional section of referrals to zone.
func noGlue(zone string) simnet.Fault {
	return simnet.Mutate(func(m *dns.Msg) { m.Extra = nil }).If(simnet.Question(zone, wire.TypeA))
}

// TestScenariosParentAndChildDisagree is about zones whose servers are not
// where they are said to be: by the parent, or by the zone itself.
func TestScenariosParentAndChildDisagree(t *testing.T) {
	play(t, []scenario{
		{name: "asks the parent for glue that is missing and keeps it", world: func(n *simnet.Net) {
			n.Serve("192.0.2.2", "com.", "inside.com. 3600 NS ns.inside.com.\nns.inside.com. 3600 A 192.0.2.51")
			n.Break("192.0.2.2", noGlue("inside.com."))
			n.Serve("192.0.2.51", "inside.com.", "www.inside.com. 300 A 198.51.100.51\nmail.inside.com. 300 A 198.51.100.52")
		}, steps: []step{
			{ask: "www.inside.com. A", answer: []string{"www.inside.com. A 198.51.100.51"}, sent: []string{
				"192.0.2.1 com. A", "192.0.2.2 inside.com. A", "192.0.2.2 ns.inside.com. A", "192.0.2.51 www.inside.com. A",
			}},
			{ask: "mail.inside.com. A", answer: []string{"mail.inside.com. A 198.51.100.52"}, sent: []string{"192.0.2.51 mail.inside.com. A"}},
		}},
		{name: "asks the parent for the glue of the very name in question", world: func(n *simnet.Net) {
			n.Serve("192.0.2.2", "com.", "inside.com. 3600 NS ns.inside.com.\nns.inside.com. 3600 A 192.0.2.51")
			n.Break("192.0.2.2", noGlue("inside.com."))
			n.Serve("192.0.2.51", "inside.com.", "ns.inside.com. 300 A 192.0.2.51")
		}, steps: []step{
			{ask: "ns.inside.com. A", answer: []string{"ns.inside.com. A 192.0.2.51"}, ttls: []int{300}, sent: []string{
				"192.0.2.1 com. A", "192.0.2.2 inside.com. A", "192.0.2.2 ns.inside.com. A", "192.0.2.51 ns.inside.com. A",
			}},
		}},
		{name: "asks the parent for the glue of five servers at most", world: func(n *simnet.Net) {
			var zone strings.Builder
			for i := range 13 {
				fmt.Fprintf(&zone, "inside.com. 3600 NS n%d.inside.com.\n", i)
			}
			n.Serve("192.0.2.2", "com.", zone.String())
		}, steps: []step{
			{ask: "www.inside.com. A", rcode: wire.ServFail, ede: unreachable, most: 2 + 2*5},
		}},
		{name: "goes back to the parent's glue when the child's address is wrong", world: func(n *simnet.Net) {
			n.Serve("192.0.2.2", "com.", "moved.com. 3600 NS ns.other.net.")
			n.Serve("192.0.2.21", "other.net.", "ns.other.net. 3600 A 192.0.2.55")
			n.Serve("192.0.2.21", "moved.com.", "www.moved.com. 300 A 198.51.100.53")
			n.Break("192.0.2.55", simnet.Rcode(wire.ServFail))
		}, steps: []step{
			{ask: "www.moved.com. A", answer: []string{"www.moved.com. A 198.51.100.53"}, sent: []string{
				"192.0.2.1 com. A", "192.0.2.2 moved.com. A", "192.0.2.1 net. A", "192.0.2.3 other.net. A", "192.0.2.21 ns.other.net. A",
				"192.0.2.55 www.moved.com. A", "192.0.2.21 www.moved.com. A",
			}},
		}},
		{name: "turns to the servers that the zone itself named while it was reached", world: func(n *simnet.Net) {
			n.Serve("192.0.2.2", "com.", "more.com. 600 NS ns.more.com.\nns.more.com. 600 A 192.0.2.54")
			for _, addr := range []string{"192.0.2.54", "192.0.2.21"} {
				n.Serve(addr, "more.com.", `
more.com. 86400 NS ns.more.com.
more.com. 86400 NS ns.other.net.
www.more.com. 60 A 198.51.100.54
mail.more.com. 60 A 198.51.100.55
`)
			}
			n.Break("192.0.2.54", simnet.Mutate(func(m *dns.Msg) {
				m.Ns = simnet.RRs("more.com. 86400 NS ns.more.com.\nmore.com. 86400 NS ns.other.net.")
			}))
		}, steps: []step{
			{ask: "www.more.com. A", answer: []string{"www.more.com. A 198.51.100.54"}, most: 3},
			{
				do:  func(n *simnet.Net) { n.Break("192.0.2.54", simnet.Rcode(wire.ServFail)) },
				ask: "mail.more.com. A", answer: []string{"mail.more.com. A 198.51.100.55"}, sent: []string{
					"192.0.2.54 mail.more.com. A", "192.0.2.1 net. A", "192.0.2.3 other.net. A", "192.0.2.21 ns.other.net. A", "192.0.2.21 mail.more.com. A",
				},
			},
			{ask: "more.com. NS", answer: []string{"more.com. NS ns.more.com.", "more.com. NS ns.other.net."}, sent: []string{
				"192.0.2.54 more.com. NS", "192.0.2.21 more.com. NS", // what was said in passing answers nobody
			}},
			{ // what the zone says of itself ends with its parent's word
				after: 601 * time.Second, ask: "mail.more.com. A", rcode: wire.NXDomain, sent: []string{"192.0.2.2 more.com. A", "192.0.2.2 mail.more.com. A"},
				do: func(n *simnet.Net) {
					n.Serve("192.0.2.2", "com.", "com. 900 SOA ns.com. host.com. 1 1800 900 604800 60")
				},
			},
		}},
		{name: "asks the parent again when the zone says so", world: func(n *simnet.Net) {
			// As before a move: the child's TTL is 5 minutes, the parent's a day.
			n.Serve("192.0.2.2", "com.", "moving.com. 86400 NS ns.moving.com.\nns.moving.com. 86400 A 192.0.2.56")
			for i, addr := range []string{"192.0.2.56", "192.0.2.57"} {
				n.Serve(addr, "moving.com.", fmt.Sprintf("*.moving.com. 60 A 198.51.100.%d", 56+i))
				n.Break(addr, simnet.Mutate(func(m *dns.Msg) { m.Ns = simnet.RRs("moving.com. 300 NS ns.moving.com.") }))
			}
		}, steps: []step{
			{ask: "a.moving.com. A", answer: []string{"a.moving.com. A 198.51.100.56"}, most: 3},
			{after: 299 * time.Second, ask: "b.moving.com. A", answer: []string{"b.moving.com. A 198.51.100.56"}, sent: []string{"192.0.2.56 b.moving.com. A"}},
			{
				do: func(n *simnet.Net) {
					n.Serve("192.0.2.2", "com.", "moving.com. 86400 NS ns.moving.com.\nns.moving.com. 86400 A 192.0.2.57")
				},
				after: time.Second, ask: "c.moving.com. A", answer: []string{"c.moving.com. A 198.51.100.57"},
				sent: []string{"192.0.2.2 moving.com. A", "192.0.2.57 c.moving.com. A"},
			},
		}},
		{name: "asks the parent once a minute at most, whatever the zone says", world: func(n *simnet.Net) {
			n.Break("192.0.2.11", simnet.Mutate(func(m *dns.Msg) { m.Ns = simnet.RRs("example.com. 0 NS ns1.example.com.") }))
		}, steps: []step{
			{ask: "www.example.com. A", most: 3},
			{after: 59 * time.Second, ask: "www.example.com. AAAA", sent: []string{"192.0.2.11 www.example.com. AAAA"}},
			{after: time.Second, ask: "example.com. MX", sent: []string{"192.0.2.2 example.com. MX", "192.0.2.11 example.com. MX"}},
		}},
		{name: "looks up the root's servers when the root does not say where they are", cfg: func(cfg *config.Config) {
			cfg.Resolver.PrimeRoot = true
		}, world: func(n *simnet.Net) {
			n.Break("192.0.2.1", simnet.Mutate(func(m *dns.Msg) {
				m.Answer = simnet.RRs(". 518400 NS m.root-servers.net.")
				m.Extra = nil
			}).If(simnet.Question(".", wire.TypeNS)), simnet.Mutate(func(m *dns.Msg) {
				m.Authoritative, m.Rcode, m.Ns, m.Extra = true, 0, nil, nil
				m.Answer = simnet.RRs("m.root-servers.net. 518400 A 192.0.2.1")
			}).If(simnet.Question("m.root-servers.net.", wire.TypeA)))
		}, steps: []step{
			{ask: "com. NS", sent: []string{"192.0.2.1 . NS", "192.0.2.1 m.root-servers.net. A", "192.0.2.1 com. NS", "192.0.2.2 com. NS"}},
			{after: time.Hour, ask: "net. A", sent: []string{"192.0.2.1 net. A", "192.0.2.3 net. A"}},
		}},
	})
}
