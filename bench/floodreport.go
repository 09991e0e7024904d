package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// floodReport is what floods did to servers.
type floodReport struct {
	testbed
	ServerCPUs int           `json:"server_cpus"`
	OtherCPUs  int           `json:"other_cpus"`
	Dnsperf    string        `json:"dnsperf"`
	Rate       int           `json:"hits_per_second"`
	Times      int           `json:"times_the_capacity"`
	Rounds     int           `json:"rounds"`
	Seconds    float64       `json:"seconds_of_a_run"`
	Servers    []floodServer `json:"servers"`
}

// floodServer is one server's part.
type floodServer struct {
	Server   string        `json:"server"`
	Version  string        `json:"version"`
	Capacity float64       `json:"resolved_per_second"`
	Runs     []floodSample `json:"runs"`
}

// floodSample is one run.
type floodSample struct {
	Round      int          `json:"round"` // from 1
	Flood      string       `json:"flood"`
	Stream     *streamTally `json:"hits"`
	FloodMeant float64      `json:"flood_per_second_meant"`
	FloodRate  float64      `json:"flood_per_second"`
	Answered   float64      `json:"flood_answered"` // share
	ServFail   float64      `json:"flood_servfail"` // share
	Resident   int64        `json:"resident_octets"`
}

func newFloodReport(ctx context.Context, set settings, serverCPUs, otherCPUs int) (*floodReport, error) {
	bed, err := newTestbed(ctx, time.Now().UTC())
	return &floodReport{
		testbed: bed, ServerCPUs: serverCPUs, OtherCPUs: otherCPUs,
		Dnsperf: dnsperfVersion(ctx), Rate: set.rate, Times: set.times, Rounds: set.rounds, Seconds: set.run.Seconds(),
	}, err
}

// capacity returns how many names s resolves in a second, or of a server that
// resolves nothing, how many another one does at most.
func (r *floodReport) capacity(s *floodServer) float64 {
	most := s.Capacity
	for i := range r.Servers {
		if s.Capacity == 0 {
			most = max(most, r.Servers[i].Capacity)
		}
	}
	return most
}

// floodRow is what all rounds of one kind of flood came to.
type floodRow struct {
	flood                        string
	p50, p99, p999, ratio, late  spread
	rate, answered, failed, lost float64
	resident                     int64
	asked                        int
}

// rows sums up the runs of a server, in the order of the kinds.
func (s *floodServer) rows() (rows []floodRow) {
	peace := map[int]float64{} // by round
	for _, run := range s.Runs {
		if _, ok := peace[run.Round]; !ok {
			peace[run.Round] = run.Stream.P99
		}
	}
	for _, k := range floodKinds {
		w := floodRow{flood: k.name}
		var p50, p99, p999, ratio, late, rate, answered, failed []float64
		for _, run := range s.Runs {
			if run.Flood != k.name {
				continue
			}
			t := run.Stream
			p50, p99, p999 = append(p50, t.P50), append(p99, t.P99), append(p999, t.P999)
			late = append(late, t.Late)
			ratio = append(ratio, t.P99/max(peace[run.Round], 0.001))
			rate, answered, failed = append(rate, run.FloodRate), append(answered, run.Answered), append(failed, run.ServFail)
			w.lost += float64(t.Lost + t.Failed)
			w.asked += t.Asked
			w.resident = max(w.resident, run.Resident)
		}
		if len(p50) == 0 {
			continue // of other servers
		}
		w.p50, w.p99, w.p999, w.ratio = spreadOf(p50), spreadOf(p99), spreadOf(p999), spreadOf(ratio)
		w.late = spreadOf(late)
		w.rate, w.answered, w.failed = spreadOf(rate).Median, spreadOf(answered).Median, spreadOf(failed).Median
		rows = append(rows, w)
	}
	return rows
}

// floor returns how long hits of the echo, which resolves nothing, wait in a flood.
func (r *floodReport) floor() (p99 spread, ok bool) {
	for i := range r.Servers {
		if r.Servers[i].Server != ceilingPeer {
			continue
		}
		for _, w := range r.Servers[i].rows() {
			if w.flood == floodKinds[1].name {
				return w.p99, true
			}
		}
	}
	return p99, false
}

// verdict says of which floods hits are slower than they may be, with Shirube. Where
// the echo's are as slow, it is not known.
func (r *floodReport) verdict() error {
	var errs []error
	floor, known := r.floor()
	for i := range r.Servers {
		s := &r.Servers[i]
		if !strings.HasPrefix(s.Server, subject) {
			continue
		}
		for _, w := range s.rows() {
			if w.ratio.Median > floodMost && !(known && w.p99.Median <= floor.Median) {
				errs = append(errs, fmt.Errorf("%s, %s: hits' 99th percentile is %.1f times that in peace; at most %g are allowed", s.Server, w.flood, w.ratio.Median, floodMost))
			}
		}
	}
	return errors.Join(errs...)
}

// markdown returns r for people.
func (r *floodReport) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Hits during floods of misses, %s\n\n", r.Date.Format(time.DateOnly))
	fmt.Fprintf(&b, "2000 names in memory, of which %d a second are asked for at a steady rate, while %d times as many names as the server can resolve in a second\n"+
		"are asked for by clients of %d networks, each name once. Runs of %g s, in %d rounds: median (min–max). Each server has %d of %d CPUs to itself, and nice -20; the\n"+
		"clients, the flood and the authorities have the others. Times are from when a question was due to when the kernel has the answer.\n\n",
		r.Rate, r.Times, floodNetworks, r.Seconds, r.Rounds, r.ServerCPUs, r.Cores)
	b.WriteString("| Server | Flood, by its zone's servers | p50 ms | p99 ms | p99.9 ms | p99, none = 1 | asked late, p99 ms | hits lost or failed | flood q/s | of it answered | SERVFAIL | RSS MiB |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	show := func(s spread, format string) string {
		return fmt.Sprintf(format+" ("+format+"–"+format+")", s.Median, s.Min, s.Max)
	}
	for i := range r.Servers {
		s := &r.Servers[i]
		for _, w := range s.rows() {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %.2f %% | %.0f | %.0f %% | %.0f %% | %d |\n", s.Server, w.flood, show(w.p50, "%.3f"), show(w.p99, "%.3f"), show(w.p999, "%.3f"),
				show(w.ratio, "%.2f"), show(w.late, "%.3f"), 100*w.lost/float64(max(w.asked, 1)), w.rate, 100*w.answered, 100*w.failed, w.resident>>20)
		}
	}
	b.WriteString("\nThe echo resolves nothing, and answers each packet at once: in a flood as the others have it, it shows what the load and this machine do to hits by\n" +
		"themselves; *CPU shared* is how late the kernel has a server run beside another process that takes all the CPU time it gets. What has no answer after\n" +
		"two seconds counts as that.")
	if floor, ok := r.floor(); ok {
		fmt.Fprintf(&b, " Whether hits that wait no longer than its %.3f ms in a flood could be faster is not known.", floor.Median)
	}
	var versions []string
	for i := range r.Servers {
		if r.Servers[i].Capacity > 0 {
			fmt.Fprintf(&b, " %s resolves %.0f names a second.", r.Servers[i].Server, r.Servers[i].Capacity)
		}
		versions = append(versions, r.Servers[i].Version)
	}
	b.WriteString("\n\n" + r.describe("Load: dnsperf "+r.Dnsperf+". ", versions))
	return b.String()
}
