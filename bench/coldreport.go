package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// coldRow is the result of one server: of each figure the spread over rounds.
type coldRow struct {
	Server       string  `json:"server"`
	Version      string  `json:"version"`
	CPU          spread  `json:"server_cpu_us_per_name"`
	CPURatio     float64 `json:"cpu_ratio"` // to the first server, of medians
	Packets      spread  `json:"upstream_per_name"`
	PacketsRatio float64 `json:"upstream_ratio"` // likewise
	PerSecond    spread  `json:"per_second"`
	P50          spread  `json:"p50_ms"`
	P90          spread  `json:"p90_ms"`
	P99          spread  `json:"p99_ms"`
	P999         spread  `json:"p99_9_ms"`
	Max          spread  `json:"max_ms"`
	Failed       int     `json:"failed"`           // of all runs
	Asked        int     `json:"asked"`            // of all runs
	Strangers    float64 `json:"strangers_of_all"` // the worst run's share
}

// coldReport is what a comparison on cold names found, and on what.
type coldReport struct {
	testbed
	Names   int          `json:"names"`
	Zones   int          `json:"zones"`
	Rounds  int          `json:"rounds"`
	Clients int          `json:"clients"`
	Threads int          `json:"threads"` // of each server
	Signed  bool         `json:"signed"`  // and validated
	Ports   string       `json:"ip_local_port_range"`
	Faults  *faultReport `json:"faults,omitempty"`
	Rows    []coldRow    `json:"servers"`
	Runs    []coldSample `json:"runs"`
}

// faultReport says what was broken.
type faultReport struct {
	Servers   int     `json:"servers"` // of the zones
	Dead      int     `json:"dead"`
	Slow      int     `json:"slow"`
	Delay     float64 `json:"delay_ms"`
	DeadNames int     `json:"names_with_a_dead_server"`
	SlowNames int     `json:"names_with_a_slow_server"`
}

func newColdReport(ctx context.Context, now time.Time, set settings, l *lab, servers []*contestant) (*coldReport, error) {
	r := &coldReport{
		Names: set.names, Zones: set.zones, Rounds: set.rounds, Clients: set.clients, Threads: set.threads, Signed: set.signed, Ports: set.ports,
	}
	var err error
	if r.testbed, err = newTestbed(ctx, now); err != nil {
		return nil, err
	}
	if f := l.faults; f != nil {
		r.Faults = &faultReport{
			Servers: len(faultyAddrs), Dead: len(f.dead), Slow: len(f.slow), Delay: f.delay.Seconds() * 1000,
		}
		for _, a := range f.dead {
			r.Faults.DeadNames += l.net.asked[a]
		}
		for _, a := range f.slow {
			r.Faults.SlowNames += l.net.asked[a]
		}
	}
	return r, nil
}

// summarise makes the rows from the runs, in the order of servers.
func (r *coldReport) summarise(servers []*contestant) {
	for _, c := range servers {
		w := coldRow{Server: c.name, Version: c.version}
		of := func(value func(*coldSample) float64) spread {
			var values []float64
			for j := range r.Runs {
				if r.Runs[j].Server == w.Server {
					values = append(values, value(&r.Runs[j]))
				}
			}
			return spreadOf(values)
		}
		w.CPU = of(func(s *coldSample) float64 { return s.CPU })
		w.Packets = of(func(s *coldSample) float64 { return s.Packets })
		w.PerSecond = of(func(s *coldSample) float64 { return s.PerSecond })
		w.P50 = of(func(s *coldSample) float64 { return s.P50 })
		w.P90 = of(func(s *coldSample) float64 { return s.P90 })
		w.P99 = of(func(s *coldSample) float64 { return s.P99 })
		w.P999 = of(func(s *coldSample) float64 { return s.P999 })
		w.Max = of(func(s *coldSample) float64 { return s.Max })
		w.Strangers = of(func(s *coldSample) float64 { return s.Strangers }).Max
		for j := range r.Runs {
			if s := &r.Runs[j]; s.Server == w.Server {
				w.Failed += s.Failed
				w.Asked += s.Asked
			}
		}
		r.Rows = append(r.Rows, w)
	}
	for i := range r.Rows {
		w, first := &r.Rows[i], &r.Rows[0]
		if first.CPU.Median > 0 && first.Packets.Median > 0 {
			w.CPURatio = w.CPU.Median / first.CPU.Median
			w.PacketsRatio = w.Packets.Median / first.Packets.Median
		}
	}
}

