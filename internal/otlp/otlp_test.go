package otlp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"shirube/internal/otlp/otlptest"
	"shirube/internal/wire"
)

const patience = 20 * time.Second

// options are those of the tests, for a collector at an endpoint.
func options(endpoint string) Options {
	return Options{
		Endpoint: endpoint, Sample: 1, Timeout: 5 * time.Second, Queue: 100, Batch: 10, Interval: 10 * time.Millisecond,
		Service: "shirube", Instance: "node-1",
	}
}

// start starts what tells a collector. Who calls it closes it.
func start(t *testing.T, opt Options) *Exporter {
	t.Helper()
	e, err := New(opt, nil)
	if err != nil {
		t.Fatal(err)
	}
	e.Start("v9")
	return e
}

// closed closes e, which has all the time that it needs.
func closed(t *testing.T, e *Exporter) Stats {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := e.Close(ctx); err != nil {
		t.Error(err)
	}
	return e.Stats()
}

var example = wire.MustParseName("www.example.com.")

// trace returns a function that makes a trace with one part.
func trace(t *testing.T, e *Exporter) func() Trace {
	t.Helper()
	id, ok := e.Wants(example)
	if !ok {
		t.Fatal("no trace is wanted")
	}
	return func() Trace {
		now := time.Now()
		return Trace{
			ID: id,
			Root: Span{
				Name: "resolve A", Kind: Server, Begun: now.Add(-time.Second), End: now, Omitted: 3, Failed: true, Why: "a\xffb",
				Attrs:  []Attr{Text("dns.question.name", "www.example.com."), Int("shirube.queries", -1<<63), Bool("shirube.cd", false), Text("long", strings.Repeat("é", 2000))},
				Events: []Event{{At: now, Name: "zone", Attrs: []Attr{Text("shirube.zone", "")}}},
			},
			Parts: []Span{{Name: "query A", Kind: Client, Begun: now.Add(-time.Second), End: now, Attrs: []Attr{Int("server.port", 53)}}},
		}
	}
}

func TestCollectorIsToldInTheWordsOfTheSchema(t *testing.T) {
	c := new(otlptest.Collector)
	srv := httptest.NewServer(c)
	defer srv.Close()
	e := start(t, options(srv.URL))
	for range 3 {
		e.Take(trace(t, e))
	}
	if s := closed(t, e); s.Emitted != 3 || s.Sent != 3 || !s.Up || s.Requests == 0 || s.Failures > 0 {
		t.Errorf("%+v", s)
	}
	bodies, requests := c.Requests()
	spans := c.Spans(t)
	for _, r := range requests {
		if r.Method != http.MethodPost || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s, %v", r.Method, r.URL, r.Header)
		}
	}
	if len(spans) != 6 {
		t.Fatalf("found %d spans", len(spans))
	}
	r, _ := otlptest.Read(bodies[0])
	if about := fmt.Sprintf("%s", r.ResourceSpans[0].Resource.Attributes); about != `[{service.name map[stringValue:"shirube"]} {service.instance.id map[stringValue:"node-1"]} {service.version map[stringValue:"v9"]}]` {
		t.Errorf("found %s", about)
	}
	traces := map[string]bool{}
	for i := 0; i < len(spans); i += 2 {
		root, part := spans[i], spans[i+1]
		traces[root.TraceID] = true
		if root.ParentSpanID != "" || part.ParentSpanID != root.SpanID || part.TraceID != root.TraceID || root.Kind != 2 || part.Kind != 3 {
			t.Errorf("%+v\n%+v", root, part)
		}
		if root.Status.Code != 2 || root.Status.Message != "a\uFFFDb" || part.Status.Code != 0 || root.DroppedEvents != 3 || len(root.Events) != 1 {
			t.Errorf("%+v", root)
		}
		if got := fmt.Sprintf("%s", root.Attributes[1].Value); got != `map[intValue:"-9223372036854775808"]` {
			t.Errorf("found %s", got)
		}
		if n := len(root.Attributes[3].Value["stringValue"]); n > maxText+4 {
			t.Errorf("a text has %d octets", n)
		}
	}
	if len(traces) != 3 {
		t.Errorf("found %d traces", len(traces))
	}
}

