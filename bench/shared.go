package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The parts of the work, by their names in -works.
const (
	sharedFleets = "fleets" // what several servers with one cache ask of the Internet
	sharedCost   = "cost"   // what an answer costs that another has found
	sharedPull   = "pull"   // all memcached go, under load
	// sharedControl is the same load for as long, and nothing is done to memcached: what
	// the machine itself does to clients. It is done only if it is named.
	sharedControl = "control"
)

func sharedFlags(fs *flag.FlagSet, set *settings) {
	set.names = 60_000
	count(fs, &set.threads, "threads", 2, 1, 64, "threads of each server that answer queries")
	count(fs, &set.rate, "rate", 500, 1, 100_000, "questions a second that each server of a fleet is asked")
	count(fs, &set.load, "load", 20_000, 20, 100_000, "questions a second that a server is asked whose memcached go")
	fs.StringVar(&set.works, "works", strings.Join([]string{sharedFleets, sharedCost, sharedPull}, ","), "`what` to measure; "+sharedControl+": pull, but that nothing is done")
	fs.StringVar(&set.sizes, "fleets", "2,4", "`servers` of the fleets")
	fs.StringVar(&set.out, "out", resultsDir, "`directory` for the results")
	timeFlag(fs, set, time.Minute)
	fs.Lookup("time").Usage = "how `long` all memcached are gone, and a new server is watched; other phases are shorter"
}

// shared measures fleets with one shared cache: where answers come from, what the
// authorities notice, what it costs, and what clients notice when it goes.
func shared(ctx context.Context, dir string, set settings) error {
	runtime.GOMAXPROCS(max(16, runtime.NumCPU())) // threads that wait in the kernel keep no others waiting
	if err := canPlot(); err != nil {
		return err
	}
	sizes, err := fleetSizes(set.sizes)
	if err != nil {
		return err
	}
	rep, err := newSharedReport(ctx, set)
	if err != nil {
		return err
	}
	lab := set
	lab.signed = true
	lab.delegated = map[string]string{".": delegation(fillZone, fillAddr)}
	l, err := startLab(ctx, dir, lab)
	defer l.stop()
	if err != nil {
		return err
	}
	authority, err := startSynth(ctx, fillAddr, 0, filling)
	if err != nil {
		return err
	}
	defer authority.stop()
	works := strings.Split(set.works, ",")
	for i, n := range sizes {
		if !slices.Contains(works, sharedFleets) && !slices.Contains(works, sharedCost) {
			break
		}
		if err := rep.fleet(ctx, l, set, n, i == len(sizes)-1, slices.Contains(works, sharedCost)); err != nil {
			return fmt.Errorf("a fleet of %d: %w", n, err)
		}
	}
	if control := slices.Contains(works, sharedControl); control || slices.Contains(works, sharedPull) {
		if err := rep.pull(ctx, l, set, control); err != nil {
			return fmt.Errorf("without memcached: %w", err)
		}
	}
	return errors.Join(rep.publish(ctx, set.out), rep.verdict())
}

// fleetSizes reads a list of numbers.
func fleetSizes(list string) (sizes []int, err error) {
	const most = 16
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > most {
			return nil, fmt.Errorf("a fleet of %q: want a number between 1 and %d", text, most)
		}
		sizes = append(sizes, n)
	}
	return sizes, nil
}

// fleet measures a fleet of n servers that know nothing. With the last one it
// measures one more that joins them, and, if it is to, what an answer costs by
// where it comes from.
func (r *sharedReport) fleet(ctx context.Context, l *lab, set settings, n int, last, cost bool) error {
	f, err := startFleet(ctx, l, set, n)
	defer f.stop()
	if err != nil {
		return err
	}
	out := fleetResult{Members: n}
	draws := f.draws(n, 100)
	if out.Filling, err = f.measure(ctx, draws, set.run); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d servers that know nothing: %v\n", n, out.Filling)
	if last {
		if err := out.join(ctx, f); err != nil {
			return err
		}
	}
	r.Fleets = append(r.Fleets, out)
	if !last || !cost {
		return nil
	}
	rng := rand.New(rand.NewPCG(zoneSeed, 99))
	known := slices.Compact(slices.Sorted(slices.Values(slices.Concat(draws...))))
	rng.Shuffle(len(known), func(i, k int) { known[i], known[k] = known[k], known[i] })
	return r.cost(ctx, f, known[:min(len(known), costQuestions)])
}

// draws are the questions that the clients of n servers ask in a run, which know
// nothing of each other's. Other seeds give other questions.
func (f *fleet) draws(n int, seed uint64) [][]string {
	out := make([][]string, n)
	for i := range out {
		out[i] = zipfDraws(f.lab.net.questions, int(f.set.run.Seconds())*f.set.rate, seed+uint64(i))
	}
	return out
}

