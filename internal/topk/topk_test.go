package topk

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

// TestCountsAreWithinTheirBounds counts a Zipfian stream beside exact counts.
func TestCountsAreWithinTheirBounds(t *testing.T) {
	const k, n = 400, 300_000
	top, exact := New(k), map[string]uint64{}
	z := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.1, 1, 1_000_000)
	for range n {
		key := fmt.Sprintf("name-%d", z.Uint64())
		exact[key]++
		top.Add([]byte(key))
	}
	list := top.List(k)
	listed := map[string]bool{}
	for i, c := range list {
		listed[c.Key] = true
		if want := exact[c.Key]; c.Count < want || c.Count-c.Excess > want {
			t.Errorf("%s came %d times; found %d, of which %d may be too many", c.Key, want, c.Count, c.Excess)
		}
		if i > 0 && c.Count > list[i-1].Count {
			t.Errorf("%+v comes after %+v", c, list[i-1])
		}
	}
	for key, count := range exact {
		if count > 2*n/k && !listed[key] { // shards share unevenly: allow a factor
			t.Errorf("%s came %d times of %d, and is not listed", key, count, n)
		}
	}
	if first := top.List(1)[0]; first.Key != "name-0" || first.Excess != 0 {
		t.Errorf("the first one is %+v", first)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	top := New(80)
	var key [8]byte
	for i := range uint64(100_000) {
		binary.BigEndian.PutUint64(key[:], i)
		top.Add(key[:])
	}
	for i := range top.shards {
		if s := &top.shards[i]; len(s.heap) > 10 || len(s.index) != len(s.heap) {
			t.Errorf("shard %d has %d counters and %d keys", i, len(s.heap), len(s.index))
		}
	}
	if n := len(top.List(1000)); n > 80 {
		t.Errorf("%d keys", n)
	}
}

func TestHalvedCountsGiveWay(t *testing.T) {
	top := New(8)
	for range 100 {
		top.Add([]byte("before"))
	}
	for range 10 {
		top.Halve()
	}
	for range 3 {
		top.Add([]byte("now"))
	}
	if first := top.List(1)[0]; first.Key != "now" || first.Count != 3 {
		t.Errorf("%+v", first)
	}
}

func TestManyMayCount(t *testing.T) {
	top := New(100)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range 10_000 {
				top.Add([]byte{byte(i % 10)})
			}
		})
	}
	all.Wait()
	for _, c := range top.List(100) {
		if c.Count != 4000 || c.Excess != 0 {
			t.Errorf("%+v", c)
		}
	}
}

// TestCountingAllocatesForNewKeysOnly is why a flood of the usual costs nothing.
func TestCountingAllocatesForNewKeysOnly(t *testing.T) {
	top, key := New(10), []byte("www.example.com")
	top.Add(key)
	if n := testing.AllocsPerRun(1000, func() { top.Add(key) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
