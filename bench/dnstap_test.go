package main

import (
	"strings"
	"testing"
	"time"
)

func TestMedianHasTheIntervalOfTheSignTest(t *testing.T) {
	for _, tt := range []struct {
		n    int
		want interval // of the values 1…n; which of them are the ends is in the tables of the sign test
	}{
		{1, interval{1, 1, 1}},
		{5, interval{1, 3, 5}}, // too few: 1/16 on one side
		{6, interval{1, 3.5, 6}},
		{9, interval{2, 5, 8}},
		{20, interval{6, 10.5, 15}},
		{40, interval{14, 20.5, 27}},
	} {
		var values []float64
		for i := range tt.n {
			values = append(values, float64(tt.n-i))
		}
		if got := medianWithin(values); got != tt.want {
			t.Errorf("of %d values: %v, want %v", tt.n, got, tt.want)
		}
	}
}

func TestRoundsBalanceWhatDrifts(t *testing.T) {
	for _, turned := range []bool{false, true} {
		var places, runs [2]int
		for i := range 4 {
			places[tapSide(i, turned)] += i
			runs[tapSide(i, turned)]++
		}
		if places[0] != places[1] || runs[0] != runs[1] {
			t.Errorf("turned %v: the places of none and of dnstap add up to %v, in %v runs", turned, places, runs)
		}
	}
	if tapSide(0, false) != 0 || tapSide(0, true) != 1 {
		t.Error("not ABBA and BAAB")
	}
}

// exampleDnstap is a report in which each way has that ratio in all rounds but two.
func exampleDnstap(ratio float64) *dnstapReport {
	r := &dnstapReport{testbed: testbed{Date: time.Date(2026, 11, 22, 1, 2, 3, 0, time.UTC), CPU: "A CPU", Cores: 2, Kernel: "6.1", NSD: "NSD version 4.6.1"}, Count: 9, Told: map[string]float64{"one in 100": 0.0101}}
	for i := range 9 {
		for _, w := range tapWays() {
			one := dnstapRound{Way: w.name, Round: i + 1, CPU: 4, None: 2, Ratio: ratio, Strangers: 0.02}
			switch i {
			case 3:
				one.Ratio = 0.5
			case 7:
				one.Ratio = 2
			}
			r.Rounds = append(r.Rounds, one)
		}
	}
	return r
}

func TestVerdictOnDnstapIsByTheInterval(t *testing.T) {
	if err := exampleDnstap(1.02).verdict(); err != nil {
		t.Error(err)
	}
	if err := exampleDnstap(1.04).verdict(); err == nil || !strings.Contains(err.Error(), "one in 100: 1.040 times") || strings.Contains(err.Error(), "all messages") {
		t.Errorf("1.04 for one in 100: %v", err)
	}
	r := exampleDnstap(1.02)
	for i := range r.Rounds {
		if r.Rounds[i].Round < 4 {
			r.Rounds[i].Ratio = 1.3
		}
	}
	if err := r.verdict(); err == nil || strings.Count(err.Error(), "more rounds") != 2 {
		t.Errorf("of rounds that do not tell: %v", err)
	}
}

func TestDnstapReportSaysWhatWasTold(t *testing.T) {
	text := exampleDnstap(1.02).markdown()
	for _, want := range []string{
		"| none, once more | 4.000 | 2.000 | 1.020 (1.020–1.020) | – | – |",
		"| one in 100 | 4.000 | 2.000 | 1.020 (1.020–1.020) | 1.03 | 1.01 % |",
		"Strangers used up to 2.0 %",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
