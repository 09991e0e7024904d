package cache

import (
	"time"
	"unsafe"

	"shirube/internal/wire"
)

// AnswersFlushed is how much [Answers.Flush] has forgotten.
type AnswersFlushed struct{ Answers, Failures int }

// Flush forgets the answers and failures to questions in s, alive or not: no
// stale answer is left of them either. Answers to other questions, whose aliases
// lead to s, stay. It looks at all there is, a little at a time, while others are
// answered: what is put meanwhile may stay, or not.
func (c *Answers) Flush(s Scope) AnswersFlushed {
	c.resizing.Lock() // nothing moves to where it was looked for
	defer c.resizing.Unlock()
	c.rest.since = time.Now()
	goes := func(key string) bool { return s.holds(key) }
	n := AnswersFlushed{Failures: c.failures.Load().flush(goes)}
	t := c.table.Load()
	for i := range t.arenas {
		n.Answers += c.flushArena(&t.arenas[i], s)
	}
	return n
}

// holds reports whether the question of a key of [Answers] is in s.
func (s Scope) holds(key string) bool {
	name := len(key) - keyTail
	typ := wire.Type(key[name])<<8 | wire.Type(key[name+1])
	return (s.Type == 0 || s.Type == typ) && s.covers(wire.Name(key[:name]))
}

// flushArena is Flush for one arena.
func (c *Answers) flushArena(a *arena, s Scope) (forgotten int) {
	goes := func(e *slot) {
		var b [maxKey]byte
		if key := e.appendKey(b[:0]); s.holds(unsafe.String(&key[0], len(key))) {
			a.forget(e)
			forgotten++
		}
	}
	// In this order: answers move from the small queue to the head of the main
	// queue.
	for _, q := range [...]*queue{&a.small, &a.main} {
		for at, more := 0, true; more; c.rest.rest() {
			a.mu.Lock()
			at, more = a.walk(q, at, goes)
			a.mu.Unlock()
		}
	}
	return forgotten
}
