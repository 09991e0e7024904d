package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"

	"shirube/dnstap"
	"shirube/internal/wire"
)

const (
	tapFrames  = 5000 // different ones, which are sent over and over
	tapNames   = 2000
	tapClients = 1000
	// tapAim is how many frames a second two cores are to take.
	tapAim = 200_000
)

func tapFlags(fs *flag.FlagSet, set *settings) {
	timeFlag(fs, set, 5*time.Second)
	count(fs, &set.rounds, "rounds", 3, 1, 1000, "runs of each kind, in turn")
	count(fs, &set.conns, "senders", 4, 1, 256, "connections that send at once")
	fs.StringVar(&set.shirube, "shirube", "bin/shirube", "the `binary` to measure")
	fs.StringVar(&set.out, "out", resultsDir, "`directory` for the results")
}

// tapKind is what a collector does with the frames.
type tapKind struct {
	name string
	args []string
	tcp  bool // they come over TCP, else by a unix socket
}

// tapKinds are what is measured. What is printed goes to /dev/null.
func tapKinds(dir string) []tapKind {
	return []tapKind{
		{"counted", []string{"--format", "none"}, false},
		{"counted, over TCP", []string{"--format", "none"}, true},
		{"counted, without the first names and clients", []string{"--format", "none", "--top", "0"}, false},
		{"a line each", []string{"--format", "quiet", "--output", os.DevNull}, false},
		{"JSON", []string{"--format", "json", "--output", os.DevNull}, false},
		{"kept in a file", []string{"--format", "none", "--write", filepath.Join(dir, "kept.fstrm"), "--rotate-size", "64MiB", "--keep", "1"}, false},
	}
}

// collecting measures how many frames a collector takes, and what each costs it.
// It fails if two cores would not take tapAim of those that are counted.
func collecting(ctx context.Context, _ string, set settings) error {
	dir, err := os.MkdirTemp("", "shirube-bench-tap-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a rest in /tmp fails nothing
	version, err := shirubeVersion(ctx, set.shirube)
	if err != nil {
		return err
	}
	if err := recordable(version, set.out); err != nil {
		return err
	}
	block, err := tapBlock()
	if err != nil {
		return err
	}
	r := newTapReport(set, version, len(block)/tapFrames)
	for range set.rounds {
		for _, k := range tapKinds(dir) {
			run, err := runCollector(ctx, dir, set, k, block)
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			fmt.Printf("%-46s %8.0f frames/s, %.2f µs CPU each\n", k.name, run.PerSecond, run.CPU)
			r.Runs = append(r.Runs, run)
		}
	}
	return errors.Join(r.write(set.out), r.verdict())
}

// tapBlock returns tapFrames frames of what clients ask and are answered, by
// several transports and with names and clients some of which come more often, each
// with its length before it.
func tapBlock() ([]byte, error) {
	var block []byte
	filter := dnstap.Filter{}
	filter.Sample[dnstap.ClientQuery], filter.Sample[dnstap.ClientResponse] = 1, 1
	tap, err := dnstap.New(dnstap.Options{
		Identity: "bench", Version: "shirube",
		Outputs: []dnstap.Output{{Name: "block", Filter: filter, QueueSize: 64 << 20, Take: func(frame []byte) {
			block = append(binary.BigEndian.AppendUint32(block, uint32(len(frame))), frame...)
		}}},
	})
	if err != nil {
		return nil, err
	}
	random := rand.New(rand.NewPCG(1, 2)) // alike in each run
	names, clients := rand.NewZipf(random, 1.1, 1, tapNames-1), rand.NewZipf(random, 1.1, 1, tapClients-1)
	for range tapFrames / 2 {
		emitPair(tap, random, int(names.Uint64()), int(clients.Uint64()))
	}
	tap.Start()
	return block, tap.Close(context.Background())
}

// emitPair emits a query and its response.
func emitPair(tap *dnstap.Tap, random *rand.Rand, name, client int) {
	msg := []byte{byte(name), byte(client), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	msg = append(msg, wire.MustParseName(fmt.Sprintf("host%d.zone%d.example.", name, name%97))...)
	msg = append(msg, 0, 1, 0, 1)
	protos := []wire.Proto{wire.UDP, wire.UDP, wire.UDP, wire.TCP, wire.DoT, wire.DoH}
	m := &dnstap.Message{
		Type: dnstap.ClientQuery, Proto: protos[random.IntN(len(protos))], Msg: msg,
		Query:    netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(client >> 8), byte(client)}), uint16(1024+random.IntN(60000))),
		Response: netip.MustParseAddrPort("192.0.2.53:53"), QueryTime: time.Unix(1_767_225_600, random.Int64N(1e9)),
	}
	tap.Emit(0, m)
	answer := append(append([]byte{}, msg...), 0xC0, 12, 0, 1, 0, 1, 0, 0, 0x0E, 0x10, 0, 4, 192, 0, 2, 1)
	answer[2], answer[3], answer[7] = 0x81, 0x80, 1
	m.Type, m.Msg, m.ResponseTime = dnstap.ClientResponse, answer, m.QueryTime.Add(time.Duration(random.IntN(1e6)))
	tap.Emit(0, m)
}

