package metrics

import (
	"strconv"
	"strings"

	"shirube/internal/wire"
	"shirube/transport"
)

func lower(s string) string { return strings.ToLower(s) }

// statusNames are the labels of [wire.Status].
var statusNames = [wire.NumStatus]string{"ok", "ignored", "malformed", "unsupported_opcode", "unsupported_version"}

// eachTransport calls do with the counts of every transport, and its label.
func (s *Snapshot) eachTransport(do func(label string, c *transport.Counts)) {
	do(lower(wire.UDP.String()), &s.UDP.Counts)
	for i := range s.Streams {
		do(lower(s.Streams[i].Proto.String()), &s.Streams[i].Counts)
	}
}

// perTransport reads one number of each transport.
func perTransport(of func(c *transport.Counts) uint64) func(*Snapshot, *emitter) {
	return func(s *Snapshot, e *emitter) {
		s.eachTransport(func(label string, c *transport.Counts) { e.count(of(c), label) })
	}
}

// perStream reads one number of each transport on connections.
func perStream(of func(t *Stream) float64) func(*Snapshot, *emitter) {
	return func(s *Snapshot, e *emitter) {
		for i := range s.Streams {
			e.add(of(&s.Streams[i]), lower(s.Streams[i].Proto.String()))
		}
	}
}

// clientMetrics are of the transports.
func clientMetrics() []Metric {
	return append(messageMetrics(), append(udpMetrics(), streamMetrics()...)...)
}

func messageMetrics() []Metric {
	by := []string{"transport"}
	return []Metric{
		{
			"shirube_messages_total", Counter,
			[]string{"transport", "status"},
			"Messages received from clients, by what they are: `ok` is a query",
			func(s *Snapshot, e *emitter) {
				s.eachTransport(func(label string, c *transport.Counts) {
					for i, n := range c.Status {
						e.count(n, label, statusNames[i])
					}
				})
			},
		},
		{
			"shirube_responses_total", Counter,
			[]string{"transport", "rcode"},
			"Responses made, by response code; those that came too late or could not be sent are among them",
			func(s *Snapshot, e *emitter) {
				s.eachTransport(func(label string, c *transport.Counts) {
					for i, n := range c.Rcodes {
						e.count(n, label, transport.RcodeClass(i).String())
					}
				})
			},
		},
		{
			"shirube_responses_by_type_total", Counter,
			[]string{"transport", "type"},
			"The same, by what was asked for; `none`: the question could not be read",
			func(s *Snapshot, e *emitter) {
				s.eachTransport(func(label string, c *transport.Counts) {
					for i, n := range c.Types {
						e.count(n, label, transport.TypeClass(i).String())
					}
				})
			},
		},
		{
			"shirube_answered_total", Counter, by,
			"Queries that were given a response",
			perTransport(func(c *transport.Counts) uint64 { return c.Answered }),
		},
		{
			"shirube_dropped_total", Counter, by,
			"Queries that were given none, by policy or because the client's time was up",
			perTransport(func(c *transport.Counts) uint64 { return c.Dropped }),
		},
		{
			"shirube_deferred_total", Counter, by,
			"Queries that were not answered from memory",
			perTransport(func(c *transport.Counts) uint64 { return c.Deferred }),
		},
		{
			"shirube_shed_total", Counter, by,
			"Queries that were turned away because too many were being resolved",
			perTransport(func(c *transport.Counts) uint64 { return c.Shed }),
		},
		{
			"shirube_query_panics_total", Counter, by,
			"Queries that made the server panic, and were answered SERVFAIL: report them",
			perTransport(func(c *transport.Counts) uint64 { return c.Panics }),
		},
		{
			"shirube_answer_seconds", Histogram,
			[]string{"transport", "path"},
			"From a query's arrival to its response; path `at_once`: answered where it was read, of which every 64th is timed; `later`: what was not in memory, all of them",
			func(s *Snapshot, e *emitter) {
				s.eachTransport(func(label string, c *transport.Counts) {
					e.histogram(c.AtOnce, label, "at_once")
					e.histogram(c.Later, label, "later")
				})
			},
		},
	}
}

