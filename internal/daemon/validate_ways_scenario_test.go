package daemon

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/exchange"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// forwarder is where a resolver is that is forwarded to.
const forwarder = "192.0.2.53"

// serveForwarder puts a resolver at forwarder that does not validate, and knows
// all of signedWorld with site.com. Faults are what it does wrong.
func serveForwarder(n *simnet.Net, s simnet.Signing, faults ...simnet.Fault) {
	signed := func(zone, text string, s simnet.Signing) { n.ServeSigned(forwarder, zone, text, s) }
	ds := func(zone string) string { return simnet.NewKey(zone, simnet.KeyOptions{}).DS() }
	signed(".", delegation("com.", ds("com."), comServer)+delegation("net.", ds("net."), netServer)+delegation("org.", "", orgServer), simnet.Signing{})
	signed("com.", delegation("example.com.", ds("example.com."), exampleCom)+delegation("site.com.", ds("site.com."), siteCom), simnet.Signing{})
	signed("net.", delegation("other.net.", ds("other.net."), otherNet)+delegation("bare.net.", "", bareNet), simnet.Signing{Denial: simnet.NSEC3})
	signed("example.com.", siteOf("example.com."), simnet.Signing{})
	signed("site.com.", siteOf("site.com."), s)
	signed("other.net.", siteOf("other.net."), simnet.Signing{Denial: simnet.NSEC3})
	for _, zone := range []string{"bare.net.", "plain.org.", "org."} {
		n.Serve(forwarder, zone, siteOf(zone))
	}
	n.Break(forwarder, append(faults, simnet.Mutate(func(m *dns.Msg) { m.Authoritative, m.RecursionAvailable = false, true }))...)
}

// only makes cfg ask nobody but a forwarder.
var only = forward(".", forwarder)

