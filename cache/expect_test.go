package cache

import (
	"testing"
	"unsafe"

	"shirube/internal/wire"
)

// TestExpectFetchesWhereTheAnswerIs looks at what is told to be fetched.
func TestExpectFetchesWhereTheAnswerIs(t *testing.T) {
	c, queries := crowd(t)
	for _, q := range queries[:1000] {
		key := appendKey(nil, q.RawName(), q.Type, q.DO, q.CD)
		h := c.rules.hash(key)
		a := c.table.Load().arena(h)
		s := a.find(h, key)
		if s == nil {
			t.Fatalf("%v is not there", q.Question())
		}
		if p := a.tagged(tagOf(h)); a.at(p.offset()) != s { // of 10,000 tags of 32 bits two are hardly the same
			t.Fatalf("of %v %x is fetched", q.Question(), p)
		}
		row := uintptr(unsafe.Pointer(a.row(a.bucket(tagOf(h)))))
		if row%cacheLine != 0 {
			t.Fatalf("a bucket at %#x takes two cache lines", row)
		}
	}
	absent := appendKey(nil, []byte(name("absent.example.")), wire.TypeA, false, false)
	if p := c.table.Load().arena(c.rules.hash(absent)).tagged(tagOf(c.rules.hash(absent))); p != 0 {
		t.Errorf("of a name that is not there %x is fetched", p)
	}
}

// TestExpectWaitsForNobodyAndChangesNothing has all arenas locked, empty, or gone.
func TestExpectWaitsForNobodyAndChangesNothing(t *testing.T) {
	c, queries := crowd(t)
	before := c.Stats()
	tab := c.table.Load()
	for i := range tab.arenas {
		tab.arenas[i].mu.Lock()
	}
	c.Expect(queries[:100]) // would not come back
	for i := range tab.arenas {
		tab.arenas[i].mu.Unlock()
	}
	for _, n := range []int{0, 1, together, together + 1, len(queries)} {
		c.Expect(queries[:n])
	}
	unlocked(t, c)
	if after := c.Stats(); after != before {
		t.Errorf("%+v; before: %+v", after, before)
	}
	if err := c.Resize(0, epoch); err != nil {
		t.Fatal(err)
	}
	c.Expect(queries[:100])
	for i := range tab.arenas { // they are gone, and somebody has the old table still
		tab.arenas[i].fetchBuckets(uint64(i))
		tab.arenas[i].fetchSlot(uint64(i))
	}
	unlocked(t, c)
	newAnswers(AnswersOptions{Bytes: 1}, onHeap()).Expect(queries[:100])
}
