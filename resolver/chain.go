package resolver

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/miekg/dns"

	"shirube/dnssec"
	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// Anchors says where validation begins, and where it is switched off.
type Anchors interface {
	// Closest returns the zone of the trust anchor closest to n, at or above it,
	// and its keys' digests; false when there is none: nothing is validated.
	Closest(n wire.Name) (zone wire.Name, ds []*dns.DS, ok bool)
	// Negative returns what clients are told if a negative trust anchor at or
	// above n, and not above the trust anchor, has switched validation off (RFC
	// 7646); else nil.
	Negative(n wire.Name) *ede.Error
}

// maxLabels is how many labels a name can have (RFC 1035 §3.1).
const maxLabels = 127

// The times of links.
const (
	bogusLink = time.Minute     // a broken one is remembered for, as Unbound does it
	agedLink  = 2 * time.Minute // one that is older is established anew before an answer is called bogus by it: its keys may have been rolled without care
)

// errChain is wrapped by the error of what could not be judged because a link
// above it is broken: to ask other servers for it again would be of no use.
var errChain = errors.New("the chain of trust is broken")

// insecureLink is that of names which no trust anchor covers.
var insecureLink = &rrset.Link{Zone: wire.Root, Trust: rrset.Insecure}

// link returns the link of the zone that n is in: the deepest that is proven to
// exist, at n or above it, or the insecure one above which nothing need be
// looked for. Its error, when the chain is broken, wraps errChain.
//
// It goes from the link already known straight to n, and by the names between
// the two only if it must: where the answer comes from another zone than was
// thought.
func (r *Resolver) link(ctx context.Context, n wire.Name, w *work) (*rrset.Link, error) {
	l, err := r.knownLink(ctx, n, w)
	if err != nil {
		return nil, err
	}
	target, stepwise, claimed, doubted := n, false, false, false
	claimant := n             // what is below target, and says that target is a zone
	for range 2 * maxLabels { // each turn goes a label down, or towards the link
		if l.Trust != rrset.Secure || l.Zone == n {
			return l, nil
		}
		step, err := r.linkStep(ctx, l, target, w)
		if err != nil {
			return nil, err
		}
		switch {
		case step.link != nil:
			l, target, claimed = step.link, n, false
			if stepwise && l.Trust == rrset.Secure && l.Zone != n {
				target = n.Tail(l.Zone.Labels() + 1)
			}
		case step.denied && claimed && !doubted: // who said so may have been anybody: it is asked for again, from the link on
			r.forgetClaim(claimant)
			target, claimed, doubted = n, false, true
		case step.denied && claimed:
			return nil, brokenChain(ede.Errorf(ede.Bogus, "%v is said to be a zone by what is below it, and not by %v", target, l.Zone))
		case step.denied && target == n:
			return l, nil
		case step.denied:
			target = n.Tail(target.Labels() + 1)
		case step.signer != "" && step.signer.Labels() < target.Labels():
			target, claimed, claimant = step.signer, true, target
		case !stepwise && target.Labels() > l.Zone.Labels()+1:
			target, stepwise = n.Tail(l.Zone.Labels()+1), true
		default:
			return nil, brokenChain(unsaid(l.Zone, target))
		}
	}
	return nil, brokenChain(ede.Errorf(ede.Bogus, "no way from %v to %v", l.Zone, n))
}

// brokenChain gives err, the reason why a link is broken, its place above what
// was to be judged.
func brokenChain(err error) error {
	e := ede.Of(err)
	return ede.Wrap(errors.Join(errChain, err), e.Code, "%s", e.Text)
}

// knownLink returns the deepest link that is known already, at n or above it;
// that of the trust anchor if it has to be established first.
func (r *Resolver) knownLink(ctx context.Context, n wire.Name, w *work) (*rrset.Link, error) {
	zone, ds, ok := r.opt.Anchors.Closest(n)
	if !ok {
		return insecureLink, nil
	}
	if why := r.opt.Anchors.Negative(n); why != nil {
		return &rrset.Link{Zone: wire.Root, Trust: rrset.Insecure, Err: why}, nil //nolint:nilerr // it is no failure, but what clients are told
	}
	l := r.opt.Memory.Link(n)
	if l == nil || !l.Zone.Within(zone) {
		var err error
		if l, err = r.newLink(ctx, zone, r.enabled(ds), r.opt.Clock.Now().Add(r.opt.TTL.Max), w); err != nil {
			return nil, err
		}
	}
	if l.Trust == rrset.Bogus {
		return nil, brokenChain(l.Err)
	}
	return l, nil
}

