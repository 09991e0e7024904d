package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"shirube/internal/wire"
)

// The load while memcached go, of each pullCycle questions: names in memory, and a
// few of which nobody has asked yet; the rest are names that another server of
// the fleet has told of. The names of each kind have numbers of their own.
const (
	pullCycle  = 20
	pullHot    = 16 // of a cycle
	pullNew    = 1
	pullNames  = 2000       // that are in memory
	pullTold   = 1_000_000  // the first that another server has told
	pullUnused = 50_000_000 // the first that nobody has asked
)

// pullShort is how many times as short as -time the other phases are than those
// that are compared: with all memcached, and without.
const pullShort = 6

// pullPhase is one thing that happens to memcached.
type pullPhase struct {
	name string
	mark string // in the plot; empty: nothing is done
	long bool
	gone bool // what has been told is lost
	do   func(ctx context.Context, f *fleet) error
}

// pullPhases are what happens, in this order. In the first, nothing does, for as
// long as all is gone later: the others are held against it.
var pullPhases = []pullPhase{
	{name: "three memcached", long: true},
	{name: "all frozen", mark: "frozen", do: func(_ context.Context, f *fleet) error { return f.signal(syscall.SIGSTOP) }},
	{name: "all run again", mark: "run on", do: func(_ context.Context, f *fleet) error { return f.signal(syscall.SIGCONT) }},
	{name: "all killed", mark: "killed", long: true, gone: true, do: func(_ context.Context, f *fleet) error { return f.kill() }},
	{name: "all started anew, empty", mark: "started", do: func(ctx context.Context, f *fleet) error {
		return f.each(func(i int) error { return f.startCache(ctx, i) })
	}},
}

// length returns how long a phase lasts.
func (p *pullPhase) length(most time.Duration) time.Duration {
	if p.long {
		return most
	}
	return max(most/pullShort, 3*time.Second)
}

// pull asks a server of a fleet of two at a high rate, for names in its memory,
// in the shared cache, and nowhere, while all memcached freeze, and go, and come
// again; or, if it is the control, while nothing is done to them.
func (r *sharedReport) pull(ctx context.Context, l *lab, set settings, control bool) error {
	f, err := startFleet(ctx, l, set, 2)
	defer f.stop()
	if err != nil {
		return err
	}
	out := &pullResult{Rate: set.load}
	total, told := pullLengths(set.run)
	c := f.members[0]
	names := int(told.Seconds()) * set.load / pullCycle * (pullCycle - pullHot - pullNew)
	if err := errors.Join(pullPrime(ctx, c, 0, pullNames, set.load), pullPrime(ctx, f.members[1], pullTold, names, set.load)); err != nil {
		return err
	}
	n := int(total.Seconds()) * set.load
	// The garbage of a load, some 100 MB, is not collected in the server's time.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	o := newOpenLoop(pullQuery())
	ended := make(chan error, 1)
	// Owner: pull, which waits. End: with the load. Bound: one.
	go func() { ended <- o.run(ctx, netip.AddrPortFrom(c.addr, 53), set.load, o.atMost(n)) }()
	marks, err := out.phases(ctx, f, c, set.run, control)
	if err = errors.Join(err, <-ended); err != nil {
		return err
	}
	out.read(o, marks)
	r.Pull = out
	for i := range out.Phases {
		fmt.Fprintf(os.Stderr, "%v\n", &out.Phases[i])
	}
	return c.alive()
}

// pullLengths returns how long all phases last, and those until what has been told
// is lost.
func pullLengths(most time.Duration) (total, told time.Duration) {
	gone := false
	for i := range pullPhases {
		p := &pullPhases[i]
		total += p.length(most)
		if gone = gone || p.gone; !gone {
			told = total
		}
	}
	return total, told
}

// pullPrime has a server resolve n names from the first on, slowly enough for it
// to tell its fleet of all.
func pullPrime(ctx context.Context, c *contestant, first, n, load int) error {
	questions := make([]string, n)
	for i := range questions {
		questions[i] = fillName(first+i) + " TXT"
	}
	rate := max(load/4, 1)
	t, err := openLoop(ctx, netip.AddrPortFrom(c.addr, 53), questions, rate, time.Duration(n)*time.Second/time.Duration(rate))
	if err != nil {
		return err
	}
	if t.Failed > n/fillMissing {
		return fmt.Errorf("%s does not resolve the names: %v", c.name, t.why)
	}
	return sleep(ctx, settleTime/2) // until the last of it is written
}

