package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"shirube/internal/wire"
)

// The zone of the names that fill a server, and where it is served.
const fillZone = "fill."

var fillAddr = netip.MustParseAddr("127.10.5.1")

const (
	// fillOctets is the size of the answers, as in the benchmark of the memory for
	// them.
	fillOctets = 184
	// fillTrees is how many subtrees the names lie in.
	fillTrees = 10
	// fillDigits is how many digits their numbers have.
	fillDigits = 8
	// fillSlot is what an answer may take of the memory that is set aside for
	// answers, in octets.
	fillSlot = 256
	// fillHeap is what the memory for RRsets may take. All that is learned is
	// learned once, so that there is no use for it.
	fillHeap = 32 << 20
	// fillMost is what an answer may cost in RAM, all included, in octets;
	// fillPause how much longer than for the echo a client may wait in 999 of 1000
	// cases, fillCollecting how
	// much of a core may collect garbage, and fillScrape how long a scrape may take.
	fillMost       = 300
	fillPause      = 1.0 // ms
	fillCollecting = 0.01
	fillScrape     = 50.0 // ms
	// fillTurns is how often the server and the echo are asked in turn, while nothing
	// else is done.
	fillTurns = 3
	// fillMissing is the part of the names that may have no answer, one in so many: a
	// machine that is busy loses some.
	fillMissing = 100
	// fillProbe is how many names are asked for while the server has little.
	fillProbe = 10_000
)

// flushedTree is the subtree that is forgotten.
var flushedTree = fmt.Sprintf("t%d.%s", fillTrees-1, fillZone)

// fillName returns the i-th name. All are of the same length.
func fillName(i int) string {
	return fmt.Sprintf("h%0*d.t%d.%s", fillDigits, i, i%fillTrees, fillZone)
}

func fillFlags(fs *flag.FlagSet, set *settings) {
	count(fs, &set.entries, "entries", 10_000_000, 1000, 99_000_000, "answers in memory, of some 250 octets each")
	count(fs, &set.rate, "rate", 1000, 1, 10_000, "questions a second of who takes the time that answers take")
	fs.DurationVar(&set.most, "most", 20*time.Minute, "how long the server may take to resolve them all")
	fs.StringVar(&set.out, "out", resultsDir, "`directory` for the results")
	timeFlag(fs, set, 10*time.Second)
}

// fillQuestions writes n questions to a file, in an order that depends on seed.
func fillQuestions(file string, n, seed int) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	for i := range scattered(n, seed) {
		_, _ = fmt.Fprintf(w, "%s TXT\n", fillName(i)) // Flush says it
	}
	return errors.Join(w.Flush(), f.Close())
}

