package resolver

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"time"

	"shirube/dnssec"
	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// maxElsewhere is how many other servers are asked when what one said is
// bogus: it may be the only one that is wrong (RFC 4035 §5.5 leaves it open).
const maxElsewhere = 2

// validates reports whether what is found now for w has to be proven: the
// answer, not what is looked up on the way to it. An address that somebody made
// up leads to a server whose answers prove nothing.
func (r *Resolver) validates(w *work) bool {
	return r.opt.Anchors != nil && !w.cd && len(w.path) == w.within+1
}

// least returns the trust that remembered data must have to be of use now.
func (r *Resolver) least(w *work) rrset.Trust {
	if r.validates(w) {
		return rrset.Insecure
	}
	return rrset.Unchecked
}

// find asks for q, and proves what comes if it has to be.
func (r *Resolver) find(ctx context.Context, q wire.Question, w *work) (*reply, error) {
	if !r.validates(w) {
		return r.descend(ctx, q, w)
	}
	check := func(rep *reply) error { return r.validate(ctx, q, rep, w) }
	if rep, ok := r.referredToDS(q); ok && rep.Verdict == Positive && check(rep) == nil {
		return rep, nil
	}
	rep, err := r.proven(ctx, q, w, check)
	if rep == nil { // nothing came
		r.stats.judged(rrset.Unchecked, err)
		return nil, err
	}
	r.stats.judged(rep.trust(), err)
	if IsBogus(err) && r.opt.Permissive && rep.Verdict != Lame {
		end := r.opt.Clock.Now().Add(r.opt.TTL.Max)
		rep.Sets, rep.Denial = trusted(rep.Sets, rrset.Bogus, end), trusted(rep.Denial, rrset.Bogus, end)
		rep.note(ede.Of(err))
		return rep, nil
	}
	return rep, err
}

// fetch asks for q, which is needed to prove something else.
func (r *Resolver) fetch(ctx context.Context, q wire.Question, w *work, check func(*reply) error) (*reply, error) {
	if err := w.enter(q); err != nil {
		return nil, err
	}
	defer w.leave()
	return r.proven(ctx, q, w, check)
}

// proven asks for q until what comes passes check, of different servers, or twice
// of the only one, and as often as is worth it. Its error is the first that check
// has to say, if there is one; the reply is then the one it is about.
func (r *Resolver) proven(ctx context.Context, q wire.Question, w *work, check func(*reply) error) (*reply, error) {
	avoid, direct := w.avoid, w.direct
	defer func() { w.avoid, w.direct = avoid, direct }()
	w.avoid, w.direct = nil, false
	var first *reply
	var bogus error
	again := false
	for {
		rep, err := r.takeEarly(ctx, q, w)
		if rep == nil && err == nil {
			rep, err = r.descend(ctx, q, w)
		}
		switch {
		case err != nil && len(w.avoid) == 1 && !again && ctx.Err() == nil && !w.spent():
			// Nobody else is there. What came may have been forged on its way, by
			// who is lucky once and not twice.
			w.avoid, again = nil, true
			continue
		case err != nil && bogus != nil:
			return first, bogus
		case err != nil:
			return nil, err
		}
		unjudged := new(reply)
		*unjudged = *rep
		if err = check(rep); errors.Is(err, errAged) {
			rep = unjudged
			err = check(rep)
		}
		if err == nil {
			return rep, nil
		}
		if bogus == nil {
			first, bogus = rep, err
		}
		switch {
		case !IsBogus(err) || errors.Is(err, errChain):
			return first, bogus
		case rep.from.IsValid() && len(w.avoid) < maxElsewhere:
			w.avoid = append(w.avoid, rep.from.Addr())
		case !rep.from.IsValid() && !w.direct: // RFC 8806 §2: the copy must not be worse than the root
			w.direct = true
		default:
			return first, bogus
		}
	}
}

