package frontend

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"shirube/cache"
	"shirube/cache/shared"
	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/resolver"
)

// Shared is the cache that the servers of a fleet have in common. It is of use
// when it can be, and never in the way.
type Shared interface {
	// Get returns what the fleet knows about k: an answer, which may be stale, or
	// that there was none a moment ago. It does not take long.
	Get(ctx context.Context, k shared.Key) (shared.Entry, bool)
	// Set tells the fleet. It does not wait.
	Set(k shared.Key, e shared.Entry)
	// Claim says that this server is about to find an answer to k, unless another
	// one has said so. It takes no longer than within.
	Claim(ctx context.Context, k shared.Key, within time.Duration) shared.Claim
	// Await returns what the server finds that has claimed k, if that comes before
	// patience ends.
	Await(ctx context.Context, k shared.Key, patience time.Duration) (shared.Entry, bool)
}

// Sharing configures the use of a [Shared] cache.
type Sharing struct {
	Cache Shared // nil: nothing is shared

	// Scope returns the Scope of the keys of questions about a name: what is said
	// of names of different scopes comes from different places. Nil: there is one.
	Scope func(wire.Name) uint64
	// Delegated returns when the delegation ends that an answer about a name rests
	// on; the zero time if there is none. Nil: there are none.
	Delegated func(wire.Name) time.Time
	// MaxStale is how long an answer is of use after it has expired.
	MaxStale time.Duration
	// Budget is how long a question may wait for Cache in all, but for a server
	// that is about to answer it; default 5 ms.
	Budget time.Duration
	// Zones tells the fleet of zones; nil: nothing.
	Zones *Zones
}

// sharing is what a Frontend keeps of its dealings with the shared cache.
type sharing struct {
	gate     gate
	pulse    pulse
	yielding yielding

	hits, stale, failures, renewed, set, failed, floods atomic.Uint64
}

// keyOf returns the key of a flight, if its outcome may be shared: what is asked
// with CD set was not validated, signatures by themselves would be left out
// where they are not asked for, and root key sentinels are about one server
// (RFC 8509).
func (f *Frontend) keyOf(k flightKey) (shared.Key, bool) {
	const sentinel = "root-key-sentinel-"
	if f.opt.Sharing.Cache == nil || k.cd || k.q.Type == wire.TypeRRSIG || strings.HasPrefix(string(k.q.Name[1:]), sentinel) {
		return shared.Key{}, false
	}
	return shared.Key{Question: k.q, Scope: f.scope(k.q.Name)}, true
}

func (f *Frontend) scope(n wire.Name) uint64 {
	if f.opt.Sharing.Scope == nil {
		return 0
	}
	return f.opt.Sharing.Scope(n)
}

// borrow has out be what the fleet knows, if that lives on after until. Else it
// returns an answer that may be of use if no better one can be had, or nil.
func (f *Frontend) borrow(ctx context.Context, k shared.Key, out *outcome, until time.Time) (ok bool, stale *outcome) {
	e, found := f.opt.Sharing.Cache.Get(ctx, k)
	if !found {
		return false, nil
	}
	return f.take(&e, out, until)
}

// take is borrow for what the fleet has said.
func (f *Frontend) take(e *shared.Entry, out *outcome, until time.Time) (ok bool, stale *outcome) {
	now := f.opt.Clock.Now()
	if e.Failed() {
		if !until.IsZero() { // what is there is good yet, and worth a try of our own
			return false, nil
		}
		f.sharing.failures.Add(1)
		out.at, out.err = now, failureOf(e)
		f.opt.Answers.FailFor(out.k.q, out.k.cd, out.err, now, e.Expires().Sub(now))
		return true, nil
	}
	got := &outcome{f: f, k: out.k, at: when(e.Stored, now), expired: when(e.Expires(), now)}
	if got.at.After(now) { // clocks differ: no TTL is longer for it
		got.at = now
	}
	ans, err := unpack(e, got.at, when(e.Deadline, now))
	if err != nil {
		f.opt.Log.Warn("cannot read an answer of the shared cache", "question", out.k.q.String(), "error", err)
		return false, nil
	}
	got.ans = ans
	switch {
	case e.Fresh(now) && e.Expires().After(until):
		if f.sharing.hits.Add(1); !until.IsZero() {
			f.sharing.renewed.Add(1)
		}
		f.sharing.yielding.spare()
		out.at, out.ans = got.at, got.ans
		out.succeed()
		return true, nil
	case !e.Fresh(now):
		return false, got
	}
	return false, nil
}

// failureOf returns what clients are told of a failure that another server had.
func failureOf(e *shared.Entry) *ede.Error {
	if e.Note == nil {
		return &ede.Error{Code: ede.CachedError}
	}
	return e.Note
}

