package transport

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"shirube/internal/netx"
	"shirube/internal/wire"
)

// udpReader serves one socket. All of it but the counters belongs to the
// goroutine in run: a query is read, answered and sent without leaving it, and
// the next one reuses the same memory. A query that takes longer leaves as a
// copy.
type udpReader struct {
	udp  *UDP
	conn *net.UDPConn
	q    wire.Query
	tx   []byte

	rx      [maxQuery]byte
	control [netx.ControlSize]byte // what came with the datagram
	source  [netx.ControlSize]byte // what goes with the response

	n udpCounters
}

type udpCounters struct {
	counters
	late       atomic.Uint64
	badSource  atomic.Uint64
	readErrors atomic.Uint64
	sendErrors [NumSendErrors]atomic.Uint64
	_          [64]byte // see counters
}

func newUDPReader(u *UDP, c *net.UDPConn) *udpReader {
	return &udpReader{udp: u, conn: c, tx: make([]byte, 0, u.maxSize)}
}

// run reads until Shutdown. No error of the socket ends it: whoever can cause
// one (ICMP, a full queue) could switch the server off.
func (r *udpReader) run(ctx context.Context) {
	// Single errors are ICMP's answers to earlier responses, and come as fast
	// as clients like; a socket that gives nothing else is broken.
	wait := backoff{spare: 16, min: time.Millisecond, max: time.Second}
	for {
		size, control, flags, from, err := r.conn.ReadMsgUDPAddrPort(r.rx[:], r.control[:])
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
		r.handle(ctx, r.rx[:size], netx.Truncated(flags), netx.ParsePacketInfo(r.control[:control]), from)
	}
}

// handle deals with one datagram, which was longer than msg if cut.
func (r *udpReader) handle(ctx context.Context, msg []byte, cut bool, info netx.PacketInfo, from netip.AddrPort) {
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	if info.Group || badSource(from) {
		r.n.received.Add(1)
		r.n.badSource.Add(1)
		return
	}
	q := &r.q
	status := parse(q, msg, cut)
	q.Client, q.Proto, q.Received, q.Limit = from, wire.UDP, time.Now(), q.UDPLimit(r.udp.maxSize)
	rsp, outcome := r.udp.answer(&r.n.counters, r.tx, msg, q, status)
	if outcome == Deferred {
		if rsp, ok := r.udp.take(&r.n.counters, r.tx, q); !ok {
			r.send(rsp, r.source[:0], info, from)
			return
		}
		own := q.Clone()
		// Owner: UDP. End: Serve's deadline, or Shutdown's. Bound: Slots, of
		// which it has one. Excess: shed, above.
		r.udp.serving.Go(func() {
			reserveStack()
			r.finish(ctx, own, info)
		})
		return
	}
	if outcome == Answered {
		r.send(rsp, r.source[:0], info, from)
	}
}

// badSource reports whether a response to a is worth nothing to anybody, or
// would go to more than one host: port 0 (RFC 768: no reply), no address, and
// groups (RFC 1122 §4.1.3.6).
func badSource(a netip.AddrPort) bool {
	ip := a.Addr()
	return a.Port() == 0 || ip.IsUnspecified() || ip.IsMulticast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// finish answers a deferred query, on a goroutine of its own.
func (r *udpReader) finish(ctx context.Context, q *wire.Query, info netx.PacketInfo) {
	buf := r.udp.buffers.Get().(*[]byte)
	defer r.udp.buffers.Put(buf)
	rsp := r.udp.serve(ctx, &r.n.counters, (*buf)[:0], q)
	switch {
	case rsp == nil:
	case time.Since(q.Received) > r.udp.discard:
		r.n.late.Add(1)
	default:
		r.n.answered.Add(1)
		r.send(rsp, nil, info, q.Client)
	}
}

// send sends rsp from the address that was asked. What cannot be sent is
// counted: to the client it is lost, and he asks again.
func (r *udpReader) send(rsp, source []byte, info netx.PacketInfo, to netip.AddrPort) {
	if _, _, err := r.conn.WriteMsgUDPAddrPort(rsp, info.AppendControl(source), to); err != nil {
		r.n.sendErrors[sendErrorOf(err)].Add(1)
	}
}
