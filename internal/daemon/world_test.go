package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/lab"
	"shirube/internal/rrset"
	"shirube/internal/simnet"
	"shirube/internal/wire"
	"shirube/transport"
)

// inBubble runs test with a pipeline in baseWorld, in a bubble of its own time.
func inBubble(t *testing.T, change func(*config.Config, *simnet.Net), test func(t *testing.T, p *Pipeline, n *simnet.Net)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New()
		baseWorld(n)
		cfg := scenarioConfig(t)
		if change != nil {
			change(&cfg, n)
		}
		p, err := NewPipeline(cfg, n, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Frontend.Close()
		test(t, p, n)
	})
}

func TestPipelineAnswersEveryNameOfTheLab(t *testing.T) {
	answersEveryName(t, lab.NewWorld(1), false)
}

func TestPipelineValidatesEveryNameOfTheSignedLab(t *testing.T) {
	answersEveryName(t, lab.NewSignedWorld(1), true)
}

// labHints writes the hints of world to a file.
func labHints(t *testing.T, world *lab.World) string {
	t.Helper()
	hints := filepath.Join(t.TempDir(), "root.hints")
	if err := os.WriteFile(hints, []byte(world.Hints()), 0o600); err != nil {
		t.Fatal(err)
	}
	return hints
}

// inLab installs world in n, and has cfg begin there.
func inLab(t *testing.T, cfg *config.Config, n *simnet.Net, world *lab.World, hints string, validate bool) {
	t.Helper()
	if err := world.Install(n); err != nil {
		t.Fatal(err)
	}
	cfg.BuiltinZones.Except = lab.Reverse() // its servers are on loopback addresses
	cfg.Resolver.RootHints, cfg.Resolver.DoNotQueryLocalhost, cfg.Resolver.PrimeRoot = hints, false, true
	if cfg.DNSSEC.Validation = validate; validate {
		cfg.DNSSEC.RootTrustAnchor, cfg.DNSSEC.TrustAnchors = false, []config.TrustAnchor{config.TrustAnchor(world.Anchor())}
	}
}

// answersEveryName asks for every name of world, or under the race detector some, and compares the answer with
// the world's own, and AD with the trust that its zones deserve.
func answersEveryName(t *testing.T, world *lab.World, validate bool) {
	t.Helper()
	names, err := world.Names()
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 5000 {
		t.Fatalf("the lab has only %d names", len(names))
	}
	hints := labHints(t, world)
	inBubble(t, func(cfg *config.Config, n *simnet.Net) {
		inLab(t, cfg, n, world, hints, validate)
	}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		for i := 0; i < len(names); i += nthName {
			name := names[i]
			m := ask(t, p, fmt.Sprintf("%v %v +tcp +ad", name.Question.Name, name.Question.Type))
			if m == nil {
				t.Errorf("%v (%s): no response", name.Question, name.Why)
				continue
			}
			if rcode := wire.Rcode(m.Rcode); rcode != name.Rcode {
				t.Errorf("%v (%s): %v, want %v", name.Question, name.Why, rcode, name.Rcode)
			} else if got := lab.Lines(m.Answer); !slices.Equal(got, name.Answers) {
				t.Errorf("%v (%s): %q, want %q", name.Question, name.Why, got, name.Answers)
			} else if secure := validate && name.Trust == rrset.Secure; m.AuthenticatedData != secure {
				t.Errorf("%v (%s): AD %v, want %v", name.Question, name.Why, m.AuthenticatedData, secure)
			}
		}
		t.Logf("%d names, %d queries", (len(names)+nthName-1)/nthName, len(n.Log()))
	})
}

func TestPipelineResolvesOnceForAllWhoAsk(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		var wg sync.WaitGroup
		for i := range 50 {
			spec := "www.example.com. A"
			if i%2 == 1 {
				spec = "WWW.EXAMPLE.COM. A +do" // the same question
			}
			wg.Go(func() {
				if m := ask(t, p, spec); m == nil || len(m.Answer) != 2 {
					t.Errorf("answer %v", m)
				}
			})
		}
		wg.Wait()
		if got := n.Questions(); len(got) != 3 {
			t.Errorf("50 clients made %d queries: %v", len(got), got)
		}
	})
}

