package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// fillReport is what filling a server found.
type fillReport struct {
	testbed
	Dnsperf     string      `json:"dnsperf"`
	Version     string      `json:"version"`
	Entries     int         `json:"names"`
	Few         int         `json:"names_when_little"`
	Held        int         `json:"answers"`
	FillSeconds float64     `json:"seconds_to_fill"`
	Resident    int64       `json:"resident_octets"`
	Heap        int64       `json:"go_heap_octets"`
	PerEntry    float64     `json:"resident_octets_per_answer"`
	Scrapes     []float64   `json:"scrapes_ms"`
	Phases      []fillPhase `json:"phases"`
}

// fillPhase is what was seen while the server was in a state.
type fillPhase struct {
	Name        string       `json:"name"`
	Stream      *streamTally `json:"stream"`
	Echo        *streamTally `json:"echo"`                      // likewise, of the echo
	Did         []float64    `json:"seconds_of_each,omitempty"` // of what was done meanwhile
	Load        *sample      `json:"full_load,omitempty"`
	Collections int          `json:"collections"`
	Collecting  float64      `json:"collecting_cores"`
}

// verdict says which of the bounds do not hold.
func (r *fillReport) verdict() error {
	var errs []error
	if r.PerEntry > fillMost {
		errs = append(errs, fmt.Errorf("%.0f octets for each answer; at most %d are allowed", r.PerEntry, fillMost))
	}
	if r.Held < r.Entries-r.Entries/fillMissing {
		errs = append(errs, fmt.Errorf("%d of %d answers are in memory", r.Held, r.Entries))
	}
	if len(r.Scrapes) > 0 && slices.Max(r.Scrapes) > fillScrape {
		errs = append(errs, fmt.Errorf("a scrape took %.1f ms; at most %g are allowed", slices.Max(r.Scrapes), fillScrape))
	}
	for _, p := range r.Phases {
		if more := p.Stream.P999 - p.Echo.P999; more > fillPause {
			errs = append(errs, fmt.Errorf("%s: the 99.9th percentile is %.2f ms, %.2f more than the echo's; at most %g are allowed", p.Name, p.Stream.P999, more, fillPause))
		}
		if p.Collecting > fillCollecting {
			errs = append(errs, fmt.Errorf("%s: %.2f %% of a core collects garbage", p.Name, 100*p.Collecting))
		}
		if p.Stream.Failed > p.Stream.Asked/fillMissing {
			errs = append(errs, fmt.Errorf("%s: %d questions failed", p.Name, p.Stream.Failed))
		}
	}
	return errors.Join(errs...)
}

// belowPause reports whether all percentiles are below fillPause as they are.
func (r *fillReport) belowPause() bool {
	return !slices.ContainsFunc(r.Phases, func(p fillPhase) bool { return p.Stream.P999 > fillPause })
}

// markdown returns r for people.
func (r *fillReport) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %d answers in memory, %s\n\n", r.Held, r.Date.Format(time.DateOnly))
	fmt.Fprintf(&b, "Names that do not repeat, of %d octets each in the answer, resolved in %.0f s, all over the socket. %.0f MiB resident: %.0f octets for each answer,\n"+
		"all included (%d are allowed). Go's heap has %d MiB of it.\n\n", fillOctets, r.FillSeconds, float64(r.Resident)/(1<<20), r.PerEntry, fillMost, r.Heap>>20)
	b.WriteString("| State | p50 ms | p99 ms | p99.9 ms | most | lost | p99.9 ms of the echo | most | what the server adds to p99.9, ms | q/s at full load | server CPU µs/query | collections | of a core |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, p := range r.Phases {
		s, e := p.Stream, p.Echo
		fmt.Fprintf(&b, "| %s | %.3f | %.3f | %.3f | %.1f | %d of %d | %.3f | %.1f | %.3f |", p.Name, s.P50, s.P99, s.P999, s.Max, s.Lost, s.Asked, e.P999, e.Max, s.P999-e.P999)
		if p.Load == nil {
			b.WriteString(" | | | |\n")
			continue
		}
		fmt.Fprintf(&b, " %.0f | %.2f | %d | %.2f %% |\n", p.Load.PerSecond, p.Load.CPU, p.Collections, 100*p.Collecting)
	}
	b.WriteString("\nThe percentiles are of questions at a steady, moderate rate, from when one was due to when the kernel has the answer.\n" +
		fmt.Sprintf("The echo, which answers all names alike and keeps nothing, was asked in turn with the server, in the same way: what it takes is the machine's. The server may add %g ms\n"+
			"to the 99.9th percentile; it %s below that without the echo's being taken off.\n", fillPause, map[bool]string{true: "is", false: "is not always"}[r.belowPause()]) +
		"At full load dnsperf takes part of the same machine; answers are asked for in another order than they were stored in.\n")
	if len(r.Scrapes) > 0 {
		fmt.Fprintf(&b, "Reading the metrics took %.1f ms at most, in %d times.\n", slices.Max(r.Scrapes), len(r.Scrapes))
	}
	for _, p := range r.Phases {
		if len(p.Did) > 0 {
			fmt.Fprintf(&b, "%s: %d times, %.1f s at most.\n", p.Name, len(p.Did), slices.Max(p.Did))
		}
	}
	b.WriteString("\n" + r.describe("Load: dnsperf "+r.Dnsperf+". ", []string{r.Version}))
	return b.String()
}

// write prints r and keeps it.
func (r *fillReport) write(dir string) error {
	return keep(dir, r.Date.Format(time.DateOnly)+"-fill", r.markdown(), r)
}
