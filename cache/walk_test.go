package cache

import (
	"fmt"
	"testing"

	"shirube/internal/wire"
)

func TestIndexBeginsSmallAndDoublesToNearlyAllThereIsRoomFor(t *testing.T) {
	for n := 1; n < 100_000; n++ {
		first, most := indexSize(n)
		doubled := first
		for 2*doubled <= most {
			doubled *= 2
		}
		if doubled != most || most > n || n-most > n/firstBuckets || first > 2*firstBuckets || first < min(n, firstBuckets) {
			t.Fatalf("with room for %d it begins with %d buckets and has %d", n, first, most)
		}
	}
}

// TestIndexGrowsWithoutALookAtTheAnswers takes them away while it does.
func TestIndexGrowsWithoutALookAtTheAnswers(t *testing.T) {
	c := newAnswers(AnswersOptions{Bytes: 1 << 20}, onHeap())
	a := &c.table.Load().arenas[0]
	put := func(i uint64) {
		n := numbered(i)
		c.put(appendKey(nil, []byte(n), wire.TypeA, false, false), sized(t, n, 90, 3600, 1, epoch))
	}
	for i := uint64(0); 2*len(a.index) <= cap(a.index); i++ {
		put(i)
		if i%50 != 0 {
			continue
		}
		memory := a.memory
		a.memory = nil
		a.grow()
		a.memory = memory
		checkArenas(t, c)
	}
	if a.grow() {
		t.Error("the index grows beyond its memory")
	}
}

// crowd returns a cache with many answers in few arenas, and their queries.
func crowd(t *testing.T) (*Answers, []*wire.Query) {
	t.Helper()
	c := newAnswers(AnswersOptions{Bytes: 4 << 20}, onHeap())
	var queries []*wire.Query
	for i := range uint64(10_000) {
		n := numbered(i)
		c.put(appendKey(nil, []byte(n), wire.TypeA, false, false), sized(t, n, 150, 3600, 1, epoch))
		queries = append(queries, query(t, n.String(), wire.TypeA))
	}
	return c, queries
}

// unlocked fails the test if an arena is locked.
func unlocked(t *testing.T, c *Answers) {
	t.Helper()
	for tab := c.table.Load(); tab != nil; tab = tab.next.Load() {
		for i := range tab.arenas {
			if !tab.arenas[i].mu.TryLock() {
				t.Fatalf("arena %d is locked", i)
			}
			tab.arenas[i].mu.Unlock()
		}
	}
}

func TestFlushLetsOthersInAfterSoManyAnswers(t *testing.T) {
	c, queries := crowd(t)
	before, rests := c.Stats().Answers.Entries, 0
	c.rest.tried = func() {
		unlocked(t, c)
		now := c.Stats().Answers.Entries
		if before-now > walkAtOnce {
			t.Fatalf("%d answers are forgotten at once", before-now)
		}
		before = now
		rests++
		// What comes meanwhile makes the queues turn.
		n := fmt.Sprintf("host%d.other.", rests)
		c.Put(question(n, wire.TypeA), false, false, sized(t, name(n), 90, 3600, 1, epoch))
		before = c.Stats().Answers.Entries
	}
	got := c.Flush(Scope{Name: name("example."), Below: true, Type: wire.TypeA})
	if got.Answers != len(queries) || rests < len(queries)/walkAtOnce {
		t.Errorf("%d answers are forgotten, with %d rests", got.Answers, rests)
	}
	c.rest.tried = nil
	for _, q := range queries {
		if m, _ := ask(t, c, q, epoch); m != nil {
			t.Fatalf("%v is still there", q.Question())
		}
	}
	if m, _ := ask(t, c, query(t, "host1.other.", wire.TypeA), epoch); m == nil {
		t.Error("what is not below the name is forgotten")
	}
	checkArenas(t, c)
}

// TestResizeLetsOthersInAfterSoManyAnswers asks for answers, and renews some,
// while they move: none is missing at any time.
func TestResizeLetsOthersInAfterSoManyAnswers(t *testing.T) {
	c, queries := crowd(t)
	for _, size := range []int64{16 << 20, 4 << 20} {
		here, rests := 0, 0
		for i := range c.table.Load().arenas {
			here += c.table.Load().arenas[i].counts.Entries
		}
		c.rest.tried = func() {
			unlocked(t, c)
			left := 0
			for i := range c.table.Load().arenas {
				left += c.table.Load().arenas[i].counts.Entries
			}
			if here-left > walkAtOnce {
				t.Fatalf("%d answers move at once", here-left)
			}
			for i := range 20 {
				k := (rests*7919 + i*997) % len(queries)
				q := queries[k]
				m, _ := ask(t, c, q, epoch)
				if m == nil {
					t.Fatalf("%v is missing", q.Question())
				}
				if i == 0 { // another length: it cannot be renewed in its place
					c.Put(q.Question(), false, false, sized(t, q.Question().Name, 100, 3600, byte(rests), after(1)))
				}
			}
			if st := c.Stats().Answers; st.Entries != len(queries) {
				t.Fatalf("there are %d answers, want %d", st.Entries, len(queries))
			}
			here = 0
			for i := range c.table.Load().arenas {
				here += c.table.Load().arenas[i].counts.Entries
			}
			rests++
		}
		if err := c.Resize(size, epoch); err != nil {
			t.Fatal(err)
		}
		c.rest.tried = nil
		if rests < len(queries)/walkAtOnce {
			t.Errorf("%d rests", rests)
		}
		checkArenas(t, c)
	}
}
