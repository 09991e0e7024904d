package daemon

import (
	"testing"

	"github.com/miekg/dns"

	"shirube/internal/simnet"
	"shirube/internal/wire"
)

func TestBitsOfQueriesDecideWhatIsTold(t *testing.T) {
	const www = "www.example.com. A 198.51.100.1"
	secure := []string{www}
	playSigned(t, []scenario{
		{name: "AD for who sets AD or DO", steps: []step{ // RFC 6840 §5.7, §5.8
			{ask: "www.example.com. A", answer: secure},
			{ask: "www.example.com. A +ad", answer: secure, ad: true, none: true},
			{ask: "www.example.com. A +do", answer: secure, sigs: 1, ad: true, none: true},
			{ask: "www.example.com. A +do +ad", answer: secure, sigs: 1, ad: true, none: true},
			{ask: "www.example.com. A +noedns", answer: secure, none: true},
			{ask: "www.example.com. A +noedns +ad", answer: secure, ad: true, none: true},
			{ask: "nosuch.example.com. A", rcode: wire.NXDomain},
			{ask: "nosuch.example.com. A +ad", rcode: wire.NXDomain, ad: true, none: true},
			{ask: "nosuch.example.com. A +do", rcode: wire.NXDomain, proofs: 2, ad: true, none: true},
		}},
		{name: "AD for nobody when it is insecure", steps: []step{
			{ask: "www.bare.net. A +ad", answer: []string{"www.bare.net. A 198.51.100.1"}},
			{ask: "www.bare.net. A +do", answer: []string{"www.bare.net. A 198.51.100.1"}, none: true},
		}},
		{name: "what is bogus for who sets CD, and not for others", world: siteWith(damaged(dns.TypeA)), steps: []step{
			{ask: "www.site.com. A +cd +ad", answer: []string{"www.site.com. A 198.51.100.1"}, most: 3},
			{ask: "www.site.com. A +ad", rcode: wire.ServFail, noAns: true, ede: 6 + 1},
			{ask: "www.site.com. A +cd +do", answer: []string{"www.site.com. A 198.51.100.1"}, sigs: 1, none: true},
			{ask: "alias.site.com. A +ad", rcode: wire.ServFail, noAns: true, ede: 6 + 1},
		}},
		{name: "what is bogus for who sets CD, after it was withheld", world: siteWith(damaged(dns.TypeA)), steps: []step{
			{ask: "www.site.com. A", rcode: wire.ServFail, noAns: true, ede: 6 + 1},
			{ask: "www.site.com. A +cd", answer: []string{"www.site.com. A 198.51.100.1"}, most: 1},
			{ask: "www.site.com. A", rcode: wire.ServFail, noAns: true, none: true},
		}},
		{name: "denials that are bogus", world: siteWith(stripped(dns.TypeNSEC)), steps: []step{
			{ask: "nosuch.site.com. A +cd", rcode: wire.NXDomain, soa: "site.com."},
			{ask: "nosuch.site.com. A", rcode: wire.ServFail, ede: 12 + 1},
			{ask: "x.nosuch.site.com. A", rcode: wire.ServFail, ede: 12 + 1},
			{ask: "www.site.com. AAAA +cd", noAns: true, soa: "site.com."},
			{ask: "www.site.com. AAAA", rcode: wire.ServFail, ede: 12 + 1},
			{ask: "nosuch.site.com. MX +cd", rcode: wire.NXDomain},
		}},
		{name: "a broken chain for who sets CD", world: siteWithDS(simnet.Signing{}, simnet.NewKey("site.com.", simnet.KeyOptions{Label: "other"}).DS()), steps: []step{
			{ask: "www.site.com. A", rcode: wire.ServFail, ede: 9 + 1},
			{ask: "www.site.com. A +cd", answer: []string{"www.site.com. A 198.51.100.1"}, most: 2},
			{ask: "www.site.com. MX", rcode: wire.ServFail, ede: 9 + 1},
		}},
		{name: "CD and secure data", steps: []step{
			{ask: "www.example.com. A +cd +do", answer: secure, sigs: 1, most: 3},
			{ask: "www.example.com. A +ad", answer: secure, ad: true, most: 4},
			{ask: "www.example.com. A +ad", answer: secure, ad: true, none: true},
			{ask: "alias.example.com. A +ad", answer: []string{"alias.example.com. CNAME www.example.com.", www}, ad: true, most: 1},
		}},
		{name: "an alias to what is bogus for who sets CD", world: siteWith(damaged(dns.TypeA)), steps: []step{
			{ask: "to-site.example.com. A +cd", answer: []string{"to-site.example.com. CNAME www.site.com.", "www.site.com. A 198.51.100.1"}},
			{ask: "to-site.example.com. A", rcode: wire.ServFail, ede: 6 + 1},
			{ask: "to-site.example.com. CNAME +ad", answer: []string{"to-site.example.com. CNAME www.site.com."}, ad: true, most: 1},
		}},
	})
}

