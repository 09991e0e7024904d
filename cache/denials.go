package cache

import (
	"bytes"
	"encoding/base32"
	"encoding/hex"
	"strings"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// The limits of what is kept of denials.
const (
	maxDenial      = 2 << 10 // octets of one NSEC or NSEC3 set with its signatures
	zoneShare      = 4       // the part of all that one zone may have: one in so many
	maxOutdated    = 64      // records ended by one that says that their owners are not there
	denialZoneSize = 256     // bytes of a zone without its records, and its places in slice and map
)

// PutDenials remembers sets that deny names of zone: NSEC or NSEC3 sets of one
// chain, and perhaps the zone's SOA set. The caller has proven them by the keys
// of zone, and none was made of a wildcard. A set of another chain than what is
// there, or of another salt, takes the place of all: the zone is signed anew. It
// keeps nothing of sets but the SOA set, which must not be changed any more.
func (m *Memory) PutDenials(zone wire.Name, sets []rrset.Set) {
	now := m.clock.Now()
	var soa *rrset.Set
	var links []link
	for i := range sets {
		s := &sets[i]
		switch {
		case !now.Before(s.Until):
		case s.Type == wire.TypeSOA && s.Name == zone:
			soa = s
		default:
			if l, ok := newLink(zone, s, now); ok {
				links = append(links, l)
			}
		}
	}
	if len(links) > 0 {
		m.denials.put(wire.Name(strings.Clone(string(zone))), soa, links, now)
	}
}

// Chain returns the chain of zone that is remembered a part of, and the zone's
// SOA set; that has no records when it is not known. It is shared, and must not
// be changed.
func (m *Memory) Chain(zone wire.Name) (rrset.Chain, rrset.Set, bool) {
	now := m.clock.Now()
	m.denials.mu.RLock()
	defer m.denials.mu.RUnlock()
	z := m.denials.zones[zone]
	if z == nil {
		return rrset.Chain{}, rrset.Set{}, false
	}
	if !within(now, z.soa.Until, z.life) {
		return z.chain, rrset.Set{}, true
	}
	return z.chain, z.soa, true
}

// NSEC returns the live NSEC set of zone at n or, if there is none, the one
// whose owner and next name n is between. Its records are the caller's own.
func (m *Memory) NSEC(zone, n wire.Name) (rrset.Set, bool) {
	var buf [wire.MaxOrderKeyLen]byte
	s, _, ok := m.denials.find(zone, false, wire.AppendOrderKey(buf[:0], n), m.clock.Now())
	return s, ok
}

// NSEC3 returns the live NSEC3 set of zone whose owner is hash, and that it is;
// else the one whose owner and next hash it is between. Its records are the
// caller's own.
func (m *Memory) NSEC3(zone wire.Name, hash [20]byte) (s rrset.Set, match, ok bool) {
	return m.denials.find(zone, true, hash[:], m.clock.Now())
}

// link is one record of a chain.
type link struct {
	chain    rrset.Chain
	from, to []byte // the owner and the next one, as octets in the order of the chain
	until    time.Time
	life     time.Duration // when it was stored
	msg      []byte        // as in packedSet
}

// newLink returns s as a link; false if it is none, or is not to be kept.
func newLink(zone wire.Name, s *rrset.Set, now time.Time) (link, bool) {
	if len(s.RRs) != 1 || !s.Name.Within(zone) {
		return link{}, false
	}
	l := link{until: s.Until, life: s.Until.Sub(now)}
	var ok bool
	switch rr := s.RRs[0].(type) {
	case *dns.NSEC:
		next, err := wire.ParseName(rr.NextDomain)
		if err != nil {
			return link{}, false
		}
		l.from, l.to = wire.AppendOrderKey(nil, s.Name), wire.AppendOrderKey(nil, next)
		ok = next.Within(zone) && (next == zone || bytes.Compare(l.from, l.to) < 0)
	case *dns.NSEC3:
		ok = l.hashed(rr, s.Name)
	}
	if !ok {
		return link{}, false
	}
	p, err := packSet(*s)
	if err != nil || len(p.msg) > maxDenial {
		return link{}, false
	}
	l.msg = p.msg
	return l, true
}

// hashed makes l that of rr at owner.
func (l *link) hashed(rr *dns.NSEC3, owner wire.Name) bool {
	salt, err := hex.DecodeString(strings.TrimPrefix(rr.Salt, "-"))
	if err != nil {
		return false
	}
	l.chain = rrset.Chain{Hashed: true, Iterations: rr.Iterations, Salt: string(salt)}
	digits := strings.ToUpper(string(owner[1 : 1+int(owner[0])]))
	if l.from, err = base32.HexEncoding.DecodeString(digits); err != nil || len(l.from) != 20 {
		return false
	}
	l.to, err = base32.HexEncoding.DecodeString(strings.ToUpper(rr.NextDomain))
	return err == nil && len(l.to) == 20
}

// between reports whether at is behind from and before to; the last link of a
// chain goes on at its beginning, and the only one is both.
func between(from, at, to []byte) bool {
	behind, before := bytes.Compare(from, at) < 0, bytes.Compare(at, to) < 0
	if bytes.Compare(from, to) < 0 {
		return behind && before
	}
	return behind || before && !bytes.Equal(from, at)
}

// DenialStats is a snapshot of what is remembered of denials.
type DenialStats struct {
	StoreStats
	Zones int
}
