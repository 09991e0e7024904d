// Package resolver answers questions by asking authoritative servers, from the
// root down (RFC 1034 §5.3.3). It is three loops: resolve follows aliases,
// descend follows zone cuts, askZone goes through servers. What a response
// means is decided by two pure functions, scrub and classify.
package resolver

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"shirube/dnssec"
	"shirube/internal/clock"
	"shirube/internal/ede"
	"shirube/internal/exchange"
	"shirube/internal/rrset"
	"shirube/internal/share"
	"shirube/internal/wire"
	"shirube/resolver/infra"
)

// Exchanger asks one server one question. IDs, ports, EDNS and the retry over
// TCP are its business; what the reply means is not. Errors: one that wraps
// [exchange.ErrTimeout] or [exchange.ErrMalformed], ctx's, or the network's.
type Exchanger interface {
	Exchange(ctx context.Context, req exchange.Request) (exchange.Response, error)
}

// Memory is what the resolver remembers between questions.
type Memory interface {
	// Cut returns the live cut closest to n, at or above it, or nil.
	Cut(n wire.Name) *rrset.Cut
	PutCut(*rrset.Cut)
	// Link returns the live link of the chain of trust closest to n, at or above
	// it, or nil.
	Link(n wire.Name) *rrset.Link
	// PutLink stores a link in place of the zone's old one.
	PutLink(*rrset.Link)
	// Set returns the live set, if there is one.
	Set(n wire.Name, typ wire.Type) (rrset.Set, bool)
	// AppendAddrs appends to dst the addresses in the live set, if there is one.
	AppendAddrs(dst []netip.Addr, n wire.Name, typ wire.Type) []netip.Addr
	// PutSet stores a set, unless a live one of higher rank or trust is there.
	PutSet(rrset.Set)

	// PutDenials remembers sets that the keys of zone prove, of one chain of NSEC
	// or NSEC3 records, with the zone's SOA set if it came along.
	PutDenials(zone wire.Name, sets []rrset.Set)
	// Chain returns which chain of zone is remembered a part of, and the live SOA
	// set, shared; that has no records when it is not known.
	Chain(zone wire.Name) (c rrset.Chain, soa rrset.Set, ok bool)
	// NSEC returns the live NSEC set of zone that is at n, or spans it.
	NSEC(zone, n wire.Name) (rrset.Set, bool)
	// NSEC3 returns the live NSEC3 set of zone that is at hash, or spans it.
	NSEC3(zone wire.Name, hash [dnssec.HashLen]byte) (s rrset.Set, match, ok bool)
}

// Options configures a [Resolver]. A zero limit means its default.
type Options struct {
	Exchanger Exchanger
	Memory    Memory
	Hints     []rrset.Server // of the root; default [RootHints]
	Zones     []Zone         // whose servers are configured
	Port      uint16         // that servers are asked on; default 53
	Log       *slog.Logger   // told when IPv4 or IPv6 fails and recovers; default: nobody is
	Clock     *clock.Clock   // what is learned is kept by; nil: the real time

	// LocalRoot, if not nil, answers for the root's servers, or returns nil
	// when they have to be asked themselves (RFC 8806). The message is the
	// resolver's own.
	LocalRoot func(wire.Question) *dns.Msg

	// Anchors says what is validated; nil: nothing is. With it, forwarders are
	// asked with CD, so that they hand on what they find bogus (RFC 6840 §5.9).
	Anchors            Anchors
	Permissive         bool            // bogus answers are given all the same, without AD
	NSEC3Iterations    int             // above them a denial is insecure (RFC 9276 §3.2); default 50, below 0: none
	AnyNXDomain        bool            // that a name does not exist says nothing of those below it (against RFC 8020)
	SignatureTime      time.Time       // that signatures are held against instead of the present one: for zones of the past
	DisabledAlgorithms []uint8         // of signatures, taken as unknown
	DisabledDigests    []uint8         // of DS records, taken as unknown
	Sentinel           func() []uint16 // the key tags of the root's anchors; nil: root key sentinels are ordinary names (RFC 8509)
	AnySignatureTime   bool            // signatures are held against no time at all
	AggressiveNSEC     bool            // what is proven to deny many names is used for all of them (RFC 8198)

	// Fleet, if not nil, is asked for zones before their parents are.
	Fleet Fleet

	// Full: answers carry what servers send along: the NS set of the zone, and
	// the addresses of names in it and in the answer.
	Full bool

	Minimise       Minimisation
	NoPriming      bool // use the hints as they are (against RFC 9609 §3)
	NoIPv4, NoIPv6 bool
	AllowLoopback  bool // ask servers on loopback addresses: laboratories only
	AnyGlue        bool // take glue for any server that a referral names, be it outside of the zone asked: old tests only

	// ZoneInFlight is how many resolutions may wait for the servers of one zone
	// at once; default 625. A top-level zone and a configured one have four times
	// the room, and the root is not bounded.
	ZoneInFlight int

	TTL    TTLs
	Limits Limits
}