func TestTypesOfDNSSECAreAnsweredLikeOthers(t *testing.T) {
	key := func(zone string) string {
		k := simnet.NewKey(zone, simnet.KeyOptions{}).Record()
		return zone + " DNSKEY 257 3 13 " + k.PublicKey
	}
	playSigned(t, []scenario{
		{name: "DNSKEY", steps: []step{
			{ask: "example.com. DNSKEY +ad", answer: []string{key("example.com.")}, ad: true, most: 5},
			{ask: "example.com. DNSKEY +do", answer: []string{key("example.com.")}, sigs: 1, ad: true, none: true},
			{ask: "www.example.com. A +ad", ad: true, most: 1},
			{ask: "com. DNSKEY +ad", answer: []string{key("com.")}, ad: true, most: 1},
			{ask: ". DNSKEY +ad", answer: []string{key(".")}, ad: true, most: 1},
			{ask: "www.example.com. DNSKEY +ad", noAns: true, soa: "example.com.", ad: true, most: 1},
			{ask: "bare.net. DNSKEY +ad", noAns: true, soa: "bare.net."},
		}},
		{name: "DS", steps: []step{
			{ask: "example.com. DS +do", sigs: 1, ad: true, most: 4},
			{ask: "com. DS +do", sigs: 1, ad: true, most: 1},
			{ask: ". DS +ad", noAns: true, ad: true, most: 1},
			{ask: "bare.net. DS +do", noAns: true, soa: "net.", proofs: 1, ad: true},
			{ask: "www.example.com. DS +ad", noAns: true, soa: "example.com.", ad: true},
			{ask: "nosuch.example.com. DS +ad", rcode: wire.NXDomain, soa: "example.com.", ad: true},
			{ask: "plain.org. DS +ad", noAns: true, soa: "org."},
		}},
		{name: "DS that opt-out covers", world: siteWithDS(simnet.Signing{}, ""), steps: []step{
			{ask: "site.com. DS +do", noAns: true, soa: "com.", proofs: 1}, // RFC 5155 §9.2
		}},
		{name: "NSEC", steps: []step{
			{ask: "www.example.com. NSEC +do", sigs: 1, ad: true},
			{ask: "nosuch.example.com. NSEC +ad", rcode: wire.NXDomain, ad: true},
			{ask: "www.other.net. NSEC +ad", noAns: true, soa: "other.net.", ad: true},
		}},
		{name: "NSEC3PARAM", steps: []step{
			{ask: "other.net. NSEC3PARAM +do", answer: []string{"other.net. NSEC3PARAM 1 0 0 -"}, sigs: 1, ad: true},
			{ask: "example.com. NSEC3PARAM +ad", noAns: true, ad: true},
		}},
		{name: "RRSIG", steps: []step{ // RFC 4035 §2.2: they are not signed
			{ask: "www.example.com. RRSIG +ad", most: 6, sigs: 1, answer: nil},
			{ask: "www.example.com. A +ad", answer: []string{"www.example.com. A 198.51.100.1"}, ad: true},
		}},
		{name: "ANY", steps: []step{
			{ask: "www.example.com. ANY +do", answer: []string{`www.example.com. HINFO "RFC8482" ""`}, none: true},
		}},
	})
}
