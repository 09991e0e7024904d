package daemon

import (
	"context"
	"fmt"
	"net/netip"
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

// generous makes the server at addr send along with data, as many do, the NS
// set of zone and the addresses of hosts, all signed if the zone is. Then more
// edits them. It panics if there are none: they are the test's own words.
func generous(n *simnet.Net, addr, zone string, hosts []string, more ...func(m *dns.Msg)) {
	fetch := func(name string, typ wire.Type) []dns.RR {
		req := exchange.Request{Server: netipPort(addr), Question: wire.Question{Name: wire.MustParseName(name), Type: typ}, Timeout: time.Second}
		resp, err := n.Exchange(context.Background(), req)
		if err != nil || len(resp.Msg.Answer) == 0 {
			panic(fmt.Sprintf("%s has no %s %v: %v", addr, name, typ, err))
		}
		return resp.Msg.Answer
	}
	servers := fetch(zone, wire.TypeNS)
	var addrs []dns.RR
	for _, host := range hosts {
		addrs = append(addrs, fetch(host, wire.TypeA)...)
	}
	n.Break(addr, simnet.Mutate(func(m *dns.Msg) {
		denied := slices.ContainsFunc(m.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA })
		if len(m.Answer) == 0 || denied {
			return
		}
		for _, rr := range servers {
			m.Ns = append(m.Ns, dns.Copy(rr))
		}
		for _, rr := range addrs {
			m.Extra = append(m.Extra, dns.Copy(rr))
		}
		for _, edit := range more {
			edit(m)
		}
	}))
}

func netipPort(addr string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(addr), 53) }

// beside returns a section of a response in the form of a step's answer, without
// the OPT record; of a signature, what it covers.
func beside(rrs []dns.RR) []string {
	var out []string
	for _, rr := range rrs {
		h := rr.Header()
		switch sig, ok := rr.(*dns.RRSIG); {
		case ok:
			out = append(out, fmt.Sprintf("%s RRSIG %s", h.Name, dns.TypeToString[sig.TypeCovered]))
		case h.Rrtype != dns.TypeOPT:
			out = append(out, fmt.Sprintf("%s %s %s", h.Name, dns.TypeToString[h.Rrtype], strings.TrimPrefix(rr.String(), h.String())))
		}
	}
	return out
}

// besideStep is one question, and what is to stand beside its answer.
type besideStep struct {
	ask       string
	ns, extra []string
	ad, tc    bool
	none      bool // no query at all
	after     time.Duration
}

func playBeside(t *testing.T, p *Pipeline, n *simnet.Net, steps []besideStep) {
	t.Helper()
	for _, st := range steps {
		time.Sleep(st.after)
		n.ResetLog()
		m := ask(t, p, st.ask)
		if m == nil {
			t.Fatalf("%s: no response", st.ask)
		}
		ns, extra := beside(m.Ns), beside(m.Extra)
		if !slices.Equal(ns, st.ns) || !slices.Equal(extra, st.extra) || m.AuthenticatedData != st.ad || m.Truncated != st.tc {
			t.Errorf("%s: authority %q, additional %q, AD %v, TC %v; want %q, %q, %v, %v\n%v",
				st.ask, ns, extra, m.AuthenticatedData, m.Truncated, st.ns, st.extra, st.ad, st.tc, m)
		}
		if sent := n.Questions(); st.none && len(sent) > 0 {
			t.Errorf("%s: sent %v", st.ask, sent)
		}
	}
}

