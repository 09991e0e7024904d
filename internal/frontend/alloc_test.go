//go:build !race

package frontend

import (
	"context"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/cache"
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/policy"
	"shirube/resolver"
	"shirube/transport"
)

// TestTryServeAllocatesNothing holds hits to what DESIGN §2.1 promises, those
// that find that an answer is due included. The race detector allocates by
// itself.
func TestTryServeAllocatesNothing(t *testing.T) {
	resolve := stub(func(context.Context, wire.Question) (*resolver.Answer, error) {
		return &resolver.Answer{Records: []rrset.Set{set(t, "www.example.com. 1 A 192.0.2.1", 10*time.Second, rrset.Insecure)}}, nil
	})
	for _, tt := range []struct {
		name    string
		at      time.Duration // after the answer was stored
		recheck time.Duration
		due     bool
	}{
		{"hit", time.Second, 0, false},
		{"due once", 9500 * time.Millisecond, 0, true},
		{"due every time", 9500 * time.Millisecond, time.Nanosecond, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFrontend(t, resolve, func(o *Options) {
				o.Self = itself(t)
				o.Answers = cache.NewAnswers(cache.AnswersOptions{Prefetch: true, Rotate: true, MaxStale: time.Hour, Recheck: tt.recheck})
			})
			q := query(t, "www.example.com.", dns.TypeA, nil)
			answer(t, f, q)
			// What is due goes to a queue that nobody empties, so that it is
			// not renewed under the test's hands.
			f.refresher.running.Store(true)
			q.Received = time.Now().Add(tt.at)
			buf := make([]byte, 0, 1232)
			if avg := testing.AllocsPerRun(3000, func() {
				if _, outcome := f.TryServe(buf, q); outcome != transport.Answered {
					t.Fatal("no hit")
				}
			}); avg != 0 {
				t.Errorf("%v allocations", avg)
			}
			if hinted := len(f.refresher.queue) > 0; hinted != tt.due {
				t.Errorf("handed to the refresher: %v, want %v", hinted, tt.due)
			}
		})
	}
}

func TestAServerSpeaksOfItselfWithoutAllocations(t *testing.T) {
	f := newFrontend(t, nil, func(o *Options) { o.Self = itself(t) })
	for _, tt := range selfQuestions {
		q := query(t, tt.name, tt.typ, tt.change)
		answer(t, f, q) // what has to be worked out is now
		buf := make([]byte, 0, 1232)
		if avg := testing.AllocsPerRun(1000, func() {
			if _, outcome := f.TryServe(buf, q); outcome != transport.Answered {
				t.Fatal("not answered")
			}
		}); avg != 0 {
			t.Errorf("%s: %v allocations", tt.name, avg)
		}
	}
}

func TestBuiltinZonesAllocateNothing(t *testing.T) {
	f := newFrontend(t, nil, func(o *Options) { o.Builtins = policy.NewBuiltins(nil) })
	for _, name := range []string{"40.30.20.10.in-addr.arpa.", "1.0.0.127.in-addr.arpa.", "www.localhost."} {
		q := query(t, name, dns.TypePTR, nil)
		buf := make([]byte, 0, 1232)
		if avg := testing.AllocsPerRun(1000, func() {
			if _, outcome := f.TryServe(buf, q); outcome != transport.Answered {
				t.Fatal("not answered")
			}
		}); avg != 0 {
			t.Errorf("%s: %v allocations", name, avg)
		}
	}
}
