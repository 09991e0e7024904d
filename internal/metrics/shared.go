package metrics

import (
	"maps"
	"slices"

	"shirube/cache/shared"
)

// sharedMetrics are of the cache that the fleet has in common. The names of its
// servers are those that the operator gave them, and few.
func sharedMetrics() []Metric {
	return append([]Metric{
		{
			"shirube_shared_answers_total", Counter,
			[]string{"kind"},
			"Questions that were not resolved, for another server had: with a `good` answer, with one to `renew` what is about to expire (counted as good, too), with a `failure` a moment ago; and `stale` answers taken for want of better ones",
			func(s *Snapshot, e *emitter) {
				e.count(s.Frontend.Shared.Hits, "good")
				e.count(s.Frontend.Shared.Renewed, "renew")
				e.count(s.Frontend.Shared.Failures, "failure")
				e.count(s.Frontend.Shared.Stale, "stale")
			},
		},
		{
			"shirube_shared_given_total", Counter,
			[]string{"kind"},
			"What was handed to the shared cache: an `answer`, a `failure`; or not, for too many names of its zone do not exist: a `flood`",
			func(s *Snapshot, e *emitter) {
				e.count(s.Frontend.Shared.Set, "answer")
				e.count(s.Frontend.Shared.Failed, "failure")
				e.count(s.Frontend.Shared.Floods, "flood")
			},
		},
		{
			"shirube_shared_saved_queries_total", Counter, nil,
			"Queries to servers that need not be sent, for another server had: as many for each good answer as resolutions took lately, on average",
			func(s *Snapshot, e *emitter) { e.count(s.Frontend.Shared.Saved) },
		},
		{
			"shirube_shared_lookups_total", Counter,
			[]string{"outcome"},
			"Look-ups in the shared cache: a `hit`, a `stale` answer, a `failure` of another server, a `miss`, or `skipped`, its servers being out, or the flushes of the fleet not known",
			func(s *Snapshot, e *emitter) {
				e.count(s.Shared.Hits, "hit")
				e.count(s.Shared.Stale, "stale")
				e.count(s.Shared.Failures, "failure")
				e.count(s.Shared.Misses, "miss")
				e.count(s.Shared.Skipped, "skipped")
			},
		},
		{
			"shirube_shared_rejected_total", Counter,
			[]string{"reason"},
			"Values of the shared cache that were not used. `tag` is forged or damaged",
			func(s *Snapshot, e *emitter) {
				for i, reason := range shared.Reasons() {
					e.count(s.Shared.Rejected[i], reason)
				}
			},
		},
		{
			"shirube_shared_stand_ins_total", Counter, nil,
			"Entries written to another server than their own, which was out",
			func(s *Snapshot, e *emitter) { e.count(s.Shared.StandIns) },
		},
		{
			"shirube_shared_too_large_total", Counter, nil,
			"Entries not written for their size",
			func(s *Snapshot, e *emitter) { e.count(s.Shared.TooLarge) },
		},
		{
			"shirube_shared_skew_seconds", Gauge, nil,
			"The most that the clock of a server that wrote an entry was ahead, in the last five to ten minutes",
			func(s *Snapshot, e *emitter) { e.add(s.Shared.Skew.Seconds()) },
		},
	}, slices.Concat(togetherMetrics(), fleetMetrics(), warmMetrics(), sharedServerMetrics())...)
}

