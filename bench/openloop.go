package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
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
	// openLook is how often it looks for them meanwhile.
	openLook = time.Millisecond
)

// openTally is what an open loop saw.
type openTally struct {
	loopTally
	Rate float64 `json:"rate"`        // queries a second that were sent
	Late float64 `json:"late_p99_ms"` // 99th percentile of how much later than planned a query was sent
}

// openLoop asks a server the questions, again from the first after the last, at a
// fixed rate, whether it answers or not: a server that stops for a moment is
// asked meanwhile, and each of these queries waits as long as it would. What has had
// no answer in the end counts as failed.
func openLoop(ctx context.Context, server netip.AddrPort, questions []string, rate int, length time.Duration) (*openTally, error) {
	queries, err := buildQueries(questions)
	if err != nil {
		return nil, err
	}
	n := int(length.Seconds() * float64(rate))
	if n < 1 {
		return nil, errors.New("an open loop of no queries")
	}
	o := newOpenLoop(round(queries))
	if err := o.run(ctx, server, rate, o.atMost(n)); err != nil {
		return nil, err
	}
	t := &openTally{loopTally: *newLoopTally(o.outcome, o.latency, o.wall), Rate: float64(n) / o.wall.Seconds()}
	t.Late = milliseconds(percentile(slices.Sorted(slices.Values(o.late)), 99))
	return t, nil
}

// streamTally is what an open loop saw of a server that is to have all answers in
// memory.
type streamTally struct {
	Asked  int     `json:"asked"`
	Good   int     `json:"answered"` // NOERROR, NXDOMAIN
	Failed int     `json:"failed"`   // another rcode
	Lost   int     `json:"lost"`     // no answer in time
	P50    float64 `json:"p50_ms"`
	P99    float64 `json:"p99_ms"`
	P999   float64 `json:"p99_9_ms"`
	Max    float64 `json:"max_ms"`
}

// newStreamTally sums up runs as if they had been one.
func newStreamTally(runs ...*openLoopRun) *streamTally {
	var outcomes []string
	var latencies []time.Duration
	for _, o := range runs {
		outcomes, latencies = append(outcomes, o.outcome...), append(latencies, o.latency...)
	}
	t := newLoopTally(outcomes, latencies, time.Second) // the rate is known
	lost := t.why[outcomeNone]
	return &streamTally{Asked: t.Asked, Good: t.Asked - t.Failed, Failed: t.Failed - lost, Lost: lost, P50: t.P50, P99: t.P99, P999: t.P999, Max: t.Max}
}

// String returns t in a line.
func (t *streamTally) String() string {
	return fmt.Sprintf("p50 %.3f  p99 %.3f  p99.9 %.3f  most %.1f ms; of %d %d failed, %d lost", t.P50, t.P99, t.P999, t.Max, t.Asked, t.Failed, t.Lost)
}

// stream is an open loop of queries, again from the first after the last, that goes
// on for length, and then until enough says so; nil: it does so at once.
func stream(ctx context.Context, server netip.AddrPort, queries [][]byte, rate int, length time.Duration, enough func() bool) (*openLoopRun, error) {
	o := newOpenLoop(round(queries))
	return o, o.run(ctx, server, rate, func(due time.Duration) bool {
		return due < length || enough != nil && !enough()
	})
}

// round returns the i-th query of an open loop that asks the same ones over and over.
func round(queries [][]byte) func(i int) []byte {
	return func(i int) []byte { return queries[i%len(queries)] }
}

// openLoopRun is an open loop. Of a query it keeps when it was sent, in nanoseconds
// by the real clock, how much later that was than planned, how long the answer took,
// and what it said; empty: none came in time, and latency is as long as was waited.
//
// Latency runs from just before a query is sent to when the kernel has the answer
// for this process (SO_TIMESTAMPNS): that the process has to be woken up is no part
// of it. So answers may lie in their sockets until there is time for them, and nobody
// is woken up by one, who could be in the way of the server.
//
// The i-th query leaves from the socket i % openSockets, as the i / openSockets-th
// from there, which modulo 2^16 is its ID.
type openLoopRun struct {
	query    func(i int) []byte
	sent     []int64
	late     []time.Duration
	latency  []time.Duration
	outcome  []string
	wall     time.Duration // that it took to send them
	answered int
	sockets  []int
	msg      []byte
	buf, oob [4096]byte
}

// newOpenLoop returns an open loop of which query returns the i-th query.
func newOpenLoop(query func(i int) []byte) *openLoopRun { return &openLoopRun{query: query} }

// atMost has an open loop ask n queries.
func (o *openLoopRun) atMost(n int) func(time.Duration) bool {
	return func(time.Duration) bool { return len(o.sent) < n }
}

