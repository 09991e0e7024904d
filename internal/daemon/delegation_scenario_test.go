package daemon

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/ede"
	"shirube/internal/exchange"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

const (
	unreachable = int(ede.NoReachableAuthority) + 1 // as step.ede has it
	network     = int(ede.NetworkError) + 1
	other       = int(ede.Other) + 1
)

func TestScenariosDelegation(t *testing.T) {
	play(t, []scenario{
		{name: "looks up a server without glue", world: func(n *simnet.Net) {
			n.Serve("192.0.2.2", "com.", "glueless.com. 3600 NS ns.other.net.")
			n.Serve("192.0.2.21", "glueless.com.", "www.glueless.com. 300 A 198.51.100.20")
		}, steps: []step{
			{
				ask: "www.glueless.com. A", answer: []string{"www.glueless.com. A 198.51.100.20"},
				sent: []string{
					"192.0.2.1 com. A", "192.0.2.2 glueless.com. A", "192.0.2.1 net. A", "192.0.2.3 other.net. A",
					"192.0.2.21 ns.other.net. A", "192.0.2.21 www.glueless.com. A",
				},
			},
			{ask: "more.glueless.com. A", rcode: wire.NXDomain, sent: []string{"192.0.2.21 more.glueless.com. A"}},
		}},
		{name: "gives up on servers that depend on themselves", world: func(n *simnet.Net) {
			n.Serve("192.0.2.2", "com.", "loop.com. 3600 NS ns.loop.net.")
			n.Serve("192.0.2.3", "net.", "loop.net. 3600 NS ns.loop.com.")
		}, steps: []step{
			{ask: "www.loop.com. A", rcode: wire.ServFail, ede: unreachable, most: 8, within: 200 * time.Millisecond},
			{ask: "www.loop.com. A", rcode: wire.ServFail, ede: unreachable, none: true},
		}},
		{name: "asks the parent alone for a server inside the zone without glue", world: func(n *simnet.Net) {
			n.Serve("192.0.2.2", "com.", "inside.com. 3600 NS ns.inside.com.")
		}, steps: []step{
			{ask: "www.inside.com. A", rcode: wire.ServFail, ede: unreachable, sent: []string{"192.0.2.1 com. A", "192.0.2.2 inside.com. A", "192.0.2.2 ns.inside.com. A", "192.0.2.2 ns.inside.com. AAAA"}},
		}},
		{name: "bounds what a referral to many servers without glue costs", world: func(n *simnet.Net) {
			var zone strings.Builder
			for i := range 100 { // NXNSAttack: all of them in the victim's zone
				fmt.Fprintf(&zone, "attack.com. 3600 NS n%d.other.net.\n", i)
			}
			n.Serve("192.0.2.2", "com.", zone.String())
		}, steps: []step{
			{ask: "www.attack.com. A", rcode: wire.ServFail, ede: unreachable, most: 2 + 2 + 10},
		}},
		{name: "refuses a chain of referrals that does not end", cfg: func(cfg *config.Config) {
			cfg.Resolver.QNameMinimisation = config.MinimisationOff
		}, world: func(n *simnet.Net) {
			depth := 1 // the server refers to itself, one label deeper each time
			n.Break("192.0.2.2", simnet.Script(func(q wire.Question, _ exchange.Request) *dns.Msg {
				depth++
				m := new(dns.Msg)
				m.Ns = simnet.RRs(q.Name.Tail(depth).String() + " NS ns.com.")
				m.Extra = simnet.RRs("ns.com. A 192.0.2.2")
				return m
			}))
		}, steps: []step{
			{ask: "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.u.v.w.x.y.z.com. A", rcode: wire.ServFail, ede: unreachable, most: 1 + 17 + 17},
		}},
		{name: "does not follow a referral upwards", world: func(n *simnet.Net) {
			n.Break("192.0.2.11", simnet.ReferUp())
		}, steps: []step{{ask: "www.example.com. A", rcode: wire.ServFail, ede: unreachable, most: 4}}},
		{name: "does not follow a referral sideways", world: func(n *simnet.Net) {
			n.Break("192.0.2.11", simnet.Refer("other.net. NS ns.other.net.\nns.other.net. A 192.0.2.66"))
		}, steps: []step{{ask: "www.example.com. A", rcode: wire.ServFail, ede: unreachable, most: 4}}},
		{name: "does not follow a referral to the zone itself", world: func(n *simnet.Net) {
			n.Break("192.0.2.11", simnet.Refer("example.com. NS ns1.example.com.\nns1.example.com. A 192.0.2.11"))
		}, steps: []step{{ask: "www.example.com. A", rcode: wire.ServFail, ede: unreachable, most: 4}}},
		{name: "passes a parent and child on one server", world: func(n *simnet.Net) {
			n.Serve("192.0.2.2", "both.com.", "www.both.com. 300 A 198.51.100.30")
		}, steps: []step{{ask: "www.both.com. A", answer: []string{"www.both.com. A 198.51.100.30"}, most: 3}}},
		{name: "asks the parent for a DS record", world: func(n *simnet.Net) {
			n.Serve("192.0.2.2", "com.", `
com. 900 SOA ns.com. host.com. 1 1800 900 604800 900
example.com. 172800 NS ns1.example.com.
example.com. 300 DS 1 13 2 0000000000000000000000000000000000000000000000000000000000000000
ns1.example.com. 172800 A 192.0.2.11
`)
		}, steps: []step{
			{ask: "www.example.com. A", most: 3},
			{
				ask: "example.com. DS", sent: []string{"192.0.2.2 example.com. DS"},
				answer: []string{"example.com. DS 1 13 2 0000000000000000000000000000000000000000000000000000000000000000"},
			},
			{ask: "com. DS", noAns: true, sent: []string{"192.0.2.1 com. DS"}},
		}},
		{name: "lets a delegation end with its parent", world: func(n *simnet.Net) {
			// The parent gives 10 minutes; the child claims 10 days for itself.
			n.Serve("192.0.2.2", "com.", `
com. 900 SOA ns.com. host.com. 1 1800 900 604800 60
ghost.com. 600 NS ns.ghost.com.
ns.ghost.com. 600 A 192.0.2.31
`)
			n.Serve("192.0.2.31", "ghost.com.", `
ghost.com. 864000 NS ns.ghost.com.
ns.ghost.com. 864000 A 192.0.2.31
*.ghost.com. 1 A 198.51.100.66
`)
		}, steps: []step{
			{ask: "www.ghost.com. A", most: 3},
			{after: 500 * time.Second, ask: "ghost.com. NS", sent: []string{"192.0.2.31 ghost.com. NS"}},
			{
				after: 90 * time.Second, ask: "b.ghost.com. A", sent: []string{"192.0.2.31 b.ghost.com. A"},
				do: func(n *simnet.Net) {
					n.Serve("192.0.2.2", "com.", "com. 900 SOA ns.com. host.com. 1 1800 900 604800 60")
				},
			},
			{after: 11 * time.Second, ask: "c.ghost.com. A", rcode: wire.NXDomain},
		}},
		{name: "does not use glue that is out of bailiwick", world: func(n *simnet.Net) {
			n.Break("192.0.2.2", simnet.Mutate(func(m *dns.Msg) {
				m.Ns = simnet.RRs("example.com. NS ns.other.net.")
				m.Extra = append(simnet.RRs("ns.other.net. A 192.0.2.66"), m.Extra[len(m.Extra)-1])
			}).If(simnet.Below("example.com.")))
			n.Serve("192.0.2.21", "example.com.", "www.example.com. 300 A 198.51.100.40")
			n.Serve("192.0.2.66", "example.com.", "www.example.com. 300 A 203.0.113.66")
		}, steps: []step{{ask: "www.example.com. A", answer: []string{"www.example.com. A 198.51.100.40"}}}},
		{name: "never gives glue as an answer", steps: []step{
			{ask: "www.example.com. A", most: 3},
			{ask: "ns1.example.com. A", answer: []string{"ns1.example.com. A 192.0.2.11"}, ttls: []int{3600}, sent: []string{"192.0.2.11 ns1.example.com. A"}},
		}},
		{name: "asks a server over IPv6", world: func(n *simnet.Net) {
			n.Serve("192.0.2.2", "com.", "six.com. 3600 NS ns.six.com.\nns.six.com. 3600 AAAA 2001:db8::53")
			n.Serve("2001:db8::53", "six.com.", "www.six.com. 300 A 198.51.100.50")
		}, steps: []step{{ask: "www.six.com. A", answer: []string{"www.six.com. A 198.51.100.50"}, most: 3}}},
		{name: "does without IPv6 if it is switched off", cfg: func(cfg *config.Config) { cfg.Resolver.IPv6 = false }, world: func(n *simnet.Net) {
			n.Serve("192.0.2.2", "com.", "six.com. 3600 NS ns.six.com.\nns.six.com. 3600 AAAA 2001:db8::53")
		}, steps: []step{{ask: "www.six.com. A", rcode: wire.ServFail, ede: unreachable, most: 2}}},
		{name: "never asks a loopback address", world: func(n *simnet.Net) {
			n.Serve("192.0.2.2", "com.", `
inward.com. 3600 NS ns.inward.com.
ns.inward.com. 3600 A 127.0.0.1
ns.inward.com. 3600 A 0.0.0.0
ns.inward.com. 3600 A 224.0.0.1
ns.inward.com. 3600 A 255.255.255.255
ns.inward.com. 3600 AAAA ::1
ns.inward.com. 3600 AAAA ::
ns.inward.com. 3600 AAAA fe80::1
ns.inward.com. 3600 AAAA ::ffff:127.0.0.1
`)
		}, steps: []step{{ask: "www.inward.com. A", rcode: wire.ServFail, ede: unreachable, sent: []string{"192.0.2.1 com. A", "192.0.2.2 inward.com. A"}}}},
		{name: "asks many names of one address once", world: func(n *simnet.Net) {
			var zone strings.Builder
			for i := range 10 {
				fmt.Fprintf(&zone, "same.com. 3600 NS n%d.same.com.\nn%d.same.com. 3600 A 192.0.2.41\n", i, i)
			}
			n.Serve("192.0.2.2", "com.", zone.String())
			n.Break("192.0.2.41", simnet.Rcode(wire.Refused))
		}, steps: []step{{ask: "www.same.com. A", rcode: wire.ServFail, ede: unreachable, most: 2 + 1 + 1}}},
	})
}

