package daemon

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/exchange"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// random reports whether a question is one of the attacker's: for a name that
// nobody asked about before, so that its answer is in no cache.
func random(req exchange.Request) bool { return strings.HasPrefix(req.Question.Name.String(), "r") }

// TestForgedAnswerChangesNothingButTheNameAskedAbout: Kaminsky's attack
// (CVE-2008-1447) wins a race for the answer about a random name. All that the
// forged answer says besides must be lost.
func TestForgedAnswerChangesNothingButTheNameAskedAbout(t *testing.T) {
	const poison = "203.0.113.66"
	set := func(rcode int, answer, authority, additional string) func(m *dns.Msg) {
		return func(m *dns.Msg) {
			name := m.Question[0].Name
			fill := func(text string) []dns.RR { return simnet.RRs(strings.ReplaceAll(text, "@", name)) }
			opt := m.IsEdns0()
			m.Rcode, m.Authoritative = rcode, true
			m.Answer, m.Ns, m.Extra = fill(answer), fill(authority), append(fill(additional), opt)
		}
	}
	const (
		own  = "@ 9999 A " + poison
		ns   = "example.com. 9999 NS ns1.example.com."
		glue = "ns1.example.com. 9999 A " + evil
		www  = "www.example.com. 9999 A " + poison
		all  = ns + "\ncom. 9999 NS ns.evil.com.\n. 9999 NS ns.evil.com.\nwww.example.com. 9999 NS ns1.example.com."
		more = glue + "\n" + www + "\nns.com. 9999 A " + evil + "\nns.evil.com. 9999 A " + evil
	)
	for _, tt := range []struct {
		name   string
		forge  func(m *dns.Msg)
		rcodes []wire.Rcode // one of them; of the name asked about
	}{
		{"glue for the zone's servers", set(0, own, ns, glue), []wire.Rcode{wire.NoError}},
		{"delegations of all zones around", set(0, own, all, more), []wire.Rcode{wire.NoError}},
		{"another name in the answer", set(0, own+"\n"+www, "", ""), []wire.Rcode{wire.NoError}},
		{"an alias and the data of its target", set(0, "@ 9999 CNAME www.example.com.\n"+www, ns, glue), []wire.Rcode{wire.NoError}},
		{"an alias to another zone, with data", set(0, "@ 9999 CNAME www.other.net.\nwww.other.net. 9999 A "+poison, "other.net. 9999 NS ns.evil.com.", more), []wire.Rcode{wire.NoError}},
		{"a DNAME of the whole zone", set(0, "example.com. 9999 DNAME evil.example.com.\n@ 9999 CNAME r.evil.example.com.", ns, glue), []wire.Rcode{wire.NoError, wire.NXDomain, wire.ServFail}},
		{"a wildcard in the answer", set(0, own+"\n*.example.com. 9999 A "+poison, "", ""), []wire.Rcode{wire.NoError}},
		{"a denial of the zone above", set(dns.RcodeNameError, "", "com. 9999 SOA ns.evil.com. h.evil.com. 1 1 1 1 9999", more), []wire.Rcode{wire.NXDomain, wire.ServFail}},
		{"a denial with the zone's SOA", set(dns.RcodeNameError, "", "example.com. 9999 SOA ns1.example.com. h.example.com. 1 1 1 1 9999\n"+ns, more), []wire.Rcode{wire.NXDomain}},
		{"a denial with an NSEC record over all names", set(dns.RcodeNameError, "", "example.com. 9999 SOA ns1.example.com. h.example.com. 1 1 1 1 9999\nexample.com. 9999 NSEC example.com. A", ""), []wire.Rcode{wire.NXDomain}},
		{"a delegation of the name", set(0, "", "@ 9999 NS ns1.example.com.", glue), []wire.Rcode{wire.NoError, wire.NXDomain, wire.ServFail}},
		{"a delegation of the zone itself", set(0, "", ns, glue), []wire.Rcode{wire.ServFail, wire.NoError}},
		{"a delegation of the zone above", set(0, "", "com. 9999 NS ns.evil.com.", "ns.evil.com. 9999 A "+evil), []wire.Rcode{wire.ServFail, wire.NoError}},
	} {
		t.Run(strings.ReplaceAll(tt.name, " ", "-"), func(t *testing.T) {
			inBubble(t, func(_ *config.Config, n *simnet.Net) {
				serveEvil(n)
				n.Break("192.0.2.11", simnet.Mutate(tt.forge).If(random))
			}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
				for i := range 20 {
					m := ask(t, p, fmt.Sprintf("r%d.example.com. A", i))
					if m == nil || !slices.Contains(tt.rcodes, wire.Rcode(m.Rcode)) {
						t.Fatalf("response %v, want one of %v", m, tt.rcodes)
					}
				}
				if got := len(n.Log()); got > 2+20*5 {
					t.Errorf("%d queries for twenty names", got)
				}
				unharmed(t, p, n)
			})
		})
	}
}

