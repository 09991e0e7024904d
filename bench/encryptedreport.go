package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// runsOf are the runs of a server in a load, by round.
func (r *encryptedReport) runsOf(load, server string) (out []*encryptedRun) {
	for i := range r.Runs {
		if run := &r.Runs[i]; run.Load == load && run.Server == server {
			out = append(out, run)
		}
	}
	return out
}

// spread returns that of a figure of a server's runs of a load.
func (r *encryptedReport) spread(load, server string, of func(*encryptedRun) float64) spread {
	return spreadOf(collect(r.runsOf(load, server), of))
}

// What is compared.
func (r *encryptedRun) cpu() float64  { return r.CPU }
func (r *encryptedRun) rate() float64 { return r.PerSecond }

// best returns the least median of CPU time that another server than Shirube has;
// 0: there is none.
func (r *encryptedReport) best(load string) (least float64) {
	for _, name := range r.Servers {
		cpu := r.spread(load, name, (*encryptedRun).cpu).Median
		if !strings.HasPrefix(name, subject) && cpu > 0 && (least == 0 || cpu < least) {
			least = cpu
		}
	}
	return least
}

// ratio returns a server's CPU time by that of the best peer, for people.
func (r *encryptedReport) ratio(load, server string) string {
	best := r.best(load)
	if best == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", r.spread(load, server, (*encryptedRun).cpu).Median/best)
}

// encryptedAim is the share of the best peer's CPU time that is aimed at, for
// queries over DoT and DoH.
const encryptedAim = 0.8

// markdown returns the report as text for people.
func (r *encryptedReport) markdown(plot *chart) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Encrypted transports, %s\n\n", r.Date.Format(time.DateOnly))
	fmt.Fprintf(&b, "%d cached names; %d rounds of %g s, the servers in turn, two threads each. `dot` and `doh` (HTTP/2, GET) are dnsperf's, over 20 and 200\n"+
		"connections that stay, with 100 and 200 queries on the way. `doq` and `doh3` (GET) are the same in a closed loop of the benchmark's own, on quic-go, with\n"+
		"a stream for each query; it takes about as much CPU time as the servers do, so that queries per second tell of both. `full` and `resumed` are connections of DoT\n"+
		"that ask one query and end, eight at once: P-256 certificate, X25519, TLS 1.3; `doq-full`, `doq-resumed` and `doq-0rtt` are the same over QUIC, the last\n"+
		"with the query in 0-RTT and a token for the address. Median (min–max).\n\n", r.Names, r.Rounds, r.Seconds)
	if plot != nil {
		fmt.Fprintf(&b, "![%s](%s.svg)\n\n", plot.title, plot.file(r.base()))
	}
	b.WriteString(r.wanting())
	b.WriteString("| Load | Server | server CPU µs each | per server CPU-second | CPU, best peer = 1 | per second | p50, p99 ms | cores: server, load | lost | strangers, at worst |\n" +
		"|---|---|---|---|---|---|---|---|---|---|\n")
	for i := range encryptedLoads {
		for _, name := range r.Servers {
			b.WriteString(r.line(&encryptedLoads[i], name))
		}
	}
	b.WriteString("\nOf runs that strangers disturbed, as far as there was time (a fifth more runs than planned), ")
	b.WriteString(noiseRule())
	var versions []string
	for _, name := range r.Servers {
		versions = append(versions, r.Versions[name])
	}
	b.WriteString(r.describe(fmt.Sprintf("Load: dnsperf %s, and clients of crypto/tls and quic-go. ", r.Dnsperf), versions))
	return b.String()
}

// wanting says what is not in the tables, and why.
func (r *encryptedReport) wanting() string {
	var b strings.Builder
	for _, name := range r.Absent {
		fmt.Fprintf(&b, "- Not installed, and so not measured: %s.\n", name)
	}
	for _, l := range r.Lacking {
		fmt.Fprintf(&b, "- Not measured, as it is not offered: %s.\n", l)
	}
	for _, f := range r.Failures {
		fmt.Fprintf(&b, "- **Failed**: %s.\n", f)
	}
	if b.Len() > 0 {
		b.WriteString("\n")
	}
	return b.String()
}

// line is that of a server in a load; it is empty if it was not measured.
func (r *encryptedReport) line(ld *encryptedLoad, server string) string {
	runs := r.runsOf(ld.name, server)
	if len(runs) == 0 {
		return ""
	}
	middle := func(of func(*encryptedRun) float64) float64 { return spreadOf(collect(runs, of)).Median }
	cpu := r.spread(ld.name, server, (*encryptedRun).cpu)
	latency := "–"
	if p99 := middle(func(r *encryptedRun) float64 { return r.P99 }); p99 > 0 {
		latency = fmt.Sprintf("%.2f, %.2f", middle(func(r *encryptedRun) float64 { return r.P50 }), p99)
	}
	var lost int64
	worst := 0.0
	for _, run := range runs {
		lost, worst = lost+run.Lost, max(worst, run.Strangers)
	}
	return fmt.Sprintf("| %s | %s | %s | %.0f %s | %s | %.0f | %s | %.2f, %.2f | %d | %.1f %% |\n",
		ld.name, server, cpu.text(2), 1e6/cpu.Median, ld.unit, r.ratio(ld.name, server), middle((*encryptedRun).rate), latency,
		middle(func(r *encryptedRun) float64 { return r.Cores }), middle(func(r *encryptedRun) float64 { return r.DriverLoad }), lost, 100*worst)
}

