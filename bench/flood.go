package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"shirube/internal/netx"
	"shirube/internal/wire"
)

// A flood is of random names below a zone: nobody has their answers. How the
// zone's servers behave is what floods differ in.
type floodKind struct {
	name  string
	zone  wire.Name // empty: there is no flood
	addr  netip.Addr
	delay time.Duration
	mute  bool
	burns bool // no flood: another process takes all the time of the server's CPUs that it gets
}

var floodKinds = []floodKind{
	{name: "none"},
	{name: "answered at once", zone: wire.MustParseName("flood-quick.com."), addr: netip.MustParseAddr("127.10.6.1")},
	{name: "answered after 0.5 s", zone: wire.MustParseName("flood-slow.com."), addr: netip.MustParseAddr("127.10.6.2"), delay: 500 * time.Millisecond},
	{name: "never answered", zone: wire.MustParseName("flood-mute.com."), addr: netip.MustParseAddr("127.10.6.3"), mute: true},
	{name: "none, a second later"},
	{name: "none, CPU shared", burns: true},
}

// of reports whether k is something to measure c in. The echo, which resolves
// nothing and answers all, shows what this machine and the load themselves do to
// hits, in a flood of as many packets and beside another process: the floor.
func (k floodKind) of(c *contestant) bool {
	if c.kind.echo {
		return k.burns || k.name == floodKinds[0].name || k.name == floodKinds[1].name
	}
	return !k.burns
}

const (
	// floodNetworks is how many client networks a flood comes from.
	floodNetworks = 64
	// floodLabel is the length of the random labels.
	floodLabel = 16
	// floodRest is how long a server is left alone after a flood.
	floodRest = time.Second
	// floodMost is by how much a flood may slow hits.
	floodMost = 2.0
)

func floodFlags(fs *flag.FlagSet, set *settings) {
	set.peers = "unbound,shirube,echo"
	comparisonFlags(fs, set)
	timeFlag(fs, set, 5*time.Second)
	count(fs, &set.rate, "rate", 1000, 1, 10_000, "questions a second for names in memory")
	count(fs, &set.times, "times", 5, 1, 100, "how many times what the server can resolve are asked of it")
}

// flood measures how long those wait who ask for what is in memory, while others
// ask for many times more than the server can resolve. The server has half of the
// CPUs to itself, and as many threads; who else is on this machine has to wait for it.
func flood(ctx context.Context, dir string, set settings) error {
	runtime.GOMAXPROCS(max(16, runtime.NumCPU())) // threads that wait in the kernel keep no others waiting
	server, others, err := partition()
	if err != nil {
		return err
	}
	if err := pinAll(&others); err != nil {
		return err
	}
	set.threads, set.first = min(set.threads, server.Count()), true // which place them there
	small := set
	small.names, small.zones = 2000, 50
	small.delegated = map[string]string{}
	for _, k := range floodKinds {
		if k.zone != "" {
			small.delegated["com."] += delegation(k.zone.String(), k.addr)
		}
	}
	l, err := startLab(ctx, dir, small)
	defer l.stop()
	if err != nil {
		return err
	}
	for _, k := range floodKinds {
		if k.zone == "" {
			continue
		}
		answer := denying(k.zone)
		if k.mute {
			answer = silence
		}
		s, err := startSynth(ctx, k.addr, k.delay, answer)
		if err != nil {
			return err
		}
		defer s.stop()
	}
	servers, err := startContestants(ctx, l, set)
	defer func() { stopContestants(servers) }()
	if err != nil {
		return err
	}
	rep, err := newFloodReport(ctx, set, server.Count(), others.Count())
	if err != nil {
		return err
	}
	if err := rep.flood(ctx, l, servers, set); err != nil {
		return err
	}
	return errors.Join(keep(set.out, rep.Date.Format(time.DateOnly)+"-flood", rep.markdown(), rep), rep.verdict())
}

