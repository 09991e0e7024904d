package cache

import (
	"hash/maphash"
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"
)

// store is a sharded hash table that is bounded in bytes. When a shard is full,
// its hand goes round (CLOCK): what was used since the hand last passed stays,
// the rest goes. A hit takes a read lock and writes at most one word.
//
// It has a table of its own because Go's maps leave the bound: where entries
// come and go, they grow to three times the slots they need, and never shrink.
type store[K comparable, V any] struct {
	seed     maphash.Seed // secret: nobody can aim at one shard or bucket
	limit    int64        // bytes a shard, its table excepted when it is as large as it gets; guarded by all shards' locks
	most     int          // buckets a shard; a power of two; guarded as limit is
	overhead int64        // bytes an entry, beside its key and value
	yields   func(V) bool // whether a value is one that yields; nil: none is
	shards   [shardCount]shard[K, V]
}

// shardCount is a power of two, many times the number of cores: two readers
// seldom meet.
const shardCount = 1 << shardBits

const shardBits = 6

// bucketBytes is how many bytes of the limit there are for each bucket. It is
// what a usual entry takes, so that most chains have one entry, and no more
// than two or three when all are small.
const bucketBytes = 512

// leastBuckets is how many buckets a shard begins with. A table that is as large
// as the limit asks for from the start is mostly empty for long, and the garbage
// collector reads all of it each time: of a server that has resolved its first
// thousands of names that was the larger part of the collector's work, and each
// page was faulted in twice.
const leastBuckets = 16

// What those values have who yield: one part in so many, and no more than so many
// bytes in all. Of them there may be any number that nobody asks for again. They do
// not take the place of others, and what the garbage collector has to read does not
// grow with them.
const (
	yieldingShare = 8
	mostYielding  = 4 << 20
)

// maxChances bounds how many used entries one eviction passes over, so that a
// put into a shard where all are used costs no more than another.
const maxChances = 64

// shard is one share of a store. It fills two cache lines, so that readers of
// neighbours do not write the same one, wherever the array begins.
type shard[K comparable, V any] struct {
	mu      sync.RWMutex
	buckets []*entry[K, V]  // heads of chains; a power of two, doubled when there are more entries
	rings   [2]circle[K, V] // of those who stay and of those who yield
	evicted uint64
	_       [24]byte
}

// circle has entries in the order of arrival.
type circle[K comparable, V any] struct {
	hand  *entry[K, V] // the next to be judged; nil: the ring is empty
	count int
	bytes int64 // of all entries
}

// The rings of a shard.
const (
	staying = iota
	yielding
)

// count returns how many entries there are.
func (sh *shard[K, V]) count() int { return sh.rings[staying].count + sh.rings[yielding].count }

// bytes returns how many bytes all entries take.
func (sh *shard[K, V]) bytes() int64 { return sh.rings[staying].bytes + sh.rings[yielding].bytes }

// entry is one value. Its key and value never change: a new value is a new
// entry. Its places in chain and ring are guarded by the shard's lock.
type entry[K comparable, V any] struct {
	key        K
	val        V
	link       *entry[K, V] // the next in the bucket's chain
	prev, next *entry[K, V] // in its ring
	hash       uint32       // the bits of the key's hash that did not pick the shard
	size       int32        // bytes, overhead included
	used       atomic.Bool
	ring       uint8 // that it is in
}

// touch notes that e was of use. What is found dead is not: it is to go first.
func (e *entry[K, V]) touch() {
	if !e.used.Load() { // do not dirty the line on every hit
		e.used.Store(true)
	}
}

func newStore[K comparable, V any](limit int64) *store[K, V] {
	s := &store[K, V]{seed: maphash.MakeSeed()}
	s.divide(limit)
	// The allocator rounds up, by an eighth at most beyond the first few bytes.
	// TestStoreStaysWithinItsBytes compares what is accounted for with the heap.
	size := int64(unsafe.Sizeof(entry[K, V]{}))
	s.overhead = size + size/8 + 16
	for i := range s.shards {
		s.shards[i].buckets = make([]*entry[K, V], min(s.most, leastBuckets))
	}
	return s
}

// divide gives each shard its part of limit bytes.
func (s *store[K, V]) divide(limit int64) {
	each := max(limit, 0) / shardCount
	s.most = 1 << bits.Len64(uint64(min(each/bucketBytes, 1<<24)))
	s.limit = each - 8*int64(s.most)
}

// resize changes the limit. What does not fit any more goes.
func (s *store[K, V]) resize(limit int64) {
	for i := range s.shards {
		s.shards[i].mu.Lock()
	}
	s.divide(limit)
	for i := range s.shards {
		sh := &s.shards[i]
		sh.evict(yielding, s.mostYielding())
		sh.makeRoom(max(s.limit, 0))
		if len(sh.buckets) > s.most {
			sh.rehash(s.most)
		}
		sh.mu.Unlock()
	}
}

// mostYielding returns how many bytes of a shard those may have who yield.
func (s *store[K, V]) mostYielding() int64 {
	return min(max(s.limit, 0)/yieldingShare, mostYielding/shardCount)
}

// shard returns the shard for a key with hash h.
func (s *store[K, V]) shard(h uint64) *shard[K, V] { return &s.shards[h%shardCount] }