func TestPipelineTurnsAwayTooManyWaiters(t *testing.T) {
	inBubble(t, func(cfg *config.Config, _ *simnet.Net) { cfg.Limits.Waiters = 10 }, func(t *testing.T, p *Pipeline, _ *simnet.Net) {
		var answered, refused atomic.Int32
		var wg sync.WaitGroup
		for range 25 {
			wg.Go(func() {
				switch m := ask(t, p, "www.example.com. A"); {
				case m.Rcode == dns.RcodeSuccess:
					answered.Add(1)
				case m.Rcode == dns.RcodeServerFailure && m.IsEdns0() != nil && len(m.IsEdns0().Option) == 1:
					refused.Add(1)
				}
			})
		}
		wg.Wait()
		if answered.Load() != 10 || refused.Load() != 15 {
			t.Errorf("%d answered, %d turned away, want 10 and 15", answered.Load(), refused.Load())
		}
		if s := p.Frontend.Stats(); s.ShedWaiters != 15 {
			t.Errorf("counted %d, want 15", s.ShedWaiters)
		}
	})
}

func TestPipelineTurnsAwayTooManyQuestions(t *testing.T) {
	inBubble(t, func(cfg *config.Config, _ *simnet.Net) {
		cfg.Limits.InFlight, cfg.Limits.InFlightPerNetwork, cfg.Limits.InFlightPerZone = 5, 5, 5
	}, func(t *testing.T, p *Pipeline, _ *simnet.Net) {
		var refused atomic.Int32
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				if m := ask(t, p, fmt.Sprintf("n%d.example.com. A", i)); m.Rcode == dns.RcodeServerFailure {
					refused.Add(1)
				}
			})
		}
		wg.Wait()
		if s := p.Frontend.Stats(); refused.Load() != 15 || s.ShedFlights != 15 || s.Flights != 0 {
			t.Errorf("%d turned away, counted %d, %d left under way; want 15, 15, 0", refused.Load(), s.ShedFlights, s.Flights)
		}
	})
}

func TestPipelineGoesOnWhenTheFirstClientGivesUp(t *testing.T) {
	inBubble(t, func(_ *config.Config, n *simnet.Net) { n.SetRTT("192.0.2.11", 300*time.Millisecond) }, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		raw, q := parseAsk(t, "www.example.com. A")
		if status := q.Parse(raw); status != wire.OK {
			t.Fatal(status)
		}
		if _, outcome := p.Frontend.TryServe(nil, q); outcome != transport.Deferred {
			t.Fatal("not deferred")
		}
		impatient, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			if out := p.Frontend.Serve(impatient, nil, q); out != nil {
				t.Error("answered after the client gave up")
			}
		})
		time.Sleep(50 * time.Millisecond)
		if m := ask(t, p, "www.example.com. A"); m == nil || len(m.Answer) != 2 {
			t.Errorf("the second client got %v", m)
		}
		wg.Wait()
		if s := p.Frontend.Stats(); s.Abandoned != 1 || s.Resolved != 1 {
			t.Errorf("abandoned %d, resolved %d, want 1 and 1", s.Abandoned, s.Resolved)
		}
		if len(n.Questions()) != 3 {
			t.Errorf("sent %v", n.Questions())
		}
	})
}

func TestPipelineEndsWithItsFlights(t *testing.T) {
	inBubble(t, func(_ *config.Config, n *simnet.Net) { n.Break("192.0.2.11", simnet.Silent()) }, func(t *testing.T, p *Pipeline, _ *simnet.Net) {
		var wg sync.WaitGroup
		wg.Go(func() {
			if m := ask(t, p, "www.example.com. A"); m == nil || m.Rcode != dns.RcodeServerFailure {
				t.Errorf("got %v, want SERVFAIL", m)
			}
		})
		time.Sleep(time.Second)
		p.Frontend.Close() // returns when the flight has ended; synctest would notice a leak
		wg.Wait()
		if s := p.Answers.Stats(); s.Failures.Entries != 0 {
			t.Error("the server's end was remembered as a failure of the question")
		}
	})
}
