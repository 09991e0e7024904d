package daemon

import (
	"testing"

	"shirube/internal/config"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

func TestScenariosBuiltinZones(t *testing.T) {
	private := func(n *simnet.Net) {
		n.Serve("192.0.2.100", "20.10.in-addr.arpa.", "40.30.20.10.in-addr.arpa. 300 PTR host.corp.example.")
		n.Break("192.0.2.100", recursive())
	}
	denied := func(ask string) step {
		return step{ask: ask, rcode: wire.NXDomain, noAns: true, noEDE: true, none: true}
	}
	play(t, []scenario{
		{name: "asks nobody for names that are nobody's", steps: []step{
			denied("1.1.168.192.in-addr.arpa. PTR"), denied("www.invalid. A"), denied("x.onion. AAAA"),
			{ask: "localhost. A", answer: []string{"localhost. A 127.0.0.1"}, none: true},
			{ask: "1.0.0.127.in-addr.arpa. PTR", answer: []string{"1.0.0.127.in-addr.arpa. PTR localhost."}, none: true},
			{ask: "10.in-addr.arpa. DS", rcode: wire.NXDomain, most: 3}, // what the parent says of it is the parent's
		}},
		{name: "asks the forwarder of a zone inside, and for that zone only", world: private, cfg: forward("20.10.in-addr.arpa.", "192.0.2.100"), steps: []step{
			{ask: "40.30.20.10.in-addr.arpa. PTR", answer: []string{"40.30.20.10.in-addr.arpa. PTR host.corp.example."}, sent: []string{"192.0.2.100 40.30.20.10.in-addr.arpa. PTR"}},
			denied("40.30.21.10.in-addr.arpa. PTR"),
		}},
		{name: "tells the forwarder of everything nothing of them", world: private, cfg: forward(".", "192.0.2.100"), steps: []step{
			denied("40.30.20.10.in-addr.arpa. PTR"),
		}},
		{name: "resolves what is excepted", world: private, cfg: all(forward(".", "192.0.2.100"), func(cfg *config.Config) {
			cfg.BuiltinZones.Except = []wire.Name{wire.MustParseName("10.in-addr.arpa.")}
		}), steps: []step{
			{ask: "40.30.20.10.in-addr.arpa. PTR", answer: []string{"40.30.20.10.in-addr.arpa. PTR host.corp.example."}, most: 1},
			denied("1.1.168.192.in-addr.arpa. PTR"),
		}},
		{name: "has none when they are switched off", cfg: func(cfg *config.Config) { cfg.BuiltinZones.Enabled = false }, steps: []step{
			{ask: "www.invalid. A", rcode: wire.NXDomain, sent: []string{"192.0.2.1 invalid. A", "192.0.2.1 www.invalid. A"}},
		}},
	})
}
