package cache

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// store is a sharded map that is bounded in bytes. When a shard is full, its
// hand goes round (CLOCK): what was read since the hand last passed stays, the
// rest goes. A hit takes a read lock and writes at most one word.
type store[K comparable, V any] struct {
	seed   maphash.Seed
	limit  int64 // bytes a shard
	shards [shardCount]shard[K, V]
}

// shardCount is a power of two, many times the number of cores: two readers
// seldom meet.
const shardCount = 64

type shard[K comparable, V any] struct {
	mu      sync.RWMutex
	entries map[K]*entry[K, V]
	ring    []*entry[K, V]
	hand    int
	bytes   int64
	evicted uint64
	_       [32]byte // keeps neighbours off one cache line
}

// entry is one value. Its key and value never change: a new value is a new
// entry. Its slot is guarded by the shard's lock.
type entry[K comparable, V any] struct {
	key  K
	val  V
	size int64
	slot int // in ring
	used atomic.Bool
}

// value returns the value of e, which may be nil, and notes that it was used.
func (e *entry[K, V]) value() (v V, ok bool) {
	if e == nil {
		return v, false
	}
	if !e.used.Load() { // do not dirty the line on every hit
		e.used.Store(true)
	}
	return e.val, true
}

// entryOverhead is what an entry costs beside its key and value, in bytes: the
// entry, its share of the map's table and its place in the ring. An estimate,
// on the safe side; TestStoreStaysWithinItsBytes compares it with the heap.
const entryOverhead = 160

func newStore[K comparable, V any](limit int64) *store[K, V] {
	s := &store[K, V]{seed: maphash.MakeSeed(), limit: limit / shardCount}
	for i := range s.shards {
		s.shards[i].entries = make(map[K]*entry[K, V])
	}
	return s
}

// get returns the value of k, which belongs in sh.
func (sh *shard[K, V]) get(k K) (V, bool) {
	sh.mu.RLock()
	e := sh.entries[k]
	sh.mu.RUnlock()
	return e.value()
}

// put stores v, which takes size bytes with its key, unless keep says of the
// value in its place that it is to stay. What is larger than a shard is not
// stored. It reports whether v was.
func (s *store[K, V]) put(sh *shard[K, V], k K, v V, size int64, keep func(old V) bool) bool {
	size += entryOverhead
	if size > s.limit {
		return false
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := &entry[K, V]{key: k, val: v, size: size, slot: len(sh.ring)}
	if old := sh.entries[k]; old != nil {
		if keep != nil && keep(old.val) {
			return false
		}
		e.slot = old.slot
		sh.ring[e.slot] = e
		sh.bytes -= old.size
	} else {
		sh.ring = append(sh.ring, e)
	}
	sh.entries[k] = e
	sh.bytes += size
	sh.evict(s.limit, e)
	return true
}

// drop forgets k.
func (sh *shard[K, V]) drop(k K) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if e := sh.entries[k]; e != nil {
		sh.remove(e)
	}
}

// evict makes the shard fit into limit bytes, without giving up keep. Each
// entry is passed at most twice.
func (sh *shard[K, V]) evict(limit int64, keep *entry[K, V]) {
	for sh.bytes > limit {
		sh.hand %= len(sh.ring)
		e := sh.ring[sh.hand]
		if e == keep || e.used.Swap(false) {
			sh.hand++
			continue
		}
		sh.remove(e)
		sh.evicted++
	}
}

// remove forgets e. The last entry takes its place in the ring.
func (sh *shard[K, V]) remove(e *entry[K, V]) {
	last := len(sh.ring) - 1
	sh.ring[e.slot] = sh.ring[last]
	sh.ring[e.slot].slot = e.slot
	sh.ring[last] = nil
	sh.ring = sh.ring[:last]
	delete(sh.entries, e.key)
	sh.bytes -= e.size
}

// StoreStats is a snapshot of one store.
type StoreStats struct {
	Entries int
	Bytes   int64 // accounted for, at most the limit
	Evicted uint64
}

func (s *store[K, V]) stats() StoreStats {
	var st StoreStats
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.RLock()
		st.Entries += len(sh.entries)
		st.Bytes += sh.bytes
		st.Evicted += sh.evicted
		sh.mu.RUnlock()
	}
	return st
}