func udpMetrics() []Metric {
	return []Metric{
		{
			"shirube_udp_skew_ratio", Gauge, nil,
			"How uneven the sockets of an address are loaded: the busiest reader by the mean; 1 is even",
			func(s *Snapshot, e *emitter) { e.add(s.UDP.Skew) },
		},
		{
			"shirube_udp_batches_total", Counter,
			[]string{"from"},
			"Reads, by how many datagrams they brought: so many, and fewer than twice as many",
			func(s *Snapshot, e *emitter) {
				for i, n := range s.UDP.Batches {
					e.count(n, strconv.Itoa(1<<i))
				}
			},
		},
		{
			"shirube_udp_overflow_total", Counter, nil,
			"Datagrams that the kernel threw away because nobody had read those before them",
			func(s *Snapshot, e *emitter) { e.count(s.UDP.Overflow) },
		},
		{
			"shirube_udp_late_total", Counter, nil,
			"Answers that were not sent because they came too late (limits.udp_discard_timeout)",
			func(s *Snapshot, e *emitter) { e.count(s.UDP.Late) },
		},
		{
			"shirube_udp_bad_source_total", Counter, nil,
			"Datagrams from addresses that nobody can be answered at",
			func(s *Snapshot, e *emitter) { e.count(s.UDP.BadSource) },
		},
		{
			"shirube_udp_joined_responses_total", Counter, nil,
			"Responses that went through the network stack in one piece with others to the same client, but for the first of each piece",
			func(s *Snapshot, e *emitter) { e.count(s.UDP.Joined) },
		},
		{
			"shirube_udp_gave_way_total", Counter, nil,
			"Times that a reader that had answered several queries from this machine let other programs run first, so that they might ask more",
			func(s *Snapshot, e *emitter) { e.count(s.UDP.GaveWay) },
		},
		{
			"shirube_udp_proxy_errors_total", Counter,
			[]string{"reason"},
			"Datagrams that were dropped where proxies are expected: `unlisted`, from somebody else; `no_header`, from a proxy that did not say for whom it asks",
			func(s *Snapshot, e *emitter) {
				e.count(s.UDP.Unlisted, "unlisted")
				e.count(s.UDP.NoProxy, "no_header")
			},
		},
		{
			"shirube_udp_read_errors_total", Counter, nil,
			"Errors of reading, ICMP messages about earlier responses among them",
			func(s *Snapshot, e *emitter) { e.count(s.UDP.ReadErrors) },
		},
		{
			"shirube_udp_resting_workers", Gauge, nil,
			"Goroutines that wait for a UDP query that takes longer",
			func(s *Snapshot, e *emitter) { e.add(float64(s.UDP.Resting)) },
		},
		{
			"shirube_udp_waiting_queries", Gauge, nil,
			"UDP queries that are not in memory, and wait for their turn to be resolved: a few now and then; many when there are more misses than can be resolved",
			func(s *Snapshot, e *emitter) { e.add(float64(s.UDP.Waiting)) },
		},
		{
			"shirube_udp_send_errors_total", Counter,
			[]string{"reason"},
			"Responses that could not be sent",
			func(s *Snapshot, e *emitter) {
				for i, n := range s.UDP.SendErrors {
					e.count(n, transport.SendError(i).String())
				}
			},
		},
	}
}

func streamMetrics() []Metric {
	by := []string{"transport"}
	return []Metric{
		{
			"shirube_connections", Gauge, by,
			"Connections of clients that are open",
			perStream(func(t *Stream) float64 { return float64(t.Open) }),
		},
		{
			"shirube_connections_accepted_total", Counter, by,
			"Connections of clients that were served",
			perStream(func(t *Stream) float64 { return float64(t.Accepted) }),
		},
		{
			"shirube_connections_refused_total", Counter,
			[]string{"transport", "reason"},
			"Connections closed on arrival: too many in all, or of one client; `unlisted`, not from a proxy where one is expected",
			func(s *Snapshot, e *emitter) {
				for i := range s.Streams {
					t := &s.Streams[i]
					e.count(t.OverTotal, lower(t.Proto.String()), "total")
					e.count(t.OverClient, lower(t.Proto.String()), "client")
					e.count(t.Unlisted, lower(t.Proto.String()), "unlisted")
				}
			},
		},
		{
			"shirube_connections_closed_total", Counter,
			[]string{"transport", "reason"},
			"Connections that were served, by what ended them",
			func(s *Snapshot, e *emitter) {
				for i := range s.Streams {
					for r, n := range s.Streams[i].Closed {
						e.count(n, lower(s.Streams[i].Proto.String()), transport.CloseReason(r).String())
					}
				}
			},
		},
		{
			"shirube_accept_errors_total", Counter, by,
			"Failures to accept a connection, for want of descriptors mostly",
			perStream(func(t *Stream) float64 { return float64(t.AcceptErrors) }),
		},
		{
			"shirube_connections_stalled_total", Counter, by,
			"Times that a connection was not read on because too many of its queries were being resolved",
			perStream(func(t *Stream) float64 { return float64(t.Stalled) }),
		},
	}
}
