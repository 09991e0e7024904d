package collector

import (
	"bytes"
	"context"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"shirube/dnstap"
	"shirube/internal/wire"
)

func TestFilterTakesWhatItNames(t *testing.T) {
	query := record(t, message(dnstap.ClientQuery, wire.UDP, 0))
	failure := record(t, message(dnstap.ClientResponse, wire.DoH3, wire.ServFail))
	upstream := record(t, message(dnstap.ResolverResponse, wire.TCP, wire.NXDomain))
	for text, want := range map[string][3]bool{
		"":                                 {true, true, true},
		"name:example.com":                 {true, true, true},
		"name:WWW.example.com.":            {true, true, true},
		"name:ample.com":                   {},
		"name:org,com":                     {true, true, true},
		"type:aaaa":                        {true, true, true},
		"type:a,TYPE65":                    {},
		"type:TYPE28":                      {true, true, true},
		"rcode:servfail":                   {false, true, false},
		"rcode:NXDOMAIN,servfail":          {false, true, true},
		"client:192.0.2.0/24":              {true, true, false},
		"client:192.0.2.1":                 {true, true, false},
		"client:2001:db8::/32":             {},
		"transport:udp":                    {true, false, false},
		"transport:doh":                    {false, true, false},
		"transport:doh/http3,tcp":          {false, true, true},
		"transport:doh/http2":              {},
		"rcode:servfail  client:192.0.2.9": {},
		"rcode:servfail client:192.0.2.1":  {false, true, false},
	} {
		f, err := ParseFilter(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := [3]bool{f.Takes(query), f.Takes(failure), f.Takes(upstream)}; got != want {
			t.Errorf("%q: query, failure, upstream: %v; expected %v", text, got, want)
		}
	}
	for _, text := range []string{"x", "name:", "name:a..b", "client:192.0.2", "rcode:nope", "type:nope", "transport:pigeon", "color:red"} {
		if _, err := ParseFilter(text); err == nil {
			t.Errorf("%q passes", text)
		}
	}
}

// hostile is a response about a name that would be a terminal's command.
func hostile(t *testing.T) *dnstap.Record {
	t.Helper()
	m := message(dnstap.ClientResponse, wire.UDP, wire.NXDomain)
	m.Msg = []byte("\x12\x34\x81\x83\x00\x01\x00\x00\x00\x00\x00\x00\x04\x1b[2J\x02\xc3\xa9\x00\xff\xff\x00\x01")
	return record(t, m)
}

// TestScreenFitsEveryTerminal draws in all sizes, and wants as many lines, none too
// long, of nothing but printable ASCII.
func TestScreenFitsEveryTerminal(t *testing.T) {
	f, err := ParseFilter("")
	if err != nil {
		t.Fatal(err)
	}
	l := NewLive(f)
	q, r, bad := record(t, message(dnstap.ClientQuery, wire.DoT, 0)), record(t, message(dnstap.ResolverResponse, wire.UDP, 0)), hostile(t)
	for range liveRows {
		l.Add(q)
		l.Add(r)
		l.Add(bad)
	}
	for columns := range 160 {
		for _, lines := range []int{0, 1, 2, 3, 5, 15, 16, 24, 60, 500} {
			screen := l.Screen(columns, lines, "title", "foot")
			if len(screen) != lines {
				t.Fatalf("%d lines of %d", len(screen), lines)
			}
			for _, line := range screen {
				if len(line) > max(columns, 1) || strings.ContainsFunc(line, func(c rune) bool { return c < ' ' || c > '~' }) {
					t.Fatalf("%dx%d: %q", columns, lines, line)
				}
			}
		}
	}
	screen := strings.Join(l.Screen(120, 40, "title", "foot"), "\n")
	for _, want := range []string{"600 of 600 messages", "DOT", "NXDOMAIN", "33.3%", "www.example.com.", "192.0.2.1", "other", "NOERROR 1.5ms", "foot"} {
		if !strings.Contains(screen, want) {
			t.Errorf("no %q in\n%s", want, screen)
		}
	}
}

func TestTopNamesAndClientsAreCounted(t *testing.T) {
	c := New(Options{Top: 3})
	var frames [][]byte
	for i, name := range []string{"\x01a\x00", "\x01b\x00", "\x01A\x00", "\x01c\x00", "\x01d\x00", "\x01c\x00", "\x01a\x00"} {
		m := message(dnstap.ClientQuery, wire.UDP, 0)
		m.Msg = []byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + name + "\x00\x01\x00\x01")
		frames = append(frames, frame(t, m))
		m = message(dnstap.ClientResponse, wire.UDP, wire.Rcode(i%2))
		frames = append(frames, frame(t, m))
	}
	if err := c.ReadFile(t.Context(), bytes.NewReader(stream(frames...))); err != nil {
		t.Fatal(err)
	}
	s := c.Stats()
	if want := []TopCount{{Key: "a.", Queries: 3}, {Key: "c.", Queries: 2}, {Key: "b.", Queries: 1}}; !slices.Equal(s.Top.Names, want) {
		t.Errorf("names: %+v; expected %+v", s.Top.Names, want)
	}
	if want := []TopCount{{Key: "192.0.2.1", Queries: 7}}; !slices.Equal(s.Top.Clients, want) {
		t.Errorf("clients: %+v; expected %+v", s.Top.Clients, want)
	}
	if len(s.Latency) != 1 || s.Latency[0].Answers != 7 || s.Latency[0].P50 < 0.0015 || s.Latency[0].P50 > 0.002 {
		t.Errorf("latency: %+v", s.Latency)
	}
}

