package cache

import (
	"testing"
	"testing/synctest"
	"time"

	"shirube/internal/clock"
	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

const year = 365 * 24 * time.Hour

func TestMemoryGoesByItsClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := new(clock.Clock)
		m := NewMemory(MemoryOptions{Clock: now})
		put := func() {
			m.PutCut(&rrset.Cut{Zone: name("example."), Until: now.Now().Add(time.Hour)})
			m.PutSet(rrset.Set{
				Name: name("www.example."), Type: wire.TypeA, Rank: rrset.AuthAnswer,
				RRs: rrs(t, "www.example. 3600 A 192.0.2.1"), Until: now.Now().Add(time.Hour),
			})
		}
		want := func(when string, want bool) {
			t.Helper()
			s, ok := m.Set(name("www.example."), wire.TypeA)
			if cut := m.Cut(name("www.example.")); ok != want || (cut != nil) != want {
				t.Errorf("%s: there is a set: %v, and a cut: %v; want %v", when, ok, cut, want)
			}
			if ttl := s.TTL(now.Now()); ok && ttl > 3610 {
				t.Errorf("%s: the TTL is %d", when, ttl)
			}
		}
		put()
		want("at once", true)
		now.Set(time.Hour - 1)
		want("just before the end", true)
		now.Set(time.Hour)
		want("at the end", false)
		for _, offset := range []time.Duration{10 * year, -10 * year, clock.MaxOffset, 2*year - clock.MaxOffset, time.Minute, 0} {
			now.Set(offset)
			put() // lower or equal rank: what is from another time does not keep it out
			want("stored at "+offset.String(), true)
			now.Set(offset - time.Second) // a query may be that much late
			want("a second before", true)
			now.Set(offset - time.Minute)
			want("set back by a minute", false)
			now.Set(offset - year)
			want("set back by a year", false)
		}
	})
}

func TestSetOfLowerRankReplacesOneFromBeforeTheClockWasSetBack(t *testing.T) {
	now := new(clock.Clock)
	m := NewMemory(MemoryOptions{Clock: now})
	set := rrset.Set{
		Name: name("www.example."), Type: wire.TypeA, Rank: rrset.AuthAnswer, Trust: rrset.Secure,
		RRs: rrs(t, "www.example. 3600 A 192.0.2.1"), Until: now.Now().Add(time.Hour),
	}
	m.PutSet(set)
	now.Set(-year)
	set.Rank, set.Trust, set.Until = rrset.Additional, rrset.Unchecked, now.Now().Add(time.Hour)
	m.PutSet(set)
	if s, ok := m.Set(set.Name, set.Type); !ok || s.Rank != rrset.Additional {
		t.Errorf("the set is %v, %v", s, ok)
	}
}

func TestAnswersFromBeforeTheClockWasSetBackAreGone(t *testing.T) {
	q := question("www.example.", wire.TypeA)
	for _, back := range []float64{-11, -86400, -10 * 365 * 86400} {
		c := NewAnswers(AnswersOptions{MaxStale: time.Hour})
		c.Put(q, false, false, hosts(t, "www.example.", epoch, "www.example. 30 IN A 192.0.2.1"))
		ask1 := query(t, "www.example.", wire.TypeA)
		if m, _ := ask(t, c, ask1, after(back)); m != nil {
			t.Errorf("set back by %v s: the answer is %v", -back, m)
		}
		if _, hit := c.Stale(nil, ask1, after(back)); hit.Found {
			t.Errorf("set back by %v s: there is a stale answer", -back)
		}
		c.Put(q, false, false, hosts(t, "www.example.", after(back), "www.example. 30 IN A 192.0.2.2"))
		m, _ := ask(t, c, ask1, after(back+1))
		if m == nil || m.Answer[0].String() != "www.example.\t29\tIN\tA\t192.0.2.2" {
			t.Errorf("set back by %v s: the new answer is %v", -back, m)
		}
	}
}

func TestFailuresFromBeforeTheClockWasSetBackAreGone(t *testing.T) {
	q, ask1 := question("www.example.", wire.TypeA), query(t, "www.example.", wire.TypeA)
	for _, back := range []float64{-11, -86400, -10 * 365 * 86400} {
		c := NewAnswers(AnswersOptions{MaxStale: time.Hour})
		fail := func(at time.Time, text string) { c.Fail(q, false, &ede.Error{Text: text}, at) }
		fail(epoch, "then")
		if m, _ := ask(t, c, ask1, after(back)); m != nil {
			t.Errorf("set back by %v s: the answer is %v", -back, m)
		}
		fail(after(back), "now")
		if _, hit := ask(t, c, ask1, after(back)); !hit.Found || hit.EDE.Text != "now" {
			t.Errorf("set back by %v s: the new failure is %v", -back, hit)
		}
	}
}
