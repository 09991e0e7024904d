package resolver

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/miekg/dns"

	"shirube/dnssec"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// earlyQueries is how many queries a question for keys may take before the
// answer to the question that it was sent along with is there: it, and one to
// another server.
const earlyQueries = 2

// earlyKeys is the keys of a zone, asked for at the same time as the first
// question to its servers instead of after the answer. They are judged when the
// answer is, like any others.
type earlyKeys struct {
	zone    wire.Name
	callOff context.CancelFunc
	done    chan struct{} // closed when rep is there; nil: it was taken, or another question asks for them
	rep     *reply
	search  *search // to go on with; nil: it has ended
}

// wantsKeys reports whether the keys of the zone of at have to be asked for to
// prove an answer to q, as far as that can be told beforehand: whoever is above
// the zone has to be signed too, for all that is known so far, and to have
// named keys of a kind that is understood. Nobody has verified that; keys that
// it was wrong about are of no use, and do no harm.
func (r *Resolver) wantsKeys(q wire.Question, at authority, w *work) bool {
	zone := at.cut.Zone
	switch {
	case !r.validates(w), w.trace != nil && w.trace.inOrder:
		return false
	case at.conf != nil, at.failed != nil: // such a zone is met once, and its servers may be anybody
		return false
	case zone == wire.Root && r.opt.LocalRoot != nil, q.Type == wire.TypeRRSIG, q == keysOf(zone):
		return false
	}
	l := r.opt.Memory.Link(zone)
	if l != nil && (l.Zone == zone || l.Trust != rrset.Secure) || r.remembersKeys(zone) {
		return false
	}
	anchor, ds, ok := r.opt.Anchors.Closest(q.Name)
	if !ok || !zone.Within(anchor) || r.opt.Anchors.Negative(q.Name) != nil {
		return false
	}
	if zone != anchor {
		set := at.cut.DS
		if set == nil || set.Denial != nil || !set.Until.After(r.opt.Clock.Now()) || !r.chained(zone, l, w) {
			return false
		}
		ds = rrset.Records[*dns.DS](set)
	}
	supported, _ := dnssec.Supported(r.enabled(ds))
	return supported && !r.dead.doubted(zoneKey{zone: zone})
}

// keysOf returns the question for the keys of zone.
func keysOf(zone wire.Name) wire.Question {
	return wire.Question{Name: zone, Type: wire.TypeDNSKEY}
}

// remembersKeys reports whether there are keys of zone in memory, proven or not.
func (r *Resolver) remembersKeys(zone wire.Name) bool {
	_, ok := r.opt.Memory.Set(zone, wire.TypeDNSKEY)
	return ok
}

// chained reports whether the zone that refers to zone, the closest link to
// which is l, is secure, or is going to be as far as anybody can tell.
func (r *Resolver) chained(zone wire.Name, l *rrset.Link, w *work) bool {
	above, ok := zone.Parent()
	if !ok {
		return false
	}
	parent := wire.Root
	if cut := r.opt.Memory.Cut(above); cut != nil {
		parent = cut.Zone
	}
	return l != nil && l.Zone == parent || w.earlyOf(parent) != nil || r.remembersKeys(parent)
}

// askEarly begins to ask the servers of at for their zone's keys, unless this
// question has done so, or another one is at it, whom recallKeys waits for.
func (r *Resolver) askEarly(ctx context.Context, at authority, w *work) {
	zone := at.cut.Zone
	if w.earlyOf(zone) != nil {
		return
	}
	e := &earlyKeys{zone: zone}
	w.early = append(w.early, e)
	done := make(chan struct{})
	if _, asked := r.early.LoadOrStore(zone, done); asked {
		return
	}
	if r.remembersKeys(zone) { // another one may have been at it when wantsKeys looked
		r.early.Delete(zone)
		close(done)
		return
	}
	ctx, e.callOff = context.WithCancel(ctx)
	e.done = done
	own := w.beside(keysOf(zone))
	// Owner: the resolution. End: the answer, the second timeout, or at the
	// latest with the resolution, which calls it off and waits for it. Bound: one
	// for each referral of a question, and one for each zone. The excess does
	// without.
	go func() {
		defer close(done)
		defer r.early.Delete(zone)
		r.findKeys(ctx, e, at, own)
	}()
}

