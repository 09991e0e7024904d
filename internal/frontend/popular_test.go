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