// TTLs bounds how long data is kept. Zero means the default.
type TTLs struct {
	Min         time.Duration // default 0
	Max         time.Duration // default 1 day
	MaxNegative time.Duration // default 1 hour (RFC 2308 §5 advises 1 to 3)
}

// Limits bounds what one client question may cost, all that is resolved on its
// behalf included. Zero means the default.
type Limits struct {
	Queries   int // sent; default 100
	Lookups   int // of name servers' addresses; default 32
	Bytes     int // received; default 256 KiB
	Aliases   int // CNAME and DNAME steps of one resolution; default 11
	Referrals int // followed by one resolution; default 16
	Depth     int // of resolutions within resolutions; default 8
	Barren    int // look-ups that cost queries and bring no address; default 10
}

// The limits of a cut and of a server, for every question (DESIGN §6).
const (
	maxServers  = 13 // name servers used of one cut
	maxGlueless = 5  // of them looked up for want of glue (NXNSAttack, CVE-2020-12662)
	maxAddrs    = 6  // addresses used of one name server (CVE-2026-3592)
	maxAsked    = 16 // addresses asked one question in all, be there glue for more (Unbound's targets per delegation)
	maxSends    = 3  // of one question to one server (RFC 9520 §3.1)
)

// Resolver resolves questions. It is safe for concurrent use. Everything
// happens on the caller's goroutine, but for a question to a second server when
// the first is late, and for keys that are asked for early. Both end before the
// call does.
type Resolver struct {
	opt   Options
	root  rrset.Cut // as the hints have it
	zones map[wire.Name]*Zone
	*experience
}

// experience is what a Resolver knows and counts beside what is in [Memory]. All
// that [Resolver.With] returns have one together.
type experience struct {
	infra     *infra.Table
	dead      deadZones
	crowds    share.Shares[zoneKey]
	crowding  crowding
	early     sync.Map // zones whose keys are asked for early: wire.Name to the chan struct{} that is closed afterwards
	flights   flights
	desks     sync.Pool // of *desk
	hedges    hedges
	crypto    chan struct{} // a place for each who verifies signatures
	lately    lately
	referrers referrers
	priming   atomic.Bool  // somebody is at it
	primeAt   atomic.Int64 // not before this Unix time, in nanoseconds
	stats     counters
}

// New returns a Resolver.
func New(opt Options) (*Resolver, error) {
	e := &experience{infra: infra.New(infra.Options{Log: opt.Log}), dead: deadZones{limit: maxDeadZones}}
	e.lately.seed = maphash.MakeSeed()
	e.referrers.seed = maphash.MakeSeed()
	e.crypto = make(chan struct{}, runtime.GOMAXPROCS(0))
	return build(opt, e, nil)
}

// With returns a Resolver that goes by opt, knows of servers what r knows, and
// counts where r does. Both may be used at the same time. What is in opt.Memory
// is left as it is: what opt makes wrong there is the caller's to forget.
func (r *Resolver) With(opt Options) (*Resolver, error) { return build(opt, r.experience, r.zones) }

