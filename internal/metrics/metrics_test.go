package metrics

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"shirube/cache"
	"shirube/cache/shared"
	"shirube/dnstap"
	"shirube/internal/certs"
	"shirube/internal/frontend"
	"shirube/internal/health"
	"shirube/internal/hist"
	"shirube/internal/otlp"
	"shirube/internal/wire"
	"shirube/resolver/localroot"
	"shirube/transport"
)

// full returns a snapshot with every part that may be missing.
func full() Snapshot {
	return Snapshot{
		Version:   "1.2.3",
		Started:   time.Unix(1_700_000_000, 0),
		Streams:   []Stream{{Proto: wire.TCP}},
		Webs:      []Web{{Proto: wire.DoH}},
		QUICs:     []QUIC{{Proto: wire.DoQ, Streams: new(QUICStreams)}},
		LocalRoot: new(localroot.Stats),
		Anchors:   &Anchors{States: map[string]int{"valid": 0}},
		Dnstap:    dnstap.Stats{{Name: "collector"}},
		Traces:    new(otlp.Stats),

		Certificates: certs.Stats{InUse: 1},
	}
}

// scrape returns what Prometheus is told of s, without the Go runtime and the
// process.
func scrape(t *testing.T, s Snapshot) string {
	t.Helper()
	r, err := New(func() Snapshot { return s })
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	var ours strings.Builder
	for line := range strings.Lines(w.Body.String()) {
		if strings.Contains(line, "shirube_") {
			ours.WriteString(line)
		}
	}
	return ours.String()
}

// TestEveryCounterIsAMetric changes each number of the packages' snapshots, one
// after the other, and sees whether Prometheus is told.
func TestEveryCounterIsAMetric(t *testing.T) {
	// What says nothing that another metric does not.
	except := map[string]bool{
		"UDP.Received":              true, // the sum of Status
		"UDP.Unfit":                 true, // a bug of the server's, in the tests and in ctl stats
		"Streams[0].Unfit":          true,
		"Streams[0].Received":       true,
		"Slots.PerNetwork":          true, // the configuration's
		"Frontend.Networks":         true, // see Slots.Networks
		"Answers.Answers.Reserved":  true, // as good as Limit
		"Memory.Denials.Zones":      true,
		"Resolver.DeadEvicted":      true,
		"Resolver.Infra.Evicted":    true,
		"Upstream.Received":         true, // octets are told
		"Upstream.PortTaken":        true,
		"Upstream.Connections.Late": true,
		"Upstream.Spoofing.Folding": true, "Upstream.Spoofing.Respelled": true,
		"Upstream.Cookies.Without": true,
		"Upstream.Servers.Known":   true, "Upstream.Servers.Forgotten": true,
	}
	s := full()
	reg := prometheus.NewRegistry()
	if err := reg.Register(newCollector(func() Snapshot { return s })); err != nil {
		t.Fatal(err)
	}
	told := func() string {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(families)
	}
	before := told()
	numbers := 0
	walk(reflect.ValueOf(&s).Elem(), "", func(path string, change func(), restore func()) {
		numbers++
		change()
		isTold := told() != before
		restore()
		if isTold == except[path] {
			t.Errorf("%s: told is %v", path, isTold)
		}
		delete(except, path)
	})
	if numbers < 150 || told() != before {
		t.Errorf("%d numbers were looked at", numbers)
	}
	for path := range except {
		t.Errorf("there is no %s", path)
	}
}