// when returns t, a time of another server's clock, as one of ours that goes on
// by the monotonic clock.
func when(t, now time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return now.Add(t.Round(0).Sub(now.Round(0)))
}

// succeed puts o in place of what is in memory of the same question, where it
// is not newer.
func (o *outcome) succeed() {
	for _, do := range [...]bool{false, true} {
		if _, ok := o.f.opt.Answers.Expires(o.k.q, do, o.k.cd); ok {
			_, _ = o.form(do) // why not, if not, is logged and remembered there
		}
	}
}

// keep puts o, which has expired, into memory in both its forms, from where it is
// given to who gets no better one.
func (o *outcome) keep() {
	o.f.sharing.stale.Add(1)
	_, _ = o.form(false)
	_, _ = o.form(true)
}

// share tells the fleet what out brought home. Waiters have it already, or get
// it next.
func (f *Frontend) share(out *outcome) {
	f.sharing.pulse.note(true, out.at)
	k, may := f.keyOf(out.k)
	if !may {
		return
	}
	f.sharing.yielding.resolved(out)
	if f.superseded() || !sharable(out.ans) || !f.oneScope(k, out.ans) {
		return
	}
	f.opt.Sharing.Zones.tell(names(k.Name, out.ans))
	if zone, denied := denier(out.ans); denied && !f.sharing.gate.admits(zone, out.at) {
		f.sharing.floods.Add(1)
		return
	}
	a, err := pack(k.Question, out.ans, true, out.at)
	if err != nil {
		return // who is answered notices, and says so
	}
	e := shared.Entry{
		Stored: out.at, Began: out.sought, Life: a.Expires().Sub(out.at), Stale: f.opt.Sharing.MaxStale, Deadline: f.delegated(out),
		Trust: out.ans.Trust, Note: a.EDE(), Msg: a.Message(),
	}
	if e.Life > 0 && len(e.Msg) <= cache.MaxAnswer && (e.Deadline.IsZero() || e.Deadline.After(out.at)) {
		f.sharing.set.Add(1)
		f.opt.Sharing.Cache.Set(k, e)
	}
}

// sharable reports whether ans is for everybody, and what the zones say: neither
// bogus, nor without a verdict, nor what only this server takes for good.
func sharable(ans *resolver.Answer) bool {
	switch {
	case ans.NoCache, ans.Rcode != wire.NoError && ans.Rcode != wire.NXDomain:
		return false
	case ans.Note != nil && ans.Note.Code == ede.NegativeTrustAnchor: // one operator's word, for a while
		return false
	}
	return ans.Trust == rrset.Unchecked || ans.Trust == rrset.Insecure || ans.Trust == rrset.Secure
}

// oneScope reports whether all that ans is made of is of the scope of k: what a
// zone's own servers say, that are configured here, is shared with those who have
// the same, also if an alias elsewhere leads to it.
func (f *Frontend) oneScope(k shared.Key, ans *resolver.Answer) bool {
	if f.opt.Sharing.Scope == nil {
		return true
	}
	for _, n := range names(k.Name, ans) {
		if f.scope(n) != k.Scope {
			return false
		}
	}
	return true
}

// delegated returns when the first of the delegations ends that out rests on.
func (f *Frontend) delegated(out *outcome) (first time.Time) {
	if f.opt.Sharing.Delegated == nil {
		return first
	}
	for _, n := range names(out.k.q.Name, out.ans) {
		if end := f.opt.Sharing.Delegated(n); !end.IsZero() && (first.IsZero() || end.Before(first)) {
			first = end
		}
	}
	return first
}

// denier returns the zone that says that a name does not exist.
func denier(ans *resolver.Answer) (zone wire.Name, denied bool) {
	if ans.Rcode != wire.NXDomain {
		return "", false
	}
	for _, s := range ans.Denial {
		if s.Type == wire.TypeSOA {
			return s.Name, true
		}
	}
	return wire.Root, true
}

// shareFailure tells the fleet that out could not be resolved, for as long as it
// is remembered here, if this server has not so much trouble that it may be its
// own.
func (f *Frontend) shareFailure(out *outcome, bogus bool) {
	f.sharing.pulse.note(false, out.at)
	k, may := f.keyOf(out.k)
	// What is bogus each judges for himself: it may be the clock, or an anchor.
	if !may || bogus || !f.sharing.pulse.good(out.at) {
		return
	}
	lasts := f.opt.Answers.Failing(out.k.q, out.k.cd, out.at)
	if lasts < time.Second {
		return
	}
	f.sharing.failed.Add(1)
	f.opt.Sharing.Cache.Set(k, shared.Entry{Stored: out.at, Life: lasts.Truncate(time.Second), Note: out.err})
}