func TestOneInSoManyIsTracedExactly(t *testing.T) {
	for _, sample := range []int{0, 1, 7, 100} {
		opt := options("http://127.0.0.1:1")
		opt.Sample = sample
		e, err := New(opt, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, want := 0, 0
		for range 700 {
			if _, ok := e.Wants(example); ok {
				got++
			}
		}
		if sample > 0 {
			want = 700 / sample
		}
		if got != want {
			t.Errorf("one in %d: found %d of 700; want %d", sample, got, want)
		}
	}
}

func TestNamesAreTracedBesides(t *testing.T) {
	opt := options("http://127.0.0.1:1")
	opt.Sample, opt.Names = 1000, []wire.Name{wire.MustParseName("example.com."), wire.MustParseName("test.")}
	e, err := New(opt, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"example.com.": true, "a.b.example.com.": true, "x.test.": true, "badexample.com.": false, "com.": false, ".": false} {
		for range 3 {
			if _, ok := e.Wants(wire.MustParseName(name)); ok != want {
				t.Errorf("%s: %v", name, ok)
			}
		}
	}
	drawn := 0
	for range 1000 - 9 { // three names were in none, three times each
		e.draws(example) // in one, and not counted
		if _, ok := e.Wants(wire.MustParseName("elsewhere.")); ok {
			drawn++
		}
	}
	if drawn != 1 {
		t.Errorf("found %d of the 1,000", drawn)
	}
}

func TestWhatIsNotTracedAllocatesNothing(t *testing.T) {
	opt := options("http://127.0.0.1:1")
	opt.Sample = 1 << 30
	e, err := New(opt, nil)
	if err != nil {
		t.Fatal(err)
	}
	var off *Exporter
	if n := testing.AllocsPerRun(100, func() {
		if _, ok := e.Wants(example); ok {
			t.Error("drawn")
		}
		if _, ok := off.Wants(example); ok {
			t.Error("it is off")
		}
	}); n != 0 {
		t.Errorf("found %v allocations", n)
	}
}

// TestCollectorsAreReached asks by each way that there is.
func TestCollectorsAreReached(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	headers := filepath.Join(t.TempDir(), "headers")
	if err := os.WriteFile(headers, []byte("# for the collector\n\nauthorization: Bearer x:y\nX-Scope: a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, serve := range map[string]func(*httptest.Server, *Options){
		"unix": func(s *httptest.Server, opt *Options) {
			_ = s.Listener.Close()
			s.Listener = l
			s.Start()
			opt.Endpoint = "unix:" + socket
		},
		"tls": func(s *httptest.Server, opt *Options) {
			s.StartTLS()
			roots := x509.NewCertPool()
			roots.AddCert(s.Certificate())
			opt.Endpoint, opt.TLS = s.URL+"/other/path", &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		},
		"tcp": func(s *httptest.Server, opt *Options) {
			s.Start()
			opt.Endpoint, opt.Headers = s.URL+"/", headers
		},
	} {
		c := new(otlptest.Collector)
		srv := httptest.NewUnstartedServer(c)
		opt := options("")
		serve(srv, &opt)
		e := start(t, opt)
		e.Take(trace(t, e))
		if s := closed(t, e); s.Sent != 1 {
			t.Errorf("%s: %+v", what, s)
		}
		srv.Close()
		_, requests := c.Requests()
		if len(requests) != 1 {
			t.Fatalf("%s: %d requests", what, len(requests))
		}
		r := requests[0]
		path, auth := map[string]string{"tls": "/other/path"}[what], map[string]string{"tcp": "Bearer x:y"}[what]
		if path == "" {
			path = "/v1/traces"
		}
		if r.URL.Path != path || r.Header.Get("Authorization") != auth {
			t.Errorf("%s: %s, %v", what, r.URL, r.Header)
		}
	}
}

func TestOptionsThatAreWrongAreRefused(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for what, change := range map[string]func(*Options){
		"no endpoint":            func(o *Options) { o.Endpoint = "" },
		"no host":                func(o *Options) { o.Endpoint = "http://" },
		"another scheme":         func(o *Options) { o.Endpoint = "grpc://x:4317" },
		"a user":                 func(o *Options) { o.Endpoint = "http://u:p@x" },
		"a query":                func(o *Options) { o.Endpoint = "http://x?y" },
		"no path of a socket":    func(o *Options) { o.Endpoint = "unix:" },
		"a bad URL":              func(o *Options) { o.Endpoint = "http://[" },
		"no time":                func(o *Options) { o.Timeout = 0 },
		"no queue":               func(o *Options) { o.Queue = 0 },
		"headers not there":      func(o *Options) { o.Headers = dir + "/none" },
		"headers that are none":  func(o *Options) { o.Headers = write("a", "Bearer secret") },
		"a header with a space":  func(o *Options) { o.Headers = write("b", "X Y: z") },
		"a header with a zero":   func(o *Options) { o.Headers = write("c", "X: \x00") },
		"headers that are large": func(o *Options) { o.Headers = write("d", "X: "+strings.Repeat("x", maxHeadersFile)) },
		"headers that are many": func(o *Options) {
			var b strings.Builder
			for i := range maxHeaders + 1 {
				fmt.Fprintf(&b, "X%d: y\n", i)
			}
			o.Headers = write("e", b.String())
		},
	} {
		opt := options("http://127.0.0.1:1")
		change(&opt)
		if _, err := New(opt, nil); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestCountsGoOnInWhatFollows has one exporter follow another, as a reload does.
func TestCountsGoOnInWhatFollows(t *testing.T) {
	srv := httptest.NewServer(new(otlptest.Collector))
	defer srv.Close()
	first := start(t, options(srv.URL))
	next, err := New(options(srv.URL), first)
	if err != nil {
		t.Fatal(err)
	}
	next.Start("v9")
	next.Start("v9") // again is nothing
	first.Take(trace(t, first))
	next.Take(trace(t, next))
	closed(t, first)
	first.Take(trace(t, first)) // who began before the reload
	if s := closed(t, next); s.Emitted != 3 || s.Sent != 2 || s.Dropped != 1 {
		t.Errorf("%+v", s)
	}
	closed(t, next) // again is nothing
	unstarted, err := New(options(srv.URL), nil)
	if err != nil {
		t.Fatal(err)
	}
	unstarted.Take(trace(t, unstarted))
	if s := closed(t, unstarted); s.Dropped != 1 {
		t.Errorf("%+v", s)
	}
	var off *Exporter
	off.Start("")
	if err := off.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestEveryTraceIsCountedOnce has many tell of more than the collector takes.
func TestEveryTraceIsCountedOnce(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	c := new(otlptest.Collector)
	srv := httptest.NewServer(c)
	opt := options(srv.URL)
	opt.Queue = 3
	e := start(t, opt)
	var telling sync.WaitGroup
	for range 8 {
		telling.Go(func() { // ends with its count
			for range 200 {
				e.Take(trace(t, e))
			}
		})
	}
	telling.Wait()
	s := closed(t, e)
	if s.Emitted != 1600 || s.Sent+s.Dropped != s.Emitted || s.Dropped == 0 || s.Failed+uint64(s.Queued) != 0 {
		t.Errorf("%+v", s)
	}
	if spans := c.Spans(t); uint64(len(spans)) != 2*s.Sent {
		t.Errorf("%d spans of %d traces", len(spans), s.Sent)
	}
	srv.Close()
	for until := time.Now().Add(patience); runtime.NumGoroutine() > goroutines; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			stacks := make([]byte, 1<<16)
			t.Fatalf("%d goroutines were there, and %d are\n%s", goroutines, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
		}
	}
}

func TestIDsAreDifferent(t *testing.T) {
	var ids []string
	for range 1000 {
		ids = append(ids, newTraceID().String(), newSpanID())
	}
	if slices.Sort(ids); len(slices.Compact(ids)) != 2000 {
		t.Error("some are the same")
	}
}
