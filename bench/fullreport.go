package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// fullReport is what a full comparison found, and on what.
type fullReport struct {
	testbed
	Dnsperf  string        `json:"dnsperf"`
	Names    int           `json:"names"`
	Hot      int           `json:"hot_names"`
	Zones    int           `json:"zones"`
	Rounds   int           `json:"rounds"`
	Seconds  float64       `json:"seconds_of_a_run"`
	Threads  int           `json:"threads"` // of each server, where a work does not say otherwise
	Rate     int           `json:"fixed_rate"`
	Clients  int           `json:"cold_clients"`
	Ports    string        `json:"ip_local_port_range"`
	Partial  bool          `json:"partial"`            // not all works
	Absent   []string      `json:"absent,omitempty"`   // servers that were to be compared and are not installed
	Failures []string      `json:"failures,omitempty"` // of runs that have no figures
	Servers  []entrant     `json:"servers"`
	Works    []*workResult `json:"works"`
	Runs     []figures     `json:"runs"`
}

// entrant is a server that took part. The first one is the measure.
type entrant struct {
	Name    string            `json:"name"`
	Version string            `json:"version"`
	Kind    string            `json:"kind"`
	Files   map[string]string `json:"configuration,omitempty"` // as it was last, by file names
	Command string            `json:"command,omitempty"`       // likewise, of its first process
}

// workResult is what came out of a work.
type workResult struct {
	Name     string      `json:"name"`
	Title    string      `json:"title"`
	How      string      `json:"how"`
	Unit     string      `json:"unit,omitempty"`
	Load     string      `json:"load,omitempty"` // the program that asks, with flags
	Loaders  int         `json:"load_threads,omitempty"`
	Threads  int         `json:"threads"`
	Measures []string    `json:"measures"`
	Rows     []resultRow `json:"servers,omitempty"`
}

// resultRow is the result of one server in a work: the spread over the rounds of
// each measure, and of its ratio to the first server's in the same round.
type resultRow struct {
	Server      string            `json:"server"`
	Spread      map[string]spread `json:"spread"`
	Ratio       map[string]spread `json:"ratio"`
	Completed   int64             `json:"completed"` // of all runs
	Lost        int64             `json:"lost"`      // likewise
	Octets      float64           `json:"response_octets,omitempty"`
	ServerCores float64           `json:"server_cores"` // median, as the next ones
	LoadCores   float64           `json:"load_cores"`
	AllCores    float64           `json:"all_cores"`
	Late        float64           `json:"sent_late_p99_ms,omitempty"` // the worst run's
	TooSlow     int               `json:"rate_missed,omitempty"`      // runs in which the client could not ask as often as it was to
	Dropped     int64             `json:"udp_dropped"`
	Strangers   float64           `json:"strangers_of_all"` // the worst run's share
}

func newFullReport(ctx context.Context, now time.Time, set settings, chosen []work, servers []*contestant) (*fullReport, error) {
	r := &fullReport{
		Dnsperf: dnsperfVersion(ctx), Names: set.names, Hot: set.hot, Zones: set.zones, Rounds: set.rounds, Seconds: set.run.Seconds(),
		Threads: set.threads, Rate: set.rate, Clients: set.clients, Ports: set.ports, Partial: len(chosen) < len(works()),
	}
	for _, c := range servers {
		r.Servers = append(r.Servers, entrant{Name: c.name, Version: c.version, Kind: c.kind.name})
	}
	for _, w := range chosen {
		result := &workResult{Name: w.name, Title: w.title, How: w.how, Unit: w.unit, Measures: w.measures, Threads: set.threads}
		if w.lone {
			result.Threads = 1
		}
		if w.load != nil {
			asked := set
			asked.threads = result.Threads
			ld := w.load(&stage{set: asked})
			result.Load = strings.Join(append([]string{ld.program()}, ld.flags()...), " ")
			result.Loaders = ld.threads
		}
		r.Works = append(r.Works, result)
	}
	var err error
	r.testbed, err = newTestbed(ctx, now)
	return r, err
}

// finish adds what is known at the end only.
func (r *fullReport) finish(servers []*contestant) {
	for i, c := range servers {
		r.Servers[i].Files, r.Servers[i].Command = c.files, c.command
	}
	for _, w := range r.Works {
		r.summarise(w)
	}
}

