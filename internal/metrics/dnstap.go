package metrics

import "shirube/dnstap"

// perOutput reads one number of each output of dnstap.
func perOutput(of func(o *dnstap.OutputStats) float64) func(*Snapshot, *emitter) {
	return func(s *Snapshot, e *emitter) {
		for i := range s.Dnstap {
			e.add(of(&s.Dnstap[i]), s.Dnstap[i].Name)
		}
	}
}

// dnstapMetrics are of the outputs of dnstap, which the configuration names. There
// are none without one.
func dnstapMetrics() []Metric {
	by := []string{"output"}
	return []Metric{
		{
			"shirube_dnstap_up", Gauge, by,
			"1 if the collector is connected, or the file open, and takes what it is sent",
			perOutput(func(o *dnstap.OutputStats) float64 { return number(o.State == dnstap.Connected) }),
		},
		{
			"shirube_dnstap_emitted_total", Counter, by,
			"Frames that were to be sent: they are sent, dropped or queued",
			perOutput(func(o *dnstap.OutputStats) float64 { return float64(o.Emitted) }),
		},
		{
			"shirube_dnstap_sent_total", Counter, by,
			"Frames that the system took for the collector",
			perOutput(func(o *dnstap.OutputStats) float64 { return float64(o.Sent) }),
		},
		{
			"shirube_dnstap_dropped_total", Counter, by,
			"Frames for which there was no room",
			perOutput(func(o *dnstap.OutputStats) float64 { return float64(o.Dropped) }),
		},
		{
			"shirube_dnstap_queued", Gauge, by,
			"Frames that wait to be sent",
			perOutput(func(o *dnstap.OutputStats) float64 { return float64(o.Queued) }),
		},
		{
			"shirube_dnstap_sent_octets_total", Counter, by,
			"Octets of the frames sent",
			perOutput(func(o *dnstap.OutputStats) float64 { return float64(o.Octets) }),
		},
		{
			"shirube_dnstap_opened_total", Counter, by,
			"Connections made, or files begun",
			perOutput(func(o *dnstap.OutputStats) float64 { return float64(o.Opened) }),
		},
		{
			"shirube_dnstap_failures_total", Counter, by,
			"Connections and files that failed or could not be had",
			perOutput(func(o *dnstap.OutputStats) float64 { return float64(o.Failures) }),
		},
	}
}
