package daemon

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"shirube/internal/config"
	"shirube/internal/simnet"
	"shirube/internal/wire"
	"shirube/resolver"
)

// traced returns the steps of resolving name, each as one short line.
func traced(t *testing.T, p *Pipeline, name string) (steps []string, err error) {
	t.Helper()
	last := resolver.Event{}
	_, err = p.Resolver.Trace(t.Context(), resolver.Query{Question: wire.Question{Name: wire.MustParseName(name), Type: wire.TypeA}}, func(e resolver.Event) {
		if e.At < last.At {
			t.Errorf("%v comes after %v", e, last)
		}
		last = e
		steps = append(steps, strings.Join(strings.Fields(fmt.Sprintf("%d %s %s %s %s", e.Depth, e.Step, e.Zone, e.Server, e.Question)), " "))
	})
	return steps, err
}

func TestTraceTellsEachStep(t *testing.T) {
	inBubble(t, func(_ *config.Config, n *simnet.Net) {
		n.Serve("192.0.2.2", "com.", "glueless.com. 3600 NS ns.other.net.")
		n.Serve("192.0.2.21", "glueless.com.", "www.glueless.com. 300 A 198.51.100.20")
	}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		steps, err := traced(t, p, "www.glueless.com.")
		want := []string{
			"1 question www.glueless.com. A",
			"1 zone . com. A", "1 query 192.0.2.1:53 com. A", "1 verdict com. com. A",
			"1 zone com. glueless.com. A", "1 query 192.0.2.2:53 glueless.com. A", "1 verdict glueless.com. glueless.com. A",
			"1 zone glueless.com. www.glueless.com. A",
			"1 lookup glueless.com. ns.other.net. A",
			"2 question ns.other.net. A",
			"2 zone . net. A", "2 query 192.0.2.1:53 net. A", "2 verdict net. net. A",
			"2 zone net. other.net. A", "2 query 192.0.2.3:53 other.net. A", "2 verdict other.net. other.net. A",
			"2 zone other.net. ns.other.net. A", "2 query 192.0.2.21:53 ns.other.net. A", "2 verdict ns.other.net. A",
			"1 query 192.0.2.21:53 www.glueless.com. A", "1 verdict www.glueless.com. A",
		}
		if err != nil || !slices.Equal(steps, want) {
			t.Errorf("error %v; got\n%s\nwant\n%s", err, strings.Join(steps, "\n"), strings.Join(want, "\n"))
		}
		steps, err = traced(t, p, "www.glueless.com.")
		want = []string{"1 question www.glueless.com. A", "1 memory www.glueless.com. A"}
		if err != nil || !slices.Equal(steps, want) {
			t.Errorf("error %v; got\n%s\nwant\n%s", err, strings.Join(steps, "\n"), strings.Join(want, "\n"))
		}
		n.Break("192.0.2.21", simnet.Rcode(wire.Refused))
		steps, err = traced(t, p, "www.other.net.")
		if err == nil || !slices.Contains(steps, "1 failure www.other.net. A") {
			t.Errorf("error %v; got\n%s", err, strings.Join(steps, "\n"))
		}
	})
}

// slowLine is a line of the log about a slow resolution.
type slowLine struct {
	Msg, ID, Question, Result string
	Took                      time.Duration
	Others, Omitted           int
	Steps                     []resolver.Event
}

// TestSlowResolutionsAreLoggedWithTheirSteps has a server take its time, and a
// reload that switches the log of it on.
func TestSlowResolutionsAreLoggedWithTheirSteps(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		var log lockedBuffer
		p.log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
		n.Break("192.0.2.21", simnet.Latency(300*time.Millisecond, 0))
		ask(t, p, "www.other.net. A")
		if log.String() != "" || p.Frontend.Stats().Slow != 0 {
			t.Errorf("it is off, and logged %s", log.String())
		}
		cfg := p.Config
		cfg.Log.SlowResolutions = config.SlowResolutions{LongerThan: 200 * time.Millisecond, Interval: time.Minute}
		next, err := p.next(cfg)
		if err != nil {
			t.Fatal(err)
		}
		next.takeOver()
		ask(t, next, "a.other.net. A")
		ask(t, next, "b.other.net. A") // within the minute
		time.Sleep(time.Minute)
		n.Break("192.0.2.21", simnet.Silent())
		ask(t, next, "c.other.net. A")
		time.Sleep(2 * time.Minute)
		ask(t, next, "www.example.com. A") // at once
		var lines []slowLine
		for d := json.NewDecoder(strings.NewReader(log.String())); d.More(); {
			var l slowLine
			if err := d.Decode(&l); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, l)
		}
		if len(lines) != 2 {
			t.Fatalf("%d lines: %s", len(lines), log.String())
		}
		first, last := lines[0], lines[1]
		if first.Msg != "a resolution was slow" || first.Question != "a.other.net. A" || first.Result != "NXDOMAIN" || first.Took < 300*time.Millisecond || first.Others != 0 {
			t.Errorf("found %+v", first)
		}
		if len(first.Steps) != 4 || first.Steps[2].Server != "192.0.2.21:53" || first.Steps[2].RTT != 300*time.Millisecond {
			t.Errorf("the steps are %v", first.Steps)
		}
		if last.Others != 1 || last.Question != "c.other.net. A" || last.Steps[len(last.Steps)-1].Step != resolver.StepFailure {
			t.Errorf("found %+v", last)
		}
		stats, exemplars := next.Frontend.Stats(), next.Frontend.Exemplars()
		if stats.Slow != 3 || stats.SlowTold != 2 || len(exemplars) != 2 || exemplars[0].ID != first.ID || exemplars[1].ID != last.ID {
			t.Errorf("%d were slow and %d told of; %+v", stats.Slow, stats.SlowTold, exemplars)
		}
	})
}

// What is recorded of a resolution is what a trace tells of it.
func TestRecordingSaysWhatATraceTells(t *testing.T) {
	var traces, recordings string
	q := wire.Question{Name: wire.MustParseName("alias.example.com."), Type: wire.TypeA}
	inBubble(t, nil, func(t *testing.T, p *Pipeline, _ *simnet.Net) {
		_, err := p.Resolver.Trace(t.Context(), resolver.Query{Question: q}, func(e resolver.Event) { traces += e.String() + "\n" })
		if err != nil {
			t.Error(err)
		}
	})
	inBubble(t, nil, func(t *testing.T, p *Pipeline, _ *simnet.Net) {
		record := resolver.NewRecording()
		if _, err := p.Resolver.Resolve(t.Context(), resolver.Query{Question: q, Record: record}); err != nil {
			t.Error(err)
		}
		events, _ := record.Events()
		for _, e := range events {
			recordings += e.String() + "\n"
		}
	})
	if traces != recordings || strings.Count(traces, "\n") < 10 {
		t.Errorf("a trace tells\n%s\na recording\n%s", traces, recordings)
	}
}
