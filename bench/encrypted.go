package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// encryptedLoad is one way to load a server over an encrypted transport.
type encryptedLoad struct {
	name  string
	title string // in plots
	conns int    // that stay; 0: handshakes
	unit  string // what there is so much of in a CPU-second
	aimed bool   // there is an aim: encryptedAim
	quic  bool   // only for kinds that speak it
	run   loadRun
}

// loadRun loads a server for so long.
type loadRun func(context.Context, *encryptedLoad, *lab, *contestant, time.Duration) (*encryptedTally, error)

// encryptedTally is what became of a run.
type encryptedTally struct {
	done, lost int64
	driver     time.Duration // CPU time of who loaded the server
	program    bool          // that was a program, which has ended; or else this one
	p50, p99   float64       // ms; 0: not known
}

// encryptedLoads are what is measured, in this order.
var encryptedLoads = []encryptedLoad{
	{name: "dot20", title: "DoT, 20 connections", conns: 20, unit: "queries", aimed: true, run: dnsperfQueries("dot")},
	{name: "dot200", title: "DoT, 200 connections", conns: 200, unit: "queries", aimed: true, run: dnsperfQueries("dot")},
	{name: "doh20", title: "DoH, 20 connections", conns: 20, unit: "queries", aimed: true, run: dnsperfQueries("doh")},
	{name: "doh200", title: "DoH, 200 connections", conns: 200, unit: "queries", aimed: true, run: dnsperfQueries("doh")},
	{name: "doq20", title: "DoQ, 20 connections", conns: 20, unit: "queries", quic: true, run: quicQueries(wayDoQ, dotPort)},
	{name: "doq200", title: "DoQ, 200 connections", conns: 200, unit: "queries", quic: true, run: quicQueries(wayDoQ, dotPort)},
	{name: "doh3-20", title: "DoH3, 20 connections", conns: 20, unit: "queries", quic: true, run: quicQueries(wayDoH3, dohPort)},
	{name: "doh3-200", title: "DoH3, 200 connections", conns: 200, unit: "queries", quic: true, run: quicQueries(wayDoH3, dohPort)},
	{name: "full", title: "DoT, full handshakes", unit: "handshakes", run: handshakes(false)},
	{name: "resumed", title: "DoT, sessions resumed", unit: "handshakes", run: handshakes(true)},
	{name: "doq-full", title: "DoQ, full handshakes", unit: "handshakes", quic: true, run: quicHandshakes(quicFull)},
	{name: "doq-resumed", title: "DoQ, sessions resumed", unit: "handshakes", quic: true, run: quicHandshakes(quicResumed)},
	{name: "doq-0rtt", title: "DoQ, sessions resumed, query in 0-RTT", unit: "handshakes", quic: true, run: quicHandshakes(quicEarly)},
}

// knownLoads lists the names of encryptedLoads.
func knownLoads() string {
	var names []string
	for i := range encryptedLoads {
		names = append(names, encryptedLoads[i].name)
	}
	return strings.Join(names, ",")
}

// findLoads returns the loads of a comma-separated list, in the order of
// encryptedLoads.
func findLoads(list string) (found []*encryptedLoad, err error) {
	wanted := strings.Split(list, ",")
	for i := range encryptedLoads {
		ld := &encryptedLoads[i]
		if slices.Contains(wanted, ld.name) {
			found = append(found, ld)
			wanted = slices.DeleteFunc(wanted, func(name string) bool { return name == ld.name })
		}
	}
	if len(wanted) > 0 {
		return nil, fmt.Errorf("unknown load %q: known are %s", wanted[0], knownLoads())
	}
	return found, nil
}

// outstanding is how many queries are on the way at once, of all connections.
func (ld *encryptedLoad) outstanding() int { return max(100, ld.conns) }

// encryptedRun is one run of one server.
type encryptedRun struct {
	Load       string  `json:"load"`
	Server     string  `json:"server"`
	Round      int     `json:"round"` // from 1
	Done       int64   `json:"done"`
	Lost       int64   `json:"lost"`
	PerSecond  float64 `json:"per_second"`
	CPU        float64 `json:"server_cpu_us_each"`
	Cores      float64 `json:"server_cores"` // CPU time by wall time
	DriverLoad float64 `json:"load_cores"`   // likewise
	P50        float64 `json:"p50_ms,omitempty"`
	P99        float64 `json:"p99_ms,omitempty"`
	Strangers  float64 `json:"strangers_of_all"`
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
	Servers  []string          `json:"servers"`
	Versions map[string]string `json:"versions"`
	Partial  []string          `json:"loads,omitempty"`    // if not all
	Absent   []string          `json:"absent,omitempty"`   // servers that were to be compared and are not installed
	Lacking  []string          `json:"lacking,omitempty"`  // loads that a server does not offer
	Failures []string          `json:"failures,omitempty"` // loads that a server could not be measured in
	Runs     []encryptedRun    `json:"runs"`
}

func encryptedFlags(fs *flag.FlagSet, set *settings) {
	set.peers = encryptedPeers
	comparisonFlags(fs, set)
	timeFlag(fs, set, 5*time.Second)
	fs.StringVar(&set.loads, "loads", knownLoads(), "`what` to measure")
}

// encryptedPeers are those of the comparison over encrypted transports. The first
// one is the measure where nobody is the best.
const encryptedPeers = "unbound,knot,bind,sdns,shirube"

