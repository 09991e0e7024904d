package frontend

import (
	"context"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/cache/shared"
	"shirube/internal/ede"
	"shirube/internal/otlp"
	"shirube/internal/otlp/otlptest"
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/resolver"
)

// spansTo returns what tells c of one resolution in so many.
func spansTo(t *testing.T, c *otlptest.Collector, sample int) *otlp.Exporter {
	t.Helper()
	srv := httptest.NewServer(c)
	t.Cleanup(srv.Close)
	e, err := otlp.New(otlp.Options{
		Endpoint: srv.URL, Sample: sample, Timeout: 10 * time.Second, Queue: 100, Batch: 10, Interval: time.Millisecond, Service: "shirube",
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	e.Start("v9")
	return e
}

// TestCollectorIsToldWhatCameOfAResolution has answers found, failures, and what the
// fleet knows.
func TestCollectorIsToldWhatCameOfAResolution(t *testing.T) {
	c, known := new(otlptest.Collector), &fleet{entries: map[shared.Key]shared.Entry{}}
	e := spansTo(t, c, 1)
	f := newFrontend(t, func(_ context.Context, q wire.Question) (*resolver.Answer, error) {
		if q.Name == wire.MustParseName("bad.example.com.") {
			return nil, ede.Errorf(ede.SignatureExpired, "it has expired")
		}
		return &resolver.Answer{
			Records: []rrset.Set{set(t, q.Name.String()+" 1 A 192.0.2.1", time.Hour, rrset.Secure)}, Trust: rrset.Secure, Queries: 3,
		}, nil
	}, func(o *Options) { o.Spans, o.Sharing = e, Sharing{Cache: known, MaxStale: time.Hour} })
	answer(t, f, query(t, "www.example.com.", dns.TypeA, nil))
	answer(t, f, query(t, "www.example.com.", dns.TypeA, nil)) // a hit is no resolution
	answer(t, f, query(t, "bad.example.com.", dns.TypeA, nil))
	answer(t, f, query(t, "bad.example.com.", 65280, func(m *dns.Msg) { m.CheckingDisabled = true }))
	f.Close() // what is in flight is told too
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	spans := c.Spans(t)
	type told struct {
		name, question, rcode, trust, queries, err, found string
		kind, status                                      int
	}
	var got []told
	for i := range spans {
		s := &spans[i]
		got = append(got, told{
			s.Name, s.Text(attrName), s.Text(attrRcode), s.Text(attrTrust), s.Text(attrQueries), s.Text(attrError), s.Text(attrFound), s.Kind, s.Status.Code,
		})
	}
	want := []told{
		{"resolve A", `"www.example.com."`, `"NOERROR"`, `"secure"`, `"3"`, "", "", 2, 0},
		{"shared cache get", "", "", "", "", "", `"nothing"`, 3, 0},
		{"resolve A", `"bad.example.com."`, `"SERVFAIL"`, "", "", `"EDE 7"`, "", 2, 2},
		{"shared cache get", "", "", "", "", "", `"nothing"`, 3, 0},
		{"resolve another type", `"bad.example.com."`, `"SERVFAIL"`, "", "", `"EDE 7"`, "", 2, 2},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	if s := e.Stats(); s.Emitted != 3 || s.Sent != 3 {
		t.Errorf("%+v", s)
	}
}

// TestNothingOfAClientIsInSpans asks by an address, and looks for it.
func TestNothingOfAClientIsInSpans(t *testing.T) {
	c := new(otlptest.Collector)
	e := spansTo(t, c, 1)
	f := newFrontend(t, func(context.Context, wire.Question) (*resolver.Answer, error) {
		return nil, ede.Errorf(ede.NetworkError, "no")
	}, func(o *Options) { o.Spans = e })
	q := query(t, "www.example.com.", dns.TypeA, nil)
	answer(t, f, q)
	f.Close()
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range c.Spans(t) {
		for _, a := range s.Attributes {
			for _, text := range a.Value {
				if string(text) == `"`+q.Client.Addr().String()+`"` || a.Key == "client.address" {
					t.Errorf("%s is %s", a.Key, text)
				}
			}
		}
	}
}

// TestTracesThatNobodyWantsCostNothing counts what a miss allocates with tracing off,
// and with it on for others.
func TestTracesThatNobodyWantsCostNothing(t *testing.T) {
	cost := func(e *otlp.Exporter) float64 {
		f := &Frontend{opt: Options{Spans: e}, traffic: new(traffic)}
		q := wire.Question{Name: wire.MustParseName("www.example.com."), Type: wire.TypeA}
		out := &outcome{f: f, k: flightKey{q: q}}
		return testing.AllocsPerRun(100, func() {
			out.traced = f.trace(q, time.Time{})
			out.steps = f.recording(out.traced)
			out.traced.fleet(out, false, nil)
			out.ended(time.Millisecond)
		})
	}
	if off, others := cost(nil), cost(spansTo(t, new(otlptest.Collector), 1<<30)); off != 0 || others != 0 {
		t.Errorf("%v allocations without a collector, %v with one", off, others)
	}
}
