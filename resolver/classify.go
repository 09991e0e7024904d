package resolver

import (
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// Verdict is what a response means for the resolution (RFC 1034 §5.3.3, step
// 4).
type Verdict uint8

// The verdicts, by the step that deals with each.
const (
	Lame     Verdict = iota // 4d: this server is of no help
	Positive                // 4a: the data
	Negative                // 4a: there is none
	Referral                // 4b: servers closer to the name
	Alias                   // 4c: the name has another name
)

// reply is a classified response.
type reply struct {
	Verdict Verdict
	Rcode   wire.Rcode
	Sets    []rrset.Set // Positive, Alias and Negative: aliases in order, then the data
	Denial  []rrset.Set // Negative: the SOA record and NSEC records; Positive: what a wildcard needs
	Cut     *rrset.Cut  // Referral
	Target  wire.Name   // Alias
	Why     string      // Lame: the reason, for people

	// Positive, of the zone's own NS set: the addresses that came with it.
	Glue map[wire.Name][]netip.Addr
}

// aliases returns the number of alias steps in r.
func (r *reply) aliases() (n int) {
	for _, s := range r.Sets {
		if s.Type == wire.TypeCNAME {
			n++
		}
	}
	return n
}

func lame(rcode wire.Rcode, why string) reply { return reply{Verdict: Lame, Rcode: rcode, Why: why} }

// reading is one response under the eyes of classify.
type reading struct {
	sections
	q    wire.Question
	cut  *rrset.Cut
	aa   bool
	now  time.Time
	ttls TTLs
}

// classify decides what msg means to q, asked of a server for cut at now. It
// does no I/O and keeps no state, so every odd server ever met is one row of a
// table.
func classify(msg *dns.Msg, q wire.Question, cut *rrset.Cut, now time.Time, ttls TTLs) reply {
	rcode := wire.Rcode(msg.Rcode)
	if rcode != wire.NoError && rcode != wire.NXDomain && rcode != wire.YXDomain {
		return lame(rcode, rcode.String())
	}
	rd := &reading{sections: scrub(msg, cut.Zone), q: q, cut: cut, aa: msg.Authoritative, now: now, ttls: ttls}
	rep := rd.follow()
	switch {
	case rep.Verdict == Positive:
		rep.Denial = rd.wildcardProof(rep.Sets)
		if q == (wire.Question{Name: cut.Zone, Type: wire.TypeNS}) {
			rep.Glue = rd.apexGlue(rep.Sets[0])
		}
		return rep
	case rep.Verdict == Lame:
		return rep
	case rep.Rcode == wire.YXDomain:
		return rep
	case rcode == wire.YXDomain:
		return lame(rcode, "YXDOMAIN without a DNAME record")
	case len(rep.Sets) > 0:
		return rd.endOfChain(rep, rcode)
	}
	return rd.nothing(msg, rcode)
}

// follow walks the aliases of the answer section, as far as they stay in the
// zone. What it does not pass on its way does not exist for it.
func (rd *reading) follow() reply {
	var rep reply
	name := rd.q.Name
	for range maxRecords {
		if s, ok := rd.set(rd.answer, name, rd.q.Type, rd.rank(name)); ok {
			rep.Verdict, rep.Sets = Positive, append(rep.Sets, s)
			return rep
		}
		next, sets, ok := rd.alias(name)
		if !ok {
			return lame(wire.NoError, "malformed alias")
		}
		if sets == nil {
			break
		}
		rep.Sets = append(rep.Sets, sets...)
		if next == "" { // RFC 6672 §2.2
			rep.Verdict, rep.Rcode, rep.Target = Negative, wire.YXDomain, ""
			return rep
		}
		rep.Verdict, rep.Target, name = Alias, next, next
		if rd.q.Type == wire.TypeCNAME { // of a DNAME: the alias is the data
			rep.Verdict = Positive
			return rep
		}
		if !name.Within(rd.cut.Zone) || slices.ContainsFunc(rep.Sets, func(s rrset.Set) bool { return s.Name == name }) {
			break
		}
	}
	if rep.Sets == nil {
		rep.Verdict = Negative // so far
	}
	return rep
}

// alias returns the CNAME record of name, and the DNAME record it comes from
// if it does. No sets: name has no alias here. A DNAME record whose result is
// too long gives no next name.
func (rd *reading) alias(name wire.Name) (next wire.Name, sets []rrset.Set, ok bool) {
	for _, rec := range rd.answer {
		if rec.typ != wire.TypeDNAME || rec.name == name || !name.Within(rec.name) {
			continue
		}
		s, found := rd.set(rd.answer, rec.name, wire.TypeDNAME, rd.rank(name))
		if !found || len(s.RRs) != 1 { // RFC 6672 §2.4: a DNAME record is alone
			return "", nil, false
		}
		next, sets, ok := substitute(name, s)
		return next, sets, ok
	}
	s, found := rd.set(rd.answer, name, wire.TypeCNAME, rd.rank(name))
	if !found {
		return "", nil, true
	}
	next, ok = aliasTarget(s)
	return next, []rrset.Set{s}, ok
}

// rank returns how far data of name in the answer section is to be trusted: it
// is authoritative for the name asked about only (RFC 2181 §5.4.1).
func (rd *reading) rank(name wire.Name) rrset.Rank {
	if rd.aa && name == rd.q.Name {
		return rrset.AuthAnswer
	}
	return rrset.NonAuthAnswer
}

// endOfChain judges a response whose aliases led to no data: they may end in a
// denial by this zone, or go on elsewhere.
func (rd *reading) endOfChain(rep reply, rcode wire.Rcode) reply {
	if rep.Target.Within(rd.cut.Zone) {
		if denial := rd.denial(rep.Target); denial != nil {
			rep.Verdict, rep.Rcode, rep.Denial = Negative, rcode, denial
			return rep
		}
	}
	rep.Verdict, rep.Rcode = Alias, wire.NoError // its rcode is about a name we ask for ourselves
	return rep
}

// nothing judges a response with nothing about the name in its answer section:
// a denial, a referral, or no help at all.
func (rd *reading) nothing(msg *dns.Msg, rcode wire.Rcode) reply {
	denial := rd.denial(rd.q.Name)
	neg := reply{Verdict: Negative, Rcode: rcode, Denial: denial}
	if denial != nil || rcode == wire.NXDomain {
		return neg
	}
	owner, hosts := rd.nameservers()
	switch {
	case owner != "" && owner != rd.cut.Zone && rd.q.Name.Within(owner):
		// A zone's own DS set is its parent's to deny: a referral for it says
		// that the parent's server is not one.
		if rd.q.Type == wire.TypeDS && owner == rd.q.Name {
			return lame(rcode, "referral for a DS question")
		}
		return reply{Verdict: Referral, Cut: rd.referral(owner, hosts)}
	case rd.aa && !msg.RecursionAvailable, rd.aa && len(msg.Ns) == 0:
		return neg // NODATA as old servers say it, without SOA (RFC 2308 §2.2, type 3)
	case owner == rd.cut.Zone:
		return lame(rcode, "referral to itself")
	case len(msg.Ns) > 0:
		return lame(rcode, "referral up or sideways")
	}
	return lame(rcode, "empty answer")
}

// denial returns the SOA record that denies name, and the NSEC or NSEC3
// records with it, all with the TTL that the denial has (RFC 2308 §5, RFC 9077
// §3); nil when there is none.
func (rd *reading) denial(name wire.Name) []rrset.Set {
	var sets []rrset.Set
	for _, rec := range rd.authority {
		if rec.typ == wire.TypeSOA && name.Within(rec.name) {
			if s, ok := rd.set(rd.authority, rec.name, wire.TypeSOA, rrset.AuthAuthority); ok {
				soa := s.RRs[0].(*dns.SOA)
				ttl := min(clampTTL(soa.Hdr.Ttl), clampTTL(soa.Minttl), rd.ttls.MaxNegative)
				s.Until = rd.now.Add(max(ttl, min(rd.ttls.Min, rd.ttls.MaxNegative)))
				sets = append(sets, s)
				break
			}
		}
	}
	if sets == nil {
		return nil
	}
	for _, s := range rd.proofs() {
		s.Until = sets[0].Until
		sets = append(sets, s)
	}
	return sets
}

// proofs returns the NSEC and NSEC3 sets of the authority section.
func (rd *reading) proofs() []rrset.Set {
	var sets []rrset.Set
	for i, rec := range rd.authority {
		if rec.typ != wire.TypeNSEC && rec.typ != wire.TypeNSEC3 {
			continue
		}
		if slices.ContainsFunc(rd.authority[:i], func(r record) bool { return r.name == rec.name && r.typ == rec.typ }) {
			continue // a set already
		}
		if s, ok := rd.set(rd.authority, rec.name, rec.typ, rrset.AuthAuthority); ok {
			sets = append(sets, s)
		}
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
// labels than its owner has (RFC 4035 §5.3.4).
func expanded(s rrset.Set) bool {
	return slices.ContainsFunc(s.Sigs, func(sig *dns.RRSIG) bool { return int(sig.Labels) < s.Name.Labels() })
}

// nameservers returns the zone that the authority section names the servers
// of, and their names. Servers of two zones are servers of none.
func (rd *reading) nameservers() (owner wire.Name, hosts []wire.Name) {
	for _, rec := range rd.authority {
		ns, ok := rec.rr.(*dns.NS)
		if !ok {
			continue
		}
		if owner == "" {
			owner = rec.name
		}
		if owner != rec.name {
			return "", nil
		}
		host, err := wire.ParseName(ns.Ns)
		if err == nil && len(hosts) < maxServers && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return owner, hosts
}

// referral returns the cut that the response refers to. It ends with the first
// of what it rests on, the cut above included.
func (rd *reading) referral(zone wire.Name, hosts []wire.Name) *rrset.Cut {
	cut := &rrset.Cut{Zone: zone, Until: rd.now.Add(rd.leastTTL(rd.authority, func(r record) bool { return r.typ == wire.TypeNS }))}
	for _, host := range hosts {
		cut.Servers = append(cut.Servers, rrset.Server{Host: host, Addrs: rd.glue(host)})
	}
	if len(rd.additional) > 0 {
		used := func(r record) bool {
			return (r.typ == wire.TypeA || r.typ == wire.TypeAAAA) && slices.Contains(hosts, r.name)
		}
		if slices.ContainsFunc(rd.additional, used) {
			cut.Until = earlier(cut.Until, rd.now.Add(rd.leastTTL(rd.additional, used)))
		}
	}
	if !rd.cut.Until.IsZero() {
		cut.Until = earlier(cut.Until, rd.cut.Until)
	}
	return cut
}

// leastTTL returns the smallest TTL of the records that used picks, within the
// bounds on all TTLs.
func (rd *reading) leastTTL(recs []record, used func(record) bool) time.Duration {
	least := rd.ttls.Max
	for _, rec := range recs {
		if used(rec) {
			least = min(least, clampTTL(rec.rr.Header().Ttl))
		}
	}
	return max(least, min(rd.ttls.Min, rd.ttls.Max))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// set returns the RRset of name and typ in recs, with its signatures.
func (rd *reading) set(recs []record, name wire.Name, typ wire.Type, rank rrset.Rank) (rrset.Set, bool) {
	s := rrset.Set{Name: name, Type: typ, Rank: rank}
	owner := ""
	ttl := rd.ttls.Max
	for _, rec := range recs {
		if rec.name != name {
			continue
		}
		sig, isSig := rec.rr.(*dns.RRSIG)
		switch {
		case rec.typ == typ && len(s.RRs) < maxPerSet && !contains(s.RRs, rec.rr):
			s.RRs = append(s.RRs, rec.rr)
		case isSig && wire.Type(sig.TypeCovered) == typ && len(s.Sigs) < maxPerSet:
			s.Sigs = append(s.Sigs, sig)
		default:
			continue
		}
		if owner == "" {
			owner = name.String()
		}
		// One spelling for all, so that names compress against the question,
		// and with it take the client's; one TTL for all (RFC 2181 §5.2).
		rec.rr.Header().Name = owner
		ttl = min(ttl, clampTTL(rec.rr.Header().Ttl))
	}
	s.Until = rd.now.Add(max(ttl, min(rd.ttls.Min, rd.ttls.Max)))
	return s, len(s.RRs) > 0
}

// contains reports whether rr is among rrs already (RFC 2181 §5: duplicates
// are suppressed).
func contains(rrs []dns.RR, rr dns.RR) bool {
	return slices.ContainsFunc(rrs, func(have dns.RR) bool { return dns.IsDuplicate(have, rr) })
}

// clampTTL returns ttl as a duration: with the top bit set it is 0 (RFC 2181
// §8).
func clampTTL(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}
