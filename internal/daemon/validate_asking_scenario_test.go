package daemon

import (
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/simnet"
	"shirube/internal/wire"
)

func TestValidationAsksForLittle(t *testing.T) {
	const data = "A 198.51.100.1"
	playSigned(t, []scenario{
		{name: "keys once for many names", steps: []step{
			{ask: "www.example.com. A +ad", ad: true, sent: []string{
				"192.0.2.1 com. A", "192.0.2.1 . DNSKEY", "192.0.2.2 example.com. A", "192.0.2.2 com. DNSKEY",
				"192.0.2.11 www.example.com. A", "192.0.2.11 example.com. DNSKEY",
			}, verify: 7},
			{ask: "other.example.com. A +ad", ad: true, sent: []string{"192.0.2.11 other.example.com. A"}, verify: 1},
			{ask: "alias.example.com. A +ad", ad: true, sent: []string{"192.0.2.11 alias.example.com. A"}, verify: 2},
			{ask: "nosuch.example.com. A +ad", rcode: wire.NXDomain, ad: true, sent: []string{"192.0.2.11 nosuch.example.com. A"}, verify: 3},
			{after: 55 * time.Minute, ask: "a.b.c.example.com. A +ad", ad: true, most: 4, verify: 1},
		}},
		{name: "keys of an insecure zone never", steps: []step{
			{ask: "www.bare.net. A", sent: []string{
				"192.0.2.1 net. A", "192.0.2.1 . DNSKEY", "192.0.2.3 bare.net. A", "192.0.2.3 net. DNSKEY", "192.0.2.22 www.bare.net. A",
			}},
			{ask: "other.bare.net. A", sent: []string{"192.0.2.22 other.bare.net. A"}},
			{ask: "www.other.net. A +ad", ad: true, sent: []string{
				"192.0.2.3 other.net. A", "192.0.2.21 www.other.net. A", "192.0.2.21 other.net. DNSKEY",
			}},
		}},
		{name: "nothing again for a name below a secure denial", steps: []step{ // RFC 8020
			{ask: "nosuch.example.com. A +ad", rcode: wire.NXDomain, ad: true},
			{ask: "x.nosuch.example.com. A +ad", rcode: wire.NXDomain, ad: true, soa: "example.com.", none: true},
			{ask: "x.y.z.nosuch.example.com. MX +do", rcode: wire.NXDomain, ad: true, proofs: 2, none: true},
		}},
		{name: "no DNAME again that is secure", steps: []step{ // RFC 6672 §5.3.1
			{ask: "www.moved.example.com. A +ad", ad: true},
			{ask: "other.moved.example.com. A +ad", ad: true, sent: []string{"192.0.2.21 other.other.net. A"}, answer: []string{
				"moved.example.com. DNAME other.net.", "other.moved.example.com. CNAME other.other.net.", "other.other.net. A 198.51.100.2",
			}},
			{ask: "x.y.wild.moved.example.com. TXT +do", ad: true, most: 3, sigs: 2, proofs: 1},
		}},
		{name: "a DNAME again that is insecure", steps: []step{
			{ask: "www.moved.bare.net. A"},
			{ask: "other.moved.bare.net. A", sent: []string{"192.0.2.22 other.moved.bare.net. A", "192.0.2.21 other.other.net. A"}},
		}},
		{name: "again for a name below an insecure denial", steps: []step{
			{ask: "nosuch.bare.net. A", rcode: wire.NXDomain},
			{ask: "x.nosuch.bare.net. A", rcode: wire.NXDomain, sent: []string{"192.0.2.22 x.nosuch.bare.net. A"}},
		}},
		{name: "again for a name below a denial that opt-out covers", world: site(simnet.Signing{Denial: simnet.NSEC3, OptOut: true}), steps: []step{
			{ask: "nosuch.site.com. A", rcode: wire.NXDomain},
			{ask: "x.nosuch.site.com. A", rcode: wire.NXDomain, most: 2},
		}},
		{name: "no longer than the signature says", world: site(simnet.Signing{Expiration: date(2000, 1, 1).Add(100 * time.Second)}), steps: []step{
			{ask: "www.site.com. A +ad", ad: true, answer: []string{"www.site.com. " + data}, ttls: []int{100}},
		}},
		{name: "no longer than the original TTL", steps: []step{
			{ask: "www.site.com. A +ad", ad: true, answer: []string{"www.site.com. " + data}, ttls: []int{300}},
		}, world: siteWith(edited(func(rr dns.RR) dns.RR {
			rr.Header().Ttl = 3000
			return rr
		}))},
		{name: "no longer than the TTL where it is less", steps: []step{
			{ask: "www.site.com. A +ad", ad: true, answer: []string{"www.site.com. " + data}, ttls: []int{30}},
		}, world: siteWith(edited(func(rr dns.RR) dns.RR {
			rr.Header().Ttl = 30
			return rr
		}))},
		{name: "with a signature that has just expired, for an hour at least", steps: []step{
			{ask: "www.site.com. A +ad", ad: true, answer: []string{"www.site.com. " + data}},
		}, world: site(simnet.Signing{Inception: date(1999, 12, 25), Expiration: date(2000, 1, 1).Add(-time.Hour)})},
		{name: "a bogus answer not again for a minute", world: siteWith(damaged(dns.TypeA)), steps: []step{
			{ask: "www.site.com. A", rcode: wire.ServFail, ede: 6 + 1},
			{after: time.Second / 2, ask: "www.site.com. A", rcode: wire.ServFail, none: true},
			{after: 50 * time.Second, ask: "www.site.com. A", rcode: wire.ServFail, none: true},
			{after: 11 * time.Second, ask: "www.site.com. A +ad", ad: true, answer: []string{"www.site.com. " + data}, do: func(n *simnet.Net) { n.Break(siteCom) }},
		}},
		{name: "a broken chain not again for a minute", world: siteWith(damaged(dns.TypeDNSKEY)), steps: []step{
			{ask: "www.site.com. A", rcode: wire.ServFail, ede: 6 + 1, most: 8},
			{after: 30 * time.Second, ask: "other.site.com. A", rcode: wire.ServFail, ede: 6 + 1, most: 2}, // its servers may be others than was said
			{after: 31 * time.Second, ask: "a.b.c.site.com. A +ad", ad: true, answer: []string{"a.b.c.site.com. A 198.51.100.3"}, do: func(n *simnet.Net) { n.Break(siteCom) }},
		}},
		{name: "another server when one is bogus", world: func(n *simnet.Net) {
			site(simnet.Signing{}, siteCom, siteCom2)(n)
			n.Break(siteCom, damaged(dns.TypeA))
		}, steps: []step{
			{ask: "www.site.com. A +ad", ad: true, answer: []string{"www.site.com. " + data}, most: 7},
			{ask: "other.site.com. A +ad", ad: true, most: 2},
			{ask: "a.b.c.site.com. A +ad", ad: true, most: 4},
		}},
		{name: "a third server when two are bogus", world: func(n *simnet.Net) {
			site(simnet.Signing{}, siteCom, siteCom2, siteCom3)(n)
			n.Break(siteCom, damaged(dns.TypeA))
			n.Break(siteCom2, stripped(dns.TypeRRSIG).If(simnet.Type(wire.TypeA)))
		}, steps: []step{
			{ask: "www.site.com. A +ad", ad: true, answer: []string{"www.site.com. " + data}, most: 9}, // one of them whether what is not signed need be
		}},
		{name: "no fourth server when three are bogus", world: func(n *simnet.Net) {
			site(simnet.Signing{}, siteCom, siteCom2, siteCom3, siteCom4)(n)
			for _, addr := range []string{siteCom, siteCom2, siteCom3, siteCom4} {
				n.Break(addr, damaged(dns.TypeA))
			}
		}, steps: []step{
			{ask: "www.site.com. A", rcode: wire.ServFail, ede: 6 + 1, most: 8},
		}},
		{name: "another server when one has no good keys", world: func(n *simnet.Net) {
			site(simnet.Signing{}, siteCom, siteCom2)(n)
			n.Break(siteCom, damaged(dns.TypeDNSKEY))
		}, steps: []step{
			{ask: "www.site.com. A +ad", ad: true, answer: []string{"www.site.com. " + data}, most: 7},
		}},
		{name: "another server when one has no proof", world: func(n *simnet.Net) {
			site(simnet.Signing{}, siteCom, siteCom2)(n)
			n.Break(siteCom, stripped(dns.TypeNSEC))
		}, steps: []step{
			{ask: "nosuch.site.com. A +ad", ad: true, rcode: wire.NXDomain, most: 7},
			{ask: "x.wild.site.com. TXT +ad", ad: true, answer: []string{`x.wild.site.com. TXT "expanded"`}, most: 3},
		}},
		{name: "keys that nobody gives", world: siteWith(simnet.Silent().If(simnet.Type(wire.TypeDNSKEY))), steps: []step{
			{ask: "www.site.com. A", rcode: wire.ServFail, ede: 9 + 1, most: 8, within: 6 * time.Second},
		}},
		{name: "keys that everybody refuses", world: siteWith(simnet.Rcode(wire.Refused).If(simnet.Type(wire.TypeDNSKEY))), steps: []step{
			{ask: "www.site.com. A", rcode: wire.ServFail, ede: 9 + 1, most: 8},
			{after: 10 * time.Minute, ask: "www.site.com. A +ad", ad: true, do: func(n *simnet.Net) { n.Break(siteCom) }},
		}},
		{name: "the root's keys that nobody gives", world: func(n *simnet.Net) {
			n.Break(rootServer, simnet.Silent().If(simnet.Type(wire.TypeDNSKEY)))
		}, steps: []step{
			{ask: "www.example.com. A", rcode: wire.ServFail, ede: 9 + 1, most: 8, within: 6 * time.Second},
			{ask: "www.bare.net. A", rcode: wire.ServFail, most: 7, within: 6 * time.Second}, // one of them for keys that are not reached
		}},
		{name: "addresses of servers unproven", world: func(n *simnet.Net) {
			serveCom(n, siteKey().DS()+"site.com. NS ns.other.net.\n")
			n.ServeSigned(otherNet, "site.com.", siteOf("site.com."), simnet.Signing{})
			n.ServeSigned(otherNet, "other.net.", siteOf("other.net.")+"ns.other.net. A "+otherNet, simnet.Signing{})
		}, steps: []step{
			{ask: "www.site.com. A +ad", ad: true, answer: []string{"www.site.com. " + data}, verify: 7, most: 12},
		}},
		{name: "a forged address of a server", world: func(n *simnet.Net) {
			serveCom(n, siteKey().DS()+"site.com. NS ns.plain.org.\n")
			n.ServeSigned(siteCom, "site.com.", siteOf("site.com."), simnet.Signing{})
			n.Serve(plainOrg, "plain.org.", "ns A "+evil)
			n.Serve(evil, "site.com.", "*.site.com. 9999 A 203.0.113.66")
		}, steps: []step{
			{ask: "www.site.com. A", rcode: wire.ServFail, noAns: true, most: 14},
			{ask: "other.site.com. A", rcode: wire.ServFail, noAns: true, most: 5},
		}},
	})
}

