package resolver

import (
	"slices"
	"strings"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// maxProofs bounds the NSEC and NSEC3 sets kept of one response: a proof needs
// at most three (RFC 5155 §7.2), and each costs the validator hashes
// (CVE-2023-50868).
const maxProofs = 8

// denial returns the SOA record that denies name, and the NSEC or NSEC3
// records with it, all with the time that the denial has: nothing of it
// outlives the SOA record or the zone's word on it (RFC 2308 §5, RFC 9077 §3).
// It returns nil when there is none.
func (rd *reading) denial(name wire.Name) []rrset.Set {
	soa, ok := rd.soa(name)
	if !ok {
		return nil
	}
	minimum := clampTTL(soa.RRs[0].(*dns.SOA).Minttl)
	ttl := max(min(minimum, rd.ttls.MaxNegative), min(rd.ttls.Min, rd.ttls.MaxNegative))
	sets := append([]rrset.Set{soa}, rd.proofs()...)
	until := rd.now.Add(ttl)
	for _, s := range sets {
		until = earlier(until, s.Until)
	}
	for i := range sets {
		sets[i].Until = until
	}
	return sets
}

// soa returns the SOA record of a zone that may deny name.
func (rd *reading) soa(name wire.Name) (rrset.Set, bool) {
	for _, rec := range rd.authority {
		if rec.typ != wire.TypeSOA || !name.Within(rec.name) || rd.q.Type == wire.TypeDS && isChild(rec.name, name) {
			continue
		}
		s, ok := rd.set(rd.authority, rec.name, wire.TypeSOA, rd.proofRank())
		if !ok || len(s.RRs) != 1 { // RFC 1035 §5.2: a zone has one
			return rrset.Set{}, false
		}
		_, ok = s.RRs[0].(*dns.SOA)
		return s, ok
	}
	return rrset.Set{}, false
}

// isChild reports whether zone is the child at a cut at name: the parent has
// the DS set (RFC 4035 §2.4). The root has no parent.
func isChild(zone, name wire.Name) bool { return zone == name && name != wire.Root }

// deniedByChild reports whether a DS set is denied by the zone it is about, as
// a server may that has both zones and knows no DNSSEC (RFC 4035 §3.1.4.1).
func (rd *reading) deniedByChild() bool {
	return rd.q.Type == wire.TypeDS && slices.ContainsFunc(rd.authority, func(rec record) bool {
		return rec.typ == wire.TypeSOA && isChild(rec.name, rd.q.Name)
	})
}

// proofRank returns the rank of a denial (RFC 2181 §5.4.1).
func (rd *reading) proofRank() rrset.Rank {
	if rd.aa {
		return rrset.AuthAuthority
	}
	return rrset.Authority
}

// proofs returns the NSEC and NSEC3 sets of the authority section.
func (rd *reading) proofs() []rrset.Set {
	var sets []rrset.Set
	for _, rec := range rd.authority {
		if rec.typ != wire.TypeNSEC && rec.typ != wire.TypeNSEC3 || len(sets) == maxProofs {
			continue
		}
		if slices.ContainsFunc(sets, func(s rrset.Set) bool { return s.Name == rec.name && s.Type == rec.typ }) {
			continue
		}
		if s, ok := rd.set(rd.authority, rec.name, rec.typ, rd.proofRank()); ok {
			sets = append(sets, s)
		}
	}
	return sets
}

// shortProofs is proofs, of what they deny: that is not kept longer than any
// denial, though there is no SOA record to say so (RFC 9077 §3).
func (rd *reading) shortProofs() []rrset.Set {
	sets, most := rd.proofs(), rd.now.Add(rd.ttls.MaxNegative)
	for i := range sets {
		sets[i].Until = earlier(sets[i].Until, most)
	}
	return sets
}

// wildcardProof returns what a client that validates needs besides sets when
// one of them came from a wildcard (RFC 4035 §3.1.3.3).
func (rd *reading) wildcardProof(sets []rrset.Set) []rrset.Set {
	if slices.ContainsFunc(sets, expanded) {
		return rd.proofs()
	}
	return nil
}

// expanded reports whether s came from a wildcard: its signature covers fewer
// labels than its owner has (RFC 4035 §5.3.4), an asterisk of its own not
// counted (RFC 4034 §3.1.3).
func expanded(s rrset.Set) bool {
	labels := s.Name.Labels()
	if strings.HasPrefix(string(s.Name), "\x01*") {
		labels--
	}
	return slices.ContainsFunc(s.Sigs, func(sig *dns.RRSIG) bool { return int(sig.Labels) < labels })
}

// noSOA returns what stands for the SOA record of a denial that came without
// one: it must not be kept (RFC 2308 §5), but for the least time that the
// operator has everything kept for.
func (r *Resolver) noSOA() rrset.Set {
	return rrset.Set{Rank: rrset.Authority, Until: r.opt.Clock.Now().Add(min(r.opt.TTL.Min, r.opt.TTL.MaxNegative))}
}
