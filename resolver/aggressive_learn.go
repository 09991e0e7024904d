package resolver

import (
	"slices"
	"time"

	"github.com/miekg/dns"

	"shirube/dnssec"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// proof is sets that were verified by the keys of one zone, and that deny
// something together.
type proof struct {
	zone  wire.Name
	sets  []rrset.Set // NSEC or NSEC3 sets, and perhaps the SOA set; none was made of a wildcard
	until time.Time   // the end of all

	wildcard wire.Name // the one that instance was made of; "": it was another kind of proof
	instance rrset.Set
}

// rests notes that rep rests on p.
func (rep *reply) rests(p proof) { rep.proofs = append(rep.proofs, p) }

// proven returns the sets of all proofs of rep, each once.
func (rep *reply) proven() []rrset.Set {
	var sets []rrset.Set
	for _, p := range rep.proofs {
		for _, s := range p.sets {
			i := slices.IndexFunc(sets, func(have rrset.Set) bool { return have.Name == s.Name && have.Type == s.Type })
			if i < 0 {
				sets = append(sets, s)
				continue
			}
			sets[i].Trust, sets[i].Until = min(sets[i].Trust, s.Trust), earlier(sets[i].Until, s.Until)
		}
	}
	return sets
}

// learnProofs remembers what the secure denials of rep say about other names, and
// the wildcards that its sets were made of.
func (r *Resolver) learnProofs(rep *reply) {
	if !r.opt.AggressiveNSEC {
		return
	}
	for i := range rep.proofs {
		p := &rep.proofs[i]
		if slices.ContainsFunc(p.sets, func(s rrset.Set) bool { return s.Trust != rrset.Secure }) { // RFC 8198 §5.2: opt-out
			continue
		}
		if r.ofUse(p) {
			r.opt.Memory.PutDenials(p.zone, r.capped(p.sets))
		}
		if p.wildcard != "" {
			r.learnWildcard(p)
		}
	}
}

// capped returns sets, which are to be remembered no longer than denials are:
// the proof of a wildcard's answer comes without the SOA record that would say
// how long (RFC 8198 §5.4).
func (r *Resolver) capped(sets []rrset.Set) []rrset.Set {
	most := r.opt.Clock.Now().Add(r.opt.TTL.MaxNegative)
	sets = slices.Clone(sets)
	for i := range sets {
		sets[i].Until = earlier(sets[i].Until, most)
	}
	return sets
}

// minHitShare is the part of all names, one in so many, that one of the NSEC3
// records of a proof has to span, so that they are remembered (PowerDNS's
// aggressive-cache-min-nsec3-hit-ratio). In a large zone each denies next to
// nothing, and those made up for one question deny nothing else (RFC 7129
// appendix B).
const minHitShare = 2000

// ofUse reports whether p may well say something about the names that will be
// asked for. One wide span is enough: what proves the closest encloser matches
// it, and may be as narrow as chance has it.
func (r *Resolver) ofUse(p *proof) bool {
	for i := range p.sets {
		s := &p.sets[i]
		if len(s.RRs) != 1 {
			continue
		}
		switch rr := s.RRs[0].(type) {
		case *dns.NSEC:
			next, err := wire.ParseName(rr.NextDomain)
			if err == nil && next != "\x01\x00"+s.Name { // RFC 9824 §3.1, RFC 4470 §4: no name is between the two
				return true
			}
		case *dns.NSEC3:
			span, ok := dnssec.ParseHashSpan(rr, s.Name, p.zone)
			if ok && int(rr.Iterations) <= r.iterations() && width(&span) > ^uint64(0)/minHitShare {
				return true
			}
		}
	}
	return false
}

// width returns how many of 2⁶⁴ hashes, about, s spans.
func width(s *dnssec.HashSpan) uint64 {
	w := leading(s.Next) - leading(s.Hash) // modulo 2⁶⁴: the last span of a chain goes on at its beginning
	if s.Next == s.Hash {
		return ^uint64(0) // the only one spans all
	}
	return w
}

// leading returns the first 64 bits of hash.
func leading(hash [dnssec.HashLen]byte) (n uint64) {
	for _, c := range hash[:8] {
		n = n<<8 | uint64(c)
	}
	return n
}

// learnWildcard remembers the wildcard's set that p.instance was made of: it is
// what the signature is about (RFC 4035 §5.3.2).
func (r *Resolver) learnWildcard(p *proof) {
	s := p.instance
	labels := p.wildcard.Labels() - 1
	s.RRs, s.Sigs = slices.Clone(s.RRs), slices.Clone(s.Sigs)
	s.Sigs = slices.DeleteFunc(s.Sigs, func(sig *dns.RRSIG) bool { return int(sig.Labels) != labels })
	for i := range s.RRs {
		s.RRs[i] = dns.Copy(s.RRs[i])
	}
	for i := range s.Sigs {
		sig := *s.Sigs[i]
		s.Sigs[i] = &sig
	}
	respell(&s, p.wildcard)
	r.opt.Memory.PutSet(s)
}
