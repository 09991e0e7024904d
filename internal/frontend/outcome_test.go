package frontend

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/resolver"
)

// TestOutcomesAreNobodysButTheirFlights has many clients ask, alone and together, for
// what is there, and what fails. Each has to get his own; the race detector sees who
// looks at an outcome that was given back.
func TestOutcomesAreNobodysButTheirFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFrontend(t, func(ctx context.Context, q wire.Question) (*resolver.Answer, error) {
			if time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond); rand.IntN(4) == 0 {
				return nil, ede.Errorf(ede.Other, "not %v", q.Name)
			}
			if rand.IntN(4) == 0 {
				<-ctx.Done() // who waits for it has it
				return nil, ede.Errorf(ede.Other, "not %v", q.Name)
			}
			return &resolver.Answer{Records: []rrset.Set{set(t, fmt.Sprintf("%v 60 TXT %q", q.Name, q.Name), time.Minute, rrset.Insecure)}}, nil
		}, nil)
		var wg sync.WaitGroup
		var failed, found sync.Map
		for g := range 40 {
			wg.Go(func() {
				for i := range 50 {
					name := fmt.Sprintf("n%d-%d.example.", g/2+g%2*(i%2)*100, i) // every other one is asked for by two
					m := answer(t, f, query(t, name, dns.TypeTXT, nil))
					if len(m.Answer) == 1 {
						found.Store(name, nil)
						if txt, ok := m.Answer[0].(*dns.TXT); !ok || txt.Txt[0] != name || txt.Hdr.Name != name {
							t.Errorf("%s: %v", name, m)
						}
						continue
					}
					failed.Store(name, nil)
					if text := m.IsEdns0().Option[0].(*dns.EDNS0_EDE).ExtraText; m.Rcode != dns.RcodeServerFailure || text != "not "+name {
						t.Errorf("%s: %v", name, m)
					}
				}
			})
		}
		wg.Wait()
		for what, names := range map[string]*sync.Map{"failed": &failed, "found": &found} {
			n := 0
			names.Range(func(any, any) bool { n++; return true })
			if n < 100 {
				t.Errorf("%d %s", n, what)
			}
		}
	})
}

func TestOutcomeThatWasGivenBackIsEmpty(t *testing.T) {
	f := newFrontend(t, nil, nil)
	o := f.takeOutcome()
	o.ctx.Begin(t.Context(), time.Time{})
	o.k, o.ans, o.broken = flightKey{q: questionOf("a.example.")}, new(resolver.Answer), true
	if f.returnOutcome(o); o.ans == nil {
		t.Error("given back after a panic")
	}
	o.broken = false
	if f.returnOutcome(o); o.ans != nil || o.k != (flightKey{}) {
		t.Errorf("%+v", o.k)
	}
	o.ctx.Begin(t.Context(), time.Time{})
	o.ans = new(resolver.Answer)
	_ = o.ctx.Done()
	if f.returnOutcome(o); o.ans == nil {
		t.Error("given back though somebody may wait for its end")
	}
	o.ctx.End()
}