// join has one more server join f, and measures all.
func (r *fleetResult) join(ctx context.Context, f *fleet) error {
	began := time.Now()
	late, err := f.join(ctx, sharing)
	if err != nil {
		return err
	}
	r.ReadyAfter = time.Since(began).Seconds()
	s, err := sourcesOf(ctx, late)
	if err != nil {
		return err
	}
	r.Loaded = int(s.loaded)
	if r.Joined, err = f.measure(ctx, f.draws(len(f.members), 200), f.set.run); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "with one more: %v\n", r.Joined)
	return nil
}

// measure asks each member its questions at once, and tells where the answers
// came from.
func (f *fleet) measure(ctx context.Context, draws [][]string, length time.Duration) (*fleetSample, error) {
	before, err := f.lab.upstream(ctx)
	if err != nil {
		return nil, err
	}
	s := &fleetSample{Seconds: length.Seconds(), Members: make([]memberSample, len(draws))}
	errs := make([]error, len(draws))
	var wg sync.WaitGroup
	for i, questions := range draws {
		s.questions = append(s.questions, questions...)
		// Owner: measure, which waits. One for each member.
		wg.Go(func() { errs[i] = f.ask(ctx, f.members[i], questions, length, &s.Members[i]) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := sleep(ctx, settleTime); err != nil {
		return nil, err
	}
	after, err := f.lab.upstream(ctx)
	if err != nil {
		return nil, err
	}
	up := after.minus(before)
	slices.Sort(s.questions)
	s.Unique = len(slices.Compact(s.questions))
	s.Upstream, s.Tiers = up.UDP+up.TCP, up.Tiers
	return s, nil
}

// ask asks one server questions at the rate that fits the length.
func (f *fleet) ask(ctx context.Context, c *contestant, questions []string, length time.Duration, s *memberSample) error {
	before, err := sourcesOf(ctx, c)
	if err != nil {
		return err
	}
	var t *openTally
	used, err := metered(c, func() (driver time.Duration, err error) {
		t, err = openLoop(ctx, netip.AddrPortFrom(c.addr, 53), questions, f.set.rate, length)
		return 0, err
	})
	if err != nil {
		return err
	}
	if lost := t.why[outcomeNone]; t.Failed != lost {
		return fmt.Errorf("%s gave wrong answers: %v", c.name, t.why)
	}
	after, err := sourcesOf(ctx, c)
	if err != nil {
		return err
	}
	d := after.minus(before)
	asked := float64(t.Asked)
	*s = memberSample{
		Server: c.name, Asked: t.Asked, Lost: t.Failed, P50: t.P50, P99: t.P99, P999: t.P999, CPU: used.perQuery(int64(t.Asked)), Strangers: used.strangers,
		Memory: 1 - d.misses/asked, Shared: d.shared / asked, Gets: int64(d.gets), Rejected: int64(d.rejected),
	}
	// Who waits for what another is being told counts as resolved: it is the worse.
	s.Resolved = max(0, 1-s.Memory-s.Shared)
	return nil
}

// cost measures what an answer costs a server that is asked each question once:
// from the fleet, from memory, and from the authorities.
func (r *sharedReport) cost(ctx context.Context, f *fleet, questions []string) error {
	length := time.Duration(len(questions)) * time.Second / time.Duration(f.set.rate*costRates)
	fast := *f
	fast.set.rate *= costRates
	once := func(c *contestant) (*memberSample, error) {
		s := new(memberSample)
		return s, fast.ask(ctx, c, questions, length, s)
	}
	reader, err := f.join(ctx, empty)
	if err != nil {
		return err
	}
	caches, err := f.cacheTime()
	if err != nil {
		return err
	}
	out := &costResult{Questions: len(questions), Rate: fast.set.rate}
	if out.Shared, err = once(reader); err != nil {
		return err
	}
	after, err := f.cacheTime()
	if err != nil {
		return err
	}
	out.Cache = float64((after - caches).Microseconds()) / float64(max(out.Shared.Gets, 1))
	if out.Memory, err = once(reader); err != nil {
		return err
	}
	stranger, err := f.join(ctx, alone)
	if err != nil {
		return err
	}
	if out.Resolved, err = once(stranger); err != nil {
		return err
	}
	// A question that memory has costs so much as well.
	out.PerGet = (out.Shared.CPU - out.Memory.CPU) * float64(out.Shared.Asked) / float64(max(out.Shared.Gets, 1))
	fmt.Fprintf(os.Stderr, "an answer from the shared cache: %.1f µs of the server more than one from memory, %.1f µs of memcached; a resolution %.1f µs\n", out.PerGet, out.Cache, out.Resolved.CPU-out.Memory.CPU)
	r.Cost = out
	return nil
}

// costQuestions is how many questions are asked for that.
const costQuestions = 16_000

// costRates is how many times as fast as a fleet a server is asked to find out
// what an answer costs.
const costRates = 8
