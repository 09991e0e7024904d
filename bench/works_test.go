package main

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWorksAreFoundInTheirOrder(t *testing.T) {
	all, err := findWorks(knownWorks())
	if err != nil || len(all) != len(works()) {
		t.Errorf("%d works of %d, %v", len(all), len(works()), err)
	}
	some, err := findWorks("mix,udp")
	if err != nil || len(some) != 2 || some[0].name != "udp" || some[1].name != "mix" {
		t.Errorf("mix,udp: %v, %v", some, err)
	}
	for _, bad := range []string{"", "udp,lukewarm"} {
		if _, err := findWorks(bad); err == nil || !strings.Contains(err.Error(), knownWorks()) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	seen := make(map[string]bool)
	for _, w := range all {
		if seen[w.name] || w.title == "" || w.how == "" || len(w.measures) == 0 || w.run == nil {
			t.Errorf("work %q lacks something, or is there twice", w.name)
		}
		seen[w.name] = true
		for _, key := range w.measures {
			findMeasure(key) // it panics if there is none
		}
	}
	for _, a := range aims {
		if i := slices.IndexFunc(all, func(w work) bool { return w.name == a.work }); i < 0 || !slices.Contains(all[i].measures, a.key) {
			t.Errorf("nothing measures %q", a.text)
		}
	}
}

func TestWorksAreGroupedByHowTheyFindTheServers(t *testing.T) {
	all := works()
	done := make(map[string]int)
	for _, unsigned := range []bool{true, false} {
		for _, g := range groups(all, unsigned) {
			alls := false
			for _, w := range g.works {
				done[w.name]++
				if w.unsigned != unsigned || w.lone != g.lone || w.fresh != g.fresh {
					t.Errorf("%s is in group %+v", w.name, g)
				}
				if alls && !w.all {
					t.Errorf("%s comes when all names are in memory already", w.name)
				}
				alls = w.all
			}
		}
	}
	for _, w := range all {
		if done[w.name] != 1 {
			t.Errorf("%s is done %d times", w.name, done[w.name])
		}
	}
}

func TestEstimateGrowsWithRoundsAndTime(t *testing.T) {
	servers := []*contestant{{name: "unbound"}, {name: "shirube"}, {name: "echo", kind: kind{echo: true}}}
	few := estimate(works(), settings{rounds: 5, run: 5 * time.Second}, servers)
	more := estimate(works(), settings{rounds: 5, run: 10 * time.Second}, servers)
	if few < 5*time.Minute || more < few+3*time.Minute || more > time.Hour {
		t.Errorf("%v for 5 s, %v for 10 s", few, more)
	}
	if text := announce(works(), settings{rounds: 5, run: 10 * time.Second}, servers); !strings.Contains(text, "11 works, 3 servers, 5 rounds of 10s: about ") {
		t.Error(text)
	}
}

func TestMixHasOneMissInTen(t *testing.T) {
	hot, misses := []string{"a A", "b A", "c A"}, []string{"x A", "y A"}
	got := mixQuestions(hot, misses)
	if len(got) != 20 {
		t.Fatalf("%d questions", len(got))
	}
	for i, miss := range misses {
		n := 0
		for _, q := range got[10*i : 10*i+10] {
			if q == miss {
				n++
			} else if !slices.Contains(hot, q) {
				t.Errorf("%q stands among the %d. ten", q, i+1)
			}
		}
		if n != 1 {
			t.Errorf("%q stands %d times among its ten", miss, n)
		}
	}
}

func TestZipfAsksForTheFirstMostOften(t *testing.T) {
	count := make(map[string]int)
	for _, q := range zipfDraws([]string{"a", "b", "c", "d"}, 10_000, 2) {
		count[q]++
	}
	// 1/1, 1/2, 1/3 and 1/4 of 25/12.
	for q, want := range map[string]int{"a": 4800, "b": 2400, "c": 1600, "d": 1200} {
		if got := count[q]; got < want-200 || got > want+200 {
			t.Errorf("%s was drawn %d times, want about %d", q, got, want)
		}
	}
}

func TestRunsWithWrongAnswersAreErrors(t *testing.T) {
	f := &queryFile{questions: slices.Repeat([]string{"x A"}, 100), nxdomain: 5}
	server, ceiling := &contestant{name: "x"}, &contestant{name: "echo", kind: kind{echo: true}}
	answered := func(noerror, nxdomain, servfail, lost int64) *tally {
		return &tally{
			Sent: noerror + nxdomain + servfail + lost, Completed: noerror + nxdomain + servfail, Lost: lost,
			Rcodes: map[string]int64{"NOERROR": noerror, "NXDOMAIN": nxdomain, "SERVFAIL": servfail},
		}
	}
	for _, tt := range []struct {
		name string
		run  *tally
		by   *contestant
		once bool
		ok   bool
	}{
		{"a pass", answered(95, 5, 0, 0), server, true, true},
		{"a pass with one lost", answered(95, 4, 0, 1), server, true, true},
		{"a name too many that does not exist", answered(94, 6, 0, 0), server, true, false},
		{"one too few", answered(96, 4, 0, 0), server, true, false},
		{"many passes", answered(954, 46, 0, 0), server, false, true},
		{"none that does not exist", answered(1000, 0, 0, 0), server, false, false},
		{"one failure in a thousand", answered(949, 50, 1, 0), server, false, true},
		{"two", answered(948, 50, 2, 0), server, false, false},
		{"nothing", answered(0, 0, 0, 10), server, false, false},
		{"an echo", answered(1000, 0, 0, 0), ceiling, false, true},
	} {
		if err := f.checkRun(tt.run, tt.by, tt.once); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// A server that fails does not take the figures of the others with it.
func TestFailuresOfOneServerAreKeptForTheReport(t *testing.T) {
	servers := []*contestant{{name: "good"}, {name: "bad"}, {name: "echo", kind: kind{echo: true}}}
	f := &fullRun{set: settings{rounds: 2}, servers: servers, rep: &fullReport{}}
	var order []string
	w := work{name: "w", run: func(_ context.Context, _ *stage, c *contestant, _ *work) (*figures, error) {
		order = append(order, c.name)
		if c.name == "bad" {
			return nil, context.DeadlineExceeded
		}
		return &figures{Values: map[string]float64{perQuery: 1}}, nil
	}}
	if err := f.rounds(t.Context(), nil, servers, []work{w}); err != nil {
		t.Fatal(err)
	}
	if len(f.rep.Runs) != 2 || f.rep.Runs[1].Server != "good" || f.rep.Runs[1].Round != 2 || len(f.rep.Failures) != 2 || f.rep.Failures[0] != "w: bad: context deadline exceeded" {
		t.Errorf("runs %+v, failures %q", f.rep.Runs, f.rep.Failures)
	}
	if !slices.Equal(order, []string{"good", "bad", "bad", "good"}) {
		t.Errorf("the order was %q", order)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.rounds(ctx, nil, servers, []work{w}); err == nil {
		t.Error("it goes on after it was interrupted")
	}
}

// Who could not start is asked nothing.
func TestServersThatFailToStartAreLeftOut(t *testing.T) {
	good, bad, ceiling := &contestant{name: "good"}, &contestant{name: "bad"}, &contestant{name: "echo", kind: kind{echo: true}}
	f := &fullRun{rep: &fullReport{}}
	up, err := f.each(t.Context(), "start", []*contestant{bad, ceiling, good}, []work{{name: "w"}}, func(c *contestant) error {
		if c == bad {
			return context.DeadlineExceeded
		}
		return nil
	})
	if err != nil || !slices.Equal(up, []*contestant{good}) || len(f.rep.Failures) != 1 {
		t.Errorf("%v, %v, failures %q", up, err, f.rep.Failures)
	}
}
