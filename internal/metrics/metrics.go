// Package metrics tells Prometheus what the server counts. The packages count
// by themselves and give snapshots; here is the table that says what each number
// is called, and a collector that reads them when it is asked: nothing here is
// on the way of a query. Nobody else imports Prometheus's library.
//
// Labels have few values, all known from the start: nothing that a client or a
// name server says becomes one.
package metrics

import (
	"fmt"
	"net/http"
	"regexp"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"shirube/cache"
	"shirube/cache/shared"
	"shirube/discovery"
	"shirube/dnstap"
	"shirube/internal/certs"
	"shirube/internal/frontend"
	"shirube/internal/health"
	"shirube/internal/hist"
	"shirube/internal/netx"
	"shirube/internal/otlp"
	"shirube/internal/wire"
	"shirube/resolver"
	"shirube/resolver/localroot"
	"shirube/transport"
	"shirube/transport/upstream"
)

// Snapshot is everything that there are metrics of, at one moment.
type Snapshot struct {
	Version string
	Started time.Time

	Ready  bool
	Causes []health.Cause // of not being ready, those that do not count yet among them

	UDP      transport.UDPStats
	Streams  []Stream
	Slots    transport.SlotsStats
	Frontend frontend.Stats

	Exemplars []frontend.Exemplar // of Frontend.Took

	Discovery discovery.Stats

	Answers     cache.AnswersStats
	Memory      cache.MemoryStats
	Shared      shared.Stats
	WarmStart   WarmStart
	MemoryLimit int64 // bytes

	Resolver  resolver.Stats
	LocalRoot *localroot.Stats // nil: there is none
	Upstream  upstream.Stats
	Anchors   *Anchors // nil: nothing is validated
	Dnstap    dnstap.Stats
	Traces    *otlp.Stats // nil: nobody is told of any

	Webs  []Web
	HTTP2 transport.HTTP2Stats
	QUICs []QUIC
	Conns transport.ConnsStats // of all encrypted transports

	Certificates certs.Stats // zero without any
}

// WarmStart is how a server began that has a shared cache.
type WarmStart struct {
	Questions int // that the fleet is asked most
	Loaded    int // answers that were put into memory
	Took      time.Duration
	Done      bool
	TimedOut  bool
}

// Stream is a transport on connections.
type Stream struct {
	Proto wire.Proto
	transport.TCPStats
}

// Web is a transport on HTTP.
type Web struct {
	Proto    wire.Proto
	Messages uint64 // that requests held
	Resets   uint64 // requests that the client did not wait for
	Abusive  uint64 // connections closed because of too many of these
	Untaken  uint64 // requests aborted because the client takes no responses
	Errors   [transport.NumWebErrors]uint64
}

// QUIC is a transport on QUIC.
type QUIC struct {
	Proto wire.Proto
	transport.QUICStats
	Streams *QUICStreams // nil: they are requests of HTTP
}

// QUICStreams is what became of the streams of DoQ that brought no query.
type QUICStreams struct{ ProtocolErrors, Cancelled, TooSlow, Untaken uint64 }

// NewWeb returns what there are metrics of in c.
func NewWeb(proto wire.Proto, c *transport.WebCounts) Web {
	return Web{Proto: proto, Messages: c.Received, Resets: c.Resets, Abusive: c.Abusive, Untaken: c.Untaken, Errors: c.Errors}
}

// Anchors is what is trusted.
type Anchors struct {
	Root      int            // keys of the root that are trusted
	Zones     int            // with anchors
	Untrusted int            // of them, without a key that is trusted: all were revoked
	States    map[string]int // keys that were seen, by their states (RFC 5011 §4.2)
	Negatives int            // negative trust anchors (RFC 7646)
}

// Kind is what sort of number a metric is.
type Kind string

// The kinds, in Prometheus's words.
const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// Metric is one line of the table.
type Metric struct {
	Name   string
	Kind   Kind
	Labels []string
	Help   string // a sentence, without its full stop

	read func(s *Snapshot, e *emitter)
}

// Group is the metrics of one part of the server.
type Group struct {
	Title   string
	Metrics []Metric
}

// Table returns all metrics of the server itself. To them come those of the Go
// runtime and the process; see [Foreign].
func Table() []Group {
	return []Group{
		{"Server", serverMetrics()},
		{"Clients", clientMetrics()},
		{"HTTP", webMetrics()},
		{"Encrypted connections", encryptedMetrics()},
		{"Answers", append(answerMetrics(), resolutionMetrics()...)},
		{"Memory", memoryMetrics()},
		{"Shared cache", sharedMetrics()},
		{"Resolution", resolverMetrics()},
		{"DNSSEC", dnssecMetrics()},
		{"Name servers", upstreamMetrics()},
		{"dnstap", dnstapMetrics()},
		{"Traces", traceMetrics()},
		{"Certificates", certificateMetrics()},
		{"Discovery", discoveryMetrics()},
	}
}

// emitter gives the values of one metric to Prometheus.
type emitter struct {
	desc *prometheus.Desc
	typ  prometheus.ValueType
	to   chan<- prometheus.Metric
}

// add gives one value.
func (e *emitter) add(value float64, labels ...string) {
	e.to <- prometheus.MustNewConstMetric(e.desc, e.typ, value, labels...)
}

// count gives one value of a counter.
func (e *emitter) count(n uint64, labels ...string) { e.add(float64(n), labels...) }

// histogram gives one histogram, in seconds.
func (e *emitter) histogram(s hist.Snapshot, labels ...string) { e.to <- e.buckets(s, labels...) }