// base is what the files of the report are called, without their endings.
func (r *encryptedReport) base() string {
	base := r.Date.Format(time.DateOnly) + "-encrypted"
	if len(r.Partial) > 0 {
		base += "-" + strings.Join(r.Partial, "+")
	}
	return base
}

// plot is the chart of CPU times; nil: nothing was measured.
func (r *encryptedReport) plot() *chart {
	c := &chart{
		slug: "cpu", title: "Server CPU per query or handshake, µs: less is better",
		note: fmt.Sprintf("%s; median and ends of %d rounds; %s, %d cores", r.Date.Format(time.DateOnly), r.Rounds, r.CPU, r.Cores),
	}
	for i := range encryptedLoads {
		ld := &encryptedLoads[i]
		g := barGroup{title: ld.title}
		for k, name := range r.Servers {
			if cpu := r.spread(ld.name, name, (*encryptedRun).cpu); cpu.Median > 0 {
				text := fmt.Sprintf("%.2f", cpu.Median)
				if r.best(ld.name) > 0 {
					text += fmt.Sprintf(" (%s × the best peer's)", r.ratio(ld.name, name))
				}
				g.bars = append(g.bars, bar{label: name, value: cpu, color: serverColor(name, k), text: text})
			}
		}
		c.add(g)
	}
	if len(c.groups) == 0 {
		return nil
	}
	return c
}

// publish prints the report and writes all its files to a directory.
func (r *encryptedReport) publish(ctx context.Context, dir string) error {
	plot := r.plot()
	if err := keep(dir, r.base(), r.markdown(plot), r); err != nil || plot == nil {
		return err
	}
	return writePlot(ctx, filepath.Join(dir, plot.file(r.base())), plot.svg())
}

// newestEncrypted returns the newest whole report in a directory; nil: there is
// none.
func newestEncrypted(dir string) (*encryptedReport, error) {
	return newestOf[encryptedReport](dir, "????-??-??-encrypted.json")
}

// encryptedDigest is what the manual says of the newest comparison.
func encryptedDigest(dir string) (string, error) {
	r, err := newestEncrypted(dir)
	if err != nil || r == nil {
		return "Nothing has been measured yet.\n", err
	}
	return r.digest(), nil
}

// digest is what the manual says of a comparison.
func (r *encryptedReport) digest() string {
	var b strings.Builder
	path := "../bench/results/" + r.base()
	fmt.Fprintf(&b, "Of %s ([all figures, noise and method](%s.md), [for programs](%s.json)), on %s with %d cores and Linux %s; medians of %d rounds of %g s.\n\n",
		r.Date.Format(time.DateOnly), path, path, r.CPU, r.Cores, r.Kernel, r.Rounds, r.Seconds)
	if p := r.plot(); p != nil {
		fmt.Fprintf(&b, "![%s](../bench/results/%s.svg)\n\n", p.title, p.file(r.base()))
	}
	b.WriteString(r.wanting())
	b.WriteString(r.overview("Server CPU, µs each", (*encryptedRun).cpu, 2, true))
	b.WriteString(r.overview("Per second", (*encryptedRun).rate, 0, false))
	return b.String()
}

// overview is a table of one figure: a row for each load, a column for each server.
// Of CPU times it says what share of the best peer's Shirube takes.
func (r *encryptedReport) overview(title string, of func(*encryptedRun) float64, digits int, share bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s | %s |", title, strings.Join(r.Servers, " | "))
	columns := 1 + len(r.Servers)
	if share {
		b.WriteString(" Shirube's share of the best peer's | |")
		columns += 2
	}
	b.WriteString("\n|" + strings.Repeat("---|", columns) + "\n")
	for i := range encryptedLoads {
		ld := &encryptedLoads[i]
		cells, measured := r.cells(ld, of, digits)
		if !measured {
			continue
		}
		fmt.Fprintf(&b, "| %s |%s", ld.title, cells)
		if share {
			b.WriteString(r.share(ld))
		}
		b.WriteString("\n")
	}
	return b.String() + "\n"
}

// cells are those of the servers in a load.
func (r *encryptedReport) cells(ld *encryptedLoad, of func(*encryptedRun) float64, digits int) (text string, measured bool) {
	for _, name := range r.Servers {
		s := r.spread(ld.name, name, of)
		if s.Median == 0 {
			text += " – |"
			continue
		}
		text, measured = text+fmt.Sprintf(" %.*f |", digits, s.Median), true
	}
	return text, measured
}

// share is Shirube's of the best peer's CPU time, and whether that is what was aimed
// at.
func (r *encryptedReport) share(ld *encryptedLoad) string {
	best, own := r.best(ld.name), r.spread(ld.name, subject, (*encryptedRun).cpu).Median
	switch {
	case own == 0:
		return " – | |"
	case best == 0:
		return " no peer offers it | |"
	case !ld.aimed:
		return fmt.Sprintf(" %.2f | |", own/best)
	case own <= encryptedAim*best:
		return fmt.Sprintf(" %.2f | at most %g: met |", own/best, encryptedAim)
	}
	return fmt.Sprintf(" %.2f | at most %g: **not met** |", own/best, encryptedAim)
}
