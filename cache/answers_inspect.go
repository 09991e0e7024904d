package cache

import (
	"time"

	"shirube/internal/wire"
)

// Inspection is what [Answers] has about a question, for people.
type Inspection struct {
	Rcode  wire.Rcode
	Age    time.Duration // since it was stored
	Left   time.Duration // that it lives; 0 or less: it has expired
	Stale  bool          // it has, and may be of use yet
	Octets int           // of the message
}

// Inspect says what there is about q for requests with the given DO and CD. It is
// no use of the answer.
func (c *Answers) Inspect(q wire.Question, do, cd bool, now time.Time) (Inspection, bool) {
	var b [maxKey]byte
	a, s := c.locate(appendKey(b[:0], []byte(q.Name), q.Type, do, cd))
	if s == nil {
		return Inspection{}, false
	}
	defer a.mu.RUnlock()
	at := c.since(now)
	return Inspection{
		Rcode: wire.RcodeOf(s.msg()), Age: time.Duration(s.age(at)), Left: time.Duration(s.life() - s.age(at)),
		Stale: s.stale(at, a.maxStale.Load()), Octets: int(s.octets),
	}, true
}
