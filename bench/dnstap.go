package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	// tapSettle is how long the server is asked after each reload before it is
	// measured: it collects what the reload left, and a queue that is never emptied
	// gets full.
	tapSettle = 200 * time.Millisecond
	// leastTapRounds is how many rounds have a confidence interval of [confidence].
	leastTapRounds = 6
)

// tapWay is something that collectors may be told.
type tapWay struct {
	name    string
	key     string  // in names of files
	output  string  // of the configuration, but for the socket; empty: none
	stopped bool    // the collector reads nothing
	aim     float64 // CPU time of a query by that of none, at most; 0: any
}

// tapWays are what is compared with no dnstap at all. The first is the same again:
// what it is said to cost is the error of the measurement. The queue of a collector
// that is stopped is small, or it would be filled in a run, and nothing dropped.
func tapWays() []tapWay {
	return []tapWay{
		{name: "none, once more"},
		{name: "one in 100", key: "one", output: "sample: {client_query: 100, client_response: 100}", aim: 1.03},
		{name: "all messages of clients", key: "all", output: "sample: {}", aim: 1.25},
		{name: "all, to a collector that is stopped", key: "stopped", output: "sample: {}, queue_size: 1MiB", stopped: true},
	}
}

func dnstapFlags(fs *flag.FlagSet, set *settings) {
	set.run = 200 * time.Millisecond
	fs.Var(spell{&set.run, 100 * time.Millisecond, time.Minute, 100 * time.Millisecond}, "time", "`length` of a run, of which a round has four for each way")
	count(fs, &set.rounds, "rounds", 40, leastTapRounds, 1000, "rounds")
	fs.StringVar(&set.out, "out", resultsDir, "`directory` for the results")
}

// tapping is a measurement of what dnstap costs: of one server, which reloads change,
// for two processes of the same program differ by more than there is to be found.
type tapping struct {
	lab        *lab
	set        settings
	server     *contestant
	conf       string // without dnstap
	socket     string // for shirube ctl
	collectors map[string]*process
	asked      map[string]int64 // queries, by the names of ways
}

// dnstapCost measures how much CPU time of the server a query takes whose answer is
// in memory, with dnstap and without, in short runs in turn. It fails if that is
// more than it may be, or if the rounds do not tell.
func dnstapCost(ctx context.Context, dir string, set settings) error {
	_, others, err := partition()
	if err != nil {
		return err
	}
	if err := pinAll(&others); err != nil { // what is started is there too, but for the server
		return err
	}
	l, err := startLab(ctx, dir, set)
	defer l.stop()
	if err != nil {
		return err
	}
	t := &tapping{lab: l, set: set, collectors: make(map[string]*process), asked: make(map[string]int64)}
	defer t.stop()
	if err := t.start(ctx); err != nil {
		return err
	}
	rep, err := newDnstapReport(ctx, set, t.server.version)
	if err != nil {
		return err
	}
	for round := range set.rounds {
		for _, w := range tapWays() {
			r, err := quietest(nil, func() (*dnstapRound, error) { return t.round(ctx, w, round%2 == 1) })
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			r.Round = round + 1
			rep.Rounds = append(rep.Rounds, *r)
			fmt.Fprintf(os.Stderr, "round %d  %-36s %.3f µs/query, %.4f of none  strangers %.1f %%\n", r.Round, w.name, r.CPU, r.Ratio, 100*r.Strangers)
		}
	}
	if rep.Told, err = t.told(); err != nil {
		return err
	}
	return errors.Join(keep(set.out, rep.Date.Format(time.DateOnly)+"-dnstap", rep.markdown(), rep), rep.verdict())
}

// start starts the collectors, and a server with one thread on a core of its own.
func (t *tapping) start(ctx context.Context) error {
	for _, w := range tapWays() {
		if w.output == "" {
			continue
		}
		p, err := start(t.lab.dir, "collector-"+w.key, []string{t.set.shirube, "tap", "--unix", t.collectorAt(w), "--format", "none", "--counts"})
		if err != nil {
			return err
		}
		t.collectors[w.name] = p
		if err := p.awaitFile(ctx, t.collectorAt(w)); err != nil {
			return err
		}
		if w.stopped {
			if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				return err
			}
		}
	}
	t.socket = filepath.Join(t.lab.dir, "control.sock")
	t.lab.admin = fmt.Sprintf("control:\n  socket: %q\n", t.socket)
	t.set.threads, t.set.peers = 1, "shirube"
	servers, err := startContestants(ctx, t.lab, t.set)
	if len(servers) > 0 {
		t.server = servers[0]
	}
	if err != nil {
		return err
	}
	t.conf = t.server.files["shirube.yaml"]
	return prime(ctx, t.lab, t.server, t.lab.all, false)
}

