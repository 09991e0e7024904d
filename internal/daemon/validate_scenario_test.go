package daemon

import (
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/simnet"
)

// The scenarios of validation are in files by what they show: verdicts, what is
// asked for them, the bits of queries, forwarders and other special ways, and
// attacks.

// The servers of signedWorld.
const (
	rootServer = "192.0.2.1"
	comServer  = "192.0.2.2"
	netServer  = "192.0.2.3"
	orgServer  = "192.0.2.4"
	exampleCom = "192.0.2.11" // example.com.
	otherNet   = "192.0.2.21" // other.net.
	bareNet    = "192.0.2.22" // bare.net., which is not signed
	plainOrg   = "192.0.2.23" // plain.org., which is not signed
	siteCom    = "192.0.2.31" // site.com., of which each scenario makes what it needs
	siteCom2   = "192.0.2.32" // its others
	siteCom3   = "192.0.2.33"
	siteCom4   = "192.0.2.34"
)

// signedWorld is a root, two signed top-level zones, one by NSEC3 with opt-out
// and one by NSEC, an unsigned one, and below them zones that are signed or not.
func signedWorld(n *simnet.Net) {
	n.ServeSigned(rootServer, ".", `
. 518400 NS ns.root.
ns.root. 518400 A 192.0.2.1
`+delegation("com.", simnet.NewKey("com.", simnet.KeyOptions{}).DS(), comServer)+
		delegation("net.", simnet.NewKey("net.", simnet.KeyOptions{}).DS(), netServer)+
		delegation("org.", "", orgServer), simnet.Signing{})
	serveCom(n, "")
	n.ServeSigned(netServer, "net.", `
net. 900 SOA ns.net. host.net. 1 1800 900 604800 900
net. NS ns.net.
`+delegation("other.net.", simnet.NewKey("other.net.", simnet.KeyOptions{}).DS(), otherNet)+
		delegation("bare.net.", "", bareNet), simnet.Signing{})
	n.Serve(orgServer, "org.", `
org. NS ns.org.
`+delegation("plain.org.", "", plainOrg))
	n.ServeSigned(exampleCom, "example.com.", strings.ReplaceAll(siteText, "@", "example.com."), simnet.Signing{})
	n.ServeSigned(otherNet, "other.net.", strings.ReplaceAll(siteText, "@", "other.net."), simnet.Signing{Denial: simnet.NSEC3})
	n.Serve(bareNet, "bare.net.", strings.ReplaceAll(siteText, "@", "bare.net."))
	n.Serve(plainOrg, "plain.org.", strings.ReplaceAll(siteText, "@", "plain.org."))
}

// siteText is what every site has; @ is its name.
const siteText = `
@ 3600 SOA ns.@ host.@ 1 1800 900 604800 300
@ 3600 NS ns.@
@ 300 MX 10 www.@
www.@ 300 A 198.51.100.1
other.@ 300 A 198.51.100.2
a.b.c.@ 300 A 198.51.100.3
*.wild.@ 300 TXT "expanded"
here.wild.@ 300 TXT "here"
*.walias.@ 300 CNAME www.@
alias.@ 300 CNAME www.@
dangling.@ 300 CNAME nosuch.@
to-secure.@ 300 CNAME www.other.net.
to-insecure.@ 300 CNAME www.bare.net.
to-site.@ 300 CNAME www.site.com.
old.@ 300 DNAME new.@
www.new.@ 300 A 198.51.100.4
moved.@ 300 DNAME other.net.
bare.@ 300 DNAME bare.net.
`

// delegation returns the records that delegate zone, with its DS set, to servers.
func delegation(zone, ds string, servers ...string) string {
	text := ds
	for i, addr := range servers {
		host := "ns" + strings.Repeat("x", i) + "." + zone
		text += zone + " 172800 NS " + host + "\n" + host + " 172800 A " + addr + "\n"
	}
	return text
}

// serveCom serves com., with further records.
func serveCom(n *simnet.Net, more string) {
	n.ServeSigned(comServer, "com.", `
com. 900 SOA ns.com. host.com. 1 1800 900 604800 900
com. NS ns.com.
`+delegation("example.com.", simnet.NewKey("example.com.", simnet.KeyOptions{}).DS(), exampleCom)+more,
		simnet.Signing{Denial: simnet.NSEC3, OptOut: true})
}

