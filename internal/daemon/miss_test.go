//go:build !race

package daemon

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"shirube/internal/config"
	"shirube/internal/exchange"
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/transport"
)

// canned answers every question in the same way at once.
type canned struct {
	buf    []byte
	denies bool          // no name exists; else each has one address
	silent bool          // nothing comes
	holds  chan struct{} // nothing comes until it is closed; nil: it comes at once
	begun  chan struct{} // told of each question that is held
}

func (c *canned) Exchange(_ context.Context, req exchange.Request) (exchange.Response, error) {
	if c.holds != nil {
		c.begun <- struct{}{}
		<-c.holds
	}
	if c.silent {
		return exchange.Response{}, exchange.ErrTimeout
	}
	b := append(c.buf[:0], 0, 0, 0x84, 0, 0, 1, 0, 1, 0, 0, 0, 1)
	b = append(b, req.Question.Name...)
	b = binary.BigEndian.AppendUint16(b, uint16(req.Question.Type))
	b = append(b, 0, 1)
	if c.denies {
		b[3], b[7], b[9] = byte(wire.NXDomain), 0, 1
		zone := wire.HeaderLen + 1 + int(req.Question.Name[0])
		b = append(b, 0xc0, byte(zone), 0, 6, 0, 1, 0, 0, 14, 16, 0, 34) // SOA
		b = append(b, 3, 'n', 's', '1', 0xc0, byte(zone), 5, 'a', 'd', 'm', 'i', 'n', 0xc0, byte(zone))
		b = append(b, 0, 0, 0, 1, 0, 0, 14, 16, 0, 0, 3, 132, 0, 9, 58, 128, 0, 0, 14, 16)
	} else {
		b = append(b, 0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 192, 0, 2, 1)
	}
	b = append(b, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0)
	c.buf = b
	m, err := rrset.Unpack(b)
	return exchange.Response{Msg: m, RTT: time.Millisecond, Size: len(b)}, err
}

// misses is a pipeline that knows the servers of many zones, and a stream of
// queries for names in them, each new.
type misses struct {
	p       *Pipeline
	zones   int
	asked   int
	queries [][]byte
	q       wire.Query
	buf     []byte
}

func newMisses(tb testing.TB, c *canned, zones, inFlight int) *misses {
	cfg := config.Default()
	cfg.Limits.InFlightPerZone = inFlight
	cfg.DNSSEC.Validation = false
	cfg.Resolver.PrimeRoot = false
	p, err := NewPipeline(cfg, c, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.Frontend.Close)
	for i := range zones {
		cut := &rrset.Cut{Zone: wire.MustParseName(fmt.Sprintf("zone%d.shirube.net.", i)), Until: time.Now().Add(24 * time.Hour)}
		for j := range 2 {
			cut.Servers = append(cut.Servers, rrset.Server{
				Host:  wire.MustParseName(fmt.Sprintf("ns%d.zone%d.shirube.net.", j, i)),
				Addrs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, byte(i), byte(j + 1)})},
			})
		}
		p.Memory.PutCut(cut)
	}
	m := &misses{p: p, zones: zones, buf: make([]byte, 0, 1232)}
	m.q.Client, m.q.Proto = netip.MustParseAddrPort("127.0.0.1:5353"), wire.UDP
	return m
}

// prepare makes n queries.
func (m *misses) prepare(n int) {
	m.queries = m.queries[:0]
	for range n {
		m.asked++
		msg := []byte{1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1}
		msg = append(msg, wire.MustParseName(fmt.Sprintf("h%d.zone%d.shirube.net.", m.asked, m.asked%m.zones))...)
		msg = append(msg, 0, 1, 0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0)
		m.queries = append(m.queries, msg)
	}
}

// ask asks one query that was prepared, the way that the transport for UDP does.
func (m *misses) ask(tb testing.TB, kept *wire.Query, want wire.Rcode) {
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
	if rsp := m.p.Frontend.Serve(context.Background(), m.buf, kept); len(rsp) < 40 || wire.RcodeOf(rsp) != want {
		tb.Fatalf("%x", rsp)
	}
}

