package resolver

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"shirube/internal/deadline"
	"shirube/internal/wire"
	"shirube/resolver/infra"
)

// The figures of second tries.
const (
	// hedgeShare is how many queries pay for one second try: when the servers
	// of the world are late, the traffic grows by a tenth and not to the double.
	hedgeShare = 10
	// hedgeBurst is how many second tries may be saved up.
	hedgeBurst = 100
)

// hedges counts second tries, and limits them to a share of all queries. It is
// safe for concurrent use. Its zero value has nothing saved.
type hedges struct {
	saved             atomic.Int64 // in queries
	sent, won, denied atomic.Uint64
}

// earn counts a query.
func (h *hedges) earn() {
	if h.saved.Load() < hedgeShare*hedgeBurst {
		h.saved.Add(1) // or a little more than the limit, by many at once
	}
}

// pay reports whether there may be one more second try.
func (h *hedges) pay() bool {
	for {
		saved := h.saved.Load()
		if saved < hedgeShare {
			h.denied.Add(1)
			return false
		}
		if h.saved.CompareAndSwap(saved, saved-hedgeShare) {
			h.sent.Add(1)
			return true
		}
	}
}

// pair is a question to one server, and to a second one if the first is late.
// There is no third. The one that loses is called off at once instead of being
// waited for: its socket, its memory and its goroutine end with the question,
// so nothing of a question outlives it, and there is nothing to bound. What the
// wait would have shown is that the loser is slow, or that it is dead; that it
// is no faster than the time it was given is all that the next choice needs.
type pair struct {
	r *Resolver
	q wire.Question
	s *search
	w *work

	firstCtx deadline.Context
	late     *time.Timer // calls tryLate; nil: it was never set
	ctx      context.Context
	first    int  // the index of the first server
	last     bool // it is worse than others

	mu      sync.Mutex
	over    bool          // the first has ended: no second any more
	callOff func()        // nil: there is no second
	done    chan struct{} // closed when the second has ended
	second  *asked
	won     bool // the second answered usefully while the first was late
}

// askPair asks the server at index first, as hint says, and another one if it
// is late. It returns what was found out about both.
func (r *Resolver) askPair(ctx context.Context, first int, how infra.Hint, q wire.Question, s *search, w *work) []*asked {
	s.tries[first].sends++
	if how.Late >= how.Timeout || !s.another(first) {
		return w.only(r.askWith(ctx, w.takeAsked(), s.tries[first].ZoneServer, how, q, s.authority, w))
	}
	p, stopped := w.takePair(), false
	defer func() { w.returnPair(p, stopped) }()
	p.r, p.q, p.s, p.w, p.ctx, p.first, p.last = r, q, s, w, ctx, first, how.Last
	p.firstCtx.Begin(ctx, time.Time{})
	p.wakeAfter(how.Late)
	found := r.askWith(&p.firstCtx, w.takeAsked(), s.tries[first].ZoneServer, how, q, s.authority, w)
	if stopped = p.late.Stop(); stopped || !p.end(found) {
		return w.only(found)
	}
	if !p.won {
		return []*asked{found, p.second}
	}
	if errors.Is(found.err, context.Canceled) { // called off
		r.infra.Late(found.server.Addr, s.cut.Zone, time.Since(s.asking), r.opt.Clock.Now())
		found.err, found.silent, found.rep = nil, true, lame(0, "late")
	}
	return []*asked{p.second, found}
}

// wakeAfter has a second server tried when the first is late.
func (p *pair) wakeAfter(late time.Duration) {
	if p.late != nil {
		p.late.Reset(late)
		return
	}
	// Owner: askPair. End: at once, or with the exchange of the second server, which
	// ends by its timeout or when askPair calls it off. Bound: one, and by hedges a
	// share of all queries.
	p.late = time.AfterFunc(late, p.tryLate)
}

// only returns found, which is all, as a list.
func (w *work) only(found *asked) []*asked {
	if w.desk == nil {
		return []*asked{found}
	}
	w.desk.found[0] = found
	return w.desk.found[:]
}

// tryLate asks a second server, if there is one, no worse than the first, and the
// share allows it.
// While it runs, who called askPair leaves the search alone.
func (p *pair) tryLate() {
	p.mu.Lock()
	if p.over || p.ctx.Err() != nil {
		p.mu.Unlock()
		return
	}
	i, how := p.r.pick(p.s, p.first)
	if i < 0 || how.Last && !p.last || !p.r.hedges.pay() {
		p.mu.Unlock()
		return
	}
	p.s.tries[i].sends++
	server := p.s.tries[i].ZoneServer
	secondCtx := deadline.New(p.ctx, time.Time{})
	defer secondCtx.End()
	p.callOff = secondCtx.End
	p.done = make(chan struct{})
	p.mu.Unlock()

	defer close(p.done)
	p.second = p.r.askServer(secondCtx, server, how, p.q, p.s.authority, p.w)
	if p.second.useful() {
		p.mu.Lock()
		p.won = !p.over
		p.mu.Unlock()
		p.firstCtx.End()
	}
}

// end ends p with what was found of the first server, and reports whether there
// was a second.
func (p *pair) end(first *asked) bool {
	p.mu.Lock()
	p.over = true
	hasSecond := p.callOff != nil
	p.mu.Unlock()
	if !hasSecond {
		return false
	}
	if first.useful() {
		p.callOff()
	}
	<-p.done
	if p.won {
		p.r.hedges.won.Add(1)
	}
	return true
}
