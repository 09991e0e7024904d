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

// remembers reports whether p's resolver holds anything of name and typ.
func remembers(p *Pipeline, name string, typ wire.Type) bool {
	set, ok := p.Memory.Set(wire.MustParseName(name), typ)
	return ok && len(set.RRs) > 0
}

// TestCacheFlushPutsNothingUnneededIntoMemory: one response with hundreds of
// records that a zone may say, and that nobody asked about (CacheFlush: USENIX
// Security 2024).
func TestCacheFlushPutsNothingUnneededIntoMemory(t *testing.T) {
	types := map[string]wire.Type{"%s 86400 A 198.51.100.66": wire.TypeA, "%s 86400 TXT filler": wire.TypeTXT, "%s 86400 NS ns.example.com.": wire.TypeNS, "%s 86400 MX 1 mx.example.com.": wire.TypeMX}
	owner := func(i int) string { return fmt.Sprintf("u%d.example.com.", i) }
	fill := func(section *[]dns.RR) {
		var unneeded []dns.RR
		for i := range 100 {
			for text := range types {
				unneeded = append(unneeded, simnet.RRs(fmt.Sprintf(text, owner(i)))...)
			}
		}
		*section = append(unneeded, *section...) // the OPT record stays where it is
	}
	for _, tt := range []struct {
		name  string
		spec  string
		rcode wire.Rcode
		into  func(m *dns.Msg) *[]dns.RR
	}{
		{"answer", "www.example.com. A +tcp", wire.NoError, func(m *dns.Msg) *[]dns.RR { return &m.Answer }},
		{"authority", "www.example.com. A +tcp", wire.NoError, func(m *dns.Msg) *[]dns.RR { return &m.Ns }},
		{"additional", "www.example.com. A +tcp", wire.NoError, func(m *dns.Msg) *[]dns.RR { return &m.Extra }},
		{"denial", "none.example.com. A +tcp", wire.NXDomain, func(m *dns.Msg) *[]dns.RR { return &m.Extra }},
		{"NS set", "example.com. NS +tcp", wire.NoError, func(m *dns.Msg) *[]dns.RR { return &m.Extra }},
	} {
		t.Run(strings.ReplaceAll(tt.name, " ", "-"), func(t *testing.T) {
			inBubble(t, func(_ *config.Config, n *simnet.Net) {
				n.Break("192.0.2.11", simnet.Mutate(func(m *dns.Msg) { fill(tt.into(m)) }))
			}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
				m := ask(t, p, tt.spec)
				if m == nil || wire.Rcode(m.Rcode) != tt.rcode || len(m.Answer) > 2 || len(m.Ns)+len(m.Extra) > 3 {
					t.Errorf("response %v", m)
				}
				if len(n.Log()) != 4 { // once over UDP, truncated
					t.Errorf("sent\n%v", n.Log())
				}
				sets, cuts := p.Memory.Stats().Sets.Entries, p.Memory.Stats().Cuts.Entries
				if sets > 1 || cuts != 2 { // what was asked about; com. and example.com.
					t.Errorf("%d sets and %d cuts in memory, want 1 and 2", sets, cuts)
				}
				for i := range 100 {
					for _, typ := range types {
						if remembers(p, owner(i), typ) {
							t.Fatalf("%s %v is in memory", owner(i), typ)
						}
					}
				}
				n.ResetLog()
				if m := ask(t, p, "u1.example.com. AAAA"); m == nil || wire.Rcode(m.Rcode) != wire.NXDomain || sentTo(n, "192.0.2.11") == 0 {
					t.Errorf("got %v, sent %v", m, n.Log())
				}
			})
		})
	}
}