// flood measures servers, in turn: what a minute does to one it does to all.
func (r *floodReport) flood(ctx context.Context, l *lab, servers []*contestant, set settings) error {
	for _, c := range servers {
		s := floodServer{Server: c.name, Version: c.version}
		if !c.kind.echo {
			if err := prime(ctx, l, c, l.all, true); err != nil {
				return err
			}
			var err error
			if s.Capacity, err = missCapacity(ctx, l, c, set.run); err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "%s resolves %.0f names a second\n", c.name, s.Capacity)
		}
		r.Servers = append(r.Servers, s)
	}
	queries, err := buildQueries(l.net.questions)
	if err != nil {
		return err
	}
	for round := range set.rounds {
		for _, k := range floodKinds {
			for i, c := range servers {
				if !k.of(c) {
					continue
				}
				if err := r.round(ctx, l, c, &r.Servers[i], round+1, k, queries, set); err != nil {
					return fmt.Errorf("%s, %s: %w", c.name, k.name, err)
				}
			}
		}
	}
	return nil
}

// round measures a server during one flood, and leaves it alone afterwards.
func (r *floodReport) round(ctx context.Context, l *lab, c *contestant, s *floodServer, n int, k floodKind, queries [][]byte, set settings) error {
	if k.burns {
		p, err := start(l.dir, c.name+"-burner", c.beside([]string{"sh", "-c", "while :; do :; done"}))
		if err != nil {
			return err
		}
		defer p.stop()
	}
	run, err := floodRun(ctx, c, k, queries, r.capacity(s)*float64(set.times), set)
	if err != nil {
		return err
	}
	run.Round = n
	s.Runs = append(s.Runs, *run)
	fmt.Fprintf(os.Stderr, "round %d  %-9s %-20s %v\n    flood: %.0f q/s of %.0f meant, %.0f %% answered, %.0f %% with SERVFAIL; %d MiB\n", n, c.name, k.name, run.Stream,
		run.FloodRate, run.FloodMeant, 100*run.Answered, 100*run.ServFail, run.Resident>>20)
	return sleep(ctx, floodRest)
}

// missCapacity measures how many names that nobody has asked for yet a server
// resolves in a second.
func missCapacity(ctx context.Context, l *lab, c *contestant, length time.Duration) (float64, error) {
	file := filepath.Join(l.dir, c.name+"-misses.txt")
	f, err := os.Create(file)
	if err != nil {
		return 0, err
	}
	for i := range 200_000 * int(length/time.Second) {
		if _, err := fmt.Fprintf(f, "m%d.%s A\n", i, floodKinds[1].zone); err != nil {
			return 0, errors.Join(err, f.Close())
		}
	}
	if err := f.Close(); err != nil {
		return 0, err
	}
	t, err := dnsperf(ctx, c.addr, file, load{clients: 20, threads: 1, outstanding: 100, length: length, patience: 2 * time.Second, once: true})
	if err != nil {
		return 0, err
	}
	if t.Completed == 0 || t.Rcodes["NXDOMAIN"] < t.Completed*99/100 {
		return 0, fmt.Errorf("%s does not resolve the names of floods: %v", c.name, t.Rcodes)
	}
	return t.PerSecond, nil
}

// floodRun measures a server during one flood, of so many questions a second.
func floodRun(ctx context.Context, c *contestant, k floodKind, queries [][]byte, rate float64, set settings) (*floodSample, error) {
	during, stop := context.WithCancel(ctx)
	defer stop()
	var f *flooder
	run := &floodSample{Flood: k.name}
	begun := time.Now()
	if k.zone != "" {
		var err error
		if f, err = startFlooder(during, netip.AddrPortFrom(c.addr, 53), k.zone, rate); err != nil {
			return nil, err
		}
		if err := sleep(ctx, time.Second); err != nil { // until what can be full is
			return nil, err
		}
	}
	asked, err := stream(ctx, netip.AddrPortFrom(c.addr, 53), queries, set.rate, set.run, nil)
	stop()
	if f != nil {
		sent, answered, failed := f.stop()
		run.FloodMeant, run.FloodRate = rate, float64(sent)/time.Since(begun).Seconds()
		run.Answered, run.ServFail = float64(answered)/float64(max(sent, 1)), float64(failed)/float64(max(sent, 1))
	}
	if err != nil {
		return nil, err
	}
	run.Stream = newStreamTally(asked)
	if run.Resident, err = residentBytes(c.proc.pid()); err != nil {
		return nil, err
	}
	return run, c.proc.alive()
}

