// Package frontend is the life of a query: policy, then memory, then one
// flight to the resolver for all who ask the same, then bytes.
package frontend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"shirube/cache"
	"shirube/discovery"
	"shirube/internal/clock"
	"shirube/internal/ede"
	"shirube/internal/otlp"
	"shirube/internal/wire"
	"shirube/policy"
	"shirube/resolver"
	"shirube/transport"
)

// Resolver finds the answer to a question that no cache has. Its errors are
// [*ede.Error] or wrap one.
type Resolver interface {
	Resolve(ctx context.Context, q resolver.Query) (*resolver.Answer, error)
	// Refuses returns why Resolve would fail at once, if that is known beforehand.
	// It does not block, and needs no memory to speak of.
	Refuses(q resolver.Query) *ede.Error
}

// Options configures a [Frontend]. Zero means the default.
type Options struct {
	Policy   *policy.Set    // needed
	Answers  *cache.Answers // needed
	Resolver Resolver       // needed
	Log      *slog.Logger   // default: none

	Builtins *policy.Builtins     // answered without asking anybody; default: none
	Self     *discovery.Directory // what this server says of itself; default: nothing
	Health   *Health              // a name that says whether the server is ready; nil: none
	Cookies  *policy.Cookies      // given to clients (RFC 7873); nil: none
	NSID     []byte               // told to who asks for it (RFC 5001); default: nothing
	Clock    *clock.Clock         // that Answers are kept by; nil: the real time

	UDPSize  uint16        // offered to clients, in octets; default 1232 (RFC 9715)
	Timeout  time.Duration // for one question; default 6 s
	Flights  int           // questions being resolved at once; default 10,000
	BogusTTL time.Duration // that bogus data is not asked for again; default: as other failures
	Waiters  int           // clients waiting for one question; default 100

	// FlightsPerNetwork is how many of the flights the clients of one
	// [wire.Network] may have started; default one sixteenth.
	FlightsPerNetwork int

	// ClientTimeout is how long a client waits for a new answer before it is
	// given a stale one, from when its query came in; default 1.8 s (RFC 8767
	// §5). Negative: no time at all, and who may ask without RD is given it too.
	ClientTimeout time.Duration

	Sharing Sharing // of answers with other servers; default: none
	Slow    Slow    // resolutions that the log tells of; default: none

	Spans *otlp.Exporter // told of resolutions; nil: nobody is
}

// Frontend answers queries. It implements [transport.Handler].
type Frontend struct {
	opt        Options
	generation uint32
	bounds     bounds // of flights
	*traffic
}

// traffic is what a Frontend has under way, and what it has counted. All that
// [Frontend.With] returns have one together.
type traffic struct {
	flights     flights[flightKey, *outcome]
	refresher   refresher
	sharing     sharing
	asked       popularity
	slow        slowness
	counts      counters
	outcomes    sync.Pool     // of *outcome
	generations atomic.Uint32 // the last one made
	current     atomic.Uint32 // the last one in force
	cancel      context.CancelFunc
}

var (
	_ transport.Handler  = (*Frontend)(nil)
	_ transport.Expecter = (*Frontend)(nil)
)

// flightKey is what makes two queries the same resolution. DO does not: the
// two forms are packed from one answer. Who asks after a change of options does
// not get what is found by those before.
type flightKey struct {
	q          wire.Question
	cd         bool
	generation uint32
}

// New returns a Frontend. Close ends what it started.
func New(opt Options) (*Frontend, error) {
	t := new(traffic)
	t.refresher.queue = make(chan due, maxRefreshQueue)
	t.asked.salt = uint16(rand.Uint32())
	t.flights.ended = func(out *outcome, took time.Duration) { out.ended(took) }
	t.flights.server, t.cancel = context.WithCancel(context.Background())
	f, err := build(opt, t)
	if err != nil {
		t.cancel()
		return nil, err
	}
	f.Supersede()
	return f, nil
}

// With returns a Frontend that goes by opt, and counts where f does. Both may be
// used at the same time: flights that f has begun go on as they began. To close
// one is to close both.
func (f *Frontend) With(opt Options) (*Frontend, error) { return build(opt, f.traffic) }

// Supersede says that from now on queries come to f. What those before it are
// resolving then is given to who waits for it, but not remembered: it was found
// by options that do not hold any more.
func (f *Frontend) Supersede() { f.current.Store(f.generation) }

// superseded reports whether what f finds is not to be remembered.
func (f *Frontend) superseded() bool { return f.current.Load() > f.generation }

