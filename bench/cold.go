package main

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// coldSample is one run of one server, which had just been started.
type coldSample struct {
	Server    string        `json:"server"`
	Round     int           `json:"round"`                  // from 1
	CPU       float64       `json:"server_cpu_us_per_name"` // from when it was ready to rest after the last answer
	Packets   float64       `json:"upstream_per_name"`      // UDP and TCP queries, those before the first question included
	Upstream  upstreamCount `json:"upstream"`
	Dropped   int64         `json:"udp_dropped"`     // for want of buffer, at any socket of the laboratory
	Resident  int64         `json:"resident_octets"` // at the end
	Strangers float64       `json:"strangers_of_all"`
	loopTally

	used spent
}

// settleTime is how long a server is left alone after the last answer, for what
// it does in the background to be counted. It is longer than a slow server's
// answer takes by default.
const settleTime = time.Second

func coldFlags(fs *flag.FlagSet, set *settings) {
	comparisonFlags(fs, set)
	signedFlag(fs, set)
	count(fs, &set.clients, "clients", 50, 1, 1000, "clients, each of which waits for its answer before it asks again")
	fs.BoolVar(&set.faults, "faults", false, "of the zones' 200 name servers 2 are dead and 10 slow")
	set.delay = 300 * time.Millisecond
	fs.Var(spell{&set.delay, 0, 5 * time.Second, time.Millisecond}, "delay", "how much `later` the slow ones answer")
	fs.StringVar(&set.perf, "perf", "", "keep what perf(1) samples of each run in this `directory`; it costs CPU")
}

// cold compares servers that know nothing: each is started, asked for every
// name once, and stopped.
func cold(ctx context.Context, dir string, set settings) error {
	l, err := startLab(ctx, dir, set)
	defer l.stop()
	if err != nil {
		return err
	}
	servers, err := newContestants(ctx, set)
	if err != nil {
		return err
	}
	rep, err := newColdReport(ctx, time.Now().UTC(), set, l, servers)
	if err != nil {
		return err
	}
	for round := range set.rounds {
		for i := range servers {
			c := servers[(i+round)%len(servers)] // not always the same one first
			s, err := quietest(nil, func() (*coldSample, error) { return coldRun(ctx, l, c, l.all, set) })
			if err != nil {
				return err
			}
			s.Round = round + 1
			rep.Runs = append(rep.Runs, *s)
			fmt.Fprintf(os.Stderr, "round %d  %-9s %7.0f q/s  %6.1f µs CPU/name  %.4f packets/name  p50 %.1f  p99 %.1f  max %.0f ms  %d failed  strangers %.1f %%\n",
				s.Round, s.Server, s.PerSecond, s.CPU, s.Packets, s.P50, s.P99, s.Max, s.Failed, 100*s.Strangers)
		}
	}
	rep.summarise(servers)
	return rep.write(set.out)
}

// coldRun starts a server, lets it resolve every name of a file, and stops it.
func coldRun(ctx context.Context, l *lab, c *contestant, f *queryFile, set settings) (*coldSample, error) {
	untouched, err := l.upstream(ctx)
	if err != nil {
		return nil, err
	}
	defer c.stop()
	if err := c.start(ctx, l); err != nil {
		return nil, err
	}
	if err := c.proc.awaitAlive(ctx, c.addr); err != nil {
		return nil, err
	}
	if err := sleep(ctx, settleTime/2); err != nil { // what it does at start is no part of a name's price
		return nil, err
	}
	stopPerf, err := startPerf(c, set.perf)
	if err != nil {
		return nil, err
	}
	defer stopPerf()
	var t *loopTally
	used, err := metered(c, func() (driver time.Duration, err error) {
		if t, err = closedLoop(ctx, netip.AddrPortFrom(c.addr, 53), f.questions, set.clients); err != nil {
			return 0, err
		}
		return 0, sleep(ctx, settleTime)
	})
	if err != nil {
		return nil, err
	}
	return l.newColdSample(ctx, c, f, t, used, untouched)
}

// newColdSample relates what a run did to what was used during it. It fails if
// the server told other things than the zones hold.
func (l *lab) newColdSample(ctx context.Context, c *contestant, f *queryFile, t *loopTally, used spent, untouched upstreamCount) (*coldSample, error) {
	if missing := int(f.nxdomain); t.NXDomain > missing || (t.Failed == 0 && t.NXDomain != missing) {
		return nil, fmt.Errorf("%s: %d names do not exist, but it said so of %d", c.name, missing, t.NXDomain)
	}
	if t.Failed > 0 {
		fmt.Fprintf(os.Stderr, "%s failed: %v\n", c.name, t.why)
	}
	asked, err := l.upstream(ctx)
	if err != nil {
		return nil, err
	}
	resident, err := c.resident()
	if err != nil {
		return nil, err
	}
	up := asked.minus(untouched)
	return &coldSample{
		Server: c.name, loopTally: *t, Upstream: up, Resident: resident, Dropped: used.drops,
		CPU:       used.perQuery(int64(t.Asked)),
		Packets:   float64(up.UDP+up.TCP) / float64(t.Asked),
		Strangers: used.strangers,
		used:      used,
	}, c.checkValidation(l)
}

// disturbance implements [disturbed].
func (s *coldSample) disturbance() float64 { return s.Strangers }

// awaitAlive waits until a server answers at all, for at most 30 s. It asks
// with RD clear: no server resolves anything for that.
func (p *process) awaitAlive(ctx context.Context, server netip.Addr) error {
	query := soaQuery(".")
	query[2] = 0 // RD
	for range 300 {
		if _, err := exchangeUDP(netip.AddrPortFrom(server, 53), query, 100*time.Millisecond); err == nil {
			return nil
		}
		if err := p.alive(); err != nil {
			return err
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s does not answer; its log says:\n%s", p.name, p.logTail())
}

// startPerf samples the server with perf(1) until the function that it returns
// is called. Without a directory it does nothing.
func startPerf(c *contestant, dir string) (stop func(), err error) {
	if dir == "" {
		return func() {}, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	cmd := exec.Command("perf", "record", "-q", "-e", "cpu-clock", "-F", "2000", "-g", //nolint:noctx // stop ends it, and waits
		"-p", strconv.Itoa(c.proc.pid()), "-o", filepath.Join(dir, c.name+".perf"))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	time.Sleep(settleTime / 2) // until it has attached
	return func() {
		_ = cmd.Process.Signal(syscall.SIGINT) // then it writes the file
		_ = cmd.Wait()                         // it ends with the signal's status
	}, nil
}
