package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// encryptedLoad is one way to load a server over an encrypted transport.
type encryptedLoad struct {
	name  string
	mode  string // of dnsperf; empty: handshakes
	conns int
	unit  string // what there is so much of in a CPU-second
	run   func(context.Context, *lab, *contestant, time.Duration) (*encryptedTally, error)
}

// encryptedTally is what became of a run.
type encryptedTally struct {
	done, lost int64
	driver     time.Duration // CPU time of who loaded the server
}

// encryptedLoads are what is measured, in this order.
var encryptedLoads = []encryptedLoad{
	{name: "dot20", mode: "dot", conns: 20, unit: "queries"},
	{name: "dot200", mode: "dot", conns: 200, unit: "queries"},
	{name: "doh20", mode: "doh", conns: 20, unit: "queries"},
	{name: "doh200", mode: "doh", conns: 200, unit: "queries"},
	{name: "full", unit: "handshakes", run: fullHandshakes},
	{name: "resumed", unit: "handshakes", run: resumedHandshakes},
}

// encryptedRun is one run of one server.
type encryptedRun struct {
	Load      string  `json:"load"`
	Server    string  `json:"server"`
	Round     int     `json:"round"` // from 1
	Done      int64   `json:"done"`
	Lost      int64   `json:"lost"`
	PerSecond float64 `json:"per_second"`
	CPU       float64 `json:"server_cpu_us_each"`
	Strangers float64 `json:"strangers_of_all"`
}

// disturbance implements [disturbed].
func (r *encryptedRun) disturbance() float64 { return r.Strangers }

// encryptedReport is what a comparison over encrypted transports found, and on what.
type encryptedReport struct {
	testbed

	Dnsperf  string            `json:"dnsperf"`
	Names    int               `json:"names"`
	Rounds   int               `json:"rounds"`
	Seconds  float64           `json:"seconds_of_a_run"`
	Versions map[string]string `json:"versions"`
	Runs     []encryptedRun    `json:"runs"`

	servers []string
}

func encryptedFlags(fs *flag.FlagSet, set *settings) {
	comparisonFlags(fs, set)
	timeFlag(fs, set, 5*time.Second)
	fs.StringVar(&set.loads, "loads", "", "of dot20, dot200, doh20, doh200, full and resumed `these`, separated by commas; empty: all")
}

// encrypted compares servers that have every answer in memory, over DoT and DoH on
// connections that stay, and by the handshakes of those that do not.
func encrypted(ctx context.Context, dir string, set settings) error {
	l, err := startLab(ctx, dir, set)
	defer l.stop()
	if err != nil {
		return err
	}
	if l.identity, err = newIdentity(dir); err != nil {
		return err
	}
	servers, err := startPrimed(ctx, l, set)
	defer func() { stopContestants(servers) }()
	if err != nil {
		return err
	}
	rep := &encryptedReport{
		Dnsperf: dnsperfVersion(ctx), Names: set.names, Rounds: set.rounds, Seconds: set.run.Seconds(), Versions: make(map[string]string),
	}
	if rep.testbed, err = newTestbed(ctx, time.Now().UTC()); err != nil {
		return err
	}
	for _, s := range servers {
		rep.servers = append(rep.servers, s.name)
		rep.Versions[s.name] = s.version
	}
	for _, ld := range encryptedLoads {
		if set.loads != "" && !strings.Contains(","+set.loads+",", ","+ld.name+",") {
			continue
		}
		for round := range set.rounds {
			for _, s := range servers {
				r, err := quietest(nil, func() (*encryptedRun, error) { return ld.measure(ctx, l, s, set.run) })
				if err != nil {
					return err
				}
				r.Round = round + 1
				rep.Runs = append(rep.Runs, *r)
				fmt.Fprintf(os.Stderr, "%-8s round %d  %-9s %8.0f /s  %7.2f µs CPU each  %d lost  strangers %.1f %%\n",
					r.Load, r.Round, r.Server, r.PerSecond, r.CPU, r.Lost, 100*r.Strangers)
			}
		}
	}
	return rep.write(set.out)
}

