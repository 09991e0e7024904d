package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"
)

// sample is one run of one server.
type sample struct {
	Server     string  `json:"server"`
	Round      int     `json:"round"` // from 1
	CPU        float64 `json:"server_cpu_us_per_query"`
	Cores      float64 `json:"server_cores"`     // CPU time by wall time
	DriverLoad float64 `json:"dnsperf_cores"`    // likewise
	Strangers  float64 `json:"strangers_of_all"` // share of all cores used by anything else
	tally
}

// disturbance implements [disturbed].
func (s *sample) disturbance() float64 { return s.Strangers }

func warmFlags(fs *flag.FlagSet, set *settings) {
	comparisonFlags(fs, set)
	timeFlag(fs, set, 10*time.Second)
	fs.BoolVar(&set.tcp, "tcp", false, "ask over TCP: 20 connections that stay open, with up to 100 queries on the way")
}

// warm compares servers that have every answer in memory, over UDP or TCP.
func warm(ctx context.Context, dir string, set settings) error {
	l, err := startLab(ctx, dir, set)
	defer l.stop()
	if err != nil {
		return err
	}
	servers, err := startPrimed(ctx, l, set)
	defer func() { stopContestants(servers) }()
	if err != nil {
		return err
	}
	rep, err := newReport(ctx, time.Now().UTC(), set, servers)
	if err != nil {
		return err
	}
	for round := range set.rounds {
		for _, c := range servers {
			s, err := quietest(nil, func() (*sample, error) { return warmRun(ctx, l, c, set.run) })
			if err != nil {
				return err
			}
			s.Round = round + 1
			rep.Runs = append(rep.Runs, *s)
			fmt.Fprintf(os.Stderr, "round %d  %-9s %8.0f q/s  %5.2f µs CPU/query  %d lost  strangers %.1f %%\n",
				s.Round, s.Server, s.PerSecond, s.CPU, s.Lost, 100*s.Strangers)
		}
	}
	if err := rep.finish(servers); err != nil {
		return err
	}
	return rep.write(set.out)
}

// startPrimed is [startContestants] for servers that are to have every answer in
// memory.
func startPrimed(ctx context.Context, l *lab, set settings) ([]*contestant, error) {
	servers, err := startContestants(ctx, l, set)
	if err != nil {
		return servers, err
	}
	for _, c := range servers {
		if err := prime(ctx, l, c, l.all, true); err != nil {
			return servers, err
		}
	}
	return servers, nil
}

// prime lets a server resolve every question of a file, and checks that it got
// them right as far as dnsperf tells. With again it is then asked for more than
// it can answer in a second: Knot Resolver's processes, and PowerDNS's threads,
// have memories of their own too.
func prime(ctx context.Context, l *lab, c *contestant, f *queryFile, again bool) error {
	began := time.Now()
	t, err := resolveAll(ctx, c, f)
	if err != nil {
		return fmt.Errorf("%s does not resolve the laboratory: %w; its log says:\n%s", c.name, err, c.proc.logTail())
	}
	fmt.Fprintf(os.Stderr, "%s resolved %d names in %.1f s\n", c.name, t.Completed, time.Since(began).Seconds())
	if again {
		_, err = dnsperf(ctx, c.addr, f.path, hitLoad(time.Second, l.tcp))
	}
	return err
}

// resolveAll asks every question of a file once; and again, a few times at most,
// if some were lost or failed, as happens on a machine that others use.
func resolveAll(ctx context.Context, c *contestant, f *queryFile) (t *tally, err error) {
	for range attempts {
		if t, err = dnsperf(ctx, c.addr, f.path, warmLoad()); err != nil {
			return nil, err
		}
		if err = f.check(t); err == nil || c.kind.echo {
			return t, nil
		}
	}
	return nil, err
}

// warmRun runs dnsperf against a server once. A wrong answer is an error; lost
// queries are counted, as they also tell of a kernel buffer that was full.
func warmRun(ctx context.Context, l *lab, c *contestant, length time.Duration) (*sample, error) {
	ld := hitLoad(length, l.tcp)
	ld.cpus = c.others
	var t *tally
	used, err := metered(c, func() (driver time.Duration, err error) {
		if t, err = dnsperf(ctx, c.addr, l.all.path, ld); err != nil {
			return 0, err
		}
		return t.cpu, nil
	})
	if err != nil {
		return nil, err
	}
	if t.errors() != t.Lost || t.Completed == 0 {
		return nil, fmt.Errorf("%s gave wrong answers: %v", c.name, t.Rcodes)
	}
	return newSample(c.name, t, used), nil
}

// newSample relates what a run did to what was used during it.
func newSample(server string, t *tally, used spent) *sample {
	return &sample{
		Server:     server,
		CPU:        used.perQuery(t.Completed),
		Cores:      used.cores(used.server),
		DriverLoad: used.cores(used.driver),
		Strangers:  used.strangers,
		tally:      *t,
	}
}