// collectorAt returns where the collector of a way listens.
func (t *tapping) collectorAt(w tapWay) string {
	return filepath.Join(t.lab.dir, w.key+".sock")
}

// stop stops the server, which tells the collectors what it has, and these.
func (t *tapping) stop() {
	if t.server != nil {
		t.server.stop()
	}
	for _, p := range t.collectors {
		_ = p.cmd.Process.Signal(syscall.SIGCONT) // or it could not be told to stop
		p.stop()
	}
}

// round measures a way twice and none twice, so that what drifts has no part in the
// ratio: as ABBA, or as BAAB.
func (t *tapping) round(ctx context.Context, w tapWay, turned bool) (*dnstapRound, error) {
	order := []tapWay{{}, w, w, {}}
	if turned {
		order = []tapWay{w, {}, {}, w}
	}
	var sum [2]float64 // of none, of w
	used, err := metered(t.server, func() (time.Duration, error) {
		for i, one := range order {
			cpu, err := t.run(ctx, one)
			if err != nil {
				return 0, err
			}
			sum[tapSide(i, turned)] += cpu
		}
		return 0, nil
	})
	if err != nil {
		return nil, err
	}
	return &dnstapRound{Way: w.name, CPU: sum[1] / 2, None: sum[0] / 2, Ratio: sum[1] / sum[0], Strangers: used.strangers}, nil
}

// tapSide says what the run of that index in a round is of: 0 none, 1 the way.
func tapSide(i int, turned bool) int {
	if (i == 1 || i == 2) != turned {
		return 1
	}
	return 0
}

// run has the server tell what w says, and returns its CPU time of a query in µs.
func (t *tapping) run(ctx context.Context, w tapWay) (float64, error) {
	text := t.conf
	if w.output != "" {
		text += fmt.Sprintf("dnstap:\n  outputs:\n    - {socket: %q, %s}\n", t.collectorAt(w), w.output)
	}
	if _, err := t.server.configure(t.lab, "shirube.yaml", text); err != nil {
		return 0, err
	}
	if err := shirubeCtl(ctx, t.server.program, t.socket, "reload"); err != nil {
		return 0, err
	}
	if _, err := t.ask(ctx, w, tapSettle); err != nil {
		return 0, err
	}
	before, err := t.server.cpuClock()
	if err != nil {
		return 0, err
	}
	n, err := t.ask(ctx, w, t.set.run)
	if err != nil {
		return 0, err
	}
	after, err := t.server.cpuClock()
	return float64((after - before).Nanoseconds()) / 1000 / float64(n), err
}

// ask asks for so long what the server has in memory, and returns how often.
func (t *tapping) ask(ctx context.Context, w tapWay, length time.Duration) (int64, error) {
	got, err := runBlast(ctx, netip.AddrPortFrom(t.server.addr, 53), t.lab.net.questions, length)
	if err != nil {
		return 0, err
	}
	if got.Lost > 0 || got.errors() > 0 || got.Completed == 0 {
		return 0, fmt.Errorf("of %d queries %d were lost, and answers have the codes %v", got.Sent, got.Lost, got.Rcodes)
	}
	t.asked[w.name] += got.Sent
	return got.Completed, nil
}

// told stops everything and returns which share of the messages of clients the
// collectors were told, by the names of the ways. It is an error if that is not what
// they were to be told: then something else was measured.
func (t *tapping) told() (map[string]float64, error) {
	t.stop()
	all := make(map[string]float64)
	for _, w := range tapWays() {
		p := t.collectors[w.name]
		if p == nil || w.stopped {
			continue
		}
		frames, err := countedFrames(p)
		if err != nil {
			return nil, err
		}
		all[w.name] = float64(frames) / float64(2*t.asked[w.name])
	}
	return all, nil
}
