//go:build !race

package cache

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// heap returns the bytes that live on the heap.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what the first one found finalisers and pools for
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// filling is one kind of load on a store.
type filling struct {
	what string
	fill func(i int, a *Answers, m *Memory)
	used func(a *Answers, m *Memory) StoreStats
}

func fillings(t *testing.T) []filling {
	rng := rand.New(rand.NewPCG(5, 6))
	soa := rr(t, "example. 300 IN SOA ns.example. root.example. 1 2 3 4 60")
	sig := rr(t, "example. 300 IN RRSIG SOA 13 1 300 20261231000000 20261101000000 1 example. "+strings.Repeat("A", 86)+"==").(*dns.RRSIG)
	set := func(i int, records ...dns.RR) rrset.Set {
		n := fmt.Sprintf("host%d.example.", i)
		for _, r := range records {
			r.Header().Name = n
		}
		return rrset.Set{
			Name: name(n), Type: wire.Type(records[0].Header().Rrtype), RRs: records,
			Rank: rrset.AuthAnswer, Until: time.Now().Add(time.Hour),
		}
	}
	addr := func() dns.RR { return rr(t, fmt.Sprintf("x. 300 IN A 192.0.2.%d", rng.IntN(256))) }
	return []filling{
		{"failures", func(i int, a *Answers, _ *Memory) {
			n := fmt.Sprintf("h%d.example.", i)
			a.Fail(question(n, wire.TypeA), false, ede.Errorf(ede.Other, "no server of %s answered", n), epoch)
		}, func(a *Answers, _ *Memory) StoreStats { return a.Stats().Failures }},
		{"address sets", func(i int, _ *Answers, m *Memory) {
			m.PutSet(set(i, addr(), addr()))
		}, func(_ *Answers, m *Memory) StoreStats { return m.Stats().Sets }},
		{"TXT sets of empty strings", func(i int, _ *Answers, m *Memory) {
			m.PutSet(set(i, &dns.TXT{
				Hdr: dns.RR_Header{Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 300}, Txt: make([]string, 1+rng.IntN(3000)),
			}))
		}, func(_ *Answers, m *Memory) StoreStats { return m.Stats().Sets }},
		{"denials", func(i int, _ *Answers, m *Memory) {
			s := set(i, addr())
			proof := rrset.Set{Name: name("example."), Type: wire.TypeSOA, RRs: []dns.RR{soa}, Sigs: []*dns.RRSIG{sig}, Until: s.Until}
			s.RRs, s.Denial = nil, &rrset.Denial{Rcode: wire.NXDomain, Sets: slices.Repeat([]rrset.Set{proof}, 1+rng.IntN(5))}
			m.PutSet(s)
		}, func(_ *Answers, m *Memory) StoreStats { return m.Stats().Sets }},
		{
			"cuts", func(i int, _ *Answers, m *Memory) { m.PutCut(cutOf(t, rng, i)) },
			func(_ *Answers, m *Memory) StoreStats { return m.Stats().Cuts },
		},
		{
			"links", func(i int, _ *Answers, m *Memory) { m.PutLink(linkOf(t, rng, i)) },
			func(_ *Answers, m *Memory) StoreStats { return m.Stats().Links },
		},
		{
			"NSEC records of many zones", func(i int, _ *Answers, m *Memory) {
				zone := fmt.Sprintf("zone%d.example.", rng.IntN(50))
				owner := fmt.Sprintf("a%x.%s", rng.Uint64(), zone)
				putSpan(t, m, zone, owner, `\000.`+owner)
			},
			func(_ *Answers, m *Memory) StoreStats { return m.Stats().Denials.StoreStats },
		},
		{
			"NSEC records of one zone each", func(i int, _ *Answers, m *Memory) {
				zone := fmt.Sprintf("zone%d.example.", i)
				putSpan(t, m, zone, zone, "zz."+zone)
			},
			func(_ *Answers, m *Memory) StoreStats { return m.Stats().Denials.StoreStats },
		},
	}
}

func TestStoreStaysWithinItsBytes(t *testing.T) {
	const limit = 4 << 20
	for _, c := range fillings(t) {
		t.Run(c.what, func(t *testing.T) {
			before := heap()
			a, m := NewAnswers(AnswersOptions{Bytes: limit}), NewMemory(MemoryOptions{Bytes: limit})
			tables := heap() - before
			st := c.used(a, m)
			accounted := -st.Bytes
			for i := 0; st.Evicted < 5000 && i < 100_000; i++ {
				c.fill(i, a, m)
				st = c.used(a, m)
			}
			accounted += st.Bytes
			live := heap() - before - tables
			runtime.KeepAlive(a)
			runtime.KeepAlive(m)
			t.Logf("%d entries: %d bytes accounted for, %d on the heap: %.2f", st.Entries, accounted, live, float64(accounted)/float64(live))
			if st.Evicted == 0 || st.Bytes > limit {
				t.Errorf("the statistics are %+v", st)
			}
			if live > accounted {
				t.Errorf("%d bytes are on the heap, %d are accounted for", live, accounted)
			}
			if live < accounted*2/3 {
				t.Errorf("%d bytes are on the heap, less than two thirds of the %d that are accounted for", live, accounted)
			}
		})
	}
}

// TestOverheadIsAtMostFiftyBytes counts everything that is not the message: the
// head, the offsets of four TTLs, the index, the ghosts, the arena itself, and
// what is lost at the ends of queues. It fills a quarter of a gigabyte alone, which has
// nothing for the race detector but takes it ten seconds, and a smaller cache loses more.
func TestOverheadIsAtMostFiftyBytes(t *testing.T) {
	const octets = 184
	c := NewAnswers(AnswersOptions{Bytes: 256 << 20})
	x := typical(t, octets)
	key := appendKey(nil, []byte(numbered(0)), wire.TypeA, false, false)
	for i := uint64(0); i%1000 != 0 || c.Stats().Answers.Evicted < 200_000; i++ {
		renumber(key, i)
		copy(x.msg[wire.HeaderLen:], key[:len(numbered(0))])
		c.put(key, x)
	}
	st := c.Stats().Answers
	overhead := float64(st.Reserved)/float64(st.Entries) - octets
	t.Logf("%d answers in %d bytes: %.1f bytes more than their %d each", st.Entries, st.Reserved, overhead, octets)
	if overhead > 50 {
		t.Errorf("%.1f bytes", overhead)
	}
}
