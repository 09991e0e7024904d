package resolver

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/ede"
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
	Denial  []rrset.Set // Negative: the SOA record and NSEC records, or none; else what a wildcard needs
	Cut     *rrset.Cut  // Referral: strictly below the cut asked, at the name or above it
	Target  wire.Name   // Alias
	Why     string      // Lame: the reason, for people
	NoCache bool        // not to be remembered

	// Lame: what the response means nevertheless, if no server of the zone has
	// a better one; nil when it means nothing.
	Fallback *reply

	// Positive, of the zone's own NS set: the addresses that came with it.
	Glue map[wire.Name][]netip.Addr

	// Positive, of any NS set: the same as sets, for the client's additional
	// section and nothing else.
	Beside []rrset.Set

	Note   *ede.Error // what clients are to be told beside the answer
	proofs []proof    // what of Denial was found to be proven, and secure
	zone   wire.Name  // whose servers said it
	from   netip.AddrPort

	// Positive, Negative and Alias: the zone's own NS set that came along.
	Apex *rrset.Set

	// Positive and Negative, with Options.Full: what else came along; nil: it
	// is not known.
	company *company
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

// said notes who said r: a server of zone.
func (r *reply) said(zone wire.Name, from netip.AddrPort) {
	r.zone, r.from = zone, from
	if r.Fallback != nil {
		r.Fallback.said(zone, from)
	}
}

func lame(rcode wire.Rcode, why string) *reply { return &reply{Verdict: Lame, Rcode: rcode, Why: why} }

// doubtful is lame for a response that may yet mean rep: servers that answer so
// exist, and some zones have no others.
func doubtful(rcode wire.Rcode, why string, rep *reply) *reply {
	return &reply{Verdict: Lame, Rcode: rcode, Why: why, Fallback: rep}
}

// reading is one response under the eyes of classify.
type reading struct {
	sections
	msg       *dns.Msg
	q         wire.Question
	cut       *rrset.Cut
	aa        bool
	recursive bool // from a resolver's cache, not from a zone: RA without AA
	over      bool // a set has more records than are looked at
	maimed    bool // a set is not whole: one of its records makes no sense
	now       time.Time
	ttls      TTLs
}

// classify decides what msg means to q, asked of a server for cut at now. It
// does no I/O and keeps no state, so every odd server ever met is one row of a
// table. It takes over msg: the records of the result are msg's, their owners
// respelled.
func classify(msg *dns.Msg, q wire.Question, cut *rrset.Cut, now time.Time, ttls TTLs) *reply {
	rcode := wire.Rcode(msg.Rcode)
	switch {
	case rcode != wire.NoError && rcode != wire.NXDomain && rcode != wire.YXDomain:
		return lame(rcode, rcode.String())
	case msg.Truncated: // RFC 2181 §9: what is there must not be used
		return lame(rcode, "truncated answer")
	}
	rd := &reading{
		sections: scrub(msg, q.Name, cut.Zone), msg: msg, q: q, cut: cut,
		aa: msg.Authoritative, recursive: msg.RecursionAvailable && !msg.Authoritative,
		now: now, ttls: ttls,
	}
	rep := rd.judge(rcode)
	for _, r := range [...]*reply{rep, rep.Fallback} {
		if r != nil && r.Verdict == Negative && r.Denial == nil { // it may be proven without SOA record, though not kept (RFC 2308 §5)
			r.Denial = rd.shortProofs()
		}
	}
	if rd.over && rep.Verdict != Referral { // an RRset is whole or useless (RFC 2181 §5)
		return lame(rcode, fmt.Sprintf("RRset of more than %d records", maxPerSet))
	}
	if rd.maimed && rep.Verdict != Referral { // alike
		return lame(rcode, "malformed record")
	}
	if rep.Verdict == Positive && q.Type == wire.TypeNS { // now that a set too long costs nothing else
		rep.Beside = rd.beside(rep.Sets[len(rep.Sets)-1])
	}
	if rep.Verdict != Referral && rep.Verdict != Lame {
		rep.Apex = rd.apexSet()
	}
	return rep
}

// judge decides what the sections mean.
func (rd *reading) judge(rcode wire.Rcode) *reply {
	rep := rd.follow()
	switch {
	case rep.Verdict == Lame:
		return rep
	case len(rep.Sets) == 0 && rcode == wire.YXDomain:
		return lame(rcode, "YXDOMAIN without a DNAME record")
	case len(rep.Sets) == 0:
		return rd.nothing(rcode)
	case rep.Verdict == Positive:
		return rd.positive(rep, rcode)
	case rep.Rcode == wire.YXDomain:
		return rep
	}
	return rd.endOfChain(rep, rcode)
}

