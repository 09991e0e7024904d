package daemon

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"shirube/cache"
	"shirube/cache/shared"
	"shirube/internal/config"
	"shirube/internal/health"
	"shirube/internal/wire"
)

// maxForgets is how many flushes of the fleet are obeyed one by one: each has
// memory be looked through. More at once have all be forgotten; what is not
// flushed comes back from the fleet.
const maxForgets = 32

// forget has memory obey flushes of the fleet.
func (p *Pipeline) forget(what []shared.Flush) {
	if len(what) > maxForgets {
		what = []shared.Flush{{Name: wire.Root, Below: true}}
	}
	for _, f := range what {
		s := cache.Scope{Name: f.Name, Below: f.Below, Type: f.Type}
		p.Memory.Flush(s) // first: answers are made of it
		p.Answers.Flush(s)
	}
}

// WarmStats is what came of the warm start.
type WarmStats struct {
	Questions int           // that the fleet is asked most
	Loaded    int           // answers that were put into memory
	Took      time.Duration // so far, until it is over
	Done      bool
	TimedOut  bool // it was not over in time
}

// warmed is the warm start of a server.
type warmed struct {
	mu    sync.Mutex
	begun time.Time
	last  WarmStats
}

func (w *warmed) set(change func(*WarmStats)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.last)
}

func (w *warmed) stats() WarmStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.last
	if !s.Done && !w.begun.IsZero() {
		s.Took = time.Since(w.begun)
	}
	return s
}

// beginWarmStart has memory be filled with what the fleet is asked most. Until
// that is over, or its time is up, the server is not ready.
func (d *Daemon) beginWarmStart(p *Pipeline) {
	cfg := p.Config.SharedCache.WarmStart
	if p.Shared == nil || !cfg.Enabled {
		return
	}
	begun := time.Now()
	d.warmed.set(func(*WarmStats) { d.warmed.begun = begun })
	p.Health.Begin(health.Warming, "what the fleet is asked most is put into memory", 0, begun)
	// Owner: d. End: with cfg.Timeout, or Shutdown. Bound: one.
	d.background.Go(func() {
		ctx, cancel := context.WithTimeout(d.ctx, cfg.Timeout)
		defer cancel()
		d.warmed.run(ctx, p, cfg)
		p.Health.End(health.Warming)
		s := d.warmed.stats()
		d.log.Info("warm start", "questions", s.Questions, "loaded", s.Loaded, "took", s.Took.Round(time.Millisecond), "timed_out", s.TimedOut)
	})
}

// run fills the memory of p.
func (w *warmed) run(ctx context.Context, p *Pipeline, cfg config.WarmStart) {
	loaded := 0
	if p.Shared.Known(ctx) {
		var questions []wire.Question
		for _, h := range p.Shared.Hottest(ctx, cfg.Questions) {
			questions = append(questions, h.Question)
		}
		w.set(func(s *WarmStats) { s.Questions = len(questions) })
		loaded = p.Frontend.Preload(ctx, questions, p.Shared.Load)
	}
	w.set(func(s *WarmStats) {
		s.Loaded, s.Done, s.TimedOut, s.Took = loaded, true, ctx.Err() != nil, time.Since(w.begun)
	})
}

// hotOf is the key of the task that tells what is popular.
type hotOf struct {
	*shared.Cache
	config.WarmStart
}

// tellPopular tells the fleet what this server is asked most until ctx ends. The
// first time is not at once: a server that has just started does not know.
func tellPopular(ctx context.Context, c *shared.Cache, cfg config.WarmStart, at *inForce) {
	for {
		timer := time.NewTimer(cfg.Interval*3/4 + rand.N(cfg.Interval/2))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		var list []shared.Hot
		for _, q := range at.Load().Frontend.Popular(cfg.Questions) {
			list = append(list, shared.Hot{Question: q.Question, Count: q.Count})
		}
		c.Publish(list)
	}
}