// behind makes a pipeline of its own answer for the forwarder.
func behind(t *testing.T, n *simnet.Net, change func(cfg *config.Config)) *Pipeline {
	t.Helper()
	cfg := scenarioConfig(t)
	if change != nil {
		change(&cfg)
	}
	p, err := NewPipeline(cfg, n, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	n.Break(forwarder, simnet.Script(func(q wire.Question, req exchange.Request) *dns.Msg {
		spec := q.Name.String() + " " + q.Type.String() + " +do +tcp"
		if req.CD {
			spec += " +cd"
		}
		return ask(t, p, spec)
	}))
	return p
}

func TestValidationThroughForwarders(t *testing.T) {
	const www = "www.example.com. A 198.51.100.1"
	secure := []string{www}
	fw := func(faults ...simnet.Fault) func(n *simnet.Net) {
		return func(n *simnet.Net) { serveForwarder(n, simnet.Signing{}, faults...) }
	}
	unsigned := stripped(dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3)
	playSigned(t, []scenario{
		{name: "one that does not validate", world: fw(), cfg: only, steps: []step{
			{ask: "www.example.com. A +ad", answer: secure, ad: true, most: 8},
			{ask: "other.example.com. A +ad", ad: true, most: 1},
			{ask: "nosuch.example.com. A +ad", rcode: wire.NXDomain, ad: true, most: 1},
			{ask: "x.wild.example.com. TXT +ad", ad: true, most: 1},
			{ask: "to-secure.example.com. A +ad", ad: true, most: 6},
			{ask: "www.bare.net. A +ad", most: 5},
			{ask: "to-insecure.example.com. A +ad", most: 3},
			{ask: "www.moved.example.com. A +ad", ad: true, most: 2},
			{ask: "nosuch.bare.net. A +ad", rcode: wire.NXDomain, most: 3},
			{ask: "www.plain.org. A +ad", most: 4},
		}},
		{name: "one that drops signatures", world: fw(unsigned), cfg: only, steps: []step{
			{ask: "www.example.com. A", rcode: wire.ServFail, ede: 10 + 1, most: 12},
			{ask: "nosuch.example.com. A", rcode: wire.ServFail, most: 12},
			{ask: "www.example.com. A +cd", answer: secure},
		}},
		{name: "one that drops the signatures of answers", world: fw(unsigned.If(simnet.Type(wire.TypeA))), cfg: only, steps: []step{
			{ask: "www.example.com. A", rcode: wire.ServFail, ede: 10 + 1, most: 12},
			{ask: "www.bare.net. A", answer: []string{"www.bare.net. A 198.51.100.1"}, most: 12},
		}},
		{name: "one that changes answers", world: fw(damaged(dns.TypeA)), cfg: only, steps: []step{
			{ask: "www.example.com. A", rcode: wire.ServFail, ede: 6 + 1, most: 12},
			{ask: "www.bare.net. A", answer: []string{"www.bare.net. A 198.51.100.1"}},
		}},
		{name: "one that says that signed zones are not", cfg: only, steps: []step{
			{ask: "www.example.com. A", rcode: wire.ServFail, most: 12},
		}, world: fw(unsigned.If(simnet.Type(wire.TypeA)), simnet.Empty().If(simnet.Type(wire.TypeDS)))},
		{name: "another when one drops signatures", cfg: forward(".", forwarder, siteCom4), world: func(n *simnet.Net) {
			serveForwarder(n, simnet.Signing{}, unsigned)
			serveForwarder(n, simnet.Signing{}) // the same zones
			n.Join(forwarder, siteCom4)
			n.Break(forwarder, unsigned.If(simnet.At(siteCom4)))
		}, steps: []step{
			{ask: "www.example.com. A +ad", answer: secure, ad: true, most: 16},
			{ask: "nosuch.example.com. A +ad", rcode: wire.NXDomain, ad: true, most: 4},
		}},
		{name: "one that gives bogus data", world: func(n *simnet.Net) {
			serveForwarder(n, simnet.Signing{Inception: date(1999, 1, 1), Expiration: date(1999, 6, 1)})
		}, cfg: only, steps: []step{
			{ask: "www.site.com. A", rcode: wire.ServFail, ede: 7 + 1, most: 12},
			{ask: "www.site.com. A +cd", answer: []string{"www.site.com. A 198.51.100.1"}},
			{ask: "www.example.com. A +ad", answer: secure, ad: true},
		}},
		{name: "one for a part of the name space", world: fw(), cfg: forward("site.com.", forwarder), steps: []step{
			{ask: "www.site.com. A", answer: []string{"www.site.com. A 198.51.100.1"}, most: 6}, // com. has no DS set for it
			{ask: "www.example.com. A +ad", answer: secure, ad: true},
		}},
	})
}

// TestValidationBehindAResolver: the forwarder is one of ours, which validates
// or does not.
func TestValidationBehindAResolver(t *testing.T) {
	for name, change := range map[string]func(cfg *config.Config){"validates": validating, "does not validate": nil} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			inSignedBubble(t, func(cfg *config.Config, n *simnet.Net) {
				siteWith(damaged(dns.TypeA))(n)
				only(cfg)
			}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
				front := behind(t, n, change)
				defer front.Frontend.Close()
				for i, st := range []step{
					{ask: "www.example.com. A +ad", answer: []string{"www.example.com. A 198.51.100.1"}, ad: true},
					{ask: "nosuch.example.com. A +ad", rcode: wire.NXDomain, ad: true},
					{ask: "x.wild.other.net. TXT +ad", answer: []string{`x.wild.other.net. TXT "expanded"`}, ad: true},
					{ask: "to-insecure.example.com. A +ad", answer: []string{"to-insecure.example.com. CNAME www.bare.net.", "www.bare.net. A 198.51.100.1"}},
					{ask: "www.site.com. A", rcode: wire.ServFail, ede: 6 + 1},
					{ask: "www.site.com. A +cd", answer: []string{"www.site.com. A 198.51.100.1"}},
				} {
					playStep(t, p, n, i, st)
				}
			})
		})
	}
}