func TestKeysMayBeRolled(t *testing.T) {
	signed := func(keys ...*simnet.Key) func(n *simnet.Net) {
		return func(n *simnet.Net) {
			n.ServeSigned(siteCom, "site.com.", siteOf("site.com."), simnet.Signing{Keys: keys})
		}
	}
	one, two := siteKey(), simnet.NewKey("site.com.", simnet.KeyOptions{Label: "two"})
	ksk := simnet.NewKey("site.com.", simnet.KeyOptions{Label: "ksk"})
	zsk := func(label string) *simnet.Key {
		return simnet.NewKey("site.com.", simnet.KeyOptions{Flags: dns.ZONE, Label: label})
	}
	playSigned(t, []scenario{
		{name: "with both keys and both DS", world: siteWithDS(simnet.Signing{Keys: []*simnet.Key{one, two}}, one.DS()+two.DS()), steps: []step{
			{ask: "www.site.com. A +ad", ad: true},
			{ask: "other.site.com. A +ad", ad: true, do: signed(two)},
			{after: 2 * time.Hour, ask: "www.site.com. A +ad", ad: true},
		}},
		{name: "with the new key published before it signs", world: siteWithDS(simnet.Signing{Keys: []*simnet.Key{ksk, zsk("one")}, Published: []*simnet.Key{zsk("two")}}, ksk.DS()), steps: []step{
			{ask: "www.site.com. A +ad", ad: true},
			{ask: "other.site.com. A +ad", ad: true, most: 1, do: signed(ksk, zsk("two"))},
		}},
		{name: "without care, long ago", world: siteWithDS(simnet.Signing{Keys: []*simnet.Key{ksk, zsk("one")}}, ksk.DS()), steps: []step{
			{ask: "www.site.com. A +ad", ad: true},
			{after: 10 * time.Minute, ask: "other.site.com. A +ad", ad: true, most: 4, do: signed(ksk, zsk("two"))},
			{ask: "www.site.com. MX", noAns: true},
		}},
		{name: "without care, just now", world: siteWithDS(simnet.Signing{Keys: []*simnet.Key{ksk, zsk("one")}}, ksk.DS()), steps: []step{
			{ask: "www.site.com. A +ad", ad: true},
			{ask: "other.site.com. A", rcode: wire.ServFail, do: signed(ksk, zsk("two"))},
			{after: 5 * time.Minute, ask: "other.site.com. A +ad", ad: true, most: 4},
		}},
		{name: "with a new DS set at once, old keys still known", world: siteWithDS(simnet.Signing{Keys: []*simnet.Key{one}}, one.DS()), steps: []step{
			{ask: "www.site.com. A +ad", ad: true},
			{after: 10 * time.Minute, ask: "other.site.com. A +ad", ad: true, most: 5, do: func(n *simnet.Net) {
				signed(two)(n)
				serveCom(n, delegation("site.com.", two.DS(), siteCom))
			}},
			{after: time.Hour, ask: "other.site.com. A +ad", ad: true},
		}},
		{name: "a zone that becomes unsigned", world: site(simnet.Signing{}), steps: []step{
			{ask: "www.site.com. A +ad", ad: true},
			{after: 2 * time.Hour, ask: "www.site.com. A +ad", do: func(n *simnet.Net) {
				serveCom(n, delegation("site.com.", "", siteCom))
				n.Serve(siteCom, "site.com.", siteOf("site.com."))
			}},
		}},
		{name: "a zone that becomes signed", world: siteWithDS(simnet.Signing{}, ""), steps: []step{
			{ask: "www.site.com. A +ad"},
			{after: 49 * time.Hour, ask: "www.site.com. A +ad", ad: true, do: func(n *simnet.Net) {
				serveCom(n, delegation("site.com.", siteKey().DS(), siteCom))
			}},
		}},
	})
}
