package main

import (
	"strings"
	"testing"
	"time"
)

func TestUnboundSaysWhetherItHasACacheForSeveral(t *testing.T) {
	const debian = "Version 1.17.1\n\nConfigure line: --enable-subnet\nLinked libs: libevent\nLinked modules: dns64 python subnetcache respip validator iterator\n"
	if version, has := unboundModules(debian); version != "Version 1.17.1" || has {
		t.Errorf("%q, %v", version, has)
	}
	if _, has := unboundModules("Version 1.19.0\nLinked modules: dns64 cachedb respip validator iterator\n"); !has {
		t.Error("it has one")
	}
}

func TestFleetSizesAreNumbers(t *testing.T) {
	if got, err := fleetSizes("2,4"); err != nil || len(got) != 2 || got[1] != 4 {
		t.Errorf("%v, %v", got, err)
	}
	for _, list := range []string{"", "2,", "0", "17", "two"} {
		if got, err := fleetSizes(list); err == nil {
			t.Errorf("%q is %v", list, got)
		}
	}
}

// exampleFleet is a fleet of two that meets its aims, with one that joined.
func exampleFleet() fleetResult {
	old := memberSample{Memory: 0.7, Shared: 0.2, Resolved: 0.1}
	joined := memberSample{Memory: 0.6, Shared: 0.27, Resolved: 0.13}
	return fleetResult{
		Members: 2, Filling: &fleetSample{Unique: 100, Upstream: 109, Members: []memberSample{old, old}},
		Joined: &fleetSample{Members: []memberSample{old, old, joined}},
	}
}

func TestSharedVerdictHoldsFleetsToTheirAims(t *testing.T) {
	r := &sharedReport{Fleets: []fleetResult{exampleFleet()}}
	if err := r.verdict(); err != nil {
		t.Error(err)
	}
	r.Fleets[0].Filling.Upstream = 111
	r.Fleets[0].Joined.Members[2].Shared = 0.2
	err := r.verdict()
	if err == nil || !strings.Contains(err.Error(), "1.110 queries upstream") || !strings.Contains(err.Error(), "0.889 of their hits") {
		t.Errorf("the verdict is %v", err)
	}
}

func TestPullVerdictTellsWhatClientsNotice(t *testing.T) {
	good := func() *pullResult {
		count := outcomeCount{Asked: 100_000, NoError: 99_999, Lost: 1}
		return &pullResult{Phases: []phaseResult{
			{Name: "before", outcomeCount: count, P99: 2, Missed: 0.2, Shared: 0.15, Connections: 12},
			{Name: "killed", outcomeCount: count, P99: 6.9, Missed: 0.2},
		}}
	}
	if err := good().verdict(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*pullResult){
		"1 answers SERVFAIL":          func(r *pullResult) { r.Phases[1].ServFail = 1 },
		"2 with other rcodes":         func(r *pullResult) { r.Phases[1].Other = 2 },
		"11 of 100000 questions have": func(r *pullResult) { r.Phases[1].Lost = 11 },
		"99th percentile is 7.100":    func(r *pullResult) { r.Phases[1].P99 = 7.1 },
		"only 0.9 % came":             func(r *pullResult) { r.Phases[0].Shared = 0.009 },
		"25 connections":              func(r *pullResult) { r.Phases[1].Connections = 25 },
	} {
		r := good()
		change(r)
		if err := r.verdict(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

// examplePull is a load of four questions in two seconds, and two phases.
func examplePull() (*openLoopRun, []int64) {
	o := newOpenLoop(nil)
	const begun = int64(1_000_000_000_000)
	for i, out := range []string{outcomeNoError, outcomeServFail, outcomeNoError, ""} {
		o.due, o.late = append(o.due, begun+int64(i)*int64(500*time.Millisecond)), append(o.late, time.Duration(i)*time.Millisecond)
		o.outcome, o.latency = append(o.outcome, out), append(o.latency, time.Duration(i+1)*time.Millisecond)
	}
	o.latency[3] = openPatience
	return o, []int64{begun - 1, begun + int64(400*time.Millisecond)}
}

func TestPullIsSummedUpBySecondsAndPhases(t *testing.T) {
	r := &pullResult{Rate: 2, Phases: []phaseResult{{Name: "there"}, {Name: "gone", Mark: "killed"}}}
	r.read(examplePull())
	if len(r.Seconds) != 2 || r.Seconds[0].NoError != 1 || r.Seconds[0].ServFail != 1 || r.Seconds[1].Lost != 1 || r.Seconds[1].P99 != 2000 || r.Seconds[0].P50 != 1 {
		t.Errorf("seconds: %+v", r.Seconds)
	}
	first, second := &r.Phases[0], &r.Phases[1]
	if first.Asked != 1 || first.NoError != 1 || first.P99 != 1 || second.Asked != 3 || second.ServFail != 1 || second.Lost != 1 || second.At != 0.4 {
		t.Errorf("phases: %+v", r.Phases)
	}
	text := r.plot(time.Unix(0, 0)).svg()
	for _, want := range []string{">killed</text>", ">p99</text>", ">SERVFAIL and others</text>", "Latency, ms", "M", "</svg>"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestPullAsksForNamesOfThreeKinds(t *testing.T) {
	query := pullQuery()
	kinds := map[int]int{}
	seen := map[string]bool{}
	for i := range 10 * pullCycle {
		q := string(query(i)[headerSize:])
		switch {
		case strings.Contains(q, "h0000"):
			kinds[0]++
			continue
		case strings.Contains(q, "h0100"):
			kinds[1]++
		case strings.Contains(q, "h5000"):
			kinds[2]++
		}
		if seen[q] {
			t.Errorf("asked twice: %q", q)
		}
		seen[q] = true
	}
	if kinds[0] != 10*pullHot || kinds[1] != 10*(pullCycle-pullHot-pullNew) || kinds[2] != 10*pullNew {
		t.Errorf("%v", kinds)
	}
}

func TestAxesEndAtShortNumbers(t *testing.T) {
	for v, want := range map[float64]float64{0: 1, 0.7: 0.8, 1: 1, 3.3: 4, 8.1: 10, 20_000: 20_000, 20_001: 24_000} {
		if got := roundUp(v); got < want*0.999 || got > want*1.001 {
			t.Errorf("up to %g: %g, want %g", v, got, want)
		}
	}
}
