package cache

import (
	"fmt"
	"time"
	"unsafe"
)

// share is what the parts of a cache may take, in bytes.
type share struct {
	arenas, failures int64
	remarks          int // how many
}

// maxFailures is how much memory is for failures at most. They are on the heap,
// and last for minutes: it is enough for fifty thousand of them.
const maxFailures = 16 << 20

// portion divides the memory of a cache.
func portion(all int64) share {
	all = max(all, 0)
	s := share{
		failures: min(all/8, maxFailures),
		remarks:  int(min(all/16/remarkSize, maxRemarks-bareRemarks)),
	}
	s.arenas = all - s.failures - int64(s.remarks)*remarkSize
	return s
}

// Resize sets how much memory may be taken, as AnswersOptions.Bytes does. The
// answers stay, as far as there is room for them; remembered failures do if
// their share is the same. It moves one arena after the other, which is locked
// for a few milliseconds, and gives its memory back before the next, so that
// both sizes are never taken at once. The error is that there is not so much
// memory; then nothing has changed.
func (c *Answers) Resize(size int64, now time.Time) error {
	c.resizing.Lock()
	defer c.resizing.Unlock()
	if size == c.limit.Load() {
		return nil
	}
	p := portion(size)
	old := c.table.Load()
	t, err := newTable(p.arenas, &c.rules, c.from)
	if err != nil {
		return fmt.Errorf("cache: no memory for %d bytes of answers: %w", size, err)
	}
	c.rules.remarks.bound(p.remarks)
	old.next.Store(t)
	for i := range old.arenas {
		old.move(i, t, c.since(now))
	}
	c.table.Store(t)
	old.retire()
	if p.failures != portion(c.limit.Load()).failures {
		c.failures.Store(newStore[string, failure](p.failures))
	}
	c.limit.Store(size)
	return nil
}

// move moves all that is in arena i to another table, and gives its memory
// back. Who looks for it here finds that it is gone, and goes there.
func (t *table) move(i int, to *table, now int64) {
	a := &t.arenas[i]
	a.mu.Lock()
	defer a.mu.Unlock()
	a.each(func(q *queue, s *slot) {
		h := a.hashOf(s)
		b := to.arena(h)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.adopt(h, s, q == &a.main, now)
	})
	a.counts.Entries = 0 // counted there
	b := to.arena(uint64(i))
	b.mu.Lock()
	b.counts.add(a.counts)
	b.mu.Unlock()
	if a.memory != nil {
		t.from.idle(t.memory[i*t.each:][:t.each])
	}
	a.gone, a.memory, a.index, a.ghosts = true, nil, nil, nil
	a.small, a.main, a.counts = queue{}, queue{}, ArenaCounts{}
}

// adopt stores s, of another arena, whose key has hash h: in the main queue or
// the small one.
func (a *arena) adopt(h uint64, s *slot, main bool, now int64) {
	q, size := &a.small, s.bytes()
	if main || size > q.size()/maxShare {
		q = &a.main
	}
	if size > q.size()/maxShare {
		a.remarks.release(s.remark())
		a.counts.Evicted++
		return
	}
	if a.crowded() {
		a.grow()
	}
	moves := maxMoves
	off := a.reserve(q, size, now, &moves)
	copy(a.memory[off:off+size], unsafe.Slice((*byte)(unsafe.Pointer(s)), size))
	a.link(h, placeOf(h, off))
	a.counts.Entries++
}
