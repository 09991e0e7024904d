package metrics

import (
	"maps"
	"slices"
)

// causeNames are the labels of infra.Cause.
var causeNames = [...]string{"timeout", "unreachable", "no_route", "malformed", "lame"}

// familyNames are the labels of the families of addresses.
var familyNames = [...]string{"ipv4", "ipv6"}

// resolverMetrics are of iteration.
func resolverMetrics() []Metric {
	return slices.Concat(questionMetrics(), zoneMetrics(), rootMetrics())
}

func questionMetrics() []Metric {
	return []Metric{
		{
			"shirube_resolutions_total", Counter,
			[]string{"outcome"},
			"Questions resolved, those of the server itself among them: `answered` or `failed`",
			func(s *Snapshot, e *emitter) {
				r := &s.Resolver
				e.count(r.Resolutions-min(r.Resolutions, r.Failures), "answered")
				e.count(r.Failures, "failed")
			},
		},
		{
			"shirube_resolver_queries_total", Counter, nil,
			"Queries that resolutions sent to servers",
			func(s *Snapshot, e *emitter) { e.count(s.Resolver.Queries) },
		},
		{
			"shirube_resolver_lookups_total", Counter, nil,
			"Look-ups of name servers' addresses",
			func(s *Snapshot, e *emitter) { e.count(s.Resolver.Lookups) },
		},
		{
			"shirube_resolver_saved_total", Counter,
			[]string{"by"},
			"Questions that no server was asked: `shared` with another that was being asked, `minimised` ones whose answer was known, `dead` zones, and what proofs about other names say (`name`, `type`, `wildcard`, `ds`; RFC 8198)",
			func(s *Snapshot, e *emitter) {
				r := &s.Resolver
				e.count(r.Shared, "shared")
				e.count(r.Unasked, "minimised")
				e.count(r.DeadSpared, "dead")
				e.count(r.DeducedNames, "name")
				e.count(r.DeducedTypes, "type")
				e.count(r.DeducedWildcards, "wildcard")
				e.count(r.DeducedDS, "ds")
			},
		},
		{
			"shirube_resolver_hedges_total", Counter,
			[]string{"outcome"},
			"Second servers that were to be asked because the first was late: `sent`, `won` (of those sent), `denied` for being too many",
			func(s *Snapshot, e *emitter) {
				e.count(s.Resolver.Hedged, "sent")
				e.count(s.Resolver.HedgesWon, "won")
				e.count(s.Resolver.HedgesDenied, "denied")
			},
		},
		{
			"shirube_root_primings_total", Counter, nil,
			"Times that the root was asked for its servers, with success",
			func(s *Snapshot, e *emitter) { e.count(s.Resolver.Primings) },
		},
	}
}

func zoneMetrics() []Metric {
	return []Metric{
		{
			"shirube_zones_asked", Gauge, nil,
			"Zones whose servers some question waits for",
			func(s *Snapshot, e *emitter) { e.add(float64(s.Resolver.ZonesAsked)) },
		},
		{
			"shirube_dead_zones", Gauge, nil,
			"Zones none of whose servers answers",
			func(s *Snapshot, e *emitter) { e.add(float64(s.Resolver.DeadZones)) },
		},
		{
			"shirube_dead_zones_found_total", Counter, nil,
			"Times that a zone was found to be so",
			func(s *Snapshot, e *emitter) { e.count(s.Resolver.DeadFound) },
		},
		{
			"shirube_servers_known", Gauge, nil,
			"Addresses of name servers that something is known of, for each zone apart",
			func(s *Snapshot, e *emitter) { e.add(float64(s.Resolver.Infra.Servers)) },
		},
		{
			"shirube_server_failures_total", Counter,
			[]string{"cause"},
			"Questions that a server did not answer usefully",
			func(s *Snapshot, e *emitter) {
				for i, n := range s.Resolver.Infra.Failures {
					e.count(n, causeNames[i])
				}
			},
		},
		{
			"shirube_servers_late_total", Counter, nil,
			"Servers that another one overtook",
			func(s *Snapshot, e *emitter) { e.count(s.Resolver.Infra.Late) },
		},
		{
			"shirube_family_out_total", Counter,
			[]string{"family"},
			"Times that servers of a family of addresses were put last because it seems not to work",
			func(s *Snapshot, e *emitter) {
				for i, n := range s.Resolver.Infra.FamilyOut {
					e.count(n, familyNames[i])
				}
			},
		},
	}
}

