package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// work is one way of loading servers in the full comparison.
type work struct {
	name     string // in -works, and in the results
	title    string
	how      string        // what is done, for the report
	unit     string        // what CPU time is counted for
	measures []string      // what is measured, by the keys of measures
	echo     bool          // the echo takes part: it answers as fast as the machine can
	unsigned bool          // the zones are not signed, and nothing validates
	lone     bool          // one thread, in place of as many as told
	fresh    bool          // for every run a server is started anew
	all      bool          // the servers have all names in memory, not only the hot ones
	once     bool          // one round is enough
	least    time.Duration // that a run takes; 0: it may be shorter
	run      func(ctx context.Context, s *stage, c *contestant, w *work) (*figures, error)
	load     func(s *stage) load // how dnsperf asks; nil: it does not
}

// The measures of most works.
var (
	hitMeasures  = []string{perQuery, perSecond}
	coldMeasures = []string{perQuery, perSecond, p50, p99, p999, packets}
)

// works are all there are, in the order of the results. Those of one kind of
// laboratory and server are run after one another.
func works() []work {
	return []work{
		{
			name: "udp", title: "Warm UDP", unit: "query", measures: hitMeasures, echo: true,
			how: "The hot names, over and over, from memory.", load: hits, run: loadHot,
		},
		{
			name: "udp-do", title: "Warm UDP with DO", unit: "query", measures: hitMeasures, echo: true,
			how:  "The same by clients that want signatures, which makes answers three times as long.",
			load: func(s *stage) load { ld := hits(s); ld.do = true; return ld }, run: loadHot,
		},
		{
			name: "udp-1", title: "Warm UDP, one thread", unit: "query", measures: hitMeasures, echo: true, lone: true,
			how: "Warm UDP, with one thread to answer, which has a core to itself; the load has the rest of the machine.", load: hits, run: loadHot,
		},
		{
			name: "udp-max", title: "Warm UDP, one thread at its end", unit: "query", measures: hitMeasures, echo: true, lone: true,
			how:  "The same, with a load that takes less CPU time than dnsperf does, so that the server is at its end before the load is: the queries per second are the server's own where *limit* says so.",
			load: func(s *stage) load { return load{blast: true, threads: 1, length: s.set.run} }, run: loadHot,
		},
		{
			name: "tcp", title: "Warm TCP", unit: "query", measures: hitMeasures,
			how:  "The hot names over 20 connections that stay open, with up to ten queries on the way on each.",
			load: func(s *stage) load { ld := hits(s); ld.tcp = true; return ld }, run: loadHot,
		},
		{
			name: "zipf", title: "Zipf", unit: "query", measures: hitMeasures, all: true,
			how: "All names, from memory: the n-th most popular is asked for 1/n as often as the first.", load: hits, run: loadZipf,
		},
		{
			name: "latency", title: "Latency at a fixed rate", unit: "query", measures: []string{p50, p99, p999, perQuery}, echo: true, lone: true, least: fixedLeast,
			how: "The hot names at the same moderate rate for all, in an open loop of our own (dnsperf 2.10 has no percentiles): nobody waits for an answer before the next query. " +
				"The server has a thread and a core to itself, so that neither keeps the other waiting. " +
				"Latency runs from when a query was due to the kernel's timestamp of the answer; how late queries were sent stands below. What the echo has is the machine's.",
			run: loadFixed,
		},
		{
			name: "mix", title: "90 % hits, 10 % misses", unit: "query", measures: hitMeasures, fresh: true,
			how: "Nine of ten queries are for hot names, from memory; one is for a name that nobody asked for before. The server is started, asked for the hot names once, and then for the mix.",
			load: func(s *stage) load {
				ld := hits(s)
				ld.once, ld.length, ld.patience = true, mixLimit, missPatience
				return ld
			}, run: loadMix,
		},
		{
			name: "cold", title: "Cold names, unsigned", unit: "name", measures: coldMeasures, fresh: true, unsigned: true,
			how: "Names of unsigned zones, each asked for once of a server that was just started, by clients that wait for their answers; validation is off.", run: loadCold,
		},
		{
			name: "cold-signed", title: "Cold names, signed", unit: "name", measures: coldMeasures, fresh: true,
			how: "The same names of signed zones, all of which are validated.", run: loadCold,
		},
		{
			name: "memory", title: "Memory", unit: "", measures: []string{residentStart, residentHot, residentAll}, all: true, once: true,
			how: "What a server has in RAM: when it has started, when it has been asked for the hot names, and for all names. Read once.", run: readMemory,
		},
	}
}

// knownWorks lists the names of works.
func knownWorks() string {
	var names []string
	for _, w := range works() {
		names = append(names, w.name)
	}
	return strings.Join(names, ",")
}

