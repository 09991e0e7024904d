package daemon

import (
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

// at returns servers of a configured zone.
func at(addrs ...string) []config.Server {
	var servers []config.Server
	for _, a := range addrs {
		servers = append(servers, config.Server{Address: config.Address{AddrPort: netip.AddrPortFrom(netip.MustParseAddr(a), 0)}})
	}
	return servers
}

// forward configures a forward zone.
func forward(name string, addrs ...string) func(*config.Config) {
	return func(cfg *config.Config) {
		cfg.ForwardZones = append(cfg.ForwardZones, config.Zone{Name: wire.MustParseName(name), Servers: at(addrs...)})
	}
}

// stub configures a stub zone.
func stub(name string, addrs ...string) func(*config.Config) {
	return func(cfg *config.Config) {
		cfg.StubZones = append(cfg.StubZones, config.Zone{Name: wire.MustParseName(name), Servers: at(addrs...)})
	}
}

// all does several changes of a configuration.
func all(changes ...func(*config.Config)) func(*config.Config) {
	return func(cfg *config.Config) {
		for _, change := range changes {
			change(cfg)
		}
	}
}

// orElse sets `first` of all zones so far.
func orElse(cfg *config.Config) {
	for i := range cfg.ForwardZones {
		cfg.ForwardZones[i].First = true
	}
	for i := range cfg.StubZones {
		cfg.StubZones[i].First = true
	}
}

// recursive makes a server of zones look like a resolver that has them from
// somewhere, and answers nobody who does not ask it to recurse.
func recursive() simnet.Fault {
	return func(req exchange.Request, r *simnet.Reply) {
		if !req.RD {
			simnet.Rcode(wire.Refused)(req, r)
			return
		}
		r.Msg.Authoritative, r.Msg.RecursionAvailable = false, true
	}
}

// corp puts a resolver at 192.0.2.100 that knows corp.example. and com.
func corp(n *simnet.Net) {
	n.Serve("192.0.2.100", "corp.example.", `
corp.example. 3600 SOA ns.corp.example. host.corp.example. 1 1800 900 604800 300
corp.example. 3600 NS ns.corp.example.
ns.corp.example. 3600 A 192.0.2.100
www.corp.example. 300 A 10.0.0.1
deep.www.corp.example. 300 A 10.0.0.2
out.corp.example. 300 CNAME www.example.com.
in.corp.example. 300 CNAME www.corp.example.
`)
	n.Serve("192.0.2.100", "com.", "www.example.com. 300 A 203.0.113.66")
	n.Break("192.0.2.100", recursive())
}

func TestScenariosForwardZone(t *testing.T) {
	inside := forward("corp.example.", "192.0.2.100")
	play(t, []scenario{
		{name: "sends the whole name to the forwarder", world: corp, cfg: inside, steps: []step{
			{ask: "deep.www.corp.example. A", answer: []string{"deep.www.corp.example. A 10.0.0.2"}, sent: []string{"192.0.2.100 deep.www.corp.example. A"}},
			{ask: "deep.www.corp.example. A", none: true},
			{ask: "corp.example. SOA", sent: []string{"192.0.2.100 corp.example. SOA"}},
		}},
		{name: "leaves names beside the zone alone", world: corp, cfg: inside, steps: []step{
			{ask: "www.example.com. A", answer: []string{"www.example.com. A 198.51.100.1", "www.example.com. A 198.51.100.2"}},
			{ask: "xcorp.example. A", rcode: wire.NXDomain, sent: []string{"192.0.2.1 example. A", "192.0.2.1 xcorp.example. A"}},
		}},
		{name: "takes denials of the forwarder", world: corp, cfg: inside, steps: []step{
			{ask: "no.corp.example. A", rcode: wire.NXDomain, soa: "corp.example.", sent: []string{"192.0.2.100 no.corp.example. A"}},
			{ask: "www.corp.example. AAAA", noAns: true, soa: "corp.example.", sent: []string{"192.0.2.100 www.corp.example. AAAA"}},
			{ask: "no.corp.example. A", rcode: wire.NXDomain, none: true},
		}},
		{name: "takes an empty answer of the forwarder for NODATA", world: func(n *simnet.Net) {
			corp(n)
			n.Break("192.0.2.100", recursive(), simnet.Empty())
		}, cfg: forward("corp.example.", "192.0.2.100", "192.0.2.101"), steps: []step{
			{ask: "www.corp.example. AAAA", noAns: true, most: 4}, // the other one is silent, and may be asked first
		}},
		{name: "keeps a denial of a zone that begins above the one configured", world: func(n *simnet.Net) {
			n.Serve("192.0.2.100", "example.", "example. 3600 SOA ns.example. host.example. 1 1800 900 604800 300\nwww.corp.example. 300 A 10.0.0.1\na.corp.example. 300 CNAME none.example.")
			n.Break("192.0.2.100", recursive())
		}, cfg: inside, steps: []step{
			{ask: "no.corp.example. A", rcode: wire.NXDomain, soa: "example.", sent: []string{"192.0.2.100 no.corp.example. A"}},
			{ask: "no.corp.example. MX", rcode: wire.NXDomain, soa: "example.", none: true},
			{ask: "www.corp.example. MX", noAns: true, soa: "example.", sent: []string{"192.0.2.100 www.corp.example. MX"}},
			{ask: "a.corp.example. A", rcode: wire.NXDomain, soa: ".", answer: []string{"a.corp.example. CNAME none.example."}, sent: []string{"192.0.2.100 a.corp.example. A", "192.0.2.1 example. A", "192.0.2.1 none.example. A"}},
			{ask: "example. A", rcode: wire.NXDomain, soa: ".", none: true}, // the root's word, from the step before
		}},
		{name: "resolves an alias out of the zone itself", world: corp, cfg: inside, steps: []step{
			{
				ask:    "out.corp.example. A",
				answer: []string{"out.corp.example. CNAME www.example.com.", "www.example.com. A 198.51.100.1", "www.example.com. A 198.51.100.2"},
				sent:   []string{"192.0.2.100 out.corp.example. A", "192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.11 www.example.com. A"},
			},
		}},
		{name: "takes an alias within the zone as it comes", world: corp, cfg: inside, steps: []step{
			{ask: "in.corp.example. A", answer: []string{"in.corp.example. CNAME www.corp.example.", "www.corp.example. A 10.0.0.1"}, sent: []string{"192.0.2.100 in.corp.example. A"}},
		}},
		{name: "asks the forwarder for the end of an alias into the zone", world: func(n *simnet.Net) {
			corp(n)
			n.Serve("192.0.2.21", "other.net.", "into.other.net. 300 CNAME www.corp.example.")
			n.Serve("192.0.2.21", "corp.example.", "www.corp.example. 300 A 203.0.113.66")
		}, cfg: inside, steps: []step{
			{
				ask: "into.other.net. A", answer: []string{"into.other.net. CNAME www.corp.example.", "www.corp.example. A 10.0.0.1"},
				sent: []string{"192.0.2.1 net. A", "192.0.2.3 other.net. A", "192.0.2.21 into.other.net. A", "192.0.2.100 www.corp.example. A"},
			},
		}},
		{name: "asks the parent for the DS set of the zone", world: corp, cfg: forward("example.com.", "192.0.2.100"), steps: []step{
			{ask: "www.example.com. A", answer: []string{"www.example.com. A 203.0.113.66"}, sent: []string{"192.0.2.100 www.example.com. A"}},
			{ask: "example.com. DS", noAns: true, sent: []string{"192.0.2.1 com. A", "192.0.2.2 example.com. DS"}},
			{ask: "www.example.com. DS", noAns: true, sent: []string{"192.0.2.100 www.example.com. DS"}},
		}},
		{name: "keeps apart that the parent knows no such zone", world: func(n *simnet.Net) {
			n.Serve("192.0.2.100", "corp.", "corp. 300 A 10.0.0.3")
			n.Break("192.0.2.100", recursive())
		}, cfg: forward("corp.", "192.0.2.100"), steps: []step{
			{ask: "corp. DS", rcode: wire.NXDomain, sent: []string{"192.0.2.1 corp. DS"}},
			{ask: "corp. A", answer: []string{"corp. A 10.0.0.3"}, sent: []string{"192.0.2.100 corp. A"}},
			{ask: "corp. MX", noAns: true, sent: []string{"192.0.2.100 corp. MX"}},
			{ask: "corp. DS", rcode: wire.NXDomain, none: true},
		}},
		{name: "keeps apart that the forwarder knows no such zone", world: func(n *simnet.Net) {
			n.Serve("192.0.2.100", ".", "other. 300 NS ns.other.")
			n.Break("192.0.2.100", recursive())
			n.Serve("192.0.2.1", ".", "corp. 3600 NS ns.corp.\nns.corp. 3600 A 192.0.2.66\ncorp. 3600 DS 1 13 2 0000000000000000000000000000000000000000000000000000000000000000")
		}, cfg: forward("corp.", "192.0.2.100"), steps: []step{
			{ask: "corp. A", rcode: wire.NXDomain, sent: []string{"192.0.2.100 corp. A"}},
			{ask: "corp. DS", answer: []string{"corp. DS 1 13 2 0000000000000000000000000000000000000000000000000000000000000000"}, sent: []string{"192.0.2.1 corp. DS"}},
			{ask: "corp. MX", rcode: wire.NXDomain, none: true},
		}},
	})
}

func TestScenariosForwardZoneServers(t *testing.T) {
	two := forward("corp.example.", "192.0.2.100", "192.0.2.101")
	failing := func(rcode wire.Rcode) func(*simnet.Net) {
		return func(n *simnet.Net) {
			corp(n)
			n.Join("192.0.2.100", "192.0.2.101")
			n.Break("192.0.2.100", recursive(), simnet.Rcode(rcode).If(simnet.At("192.0.2.100")))
		}
	}
	answer := []string{"www.corp.example. A 10.0.0.1"}
	play(t, []scenario{
		{name: "asks the next forwarder after SERVFAIL", world: failing(wire.ServFail), cfg: two, steps: []step{
			{ask: "www.corp.example. A", answer: answer, most: 2, within: 30 * time.Millisecond},
		}},
		{name: "asks the next forwarder after REFUSED", world: failing(wire.Refused), cfg: two, steps: []step{
			{ask: "www.corp.example. A", answer: answer, most: 2, within: 30 * time.Millisecond},
		}},
		{name: "believes the first forwarder that says NXDOMAIN", world: failing(wire.NXDomain), cfg: forward("corp.example.", "192.0.2.100"), steps: []step{
			{ask: "www.corp.example. A", rcode: wire.NXDomain, most: 1},
		}},
		{name: "does not follow a forwarder's referral", world: func(n *simnet.Net) {
			n.Break("192.0.2.100", simnet.Refer("www.corp.example. NS ns.www.corp.example.\nns.www.corp.example. A 192.0.2.66"))
		}, cfg: forward("corp.example.", "192.0.2.100"), steps: []step{
			{ask: "a.www.corp.example. A", rcode: wire.ServFail, ede: unreachable, sent: []string{"192.0.2.100 a.www.corp.example. A"}},
		}},
		{name: "passes over a dead forwarder once it is known", world: func(n *simnet.Net) {
			corp(n) // 192.0.2.101 is silent
		}, cfg: two, steps: []step{
			{ask: "www.corp.example. A", answer: answer, most: 2, within: 500 * time.Millisecond},
			{ask: "in.corp.example. A", most: 2},
			{ask: "deep.www.corp.example. A", most: 2},
		}},
		{name: "fails in time when all forwarders are dead", cfg: two, steps: []step{
			{ask: "www.corp.example. A", rcode: wire.ServFail, ede: unreachable, most: 6, within: 6 * time.Second},
			{ask: "www.example.com. A", answer: []string{"www.example.com. A 198.51.100.1", "www.example.com. A 198.51.100.2"}},
		}},
		{name: "fails when the forwarder fails", world: failing(wire.ServFail), cfg: forward("corp.example.", "192.0.2.100"), steps: []step{
			{ask: "www.corp.example. A", rcode: wire.ServFail, ede: unreachable, most: 1},
		}},
		{name: "asks a forwarder on loopback if it is told to", world: func(n *simnet.Net) {
			corp(n)
			n.Join("192.0.2.100", "127.0.0.1")
		}, cfg: forward("corp.example.", "127.0.0.1"), steps: []step{
			{ask: "www.corp.example. A", answer: answer, sent: []string{"127.0.0.1 www.corp.example. A"}},
		}},
		{name: "looks up the address of a forwarder", world: corp, cfg: func(cfg *config.Config) {
			cfg.ForwardZones = []config.Zone{{Name: wire.MustParseName("corp.example."), Hosts: []wire.Name{wire.MustParseName("dns.other.net.")}}}
		}, steps: []step{
			{ask: "www.corp.example. A", answer: answer, do: func(n *simnet.Net) {
				n.Serve("192.0.2.21", "other.net.", "dns.other.net. 60 A 192.0.2.100\nlo.other.net. 60 A 127.0.0.1")
			}, sent: []string{"192.0.2.1 net. A", "192.0.2.3 other.net. A", "192.0.2.21 dns.other.net. A", "192.0.2.100 www.corp.example. A"}},
			{ask: "no.corp.example. A", rcode: wire.NXDomain, sent: []string{"192.0.2.100 no.corp.example. A"}},
		}},
		{name: "never asks a forwarder whose name leads to this machine", world: func(n *simnet.Net) {
			n.Serve("192.0.2.21", "other.net.", "lo.other.net. 60 A 127.0.0.1")
		}, cfg: func(cfg *config.Config) {
			cfg.ForwardZones = []config.Zone{{Name: wire.MustParseName("corp.example."), Hosts: []wire.Name{wire.MustParseName("lo.other.net.")}}}
		}, steps: []step{
			{ask: "www.corp.example. A", rcode: wire.ServFail, ede: unreachable, most: 4},
		}},
		{name: "gives up on a forwarder whose address only it could tell", world: corp, cfg: func(cfg *config.Config) {
			cfg.ForwardZones = []config.Zone{{Name: wire.MustParseName("corp.example."), Hosts: []wire.Name{wire.MustParseName("ns.corp.example.")}}}
		}, steps: []step{
			{ask: "www.corp.example. A", rcode: wire.ServFail, ede: unreachable, none: true},
		}},
		{name: "gives up on forwarders that tell each other's address", world: corp, cfg: func(cfg *config.Config) {
			cfg.ForwardZones = []config.Zone{
				{Name: wire.MustParseName("corp.example."), Hosts: []wire.Name{wire.MustParseName("ns.corp.test.")}},
				{Name: wire.MustParseName("corp.test."), Hosts: []wire.Name{wire.MustParseName("ns.corp.example.")}},
			}
		}, steps: []step{
			{ask: "www.corp.example. A", rcode: wire.ServFail, ede: unreachable, none: true, within: time.Millisecond},
		}},
		{name: "finds out the addresses of forwarders while the others work", world: corp, cfg: func(cfg *config.Config) {
			forward("corp.example.", "192.0.2.101")(cfg)
			cfg.ForwardZones[0].Hosts = []wire.Name{wire.MustParseName("ns.corp.example.")}
		}, steps: []step{
			{ask: "www.corp.example. A", answer: answer, do: func(n *simnet.Net) { n.Join("192.0.2.100", "192.0.2.101") }, most: 2},
			{ask: "in.corp.example. A", do: func(n *simnet.Net) {
				n.Break("192.0.2.100", recursive(), simnet.Rcode(wire.ServFail).If(simnet.At("192.0.2.101")))
			}, most: 2, answer: []string{"in.corp.example. CNAME www.corp.example.", "www.corp.example. A 10.0.0.1"}},
		}},
		{name: "looks for a forwarder's address once a minute only", world: corp, cfg: func(cfg *config.Config) {
			forward("corp.example.", "192.0.2.100")(cfg)
			cfg.ForwardZones[0].Hosts = []wire.Name{wire.MustParseName("dns.lame.net.")}
		}, steps: []step{
			{do: func(n *simnet.Net) {
				n.Serve("192.0.2.3", "net.", "lame.net. 3600 NS ns.lame.net.\nns.lame.net. 3600 A 192.0.2.77")
			}, ask: "www.corp.example. A", answer: answer, most: 8, within: 2 * time.Second},
			{ask: "in.corp.example. A", sent: []string{"192.0.2.100 in.corp.example. A"}},
			{ask: "deep.www.corp.example. A", after: 50 * time.Second, sent: []string{"192.0.2.100 deep.www.corp.example. A"}},
		}},
		{name: "asks a forwarder over TCP if it is told to", world: corp, cfg: func(cfg *config.Config) {
			forward("corp.example.", "192.0.2.100")(cfg)
			cfg.ForwardZones[0].TCP = true
		}, steps: []step{
			{do: func(n *simnet.Net) { n.Break("192.0.2.100", simnet.Silent().If(simnet.UDP), recursive()) }, ask: "www.corp.example. A", answer: answer, most: 1, within: 25 * time.Millisecond},
		}},
	})
}

// TestZoneSaysHowItsServersAreToBeAsked looks at each request as the transport
// gets it.
func TestZoneSaysHowItsServersAreToBeAsked(t *testing.T) {
	pin := strings.Repeat("A", 43) + "="
	inBubble(t, func(cfg *config.Config, _ *simnet.Net) {
		cfg.ForwardZones = []config.Zone{
			{Name: wire.MustParseName("tls.example."), TLS: true, Servers: []config.Server{
				{Address: config.Address{AddrPort: netip.MustParseAddrPort("192.0.2.100:8853")}, Pins: []config.Pin{config.Pin(pin)}, TLSName: wire.MustParseName("dns.example.")},
			}},
			{Name: wire.MustParseName("host.example."), TLS: true, Hosts: []wire.Name{wire.MustParseName("ns.other.net.")}},
			{Name: wire.MustParseName("tcp.example."), TCP: true, Hosts: []wire.Name{wire.MustParseName("ns.other.net.")}},
		}
		cfg.StubZones = []config.Zone{{Name: wire.MustParseName("stub.example."), TLS: true, Servers: at("192.0.2.101")}}
		cfg.StubZones[0].Servers[0].TLSName = wire.MustParseName("192.0.2.101")
	}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		for ask1, want := range map[string]string{
			"www.tls.example. A":  "192.0.2.100:8853 RD TLS dns.example 32",
			"www.host.example. A": "192.0.2.21:853 RD TLS ns.other.net 0",
			"www.tcp.example. A":  "192.0.2.21:53 RD TCP",
			"www.stub.example. A": "192.0.2.101:853 TLS 192.0.2.101 0",
		} {
			var got string
			note := func(req exchange.Request, r *simnet.Reply) {
				simnet.Rcode(wire.NXDomain)(req, r)
				got = req.Server.String()
				if req.RD {
					got += " RD"
				}
				if req.TCP {
					got += " TCP"
				}
				if req.TLS != nil {
					got += fmt.Sprintf(" TLS %s %d", req.TLS.Name, len(slices.Concat(req.TLS.Pins...)))
				}
			}
			for _, addr := range []string{"192.0.2.100", "192.0.2.101", "192.0.2.21"} {
				n.Break(addr, simnet.Fault(note).If(simnet.Below("example.")))
			}
			if m := ask(t, p, ask1); m.Rcode != dns.RcodeNameError || got != want {
				t.Errorf("%s: asked %q, want %q; %v", ask1, got, want, m)
			}
		}
	})
}

