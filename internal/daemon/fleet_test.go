package daemon

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"shirube/cache/shared"
	"shirube/internal/config"
	"shirube/internal/control"
	"shirube/internal/health"
	"shirube/internal/memcached"
	"shirube/internal/wire"
)

// eventually waits until it holds, for ten seconds at most.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("in ten seconds it has not come true: %s", what)
}

// inBackground runs f until the test ends.
func inBackground(t *testing.T, f func(context.Context)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { f(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
}

// newFollower is newMember for a server that follows the flushes of its fleet.
func newFollower(t *testing.T, cfg config.Config) *member {
	t.Helper()
	m := newMember(t, cfg)
	inBackground(t, func(ctx context.Context) { m.Shared.Follow(ctx, m.forget) })
	eventually(t, "the flushes are known", func() bool { return m.Shared.Stats().Fleet.Read > 0 })
	return m
}

// sent returns what m asks name servers to answer q.
func (m *member) sent(t *testing.T, q string) []string {
	t.Helper()
	m.net.ResetLog()
	ask(t, m.Pipeline, q)
	return m.net.Log().Questions()
}

func TestFleetForgetsByTheOrderOfOneServer(t *testing.T) {
	t.Parallel() // it waits more than it works
	for what, f := range map[string]control.Flush{
		"a name":     {Name: wire.MustParseName("www.example.com."), Fleet: true},
		"a subtree":  {Name: wire.MustParseName("com."), Below: true, Fleet: true},
		"a type":     {Name: wire.MustParseName("www.example.com."), Type: wire.TypeA, Fleet: true},
		"everything": {Name: wire.Root, Below: true, Fleet: true},
	} {
		cfg := fleetConfig(t, memcached.Start(t), memcached.Start(t), memcached.Start(t))
		a, b := newFollower(t, cfg), newFollower(t, cfg)
		ask(t, a.Pipeline, "www.example.com. A")
		a.written(t)
		if sent := b.sent(t, "www.example.com. A"); len(sent) > 0 {
			t.Errorf("%s: the second server asked %q before the order", what, sent)
		}
		before := b.Shared.Stats().Fleet.Learned
		done, err := a.order(t.Context(), f)
		if err != nil || done.Answers == 0 || done.Fleet == nil || done.Fleet.Servers != 3 || done.Fleet.Problem != "" {
			t.Errorf("%s: %+v, %+v, %v", what, done, done.Fleet, err)
		}
		eventually(t, what+": the other has read of it", func() bool { return b.Shared.Stats().Fleet.Learned > before })
		eventually(t, what+": the other has forgotten it", func() bool {
			return len(b.entry(t.Context(), wire.Question{Name: wire.MustParseName("www.example.com."), Type: wire.TypeA}).Memory) == 0
		})
		late := newFollower(t, cfg) // asked first: of everything, what it finds is good for the others
		if sent := late.sent(t, "www.example.com. A"); len(sent) == 0 {
			t.Errorf("%s: who came later answers with what was flushed", what)
		}
		for name, m := range map[string]*member{"who ordered it": a, "the other": b} {
			if sent := m.sent(t, "www.example.com. A"); len(sent) == 0 && f.Name != wire.Root {
				t.Errorf("%s: %s answers with what was flushed", what, name)
			}
		}
	}
	alone := newMember(t, scenarioConfig(t))
	if _, err := alone.order(t.Context(), control.Flush{Name: wire.Root, Below: true, Fleet: true}); err == nil || !strings.Contains(err.Error(), "shared_cache.enabled is false") {
		t.Errorf("without a fleet: %v", err)
	}
}

func TestManyFlushesAtOnceForgetEverything(t *testing.T) {
	m := newMember(t, fleetConfig(t, memcached.Start(t)))
	ask(t, m.Pipeline, "www.example.com. A")
	for i := range maxForgets + 1 {
		_, _ = m.Shared.FlushFleet(t.Context(), flushOf(fmt.Sprintf("n%d.example.", i)))
	}
	follower := newFollower(t, m.Config)
	if follower.Shared.Stats().Fleet.Learned != maxForgets+1 {
		t.Errorf("%+v", follower.Shared.Stats().Fleet)
	}
	inBackground(t, func(ctx context.Context) { m.Shared.Follow(ctx, m.forget) })
	if sent := m.sent(t, "www.example.com. A"); len(sent) > 0 {
		t.Errorf("its own orders have it ask %q", sent)
	}
	list := make([]string, 0, maxForgets+1)
	for i := range maxForgets + 1 {
		list = append(list, fmt.Sprintf("m%d.example.", i))
	}
	m.forget(flushesOf(list))
	if e := m.entry(t.Context(), wire.Question{Name: wire.MustParseName("www.example.com."), Type: wire.TypeA}); len(e.Memory) > 0 {
		t.Error("it has not forgotten everything")
	}
}

// What the fleet is asked most is in the memory of a new server before its
// first client comes.
func TestNewServerBeginsWithWhatTheFleetIsAsked(t *testing.T) {
	servers := []*memcached.Process{memcached.Start(t), memcached.Start(t)}
	cfg := fleetConfig(t, servers...)
	cfg.SharedCache.WarmStart.Interval = time.Millisecond
	a := newFollower(t, cfg)
	questions := []string{"www.example.com. A", "alias.example.com. A", "none.example.com. A", "www.example.com. MX", "example.com. MX", "x.wild.example.com. TXT"}
	want := map[string]string{}
	for _, q := range questions {
		want[q] = answerOf(ask(t, a.Pipeline, q))
	}
	a.written(t)
	inBackground(t, func(ctx context.Context) { tellPopular(ctx, a.Shared, cfg.SharedCache.WarmStart, a.current) })
	eventually(t, "its questions are told", func() bool { return len(a.Shared.Hottest(t.Context(), 100)) == len(questions) })
	b := newFollower(t, cfg)
	w := warmed{begun: time.Now()}
	w.run(t.Context(), b.Pipeline, cfg.SharedCache.WarmStart)
	if s := w.stats(); s.Questions != len(questions) || s.Loaded != len(questions) || !s.Done || s.TimedOut {
		t.Errorf("%+v", s)
	}
	for _, s := range servers { // memory is enough
		s.Kill()
	}
	b.net.ResetLog()
	for _, q := range questions {
		for _, form := range []string{"", " +do"} {
			if got := answerOf(ask(t, b.Pipeline, q+form)); form == "" && got != want[q] {
				t.Errorf("%s: got\n%s\nexpected\n%s", q, got, want[q])
			}
		}
	}
	if sent := b.net.Log().Questions(); len(sent) > 0 || b.Frontend.Stats().Hits != uint64(2*len(questions)) {
		t.Errorf("it asked %q; %d answers from memory", sent, b.Frontend.Stats().Hits)
	}
}

// A server that cannot be warmed in time is ready all the same.
func TestServerIsNotReadyBeforeItIsWarm(t *testing.T) {
	t.Parallel() // it waits more than it works
	mc := memcached.Start(t)
	mc.Signal(syscall.SIGSTOP)
	r := startReloadable(t, func(c *config.Config) {
		fleet := fleetConfig(t, mc)
		c.SharedCache = fleet.SharedCache
		c.SharedCache.WarmStart.Timeout = time.Second
	})
	warming := func() bool {
		for _, c := range r.Pipeline().Health.Causes() {
			if c.Code == health.Warming {
				return true
			}
		}
		return false
	}
	if s := r.Stats().WarmStart; !warming() && !s.Done {
		t.Errorf("ready at once: %+v", s)
	}
	eventually(t, "it is ready", func() bool { return !warming() })
	if s := r.Stats().WarmStart; !s.Done || !s.TimedOut || s.Loaded != 0 || !r.Pipeline().Health.Ready(time.Now()) {
		t.Errorf("%+v", s)
	}
	mc.Signal(syscall.SIGCONT)
	eventually(t, "the flushes are known", func() bool { return r.Stats().Shared.Fleet.Read == 1 })
	if l := r.cacheLayers(); l.Shared == nil || len(l.Shared.Servers) != 1 || l.Fleet == nil || l.Fleet.Copies != 1 || l.Shared.Servers[0].Address != mc.Addr.String() {
		t.Errorf("%+v", l)
	}
}

func TestCacheEntriesAreShownAsTheyAre(t *testing.T) {
	mc := memcached.Start(t)
	cfg := fleetConfig(t, mc)
	cfg.Identity.NSID = "dns-7"
	a, b := newMember(t, cfg), newMember(t, cfg)
	q := wire.Question{Name: wire.MustParseName("www.example.com."), Type: wire.TypeA}
	if e := a.entry(t.Context(), q); len(e.Memory) != 0 || e.Shared == nil || e.Shared.Status != "none" || e.Shared.Server != "memcached-0" {
		t.Errorf("before: %+v, %+v", e, e.Shared)
	}
	ask(t, a.Pipeline, "www.example.com. A")
	a.written(t)
	e := a.entry(t.Context(), q)
	if len(e.Memory) != 1 || e.Memory[0].Form != "plain" || e.Memory[0].Status != "fresh" || e.Memory[0].LeftSeconds <= 0 || e.Memory[0].Rcode != "NOERROR" {
		t.Errorf("memory: %+v", e.Memory)
	}
	if s := b.entry(t.Context(), q).Shared; s.Status != "fresh" || s.Writer != "dns-7" || s.LeftSeconds <= 0 || s.Rcode != "NOERROR" || s.Octets == 0 {
		t.Errorf("shared: %+v", s)
	}
	if top := a.Frontend.Popular(10); len(top) != 1 || top[0].Question != q || top[0].Count != 1 {
		t.Errorf("asked: %v", top)
	}
	a.flush(control.Flush{Name: q.Name})
	if s := a.entry(t.Context(), q).Shared; s.Status != "unused" || s.Why != "flushed" || s.Writer != "dns-7" {
		t.Errorf("flushed: %+v", s)
	}
	mc.Signal(syscall.SIGSTOP)
	defer mc.Signal(syscall.SIGCONT)
	if s := a.entry(t.Context(), q).Shared; s.Status != "unknown" || s.Why == "" {
		t.Errorf("silent: %+v", s)
	}
	if e := a.entry(t.Context(), wire.Question{Name: q.Name, Type: wire.TypeRRSIG}); e.Shared != nil {
		t.Errorf("what is not shared: %+v", e.Shared)
	}
}

func flushOf(name string) shared.Flush { return shared.Flush{Name: wire.MustParseName(name)} }

func flushesOf(names []string) (list []shared.Flush) {
	for _, n := range names {
		list = append(list, flushOf(n))
	}
	return list
}
