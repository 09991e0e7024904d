package resolver

import (
	"sync/atomic"

	"shirube/internal/rrset"
	"shirube/resolver/infra"
)

type counters struct {
	resolutions, failures, queries, lookups, primings, unasked atomic.Uint64
	secure, insecure, bogus, verifications, hashes             atomic.Uint64
	deducedNames, deducedTypes, deducedWildcards, deducedDS    atomic.Uint64
}

// judged counts the verdict of one validation.
func (c *counters) judged(trust rrset.Trust, err error) {
	switch {
	case IsBogus(err):
		c.bogus.Add(1)
	case err != nil:
	case trust == rrset.Secure:
		c.secure.Add(1)
	default:
		c.insecure.Add(1)
	}
}

// Stats is a snapshot of what a [Resolver] has done.
type Stats struct {
	Resolutions uint64 // client questions resolved
	Failures    uint64 // of them, without an answer
	Queries     uint64 // sent to servers
	Lookups     uint64 // of name servers' addresses
	Primings    uint64 // of the root, successful

	Unasked      uint64 // minimised questions whose answer was known
	Shared       uint64 // questions that shared the answer to another one's query
	Hedged       uint64 // queries to a second server because the first was late
	HedgesWon    uint64 // of them, answered before the first was
	HedgesDenied uint64 // not sent, because they would have been too many

	Secure        uint64 // answers that were proven
	Insecure      uint64 // that were proven not to be signed, or need not be
	Bogus         uint64 // refused
	Verifications uint64 // of signatures
	Hashes        uint64 // of NSEC3

	DeducedNames     uint64 // answers from proofs about other names (RFC 8198): the name does not exist
	DeducedTypes     uint64 // the type does not
	DeducedWildcards uint64 // made of a wildcard
	DeducedDS        uint64 // on the way to an answer: there is no DS set

	DeadZones   int    // of which no server answers, now
	DeadFound   uint64 // times that one was found
	DeadSpared  uint64 // questions that were not asked because of it
	DeadEvicted uint64 // forgotten for want of room

	ZonesAsked  int    // whose servers some question waits for, now
	ShedCrowded uint64 // questions turned away because too many wait for the same zone's servers

	Infra infra.Stats
}

// Stats returns a snapshot.
func (r *Resolver) Stats() Stats {
	zones, crowded := r.crowds.Stats()
	return Stats{
		Resolutions: r.stats.resolutions.Load(),
		Failures:    r.stats.failures.Load(),
		Queries:     r.stats.queries.Load(),
		Lookups:     r.stats.lookups.Load(),
		Primings:    r.stats.primings.Load(),

		Unasked:      r.stats.unasked.Load(),
		Shared:       r.flights.shared.Load(),
		Hedged:       r.hedges.sent.Load(),
		HedgesWon:    r.hedges.won.Load(),
		HedgesDenied: r.hedges.denied.Load(),

		Secure:        r.stats.secure.Load(),
		Insecure:      r.stats.insecure.Load(),
		Bogus:         r.stats.bogus.Load(),
		Verifications: r.stats.verifications.Load(),
		Hashes:        r.stats.hashes.Load(),

		DeducedNames:     r.stats.deducedNames.Load(),
		DeducedTypes:     r.stats.deducedTypes.Load(),
		DeducedWildcards: r.stats.deducedWildcards.Load(),
		DeducedDS:        r.stats.deducedDS.Load(),

		DeadZones:   r.dead.count(),
		DeadFound:   r.dead.found.Load(),
		DeadSpared:  r.dead.spared.Load(),
		DeadEvicted: r.dead.evicted.Load(),

		ZonesAsked:  zones,
		ShedCrowded: crowded,

		Infra: r.infra.Stats(),
	}
}