// linkStep is what one look at a name below a secure link came to: one of the
// fields says it. None: what came is not signed.
type linkStep struct {
	link   *rrset.Link // the name is a zone
	denied bool        // it is none
	signer wire.Name   // what is said of it is said by this zone, between the two
}

// linkStep looks whether n, a name below the zone of l, which is secure, is a
// zone, and which keys it has: by what was remembered, else by asking for its
// DS set.
func (r *Resolver) linkStep(ctx context.Context, l *rrset.Link, n wire.Name, w *work) (linkStep, error) {
	q := wire.Question{Name: n, Type: wire.TypeDS}
	var step linkStep
	var ds *rrset.Set
	judge := func(rep *reply) (err error) {
		step, ds, err = r.judgeDS(ctx, l, q, rep, w)
		if err == nil && ds == nil && step.undecided() && n.Labels() == l.Zone.Labels()+1 { // nobody is between the two: another server may know
			err = unsaid(l.Zone, n)
		}
		return err
	}
	if !r.recallDS(q, judge) || ds == nil && step.undecided() {
		rep, err := r.fetch(ctx, q, w, judge)
		if err != nil {
			if err = r.doubtLink(l, err); errors.Is(err, errAged) {
				return linkStep{}, err
			}
			return linkStep{}, r.breakLink(n, err)
		}
		if ds != nil || !step.undecided() {
			r.learn(q, rep)
		}
	}
	if ds == nil {
		if step.denied {
			r.forgetCut(n)
		}
		if step.link != nil {
			r.opt.Memory.PutLink(step.link)
			r.forgetDS(n) // the link lives as long
			w.tellLink(step.link)
		}
		return step, nil
	}
	var err error
	step.link, err = r.newLink(ctx, n, r.enabled(rrset.Records[*dns.DS](ds)), ds.Until, w)
	return step, err
}

// unsaid is the error that zone, which is signed, has not proven what n is.
func unsaid(zone, n wire.Name) error {
	return ede.Errorf(ede.RRSIGsMissing, "%v does not say, signed, whether %v is a zone of its own", zone, n)
}

// undecided reports whether s says nothing of the name itself.
func (s linkStep) undecided() bool { return s.link == nil && !s.denied && s.signer == "" }

// recallDS has what is remembered of a DS set judged: what its referral brought
// along, and what was asked for. It reports whether there was anything that
// counts.
func (r *Resolver) recallDS(q wire.Question, judge func(*reply) error) bool {
	if rep, ok := r.referredToDS(q); ok && judge(rep) == nil {
		return true
	}
	if rep, ok := r.recall(q, time.Time{}, rrset.Unchecked); ok {
		return judge(rep) == nil
	}
	rep, ok := r.deduceDS(q)
	return ok && judge(rep) == nil
}

// referredToDS answers q, if it is for a DS set, from what the referral to the
// zone brought along.
func (r *Resolver) referredToDS(q wire.Question) (*reply, bool) {
	if q.Type != wire.TypeDS {
		return nil, false
	}
	cut := r.opt.Memory.Cut(q.Name)
	switch {
	case cut == nil, cut.Zone != q.Name, cut.DS == nil, !cut.DS.Until.After(r.opt.Clock.Now()):
		return nil, false
	case cut.DS.Denial != nil:
		return &reply{Verdict: Negative, Denial: cut.DS.Denial.Sets}, true
	}
	return &reply{Verdict: Positive, Sets: []rrset.Set{*cut.DS}}, true
}

// forgetDS drops the denial of keys that the referral to zone brought along: it
// is large.
func (r *Resolver) forgetDS(zone wire.Name) {
	if cut := r.opt.Memory.Cut(zone); cut != nil && cut.Zone == zone && cut.DS != nil && cut.DS.Denial != nil {
		bare := *cut
		bare.DS = nil
		r.opt.Memory.PutCut(&bare)
	}
}

