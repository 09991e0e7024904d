package metrics

import (
	"strconv"

	"shirube/cache"
	"shirube/internal/frontend"
)

// answerMetrics are of where answers come from.
func answerMetrics() []Metric {
	return []Metric{
		{
			"shirube_answers_total", Counter,
			[]string{"source"},
			"Answers by where they come from: `memory`; `memory_failure`, a failure that is remembered; `local`, the server's own word; `resolution`; `stale`, expired for want of a better one; `failure`, SERVFAIL after a resolution",
			readSources,
		},
		{
			"shirube_stale_answers_total", Counter,
			[]string{"reason"},
			"Stale answers, by why there was no better one: it was `late`, had `failed`, had been `failing` a moment ago, or the server was `busy`",
			func(s *Snapshot, e *emitter) {
				e.count(s.Frontend.StaleLate, "late")
				e.count(s.Frontend.StaleFailed, "failed")
				e.count(s.Frontend.StaleFailing, "failing")
				e.count(s.Frontend.StaleBusy, "busy")
			},
		},
		{
			"shirube_policy_total", Counter,
			[]string{"action"},
			"Queries that were not served: `denied`, without a word; `refused`; `rejected`, for what nobody is given; `cookieless`, for want of a valid cookie",
			func(s *Snapshot, e *emitter) {
				e.count(s.Frontend.Denied, "denied")
				e.count(s.Frontend.Refused, "refused")
				e.count(s.Frontend.Rejected, "rejected")
				e.count(s.Frontend.Cookieless, "cookieless")
			},
		},
		{
			"shirube_misses_total", Counter, nil,
			"Queries whose answer was not in memory",
			func(s *Snapshot, e *emitter) { e.count(s.Frontend.Misses) },
		},
		{
			"shirube_abandoned_total", Counter, nil,
			"Queries that were not answered because the client's time was up",
			func(s *Snapshot, e *emitter) { e.count(s.Frontend.Abandoned) },
		},
		{
			"shirube_extended_errors_total", Counter,
			[]string{"code"},
			"Responses with an Extended DNS Error, by its number (RFC 8914), to clients that cannot be told too",
			readReasons,
		},
		{
			"shirube_cookies_total", Counter,
			[]string{"verdict"},
			"Cookies of clients that were `good`, or `bad`: of another server, forged or too old",
			func(s *Snapshot, e *emitter) {
				e.count(s.Frontend.Cookies, "good")
				e.count(s.Frontend.BadCookies, "bad")
			},
		},
		{
			"shirube_refreshes_total", Counter,
			[]string{"outcome"},
			"Popular answers that were due to be renewed before they expired: `renewed`, `failed`, or `dropped`, there being too many",
			func(s *Snapshot, e *emitter) {
				e.count(s.Frontend.Refreshed, "renewed")
				e.count(s.Frontend.RefreshFailed, "failed")
				e.count(s.Frontend.RefreshDropped, "dropped")
			},
		},
	}
}

// resolutionMetrics are of questions that memory had no answer to.
func resolutionMetrics() []Metric {
	return []Metric{
		{
			"shirube_flights", Gauge, nil,
			"Questions being resolved, each for all who ask it",
			func(s *Snapshot, e *emitter) { e.add(float64(s.Frontend.Flights)) },
		},
		{
			"shirube_resolution_seconds", Histogram, nil,
			"How long a question took to resolve, for whomever and with whatever outcome",
			func(s *Snapshot, e *emitter) { e.exemplified(s.Frontend.Took, s.Exemplars) },
		},
		{
			"shirube_slow_resolutions_total", Counter,
			[]string{"log"},
			"Questions that took longer to resolve than `log.slow_resolutions.longer_than`: those that the log was `told` of with all steps, and those that were too many, `untold`",
			func(s *Snapshot, e *emitter) {
				e.count(s.Frontend.SlowTold, "told")
				e.count(s.Frontend.Slow-min(s.Frontend.SlowTold, s.Frontend.Slow), "untold")
			},
		},
		{
			"shirube_resolution_panics_total", Counter, nil,
			"Questions that made the resolver panic: report them",
			func(s *Snapshot, e *emitter) { e.count(s.Frontend.Panics) },
		},
	}
}