// walk calls see for every number in v, of arrays for the first of them.
func walk(v reflect.Value, path string, see func(path string, change, restore func())) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		if v.Type() == reflect.TypeFor[hist.Snapshot]() {
			var h hist.Histogram
			h.Observe(time.Millisecond)
			see(path, func() { v.Set(reflect.ValueOf(h.Snapshot())) }, func() { v.SetZero() })
			return
		}
		for i := range v.NumField() {
			f := v.Type().Field(i)
			inner := strings.TrimPrefix(path+"."+f.Name, ".")
			if f.Anonymous {
				inner = path
			}
			walk(v.Field(i), inner, see)
		}
	case reflect.Array, reflect.Slice:
		if v.Len() > 0 && v.Type().Elem() != reflect.TypeFor[health.Cause]() {
			inner := path
			if v.Kind() == reflect.Slice {
				inner += "[0]"
			}
			walk(v.Index(0), inner, see)
		}
	case reflect.Pointer:
		walk(v.Elem(), path, see)
	case reflect.Uint8:
		if v.Type() == reflect.TypeFor[dnstap.State]() {
			see(path, func() { v.SetUint(uint64(dnstap.Connected)) }, func() { v.SetUint(0) })
		}
	case reflect.Uint64, reflect.Uint32:
		see(path, func() { v.SetUint(7) }, func() { v.SetUint(0) })
	case reflect.Int, reflect.Int64:
		was := v.Int()
		see(path, func() { v.SetInt(7) }, func() { v.SetInt(was) })
	case reflect.Float64:
		see(path, func() { v.SetFloat(7) }, func() { v.SetFloat(0) })
	case reflect.Bool:
		see(path, func() { v.SetBool(true) }, func() { v.SetBool(false) })
	}
}

func TestScrapeSaysWhatTheSnapshotHolds(t *testing.T) {
	s := full()
	s.UDP.Rcodes[wire.NXDomain] = 5
	s.Streams[0].Closed[transport.ClosedIdle] = 3
	s.Frontend.Hits, s.Answers.FailureHits = 10, 4
	s.Answers.Answers.Entries = 42
	s.Ready, s.Causes = true, []health.Cause{{Code: health.NoRoot}}
	s.Frontend.Reasons[22] = 8
	s.Anchors.Root, s.Anchors.States["valid"] = 2, 3
	s.Resolver.OutOfQueries = 6
	s.Slots.Shed, s.Slots.ShedNetwork = 9, 2
	s.UDP.Skew = 1.25
	var h hist.Histogram
	h.Observe(3 * time.Millisecond)
	s.Upstream.RTT.UDP = h.Snapshot()
	s.Shared.Servers = map[string]shared.ServerStats{"memcached-0": {State: shared.Out, Late: 4, Took: h.Snapshot()}}
	s.Shared.Rejected[2] = 11
	s.Shared.Fleet = shared.FleetStats{ID: 77, Orders: 12, Octets: 512, Epoch: 1, Age: 250 * time.Millisecond, Read: 2, Copies: 3, Learned: 13, Behind: 14}
	s.WarmStart = WarmStart{Questions: 100, Loaded: 99, Took: 1500 * time.Millisecond, Done: true, TimedOut: true}
	got := scrape(t, s)
	for _, want := range []string{
		`shirube_build_info{go="go1.`,
		`shirube_start_time_seconds 1.7e+09`,
		`shirube_ready 1`,
		`shirube_not_ready_cause{code="no_root"} 1`,
		`shirube_not_ready_cause{code="draining"} 0`,
		`shirube_responses_total{rcode="NXDOMAIN",transport="udp"} 5`,
		`shirube_connections_closed_total{reason="idle",transport="tcp"} 3`,
		`shirube_answers_total{source="memory"} 6`,
		`shirube_answers_total{source="memory_failure"} 4`,
		`shirube_cache_entries{layer="answers"} 42`,
		`shirube_extended_errors_total{code="22"} 8`,
		`shirube_trust_anchor_root_keys 2`,
		`shirube_trust_anchor_keys{state="valid"} 3`,
		`shirube_limits_total{limit="queries_per_question"} 6`,
		`shirube_limits_total{limit="in_flight"} 7`,
		`shirube_udp_skew_ratio 1.25`,
		`shirube_upstream_rtt_seconds_bucket{transport="udp",le="0.002048"} 0`,
		`shirube_upstream_rtt_seconds_bucket{transport="udp",le="0.003072"} 1`,
		`shirube_upstream_rtt_seconds_bucket{transport="udp",le="+Inf"} 1`,
		`shirube_upstream_rtt_seconds_sum{transport="udp"} 0.003`,
		`shirube_shared_server_out{memcached="memcached-0"} 1`,
		`shirube_shared_server_lookups_total{memcached="memcached-0",outcome="late"} 4`,
		`shirube_shared_server_seconds_count{memcached="memcached-0"} 1`,
		`shirube_shared_rejected_total{reason="tag"} 11`,
		`shirube_shared_flush_orders 12`,
		`shirube_shared_flush_list_bytes 512`,
		`shirube_shared_flush_list_age_seconds 0.25`,
		`shirube_shared_flush_copies{state="missing"} 1`,
		`shirube_shared_flushes_total{event="learned"} 13`,
		`shirube_shared_flush_behind_total 14`,
		`shirube_warm_start{outcome="cut"} 1`,
		`shirube_warm_start{outcome="complete"} 0`,
		`shirube_warm_start_seconds 1.5`,
		`shirube_warm_start_answers{state="loaded"} 99`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("without %s", want)
		}
	}
}