// summarise makes the rows of w from the runs, in the order of servers.
func (r *fullReport) summarise(w *workResult) {
	w.Rows = nil
	for _, server := range r.Servers {
		runs := r.runsOf(w.Name, server.Name)
		if len(runs) == 0 {
			continue // it took no part
		}
		row := resultRow{Server: server.Name, Spread: make(map[string]spread), Ratio: make(map[string]spread)}
		for _, key := range w.Measures {
			row.Spread[key] = spreadOf(collect(runs, func(f *figures) float64 { return f.Values[key] }))
			row.Ratio[key] = r.ratio(w.Name, key, server.Name, r.Servers[0].Name)
		}
		middle := func(of func(*figures) float64) float64 { return spreadOf(collect(runs, of)).Median }
		row.Octets = middle(func(f *figures) float64 { return f.Octets })
		row.ServerCores = middle(func(f *figures) float64 { return f.ServerCores })
		row.LoadCores = middle(func(f *figures) float64 { return f.LoadCores })
		row.AllCores = middle(func(f *figures) float64 { return f.AllCores })
		for _, f := range runs {
			row.Completed, row.Lost, row.Dropped = row.Completed+f.Completed, row.Lost+f.Lost, row.Dropped+f.Dropped
			if f.TooSlow {
				row.TooSlow++
			}
			row.Strangers, row.Late = max(row.Strangers, f.Strangers), max(row.Late, f.Late)
		}
		w.Rows = append(w.Rows, row)
	}
}

// runsOf are the runs of a server in a work, by round.
func (r *fullReport) runsOf(work, server string) []*figures {
	var out []*figures
	for i := range r.Runs {
		if f := &r.Runs[i]; f.Work == work && f.Server == server {
			out = append(out, f)
		}
	}
	return out
}

// ratio relates a measure of two servers, round by round: the machine is faster
// at one time than at another, and both have met it at nearly the same time.
func (r *fullReport) ratio(work, key, server, to string) spread {
	var ratios []float64
	for _, a := range r.runsOf(work, server) {
		for _, b := range r.runsOf(work, to) {
			if a.Round == b.Round && b.Values[key] > 0 {
				ratios = append(ratios, a.Values[key]/b.Values[key])
			}
		}
	}
	return spreadOf(ratios)
}

func collect[R any](runs []R, of func(R) float64) []float64 {
	var out []float64
	for _, f := range runs {
		out = append(out, of(f))
	}
	return out
}

// result returns the result of a work, or nil.
func (r *fullReport) result(name string) *workResult {
	for _, w := range r.Works {
		if w.Name == name {
			return w
		}
	}
	return nil
}

// row returns a server's row, or nil.
func (w *workResult) row(server string) *resultRow {
	for i := range w.Rows {
		if w.Rows[i].Server == server {
			return &w.Rows[i]
		}
	}
	return nil
}

// busy is the share of what there is from which on something is at its end.
const busy = 0.95

// limitDriver is the limit that says nothing of a server.
const limitDriver = "load"

// limit says what kept a server from answering more, as far as CPU time tells.
func (r *fullReport) limit(w *workResult, row *resultRow) string {
	cores := float64(r.Cores)
	loadCores := min(float64(w.Loaders), cores)
	if w.Threads < r.Cores {
		loadCores = min(loadCores, cores-float64(w.Threads))
	}
	switch {
	case w.Load == "":
		return ""
	case row.LoadCores >= busy*loadCores:
		return limitDriver
	case row.ServerCores >= busy*min(float64(w.Threads), cores):
		return "server"
	case row.AllCores+row.Strangers*cores >= busy*cores:
		return "machine"
	}
	return "-q" // all queries that may be on the way are
}

// base is what the files of a report are called, without their endings.
func (r *fullReport) base() string {
	base := r.Date.Format(time.DateOnly)
	if r.Partial {
		var names []string
		for _, w := range r.Works {
			names = append(names, w.Name)
		}
		base += "-full-" + strings.Join(names, "+")
	}
	return base
}

