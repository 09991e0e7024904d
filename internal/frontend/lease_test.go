package frontend

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/cache"
	"shirube/cache/shared"
	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/resolver"
)

// team is many servers that share one name, which lives for a hundred seconds
// and takes a while to resolve.
type team struct {
	m        *fleet
	members  []*Frontend
	resolved atomic.Int32
	fails    atomic.Bool
	takes    time.Duration
}

func newTeam(t *testing.T, n int, prefetch bool) *team {
	t.Helper()
	tm := &team{m: newFleet(), takes: 40 * time.Millisecond}
	resolve := stub(func(context.Context, wire.Question) (*resolver.Answer, error) {
		tm.resolved.Add(1)
		time.Sleep(tm.takes)
		if tm.fails.Load() {
			return nil, ede.Errorf(ede.NoReachableAuthority, "nobody answers")
		}
		s := set(t, "www.example.com. 1 A 192.0.2.1", 100*time.Second, rrset.Secure)
		return &resolver.Answer{Records: []rrset.Set{s}, Trust: rrset.Secure, Queries: 3}, nil
	})
	for range n {
		tm.members = append(tm.members, newFrontend(t, resolve, sharingWith(tm.m, func(o *Options) {
			o.Answers = cache.NewAnswers(cache.AnswersOptions{MaxStale: time.Hour, Prefetch: prefetch})
		})))
	}
	return tm
}

var teamKey = shared.Key{Question: wire.Question{Name: wire.MustParseName("www.example.com."), Type: wire.TypeA}}

// ask has all members asked at once, and returns the least TTL that they gave,
// and how long the slowest took.
func (tm *team) ask(t *testing.T) (least uint32, took time.Duration) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	least = 1 << 31
	begun := time.Now()
	for _, f := range tm.members {
		wg.Go(func() {
			got := answer(t, f, query(t, "www.example.com.", dns.TypeA, nil))
			mu.Lock()
			defer mu.Unlock()
			if len(got.Answer) != 1 {
				t.Errorf("got\n%v", got)
				return
			}
			least, took = min(least, got.Answer[0].Header().Ttl), max(took, time.Since(begun))
		})
	}
	wg.Wait()
	return least, took
}

// warm has all members know the name, and that for popular.
func (tm *team) warm(t *testing.T) {
	t.Helper()
	answer(t, tm.members[0], query(t, "www.example.com.", dns.TypeA, nil))
	for range 3 {
		tm.ask(t)
	}
	if n := tm.resolved.Swap(0); n != 1 {
		t.Fatalf("resolved %d times to begin with", n)
	}
}

func TestPopularAnswersAreRenewedOnceForAFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tm := newTeam(t, 24, true)
		tm.warm(t)
		time.Sleep(95 * time.Second)
		tm.ask(t) // due everywhere at once
		time.Sleep(2 * time.Second)
		if n := tm.resolved.Load(); n != 1 {
			t.Errorf("renewed %d times", n)
		}
		least, _ := tm.ask(t)
		if least < 97 || tm.resolved.Load() != 1 {
			t.Errorf("somebody has no more than %d s of it, resolved %d times", least, tm.resolved.Load())
		}
	})
}

func TestRenewalGoesOnWithoutWhoHasItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tm := newTeam(t, 8, true)
		tm.warm(t)
		time.Sleep(92 * time.Second)
		tm.m.Claim(t.Context(), teamKey, 0) // by somebody who dies
		tm.ask(t)
		time.Sleep(2 * time.Second)
		if n := tm.resolved.Load(); n != 0 {
			t.Errorf("resolved %d times as long as it is left to somebody", n)
		}
		time.Sleep(5 * time.Second)
		if n := tm.resolved.Load(); n != 1 {
			t.Errorf("resolved %d times without him", n)
		}
		time.Sleep(3 * time.Second) // the old answer has ended
		if least, _ := tm.ask(t); least < 80 || tm.resolved.Load() != 1 {
			t.Errorf("somebody has no more than %d s of it; resolved %d times", least, tm.resolved.Load())
		}
		if s := tm.members[0].Stats().Shared; s.Claimed+s.Left == 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestPopularMissIsResolvedOnceForAFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tm := newTeam(t, 24, false)
		tm.warm(t)
		time.Sleep(100*time.Second + 100*time.Millisecond)
		least, took := tm.ask(t)
		if n := tm.resolved.Load(); n != 1 || least < 99 {
			t.Errorf("resolved %d times, and somebody has %d s of it", n, least)
		}
		if took > 2*tm.takes {
			t.Errorf("somebody waited for %v", took)
		}
		saved := uint64(0)
		for _, f := range tm.members {
			saved += f.Stats().Shared.Saved
		}
		if s := tm.members[0].Stats().Shared; saved == 0 || s.Claimed+s.Yielded == 0 {
			t.Errorf("%d queries saved, %+v", saved, s)
		}
	})
}