// runCollector runs a collector of kind k and sends it blocks for as long as set says.
func runCollector(ctx context.Context, dir string, set settings, k tapKind, block []byte) (run tapRun, err error) {
	network, at, flag := "unix", filepath.Join(dir, "sock"), "--unix"
	if k.tcp {
		network, flag = "tcp", "--tcp"
		if at, err = freeTCPAddress(ctx); err != nil {
			return run, err
		}
	}
	p, err := start(dir, "tap", append([]string{set.shirube, "tap", "--counts", flag, at}, k.args...))
	if err != nil {
		return run, err
	}
	defer func() {
		p.stop()
		dropped, told := countedAll(p, run.Frames)
		run.Dropped, err = dropped, errors.Join(err, told)
	}()
	conns, err := dialCollector(ctx, p, network, at, set.conns)
	if err != nil {
		return run, err
	}
	before, err := cpuClock(p.pid())
	if err != nil {
		return run, err
	}
	begun := time.Now()
	sent := make([]int, len(conns))
	errs := make([]error, len(conns))
	var sending sync.WaitGroup
	for i, c := range conns {
		// Owner: runCollector. Ends with the time, and the collector's confirmation, or a
		// failure. Bound: set.conns.
		sending.Go(func() { sent[i], errs[i] = sendBlocks(c, block, begun.Add(set.run)) })
	}
	sending.Wait()
	took := time.Since(begun)
	after, err := cpuClock(p.pid())
	if err = errors.Join(append(errs, err)...); err != nil {
		return run, err
	}
	for _, n := range sent {
		run.Frames += n
	}
	run.Kind, run.PerSecond = k.name, float64(run.Frames)/took.Seconds()
	run.CPU = float64((after - before).Nanoseconds()) / 1000 / float64(run.Frames)
	run.Cores = (after - before).Seconds() / took.Seconds()
	return run, nil
}

// tapCounted finds what a collector that has ended says it has counted.
var (
	tapCounted = regexp.MustCompile(`(?s)"frames": (\d+),\s*"malformed": (\d+)`)
	tapDropped = regexp.MustCompile(`"dropped": (\d+)`)
)

// countedAll returns an error if a collector that has ended has not counted so many
// frames, all of them good. Else it returns how many of them it could not keep.
func countedAll(p *process, frames int) (dropped int, err error) {
	counted, err := countedFrames(p)
	if err != nil || counted != frames {
		return 0, errors.Join(err, fmt.Errorf("%d frames were sent; the collector says\n%s", frames, p.logTail()))
	}
	log, err := os.ReadFile(p.log)
	if err != nil {
		return 0, err
	}
	if m := tapDropped.FindSubmatch(log); m != nil { // of all outputs together, which come first
		dropped, err = strconv.Atoi(string(m[1]))
	}
	return dropped, err
}

// countedFrames returns how many frames a collector that has ended has counted, all
// of which have to be good.
func countedFrames(p *process) (int, error) {
	log, err := os.ReadFile(p.log)
	if err != nil {
		return 0, err
	}
	m := tapCounted.FindSubmatch(log)
	if m == nil || string(m[2]) != "0" {
		return 0, fmt.Errorf("no number of frames, or malformed ones; the collector says\n%s", p.logTail())
	}
	return strconv.Atoi(string(m[1]))
}

// freeTCPAddress returns an address over TCP that nobody listens on.
func freeTCPAddress(ctx context.Context) (string, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

// dialCollector returns n connections on which p waits for frames.
func dialCollector(ctx context.Context, p *process, network, at string, n int) (conns []net.Conn, err error) {
	for len(conns) < n {
		c, err := new(net.Dialer).DialContext(ctx, network, at)
		if err != nil {
			if dead := p.alive(); dead != nil {
				return nil, dead
			}
			if err := sleep(ctx, 10*time.Millisecond); err != nil {
				return nil, err
			}
			continue
		}
		if _, err = c.Write(dnstap.AppendControl(nil, dnstap.ControlReady)); err == nil {
			_, err = dnstap.ReadControl(c) // ACCEPT
		}
		if err == nil {
			_, err = c.Write(dnstap.AppendControl(nil, dnstap.ControlStart))
		}
		if err != nil {
			return nil, err
		}
		conns = append(conns, c)
	}
	return conns, nil
}

// sendBlocks sends block over and over until a time, says that this was all, and
// waits until the collector has read it. It returns how many frames that were.
func sendBlocks(c net.Conn, block []byte, until time.Time) (frames int, err error) {
	defer func() { err = errors.Join(err, c.Close()) }()
	for time.Now().Before(until) {
		if _, err := c.Write(block); err != nil {
			return frames, err
		}
		frames += tapFrames
	}
	if _, err := c.Write(dnstap.AppendControl(nil, dnstap.ControlStop)); err != nil {
		return frames, err
	}
	typ, err := dnstap.ReadControl(c)
	if err == nil && typ != dnstap.ControlFinish {
		err = fmt.Errorf("the collector says %d in place of FINISH: %w", typ, io.ErrUnexpectedEOF)
	}
	return frames, err
}