// unharmed checks that all that baseWorld has is resolved as ever, on the
// usual way from the cuts that are known, and that memory has nothing forged.
func unharmed(t *testing.T, p *Pipeline, n *simnet.Net) {
	t.Helper()
	fail := func(format string, args ...any) { t.Helper(); t.Errorf(format, args...) }
	for _, name := range []string{"*.example.com.", "ns.evil.com.", "ns.com.", "com.", "ns1.example.com.", "www.example.com."} {
		for _, typ := range []wire.Type{wire.TypeA, wire.TypeNS, wire.TypeDNAME, wire.TypeSOA} {
			if remembers(p, name, typ) {
				t.Errorf("%s %v is in memory", name, typ)
			}
		}
	}
	if remembers(p, "example.com.", wire.TypeDNAME) || remembers(p, "example.com.", wire.TypeNS) || remembers(p, "example.com.", wire.TypeSOA) {
		t.Error("forged records of example.com. are in memory")
	}
	n.ResetLog()
	checkResponse(ask(t, p, "www.example.com. A"), step{answer: wwwAnswer, ttls: []int{300, 300}}, fail)
	checkResponse(ask(t, p, "ns1.example.com. A"), step{answer: []string{"ns1.example.com. A 192.0.2.11"}}, fail)
	checkResponse(ask(t, p, "none.example.com. A"), step{rcode: wire.NXDomain, soa: "example.com."}, fail)
	checkResponse(ask(t, p, "www.other.net. A"), step{answer: []string{"www.other.net. A 198.51.100.9"}}, fail)
	checkResponse(ask(t, p, "a.com. A"), step{rcode: wire.NXDomain, soa: "com."}, fail)
	want := []string{
		"192.0.2.11 www.example.com. A", "192.0.2.11 ns1.example.com. A", "192.0.2.11 none.example.com. A",
		"192.0.2.1 net. A", "192.0.2.3 other.net. A", "192.0.2.21 www.other.net. A", "192.0.2.2 a.com. A",
	}
	// Less than that if a forged alias led to other.net. before.
	got := n.Questions()
	if len(got) > len(want) || sentTo(n, evil) > 0 {
		t.Errorf("sent\n  %s\nwant at most\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestScenariosForgery(t *testing.T) {
	forged := func(text string) simnet.Fault {
		return simnet.Mutate(func(m *dns.Msg) { m.Answer = simnet.RRs(text) })
	}
	poisoned := "www.example.com. 9999 A 203.0.113.66"
	play(t, []scenario{
		{name: "does not wait for a late answer nor believe it", world: func(n *simnet.Net) {
			late := func(_ exchange.Request, r *simnet.Reply) { r.After = 3 * time.Second }
			n.Break("192.0.2.11", simnet.Fault(func(req exchange.Request, r *simnet.Reply) {
				forged(poisoned)(req, r)
				late(req, r)
			}).If(simnet.First(1)))
		}, steps: []step{
			{ask: "www.example.com. A", answer: wwwAnswer, sent: []string{"192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.11 www.example.com. A", "192.0.2.11 www.example.com. A"}, within: 500 * time.Millisecond},
			{after: 5 * time.Second, ask: "www.example.com. A", answer: wwwAnswer, none: true},
		}},
		{name: "takes the good answer of another server after garbage", world: broken(simnet.Malformed()), steps: []step{
			{ask: "www.example.com. A", answer: wwwAnswer, most: 4, within: 50 * time.Millisecond},
		}},
		{name: "takes the good answer of another server after a late one", world: broken(simnet.Latency(5*time.Second, 0), forged(poisoned)), steps: []step{
			{ask: "www.example.com. A", answer: wwwAnswer, most: 4, within: 450 * time.Millisecond},
		}},
		{name: "believes no data of another class", world: func(n *simnet.Net) {
			n.Break("192.0.2.11", simnet.Mutate(func(m *dns.Msg) {
				for i, rr := range m.Answer {
					m.Answer[i] = dns.Copy(rr)
					m.Answer[i].Header().Class = dns.ClassCHAOS
				}
			}).If(simnet.Question("www.example.com.", wire.TypeA)))
		}, steps: []step{
			{ask: "www.example.com. A", noAns: true, most: 2 + 3},
			{ask: "www.example.com. AAAA", answer: []string{"www.example.com. AAAA 2001:db8::1"}, most: 1},
		}},
		{name: "believes no alias beside other data", world: func(n *simnet.Net) {
			n.Break("192.0.2.11", forged("www.example.com. 300 A 203.0.113.66\nwww.example.com. 300 CNAME mail.example.com.").If(simnet.Question("www.example.com.", wire.TypeA)))
			n.Serve("192.0.2.11", "example.com.", "www.example.com. 300 A 198.51.100.1\nmail.example.com. 300 A 198.51.100.4")
		}, steps: []step{
			// The alias is followed, the data beside it is not looked at.
			{ask: "www.example.com. A", answer: []string{"www.example.com. CNAME mail.example.com.", "mail.example.com. A 198.51.100.4"}, most: 4},
		}},
		{name: "believes no two aliases of one name", world: func(n *simnet.Net) {
			n.Break("192.0.2.11", forged("www.example.com. 300 CNAME a.example.com.\nwww.example.com. 300 CNAME b.example.com.\na.example.com. 300 A 203.0.113.66"))
		}, steps: []step{
			{ask: "www.example.com. A", rcode: wire.ServFail, ede: unreachable, most: 2 + 3},
		}},
		{name: "believes no server beside the referral", world: func(n *simnet.Net) {
			serveEvil(n) // CVE-2026-42960: glue for a name that the referral does not name
			n.Break("192.0.2.2", simnet.Mutate(func(m *dns.Msg) {
				m.Extra = append(simnet.RRs("www.example.com. 9999 A 203.0.113.66\nmail.example.com. 9999 A 203.0.113.66\nns.com. 9999 A "+evil+"\nns.other.net. 9999 A "+evil+"\nns1.other.com. 9999 A "+evil), m.Extra...)
				m.Ns = append(m.Ns, simnet.RRs("other.net. 9999 NS ns1.other.com.")...)
			}).If(simnet.Below("example.com.")))
		}, steps: []step{
			{ask: "www.example.com. A", answer: wwwAnswer, sent: []string{"192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.11 www.example.com. A"}},
			{ask: "a.com. A", rcode: wire.NXDomain, sent: []string{"192.0.2.2 a.com. A"}},
			{ask: "www.other.net. A", answer: []string{"www.other.net. A 198.51.100.9"}, sent: []string{"192.0.2.1 net. A", "192.0.2.3 other.net. A", "192.0.2.21 www.other.net. A"}},
		}},
		{name: "takes the one referral that the question is about", world: func(n *simnet.Net) {
			serveEvil(n)
			n.Break("192.0.2.2", simnet.Mutate(func(m *dns.Msg) {
				m.Ns = append(m.Ns, simnet.RRs("other.com. 9999 NS ns1.example.com.")...)
			}).If(simnet.Below("example.com.")))
		}, steps: []step{
			{ask: "www.example.com. A", answer: wwwAnswer, most: 1 + 2},
			{ask: "www.other.com. A", rcode: wire.NXDomain, sent: []string{"192.0.2.2 other.com. A", "192.0.2.2 www.other.com. A"}},
		}},
		{name: "never asks an address that leads back, be it looked up", world: func(n *simnet.Net) {
			n.Serve("192.0.2.2", "com.", "inward.com. 3600 NS ns.other.net.")
			n.Serve(victim, "other.net.", `
ns.other.net. 300 A 127.0.0.1
ns.other.net. 300 A 127.255.255.254
ns.other.net. 300 A 0.0.0.0
ns.other.net. 300 A 0.1.2.3
ns.other.net. 300 A 224.0.0.251
ns.other.net. 300 A 240.0.0.1
ns.other.net. 300 A 255.255.255.255
ns.other.net. 300 A 169.254.1.1
ns.other.net. 300 AAAA ::
ns.other.net. 300 AAAA ::1
ns.other.net. 300 AAAA ff02::fb
ns.other.net. 300 AAAA fe80::1
ns.other.net. 300 AAAA ::ffff:127.0.0.1
ns.other.net. 300 AAAA ::ffff:192.0.2.1
`)
		}, steps: []step{
			{ask: "www.inward.com. A", rcode: wire.ServFail, ede: unreachable, sent: []string{
				"192.0.2.1 com. A", "192.0.2.2 inward.com. A", "192.0.2.1 net. A", "192.0.2.3 other.net. A", victim + " ns.other.net. A", victim + " ns.other.net. AAAA",
				victim + " www.inward.com. A", // where net. says that the server is
			}},
			{ask: "more.inward.com. A", rcode: wire.ServFail, ede: unreachable, sent: []string{victim + " more.inward.com. A"}},
		}},
		{name: "finds the one address among those that lead back", world: func(n *simnet.Net) {
			n.Serve("192.0.2.2", "com.", `
mixed.com. 3600 NS ns.mixed.com.
ns.mixed.com. 3600 A 127.0.0.1
ns.mixed.com. 3600 A 0.0.0.0
ns.mixed.com. 3600 A 192.0.2.41
ns.mixed.com. 3600 AAAA ::1
`)
			n.Serve("192.0.2.41", "mixed.com.", "www.mixed.com. 300 A 198.51.100.41")
		}, steps: []step{
			{ask: "www.mixed.com. A", answer: []string{"www.mixed.com. A 198.51.100.41"}, sent: []string{"192.0.2.1 com. A", "192.0.2.2 mixed.com. A", "192.0.2.41 www.mixed.com. A"}},
		}},
	})
}

// TestScenariosMaginotDNSDenials is about what TestScenariosMaginotDNS leaves:
// that a forwarder cannot deny what is not its own.
func TestScenariosMaginotDNSDenials(t *testing.T) {
	deny := func(soa string) func(n *simnet.Net) {
		return func(n *simnet.Net) {
			corp(n)
			serveEvil(n)
			n.Break("192.0.2.100", recursive(), simnet.Mutate(func(m *dns.Msg) {
				m.Answer, m.Rcode = nil, dns.RcodeNameError
				m.Ns = simnet.RRs(soa + " 9999 SOA ns.evil.com. h.evil.com. 1 1 1 1 9999\n" + soa + " 9999 NS ns.evil.com.\ncom. 9999 NS ns.evil.com.")
				m.Extra = append(simnet.RRs("ns.evil.com. 9999 A "+evil), m.Extra...)
			}))
		}
	}
	steps := []step{
		{ask: "r1.corp.example. A", rcode: wire.NXDomain, sent: []string{"192.0.2.100 r1.corp.example. A"}},
		{ask: "www.example.com. A", answer: wwwAnswer, sent: []string{"192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.11 www.example.com. A"}},
		{ask: "example. A", rcode: wire.NXDomain, soa: ".", sent: []string{"192.0.2.1 example. A"}},
		{ask: "www.other.net. A", answer: []string{"www.other.net. A 198.51.100.9"}, most: 3},
	}
	inside := forward("corp.example.", "192.0.2.100")
	play(t, []scenario{
		{name: "believes a forwarder no denial of the root", world: deny("."), cfg: inside, steps: steps},
		{name: "believes a forwarder no denial of a zone beside", world: deny("com."), cfg: inside, steps: steps[1:]},
		{name: "believes a forwarder no denial of the zone above", world: deny("example."), cfg: inside, steps: steps},
	})
}
