// Package topk finds what comes most often in a stream of any length, in memory
// that is bounded: by Space-Saving (Metwally, Agrawal, El Abbadi: Efficient
// Computation of Frequent and Top-k Elements in Data Streams, ICDT 2005).
//
// Of k counters each key that comes more often than one time in k has one. A key
// without a counter takes over the smallest one, and its count as the most that
// the key may have come before: counts are never too small, and it is known by how
// much they may be too large.
package topk

import (
	"cmp"
	"container/heap"
	"hash/maphash"
	"slices"
	"sync"
)

// shards is into how many parts, each with a lock of its own, keys are divided.
const shards = 8

// Top counts keys. It is safe for concurrent use.
type Top struct {
	seed   maphash.Seed
	shards [shards]shard
}

// New returns a Top of at least k counters.
func New(k int) *Top {
	t := &Top{seed: maphash.MakeSeed()}
	for i := range t.shards {
		t.shards[i].room = max((k+shards-1)/shards, 1)
		t.shards[i].index = make(map[string]*counter)
	}
	return t
}

// Add counts key, which is borrowed, once.
func (t *Top) Add(key []byte) {
	s := &t.shards[maphash.Bytes(t.seed, key)%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(key)
}

// Halve makes what came before count half.
func (t *Top) Halve() {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for _, c := range s.heap { // their order stays
			c.count, c.excess = c.count/2, c.excess/2
		}
		s.mu.Unlock()
	}
}

// Count is how often a key has come: at most so often, and at least so often
// less Excess.
type Count struct {
	Key    string
	Count  uint64
	Excess uint64
}

// List returns the n keys that came most often, the first one first.
func (t *Top) List(n int) []Count {
	var list []Count
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for _, c := range s.heap {
			list = append(list, Count{c.key, c.count, c.excess})
		}
		s.mu.Unlock()
	}
	slices.SortFunc(list, func(a, b Count) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Excess, b.Excess), cmp.Compare(a.Key, b.Key))
	})
	return list[:min(n, len(list))]
}

// shard has some of the keys.
type shard struct {
	mu    sync.Mutex
	room  int
	index map[string]*counter
	heap  counters
}

// counter counts one key.
type counter struct {
	key           string
	count, excess uint64
	at            int // in the heap
}

func (s *shard) add(key []byte) {
	c := s.index[string(key)]
	switch {
	case c != nil:
		c.count++
		heap.Fix(&s.heap, c.at)
	case len(s.heap) < s.room:
		c = &counter{key: string(key), count: 1}
		s.index[c.key] = c
		heap.Push(&s.heap, c)
	default:
		c = s.heap[0]
		delete(s.index, c.key)
		c.key, c.excess = string(key), c.count
		c.count++
		s.index[c.key] = c
		heap.Fix(&s.heap, 0)
	}
}

// counters is a heap with the smallest count at the top.
type counters []*counter

// Len implements [heap.Interface].
func (h counters) Len() int { return len(h) }

// Less implements [heap.Interface].
func (h counters) Less(i, j int) bool { return h[i].count < h[j].count }

// Swap implements [heap.Interface].
func (h counters) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push implements [heap.Interface].
func (h *counters) Push(x any) {
	c := x.(*counter) // nothing else is pushed
	c.at = len(*h)
	*h = append(*h, c)
}

// Pop implements [heap.Interface]. Nothing is ever taken out.
func (h *counters) Pop() any { panic("topk: a counter is taken over, and never taken out") }