// togetherMetrics are of what the fleet does together.
func togetherMetrics() []Metric {
	return []Metric{
		{
			"shirube_shared_turns_total", Counter,
			[]string{"whose"},
			"Popular questions, and answers to be renewed, that the servers leave to one of them: `ours`, or nobody said otherwise; a question that `waited` for another server; a renewal that was `left` to another",
			func(s *Snapshot, e *emitter) {
				e.count(s.Frontend.Shared.Claimed, "ours")
				e.count(s.Frontend.Shared.Yielded, "waited")
				e.count(s.Frontend.Shared.Left, "left")
			},
		},
		{
			"shirube_shared_leases_total", Counter,
			[]string{"outcome"},
			"Leases asked for: `ours`, `anothers`, or `unheard`, no server having said so in time",
			func(s *Snapshot, e *emitter) {
				e.count(s.Shared.Leased, "ours")
				e.count(s.Shared.Yielded, "anothers")
				e.count(s.Shared.Unheard, "unheard")
			},
		},
		{
			"shirube_shared_waits_total", Counter,
			[]string{"outcome"},
			"Waits for the server that has the lease: `answered`, or `in_vain`: it is slow, or dead, or found nothing",
			func(s *Snapshot, e *emitter) {
				e.count(s.Shared.Awaited, "answered")
				e.count(s.Shared.InVain, "in_vain")
			},
		},
		{
			"shirube_shared_zones_total", Counter,
			[]string{"what"},
			"Cuts, and keys of zones: `told` the fleet, `found` there; of those, `cut` and `keys` that were of use",
			func(s *Snapshot, e *emitter) {
				e.count(s.Shared.ZonesTold, "told")
				e.count(s.Shared.ZonesFound, "found")
				e.count(s.Resolver.FleetCuts, "cut")
				e.count(s.Resolver.FleetLinks, "keys")
			},
		},
	}
}

// fleetMetrics are of the fleet and its flushes.
func fleetMetrics() []Metric {
	return []Metric{
		{
			"shirube_shared_fleet_id", Gauge, nil,
			"A number without a meaning, the same on all servers that find each other's answers: made of the secret, `shared_cache.generation` and the settings that decide about answers",
			func(s *Snapshot, e *emitter) {
				if s.Shared.Fleet.ID != 0 {
					e.add(float64(s.Shared.Fleet.ID))
				}
			},
		},
		{
			"shirube_shared_flush_orders", Gauge, nil,
			"Orders in the fleet's list of flushes; one more than 256 of them begin a new epoch",
			func(s *Snapshot, e *emitter) { e.add(float64(s.Shared.Fleet.Orders)) },
		},
		{
			"shirube_shared_flush_list_bytes", Gauge, nil,
			"Octets of that list",
			func(s *Snapshot, e *emitter) { e.add(float64(s.Shared.Fleet.Octets)) },
		},
		{
			"shirube_shared_flush_list_age_seconds", Gauge, nil,
			"Time since that list was read; from 3 s on, nothing is taken from the shared cache, or told",
			func(s *Snapshot, e *emitter) { e.add(s.Shared.Fleet.Age.Seconds()) },
		},
		{
			"shirube_shared_flushed_time_seconds", Gauge, nil,
			"When everything was flushed last, by the clock of who gave the order, in seconds since 1970; 0: never",
			func(s *Snapshot, e *emitter) { e.add(float64(s.Shared.Fleet.Epoch) / 1000) },
		},
		{
			"shirube_shared_flush_copies", Gauge,
			[]string{"state"},
			"Copies of that list that were looked for last: `read`, or `missing`, their servers being out or silent",
			func(s *Snapshot, e *emitter) {
				e.add(float64(s.Shared.Fleet.Read), "read")
				e.add(float64(s.Shared.Fleet.Copies-s.Shared.Fleet.Read), "missing")
			},
		},
		{
			"shirube_shared_flushes_total", Counter,
			[]string{"event"},
			"Orders `given` here, and `learned` of others; copies of the list `written`, since they lacked some; lists `compacted` into an epoch",
			func(s *Snapshot, e *emitter) {
				e.count(s.Shared.Fleet.Given, "given")
				e.count(s.Shared.Fleet.Learned, "learned")
				e.count(s.Shared.Fleet.Written, "written")
				e.count(s.Shared.Fleet.Compacted, "compacted")
			},
		},
		{
			"shirube_shared_flush_behind_total", Counter, nil,
			"Look-ups and entries let go, since the list was not known or too old",
			func(s *Snapshot, e *emitter) { e.count(s.Shared.Fleet.Behind) },
		},
	}
}