// findWorks returns the works of a comma-separated list, in the order of works.
func findWorks(list string) ([]work, error) {
	wanted := strings.Split(list, ",")
	var found []work
	for _, w := range works() {
		if slices.Contains(wanted, w.name) {
			found = append(found, w)
			wanted = slices.DeleteFunc(wanted, func(name string) bool { return name == w.name })
		}
	}
	if len(wanted) > 0 {
		return nil, fmt.Errorf("unknown work %q: known are %s", wanted[0], knownWorks())
	}
	return found, nil
}

const (
	// missPatience is how long dnsperf waits for names that have to be resolved.
	missPatience = 5 * time.Second
	// mixLimit ends a mix that takes too long.
	mixLimit = 3 * time.Minute
	// missesPerSecond and coldPerSecond are how many names a run has for each
	// second that it is to take; a server that is quicker ends earlier.
	missesPerSecond = 5000
	coldPerSecond   = 3000
	// zipfQuestions is how many are drawn; a run that has asked them all begins
	// with the first again.
	zipfQuestions = 1_000_000
)

// stage is a laboratory with what the works ask of it.
type stage struct {
	*lab
	set  settings
	hot  *queryFile
	zipf *queryFile
	mix  *queryFile
	cold *queryFile
}

// newStage makes the questions of a laboratory that has been started. Of as many
// names as settings say, the first are hot, and the rest are for misses.
func newStage(l *lab, set settings) (s *stage, err error) {
	names := l.net.questions
	s = &stage{lab: l, set: set}
	if s.hot, err = l.write("hot.txt", names[:set.hot]); err != nil {
		return nil, err
	}
	seconds := int(set.run / time.Second)
	misses := names[set.hot:]
	misses = misses[:min(len(misses), seconds*missesPerSecond)]
	if s.mix, err = l.write("mix.txt", mixQuestions(names[:set.hot], misses)); err != nil {
		return nil, err
	}
	if s.cold, err = l.write("cold.txt", names[:min(len(names), seconds*coldPerSecond)]); err != nil {
		return nil, err
	}
	s.zipf, err = l.write("zipf.txt", zipfDraws(names, zipfQuestions, 2))
	return s, err
}

// hits is the load for answers from memory: more clients than dnsperf needs, as
// many of its threads as make it fast enough, and no more queries on the way than
// the servers' sockets have room for if they leave it at what Linux gives them.
func hits(s *stage) load {
	return load{clients: 20, threads: 2, outstanding: 100 * s.set.threads, length: s.set.run, patience: 2 * time.Second}
}

// figures are what was measured in a run.
type figures struct {
	Work        string             `json:"work"`
	Server      string             `json:"server"`
	Round       int                `json:"round"` // from 1
	Completed   int64              `json:"completed"`
	Lost        int64              `json:"lost"`                      // or failed
	Octets      float64            `json:"response_octets,omitempty"` // mean; 0: not known
	ServerCores float64            `json:"server_cores"`              // CPU time by wall time
	LoadCores   float64            `json:"load_cores"`                // likewise, of the program that asks
	AllCores    float64            `json:"all_cores"`                 // likewise, of the whole benchmark
	Strangers   float64            `json:"strangers_of_all"`          // share of the machine used by anything else
	Dropped     int64              `json:"udp_dropped"`               // for want of buffer, at any socket of the laboratory
	Late        float64            `json:"sent_late_p99_ms,omitempty"`
	TooSlow     bool               `json:"rate_missed,omitempty"` // the client could not ask as often as it was to
	Values      map[string]float64 `json:"values"`
}

// disturbance implements [disturbed].
func (f *figures) disturbance() float64 {
	if f.TooSlow {
		return 1
	}
	return f.Strangers
}

// newFigures relates n answers to what was used for them.
func newFigures(n int64, used spent) *figures {
	all := used.own + used.driver
	return &figures{
		Completed: n, ServerCores: used.cores(used.server), LoadCores: used.cores(used.driver), AllCores: used.cores(all),
		Strangers: used.strangers, Dropped: used.drops,
		Values: map[string]float64{perQuery: used.perQuery(n)},
	}
}

// driven measures what dnsperf does to c with the questions of a file, as w says.
// A server that tells anything wrong is an error; lost queries are counted, as
// they also tell of a kernel buffer that was full.
func (s *stage) driven(ctx context.Context, c *contestant, f *queryFile, w *work) (*figures, error) {
	ld := w.load(s)
	ld.cpus = c.others
	var t *tally
	used, err := metered(c, func() (driver time.Duration, err error) {
		if t, err = dnsperf(ctx, c.addr, f.path, ld); err != nil {
			return 0, err
		}
		if w.fresh { // for what it does in the background to be counted
			err = sleep(ctx, settleTime)
		}
		return t.cpu, err
	})
	if err != nil {
		return nil, err
	}
	if err := f.checkRun(t, c, ld.once); err != nil {
		return nil, err
	}
	out := newFigures(t.Completed, used)
	out.Lost, out.Octets, out.Values[perSecond] = t.errors(), t.ResponseSize, t.PerSecond
	return out, nil
}

