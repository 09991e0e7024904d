package resolver

// desk is what the usual resolution works with, so that the next one need not
// allocate it: of each kind one, as it asks one zone after the other, and one server
// at a time. What is wanted of a kind while its place is taken is allocated.
//
// A desk belongs to the goroutine of its resolution, from [Resolver.work] to
// leaveDesk. Nothing of it is kept by anybody who outlives that: what others have
// seen is left to them, and to the garbage collector. What is put back is empty, so
// that whoever uses it still fails: an account that pays for nothing, a search
// without servers, a context without parent.
type desk struct {
	work   work
	search *search // nil: in use
	pair   *pair   // alike
	asked  *asked
	found  [1]*asked
}

// What follows is no part of its callers, on whose stack there would be room for it
// while servers are asked.

// takeDesk returns one that nobody uses.
func (r *Resolver) takeDesk() *desk {
	if d, ok := r.desks.Get().(*desk); ok {
		return d
	}
	return &desk{search: new(search), pair: new(pair), asked: new(asked)}
}

// leaveDesk leaves the desk of w, which has ended, to the next one.
//
//go:noinline
func (r *Resolver) leaveDesk(w *work) {
	d := w.desk
	d.work, d.found = work{}, [1]*asked{}
	r.desks.Put(d)
}

// takeSearch returns an empty search; see returnSearch.
//
//go:noinline
func (w *work) takeSearch() *search {
	if w.desk == nil || w.desk.search == nil {
		return new(search)
	}
	s := w.desk.search
	w.desk.search = nil
	return s
}

// mostTries is how many servers a search may have had that is used again: nearly
// all have less, and what is not used again is not held.
const mostTries = 2 * maxServers

// returnSearch puts s back, which is over.
//
//go:noinline
func (w *work) returnSearch(s *search) {
	if w.desk == nil || w.desk.search != nil || cap(s.tries) > mostTries {
		return
	}
	clear(s.tries)
	*s = search{tries: s.tries[:0]}
	w.desk.search = s
}

// takePair returns an empty pair; see returnPair.
//
//go:noinline
func (w *work) takePair() *pair {
	if w.desk == nil || w.desk.pair == nil {
		return new(pair)
	}
	p := w.desk.pair
	w.desk.pair = nil
	return p
}

// returnPair ends p, and puts it back if nobody else has ever seen it: its timer was
// stopped before it went off, and nobody waits for its context.
//
//go:noinline
func (w *work) returnPair(p *pair, stopped bool) {
	p.firstCtx.End()
	if !stopped || !p.firstCtx.Free() || w.desk == nil {
		return
	}
	late := p.late
	*p = pair{}
	p.late = late
	w.desk.pair = p
}

// takeAsked returns an empty asked; see returnAsked.
//
//go:noinline
func (w *work) takeAsked() *asked {
	if w.desk == nil || w.desk.asked == nil {
		return new(asked)
	}
	a := w.desk.asked
	w.desk.asked = nil
	return a
}

// returnAsked puts back what was found out, by a server or two, if nobody else has
// it.
//
//go:noinline
func (w *work) returnAsked(found []*asked, shared bool) {
	if shared || w.desk == nil || len(found) == 0 {
		return
	}
	*found[0] = asked{}
	w.desk.asked = found[0]
}
