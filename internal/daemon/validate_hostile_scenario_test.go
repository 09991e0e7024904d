package daemon

import (
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// claiming puts a signature of signer's, which it never made, in place of all.
func claiming(signer string) simnet.Fault {
	return edited(func(rr dns.RR) dns.RR {
		if sig, ok := rr.(*dns.RRSIG); ok {
			sig.SignerName = signer
		}
		return rr
	})
}

// forgedA replaces addresses.
func forgedA(addr string) simnet.Fault {
	return edited(func(rr dns.RR) dns.RR {
		if rr.Header().Rrtype == dns.TypeA {
			return simnet.RRs(rr.Header().Name + " 9999 A " + addr)[0]
		}
		return rr
	})
}

// TestSignersAboveTheAnchorVouchForNothing: below a trust anchor in a part of
// the tree that is not signed, or that nothing is known of, who claims to be
// signed by a zone above it is not insecure for that (RFC 4035 §5.3.1).
func TestSignersAboveTheAnchorVouchForNothing(t *testing.T) {
	island := func(roots ...string) func(cfg *config.Config) {
		return func(cfg *config.Config) {
			keys := []*simnet.Key{simnet.NewKey("plain.org.", simnet.KeyOptions{})}
			for _, z := range roots {
				keys = append(keys, simnet.NewKey(z, simnet.KeyOptions{}))
			}
			anchors(cfg, keys...)
		}
	}
	signed := func(faults ...simnet.Fault) func(n *simnet.Net) {
		return func(n *simnet.Net) {
			n.ServeSigned(plainOrg, "plain.org.", siteOf("plain.org."), simnet.Signing{})
			n.Break(plainOrg, faults...)
		}
	}
	var rows []scenario
	for name, cfg := range map[string]func(cfg *config.Config){"alone": island(), "below the root": island(".")} {
		rows = append(rows,
			scenario{name: name + ", right", cfg: cfg, world: signed(), steps: []step{
				{ask: "www.plain.org. A +ad", ad: true, answer: []string{"www.plain.org. A 198.51.100.1"}},
				{ask: "nosuch.plain.org. A +ad", ad: true, rcode: wire.NXDomain},
			}},
			scenario{name: name + ", forged data", cfg: cfg, world: signed(claiming("org."), forgedA(evil)), steps: []step{
				{ask: "www.plain.org. A +ad", rcode: wire.ServFail, noAns: true},
			}},
			scenario{name: name + ", forged data of the root", cfg: cfg, world: signed(claiming("."), forgedA(evil)), steps: []step{
				{ask: "www.plain.org. A +ad", rcode: wire.ServFail, noAns: true},
			}},
			scenario{name: name + ", forged denial", cfg: cfg, world: signed(claiming("org."), simnet.Rcode(wire.NXDomain), edited(func(dns.RR) dns.RR { return nil }),
				simnet.Mutate(func(m *dns.Msg) {
					m.Ns = simnet.RRs("org. SOA ns.org. h.org. 1 1 1 1 9999\norg. RRSIG SOA 13 1 9999 20300101000000 19990101000000 1 org. AAAA")
				})), steps: []step{
				{ask: "www.plain.org. A +ad", rcode: wire.ServFail, noAns: true},
			}},
		)
	}
	playSigned(t, rows)
}

// TestOneForgedPacketBreaksNoZone: what somebody gets in once, by luck, is not
// what all clients of a signed zone suffer from for as long as he says.
func TestOneForgedPacketBreaksNoZone(t *testing.T) {
	www := []string{"www.site.com. A 198.51.100.1"}
	once := func(f simnet.Fault, typ wire.Type) simnet.Fault { return f.If(simnet.Type(typ), simnet.First(1)) }
	deep := func(n *simnet.Net) {
		serveForwarder(n, simnet.Signing{})
		n.ServeSigned(forwarder, "site.com.", siteOf("site.com.")+delegation("deep.x.site.com.", simnet.NewKey("deep.x.site.com.", simnet.KeyOptions{}).DS(), siteCom4), simnet.Signing{})
		n.ServeSigned(forwarder, "deep.x.site.com.", siteOf("deep.x.site.com."), simnet.Signing{})
		n.Break(forwarder, claiming("x.site.com.").If(simnet.Question("deep.x.site.com.", wire.TypeDS), simnet.First(1)))
	}
	playSigned(t, []scenario{
		{name: "keys", world: siteWith(once(damaged(), wire.TypeDNSKEY)), steps: []step{
			{ask: "www.site.com. A +ad", ad: true, answer: www, most: 7},
		}},
		{name: "data", world: siteWith(forgedA(evil).If(simnet.Question("www.site.com.", wire.TypeA), simnet.First(1))), steps: []step{
			{ask: "www.site.com. A +ad", ad: true, answer: www, most: 7},
		}},
		{name: "a signer of a DS set", world: deep, cfg: only, steps: []step{
			{ask: "www.deep.x.site.com. A +ad", ad: true},
		}},
		{name: "a referral within the zone", world: func(n *simnet.Net) {
			siteWith(simnet.Refer("www.site.com. 86400 NS ns.www.site.com.\nns.www.site.com. 86400 A "+evil).If(simnet.Question("www.site.com.", wire.TypeA), simnet.First(1)))(n)
			n.Serve(evil, "site.com.", "*.site.com. 9999 A 203.0.113.66")
		}, steps: []step{
			{ask: "www.site.com. A +ad", ad: true, answer: www, most: 12},
			{ask: "a.www.site.com. A +ad", ad: true, rcode: wire.NXDomain, most: 3},
		}},
		{name: "a referral to the zone", world: func(n *simnet.Net) {
			site(simnet.Signing{})(n)
			n.Break(comServer, simnet.Refer("site.com. 86400 NS ns.site.com.\nns.site.com. 86400 A "+evil).If(simnet.Question("site.com.", wire.TypeA), simnet.First(1)))
			n.Serve(evil, "site.com.", "*.site.com. 9999 A 203.0.113.66")
		}, steps: []step{
			{ask: "www.site.com. A", rcode: wire.ServFail, noAns: true},
			{after: 2 * time.Minute, ask: "www.site.com. A +ad", ad: true, answer: www},
		}},
		{name: "a referral to the zone whose keys are known", world: func(n *simnet.Net) {
			site(simnet.Signing{})(n)
			serveCom(n, siteKey().DS()+"site.com. 300 NS ns.site.com.\nns.site.com. 300 A "+siteCom+"\n")
			n.Serve(evil, "site.com.", "*.site.com. 9999 A 203.0.113.66")
		}, steps: []step{
			{ask: "www.site.com. A +ad", ad: true, answer: www},
			{after: 10 * time.Minute, ask: "other.site.com. A +ad", ad: true, answer: []string{"other.site.com. A 198.51.100.2"}, most: 9, do: func(n *simnet.Net) {
				n.Break(comServer, simnet.Refer("site.com. 86400 NS ns.site.com.\nns.site.com. 86400 A "+evil).If(simnet.Question("site.com.", wire.TypeA), simnet.First(1)))
			}},
		}},
	})
}

// TestAliasesOfServicesAreValidated: what an alias of SVCB leads to is for the
// client, too (RFC 9460 §4.2).
func TestAliasesOfServicesAreValidated(t *testing.T) {
	world := func(faults ...simnet.Fault) func(n *simnet.Net) {
		return func(n *simnet.Net) {
			serveCom(n, delegation("site.com.", siteKey().DS(), siteCom))
			n.ServeSigned(siteCom, "site.com.", siteOf("site.com.")+"svc.site.com. 300 HTTPS 1 . alpn=h3\n", simnet.Signing{})
			n.Break(siteCom, faults...)
			n.Serve(plainOrg, "plain.org.", siteOf("plain.org.")+"https.plain.org. HTTPS 0 svc.site.com.\n")
		}
	}
	for name, good := range map[string]bool{"right": true, "forged": false} {
		t.Run(name, func(t *testing.T) {
			inSignedBubble(t, func(_ *config.Config, n *simnet.Net) {
				if good {
					world()(n)
				} else {
					world(edited(func(rr dns.RR) dns.RR {
						if rr.Header().Rrtype == dns.TypeHTTPS {
							return simnet.RRs("svc.site.com. HTTPS 1 evil.plain.org. alpn=h2")[0]
						}
						return rr
					}))(n)
				}
			}, func(t *testing.T, p *Pipeline, _ *simnet.Net) {
				m := ask(t, p, "https.plain.org. HTTPS +do")
				if m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
					t.Fatalf("got %v", m)
				}
				found := false
				for _, rr := range m.Extra {
					found = found || rr.Header().Rrtype == dns.TypeHTTPS
				}
				if found != good {
					t.Errorf("the service is given: %v, want %v\n%v", found, good, m)
				}
			})
		})
	}
}

// TestForgedDenialInMemoryIsAskedAgain: with strict minimisation, a name that
// was denied to somebody who did not want validation.
func TestForgedDenialInMemoryIsAskedAgain(t *testing.T) {
	playSigned(t, []scenario{{
		name: "strict", cfg: func(cfg *config.Config) { cfg.Resolver.QNameMinimisation = config.MinimisationStrict },
		world: siteWith(simnet.Mutate(func(m *dns.Msg) {
			m.Rcode, m.Answer = dns.RcodeNameError, nil
			m.Ns = simnet.RRs("site.com. SOA ns.site.com. h.site.com. 1 1 1 1 9999")
		}).If(simnet.Question("c.site.com.", wire.TypeA), simnet.First(1))),
		steps: []step{
			{ask: "c.site.com. A +cd", rcode: wire.NXDomain},
			{ask: "a.b.c.site.com. A +ad", ad: true, answer: []string{"a.b.c.site.com. A 198.51.100.3"}},
		},
	}})
}
