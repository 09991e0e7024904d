package resolver

import (
	"errors"
	"sync/atomic"
	"time"

	"shirube/dnssec"
	"shirube/internal/hist"
	"shirube/internal/rrset"
	"shirube/resolver/infra"
)

type counters struct {
	resolutions, failures, queries, lookups, primings, unasked atomic.Uint64
	secure, insecure, bogus, verifications, hashes             atomic.Uint64
	deducedNames, deducedTypes, deducedWildcards, deducedDS    atomic.Uint64
	outOfQueries, outOfBytes, outOfLookups, outOfAliases       atomic.Uint64
	unproven                                                   atomic.Uint64
	fleetCuts, fleetLinks                                      atomic.Uint64

	proving hist.Histogram
}

// ended counts which of its means a client's question has used up.
func (c *counters) ended(w *work) {
	w.mu.Lock()
	defer w.mu.Unlock()
	count := func(n *atomic.Uint64, used bool) {
		if used {
			n.Add(1)
		}
	}
	count(&c.outOfQueries, w.queries+w.lentQueries >= w.limits.Queries)
	count(&c.outOfBytes, w.bytes > w.limits.Bytes)
	count(&c.outOfLookups, w.refused)
	count(&c.outOfAliases, w.aliases >= w.limits.Aliases)
}

// proved counts what a computation has cost w. It is kept out of its caller, where
// the stack is deepest.
//
//go:noinline
func (c *counters) proved(w *work) {
	c.verifications.Add(uint64(w.before.Verifications - w.budget.Verifications))
	c.hashes.Add(uint64(w.before.Hashes - w.budget.Hashes))
	c.proving.Observe(time.Since(w.proving))
}

// judged counts the verdict of one validation.
func (c *counters) judged(trust rrset.Trust, err error) {
	if errors.Is(err, dnssec.ErrBudget) {
		c.unproven.Add(1)
	}
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

	Secure        uint64        // answers that were proven
	Insecure      uint64        // that were proven not to be signed, or need not be
	Bogus         uint64        // refused
	Verifications uint64        // of signatures
	Hashes        uint64        // of NSEC3
	Unproven      uint64        // judgements that ended because of what one question may cost
	Proving       hist.Snapshot // how long it took to prove something, the wait for a processor included

	OutOfQueries uint64 // questions that used up the queries they may cost
	OutOfBytes   uint64 // that received more than they may
	OutOfLookups uint64 // that were denied a look-up of a name server's address
	OutOfAliases uint64 // that used up the aliases they may follow

	DeducedNames     uint64 // answers from proofs about other names (RFC 8198): the name does not exist
	DeducedTypes     uint64 // the type does not
	DeducedWildcards uint64 // made of a wildcard
	DeducedDS        uint64 // on the way to an answer: there is no DS set

	FleetCuts  uint64 // cuts that other servers of the fleet knew
	FleetLinks uint64 // links of the chain of trust that they knew

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

		Unproven: r.stats.unproven.Load(),
		Proving:  r.stats.proving.Snapshot(),

		OutOfQueries: r.stats.outOfQueries.Load(),
		OutOfBytes:   r.stats.outOfBytes.Load(),
		OutOfLookups: r.stats.outOfLookups.Load(),
		OutOfAliases: r.stats.outOfAliases.Load(),

		DeducedNames:     r.stats.deducedNames.Load(),
		DeducedTypes:     r.stats.deducedTypes.Load(),
		DeducedWildcards: r.stats.deducedWildcards.Load(),
		DeducedDS:        r.stats.deducedDS.Load(),

		FleetCuts:  r.stats.fleetCuts.Load(),
		FleetLinks: r.stats.fleetLinks.Load(),

		DeadZones:   r.dead.count(),
		DeadFound:   r.dead.found.Load(),
		DeadSpared:  r.dead.spared.Load(),
		DeadEvicted: r.dead.evicted.Load(),

		ZonesAsked:  zones,
		ShedCrowded: crowded,

		Infra: r.infra.Stats(),
	}
}