// forgetClaim forgets the DS set of n, or its denial, if it is not proven. It is
// no part of its caller, which is on the stack many times over.
//
//go:noinline
func (r *Resolver) forgetClaim(n wire.Name) {
	r.opt.Memory.PutSet(rrset.Set{Name: n, Type: wire.TypeDS, Rank: rrset.AuthAnswer, Until: r.opt.Clock.Now()})
}

// forgetCut forgets who the servers of zone are. A referral is not signed: what
// it leads to shows whether it was right, and one that was forged is not believed
// for as long as it says.
//
//go:noinline
func (r *Resolver) forgetCut(zone wire.Name) {
	r.doubtFleet(zone)
	if cut := r.opt.Memory.Cut(zone); cut != nil && cut.Zone == zone {
		r.opt.Memory.PutCut(&rrset.Cut{Zone: zone, Until: r.opt.Clock.Now()})
	}
}

// judgeDS judges rep, an answer to q, which is for a DS set in the zone of l or
// in one between the two. ds is the set, when there is one of use.
func (r *Resolver) judgeDS(ctx context.Context, l *rrset.Link, q wire.Question, rep *reply, w *work) (step linkStep, ds *rrset.Set, err error) {
	sets := rep.Sets
	if len(sets) == 0 {
		sets = rep.Denial
	}
	switch signer := signerOfAny(sets, q); {
	case signer == "":
		return linkStep{}, nil, nil
	case signer != l.Zone && signer.Within(l.Zone):
		return linkStep{signer: signer}, nil, nil
	case signer != l.Zone:
		return linkStep{}, nil, ede.Errorf(ede.Bogus, "%v is signed by %v", q, signer)
	}
	if rep.Verdict == Negative && len(rep.Sets) == 0 {
		step, err = r.judgeNoDS(ctx, l, q, rep, w)
		return step, nil, err
	}
	if len(rep.Sets) == 0 {
		return linkStep{}, nil, nil
	}
	s := rep.Sets[0]
	p, err := r.verify(ctx, &s, l, w)
	if err != nil {
		return linkStep{}, nil, err
	}
	if s.Type != wire.TypeDS { // an alias: there is no cut at its owner, nor below a DNAME record
		if p.Wildcard != "" {
			_, _, err = r.denyCloser(ctx, s.Name, p.Wildcard, rep.Denial, l, w)
		}
		return linkStep{denied: true}, nil, err
	}
	if p.Wildcard != "" {
		return linkStep{}, nil, ede.Errorf(ede.Bogus, "%v is made of a wildcard", q)
	}
	s.Trust, s.Until = p.Trust, r.endOf(s.Until, p)
	rep.Sets = []rrset.Set{s}
	keys := r.enabled(rrset.Records[*dns.DS](&s))
	if ok, why := dnssec.Supported(keys); !ok {
		return linkStep{link: r.insecure(q.Name, s.Until, why)}, nil, nil
	}
	return linkStep{}, &s, nil
}

// judgeNoDS judges the denial of a DS set. What it proves of the zone below, it
// proves without the SOA record, which comes with it for the time that the
// denial is kept: a wrong one is left out.
func (r *Resolver) judgeNoDS(ctx context.Context, l *rrset.Link, q wire.Question, rep *reply, w *work) (linkStep, error) {
	var kind dnssec.DSDenial
	soa, denial := splitSOA(rep.Denial)
	p, proven, err := r.deny(ctx, denial, l, w, func(proofs []rrset.Set) (p dnssec.Proof, err error) {
		kind, p, err = dnssec.DenyDS(q.Name, l.Zone, proofs, &w.budget)
		return p, err
	})
	if err != nil {
		return linkStep{}, err
	}
	if soa, until, _, err := r.proofs(ctx, soa, l, w); err == nil && len(soa) > 0 {
		proven.until = earlier(proven.until, r.endOf(until, p))
		proven.sets = trusted(append(soa, proven.sets...), p.Trust, proven.until)
	}
	rep.Denial = proven.sets
	rep.rests(proven)
	if kind == dnssec.Unsigned {
		return linkStep{link: r.insecure(q.Name, proven.until, p.Note)}, nil
	}
	return linkStep{denied: true}, nil
}

// insecure returns the link of a zone that is proven to be unsigned, or signed
// with what nobody here understands, which is then why.
func (r *Resolver) insecure(zone wire.Name, until time.Time, why *ede.Error) *rrset.Link {
	return reasoned(&rrset.Link{Zone: zone, Trust: rrset.Insecure, Until: until, Since: r.opt.Clock.Now()}, why)
}