func TestStatusShowsTheFleetsCache(t *testing.T) {
	s := full()
	if f := s.Status(time.Now()).Fleet; f != nil {
		t.Errorf("nothing is shared, and there is %+v", f)
	}
	var h hist.Histogram
	h.Observe(3 * time.Millisecond)
	s.Shared.Servers = map[string]shared.ServerStats{
		"memcached-1": {State: shared.Out, Gets: 9, Hits: 4, Late: 2, Took: h.Snapshot()}, "memcached-0": {},
	}
	s.Shared.Fleet = shared.FleetStats{Orders: 12, Age: 250 * time.Millisecond, Read: 1, Copies: 2}
	s.Shared.Skew, s.Frontend.Shared.Saved = 20*time.Millisecond, 77
	s.WarmStart = WarmStart{Took: time.Second, Done: true}
	got, want := s.Status(time.Now()).Fleet, FleetStatus{
		Memcached: []MemcachedStatus{{Name: "memcached-0", State: "in"}, {Name: "memcached-1", State: "out", Lookups: 9, Hits: 4, Late: 2, P99: 0.003072}},
		Orders:    12, Age: 0.25, Read: 1, Copies: 2, Skew: 0.02, Warm: "complete", Saved: 77,
	}
	if got == nil || !reflect.DeepEqual(*got, want) {
		t.Errorf("found %+v; want %+v", got, want)
	}
}

// TestExemplarsNameLinesOfTheLog asks as Prometheus does that wants exemplars.
func TestExemplarsNameLinesOfTheLog(t *testing.T) {
	s := full()
	var h hist.Histogram
	for _, d := range []time.Duration{time.Millisecond, 3 * time.Second, time.Minute} {
		h.Observe(d)
	}
	s.Frontend.Took = h.Snapshot()
	s.Exemplars = []frontend.Exemplar{
		{ID: "0123456789abcdef", Took: 3 * time.Second, At: time.Unix(1_700_000_000, 0)},
		{ID: "00000000000000aa", Took: time.Minute, At: time.Unix(1_700_000_001, 0)},
		{ID: "ended-meanwhile", Took: 500 * time.Millisecond, At: time.Unix(1_700_000_002, 0)},
	}
	r, err := New(func() Snapshot { return s })
	if err != nil {
		t.Fatal(err)
	}
	ask := httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody)
	ask.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, ask)
	got := w.Body.String()
	for _, want := range []string{
		`shirube_resolution_seconds_bucket{le="3.145728"} 2 # {id="0123456789abcdef"} 3.0 1.7e+09`,
		`shirube_resolution_seconds_bucket{le="+Inf"} 3 # {id="00000000000000aa"} 60.0 1.700000001e+09`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("without %s", want)
		}
	}
	if strings.Count(got, " # {") != 2 || strings.Contains(got, "ended-meanwhile") || !strings.HasSuffix(got, "# EOF\n") {
		t.Errorf("%d exemplars", strings.Count(got, " # {"))
	}
	if strings.Contains(scrape(t, s), "0123456789abcdef") {
		t.Error("who does not know exemplars is given some")
	}
}