// readSources gives the counts of shirube_answers_total.
func readSources(s *Snapshot, e *emitter) {
	for source, n := range s.Sources() {
		e.count(n, source)
	}
}

// Sources returns how many answers came from where.
func (s *Snapshot) Sources() map[string]uint64 {
	f, failed := &s.Frontend, s.Answers.FailureHits
	return map[string]uint64{
		"memory":         f.Hits - min(f.Hits, failed),
		"memory_failure": failed,
		"local":          f.Local,
		"resolution":     f.Resolved,
		"stale":          f.StaleLate + f.StaleFailed + f.StaleFailing + f.StaleBusy,
		"failure":        f.Failures,
	}
}

// readReasons gives the counts of shirube_extended_errors_total.
func readReasons(s *Snapshot, e *emitter) {
	for code, n := range s.Frontend.Reasons {
		label := strconv.Itoa(code)
		if code == frontend.NumReasons-1 {
			label = "other"
		}
		e.count(n, label)
	}
}

// layer is one part of memory.
type layer struct {
	name string
	cache.StoreStats
}

// layers returns the parts of memory.
func (s *Snapshot) layers() []layer {
	a := &s.Answers.Answers
	return []layer{
		{"answers", cache.StoreStats{Entries: a.Entries, Bytes: a.Bytes, Evicted: a.Evicted}},
		{"failures", s.Answers.Failures},
		{"rrsets", s.Memory.Sets},
		{"cuts", s.Memory.Cuts},
		{"links", s.Memory.Links},
		{"denials", s.Memory.Denials.StoreStats},
	}
}

// memoryMetrics are of what is remembered.
func memoryMetrics() []Metric {
	by := []string{"layer"}
	return []Metric{
		{
			"shirube_cache_entries", Gauge, by,
			"What is remembered: finished `answers`, `failures`; for the resolver `rrsets`, zone `cuts`, `links` of the chain of trust, and `denials`, records that deny many names",
			func(s *Snapshot, e *emitter) {
				for _, l := range s.layers() {
					e.add(float64(l.Entries), l.name)
				}
			},
		},
		{
			"shirube_cache_bytes", Gauge, by,
			"Memory that it takes",
			func(s *Snapshot, e *emitter) {
				for _, l := range s.layers() {
					e.add(float64(l.Bytes), l.name)
				}
			},
		},
		{
			"shirube_cache_evicted_total", Counter, by,
			"What was forgotten to make room",
			func(s *Snapshot, e *emitter) {
				for _, l := range s.layers() {
					e.count(l.Evicted, l.name)
				}
			},
		},
		{
			"shirube_cache_limit_bytes", Gauge,
			[]string{"memory"},
			"Memory that may be taken: `answers` by answers and failures (cache.answers_size), `rrsets` by all the rest (cache.rrsets_size)",
			func(s *Snapshot, e *emitter) {
				e.add(float64(s.Answers.Limit), "answers")
				e.add(float64(s.MemoryLimit), "rrsets")
			},
		},
		{
			"shirube_answer_cache_events_total", Counter,
			[]string{"event"},
			"What became of answers in memory: `expired` when their turn came; `promoted`, for they were used; `returned` soon after they were forgotten; `reinserted` for another round; `replaced` by newer ones; `crowded` out of the index",
			func(s *Snapshot, e *emitter) {
				a := &s.Answers.Answers
				e.count(a.Expired, "expired")
				e.count(a.Promoted, "promoted")
				e.count(a.Returned, "returned")
				e.count(a.Reinserted, "reinserted")
				e.count(a.Replaced, "replaced")
				e.count(a.Crowded, "crowded")
			},
		},
	}
}
