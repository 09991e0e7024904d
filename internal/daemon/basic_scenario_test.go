package daemon

import (
	"testing"
	"time"

	"shirube/internal/ede"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

func TestScenariosBasic(t *testing.T) {
	play(t, []scenario{
		{name: "walks from the root", steps: []step{
			{
				ask:    "www.example.com. A",
				answer: []string{"www.example.com. A 198.51.100.1", "www.example.com. A 198.51.100.2"},
				ttls:   []int{300, 300},
				sent:   []string{"192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.11 www.example.com. A"},
				within: 30 * time.Millisecond,
				noEDE:  true,
			},
			{
				after: 100 * time.Second, ask: "WWW.example.COM. A", none: true,
				answer: []string{"WWW.example.COM. A 198.51.100.1", "WWW.example.COM. A 198.51.100.2"}, ttls: []int{200, 200},
			},
			{ask: "www.example.com. AAAA", sent: []string{"192.0.2.11 www.example.com. AAAA"}, ttls: []int{60}},
			{after: 200 * time.Second, ask: "www.example.com. A", sent: []string{"192.0.2.11 www.example.com. A"}, ttls: []int{300, 300}},
		}},
		{name: "denies", steps: []step{
			{ask: "nx.example.com. A", rcode: wire.NXDomain, noAns: true, soa: "example.com.", most: 3},
			{ask: "nx.example.com. A", rcode: wire.NXDomain, noAns: true, soa: "example.com.", none: true},
			{ask: "nx.example.com. MX", rcode: wire.NXDomain, noAns: true, soa: "example.com.", none: true},
			{ask: "www.example.com. MX", rcode: wire.NoError, noAns: true, soa: "example.com.", most: 1},
			{after: 301 * time.Second, ask: "nx.example.com. A", rcode: wire.NXDomain, most: 1},
		}},
		{name: "follows an alias across zones", steps: []step{
			{
				ask:    "alias.example.com. A",
				answer: []string{"alias.example.com. CNAME www.other.net.", "www.other.net. A 198.51.100.9"},
				ttls:   []int{300, 600},
				sent: []string{
					"192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.11 alias.example.com. A",
					"192.0.2.1 net. A", "192.0.2.3 other.net. A", "192.0.2.21 www.other.net. A",
				},
			},
		}},
		{name: "passes empty non-terminals", steps: []step{
			{ask: "a.b.c.d.example.com. A", answer: []string{"a.b.c.d.example.com. A 198.51.100.3"}, most: 6},
		}},
		{name: "survives a silent server", world: func(n *simnet.Net) {
			n.Serve("192.0.2.2", "com.", `
example.com. 172800 NS ns1.example.com.
example.com. 172800 NS ns2.example.com.
ns1.example.com. 172800 A 192.0.2.11
ns2.example.com. 172800 A 192.0.2.12
`)
			n.Break("192.0.2.12", simnet.Silent())
		}, steps: []step{
			{ask: "www.example.com. A", answer: []string{"www.example.com. A 198.51.100.1", "www.example.com. A 198.51.100.2"}, within: 900 * time.Millisecond},
		}},
		{name: "says why it fails", world: func(n *simnet.Net) {
			n.Break("192.0.2.11", simnet.Rcode(wire.Refused))
		}, steps: []step{
			{ask: "www.example.com. A", rcode: wire.ServFail, ede: int(ede.NoReachableAuthority) + 1},
			{ask: "www.example.com. A", rcode: wire.ServFail, ede: int(ede.NoReachableAuthority) + 1, none: true},
			{after: 1100 * time.Millisecond, ask: "www.example.com. A", rcode: wire.ServFail, most: 5},
		}},
	})
}
