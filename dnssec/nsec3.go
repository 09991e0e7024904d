package dnssec

import (
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// hashOf returns the hash of name, and pays for it. That of the name in question
// is computed once.
func (d *denial) hashOf(name wire.Name, b *Budget) ([HashLen]byte, error) {
	if d.hashed && name == d.name {
		return d.hash, nil
	}
	if err := b.hash(); err != nil {
		return [HashLen]byte{}, err
	}
	hash := d.params.Hash(name)
	if name == d.name {
		d.hash, d.hashed = hash, true
	}
	return hash, nil
}

// about returns the record that matches name, or else one that covers it; nil
// for those that there is not.
func (d *denial) about(name wire.Name, b *Budget) (match, cover *HashSpan, err error) {
	hash, err := d.hashOf(name, b)
	if err != nil {
		return nil, nil, err
	}
	for i := range d.hashes[:d.nhashes] {
		s := &d.hashes[i]
		if s.Hash == hash {
			if !s.types.of(name, d.zone) {
				return nil, nil, unproven("the NSEC3 record of %s is another zone's, not that of %s", name, d.zone)
			}
			return s, nil, nil
		}
		if s.Covers(hash) && (cover == nil || s.OptOut) { // the one that says less, should there be two
			cover = s
		}
	}
	return nil, cover, nil
}

// enclose proves which the closest encloser of the name in question is (RFC 5155
// §8.3), and returns it with the record that covers the next closer name. It
// walks down from the zone's apex: what is asked for can be long, but what
// exists is short. The walk costs a hash for each label at most.
func (d *denial) enclose(b *Budget) (ce wire.Name, cover *HashSpan, err error) {
	var above *HashSpan // matches the name above
	for labels := d.zone.Labels(); ; labels++ {
		name := d.name.Tail(labels)
		match, cover, err := d.about(name, b)
		switch {
		case err != nil:
			return "", nil, err
		case above != nil && cover != nil:
			ce, _ = name.Parent()
			return ce, cover, nil
		case name == d.name:
			return "", nil, unproven("no NSEC3 records prove the closest encloser of %s", name)
		case match != nil && match.types.ends(): // RFC 5155 §8.3
			return "", nil, unproven("what is below %s is not for %s to deny", name, d.zone)
		}
		above = match
	}
}

// nsec3Name is [DenyName] by NSEC3 records (RFC 5155 §8.4).
func (d *denial) nsec3Name(b *Budget) (Proof, error) {
	match, _, err := d.about(d.name, b)
	if err != nil {
		return Proof{}, err
	}
	if match != nil {
		if match.types.nxname() { // RFC 9824 §5
			return Proof{Trust: rrset.Secure}, nil
		}
		return Proof{}, unproven("%s exists, its NSEC3 record says", d.name)
	}
	ce, closer, err := d.enclose(b)
	if err != nil {
		return Proof{}, err
	}
	_, cover, err := d.about(wildcardAt(ce), b)
	if err != nil {
		return Proof{}, err
	}
	if cover == nil {
		return Proof{}, unproven("no NSEC3 record proves that %s does not exist", wildcardAt(ce))
	}
	return covered(closer, cover), nil
}

// nsec3Type is [DenyType] by NSEC3 records (RFC 5155 §8.5…8.7).
func (d *denial) nsec3Type(t wire.Type, b *Budget) (Proof, error) {
	match, _, err := d.about(d.name, b)
	if err != nil {
		return Proof{}, err
	}
	if match != nil {
		return d.lacks(match.types, t, Proof{Trust: rrset.Secure})
	}
	ce, closer, err := d.enclose(b)
	if err != nil {
		return Proof{}, err
	}
	match, _, err = d.about(wildcardAt(ce), b)
	switch {
	case err != nil:
		return Proof{}, err
	case match != nil: // §8.7
		return d.lacks(match.types, t, covered(closer))
	case closer.OptOut: // §8.6; for other types an empty non-terminal above insecure delegations (erratum 3441)
		return covered(closer), nil
	}
	return Proof{}, unproven("no NSEC3 record is about the types of %s or %s", d.name, wildcardAt(ce))
}

// nsec3Closer is [DenyCloser] by NSEC3 records (RFC 5155 §8.8): the wildcard says
// which the closest encloser is.
func (d *denial) nsec3Closer(ce wire.Name, b *Budget) (Proof, error) {
	name := d.name.Tail(ce.Labels() + 1)
	_, cover, err := d.about(name, b)
	if err != nil {
		return Proof{}, err
	}
	if cover == nil {
		return Proof{}, unproven("no NSEC3 record proves that %s does not exist", name)
	}
	return covered(cover), nil
}

// nsec3DS is [DenyDS] by NSEC3 records (RFC 5155 §8.6, §8.9).
func (d *denial) nsec3DS(b *Budget) (DSDenial, Proof, error) {
	match, _, err := d.about(d.name, b)
	if err != nil {
		return 0, Proof{}, err
	}
	if match != nil {
		return d.lacksDS(match.types)
	}
	_, closer, err := d.enclose(b)
	if err != nil {
		return 0, Proof{}, err
	}
	if closer.OptOut {
		return Unsigned, covered(closer), nil
	}
	return NoCut, covered(closer), nil
}

// covered is the proof by records that cover names: with opt-out, there can be
// insecure delegations (RFC 5155 §9.2).
func covered(by ...*HashSpan) Proof {
	for _, s := range by {
		if s.OptOut {
			return Proof{Trust: rrset.Insecure}
		}
	}
	return Proof{Trust: rrset.Secure}
}
