package resolver

import (
	"hash/maphash"
	"slices"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"shirube/dnssec"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// The aggressive use of what was validated (RFC 8198): an NSEC or NSEC3 record
// that proved one name not to exist proves it of all those beside it, and need
// not be asked for again. A flood of random names below a signed zone then costs
// its servers no more than a few queries.
//
// What is deduced is proven by the same functions of package dnssec that judge
// what servers say, from at most four records that memory finds.

// maxDeducedHashes is how many NSEC3 hashes are computed to find an answer:
// enough for five labels below the zone. More than that, asking is cheaper.
const maxDeducedHashes = 8

// deduced answers q from what was proven about other names, if it is to be
// validated: with CD the answer is wanted as the servers give it (RFC 4035
// §3.2.2), and what only leads to it is not proven.
func (r *Resolver) deduced(q wire.Question, w *work) (*reply, bool) {
	if !r.validates(w) {
		return nil, false
	}
	rep, ok := r.deduce(q)
	if !ok || !rep.outlives(w.outlive()) {
		return nil, false
	}
	switch {
	case len(rep.Sets) > 0:
		r.stats.deducedWildcards.Add(1)
	case rep.Rcode == wire.NXDomain:
		r.stats.deducedNames.Add(1)
	default:
		r.stats.deducedTypes.Add(1)
	}
	r.stats.judged(rrset.Secure, nil)
	rep.NoCache = w.until.IsZero() && !r.worthKeeping(q)
	return rep, true
}

// deduceDS is deduce for what is needed on the way to an answer.
func (r *Resolver) deduceDS(q wire.Question) (*reply, bool) {
	rep, ok := r.deduce(q)
	if ok {
		r.stats.deducedDS.Add(1)
	}
	return rep, ok
}

// outlives reports whether all of rep lives on after until.
func (rep *reply) outlives(until time.Time) bool {
	short := func(s rrset.Set) bool { return !s.Until.After(until) }
	return !slices.ContainsFunc(rep.Sets, short) && !slices.ContainsFunc(rep.Denial, short)
}

// deduction is an answer in the making.
type deduction struct {
	r      *Resolver
	q      wire.Question
	zone   wire.Name // whose word it is
	chain  rrset.Chain
	soa    rrset.Set
	proofs []rrset.Set
	budget dnssec.Budget
}

// deduce answers q from what was proven about other names. All sets of the reply
// are secure.
func (r *Resolver) deduce(q wire.Question) (*reply, bool) {
	d := deduction{r: r, q: q}
	var ok bool
	if d.zone, ok = r.denyingZone(q); !ok {
		return nil, false
	}
	if d.chain, d.soa, ok = r.opt.Memory.Chain(d.zone); !ok {
		return nil, false
	}
	d.budget = dnssec.Budget{Hashes: maxDeducedHashes, Iterations: r.opt.NSEC3Iterations} // who proves computes them again
	if d.chain.Hashed {
		return d.byNSEC3()
	}
	return d.byNSEC()
}

// denyingZone returns the zone whose records deny q: the one that q.Name, or for a DS
// set the name above it, is in, as far as that is known. It is proven to be
// secure, and nobody else has the word on that name: neither the servers of a
// cut further down, which may be younger than the zone's records, nor those that
// are configured.
func (r *Resolver) denyingZone(q wire.Question) (wire.Name, bool) {
	if r.opt.Anchors == nil || !r.opt.AggressiveNSEC {
		return "", false
	}
	n := above(q)
	l := r.opt.Memory.Link(n)
	if l == nil || l.Trust != rrset.Secure || r.opt.Anchors.Negative(n) != nil {
		return "", false
	}
	if anchor, _, ok := r.opt.Anchors.Closest(n); !ok || !l.Zone.Within(anchor) {
		return "", false
	}
	if conf := r.configured(n); conf != nil && !l.Zone.Within(conf.Name) {
		return "", false
	}
	cut := r.opt.Memory.Cut(n)
	return l.Zone, cut == nil || l.Zone.Within(cut.Zone)
}

// byNSEC looks for an answer in NSEC records (RFC 8198 §5.1, §5.3).
func (d *deduction) byNSEC() (*reply, bool) {
	s, span, ok := d.span(d.q.Name)
	if !ok {
		return nil, false
	}
	d.proofs = append(make([]rrset.Set, 0, 2), s)
	switch span.Standing(d.q.Name) {
	case dnssec.Owner, dnssec.Empty:
		return d.noType()
	case dnssec.Absent:
	default:
		return nil, false
	}
	source := wildcardAt(span.Encloser(d.q.Name))
	switch span.Standing(source) {
	case dnssec.Absent:
		return d.noName()
	case dnssec.Owner, dnssec.Empty:
		return d.instanceOr(source, d.noType)
	}
	return d.instanceOr(source, func() (*reply, bool) {
		s, span, ok := d.span(source)
		if !ok {
			return nil, false
		}
		d.proofs = append(d.proofs, s)
		if span.Standing(source) == dnssec.Absent {
			return d.noName()
		}
		return d.noType()
	})
}

// span returns the NSEC set that says something about n.
func (d *deduction) span(n wire.Name) (rrset.Set, dnssec.Span, bool) {
	s, ok := d.r.opt.Memory.NSEC(d.zone, n)
	if !ok || len(s.RRs) != 1 {
		return s, dnssec.Span{}, false
	}
	nsec, ok := s.RRs[0].(*dns.NSEC)
	if !ok {
		return s, dnssec.Span{}, false
	}
	span, ok := dnssec.ParseSpan(nsec, s.Name, d.zone)
	return s, span, ok
}

// wildcardAt returns the wildcard right below ce, which is above some other name,
// and so leaves room for it.
func wildcardAt(ce wire.Name) wire.Name { return "\x01*" + ce }

// byNSEC3 looks for an answer in NSEC3 records (RFC 8198 §5.2, §5.3). It walks
// down from the zone to the first name that does not exist; the last one that
// does is the closest encloser.
func (d *deduction) byNSEC3() (*reply, bool) {
	if d.q.Name.Labels()-d.zone.Labels()+2 > maxDeducedHashes || int(d.chain.Iterations) > d.r.iterations() {
		return nil, false
	}
	var above rrset.Set
	for labels := d.zone.Labels(); labels <= d.q.Name.Labels(); labels++ {
		n := d.q.Name.Tail(labels)
		s, match, ok := d.hashed(n)
		switch {
		case !ok:
			return nil, false
		case match && n == d.q.Name:
			d.proofs = []rrset.Set{s}
			return d.noType()
		case match:
			above = s
			continue
		}
		if len(above.RRs) == 0 {
			return nil, false
		}
		d.proofs = append(make([]rrset.Set, 0, 3), s)
		ce, _ := n.Parent()
		source := wildcardAt(ce)
		return d.instanceOr(source, func() (*reply, bool) {
			s, match, ok := d.hashed(source)
			if !ok {
				return nil, false
			}
			d.proofs = appendNew(append(d.proofs, above), []rrset.Set{s})
			if match {
				return d.noType()
			}
			return d.noName()
		})
	}
	return nil, false
}

// hashed returns the NSEC3 set that says something about n, and whether it is
// that n exists.
func (d *deduction) hashed(n wire.Name) (s rrset.Set, match, ok bool) {
	d.r.stats.hashes.Add(1)
	return d.r.opt.Memory.NSEC3(d.zone, dnssec.HashName(n, []byte(d.chain.Salt), d.chain.Iterations))
}

// iterations returns how many an NSEC3 hash may have at most.
func (r *Resolver) iterations() int {
	if r.opt.NSEC3Iterations == 0 {
		return dnssec.MaxIterations
	}
	return max(0, r.opt.NSEC3Iterations)
}

// noName answers that the name does not exist, if the records prove it.
func (d *deduction) noName() (*reply, bool) {
	p, err := dnssec.DenyName(d.q.Name, d.zone, d.proofs, &d.budget)
	return d.denied(wire.NXDomain, p, err)
}

// noType answers that the name has no set of the type, if the records prove it.
func (d *deduction) noType() (*reply, bool) {
	p, err := dnssec.DenyType(d.q, d.zone, d.proofs, &d.budget)
	return d.denied(wire.NoError, p, err)
}

// denied answers by a proof. What opt-out says nothing about is not denied (RFC
// 8198 §5.2), nor is a delegation that is known and younger than the proof.
func (d *deduction) denied(rcode wire.Rcode, p dnssec.Proof, err error) (*reply, bool) {
	if err != nil || p.Trust != rrset.Secure || len(d.soa.RRs) == 0 || d.cutIsKnown() {
		return nil, false
	}
	sets := append([]rrset.Set{d.soa}, d.proofs...)
	return &reply{Verdict: Negative, Rcode: rcode, Denial: withOneEnd(sets), zone: d.zone}, true
}

// cutIsKnown reports whether the DS set that is denied is that of a zone known to
// exist, and the records say that there is none.
func (d *deduction) cutIsKnown() bool {
	if d.q.Type != wire.TypeDS {
		return false
	}
	cut := d.r.opt.Memory.Cut(d.q.Name)
	if cut == nil || cut.Zone != d.q.Name {
		return false
	}
	kind, _, err := dnssec.DenyDS(d.q.Name, d.zone, d.proofs, &d.budget)
	return err != nil || kind != dnssec.Unsigned
}

// instanceOr answers with what the wildcard source, which is right below the
// closest encloser, has for the name, if that is remembered; else as otherwise
// does.
func (d *deduction) instanceOr(source wire.Name, otherwise func() (*reply, bool)) (*reply, bool) {
	for _, typ := range [...]wire.Type{d.q.Type, wire.TypeCNAME} {
		s, ok := d.r.opt.Memory.Set(source, typ)
		if !ok || s.Trust != rrset.Secure || s.Denial != nil || len(s.RRs) == 0 || !instantiable(d.q.Type) {
			continue
		}
		p, err := dnssec.DenyCloser(d.q.Name, source, d.zone, d.proofs, &d.budget)
		if err != nil || p.Trust != rrset.Secure || !signedBy(&s, d.zone) {
			return nil, false
		}
		return d.instance(s)
	}
	return otherwise()
}

// instantiable reports whether wildcards are expanded to sets of typ here: not to
// what is of one name by its nature, or undefined (RFC 4592 §4).
func instantiable(typ wire.Type) bool {
	switch typ {
	case wire.TypeNS, wire.TypeSOA, wire.TypeDS, wire.TypeDNAME, wire.TypeDNSKEY, wire.TypeNSEC, wire.TypeNSEC3, wire.TypeRRSIG, wire.TypeANY:
		return false
	}
	return true
}

// signedBy reports whether all signatures of s are those of zone.
func signedBy(s *rrset.Set, zone wire.Name) bool {
	return len(s.Sigs) > 0 && !slices.ContainsFunc(s.Sigs, func(sig *dns.RRSIG) bool {
		n, err := wire.ParseName(sig.SignerName)
		return err != nil || n != zone
	})
}

// instance answers with s, a wildcard's set whose records are its own, as the set
// of the name (RFC 4592 §3.3.3).
func (d *deduction) instance(s rrset.Set) (*reply, bool) {
	respell(&s, d.q.Name)
	all := withOneEnd(append([]rrset.Set{s}, d.proofs...))
	rep := &reply{Verdict: Positive, Sets: all[:1:1], Denial: all[1:], zone: d.zone}
	if s.Type == wire.TypeCNAME && d.q.Type != wire.TypeCNAME {
		target, ok := aliasTarget(s)
		if !ok {
			return nil, false
		}
		rep.Verdict, rep.Target = Alias, target
	}
	return rep, true
}

// respell makes s, whose records are its own, a set of owner.
func respell(s *rrset.Set, owner wire.Name) {
	s.Name = owner
	text := owner.String()
	for _, rr := range s.RRs {
		rr.Header().Name = text
	}
	for _, sig := range s.Sigs {
		sig.Hdr.Name = text
	}
}

// withOneEnd gives sets the end of the first of them to end: together they prove
// something, and no longer.
func withOneEnd(sets []rrset.Set) []rrset.Set {
	until := sets[0].Until
	for _, s := range sets[1:] {
		until = earlier(until, s.Until)
	}
	for i := range sets {
		sets[i].Until = until
	}
	return sets
}

// lately is the questions that were answered by deduction a little while ago.
type lately struct {
	seed  maphash.Seed
	slots [1 << 16]atomic.Uint32
}

// worthKeeping reports whether the deduced answer to q is to be kept as if
// servers had given it: if it was made lately. To make it takes some
// microseconds, and the answers to names made up at random, which are asked for
// once, would push out those that took somebody a journey. What is asked for
// again and again belongs where it is answered without being made.
func (r *Resolver) worthKeeping(q wire.Question) bool {
	h := maphash.Comparable(r.lately.seed, q)
	slot := &r.lately.slots[h%uint64(len(r.lately.slots))]
	mark := uint32(h >> 32)
	return slot.Swap(mark) == mark
}
