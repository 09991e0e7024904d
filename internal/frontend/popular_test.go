package frontend

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// questionOf returns a question for addresses.
func questionOf(name string) wire.Question {
	return wire.Question{Name: wire.MustParseName(name), Type: wire.TypeA}
}

func TestPopularQuestionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFrontend(t, nil, nil)
		hot := questionOf("hot.example.")
		for range 1000 {
			f.asked.flight(hot, time.Now())
		}
		for i := range 2 * maxPopular { // random names
			f.asked.flight(questionOf(fmt.Sprintf("n%d.example.", i)), time.Now())
		}
		if n := len(f.asked.all()); n > maxPopular {
			t.Errorf("%d questions", n)
		}
		if top := f.Popular(1); len(top) != 1 || top[0].Question != hot || top[0].Count < 100 {
			t.Errorf("%v", top)
		}
		time.Sleep(time.Hour)
		for i := range 20 { // what was popular an hour ago gives way
			f.asked.flight(questionOf(fmt.Sprintf("new%d.example.", i)), time.Now())
			time.Sleep(popularPeriod)
		}
		if top := f.Popular(100); len(top) == 0 || top[0].Question == hot {
			t.Errorf("%v", top)
		}
	})
}

// TestNewQuestionHalvesFewCounts: to count one more takes no longer when there is no
// room.
func TestNewQuestionHalvesFewCounts(t *testing.T) {
	var p popularity
	now := time.Now()
	const each = 4
	for i := range maxPopular {
		for range each {
			p.flight(questionOf(fmt.Sprintf("n%d.example.", i)), now)
		}
	}
	sum := func() (sum int) {
		for _, c := range p.all() {
			sum += int(c.Count)
		}
		return sum
	}
	before := sum()
	for i := range 3 { // none of those whose turn it is comes to nothing
		p.flight(questionOf(fmt.Sprintf("new%d.example.", i)), now)
		if halved := (before - sum()) / (each / 2); halved != (i+1)*mostHalved || len(p.all()) != maxPopular {
			t.Errorf("%d are halved, %d are left", halved, len(p.all()))
		}
	}
	for i := range 3 * maxPopular / mostHalved {
		p.flight(questionOf(fmt.Sprintf("newer%d.example.", i)), now)
	}
	if n := len(p.all()); n != maxPopular || sum() >= before/2 {
		t.Errorf("%d are counted, of %d in all, which were %d", n, sum(), before)
	}
}

func TestHitsAreCountedByASample(t *testing.T) {
	f := newFrontend(t, nil, nil)
	const name = "www.example.com."
	f.asked.flight(questionOf(name), time.Now())
	for id := range 1 << 16 {
		f.asked.hit(query(t, "wWw.example.COM.", dns.TypeA, func(m *dns.Msg) { m.Id = uint16(id) }))
	}
	top := f.Popular(10)
	if len(top) != 1 || top[0].Question != questionOf(name) || top[0].Count != 1+1<<16 {
		t.Errorf("%v; one in %d of all IDs counts for so many", top, popularSample)
	}
}