// scattered yields the numbers below n, each once, in an order that depends on
// seed.
func scattered(n, seed int) func(yield func(int) bool) {
	step := n/2 + seed
	for gcd(step, n) != 1 {
		step++
	}
	return func(yield func(int) bool) {
		at := seed % n
		for range n {
			if !yield(at) {
				return
			}
			at = (at + step) % n
		}
	}
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// filling answers for the fillZone: a text for every name in it.
func filling(buf []byte, q *wire.Query) []byte {
	if q.Type != wire.TypeTXT {
		return denying(wire.MustParseName(fillZone))(buf, q)
	}
	text := fillOctets - wire.HeaderLen - len(q.RawQuestion()) - 12
	buf = authoritative(buf, q, wire.NoError, 1, 0)
	return appendRecord(buf, wire.HeaderLen, wire.TypeTXT, []byte{byte(text - 1)}, bytes.Repeat([]byte{'x'}, text-1))
}

// fill fills Shirube with answers, and measures what that costs: memory, garbage
// collections, and clients' time, also while metrics are read, names are
// forgotten, and the memory for answers is made larger.
func fill(ctx context.Context, dir string, set settings) error {
	runtime.GOMAXPROCS(max(8, runtime.NumCPU())) // threads that wait in the kernel keep no others waiting
	bed, err := newTestbed(ctx, time.Now().UTC())
	if err != nil {
		return err
	}
	r := &fillReport{testbed: bed, Entries: set.entries, Dnsperf: dnsperfVersion(ctx)}
	f := &filler{set: set, rep: r, conf: filepath.Join(dir, "fill.yaml"), socket: filepath.Join(dir, "control.sock")}
	small := set
	small.names, small.zones, small.delegated = 100, 5, map[string]string{".": delegation(fillZone, fillAddr)}
	l, err := startLab(ctx, dir, small)
	defer l.stop()
	if err != nil {
		return err
	}
	f.lab = l
	authority, err := startSynth(ctx, fillAddr, 0, filling)
	if err != nil {
		return err
	}
	defer authority.stop()
	defer f.stop()
	if err := f.start(ctx); err != nil {
		return err
	}
	if err := f.measure(ctx); err != nil {
		return err
	}
	return errors.Join(r.write(set.out), r.verdict())
}

// filler is a run.
type filler struct {
	set          settings
	lab          *lab
	rep          *fillReport
	server       *contestant
	echo         *contestant // what the machine itself takes
	conf, socket string
}

// configure writes the server's configuration, with so much memory for answers.
func (f *filler) configure(answers int64) error {
	text := shirubeConf(f.lab, f.server)
	for _, change := range [][2]string{
		{"answers_size: 128MiB", fmt.Sprintf("answers_size: %dMiB", answers>>20)},
		{"rrsets_size: 256MiB", fmt.Sprintf("rrsets_size: %dMiB", fillHeap>>20)},
	} {
		if !strings.Contains(text, change[0]) {
			return fmt.Errorf("the configuration has no %q", change[0])
		}
		text = strings.Replace(text, change[0], change[1], 1)
	}
	return os.WriteFile(f.conf, []byte(text), 0o644)
}

// bytes returns how much memory for answers there has to be.
func (f *filler) bytes() int64 { return int64(f.set.entries)*fillSlot + 32<<20 }

// start starts the server.
func (f *filler) start(ctx context.Context) error {
	lines, err := adminLines(f.lab.dir, profileAdmin)
	if err != nil {
		return err
	}
	f.lab.admin = lines + fmt.Sprintf("control:\n  socket: %s\n", f.socket)
	f.set.peers = "shirube,echo"
	servers, err := newContestants(ctx, f.set)
	if err != nil {
		return err
	}
	f.server, f.echo = servers[0], servers[1]
	f.rep.Version = f.server.version
	if err := f.configure(f.bytes()); err != nil {
		return err
	}
	if f.server.proc, err = start(f.lab.dir, "shirube", []string{f.server.program, "serve", "--config", f.conf}); err != nil {
		return err
	}
	f.server.procs = []*process{f.server.proc}
	if err := f.server.proc.await(ctx, f.server.addr, f.lab.net.zones[0].name); err != nil {
		return err
	}
	return f.echo.startReady(ctx, f.lab)
}

// stop stops what start has started.
func (f *filler) stop() {
	for _, c := range []*contestant{f.server, f.echo} {
		if c != nil {
			c.stop()
		}
	}
}

// measure does all that there is to do.
func (f *filler) measure(ctx context.Context) error {
	few, all, other := filepath.Join(f.lab.dir, "few.txt"), filepath.Join(f.lab.dir, "all.txt"), filepath.Join(f.lab.dir, "other.txt")
	if err := errors.Join(fillQuestions(few, min(fillProbe, f.set.entries), 1), fillQuestions(all, f.set.entries, 1), fillQuestions(other, f.set.entries, 7919)); err != nil {
		return err
	}
	f.rep.Few = min(fillProbe, f.set.entries)
	if err := f.ask(ctx, few, f.rep.Few); err != nil {
		return err
	}
	if err := f.phase(ctx, "little in memory", few, fillQueries(f.rep.Few, f.rep.Few, 1), nil); err != nil {
		return err
	}
	began := time.Now()
	if err := f.ask(ctx, all, f.set.entries); err != nil {
		return err
	}
	f.rep.FillSeconds = time.Since(began).Seconds()
	if err := f.lookAtMemory(ctx); err != nil {
		return err
	}
	queries := fillQueries(min(f.set.entries, 1_000_000), f.set.entries, 7919)
	if err := f.phase(ctx, "full", other, queries, nil); err != nil {
		return err
	}
	for _, p := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"full, metrics read twenty times", f.scrapes},
		{"full, a type flushed of which there is nothing", func(ctx context.Context) error { return f.ctl(ctx, "flush", "--subtree", fillZone, "A") }},
		{"full, a tenth of the names flushed", func(ctx context.Context) error { return f.ctl(ctx, "flush", "--subtree", flushedTree) }},
		{"nine tenths full, made larger and smaller by reloads", func(ctx context.Context) error {
			err := errors.Join(f.configure(f.bytes()+f.bytes()/8), f.ctl(ctx, "reload"))
			if err != nil {
				return err
			}
			return errors.Join(f.configure(f.bytes()), f.ctl(ctx, "reload"))
		}},
	} {
		if err := f.phase(ctx, p.name, "", kept(queries), p.do); err != nil {
			return err
		}
	}
	return nil
}