// encrypted compares servers that have every answer in memory, over DoT, DoH, DoQ and
// DoH3 on connections that stay, and by the handshakes of those that do not.
func encrypted(ctx context.Context, dir string, set settings) error {
	loads, err := findLoads(set.loads)
	if err != nil {
		return err
	}
	if err := canPlot(); err != nil {
		return err
	}
	peers, absent := installed(set.peers)
	set.peers = peers
	l, err := startLab(ctx, dir, set)
	defer l.stop()
	if err != nil {
		return err
	}
	if l.identity, err = newIdentity(dir); err != nil {
		return err
	}
	servers, err := newContestants(ctx, set)
	if err != nil {
		return err
	}
	defer stopContestants(servers)
	rep := &encryptedReport{
		Dnsperf: dnsperfVersion(ctx), Names: set.names, Rounds: set.rounds, Seconds: set.run.Seconds(), Versions: make(map[string]string),
		Absent: absent,
	}
	if rep.testbed, err = newTestbed(ctx, time.Now().UTC()); err != nil {
		return err
	}
	var up []*contestant
	for _, s := range servers {
		rep.Servers = append(rep.Servers, s.name)
		rep.Versions[s.name] = s.version
		err := s.startReady(ctx, l)
		if err == nil {
			err = prime(ctx, l, s, l.all, true)
		}
		if err == nil {
			up = append(up, s)
		} else if err := rep.failed(ctx, "start", s, err); err != nil {
			return err
		}
	}
	if len(loads) < len(encryptedLoads) {
		for _, ld := range loads {
			rep.Partial = append(rep.Partial, ld.name)
		}
	}
	spare := spareOf(set.rounds * parts(loads, up))
	for _, ld := range loads {
		if err := rep.measure(ctx, ld, l, up, set, &spare); err != nil {
			return err
		}
	}
	if err := rep.publish(ctx, set.out); err != nil {
		return err
	}
	if n := len(rep.Failures); n > 0 {
		return fmt.Errorf("%d failures; the report lists them", n)
	}
	return nil
}

// takesPart reports whether a server has a part in a load.
func (ld *encryptedLoad) takesPart(s *contestant) bool { return s.kind.quic || !ld.quic }

// parts counts the runs of a round.
func parts(loads []*encryptedLoad, servers []*contestant) (n int) {
	for _, ld := range loads {
		for _, s := range servers {
			if ld.takesPart(s) {
				n++
			}
		}
	}
	return n
}

// measure loads the servers in rounds. One that fails is left out of the load from
// then on.
func (r *encryptedReport) measure(ctx context.Context, ld *encryptedLoad, l *lab, servers []*contestant, set settings, spare *int) error {
	failed := make(map[string]bool)
	for round := range set.rounds {
		for _, s := range servers {
			if !ld.takesPart(s) || failed[s.name] {
				continue
			}
			run, err := quietest(spare, func() (*encryptedRun, error) { return ld.measure(ctx, l, s, set.run) })
			if err != nil {
				failed[s.name] = true
				if err := r.failed(ctx, ld.name, s, err); err != nil {
					return err
				}
				continue
			}
			run.Round = round + 1
			r.Runs = append(r.Runs, *run)
			fmt.Fprintf(os.Stderr, "%-11s round %d  %-9s %8.0f /s  %7.2f µs CPU each  cores %.2f, of the load %.2f  %d lost  strangers %.1f %%\n",
				run.Load, run.Round, run.Server, run.PerSecond, run.CPU, run.Cores, run.DriverLoad, run.Lost, 100*run.Strangers)
		}
	}
	return nil
}

// failed keeps an error of a server's for the report, so that the others' figures
// are not lost. It returns what ends everything.
func (r *encryptedReport) failed(ctx context.Context, what string, s *contestant, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, errNoEarly) {
		r.Lacking = append(r.Lacking, failure(what, s, err))
		return nil
	}
	r.Failures = append(r.Failures, failure(what, s, err))
	return nil
}

// measure loads a server once.
func (ld *encryptedLoad) measure(ctx context.Context, l *lab, s *contestant, length time.Duration) (*encryptedRun, error) {
	var t *encryptedTally
	used, err := metered(s, func() (ended time.Duration, err error) {
		if t, err = ld.run(ctx, ld, l, s, length); err != nil {
			return 0, err
		}
		if t.program {
			ended = t.driver
		}
		return ended, nil
	})
	if err != nil {
		return nil, err
	}
	if t.done == 0 {
		return nil, errors.New("nothing was answered")
	}
	return &encryptedRun{
		Load: ld.name, Server: s.name, Done: t.done, Lost: t.lost, PerSecond: float64(t.done) / used.wall.Seconds(), CPU: used.perQuery(t.done),
		Cores: used.cores(used.server), DriverLoad: used.cores(t.driver), P50: t.p50, P99: t.p99, Strangers: used.strangers,
	}, nil
}

// dnsperfQueries has dnsperf ask over connections that stay.
func dnsperfQueries(mode string) loadRun {
	return func(ctx context.Context, ld *encryptedLoad, l *lab, s *contestant, length time.Duration) (*encryptedTally, error) {
		load := hitLoad(length, false)
		load.secure, load.clients, load.outstanding = mode, ld.conns, ld.outstanding()
		t, err := dnsperf(ctx, s.addr, l.all.path, load)
		if err != nil {
			return nil, err
		}
		if t.errors() != t.Lost || t.Completed == 0 {
			return nil, fmt.Errorf("wrong answers: %v", t.Rcodes)
		}
		return &encryptedTally{done: t.Completed, lost: t.Lost, driver: t.cpu, program: true}, nil
	}
}