func TestForwarderIsNotBlamedForANameThatFails(t *testing.T) {
	inBubble(t, func(cfg *config.Config, n *simnet.Net) {
		corp(n)
		n.Break("192.0.2.100", recursive(), simnet.Rcode(wire.ServFail).If(simnet.Below("bad.corp.example.")))
		forward("corp.example.", "192.0.2.100")(cfg)
	}, func(t *testing.T, p *Pipeline, _ *simnet.Net) {
		if m := ask(t, p, "bad.corp.example. A"); m.Rcode != dns.RcodeServerFailure {
			t.Errorf("got %v", m)
		}
		if failures := p.Resolver.Stats().Infra.Failures; failures != [len(failures)]uint64{} {
			t.Errorf("the forwarder was noted for %v", failures)
		}
	})
}

// TestScenariosMaginotDNS shows that what a forwarder says and what recursion
// finds do not mix (Li et al., USENIX Security 2023).
func TestScenariosMaginotDNS(t *testing.T) {
	inside := forward("corp.example.", "192.0.2.100")
	forged := simnet.Mutate(func(m *dns.Msg) {
		m.Ns = append(m.Ns, simnet.RRs("com. 172800 NS ns.evil.test.\n. 518400 NS ns.evil.test.\nexample.com. 300 NS ns.evil.test.")...)
		m.Extra = append(m.Extra, simnet.RRs("ns.evil.test. 172800 A 192.0.2.66\nns.com. 172800 A 192.0.2.66")...)
		m.Answer = append(m.Answer, simnet.RRs("www.example.com. 300 A 203.0.113.66")...)
	})
	evil := func(n *simnet.Net) {
		n.Serve("192.0.2.66", ".", "*. 300 A 203.0.113.66")
		n.Serve("192.0.2.66", "com.", "*.com. 300 A 203.0.113.66")
	}
	play(t, []scenario{
		{name: "believes a forwarder nothing outside of its zone", world: func(n *simnet.Net) {
			corp(n)
			evil(n)
			n.Break("192.0.2.100", recursive(), forged)
		}, cfg: inside, steps: []step{
			{ask: "www.corp.example. A", answer: []string{"www.corp.example. A 10.0.0.1"}, most: 1},
			{
				ask: "www.example.com. A", answer: []string{"www.example.com. A 198.51.100.1", "www.example.com. A 198.51.100.2"},
				sent: []string{"192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.11 www.example.com. A"},
			},
		}},
		{name: "believes a forwarder no delegation inside of its zone", world: func(n *simnet.Net) {
			corp(n)
			evil(n)
			n.Break("192.0.2.100", recursive(), simnet.Mutate(func(m *dns.Msg) {
				m.Ns = append(m.Ns, simnet.RRs("corp.example. NS ns.corp.example.\nwww.corp.example. NS ns.corp.example.")...)
				m.Extra = append(m.Extra, simnet.RRs("ns.corp.example. A 192.0.2.66")...)
			}))
		}, cfg: inside, steps: []step{
			{ask: "in.corp.example. A", most: 1},
			{ask: "deep.www.corp.example. A", answer: []string{"deep.www.corp.example. A 10.0.0.2"}, sent: []string{"192.0.2.100 deep.www.corp.example. A"}},
			{ask: "ns.corp.example. A", answer: []string{"ns.corp.example. A 192.0.2.100"}, sent: []string{"192.0.2.100 ns.corp.example. A"}},
		}},
		{name: "asks the forwarder even below a cut that recursion knows", world: func(n *simnet.Net) {
			corp(n)
			// The zone's parent on the Internet delegates it, and says so whenever it is asked for a neighbour.
			n.Serve("192.0.2.1", ".", "example. 172800 NS ns.example.\nns.example. 172800 A 192.0.2.66\nnet. 172800 NS ns.net.\nns.net. 172800 A 192.0.2.3")
			n.Serve("192.0.2.66", "example.", "corp.example. 172800 NS ns.corp.example.\nns.corp.example. 172800 A 192.0.2.66\nwww.example. 300 A 198.51.100.7")
			n.Serve("192.0.2.66", "corp.example.", "*.corp.example. 300 A 203.0.113.66")
			n.Break("192.0.2.66", simnet.Mutate(func(m *dns.Msg) {
				m.Ns = append(m.Ns, simnet.RRs("corp.example. NS ns.corp.example.\nwww.corp.example. NS ns.corp.example.")...)
				m.Answer = append(m.Answer, simnet.RRs("www.corp.example. 300 A 203.0.113.66")...)
				m.Extra = append(m.Extra, simnet.RRs("ns.corp.example. A 192.0.2.66\nwww.corp.example. A 203.0.113.66")...)
			}).If(simnet.Question("www.example.", wire.TypeA)))
		}, cfg: inside, steps: []step{
			{ask: "www.example. A", answer: []string{"www.example. A 198.51.100.7"}, sent: []string{"192.0.2.1 example. A", "192.0.2.66 www.example. A"}},
			{ask: "corp.example. DS", noAns: true, sent: []string{"192.0.2.66 corp.example. DS"}},
			{ask: "www.corp.example. A", answer: []string{"www.corp.example. A 10.0.0.1"}, sent: []string{"192.0.2.100 www.corp.example. A"}},
			{ask: "deep.www.corp.example. A", answer: []string{"deep.www.corp.example. A 10.0.0.2"}, sent: []string{"192.0.2.100 deep.www.corp.example. A"}},
		}},
		{name: "asks the inner zone for what an outer forwarder says of it", world: func(n *simnet.Net) {
			corp(n)
			n.Serve("192.0.2.110", ".", "direct.test. 300 CNAME www.corp.example.\nwww.corp.example. 300 A 203.0.113.66\ndenied.test. 300 CNAME out.corp.example.\nthrough.test. 300 CNAME in.corp.example.\nin.corp.example. 300 CNAME evil.test.\nevil.test. 300 A 203.0.113.66\ndenied.test. 300 CNAME no.corp.example.")
			n.Break("192.0.2.110", recursive())
		}, cfg: all(inside, forward(".", "192.0.2.110")), steps: []step{
			{ask: "direct.test. A", answer: []string{"direct.test. CNAME www.corp.example.", "www.corp.example. A 10.0.0.1"}, sent: []string{"192.0.2.110 direct.test. A", "192.0.2.100 www.corp.example. A"}},
			{ask: "through.test. A", answer: []string{"through.test. CNAME in.corp.example.", "in.corp.example. CNAME www.corp.example.", "www.corp.example. A 10.0.0.1"}, most: 3},
		}},
		{name: "asks the inner zone for what an outer forwarder denies of it", world: func(n *simnet.Net) {
			corp(n)
			n.Serve("192.0.2.110", ".", "alias.test. 300 CNAME www.corp.example.")
			n.Break("192.0.2.110", recursive())
		}, cfg: all(inside, forward(".", "192.0.2.110")), steps: []step{
			{ask: "alias.test. A", answer: []string{"alias.test. CNAME www.corp.example.", "www.corp.example. A 10.0.0.1"}, sent: []string{"192.0.2.110 alias.test. A", "192.0.2.100 www.corp.example. A"}},
		}},
	})
}