func TestFullAnswersCarryWhatCameAlong(t *testing.T) {
	servers, addrs := []string{"example.com. NS ns1.example.com."}, []string{"ns1.example.com. A 192.0.2.11"}
	with := func(sections string) func(m *dns.Msg) {
		authority, additional, _ := strings.Cut(sections, "|")
		return func(m *dns.Msg) {
			m.Ns = append(m.Ns, simnet.RRs(authority)...)
			m.Extra = append(m.Extra, simnet.RRs(additional)...)
		}
	}
	type world = func(n *simnet.Net)
	edited := func(more ...func(m *dns.Msg)) world {
		return func(n *simnet.Net) {
			generous(n, "192.0.2.11", "example.com.", []string{"ns1.example.com."}, more...)
		}
	}
	for name, tt := range map[string]struct {
		world   world
		minimal bool
		cfg     func(cfg *config.Config)
		steps   []besideStep
	}{
		"the servers and their addresses": {world: edited(), steps: []besideStep{
			{ask: "www.example.com. A", ns: servers, extra: addrs},
			{ask: "www.example.com. A", ns: servers, extra: addrs, none: true},
			{ask: "www.example.com. A +do", ns: servers, extra: addrs, none: true},
			{ask: "www.example.com. A +cd", ns: servers, extra: addrs, none: true},
			{ask: "www.example.com. A", ns: servers, extra: addrs, after: 301 * time.Second},
		}},
		"nothing in minimal answers": {world: edited(), minimal: true, steps: []besideStep{
			{ask: "www.example.com. A"}, {ask: "www.example.com. A +do", none: true},
		}},
		"nothing with a denial": {world: edited(), steps: []besideStep{
			{ask: "nosuch.example.com. A", ns: []string{"example.com. SOA ns1.example.com. host.example.com. 1 1800 900 604800 300"}},
			{ask: "www.example.com. TXT", ns: []string{"example.com. SOA ns1.example.com. host.example.com. 1 1800 900 604800 300"}},
		}},
		"what is in the answer is not said again": {world: edited(), steps: []besideStep{
			{ask: "example.com. NS", extra: addrs},
			{ask: "ns1.example.com. A", ns: servers},
		}},
		"addresses of hosts in the answer": {
			world: edited(with("|mail.example.com. 300 A 198.51.100.7\nmail.example.com. 300 AAAA 2001:db8::7")),
			steps: []besideStep{
				{ask: "example.com. MX", ns: servers, extra: []string{"mail.example.com. A 198.51.100.7", "mail.example.com. AAAA 2001:db8::7", addrs[0]}},
			},
		},
		"no other names, zones and types": {
			world: edited(with("net. NS ns.net.\nwww.example.com. A 198.51.100.66|www.example.com. A 198.51.100.66\nns.net. A 192.0.2.66\nns1.example.com. TXT x")),
			steps: []besideStep{{ask: "www.example.com. AAAA", ns: servers, extra: addrs}},
		},
		"no servers of a zone that the name is not in": {
			world: edited(func(m *dns.Msg) { m.Ns, m.Extra = simnet.RRs("sub.example.com. NS ns1.example.com."), m.Extra[:1] }),
			steps: []besideStep{{ask: "www.example.com. A"}},
		},
		"no name that others have the word on": {
			world: edited(with("|mail.example.com. 300 A 198.51.100.7")),
			cfg: func(cfg *config.Config) {
				cfg.StubZones = []config.Zone{{Name: wire.MustParseName("mail.example.com."), Servers: []config.Server{{Address: config.Address{AddrPort: netipPort("192.0.2.99")}}}}}
			},
			steps: []besideStep{{ask: "example.com. MX", ns: servers, extra: addrs}},
		},
		"of a chain, those at its end": {
			world: func(n *simnet.Net) {
				edited()(n)
				generous(n, "192.0.2.21", "other.net.", []string{"ns.other.net."})
			},
			steps: []besideStep{
				{ask: "alias.example.com. A", ns: []string{"other.net. NS ns.other.net."}, extra: []string{"ns.other.net. A 192.0.2.21"}},
				{ask: "alias.example.com. A +do", ns: []string{"other.net. NS ns.other.net."}, extra: []string{"ns.other.net. A 192.0.2.21"}, none: true},
			},
		},
		"as far as there is room": {
			world: func(n *simnet.Net) {
				// 498 and 482 octets, 18 more with servers, and 16 more with addresses
				n.Serve("192.0.2.11", "example.com.", `
example.com. 3600 NS ns1.example.com.
ns1.example.com. 3600 A 192.0.2.11
long.example.com. 300 TXT "`+strings.Repeat("x", 230)+`" "`+strings.Repeat("x", 220)+`"
fit.example.com. 300 TXT "`+strings.Repeat("x", 230)+`" "`+strings.Repeat("x", 205)+`"
`)
				edited()(n)
			},
			steps: []besideStep{
				{ask: "long.example.com. TXT +noedns"},
				{ask: "long.example.com. TXT", ns: servers, extra: addrs, none: true},
				{ask: "fit.example.com. TXT +noedns", ns: servers},
			},
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			inBubble(t, func(cfg *config.Config, n *simnet.Net) {
				tt.world(n)
				cfg.Cache.MinimalResponses = tt.minimal
				if tt.cfg != nil {
					tt.cfg(cfg)
				}
			}, func(t *testing.T, p *Pipeline, n *simnet.Net) { playBeside(t, p, n, tt.steps) })
		})
	}
}

// What stands beside an answer of example.com. in signedWorld.
var (
	exampleServers       = []string{"example.com. NS ns.example.com."}
	exampleAddrs         = []string{"ns.example.com. A 192.0.2.11"}
	exampleServersSigned = append(slices.Clone(exampleServers), "example.com. RRSIG NS")
	exampleAddrsSigned   = append(slices.Clone(exampleAddrs), "ns.example.com. RRSIG A")
)

