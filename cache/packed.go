package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// packedSet is an RRset as it is kept. Its records are in wire format: as Go
// values some take thirty times the memory they came in as (a TXT record of
// empty strings, an NSEC bitmap that is full), which would make the bound on
// memory a fiction, and all of them would be the garbage collector's to follow.
type packedSet struct {
	name   wire.Name
	typ    wire.Type
	rank   rrset.Rank
	trust  rrset.Trust
	denied bool
	maimed bool
	rcode  wire.Rcode // of the denial
	until  time.Time
	life   time.Duration // when it was stored; 0 in a proof
	msg    []byte        // a message: the set as its answer, its signatures as its authority section
	proof  []packedSet   // of the denial
}

// packedOverhead is what a packedSet takes in memory beside its bytes.
const packedOverhead = 120

// Reasons not to keep a set.
var (
	errSet    = errors.New("cache: set is too long")
	errRecord = errors.New("cache: a record does not survive packing")
)

// packSet packs s. Errors: one of its records would not come back the same, or
// all are longer than [MaxAnswer] together: an answer made of them could not be
// kept either.
func packSet(s rrset.Set) (packedSet, error) {
	p := packedSet{name: s.Name, typ: s.Type, rank: s.Rank, trust: s.Trust, maimed: s.Maimed, until: s.Until}
	if p.msg = packCommon(s); p.msg == nil && len(s.RRs)+len(s.Sigs) > 0 {
		// One record alone has nothing to be compressed against.
		m := dns.Msg{Answer: s.RRs, Ns: make([]dns.RR, len(s.Sigs)), Compress: len(s.RRs)+len(s.Sigs) > 1}
		for i, sig := range s.Sigs {
			m.Ns[i] = sig
		}
		msg, err := m.Pack()
		if err != nil {
			return packedSet{}, fmt.Errorf("packing the %v set of %v: %w", s.Type, s.Name, err)
		}
		if !faithful(s) && !survives(s, msg) {
			return packedSet{}, fmt.Errorf("packing the %v set of %v: %w", s.Type, s.Name, errRecord)
		}
		p.msg = append([]byte(nil), msg...) // Pack overestimates what it needs
	}
	if s.Denial != nil {
		p.denied, p.rcode = true, s.Denial.Rcode
		for _, d := range s.Denial.Sets {
			pd, err := packSet(d)
			if err != nil {
				return packedSet{}, err
			}
			p.proof = append(p.proof, pd)
		}
	}
	if p.octets() > MaxAnswer {
		return packedSet{}, errSet
	}
	return p, nil
}

// packCommon packs s if it is what most are: addresses, with signatures or
// without. Else it returns nil. It gives what the library would, for a tenth of
// the time.
func packCommon(s rrset.Set) []byte {
	if s.Type != wire.TypeA && s.Type != wire.TypeAAAA || len(s.RRs) == 0 {
		return nil
	}
	const address, signature = 28, 140 // octets of a record, about
	msg := make([]byte, wire.HeaderLen, wire.HeaderLen+len(s.Name)+len(s.RRs)*address+len(s.Sigs)*signature)
	binary.BigEndian.PutUint16(msg[6:], uint16(len(s.RRs)))
	binary.BigEndian.PutUint16(msg[8:], uint16(len(s.Sigs)))
	owner := string(s.Name)
	var ok bool
	for _, rr := range s.RRs {
		h := rr.Header()
		if msg, ok = rrset.AppendRecord(msg, owner, rr, h.Ttl); !ok || wire.Type(h.Rrtype) != s.Type || !s.Name.Spells(h.Name) {
			return nil
		}
		owner = "\xC0\x0C" // RFC 1035 §4.1.4: a pointer to where the first one is
	}
	for _, sig := range s.Sigs {
		if msg, ok = rrset.AppendRecord(msg, owner, sig, sig.Hdr.Ttl); !ok || !s.Name.Spells(sig.Hdr.Name) {
			return nil
		}
	}
	return msg
}

// survives reports whether msg is read as s again. The library reads records
// that it cannot write (without any data), or writes otherwise than it has read
// them (a URI with a backslash).
func survives(s rrset.Set, msg []byte) bool {
	rrs, sigs, ok := unpackRecords(msg)
	return ok && slices.EqualFunc(rrs, s.RRs, dns.IsDuplicate) &&
		slices.EqualFunc(sigs, s.Sigs, func(a, b *dns.RRSIG) bool { return dns.IsDuplicate(a, b) })
}

// ownName returns p's name in memory that p has, if need be, of its own: that of
// its message, which begins with it.
func (p *packedSet) ownName() wire.Name {
	if first := wire.HeaderLen + len(p.name); len(p.msg) >= first && string(p.msg[wire.HeaderLen:first]) == string(p.name) {
		return wire.Name(unsafe.String(&p.msg[wire.HeaderLen], len(p.name))) // never changed
	}
	return wire.Name(strings.Clone(string(p.name)))
}

// alive reports whether p may still be used at now.
func (p *packedSet) alive(now time.Time) bool { return within(now, p.until, p.life) }

// octets returns the length of all messages in p.
func (p *packedSet) octets() int {
	n := len(p.msg)
	for i := range p.proof {
		n += p.proof[i].octets()
	}
	return n
}

// size returns the bytes that p takes in memory, itself excepted.
func (p *packedSet) size() int64 {
	size := int64(len(p.name) + len(p.name)/8 + 8 + cap(p.msg))
	size += int64(cap(p.proof)-len(p.proof)) * packedOverhead
	for i := range p.proof {
		size += packedOverhead + p.proof[i].size()
	}
	return size
}

// unpack returns the set with records of the caller's own. It reports false if
// the bytes are not what was packed.
func (p *packedSet) unpack() (rrset.Set, bool) {
	s := rrset.Set{Name: p.name, Type: p.typ, Rank: p.rank, Trust: p.trust, Maimed: p.maimed, Until: p.until}
	if len(p.msg) > 0 {
		var ok bool
		if s.RRs, s.Sigs, ok = unpackRecords(p.msg); !ok {
			return rrset.Set{}, false
		}
	}
	if p.denied {
		s.Denial = &rrset.Denial{Rcode: p.rcode}
		for i := range p.proof {
			d, ok := p.proof[i].unpack()
			if !ok {
				return rrset.Set{}, false
			}
			s.Denial.Sets = append(s.Denial.Sets, d)
		}
	}
	return s, true
}

// unpackRecords returns the set and the signatures in msg.
func unpackRecords(msg []byte) (rrs []dns.RR, sigs []*dns.RRSIG, ok bool) {
	m, err := rrset.Unpack(msg)
	if err != nil {
		return nil, nil, false
	}
	for _, rr := range m.Ns {
		sig, ok := rr.(*dns.RRSIG)
		if !ok {
			return nil, nil, false
		}
		sigs = append(sigs, sig)
	}
	return m.Answer, sigs, true
}
