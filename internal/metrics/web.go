package metrics

import "shirube/transport"

// webMetrics are of requests of HTTP, and of the connections of HTTP/2.
func webMetrics() []Metric {
	return []Metric{
		{
			"shirube_http_requests_total", Counter,
			[]string{"transport", "outcome"},
			"Requests: those that held a `message`, those whose client did not wait for the response (`reset`), over HTTP/3 those of clients that take no responses (`untaken`), and the others by what was wrong",
			func(s *Snapshot, e *emitter) {
				for i := range s.Webs {
					w := &s.Webs[i]
					label := lower(w.Proto.String())
					e.count(w.Messages, label, "message")
					e.count(w.Resets, label, "reset")
					e.count(w.Untaken, label, "untaken")
					for i, n := range w.Errors {
						e.count(n, label, transport.WebError(i).String())
					}
				}
			},
		},
		{
			"shirube_http_abusive_connections_total", Counter,
			[]string{"transport"},
			"Connections that were closed because too many of their requests were reset: attacks, or clients that are broken",
			func(s *Snapshot, e *emitter) {
				for i := range s.Webs {
					e.count(s.Webs[i].Abusive, lower(s.Webs[i].Proto.String()))
				}
			},
		},
		{
			"shirube_http2_connections", Gauge, nil,
			"Connections of HTTP/2",
			func(s *Snapshot, e *emitter) { e.add(float64(s.HTTP2.Open)) },
		},
		{
			"shirube_http2_connections_accepted_total", Counter, nil,
			"Connections of HTTP/2 that were served",
			func(s *Snapshot, e *emitter) { e.count(s.HTTP2.Accepted) },
		},
		{
			"shirube_http2_connections_closed_total", Counter,
			[]string{"reason"},
			"Connections of HTTP/2 that were served, by what ended them: `resets` and `flood` are attacks, or clients that are broken",
			func(s *Snapshot, e *emitter) {
				for i, n := range s.HTTP2.Ends {
					e.count(n, transport.HTTP2End(i).String())
				}
			},
		},
		{
			"shirube_http2_streams_ended_total", Counter,
			[]string{"reason"},
			"Streams that were ended without a response: `refused`, there were too many, or too much was kept for them; `slow`, the client did not send or take in time",
			func(s *Snapshot, e *emitter) {
				e.count(s.HTTP2.Refused, "refused")
				e.count(s.HTTP2.TooSlow, "slow")
			},
		},
	}
}
