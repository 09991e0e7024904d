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
// their share is the same. It moves one arena after the other, a little at a time,
// while others are answered, and gives its memory back before the next, so that
// both sizes are never taken at once. The error is that there is not so much
// memory; then nothing has changed.
func (c *Answers) Resize(size int64, now time.Time) error {
	c.resizing.Lock()
	defer c.resizing.Unlock()
	c.rest.since = time.Now()
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
		c.move(old, i, t, c.since(now))
	}
	c.table.Store(t)
	old.retire()
	if p.failures != portion(c.limit.Load()).failures {
		c.failures.Store(newStore[string, failure](p.failures))
	}
	c.limit.Store(size)
	return nil
}

// move moves all that is in arena i of a table to another, and gives its memory
// back. Who does not find something here any more goes there.
func (c *Answers) move(from *table, i int, to *table, now int64) {
	a := &from.arenas[i]
	a.mu.Lock()
	a.moving = true
	a.mu.Unlock()
	for _, q := range [...]*queue{&a.main, &a.small} {
		for at, more := 0, true; more; c.rest.rest() {
			a.mu.Lock()
			at, more = a.walk(q, at, func(s *slot) { a.pass(s, to, now) })
			a.mu.Unlock()
		}
	}
	a.mu.Lock()
	b := to.arena(uint64(i))
	b.mu.Lock()
	b.counts.add(a.counts)
	b.mu.Unlock()
	unused := a.memory != nil
	a.memory, a.index, a.ghosts = nil, nil, nil
	a.small, a.main, a.counts = queue{}, queue{}, ArenaCounts{}
	a.mu.Unlock()
	if unused { // nobody reads it any more
		from.from.idle(from.memory[i*from.each:][:from.each])
	}
}

// pass moves s, which is a's, to another table. The caller has locked a.
func (a *arena) pass(s *slot, to *table, now int64) {
	h, off := a.hashOf(s), a.offsetOf(s)
	b := to.arena(h)
	b.mu.Lock()
	b.adopt(h, s, off >= a.main.from, now)
	b.mu.Unlock()
	a.relink(placeOf(h, off), 0)
	s.free(s.bytes())
	a.counts.Entries--
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
	a.link(placeOf(h, off))
	a.counts.Entries++
}

// rest lets others at the processor, now and then, of who has much to do and no
// hurry.
type rest struct {
	since time.Time // of work, without a rest
	tried func()    // called instead, by tests; nil: nothing is
}

// workAtOnce is how long is worked at most, and then rested for as long.
//
// It is a sleep, and not a yield: with as many who work as there are processors,
// Go does not look for packets as long as somebody yields to others who work.
const workAtOnce = time.Millisecond

// rest rests if it is time. Nothing may be locked.
func (r *rest) rest() {
	if r.tried != nil {
		r.tried()
		return
	}
	if time.Since(r.since) < workAtOnce {
		return
	}
	time.Sleep(workAtOnce)
	r.since = time.Now()
}
