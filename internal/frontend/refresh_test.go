package frontend

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/cache"
	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/resolver"
	"shirube/transport"
)

// tenSeconds answers everything with an address that lives for ten seconds,
// and refreshes as refresh does.
type tenSeconds struct {
	t       *testing.T
	refresh func(ctx context.Context) error
}

func (r tenSeconds) Resolve(ctx context.Context, q resolver.Query) (*resolver.Answer, error) {
	if !q.Until.IsZero() {
		if !q.Until.After(time.Now()) {
			r.t.Errorf("the new answer is to outlive %v, which is over", q.Until)
		}
		if err := r.refresh(ctx); err != nil {
			return nil, err
		}
	}
	s := set(r.t, "x.example.com. 1 A 192.0.2.1", 10*time.Second, rrset.Insecure)
	s.Name = q.Name
	s.RRs[0].Header().Name = q.Name.String()
	return &resolver.Answer{Records: []rrset.Set{s}, Trust: rrset.Insecure}, nil
}

func (tenSeconds) Refuses(resolver.Query) *ede.Error { return nil }

// popular returns a frontend and queries for n names that are in its cache,
// popular, and due.
func popular(t *testing.T, n int, refresh func(ctx context.Context) error) (*Frontend, []*wire.Query) {
	t.Helper()
	f := newFrontend(t, nil, func(o *Options) {
		o.Resolver = tenSeconds{t, refresh}
		o.Answers = cache.NewAnswers(cache.AnswersOptions{Prefetch: true})
	})
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("n%d.example.com.", i)
		for range 2 {
			answer(t, f, query(t, names[i], dns.TypeA, nil))
		}
	}
	time.Sleep(9500 * time.Millisecond)
	queries := make([]*wire.Query, n)
	for i := range queries {
		queries[i] = query(t, names[i], dns.TypeA, nil)
	}
	return f, queries
}

// hit asks for what has to be in memory.
func hit(t *testing.T, f *Frontend, q *wire.Query) {
	t.Helper()
	if _, outcome := f.TryServe(nil, q); outcome != transport.Answered {
		t.Fatal("not in memory")
	}
}

func TestRefresherIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running atomic.Int32
		open := make(chan struct{})
		f, queries := popular(t, maxRefreshing+maxRefreshQueue+30, func(context.Context) error {
			running.Add(1)
			<-open
			return nil
		})
		for _, q := range queries[:maxRefreshing] {
			hit(t, f, q)
		}
		synctest.Wait()
		if running.Load() != maxRefreshing || f.Stats().Flights != maxRefreshing {
			t.Fatalf("%d running, %d flights", running.Load(), f.Stats().Flights)
		}
		for _, q := range queries[maxRefreshing:] {
			hit(t, f, q)
		}
		synctest.Wait()
		if s := f.Stats(); running.Load() != maxRefreshing || s.RefreshDropped != 30 {
			t.Errorf("%d running, %d dropped; want %d and 30", running.Load(), s.RefreshDropped, maxRefreshing)
		}
		close(open)
		synctest.Wait()
		if s := f.Stats(); s.Refreshed != maxRefreshing+maxRefreshQueue || s.Flights != 0 || s.RefreshFailed != 0 {
			t.Errorf("refreshed %d, failed %d, %d under way", s.Refreshed, s.RefreshFailed, s.Flights)
		}
	})
}

// rememberer answers like tenSeconds, and remembers what was asked.
type rememberer struct {
	tenSeconds
	asked *[]resolver.Query
}

func (r rememberer) Resolve(ctx context.Context, q resolver.Query) (*resolver.Answer, error) {
	*r.asked = append(*r.asked, q)
	return r.tenSeconds.Resolve(ctx, q)
}

func TestRefreshAsksTheSameQuestion(t *testing.T) {
	for _, cd := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var asked []resolver.Query
			f := newFrontend(t, nil, func(o *Options) {
				o.Resolver = rememberer{tenSeconds{t, func(context.Context) error { return nil }}, &asked}
				o.Answers = cache.NewAnswers(cache.AnswersOptions{Prefetch: true})
			})
			ask := func() {
				answer(t, f, query(t, "wWw.Example.com.", dns.TypeA, func(m *dns.Msg) { m.CheckingDisabled = cd }))
			}
			ask()
			ask()
			time.Sleep(9500 * time.Millisecond)
			ask()
			synctest.Wait()
			want := wire.Question{Name: wire.MustParseName("www.example.com."), Type: wire.TypeA}
			if len(asked) != 2 || asked[1].Question != want || asked[1].CD != cd || asked[1].Until.IsZero() {
				t.Errorf("CD %v: asked %+v", cd, asked)
			}
		})
	}
}

func TestRefreshIsDroppedWhenTheServerIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, queries := popular(t, 1, func(context.Context) error { t.Error("refreshed"); return nil })
		f.bounds.most = 0
		hit(t, f, queries[0])
		synctest.Wait()
		if s := f.Stats(); s.RefreshDropped != 1 || s.Refreshed+s.RefreshFailed != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestRefreshThatFailsIsCountedAndRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, queries := popular(t, 1, func(context.Context) error { return context.DeadlineExceeded })
		hit(t, f, queries[0])
		synctest.Wait()
		hit(t, f, query(t, "n0.example.com.", dns.TypeA, nil)) // the old answer is still there
		if s := f.Stats(); s.RefreshFailed != 1 || s.Refreshed != 0 || f.opt.Answers.Stats().Failures.Entries != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestCloseEndsRefreshes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, queries := popular(t, 2*maxRefreshing, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		for _, q := range queries {
			hit(t, f, q)
		}
		synctest.Wait()
		f.Close() // synctest would notice what is left
		if s := f.Stats(); s.Flights != 0 || s.RefreshFailed > maxRefreshing || f.opt.Answers.Stats().Failures.Entries != 0 {
			t.Errorf("%+v", s)
		}
	})
}
