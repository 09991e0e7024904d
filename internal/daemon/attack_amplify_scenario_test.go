package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/cache"
	"shirube/internal/config"
	"shirube/internal/ede"
	"shirube/internal/exchange"
	"shirube/internal/rrset"
	"shirube/internal/simnet"
	"shirube/internal/wire"
	"shirube/resolver"
)

// victim serves other.net. in baseWorld.
const victim = "192.0.2.21"

// TestNXNSAttackIsBoundedAtItsVictim: Afek et al., USENIX Security 2020
// (CVE-2020-12662).
func TestNXNSAttackIsBoundedAtItsVictim(t *testing.T) {
	inVictim := func(i int) string { return fmt.Sprintf("n%d.other.net.", i) }
	for _, tt := range []struct {
		name   string
		host   func(i int) string
		zone   string // of the victim
		faults []simnet.Fault
		most   int // queries at the victim
		within time.Duration
	}{
		{name: "names that do not exist", host: inVictim, most: 5, within: time.Second},
		{name: "names without an address", host: inVictim, zone: `*.other.net. 300 TXT "here"`, most: 10, within: time.Second},
		{name: "names that do not exist, three labels deep", host: func(i int) string { return fmt.Sprintf("n.a%d.b%d.other.net.", i, i) }, most: 10, within: time.Second},
		// The four names that they share cost a query each, and each of five hosts two.
		{name: "names without an address, side by side in the depth", host: func(i int) string { return fmt.Sprintf("n%d.a.b.c.d.other.net.", i) }, zone: `*.other.net. 300 TXT "here"`, most: 4 + 10, within: time.Second},
		{name: "a victim that refuses", host: inVictim, faults: []simnet.Fault{simnet.Rcode(wire.Refused)}, most: 10, within: time.Second},
		{name: "a victim that is silent", host: inVictim, faults: []simnet.Fault{simnet.Silent()}, most: 10, within: 6001 * time.Millisecond},
		{name: "names that are the victim itself", host: inVictim, zone: "*.other.net. 300 A " + victim, most: 10, within: time.Second},
	} {
		t.Run(strings.ReplaceAll(tt.name, " ", "-"), func(t *testing.T) {
			inBubble(t, func(_ *config.Config, n *simnet.Net) {
				n.Serve("192.0.2.2", "com.", manyServers("attack.com.", 135, tt.host))
				n.Serve(victim, "other.net.", tt.zone)
				n.Break(victim, tt.faults...)
			}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
				begun := time.Now()
				failed(t, ask(t, p, "www.attack.com. A"), unreachable)
				if got := sentTo(n, victim); got == 0 || got > tt.most {
					t.Errorf("%d queries at the victim, want 1 to %d\n%v", got, tt.most, n.Log())
				}
				if took := time.Since(begun); took > tt.within {
					t.Errorf("took %v, want at most %v", took, tt.within)
				}
				n.ResetLog()
				failed(t, ask(t, p, "www.attack.com. A"), unreachable)
				if len(n.Log()) != 0 {
					t.Errorf("the failure was not remembered:\n%v", n.Log())
				}
			})
		})
	}
}

// Who asks for a thousand names of the same attacker's zone gains nothing: of
// the cut, thirteen servers are remembered, and that they do not exist.
func TestNXNSAttackGainsNothingFromManyNames(t *testing.T) {
	inBubble(t, func(_ *config.Config, n *simnet.Net) {
		n.Serve("192.0.2.2", "com.", manyServers("attack.com.", 135, func(i int) string { return fmt.Sprintf("n%d.other.net.", i) }))
	}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		for i := range 1000 {
			failed(t, ask(t, p, fmt.Sprintf("r%d.attack.com. A", i)), unreachable)
		}
		if got := sentTo(n, victim); got == 0 || got > 13 {
			t.Errorf("%d queries at the victim for 1000 questions, want at most 13", got)
		}
	})
}

