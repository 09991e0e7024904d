package daemon

import (
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/exchange"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// cold is the queries for an address in site.com. when nothing is known.
func cold(name string) []string {
	return []string{
		"192.0.2.1 com. A", "192.0.2.1 . DNSKEY", "192.0.2.2 site.com. A", "192.0.2.2 com. DNSKEY",
		"192.0.2.31 " + name + " A", "192.0.2.31 site.com. DNSKEY",
	}
}

// kinds is a question for each kind of answer of a site, with what is answered
// when it is signed in the way of NSEC or NSEC3, whichever.
// Each set has sigs signatures.
func kinds(zone string, secure bool, do string, sigs int) []step {
	name := func(n string) string { return n + zone }
	steps := []step{
		{ask: name("www.") + " A", answer: []string{name("www.") + " A 198.51.100.1"}, sigs: sigs},
		{ask: name("") + " MX", answer: []string{name("") + " MX 10 " + name("www.")}, sigs: sigs},
		{ask: name("www.") + " AAAA", noAns: true, soa: name("")},
		{ask: name("nosuch.") + " A", rcode: wire.NXDomain, noAns: true, soa: name("")},
		{ask: name("b.c.") + " A", noAns: true, soa: name("")},
		{ask: name("x.wild.") + " TXT", answer: []string{name("x.wild.") + ` TXT "expanded"`}, sigs: sigs},
		{ask: name("x.y.wild.") + " TXT", answer: []string{name("x.y.wild.") + ` TXT "expanded"`}, sigs: sigs},
		{ask: name("x.wild.") + " A", noAns: true, soa: name("")},
		{ask: name("y.here.wild.") + " A", rcode: wire.NXDomain, noAns: true, soa: name("")},
		{ask: name("*.wild.") + " TXT", answer: []string{name("*.wild.") + ` TXT "expanded"`}, sigs: sigs},
		{ask: name("alias.") + " A", answer: []string{name("alias.") + " CNAME " + name("www."), name("www.") + " A 198.51.100.1"}, sigs: 2 * sigs},
		{ask: name("alias.") + " AAAA", answer: []string{name("alias.") + " CNAME " + name("www.")}, soa: name(""), sigs: sigs},
		{ask: name("x.walias.") + " A", answer: []string{name("x.walias.") + " CNAME " + name("www."), name("www.") + " A 198.51.100.1"}, sigs: 2 * sigs},
		{ask: name("dangling.") + " A", rcode: wire.NXDomain, answer: []string{name("dangling.") + " CNAME " + name("nosuch.")}, soa: name(""), sigs: sigs},
		{
			ask: name("www.old.") + " A", sigs: 2 * sigs,
			answer: []string{name("old.") + " DNAME " + name("new."), name("www.old.") + " CNAME " + name("www.new."), name("www.new.") + " A 198.51.100.4"},
		},
		{
			ask: name("x.old.") + " A", rcode: wire.NXDomain, sigs: sigs, soa: name(""),
			answer: []string{name("old.") + " DNAME " + name("new."), name("x.old.") + " CNAME " + name("x.new.")},
		},
	}
	for i := range steps {
		steps[i].ask += " +ad +tcp" + do
		steps[i].ad = secure
		steps[i].noEDE = true
	}
	return steps
}

func TestSecureAnswers(t *testing.T) {
	key := func(a uint8) simnet.Signing {
		return simnet.Signing{Keys: []*simnet.Key{simnet.NewKey("site.com.", simnet.KeyOptions{Algorithm: a})}}
	}
	var rows []scenario
	two := map[string]bool{"keys of two algorithms": true, "a key of an unknown algorithm as well": true}
	for name, world := range map[string]func(n *simnet.Net){
		"NSEC":                      site(simnet.Signing{}),
		"NSEC3":                     site(simnet.Signing{Denial: simnet.NSEC3}),
		"NSEC3 with salt":           site(simnet.Signing{Denial: simnet.NSEC3, Salt: "aabb", Iterations: 50}),
		"Ed25519":                   siteWithDS(key(dns.ED25519), key(dns.ED25519).Keys[0].DS()),
		"RSA":                       siteWithDS(key(dns.RSASHA256), key(dns.RSASHA256).Keys[0].DS()),
		"a SHA-384 digest":          siteWithDS(simnet.Signing{}, siteKey().DS(dns.SHA384)),
		"a SHA-1 digest":            siteWithDS(simnet.Signing{}, siteKey().DS(dns.SHA1)),
		"digests known and unknown": siteWithDS(simnet.Signing{}, siteKey().DS(dns.SHA256, 77)),
		"a key signing key": site(simnet.Signing{Keys: []*simnet.Key{
			siteKey(), simnet.NewKey("site.com.", simnet.KeyOptions{Flags: dns.ZONE, Label: "zone"}),
		}}),
		"keys of two algorithms": site(simnet.Signing{Keys: []*simnet.Key{
			siteKey(), simnet.NewKey("site.com.", simnet.KeyOptions{Algorithm: dns.ED25519}),
		}}),
		"a key of an unknown algorithm as well": site(simnet.Signing{Keys: []*simnet.Key{
			simnet.NewKey("site.com.", simnet.KeyOptions{Algorithm: 200}), siteKey(),
		}}),
	} {
		sigs := 1
		if two[name] {
			sigs = 2
		}
		rows = append(
			rows,
			scenario{name: name, world: world, steps: kinds("site.com.", true, "", 0)},
			scenario{name: name + " with DO", world: world, steps: kinds("site.com.", true, " +do", sigs)},
		)
	}
	playSigned(t, rows)
}

func TestInsecureAnswers(t *testing.T) {
	unknown := simnet.NewKey("site.com.", simnet.KeyOptions{Algorithm: 200})
	playSigned(t, []scenario{
		{name: "below an NSEC without DS", steps: kinds("bare.net.", false, "", 0)},
		{name: "below an NSEC without DS, with DO", steps: kinds("bare.net.", false, " +do", 0)},
		{name: "below an unsigned top-level zone", steps: kinds("plain.org.", false, "", 0)},
		{
			name: "below an NSEC without DS, beside a wrong signature of the SOA record", steps: kinds("bare.net.", false, "", 0),
			world: func(n *simnet.Net) { // whose server has both zones, so that the DS set is asked for
				n.Serve(netServer, "bare.net.", strings.ReplaceAll(siteText, "@", "bare.net."))
				n.Break(netServer, damaged(dns.TypeSOA))
			},
		},
		{name: "below an NSEC3 with opt-out, unsigned", steps: kinds("site.com.", false, "", 0), world: func(n *simnet.Net) {
			site(simnet.Signing{})(n)
			serveCom(n, delegation("site.com.", "", siteCom4))
			n.Serve(siteCom4, "site.com.", siteOf("site.com."))
		}},
		{name: "below an NSEC3 with opt-out, signed for itself", world: siteWithDS(simnet.Signing{}, ""), steps: []step{
			{ask: "www.site.com. A +do", answer: []string{"www.site.com. A 198.51.100.1"}, sigs: 1, noEDE: true},
			{ask: "nosuch.site.com. A +do", rcode: wire.NXDomain, proofs: 2, noEDE: true},
		}},
		{name: "an unknown algorithm", world: siteWithDS(simnet.Signing{Keys: []*simnet.Key{unknown}}, unknown.DS()), steps: []step{
			{ask: "www.site.com. A +ad", answer: []string{"www.site.com. A 198.51.100.1"}, ede: 1 + 1, most: 5},
			{ask: "nosuch.site.com. A +ad", rcode: wire.NXDomain, ede: 1 + 1, most: 1},
			{ask: "www.site.com. A +ad", answer: []string{"www.site.com. A 198.51.100.1"}, ede: 1 + 1, none: true},
		}},
		{name: "an unknown digest", world: siteWithDS(simnet.Signing{}, siteKey().DS(77)), steps: []step{
			{ask: "www.site.com. A +ad", answer: []string{"www.site.com. A 198.51.100.1"}, ede: 2 + 1, most: 5},
			{ask: "www.site.com. AAAA +ad", noAns: true, ede: 2 + 1, most: 1},
		}},
		{name: "the digest of GOST R 34.11-94", world: siteWithDS(simnet.Signing{}, siteKey().DS(dns.GOST94)), steps: []step{
			{ask: "www.site.com. A +ad", answer: []string{"www.site.com. A 198.51.100.1"}, ede: 2 + 1, most: 5},
		}},
		{name: "denials with too many iterations", world: site(simnet.Signing{Denial: simnet.NSEC3, Iterations: 51}), steps: []step{
			{ask: "www.site.com. A +ad", answer: []string{"www.site.com. A 198.51.100.1"}, ad: true, noEDE: true},
			{ask: "nosuch.site.com. A +ad", rcode: wire.NXDomain, ede: 27 + 1},
			{ask: "www.site.com. AAAA +ad", noAns: true, ede: 27 + 1},
			{ask: "x.wild.site.com. TXT +ad", answer: []string{`x.wild.site.com. TXT "expanded"`}, ede: 27 + 1},
		}},
		{name: "a denial that opt-out covers", world: site(simnet.Signing{Denial: simnet.NSEC3, OptOut: true}), steps: []step{
			{ask: "www.site.com. A +ad", answer: []string{"www.site.com. A 198.51.100.1"}, ad: true},
			{ask: "nosuch.site.com. A +ad", rcode: wire.NXDomain, noEDE: true},
			{ask: "www.site.com. AAAA +ad", noAns: true, ad: true},
		}},
		{
			name: "a negative trust anchor at a bogus zone", world: siteWith(damaged()), cfg: negative("site.com."), steps: []step{
				{ask: "www.site.com. A +ad", answer: []string{"www.site.com. A 198.51.100.1"}, ede: 33 + 1, most: 3},
				{ask: "nosuch.site.com. A +ad", rcode: wire.NXDomain, ede: 33 + 1, most: 1},
				{ask: "www.example.com. A +ad", answer: []string{"www.example.com. A 198.51.100.1"}, ad: true, noEDE: true},
			},
		},
		{
			name: "a negative trust anchor at a zone that is right", cfg: negative("example.com."), steps: []step{
				{ask: "www.example.com. A +ad", answer: []string{"www.example.com. A 198.51.100.1"}, ede: 33 + 1, most: 3},
			},
		},
		{
			name: "a negative trust anchor that is over", world: siteWith(damaged()), cfg: negative("site.com."), steps: []step{
				{after: 2 * time.Hour, ask: "www.site.com. A +ad", rcode: wire.ServFail, ede: 6 + 1},
			},
		},
		{name: "no anchor above", cfg: func(cfg *config.Config) { anchors(cfg, simnet.NewKey("site.com.", simnet.KeyOptions{})) }, steps: []step{
			{ask: "www.example.com. A +ad", answer: []string{"www.example.com. A 198.51.100.1"}, noEDE: true, most: 3},
		}},
	})
}

// siteOf returns the text of the zone of a site.
func siteOf(zone string) string { return strings.ReplaceAll(siteText, "@", zone) }

// negative makes a configuration have a negative trust anchor for an hour.
func negative(name string) func(cfg *config.Config) {
	return func(cfg *config.Config) {
		cfg.DNSSEC.NegativeTrustAnchors = []config.NegativeTrustAnchor{{Name: wire.MustParseName(name), For: time.Hour}}
	}
}

// date is a time near that of bubbles, which begins with 2000.
func date(year int, month time.Month, day int) time.Time {
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
}

// denialOf returns the authority section of the denial that site.com. has for a
// name that does not exist.
func denialOf(name string) []dns.RR {
	z, err := simnet.ParseZone("site.com.", siteOf("site.com."))
	if err != nil {
		panic(err)
	}
	return simnet.NewServer(z.Sign(simnet.Signing{})).Answer(new(dns.Msg).SetQuestion(name, dns.TypeA).SetEdns0(1232, true)).Ns
}

// not is the match of all requests but those of m.
func not(m simnet.Match) simnet.Match {
	return func(req exchange.Request) bool { return !m(req) }
}

func TestBogusAnswers(t *testing.T) {
	bogus := func(ede int, questions ...string) []step {
		var steps []step
		for _, q := range questions {
			steps = append(steps, step{ask: q, rcode: wire.ServFail, noAns: true, ede: ede + 1, most: 14})
		}
		return steps
	}
	with := func(o simnet.KeyOptions) (simnet.Signing, string) {
		k := simnet.NewKey("site.com.", o)
		return simnet.Signing{Keys: []*simnet.Key{k}}, k.DS()
	}
	noZoneKey, noZoneKeyDS := with(simnet.KeyOptions{Flags: dns.SEP})
	_, otherDS := with(simnet.KeyOptions{Label: "other"})
	playSigned(t, []scenario{
		{name: "a wrong signature", world: siteWith(damaged(dns.TypeA)), steps: []step{
			{ask: "www.site.com. A", rcode: wire.ServFail, noAns: true, ede: 6 + 1, sent: append(cold("www.site.com."), "192.0.2.31 www.site.com. A")},
			{ask: "www.site.com. MX", noAns: true, soa: "site.com.", sent: []string{"192.0.2.31 www.site.com. MX"}},
		}},
		{name: "wrong data", steps: bogus(6, "www.site.com. A", "alias.site.com. A"), world: siteWith(edited(func(rr dns.RR) dns.RR {
			if a, ok := rr.(*dns.A); ok && a.Hdr.Name == "www.site.com." {
				a.A[3]++
			}
			return rr
		}))},
		{name: "a record too many", steps: bogus(6, "www.site.com. A"), world: siteWith(simnet.Mutate(func(m *dns.Msg) {
			m.Answer = append(m.Answer, simnet.RRs("www.site.com. 300 A 203.0.113.1")...)
		}))},
		{name: "signatures that have expired", steps: bogus(7, "www.site.com. A", "nosuch.site.com. A"), world: site(simnet.Signing{Inception: date(1999, 1, 1), Expiration: date(1999, 6, 1)})},
		{name: "signatures that begin tomorrow", steps: bogus(8, "www.site.com. A", "nosuch.site.com. A"), world: site(simnet.Signing{Inception: date(2000, 1, 3), Expiration: date(2000, 1, 5)})},
		{name: "signatures that end before they begin", steps: bogus(25, "www.site.com. A"), world: site(simnet.Signing{Inception: date(2000, 1, 3), Expiration: date(1999, 12, 1)})},
		{name: "no key for the DS set", steps: bogus(9, "www.site.com. A", "nosuch.site.com. A", "x.wild.site.com. TXT"), world: siteWithDS(simnet.Signing{}, otherDS)},
		{name: "no keys", steps: bogus(9, "www.site.com. A", "nosuch.site.com. A"), world: siteWith(simnet.Empty().If(simnet.Type(wire.TypeDNSKEY)))},
		{name: "no signatures of an answer", steps: bogus(10, "www.site.com. A", "alias.site.com. A", "nosuch.site.com. A"), world: siteWith(stripped(dns.TypeRRSIG).If(not(simnet.Type(wire.TypeDNSKEY))))},
		{name: "no signature of the keys", steps: bogus(10, "www.site.com. A"), world: siteWith(stripped(dns.TypeRRSIG).If(simnet.Type(wire.TypeDNSKEY)))},
		{name: "an unsigned zone with a DS set", steps: bogus(9, "www.site.com. A", "nosuch.site.com. A"), world: func(n *simnet.Net) {
			serveCom(n, delegation("site.com.", siteKey().DS(), siteCom))
			n.Serve(siteCom, "site.com.", siteOf("site.com."))
		}},
		{name: "a key that is no zone key", steps: bogus(11, "www.site.com. A"), world: siteWithDS(noZoneKey, noZoneKeyDS)},
		{name: "no proof of a denial", steps: bogus(12, "nosuch.site.com. A", "www.site.com. AAAA", "x.wild.site.com. TXT", "x.wild.site.com. A"), world: siteWith(stripped(dns.TypeNSEC))},
		{name: "no NSEC3 proof of a denial", steps: bogus(12, "nosuch.site.com. A", "www.site.com. AAAA", "x.wild.site.com. TXT"), world: func(n *simnet.Net) {
			site(simnet.Signing{Denial: simnet.NSEC3})(n)
			n.Break(siteCom, stripped(dns.TypeNSEC3))
		}},
		{name: "a wrong signature of a proof", steps: bogus(6, "nosuch.site.com. A"), world: siteWith(damaged(dns.TypeNSEC))},
		{name: "a wrong signature of the SOA record", steps: bogus(6, "nosuch.site.com. A"), world: siteWith(damaged(dns.TypeSOA))},
		{name: "a denial of what is there", steps: bogus(6, "www.site.com. A", "other.site.com. A"), world: siteWith(simnet.Mutate(func(m *dns.Msg) {
			m.Rcode, m.Answer, m.Ns = dns.RcodeNameError, nil, denialOf("zz.site.com.")
		}).If(simnet.Type(wire.TypeA)))},
		{name: "a bogus target of a secure alias", world: siteWith(damaged(dns.TypeA)), steps: bogus(6, "to-site.example.com. A")},
		{name: "a bogus target of an insecure alias", world: siteWith(damaged(dns.TypeA)), steps: bogus(6, "to-site.bare.net. A")},
		{name: "a bogus alias to a secure target", world: siteWith(damaged(dns.TypeCNAME)), steps: bogus(6, "to-secure.site.com. A", "to-insecure.site.com. A")},
		{name: "a bogus DNAME to a secure target", world: siteWith(damaged(dns.TypeDNAME)), steps: bogus(6, "www.moved.site.com. A", "www.bare.site.com. A")},
		{name: "an alias that does not follow from its DNAME", world: siteWith(edited(func(rr dns.RR) dns.RR {
			if cname, ok := rr.(*dns.CNAME); ok && cname.Hdr.Name == "www.moved.site.com." {
				cname.Target = "www.bare.net."
			}
			return rr
		})), steps: []step{
			{ask: "www.moved.site.com. A +ad", ad: true, answer: []string{
				"moved.site.com. DNAME other.net.", "www.moved.site.com. CNAME www.other.net.", "www.other.net. A 198.51.100.1",
			}},
		}},
	})
}

func TestAliasesAreAsGoodAsTheirWeakestLink(t *testing.T) {
	alias := func(name, zone, target string, ad bool) step {
		return step{
			ask: name + "." + zone + " A +ad", ad: ad, noEDE: true,
			answer: []string{name + "." + zone + " CNAME www." + target, "www." + target + " A 198.51.100.1"},
		}
	}
	dname := func(at, zone, target string, ad bool) step {
		return step{ask: "www." + at + "." + zone + " A +ad", ad: ad, noEDE: true, answer: []string{
			at + "." + zone + " DNAME " + target, "www." + at + "." + zone + " CNAME www." + target, "www." + target + " A 198.51.100.1",
		}}
	}
	playSigned(t, []scenario{
		{name: "secure to secure", steps: []step{alias("to-secure", "example.com.", "other.net.", true)}},
		{name: "secure to insecure", steps: []step{alias("to-insecure", "example.com.", "bare.net.", false)}},
		{name: "insecure to secure", steps: []step{alias("to-secure", "bare.net.", "other.net.", false)}},
		{name: "insecure to insecure", steps: []step{alias("to-insecure", "plain.org.", "bare.net.", false)}},
		{name: "DNAME, secure to secure", steps: []step{dname("moved", "example.com.", "other.net.", true)}},
		{name: "DNAME, secure to insecure", steps: []step{dname("bare", "example.com.", "bare.net.", false)}},
		{name: "DNAME, insecure to secure", steps: []step{dname("moved", "bare.net.", "other.net.", false)}},
		{name: "the target is secure for itself", steps: []step{
			alias("to-secure", "bare.net.", "other.net.", false),
			{ask: "www.other.net. A +ad", ad: true, answer: []string{"www.other.net. A 198.51.100.1"}, none: true},
			alias("to-secure", "example.com.", "other.net.", true),
		}},
		{name: "no such target", steps: []step{
			{ask: "x.moved.example.com. A +ad", rcode: wire.NXDomain, ad: true, soa: "other.net."},
			{ask: "x.bare.example.com. A +ad", rcode: wire.NXDomain, soa: "bare.net."},
			{ask: "x.moved.bare.net. A +ad", rcode: wire.NXDomain, soa: "other.net."},
		}},
		{name: "no such type at the target", steps: []step{
			{ask: "to-secure.example.com. AAAA +ad", ad: true, soa: "other.net."},
			{ask: "to-insecure.example.com. AAAA +ad", soa: "bare.net."},
			{ask: "to-secure.bare.net. AAAA +ad", soa: "other.net."},
		}},
	})
}
