//go:build linux && (amd64 || arm64)

package netx

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// giveWay decides when a reader lets other programs run on its processor before it
// reads what has come meanwhile.
//
// Who asks from this machine, a proxy or a front for DoH, needs the same processors.
// A reader that is back at its socket after each few of its queries keeps the
// processor from who was about to ask more, and answers them by twos and threes. To
// step aside once (sched_yield(2)) lets them come together: fewer system calls, fewer
// passages through the network stack and fewer turns of the scheduler for each.
// What comes over a network does not wait for a program to run: for that nobody gives
// way. Who asks from here pays with latency: while others run, his queries wait.
type giveWay struct {
	on    bool
	asked bool      // by the last batch: see after
	until time.Time // no way is given before that
	times atomic.Uint64
	yield func() // is sched_yield(2), but in tests
}

const (
	// givenFrom is for how many datagrams of a batch way is given at least: where
	// they are fewer nobody is in a hurry.
	givenFrom = 4
	// givenMost is how long to give way may take. It is longer than who waits for
	// answers runs without any, and shorter than whoever computes something and runs
	// until the scheduler stops him.
	givenMost = 3 * time.Millisecond
	// givenShare is how many times as long as it took nobody gives way after it has
	// taken longer: so a stranger has less than two percent of the time in that way.
	givenShare = 64
)

// after says what the last batch was: how many datagrams of how many that it has room for,
// how many of them were answered at once, and where the last one came from. After a full batch there
// is more to be read already; and of what was not answered others have to take care
// first, in this process.
func (g *giveWay) after(got, room, replies int, from *unix.RawSockaddrInet6) {
	g.asked = g.on && got >= givenFrom && got < room && replies == got && isLoopback(from)
}

// give gives way if it is time for it: once for a batch.
func (g *giveWay) give() {
	if !g.asked {
		return
	}
	g.asked = false
	begin := time.Now()
	if begin.Before(g.until) {
		return
	}
	g.yield()
	g.times.Add(1)
	end := time.Now()
	if took := end.Sub(begin); took > givenMost {
		g.until = end.Add(givenShare * took)
	}
}

// schedYield is sched_yield(2). The runtime is not told of it, as of no system call
// of a [Batch]: to take the reader's place from it costs more than it holds others up.
func schedYield() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// isLoopback reports whether an address is one of this machine's loopback
// interface (RFC 1122 §3.2.1.3, RFC 4291 §2.5.3).
func isLoopback(sa *unix.RawSockaddrInet6) bool {
	return addrPort(sa).Addr().IsLoopback() // an IPv4-mapped one, too
}
