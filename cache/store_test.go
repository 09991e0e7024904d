package cache

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/miekg/dns"

	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// check walks all shards of s and verifies what always holds. Nobody may be
// writing.
func check[K comparable, V any](tb testing.TB, s *store[K, V]) {
	tb.Helper()
	for i := range s.shards {
		sh := &s.shards[i]
		in := map[*entry[K, V]]bool{} // the table
		keys := map[K]bool{}
		for b, e := range sh.buckets {
			for ; e != nil; e = e.link {
				if in[e] || keys[e.key] || int(e.hash)%len(sh.buckets) != b {
					tb.Fatalf("shard %d: %v is twice in the table, or in the wrong bucket %d", i, e.key, b)
				}
				in[e], keys[e.key] = true, true
			}
		}
		n := 0
		for ring := range sh.rings {
			n += checkRing(tb, s, sh, ring, in)
		}
		if n != len(in) || n != sh.count() {
			tb.Fatalf("shard %d has %d entries in the rings, %d in the table, and counts %d", i, n, len(in), sh.count())
		}
		if sum := sh.bytes(); sum > max(s.limit, 0) {
			tb.Fatalf("shard %d has %d bytes, and may have %d", i, sum, s.limit)
		}
	}
}

// checkRing is check for one ring, whose number of entries it returns.
func checkRing[K comparable, V any](tb testing.TB, s *store[K, V], sh *shard[K, V], ring int, in map[*entry[K, V]]bool) (n int) {
	tb.Helper()
	r, sum := &sh.rings[ring], int64(0)
	for e := r.hand; e != nil; {
		if !in[e] || int(e.ring) != ring {
			tb.Fatalf("%v is in ring %d, but not in the table, or belongs to ring %d", e.key, ring, e.ring)
		}
		if e.next.prev != e || e.prev.next != e {
			tb.Fatalf("ring %d is broken at %v", ring, e.key)
		}
		if int64(e.size) < s.overhead {
			tb.Fatalf("%v takes %d bytes, less than its overhead", e.key, e.size)
		}
		sum += int64(e.size)
		if n++; n > len(in) {
			tb.Fatalf("ring %d is longer than the table, which has %d entries", ring, len(in))
		}
		if e = e.next; e == r.hand {
			break
		}
	}
	if sum != r.bytes {
		tb.Fatalf("ring %d has %d bytes, and accounts for %d", ring, sum, r.bytes)
	}
	if most := s.mostYielding(); ring == yielding && n > 1 && sum > most {
		tb.Fatalf("those who yield have %d bytes, and may have %d", sum, most)
	}
	return n
}

// keysIn returns the keys in sh, sorted and in a row.
func keysIn(sh *shard[string, int]) string {
	var keys []string
	for _, e := range sh.buckets {
		for ; e != nil; e = e.link {
			keys = append(keys, e.key)
		}
	}
	slices.Sort(keys)
	return strings.Join(keys, "")
}

// blob is an answer of about size octets to the question for an address of n.
func blob(tb testing.TB, n string, size int, stored time.Time) *Answer {
	tb.Helper()
	q := question(n, wire.TypeA)
	data := make([]byte, max(size-len(n)-40, 0))
	return answerOf(tb, response(q, &dns.RFC3597{
		Hdr:   dns.RR_Header{Name: q.Name.String(), Rrtype: 65280, Class: dns.ClassINET, Ttl: 300},
		Rdata: fmt.Sprintf("%x", data),
	}), stored)
}

func TestShardsDoNotShareCacheLines(t *testing.T) {
	if got := unsafe.Sizeof(shard[string, failure]{}); got != 128 {
		t.Errorf("a shard has %d bytes, want two cache lines", got)
	}
}

func TestOverheadsAreThoseOfTheTypes(t *testing.T) {
	if got := unsafe.Sizeof(packedSet{}); got > packedOverhead {
		t.Errorf("a packedSet has %d bytes, more than %d", got, packedOverhead)
	}
	if got := unsafe.Sizeof(ede.Error{}) + 8; got > uintptr(errorSize(&ede.Error{})) {
		t.Errorf("an Error has %d bytes, more than %d", got, errorSize(&ede.Error{}))
	}
	if got := unsafe.Sizeof(rrset.Server{}); got != 40 {
		t.Errorf("a Server has %d bytes, accounted for as 40", got)
	}
}

