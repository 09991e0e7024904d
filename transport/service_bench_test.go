package transport

import (
	"net/netip"
	"testing"
	"time"

	"shirube/internal/wire"
)

// BenchmarkAnswer is what a transport adds to a query that its Handler answers
// at once, but for the system calls: parsing, counting, and the check of what
// comes back.
func BenchmarkAnswer(b *testing.B) {
	s := newService(newScripted(), nil, 0, 0, nil)
	msg := packQuery(b, 1, "hit")
	q := wire.Query{Client: netip.MustParseAddrPort("192.0.2.1:5353"), Limit: DefaultMaxSize}
	buf := make([]byte, 0, DefaultMaxSize)
	var n counters
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%32 == 0 { // once for a batch
			q.Received = time.Now()
		}
		if _, outcome := s.answer(&n, buf, msg, &q, parse(&q, msg, false)); outcome != Answered {
			b.Fatal(outcome)
		}
	}
}
