package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// resultsDir is where the results lie that are kept with the project.
const resultsDir = "bench/results"

// recordable returns an error if results of a program are to be kept that nobody can
// build again, by what it says of its version.
func recordable(version, out string) error {
	if filepath.Clean(out) != resultsDir || !strings.Contains(version, "-dirty") {
		return nil
	}
	return fmt.Errorf("%s was built from a tree with changes: commit them and `make build`, or have the results elsewhere (-out bench/out)", version)
}

// spread is the middle and the ends of some measurements.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// spreadOf returns the spread of values; of none it is zero. The median of an
// even number of values is the mean of the middle two.
func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	v := slices.Sorted(slices.Values(values))
	mid := len(v) / 2
	median := v[mid]
	if len(v)%2 == 0 {
		median = (v[mid-1] + v[mid]) / 2
	}
	return spread{Median: median, Min: v[0], Max: v[len(v)-1]}
}

// width returns the distance of the ends as a share of the median.
func (s spread) width() float64 {
	if s.Median == 0 {
		return 0
	}
	return (s.Max - s.Min) / s.Median
}

// row is the result of one server.
type row struct {
	Server       string  `json:"server"`
	Version      string  `json:"version"`
	PerSecond    spread  `json:"queries_per_second"`
	CPU          spread  `json:"server_cpu_us_per_query"`
	CPURatio     float64 `json:"cpu_ratio"`        // to the first server, of medians
	RateRatio    float64 `json:"rate_ratio"`       // likewise
	Lost         int64   `json:"lost"`             // of all runs
	Completed    int64   `json:"completed"`        // of all runs
	Resident     int64   `json:"resident_octets"`  // at the end
	ResponseSize float64 `json:"response_octets"`  // mean
	Strangers    float64 `json:"strangers_of_all"` // the worst run's share
}

// report is what a comparison found, and on what.
type report struct {
	testbed
	Dnsperf  string   `json:"dnsperf"`
	Names    int      `json:"names"`
	Zones    int      `json:"zones"`
	Rounds   int      `json:"rounds"`
	Seconds  float64  `json:"seconds_of_a_run"`
	Threads  int      `json:"threads"` // of each server
	TCP      bool     `json:"tcp"`     // else UDP
	Rows     []row    `json:"servers"`
	Runs     []sample `json:"runs"`
	versions map[string]string
}

func newReport(ctx context.Context, now time.Time, set settings, servers []*contestant) (*report, error) {
	r := &report{
		Dnsperf: dnsperfVersion(ctx),
		Names:   set.names, Zones: set.zones, Rounds: set.rounds, Seconds: set.run.Seconds(), Threads: set.threads, TCP: set.tcp,
		versions: make(map[string]string),
	}
	for _, c := range servers {
		r.versions[c.name] = c.version
	}
	var err error
	r.testbed, err = newTestbed(ctx, now)
	return r, err
}

// finish adds what is known at the end only.
func (r *report) finish(servers []*contestant) (err error) {
	r.summarise()
	for i, c := range servers {
		if r.Rows[i].Resident, err = c.resident(); err != nil {
			return err
		}
	}
	return nil
}

// summarise makes the rows from the runs, in the order of first appearance.
func (r *report) summarise() {
	var order []string
	runs := make(map[string][]sample)
	for _, s := range r.Runs {
		if runs[s.Server] == nil {
			order = append(order, s.Server)
		}
		runs[s.Server] = append(runs[s.Server], s)
	}
	for _, name := range order {
		w := row{Server: name, Version: r.versions[name]}
		var rate, cpu, size []float64
		for _, s := range runs[name] {
			rate, cpu, size = append(rate, s.PerSecond), append(cpu, s.CPU), append(size, s.ResponseSize)
			w.Lost += s.Lost
			w.Completed += s.Completed
			w.Strangers = max(w.Strangers, s.Strangers)
		}
		w.PerSecond, w.CPU, w.ResponseSize = spreadOf(rate), spreadOf(cpu), spreadOf(size).Median
		r.Rows = append(r.Rows, w)
	}
	for i := range r.Rows {
		w, first := &r.Rows[i], &r.Rows[0]
		if first.CPU.Median > 0 && first.PerSecond.Median > 0 {
			w.CPURatio = w.CPU.Median / first.CPU.Median
			w.RateRatio = w.PerSecond.Median / first.PerSecond.Median
		}
	}
}

// markdown returns the report as text for people.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Warm %s, %s\n\n", strings.ToUpper(hitLoad(0, r.TCP).transport()), r.Date.Format(time.DateOnly))
	fmt.Fprintf(&b, "%d cached names in %d unsigned zones, asked by dnsperf (`%s`) for %g s in %d rounds, the\n"+
		"servers in turn. Threads of each: %d; nothing validates. Median (min–max).\n\n", r.Names, r.Zones, strings.Join(hitLoad(0, r.TCP).flags(), " "), r.Seconds, r.Rounds, r.Threads)
	first := r.Rows[0].Server
	fmt.Fprintf(&b, "| Server | q/s | server CPU µs/query | CPU, %[1]s = 1 | q/s, %[1]s = 1 | lost | RSS MiB | octets/response |\n", first)
	b.WriteString("|---|---|---|---|---|---|---|---|\n")
	for i := range r.Rows {
		w := &r.Rows[i]
		fmt.Fprintf(&b, "| %s | %.0f (%.0f–%.0f) | %.2f (%.2f–%.2f) | %.2f | %.2f | %d of %d | %.0f | %.0f |\n",
			w.Server, w.PerSecond.Median, w.PerSecond.Min, w.PerSecond.Max, w.CPU.Median, w.CPU.Min, w.CPU.Max,
			w.CPURatio, w.RateRatio, w.Lost, w.Completed, float64(w.Resident)/(1<<20), w.ResponseSize)
	}
	b.WriteString("\nServer CPU is user and system time of all the server's threads; it is the figure to compare, as dnsperf takes up\n" +
		"to a core of the same machine. The kernel charges the sending of a packet, and often its receiving, to the sender.\n\n")
	b.WriteString("Noise. ")
	for i := range r.Rows {
		w := &r.Rows[i]
		fmt.Fprintf(&b, "%s's runs spread over %.1f %% of the median in q/s and %.1f %% in CPU, while strangers used up to %.1f %% of the machine;\n",
			w.Server, 100*w.PerSecond.width(), 100*w.CPU.width(), 100*w.Strangers)
	}
	b.WriteString(noiseRule())
	versions := make([]string, len(r.Rows))
	for i := range r.Rows {
		versions[i] = r.Rows[i].Version
	}
	b.WriteString(r.describe("Load: dnsperf "+r.Dnsperf+". ", versions))
	return b.String()
}

// write prints the report and keeps it.
func (r *report) write(dir string) error {
	return keep(dir, r.Date.Format(time.DateOnly)+"-warm-"+hitLoad(0, r.TCP).transport(), r.markdown(), r)
}

// keep prints a report and writes it to a directory, as text for people and as
// JSON for programs.
func keep(dir, base, text string, rep any) error {
	fmt.Print(text)
	data, err := json.MarshalIndent(rep, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	base = filepath.Join(dir, base)
	if err := writeFiles(map[string]string{base + ".md": text, base + ".json": string(data) + "\n"}); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "written to %s.md and %s.json\n", base, base)
	return nil
}

// newestOf reads the newest report in a directory of those whose names have a
// pattern; nil: there is none.
func newestOf[R any](dir, pattern string) (*R, error) {
	all, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(all) == 0 {
		return nil, err
	}
	path := slices.Max(all)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := new(R)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}