// Who knows how to resolve, and how long that takes, waits twice as long for who
// has the lease, and a tenth of a second at most; then he resolves himself.
func TestDeadHolderOfALeaseCostsLittle(t *testing.T) {
	for takes, most := range map[time.Duration]time.Duration{20 * time.Millisecond: 40 * time.Millisecond, 300 * time.Millisecond: maxYield} {
		synctest.Test(t, func(t *testing.T) {
			tm := newTeam(t, 1, false)
			tm.takes = takes
			tm.warm(t)
			time.Sleep(100*time.Second + 100*time.Millisecond)
			tm.m.Claim(t.Context(), teamKey, 0)
			_, took := tm.ask(t)
			if extra := took - takes; tm.resolved.Load() != 1 || extra > most || extra < most/2 {
				t.Errorf("it takes %v: resolved %d times after %v more; expected %v", takes, tm.resolved.Load(), extra, most)
			}
		})
	}
}

// A fleet that is at it and fails has not kept the others waiting for longer.
func TestFailureOfTheHolderIsTakenFromHim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tm := newTeam(t, 2, false)
		tm.warm(t)
		for range 3 { // that go well, so that a failure is told
			tm.members[0].sharing.pulse.note(true, time.Now())
		}
		time.Sleep(100*time.Second + 100*time.Millisecond)
		tm.fails.Store(true)
		tm.m.entries = map[shared.Key]shared.Entry{} // nothing stale is in the way
		_, took := tm.ask(t)
		if n := tm.resolved.Load(); n > 2 || took > 2*tm.takes+maxYield {
			t.Errorf("resolved %d times in %v", n, took)
		}
	})
}

// Nobody asks for the lease of what others do not ask for at the same moment.
func TestUnpopularMissPaysNothingForTheFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tm := newTeam(t, 2, false)
		answer(t, tm.members[0], query(t, "www.example.com.", dns.TypeA, nil))
		for _, pause := range []time.Duration{102 * time.Second, 2 * time.Hour, 110 * time.Second} {
			time.Sleep(pause)
			gets := tm.m.gets
			answer(t, tm.members[0], query(t, "www.example.com.", dns.TypeA, nil))
			if tm.m.claims != 0 || tm.m.gets != gets+1 {
				t.Errorf("after %v: %d leases, %d look-ups", pause, tm.m.claims, tm.m.gets-gets)
			}
		}
	})
}

// Many who wait for a name make it popular, though nobody has seen it before.
func TestNewNameIsPopularByThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tm := newTeam(t, 8, false)
		var wg sync.WaitGroup
		for _, f := range tm.members {
			// Nobody answers before all are there.
			f.opt.Sharing.Cache = slowly{tm.m}
			for range 3 {
				wg.Go(func() { answer(t, f, query(t, "www.example.com.", dns.TypeA, nil)) })
			}
		}
		wg.Wait()
		if n := tm.resolved.Load(); n != 1 {
			t.Errorf("resolved %d times", n)
		}
	})
}

// slowly is a fleet that takes a millisecond to say something.
type slowly struct{ *fleet }

func (s slowly) Get(ctx context.Context, k shared.Key) (shared.Entry, bool) {
	time.Sleep(time.Millisecond)
	return s.fleet.Get(ctx, k)
}

func TestLeaseThatNobodySaysAnythingOfIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tm := newTeam(t, 4, true)
		tm.warm(t)
		tm.m.mute = true
		time.Sleep(95 * time.Second)
		tm.ask(t)
		time.Sleep(2 * time.Second)
		if n := tm.resolved.Load(); n == 0 || n > 4 {
			t.Errorf("renewed %d times", n)
		}
		tm.resolved.Store(0)
		time.Sleep(105 * time.Second)
		if _, took := tm.ask(t); took > tm.takes || tm.resolved.Load() == 0 {
			t.Errorf("resolved %d times in %v", tm.resolved.Load(), took)
		}
	})
}

func TestAnswersThatWaitToBeRenewedAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tm := newTeam(t, 1, true)
		f := tm.members[0]
		for range maxDeferred + 5 {
			f.deferDue(&due{by: f}, time.Second)
		}
		if s := f.Stats(); s.RefreshDropped != 5 || f.sharing.yielding.deferred.Load() != maxDeferred {
			t.Errorf("%d dropped, %d wait", s.RefreshDropped, f.sharing.yielding.deferred.Load())
		}
		time.Sleep(2 * time.Second)
		if n := f.sharing.yielding.deferred.Load(); n != 0 {
			t.Errorf("%d wait still", n)
		}
	})
}
