package frontend

import (
	"slices"
	"sync"
	"time"

	"shirube/internal/wire"
)

// The bounds of what is known of how often questions are asked.
const (
	// maxPopular is how many questions are counted. One more has all counts
	// halved, and those that come to nothing forgotten: the rare ones.
	maxPopular = 32 << 10
	// popularSample is of how many answers from memory one is counted, as so many.
	// A power of two.
	popularSample = 64
	// popularPeriod is after how long what was asked counts half as much.
	popularPeriod = 5 * time.Minute
)

// popularity counts how often questions are asked: each time that one is looked for
// outside of memory, and of those that memory answers a sample. Who reads a
// socket never waits for it. The zero value has counted nothing.
type popularity struct {
	salt uint16 // so that nobody can pick the queries that are counted; does not change

	mu     sync.Mutex
	counts map[wire.Question]*uint32
	halved time.Time
}

// hit counts a query that was answered from memory, if it is in the sample, and
// nobody else is counting. It allocates nothing.
func (p *popularity) hit(q *wire.Query) {
	// The multiplier is that of Fibonacci hashing: it spreads what is in sequence.
	if (q.ID()^p.salt)*40503>>6%popularSample != 0 || !p.mu.TryLock() {
		return
	}
	defer p.mu.Unlock()
	var b [wire.MaxNameLen]byte
	name := wire.AppendFolded(b[:0], q.RawName())
	if n := p.counts[wire.Question{Name: wire.Name(name), Type: q.Type}]; n != nil { // else it was forgotten, being rare
		*n += popularSample
	}
}

// flight counts a question that memory does not answer at now. It keeps q.
func (p *popularity) flight(q wire.Question, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.counts == nil {
		p.counts = make(map[wire.Question]*uint32)
		p.halved = now
	}
	n := p.counts[q]
	if n == nil {
		for len(p.counts) >= maxPopular || now.Sub(p.halved) >= popularPeriod {
			p.halve(now)
		}
		n = new(uint32)
		p.counts[q] = n
	}
	*n++
}

// halve has what was asked so far count half as much.
func (p *popularity) halve(now time.Time) {
	p.halved = now
	for key, n := range p.counts {
		if *n /= 2; *n == 0 {
			delete(p.counts, key)
		}
	}
}

// Popular is a question, and about how often it was asked lately.
type Popular struct {
	Question wire.Question
	Count    uint32
}

// Popular returns the questions that are asked most, so many of them at most, the
// most popular first.
func (f *Frontend) Popular(most int) []Popular {
	list := f.asked.all()
	slices.SortFunc(list, func(a, b Popular) int {
		switch {
		case a.Count != b.Count:
			return int(int64(b.Count) - int64(a.Count))
		case a.Question.Name != b.Question.Name:
			return wire.Compare(a.Question.Name, b.Question.Name)
		}
		return int(a.Question.Type) - int(b.Question.Type)
	})
	return list[:min(len(list), max(most, 0))]
}

// all returns what was counted, in no order.
func (p *popularity) all() []Popular {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]Popular, 0, len(p.counts))
	for q, n := range p.counts {
		list = append(list, Popular{q, *n})
	}
	return list
}
