package cache

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"shirube/internal/wire"
)

// entries is how many answers BenchmarkFull fills a cache with.
var entries = flag.Int("entries", 100_000, "answers in BenchmarkFull")

// BenchmarkFull measures a cache that is full of so many answers of 184 octets,
// which are asked for at random: their size, a hit, a miss, a put that evicts,
// and what a garbage collection costs.
func BenchmarkFull(b *testing.B) {
	n := uint64(*entries)
	c := NewAnswers(AnswersOptions{Bytes: int64(n)*235 + maxFailures + maxRemarks*remarkSize})
	x := typical(b, 184)
	key := appendKey(nil, []byte(numbered(0)), wire.TypeA, false, false)
	put := func(i uint64) {
		renumber(key, i)
		copy(x.msg[wire.HeaderLen:], key[:len(key)-keyTail])
		c.put(key, x)
	}
	for i := range n {
		put(i)
	}
	st := c.Stats().Answers
	rng := rand.New(rand.NewPCG(1, 2))
	// A query that is made anew each time, without a look at more memory.
	q := query(b, numbered(0).String(), wire.TypeA, withEDNS(1232))
	asked := q.RawName()
	buf := make([]byte, 0, 1500)
	now := after(10)
	ask := func(b *testing.B, from uint64) {
		hits := 0
		b.ReportAllocs()
		for range b.N {
			renumber(asked, from+rng.Uint64N(n))
			if _, hit := c.Append(buf, q, now); hit.Found {
				hits++
			}
		}
		b.ReportMetric(100*float64(hits)/float64(b.N), "%hits")
	}
	b.Run("size", func(b *testing.B) {
		b.ReportMetric(float64(st.Entries), "entries")
		b.ReportMetric(float64(st.Reserved)/float64(st.Entries), "B/entry")
		b.ReportMetric(collection()*1000, "GC-cpu-ms")
		b.ReportMetric(0, "ns/op")
	})
	b.Run("hit", func(b *testing.B) { ask(b, 0) })
	b.Run("miss", func(b *testing.B) { ask(b, n) })
	for _, at := range []int{1, 4, 16, 32} {
		for _, expected := range []bool{false, true} {
			b.Run(fmt.Sprintf("hit/batch=%d/expected=%t", at, expected), func(b *testing.B) {
				askTogether(b, c, rng, n, at, expected)
			})
		}
	}
	b.Run("nothing", func(b *testing.B) { // what of the above is the benchmark itself
		for range b.N {
			renumber(asked, rng.Uint64N(n))
		}
	})
	next := 2 * n
	b.Run("put", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			put(next)
			next++
		}
	})
	runtime.KeepAlive(c)
}

// askTogether asks c for so many of n answers at a time, which it may be told of before.
func askTogether(b *testing.B, c *Answers, rng *rand.Rand, n uint64, at int, expected bool) {
	qs, asked := make([]*wire.Query, at), make([][]byte, at)
	for i := range qs {
		qs[i] = query(b, numbered(0).String(), wire.TypeA, withEDNS(1232))
		asked[i] = qs[i].RawName()
	}
	buf, now := make([]byte, 0, 1500), after(10)
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; done += at {
		for _, name := range asked {
			renumber(name, rng.Uint64N(n))
		}
		if expected {
			c.Expect(qs)
		}
		for _, q := range qs {
			if _, hit := c.Append(buf, q, now); !hit.Found {
				b.Fatal("not found")
			}
		}
	}
}

// collection returns the CPU time that one garbage collection takes, in seconds,
// the processors that stand still meanwhile included.
func collection() float64 {
	const times = 10
	sample := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}}
	spent := func() float64 {
		runtime.GC()
		metrics.Read(sample)
		return sample[0].Value.Float64()
	}
	before := spent()
	for range times - 1 {
		runtime.GC()
	}
	return (spent() - before) / times
}

// BenchmarkFullParallel is its hit on all processors, with one put in so many.
func BenchmarkFullParallel(b *testing.B) {
	n := uint64(*entries)
	c := NewAnswers(AnswersOptions{Bytes: int64(n)*235 + maxFailures + maxRemarks*remarkSize})
	fill := func(c *Answers, x *Answer, key []byte, i uint64) {
		renumber(key, i)
		copy(x.msg[wire.HeaderLen:], key[:len(key)-keyTail])
		c.put(key, x)
	}
	newKey := func() []byte { return appendKey(nil, []byte(numbered(0)), wire.TypeA, false, false) }
	x, key := typical(b, 184), newKey()
	for i := range n {
		fill(c, x, key, i)
	}
	for _, putIn := range []int{0, 10} {
		b.Run(fmt.Sprintf("put-in=%d", putIn), func(b *testing.B) {
			var mu sync.Mutex
			seed := uint64(time.Now().UnixNano())
			b.RunParallel(func(pb *testing.PB) {
				mu.Lock()
				seed++
				rng := rand.New(rand.NewPCG(seed, 1))
				q := query(b, numbered(0).String(), wire.TypeA, withEDNS(1232))
				x := typical(b, 184)
				mu.Unlock()
				key, asked, buf, now := newKey(), q.RawName(), make([]byte, 0, 1500), after(10)
				for pb.Next() {
					i := rng.Uint64()
					if putIn > 0 && i%uint64(putIn) == 0 {
						fill(c, x, key, i%n)
						continue
					}
					renumber(asked, i%n)
					c.Append(buf, q, now)
				}
			})
		})
	}
}

// BenchmarkHitRatio plays traces of half a million names to arenas and to CLOCK:
// hits are percentages of the last two thirds of the queries.
func BenchmarkHitRatio(b *testing.B) {
	for _, s := range []float64{1.01, 1.1} {
		for _, onceIn := range []int{0, 4} {
			for _, kept := range []int{10_000, 50_000, 200_000} {
				b.Run(fmt.Sprintf("zipf=%v/once-in=%d/kept=%d", s, onceIn, kept), func(b *testing.B) {
					arena, clock := hitRatios(b, 500_000, kept, 3_000_000, s, onceIn)
					b.ReportMetric(arena, "%s3fifo")
					b.ReportMetric(clock, "%clock")
					b.ReportMetric(0, "ns/op")
				})
			}
		}
	}
}