// run asks, as long as more says so of the time when the next query is due, and then
// waits for the last answers.
func (o *openLoopRun) run(ctx context.Context, server netip.AddrPort, rate int, more func(due time.Duration) bool) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	undo, err := punctual()
	if err != nil {
		return err
	}
	defer undo()
	defer o.close()
	if err := o.open(server); err != nil {
		return err
	}
	interval := time.Second / time.Duration(rate)
	began := time.Now()
	for due := time.Duration(0); more(due); due += interval {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		o.late = append(o.late, pauseUntil(began, due))
		if err := o.ask(); err != nil {
			return err
		}
		o.receive(len(o.sent) % len(o.sockets)) // the one that has been left alone for longest
	}
	o.wall = time.Since(began)
	o.await(ctx)
	for i, out := range o.outcome {
		if out == "" {
			o.latency[i] = openPatience // or more
		}
	}
	return ctx.Err()
}

// punctual has the thread of who calls it run before all others, as if it had a
// machine for itself, until undo is called, and sleep for no longer than it wants.
// Where the first is not allowed, it is as it was.
func punctual() (undo func(), err error) {
	// The kernel may add 50 µs to every sleep unless told otherwise (prctl(2)).
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1000, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("set the timer slack: %w", err)
	}
	first := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
	if before, err := unix.SchedGetAttr(0, 0); err == nil && unix.SchedSetAttr(0, first, 0) == nil {
		return func() { _ = unix.SchedSetAttr(0, before, 0) }, nil // it was allowed before
	}
	return func() {}, nil
}

// pauseUntil sleeps until it is due after a moment, and returns by how much that is
// exceeded. The thread sleeps in the kernel: the runtime's timers are too coarse.
func pauseUntil(began time.Time, due time.Duration) (late time.Duration) {
	if left := due - time.Since(began); left > 0 {
		pause := unix.NsecToTimespec(int64(left))
		_ = unix.Nanosleep(&pause, nil) // a signal cuts it short: then a query is early
	}
	return max(0, time.Since(began)-due)
}

// open makes the sockets.
func (o *openLoopRun) open(server netip.AddrPort) error {
	for range openSockets {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		o.sockets = append(o.sockets, fd)
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
			return os.NewSyscallError("SO_TIMESTAMPNS", err)
		}
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(server.Port()), Addr: server.Addr().As4()}); err != nil {
			return os.NewSyscallError("connect", err)
		}
	}
	return nil
}

func (o *openLoopRun) close() {
	for _, fd := range o.sockets {
		_ = unix.Close(fd) // nothing is on the way
	}
}

// ask sends the next query.
func (o *openLoopRun) ask() error {
	i := len(o.sent)
	o.msg = append(o.msg[:0], o.query(i)...)
	binary.BigEndian.PutUint16(o.msg, uint16(i/len(o.sockets)))
	o.sent, o.latency, o.outcome = append(o.sent, time.Now().UnixNano()), append(o.latency, 0), append(o.outcome, "")
	_, err := unix.Write(o.sockets[i%len(o.sockets)], o.msg)
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EAGAIN) {
		return nil // of an earlier one, or it is lost: it stays without an answer
	}
	if err != nil {
		return fmt.Errorf("query %d: %w", i, err)
	}
	return nil
}

// receive takes the answers that have come by a socket.
func (o *openLoopRun) receive(socket int) {
	for {
		n, oobn, _, _, err := unix.Recvmsg(o.sockets[socket], o.buf[:], o.oob[:], 0)
		if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EINTR) {
			continue // an ICMP error: the query stays without an answer
		}
		if err != nil { // none left
			return
		}
		if n >= headerSize {
			o.take(socket, o.buf[:n], o.oob[:oobn])
		}
	}
}

// take notes an answer.
func (o *openLoopRun) take(socket int, msg, oob []byte) {
	i := o.numbered(socket, binary.BigEndian.Uint16(msg))
	if i < 0 || o.outcome[i] != "" {
		return // nobody asked, or it was answered already
	}
	came, ok := kernelTime(oob)
	outcome := responseOutcome(msg, o.query(i))
	if !ok || outcome == "" {
		return // the answer to another question
	}
	o.latency[i], o.outcome[i] = time.Duration(came-o.sent[i]), outcome
	o.answered++
}

// numbered returns the number of the last query from a socket with an ID; -1: there
// is none.
func (o *openLoopRun) numbered(socket int, id uint16) int {
	last := len(o.sent) - 1 - socket
	if last < 0 {
		return -1
	}
	turn := last / len(o.sockets)
	if turn -= int(uint16(turn) - id); turn < 0 {
		return -1
	}
	return turn*len(o.sockets) + socket
}

// await waits for the last answers, no longer than openPatience.
func (o *openLoopRun) await(ctx context.Context) {
	for end := time.Now().Add(openPatience); ; {
		for socket := range o.sockets {
			o.receive(socket)
		}
		if o.answered == len(o.sent) || time.Now().After(end) || sleep(ctx, openLook) != nil {
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