// title is the report's heading, and slug its file name after the date.
func (r *coldReport) title() (title, slug string) {
	if r.Faults != nil {
		return "Cold cache, faulty servers", "cold-faults"
	}
	if r.Signed {
		return "Cold cache, signed zones", "cold-signed"
	}
	return "Cold cache", "cold"
}

// markdown returns the report as text for people.
func (r *coldReport) markdown() string {
	var b strings.Builder
	title, _ := r.title()
	fmt.Fprintf(&b, "# %s, %s\n\n", title, r.Date.Format(time.DateOnly))
	zones, validation := "unsigned", "nothing validates"
	if r.Signed {
		zones, validation = "signed", "all validate (ECDSA P-256, NSEC)"
	}
	fmt.Fprintf(&b, "%d names in %d %s zones, each asked once by one of %d clients, each of which waits for its answer;\n"+
		"%d rounds, the servers in turn, started anew for every run. Threads of each: %d; %s; QNAME\n"+
		"minimisation is on; net.ipv4.ip_local_port_range is %q. Median (min–max).\n\n", r.Names, r.Zones, zones, r.Clients, r.Rounds, r.Threads, validation, r.Ports)
	if f := r.Faults; f != nil {
		fmt.Fprintf(&b, "Of the zones' %d name servers %d are dead, silently, and %d answer %g ms late. Of the names %d lie in zones with a\n"+
			"dead server and %d in zones with a slow one; every zone has two servers.\n\n", f.Servers, f.Dead, f.Slow, f.Delay, f.DeadNames, f.SlowNames)
	}
	r.table(&b)
	b.WriteString("\nServer CPU is user and system time of all the server's threads, from rest after its start to rest after the last\n" +
		"answer. Packets are queries that the authorities counted, UDP and TCP, those from the server's start on included.\n" +
		"The clients, the servers and the authorities share the machine: q/s and the lower percentiles measure them together.\n\n")
	for i := range r.Rows {
		fmt.Fprintf(&b, "%s, %s.\n", r.Rows[i].Server, r.lastRun(r.Rows[i].Server))
	}
	b.WriteString("\nNoise. ")
	for i := range r.Rows {
		w := &r.Rows[i]
		fmt.Fprintf(&b, "%s's CPU spreads over %.1f %% of its median, while strangers used up to %.1f %% of the machine;\n",
			w.Server, 100*w.CPU.width(), 100*w.Strangers)
	}
	b.WriteString(noiseRule())
	versions := make([]string, len(r.Rows))
	for i := range r.Rows {
		versions[i] = r.Rows[i].Version
	}
	b.WriteString(r.describe("", versions))
	return b.String()
}

// table writes the figures.
func (r *coldReport) table(b *strings.Builder) {
	first := r.Rows[0].Server
	fmt.Fprintf(b, "| Server | CPU µs/name | CPU, %[1]s = 1 | packets/name | packets, %[1]s = 1 | q/s | p50 ms | p90 ms | p99 ms | p99.9 ms | max ms | failed |\n", first)
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	span := func(s spread, digits int) string {
		return fmt.Sprintf("%.*f (%.*f–%.*f)", digits, s.Median, digits, s.Min, digits, s.Max)
	}
	for i := range r.Rows {
		w := &r.Rows[i]
		fmt.Fprintf(b, "| %s | %s | %.2f | %s | %.3f | %s | %s | %s | %s | %s | %s | %d of %d |\n", w.Server,
			span(w.CPU, 1), w.CPURatio, span(w.Packets, 4), w.PacketsRatio, span(w.PerSecond, 0),
			span(w.P50, 1), span(w.P90, 1), span(w.P99, 1), span(w.P999, 1), span(w.Max, 0), w.Failed, w.Asked)
	}
}

// lastRun says where the packets of a server's last run went.
func (r *coldReport) lastRun(server string) string {
	for i := len(r.Runs) - 1; i >= 0; i-- {
		if s := &r.Runs[i]; s.Server == server {
			text := fmt.Sprintf("packets of the last round: %d UDP, %d TCP", s.Upstream.UDP, s.Upstream.TCP)
			if r.Faults != nil {
				text += fmt.Sprintf(", of them %d to dead and %d to slow servers", s.Upstream.Dead, s.Upstream.Slow)
			}
			return text + "; by tier and type: " + s.Upstream.byTier() + fmt.Sprintf("; %d dropped for want of buffer", s.Dropped)
		}
	}
	return "no run"
}

// write prints the report and keeps it.
func (r *coldReport) write(dir string) error {
	_, slug := r.title()
	return keep(dir, r.Date.Format(time.DateOnly)+"-"+slug, r.markdown(), r)
}
