package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// streamTally is what the asker of a stream saw.
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

const (
	// streamSockets are what the questions are spread over, so that all of a
	// server's threads have some.
	streamSockets = 16
	// streamPatience is how long is waited for the last answers.
	streamPatience = 2 * time.Second
)

// stream asks a server questions that it has in memory, one after the other and
// again from the first, rate times a second whatever the answers do, and takes
// the time of each: from the system call that sends it to when the kernel has the
// answer (SO_TIMESTAMPNS). So the asker's own delays are no part of it. It goes on
// for length, and then until enough is closed.
func stream(ctx context.Context, server netip.AddrPort, queries [][]byte, rate int, length time.Duration, enough <-chan struct{}) (*streamTally, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer punctual()()
	s := &streaming{queries: queries}
	defer s.close()
	if err := s.open(server); err != nil {
		return nil, err
	}
	interval := time.Second / time.Duration(rate)
	begun := time.Now()
	for next := begun; next.Sub(begun) < length || enough != nil && !isClosed(enough); next = next.Add(interval) {
		if ctx.Err() != nil {
			return nil, errors.New("interrupted")
		}
		if err := s.receiveUntil(next); err != nil {
			return nil, err
		}
		s.ask()
	}
	for until := time.Now().Add(streamPatience); s.waiting() && time.Now().Before(until); {
		if err := s.receiveUntil(time.Now().Add(10 * time.Millisecond)); err != nil {
			return nil, err
		}
	}
	return s.tally(), nil
}

// punctual has the thread of who calls it run before all others, as if it had a
// machine for itself, until undo is called. Where that is not allowed, it is as it
// was.
func punctual() (undo func()) {
	before, err := unix.SchedGetAttr(0, 0)
	if err == nil {
		err = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0)
	}
	if err != nil {
		return func() {}
	}
	return func() { _ = unix.SchedSetAttr(0, before, 0) } // it was allowed before
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// streaming is a stream that is under way. A question's number modulo 2^16 is its
// ID.
type streaming struct {
	queries  [][]byte
	polls    []unix.PollFd
	sent     []int64 // when, in nanoseconds by the real clock
	latency  []time.Duration
	answered int
	failed   int
	buf, oob [4096]byte
}

func (s *streaming) open(server netip.AddrPort) error {
	for range streamSockets {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		s.polls = append(s.polls, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
			return os.NewSyscallError("SO_TIMESTAMPNS", err)
		}
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(server.Port()), Addr: server.Addr().As4()}); err != nil {
			return os.NewSyscallError("connect", err)
		}
	}
	return nil
}

func (s *streaming) close() {
	for _, p := range s.polls {
		_ = unix.Close(int(p.Fd)) // nothing is on the way
	}
}

// ask sends the next question.
func (s *streaming) ask() {
	n := len(s.sent)
	q := s.queries[n%len(s.queries)]
	binary.BigEndian.PutUint16(q, uint16(n))
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_REALTIME, &now) // there is such a clock
	s.sent, s.latency = append(s.sent, now.Nano()), append(s.latency, math.MaxInt64)
	_, _ = unix.Write(int(s.polls[n%len(s.polls)].Fd), q) // what is not sent is lost
}

// waiting reports whether there are questions without an answer.
func (s *streaming) waiting() bool { return s.answered+s.failed < len(s.sent) }

// receiveUntil takes answers until a time.
func (s *streaming) receiveUntil(until time.Time) error {
	for {
		left := time.Until(until)
		if left <= 0 {
			return nil
		}
		timeout := unix.NsecToTimespec(int64(left))
		_, err := unix.Ppoll(s.polls, &timeout, nil)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("ppoll", err)
		}
		for _, p := range s.polls {
			if p.Revents != 0 {
				s.receive(int(p.Fd))
			}
		}
	}
}

// receive takes the answers that have come by a socket.
func (s *streaming) receive(fd int) {
	for {
		n, oobn, _, _, err := unix.Recvmsg(fd, s.buf[:], s.oob[:], 0)
		if err != nil || n < 12 { // none left
			return
		}
		at, ok := kernelTime(s.oob[:oobn])
		i := s.numbered(binary.BigEndian.Uint16(s.buf[:]))
		if !ok || i < 0 || s.latency[i] != math.MaxInt64 {
			continue
		}
		s.latency[i] = time.Duration(at - s.sent[i])
		if rcode := s.buf[3] & 0x0f; rcode == 0 || rcode == 3 {
			s.answered++
		} else {
			s.failed++
		}
	}
}

// numbered returns the number of the last question with an ID; -1: there is none.
func (s *streaming) numbered(id uint16) int {
	last := len(s.sent) - 1
	return last - int(uint16(last)-id)
}

// tally orders what was seen. What has no answer counts as one that took as long
// as was waited.
func (s *streaming) tally() *streamTally {
	t := &streamTally{Asked: len(s.sent), Good: s.answered, Failed: s.failed, Lost: len(s.sent) - s.answered - s.failed}
	for i, l := range s.latency {
		s.latency[i] = min(l, streamPatience)
	}
	slices.Sort(s.latency)
	ms := func(p float64) float64 { return float64(percentile(s.latency, p).Microseconds()) / 1000 }
	t.P50, t.P99, t.P999, t.Max = ms(50), ms(99), ms(99.9), ms(100)
	return t
}

// String returns t in a line.
func (t *streamTally) String() string {
	return fmt.Sprintf("p50 %.3f  p99 %.3f  p99.9 %.3f  most %.1f ms; of %d %d failed, %d lost", t.P50, t.P99, t.P999, t.Max, t.Asked, t.Failed, t.Lost)
}