func TestLargestReferralLeavesOneCutInMemory(t *testing.T) {
	inBubble(t, func(_ *config.Config, n *simnet.Net) {
		var zone strings.Builder
		for i := range 400 {
			fmt.Fprintf(&zone, "big.com. 86400 NS n%d.big.com.\n", i)
			for j := range 2 {
				fmt.Fprintf(&zone, "n%d.big.com. 86400 A 198.18.%d.%d\n", i, j, 1+i%250)
			}
		}
		n.Serve("192.0.2.2", "com.", zone.String())
	}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		failed(t, ask(t, p, "www.big.com. A"), unreachable)
		if got := len(n.Log()); got > 3+13*2*3 {
			t.Errorf("%d queries", got)
		}
		cut := p.Memory.Cut(wire.MustParseName("www.big.com."))
		if cut == nil || cut.Zone != wire.MustParseName("big.com.") || len(cut.Servers) != 13 {
			t.Errorf("the cut is %v", cut)
		}
		if stats := p.Memory.Stats(); stats.Sets.Entries != 0 || stats.Cuts.Entries != 2 {
			t.Errorf("in memory: %+v", stats)
		}
	})
}

// allTTLs makes a server give all its records one TTL.
func allTTLs(ttl uint32) simnet.Fault {
	return simnet.Mutate(func(m *dns.Msg) {
		for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
			for i, rr := range section {
				if rr.Header().Rrtype != dns.TypeOPT {
					section[i] = dns.Copy(rr)
					section[i].Header().Ttl = ttl
				}
			}
		}
	})
}

func everyTTL(ttl uint32) func(n *simnet.Net) {
	return func(n *simnet.Net) {
		for _, addr := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.11", "192.0.2.21"} {
			n.Break(addr, allTTLs(ttl))
		}
	}
}

func TestScenariosAttackOnTTLs(t *testing.T) {
	walk := []string{"192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.11 www.example.com. A"}
	glueless := func(n *simnet.Net) {
		n.Serve("192.0.2.2", "com.", "glueless.com. 0 NS ns.other.net.")
		n.Serve("192.0.2.21", "glueless.com.", "www.glueless.com. 0 A 198.51.100.20")
		everyTTL(0)(n)
	}
	play(t, []scenario{
		{name: "keeps a TTL of sixty-eight years for a day", world: everyTTL(1<<31 - 1), steps: []step{
			{ask: "www.example.com. A", answer: wwwAnswer, ttls: []int{86400, 86400}, sent: walk},
			{after: 24*time.Hour - time.Second, ask: "www.example.com. A", ttls: []int{1, 1}, none: true},
			{after: time.Second, ask: "www.example.com. A", answer: wwwAnswer, sent: walk}, // the cuts have ended too
		}},
		{name: "keeps no TTL with the top bit set", world: everyTTL(1 << 31), steps: []step{ // RFC 2181 §8
			{ask: "www.example.com. A", answer: wwwAnswer, ttls: []int{0, 0}, sent: walk},
			{ask: "www.example.com. A", answer: wwwAnswer, ttls: []int{0, 0}, sent: walk},
		}},
		{name: "keeps no TTL of all ones", world: everyTTL(1<<32 - 1), steps: []step{
			{ask: "www.example.com. A", answer: wwwAnswer, ttls: []int{0, 0}, sent: walk},
			{ask: "none.example.com. A", rcode: wire.NXDomain, most: 3},
			{ask: "none.example.com. A", rcode: wire.NXDomain, most: 3},
		}},
		{name: "resolves where every TTL is zero", world: everyTTL(0), steps: []step{
			{ask: "www.example.com. A", answer: wwwAnswer, ttls: []int{0, 0}, sent: walk, within: 30 * time.Millisecond},
			{ask: "www.example.com. A", answer: wwwAnswer, sent: walk},
			{ask: "alias.example.com. A", answer: []string{"alias.example.com. CNAME www.other.net.", "www.other.net. A 198.51.100.9"}, most: 6},
			{ask: "none.example.com. A", rcode: wire.NXDomain, most: 3},
		}},
		{name: "resolves without glue where every TTL is zero", world: glueless, steps: []step{
			{ask: "www.glueless.com. A", answer: []string{"www.glueless.com. A 198.51.100.20"}, ttls: []int{0}, most: 6, within: 60 * time.Millisecond},
			{ask: "www.glueless.com. A", answer: []string{"www.glueless.com. A 198.51.100.20"}, most: 6},
		}},
		{name: "remembers a failure where every TTL is zero", world: func(n *simnet.Net) {
			everyTTL(0)(n)
			n.Break("192.0.2.11", simnet.Rcode(wire.Refused))
		}, steps: []step{
			{ask: "www.example.com. A", rcode: wire.ServFail, ede: unreachable, sent: walk},
			{after: 999 * time.Millisecond, ask: "www.example.com. A", rcode: wire.ServFail, none: true},
			{after: time.Millisecond, ask: "www.example.com. A", rcode: wire.ServFail, most: 3},
			{after: 1999 * time.Millisecond, ask: "www.example.com. A", rcode: wire.ServFail, none: true},
		}},
	})
}