func TestStoreForgetsTheOldValueWhenTheNewOneIsTooLarge(t *testing.T) {
	s := newStore[string, int](shardCount * 1000)
	const h = 1 << 40 // of "k"
	s.put(h, "k", 1, 100, nil)
	if e := s.get(h, "k"); e == nil || e.val != 1 {
		t.Fatalf("the entry is %v", e)
	}
	s.put(h, "k", 2, 5000, func(int) bool { return true })
	if e := s.get(h, "k"); e == nil || e.val != 1 {
		t.Errorf("what was to stay is %v", e)
	}
	s.put(h, "k", 2, 5000, nil)
	if e := s.get(h, "k"); e != nil {
		t.Errorf("the entry is %v", e)
	}
	check(t, s)
}

func TestStoreDropsWhatIsToGoOnly(t *testing.T) {
	s := newStore[string, int](shardCount * 1000)
	for i, k := range []string{"a", "b", "c"} {
		s.put(0, k, i, 10, nil) // one chain
	}
	s.drop(0, "a", func(v int) bool { return v != 0 })
	s.drop(0, "b", func(v int) bool { return v == 1 })
	s.drop(0, "absent", func(int) bool { return true })
	if got := keysIn(&s.shards[0]); got != "ac" {
		t.Errorf("left are %s", got)
	}
	check(t, s)
	s.drop(0, "a", func(int) bool { return true })
	s.drop(0, "c", func(int) bool { return true })
	check(t, s)
	if st := s.stats(); st.Entries != 0 || st.Bytes != newStore[string, int](shardCount*1000).stats().Bytes || st.Evicted != 0 {
		t.Errorf("when all is dropped the statistics are %+v", st)
	}
}

func TestStoreTellsKeysOfOneHashApart(t *testing.T) {
	s := newStore[string, int](1 << 20)
	for i, k := range []string{"a", "b", "c", "d"} {
		s.put(1<<20, k, i, 10, nil)
	}
	s.put(1<<20, "b", 9, 10, nil)
	for k, want := range map[string]int{"a": 0, "b": 9, "c": 2, "d": 3} {
		if e := s.get(1<<20, k); e == nil || e.val != want {
			t.Errorf("%s is %v, want %d", k, e, want)
		}
	}
	if e := s.get(1<<20, "e"); e != nil {
		t.Errorf("what was never stored is %v", e)
	}
	check(t, s)
}

// clockOf returns a store whose first shard has room for n entries of one
// size, and functions that put one there and use it. All are in one chain.
func clockOf(n int) (sh *shard[string, int], put, use func(k string)) {
	s := newStore[string, int](0)
	s.limit = int64(n) * (s.overhead + 100)
	return &s.shards[0], func(k string) { s.put(0, k, 0, 100, nil) }, func(k string) { s.get(0, k).touch() }
}

func TestStoreEvictsTheOldestThatWasNotUsed(t *testing.T) {
	sh, put, use := clockOf(4)
	for _, k := range []string{"a", "b", "c", "d"} {
		put(k)
	}
	use("a")
	use("c")
	for _, step := range []struct{ put, want string }{
		{"e", "acde"}, // a has had its chance, b goes
		{"f", "acef"}, // c has had its chance, d goes
		{"g", "cefg"}, // round to a, which nobody used since
		{"h", "cfgh"}, // e came before c was passed over
		{"i", "fghi"}, // c; nothing is used any more
		{"j", "ghij"},
	} {
		put(step.put)
		if got := keysIn(sh); got != step.want {
			t.Errorf("after %s there are %s, want %s", step.put, got, step.want)
		}
	}
	if sh.evicted != 6 {
		t.Errorf("%d entries were evicted, want 6", sh.evicted)
	}
}

func TestStoreKeepsTheUseOfWhatIsRefreshed(t *testing.T) {
	sh, put, use := clockOf(3)
	put("a")
	put("b")
	put("c")
	use("b")
	put("b")
	put("d") // a
	put("e") // c
	put("f") // d: b has its chance
	if got := keysIn(sh); got != "bef" {
		t.Errorf("left are %s, want bef", got)
	}
}

func TestStoreGivesChancesInEachEviction(t *testing.T) {
	s := newStore[string, int](0)
	s.limit = 4 * (s.overhead + 100)
	for _, k := range []string{"a", "b", "c", "d"} {
		s.put(0, k, 0, 100, nil)
	}
	s.get(0, "b").touch()
	s.put(0, "e", 0, 100+s.overhead+100, nil) // in place of two
	if got := keysIn(&s.shards[0]); got != "bde" {
		t.Errorf("left are %s, want bde", got)
	}
	check(t, s)
}