// A missKind is what becomes of questions that memory does not answer, about names
// of zones whose servers are known.
type missKind struct {
	name  string
	as    canned
	zones int // that the names lie in
	full  bool
	want  wire.Rcode
	most  float64 // allocations
}

var missKinds = []missKind{
	{name: "answered", zones: 300, want: wire.NoError, most: 19},
	{name: "denied", zones: 300, as: canned{denies: true}, want: wire.NXDomain, most: 36},
	{name: "too many of the zone", zones: 1, full: true, want: wire.ServFail, most: 1},
	{name: "of a dead zone", zones: 1, as: canned{silent: true}, want: wire.ServFail, most: 1},
}

// begin has the questions for the misses that it returns end as k says.
func (k missKind) begin(tb testing.TB) *misses {
	c, inFlight := k.as, 0
	if k.full {
		inFlight, c.begun, c.holds = 1, make(chan struct{}), make(chan struct{})
	}
	m := newMisses(tb, &c, k.zones, inFlight)
	m.prepare(2)
	var first, kept wire.Query
	switch {
	case c.silent: // which is found out now
		m.ask(tb, &kept, k.want)
	case k.full:
		m.q.Received = time.Now()
		if m.q.Parse(m.queries[0]) != wire.OK {
			tb.Fatal("not parsed")
		}
		m.q.CopyTo(&first)
		var wg sync.WaitGroup
		wg.Go(func() { m.p.Frontend.Serve(context.Background(), nil, &first) })
		<-c.begun
		tb.Cleanup(func() { close(c.holds); wg.Wait() }) // before the pipeline is closed
	}
	m.queries = nil
	return m
}

// BenchmarkMiss is what a question for a name of a zone whose servers are known
// costs but for its system calls and goroutines.
func BenchmarkMiss(b *testing.B) {
	for _, k := range missKinds {
		b.Run(k.name, func(b *testing.B) {
			m := k.begin(b)
			var kept wire.Query
			b.ReportAllocs()
			for b.Loop() {
				if len(m.queries) == 0 {
					b.StopTimer()
					m.prepare(10_000)
					b.StartTimer()
				}
				m.ask(b, &kept, k.want)
			}
		})
	}
}

func TestMissTakesFewAllocations(t *testing.T) {
	for _, k := range missKinds {
		t.Run(k.name, func(t *testing.T) {
			m := k.begin(t)
			var kept wire.Query
			m.prepare(2001)
			if got := testing.AllocsPerRun(2000, func() { m.ask(t, &kept, k.want) }); got > k.most {
				t.Errorf("%.1f allocations, want %g at most", got, k.most)
			}
		})
	}
}

// TestHeapComesBackAfterAFlood asks for fifty thousand names that do not exist:
// what Go has in the end is little more than before, however many they were.
func TestHeapComesBackAfterAFlood(t *testing.T) {
	if !alone(t) {
		return
	}
	for _, zones := range []int{1, 100} {
		m := newMisses(t, &canned{denies: true}, zones, 0)
		var kept wire.Query
		flood := func(names int) uint64 {
			for ; names > 0; names -= 1000 {
				m.prepare(1000)
				for range 1000 {
					m.ask(t, &kept, wire.NXDomain)
				}
			}
			runtime.GC()
			runtime.GC() // pools are emptied in two
			var s runtime.MemStats
			runtime.ReadMemStats(&s)
			return s.HeapAlloc
		}
		const most = 8 << 20 // an eighth of half of cache.rrsets_size, and what counts how popular names are
		before, after := flood(1000), flood(50_000)
		if after > before+most {
			t.Errorf("%d zones: %d KiB before, %d KiB after the flood, want at most %d more", zones, before>>10, after>>10, most>>10)
		}
		if st := m.p.Memory.Stats().Sets; st.Entries < 1000 || st.Evicted < 30_000 {
			t.Errorf("%d zones: what is remembered is %+v", zones, st)
		}
		t.Logf("%d zones: %d KiB before, %d KiB after", zones, before>>10, after>>10)
	}
}
