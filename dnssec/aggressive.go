package dnssec

import (
	"bytes"
	"slices"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// What is here says what one record proves, and is all that a cache of NSEC and
// NSEC3 records needs to find those that deny a name (RFC 8198). Whether they do
// is for [DenyName] and the others to say, from at most three of them. The same
// holds as for those: signatures have been verified, with the keys of the zone,
// and nothing was expanded from a wildcard. A denial that is insecure because of
// opt-out is for the question that it came for only (RFC 8198 §5.2).

// Standing is what an NSEC record says about a name.
type Standing uint8

// The standings.
const (
	Unsaid Standing = iota // nothing
	Owner                  // it is the record's owner, whose types are known
	Empty                  // it is an empty non-terminal: it exists, and has no records
	Absent                 // it does not exist
)

// bitmap is the types that an NSEC or NSEC3 record says its owner has. What was
// unpacked is in order, but nothing here depends on it.
type bitmap []uint16

// has reports whether there is a set of type t.
func (b bitmap) has(t wire.Type) bool { return slices.Contains(b, uint16(t)) }

// delegation reports whether the record is the parent's about a zone cut (RFC
// 6840 §4.1, "ancestor delegation").
func (b bitmap) delegation() bool { return b.has(wire.TypeNS) && !b.has(wire.TypeSOA) }

// ends reports whether what is below the owner is not the zone's to deny: it is
// another zone's, or a DNAME's (RFC 6840 §4.1).
func (b bitmap) ends() bool { return b.delegation() || b.has(wire.TypeDNAME) }

// of reports whether a record about name can be that of zone: not that of the
// zone below, about its apex, or that of the zone above, about its cut (RFC 5155
// §8.9).
func (b bitmap) of(name, zone wire.Name) bool {
	if name == zone {
		return !b.delegation()
	}
	return !b.has(wire.TypeSOA)
}

// bare reports whether there is nothing but what proves that there is nothing:
// an empty non-terminal, or a name that only its denial was made for (RFC 9824
// §3).
func (b bitmap) bare() bool {
	for _, t := range b {
		switch wire.Type(t) {
		case wire.TypeRRSIG, wire.TypeNSEC, typeNXNAME:
		default:
			return false
		}
	}
	return true
}

// nxname reports whether the owner, says its zone, does not exist at all (RFC
// 9824 §3.1).
func (b bitmap) nxname() bool { return b.has(typeNXNAME) && b.bare() }

// typeNXNAME marks names that do not exist (RFC 9824 §3.1). No record is of it.
const typeNXNAME wire.Type = 128

// Span is what an NSEC record says: its owner has these types, and no name
// exists between it and the next one (RFC 4034 §4).
type Span struct {
	Owner wire.Name
	Next  wire.Name // the zone's apex after the last name
	zone  wire.Name
	types bitmap
}

// ParseSpan returns what nsec at owner says. It reports false if it may say
// nothing: a record that reaches out of zone (CVE-2026-13321), that goes
// backwards, or that another zone has made, the one above about its cut or the
// one below about its apex.
func ParseSpan(nsec *dns.NSEC, owner, zone wire.Name) (Span, bool) {
	s := Span{Owner: owner, zone: zone, types: nsec.TypeBitMap}
	if !owner.Within(zone) || !s.types.of(owner, zone) {
		return s, false
	}
	next, err := wire.ParseName(nsec.NextDomain)
	if err != nil || !next.Within(zone) {
		return s, false
	}
	s.Next = next
	return s, next == zone || wire.Compare(owner, next) < 0
}

// Standing returns what s says about name.
func (s *Span) Standing(name wire.Name) Standing {
	switch {
	case !name.Within(s.zone):
		return Unsaid
	case name == s.Owner:
		return Owner
	case name.Within(s.Owner) && s.types.ends(): // RFC 6840 §4.1
		return Unsaid
	case wire.Compare(s.Owner, name) > 0:
		return Unsaid
	case s.Next == s.zone: // RFC 4034 §4.1.1: the last one
		return Absent
	case s.Next == name: // it exists, with what types the next record knows
		return Unsaid
	case s.Next.Within(name): // RFC 4592 §2.2.2
		return Empty
	case wire.Compare(name, s.Next) < 0:
		return Absent
	}
	return Unsaid
}

// Encloser returns the closest encloser of name, which s says is absent: the
// longest name above it that exists (RFC 4592 §3.3.1).
func (s *Span) Encloser(name wire.Name) wire.Name {
	a, b := wire.CommonAncestor(name, s.Owner), wire.CommonAncestor(name, s.Next)
	if len(a) > len(b) {
		return a
	}
	return b
}

// CoversNSEC reports whether nsec, at owner in zone, proves that name does not
// exist. There can still be a wildcard that it is an instance of.
func CoversNSEC(nsec *dns.NSEC, owner, zone, name wire.Name) bool {
	s, ok := ParseSpan(nsec, owner, zone)
	return ok && s.Standing(name) == Absent
}

// HashSpan is what an NSEC3 record says: the name with its hash has these types,
// and no name exists whose hash is between it and the next one (RFC 5155 §3).
type HashSpan struct {
	Hash   [HashLen]byte
	Next   [HashLen]byte
	OptOut bool // but there may be insecure delegations, and empty non-terminals above them (RFC 5155 §6)
	Params Params
	types  bitmap
}

// The NSEC3 flags (RFC 5155 §3.1.2).
const flagOptOut = 1

// ParseHashSpan returns what nsec3 at owner says. It reports false for a record
// that says nothing: one with an unknown algorithm or flag (RFC 5155 §8.1,
// §8.2), or whose owner is no hash right below zone.
func ParseHashSpan(nsec3 *dns.NSEC3, owner, zone wire.Name) (s HashSpan, ok bool) {
	if nsec3.Hash != hashSHA1 || nsec3.Flags&^flagOptOut != 0 {
		return s, false
	}
	if above, ok := owner.Parent(); !ok || above != zone {
		return s, false
	}
	if s.Hash, ok = parseHash(string(owner[1 : 1+int(owner[0])])); !ok {
		return s, false
	}
	if s.Next, ok = parseHash(nsec3.NextDomain); !ok {
		return s, false
	}
	if s.Params, ok = parseParams(nsec3.Iterations, nsec3.Salt); !ok {
		return s, false
	}
	s.OptOut = nsec3.Flags&flagOptOut != 0
	s.types = nsec3.TypeBitMap
	return s, true
}

// Covers reports whether s says that no name hashes to hash, opt-out aside. The
// last span of a chain goes on at its beginning (RFC 5155 §3.1.7); the only one
// of a zone is both.
func (s *HashSpan) Covers(hash [HashLen]byte) bool {
	behind := bytes.Compare(s.Hash[:], hash[:]) < 0
	before := bytes.Compare(hash[:], s.Next[:]) < 0
	if bytes.Compare(s.Hash[:], s.Next[:]) < 0 {
		return behind && before
	}
	return (behind || before) && hash != s.Hash
}