func TestLookupComparesTheWholeKey(t *testing.T) {
	s := newStore[string, int](1 << 20)
	key := appendKey(nil, []byte("\x03www\x00"), wire.TypeA, false, false)
	s.put(maphash.Bytes(s.seed, key), "another key of this hash", 1, 100, nil)
	if e := lookup(s, key); e != nil {
		t.Errorf("found %q", e.key)
	}
	s.put(maphash.Bytes(s.seed, key), string(key), 2, 100, nil)
	if e := lookup(s, key); e == nil || e.val != 2 {
		t.Errorf("found %v", e)
	}
}

func TestStoreEvictsThoughAllAreUsed(t *testing.T) {
	const n = 10 * maxChances
	sh, put, use := clockOf(n)
	for i := range n {
		put(fmt.Sprint(i))
	}
	for i := range n {
		use(fmt.Sprint(i))
	}
	put("new")
	if sh.find(0, "new") == nil || sh.evicted != 1 {
		t.Errorf("%d entries were evicted", sh.evicted)
	}
	used := 0
	for e := sh.buckets[0]; e != nil; e = e.link {
		if e.used.Load() {
			used++
		}
	}
	if want := n - maxChances - 1; used != want {
		t.Errorf("%d entries are still used, want %d: an eviction passes over %d at most", used, want, maxChances)
	}
}

// fifo is what CLOCK is compared with.
type fifo struct {
	most  int
	queue []uint64
	in    map[uint64]bool
}

func (f *fifo) put(k uint64) {
	if len(f.queue) == f.most {
		delete(f.in, f.queue[0])
		f.queue = f.queue[1:]
	}
	f.queue = append(f.queue, k)
	f.in[k] = true
}

func TestStoreHitsMoreOftenThanFIFO(t *testing.T) {
	const names, kept, requests = 50_000, 2500, 400_000
	s := newStore[uint64, struct{}](kept * bucketBytes)
	s.limit = kept / shardCount * (s.overhead + 100)
	old := &fifo{most: kept / shardCount * shardCount, in: map[uint64]bool{}}
	rng := rand.New(rand.NewPCG(7, 8))
	zipf := rand.NewZipf(rng, 1.05, 1, names)
	var clockHits, fifoHits int
	for i := range requests {
		k := zipf.Uint64()
		if rng.IntN(4) == 0 {
			k = uint64(names + i) // never asked again
		}
		h := k * 0x9E3779B97F4A7C15 >> 8 // as good as a hash
		if e := s.get(h, k); e != nil {
			e.touch()
			clockHits++
		} else {
			s.put(h, k, struct{}{}, 100, nil)
		}
		if old.in[k] {
			fifoHits++
		} else {
			old.put(k)
		}
	}
	check(t, s)
	clock, first := 100*float64(clockHits)/requests, 100*float64(fifoHits)/requests
	t.Logf("hit ratio: CLOCK %.2f %%, FIFO %.2f %%", clock, first)
	if clock < first+2 {
		t.Errorf("the hit ratio is %.2f %%, with FIFO it would be %.2f %%", clock, first)
	}
}

func TestStoreGrowsItsTableWithItsEntries(t *testing.T) {
	s := newStore[string, int](64 << 20)
	empty := s.stats().Bytes
	if most := int64(shardCount * leastBuckets * 8); empty != most {
		t.Errorf("an empty table has %d bytes, want %d", empty, most)
	}
	const entries = 20_000
	hash := func(i int) uint64 { return uint64(i) * 0x9E3779B97F4A7C15 }
	for i := range entries {
		s.put(hash(i), strconv.Itoa(i), i, 1, nil)
	}
	for i := range entries {
		if e := s.get(hash(i), strconv.Itoa(i)); e == nil || e.val != i {
			t.Fatalf("entry %d is %v", i, e)
		}
	}
	check(t, s)
	for i := range s.shards {
		sh := &s.shards[i]
		if n := len(sh.buckets); n < sh.count() || n >= 2*sh.count() {
			t.Errorf("shard %d has %d buckets for %d entries", i, n, sh.count())
		}
	}
	small := newStore[string, int](shardCount * 4 * bucketBytes)
	for i := range entries {
		small.put(hash(i), strconv.Itoa(i), i, 1, nil)
	}
	check(t, small)
	for i := range small.shards {
		if n := len(small.shards[i].buckets); n != small.most || n != 8 {
			t.Errorf("shard %d of a small store has %d buckets of %d", i, n, small.most)
		}
	}
}
