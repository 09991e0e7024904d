package cache

import (
	"unsafe"

	"shirube/internal/wire"
)

// AnswersFlushed is how much [Answers.Flush] has forgotten.
type AnswersFlushed struct{ Answers, Failures int }

// Flush forgets the answers and failures to questions in s, alive or not: no
// stale answer is left of them either. Answers to other questions, whose aliases
// lead to s, stay. It looks at all there is, one arena after the other, each of
// which is locked for some milliseconds if it is large.
func (c *Answers) Flush(s Scope) AnswersFlushed {
	c.resizing.Lock() // nothing moves to where it was looked for
	defer c.resizing.Unlock()
	goes := func(key string) bool { return s.holds(key) }
	n := AnswersFlushed{Failures: c.failures.Load().flush(goes)}
	t := c.table.Load()
	for i := range t.arenas {
		n.Answers += t.arenas[i].flush(s)
	}
	return n
}

// holds reports whether the question of a key of [Answers] is in s.
func (s Scope) holds(key string) bool {
	name := len(key) - keyTail
	typ := wire.Type(key[name])<<8 | wire.Type(key[name+1])
	return (s.Type == 0 || s.Type == typ) && s.covers(wire.Name(key[:name]))
}

// flush is Flush for one arena.
func (a *arena) flush(s Scope) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.counts.Entries
	a.each(func(_ *queue, e *slot) {
		var b [maxKey]byte
		if key := e.appendKey(b[:0]); s.holds(unsafe.String(&key[0], len(key))) {
			a.forget(e)
		}
	})
	return before - a.counts.Entries
}