// revoked takes the delegation of ghost.com. back, as its registry would.
func revoked(n *simnet.Net) {
	n.Serve("192.0.2.2", "com.", "com. 900 SOA ns.com. host.com. 1 1800 900 604800 60")
}

// ghost is a zone that its parent grants ten minutes, and which does all that
// a child can do to live on: its own NS set with other names, addresses and
// TTLs in each answer, and zones below, each with servers of its own.
func ghost(n *simnet.Net) {
	n.Serve("192.0.2.2", "com.", `
com. 900 SOA ns.com. host.com. 1 1800 900 604800 60
ghost.com. 600 NS ns.ghost.com.
ns.ghost.com. 600 A 192.0.2.31
`)
	n.Serve("192.0.2.31", "ghost.com.", `
ghost.com. 864000 NS ns.ghost.com.
ghost.com. 864000 NS new.ghost.com.
ns.ghost.com. 864000 A 192.0.2.31
new.ghost.com. 864000 A 192.0.2.31
*.ghost.com. 1 A 198.51.100.66
sub.ghost.com. 864000 NS ns.sub.ghost.com.
ns.sub.ghost.com. 864000 A 192.0.2.32
`)
	n.Serve("192.0.2.32", "sub.ghost.com.", `
sub.ghost.com. 864000 NS ns.sub.ghost.com.
ns.sub.ghost.com. 864000 A 192.0.2.32
*.sub.ghost.com. 1 A 198.51.100.66
deep.sub.ghost.com. 864000 NS ns.deep.sub.ghost.com.
ns.deep.sub.ghost.com. 864000 A 192.0.2.33
`)
	n.Serve("192.0.2.33", "deep.sub.ghost.com.", "*.deep.sub.ghost.com. 1 A 198.51.100.66")
	promote := simnet.Mutate(func(m *dns.Msg) {
		if len(m.Answer) > 0 && m.Answer[0].Header().Rrtype != dns.TypeNS {
			m.Ns = append(m.Ns, simnet.RRs("ghost.com. 864000 NS new.ghost.com.\ncom. 864000 NS new.ghost.com.")...)
			m.Extra = append(m.Extra, simnet.RRs("new.ghost.com. 864000 A 192.0.2.31\nns.com. 864000 A 192.0.2.31")...)
		}
	})
	n.Break("192.0.2.31", promote)
	n.Break("192.0.2.32", promote)
}

