package metrics

import "shirube/internal/otlp"

// ofTraces reads one number of the collector of traces, if there is one.
func ofTraces(of func(t *otlp.Stats) float64) func(*Snapshot, *emitter) {
	return func(s *Snapshot, e *emitter) {
		if s.Traces != nil {
			e.add(of(s.Traces))
		}
	}
}

// traceMetrics are of the collector of traces. There are none without one.
func traceMetrics() []Metric {
	return []Metric{
		{
			"shirube_traces_up", Gauge, nil,
			"1 if the collector has taken what it was sent last",
			ofTraces(func(t *otlp.Stats) float64 { return number(t.Up) }),
		},
		{
			"shirube_traces_emitted_total", Counter, nil,
			"Traces of resolutions that were to be sent: they are sent, dropped, failed, queued or on their way",
			ofTraces(func(t *otlp.Stats) float64 { return float64(t.Emitted) }),
		},
		{
			"shirube_traces_sent_total", Counter, nil,
			"Traces that the collector took",
			ofTraces(func(t *otlp.Stats) float64 { return float64(t.Sent) }),
		},
		{
			"shirube_traces_dropped_total", Counter, nil,
			"Traces for which there was no room",
			ofTraces(func(t *otlp.Stats) float64 { return float64(t.Dropped) }),
		},
		{
			"shirube_traces_failed_total", Counter, nil,
			"Traces that the collector refused, or did not take in time",
			ofTraces(func(t *otlp.Stats) float64 { return float64(t.Failed) }),
		},
		{
			"shirube_traces_queued", Gauge, nil,
			"Traces that wait to be sent",
			ofTraces(func(t *otlp.Stats) float64 { return float64(t.Queued) }),
		},
		{
			"shirube_traces_rejected_spans_total", Counter, nil,
			"Spans of traces sent that the collector said it has left out",
			ofTraces(func(t *otlp.Stats) float64 { return float64(t.Rejected) }),
		},
		{
			"shirube_traces_requests_total", Counter, nil,
			"Requests to the collector",
			ofTraces(func(t *otlp.Stats) float64 { return float64(t.Requests) }),
		},
		{
			"shirube_traces_failures_total", Counter, nil,
			"Requests to the collector that did not end well",
			ofTraces(func(t *otlp.Stats) float64 { return float64(t.Failures) }),
		},
	}
}
