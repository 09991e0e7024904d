package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// fullPeers are those of the full comparison. The first one is the measure.
const fullPeers = "unbound,bind,knot,pdns,sdns,shirube,echo"

func fullFlags(fs *flag.FlagSet, set *settings) {
	set.names, set.zones, set.peers = 60_000, 5000, fullPeers
	comparisonFlags(fs, set)
	timeFlag(fs, set, 10*time.Second)
	fs.DurationVar(&set.within, "within", 0, "`time` that it may take: runs are made shorter than -time where that is needed; 0: however long it takes")
	fs.StringVar(&set.works, "works", knownWorks(), "`what` to measure")
	count(fs, &set.hot, "hot", 10_000, 1, 1_000_000, "names that are asked for often, of -names")
	count(fs, &set.rate, "rate", 1000, 1, 1_000_000, "queries a second, where the rate is fixed")
	count(fs, &set.clients, "clients", 50, 1, 1000, "clients for cold names, each of which waits for its answer before it asks again")
}

// full compares servers in all works, or in those that the settings name, and
// writes the results, for people and programs, and as plots.
func full(ctx context.Context, dir string, set settings) error {
	chosen, err := findWorks(set.works)
	if err != nil {
		return err
	}
	if set.hot >= set.names {
		return fmt.Errorf("%d -hot names of %d -names leave none to be missed", set.hot, set.names)
	}
	if err := canPlot(); err != nil {
		return err
	}
	peers, absent := installed(set.peers)
	set.peers = peers
	servers, err := newContestants(ctx, set)
	if err != nil {
		return err
	}
	if set.run, err = fitting(chosen, set, servers); err != nil {
		return err
	}
	f := &fullRun{set: set, servers: servers, spare: spareOf(len(chosen) * set.rounds * len(servers))}
	if f.rep, err = newFullReport(ctx, time.Now().UTC(), set, chosen, servers); err != nil {
		return err
	}
	f.rep.Absent = absent
	fmt.Fprintln(os.Stderr, announce(chosen, set, servers))
	for _, unsigned := range []bool{true, false} {
		if err = f.laboratory(ctx, dir, unsigned, chosen); err != nil {
			break
		}
	}
	if len(f.rep.Runs) == 0 {
		return err
	}
	f.rep.Partial = f.rep.Partial || err != nil // an hour's figures are kept, whatever came then
	f.rep.finish(servers)
	err = errors.Join(err, f.rep.publish(ctx, set.out))
	if n := len(f.rep.Failures); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d failures; the report lists them", n))
	}
	return err
}

// fullRun is a full comparison under way.
type fullRun struct {
	set     settings
	servers []*contestant
	rep     *fullReport
	spare   int // runs that may be repeated for the sake of quiet
}

// group is works that find the servers alike.
type group struct {
	works []work
	lone  bool
	fresh bool
}

// groups are the works of one laboratory, those alike together, and those that
// need all names in memory behind the others.
func groups(chosen []work, unsigned bool) []group {
	var out []group
	for _, lone := range []bool{false, true} {
		for _, fresh := range []bool{false, true} {
			g := group{lone: lone, fresh: fresh}
			for _, all := range []bool{false, true} {
				for _, w := range chosen {
					if w.unsigned == unsigned && w.lone == lone && w.fresh == fresh && w.all == all {
						g.works = append(g.works, w)
					}
				}
			}
			if len(g.works) > 0 {
				out = append(out, g)
			}
		}
	}
	return out
}

