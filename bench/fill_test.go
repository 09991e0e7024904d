package main

import (
	"strings"
	"testing"

	"shirube/internal/wire"
)

func TestScatteredYieldsEachNumberOnce(t *testing.T) {
	for _, n := range []int{1, 2, 10, 1000, 65_536, 99_991} {
		for _, seed := range []int{1, 7919} {
			seen := make([]bool, n)
			count := 0
			for i := range scattered(n, seed) {
				if seen[i] {
					t.Fatalf("%d of %d comes twice", i, n)
				}
				seen[i] = true
				count++
			}
			if count != n {
				t.Errorf("%d of %d", count, n)
			}
		}
	}
}

func TestFillingAnswersAreOfTheirSize(t *testing.T) {
	var q wire.Query
	if status := q.Parse(newQuery(7, fillName(12_345_678), uint16(wire.TypeTXT))); status != wire.OK {
		t.Fatalf("status %d", status)
	}
	msg := filling(nil, &q)
	offsets, _, ok := wire.AppendTTLOffsets(nil, msg)
	if !ok || len(offsets) != 1 || len(msg) != fillOctets {
		t.Errorf("%d octets, with TTLs at %v: %x", len(msg), offsets, msg)
	}
}

func TestDenialsAreWhole(t *testing.T) {
	zone := wire.MustParseName("flood.com.")
	for name, rcode := range map[string]wire.Rcode{"x.y.flood.com.": wire.NXDomain, "flood.com.": wire.NoError} {
		var q wire.Query
		if status := q.Parse(newQuery(7, name, uint16(wire.TypeA))); status != wire.OK {
			t.Fatalf("status %d", status)
		}
		msg := denying(zone)(nil, &q)
		if offsets, _, ok := wire.AppendTTLOffsets(nil, msg); !ok || len(offsets) != 1 || wire.RcodeOf(msg) != rcode {
			t.Errorf("%s: %x", name, msg)
		}
	}
}

func TestMetricsAreReadWithTheirLabels(t *testing.T) {
	m := parseMetrics("# HELP a b\n# TYPE a counter\na 3\nb{x=\"1 2\"} 4.5e+06\n\nnothing\n")
	if len(m) != 2 || m["a"] != 3 || m[`b{x="1 2"}`] != 4.5e6 {
		t.Errorf("read %v", m)
	}
}

func TestFlushedNamesAreNotAskedFor(t *testing.T) {
	all := fillQueries(100, 100, 1)
	if got := kept(all); len(all) != 100 || len(got) != 100-100/fillTrees {
		t.Errorf("%d of %d are kept", len(got), len(all))
	}
}

func TestFillSaysWhichBoundsDoNotHold(t *testing.T) {
	good := fillReport{Entries: 1000, Held: 1000, PerEntry: 250, Scrapes: []float64{2}, Phases: []fillPhase{{Stream: &streamTally{P999: 1.4}, Echo: &streamTally{P999: 0.5}}}}
	if err := good.verdict(); err != nil {
		t.Error(err)
	}
	for _, spoil := range []func(*fillReport){
		func(r *fillReport) { r.PerEntry = 301 },
		func(r *fillReport) { r.Held = 900 },
		func(r *fillReport) { r.Scrapes = []float64{2, 51} },
		func(r *fillReport) {
			r.Phases = []fillPhase{{Stream: &streamTally{P999: 1.6}, Echo: &streamTally{P999: 0.5}}}
		},
		func(r *fillReport) { r.Phases = []fillPhase{{Stream: &streamTally{Failed: 1}, Echo: new(streamTally)}} },
		func(r *fillReport) {
			r.Phases = []fillPhase{{Stream: new(streamTally), Echo: new(streamTally), Collecting: 0.02}}
		},
	} {
		bad := good
		spoil(&bad)
		if bad.verdict() == nil {
			t.Errorf("nothing is wrong with %+v", bad)
		}
	}
}

func TestFillTellsTheServerFromTheMachine(t *testing.T) {
	r := fillReport{Phases: []fillPhase{{Name: "full", Stream: &streamTally{P50: 0.1, P999: 1.25, Asked: 10}, Echo: &streamTally{P999: 1, Max: 3}}}}
	text := r.markdown()
	for _, want := range []string{"| full | 0.100 | 0.000 | 1.250 | 0.0 | 0 of 10 | 1.000 | 3.0 | 0.250 |", "it is not always below that"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if r.Phases[0].Stream.P999 = 0.9; !strings.Contains(r.markdown(), "it is below that") {
		t.Error(r.markdown())
	}
}
