package metrics

import (
	"runtime"

	"shirube/internal/health"
)

// number returns 1 for true.
func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// serverMetrics are of the server as a whole.
func serverMetrics() []Metric {
	return []Metric{
		{
			"shirube_build_info", Gauge,
			[]string{"version", "go"},
			"1, with the versions of the server and of Go as labels",
			func(s *Snapshot, e *emitter) { e.add(1, s.Version, runtime.Version()) },
		},
		{
			"shirube_start_time_seconds", Gauge, nil,
			"When the server began to serve, in seconds since 1970",
			func(s *Snapshot, e *emitter) { e.add(float64(s.Started.UnixMilli()) / 1000) },
		},
		{
			"shirube_ready", Gauge, nil,
			"1 if the server is ready for clients, as /readyz says it",
			func(s *Snapshot, e *emitter) { e.add(number(s.Ready)) },
		},
		{
			"shirube_not_ready_cause", Gauge,
			[]string{"code"},
			"1 for each cause of not being ready that there is, though it may not have lasted long enough to count",
			func(s *Snapshot, e *emitter) {
				for _, code := range health.Codes() {
					is := false
					for _, c := range s.Causes {
						is = is || c.Code == code
					}
					e.add(number(is), code)
				}
			},
		},
		{
			"shirube_queries_in_flight", Gauge, nil,
			"Client queries being resolved",
			func(s *Snapshot, e *emitter) { e.add(float64(s.Slots.InUse)) },
		},
		{
			"shirube_queries_in_flight_limit", Gauge, nil,
			"How many there may be (limits.in_flight)",
			func(s *Snapshot, e *emitter) { e.add(float64(s.Slots.Limit)) },
		},
		{
			"shirube_queries_in_flight_peak", Gauge, nil,
			"The most there were at once",
			func(s *Snapshot, e *emitter) { e.add(float64(s.Slots.Peak)) },
		},
		{
			"shirube_client_networks_in_flight", Gauge, nil,
			"Client networks (IPv4 /24, IPv6 /56) that have queries being resolved",
			func(s *Snapshot, e *emitter) { e.add(float64(s.Slots.Networks)) },
		},
		{
			"shirube_limits_total", Counter,
			[]string{"limit"},
			"Times that a limit bit, by its name in the manual's page on limits: queries turned away, connections closed, questions ended",
			readLimits,
		},
	}
}

// readLimits gives the counts of shirube_limits_total.
func readLimits(s *Snapshot, e *emitter) {
	for limit, n := range s.Limits() {
		e.count(n, limit)
	}
}

// Limits returns how often which limit bit.
func (s *Snapshot) Limits() map[string]uint64 {
	var total, client, stalled uint64
	for _, t := range s.Streams {
		total, client, stalled = total+t.OverTotal, client+t.OverClient, stalled+t.Stalled
	}
	return map[string]uint64{
		"in_flight":                s.Slots.Shed - min(s.Slots.Shed, s.Slots.ShedNetwork),
		"in_flight_per_network":    s.Slots.ShedNetwork,
		"flights":                  s.Frontend.ShedFlights,
		"flights_per_network":      s.Frontend.ShedNetwork,
		"waiters":                  s.Frontend.ShedWaiters,
		"refreshes":                s.Frontend.RefreshDropped,
		"in_flight_per_zone":       s.Resolver.ShedCrowded,
		"udp_discard_timeout":      s.UDP.Late,
		"udp_waiting":              s.UDP.ShedWaiting,
		"udp_untold":               s.UDP.Untold,
		"connections":              total,
		"connections_per_client":   client,
		"in_flight_per_connection": stalled,
		"queries_per_question":     s.Resolver.OutOfQueries,
		"octets_per_question":      s.Resolver.OutOfBytes,
		"lookups_per_question":     s.Resolver.OutOfLookups,
		"aliases_per_question":     s.Resolver.OutOfAliases,
		"crypto_per_question":      s.Resolver.Unproven,
		"exchanges":                s.Upstream.Busy,
		"server_connections":       s.Upstream.Connections.Shed,
	}
}
