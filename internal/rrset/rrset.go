// Package rrset holds RRsets and zone cuts: what the resolver learns, with how
// far it is to be trusted.
package rrset

import (
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// Set is one RRset, or the knowledge that there is none. It is immutable once
// it has been handed on.
type Set struct {
	Name   wire.Name
	Type   wire.Type    // [AnyType] for a name that does not exist
	RRs    []dns.RR     // of class IN; none: the set is denied
	Sigs   []*dns.RRSIG // that cover RRs
	Denial *Denial      // why there are no RRs
	Rank   Rank
	Trust  Trust
	Maimed bool      // addresses that made no sense were dropped from it
	Until  time.Time // when it must be forgotten; the one TTL of all RRs (RFC 2181 §5.2)
}

// Records returns those records of s that are of type T: all of them, if s is
// what it says.
func Records[T dns.RR](s *Set) []T {
	out := make([]T, 0, len(s.RRs))
	for _, rr := range s.RRs {
		if t, ok := rr.(T); ok {
			out = append(out, t)
		}
	}
	return out
}

// AnyType is the Type of the Set that stands for a whole name: NXDOMAIN denies
// every type (RFC 2308 §5). It is no type of any record (RFC 6895 §3.1).
const AnyType wire.Type = 0

// Denial says how a zone denied a set (RFC 2308 §2).
type Denial struct {
	Rcode wire.Rcode // NoError or NXDomain
	Sets  []Set      // the SOA record, and NSEC or NSEC3 records
}

// TTL returns what is left of s at now, in seconds, a begun second counted
// whole: what has just come with a TTL of 300 is handed on with 300.
func (s *Set) TTL(now time.Time) uint32 {
	left := s.Until.Sub(now)
	if left <= 0 {
		return 0
	}
	return uint32((left + time.Second - 1) / time.Second)
}

// Rank orders data by where it came from (RFC 2181 §5.4.1). Data of a lower
// rank never replaces data of a higher one that is still alive.
type Rank uint8

// The ranks, lowest first.
const (
	Additional    Rank = iota + 1 // additional section; glue from a referral
	Authority                     // authority section of a referral
	NonAuthAnswer                 // answer section, AA clear
	AuthAuthority                 // authority section, AA set
	AuthAnswer                    // answer section, AA set
)

// Trust is the verdict of validation (RFC 4035 §4.3), lowest first, so that
// the trust of a chain is the least of its links.
type Trust uint8

// The verdicts.
const (
	Unchecked Trust = iota // nothing was validated
	Bogus
	Indeterminate
	Insecure
	Secure
)

var trustNames = [...]string{"unchecked", "bogus", "indeterminate", "insecure", "secure"}

// String returns the word of RFC 4035 §4.3 for t.
func (t Trust) String() string { return trustNames[t] }

// Cut is a zone cut as its parent describes it: a zone, and who serves it. It
// is learned from the parent only, and lives no longer than the cut above it,
// so a child cannot keep itself alive after its parent has let go (ghost
// domains: Jiang et al., NDSS 2012). It is immutable once it has been handed
// on.
type Cut struct {
	Zone    wire.Name
	Servers []Server
	Until   time.Time // zero: for ever (root hints)
	Since   time.Time // when it was learned; zero: nobody knows

	// DS is what the referral said of the zone's keys: its DS set, or the
	// denial of it; nil: nothing. It is as it came: whoever uses it verifies it.
	DS *Set
}

// Link is one link of the chain of trust: what is proven of the keys of a zone
// (RFC 4035 §5). It is kept apart from the cut, for it holds whoever told it: a
// zone's own servers, a forwarder, or the parent's that has the child's zone
// too and never refers to it. It is immutable once it has been handed on.
type Link struct {
	Zone  wire.Name
	Trust Trust         // Secure; Insecure: nothing at or below Zone is signed for us; Bogus: Err says why
	Keys  []*dns.DNSKEY // with Trust Secure: those that sign the zone
	Until time.Time
	Since time.Time // when it was established

	// Err, an [*ede.Error], is what clients are told of a bogus link, or of an
	// insecure one where there is something to tell.
	Err error
}

// Server is a name server of a cut.
type Server struct {
	Host  wire.Name
	Addrs []netip.Addr // glue from the parent; none: they have to be looked up
}
