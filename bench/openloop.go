package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// openSockets is how many sockets an open loop asks from, as dnsperf has
	// clients: the kernel shares them out among a server's own.
	openSockets = 20
	// openPatience is how long it waits for the last answers.
	openPatience = 2 * time.Second
)

// openTally is what an open loop saw.
type openTally struct {
	loopTally
	Rate float64 `json:"rate"`        // queries a second that were sent
	Late float64 `json:"late_p99_ms"` // 99th percentile of how much later than planned a query was sent
}

// openLoop asks a server the questions, again from the first after the last, at a
// fixed rate, whether it answers or not: a server that stops for a moment is
// asked meanwhile, and each of these queries waits as long as it would. Latency
// runs from just before a query is sent to when the kernel has the answer for
// this process (SO_TIMESTAMPNS): that the process has to be woken up is no part
// of it. What has had no answer in the end counts as failed.
func openLoop(ctx context.Context, server netip.AddrPort, questions []string, rate int, length time.Duration) (*openTally, error) {
	queries, err := buildQueries(questions)
	if err != nil {
		return nil, err
	}
	n := int(length.Seconds() * float64(rate))
	if n < 1 || n > openSockets<<16 {
		return nil, fmt.Errorf("an open loop of %d queries: between 1 and %d are possible", n, openSockets<<16)
	}
	o := newOpenLoop(n, openSockets, func(i int) []byte { return queries[i%len(queries)] })
	late, wall, err := o.run(ctx, server, rate)
	if err != nil {
		return nil, err
	}
	t := &openTally{loopTally: *newLoopTally(o.outcome, o.latency, wall), Rate: float64(n) / wall.Seconds()}
	t.Late = milliseconds(percentile(slices.Sorted(slices.Values(late)), 99))
	return t, nil
}

// newOpenLoop returns an open loop of n queries, of which query returns the i-th,
// over so many sockets: at least one for each 2^16.
func newOpenLoop(n, sockets int, query func(i int) []byte) *openLoopRun {
	return &openLoopRun{
		query: query, n: n, sockets: sockets,
		sent: make([]atomic.Int64, n), latency: make([]time.Duration, n), outcome: make([]string, n),
	}
}

// run is openLoop, but for the sums: how late each query was, and how long it took
// to send them all.
func (o *openLoopRun) run(ctx context.Context, server netip.AddrPort, rate int) (late []time.Duration, wall time.Duration, err error) {
	if err := o.open(server); err != nil {
		return nil, 0, errors.Join(err, o.close())
	}
	var wg sync.WaitGroup
	for i := range o.conns {
		// Owner: run. Ends when close closes its socket. One for each.
		wg.Go(func() { o.read(i) })
	}
	began := time.Now()
	late, err = o.send(ctx, time.Second/time.Duration(rate))
	wall = time.Since(began)
	o.await(ctx)
	err = errors.Join(err, ctx.Err(), o.close())
	wg.Wait()
	for i, out := range o.outcome {
		if out == "" {
			o.latency[i] = openPatience // or more
		}
	}
	return late, wall, err
}

// openLoopRun is an open loop under way. The i-th query has the ID i / sockets
// and leaves from the socket i % sockets, so that a socket never has two of
// the same ID.
type openLoopRun struct {
	query    func(i int) []byte
	n        int // how many to send
	sockets  int
	conns    []*net.UDPConn
	sent     []atomic.Int64 // when, in ns of the wall clock, as the kernel's timestamps are; 0: not yet
	latency  []time.Duration
	outcome  []string
	answered atomic.Int64
}

// open makes the sockets.
func (o *openLoopRun) open(server netip.AddrPort) error {
	for range o.sockets {
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
		if err != nil {
			return err
		}
		o.conns = append(o.conns, c)
		raw, err := c.SyscallConn()
		if err != nil {
			return err
		}
		var failed error
		err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) })
		if err = errors.Join(err, failed); err != nil {
			return fmt.Errorf("ask for timestamps: %w", err)
		}
	}
	return nil
}

func (o *openLoopRun) close() error {
	var errs []error
	for _, c := range o.conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// send sends all queries, one every interval, and returns how late each was. A
// thread of its own sleeps in the kernel: the runtime's timers are too coarse.
func (o *openLoopRun) send(ctx context.Context, interval time.Duration) (late []time.Duration, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// The kernel may add 50 µs to every sleep unless told otherwise (prctl(2)).
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1000, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("set the timer slack: %w", err)
	}
	late = make([]time.Duration, o.n)
	msg := make([]byte, 0, 512)
	began := time.Now()
	for i := range o.n {
		due := time.Duration(i) * interval
		now := time.Since(began)
		if now < due {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			pause := unix.NsecToTimespec(int64(due - now))
			_ = unix.Nanosleep(&pause, nil) // a signal cuts it short: then a query is early
			now = time.Since(began)
		}
		late[i] = max(0, now-due)
		msg = append(msg[:0], o.query(i)...)
		binary.BigEndian.PutUint16(msg, uint16(i/o.sockets))
		o.sent[i].Store(time.Now().UnixNano())
		if _, err := o.conns[i%o.sockets].Write(msg); err != nil {
			return nil, fmt.Errorf("query %d: %w", i, err)
		}
	}
	return late, nil
}

// read takes the answers on the socket of that index, until it is closed.
func (o *openLoopRun) read(socket int) {
	buf, oob := make([]byte, 4096), make([]byte, 128)
	for {
		n, oobn, _, _, err := o.conns[socket].ReadMsgUDPAddrPort(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil || n < headerSize {
			continue // an ICMP error: the query stays without an answer
		}
		i := int(binary.BigEndian.Uint16(buf))*o.sockets + socket
		if i >= o.n || o.outcome[i] != "" || o.sent[i].Load() == 0 {
			continue // nobody asked, or it was answered already
		}
		came, ok := kernelTime(oob[:oobn])
		outcome := responseOutcome(buf[:n], o.query(i))
		if !ok || outcome == "" {
			continue // the answer to another question
		}
		o.latency[i], o.outcome[i] = time.Duration(came-o.sent[i].Load()), outcome
		o.answered.Add(1)
	}
}

// await waits for the last answers, no longer than openPatience.
func (o *openLoopRun) await(ctx context.Context) {
	for end := time.Now().Add(openPatience); o.answered.Load() < int64(o.n) && time.Now().Before(end); {
		if sleep(ctx, time.Millisecond) != nil {
			return
		}
	}
}

// kernelTime finds when a datagram came, in ns of the wall clock (socket(7),
// SO_TIMESTAMPNS).
func kernelTime(oob []byte) (ns int64, ok bool) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0, false
	}
	for _, m := range msgs {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= int(unsafe.Sizeof(unix.Timespec{})) {
			ts := (*unix.Timespec)(unsafe.Pointer(unsafe.SliceData(m.Data)))
			return ts.Nano(), true
		}
	}
	return 0, false
}
