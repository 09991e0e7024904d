package frontend

import (
	"slices"
	"sync"
	"time"

	"shirube/internal/wire"
)

// The bounds of what is known of how often questions are asked.
const (
	// maxPopular is how many questions are counted. One more has the counts of others
	// halved, until one comes to nothing, which is forgotten: a rare one.
	maxPopular = 32 << 10
	// mostHalved is how many are halved for a new one at most: who asks for it is
	// waited for by nobody else, but to halve all takes 6 ms of a processor's time, in
	// which it answers no one. Where none comes to nothing, the new one is not counted.
	mostHalved = 16
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
	places map[wire.Question]int // in counts
	counts []counted             // up to maxPopular
	hand   int                   // whose turn it is to be halved, in counts
	begun  time.Time
	period uint32 // that is now, of popularPeriod each since begun
}

// counted is a question that is counted.
type counted struct {
	q      wire.Question
	n      uint32 // as of period: see popularity.at
	period uint32
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
	if i, ok := p.places[wire.Question{Name: wire.Name(name), Type: q.Type}]; ok { // else it was forgotten, being rare
		p.at(i).n += popularSample
	}
}

// flight counts a question that memory does not answer at now. It keeps q.
func (p *popularity) flight(q wire.Question, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.places == nil {
		// All at once: to grow by doubling was 2 % of the CPU time of the first ones.
		p.places, p.counts, p.begun = make(map[wire.Question]int, maxPopular), make([]counted, 0, maxPopular), now
	}
	p.period = max(p.period, uint32(now.Sub(p.begun)/popularPeriod))
	i, ok := p.places[q]
	if !ok {
		if i = p.place(); i < 0 {
			return
		}
		p.places[q], p.counts[i] = i, counted{q: q, period: p.period}
	}
	p.at(i).n++
}

// at returns what is counted at i, by what it counts for now.
func (p *popularity) at(i int) *counted {
	c := &p.counts[i]
	c.n >>= min(p.period-c.period, 32)
	c.period = p.period
	return c
}

// place returns where in counts a new question is counted; -1: nowhere.
func (p *popularity) place() int {
	if i := len(p.counts); i < maxPopular {
		p.counts = append(p.counts, counted{})
		return i
	}
	for range mostHalved {
		i := p.hand
		p.hand = (p.hand + 1) % maxPopular
		c := p.at(i)
		if c.n /= 2; c.n == 0 {
			delete(p.places, c.q)
			return i
		}
	}
	return -1
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
	for i := range p.counts {
		if c := p.at(i); c.n > 0 {
			list = append(list, Popular{c.q, c.n})
		}
	}
	return list
}