func TestScenariosForwardEverything(t *testing.T) {
	everything := func(n *simnet.Net) {
		n.Serve("192.0.2.110", ".", "www.example.com. 300 A 203.0.113.1\nfar.example.com. 300 CNAME end.example.net.\nend.example.net. 300 A 203.0.113.2\ndns.test. 300 A 192.0.2.110")
		n.Break("192.0.2.110", recursive())
	}
	play(t, []scenario{
		{name: "forwards every name", world: everything, cfg: all(forward(".", "192.0.2.110"), func(cfg *config.Config) { cfg.Resolver.PrimeRoot = true }), steps: []step{
			{ask: "www.example.com. A", answer: []string{"www.example.com. A 203.0.113.1"}, sent: []string{"192.0.2.110 www.example.com. A"}},
			{ask: "far.example.com. A", answer: []string{"far.example.com. CNAME end.example.net.", "end.example.net. A 203.0.113.2"}, sent: []string{"192.0.2.110 far.example.com. A"}},
			{ask: ". NS", sent: []string{"192.0.2.110 . NS"}},
			{ask: "com. DS", sent: []string{"192.0.2.110 com. DS"}},
			{ask: "nothing. A", rcode: wire.NXDomain, sent: []string{"192.0.2.110 nothing. A"}},
		}},
		{name: "lets the most specific zone decide", world: func(n *simnet.Net) {
			everything(n)
			corp(n)
			n.Serve("192.0.2.120", "lab.corp.example.", "a.lab.corp.example. 300 A 10.1.0.1\nsub.lab.corp.example. 300 NS ns.sub.lab.corp.example.\nns.sub.lab.corp.example. 300 A 192.0.2.121")
			n.Serve("192.0.2.121", "sub.lab.corp.example.", "b.sub.lab.corp.example. 300 A 10.1.0.2")
		}, cfg: all(forward(".", "192.0.2.110"), forward("corp.example.", "192.0.2.100"), stub("lab.corp.example.", "192.0.2.120")), steps: []step{
			{ask: "www.corp.example. A", answer: []string{"www.corp.example. A 10.0.0.1"}, sent: []string{"192.0.2.100 www.corp.example. A"}},
			{ask: "a.lab.corp.example. A", answer: []string{"a.lab.corp.example. A 10.1.0.1"}, sent: []string{"192.0.2.120 a.lab.corp.example. A"}},
			{ask: "b.sub.lab.corp.example. A", answer: []string{"b.sub.lab.corp.example. A 10.1.0.2"}, sent: []string{"192.0.2.120 sub.lab.corp.example. A", "192.0.2.121 b.sub.lab.corp.example. A"}},
			{ask: "lab.corp.example. DS", sent: []string{"192.0.2.100 lab.corp.example. DS"}, rcode: wire.NXDomain},
			{ask: "a.lab.corp.example. AAAA", noAns: true, sent: []string{"192.0.2.120 a.lab.corp.example. AAAA"}},
		}},
		{name: "finds the forwarder's address in a stub zone", world: func(n *simnet.Net) {
			everything(n)
			n.Serve("192.0.2.120", "corp.example.", "dns.corp.example. 300 A 192.0.2.110")
		}, cfg: all(stub("corp.example.", "192.0.2.120"), func(cfg *config.Config) {
			cfg.ForwardZones = []config.Zone{{Name: wire.Root, Hosts: []wire.Name{wire.MustParseName("dns.corp.example.")}}}
		}), steps: []step{
			{ask: "www.example.com. A", answer: []string{"www.example.com. A 203.0.113.1"}, sent: []string{"192.0.2.120 dns.corp.example. A", "192.0.2.110 www.example.com. A"}},
		}},
		{name: "has no way out when everything is forwarded to a name", cfg: func(cfg *config.Config) {
			cfg.ForwardZones = []config.Zone{{Name: wire.Root, Hosts: []wire.Name{wire.MustParseName("dns.test.")}}}
		}, steps: []step{
			{ask: "www.example.com. A", rcode: wire.ServFail, ede: unreachable, none: true},
		}},
	})
}