// positive judges a response with the data in its answer section.
func (rd *reading) positive(rep *reply, rcode wire.Rcode) *reply {
	apex := rd.q == wire.Question{Name: rd.cut.Zone, Type: wire.TypeNS}
	rep.Denial = rd.wildcardProof(rep.Sets)
	switch {
	case rcode == wire.YXDomain: // RFC 6672 §2.2: a DNAME record leads to no name, so to no data. Only who forges says both
		return lame(rcode, "YXDOMAIN with the data")
	case rcode != wire.NoError: // RFC 6604 §3: the rcode is of the last name, which has data
		return doubtful(rcode, rcode.String()+" with the data", rep)
	case apex && len(rep.Sets) > 1: // RFC 2181 §10.1: an alias has no NS set
		return lame(rcode, "alias in place of the zone's NS set")
	case apex:
		rep.Glue = rd.apexGlue(rep.Sets[0])
	case rd.q.Type == wire.TypeNS && !rd.aa && len(rep.Sets) == 1:
		// A parent that puts a delegation into the answer section (RFC 1034
		// §4.2.1: it is not authoritative there). The child has the last word.
		return rd.referral(rd.q.Name, rd.answer)
	}
	return rep
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
func (rd *reading) endOfChain(rep *reply, rcode wire.Rcode) *reply {
	if rcode != wire.YXDomain && !rd.recursive && !rep.owns(rep.Target) {
		if denial := rd.denial(rep.Target); denial != nil {
			rep.Verdict, rep.Rcode, rep.Target, rep.Denial = Negative, rcode, "", denial
			return rep
		}
	}
	rep.Denial = rd.wildcardProof(rep.Sets)
	return rep // its rcode is about a name we ask for ourselves (RFC 6604 §3)
}

// nothing judges a response with nothing about the name in its answer section:
// a denial, a referral, or no help at all.
func (rd *reading) nothing(rcode wire.Rcode) *reply {
	neg := &reply{Verdict: Negative, Rcode: rcode, Denial: rd.denial(rd.q.Name)}
	switch {
	case neg.Denial == nil && rd.deniedByChild():
		return doubtful(neg.Rcode, "the zone's own denial of its DS set", neg)
	case rd.recursive && (neg.Denial != nil || rcode == wire.NXDomain):
		return doubtful(neg.Rcode, "a resolver's answer", neg)
	case neg.Denial != nil:
		return neg
	case rcode == wire.NXDomain && !rd.aa && rd.refers(func(wire.Name) bool { return true }):
		return lame(rcode, "referral with NXDOMAIN")
	case rcode == wire.NXDomain:
		return neg // RFC 2308 §2.1: without SOA it may not be kept
	}
	return rd.unanswered(neg)
}

// unanswered judges a response that has no error, no answer and no denial: a
// referral, else NODATA as some servers say it, which is neg (RFC 2308 §2.2).
func (rd *reading) unanswered(neg *reply) *reply {
	zone := rd.cut.Zone
	owner := rd.delegated()
	switch {
	case owner != "" && owner != zone && rd.q.Name.Within(owner):
		if rd.q.Type == wire.TypeDS && owner == rd.q.Name {
			return rd.referredDS(neg)
		}
		return rd.referral(owner, rd.authority)
	case rd.refers(func(owner wire.Name) bool { return owner != zone && zone.Within(owner) }):
		return lame(neg.Rcode, "referral upwards")
	case rd.aa && len(rd.msg.Answer) > 0:
		return doubtful(neg.Rcode, "answer to another question", neg)
	case rd.aa && len(rd.msg.Ns) == 0: // also what a server says whose zone is not loaded
		return doubtful(neg.Rcode, "empty answer", neg)
	case rd.aa:
		return neg // NODATA without SOA, type 3
	case owner == zone:
		return lame(neg.Rcode, "referral to itself")
	case rd.refers(func(wire.Name) bool { return true }):
		return lame(neg.Rcode, "referral sideways")
	case rd.recursive:
		return doubtful(neg.Rcode, "a resolver's answer", neg)
	}
	return doubtful(neg.Rcode, "empty answer", neg)
}

// earlier returns the earlier of two times.
func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