func TestScenariosGhostDomain(t *testing.T) {
	dead := func(after time.Duration, names ...string) []step {
		var steps []step
		for i, name := range names {
			st := step{ask: name, rcode: wire.NXDomain, most: 2}
			if i == 0 {
				st.after = after
			}
			steps = append(steps, st)
		}
		return steps
	}
	play(t, []scenario{
		{name: "lets no child live on by its own NS set", world: ghost, steps: append([]step{ // NDSS 2012; CVE-2012-1033
			{ask: "a.ghost.com. A", rcode: wire.NoError, most: 3},
			{do: revoked, after: 300 * time.Second, ask: "ghost.com. NS", rcode: wire.NoError, sent: []string{"192.0.2.31 ghost.com. NS"}},
			{after: 290 * time.Second, ask: "new.ghost.com. A", rcode: wire.NoError, most: 1},
			{after: 9 * time.Second, ask: "b.ghost.com. A", rcode: wire.NoError, sent: []string{"192.0.2.31 b.ghost.com. A"}},
		}, dead(1001*time.Millisecond, "c.ghost.com. A", "ghost.com. MX", "d.sub.ghost.com. A")...)},
		{name: "lets no child live on by questions all the time", world: func(n *simnet.Net) {
			ghost(n)
		}, steps: func() []step {
			steps := []step{{ask: "a.ghost.com. A", most: 3}}
			for i := range 59 { // phoenix, T1: a refresh each ten seconds
				steps = append(steps, step{do: revoked, after: 10 * time.Second, ask: fmt.Sprintf("n%d.ghost.com. A", i), rcode: wire.NoError, sent: []string{fmt.Sprintf("192.0.2.31 n%d.ghost.com. A", i)}})
			}
			return append(steps, dead(11*time.Second, "z.ghost.com. A")...)
		}()},
		{name: "lets no zone below outlive its ancestors", world: ghost, steps: append([]step{ // phoenix, T2: NDSS 2023, CVE-2022-30698
			{ask: "a.sub.ghost.com. A", rcode: wire.NoError, most: 4},
			{do: revoked, after: 590 * time.Second, ask: "a.deep.sub.ghost.com. A", rcode: wire.NoError, sent: []string{"192.0.2.32 deep.sub.ghost.com. A", "192.0.2.33 a.deep.sub.ghost.com. A"}},
			{after: 9 * time.Second, ask: "b.deep.sub.ghost.com. A", rcode: wire.NoError, sent: []string{"192.0.2.33 b.deep.sub.ghost.com. A"}},
		}, dead(1001*time.Millisecond, "c.deep.sub.ghost.com. A", "c.sub.ghost.com. A", "deep.sub.ghost.com. NS")...)},
		{name: "lets no zone live on by servers that it names elsewhere", world: func(n *simnet.Net) {
			ghost(n)
			n.Serve("192.0.2.31", "ghost.com.", "*.ghost.com. 1 A 198.51.100.66\nsub.ghost.com. 864000 NS ns.other.net.")
			n.Serve("192.0.2.21", "other.net.", "ns.other.net. 864000 A 192.0.2.32")
		}, steps: append([]step{
			{ask: "a.sub.ghost.com. A", rcode: wire.NoError},
			{do: revoked, after: 599 * time.Second, ask: "b.sub.ghost.com. A", rcode: wire.NoError, sent: []string{"192.0.2.32 b.sub.ghost.com. A"}},
		}, dead(1001*time.Millisecond, "c.sub.ghost.com. A")...)},
		{name: "moves with the parent's new delegation", world: ghost, steps: []step{
			{ask: "a.ghost.com. A", most: 3},
			{do: func(n *simnet.Net) {
				n.Serve("192.0.2.2", "com.", "ghost.com. 600 NS ns.other.net.")
				n.Serve("192.0.2.21", "ghost.com.", "*.ghost.com. 1 A 198.51.100.99")
				n.Serve("192.0.2.21", "other.net.", "ns.other.net. 300 A 192.0.2.21")
			}, after: 599 * time.Second, ask: "b.ghost.com. A", answer: []string{"b.ghost.com. A 198.51.100.66"}, most: 1},
			{after: 1001 * time.Millisecond, ask: "c.ghost.com. A", answer: []string{"c.ghost.com. A 198.51.100.99"}, most: 6},
		}},
	})
}
