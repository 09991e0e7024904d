package daemon

import (
	"strings"
	"sync"
	"testing"
	"time"

	"shirube/internal/config"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// roundTrips is how long n of them take in these worlds.
func roundTrips(n int) time.Duration { return time.Duration(n) * simnet.DefaultRTT }

func TestKeysAreAskedForAlongWithTheFirstQuestion(t *testing.T) {
	glueless := func(n *simnet.Net) {
		serveCom(n, siteKey().DS()+"site.com. 172800 NS ns.other.net.\n")
		n.ServeSigned(otherNet, "site.com.", strings.ReplaceAll(siteText, "@", "site.com."), simnet.Signing{})
		n.ServeSigned(otherNet, "other.net.", strings.ReplaceAll(siteText, "@", "other.net.")+"ns.other.net. A "+otherNet+"\n", simnet.Signing{Denial: simnet.NSEC3})
	}
	unknown := "site.com. 172800 DS 12345 200 2 0000000000000000000000000000000000000000000000000000000000000000\n"
	playSigned(t, []scenario{
		{name: "three signed zones deep in three round trips", steps: []step{
			{ask: "www.example.com. A +ad", ad: true, within: roundTrips(3), sent: []string{
				"192.0.2.1 com. A", "192.0.2.1 . DNSKEY", "192.0.2.2 example.com. A", "192.0.2.2 com. DNSKEY",
				"192.0.2.11 www.example.com. A", "192.0.2.11 example.com. DNSKEY",
			}},
			{ask: "www.other.net. A +ad", ad: true, within: roundTrips(3), sent: []string{
				"192.0.2.1 net. A", "192.0.2.3 other.net. A", "192.0.2.3 net. DNSKEY", "192.0.2.21 www.other.net. A", "192.0.2.21 other.net. DNSKEY",
			}},
		}},
		{name: "the next signed zone in one more", world: site(simnet.Signing{}), steps: []step{
			{ask: "www.example.com. A +ad", ad: true},
			{ask: "www.site.com. A +ad", ad: true, within: roundTrips(2), sent: []string{
				"192.0.2.2 site.com. A", "192.0.2.31 www.site.com. A", "192.0.2.31 site.com. DNSKEY",
			}},
		}},
		{name: "a zone whose keys are forgotten", cfg: func(cfg *config.Config) { cfg.Cache.MaxTTL = time.Hour }, steps: []step{
			{ask: "www.example.com. A +ad", ad: true},
			{after: 2 * time.Hour, ask: "other.example.com. A +ad", ad: true, within: roundTrips(3), most: 6},
		}},
		{name: "behind an alias", steps: []step{
			{ask: "to-secure.example.com. A +ad", ad: true, within: roundTrips(6), most: 11},
		}},
		{name: "a zone without glue, once there is an address", world: glueless, steps: []step{
			{ask: "ns.other.net. A +ad", ad: true},
			{ask: "www.site.com. A +ad", ad: true, within: roundTrips(3), sent: []string{
				"192.0.2.1 com. A", "192.0.2.2 site.com. A", "192.0.2.2 com. DNSKEY", "192.0.2.21 www.site.com. A", "192.0.2.21 site.com. DNSKEY",
			}},
		}},
		{name: "a zone without glue, after the look-up", world: glueless, steps: []step{
			{ask: "www.site.com. A +ad", ad: true, within: roundTrips(6), most: 9},
		}},
		{name: "no keys of a zone that is signed with what nobody understands", world: siteWithDS(simnet.Signing{}, unknown), steps: []step{
			{ask: "www.site.com. A", sent: []string{
				"192.0.2.1 com. A", "192.0.2.1 . DNSKEY", "192.0.2.2 site.com. A", "192.0.2.2 com. DNSKEY", "192.0.2.31 www.site.com. A",
			}},
		}},
		{name: "no keys below an insecure zone", world: func(n *simnet.Net) {
			n.Serve(orgServer, "org.", "org. NS ns.org.\n"+delegation("site.org.", simnet.NewKey("site.org.", simnet.KeyOptions{}).DS(), siteCom))
			n.ServeSigned(siteCom, "site.org.", strings.ReplaceAll(siteText, "@", "site.org."), simnet.Signing{})
		}, steps: []step{
			{ask: "www.site.org. A", sent: []string{"192.0.2.1 org. A", "192.0.2.1 . DNSKEY", "192.0.2.4 site.org. A", "192.0.2.31 www.site.org. A", "192.0.2.4 site.org. DS"}},
		}},
		{name: "no keys below a negative trust anchor", cfg: func(cfg *config.Config) {
			cfg.DNSSEC.NegativeTrustAnchors = []config.NegativeTrustAnchor{{Name: wire.MustParseName("example.com."), For: time.Hour}}
		}, steps: []step{
			{ask: "www.example.com. A", sent: []string{"192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.11 www.example.com. A"}},
		}},
		{name: "no keys where nothing is validated", steps: []step{
			{ask: "www.example.com. A +cd", sent: []string{"192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.11 www.example.com. A"}},
		}},
		{name: "no keys beside the question for them", steps: []step{
			{ask: "example.com. DNSKEY +ad", ad: true, within: roundTrips(3), sent: []string{
				"192.0.2.1 com. A", "192.0.2.1 . DNSKEY", "192.0.2.2 example.com. DNSKEY", "192.0.2.2 com. DNSKEY", "192.0.2.11 example.com. DNSKEY",
			}},
		}},
		{name: "keys that are lost go on where they were", world: siteWith(simnet.Silent().If(simnet.Type(wire.TypeDNSKEY), simnet.First(1))), steps: []step{
			{ask: "www.site.com. A +ad", ad: true, within: time.Second / 2, sent: []string{
				"192.0.2.1 com. A", "192.0.2.1 . DNSKEY", "192.0.2.2 site.com. A", "192.0.2.2 com. DNSKEY",
				"192.0.2.31 www.site.com. A", "192.0.2.31 site.com. DNSKEY", "192.0.2.31 site.com. DNSKEY",
			}},
		}},
		{name: "bogus keys are asked for elsewhere", world: func(n *simnet.Net) {
			site(simnet.Signing{}, siteCom, siteCom2)(n)
			n.Break(siteCom, damaged())
		}, steps: []step{
			{ask: "www.site.com. A +ad", ad: true, most: 8},
		}},
		{name: "no more than two for a zone that does not answer", world: func(n *simnet.Net) {
			site(simnet.Signing{}, siteCom, siteCom2, siteCom3, siteCom4)(n)
			for _, addr := range []string{siteCom, siteCom2, siteCom3, siteCom4} {
				n.Break(addr, simnet.Silent())
			}
		}, steps: []step{
			{ask: "www.site.com. A", rcode: wire.ServFail, most: 4 + 4*3 + 2},
			{ask: "other.site.com. A", rcode: wire.ServFail, none: true},
		}},
		{name: "an answer that fails does not wait for keys", world: siteWith(
			simnet.Silent().If(simnet.Type(wire.TypeDNSKEY)), simnet.Rcode(wire.Refused).If(simnet.Type(wire.TypeA)),
		), steps: []step{
			{ask: "www.site.com. A", rcode: wire.ServFail, within: roundTrips(3), most: 6},
		}},
	})
}

func TestManyQuestionsAskForTheKeysOfAColdZoneOnce(t *testing.T) {
	inSignedBubble(t, nil, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		var wg sync.WaitGroup
		for _, label := range []string{"www", "other", "a.b.c", "nosuch", "alias", "x.wild"} {
			wg.Go(func() {
				if m := ask(t, p, label+".example.com. A +ad"); m == nil || !m.AuthenticatedData {
					t.Errorf("%s: %v", label, m)
				}
			})
			wg.Go(func() {
				time.Sleep(roundTrips(2) + simnet.DefaultRTT/2) // the keys are under way
				if m := ask(t, p, "late-"+label+".example.com. A +ad"); m == nil || !m.AuthenticatedData {
					t.Errorf("late-%s: %v", label, m)
				}
			})
		}
		wg.Wait()
		for q, times := range n.Log().PerQuestion() {
			if q.Type == wire.TypeDNSKEY && times != 1 {
				t.Errorf("%v was asked %d times", q, times)
			}
		}
	})
}