// Servers whose names lead to zones with servers whose names lead to the
// victim: the look-ups of one question are bounded, not those of one cut only,
// and those that bring no address more so.
func TestNXNSAttackInTwoStagesIsBoundedByTheLookups(t *testing.T) {
	inBubble(t, func(_ *config.Config, n *simnet.Net) {
		com := manyServers("attack.com.", 135, func(i int) string { return fmt.Sprintf("ns.stage%d.com.", i) })
		for i := range 135 {
			com += manyServers(fmt.Sprintf("stage%d.com.", i), 20, func(j int) string { return fmt.Sprintf("n%d-%d.other.net.", i, j) })
		}
		n.Serve("192.0.2.2", "com.", com)
	}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		begun := time.Now()
		failed(t, ask(t, p, "www.attack.com. A"), unreachable)
		if got, all := sentTo(n, victim), len(n.Log()); got <= 5 || got > 10 || all > 20 {
			t.Errorf("%d queries at the victim, %d in all, want 6 to 10 and at most 20", got, all)
		}
		if lookups := p.Resolver.Stats().Lookups; lookups > 32 {
			t.Errorf("%d look-ups, want at most 32", lookups)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// Addresses of others as glue need no look-ups: thirteen servers, with six
// addresses each, for one question.
func TestNXNSAttackByGlueIsBoundedAtItsVictims(t *testing.T) {
	for name, fault := range map[string]simnet.Fault{"refusing": simnet.Rcode(wire.Refused), "silent": simnet.Silent()} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(_ *config.Config, n *simnet.Net) {
				com := manyServers("attack.com.", 13, func(i int) string { return fmt.Sprintf("n%d.attack.com.", i) })
				for i := range 13 * 6 {
					com += fmt.Sprintf("n%d.attack.com. 3600 A 198.18.0.%d\n", i%13, i+1)
					n.Break(fmt.Sprintf("198.18.0.%d", i+1), fault)
				}
				n.Serve("192.0.2.2", "com.", com)
			}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
				failed(t, ask(t, p, "a.b.c.attack.com. A"), 0)
				victims, queries := 0, 0
				for addr, count := range n.Log().PerServer() {
					if strings.HasPrefix(addr.String(), "198.18.") {
						victims, queries = victims+1, queries+count
					}
				}
				// The name is shown in parts first, and then whole when that fails.
				if victims == 0 || victims > 2*16 || queries > 2*16*3 {
					t.Errorf("%d queries at %d victims, want at most 32", queries, victims)
				}
				t.Logf("%d queries at %d victims", queries, victims)
			})
		})
	}
}

// countingMemory counts the look-ups in a memory: what NRDelegation makes a
// resolver spend its time on.
type countingMemory struct {
	*cache.Memory
	sets, cuts atomic.Int64
}

func (m *countingMemory) Set(n wire.Name, typ wire.Type) (rrset.Set, bool) {
	m.sets.Add(1)
	return m.Memory.Set(n, typ)
}

func (m *countingMemory) AppendAddrs(dst []netip.Addr, n wire.Name, typ wire.Type) []netip.Addr {
	m.sets.Add(1)
	return m.Memory.AppendAddrs(dst, n, typ)
}

func (m *countingMemory) Cut(n wire.Name) *rrset.Cut {
	m.cuts.Add(1)
	return m.Memory.Cut(n)
}

// nrDelegation resolves a name of a zone with count servers of which nothing
// is known, and returns the queries sent and the look-ups in the memory.
func nrDelegation(t *testing.T, count int, fault simnet.Fault) (queries int, looks int64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New()
		baseWorld(n)
		n.Serve("192.0.2.2", "com.", manyServers("attack.com.", count, func(i int) string { return fmt.Sprintf("n%d.other.net.", i) }))
		var hosts strings.Builder
		for i := range count {
			fmt.Fprintf(&hosts, "n%d.other.net. 3600 A 192.0.2.%d\n", i, 100+i%100)
		}
		n.Serve(victim, "other.net.", hosts.String())
		for i := range 100 {
			n.Break(fmt.Sprintf("192.0.2.%d", 100+i), fault)
		}
		memory := &countingMemory{Memory: cache.NewMemory(cache.MemoryOptions{})}
		opt, err := resolverOptions(scenarioConfig(t), n, memory)
		if err != nil {
			t.Fatal(err)
		}
		r, err := resolver.New(opt)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
		defer cancel()
		_, err = r.Resolve(ctx, resolver.Query{Question: wire.Question{Name: "\x03www\x06attack\x03com\x00", Type: wire.TypeA}})
		if e := ede.Of(err); err == nil || e.Code != ede.NoReachableAuthority {
			t.Errorf("resolved to %v, want EDE 22", err)
		}
		queries, looks = len(n.Log()), memory.sets.Load()+memory.cuts.Load()
	})
	return queries, looks
}

// TestNRDelegationCostsNoMoreThanFiveServers: Afek et al., USENIX Security
// 2023 (CVE-2022-3204). The measure is what is counted, not time.
func TestNRDelegationCostsNoMoreThanFiveServers(t *testing.T) {
	for name, fault := range map[string]simnet.Fault{"refusing": simnet.Rcode(wire.Refused), "silent": simnet.Silent()} {
		t.Run(name, func(t *testing.T) {
			baseQueries, baseLooks := nrDelegation(t, 5, fault)
			queries, looks := nrDelegation(t, 1500, fault)
			// Two packets for the long referral, over TCP; three for the way to the hosts.
			if queries > 2+3+5+5*3 {
				t.Errorf("%d queries for 1500 servers, %d for 5", queries, baseQueries)
			}
			if looks > 5*baseLooks {
				t.Errorf("%d look-ups in memory for 1500 servers, %d for 5", looks, baseLooks)
			}
		})
	}
}