func TestScenariosStubZone(t *testing.T) {
	recursing := func(req exchange.Request) bool { return req.RD }
	internal := func(n *simnet.Net) {
		n.Serve("192.0.2.120", "example.com.", `
example.com. 3600 SOA ns.example.com. host.example.com. 7 1800 900 604800 300
example.com. 3600 NS ns.example.com.
ns.example.com. 3600 A 192.0.2.120
www.example.com. 300 A 10.2.0.1
alias.example.com. 300 CNAME www.sub.example.com.
sub.example.com. 3600 NS ns.sub.example.com.
ns.sub.example.com. 3600 A 192.0.2.121
`)
		n.Serve("192.0.2.121", "sub.example.com.", "www.sub.example.com. 300 A 10.2.0.2\nmore.sub.example.com. 300 A 10.2.0.3\nback.sub.example.com. 300 CNAME www.example.com.\nbeside.sub.example.com. 300 CNAME www.sub.example.com.")
		n.Break("192.0.2.120", simnet.Rcode(wire.Refused).If(recursing))
		n.Break("192.0.2.121", simnet.Rcode(wire.Refused).If(recursing))
	}
	inside := stub("example.com.", "192.0.2.120")
	play(t, []scenario{
		{name: "asks the stub's servers instead of the parent's", world: internal, cfg: inside, steps: []step{
			{ask: "www.example.com. A", answer: []string{"www.example.com. A 10.2.0.1"}, sent: []string{"192.0.2.120 www.example.com. A"}},
			{ask: "no.example.com. A", rcode: wire.NXDomain, soa: "example.com.", sent: []string{"192.0.2.120 no.example.com. A"}},
			{ask: "com. NS", sent: []string{"192.0.2.1 com. NS", "192.0.2.2 com. NS"}},
			{ask: "example.com. DS", noAns: true, soa: "com.", sent: []string{"192.0.2.2 example.com. DS"}},
		}},
		{name: "goes before a delegation that is known already", world: internal, cfg: inside, steps: []step{
			{ask: "example.com. DS", most: 2},
			{ask: "www.example.com. A", answer: []string{"www.example.com. A 10.2.0.1"}, sent: []string{"192.0.2.120 www.example.com. A"}},
		}},
		{name: "follows the stub's referrals", world: internal, cfg: inside, steps: []step{
			{ask: "www.sub.example.com. A", answer: []string{"www.sub.example.com. A 10.2.0.2"}, sent: []string{"192.0.2.120 sub.example.com. A", "192.0.2.121 www.sub.example.com. A"}},
			{ask: "more.sub.example.com. A", sent: []string{"192.0.2.121 more.sub.example.com. A"}},
			{ask: "sub.example.com. DS", noAns: true, sent: []string{"192.0.2.120 sub.example.com. DS"}},
			{ask: "back.sub.example.com. A", answer: []string{"back.sub.example.com. CNAME www.example.com.", "www.example.com. A 10.2.0.1"}, sent: []string{"192.0.2.121 back.sub.example.com. A", "192.0.2.120 www.example.com. A"}},
			{ask: "beside.sub.example.com. A", answer: []string{"beside.sub.example.com. CNAME www.sub.example.com.", "www.sub.example.com. A 10.2.0.2"}, sent: []string{"192.0.2.121 beside.sub.example.com. A"}},
			{ask: "alias.example.com. A", answer: []string{"alias.example.com. CNAME www.sub.example.com.", "www.sub.example.com. A 10.2.0.2"}, sent: []string{"192.0.2.120 alias.example.com. A"}},
		}},
		{name: "takes the place of the root", world: func(n *simnet.Net) {
			n.Serve("192.0.2.9", ".", "com. 172800 NS ns.com.\nns.com. 172800 A 192.0.2.2")
		}, cfg: all(stub(".", "192.0.2.9"), func(cfg *config.Config) { cfg.Resolver.PrimeRoot = true }), steps: []step{
			{ask: "www.example.com. A", sent: []string{"192.0.2.9 com. A", "192.0.2.2 example.com. A", "192.0.2.11 www.example.com. A"}},
			{ask: "net. A", rcode: wire.NXDomain, sent: []string{"192.0.2.9 net. A"}},
		}},
		{name: "asks over TCP if it is told to, but not below", world: internal, cfg: all(inside, func(cfg *config.Config) { cfg.StubZones[0].TCP = true }), steps: []step{
			{do: func(n *simnet.Net) {
				n.Break("192.0.2.120", simnet.Silent().If(simnet.UDP))
				n.Break("192.0.2.121", simnet.Silent().If(simnet.TCP))
			}, ask: "www.sub.example.com. A", answer: []string{"www.sub.example.com. A 10.2.0.2"}, most: 2},
		}},
		{name: "fails when the stub's servers refuse", cfg: inside, world: func(n *simnet.Net) { n.Break("192.0.2.120", simnet.Rcode(wire.Refused)) }, steps: []step{
			{ask: "www.example.com. A", rcode: wire.ServFail, ede: unreachable, sent: []string{"192.0.2.120 www.example.com. A"}},
		}},
	})
}