// IsBogus reports whether err is the verdict that data is bogus (RFC 4035
// §4.3), or that a link above it is.
func IsBogus(err error) bool {
	e, ok := errors.AsType[*ede.Error](err)
	if !ok || errors.Is(err, dnssec.ErrBudget) {
		return false
	}
	switch e.Code {
	case ede.Indeterminate, ede.Bogus, ede.SignatureExpired, ede.SignatureNotYetValid, ede.DNSKEYMissing, ede.RRSIGsMissing,
		ede.NoZoneKeyBitSet, ede.NSECMissing, ede.SignatureExpiredBeforeValid, ede.UnsupportedDNSKEYAlgorithm, ede.UnsupportedDSDigest:
		return true
	}
	return false
}

// validate decides whether rep is a proven answer to q, and sets the trust and
// the end of its sets. The error says why it is none.
func (r *Resolver) validate(ctx context.Context, q wire.Question, rep *reply, w *work) error {
	rep.Sets, rep.Denial = slices.Clone(rep.Sets), slices.Clone(rep.Denial) // others may look at the same
	if q.Type == wire.TypeDNSKEY && rep.Verdict == Positive && len(rep.Sets) == 1 {
		w.held, w.heldOf = rep, q.Name // what proves it is itself
		defer func() { w.held = nil }()
	}
	if q.Type == wire.TypeRRSIG && rep.Verdict == Positive {
		return nil // signatures are not signed (RFC 4035 §2.2): it stays unchecked
	}
	denied := q.Name
	for i := range rep.Sets {
		s := &rep.Sets[i]
		if made := rep.madeOf(i); made != nil {
			s.Trust, s.Until = made.Trust, made.Until
		} else if err := r.validateSet(ctx, s, rep, w); err != nil {
			return rep.cutOff(i, err)
		}
		if target, ok := aliasTarget(*s); ok {
			denied = target
		}
	}
	if rep.Verdict != Negative || rep.Rcode == wire.YXDomain { // the DNAME record says it all
		return nil
	}
	err := r.validateDenial(ctx, wire.Question{Name: denied, Type: q.Type}, rep, w)
	return rep.cutOff(len(rep.Sets), err)
}

// cutOff ends the chain of aliases of rep before the set at index i, of which
// err says that it is bogus: who has the aliases need not have what they lead
// to, and it is asked for where it belongs.
func (rep *reply) cutOff(i int, err error) error {
	if !IsBogus(err) || i == 0 {
		return err
	}
	target, ok := aliasTarget(rep.Sets[i-1])
	if !ok {
		return err
	}
	rep.Verdict, rep.Rcode, rep.Target, rep.Sets = Alias, wire.NoError, target, rep.Sets[:i]
	rep.Denial = rep.proven()
	return nil
}

// madeOf returns the DNAME set that the set at index i was made of (RFC 6672
// §5.3.1: it is not signed itself), or nil.
func (rep *reply) madeOf(i int) *rrset.Set {
	if i > 0 && rep.Sets[i].Type == wire.TypeCNAME && len(rep.Sets[i].Sigs) == 0 && rep.Sets[i-1].Type == wire.TypeDNAME {
		return &rep.Sets[i-1]
	}
	return nil
}

// validateSet validates one set of rep.
func (r *Resolver) validateSet(ctx context.Context, s *rrset.Set, rep *reply, w *work) error {
	signer := signerOf(s)
	l, err := r.linkFor(ctx, s.Name, s.Type, signer, rep.zone, w)
	switch {
	case err != nil:
		return err
	case l.Trust != rrset.Secure:
		s.Trust = rrset.Insecure
		rep.note(l.Err)
		return nil
	case signer == "":
		return r.doubtLink(l, ede.Errorf(ede.RRSIGsMissing, "%v %v is not signed, and %v is", s.Name, s.Type, l.Zone))
	case l.Zone != signer:
		return r.doubtLink(l, ede.Errorf(ede.Bogus, "%v %v is signed by %v, which is no zone", s.Name, s.Type, signer))
	}
	p, err := r.verify(ctx, s, l, w)
	if err != nil {
		return r.doubtLink(l, err)
	}
	s.Trust, s.Until = p.Trust, r.endOf(s.Until, p)
	rep.note(p.Note)
	if p.Wildcard == "" {
		return nil
	}
	wildcard := p.Wildcard
	p, proven, err := r.denyCloser(ctx, s.Name, wildcard, rep.Denial, l, w)
	if err != nil {
		return unproven(err, rep.Denial)
	}
	proven.wildcard, proven.instance = wildcard, *s
	s.Trust, s.Until = min(s.Trust, p.Trust), earlier(s.Until, proven.until)
	proven.sets = trusted(proven.sets, s.Trust, s.Until)
	rep.rests(proven)
	if rep.Verdict != Negative { // else what it proves has still to be seen
		rep.Denial = rep.proven()
	}
	rep.note(p.Note)
	return nil
}