// publish prints the report and writes all its files to a directory.
func (r *fullReport) publish(ctx context.Context, dir string) error {
	plots := r.plots()
	text := r.markdown(plots)
	if err := keep(dir, r.base(), text, r); err != nil {
		return err
	}
	for _, p := range plots {
		if err := writePlot(ctx, filepath.Join(dir, p.file(r.base())), p.svg()); err != nil {
			return err
		}
	}
	return nil
}

// readReport reads the JSON of a full comparison, and makes its rows anew.
func readReport(path string) (*fullReport, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r fullReport
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(r.Servers) == 0 || len(r.Runs) == 0 {
		return nil, fmt.Errorf("%s: no full comparison", path)
	}
	for _, w := range r.Works {
		r.summarise(w)
	}
	return &r, nil
}

// newestReport returns the path of the newest full comparison in a directory;
// it is empty if there is none. Partial ones, and what other subcommands write,
// have longer names.
func newestReport(dir string) (string, error) {
	all, err := filepath.Glob(filepath.Join(dir, "????-??-??.json"))
	if err != nil || len(all) == 0 {
		return "", err
	}
	return slices.Max(all), nil
}

// markdown returns the report as text for people.
func (r *fullReport) markdown(plots []*chart) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Beside other resolvers, %s\n\n", r.Date.Format(time.DateOnly))
	b.WriteString("Written by `bench full`; [bench/README.md](../README.md) says how it is measured. Every figure is the median of the rounds\n(min–max).\n\n")
	r.method(&b)
	for _, p := range plots {
		fmt.Fprintf(&b, "![%s](%s.svg)\n\n", p.title, p.file(r.base()))
	}
	if len(r.Absent) > 0 {
		b.WriteString("Not installed, and so not measured: " + strings.Join(r.Absent, ", ") + ".\n\n")
	}
	if len(r.Failures) > 0 {
		b.WriteString("**Not everything went well:**\n\n- " + strings.Join(r.Failures, "\n- ") + "\n\n")
	}
	b.WriteString("## Aims\n\n" + r.aimsTable() + "\n")
	b.WriteString("## Where another server is ahead of Shirube\n\n" + r.aheadList() + "\n")
	for _, w := range r.Works {
		fmt.Fprintf(&b, "## %s\n\n%s\n\n%s\n", w.Title, w.describe(), r.table(w))
	}
	r.noise(&b)
	r.configurations(&b)
	return b.String()
}

// method says what all works have in common.
func (r *fullReport) method(b *strings.Builder) {
	fmt.Fprintf(b, "A small Internet of %d zones with %d names to ask for, of which %d are hot, served by three NSD: signed (ECDSA P-256,\n"+
		"NSEC), and all servers validate, but where a work says otherwise. %d rounds of %g s, the servers in turn (A B C … B C … A),\n"+
		"%d threads each; all on one machine, loopback only. net.ipv4.ip_local_port_range is %q.\n\n", r.Zones, r.Names, r.Hot, r.Rounds, r.Seconds, r.Threads, r.Ports)
	var versions []string
	for _, s := range r.Servers {
		versions = append(versions, s.Version)
	}
	b.WriteString(r.describe("Load: dnsperf "+r.Dnsperf+". ", versions) + "\n")
	b.WriteString("Server CPU is user and system time of all the server's threads, by the kernel's clock of the process: the figure to compare, as load\n" +
		"and servers share the machine. The kernel charges the sending of a packet, and often its receiving, to the sender. A ratio is the\n" +
		"median of the ratios within a round. The echo answers all names alike, as long as the others do, and looks nothing up: the machine's ceiling.\n" +
		"*Limit* is what kept a server from answering more: the server's threads, the load's, the machine (all cores are busy), or the number of queries on the way (`-q`).\n\n")
}

// describe says how w was done.
func (w *workResult) describe() string {
	text := w.How
	if w.Load != "" {
		text += fmt.Sprintf(" `%s` asks.", w.Load)
	}
	return text
}