// rootMetrics are of the local copy of the root zone, if there is one.
func rootMetrics() []Metric {
	return []Metric{
		{
			"shirube_local_root_serial", Gauge, nil,
			"Serial of the copy of the root zone in use; 0: none that can be used. Only with local_root",
			func(s *Snapshot, e *emitter) {
				if s.LocalRoot != nil {
					e.add(float64(s.LocalRoot.Serial))
				}
			},
		},
		{
			"shirube_local_root_events_total", Counter,
			[]string{"event"},
			"What was done with the copy of the root zone: questions that it `answered`, or could not (`absent`); the file `loaded`; zones `transferred`; servers that `confirmed` it; `failed` tries to get a good one. Only with local_root",
			func(s *Snapshot, e *emitter) {
				if r := s.LocalRoot; r != nil {
					e.count(r.Answers, "answered")
					e.count(r.Absent, "absent")
					e.count(r.Loads, "loaded")
					e.count(r.Transfers, "transferred")
					e.count(r.Checks, "confirmed")
					e.count(r.Failures, "failed")
				}
			},
		},
	}
}

// dnssecMetrics are of validation.
func dnssecMetrics() []Metric {
	return []Metric{
		{
			"shirube_dnssec_verdicts_total", Counter,
			[]string{"verdict"},
			"Answers that were judged: `secure`, proven; `insecure`, proven not to be signed, or not to be validated; `bogus`, refused",
			func(s *Snapshot, e *emitter) {
				e.count(s.Resolver.Secure, "secure")
				e.count(s.Resolver.Insecure, "insecure")
				e.count(s.Resolver.Bogus, "bogus")
			},
		},
		{
			"shirube_dnssec_verifications_total", Counter, nil,
			"Signatures that were verified",
			func(s *Snapshot, e *emitter) { e.count(s.Resolver.Verifications) },
		},
		{
			"shirube_dnssec_hashes_total", Counter, nil,
			"Names that were hashed for NSEC3",
			func(s *Snapshot, e *emitter) { e.count(s.Resolver.Hashes) },
		},
		{
			"shirube_dnssec_budget_exhausted_total", Counter, nil,
			"Answers that were not proven because that would have cost more than one question may: many are an attack",
			func(s *Snapshot, e *emitter) { e.count(s.Resolver.Unproven) },
		},
		{
			"shirube_dnssec_proof_seconds", Histogram, nil,
			"How long a step of a proof took, the wait for one of the few places where it may be computed included",
			func(s *Snapshot, e *emitter) { e.histogram(s.Resolver.Proving) },
		},
		{
			"shirube_trust_anchor_root_keys", Gauge, nil,
			"Keys of the root that are trusted. Only with dnssec.validation",
			func(s *Snapshot, e *emitter) { e.anchors(s, func(a *Anchors) int { return a.Root }) },
		},
		{
			"shirube_trust_anchor_zones", Gauge, nil,
			"Zones with trust anchors. Only with dnssec.validation",
			func(s *Snapshot, e *emitter) { e.anchors(s, func(a *Anchors) int { return a.Zones }) },
		},
		{
			"shirube_trust_anchor_zones_untrusted", Gauge, nil,
			"Of them, those without a key that is trusted: all names there are bogus. Only with dnssec.validation",
			func(s *Snapshot, e *emitter) { e.anchors(s, func(a *Anchors) int { return a.Untrusted }) },
		},
		{
			"shirube_trust_anchor_keys", Gauge,
			[]string{"state"},
			"Keys that were seen of these zones, by their state (RFC 5011 §4.2). Only with dnssec.validation",
			func(s *Snapshot, e *emitter) {
				if s.Anchors == nil {
					return
				}
				for _, state := range slices.Sorted(maps.Keys(s.Anchors.States)) {
					e.add(float64(s.Anchors.States[state]), state)
				}
			},
		},
		{
			"shirube_negative_trust_anchors", Gauge, nil,
			"Names below which nothing is validated for now (RFC 7646). Only with dnssec.validation",
			func(s *Snapshot, e *emitter) { e.anchors(s, func(a *Anchors) int { return a.Negatives }) },
		},
	}
}

// anchors gives one number of the trust anchors, if there are any.
func (e *emitter) anchors(s *Snapshot, of func(*Anchors) int) {
	if s.Anchors != nil {
		e.add(float64(of(s.Anchors)))
	}
}