// recallKeys answers q, which is for keys, from memory, unless they were asked for
// early and are still to be taken. When others are asking early it waits for what comes
// of that. It cannot deadlock: findKeys waits for the network only, as the leader of a
// flight does.
func (r *Resolver) recallKeys(ctx context.Context, q wire.Question, w *work) (*reply, bool) {
	if w.awaits(q) {
		return nil, false
	}
	if done, asked := r.early.Load(q.Name); asked {
		select {
		case <-done.(chan struct{}): // after memory has them
		case <-ctx.Done():
			return nil, false
		}
	}
	return r.recall(q, time.Time{}, rrset.Unchecked)
}

// errPaused ends what is asked early when it would have to ask a third time, a
// server again, or for a server's address. Only the answer tells whether that is
// worth it: then the search goes on where it was.
var errPaused = errors.New("enough for the time being")

// findKeys asks the servers of at for their zone's keys. Those are remembered as
// they came, for other questions: whoever uses them judges them.
func (r *Resolver) findKeys(ctx context.Context, e *earlyKeys, at authority, w *work) {
	if r.crowd(at) != nil {
		return
	}
	defer r.disperse(at)
	q, s := keysOf(e.zone), r.search(at, nil)
	rep, err := r.askServers(ctx, q, s, w)
	switch {
	case errors.Is(err, errPaused):
		e.search = s
	case err == nil && rep.Verdict != Referral: // to follow one is the ordinary way
		e.rep = rep
		r.conclude(q, s, w, nil)
		if rep.Verdict == Positive && len(rep.Sets) == 1 && rep.Sets[0].Type == wire.TypeDNSKEY {
			r.learn(q, rep)
		}
	}
}

// beside returns the account of a question that is asked at the same time as
// the one that w is of, which pays for it.
func (w *work) beside(q wire.Question) *work {
	path := append(slices.Clone(w.path), q)
	return &work{limits: Limits{Queries: earlyQueries, Bytes: w.limits.Bytes, Depth: len(path)}, path: path, payer: w, trace: w.trace}
}

// pauses reports whether w is to stop short of asking the server at index i of
// s next.
func (w *work) pauses(s *search, i int) bool {
	return w.payer != nil && (i < 0 || s.tries[i].sends > 0 || w.spent())
}

// earlyOf returns the keys of zone that were asked for early, or nil.
func (w *work) earlyOf(zone wire.Name) *earlyKeys {
	for _, e := range w.early {
		if e.zone == zone {
			return e
		}
	}
	return nil
}

// awaits reports whether q was asked early, and its answer is still to be taken.
func (w *work) awaits(q wire.Question) bool {
	if q.Type != wire.TypeDNSKEY {
		return false
	}
	e := w.earlyOf(q.Name)
	return e != nil && e.done != nil
}

// takeEarly returns the answer to q that was asked for early, once; nil: it was
// not, or nothing came of it.
func (r *Resolver) takeEarly(ctx context.Context, q wire.Question, w *work) (*reply, error) {
	if !w.awaits(q) {
		return nil, nil
	}
	e := w.earlyOf(q.Name)
	select {
	case <-e.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	e.callOff()
	e.done = nil
	if e.search == nil {
		return e.rep, nil
	}
	rep, err := r.searchZone(ctx, q, e.search.authority, e.search, w)
	if err == nil && rep.Verdict == Referral {
		return nil, nil
	}
	return rep, err
}

// endEarly calls off what was asked early and is not needed, and waits for its
// end.
func (w *work) endEarly() {
	for _, e := range w.early {
		if e.done != nil {
			e.callOff()
			<-e.done
		}
	}
}
