package transport

import (
	"sync/atomic"
	"time"
)

// maxReads is how often a connection is read for one message: whoever sends it octet
// by octet costs more than a thousand answers (dnsdist's bound, CVE-2025-30187). A
// query comes in one piece, or in two or three.
const maxReads = 50

// pace knows for how long a connection may keep its server waiting. All of it
// but active belongs to the goroutine that reads.
type pace struct {
	firstByte, message time.Duration // as in TCPOptions

	started  time.Time
	received time.Time    // when the last octets came
	begun    time.Time    // when the first octet of the message came that is partial
	begunAt  int          // the frames.done that begun is for
	reads    int          // since then
	active   atomic.Int64 // when octets last came or went: nanoseconds after started
}

// begin sets the connection's start.
func (p *pace) begin(opt *TCPOptions, now time.Time) {
	p.firstByte, p.message = opt.FirstByteTimeout, opt.MessageTimeout
	p.started, p.received, p.begunAt = now, now, -1
}

// came says that octets have come. It is also called when reading goes on after
// it was the server who kept the client waiting.
func (p *pace) came(now time.Time) {
	p.received = now
	p.reads++
	p.moved(now)
}

// moved says that octets have come or gone. It may be called concurrently.
func (p *pace) moved(now time.Time) { p.active.Store(int64(now.Sub(p.started))) }

// limit returns until when to wait for what comes next, and why not longer, if a
// connection may be idle for so long. A client that waits for an answer (busy) is
// not idle (RFC 7766 §6.2.3).
func (p *pace) limit(f *frames, busy bool, idle time.Duration, now time.Time) (until time.Time, reason CloseReason) {
	switch {
	case f.partial():
		if p.begunAt != f.done { // whatever dribbles in later does not move begun
			p.begun, p.begunAt, p.reads = p.received, f.done, 1
		}
		if p.reads > maxReads {
			return p.begun, ClosedDribble
		}
		return p.begun.Add(p.message), ClosedSlowWriter
	case f.done == 0:
		return p.started.Add(p.firstByte), ClosedFirstByte
	case busy:
		return now.Add(idle), ClosedIdle
	default:
		return p.started.Add(time.Duration(p.active.Load())).Add(idle), ClosedIdle
	}
}