// site returns a world with site.com., signed by s and with a DS set of keys, or
// of its default key, at one server or more.
func site(s simnet.Signing, servers ...string) func(n *simnet.Net) {
	return siteWithDS(s, siteKey().DS(), servers...)
}

// siteKey is the default key of site.com.
func siteKey() *simnet.Key { return simnet.NewKey("site.com.", simnet.KeyOptions{}) }

// siteWithDS is site with another DS set.
func siteWithDS(s simnet.Signing, ds string, servers ...string) func(n *simnet.Net) {
	if len(servers) == 0 {
		servers = []string{siteCom}
	}
	return func(n *simnet.Net) {
		serveCom(n, delegation("site.com.", ds, servers...))
		for _, addr := range servers {
			n.ServeSigned(addr, "site.com.", strings.ReplaceAll(siteText, "@", "site.com."), s)
		}
	}
}

// siteWith is site with a server that has faults.
func siteWith(faults ...simnet.Fault) func(n *simnet.Net) {
	return func(n *simnet.Net) {
		site(simnet.Signing{})(n)
		n.Break(siteCom, faults...)
	}
}

// validating makes cfg trust the root of signedWorld.
func validating(cfg *config.Config) {
	cfg.DNSSEC.Validation, cfg.DNSSEC.RootTrustAnchor = true, false
	anchors(cfg, simnet.NewKey(".", simnet.KeyOptions{}))
}

// anchors makes cfg trust keys and nothing else.
func anchors(cfg *config.Config, keys ...*simnet.Key) {
	cfg.DNSSEC.TrustAnchors = nil
	for _, k := range keys {
		cfg.DNSSEC.TrustAnchors = append(cfg.DNSSEC.TrustAnchors, config.TrustAnchor(strings.TrimSpace(k.DS())))
	}
}

// playSigned is play in signedWorld, with validation.
func playSigned(t *testing.T, scenarios []scenario) {
	t.Helper()
	for i := range scenarios {
		sc := &scenarios[i]
		world, cfg := sc.world, sc.cfg
		sc.world = func(n *simnet.Net) {
			signedWorld(n)
			if world != nil {
				world(n)
			}
		}
		sc.cfg = func(c *config.Config) {
			validating(c)
			if cfg != nil {
				cfg(c)
			}
		}
	}
	play(t, scenarios)
}

// stripped removes the records of types from answers, signatures over them
// included; of RRSIG itself all signatures.
func stripped(types ...uint16) simnet.Fault {
	return edited(func(rr dns.RR) dns.RR {
		for _, typ := range types {
			sig, ok := rr.(*dns.RRSIG)
			if rr.Header().Rrtype == typ || ok && sig.TypeCovered == typ {
				return nil
			}
		}
		return rr
	})
}

// damaged makes the signatures over sets of types wrong, or of all without any.
func damaged(types ...uint16) simnet.Fault {
	return edited(func(rr dns.RR) dns.RR {
		sig, ok := rr.(*dns.RRSIG)
		if !ok {
			return rr
		}
		if len(types) == 0 || slices.Contains(types, sig.TypeCovered) {
			head := "A"
			if sig.Signature[:1] == head {
				head = "B"
			}
			sig.Signature = head + sig.Signature[1:]
		}
		return sig
	})
}

// edited replaces each record, but the OPT record, by what edit returns; nil
// removes it.
func edited(edit func(rr dns.RR) dns.RR) simnet.Fault {
	section := func(rrs []dns.RR) (out []dns.RR) {
		for _, rr := range rrs {
			if rr.Header().Rrtype != dns.TypeOPT {
				rr = edit(rr)
			}
			if rr != nil {
				out = append(out, rr)
			}
		}
		return out
	}
	return simnet.Mutate(func(m *dns.Msg) { m.Answer, m.Ns, m.Extra = section(m.Answer), section(m.Ns), section(m.Extra) })
}

// inSignedBubble is inBubble in signedWorld, with validation.
func inSignedBubble(t *testing.T, change func(*config.Config, *simnet.Net), test func(t *testing.T, p *Pipeline, n *simnet.Net)) {
	t.Helper()
	inBubble(t, func(cfg *config.Config, n *simnet.Net) {
		signedWorld(n)
		validating(cfg)
		if change != nil {
			change(cfg, n)
		}
	}, test)
}