// build returns a Frontend with t.
func build(opt Options, t *traffic) (*Frontend, error) {
	if opt.Policy == nil || opt.Answers == nil || opt.Resolver == nil {
		return nil, errors.New("frontend: a Policy, Answers and a Resolver are needed")
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if len(opt.NSID) > MaxNSID {
		return nil, fmt.Errorf("frontend: an NSID of %d octets; at most %d are allowed", len(opt.NSID), MaxNSID)
	}
	if opt.UDPSize == 0 {
		opt.UDPSize = 1232
	}
	if opt.Timeout == 0 {
		opt.Timeout = 6 * time.Second
	}
	if opt.Flights == 0 {
		opt.Flights = 10_000
	}
	if opt.Waiters == 0 {
		opt.Waiters = 100
	}
	if opt.FlightsPerNetwork == 0 {
		opt.FlightsPerNetwork = max(opt.Flights/16, 1)
	}
	if opt.ClientTimeout == 0 {
		opt.ClientTimeout = 1800 * time.Millisecond
	}
	if opt.Sharing.Budget == 0 {
		opt.Sharing.Budget = 5 * time.Millisecond
	}
	own, err := opt.Health.prepared()
	if err != nil {
		return nil, err
	}
	opt.Health = own
	return &Frontend{
		opt: opt, generation: t.generations.Add(1), traffic: t,
		bounds: bounds{most: opt.Flights, share: opt.FlightsPerNetwork, waiters: opt.Waiters},
	}, nil
}

// Abandon has the resolutions under way end at once, and all later ones fail.
func (f *Frontend) Abandon() { f.cancel() }

// Close abandons the resolutions under way and waits for them to end. No query
// may come in after it.
func (f *Frontend) Close() {
	f.Abandon()
	f.refresher.wg.Wait() // first: it starts flights
	f.flights.wg.Wait()
}

// TryServe implements [transport.Handler].
func (f *Frontend) TryServe(buf []byte, q *wire.Query) ([]byte, transport.Outcome) {
	if f.opt.Health.asked(q) {
		return f.health(buf, q)
	}
	c := f.counts.of(q)
	action := f.opt.Policy.Admit(q.Client.Addr())
	if out, outcome, ok := f.admit(buf, q, action); !ok {
		return out, outcome
	}
	if out, ok := f.unproven(buf, q, action); ok {
		return out, transport.Answered
	}
	var b [wire.MaxNameLen]byte
	name := wire.AppendFolded(b[:0], q.RawName())
	if out, outcome := f.self(buf, q, name); outcome != discovery.NotOurs {
		return out, served[outcome]
	}
	if rcode, why := f.reject(q, action); rcode != wire.NoError {
		c.rejected.Add(1)
		return f.reply(buf, q, rcode, why), transport.Answered
	}
	if q.Type == wire.TypeANY {
		c.local.Add(1)
		return f.minimalANY(buf, q), transport.Answered
	}
	if out, ok := f.builtin(buf, q, name); ok {
		c.local.Add(1)
		q.Policy = wire.PolicyBuiltin
		return out, transport.Answered
	}
	start := len(buf)
	buf, hit := f.opt.Answers.Append(buf, q, f.opt.Clock.At(q.Received))
	switch {
	case hit.Found:
		c.hits.Add(1)
		f.asked.hit(q)
		if !hit.Due.IsZero() {
			f.refreshSoon(q, hit.Due)
		}
		return f.finish(buf, start, q, hit.EDE), transport.Answered
	case !q.RD && !f.staleAtOnce(q): // allow_snoop: from memory only
		c.rejected.Add(1)
		return f.reply(buf, q, wire.Refused, &errNotCached), transport.Answered
	}
	c.misses.Add(1)
	return buf, transport.Deferred
}

// Expect implements [transport.Expecter].
func (f *Frontend) Expect(qs []*wire.Query) { f.opt.Answers.Expect(qs) }

// admit deals with q if action shuts its client out, and reports whether it does
// not.
func (f *Frontend) admit(buf []byte, q *wire.Query, action policy.Action) ([]byte, transport.Outcome, bool) {
	switch action {
	case policy.Deny:
		f.counts.of(q).denied.Add(1)
		q.Policy = wire.PolicyDenied
		return buf, transport.Dropped, false
	case policy.Refuse:
		f.counts.of(q).refused.Add(1)
		q.Policy = wire.PolicyRefused
		return f.reply(buf, q, wire.Refused, &errProhibited), transport.Answered, false
	}
	return buf, transport.Deferred, true
}

// What is wrong with queries that are not resolved. Built once: TryServe does
// not allocate.
var (
	errProhibited   = ede.Error{Code: ede.Prohibited, Text: "this server does not serve your address"}
	errNotRecursive = ede.Error{Code: ede.NotAuthoritative, Text: "RD is clear, and this server only recurses"}
	errNotCached    = ede.Error{Code: ede.NotAuthoritative, Text: "RD is clear, and the answer is not in memory"}
	errClass        = ede.Error{Code: ede.NotSupported, Text: "class is not IN"}
	errTransfer     = ede.Error{Code: ede.NotSupported, Text: "no zone transfers here"}
	errMetaType     = ede.Error{Code: ede.NotSupported, Text: "not a type that can be asked for"}
)

// reject judges a query by what it asks for. NOERROR: it may be answered.
func (f *Frontend) reject(q *wire.Query, action policy.Action) (wire.Rcode, *ede.Error) {
	switch {
	case q.Class != wire.ClassIN:
		return wire.Refused, &errClass // other classes have no root here (CVE-2026-5946)
	case q.Type == wire.TypeAXFR, q.Type == wire.TypeIXFR:
		return wire.Refused, &errTransfer
	case q.Type == 0, q.Type.Meta() && q.Type != wire.TypeANY:
		return wire.FormErr, &errMetaType // as Unbound and Knot Resolver say it
	case !q.RD && action != policy.AllowSnoop:
		return wire.Refused, &errNotRecursive
	}
	return wire.NoError, nil
}

// Serve implements [transport.Handler].
func (f *Frontend) Serve(ctx context.Context, buf []byte, q *wire.Query) []byte {
	if out, ok := f.designate(buf, q); ok {
		return out
	}
	c := f.counts.of(q)
	now := time.Now()
	stale, failing := f.opt.Answers.HoldsStale(q, f.opt.Clock.At(now))
	if failing {
		if out, ok := f.stale(buf, q, &c.staleFailing, "no new answer a moment ago"); ok {
			return out
		}
	}
	k := flightKey{q.Question(), q.CD, f.generation}
	if why := f.refuses(k); why != nil {
		return f.fail(buf, q, why)
	}
	network := wire.NetworkOf(q.Client.Addr())
	fl, leads, err := f.flights.board(k, network, f.bounds, now)
	if err != nil {
		if out, ok := f.stale(buf, q, &c.staleBusy, "no time for a new answer"); ok {
			return out
		}
		return f.reply(buf, q, wire.ServFail, ede.Of(err))
	}
	var atOnce []byte
	if stale && f.opt.ClientTimeout < 0 { // taken before the new answer can be there: who asks next gets that
		atOnce, _ = f.stale(buf, q, &c.staleLate, "no new answer in time")
	}
	switch {
	case leads && !stale && f.stays(ctx, q, now):
		return f.lead(ctx, buf, q, k, fl)
	case leads:
		f.flights.launch(k, fl, func(server context.Context) *outcome { return f.resolve(server, k, time.Time{}) })
	}
	if len(atOnce) > len(buf) {
		f.flights.leave(fl)
		return atOnce
	}
	var patience <-chan time.Time
	if stale {
		timer := time.NewTimer(q.Received.Add(f.opt.ClientTimeout).Sub(now))
		defer timer.Stop()
		patience = timer.C
	}
	out, err := f.flights.wait(ctx, fl, patience)
	if errors.Is(err, errPatience) {
		if out, ok := f.stale(buf, q, &c.staleLate, "no new answer in time"); ok {
			f.flights.leave(fl)
			return out
		}
		out, err = f.flights.wait(ctx, fl, nil)
	}
	if err != nil {
		c.abandoned.Add(1)
		return nil
	}
	return f.respond(buf, q, out)
}

// refuses returns why k would fail at once, nil if it might not: others are waiting
// for its outcome already, or the fleet may have it.
func (f *Frontend) refuses(k flightKey) *ede.Error {
	if f.opt.Sharing.Cache != nil {
		return nil
	}
	why := f.opt.Resolver.Refuses(resolver.Query{Question: k.q, CD: k.cd})
	if why != nil && f.flights.under(k) {
		return nil
	}
	return why
}

// Shed implements [transport.Handler].
func (f *Frontend) Shed(buf []byte, q *wire.Query, why string) []byte {
	if out, ok := f.stale(buf, q, &f.counts.of(q).staleBusy, "no time for a new answer"); ok {
		return out
	}
	return f.reply(buf, q, wire.ServFail, &ede.Error{Code: ede.Other, Text: why})
}

// Reject implements [transport.Handler]. Who is refused is not told what else is
// wrong with his message either.
func (f *Frontend) Reject(client netip.AddrPort, rcode wire.Rcode) (wire.Rcode, bool) {
	c := f.counts.at(client)
	switch f.opt.Policy.Admit(client.Addr()) {
	case policy.Deny:
		c.denied.Add(1)
		return 0, false
	case policy.Refuse:
		c.refused.Add(1)
		return wire.Refused, true
	}
	return rcode, true
}

// stays reports whether the client of q waits from now on at least as long as a flight
// may take: who asks over UDP cannot hang up, so that ctx ends with its deadline, or
// with the server.
func (f *Frontend) stays(ctx context.Context, q *wire.Query, now time.Time) bool {
	until, ok := ctx.Deadline()
	return q.Proto == wire.UDP && (!ok || until.Sub(now) >= f.opt.Timeout)
}

// lead does the work of fl on the goroutine of the client that leads it, who
// stays: a second goroutine would only have this one wait.
func (f *Frontend) lead(ctx context.Context, buf []byte, q *wire.Query, k flightKey, fl *flight[*outcome]) []byte {
	alone := f.flights.lead(k, fl, func() *outcome { return f.resolve(f.flights.server, k, time.Time{}) })
	var rsp []byte
	if ctx.Err() != nil {
		f.counts.of(q).abandoned.Add(1)
	} else {
		rsp = f.respond(buf, q, fl.val)
	}
	if alone {
		f.returnOutcome(fl.val)
	}
	return rsp
}

// respond appends what a flight brought home as the response to q; if that is
// a failure, the stale answer, if there is one (RFC 8767 §5).
func (f *Frontend) respond(buf []byte, q *wire.Query, out *outcome) []byte {
	fail := out.err
	if fail == nil {
		var a *cache.Answer
		if a, fail = out.form(q.DO); fail == nil {
			f.counts.of(q).resolved.Add(1)
			start := len(buf)
			buf = a.Append(buf, q, f.opt.Clock.Now())
			return f.finish(buf, start, q, a.EDE())
		}
	}
	return f.fail(buf, q, fail)
}

// fail appends the response to q, which cannot be resolved now, and why.
func (f *Frontend) fail(buf []byte, q *wire.Query, fail *ede.Error) []byte {
	c := f.counts.of(q)
	by, why := &c.staleFailed, "no new answer"
	if errors.Is(fail, resolver.ErrCrowded) {
		by, why = &c.staleBusy, "no time for a new answer"
	}
	if out, ok := f.stale(buf, q, by, why); ok {
		return out
	}
	c.failures.Add(1)
	return f.reply(buf, q, wire.ServFail, fail)
}

// resolve does the work of one flight: it resolves k, to an answer that lives
// on after until, and remembers what came of it, so that who asks from now on
// finds it in memory. What the fleet knows already need not be resolved.
func (f *Frontend) resolve(server context.Context, k flightKey, until time.Time) (out *outcome) {
	out = f.takeOutcome()
	out.f, out.k, out.begun, out.traced = f, k, time.Now(), f.trace(k.q, until)
	out.sought = f.opt.Clock.At(out.begun)
	out.steps = f.recording(out.traced)
	defer func() {
		if p := recover(); p != nil { // one question's trouble is not everybody's
			f.counts.of(nil).panics.Add(1)
			f.opt.Log.Error("panic while resolving", "question", k.q.String(), "panic", p, "stack", string(debug.Stack()))
			out.err, out.broken = &ede.Error{Code: ede.Other, Text: "internal error"}, true
		}
	}()
	f.asked.flight(k.q, out.sought)
	out.ctx.Begin(server, out.begun.Add(f.opt.Timeout))
	defer out.ctx.End()
	borrowed, stale := f.fromFleet(out, until)
	out.traced.fleet(out, borrowed, stale)
	if borrowed {
		return out
	}
	ans, err := f.opt.Resolver.Resolve(&out.ctx, resolver.Query{Question: k.q, CD: k.cd, Until: until, Fleet: out.patience, Record: out.steps})
	out.at = f.opt.Clock.Now()
	if err == nil {
		out.ans = ans
		out.replace(until)
		f.share(out)
		return out
	}
	out.err = ede.Of(err)
	if stale != nil {
		stale.keep()
	}
	// Neither the server's end nor that others ask too much of a zone is a
	// failure of the question.
	if server.Err() == nil && !f.superseded() && !errors.Is(err, resolver.ErrCrowded) {
		var least time.Duration
		if resolver.IsBogus(err) {
			least = f.opt.BogusTTL
		}
		f.opt.Answers.FailFor(k.q, k.cd, out.err, out.at, least)
		f.shareFailure(out, resolver.IsBogus(err))
		if f.opt.Log.Enabled(server, slog.LevelDebug) {
			f.opt.Log.Debug("cannot resolve", "question", k.q.String(), "error", err)
		}
	}
	return out
}
