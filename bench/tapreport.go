package main

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"
)

// tapRun is one run of a collector.
type tapRun struct {
	Kind      string  `json:"kind"`
	Frames    int     `json:"frames"`
	Dropped   int     `json:"dropped"`         // of them, that were counted and not kept: there was no room
	PerSecond float64 `json:"per_second"`      // with the senders on the same cores
	CPU       float64 `json:"cpu_us_each"`     // of the collector
	Cores     float64 `json:"collector_cores"` // that it kept busy
}

// tapReport is what collectors were measured to take.
type tapReport struct {
	testbed
	Version string   `json:"version"`
	Senders int      `json:"senders"`
	Rounds  int      `json:"rounds"`
	Seconds float64  `json:"seconds_of_a_run"`
	Octets  int      `json:"octets_of_a_frame"` // mean
	Runs    []tapRun `json:"runs"`
}

func newTapReport(set settings, version string, octets int) *tapReport {
	return &tapReport{
		testbed: testbed{Date: time.Now(), CPU: cpuModel(), Cores: runtime.NumCPU(), Kernel: kernel()},
		Version: version, Senders: set.conns, Rounds: set.rounds, Seconds: set.run.Seconds(), Octets: octets,
	}
}

// kinds returns the kinds that were measured, in order.
func (r *tapReport) kinds() (list []string) {
	for _, run := range r.Runs {
		if !slices.Contains(list, run.Kind) {
			list = append(list, run.Kind)
		}
	}
	return list
}

// of returns the spread of one value of a kind's runs.
func (r *tapReport) of(kind string, value func(tapRun) float64) spread {
	var all []float64
	for _, run := range r.Runs {
		if run.Kind == kind {
			all = append(all, value(run))
		}
	}
	return spreadOf(all)
}

func frameCPU(run tapRun) float64   { return run.CPU }
func framesMade(run tapRun) float64 { return run.PerSecond }
func dropped(run tapRun) float64    { return 100 * float64(run.Dropped) / float64(max(run.Frames, 1)) }

// pair is how many frames of a kind two cores take that have nothing else to do.
func (r *tapReport) pair(kind string) float64 { return 2e6 / r.of(kind, frameCPU).Median }

// verdict says which kinds of counting two cores cannot take tapAim frames of.
func (r *tapReport) verdict() error {
	for _, kind := range r.kinds() {
		if got := r.pair(kind); strings.HasPrefix(kind, "counted") && got < tapAim {
			return fmt.Errorf("%s: two cores take %.0f frames a second; %d are wanted", kind, got, tapAim)
		}
	}
	return nil
}

// markdown returns r for people.
func (r *tapReport) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# The collector, %s\n\n%d senders give `shirube tap` frames of queries and responses of clients, %d octets each, as fast as it takes them:\n"+
		"%d rounds of %g s. The senders are on the same %d cores. What two cores take is worked out from the CPU time of a frame.\n\n",
		r.Date.Format(time.DateOnly), r.Senders, r.Octets, r.Rounds, r.Seconds, r.Cores)
	b.WriteString("| Frames are | collector CPU µs/frame | frames/s that two cores take | frames/s, with the senders | % counted and not kept |\n|---|---|---|---|---|\n")
	for _, kind := range r.kinds() {
		cpu, made := r.of(kind, frameCPU), r.of(kind, framesMade)
		fmt.Fprintf(&b, "| %s | %.2f (%.2f–%.2f) | %.0f | %.0f (%.0f–%.0f) | %.1f |\n", kind, cpu.Median, cpu.Min, cpu.Max, r.pair(kind), made.Median, made.Min, made.Max, r.of(kind, dropped).Max)
	}
	fmt.Fprintf(&b, "\nMachine: %s, %d cores, Linux %s. Collector: %s.\n", r.CPU, r.Cores, r.Kernel, r.Version)
	return b.String()
}

// write prints r and keeps it.
func (r *tapReport) write(dir string) error {
	return keep(dir, r.Date.Format(time.DateOnly)+"-tap", r.markdown(), r)
}