// table returns the table of a work.
func (r *fullReport) table(w *workResult) string {
	if len(w.Rows) == 0 {
		return "Not measured.\n"
	}
	first := r.Servers[0].Name
	head := []string{"Server"}
	for _, key := range w.Measures {
		m := findMeasure(key)
		title := m.title
		if strings.Contains(title, "%s") {
			title = fmt.Sprintf(title, w.Unit)
		}
		head = append(head, title, first+" = 1")
	}
	ceiling := w.ceiling(r)
	if ceiling != nil && slices.Contains(w.Measures, perSecond) {
		head = append(head, "q/s, echo = 1", "CPU, echo = 1")
	}
	loaded := w.Load != ""
	if loaded {
		head = append(head, "octets", "cores: server, load", "limit")
	}
	if w.Unit != "" {
		head = append(head, "lost or failed")
	}
	var b strings.Builder
	b.WriteString("| " + strings.Join(head, " | ") + " |\n|" + strings.Repeat("---|", len(head)) + "\n")
	for i := range w.Rows {
		row := &w.Rows[i]
		cells := []string{row.Server}
		for _, key := range w.Measures {
			cells = append(cells, row.Spread[key].text(findMeasure(key).digits), row.Ratio[key].text(2))
		}
		if ceiling != nil && slices.Contains(w.Measures, perSecond) {
			cells = append(cells, r.ratio(w.Name, perSecond, row.Server, ceiling.Server).text(2), r.ratio(w.Name, perQuery, row.Server, ceiling.Server).text(2))
		}
		if loaded {
			cells = append(cells, fmt.Sprintf("%.0f", row.Octets), fmt.Sprintf("%.2f, %.2f", row.ServerCores, row.LoadCores), r.limit(w, row))
		}
		if w.Unit != "" {
			cells = append(cells, fmt.Sprintf("%d of %d", row.Lost, row.Lost+row.Completed))
		}
		b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
	}
	return b.String()
}

// ceiling is the echo's row in w, or nil.
func (w *workResult) ceiling(r *fullReport) *resultRow {
	for _, s := range r.Servers {
		if s.Kind == "echo" {
			return w.row(s.Name)
		}
	}
	return nil
}

// text shows a spread with so many digits behind the point; of a single value
// the ends are left out.
func (s spread) text(digits int) string {
	if s.Min == s.Max {
		return fmt.Sprintf("%.*f", digits, s.Median)
	}
	return fmt.Sprintf("%.*f (%.*f–%.*f)", digits, s.Median, digits, s.Min, digits, s.Max)
}

// noise says how much of it there was.
func (r *fullReport) noise(b *strings.Builder) {
	b.WriteString("## Noise\n\n| Work | widest spread of server CPU | of q/s | strangers, worst run | dropped datagrams | sent late, p99 |\n|---|---|---|---|---|---|\n")
	for _, w := range r.Works {
		var cpu, rate, strangers, late float64
		var dropped int64
		for i := range w.Rows {
			row := &w.Rows[i]
			cpu, rate = max(cpu, row.Spread[perQuery].width()), max(rate, row.Spread[perSecond].width())
			strangers, late, dropped = max(strangers, row.Strangers), max(late, row.Late), dropped+row.Dropped
		}
		fmt.Fprintf(b, "| %s | %.0f %% | %.0f %% | %.1f %% | %d | %.3f ms |\n", w.Title, 100*cpu, 100*rate, 100*strangers, dropped, late)
	}
	for _, w := range r.Works {
		for i := range w.Rows {
			if row := &w.Rows[i]; row.TooSlow > 0 {
				fmt.Fprintf(b, "\n%s: in %d runs of %s the client could not ask as often as it was to.\n", w.Title, row.TooSlow, row.Server)
			}
		}
	}
	fmt.Fprintf(b, "\nStrangers are all processes that are no part of this; as far as there was time (a fifth more runs than planned),\n%s", noiseRule())
}

// configurations shows how the servers were set up.
func (r *fullReport) configurations(b *strings.Builder) {
	b.WriteString("## Configurations\n\nAs they were in the last work that a server took part in; addresses, threads and trust anchors change from work to work.\n\n")
	for _, s := range r.Servers {
		fmt.Fprintf(b, "<details><summary>%s: <code>%s</code></summary>\n\n", s.Name, s.Command)
		for _, name := range slices.Sorted(maps.Keys(s.Files)) {
			fmt.Fprintf(b, "`%s`\n\n```\n%s\n```\n\n", name, strings.TrimSpace(s.Files[name]))
		}
		b.WriteString("</details>\n\n")
	}
}
