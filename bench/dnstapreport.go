package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// confidence is the probability with which a median is in its interval.
const confidence = 0.95

// dnstapRound is one round of one way: two runs of it and two without dnstap.
type dnstapRound struct {
	Way       string  `json:"dnstap"`
	Round     int     `json:"round"` // from 1
	CPU       float64 `json:"server_cpu_us_per_query"`
	None      float64 `json:"server_cpu_us_per_query_without"`
	Ratio     float64 `json:"ratio"`
	Strangers float64 `json:"strangers_of_all"` // share of all cores used by anything else
}

// disturbance implements [disturbed].
func (r *dnstapRound) disturbance() float64 { return r.Strangers }

// dnstapReport is what dnstap was found to cost.
type dnstapReport struct {
	testbed
	Version string             `json:"version"`
	Names   int                `json:"names"`
	Count   int                `json:"rounds"`
	Seconds float64            `json:"seconds_of_a_run"`
	Told    map[string]float64 `json:"told"` // share of the messages of clients
	Rounds  []dnstapRound      `json:"runs"`
}

func newDnstapReport(ctx context.Context, set settings, version string) (*dnstapReport, error) {
	bed, err := newTestbed(ctx, time.Now().UTC())
	return &dnstapReport{testbed: bed, Version: version, Names: set.names, Count: set.rounds, Seconds: set.run.Seconds()}, err
}

// interval is a median and where that of all there could have been is, with the
// probability [confidence].
type interval struct{ Low, Median, High float64 }

// medianWithin returns the median of values and its interval by the sign test, which
// supposes nothing of how they are distributed: of n values, each of which is below
// the median of all there could have been or above it with the same probability, it
// leaves as many out at each end as will hardly ever all be on one side. Of less than
// [leastTapRounds] values it is all of them.
func medianWithin(values []float64) interval {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	out, fewer := 0, math.Pow(0.5, float64(n)) // the probability that none is below
	for sum := fewer; out < n/2 && 2*sum <= 1-confidence; sum += fewer {
		out++
		fewer *= float64(n-out+1) / float64(out) // that exactly out are
	}
	out = max(out-1, 0)
	return interval{Low: v[out], Median: spreadOf(v).Median, High: v[n-1-out]}
}

// of returns values of the rounds of a way.
func (r *dnstapReport) of(way string, value func(dnstapRound) float64) (all []float64) {
	for _, one := range r.Rounds {
		if one.Way == way {
			all = append(all, value(one))
		}
	}
	return all
}

func tapRatio(r dnstapRound) float64     { return r.Ratio }
func tapCPU(r dnstapRound) float64       { return r.CPU }
func tapAlone(r dnstapRound) float64     { return r.None }
func tapStrangers(r dnstapRound) float64 { return r.Strangers }

// verdict says what costs more than it may, and of what the rounds do not tell.
func (r *dnstapReport) verdict() error {
	var errs []error
	for _, w := range tapWays() {
		got := medianWithin(r.of(w.name, tapRatio))
		switch {
		case w.aim == 0 || got.High <= w.aim:
		case got.Low > w.aim:
			errs = append(errs, fmt.Errorf("%s: %.3f times the CPU time of none; %.2f are allowed", w.name, got.Median, w.aim))
		default:
			errs = append(errs, fmt.Errorf("%s: between %.3f and %.3f times the CPU time of none, and %.2f are allowed: it takes more rounds to tell", w.name, got.Low, got.High, w.aim))
		}
	}
	return errors.Join(errs...)
}

// markdown returns r for people.
func (r *dnstapReport) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# The cost of dnstap, %s\n\n%d names in memory, asked for by `bench blast` with 160 queries on the way, which keeps the server's one thread busy on a core of its own; the load and the\n"+
		"collectors are on others. One process, which a reload changes before each run of %g s: %d rounds, each of two runs with dnstap and two without (ABBA, then BAAB), of which\n"+
		"the ratio is taken. Median, and where the sign test says that it is with a probability of %g %%.\n\n",
		r.Date.Format(time.DateOnly), r.Names, r.Seconds, r.Count, 100*confidence)
	b.WriteString("| dnstap | server CPU µs/query | without, in the same rounds | ratio | at most | messages told |\n|---|---|---|---|---|---|\n")
	for _, w := range tapWays() {
		cpu, alone, ratio := medianWithin(r.of(w.name, tapCPU)), medianWithin(r.of(w.name, tapAlone)), medianWithin(r.of(w.name, tapRatio))
		aim, told := "–", "–"
		if w.aim > 0 {
			aim = fmt.Sprintf("%.2f", w.aim)
		}
		if share, ok := r.Told[w.name]; ok {
			told = fmt.Sprintf("%.2f %%", 100*share)
		}
		fmt.Fprintf(&b, "| %s | %.3f | %.3f | %.3f (%.3f–%.3f) | %s | %s |\n", w.name, cpu.Median, alone.Median, ratio.Median, ratio.Low, ratio.High, aim, told)
	}
	var strangers []float64
	for _, one := range r.Rounds {
		strangers = append(strangers, tapStrangers(one))
	}
	fmt.Fprintf(&b, "\nThe first line is none beside none: the error of all others. CPU time is that of all the server's threads, what writes to the collector included. Strangers used up to %.1f %% of the machine;\n",
		100*spreadOf(strangers).Max)
	b.WriteString(noiseRule())
	b.WriteString(r.describe("", []string{r.Version}))
	return b.String()
}
