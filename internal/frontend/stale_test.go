package frontend

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/cache"
	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/resolver"
)

// expiring returns a frontend that has an answer for x.example.com., which has
// expired; the next time it does as then says.
func expiring(t *testing.T, change func(*Options), then stub) *Frontend {
	t.Helper()
	first := true
	f := newFrontend(t, func(ctx context.Context, q wire.Question) (*resolver.Answer, error) {
		if !first {
			return then(ctx, q)
		}
		first = false
		return &resolver.Answer{Records: []rrset.Set{set(t, "x.example.com. 1 A 192.0.2.1", 10*time.Second, rrset.Insecure)}}, nil
	}, func(o *Options) {
		o.Answers = cache.NewAnswers(cache.AnswersOptions{MaxStale: time.Hour})
		if change != nil {
			change(o)
		}
	})
	answer(t, f, query(t, "x.example.com.", dns.TypeA, nil))
	time.Sleep(11 * time.Second)
	return f
}

func TestServeSaysWhyAnAnswerIsStale(t *testing.T) {
	late := stub(func(ctx context.Context, _ wire.Question) (*resolver.Answer, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	for _, tt := range []struct {
		name   string
		change func(*Options)
		then   stub
		took   time.Duration
		text   string
		count  func(Stats) uint64
	}{
		{"late", nil, late, 1800 * time.Millisecond, "in time", func(s Stats) uint64 { return s.StaleLate }},
		{"late, as told", func(o *Options) { o.ClientTimeout = time.Second }, late, time.Second, "in time", func(s Stats) uint64 { return s.StaleLate }},
		{"late at once", func(o *Options) { o.ClientTimeout = -1 }, late, 0, "in time", func(s Stats) uint64 { return s.StaleLate }},
		{"out of time before that", func(o *Options) { o.Timeout = time.Second }, late, time.Second, "no new answer", func(s Stats) uint64 { return s.StaleFailed }},
		{"a panic", nil, func(context.Context, wire.Question) (*resolver.Answer, error) { panic("boom") }, 0, "no new answer", func(s Stats) uint64 { return s.StaleFailed }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := expiring(t, tt.change, tt.then)
				begun := time.Now()
				m := answer(t, f, query(t, "x.example.com.", dns.TypeA, nil))
				if took := time.Since(begun); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
				e, ok := m.IsEdns0().Option[0].(*dns.EDNS0_EDE)
				if !ok || e.InfoCode != uint16(ede.StaleAnswer) || !strings.Contains(e.ExtraText, tt.text) || len(m.Answer) != 1 {
					t.Errorf("got %v", m)
				}
				if s := f.Stats(); tt.count(s) != 1 || s.Failures != 0 || s.Resolved != 1 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func TestServeWaitsOnWhenTheStaleAnswerIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := expiring(t, func(o *Options) {
			o.Answers = cache.NewAnswers(cache.AnswersOptions{MaxStale: 2 * time.Second}) // over after 12 s; it is 11 s
		}, func(context.Context, wire.Question) (*resolver.Answer, error) {
			time.Sleep(3 * time.Second)
			return &resolver.Answer{Records: []rrset.Set{set(t, "x.example.com. 1 A 192.0.2.2", time.Minute, rrset.Insecure)}}, nil
		})
		begun := time.Now()
		m := answer(t, f, query(t, "x.example.com.", dns.TypeA, nil))
		if len(m.Answer) != 1 || m.Answer[0].Header().Ttl != 60 || time.Since(begun) != 3*time.Second {
			t.Errorf("after %v: %v", time.Since(begun), m)
		}
	})
}

func TestServeLosesNoPlaceToStaleAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := expiring(t, func(o *Options) { o.Waiters, o.Timeout = 1, time.Minute }, func(ctx context.Context, _ wire.Question) (*resolver.Answer, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		for range 5 { // one after the other, all for the same flight
			answer(t, f, query(t, "x.example.com.", dns.TypeA, nil))
		}
		if s := f.Stats(); s.StaleLate != 5 || s.ShedWaiters != 0 || s.Flights != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestServeGivesNoStaleAnswerToWhoIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := expiring(t, nil, func(ctx context.Context, _ wire.Question) (*resolver.Answer, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if out := f.Serve(ctx, nil, query(t, "x.example.com.", dns.TypeA, nil)); out != nil {
			t.Errorf("got %x", out)
		}
		if s := f.Stats(); s.Abandoned != 1 || s.StaleLate != 0 {
			t.Errorf("%+v", s)
		}
	})
}
