package resolver

import (
	"sync/atomic"

	"shirube/resolver/infra"
)

type counters struct {
	resolutions, failures, queries, lookups, primings atomic.Uint64
}

// Stats is a snapshot of what a [Resolver] has done.
type Stats struct {
	Resolutions uint64 // client questions resolved
	Failures    uint64 // of them, without an answer
	Queries     uint64 // sent to servers
	Lookups     uint64 // of name servers' addresses
	Primings    uint64 // of the root, successful
	Infra       infra.Stats
}

// Stats returns a snapshot.
func (r *Resolver) Stats() Stats {
	return Stats{
		Resolutions: r.stats.resolutions.Load(),
		Failures:    r.stats.failures.Load(),
		Queries:     r.stats.queries.Load(),
		Lookups:     r.stats.lookups.Load(),
		Primings:    r.stats.primings.Load(),
		Infra:       r.infra.Stats(),
	}
}