// ask has the server resolve the n questions of a file.
func (f *filler) ask(ctx context.Context, file string, n int) error {
	ld := load{clients: 20, threads: 1, outstanding: 500, length: f.set.most, patience: 5 * time.Second, once: true}
	t, err := dnsperf(ctx, f.server.addr, file, ld)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d names resolved in %.0f s, %.0f a second\n", t.Completed, t.Seconds, t.PerSecond)
	if missing := int64(n) - t.Rcodes["NOERROR"]; missing > int64(n)/fillMissing {
		return fmt.Errorf("%d of %d questions were answered within %v: %v", t.Completed, n, f.set.most, t.Rcodes)
	}
	return nil
}

// fillQueries returns n queries for the names below among, in the order of seed.
func fillQueries(n, among, seed int) [][]byte {
	out := make([][]byte, 0, n)
	for i := range scattered(among, seed) {
		if len(out) == n {
			break
		}
		out = append(out, newQuery(0, fillName(i), uint16(wire.TypeTXT)))
	}
	return out
}

// kept returns those of queries that are not for names that are flushed.
func kept(queries [][]byte) (out [][]byte) {
	goes := newQuery(0, flushedTree, 0)[12:]
	for _, q := range queries {
		if !bytes.Contains(q, goes[:len(goes)-4]) {
			out = append(out, q)
		}
	}
	return out
}

// lookAtMemory notes what the answers cost in RAM.
func (f *filler) lookAtMemory(ctx context.Context) (err error) {
	if f.rep.Resident, err = residentBytes(f.server.proc.pid()); err != nil {
		return err
	}
	m, err := scrape(ctx)
	if err != nil {
		return err
	}
	f.rep.Held = int(m[`shirube_cache_entries{layer="answers"}`])
	f.rep.PerEntry = float64(f.rep.Resident) / float64(max(f.rep.Held, 1))
	f.rep.Heap = int64(m["go_memstats_heap_inuse_bytes"])
	fmt.Fprintf(os.Stderr, "%d answers, %d MiB resident, %.0f octets each; %d MiB of Go's heap\n", f.rep.Held, f.rep.Resident>>20, f.rep.PerEntry, f.rep.Heap>>20)
	return nil
}

// phase measures what a client sees at a moderate rate while something is done,
// which is done over and over, and what it sees of the echo, in turn with that; and
// then, of a file of questions, what the server does at full load.
func (f *filler) phase(ctx context.Context, name, file string, queries [][]byte, do func(context.Context) error) error {
	p := fillPhase{Name: name}
	turns := 1
	if do == nil {
		turns = fillTurns
	}
	var seen, echoed []*openLoopRun
	for range turns {
		s, err := f.turn(ctx, &p, queries, do)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		e, err := stream(ctx, netip.AddrPortFrom(f.echo.addr, 53), queries, f.set.rate, f.set.run, nil)
		if err != nil {
			return fmt.Errorf("%s: the echo: %w", name, err)
		}
		seen, echoed = append(seen, s), append(echoed, e)
	}
	p.Stream, p.Echo = newStreamTally(seen...), newStreamTally(echoed...)
	fmt.Fprintf(os.Stderr, "%-50s %v\n%-50s %v\n", name, p.Stream, "  the echo", p.Echo)
	if file != "" {
		if err := f.fullLoad(ctx, &p, file); err != nil {
			return err
		}
	}
	f.rep.Phases = append(f.rep.Phases, p)
	return errors.Join(f.server.proc.alive(), f.echo.alive())
}