func TestFullAnswersThatAreSecureHaveNothingElseBeside(t *testing.T) { // RFC 4035 §3.2.3
	edit := func(name string, edit func(sig *dns.RRSIG) dns.RR) func(m *dns.Msg) {
		return func(m *dns.Msg) {
			for _, section := range []*[]dns.RR{&m.Ns, &m.Extra} {
				for i, rr := range *section {
					if sig, ok := rr.(*dns.RRSIG); ok && rr.Header().Name == name {
						(*section)[i] = edit(sig)
					}
				}
			}
		}
	}
	drop := func(sig *dns.RRSIG) dns.RR {
		return &dns.TXT{Hdr: dns.RR_Header{Name: sig.Hdr.Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{"x"}}
	}
	damage := func(sig *dns.RRSIG) dns.RR {
		sig.Signature = "AAAA" + sig.Signature[4:]
		return sig
	}
	bare, bareAddrs := []string{"bare.net. NS ns.bare.net."}, []string{"ns.bare.net. A 192.0.2.22"}
	for name, tt := range map[string]struct {
		edit  func(m *dns.Msg)
		steps []besideStep
	}{
		"all of it is signed": {func(*dns.Msg) {}, []besideStep{
			{ask: "www.example.com. A +do", ns: exampleServersSigned, extra: exampleAddrsSigned, ad: true},
			{ask: "www.example.com. A +ad", ns: exampleServers, extra: exampleAddrs, ad: true, none: true},
			{ask: "www.example.com. A +do +cd", ns: exampleServersSigned, extra: exampleAddrsSigned, none: true},
		}},
		"the addresses are not signed": {edit("ns.example.com.", drop), []besideStep{
			{ask: "www.example.com. A +do", ns: exampleServersSigned, ad: true},
			{ask: "www.example.com. A +ad", ns: exampleServers, ad: true, none: true},
		}},
		"the addresses are bogus": {edit("ns.example.com.", damage), []besideStep{
			{ask: "www.example.com. A +do", ns: exampleServersSigned, ad: true},
		}},
		"the servers are not signed": {edit("example.com.", drop), []besideStep{
			{ask: "www.example.com. A +do", ad: true},
			{ask: "www.example.com. A +do", ad: true, none: true},
		}},
		"the servers are bogus": {edit("example.com.", damage), []besideStep{
			{ask: "www.example.com. A +do", ad: true},
			{ask: "www.example.com. A +do +cd", none: true},
			{ask: "www.example.com. MX +do +cd", ns: exampleServersSigned, extra: exampleAddrsSigned},
			{ask: "www.example.com. A +ad", ad: true, none: true}, // what nobody has verified is for nobody else
		}},
		"an alias leads to an insecure zone": {func(*dns.Msg) {}, []besideStep{
			{ask: "to-insecure.example.com. A +do", ns: bare, extra: bareAddrs},
			{ask: "to-insecure.example.com. A", ns: bare, extra: bareAddrs, none: true},
		}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			inBubble(t, func(cfg *config.Config, n *simnet.Net) {
				signedWorld(n)
				validating(cfg)
				cfg.Cache.MinimalResponses = false
				n.ServeSigned(exampleCom, "example.com.", strings.ReplaceAll(siteText, "@", "example.com.")+"www.example.com. 300 MX 10 www.example.com.\nns.example.com. A 192.0.2.11\n", simnet.Signing{})
				n.Serve(bareNet, "bare.net.", strings.ReplaceAll(siteText, "@", "bare.net.")+"ns.bare.net. A 192.0.2.22\n")
				generous(n, exampleCom, "example.com.", []string{"ns.example.com."}, tt.edit)
				generous(n, bareNet, "bare.net.", []string{"ns.bare.net."})
			}, func(t *testing.T, p *Pipeline, n *simnet.Net) { playBeside(t, p, n, tt.steps) })
		})
	}
}

func TestFullAnswersLeadNowhere(t *testing.T) {
	inBubble(t, func(cfg *config.Config, n *simnet.Net) {
		cfg.Cache.MinimalResponses = false
		generous(n, "192.0.2.11", "example.com.", nil, func(m *dns.Msg) {
			m.Ns = simnet.RRs("example.com. 86400 NS ns1.example.com.")
			m.Extra = append(m.Extra, simnet.RRs("ns1.example.com. 86400 A 192.0.2.66")...)
		})
	}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		for _, st := range []struct{ ask, sent string }{
			{"www.example.com. A", "192.0.2.11 www.example.com. A"},
			{"www.example.com. AAAA", "192.0.2.11 www.example.com. AAAA"}, // not of the address in passing
			{"ns1.example.com. A", "192.0.2.11 ns1.example.com. A"},       // nor is it the answer
			{"example.com. NS", "192.0.2.11 example.com. NS"},             // nor the NS set
			{"www.example.com. TXT", "192.0.2.11 www.example.com. TXT"},
		} {
			n.ResetLog()
			ask(t, p, st.ask)
			if sent := n.Questions(); len(sent) == 0 || sent[len(sent)-1] != st.sent {
				t.Errorf("%s: sent %v, want %s", st.ask, sent, st.sent)
			}
		}
	})
}