// measure loads a server once.
func (ld *encryptedLoad) measure(ctx context.Context, l *lab, s *contestant, length time.Duration) (*encryptedRun, error) {
	began := time.Now()
	busy, err := busyTime()
	if err != nil {
		return nil, err
	}
	before, err := s.cpuClock()
	if err != nil {
		return nil, err
	}
	run := ld.run
	if run == nil {
		run = ld.queries
	}
	t, err := run(ctx, l, s, length)
	if err != nil {
		return nil, fmt.Errorf("%s, %s: %w", s.name, ld.name, err)
	}
	after, err := s.cpuClock()
	if err != nil {
		return nil, err
	}
	wall := time.Since(began)
	now, err := busyTime()
	if err != nil {
		return nil, err
	}
	strangers := max(0, now-busy-(after-before)-t.driver)
	return &encryptedRun{
		Load: ld.name, Server: s.name, Done: t.done, Lost: t.lost, PerSecond: float64(t.done) / wall.Seconds(),
		CPU:       float64((after - before).Nanoseconds()) / 1000 / float64(max(t.done, 1)),
		Strangers: strangers.Seconds() / wall.Seconds() / float64(runtime.NumCPU()),
	}, nil
}

// queries has dnsperf ask over connections that stay.
func (ld *encryptedLoad) queries(ctx context.Context, l *lab, s *contestant, length time.Duration) (*encryptedTally, error) {
	load := hitLoad(length, false)
	load.secure, load.clients, load.outstanding = ld.mode, ld.conns, max(100, ld.conns)
	t, err := dnsperf(ctx, s.addr, l.all.path, load)
	if err != nil {
		return nil, err
	}
	if t.errors() != t.Lost || t.Completed == 0 {
		return nil, fmt.Errorf("wrong answers: %v", t.Rcodes)
	}
	return &encryptedTally{done: t.Completed, lost: t.Lost, driver: t.cpu}, nil
}

// spreads returns the CPU time and the rate of a server's runs of a load.
func (r *encryptedReport) spreads(load, server string) (cpu, rate spread, worst float64) {
	var cpus, rates []float64
	for i := range r.Runs {
		if run := &r.Runs[i]; run.Load == load && run.Server == server {
			cpus, rates, worst = append(cpus, run.CPU), append(rates, run.PerSecond), max(worst, run.Strangers)
		}
	}
	return spreadOf(cpus), spreadOf(rates), worst
}

// best returns the least median of CPU time that another server than Shirube has;
// 0: there is none.
func (r *encryptedReport) best(load string) (least float64) {
	for _, name := range r.servers {
		if cpu, _, _ := r.spreads(load, name); !strings.HasPrefix(name, "shirube") && (least == 0 || cpu.Median < least) {
			least = cpu.Median
		}
	}
	return least
}

// markdown returns the report as text for people.
func (r *encryptedReport) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Encrypted transports, %s\n\n", r.Date.Format(time.DateOnly))
	fmt.Fprintf(&b, "%d cached names; %d rounds of %g s, the servers in turn, two threads each. `dot` and `doh` (HTTP/2, GET) are dnsperf's, over 20 and 200\n"+
		"connections that stay, with 100 and 200 queries on the way. `full` and `resumed` are connections of DoT that ask one query and end: P-256\n"+
		"certificate, X25519, TLS 1.3. Median (min–max).\n\n", r.Names, r.Rounds, r.Seconds)
	b.WriteString("| Load | Server | server CPU µs each | per server CPU-second | CPU, best peer = 1 | per second | strangers, at worst |\n|---|---|---|---|---|---|---|\n")
	for _, ld := range encryptedLoads {
		for _, name := range r.servers {
			cpu, rate, worst := r.spreads(ld.name, name)
			if cpu.Median == 0 {
				continue
			}
			ratio := "–"
			if best := r.best(ld.name); best > 0 {
				ratio = fmt.Sprintf("%.2f", cpu.Median/best)
			}
			fmt.Fprintf(&b, "| %s | %s | %.2f (%.2f–%.2f) | %.0f %s | %s | %.0f | %.1f %% |\n",
				ld.name, name, cpu.Median, cpu.Min, cpu.Max, 1e6/cpu.Median, ld.unit, ratio, rate.Median, 100*worst)
		}
	}
	b.WriteString("\nOf runs that strangers disturbed, ")
	b.WriteString(noiseRule())
	var versions []string
	for _, name := range r.servers {
		versions = append(versions, r.Versions[name])
	}
	b.WriteString(r.describe(fmt.Sprintf("Load: dnsperf %s, and a client of crypto/tls for handshakes. ", r.Dnsperf), versions))
	return b.String()
}

// write prints the report and keeps it, for people and for programs.
func (r *encryptedReport) write(dir string) error {
	text := r.markdown()
	fmt.Print(text)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	base := filepath.Join(dir, r.Date.Format(time.DateOnly)+"-encrypted")
	if err := os.WriteFile(base+".md", []byte(text), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(base+".json", append(data, '\n'), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "written to %s.md and %s.json\n", base, base)
	return nil
}