// turn asks the server while something is done.
func (f *filler) turn(ctx context.Context, p *fillPhase, queries [][]byte, do func(context.Context) error) (*openLoopRun, error) {
	during, stop := context.WithCancel(ctx)
	defer stop()
	var once atomic.Bool
	done := make(chan error, 1)
	// Owner: turn, which waits for it. End: when it was done once, and the stream has
	// ended. Bound: one.
	go func() { done <- p.repeat(ctx, during, do, &once) }()
	s, err := stream(ctx, netip.AddrPortFrom(f.server.addr, 53), queries, f.set.rate, f.set.run, once.Load)
	stop()
	return s, errors.Join(err, <-done)
}

// repeat does something over and over, if there is something to do, until during
// is done, and says when it was done once.
func (p *fillPhase) repeat(ctx, during context.Context, do func(context.Context) error, once *atomic.Bool) (err error) {
	defer once.Store(true)
	for do != nil && err == nil && during.Err() == nil {
		began := time.Now()
		err = do(ctx)
		p.Did = append(p.Did, time.Since(began).Seconds())
		once.Store(true)
	}
	return err
}

// fullLoad measures the server while dnsperf asks as much as it can.
func (f *filler) fullLoad(ctx context.Context, p *fillPhase, file string) error {
	var began time.Time
	var t *tally
	var then, now map[string]float64
	used, err := metered(f.server, func() (driver time.Duration, err error) {
		began = time.Now()
		if then, err = scrape(ctx); err != nil {
			return 0, err
		}
		if t, err = dnsperf(ctx, f.server.addr, file, hitLoad(f.set.run, false)); err != nil {
			return 0, err
		}
		now, err = scrape(ctx)
		return t.cpu, err
	})
	if err != nil {
		return err
	}
	p.Load = newSample(f.server.name, t, used)
	p.Collections = int(now["go_gc_duration_seconds_count"] - then["go_gc_duration_seconds_count"])
	p.Collecting = (now[collectingMetric] - then[collectingMetric]) / time.Since(began).Seconds()
	fmt.Fprintf(os.Stderr, "%-50s %.0f q/s  %.2f µs CPU/query  %d collections, %.2f %% of a core; strangers %.1f %%\n",
		p.Name, t.PerSecond, p.Load.CPU, p.Collections, 100*p.Collecting, 100*p.Load.Strangers)
	return nil
}

// collectingMetric is the CPU time that garbage collections took.
const collectingMetric = "go_cpu_classes_gc_total_cpu_seconds_total"

// scrapes reads metrics twenty times, and notes how long that takes.
func (f *filler) scrapes(ctx context.Context) error {
	for range 20 {
		began := time.Now()
		if _, err := scrape(ctx); err != nil {
			return err
		}
		f.rep.Scrapes = append(f.rep.Scrapes, float64(time.Since(began).Microseconds())/1000)
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// scrape returns the metrics of the server.
func scrape(ctx context.Context) (map[string]float64, error) { return scrapeAt(ctx, profileAdmin) }

// scrapeAt returns the metrics of the server whose admin listener is at an
// address.
func scrapeAt(ctx context.Context, at string) (map[string]float64, error) {
	text, err := fetchAdmin(ctx, at, "/metrics")
	return parseMetrics(string(text)), err
}

// parseMetrics reads Prometheus's text format: values by their names and labels.
func parseMetrics(text string) map[string]float64 {
	m := make(map[string]float64)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || line[0] == '#' {
			continue
		}
		if v, err := strconv.ParseFloat(line[at+1:], 64); err == nil {
			m[line[:at]] = v
		}
	}
	return m
}

// ctl tells the server to do something, and waits for it.
func (f *filler) ctl(ctx context.Context, args ...string) error {
	return shirubeCtl(ctx, f.set.shirube, f.socket, args...)
}