func TestZonesWithoutReferrals(t *testing.T) {
	sub := func(ds string) func(n *simnet.Net) {
		return func(n *simnet.Net) {
			n.ServeSigned(exampleCom, "example.com.", siteOf("example.com.")+delegation("sub.example.com.", ds, exampleCom), simnet.Signing{})
		}
	}
	island := func(cfg *config.Config) { anchors(cfg, simnet.NewKey("example.com.", simnet.KeyOptions{})) }
	unsignedAbove := func(n *simnet.Net) {
		n.Serve(rootServer, ".", delegation("com.", "", comServer)+delegation("net.", "", netServer))
	}
	playSigned(t, []scenario{
		{name: "secure child at its parent's server", world: func(n *simnet.Net) {
			sub(simnet.NewKey("sub.example.com.", simnet.KeyOptions{}).DS())(n)
			n.ServeSigned(exampleCom, "sub.example.com.", siteOf("sub.example.com."), simnet.Signing{Denial: simnet.NSEC3})
		}, steps: []step{
			{ask: "www.example.com. A +ad", ad: true},
			{ask: "www.sub.example.com. A +ad", ad: true, answer: []string{"www.sub.example.com. A 198.51.100.1"}, most: 4},
			{ask: "nosuch.sub.example.com. A +ad", rcode: wire.NXDomain, ad: true, most: 1},
			{ask: "x.wild.sub.example.com. TXT +ad", ad: true, most: 2},
		}},
		{name: "insecure child at its parent's server", world: func(n *simnet.Net) {
			sub("")(n)
			n.Serve(exampleCom, "sub.example.com.", siteOf("sub.example.com."))
		}, steps: []step{
			{ask: "www.sub.example.com. A +ad", answer: []string{"www.sub.example.com. A 198.51.100.1"}, most: 9},
			{ask: "nosuch.sub.example.com. A +ad", rcode: wire.NXDomain, most: 3},
			{ask: "www.example.com. A +ad", ad: true, most: 1},
		}},
		{name: "bogus child at its parent's server", world: func(n *simnet.Net) {
			sub(simnet.NewKey("sub.example.com.", simnet.KeyOptions{}).DS())(n)
			n.Serve(exampleCom, "sub.example.com.", siteOf("sub.example.com."))
		}, steps: []step{
			{ask: "www.sub.example.com. A", rcode: wire.ServFail, ede: 9 + 1, most: 12},
			{ask: "www.example.com. A +ad", ad: true},
		}},
		{name: "island of trust", world: unsignedAbove, cfg: island, steps: []step{
			{ask: "www.example.com. A +ad", ad: true, sent: []string{
				"192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.11 www.example.com. A", "192.0.2.11 example.com. DNSKEY",
			}},
			{ask: "nosuch.example.com. A +ad", rcode: wire.NXDomain, ad: true},
			{ask: "example.com. A +ad", noAns: true, ad: true},
			{ask: "www.other.net. A +ad", answer: []string{"www.other.net. A 198.51.100.1"}},
			{ask: "to-secure.example.com. A +ad"},
		}},
		{name: "island of trust that is bogus", cfg: island, world: func(n *simnet.Net) {
			unsignedAbove(n)
			n.Break(exampleCom, damaged(dns.TypeA))
		}, steps: []step{{ask: "www.example.com. A", rcode: wire.ServFail, ede: 6 + 1}}},
		{name: "anchor of another key", cfg: func(cfg *config.Config) { anchors(cfg, simnet.NewKey(".", simnet.KeyOptions{Label: "other"})) }, steps: []step{
			{ask: "www.example.com. A", rcode: wire.ServFail, ede: 9 + 1, most: 7}, // two of them for keys that are not reached
			{ask: "www.plain.org. A", rcode: wire.ServFail, ede: 9 + 1, most: 6},
			{ask: "www.example.com. A +cd", answer: []string{"www.example.com. A 198.51.100.1"}},
		}},
		{name: "stub zone with a DS set above it", world: site(simnet.Signing{}), cfg: stub("site.com.", siteCom), steps: []step{
			{ask: "www.site.com. A +ad", ad: true, answer: []string{"www.site.com. A 198.51.100.1"}, most: 8},
			{ask: "nosuch.site.com. A +ad", rcode: wire.NXDomain, ad: true, most: 1},
		}},
		{name: "stub zone that is not signed, below one that is", cfg: stub("bare.net.", bareNet), steps: []step{
			{ask: "www.bare.net. A +ad", answer: []string{"www.bare.net. A 198.51.100.1"}, most: 8},
		}},
		{name: "stub zone that its parent does not know", world: func(n *simnet.Net) {
			n.Serve(siteCom, "corp.net.", siteOf("corp.net."))
		}, cfg: stub("corp.net.", siteCom), steps: []step{
			{ask: "www.corp.net. A +ad", rcode: wire.ServFail, most: 8},
			{ask: "www.corp.net. A +cd", answer: []string{"www.corp.net. A 198.51.100.1"}},
		}},
		{name: "stub zone that its parent does not know, and a negative anchor", world: func(n *simnet.Net) {
			n.Serve(siteCom, "corp.net.", siteOf("corp.net."))
		}, cfg: all(stub("corp.net.", siteCom), negative("corp.net.")), steps: []step{
			{ask: "www.corp.net. A +ad", answer: []string{"www.corp.net. A 198.51.100.1"}, ede: 33 + 1, most: 2},
			{ask: "nosuch.corp.net. A +ad", rcode: wire.NXDomain, most: 2},
		}},
		{name: "compact denials", world: site(simnet.Signing{Denial: simnet.Compact}), steps: []step{ // RFC 9824
			{ask: "www.site.com. A +ad", ad: true},
			{ask: "nosuch.site.com. A +do", noAns: true, ad: true, proofs: 1, soa: "site.com."},
			{ask: "www.site.com. AAAA +do", noAns: true, ad: true, proofs: 1},
			{ask: "x.wild.site.com. TXT +do", answer: []string{`x.wild.site.com. TXT "expanded"`}, sigs: 1, ad: true},
			{ask: "b.c.site.com. A +ad", noAns: true, ad: true},
			{ask: "dangling.site.com. A +ad", answer: []string{"dangling.site.com. CNAME nosuch.site.com."}, ad: true},
		}},
		{name: "a DNAME for many names", steps: []step{
			{ask: "www.old.example.com. A +ad", ad: true},
			{ask: "x.old.example.com. A +ad", rcode: wire.NXDomain, ad: true, most: 2, answer: []string{
				"old.example.com. DNAME new.example.com.", "x.old.example.com. CNAME x.new.example.com.",
			}},
		}},
		{name: "permissive", world: siteWith(damaged(dns.TypeA)), cfg: func(cfg *config.Config) { cfg.DNSSEC.Permissive = true }, steps: []step{
			{ask: "www.site.com. A +ad", answer: []string{"www.site.com. A 198.51.100.1"}, ede: 6 + 1},
			{ask: "www.site.com. A +do", answer: []string{"www.site.com. A 198.51.100.1"}, sigs: 1, ede: 6 + 1, most: 2},
			{ask: "www.example.com. A +ad", ad: true},
		}},
		{name: "no validation", world: siteWith(damaged()), cfg: func(cfg *config.Config) { cfg.DNSSEC.Validation = false }, steps: []step{
			{ask: "www.site.com. A +ad", answer: []string{"www.site.com. A 198.51.100.1"}, sent: []string{"192.0.2.1 com. A", "192.0.2.2 site.com. A", "192.0.2.31 www.site.com. A"}},
			{ask: "www.example.com. A +do", sigs: 1, answer: []string{"www.example.com. A 198.51.100.1"}, most: 2},
		}},
		{name: "the time of a configuration", cfg: func(cfg *config.Config) { cfg.DNSSEC.OverrideTime = "20200101000000" }, steps: []step{
			{ask: "www.example.com. A", rcode: wire.ServFail, ede: 7 + 1},
		}},
		{name: "minimised names", cfg: func(cfg *config.Config) { cfg.Resolver.QNameMinimisation = config.MinimisationStrict }, steps: []step{
			{ask: "a.b.c.example.com. A +ad", ad: true, answer: []string{"a.b.c.example.com. A 198.51.100.3"}},
			{ask: "x.b.c.example.com. A +ad", rcode: wire.NXDomain, ad: true},
			{after: time.Second, ask: "x.y.nosuch.example.com. A +ad", rcode: wire.NXDomain, ad: true},
		}},
		{name: "names that are not minimised", cfg: func(cfg *config.Config) { cfg.Resolver.QNameMinimisation = config.MinimisationOff }, steps: []step{
			{ask: "a.b.c.example.com. A +ad", ad: true, most: 6},
			{ask: "x.b.c.example.com. A +ad", rcode: wire.NXDomain, ad: true, most: 1},
			{ask: "www.bare.net. A +ad", most: 4},
		}},
	})
}
