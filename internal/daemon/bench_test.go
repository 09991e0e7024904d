//go:build !race

package daemon

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/simnet"
	"shirube/internal/wire"
	"shirube/transport"
)

// BenchmarkHit is what a query that is answered from memory costs but for its
// system calls: parsing, policy, look-up, OPT record. Names come in no order.
func BenchmarkHit(b *testing.B) {
	p, err := NewPipeline(config.Default(), simnet.New(), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(p.Frontend.Close)
	const names = 10_000
	queries := make([][]byte, names)
	for i := range queries {
		name := fmt.Sprintf("www.zone%d.example.", i)
		rememberAnswers(b, p, name+" 300 A 198.51.100.1")
		m := new(dns.Msg).SetQuestion(name, dns.TypeA)
		m.SetEdns0(1232, false)
		if queries[i], err = m.Pack(); err != nil {
			b.Fatal(err)
		}
	}
	rand.Shuffle(names, func(i, j int) { queries[i], queries[j] = queries[j], queries[i] })
	var q wire.Query
	q.Client, q.Proto = netip.MustParseAddrPort("127.0.0.1:5353"), wire.UDP
	buf := make([]byte, 0, 1232)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if i%32 == 0 { // once for a batch
			q.Received = time.Now()
		}
		if q.Parse(queries[i%names]) != wire.OK {
			b.Fatal("not parsed")
		}
		q.Limit = q.UDPLimit(1232)
		if _, outcome := p.Frontend.TryServe(buf, &q); outcome != transport.Answered {
			b.Fatal(outcome)
		}
		i++
	}
}