// What is switched off has no metrics, rather than some that say that nothing is
// wrong.
func TestWhatIsOffIsNotTold(t *testing.T) {
	got := scrape(t, Snapshot{})
	for _, not := range []string{"shirube_local_root_serial", "shirube_trust_anchor_root_keys", `transport="tcp",status`} {
		if strings.Contains(got, not) {
			t.Errorf("found %s", not)
		}
	}
}

func TestNamesFollowPrometheussRules(t *testing.T) {
	seen := make(map[string]bool)
	for _, g := range Table() {
		for _, m := range g.Metrics {
			switch {
			case seen[m.Name]:
				t.Errorf("%s is there twice", m.Name)
			case !regexp.MustCompile(`^shirube_[a-z0-9_]+[a-z]$`).MatchString(m.Name):
				t.Errorf("%s is no good name", m.Name)
			case (m.Kind == Counter) != strings.HasSuffix(m.Name, "_total"):
				t.Errorf("%s is a %s", m.Name, m.Kind)
			case m.Kind == Histogram && !strings.HasSuffix(m.Name, "_seconds"):
				t.Errorf("%s has no unit", m.Name)
			case m.Help == "" || strings.HasSuffix(m.Help, "."):
				t.Errorf("%s: the help is %q", m.Name, m.Help)
			}
			seen[m.Name] = true
			for _, l := range m.Labels {
				if slices.Contains([]string{"name", "client", "server", "zone", "address"}, l) {
					t.Errorf("%s has the label %s, whose values have no bound", m.Name, l)
				}
			}
		}
	}
}

// TestSeriesAreBounded holds the size of a scrape: labels have the values that
// they have in the code.
func TestSeriesAreBounded(t *testing.T) {
	s := full()
	s.Streams = nil
	for p := wire.TCP; p < wire.NumProtos; p++ {
		s.Streams = append(s.Streams, Stream{Proto: p})
	}
	series := 0
	for line := range strings.Lines(scrape(t, s)) {
		if !strings.HasPrefix(line, "#") {
			series++
		}
	}
	if series < 500 || series > 1600 {
		t.Errorf("%d series with all transports", series)
	}
}

func TestManualIsWhatTheTableSays(t *testing.T) {
	want, err := Document()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../docs/metrics.md")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("docs/metrics.md is behind the table (%v): run go generate ./internal/metrics", err)
	}
}

// TestScrapeCostsTheSameWhateverIsRemembered compares allocations, which do not
// depend on how busy the machine is: what walks answers or RRsets would show.
func TestScrapeCostsTheSameWhateverIsRemembered(t *testing.T) {
	cost := func(entries int) float64 {
		answers := cache.NewAnswers(cache.AnswersOptions{Bytes: 64 << 20})
		fill(t, answers, entries)
		if n := answers.Stats().Answers.Entries; n != entries {
			t.Fatalf("%d answers are remembered; want %d", n, entries)
		}
		r, err := New(func() Snapshot { s := full(); s.Answers = answers.Stats(); return s })
		if err != nil {
			t.Fatal(err)
		}
		return testing.AllocsPerRun(5, func() {
			if _, err := r.reg.Gather(); err != nil {
				t.Error(err)
			}
		})
	}
	if few, many := cost(10), cost(100_000); many > few*1.1+100 {
		t.Errorf("%v allocations with 10 answers, %v with 100,000", few, many)
	}
}

// fill puts so many answers into the cache.
func fill(tb testing.TB, answers *cache.Answers, entries int) {
	tb.Helper()
	now := time.Now()
	for i := range entries {
		q := wire.Question{Name: wire.MustParseName(fmt.Sprintf("n%d.example.", i)), Type: wire.TypeA}
		msg := slices.Concat([]byte{0, 0, 0x80, 0x80, 0, 1, 0, 1, 0, 0, 0, 0}, []byte(q.Name), []byte{0, 1, 0, 1},
			[]byte{0xC0, 12, 0, 1, 0, 1, 0, 0, 0x0E, 0x10, 0, 4, 192, 0, 2, 1})
		a, err := cache.NewAnswer(msg, nil, now, nil)
		if err != nil {
			tb.Fatal(err)
		}
		answers.Put(q, false, false, a)
	}
}

