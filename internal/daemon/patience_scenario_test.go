package daemon

import (
	"testing"
	"time"

	"shirube/internal/simnet"
)

func TestScenariosPatience(t *testing.T) {
	play(t, []scenario{
		{name: "waits longer for a fast server that is slow for once", steps: []step{
			{ask: "www.example.com. A", answer: wwwAnswer}, // 10 ms: from now on 50 ms are enough
			{ask: "www.example.com. AAAA"},
			{
				ask: "example.com. MX", answer: []string{"example.com. MX 10 mail.example.com."}, within: 1500 * time.Millisecond,
				do: func(n *simnet.Net) { n.Break("192.0.2.11", simnet.Latency(900*time.Millisecond, 0)) },
			},
		}},
	})
}
