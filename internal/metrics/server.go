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
	e.count(s.Slots.Shed-min(s.Slots.Shed, s.Slots.ShedNetwork), "in_flight")
	e.count(s.Slots.ShedNetwork, "in_flight_per_network")
	e.count(s.Frontend.ShedFlights, "flights")
	e.count(s.Frontend.ShedNetwork, "flights_per_network")
	e.count(s.Frontend.ShedWaiters, "waiters")
	e.count(s.Frontend.RefreshDropped, "refreshes")
	e.count(s.Resolver.ShedCrowded, "in_flight_per_zone")
	e.count(s.UDP.Late, "udp_discard_timeout")
	var total, client, stalled uint64
	for _, t := range s.Streams {
		total, client, stalled = total+t.OverTotal, client+t.OverClient, stalled+t.Stalled
	}
	e.count(total, "connections")
	e.count(client, "connections_per_client")
	e.count(stalled, "in_flight_per_connection")
	e.count(s.Resolver.OutOfQueries, "queries_per_question")
	e.count(s.Resolver.OutOfBytes, "octets_per_question")
	e.count(s.Resolver.OutOfLookups, "lookups_per_question")
	e.count(s.Resolver.OutOfAliases, "aliases_per_question")
	e.count(s.Resolver.Unproven, "crypto_per_question")
	e.count(s.Upstream.Busy, "exchanges")
	e.count(s.Upstream.Connections.Shed, "server_connections")
}
