package daemon

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"shirube/internal/config"
	"shirube/internal/lab"
	"shirube/internal/otlp/otlptest"
	"shirube/internal/porttest"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// tracingTo is a configuration of a collector at url that is told of everything.
func tracingTo(url string) config.Tracing {
	t := config.Default().Tracing
	t.Endpoint, t.Sample, t.Interval = url, 1, 10*time.Millisecond
	return t
}

// TestSpansSayWhatAResolutionConsistsOf resolves a signed name of the lab, and looks at
// what a collector is told.
func TestSpansSayWhatAResolutionConsistsOf(t *testing.T) {
	c := new(otlptest.Collector)
	srv := httptest.NewServer(c)
	defer srv.Close()
	world, n, cfg := lab.NewSignedWorld(1), simnet.New(), scenarioConfig(t)
	inLab(t, &cfg, n, world, labHints(t, world), true)
	cfg.Tracing = tracingTo(srv.URL)
	p, err := NewPipeline(cfg, n, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p.Spans.Start("v9")
	names, err := world.Names()
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(names, func(n lab.Name) bool {
		return n.Rcode == wire.NoError && n.Question.Type == wire.TypeA && len(n.Answers) == 1
	})
	name := names[at].Question.Name.String()
	if m := ask(t, p, name+" A +do"); m == nil || !m.AuthenticatedData {
		t.Fatalf("%s: %v", name, m)
	}
	p.Close()
	if err := p.Spans.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	spans := c.Spans(t)
	kinds := map[string]int{}
	for i := range spans {
		s := &spans[i]
		kind, _, _ := strings.Cut(s.Name, " ")
		kinds[kind]++
		switch kind {
		case "resolve":
			if s.Text("dns.question.name") != `"`+name+`"` || s.Text("shirube.dnssec") != `"secure"` || s.Kind != 2 || len(s.Events) < 4 || s.ParentSpanID != "" {
				t.Errorf("%+v", s)
			}
		case "query":
			if !strings.HasPrefix(s.Text("server.address"), `"127.`) && s.Text("server.address") != `"::1"` || s.Text("server.port") != `"53"` || s.Text("network.transport") != `"udp"` || s.Kind != 3 {
				t.Errorf("%+v", s)
			}
		case "verify":
			if !strings.HasSuffix(s.Text("shirube.zone"), `."`) || s.Kind != 1 {
				t.Errorf("%+v", s)
			}
		}
		if s.Start < spans[0].Start || s.End > spans[0].End || s.TraceID != spans[0].TraceID || i > 0 && s.ParentSpanID != spans[0].SpanID || s.Status.Code != 0 {
			t.Errorf("%+v is no part of %+v", s, spans[0])
		}
	}
	asked := len(n.Questions())
	if kinds["resolve"] != 1 || kinds["query"] < 3 || kinds["query"] > asked || kinds["verify"] < 3 || len(kinds) != 3 {
		t.Errorf("%v; %d queries were sent", kinds, asked)
	}
}

// TestReloadChangesTheCollectorOfTraces has one be told, then another, then none; each
// is told to the last trace.
func TestReloadChangesTheCollectorOfTraces(t *testing.T) {
	first, second := new(otlptest.Collector), new(otlptest.Collector)
	srv, srv2 := httptest.NewServer(first), httptest.NewServer(second)
	defer srv.Close()
	defer srv2.Close()
	r := startReloadable(t, func(cfg *config.Config) {
		cfg.Tracing = tracingTo(srv.URL)
		cfg.Tracing.Interval = time.Minute // who changes it does not wait so long
	})
	reload := func() {
		t.Helper()
		if _, err := r.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	told := func(when string, want ...[]string) {
		t.Helper()
		for i, c := range []*otlptest.Collector{first, second} {
			var names []string
			for _, s := range c.Spans(t) {
				if s.ParentSpanID == "" {
					names = append(names, s.Text("dns.question.name"))
				}
			}
			if slices.Sort(names); !slices.Equal(names, want[i]) {
				t.Errorf("%s: collector %d was told of %q; want %q", when, i+1, names, want[i])
			}
		}
	}
	resolve := func(name string) { ask(t, r.Pipeline(), name+" A") }
	resolve("a.example.com.")
	r.cfg.Tracing.Endpoint, r.cfg.Tracing.Sample, r.cfg.Tracing.Names = srv2.URL, 0, []wire.Name{wire.MustParseName("example.net.")}
	reload()
	told("moved", []string{`"a.example.com."`}, nil)
	resolve("b.example.com.")
	resolve("c.example.net.")
	spans := r.Pipeline().Spans
	r.cfg.Log.Level = config.LevelWarn
	reload()
	if r.Pipeline().Spans != spans {
		t.Error("it is made anew though nothing of it changed")
	}
	if s := r.Pipeline().Spans.Stats(); s.Emitted != 2 || s.Sent != 1 {
		t.Errorf("%+v", s)
	}
	if m := r.snapshot(); m.Traces == nil || m.Traces.Emitted != 2 {
		t.Errorf("%+v", m.Traces)
	}
	r.cfg.Tracing = config.Default().Tracing
	reload()
	told("off", []string{`"a.example.com."`}, []string{`"c.example.net."`})
	resolve("d.example.net.")
	if r.Pipeline().Spans != nil || r.snapshot().Traces != nil {
		t.Error("it is not off")
	}
	for what, bad := range map[string]func(*config.Tracing){
		"headers": func(t *config.Tracing) { t.HeadersFile = "/nowhere" },
		"ca_file": func(t *config.Tracing) { t.Endpoint, t.TLS.CAFile = "https://127.0.0.1:1", "/nowhere" },
	} {
		r.cfg.Tracing = tracingTo(srv.URL)
		bad(&r.cfg.Tracing)
		if _, err := r.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "tracing") {
			t.Errorf("%s: %v", what, err)
		}
	}
	r.cfg.Tracing = config.Default().Tracing
}

// TestDrainTellsTheCollectorOfTraces ends a server with traces that wait.
func TestDrainTellsTheCollectorOfTraces(t *testing.T) {
	c := new(otlptest.Collector)
	srv := httptest.NewServer(c)
	defer srv.Close()
	cfg := scenarioConfig(t)
	cfg.Resolver.RootHints, cfg.Resolver.DoNotQueryLocalhost, cfg.Identity.NSID = "testdata/nobody.hints", false, "tokyo-1"
	cfg.Listen = []config.Listener{listenOn(porttest.Take(t))}
	cfg.Tracing = tracingTo(srv.URL)
	cfg.Tracing.Interval = time.Minute
	d, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	d.Version = "1.2.3"
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	ask(t, d.Pipeline(), "www.example.com. A")
	if err := d.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	bodies, _ := c.Requests()
	if len(bodies) != 1 {
		t.Fatalf("%d requests", len(bodies))
	}
	r, faults := otlptest.Read(bodies[0])
	about := map[string]string{}
	for _, a := range r.ResourceSpans[0].Resource.Attributes {
		about[a.Key] = string(a.Value["stringValue"])
	}
	if want := map[string]string{"service.name": `"shirube"`, "service.instance.id": `"tokyo-1"`, "service.version": `"1.2.3"`}; !maps.Equal(about, want) || len(faults) > 0 {
		t.Errorf("found %v, %q", about, faults)
	}
}

// BenchmarkResolution resolves names in a world of its own, with a collector that is
// told of none, of one in a hundred, and of all: the collector is in the CPU time too.
func BenchmarkResolution(b *testing.B) {
	for _, sample := range []int{0, 100, 1} {
		b.Run(fmt.Sprintf("sample=%d", sample), func(b *testing.B) {
			srv := httptest.NewServer(new(otlptest.Collector))
			defer srv.Close()
			n, cfg := simnet.New(), config.Default()
			baseWorld(n)
			cfg.Resolver.RootHints, cfg.Resolver.PrimeRoot, cfg.Cache.AnswersSize, cfg.DNSSEC.Validation = "testdata/root.hints", false, 16<<20, false
			if sample > 0 {
				cfg.Tracing = tracingTo(srv.URL)
				cfg.Tracing.Sample, cfg.Tracing.Interval = sample, config.Default().Tracing.Interval
			}
			p, err := NewPipeline(cfg, n, slog.New(slog.DiscardHandler))
			if err != nil {
				b.Fatal(err)
			}
			p.Spans.Start("v9")
			defer func() {
				p.Close()
				if err := p.Spans.Close(b.Context()); err != nil {
					b.Error(err)
				}
			}()
			i, begun := 0, cpuTime(b)
			b.ReportAllocs()
			for b.Loop() {
				i++
				ask(b, p, fmt.Sprintf("n%d.other.net. A", i))
			}
			b.ReportMetric(float64((cpuTime(b)-begun).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

// cpuTime is what this process has used.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