func TestScenariosAmplification(t *testing.T) {
	play(t, []scenario{
		{name: "ends infinite delegation by servers without glue", world: func(n *simnet.Net) {
			// iDNS (CVE-2014-8500): each server's name needs a zone whose
			// server's name needs the next.
			var zone strings.Builder
			for i := range 200 {
				fmt.Fprintf(&zone, "z%d.com. 3600 NS ns.z%d.com.\n", i, i+1)
			}
			n.Serve("192.0.2.2", "com.", zone.String())
		}, steps: []step{
			{ask: "www.z0.com. A", rcode: wire.ServFail, ede: unreachable, most: 1 + 8, within: 200 * time.Millisecond},
			{ask: "www.z0.com. A", rcode: wire.ServFail, ede: unreachable, none: true},
		}},
		{name: "ends infinite delegation that branches", world: func(n *simnet.Net) {
			// The same as a tree: five servers a zone, all of them in zones of their own.
			n.Break("192.0.2.2", simnet.Script(func(q wire.Question, _ exchange.Request) *dns.Msg {
				m := new(dns.Msg)
				label := strings.TrimSuffix(q.Name.Tail(2).String(), ".com.")
				for i := range 20 {
					m.Ns = append(m.Ns, simnet.RRs(fmt.Sprintf("%v NS ns.%s%c.com.", q.Name.Tail(2), label, 'a'+i))...)
				}
				return m
			}))
		}, steps: []step{
			{ask: "www.z.com. A", rcode: wire.ServFail, ede: unreachable, most: 1 + 1 + 32, within: time.Second},
		}},
		{name: "ends a delegation one label deeper each time", world: func(n *simnet.Net) {
			depth := 1
			n.Break("192.0.2.2", simnet.Script(func(q wire.Question, _ exchange.Request) *dns.Msg {
				depth++
				m := new(dns.Msg)
				m.Ns = simnet.RRs(q.Name.Tail(min(depth, q.Name.Labels())).String() + " NS ns.com.")
				m.Extra = simnet.RRs("ns.com. A 192.0.2.2")
				return m
			}))
		}, steps: []step{
			{ask: strings.Repeat("x.", 100) + "com. A", rcode: wire.ServFail, ede: unreachable, most: 1 + 17 + 17, within: time.Second},
		}},
		{name: "asks six of the twenty addresses that ten names share", world: func(n *simnet.Net) {
			var zone strings.Builder // CVE-2026-3592
			for i := range 10 {
				fmt.Fprintf(&zone, "self.com. 3600 NS n%d.self.com.\n", i)
				for j := range 20 {
					fmt.Fprintf(&zone, "n%d.self.com. 3600 A 192.0.2.%d\n", i, 100+j)
				}
			}
			n.Serve("192.0.2.2", "com.", zone.String())
			for j := range 20 {
				n.Break(fmt.Sprintf("192.0.2.%d", 100+j), simnet.Rcode(wire.Refused))
			}
		}, steps: []step{
			// The referral comes over TCP in the end.
			{ask: "www.self.com. A", rcode: wire.ServFail, ede: unreachable, most: 1 + 2 + 6, within: 200 * time.Millisecond},
		}},
		{name: "asks a server that is many servers once", world: func(n *simnet.Net) {
			// All names lead to one address, some by glue and some by look-up, of both families.
			var zone strings.Builder
			for i := range 13 {
				fmt.Fprintf(&zone, "self.com. 3600 NS n%d.other.net.\nself.com. 3600 NS n%d.self.com.\nn%d.self.com. 3600 A "+victim+"\n", i, i, i)
			}
			n.Serve("192.0.2.2", "com.", zone.String())
			n.Serve(victim, "other.net.", "*.other.net. 3600 A "+victim)
		}, steps: []step{
			{ask: "www.self.com. A", rcode: wire.ServFail, ede: unreachable, most: 2 + 1 + 2 + 5*2, within: 300 * time.Millisecond},
		}},
	})
}

