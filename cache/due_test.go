package cache

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shirube/internal/wire"
)

// prefetching returns a cache with an answer for www.example. that lives for
// ttl, as a record has it.
func prefetching(t *testing.T, ttl string, cd bool) *Answers {
	t.Helper()
	c := NewAnswers(AnswersOptions{Prefetch: true})
	c.Put(question("www.example.", wire.TypeA), false, cd, hosts(t, "www.example.", epoch, "www.example. "+ttl+" IN A 192.0.2.1"))
	return c
}

// TestPopularAnswersAreDueOnceATenthOfTheirLifeIsLeft asks at the given times,
// in seconds, and says which of the queries hears that the answer is due.
func TestPopularAnswersAreDueOnceATenthOfTheirLifeIsLeft(t *testing.T) {
	for _, tt := range []struct {
		what, ttl string
		at        []float64
		due       []float64
		options   []option
	}{
		{what: "asked before", ttl: "300", at: []float64{1, 269.9, 270, 271, 299}, due: []float64{270}},
		{what: "asked for the second time", ttl: "300", at: []float64{270, 271}, due: []float64{271}},
		{what: "asked but once", ttl: "300", at: []float64{271}},
		{what: "again, for it was not renewed", ttl: "1000", at: []float64{1, 900, 901, 929.9, 930, 931, 960}, due: []float64{900, 930, 960}},
		{what: "as short as it may be", ttl: "9", at: []float64{1, 8, 8.1, 8.5}, due: []float64{8.1}},
		{what: "too short", ttl: "8", at: []float64{1, 7.3, 7.9}},
		{what: "as long as it may be", ttl: "2592000", at: []float64{1, 2332799, 2332800}, due: []float64{2332800}},
		{what: "too long", ttl: "2147483647", at: []float64{1, 2147483000}},
		{what: "by a client whose RD is clear", ttl: "300", at: []float64{1, 280, 281}, options: []option{withoutRD}},
	} {
		c := prefetching(t, tt.ttl, false)
		q := query(t, "wWw.example.", wire.TypeA, tt.options...)
		var due []float64
		for _, at := range tt.at {
			_, hit := ask(t, c, q, after(at))
			if hit.Due.IsZero() {
				continue
			}
			due = append(due, at)
			if until := hit.Due.Sub(after(at)); until < minPrefetch || until > minPrefetch+max(time.Duration(2592000)*time.Second/10, minPrefetch) {
				t.Errorf("%s: to outlive %v", tt.what, until)
			}
		}
		if len(due) != len(tt.due) {
			t.Errorf("%s: due at %v, want %v", tt.what, due, tt.due)
			continue
		}
		for i := range due {
			if due[i] != tt.due[i] {
				t.Errorf("%s: due at %v, want %v", tt.what, due, tt.due)
			}
		}
	}
}

func TestDueIsUntilTheNextAnswerIsWorthRenewing(t *testing.T) {
	c := prefetching(t, "10", true)
	q := query(t, "www.example.", wire.TypeA, withCD)
	ask(t, c, q, after(1))
	if _, hit := ask(t, c, q, after(9.5)); !hit.Due.Equal(after(10).Add(minPrefetch)) {
		t.Errorf("%v", hit.Due)
	}
}

func TestNothingIsDueWithoutPrefetch(t *testing.T) {
	c := NewAnswers(AnswersOptions{})
	c.Put(question("www.example.", wire.TypeA), false, false, hosts(t, "www.example.", epoch, "www.example. 10 IN A 192.0.2.1"))
	q := query(t, "www.example.", wire.TypeA)
	for _, at := range []float64{1, 9.5, 9.6} {
		if _, hit := ask(t, c, q, after(at)); !hit.Found || !hit.Due.IsZero() {
			t.Errorf("after %v s: %+v", at, hit)
		}
	}
}

func TestOneOfAllWhoAskHearsThatAnAnswerIsDue(t *testing.T) {
	c := prefetching(t, "300", false)
	var due atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		q := query(t, "www.example.", wire.TypeA)
		wg.Go(func() {
			buf := make([]byte, 0, 512)
			for range 1000 {
				if _, hit := c.Append(buf, q, after(280)); !hit.Due.IsZero() {
					due.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if due.Load() != 1 {
		t.Errorf("%d heard it", due.Load())
	}
}

func TestRenewedAnswerHasToBePopularAnew(t *testing.T) {
	c := prefetching(t, "10", false)
	q := query(t, "www.example.", wire.TypeA)
	ask(t, c, q, after(1))
	ask(t, c, q, after(9.5))
	c.Put(question("www.example.", wire.TypeA), false, false, hosts(t, "www.example.", after(10), "www.example. 10 IN A 192.0.2.2"))
	if _, hit := ask(t, c, q, after(19.5)); !hit.Found || !hit.Due.IsZero() {
		t.Errorf("the first who asks: %+v", hit)
	}
	if _, hit := ask(t, c, q, after(19.6)); hit.Due.IsZero() {
		t.Error("the second who asks hears nothing")
	}
}
