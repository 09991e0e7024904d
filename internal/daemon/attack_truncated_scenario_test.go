package daemon

import (
	"testing"

	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// TestAttackCAMPPaysForTCPToo has every server truncate its answers: the
// queries over TCP come out of the same purse.
func TestAttackCAMPPaysForTCPToo(t *testing.T) {
	inBubble(t, camp(true, simnet.Rcode(wire.Refused)), func(t *testing.T, p *Pipeline, n *simnet.Net) {
		for _, a := range []string{"192.0.2.2", "192.0.2.3", victim, "192.0.2.112"} {
			n.Break(a, simnet.Truncate())
		}
		failed(t, ask(t, p, "a.b.c.d.e.f.g.h.z0.com. A"), unreachable)
		if len(n.Log()) > 101 { // the last exchange may go over by the query that it sent by itself
			t.Errorf("%d packets, %d queries", len(n.Log()), p.Resolver.Stats().Queries)
		}
	})
}