// reasoned gives l its reason, if there is one.
func reasoned(l *rrset.Link, why *ede.Error) *rrset.Link {
	if why != nil {
		l.Err = why
	}
	return l
}

// enabled returns those of ds that the operator lets count.
func (r *Resolver) enabled(ds []*dns.DS) []*dns.DS {
	if len(r.opt.DisabledAlgorithms)+len(r.opt.DisabledDigests) == 0 {
		return ds
	}
	return slices.DeleteFunc(slices.Clone(ds), func(d *dns.DS) bool {
		return slices.Contains(r.opt.DisabledAlgorithms, d.Algorithm) || slices.Contains(r.opt.DisabledDigests, d.DigestType)
	})
}

// newLink establishes the link of zone, whose DS set is ds and ends at until:
// it finds the zone's keys.
func (r *Resolver) newLink(ctx context.Context, zone wire.Name, ds []*dns.DS, until time.Time, w *work) (*rrset.Link, error) {
	if ok, why := dnssec.Supported(ds); !ok {
		l := r.insecure(zone, until, why)
		r.opt.Memory.PutLink(l)
		w.tellLink(l)
		return l, nil
	}
	q := keysOf(zone)
	var l *rrset.Link
	judge := func(rep *reply) (err error) {
		l, err = r.judgeKeys(ctx, zone, ds, rep, w)
		return err
	}
	if w.held != nil && w.heldOf == zone {
		held := *w.held // which is judged otherwise too
		if err := judge(&held); err != nil {
			return nil, err // not a broken link yet: other servers are asked
		}
	} else if rep, ok := r.recallKeys(ctx, q, w); !ok || judge(rep) != nil {
		rep, err := r.fetch(ctx, q, w, judge)
		if err != nil {
			return nil, r.breakLink(zone, err)
		}
		r.learn(q, rep)
	}
	l.Until = earlier(l.Until, until)
	r.opt.Memory.PutLink(l)
	w.tellLink(l)
	return l, nil
}

// judgeKeys judges rep, an answer to the question for the keys of zone.
func (r *Resolver) judgeKeys(ctx context.Context, zone wire.Name, ds []*dns.DS, rep *reply, w *work) (*rrset.Link, error) {
	if rep.Verdict != Positive || len(rep.Sets) != 1 || rep.Sets[0].Type != wire.TypeDNSKEY {
		return nil, ede.Errorf(ede.DNSKEYMissing, "%v has a DS set and no keys", zone)
	}
	s := rep.Sets[0]
	var keys []*dns.DNSKEY
	var p dnssec.Proof
	err := r.compute(ctx, zone, w, func() (err error) {
		keys, p, err = dnssec.VerifyKeys(zone, ds, s, r.sigTime(), &w.budget)
		return err
	})
	if err != nil {
		return nil, err
	}
	keys = slices.DeleteFunc(keys, func(k *dns.DNSKEY) bool { return slices.Contains(r.opt.DisabledAlgorithms, k.Algorithm) })
	s.Trust, s.Until = p.Trust, r.endOf(s.Until, p)
	rep.Sets = []rrset.Set{s}
	return reasoned(&rrset.Link{Zone: zone, Trust: p.Trust, Keys: keys, Until: s.Until, Since: r.opt.Clock.Now()}, p.Note), nil
}

// breakLink remembers that the link of zone is broken, if that is what err
// says: that too much was to be done, or that nobody answered, breaks nothing.
func (r *Resolver) breakLink(zone wire.Name, err error) error {
	e := ede.Of(err)
	switch {
	case errors.Is(err, errChain): // further up
		return err
	case !IsBogus(err):
		return ede.Wrap(errors.Join(errChain, err), ede.DNSKEYMissing, "the keys of %v cannot be had: %s", zone, e.Text)
	}
	now := r.opt.Clock.Now()
	r.forgetCut(zone) // when it is tried again, its parent says who its servers are
	r.opt.Memory.PutLink(&rrset.Link{Zone: zone, Trust: rrset.Bogus, Until: now.Add(bogusLink), Since: now, Err: e})
	return brokenChain(err)
}