// validateDenial validates the denial of q in rep.
func (r *Resolver) validateDenial(ctx context.Context, q wire.Question, rep *reply, w *work) error {
	signer := signerOfAny(rep.Denial, q)
	l, err := r.linkFor(ctx, q.Name, q.Type, signer, rep.zone, w)
	switch {
	case err != nil:
		return err
	case l.Trust != rrset.Secure:
		rep.note(l.Err)
		for i := range rep.Denial {
			rep.Denial[i].Trust = rrset.Insecure
		}
		return nil
	case signer == "":
		code := ede.Bogus // nothing came, signed or not
		if len(rep.Denial) > 0 {
			code = ede.RRSIGsMissing
		}
		return r.doubtLink(l, ede.Errorf(code, "the denial of %v is not signed, and %v is", q, l.Zone))
	case l.Zone != signer:
		return r.doubtLink(l, ede.Errorf(ede.Bogus, "the denial of %v is signed by %v, which is no zone", q, signer))
	}
	p, proven, err := r.deny(ctx, rep.Denial, l, w, func(proofs []rrset.Set) (dnssec.Proof, error) {
		if rep.Rcode == wire.NXDomain {
			return dnssec.DenyName(q.Name, l.Zone, proofs, &w.budget)
		}
		return dnssec.DenyType(q, l.Zone, proofs, &w.budget)
	})
	if IsBogus(err) && rep.Rcode == wire.NXDomain {
		// A name without this type, and a server that says it does not exist:
		// what is proven counts, as in Unbound.
		var nodata error
		if p, proven, nodata = r.deny(ctx, rep.Denial, l, w, func(proofs []rrset.Set) (dnssec.Proof, error) {
			return dnssec.DenyType(q, l.Zone, proofs, &w.budget)
		}); nodata == nil {
			rep.Rcode, err = wire.NoError, nil
		}
	}
	if err != nil {
		return unproven(r.doubtLink(l, err), rep.Denial)
	}
	rep.rests(proven)
	rep.Denial = rep.proven()
	rep.note(p.Note)
	return nil
}

// denyCloser proves, by the NSEC or NSEC3 records in denial, that n has what
// wildcard has: any name could be given any wildcard's set (RFC 4035 §5.3.4).
func (r *Resolver) denyCloser(ctx context.Context, n, wildcard wire.Name, denial []rrset.Set, l *rrset.Link, w *work) (dnssec.Proof, proof, error) {
	_, denial = splitSOA(denial)
	return r.deny(ctx, denial, l, w, func(proofs []rrset.Set) (dnssec.Proof, error) {
		return dnssec.DenyCloser(n, wildcard, l.Zone, proofs, &w.budget)
	})
}

// unproven gives err, which says that denial proves nothing, the code for it:
// NSEC records that are there are not missing.
func unproven(err error, denial []rrset.Set) error {
	e := ede.Of(err)
	there := slices.ContainsFunc(denial, func(s rrset.Set) bool { return s.Type != wire.TypeSOA })
	if e.Code == ede.NSECMissing && there {
		return ede.Wrap(err, ede.Bogus, "%s", e.Text)
	}
	return err
}