// build returns a Resolver with e. Zones that are as they were before stay the
// same to it.
func build(opt Options, e *experience, before map[wire.Name]*Zone) (*Resolver, error) {
	if opt.Exchanger == nil || opt.Memory == nil {
		return nil, errors.New("resolver: an Exchanger and a Memory are needed")
	}
	if opt.NoIPv4 && opt.NoIPv6 {
		return nil, errors.New("resolver: neither IPv4 nor IPv6 may be used")
	}
	if opt.Hints == nil {
		opt.Hints = RootHints()
	}
	setDefault(&opt.Port, 53)
	setDefault(&opt.ZoneInFlight, 625)
	setDefault(&opt.TTL.Max, 24*time.Hour)
	setDefault(&opt.TTL.MaxNegative, time.Hour)
	setDefault(&opt.Limits.Queries, 100)
	setDefault(&opt.Limits.Lookups, 32)
	setDefault(&opt.Limits.Bytes, 256<<10)
	setDefault(&opt.Limits.Aliases, 11)
	setDefault(&opt.Limits.Referrals, 16)
	setDefault(&opt.Limits.Depth, 8)
	setDefault(&opt.Limits.Barren, 10)
	r := &Resolver{opt: opt, experience: e}
	r.root = rrset.Cut{Zone: wire.Root, Servers: opt.Hints}
	if err := r.configure(opt.Zones, before); err != nil {
		return nil, err
	}
	for _, s := range opt.Hints {
		if slices.ContainsFunc(s.Addrs, r.usable) {
			return r, nil
		}
	}
	if conf := r.zones[wire.Root]; conf != nil && !conf.First { // they are not needed
		return r, nil
	}
	return nil, errors.New("resolver: no root server of the hints has an address that may be asked")
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// within reports whether something that ends at end and lasts no longer than
// most goes on at now. What would last longer, and not because another question
// was a little ahead, began before the clock was set back.
func within(now, end time.Time, most time.Duration) bool {
	left := end.Sub(now)
	return left > 0 && left <= most+time.Second
}

// usable reports whether a server may be asked at addr: not on an address that
// leads back to this machine or to no single one (CVE-2026-50251), nor in a
// family that is switched off.
func (r *Resolver) usable(addr netip.Addr) bool {
	switch {
	case !addr.IsValid(), addr.IsUnspecified(), addr.IsMulticast(), addr.Is4In6(), addr.IsLinkLocalUnicast():
		return false
	case addr.Is4() && (r.opt.NoIPv4 || addr.As4()[0] == 0 || addr.As4()[0] >= 240): // RFC 6890: this network, reserved, broadcast
		return false
	case addr.Is6() && r.opt.NoIPv6:
		return false
	case addr.IsLoopback():
		return r.opt.AllowLoopback
	}
	return true
}

// Answer is what a resolution found.
type Answer struct {
	Rcode   wire.Rcode  // of the last name of the alias chain (RFC 6604 §3)
	Records []rrset.Set // the answer section: aliases in order, then the data
	Denial  []rrset.Set // the authority section: what proves that there is no more
	Trust   rrset.Trust // the least of all parts, those that may be left out excepted
	Note    *ede.Error  // what clients are to be told beside it; nil: nothing
	NoCache bool        // it is for those who asked, and not to be kept: see [Zone.NoCache] and worthKeeping
	Queries int         // that it took

	// Authority is the NS set of the zone that has the answer, behind Denial:
	// with [Options.Full]. It may be left out.
	Authority []rrset.Set

	// Additional is what the client is likely to ask for next. It may be left
	// out, and before Authority is.
	Additional []rrset.Set
}

// Query is what a resolution is asked for.
type Query struct {
	wire.Question

	// CD: the answer is wanted whatever validation would say of it (RFC 4035
	// §3.2.2). It then says nothing.
	CD bool

	// Until, if not zero, is when an answer ends that is to be refreshed: what
	// is remembered of it and does not live on after it is asked for anew. Zone
	// cuts and the addresses of servers are used as they are. A failure takes
	// nothing from memory.
	Until time.Time

	// Fleet is how long the question may wait for [Options.Fleet] in all; 0: it is
	// not asked.
	Fleet time.Duration

	// Record is told of each step; nil: nobody is.
	Record *Recording
}

// Resolve answers q. Its error is an [*ede.Error], or wraps one. It ends when
// ctx does, at the latest.
func (r *Resolver) Resolve(ctx context.Context, q Query) (*Answer, error) {
	r.stats.resolutions.Add(1)
	w := r.work(q)
	defer r.end(w)
	ans, err := r.resolve(ctx, q.Question, w)
	w.returned = true
	if err == nil && r.opt.Sentinel != nil && dnssec.SentinelFails(q.Question, ans.Trust, q.CD, r.opt.Sentinel()) {
		err = ede.Errorf(ede.Bogus, "what the root key sentinel asks about is not so") // RFC 8509 §3.2
	}
	if err != nil {
		r.stats.failures.Add(1)
		err = explain(ctx, q.Question, err)
		w.tellFailure(q.Question, err)
		return nil, err
	}
	ans.Queries = w.sent()
	if q.CD { // what is remembered may have been proven, but nobody was to look
		ans.Trust = rrset.Unchecked
	}
	return ans, nil
}

// explain gives an error that has none a code for the client.
func explain(ctx context.Context, q wire.Question, err error) error {
	if _, ok := errors.AsType[*ede.Error](err); ok {
		return err
	}
	if ctx.Err() != nil {
		return ede.Wrap(err, ede.NoReachableAuthority, "no answer for %v in time", q.Name)
	}
	return ede.Wrap(err, ede.Other, "cannot resolve %v", q.Name)
}

// resolve answers q on behalf of the question that w pays for. One turn of the
// loop is one owner name; an alias starts the next (step 4c).
func (r *Resolver) resolve(ctx context.Context, q wire.Question, w *work) (*Answer, error) {
	if err := w.enter(q); err != nil {
		return nil, err
	}
	defer w.leave()
	avoid := w.avoid
	defer func() { w.avoid = avoid }()
	w.avoid = nil

	ans := &Answer{Trust: rrset.Secure}
	var first [1]wire.Name // most have no alias
	seen := append(first[:0], q.Name)
	for {
		w.tellStep(StepQuestion, q, "")
		rep, ok := r.recall(q, w.outlive(), r.least(w))
		if !ok {
			rep, ok = r.deduced(q, w)
		}
		if ok {
			w.tellVerdict(StepMemory, q, rep)
		} else {
			var err error
			if rep, err = r.find(ctx, q, w); err != nil {
				return nil, err
			}
			r.learn(q, rep)
		}
		ans.add(rep)
		if w.aliases += rep.aliases(); w.aliases > w.limits.Aliases {
			return nil, ede.Errorf(ede.Other, "more than %d aliases from %v on", w.limits.Aliases, seen[0])
		}
		if rep.Verdict != Alias {
			ans.Additional = r.additional(ctx, q, rep, ans, w)
			ans.accompany(r.keepCompany(ctx, q, rep, ans, w))
			return ans, nil
		}
		q.Name = rep.Target
		for _, n := range seen {
			if n == q.Name {
				return nil, ede.Errorf(ede.Other, "the aliases of %v lead back to it", n)
			}
		}
		seen = append(seen, q.Name)
	}
}

// add appends what rep says to a.
func (a *Answer) add(rep *reply) {
	a.Rcode = rep.Rcode
	if a.Note == nil {
		a.Note = rep.Note
	}
	a.NoCache = a.NoCache || rep.NoCache
	a.Records = appendNew(a.Records, rep.Sets)
	a.Denial = appendNew(a.Denial, rep.Denial)
	a.Trust = min(a.Trust, rep.trust())
	if rep.Rcode == wire.YXDomain { // nothing signed says so (Unbound leaves AD away too)
		a.Trust = min(a.Trust, rrset.Insecure)
	}
}

// descend finds who answers q, from the closest servers known (steps 2, 3, 4a
// and 4b), and follows referrals towards q.Name until a zone's servers answer.
func (r *Resolver) descend(ctx context.Context, q wire.Question, w *work) (*reply, error) {
	at := r.closest(ctx, q, r.configured(above(q)), w)
	if err := r.looped(q, at); err != nil {
		return nil, err
	}
	at.keys = r.wantsKeys(q, at, w)
	m := r.minimiser(at)
	for referrals := 0; ; {
		ask := m.next(q)
		rep, err := r.askStep(ctx, ask, q, at, &m, w)
		switch {
		case err != nil && (ctx.Err() != nil || w.spent()):
			return nil, err
		case err != nil && ask != q && m.relax():
		case err != nil && at.conf != nil && at.conf.First:
			at = r.instead(ctx, q, at.conf, w)
			m = r.minimiser(at)
		case err != nil:
			return nil, err
		case rep.Verdict == Referral:
			if referrals++; referrals > w.limits.Referrals {
				return nil, ede.Errorf(ede.NoReachableAuthority, "more than %d referrals towards %v", w.limits.Referrals, q.Name)
			}
			r.referrers.add(at.cut.Zone)
			at = authority{cut: rep.Cut, failed: at.failed}
			if !at.hidden() && !rep.NoCache {
				r.opt.Memory.PutCut(rep.Cut)
			}
			at.keys = r.wantsKeys(q, at, w)
			m.shown = rep.Cut.Zone.Labels()
		case ask == q:
			return rep, nil
		case rep.Rcode == wire.NXDomain:
			if !m.relax() { // RFC 8020 §2: nothing below it exists either
				return rep, nil
			}
		default: // a name without a cut: show more of it
		}
	}
}

// recall answers q from memory, one step of an alias chain at most, with what
// lives on after until and is trusted as far as least at least.
func (r *Resolver) recall(q wire.Question, until time.Time, least rrset.Trust) (*reply, bool) {
	types := []wire.Type{q.Type, wire.TypeCNAME, rrset.AnyType}
	switch {
	case r.parental(q): // the rest is the zone's word, not its parent's
		types = types[:1]
	case q.Type == wire.TypeDS: // an alias is the word of the zone that has it, which need not be the parent's
		types[1] = rrset.AnyType
	}
	for _, typ := range types {
		s, ok := r.opt.Memory.Set(q.Name, typ)
		switch {
		case !ok, s.Trust < least, !s.Until.After(until):
		case s.Denial != nil:
			if typ != wire.TypeCNAME || q.Type == wire.TypeCNAME {
				return &reply{Verdict: Negative, Rcode: s.Denial.Rcode, Denial: s.Denial.Sets}, true
			}
		case typ == q.Type:
			return &reply{Verdict: Positive, Sets: []rrset.Set{s}}, true
		case typ == wire.TypeCNAME:
			if target, ok := aliasTarget(s); ok {
				return &reply{Verdict: Alias, Sets: []rrset.Set{s}, Target: target}, true
			}
		}
	}
	return r.recallCut(q, until)
}

// recallCut answers q from what is proven of a name above it: that it does not
// exist, for then nothing does below it (RFC 8020 §2), or that all below it is
// elsewhere. Without a proof that is not said: there are servers that deny names
// which have others below them, and a forged DNAME record would speak for many
// names.
func (r *Resolver) recallCut(q wire.Question, until time.Time) (*reply, bool) {
	if r.opt.Anchors == nil || r.configured(q.Name) != nil {
		return nil, false
	}
	for n, ok := q.Name.Parent(); ok && n != wire.Root; n, ok = n.Parent() {
		s, found := r.opt.Memory.Set(n, rrset.AnyType)
		if found && !r.opt.AnyNXDomain && s.Trust == rrset.Secure && s.Denial != nil && s.Until.After(until) {
			return &reply{Verdict: Negative, Rcode: s.Denial.Rcode, Denial: s.Denial.Sets}, true
		}
		s, found = r.opt.Memory.Set(n, wire.TypeDNAME)
		if found && s.Trust == rrset.Secure && s.Denial == nil && s.Until.After(until) {
			return r.redirected(q, s)
		}
	}
	return nil, false
}

// redirected answers q from the DNAME set d above it (RFC 6672 §3.4).
func (r *Resolver) redirected(q wire.Question, d rrset.Set) (*reply, bool) {
	next, sets, ok := substitute(q.Name, d)
	rep := &reply{Verdict: Alias, Sets: sets, Target: next}
	switch {
	case !ok:
		return nil, false
	case next == "": // RFC 6672 §2.2
		rep.Verdict, rep.Rcode = Negative, wire.YXDomain
	case q.Type == wire.TypeCNAME:
		rep.Verdict, rep.Target = Positive, ""
	}
	return rep, true
}

// learn remembers what rep said about q. What a server said of names further
// down the chain serves this answer only: it was asked about q, and whoever
// forged its answer could have named any name. So does a DNAME record that is
// not proven, which stands for a whole subtree, and the CNAME record made of it,
// which is nothing without it.
func (r *Resolver) learn(q wire.Question, rep *reply) {
	if rep.NoCache {
		return
	}
	r.learnProofs(rep)
	for _, s := range rep.Sets {
		if s.Type == wire.TypeDNAME && s.Trust == rrset.Secure && !expanded(s) {
			r.opt.Memory.PutSet(s)
		}
	}
	if len(rep.Sets) > 0 {
		if s := rep.Sets[0]; s.Name == q.Name && !expanded(s) { // expanded: useless without its proof
			r.opt.Memory.PutSet(s)
		}
	}
	if rep.Verdict != Negative || len(rep.Sets) > 0 {
		return
	}
	soa := r.noSOA()
	if len(rep.Denial) > 0 {
		soa.Trust = rep.Denial[0].Trust
	}
	if len(rep.Denial) > 0 && rep.Denial[0].Type == wire.TypeSOA {
		soa = rep.Denial[0]
	}
	s := rrset.Set{
		Name: q.Name, Type: q.Type, Rank: soa.Rank, Trust: soa.Trust, Until: soa.Until,
		Denial: &rrset.Denial{Rcode: rep.Rcode, Sets: rep.Denial},
	}
	if rep.Rcode == wire.NXDomain && !r.parental(q) {
		s.Type = rrset.AnyType
	}
	r.opt.Memory.PutSet(s)
}
