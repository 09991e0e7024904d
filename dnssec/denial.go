package dnssec

import (
	"github.com/miekg/dns"

	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// The functions of this file say what NSEC and NSEC3 records prove not to be.
// They take what the caller has found to be signed by the keys of zone, and by
// no other zone's: a parent's records do not speak for its child, nor a child's
// for its parent. Sets that were expanded from a wildcard are the caller's to
// drop ([Proof.Wildcard]; CVE-2017-15105); those whose signatures' label counts
// give them away are not used either. At most [MaxProofs] records are looked at.
//
// An error is an [*ede.Error] with the code NSECMissing that says what was not
// proven, or wraps [ErrBudget]. Until is left for the caller to find from the
// sets.
//
// NSEC3 records with more iterations, or more salt, than is worth a hash prove
// nothing, and make whatever they are to deny insecure, without one being
// computed (RFC 9276 §3.2). So does opt-out: what it covers may be an insecure
// delegation, or below one (RFC 5155 §6, §9.2).

// DenyName proves that qname does not exist in zone, and that there is no
// wildcard that it would be an instance of: NXDOMAIN (RFC 4035 §5.4, RFC 5155
// §8.4).
func DenyName(qname, zone wire.Name, proofs []rrset.Set, b *Budget) (Proof, error) {
	var d denial
	switch d.read(qname, zone, proofs, b) {
	case byNSEC:
		return d.nsecName()
	case byNSEC3:
		return d.nsec3Name(b)
	case costly:
		return b.tooCostly(), nil
	}
	return Proof{}, d.nothing()
}

// DenyType proves that q.Name exists, by itself, as an empty non-terminal or as
// the instance of a wildcard, and has neither a set of q.Type nor an alias:
// NODATA (RFC 4035 §5.4, RFC 5155 §8.5…8.7). With q.Type ANY it has no sets at
// all. That there is no DS set is proven by the records of the zone above, except
// for the root.
func DenyType(q wire.Question, zone wire.Name, proofs []rrset.Set, b *Budget) (Proof, error) {
	if q.Type == wire.TypeDS && q.Name == zone && zone != wire.Root { // RFC 4035 §5.2: the child does not know
		return Proof{}, unproven("the zone %s cannot deny its own DS set", zone)
	}
	var d denial
	switch d.read(q.Name, zone, proofs, b) {
	case byNSEC:
		return d.nsecType(q.Type)
	case byNSEC3:
		return d.nsec3Type(q.Type, b)
	case costly:
		return b.tooCostly(), nil
	}
	return Proof{}, d.nothing()
}

// DenyCloser proves that nothing in zone matches qname better than wildcard,
// "*.<closest encloser>", from which the answer was made (RFC 4035 §5.3.4, RFC
// 5155 §8.8). A question for the wildcard itself needs no proof.
func DenyCloser(qname, wildcard, zone wire.Name, proofs []rrset.Set, b *Budget) (Proof, error) {
	ce, ok := wildcard.Parent()
	if !ok || wildcard[:2] != asterisk || !ce.Within(zone) || !qname.Within(ce) || qname == ce {
		return Proof{}, unproven("%s is no instance of %s in %s", qname, wildcard, zone)
	}
	if qname == wildcard {
		return Proof{Trust: rrset.Secure}, nil
	}
	var d denial
	switch d.read(qname, zone, proofs, b) {
	case byNSEC:
		return d.nsecCloser(ce)
	case byNSEC3:
		return d.nsec3Closer(ce, b)
	case costly:
		return b.tooCostly(), nil
	}
	return Proof{}, d.nothing()
}

// DSDenial says why there is no DS set.
type DSDenial uint8

// The reasons.
const (
	NoCut    DSDenial = iota + 1 // there is no delegation at the name: it is the zone's own, if it exists
	Unsigned                     // there is one, or with opt-out may be one, without a DS set: what is below is insecure
)

var dsDenials = [...]string{"unproven", "no cut", "unsigned"}

// String returns d in words.
func (d DSDenial) String() string { return dsDenials[d] }

// DenyDS proves that there is no DS set at child, by the word of zone, which is
// above it (RFC 4035 §5.2, RFC 5155 §8.6, §8.9). If the error is nil, what the
// child says is either the zone's own or insecure; a proof that is itself
// insecure comes with [Unsigned] always.
func DenyDS(child, zone wire.Name, proofs []rrset.Set, b *Budget) (DSDenial, Proof, error) {
	if child == zone { // RFC 4035 §5.2: the child does not know
		return 0, Proof{}, unproven("the zone %s cannot deny its own DS set", zone)
	}
	var d denial
	switch d.read(child, zone, proofs, b) {
	case byNSEC:
		return d.nsecDS()
	case byNSEC3:
		return d.nsec3DS(b)
	case costly:
		return Unsigned, b.tooCostly(), nil
	}
	return 0, Proof{}, d.nothing()
}

// denial is the records that one denial has to be proven from. They are all of
// one kind.
type denial struct {
	name wire.Name // whose denial it is
	zone wire.Name

	spans  [MaxProofs]Span // NSEC
	nspans int

	params  Params              // of all NSEC3 records
	hashes  [MaxProofs]HashSpan // NSEC3
	nhashes int
	mixed   bool          // NSEC3 records of different chains: none is of use
	hash    [HashLen]byte // of name, once hashed is set
	hashed  bool
}

// evidence is the kind of records that a denial rests on.
type evidence uint8

const (
	none    evidence = iota
	byNSEC           // of both kinds, NSEC records are the cheaper ones
	byNSEC3          //
	costly           // NSEC3 records that are not worth their hashes
)

// read takes what can be used from proofs, for what is to be proven about name.
func (d *denial) read(name, zone wire.Name, proofs []rrset.Set, b *Budget) evidence {
	d.name, d.zone = name, zone
	if !name.Within(zone) {
		return none
	}
	left := MaxProofs
	for i := range proofs {
		set := &proofs[i]
		if set.Type != wire.TypeNSEC && set.Type != wire.TypeNSEC3 || expanded(set) {
			continue
		}
		for _, rr := range set.RRs {
			if left == 0 {
				break
			}
			left--
			d.add(rr, set.Name)
		}
	}
	switch {
	case d.nspans > 0:
		return byNSEC
	case d.nhashes == 0 || d.mixed: // RFC 5155 §8.2
		return none
	case d.params.Costly(b.iterations()):
		return costly
	}
	return byNSEC3
}

// add takes what rr says, if anything.
func (d *denial) add(rr dns.RR, owner wire.Name) {
	switch rr := rr.(type) {
	case *dns.NSEC:
		if s, ok := ParseSpan(rr, owner, d.zone); ok {
			d.spans[d.nspans] = s
			d.nspans++
		}
	case *dns.NSEC3:
		s, ok := ParseHashSpan(rr, owner, d.zone)
		if !ok {
			return
		}
		if d.nhashes == 0 {
			d.params = s.Params
		}
		d.mixed = d.mixed || s.Params != d.params
		d.hashes[d.nhashes] = s
		d.nhashes++
	}
}

// expanded reports whether set was made of a wildcard: its signature covers
// fewer labels than its owner has (RFC 4035 §5.3.2). A record that was is no
// statement about its owner (CVE-2017-15105).
func expanded(set *rrset.Set) bool {
	for _, sig := range set.Sigs {
		if int(sig.Labels) < signedLabels(set.Name) {
			return true
		}
	}
	return false
}

// wildcardAt returns the wildcard at the closest encloser ce, which is above some
// other name, and so leaves room for one octet more.
func wildcardAt(ce wire.Name) wire.Name { return asterisk + ce }

// lacks returns p if the types of a record that matches the name in question, or
// the wildcard that it is an instance of, say that it has no set of type t.
func (d *denial) lacks(types bitmap, t wire.Type, p Proof) (Proof, error) {
	switch {
	case types.has(t):
		return Proof{}, unproven("there is a set of type %s at %s, its denial says", t, d.name)
	case types.has(wire.TypeCNAME): // RFC 6840 §4.3
		return Proof{}, unproven("there is an alias at %s, its denial says", d.name)
	case t == wire.TypeANY && !types.bare(): // RFC 6840 §4.2
		return Proof{}, unproven("there are records at %s, its denial says", d.name)
	case t != wire.TypeDS && types.delegation(): // RFC 6840 §4.1
		return Proof{}, unproven("%s is where another zone begins, its denial says", d.name)
	}
	return p, nil
}

// lacksDS is lacks for the DS set of a name that is below the zone's apex. It
// says what there is instead.
func (d *denial) lacksDS(types bitmap) (DSDenial, Proof, error) {
	p := Proof{Trust: rrset.Secure}
	switch {
	case types.has(wire.TypeDS):
		return 0, Proof{}, unproven("there is a DS set at %s, its denial says", d.name)
	case types.has(wire.TypeNS): // RFC 6840 §4.4
		return Unsigned, p, nil
	}
	return NoCut, p, nil
}

// nothing returns the error for the want of records.
func (d *denial) nothing() error {
	switch {
	case !d.name.Within(d.zone):
		return unproven("%s is not in %s", d.name, d.zone)
	case d.mixed:
		return unproven("the NSEC3 records about %s have different parameters", d.name)
	}
	return unproven("no NSEC or NSEC3 record of %s about %s", d.zone, d.name)
}

// tooCostly is what NSEC3 records above the limits prove.
func (b *Budget) tooCostly() Proof {
	return Proof{
		Trust: rrset.Insecure,
		Note:  ede.Errorf(ede.UnsupportedNSEC3Iterations, "NSEC3 with more than %d iterations or %d octets of salt", b.iterations(), MaxSalt),
	}
}

func unproven(format string, args ...any) error { return ede.Errorf(ede.NSECMissing, format, args...) }