func TestScenariosZoneFirst(t *testing.T) {
	public := []string{"www.example.com. A 198.51.100.1", "www.example.com. A 198.51.100.2"}
	walk := []string{"192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.11 www.example.com. A"}
	mended := func(n *simnet.Net) {
		n.Serve("192.0.2.100", "example.com.", "www.example.com. 300 A 10.3.0.1\nmail.example.com. 300 A 10.3.0.2\na.b.c.d.example.com. 300 A 10.3.0.3")
		n.Break("192.0.2.100")
	}
	refuse := func(n *simnet.Net) { n.Break("192.0.2.100", simnet.Rcode(wire.ServFail)) }
	play(t, []scenario{
		{name: "recurses when the forwarder fails", world: refuse, cfg: all(forward("example.com.", "192.0.2.100"), orElse), steps: []step{
			{ask: "www.example.com. A", answer: public, sent: append([]string{"192.0.2.100 www.example.com. A"}, walk...)},
			{ask: "mail.example.com. A", answer: []string{"mail.example.com. A 10.3.0.2"}, do: mended, after: 2 * time.Minute, sent: []string{"192.0.2.100 mail.example.com. A"}},
		}},
		{name: "recurses in time when the forwarder is dead", cfg: all(forward("example.com.", "192.0.2.100"), orElse), steps: []step{
			{ask: "www.example.com. A", answer: public, most: 6, within: 3100 * time.Millisecond},
		}},
		{name: "does not recurse when the forwarder denies", world: func(n *simnet.Net) {
			n.Serve("192.0.2.100", "example.com.", "")
		}, cfg: all(forward("example.com.", "192.0.2.100"), orElse), steps: []step{
			{ask: "www.example.com. A", rcode: wire.NXDomain, sent: []string{"192.0.2.100 www.example.com. A"}},
		}},
		{name: "recurses when the stub's servers fail, and forgets what it saw", world: func(n *simnet.Net) {
			refuse(n)
			n.Serve("192.0.2.11", "example.com.", "d.example.com. 3600 NS ns.d.example.com.\nns.d.example.com. 3600 A 192.0.2.12")
			n.Serve("192.0.2.12", "d.example.com.", "a.b.c.d.example.com. 300 A 198.51.100.8\nx.d.example.com. 300 A 198.51.100.9")
		}, cfg: all(stub("example.com.", "192.0.2.100"), orElse), steps: []step{
			{ask: "x.d.example.com. A", answer: []string{"x.d.example.com. A 198.51.100.9"}},
			{ask: "a.b.c.d.example.com. A", answer: []string{"a.b.c.d.example.com. A 10.3.0.3"}, do: mended, after: 2 * time.Minute},
		}},
		{name: "asks the forwarder again below a cut that recursion found in its place", world: func(n *simnet.Net) {
			refuse(n)
			n.Serve("192.0.2.11", "example.com.", "d.example.com. 3600 NS ns.d.example.com.\nns.d.example.com. 3600 A 192.0.2.12")
			n.Serve("192.0.2.12", "d.example.com.", "x.d.example.com. 300 A 198.51.100.9")
		}, cfg: all(forward("example.com.", "192.0.2.100"), orElse), steps: []step{
			{ask: "x.d.example.com. A", answer: []string{"x.d.example.com. A 198.51.100.9"}},
			{ask: "a.b.c.d.example.com. A", answer: []string{"a.b.c.d.example.com. A 10.3.0.3"}, do: mended, after: 2 * time.Minute, sent: []string{"192.0.2.100 a.b.c.d.example.com. A"}},
		}},
		{name: "leaves half of the time for recursion", cfg: all(forward("example.com.", "192.0.2.100", "192.0.2.101", "192.0.2.102", "192.0.2.103"), orElse), steps: []step{
			{ask: "www.example.com. A", answer: public, within: 3100 * time.Millisecond},
		}},
		{name: "takes an alias inside from who has the zone above too", world: func(n *simnet.Net) {
			refuse(n)
			n.Serve("192.0.2.2", "example.com.", "www.example.com. 300 A 198.51.100.1\nalias.example.com. 300 CNAME www.example.com.")
		}, cfg: all(forward("example.com.", "192.0.2.100"), orElse), steps: []step{
			{
				ask: "alias.example.com. A", answer: []string{"alias.example.com. CNAME www.example.com.", "www.example.com. A 198.51.100.1"},
				sent: []string{"192.0.2.100 alias.example.com. A", "192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.2 alias.example.com. A"},
			},
		}},
		{name: "goes to the zone around it first", world: func(n *simnet.Net) {
			refuse(n)
			n.Serve("192.0.2.110", "com.", "www.example.com. 300 A 10.3.0.9")
			n.Break("192.0.2.110", recursive())
		}, cfg: all(forward("example.com.", "192.0.2.100"), orElse, forward("com.", "192.0.2.110")), steps: []step{
			{ask: "www.example.com. A", answer: []string{"www.example.com. A 10.3.0.9"}, sent: []string{"192.0.2.100 www.example.com. A", "192.0.2.110 www.example.com. A"}},
		}},
		{name: "asks the failed zone only once for an alias inside", world: func(n *simnet.Net) {
			refuse(n)
			n.Serve("192.0.2.11", "example.com.", "www.example.com. 300 A 198.51.100.1\nalias.example.com. 300 CNAME www.example.com.")
		}, cfg: all(forward("example.com.", "192.0.2.100"), orElse), steps: []step{
			{
				ask: "alias.example.com. A", answer: []string{"alias.example.com. CNAME www.example.com.", "www.example.com. A 198.51.100.1"},
				sent: []string{"192.0.2.100 alias.example.com. A", "192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.11 alias.example.com. A"},
			},
		}},
		{name: "recurses for everything when the forwarder fails", world: refuse, cfg: all(forward(".", "192.0.2.100"), orElse), steps: []step{
			{ask: "www.example.com. A", answer: public, sent: append([]string{"192.0.2.100 www.example.com. A"}, walk...)},
		}},
		{name: "fails when the forwarder and recursion do", world: func(n *simnet.Net) {
			refuse(n)
			n.Break("192.0.2.11", simnet.Rcode(wire.Refused))
		}, cfg: all(forward("example.com.", "192.0.2.100"), orElse), steps: []step{
			{ask: "www.example.com. A", rcode: wire.ServFail, ede: unreachable, most: 6},
		}},
	})
}