// deny proves a denial, which l's zone has signed, by what prove makes of it.
// If it proves nothing because one of its records is not right, it is that
// which is said. What is right of it has one trust and one end; the rest, which
// anybody may have added, is left out.
func (r *Resolver) deny(ctx context.Context, denial []rrset.Set, l *rrset.Link, w *work,
	prove func([]rrset.Set) (dnssec.Proof, error),
) (p dnssec.Proof, proven proof, err error) {
	right, until, wrong, err := r.proofs(ctx, denial, l, w)
	if err != nil {
		return p, proven, err
	}
	_, proofs := splitSOA(right)
	err = r.compute(ctx, l.Zone, w, func() (err error) {
		p, err = prove(proofs)
		return err
	})
	if IsBogus(err) && wrong != nil {
		err = wrong
	}
	until = r.endOf(until, p)
	return p, proof{zone: l.Zone, sets: trusted(right, p.Trust, until), until: until}, err
}

// linkFor returns the link that data of owner and typ has to be judged by.
// Signed data names its zone itself, unless that is above the trust anchor: what
// is insecure there says nothing of what is below. For unsigned data it is
// looked whether there is an insecure zone somewhere on the way down to it:
// first the one whose servers gave it, then every name below that.
func (r *Resolver) linkFor(ctx context.Context, owner wire.Name, typ wire.Type, signer, zone wire.Name, w *work) (*rrset.Link, error) {
	if parent, ok := owner.Parent(); ok && typ == wire.TypeDS {
		owner = parent
	}
	anchor, _, anchored := r.opt.Anchors.Closest(owner)
	if signer != "" && (!anchored || signer.Within(anchor)) {
		return r.link(ctx, signer, w)
	}
	if zone == "" || !owner.Within(zone) { // of no server, or of one further down
		zone = wire.Root
	}
	if anchored && anchor.Within(zone) { // nothing above it says anything about it
		zone = anchor
	}
	l, err := r.link(ctx, zone, w)
	for labels := zone.Labels() + 1; err == nil && l.Trust == rrset.Secure && labels <= owner.Labels(); labels++ {
		l, err = r.link(ctx, owner.Tail(labels), w)
	}
	return l, err
}

// errAged is wrapped by the error of what was judged by a link that has been
// forgotten since: judged anew, it may be right.
var errAged = errors.New("the keys were not of today")

// doubtLink is on the way when err is about to be said of data because of l. If
// l is not of today, it is forgotten first, and whoever judges again finds the
// zone's new keys, and its servers: referrals are not signed, and the one that led
// here may have been forged.
func (r *Resolver) doubtLink(l *rrset.Link, err error) error {
	now := r.opt.Clock.Now()
	if !IsBogus(err) || now.Sub(l.Since) <= agedLink || l == insecureLink {
		return err
	}
	r.forgetCut(l.Zone)
	r.opt.Memory.PutLink(&rrset.Link{Zone: l.Zone, Until: now})
	r.opt.Memory.PutSet(rrset.Set{Name: l.Zone, Type: wire.TypeDNSKEY, Rank: rrset.AuthAnswer, Trust: rrset.Secure, Until: now})
	e := ede.Of(err)
	return ede.Wrap(errors.Join(errAged, err), e.Code, "%s", e.Text)
}

// verify verifies s, which l's zone has signed.
func (r *Resolver) verify(ctx context.Context, s *rrset.Set, l *rrset.Link, w *work) (p dnssec.Proof, err error) {
	if s.Trust == rrset.Secure { // it was remembered, and no wildcard's is
		return dnssec.Proof{Trust: rrset.Secure}, nil
	}
	err = r.compute(ctx, l.Zone, w, func() (err error) {
		p, err = dnssec.VerifySet(s, l.Zone, l.Keys, r.sigTime(), &w.budget)
		return err
	})
	return p, err
}

