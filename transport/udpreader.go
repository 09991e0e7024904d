package transport

import (
	"context"
	"errors"
	"math/bits"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"shirube/internal/netx"
	"shirube/internal/stack"
	"shirube/internal/wire"
)

// udpReader serves one socket. All of it but the counters belongs to the
// goroutine in run: queries are read, answered and sent without leaving it, a
// batch at a time, and the next ones reuse the same memory. A query that takes
// longer leaves as a copy.
type udpReader struct {
	udp   *UDP
	conn  *net.UDPConn
	batch *netx.Batch
	q     wire.Query
	tx    []byte      // what the queries of a batch are answered with, one after the other
	lost  func(error) // is r.notSent: made once, for a method value allocates

	n udpCounters
}

type udpCounters struct {
	counters
	late       atomic.Uint64
	badSource  atomic.Uint64
	overflow   atomic.Uint64 // as of when it was last asked for
	readErrors atomic.Uint64
	sendErrors [NumSendErrors]atomic.Uint64
	batches    [NumBatchSizes]atomic.Uint64
	_          [64]byte // see counters
}

func newUDPReader(u *UDP, c *net.UDPConn, loop netx.Loop) *udpReader {
	r := &udpReader{udp: u, conn: c}
	r.batch = netx.NewBatch(c, netx.BatchOptions{MaxMessage: maxQuery, Size: u.batch, Loop: loop})
	r.tx = make([]byte, 0, u.batch*u.maxSize)
	r.lost = r.notSent
	return r
}

// run reads until Shutdown. No error of the socket ends it: whoever can cause
// one (ICMP, a full queue) could switch the server off.
func (r *udpReader) run(ctx context.Context) {
	r.batch.Attach()
	defer r.batch.Detach()
	// Single errors are ICMP's answers to earlier responses, and come as fast
	// as clients like; a socket that gives nothing else is broken.
	wait := backoff{spare: 16, min: time.Millisecond, max: time.Second}
	for {
		n, err := r.batch.Receive()
		if err != nil {
			if isClosed(r.udp.stop) || errors.Is(err, net.ErrClosed) {
				return
			}
			r.n.readErrors.Add(1)
			if !wait.failed(r.udp.stop) {
				return
			}
			continue
		}
		wait.ok()
		r.handleBatch(ctx, n)
		if n == r.udp.batch {
			// There is more, and a reader that never waits keeps the goroutines that
			// it started from running, for as long as the runtime lets it.
			runtime.Gosched()
		}
	}
}

// handleBatch deals with n datagrams. All have come by now, if not just now: one
// look at the clock does for them.
func (r *udpReader) handleBatch(ctx context.Context, n int) {
	r.n.batches[bits.Len(uint(n))-1].Add(1)
	now, tx := time.Now(), r.tx
	for i := range n {
		tx = r.handle(ctx, tx, i, now)
	}
	r.batch.Flush(r.lost)
}

// handle deals with the i-th datagram, and returns tx with the response to it.
// Where there is none, what was appended in vain is left for the next one to
// write over.
func (r *udpReader) handle(ctx context.Context, tx []byte, i int, now time.Time) []byte {
	d := r.batch.Datagram(i)
	if d.Group || badSource(d.From) {
		r.n.received.Add(1)
		r.n.badSource.Add(1)
		return tx
	}
	q := &r.q
	status := parse(q, d.Msg, d.Cut)
	q.Client, q.Proto, q.Received, q.Limit = d.From, wire.UDP, now, q.UDPLimit(r.udp.maxSize)
	rsp, outcome := r.udp.answer(&r.n.counters, tx, d.Msg, q, status)
	if outcome == Deferred {
		var ok bool
		if rsp, ok = r.udp.take(&r.n.counters, tx, q); ok {
			r.leave(ctx, q.Clone(), r.batch.Return(i))
			return tx
		}
		outcome = Answered
	}
	if outcome != Answered {
		return tx
	}
	r.batch.Reply(i, rsp[len(tx):])
	return rsp
}

// leave has q, which has a slot, answered by a goroutine of its own.
func (r *udpReader) leave(ctx context.Context, q *wire.Query, to netx.Return) {
	// Owner: UDP. End: Serve's deadline, or Shutdown's. Bound: Slots, of which it
	// has one. Excess: shed, by who calls.
	r.udp.serving.Go(func() {
		stack.Reserve()
		r.finish(ctx, q, to)
	})
}

// badSource reports whether a response to a is worth nothing to anybody, or
// would go to more than one host: port 0 (RFC 768: no reply), no address, and
// groups (RFC 1122 §4.1.3.6).
func badSource(a netip.AddrPort) bool {
	ip := a.Addr()
	return a.Port() == 0 || ip.IsUnspecified() || ip.IsMulticast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// finish answers a deferred query, on a goroutine of its own.
func (r *udpReader) finish(ctx context.Context, q *wire.Query, to netx.Return) {
	buf := r.udp.buffers.Get().(*[]byte)
	defer r.udp.buffers.Put(buf)
	rsp := r.udp.serve(ctx, &r.n.counters, (*buf)[:0], q)
	switch {
	case rsp == nil:
	case time.Since(q.Received) > r.udp.discard:
		r.n.late.Add(1)
	default:
		r.n.answered.Add(1)
		if err := r.batch.Send(rsp, to); err != nil {
			r.notSent(err)
		}
	}
}

// notSent counts a response that could not be sent. To the client it is lost,
// and he asks again.
func (r *udpReader) notSent(err error) { r.n.sendErrors[sendErrorOf(err)].Add(1) }

// overflow returns how many datagrams the kernel has thrown away; of a socket that
// is closed, how many there were when it was not.
func (r *udpReader) overflow() uint64 {
	if n, err := netx.Overflow(r.conn); err == nil {
		r.n.overflow.Store(n)
	}
	return r.n.overflow.Load()
}
