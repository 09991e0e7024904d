package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
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
	// mostUrgent is up to how many queries a second an open loop runs before all
	// others. At 20,000 that took 1.5 to 5 times as long at the 99th percentile, of
	// two cores: the servers' threads that the kernel had put on its core waited there
	// until the kernel held it up for their sake, for up to 60 ms (sched(7), real-time
	// throttling), and what was due by then came all at once.
	mostUrgent = 2000
	// openSpin is for how long before a query is due an urgent open loop does not sleep
	// any more: a processor takes 30 µs to wake up, in the median, and 70 in one of a
	// hundred cases (of a virtual machine), which is half of what an answer takes.
	openSpin = 100 * time.Microsecond
	// openHeap is how much memory may lie about before garbage is collected while an
	// open loop is urgent, in octets.
	openHeap = 1 << 30
)

// openTally is what an open loop saw.
type openTally struct {
	loopTally
	Rate float64 `json:"rate"`        // queries a second that were sent
	Late float64 `json:"late_p99_ms"` // 99th percentile of how much later than due a query was sent
}

// openLoop asks a server the questions, again from the first after the last, at a
// fixed rate, whether it answers or not: a server that stops for a moment is
// asked meanwhile, and each of these queries waits as long as it would. What has had
// no answer in the end counts as failed.
func openLoop(ctx context.Context, server netip.AddrPort, questions []string, rate int, length time.Duration) (*openTally, error) {
	return openLoopOn(ctx, "", server, questions, rate, length)
}

// openLoopOn is openLoop from CPUs of a list (taskset(1)); empty: from any.
func openLoopOn(ctx context.Context, cpus string, server netip.AddrPort, questions []string, rate int, length time.Duration) (*openTally, error) {
	queries, err := buildQueries(questions)
	if err != nil {
		return nil, err
	}
	n := int(length.Seconds() * float64(rate))
	if n < 1 {
		return nil, errors.New("an open loop of no queries")
	}
	o := newOpenLoop(round(queries))
	o.cpus = cpus
	if err := o.run(ctx, server, rate, o.atMost(n)); err != nil {
		return nil, err
	}
	t := &openTally{loopTally: *newLoopTally(o.outcome, o.latency, o.wall), Rate: float64(n) / o.wall.Seconds()}
	t.Late = lateness(o.late)
	return t, nil
}

// lateness returns the 99th percentile, in ms.
func lateness(late []time.Duration) float64 {
	return milliseconds(percentile(slices.Sorted(slices.Values(late)), 99))
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
	Late   float64 `json:"late_p99_ms,omitempty"` // as of an openTally
}

// newStreamTally sums up runs as if they had been one.
func newStreamTally(runs ...*openLoopRun) *streamTally {
	var outcomes []string
	var latencies, late []time.Duration
	for _, o := range runs {
		outcomes, latencies, late = append(outcomes, o.outcome...), append(latencies, o.latency...), append(late, o.late...)
	}
	t := newLoopTally(outcomes, latencies, time.Second) // the rate is known
	lost := t.why[outcomeNone]
	return &streamTally{Asked: t.Asked, Good: t.Asked - t.Failed, Failed: t.Failed - lost, Lost: lost, P50: t.P50, P99: t.P99, P999: t.P999, Max: t.Max, Late: lateness(late)}
}

