//go:build !race

package daemon

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"shirube/internal/config"
	"shirube/internal/exchange"
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/transport"
)

// canned answers every question with one address at once.
type canned struct{ buf []byte }

func (c *canned) Exchange(_ context.Context, req exchange.Request) (exchange.Response, error) {
	b := append(c.buf[:0], 0, 0, 0x84, 0, 0, 1, 0, 1, 0, 0, 0, 1)
	b = append(b, req.Question.Name...)
	b = binary.BigEndian.AppendUint16(b, uint16(req.Question.Type))
	b = append(b, 0, 1)
	b = append(b, 0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 192, 0, 2, 1)
	b = append(b, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0)
	c.buf = b
	m, err := rrset.Unpack(b)
	return exchange.Response{Msg: m, RTT: time.Millisecond, Size: len(b)}, err
}

// BenchmarkMiss is what a question for a name of a zone whose servers are known
// costs but for its system calls and goroutines.
func BenchmarkMiss(b *testing.B) {
	cfg := config.Default()
	cfg.DNSSEC.Validation = false
	cfg.Resolver.PrimeRoot = false
	p, err := NewPipeline(cfg, &canned{}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(p.Frontend.Close)
	const zones = 300
	for i := range zones {
		z, _ := wire.ParseName(fmt.Sprintf("zone%d.shirube.net.", i))
		var srv []rrset.Server
		for j := range 2 {
			h, _ := wire.ParseName(fmt.Sprintf("ns%d.zone%d.shirube.net.", j, i))
			srv = append(srv, rrset.Server{Host: h, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, byte(i), byte(j + 1)})}})
		}
		p.Memory.PutCut(&rrset.Cut{Zone: z, Servers: srv, Until: time.Now().Add(24 * time.Hour)})
	}
	const names = 10_000
	queries := make([][]byte, 0, names)
	n := 0
	var q wire.Query
	q.Client, q.Proto = netip.MustParseAddrPort("127.0.0.1:5353"), wire.UDP
	buf := make([]byte, 0, 1232)
	ctx := context.Background()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%names == 0 {
			b.StopTimer()
			queries = queries[:0]
			for range names {
				n++
				msg := []byte{1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1}
				nm, err := wire.ParseName(fmt.Sprintf("h%d.zone%d.shirube.net.", n, n%zones))
				if err != nil {
					b.Fatal(err)
				}
				msg = append(msg, nm...)
				msg = append(msg, 0, 1, 0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0)
				queries = append(queries, msg)
			}
			b.StartTimer()
		}
		if i%32 == 0 {
			q.Received = time.Now()
		}
		if q.Parse(queries[i%names]) != wire.OK {
			b.Fatal("not parsed")
		}
		q.Limit = q.UDPLimit(1232)
		if _, outcome := p.Frontend.TryServe(buf, &q); outcome != transport.Deferred {
			b.Fatal(outcome)
		}
		if rsp := p.Frontend.Serve(ctx, buf, q.Clone()); len(rsp) < 40 || rsp[7] != 1 {
			b.Fatal(rsp)
		}
	}
}