// camp is a world that composes what each multiplies the work: aliases from
// zone to zone, names of many labels, servers of no use, and servers without
// glue whose names have many labels too (CAMP: Duan et al., USENIX Security
// 2024).
func camp(glueless bool, fault simnet.Fault) func(*config.Config, *simnet.Net) {
	return func(_ *config.Config, n *simnet.Net) {
		var com, hosts strings.Builder
		for i := range 20 {
			for j := range 13 {
				host := fmt.Sprintf("n%d.z%d.com.", j, i)
				if glueless {
					host = fmt.Sprintf("n%d-%d.a.b.c.d.other.net.", i, j)
					fmt.Fprintf(&hosts, "%s 300 A 192.0.2.%d\n", host, 100+j)
				} else {
					fmt.Fprintf(&com, "%s 3600 A 192.0.2.%d\n", host, 100+j)
				}
				fmt.Fprintf(&com, "z%d.com. 3600 NS %s\n", i, host)
			}
			n.Serve("192.0.2.112", fmt.Sprintf("z%d.com.", i), fmt.Sprintf("a.b.c.d.e.f.g.h.z%d.com. 0 CNAME a.b.c.d.e.f.g.h.z%d.com.", i, i+1))
		}
		n.Serve("192.0.2.2", "com.", com.String())
		n.Serve(victim, "other.net.", hosts.String())
		for j := range 12 {
			n.Break(fmt.Sprintf("192.0.2.%d", 100+j), fault)
		}
	}
}

func TestCAMPCostsAHundredQueries(t *testing.T) {
	for _, tt := range []struct {
		name     string
		glueless bool
		fault    simnet.Fault
	}{
		{"with glue, refusing", false, simnet.Rcode(wire.Refused)},
		{"with glue, silent", false, simnet.Silent()},
		{"with glue, formerr", false, simnet.Rcode(wire.FormErr)},
		{"without glue, refusing", true, simnet.Rcode(wire.Refused)},
	} {
		t.Run(strings.ReplaceAll(tt.name, " ", "-"), func(t *testing.T) {
			inBubble(t, camp(tt.glueless, tt.fault), func(t *testing.T, p *Pipeline, n *simnet.Net) {
				begun := time.Now()
				failed(t, ask(t, p, "a.b.c.d.e.f.g.h.z0.com. A"), unreachable)
				if got := len(n.Log()); got == 0 || got > 100 {
					t.Errorf("%d queries, want at most 100", got)
				}
				if took := time.Since(begun); took > 6001*time.Millisecond {
					t.Errorf("took %v", took)
				}
				if most := mostOfOne(n); most > 3 {
					t.Errorf("%d sends of one question to one server, want at most 3", most)
				}
			})
		})
	}
}

// TestBytesOfOneQuestionAreBounded: answers of 60 KB over TCP, as many as the
// resolver can be made to fetch (CVE-2026-24027).
func TestBytesOfOneQuestionAreBounded(t *testing.T) {
	const limit, message = 256 << 10, 64 << 10
	var padding []dns.RR
	for i := range 240 {
		padding = append(padding, simnet.RRs(fmt.Sprintf("p%d.pad.test. TXT %s", i, strings.Repeat("x", 200)))...)
	}
	pad := func(received *atomic.Int64) simnet.Fault {
		return func(req exchange.Request, r *simnet.Reply) {
			r.Msg.Extra = append(append([]dns.RR{}, padding...), r.Msg.Extra...)
			if req.TCP {
				received.Add(int64(r.Msg.Len()))
			} else {
				r.Msg.Truncated = true
				r.Msg.Answer, r.Msg.Ns, r.Msg.Extra = nil, nil, nil
			}
		}
	}
	for name, world := range map[string]func(n *simnet.Net){
		"aliases": chain(11),
		"refusing servers": func(n *simnet.Net) {
			var com strings.Builder
			for i := range 13 {
				fmt.Fprintf(&com, "example.com. 3600 NS n%d.example.com.\nn%d.example.com. 3600 A 192.0.2.%d\n", i, i, 100+i)
				n.Join("192.0.2.11", fmt.Sprintf("192.0.2.%d", 100+i))
			}
			n.Serve("192.0.2.2", "com.", com.String())
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			var received atomic.Int64
			inBubble(t, func(_ *config.Config, n *simnet.Net) {
				world(n)
				faults := []simnet.Fault{pad(&received)}
				if name != "aliases" {
					faults = []simnet.Fault{simnet.Rcode(wire.Refused), faults[0]}
				}
				n.Break("192.0.2.11", faults...)
				n.Break("192.0.2.21", faults...)
			}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
				begun := time.Now()
				failed(t, ask(t, p, "n0.example.com. A"), unreachable)
				if got := received.Load(); got < limit/2 || got > limit+message {
					t.Errorf("%d octets received, want at most %d and the message that is too much", got, limit)
				}
				if most := mostOfOne(n); most > 1 {
					t.Errorf("%d sends of one question", most)
				}
				if took := time.Since(begun); took > time.Second {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}