// String returns t in a line.
func (t *streamTally) String() string {
	return fmt.Sprintf("p50 %.3f  p99 %.3f  p99.9 %.3f  most %.1f ms; of %d %d failed, %d lost; sent late p99 %.3f ms", t.P50, t.P99, t.P999, t.Max, t.Asked, t.Failed, t.Lost, t.Late)
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

// openLoopRun is an open loop. Of a query it keeps when it was due, in nanoseconds
// by the real clock, how much later it was sent, how long the answer took,
// and what it said; empty: none came in time, and latency is as long as was waited.
//
// Latency runs from when a query is due, so that a server that keeps the open loop
// itself from asking is not spared the time, to when the kernel has the answer for
// this process (SO_TIMESTAMPNS): that the process has to be woken up is no part
// of it. So answers may lie in their sockets until there is time for them, and nobody
// is woken up by one, who could be in the way of the server. What the open loop was
// late itself is a part of the latency, and is told apart.
//
// The i-th query leaves from the socket i % openSockets, as the i / openSockets-th
// from there, which modulo 2^16 is its ID.
type openLoopRun struct {
	query    func(i int) []byte
	cpus     string // that it asks from, as taskset(1) reads them; empty: any
	due      []int64
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
// The loop has done with it before it calls again.
func newOpenLoop(query func(i int) []byte) *openLoopRun { return &openLoopRun{query: query} }

// atMost has an open loop ask n queries, for which it makes room beforehand.
func (o *openLoopRun) atMost(n int) func(time.Duration) bool {
	o.due, o.late, o.latency = make([]int64, 0, n), make([]time.Duration, 0, n), make([]time.Duration, 0, n)
	o.outcome = make([]string, 0, n)
	return func(time.Duration) bool { return len(o.due) < n }
}

// run asks, as long as more says so of the time when the next query is due, and then
// waits for the last answers.
func (o *openLoopRun) run(ctx context.Context, server netip.AddrPort, rate int, more func(due time.Duration) bool) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	unpin, err := pin(o.cpus)
	if err != nil {
		return err
	}
	defer unpin()
	urgent := rate <= mostUrgent
	undo, err := punctual(urgent)
	if err != nil {
		return err
	}
	defer undo()
	defer o.close()
	if err := o.open(server); err != nil {
		return err
	}
	if err := awaitStamps(ctx); err != nil {
		return err
	}
	interval := time.Second / time.Duration(rate)
	var spin time.Duration
	if urgent {
		spin = openSpin
	}
	began := time.Now()
	for due := time.Duration(0); more(due); due += interval {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		o.late = append(o.late, pauseUntil(began, due, spin))
		if err := o.ask(began.UnixNano() + int64(due)); err != nil {
			return err
		}
		o.receive(len(o.due) % len(o.sockets)) // the one that has been left alone for longest
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

// punctual has the thread of who calls it sleep for no longer than it wants and, if
// it is urgent, run before all others, as if it had a machine for itself, until undo
// is called. Where that is not allowed, it is as it was.
//
// Two threads of Go's runtime keep a goroutine in its system call for a moment: the one
// that watches all others, at each look at it, and the collector of garbage. Who
// comes out of the call then does not sleep, but lets others run, of which there are
// none to a thread that runs before all others. If the other one was on the same CPU,
// both waited until the kernel held the first one up (sched(7), real-time throttling):
// it turned for 0.95 s, and all that was due in a second came at once, in 4 of 15
// floods. So meanwhile the watcher runs before all others too, and nothing is collected.
func punctual(urgent bool) (undo func(), err error) {
	// The kernel may add 50 µs to every sleep unless told otherwise (prctl(2)).
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1000, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("set the timer slack: %w", err)
	}
	if !urgent {
		return func() {}, nil
	}
	all, err := threads()
	if err != nil {
		return nil, err
	}
	limit, percent := debug.SetMemoryLimit(openHeap), debug.SetGCPercent(-1) // which waits for one that is under way
	undoWatcher := first(all[min(1, len(all)-1)])                            // the first thread that the runtime starts
	undoSelf := first(unix.Gettid())
	return func() {
		undoSelf()
		undoWatcher()
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	}, nil
}

// first has a thread run before all others, where that is allowed, until undo is
// called. The threads and processes that it starts do not: where two of a process
// turn until a third one has run, it never does (sched(7), resetting scheduling
// policy for child processes).
func first(thread int) (undo func()) {
	fifo := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Flags: unix.SCHED_FLAG_RESET_ON_FORK, Priority: 1}
	before, err := unix.SchedGetAttr(thread, 0)
	if err != nil || unix.SchedSetAttr(thread, fifo, 0) != nil {
		return func() {}
	}
	before.Flags |= unix.SCHED_FLAG_RESET_ON_FORK              // to take it back is not allowed to everybody
	return func() { _ = unix.SchedSetAttr(thread, before, 0) } // it was allowed before
}

// pin has the thread of who calls it run on CPUs of a list until undo is called.
func pin(cpus string) (undo func(), err error) {
	if cpus == "" {
		return func() {}, nil
	}
	var before, set unix.CPUSet
	var from, to int
	if _, err := fmt.Sscanf(cpus, "%d-%d", &from, &to); err != nil || from > to {
		return nil, fmt.Errorf("CPUs %q: want FIRST-LAST", cpus)
	}
	for cpu := from; cpu <= to; cpu++ {
		set.Set(cpu)
	}
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, os.NewSyscallError("sched_getaffinity", err)
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("CPUs %s: %w", cpus, os.NewSyscallError("sched_setaffinity", err))
	}
	return func() { _ = unix.SchedSetaffinity(0, &before) }, nil // it was there before
}

