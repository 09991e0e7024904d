package collector

import (
	"io"
	"strconv"
	"strings"

	"shirube/dnstap"
	"shirube/internal/hist"
)

// exposition writes metrics as Prometheus reads them (text format 0.0.4).
type exposition struct {
	b strings.Builder
}

// family begins the metrics of a name.
func (e *exposition) family(name, kind, help string) {
	e.b.WriteString("# HELP " + name + " " + help + "\n# TYPE " + name + " " + kind + "\n")
}

// escapes are those of a label's value.
var escapes = strings.NewReplacer("\\", `\\`, "\n", `\n`, `"`, `\"`)

// sample writes one value; labels are names and values by turns.
func (e *exposition) sample(name string, value float64, labels ...string) {
	e.b.WriteString(name)
	for i := 0; i+1 < len(labels); i += 2 {
		e.b.WriteString(map[bool]string{true: "{", false: ","}[i == 0] + labels[i] + `="` + escapes.Replace(labels[i+1]) + `"`)
	}
	if len(labels) > 0 {
		e.b.WriteByte('}')
	}
	e.b.WriteString(" " + strconv.FormatFloat(value, 'g', -1, 64) + "\n")
}

// single writes a family of one value.
func (e *exposition) single(name, kind, help string, value float64) {
	e.family(name, kind, help)
	e.sample(name, value)
}

// WritePrometheus writes s in Prometheus' text format. Of names and clients there
// are as many as Options.Top says, and others all the time.
func (s *Stats) WritePrometheus(w io.Writer) error {
	var e exposition
	e.family("shirube_tap_frames_total", "counter", "Frames, by what they are about")
	for i := range s.Counts {
		c := &s.Counts[i]
		e.sample("shirube_tap_frames_total", float64(c.Frames), "type", c.Type, "transport", c.Transport, "family", c.Family, "rcode", c.Rcode)
	}
	e.family("shirube_tap_queries_total", "counter", "Queries of clients, by type")
	for typ, n := range s.QTypes {
		e.sample("shirube_tap_queries_total", float64(n), "type", typ)
	}
	e.family("shirube_tap_latency_seconds", "histogram", "From a client's query to the answer, by the times in frames")
	for i := range s.Latency {
		e.latency(&s.Latency[i])
	}
	e.single("shirube_tap_malformed_total", "counter", "Frames that could not be read", float64(s.Malformed))
	e.single("shirube_tap_unwritten_total", "counter", "Records that could not be written", float64(s.Unwritten))
	e.single("shirube_tap_senders", "gauge", "Senders that are connected", float64(s.Senders))
	e.single("shirube_tap_senders_total", "counter", "Senders that came", float64(s.Accepted))
	e.single("shirube_tap_senders_turned_away_total", "counter", "Senders that were too many", float64(s.Turned))
	e.single("shirube_tap_senders_lost_total", "counter", "Senders and files that ended without saying so", float64(s.Lost))
	e.outputs(s.Output)
	if s.Top != nil {
		e.top("shirube_tap_top_name_queries", "Queries for the names that are asked for most", "name", s.Top.Names)
		e.top("shirube_tap_top_client_queries", "Queries of the clients that ask most", "client", s.Top.Clients)
	}
	_, err := io.WriteString(w, e.b.String())
	return err
}

// latency writes one histogram. Of its buckets it writes the octaves.
func (e *exposition) latency(l *Latency) {
	const name = "shirube_tap_latency_seconds"
	var seen uint64
	for i := range hist.NumBounds {
		if seen += l.all.Bucket(i); i%2 == 0 {
			e.sample(name+"_bucket", float64(seen), "transport", l.Transport, "le", strconv.FormatFloat(hist.Bound(i).Seconds(), 'g', -1, 64))
		}
	}
	seen += l.all.Bucket(hist.NumBounds)
	e.sample(name+"_bucket", float64(seen), "transport", l.Transport, "le", "+Inf")
	e.sample(name+"_sum", l.all.Sum().Seconds(), "transport", l.Transport)
	e.sample(name+"_count", float64(seen), "transport", l.Transport)
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
		e.family(m.name, "counter", m.help)
		for i := range list {
			e.sample(m.name, float64(m.of(&list[i])), "output", list[i].Name)
		}
	}
}

func (e *exposition) top(name, help, label string, list []TopCount) {
	e.family(name, "gauge", help)
	for _, c := range list {
		e.sample(name, float64(c.Queries), label, c.Key)
	}
}
