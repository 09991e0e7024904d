package metrics

import (
	"slices"

	"shirube/transport/upstream"
)

// upstreamMetrics are of what name servers are asked.
func upstreamMetrics() []Metric {
	return slices.Concat(exchangeMetrics(), replyMetrics(), serverConnectionMetrics())
}

func exchangeMetrics() []Metric {
	return []Metric{
		{
			"shirube_upstream_in_flight", Gauge, nil,
			"Questions that a name server's answer is waited for",
			func(s *Snapshot, e *emitter) { e.add(float64(s.Upstream.InFlight)) },
		},
		{
			"shirube_upstream_queries_total", Counter,
			[]string{"transport", "family"},
			"Queries sent to name servers; `tcp` with TLS or without",
			func(s *Snapshot, e *emitter) {
				u := &s.Upstream
				for _, over := range []struct {
					name string
					sent upstream.Sent
				}{{"udp", u.UDP}, {"tcp", u.TCP}, {"doh", u.DoH}, {"doq", u.DoQ}} {
					e.count(over.sent.IPv4, over.name, "ipv4")
					e.count(over.sent.IPv6, over.name, "ipv6")
				}
			},
		},
		{
			"shirube_upstream_rtt_seconds", Histogram,
			[]string{"transport"},
			"How long name servers took to answer; `tcp` is all that has connections, without the time to make one",
			func(s *Snapshot, e *emitter) {
				e.histogram(s.Upstream.RTT.UDP, "udp")
				e.histogram(s.Upstream.RTT.TCP, "tcp")
			},
		},
		{
			"shirube_upstream_outcomes_total", Counter,
			[]string{"outcome"},
			"How questions to name servers ended: `answer`; `timeout`; `refused`, by ICMP or a reset; `unreachable`; `closed` by the server; `untrusted`, it could not prove who it is; `exhausted`, no descriptors, memory or ports here; `strays`, too much came that did not belong to it; `malformed`; `other`",
			func(s *Snapshot, e *emitter) {
				u := &s.Upstream
				e.count(u.Answers, "answer")
				e.count(u.Timeouts, "timeout")
				e.count(u.Errors.Refused, "refused")
				e.count(u.Errors.Unreachable, "unreachable")
				e.count(u.Errors.Closed, "closed")
				e.count(u.Errors.Untrusted, "untrusted")
				e.count(u.Errors.Exhausted, "exhausted")
				e.count(u.GaveUp, "strays")
				e.count(u.Malformed, "malformed")
				e.count(u.Errors.Other, "other")
			},
		},
		{
			"shirube_upstream_truncated_total", Counter, nil,
			"Answers over UDP that were cut off, and asked for again over TCP",
			func(s *Snapshot, e *emitter) { e.count(s.Upstream.Truncated) },
		},
		{
			"shirube_upstream_sockets", Gauge, nil,
			"UDP sockets towards name servers that are kept to be used again",
			func(s *Snapshot, e *emitter) { e.add(float64(s.Upstream.Sockets.Kept)) },
		},
		{
			"shirube_upstream_sockets_reused_total", Counter, nil,
			"Questions that were asked on a socket that was used before, from a new port",
			func(s *Snapshot, e *emitter) { e.count(s.Upstream.Sockets.Reused) },
		},
		{
			"shirube_upstream_received_octets_total", Counter, nil,
			"Octets received from name servers, those of dropped datagrams included",
			func(s *Snapshot, e *emitter) { e.count(s.Upstream.Octets) },
		},
	}
}

func replyMetrics() []Metric {
	return []Metric{
		{
			"shirube_upstream_dropped_total", Counter,
			[]string{"reason"},
			"Datagrams that did not match the question they came to, by the first thing that was wrong: many are an attempt to forge answers",
			func(s *Snapshot, e *emitter) {
				d := &s.Upstream.Dropped
				e.count(d.Source, "source")
				e.count(d.Long, "long")
				e.count(d.Short, "short")
				e.count(d.ID, "id")
				e.count(d.Header, "header")
				e.count(d.Question, "question")
				e.count(d.Spelling, "spelling")
				e.count(d.Cookie, "cookie")
				e.count(d.NoCookie, "no_cookie")
				e.count(d.ICMP, "icmp")
			},
		},
		{
			"shirube_upstream_near_misses_total", Counter, nil,
			"Questions that were asked again over TCP because a reply nearly matched",
			func(s *Snapshot, e *emitter) { e.count(s.Upstream.Spoofing.NearMisses) },
		},
		{
			"shirube_upstream_cookies_total", Counter,
			[]string{"event"},
			"Cookies of name servers: `sent`; `proven`, replies with the one that was sent; `learned`; `bad`, the server wants another; `shunned`, servers that fail on them",
			func(s *Snapshot, e *emitter) {
				c := &s.Upstream.Cookies
				e.count(c.Sent, "sent")
				e.count(c.Proven, "proven")
				e.count(c.Learned, "learned")
				e.count(c.Bad, "bad")
				e.count(c.Shunned, "shunned")
			},
		},
	}
}

func serverConnectionMetrics() []Metric {
	return []Metric{
		{
			"shirube_upstream_connections", Gauge, nil,
			"Connections to name servers that are open or being made",
			func(s *Snapshot, e *emitter) { e.add(float64(s.Upstream.Connections.Open)) },
		},
		{
			"shirube_upstream_connection_events_total", Counter,
			[]string{"event"},
			"Connections to name servers: `made`; of these, `secured` with TLS, and of these `resumed`; closed because `idle`, or `evicted` for others; questions that `waited` for one, or were asked again (`retried`) because the server closed it",
			func(s *Snapshot, e *emitter) {
				c := &s.Upstream.Connections
				e.count(c.Made, "made")
				e.count(c.Secured, "secured")
				e.count(c.Resumed, "resumed")
				e.count(c.Idle, "idle")
				e.count(c.Evicted, "evicted")
				e.count(c.Waited, "waited")
				e.count(c.Retried, "retried")
			},
		},
		{
			"shirube_upstream_encryption_total", Counter,
			[]string{"event"},
			"Encrypted transports of name servers (`resolver.opportunistic_encryption`): servers tried (`probed`), of them with one (`found`) and without (`missing`), or put off (`deferred`); questions that were `answered` encrypted, or asked in the clear after all (`fell_back`); servers whose transport was `given_up` since it did not answer",
			func(s *Snapshot, e *emitter) {
				c := &s.Upstream.Encryption
				e.count(c.Probes, "probed")
				e.count(c.Worked, "found")
				e.count(c.Failed, "missing")
				e.count(c.Deferred, "deferred")
				e.count(c.Answers, "answered")
				e.count(c.FellBack, "fell_back")
				e.count(c.GivenUp, "given_up")
			},
		},
	}
}
