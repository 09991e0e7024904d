package dnssec

import (
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// find returns a span that has something to say about name, and what. Should
// they disagree, as those of different versions of a zone may, the name exists.
func (d *denial) find(name wire.Name) (span *Span, says Standing) {
	for i := range d.spans[:d.nspans] {
		s := &d.spans[i]
		if st := s.Standing(name); st != Unsaid && (says == Unsaid || st < says) {
			span, says = s, st
		}
	}
	return span, says
}

// nsecName is [DenyName] by NSEC records.
func (d *denial) nsecName() (Proof, error) {
	s, st := d.find(d.name)
	if st == Owner && s.types.nxname() { // RFC 9824 §5: NXDOMAIN, proven like NODATA
		return Proof{Trust: rrset.Secure}, nil
	}
	if st != Absent {
		return Proof{}, unproven("no NSEC record proves that %s does not exist", d.name)
	}
	ce := s.Encloser(d.name)
	if _, st := d.find(wildcardAt(ce)); st != Absent {
		return Proof{}, unproven("no NSEC record proves that %s does not exist", wildcardAt(ce))
	}
	return Proof{Trust: rrset.Secure}, nil
}

// nsecType is [DenyType] by NSEC records.
func (d *denial) nsecType(t wire.Type) (Proof, error) {
	s, st := d.find(d.name)
	switch st {
	case Owner:
		return d.lacks(s.types, t, Proof{Trust: rrset.Secure})
	case Empty:
		return Proof{Trust: rrset.Secure}, nil
	case Absent:
		ce := s.Encloser(d.name)
		s, st := d.find(wildcardAt(ce))
		switch st {
		case Owner:
			return d.lacks(s.types, t, Proof{Trust: rrset.Secure})
		case Empty: // RFC 4592 §2.2.2: it exists, so it is the source of synthesis
			return Proof{Trust: rrset.Secure}, nil
		}
		return Proof{}, unproven("no NSEC record is about the types of %s", wildcardAt(ce))
	}
	return Proof{}, unproven("no NSEC record is about the types of %s", d.name)
}

// nsecCloser is [DenyCloser] by NSEC records.
func (d *denial) nsecCloser(ce wire.Name) (Proof, error) {
	s, st := d.find(d.name)
	if st != Absent {
		return Proof{}, unproven("no NSEC record proves that %s does not exist", d.name)
	}
	if closer := s.Encloser(d.name); closer != ce {
		return Proof{}, unproven("%s is the closest encloser of %s, not %s", closer, d.name, ce)
	}
	return Proof{Trust: rrset.Secure}, nil
}

// nsecDS is [DenyDS] by NSEC records. A name that does not exist is no cut
// whether there is a wildcard or not: it would make no delegation (RFC 4592
// §4.2).
func (d *denial) nsecDS() (DSDenial, Proof, error) {
	s, st := d.find(d.name)
	switch st {
	case Owner:
		return d.lacksDS(s.types)
	case Empty, Absent:
		return NoCut, Proof{Trust: rrset.Secure}, nil
	}
	return 0, Proof{}, unproven("no NSEC record is about the DS set of %s", d.name)
}