// warmMetrics are of the warm start.
func warmMetrics() []Metric {
	return []Metric{
		{
			"shirube_warm_start", Gauge,
			[]string{"outcome"},
			"1 for what came of the warm start: it is `running`, `complete`, or was `cut` off by its timeout",
			func(s *Snapshot, e *emitter) {
				w := &s.WarmStart
				e.add(number(!w.Done && w.Took > 0), "running")
				e.add(number(w.Done && !w.TimedOut), "complete")
				e.add(number(w.TimedOut), "cut")
			},
		},
		{
			"shirube_warm_start_seconds", Gauge, nil,
			"How long it took, or has taken so far",
			func(s *Snapshot, e *emitter) { e.add(s.WarmStart.Took.Seconds()) },
		},
		{
			"shirube_warm_start_answers", Gauge,
			[]string{"state"},
			"Questions that the fleet is asked most: how many are `known`, and of how many the answers were `loaded` into memory",
			func(s *Snapshot, e *emitter) {
				e.add(float64(s.WarmStart.Questions), "known")
				e.add(float64(s.WarmStart.Loaded), "loaded")
			},
		},
	}
}

// sharedServerMetrics are of each server of the shared cache.
func sharedServerMetrics() []Metric {
	return []Metric{
		{
			"shirube_shared_server_out", Gauge,
			[]string{"memcached"},
			"1: the server is not asked, for it does not answer in time",
			eachServer(func(s *shared.ServerStats, e *emitter, name string) {
				if s.State == shared.Out {
					e.add(1, name)
				} else {
					e.add(0, name)
				}
			}),
		},
		{
			"shirube_shared_server_trips_total", Counter,
			[]string{"memcached"},
			"Times that the server went out",
			eachServer(func(s *shared.ServerStats, e *emitter, name string) { e.count(s.Trips, name) }),
		},
		{
			"shirube_shared_server_connections", Gauge,
			[]string{"memcached"},
			"Connections to the server",
			eachServer(func(s *shared.ServerStats, e *emitter, name string) { e.add(float64(s.Connections), name) }),
		},
		{
			"shirube_shared_server_dials_total", Counter,
			[]string{"memcached"},
			"Tries to connect to the server",
			eachServer(func(s *shared.ServerStats, e *emitter, name string) { e.count(s.Dials, name) }),
		},
		{
			"shirube_shared_server_requests_total", Counter,
			[]string{"memcached"},
			"Requests that look-ups went to the server in, together",
			eachServer(func(s *shared.ServerStats, e *emitter, name string) { e.count(s.Batches, name) }),
		},
		{
			"shirube_shared_server_lookups_total", Counter,
			[]string{"memcached", "outcome"},
			"Look-ups at the server: `all`; of them, `hit`, `late`, `error` (and entries that could not be written), `busy`, and `rejected`",
			eachServer(func(s *shared.ServerStats, e *emitter, name string) {
				e.count(s.Gets, name, "all")
				e.count(s.Hits, name, "hit")
				e.count(s.Late, name, "late")
				e.count(s.Errors, name, "error")
				e.count(s.Busy, name, "busy")
				e.count(s.Rejected, name, "rejected")
			}),
		},
		{
			"shirube_shared_server_writes_total", Counter,
			[]string{"memcached", "outcome"},
			"Entries for the server: `stored`; `kept`, as something as good was there; `dropped`, after waiting too long; `refused`, for want of room",
			eachServer(func(s *shared.ServerStats, e *emitter, name string) {
				e.count(s.Stored, name, "stored")
				e.count(s.Kept, name, "kept")
				e.count(s.Dropped, name, "dropped")
				e.count(s.Refused, name, "refused")
			}),
		},
		{
			"shirube_shared_server_seconds", Histogram,
			[]string{"memcached"},
			"How long look-ups took that had an answer in time",
			eachServer(func(s *shared.ServerStats, e *emitter, name string) { e.histogram(s.Took, name) }),
		},
	}
}

// eachServer reads a metric of every server of the shared cache.
func eachServer(read func(s *shared.ServerStats, e *emitter, name string)) func(*Snapshot, *emitter) {
	return func(s *Snapshot, e *emitter) {
		for _, name := range slices.Sorted(maps.Keys(s.Shared.Servers)) {
			server := s.Shared.Servers[name]
			read(&server, e, name)
		}
	}
}