// TestCountsAreMetrics has Prometheus's own tool read them.
func TestCountsAreMetrics(t *testing.T) {
	c := New(Options{Top: 5})
	hostile := message(dnstap.ClientQuery, wire.UDP, 0)
	hostile.Msg = []byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05a\"\\\n}\x00\x00\x01\x00\x01")
	in := stream(frame50(t), frame(t, hostile), frame(t, message(dnstap.ClientResponse, wire.DoH3, wire.ServFail)))
	if err := c.ReadFile(t.Context(), bytes.NewReader(in)); err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	s := c.Stats()
	if err := s.WritePrometheus(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`shirube_tap_frames_total{type="CLIENT_RESPONSE",transport="DOH/HTTP3",family="INET",rcode="SERVFAIL"} 1`,
		`shirube_tap_queries_total{type="AAAA"} 1`, `shirube_tap_latency_seconds_count{transport="DOH/HTTP3"} 1`,
		`shirube_tap_latency_seconds_bucket{transport="DOH/HTTP3",le="+Inf"} 1`, `shirube_tap_top_name_queries{name="www.example.com."} 1`,
		`shirube_tap_top_client_queries{client="192.0.2.1"} 2`, "shirube_tap_malformed_total 0",
	} {
		if !strings.Contains(text.String(), want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	promtool := exec.CommandContext(context.Background(), "promtool", "check", "metrics")
	promtool.Stdin = strings.NewReader(text.String())
	if out, err := promtool.CombinedOutput(); err != nil {
		t.Errorf("promtool (Debian: prometheus): %v\n%s\n%s", err, out, text.String())
	}
}

// TestLatelyForgetsByHalves counts names at times that the frames tell.
func TestLatelyForgetsByHalves(t *testing.T) {
	begun := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	l := NewLately(begun)
	take := func(name string, at time.Time, times int) {
		m := message(dnstap.ClientQuery, wire.UDP, 0)
		m.QueryTime = at
		m.Msg = []byte("\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + name + "\x00\x01\x00\x01")
		for range times {
			l.Take(frame(t, m))
		}
	}
	take("\x01a\x00", begun, 8)
	l.Take(frame(t, message(dnstap.ClientResponse, wire.UDP, 0))) // not a query
	l.Take([]byte("no frame"))
	take("\x01b\x00", begun.Add(halfLife+time.Second), 3)
	for _, tt := range []struct {
		after time.Duration
		all   uint64
		want  []TopCount
	}{
		{halfLife + 2*time.Second, 7, []TopCount{{Key: "a.", Queries: 4}, {Key: "b.", Queries: 3}}},
		{3*halfLife + 2*time.Second, 1, []TopCount{{Key: "a.", Queries: 1}}},
		{time.Hour, 0, nil},
	} {
		got := l.Stats(2, begun.Add(tt.after))
		if got.Queries != tt.all || !slices.Equal(got.Names, tt.want) {
			t.Errorf("after %v: %+v; want %d, %+v", tt.after, got, tt.all, tt.want)
		}
	}
}