// exemplified gives one histogram with exemplars, whose IDs the log knows. That of
// a duration which the snapshot has not counted yet is left out.
func (e *emitter) exemplified(s hist.Snapshot, exemplars []frontend.Exemplar) {
	var list []prometheus.Exemplar
	for _, x := range exemplars {
		if s.Bucket(hist.Index(x.Took)) > 0 {
			list = append(list, prometheus.Exemplar{Value: x.Took.Seconds(), Labels: prometheus.Labels{"id": x.ID}, Timestamp: x.At})
		}
	}
	h := e.buckets(s)
	if len(list) > 0 {
		h = prometheus.MustNewMetricWithExemplars(h, list...)
	}
	e.to <- h
}

// buckets returns s as one histogram.
func (e *emitter) buckets(s hist.Snapshot, labels ...string) prometheus.Metric {
	buckets := make(map[float64]uint64, hist.NumBounds)
	var total uint64
	for i := range hist.NumBounds {
		total += s.Bucket(i)
		buckets[hist.Bound(i).Seconds()] = total
	}
	return prometheus.MustNewConstHistogram(e.desc, s.Count(), s.Sum().Seconds(), buckets, labels...)
}

// collector implements [prometheus.Collector].
type collector struct {
	snapshot func() Snapshot
	metrics  []Metric
	descs    []*prometheus.Desc // of metrics
	pause    func() pause       // is newPause, but in tests
}

// pause lets queries be answered while somebody waits for it.
type pause interface {
	Wait()
	Close()
}

func newPause() pause { return netx.NewYield() }

func newCollector(snapshot func() Snapshot) *collector {
	c := &collector{snapshot: snapshot, pause: newPause}
	for _, g := range Table() {
		for _, m := range g.Metrics {
			c.metrics = append(c.metrics, m)
			c.descs = append(c.descs, prometheus.NewDesc(m.Name, m.Help, m.Labels, nil))
		}
	}
	return c
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		to <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(to chan<- prometheus.Metric) {
	s := c.snapshot()
	queries := c.pause()
	defer queries.Close()
	for i := range c.metrics {
		if i%atOnce == atOnce-1 {
			queries.Wait()
		}
		e := emitter{desc: c.descs[i], typ: prometheus.CounterValue, to: to}
		if c.metrics[i].Kind == Gauge {
			e.typ = prometheus.GaugeValue
		}
		c.metrics[i].read(&s, &e)
	}
}

// Registry is what a server tells Prometheus.
type Registry struct{ reg *prometheus.Registry }

// New returns a Registry that takes a snapshot for each scrape, and knows the Go
// runtime and the process besides.
func New(snapshot func() Snapshot) (*Registry, error) {
	r := &Registry{prometheus.NewRegistry()}
	for _, c := range append(foreign(), newCollector(snapshot)) {
		if err := r.reg.Register(c); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	return r, nil
}

// collecting is what Go knows, beside what its collector tells anyway, of the CPU
// time that garbage collections take.
var collecting = regexp.MustCompile(`^/cpu/classes/gc/total:cpu-seconds$`)

// foreign returns the collectors of Prometheus's library that are used.
func foreign() []prometheus.Collector {
	return []prometheus.Collector{
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(
			collectors.GoRuntimeMetricsRule{Matcher: collecting},
		)),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	}
}

// The bounds of scrapes.
const (
	maxScrapes = 4                // at once; one more is told to come later
	scrapeTime = 10 * time.Second // for one
)

// What a scrape does before it lets queries be answered. It takes a millisecond or
// two of a processor's time, and more of them than one where there are more: all of
// a small server's, which nobody was to notice.
const (
	atOnce       = 8       // metrics of the table
	octetsAtOnce = 8 << 10 // of the text
)

// Handler serves scrapes, in the formats that Prometheus asks for. It does not
// compress them: that takes as long as all the rest, for 100 KB in 15 seconds.
func (r *Registry) Handler() http.Handler {
	h := promhttp.HandlerFor(r.reg, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes, DisableCompression: true, EnableOpenMetrics: true,
	})
	patient := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		queries := newPause()
		defer queries.Close()
		h.ServeHTTP(&patientWriter{ResponseWriter: w, queries: queries}, req)
	})
	return http.TimeoutHandler(patient, scrapeTime, fmt.Sprintf("Reading the metrics took longer than %v.\n", scrapeTime))
}

// patientWriter is a response that lets queries be answered while it is written.
type patientWriter struct {
	http.ResponseWriter
	queries pause
	since   int // octets
}

// Write implements [http.ResponseWriter].
func (w *patientWriter) Write(p []byte) (int, error) {
	if w.since += len(p); w.since >= octetsAtOnce {
		w.since = 0
		w.queries.Wait()
	}
	return w.ResponseWriter.Write(p)
}

// Foreign returns the metrics of the Go runtime and the process that are served
// too, by their names.
func Foreign() ([]Metric, error) {
	reg := prometheus.NewRegistry()
	for _, c := range foreign() {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	families, err := reg.Gather()
	if err != nil {
		return nil, err
	}
	var out []Metric
	for _, f := range families { // in the order of their names
		m := Metric{Name: f.GetName(), Kind: Kind(lower(f.GetType().String())), Help: f.GetHelp()}
		for _, l := range f.GetMetric()[0].GetLabel() {
			m.Labels = append(m.Labels, l.GetName())
		}
		out = append(out, m)
	}
	return out, nil
}