// pullQuery returns what is asked as the i-th question, until it is called again.
func pullQuery() func(i int) []byte {
	const told = pullCycle - pullHot - pullNew
	hot := make([][]byte, pullNames)
	for i := range hot {
		hot[i] = newQuery(0, fillName(i), uint16(wire.TypeTXT))
	}
	numbered := pullNumbered()
	return func(i int) []byte {
		cycle, at := i/pullCycle, i%pullCycle
		switch {
		case at < pullHot:
			return hot[(cycle*pullHot+at)%len(hot)]
		case at < pullHot+told:
			return numbered(pullTold + cycle*told + at - pullHot)
		}
		return numbered(pullUnused + cycle)
	}
}

// pullNumbered returns what is asked for a [fillName], until it is called again: it
// changes one query, as the load makes no garbage.
func pullNumbered() func(i int) []byte {
	const digits = headerSize + 2 // behind the length of the label, and its letter
	q := newQuery(0, fillName(0), uint16(wire.TypeTXT))
	tree := digits + fillDigits + 2 // behind the length of the next, and its letter
	return func(i int) []byte {
		q[tree] = '0' + byte(i%fillTrees)
		for at := digits + fillDigits - 1; at >= digits; at-- {
			q[at] = '0' + byte(i%10)
			i /= 10
		}
		return q
	}
}

// phases goes through all of them, and returns when each began, in nanoseconds by
// the real clock.
func (r *pullResult) phases(ctx context.Context, f *fleet, c *contestant, most time.Duration, control bool) (marks []int64, err error) {
	for i := range pullPhases {
		p := &pullPhases[i]
		end := time.Now().Add(p.length(most))
		before, err := sourcesOf(ctx, c)
		if err != nil {
			return nil, err
		}
		marks = append(marks, time.Now().UnixNano())
		out := phaseResult{Name: p.name, Mark: p.mark}
		used, err := metered(c, func() (time.Duration, error) {
			if p.do != nil && !control {
				if err := p.do(ctx, f); err != nil {
					return 0, err
				}
			}
			return 0, sleep(ctx, time.Until(end))
		})
		if err != nil {
			return nil, err
		}
		out.used = used
		after, err := sourcesOf(ctx, c)
		if err != nil {
			return nil, err
		}
		out.from, out.Connections = after.minus(before), int(after.conns)
		if out.Descriptors, err = descriptors(c.proc.pid()); err != nil {
			return nil, err
		}
		m, err := scrapeAt(ctx, adminOf(c))
		if err != nil {
			return nil, err
		}
		out.Goroutines = int(m["go_goroutines"])
		r.Phases = append(r.Phases, out)
	}
	return marks, nil
}

// read sums up a load by seconds, and by phases, which began at marks.
func (r *pullResult) read(o *openLoopRun, marks []int64) {
	begun := o.due[0]
	seconds := make([][]time.Duration, (o.due[len(o.due)-1]-begun)/int64(time.Second)+1)
	phases, late := make([][]time.Duration, len(marks)), make([][]time.Duration, len(marks))
	r.Seconds = make([]secondSample, len(seconds))
	for i, at := range o.due {
		second := (at - begun) / int64(time.Second)
		phase := max(0, afterMark(marks, at))
		took := o.latency[i]
		seconds[second], phases[phase] = append(seconds[second], took), append(phases[phase], took)
		late[phase] = append(late[phase], o.late[i])
		r.Seconds[second].count(o.outcome[i])
		r.Phases[phase].count(o.outcome[i])
	}
	for i, all := range seconds {
		slices.Sort(all)
		r.Seconds[i].P50, r.Seconds[i].P99 = milliseconds(percentile(all, 50)), milliseconds(percentile(all, 99))
	}
	for i, all := range phases {
		p := &r.Phases[i]
		p.At = max(0, float64(marks[i]-begun)/float64(time.Second))
		slices.Sort(all)
		p.P50, p.P99, p.P999, p.Max = milliseconds(percentile(all, 50)), milliseconds(percentile(all, 99)), milliseconds(percentile(all, 99.9)), milliseconds(percentile(all, 100))
		p.Late = lateness(late[i])
		asked := float64(max(p.Asked, 1))
		p.CPU, p.Strangers = p.used.perQuery(int64(max(p.Asked, 1))), p.used.strangers
		p.Shared = p.from.shared / asked
		p.Missed = p.from.misses / asked
		p.Why = p.from.why
		var ofSeconds []float64
		for k := range r.Seconds {
			if from, to := p.At, p.At+p.used.wall.Seconds(); float64(k) >= from && float64(k+1) <= to {
				ofSeconds = append(ofSeconds, r.Seconds[k].P99)
			}
		}
		p.P99Seconds = spreadOf(ofSeconds)
	}
}

// afterMark returns the index of the last mark that is not behind at.
func afterMark(marks []int64, at int64) int {
	i, found := slices.BinarySearch(marks, at)
	if found {
		return i
	}
	return i - 1
}