// laboratory builds one and does the works that belong there.
func (f *fullRun) laboratory(ctx context.Context, dir string, unsigned bool, chosen []work) error {
	todo := groups(chosen, unsigned)
	if len(todo) == 0 {
		return nil
	}
	set := f.set
	set.signed = !unsigned
	dir = filepath.Join(dir, map[bool]string{true: "unsigned", false: "signed"}[unsigned])
	l, err := startLab(ctx, dir, set)
	defer l.stop()
	if err != nil {
		return err
	}
	s, err := newStage(l, set)
	if err != nil {
		return err
	}
	for _, g := range todo {
		s.set.threads = f.set.threads
		if g.lone {
			s.set.threads = 1
		}
		for _, c := range f.servers {
			c.threads = s.set.threads
			c.place()
		}
		if g.fresh {
			err = f.rounds(ctx, s, f.servers, g.works)
		} else {
			err = f.standing(ctx, s, g.works)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// standing starts all servers that take part, and does works while they stand.
func (f *fullRun) standing(ctx context.Context, s *stage, todo []work) error {
	defer func() { stopContestants(f.servers) }()
	hot, all := split(todo)
	up, err := f.each(ctx, "start", f.servers, todo, func(c *contestant) error { return c.standUp(ctx, s) })
	if err != nil {
		return err
	}
	if err := f.rounds(ctx, s, up, hot); err != nil || len(all) == 0 {
		return err
	}
	up, err = f.each(ctx, "all names", up, all, func(c *contestant) error { return c.learnAll(ctx, s) })
	if err != nil {
		return err
	}
	return f.rounds(ctx, s, up, all)
}

// each does something with the servers that take part in works, and returns those
// with which it went well.
func (f *fullRun) each(ctx context.Context, what string, servers []*contestant, todo []work, do func(*contestant) error) (well []*contestant, err error) {
	for _, c := range servers {
		if !takesPart(c, todo...) {
			continue
		}
		if err := do(c); err != nil {
			if err := f.failed(ctx, what, c, err); err != nil {
				return nil, err
			}
			continue
		}
		well = append(well, c)
	}
	return well, nil
}

// standUp starts c and lets it resolve the hot names.
func (c *contestant) standUp(ctx context.Context, s *stage) error {
	err := c.startReady(ctx, s.lab)
	if err == nil {
		c.memory.start, err = c.resident()
	}
	if err == nil {
		err = prime(ctx, s.lab, c, s.hot, true)
	}
	if err == nil {
		c.memory.hot, err = c.resident()
	}
	return err
}

// learnAll lets c resolve all names.
func (c *contestant) learnAll(ctx context.Context, s *stage) error {
	err := prime(ctx, s.lab, c, s.all, true)
	if err == nil {
		c.memory.all, err = c.resident()
	}
	return err
}

// failed keeps an error of a server's for the report, so that the others' figures
// are not lost. It returns what ends everything.
func (f *fullRun) failed(ctx context.Context, what string, c *contestant, err error) error {
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	f.rep.Failures = append(f.rep.Failures, failure(what, c, err))
	return nil
}

// failure tells of an error of a server's: the user all of it, who calls a line.
func failure(what string, c *contestant, err error) string {
	text := fmt.Sprintf("%s: %s: %v", what, c.name, err)
	fmt.Fprintln(os.Stderr, text)
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// split divides works into those with the hot names in memory and those with all.
func split(todo []work) (hot, all []work) {
	for _, w := range todo {
		if w.all {
			all = append(all, w)
		} else {
			hot = append(hot, w)
		}
	}
	return hot, all
}

// takesPart reports whether a server has a part in one of works.
func takesPart(c *contestant, todo ...work) bool {
	for _, w := range todo {
		if w.echo || !c.kind.echo {
			return true
		}
	}
	return false
}

// rounds does works, one after the other, in rounds of all servers in turn.
func (f *fullRun) rounds(ctx context.Context, s *stage, servers []*contestant, todo []work) error {
	for _, w := range todo {
		n := f.set.rounds
		if w.once {
			n = 1
		}
		for round := range n {
			for i := range servers {
				c := servers[(i+round)%len(servers)] // not always the same one first
				if !takesPart(c, w) {
					continue
				}
				r, err := quietest(&f.spare, func() (*figures, error) { return w.run(ctx, s, c, &w) })
				if err != nil {
					if err := f.failed(ctx, w.name, c, err); err != nil {
						return err
					}
					continue
				}
				r.Work, r.Server, r.Round = w.name, c.name, round+1
				f.rep.Runs = append(f.rep.Runs, *r)
				fmt.Fprintln(os.Stderr, r)
			}
		}
	}
	return nil
}

// String tells a run in a line.
func (f *figures) String() string {
	line := fmt.Sprintf("%-11s round %d  %-8s", f.Work, f.Round, f.Server)
	for _, m := range measures {
		if v, ok := f.Values[m.key]; ok {
			line += fmt.Sprintf("  %.*f %s", m.digits, v, m.short)
		}
	}
	return line + fmt.Sprintf("  %d lost  strangers %.1f %%", f.Lost, 100*f.Strangers)
}

// What runs take beside the time that they are to take, in seconds, seen on two
// cores: an estimate need not be better.
const (
	loadOverhead  = 0.5
	coldOverhead  = 3.5 // start, and rest before and after
	mixOverhead   = 6   // start, and asking for the hot names
	primeOverhead = 6   // of a server, in each group
	labOverhead   = 20
)

// estimate returns how long works will take if nobody disturbs them.
func estimate(chosen []work, set settings, servers []*contestant) time.Duration {
	seconds := 0.0
	for _, unsigned := range []bool{true, false} {
		todo := groups(chosen, unsigned)
		if len(todo) > 0 {
			seconds += labOverhead
		}
		for _, g := range todo {
			for _, c := range servers {
				for _, w := range g.works {
					if takesPart(c, w) && !w.once {
						seconds += float64(set.rounds) * w.seconds(set)
					}
				}
				if !g.fresh && takesPart(c, g.works...) {
					seconds += primeOverhead
				}
			}
		}
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Minute)
}

// fitting returns how long runs may be for all to be over within the time that the
// settings give, those included that are repeated: as long as told, or fewer whole
// seconds.
func fitting(chosen []work, set settings, servers []*contestant) (time.Duration, error) {
	for run := set.run; run >= time.Second; run -= time.Second {
		set.run = run
		if d := estimate(chosen, set, servers); set.within == 0 || d+time.Duration(spareShare*float64(d)) <= set.within {
			return run, nil
		}
	}
	return 0, fmt.Errorf("%d rounds of %d works take longer than %v, however short they are", set.rounds, len(chosen), set.within)
}

// seconds is what a run of w takes.
func (w *work) seconds(set settings) float64 {
	set.run = max(set.run, w.least)
	switch {
	case w.fresh && w.load != nil:
		return set.run.Seconds() + mixOverhead
	case w.fresh:
		return set.run.Seconds()/2 + coldOverhead // servers differ
	}
	return set.run.Seconds() + loadOverhead
}

// spareShare is how many runs may be repeated for the sake of quiet, as a share
// of all.
const spareShare = 0.2

func spareOf(runs int) int { return int(spareShare*float64(runs)) + 1 }

// announce says what is going to happen, and how long it may take.
func announce(chosen []work, set settings, servers []*contestant) string {
	d := estimate(chosen, set, servers)
	return fmt.Sprintf("%d works, %d servers, %d rounds of %v: about %v, and up to %v more if others use the machine",
		len(chosen), len(servers), set.rounds, set.run, d, time.Duration(spareShare*float64(d)).Round(time.Minute))
}
