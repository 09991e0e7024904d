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

// twoServers gives example.com a second server, with the same zone as the
// first.
func twoServers(n *simnet.Net) {
	n.Serve("192.0.2.2", "com.", `
com. 900 SOA ns.com. host.com. 1 1800 900 604800 900
example.com. 172800 NS ns1.example.com.
example.com. 172800 NS ns2.example.com.
ns1.example.com. 172800 A 192.0.2.11
ns2.example.com. 172800 A 192.0.2.12
`)
	n.Join("192.0.2.11", "192.0.2.12")
}

var wwwAnswer = []string{"www.example.com. A 198.51.100.1", "www.example.com. A 198.51.100.2"}

// broken is a world of two servers of which the first has a fault.
func broken(faults ...simnet.Fault) func(n *simnet.Net) {
	return func(n *simnet.Net) {
		twoServers(n)
		for i, f := range faults {
			faults[i] = f.If(simnet.At("192.0.2.11"))
		}
		n.Break("192.0.2.11", faults...)
	}
}

func TestScenariosServers(t *testing.T) {
	answered := func(within time.Duration) []step {
		return []step{{ask: "www.example.com. A", answer: wwwAnswer, within: within, most: 4, noEDE: true}}
	}
	play(t, []scenario{
		{name: "tries the next server on REFUSED", world: broken(simnet.Rcode(wire.Refused)), steps: answered(50 * time.Millisecond)},
		{name: "tries the next server on SERVFAIL", world: broken(simnet.Rcode(wire.ServFail)), steps: answered(50 * time.Millisecond)},
		{name: "tries the next server on an empty answer", world: broken(simnet.NoAA(), simnet.Empty()), steps: answered(50 * time.Millisecond)},
		{name: "tries the next server on an authoritative empty answer", world: broken(simnet.Empty()), steps: answered(50 * time.Millisecond)},
		{name: "believes an empty answer if there is no other", world: func(n *simnet.Net) { n.Break("192.0.2.11", simnet.Empty()) }, steps: []step{
			{ask: "www.example.com. A", rcode: wire.NoError, noAns: true, noEDE: true},
			{ask: "www.example.com. A", rcode: wire.NoError, noAns: true, most: 1}, // nothing says how long it holds
		}},
		{name: "tries the next server on a resolver's denial", world: broken(simnet.Mutate(func(m *dns.Msg) {
			m.Answer, m.Authoritative, m.RecursionAvailable, m.Rcode = nil, false, true, dns.RcodeNameError
			m.Ns = simnet.RRs("example.com. SOA ns1.example.com. host.example.com. 1 1 1 1 1")
		})), steps: answered(50 * time.Millisecond)},
		{name: "tries the next server on a malformed answer", world: broken(simnet.Malformed()), steps: answered(50 * time.Millisecond)},
		{name: "tries the next server on a closed port", world: broken(simnet.Unreachable()), steps: answered(50 * time.Millisecond)},
		{name: "tries the next server on silence", world: broken(simnet.Silent()), steps: answered(450 * time.Millisecond)},
		{name: "tries the next server on a referral upwards", world: broken(simnet.ReferUp()), steps: answered(50 * time.Millisecond)},
		{name: "asks again without EDNS on FORMERR", world: func(n *simnet.Net) {
			n.Break("192.0.2.11", simnet.Rcode(wire.FormErr).If(simnet.EDNS))
		}, steps: []step{
			{ask: "www.example.com. A", answer: wwwAnswer, most: 4},
			{ask: "example.com. MX", most: 2},  // it might have been forged
			{ask: "example.com. TXT", most: 1}, // it is remembered
		}},
		{name: "asks again without EDNS on NOTIMP", world: func(n *simnet.Net) {
			n.Break("192.0.2.11", simnet.Rcode(wire.NotImp).If(simnet.EDNS))
		}, steps: []step{{ask: "www.example.com. A", answer: wwwAnswer, most: 4}}},
		{name: "takes a truncated answer over TCP", world: func(n *simnet.Net) {
			n.Break("192.0.2.11", simnet.Truncate())
		}, steps: []step{
			{ask: "www.example.com. A", answer: wwwAnswer, sent: []string{"192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.11 www.example.com. A", "192.0.2.11 www.example.com. A"}},
		}},
		{name: "does not ask a refusing server again and again", world: func(n *simnet.Net) {
			n.Break("192.0.2.11", simnet.Rcode(wire.Refused))
		}, steps: []step{{ask: "www.example.com. A", rcode: wire.ServFail, ede: unreachable, most: 2 + 1}}},
		{name: "asks a silent server three times at most", world: func(n *simnet.Net) {
			n.Break("192.0.2.11", simnet.Silent())
		}, steps: []step{{ask: "www.example.com. A", rcode: wire.ServFail, ede: unreachable, most: 2 + 3, within: 6100 * time.Millisecond}}},
		{name: "says that nothing can be reached", world: func(n *simnet.Net) {
			n.Break("192.0.2.1", simnet.Unreachable())
		}, steps: []step{{ask: "www.example.com. A", rcode: wire.ServFail, ede: network, most: 2}}},
		{name: "ends in time", world: func(n *simnet.Net) {
			var zone strings.Builder
			for i := range 13 {
				fmt.Fprintf(&zone, "slow.com. 3600 NS n%d.slow.com.\nn%d.slow.com. 3600 A 192.0.2.%d\n", i, i, 100+i)
			}
			n.Serve("192.0.2.2", "com.", zone.String())
		}, cfg: func(cfg *config.Config) { cfg.Resolver.Timeout = 3 * time.Second }, steps: []step{
			{ask: "www.slow.com. A", rcode: wire.ServFail, ede: unreachable, within: 3001 * time.Millisecond},
		}},
		{name: "bounds the queries for one question", world: func(n *simnet.Net) {
			// CAMP: a chain of aliases, each behind a cut of its own with many
			// names to minimise and servers that refuse.
			var com strings.Builder
			for i := range 12 {
				for j := range 13 {
					fmt.Fprintf(&com, "z%d.com. 3600 NS n%d.z%d.com.\nn%d.z%d.com. 3600 A 192.0.2.%d\n", i, j, i, j, i, 100+j)
				}
			}
			n.Serve("192.0.2.2", "com.", com.String())
			for i := range 12 {
				n.Serve("192.0.2.100", fmt.Sprintf("z%d.com.", i), fmt.Sprintf("a.b.c.d.e.f.g.h.z%d.com. 3600 CNAME a.b.c.d.e.f.g.h.z%d.com.", i, i+1))
			}
			for j := 1; j < 13; j++ {
				n.Break(fmt.Sprintf("192.0.2.%d", 100+j), simnet.Rcode(wire.Refused))
			}
		}, steps: []step{{ask: "a.b.c.d.e.f.g.h.z0.com. A", rcode: wire.ServFail, most: 100}}},
		{name: "prefers the faster server", world: func(n *simnet.Net) {
			twoServers(n)
			n.Break("192.0.2.11", simnet.Latency(900*time.Millisecond, 0).If(simnet.At("192.0.2.11")))
		}, steps: []step{
			{ask: "www.example.com. A", answer: wwwAnswer}, // within the band of an unknown server: either may be asked
			{ask: "example.com. MX", within: 1000 * time.Millisecond},
		}},
		{name: "keeps no data from a server for other zones", world: func(n *simnet.Net) {
			n.Break("192.0.2.11", simnet.Mutate(func(m *dns.Msg) {
				m.Answer = append(m.Answer, simnet.RRs("www.other.net. 9999 A 203.0.113.66")...)
				m.Ns = append(m.Ns, simnet.RRs("net. 9999 NS ns.evil.net.\nother.net. 9999 NS ns.evil.net.\ncom. 9999 NS ns.evil.net.")...)
				m.Extra = append(m.Extra, simnet.RRs("ns.evil.net. 9999 A 192.0.2.66\nns.other.net. 9999 A 192.0.2.66")...)
			}))
			n.Serve("192.0.2.66", ".", "www.other.net. A 203.0.113.66")
		}, steps: []step{
			{ask: "www.example.com. A", answer: wwwAnswer},
			{ask: "www.other.net. A", answer: []string{"www.other.net. A 198.51.100.9"}, most: 3},
			{ask: "example.com. MX", answer: []string{"example.com. MX 10 mail.example.com."}, most: 1},
		}},
		{name: "keeps no data for names that an answer leads to", world: func(n *simnet.Net) {
			n.Serve("192.0.2.2", "com.", `
com. 900 SOA ns.com. host.com. 1 1800 900 604800 900
example.com. 172800 NS ns1.example.com.
ns1.example.com. 172800 A 192.0.2.11
spoofed.com. 300 CNAME www.example.com.
`)
			n.Break("192.0.2.2", simnet.Mutate(func(m *dns.Msg) {
				m.Answer = append(m.Answer, simnet.RRs("www.example.com. 9999 A 203.0.113.66")...)
			}).If(simnet.Question("spoofed.com.", wire.TypeA)))
		}, steps: []step{
			{ask: "spoofed.com. A", rcode: wire.NoError},
			{ask: "www.example.com. A", answer: wwwAnswer},
			// Nor are they believed when it is known whose word counts.
			{after: 301 * time.Second, ask: "spoofed.com. A", answer: append([]string{"spoofed.com. CNAME www.example.com."}, wwwAnswer...)},
		}},
		{name: "keeps no delegation from an answer", world: func(n *simnet.Net) {
			n.Break("192.0.2.11", simnet.Mutate(func(m *dns.Msg) { // promiscuous NS, CVE-2025-11411
				m.Ns = append(m.Ns, simnet.RRs("example.com. 9999 NS ns.evil.example.com.")...)
				m.Extra = append(m.Extra, simnet.RRs("ns.evil.example.com. 9999 A 192.0.2.66")...)
			}))
		}, steps: []step{
			{ask: "www.example.com. A", answer: wwwAnswer},
			{ask: "www.example.com. AAAA", sent: []string{"192.0.2.11 www.example.com. AAAA"}},
		}},
	})
}

