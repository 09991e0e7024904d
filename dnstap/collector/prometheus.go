package collector

import (
	"io"
	"strconv"

	"shirube/dnstap"
	metrics "shirube/internal/exposition"
	"shirube/internal/hist"
)

// exposition adds to a text what is of a collector.
type exposition struct{ metrics.Text }

// WritePrometheus writes s in Prometheus' text format. Of names and clients there
// are as many as Options.Top says, and others all the time.
func (s *Stats) WritePrometheus(w io.Writer) error {
	var e exposition
	e.Family("shirube_tap_frames_total", "counter", "Frames, by what they are about")
	for i := range s.Counts {
		c := &s.Counts[i]
		e.Sample("shirube_tap_frames_total", float64(c.Frames), "type", c.Type, "transport", c.Transport, "family", c.Family, "rcode", c.Rcode)
	}
	e.Family("shirube_tap_queries_total", "counter", "Queries of clients, by type")
	for typ, n := range s.QTypes {
		e.Sample("shirube_tap_queries_total", float64(n), "type", typ)
	}
	e.Family("shirube_tap_latency_seconds", "histogram", "From a client's query to the answer, by the times in frames")
	for i := range s.Latency {
		e.latency(&s.Latency[i])
	}
	e.Single("shirube_tap_malformed_total", "counter", "Frames that could not be read", float64(s.Malformed))
	e.Single("shirube_tap_unwritten_total", "counter", "Records that could not be written", float64(s.Unwritten))
	e.Single("shirube_tap_senders", "gauge", "Senders that are connected", float64(s.Senders))
	e.Single("shirube_tap_senders_total", "counter", "Senders that came", float64(s.Accepted))
	e.Single("shirube_tap_senders_turned_away_total", "counter", "Senders that were too many", float64(s.Turned))
	e.Single("shirube_tap_senders_lost_total", "counter", "Senders and files that ended without saying so", float64(s.Lost))
	e.outputs(s.Output)
	if s.Top != nil {
		e.top("shirube_tap_top_name_queries", "Queries for the names that are asked for most", "name", s.Top.Names)
		e.top("shirube_tap_top_client_queries", "Queries of the clients that ask most", "client", s.Top.Clients)
	}
	return e.Send(w)
}

// latency writes one histogram. Of its buckets it writes the octaves.
func (e *exposition) latency(l *Latency) {
	const name = "shirube_tap_latency_seconds"
	var seen uint64
	for i := range hist.NumBounds {
		if seen += l.all.Bucket(i); i%2 == 0 {
			e.Sample(name+"_bucket", float64(seen), "transport", l.Transport, "le", strconv.FormatFloat(hist.Bound(i).Seconds(), 'g', -1, 64))
		}
	}
	seen += l.all.Bucket(hist.NumBounds)
	e.Sample(name+"_bucket", float64(seen), "transport", l.Transport, "le", "+Inf")
	e.Sample(name+"_sum", l.all.Sum().Seconds(), "transport", l.Transport)
	e.Sample(name+"_count", float64(seen), "transport", l.Transport)
}

// outputs writes what became of frames that were handed on.
func (e *exposition) outputs(list dnstap.Stats) {
	for _, m := range []struct {
		name, help string
		of         func(*dnstap.OutputStats) uint64
	}{
		{"shirube_tap_output_sent_total", "Frames handed on", func(o *dnstap.OutputStats) uint64 { return o.Sent }},
		{"shirube_tap_output_dropped_total", "Frames for which there was no room", func(o *dnstap.OutputStats) uint64 { return o.Dropped }},
	} {
		e.Family(m.name, "counter", m.help)
		for i := range list {
			e.Sample(m.name, float64(m.of(&list[i])), "output", list[i].Name)
		}
	}
}

func (e *exposition) top(name, help, label string, list []TopCount) {
	e.Family(name, "gauge", help)
	for _, c := range list {
		e.Sample(name, float64(c.Queries), label, c.Key)
	}
}