func TestScenariosHardenGlue(t *testing.T) {
	world := func(n *simnet.Net) {
		n.Break("192.0.2.2", simnet.Script(func(q wire.Question, _ exchange.Request) *dns.Msg {
			m := new(dns.Msg)
			m.Ns = simnet.RRs("example.com. NS ns.other.net.")
			m.Extra = simnet.RRs("ns.other.net. 600 A 192.0.2.66\nunnamed.other.net. A 192.0.2.67")
			return m
		}))
		n.Serve("192.0.2.21", "example.com.", "*.example.com. 1 A 198.51.100.40")
		n.Serve("192.0.2.66", "example.com.", "*.example.com. 1 A 203.0.113.66")
	}
	play(t, []scenario{
		{name: "looks up a server that the referral's has no authority over", world: world, steps: []step{
			{ask: "www.example.com. A", answer: []string{"www.example.com. A 198.51.100.40"}, most: 6},
		}},
		{name: "takes the referral's word for any server if it is told to", world: world, cfg: func(cfg *config.Config) { cfg.Resolver.HardenGlue = false }, steps: []step{
			{ask: "www.example.com. A", answer: []string{"www.example.com. A 203.0.113.66"}, sent: []string{"192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.66 www.example.com. A"}},
			{after: 599 * time.Second, ask: "x.example.com. A", sent: []string{"192.0.2.66 x.example.com. A"}},
			{after: time.Second, ask: "y.example.com. A", sent: []string{"192.0.2.2 example.com. A", "192.0.2.66 y.example.com. A"}},
		}},
	})
}