// flooder asks a server for names that do not exist, from many networks.
type flooder struct {
	conns    []*net.UDPConn
	batches  []*netx.Batch
	sent     atomic.Int64
	answered atomic.Int64
	failed   atomic.Int64 // of them, SERVFAIL
	closing  atomic.Bool
	wg       sync.WaitGroup
}

// startFlooder starts a flood, which ends with ctx. The caller stops it then.
func startFlooder(ctx context.Context, server netip.AddrPort, zone wire.Name, rate float64) (*flooder, error) {
	f := new(flooder)
	for i := range floodNetworks {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 20, byte(i), 1)})
		if err != nil {
			f.stop()
			return nil, err
		}
		b := netx.NewBatch(c, netx.BatchOptions{MaxMessage: 512})
		f.conns, f.batches = append(f.conns, c), append(f.batches, b)
		// Owner: f. End: stop. Bound: one for each network.
		f.wg.Go(func() { f.count(b) })
	}
	// Owner: f. End: ctx's. Bound: one.
	f.wg.Go(func() { f.run(ctx, server, zone, rate) })
	return f, nil
}

// stop ends f, and returns what it has done: the questions asked, those that were
// answered, and those of them that failed.
func (f *flooder) stop() (sent, answered, failed int64) {
	f.closing.Store(true)
	for _, b := range f.batches {
		b.Interrupt()
	}
	f.wg.Wait()
	for _, c := range f.conns {
		_ = c.Close()
	}
	return f.sent.Load(), f.answered.Load(), f.failed.Load()
}

// run asks, rate times a second, until ctx is done.
func (f *flooder) run(ctx context.Context, server netip.AddrPort, zone wire.Name, rate float64) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	q := newQuery(0, ".", uint16(wire.TypeA))[:wire.HeaderLen]
	q = append(q, floodLabel)
	at := len(q)
	q = append(append(q, make([]byte, floodLabel)...), zone...)
	q = append(q, 0, byte(wire.TypeA), 0, byte(wire.ClassIN))
	n := uint64(time.Now().UnixNano()) // no name of an earlier flood
	begun, asked := time.Now(), 0
	for ctx.Err() == nil {
		due := int(time.Since(begun).Seconds() * rate)
		if due-asked > int(rate/10) { // there is not so much CPU time
			asked = due - int(rate/10)
		}
		for ; asked < due && ctx.Err() == nil; asked++ {
			n++
			x := n * 0x9E3779B97F4A7C15 // as random as it has to be
			for i := range floodLabel {
				q[at+i] = "abcdefghijklmnop"[x>>(4*i)&15]
			}
			binary.BigEndian.PutUint16(q, uint16(n))
			if _, err := f.conns[int(n)%len(f.conns)].WriteToUDPAddrPort(q, server); err == nil {
				f.sent.Add(1)
			}
		}
		ts := unix.NsecToTimespec(int64(500 * time.Microsecond))
		_ = unix.Nanosleep(&ts, nil) // or sooner
	}
}

// count counts answers.
func (f *flooder) count(b *netx.Batch) {
	b.Attach()
	defer b.Detach()
	for !f.closing.Load() {
		n, err := b.Receive()
		if err != nil {
			continue // of what was sent, or the end
		}
		for i := range n {
			d := b.Datagram(i)
			if len(d.Msg) < wire.HeaderLen {
				continue
			}
			f.answered.Add(1)
			if wire.RcodeOf(d.Msg) == wire.ServFail {
				f.failed.Add(1)
			}
		}
	}
}