// slot returns the bucket for a key with hash h, and what its entry has for it.
func (sh *shard[K, V]) slot(h uint64) (bucket **entry[K, V], hash uint32) {
	hash = uint32(h >> shardBits)
	return &sh.buckets[hash&uint32(len(sh.buckets)-1)], hash
}

// get returns the entry of k, which has hash h, or nil. Whoever finds it of use
// says so with touch.
func (s *store[K, V]) get(h uint64, k K) *entry[K, V] {
	sh := s.shard(h)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.find(h, k)
}

// find is get for those who hold the lock.
func (sh *shard[K, V]) find(h uint64, k K) *entry[K, V] {
	bucket, hash := sh.slot(h)
	for e := *bucket; e != nil; e = e.link {
		if e.hash == hash && e.key == k {
			return e
		}
	}
	return nil
}

// put stores v, which takes size bytes with its key, unless keep says of the
// value in its place that it is to stay; keep may be nil. A value that is
// larger than a shard is not stored, but still takes the place of the old one.
func (s *store[K, V]) put(h uint64, k K, v V, size int64, keep func(old V) bool) {
	size += s.overhead
	sh := s.shard(h)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	used := false
	if old := sh.find(h, k); old != nil {
		if keep != nil && keep(old.val) {
			return
		}
		used = old.used.Load() // a popular answer stays popular when it is refreshed
		sh.remove(old)
	}
	if size > min(s.limit, math.MaxInt32) {
		return
	}
	e := &entry[K, V]{key: k, val: v, size: int32(size)}
	if s.yields != nil && s.yields(v) {
		e.ring = yielding
		sh.evict(yielding, max(s.mostYielding()-size, 0))
	}
	sh.makeRoom(s.limit - size)
	if n := sh.count(); n == len(sh.buckets) && n < s.most {
		sh.grow()
	}
	e.used.Store(used)
	sh.insert(h, e)
}

// drop forgets k, which has hash h, if its value is one to go.
func (s *store[K, V]) drop(h uint64, k K, goes func(V) bool) {
	sh := s.shard(h)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if e := sh.find(h, k); e != nil && goes(e.val) {
		sh.remove(e)
	}
}

// makeRoom makes the shard fit into limit bytes, which is not negative. Those who yield
// have a part that is small: it is enough to have the others go.
func (sh *shard[K, V]) makeRoom(limit int64) {
	sh.evict(staying, max(limit-sh.rings[yielding].bytes, 0))
	sh.evict(yielding, limit-sh.rings[staying].bytes)
}

// evict makes a ring fit into limit bytes, which is not negative.
func (sh *shard[K, V]) evict(ring int, limit int64) {
	r := &sh.rings[ring]
	for chances := maxChances; r.bytes > limit; {
		e := r.hand
		if chances > 0 && e.used.Swap(false) {
			r.hand = e.next
			chances--
			continue
		}
		sh.remove(e)
		sh.evicted++
		chances = maxChances
	}
}

// grow makes the table twice as large, by the bits of the hashes that are kept.
// All of it is done at once, a few milliseconds for the largest tables.
func (sh *shard[K, V]) grow() { sh.rehash(2 * len(sh.buckets)) }

// rehash gives the table so many buckets, a power of two.
func (sh *shard[K, V]) rehash(buckets int) {
	old := sh.buckets
	sh.buckets = make([]*entry[K, V], buckets)
	for _, e := range old {
		for e != nil {
			next := e.link
			at := &sh.buckets[e.hash&uint32(len(sh.buckets)-1)]
			e.link, *at = *at, e
			e = next
		}
	}
}

// insert adds e, whose key has hash h, just behind the hand of its ring, which comes
// to it last.
func (sh *shard[K, V]) insert(h uint64, e *entry[K, V]) {
	r := &sh.rings[e.ring]
	if r.hand == nil {
		e.prev, e.next = e, e
		r.hand = e
	} else {
		e.prev, e.next = r.hand.prev, r.hand
		e.prev.next, e.next.prev = e, e
	}
	bucket, hash := sh.slot(h)
	e.hash, e.link = hash, *bucket
	*bucket = e
	r.count++
	r.bytes += int64(e.size)
}

// remove forgets e.
func (sh *shard[K, V]) remove(e *entry[K, V]) {
	r := &sh.rings[e.ring]
	if r.hand == e {
		r.hand = e.next
	}
	if r.hand == e { // the only one
		r.hand = nil
	}
	e.prev.next, e.next.prev = e.next, e.prev
	at := &sh.buckets[e.hash&uint32(len(sh.buckets)-1)]
	for *at != e {
		at = &(*at).link
	}
	*at = e.link
	e.prev, e.next, e.link = nil, nil, nil // a reader that holds on to e holds on to nothing else
	r.count--
	r.bytes -= int64(e.size)
}

// StoreStats is a snapshot of one store.
type StoreStats struct {
	Entries int
	Bytes   int64  // accounted for, at most the limit
	Evicted uint64 // to make room
}

func (s *store[K, V]) stats() StoreStats {
	var st StoreStats
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.RLock()
		st.Entries += sh.count()
		st.Bytes += sh.bytes() + 8*int64(len(sh.buckets))
		st.Evicted += sh.evicted
		sh.mu.RUnlock()
	}
	return st
}
