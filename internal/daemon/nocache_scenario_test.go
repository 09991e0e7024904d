package daemon

import (
	"testing"

	"shirube/internal/config"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// uncached sets `no_cache` of all zones so far.
func uncached(cfg *config.Config) {
	for i := range cfg.ForwardZones {
		cfg.ForwardZones[i].NoCache = true
	}
	for i := range cfg.StubZones {
		cfg.StubZones[i].NoCache = true
	}
}

func TestScenariosZonesWithoutCache(t *testing.T) {
	fresh := func(n *simnet.Net) {
		n.Serve("192.0.2.100", "corp.example.", `
corp.example. 3600 SOA ns.corp.example. host.corp.example. 1 1800 900 604800 300
www.corp.example. 3600 A 198.51.100.70
www.corp.example. 3600 AAAA 2001:db8::70
out.corp.example. 3600 CNAME www.example.com.
sub.corp.example. 3600 NS ns.sub.corp.example.
ns.sub.corp.example. 3600 A 192.0.2.101
`)
		n.Serve("192.0.2.101", "sub.corp.example.", "www.sub.corp.example. 300 A 198.51.100.71")
	}
	resolver := func(n *simnet.Net) {
		fresh(n)
		n.Break("192.0.2.100", recursive())
	}
	play(t, []scenario{
		{name: "asks a forwarder anew each time", world: resolver, cfg: all(forward("corp.example.", "192.0.2.100"), uncached), steps: []step{
			{ask: "www.corp.example. A", answer: []string{"www.corp.example. A 198.51.100.70"}, ttls: []int{3600}, sent: []string{"192.0.2.100 www.corp.example. A"}},
			{ask: "www.corp.example. A", answer: []string{"www.corp.example. A 198.51.100.70"}, ttls: []int{3600}, sent: []string{"192.0.2.100 www.corp.example. A"}},
			{ask: "no.corp.example. A", rcode: wire.NXDomain, sent: []string{"192.0.2.100 no.corp.example. A"}},
			{ask: "no.corp.example. A", rcode: wire.NXDomain, sent: []string{"192.0.2.100 no.corp.example. A"}},
		}},
		{name: "keeps what others say of an alias's end", world: resolver, cfg: all(forward("corp.example.", "192.0.2.100"), uncached), steps: []step{
			{ask: "out.corp.example. A", most: 1 + 3},
			{ask: "out.corp.example. A", sent: []string{"192.0.2.100 out.corp.example. A"}},
			{ask: "www.example.com. A", none: true, answer: wwwAnswer},
		}},
		{name: "asks a stub zone's servers anew each time", world: fresh, cfg: all(stub("corp.example.", "192.0.2.100"), uncached), steps: []step{
			{ask: "www.corp.example. A", answer: []string{"www.corp.example. A 198.51.100.70"}, sent: []string{"192.0.2.100 www.corp.example. A"}},
			{ask: "www.corp.example. A", answer: []string{"www.corp.example. A 198.51.100.70"}, sent: []string{"192.0.2.100 www.corp.example. A"}},
			{ask: "www.sub.corp.example. A", sent: []string{"192.0.2.100 sub.corp.example. A", "192.0.2.101 www.sub.corp.example. A"}},
			{ask: "mail.sub.corp.example. A", rcode: wire.NXDomain, sent: []string{"192.0.2.100 sub.corp.example. A", "192.0.2.101 mail.sub.corp.example. A"}},
		}},
		{name: "remembers that a server failed", world: func(n *simnet.Net) {
			n.Break("192.0.2.100", simnet.Rcode(wire.Refused))
		}, cfg: all(forward("corp.example.", "192.0.2.100"), uncached), steps: []step{
			{ask: "www.corp.example. A", rcode: wire.ServFail, ede: unreachable, most: 1},
			{ask: "www.corp.example. A", rcode: wire.ServFail, ede: unreachable, none: true},
		}},
	})
}