func TestScenariosPriming(t *testing.T) {
	primed := func(cfg *config.Config) { cfg.Resolver.PrimeRoot = true }
	play(t, []scenario{
		{name: "asks the root for its servers first", cfg: primed, steps: []step{
			{
				ask:  "www.example.com. A",
				sent: []string{"192.0.2.1 . NS", "192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.11 www.example.com. A"},
			},
			{ask: "www.other.net. A", sent: []string{"192.0.2.1 net. A", "192.0.2.3 other.net. A", "192.0.2.21 www.other.net. A"}},
			// The root's NS set has come to its end: after a day at most.
			{after: 24*time.Hour + time.Second, ask: "xyz. A", rcode: wire.NXDomain, sent: []string{"192.0.2.1 . NS", "192.0.2.1 xyz. A"}},
		}},
		{name: "goes on with the hints if the root does not say", cfg: primed, world: func(n *simnet.Net) {
			n.Break("192.0.2.1", simnet.Rcode(wire.Refused).If(simnet.Type(wire.TypeNS)))
		}, steps: []step{
			{ask: "www.example.com. A", sent: []string{"192.0.2.1 . NS", "192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.11 www.example.com. A"}},
			{ask: "www.other.net. A", sent: []string{"192.0.2.1 net. A", "192.0.2.3 other.net. A", "192.0.2.21 www.other.net. A"}},
		}},
		{name: "uses what the root says instead of the hints", cfg: primed, world: func(n *simnet.Net) {
			n.Serve("192.0.2.1", ".", ". 518400 NS new.root.\nnew.root. 518400 A 192.0.2.9")
			n.Serve("192.0.2.9", ".", "com. 172800 NS ns.com.\nns.com. 172800 A 192.0.2.2")
		}, steps: []step{
			{ask: "www.example.com. A", sent: []string{"192.0.2.1 . NS", "192.0.2.9 com. A", "192.0.2.2 example.com. A", "192.0.2.11 www.example.com. A"}},
		}},
	})
}