func TestScenariosMinimisation(t *testing.T) {
	off := func(cfg *config.Config) { cfg.Resolver.QNameMinimisation = config.MinimisationOff }
	strict := func(cfg *config.Config) { cfg.Resolver.QNameMinimisation = config.MinimisationStrict }
	deny := func(n *simnet.Net) { n.Break("192.0.2.11", simnet.DenyEmptyNonTerminals()) }
	deep := []string{"a.b.c.d.example.com. A 198.51.100.3"}
	play(t, []scenario{
		{name: "shows each server one label more", steps: []step{{
			ask: "a.b.c.d.example.com. A", answer: deep, sent: []string{
				"192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.11 d.example.com. A",
				"192.0.2.11 c.d.example.com. A", "192.0.2.11 b.c.d.example.com. A", "192.0.2.11 a.b.c.d.example.com. A",
			},
		}}},
		{name: "shows everything if switched off", cfg: off, steps: []step{{
			ask: "a.b.c.d.example.com. A", answer: deep,
			sent: []string{"192.0.2.1 a.b.c.d.example.com. A", "192.0.2.2 a.b.c.d.example.com. A", "192.0.2.11 a.b.c.d.example.com. A"},
		}}},
		{name: "shows the full name to a server that denies a part", world: deny, steps: []step{{
			ask: "a.b.c.d.example.com. A", answer: deep,
			sent: []string{"192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.11 d.example.com. A", "192.0.2.11 a.b.c.d.example.com. A"},
		}}},
		{name: "believes the denial of a part if strict", cfg: strict, world: deny, steps: []step{{
			ask: "a.b.c.d.example.com. A", rcode: wire.NXDomain, noAns: true,
			sent: []string{"192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.11 d.example.com. A"},
		}}},
		{name: "shows the full name to servers that refuse a part", world: func(n *simnet.Net) {
			n.Break("192.0.2.11", simnet.Rcode(wire.Refused).If(simnet.Question("d.example.com.", wire.TypeA)))
		}, steps: []step{{ask: "a.b.c.d.example.com. A", answer: deep, most: 4}}},
		{name: "is not led astray by an alias on the way", world: func(n *simnet.Net) {
			n.Serve("192.0.2.11", "example.com.", "mid.example.com. 300 CNAME www.other.net.\nwww.mid.example.com. 300 A 198.51.100.60")
		}, steps: []step{{ask: "www.mid.example.com. A", answer: []string{"www.mid.example.com. A 198.51.100.60"}, most: 4}}},
		{name: "asks ten times at most for a long name", steps: []step{{
			ask: strings.Repeat("x.", 60) + "example.com. A", rcode: wire.NXDomain, most: 12,
		}}},
	})
}