// BenchmarkScrape takes a scrape of a server that remembers SHIRUBE_ANSWERS
// answers, a million by default.
func BenchmarkScrape(b *testing.B) {
	entries := 1_000_000
	if text := os.Getenv("SHIRUBE_ANSWERS"); text != "" {
		if _, err := fmt.Sscan(text, &entries); err != nil {
			b.Fatal(err)
		}
	}
	answers := cache.NewAnswers(cache.AnswersOptions{Bytes: int64(entries)*300 + 64<<20})
	fill(b, answers, entries)
	r, err := New(func() Snapshot { s := full(); s.Answers = answers.Stats(); return s })
	if err != nil {
		b.Fatal(err)
	}
	h := r.Handler()
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
		if w.Code != http.StatusOK {
			b.Fatal(w.Code)
		}
	}
	b.ReportMetric(float64(answers.Stats().Answers.Entries), "answers")
}

func TestScrapesAreBounded(t *testing.T) {
	under, release := make(chan struct{}, maxScrapes), make(chan struct{})
	r, err := New(func() Snapshot { under <- struct{}{}; <-release; return Snapshot{} })
	if err != nil {
		t.Fatal(err)
	}
	h, scrape := r.Handler(), httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody)
	var others sync.WaitGroup
	for range maxScrapes {
		others.Go(func() { h.ServeHTTP(httptest.NewRecorder(), scrape) }) // end when they are released
	}
	for range maxScrapes {
		<-under
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, scrape)
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("one more: %d", w.Code)
	}
	close(release)
	others.Wait()
}

// TestLabelsCannotBecomeMetrics has names of the configuration that look like lines of
// a scrape (CVE-2026-40011).
func TestLabelsCannotBecomeMetrics(t *testing.T) {
	const name = "x\"} 1\nshirube_forged_total{a=\"b\\"
	s := full()
	s.Dnstap = dnstap.Stats{{Name: name}}
	s.Shared.Servers = map[string]shared.ServerStats{name: {}}
	got := scrape(t, s)
	for line := range strings.Lines(got) {
		if strings.HasPrefix(line, "shirube_forged") {
			t.Errorf("a line of an attacker's: %s", line)
		}
	}
	if n := strings.Count(got, `"x\"} 1\nshirube_forged_total{a=\"b\\"`); n < 2 {
		t.Errorf("the name is told %d times", n)
	}
}

// A scrape pauses, for queries to be answered, after a few metrics and a few octets.
func TestScrapeLetsQueriesBeAnswered(t *testing.T) {
	c, paused := newCollector(full), new(counted)
	c.pause = func() pause { return paused }
	c.Collect(make(chan prometheus.Metric, 10_000))
	if want := len(c.metrics) / atOnce; paused.waits != want || want < 10 || !paused.closed {
		t.Errorf("paused %d times for %d metrics, want %d; closed: %v", paused.waits, len(c.metrics), want, paused.closed)
	}
	paused = new(counted)
	w := &patientWriter{ResponseWriter: httptest.NewRecorder(), queries: paused}
	for range 40 {
		if _, err := w.Write(make([]byte, octetsAtOnce/2)); err != nil {
			t.Fatal(err)
		}
	}
	if paused.waits != 20 {
		t.Errorf("paused %d times for %d octets, want 20", paused.waits, 20*octetsAtOnce)
	}
}

// counted is a pause that nobody needs.
type counted struct {
	waits  int
	closed bool
}

func (c *counted) Wait()  { c.waits++ }
func (c *counted) Close() { c.closed = true }

func TestScrapeIsNotCompressed(t *testing.T) {
	r, err := New(full)
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody)
	req.Header.Set("Accept-Encoding", "gzip, deflate, zstd")
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, req)
	if coding := w.Header().Get("Content-Encoding"); coding != "" || !strings.Contains(w.Body.String(), "shirube_udp_gave_way_total") {
		t.Errorf("the text is %q: %.200s", coding, w.Body)
	}
}