// pauseUntil sleeps until it is due after a moment, but not for the last spin, and
// returns by how much that is exceeded. The thread sleeps in the kernel: the runtime's
// timers are too coarse.
func pauseUntil(began time.Time, due, spin time.Duration) (late time.Duration) {
	for {
		late = time.Since(began) - due
		if late >= 0 {
			return late
		}
		if late > -spin {
			continue
		}
		pause := unix.NsecToTimespec(int64(-late - spin))
		_ = unix.Nanosleep(&pause, nil) // a signal cuts it short
	}
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

// awaitStamps returns when the kernel notes when datagrams come. It begins to a while
// after the first socket wants it (net_enable_timestamp), later where it is busy: until
// then it says when a datagram was read, which of an answer may be long after it came.
// The datagrams that show it are of a socket to itself.
func awaitStamps(ctx context.Context) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	if err != nil {
		return os.NewSyscallError("bind", err)
	}
	self, err := unix.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return os.NewSyscallError("SO_TIMESTAMPNS", err)
	}
	var buf, oob [256]byte
	for end := time.Now().Add(openPatience); time.Now().Before(end); {
		if err := unix.Sendto(fd, buf[:1], 0, self); err != nil {
			return os.NewSyscallError("sendto", err)
		}
		if err := sleep(ctx, openLook); err != nil {
			return err
		}
		read := time.Now().UnixNano()
		_, oobn, _, _, err := unix.Recvmsg(fd, buf[:], oob[:], 0)
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvmsg", err)
		}
		if came, ok := kernelTime(oob[:oobn]); ok && came < read {
			return nil
		}
	}
	return errors.New("the kernel does not say when datagrams come")
}

func (o *openLoopRun) close() {
	for _, fd := range o.sockets {
		_ = unix.Close(fd) // nothing is on the way
	}
}

// ask sends the next query, which is due at a time.
func (o *openLoopRun) ask(due int64) error {
	i := len(o.due)
	o.msg = append(o.msg[:0], o.query(i)...)
	binary.BigEndian.PutUint16(o.msg, uint16(i/len(o.sockets)))
	o.due, o.latency, o.outcome = append(o.due, due), append(o.latency, 0), append(o.outcome, "")
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
	o.latency[i], o.outcome[i] = time.Duration(came-o.due[i]), outcome
	o.answered++
}

// numbered returns the number of the last query from a socket with an ID; -1: there
// is none.
func (o *openLoopRun) numbered(socket int, id uint16) int {
	last := len(o.due) - 1 - socket
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
		if o.answered == len(o.due) || time.Now().After(end) || sleep(ctx, openLook) != nil {
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