// proofs returns the sets of a denial that l's zone has signed, and the end of
// what they say. A record that came from a wildcard denies nothing: its owner is
// not there. The SOA record has to be right too, for the time that the denial
// lasts comes from it. wrong is what is wrong with the first record that is left
// out.
func (r *Resolver) proofs(ctx context.Context, denial []rrset.Set, l *rrset.Link, w *work) (right []rrset.Set, until time.Time, wrong, err error) {
	for i := range denial {
		s := &denial[i]
		if i == 0 {
			until = s.Until
		}
		until = earlier(until, s.Until)
		p, err := r.verify(ctx, s, l, w)
		switch {
		case err != nil && (s.Type == wire.TypeSOA || errors.Is(err, dnssec.ErrBudget)):
			return nil, until, nil, err
		case err != nil && wrong == nil:
			wrong = err
			continue
		case err != nil, p.Wildcard != "":
			continue
		}
		until = r.endOf(until, p)
		right = append(right, *s)
	}
	return right, until, wrong, nil
}

// splitSOA returns the SOA set of sets, if there is one, and the others.
func splitSOA(sets []rrset.Set) (soa, others []rrset.Set) {
	for i := range sets {
		if sets[i].Type == wire.TypeSOA {
			soa = append(soa, sets[i])
		} else {
			others = append(others, sets[i])
		}
	}
	return soa, others
}

// trusted returns sets with one trust and one end.
func trusted(sets []rrset.Set, trust rrset.Trust, until time.Time) []rrset.Set {
	out := slices.Clone(sets)
	for i := range out {
		out[i].Trust, out[i].Until = trust, earlier(out[i].Until, until)
	}
	return out
}

// trust returns the least trust of the sets of rep.
func (rep *reply) trust() rrset.Trust {
	if len(rep.Sets)+len(rep.Denial) == 0 {
		return rrset.Unchecked
	}
	least := rrset.Secure
	for i := range rep.Sets {
		least = min(least, rep.Sets[i].Trust)
	}
	for i := range rep.Denial {
		least = min(least, rep.Denial[i].Trust)
	}
	return least
}

// note keeps what is to be told to clients, the first of it.
func (rep *reply) note(err error) {
	if e, ok := errors.AsType[*ede.Error](err); ok && e != nil && rep.Note == nil {
		rep.Note = e
	}
}

// signerOfAny returns the zone that has signed the first of sets that is
// signed, which say something about q; "" if none is.
func signerOfAny(sets []rrset.Set, q wire.Question) wire.Name {
	for i := range sets {
		if z := signerOf(&sets[i]); z != "" && q.Name.Within(z) && (q.Type != wire.TypeDS || z != q.Name || z == wire.Root) {
			return z
		}
	}
	return ""
}

// signerOf returns the zone that has signed s, as its signatures claim; "" if
// none of them can be of a zone that has the set (RFC 4035 §5.3.1).
func signerOf(s *rrset.Set) wire.Name {
	for _, sig := range s.Sigs {
		z, err := wire.ParseName(sig.SignerName)
		if err == nil && s.Name.Within(z) && (s.Type != wire.TypeDS || z != s.Name) {
			return z
		}
	}
	return ""
}

// endOf returns the earlier end of what was remembered until then and is proven
// by p. The clock of signatures need not be that of memory.
func (r *Resolver) endOf(until time.Time, p dnssec.Proof) time.Time {
	if p.Until.IsZero() {
		return until
	}
	return earlier(until, r.opt.Clock.Now().Add(p.Until.Sub(r.sigTime())))
}

// sigTime returns the time that signatures are held against; zero: none.
func (r *Resolver) sigTime() time.Time {
	switch {
	case r.opt.AnySignatureTime:
		return time.Time{}
	case !r.opt.SignatureTime.IsZero():
		return r.opt.SignatureTime
	}
	return r.opt.Clock.Now()
}

// compute does what takes time on a processor, of what zone has signed, when one
// of the places for that is free. They are as many as there are processors: who wants to answer from
// memory waits for one computation to end, and not for a queue of them.
func (r *Resolver) compute(ctx context.Context, zone wire.Name, w *work, do func() error) error {
	w.proves()
	begun := w.traceTime()
	select {
	case r.crypto <- struct{}{}:
	default: // only now, as it is not for nothing to have ctx wait
		select {
		case r.crypto <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer func() {
		<-r.crypto
		runtime.Gosched() // who is woken by that is not to go before those who read queries
	}()
	err := do()
	r.stats.proved(w)
	w.tellProof(zone, begun, err)
	return err
}