// loadHot asks for the hot names.
func loadHot(ctx context.Context, s *stage, c *contestant, w *work) (*figures, error) {
	return s.driven(ctx, c, s.hot, w)
}

// loadZipf asks for all names, some more often than others.
func loadZipf(ctx context.Context, s *stage, c *contestant, w *work) (*figures, error) {
	return s.driven(ctx, c, s.zipf, w)
}

// loadMix starts c, lets it resolve the hot names, and asks for them and for
// others.
func loadMix(ctx context.Context, s *stage, c *contestant, w *work) (*figures, error) {
	defer c.stop()
	if err := c.startReady(ctx, s.lab); err != nil {
		return nil, err
	}
	if err := errors.Join(prime(ctx, s.lab, c, s.hot, false), sleep(ctx, settleTime/2)); err != nil {
		return nil, err
	}
	return s.driven(ctx, c, s.mix, w)
}

// loadFixed asks for the hot names at a fixed rate.
func loadFixed(ctx context.Context, s *stage, c *contestant, w *work) (*figures, error) {
	var t *openTally
	used, err := metered(c, func() (driver time.Duration, err error) {
		t, err = openLoopOn(ctx, c.others, netip.AddrPortFrom(c.addr, 53), s.hot.questions, s.set.rate, max(s.set.run, w.least))
		return 0, err
	})
	if err != nil {
		return nil, err
	}
	if lost := t.why[outcomeNone]; t.Failed != lost {
		return nil, fmt.Errorf("%s gave wrong answers: %v", c.name, t.why)
	}
	out := newFigures(int64(t.Asked-t.Failed), used)
	out.Lost, out.Late, out.TooSlow = int64(t.Failed), t.Late, t.Rate < rateKept*float64(s.set.rate)
	out.latencies(&t.loopTally)
	return out, nil
}

// fixedLeast is how long a run at a fixed rate is at least: the 99th percentile of
// fewer queries is made by a moment or two.
const fixedLeast = 5 * time.Second

// rateKept is the share of a fixed rate that has to be reached: less is the
// client's failure.
const rateKept = 0.98

// latencies takes them over.
func (f *figures) latencies(t *loopTally) {
	f.Values[p50], f.Values[p99], f.Values[p999] = t.P50, t.P99, t.P999
}

// loadCold asks c, which was just started, for every name once.
func loadCold(ctx context.Context, s *stage, c *contestant, _ *work) (*figures, error) {
	r, err := coldRun(ctx, s.lab, c, s.cold, s.set)
	if err != nil {
		return nil, err
	}
	out := newFigures(int64(r.Asked), r.used)
	out.Lost, out.Values[perSecond], out.Values[packets] = int64(r.Failed), r.PerSecond, r.Packets
	out.latencies(&r.loopTally)
	return out, nil
}

// readMemory tells what c had at each of three moments.
func readMemory(_ context.Context, _ *stage, c *contestant, _ *work) (*figures, error) {
	const mebi = 1 << 20
	return &figures{Values: map[string]float64{
		residentStart: float64(c.memory.start) / mebi, residentHot: float64(c.memory.hot) / mebi, residentAll: float64(c.memory.all) / mebi,
	}}, nil
}

// mixQuestions are nine of the hot names, in their order, for each of the misses,
// which stands at a random place among them.
func mixQuestions(hot, misses []string) []string {
	rng := rand.New(rand.NewPCG(zoneSeed, 1))
	out := make([]string, 0, 10*len(misses))
	for i, miss := range misses {
		at := rng.IntN(10)
		for k := range 10 {
			if k == at {
				out = append(out, miss)
			} else {
				out = append(out, hot[(9*i+k)%len(hot)])
			}
		}
	}
	return out
}

// zipfDraws are n questions at random, of which the k-th has a probability in
// proportion to 1/k (Zipf's law with the exponent 1). Another seed gives other
// draws.
func zipfDraws(questions []string, n int, seed uint64) []string {
	rng := rand.New(rand.NewPCG(zoneSeed, seed))
	sums := make([]float64, len(questions))
	total := 0.0
	for i := range sums {
		total += 1 / float64(i+1)
		sums[i] = total
	}
	out := make([]string, n)
	for i := range out {
		k, _ := slices.BinarySearch(sums, rng.Float64()*total)
		out[i] = questions[min(k, len(questions)-1)]
	}
	return out
}
