package daemon

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"shirube/internal/config"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// chain is a zone of n aliases that end in an address, each but the first in
// the other of two zones.
func chain(n int) func(net *simnet.Net) {
	return func(net *simnet.Net) {
		zones := map[string]*strings.Builder{"example.com.": new(strings.Builder), "other.net.": new(strings.Builder)}
		owner := func(i int) (name, zone string) {
			zone = [...]string{"example.com.", "other.net."}[i%2]
			return fmt.Sprintf("n%d.%s", i, zone), zone
		}
		for i := range n {
			name, zone := owner(i)
			next, _ := owner(i + 1)
			fmt.Fprintf(zones[zone], "%s 300 CNAME %s\n", name, next)
		}
		last, zone := owner(n)
		fmt.Fprintf(zones[zone], "%s 300 A 198.51.100.77\n", last)
		net.Serve("192.0.2.11", "example.com.", zones["example.com."].String())
		net.Serve("192.0.2.21", "other.net.", zones["other.net."].String())
	}
}

func TestScenariosAliases(t *testing.T) {
	play(t, []scenario{
		{name: "follows eleven aliases", world: chain(11), steps: []step{{ask: "n0.example.com. A", within: time.Second, most: 20}}},
		{name: "refuses twelve", world: chain(12), steps: []step{{ask: "n0.example.com. A", rcode: wire.ServFail, ede: other, within: time.Second}}},
		{name: "follows as many as it is told", cfg: func(cfg *config.Config) { cfg.Resolver.MaxAliases = 2 }, world: chain(3), steps: []step{
			{ask: "n0.example.com. A", rcode: wire.ServFail, ede: other},
			{ask: "n1.other.net. A", rcode: wire.NoError},
		}},
		{name: "notices a loop", world: func(n *simnet.Net) {
			n.Serve("192.0.2.11", "example.com.", "a.example.com. 300 CNAME b.other.net.")
			n.Serve("192.0.2.21", "other.net.", "b.other.net. 300 CNAME a.example.com.")
		}, steps: []step{{ask: "a.example.com. A", rcode: wire.ServFail, ede: other, most: 6, within: time.Second}}},
		{name: "notices a loop in one zone", world: func(n *simnet.Net) {
			n.Serve("192.0.2.11", "example.com.", "a.example.com. 300 CNAME b.example.com.\nb.example.com. 300 CNAME a.example.com.")
		}, steps: []step{{ask: "a.example.com. A", rcode: wire.ServFail, ede: other, most: 6, within: time.Second}}},
		{name: "notices an alias of itself", world: func(n *simnet.Net) {
			n.Serve("192.0.2.11", "example.com.", "a.example.com. 300 CNAME a.example.com.")
		}, steps: []step{{ask: "a.example.com. A", rcode: wire.ServFail, ede: other, most: 4, within: time.Second}}},
		{name: "denies behind an alias", world: func(n *simnet.Net) {
			n.Serve("192.0.2.11", "example.com.", "gone.example.com. 300 CNAME nx.other.net.\nno.example.com. 300 CNAME www.other.net.")
		}, steps: []step{
			{ask: "gone.example.com. A", rcode: wire.NXDomain, answer: []string{"gone.example.com. CNAME nx.other.net."}, soa: "other.net."},
			{ask: "no.example.com. MX", rcode: wire.NoError, answer: []string{"no.example.com. CNAME www.other.net."}, soa: "other.net."},
		}},
		{name: "takes a chain inside a zone from one answer", world: func(n *simnet.Net) {
			n.Serve("192.0.2.11", "example.com.", "a.example.com. 300 CNAME b.example.com.\nb.example.com. 60 CNAME c.example.com.\nc.example.com. 30 A 198.51.100.5")
		}, steps: []step{
			{
				ask:    "a.example.com. A",
				answer: []string{"a.example.com. CNAME b.example.com.", "b.example.com. CNAME c.example.com.", "c.example.com. A 198.51.100.5"},
				ttls:   []int{300, 60, 30}, most: 3,
			},
			{after: 29 * time.Second, ask: "a.example.com. A", ttls: []int{271, 31, 1}, none: true},
			// Only what was asked about is remembered of it.
			{after: 2 * time.Second, ask: "a.example.com. A", ttls: []int{269, 60, 30}, sent: []string{"192.0.2.11 b.example.com. A"}},
		}},
		{name: "asks for the alias itself", steps: []step{
			{ask: "alias.example.com. CNAME", answer: []string{"alias.example.com. CNAME www.other.net."}, most: 3},
			{ask: "www.example.com. CNAME", noAns: true, soa: "example.com.", most: 1},
		}},
		{name: "substitutes a DNAME", world: func(n *simnet.Net) {
			n.Serve("192.0.2.11", "example.com.", "old.example.com. 300 DNAME other.net.")
		}, steps: []step{
			{ask: "www.old.example.com. A", answer: []string{
				"old.example.com. DNAME other.net.", "www.old.example.com. CNAME www.other.net.", "www.other.net. A 198.51.100.9",
			}},
			{ask: "old.example.com. A", noAns: true, soa: "example.com."},
			{ask: "www.old.example.com. A +do", answer: []string{ // never without the DNAME
				"old.example.com. DNAME other.net.", "www.old.example.com. CNAME www.other.net.", "www.other.net. A 198.51.100.9",
			}},
		}},
		{name: "passes a DNAME twice and gives it once", world: func(n *simnet.Net) { // RFC 2181 §5
			n.Serve("192.0.2.11", "example.com.", "old.example.com. 300 DNAME example.com.\na.example.com. 300 CNAME b.old.example.com.\nb.example.com. 60 A 198.51.100.5")
		}, steps: []step{
			{ask: "a.old.example.com. A", answer: []string{
				"old.example.com. DNAME example.com.", "a.old.example.com. CNAME a.example.com.", "a.example.com. CNAME b.old.example.com.",
				"b.old.example.com. CNAME b.example.com.", "b.example.com. A 198.51.100.5",
			}},
		}},
		{name: "says that a DNAME makes too long a name", world: func(n *simnet.Net) {
			long := strings.Repeat(strings.Repeat("l", 60)+".", 3)
			n.Serve("192.0.2.11", "example.com.", "d.example.com. 300 DNAME "+long+"other.net.")
		}, steps: []step{
			{ask: strings.Repeat(strings.Repeat("m", 60)+".", 2) + "d.example.com. A", rcode: wire.YXDomain},
		}},
		{name: "expands a wildcard", steps: []step{
			{ask: "x.wild.example.com. TXT", answer: []string{`x.wild.example.com. TXT "expanded"`}},
			{ask: "y.wild.example.com. A", noAns: true, soa: "example.com."},
		}},
	})
}
