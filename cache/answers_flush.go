package cache

import (
	"encoding/binary"

	"shirube/internal/wire"
)

// AnswersFlushed is how much [Answers.Flush] has forgotten.
type AnswersFlushed struct{ Answers, Failures int }

// Flush forgets the answers and failures to questions in s, alive or not: no
// stale answer is left of them either.
func (c *Answers) Flush(s Scope) AnswersFlushed {
	goes := func(key string) bool {
		fixed := len(key) - 3 // see appendKey
		typ := wire.Type(binary.BigEndian.Uint16([]byte(key[fixed:])))
		return (s.Type == 0 || s.Type == typ) && s.covers(wire.Name(key[:fixed]))
	}
	return AnswersFlushed{Answers: c.answers.flush(goes), Failures: c.failures.flush(goes)}
}
