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

// misses is a pipeline that knows the servers of many zones, and a stream of
// queries for names in them, each new.
type misses struct {
	p       *Pipeline
	asked   int
	queries [][]byte
	q       wire.Query
	buf     []byte
}

// missZones is how many zones the names lie in.
const missZones = 300

func newMisses(tb testing.TB) *misses {
	cfg := config.Default()
	cfg.DNSSEC.Validation = false
	cfg.Resolver.PrimeRoot = false
	p, err := NewPipeline(cfg, &canned{}, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.Frontend.Close)
	for i := range missZones {
		cut := &rrset.Cut{Zone: wire.MustParseName(fmt.Sprintf("zone%d.shirube.net.", i)), Until: time.Now().Add(24 * time.Hour)}
		for j := range 2 {
			cut.Servers = append(cut.Servers, rrset.Server{
				Host:  wire.MustParseName(fmt.Sprintf("ns%d.zone%d.shirube.net.", j, i)),
				Addrs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, byte(i), byte(j + 1)})},
			})
		}
		p.Memory.PutCut(cut)
	}
	m := &misses{p: p, buf: make([]byte, 0, 1232)}
	m.q.Client, m.q.Proto = netip.MustParseAddrPort("127.0.0.1:5353"), wire.UDP
	return m
}

// prepare makes n queries.
func (m *misses) prepare(n int) {
	m.queries = m.queries[:0]
	for range n {
		m.asked++
		msg := []byte{1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1}
		msg = append(msg, wire.MustParseName(fmt.Sprintf("h%d.zone%d.shirube.net.", m.asked, m.asked%missZones))...)
		msg = append(msg, 0, 1, 0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0)
		m.queries = append(m.queries, msg)
	}
}

// ask asks one query that was prepared, the way that the transport for UDP does.
func (m *misses) ask(tb testing.TB, kept *wire.Query) {
	msg := m.queries[len(m.queries)-1]
	m.queries = m.queries[:len(m.queries)-1]
	m.q.Received = time.Now()
	if m.q.Parse(msg) != wire.OK {
		tb.Fatal("not parsed")
	}
	m.q.Limit = m.q.UDPLimit(1232)
	if _, outcome := m.p.Frontend.TryServe(m.buf, &m.q); outcome != transport.Deferred {
		tb.Fatal(outcome)
	}
	m.q.CopyTo(kept)
	if rsp := m.p.Frontend.Serve(context.Background(), m.buf, kept); len(rsp) < 40 || rsp[7] != 1 {
		tb.Fatalf("%x", rsp)
	}
}

// BenchmarkMiss is what a question for a name of a zone whose servers are known
// costs but for its system calls and goroutines.
func BenchmarkMiss(b *testing.B) {
	m := newMisses(b)
	var kept wire.Query
	b.ReportAllocs()
	for b.Loop() {
		if len(m.queries) == 0 {
			b.StopTimer()
			m.prepare(10_000)
			b.StartTimer()
		}
		m.ask(b, &kept)
	}
}

func TestColdQuestionTakesFewAllocations(t *testing.T) {
	m := newMisses(t)
	var kept wire.Query
	const most = 30
	m.prepare(2001)
	if got := testing.AllocsPerRun(2000, func() { m.ask(t, &kept) }); got > most {
		t.Errorf("%.1f allocations, want %d at most", got, most)
	}
}
