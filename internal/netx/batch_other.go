//go:build !linux || !(amd64 || arm64)

package netx

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"
)

// Batch reads the datagrams of a UDP socket and sends the replies to them, one at
// a time on this system.
//
// One goroutine at a time uses it, between [Batch.Attach] and [Batch.Detach].
// Others may call [Batch.Send] and [Batch.Interrupt].
type Batch struct {
	conn    *net.UDPConn
	rx      []byte
	control [ControlSize]byte // of the datagram
	source  [ControlSize]byte // of the reply

	n, flags, nc int // of the datagram: octets, flags, octets in control
	to           Return
	reply        []byte // nil: none is queued

	interrupted atomic.Bool // for good
}

// NewBatch returns a Batch for c, which still has to be closed by the caller, and
// is not to be read by anybody else.
func NewBatch(c *net.UDPConn, opt BatchOptions) *Batch {
	return &Batch{conn: c, rx: make([]byte, opt.MaxMessage)}
}

// Attach says that from now on the calling goroutine uses the Batch.
func (*Batch) Attach() {}

// Detach says that the calling goroutine does not use the Batch any more.
func (*Batch) Detach() {}

// Interrupt ends the Receive under way and all later ones, with
// [os.ErrDeadlineExceeded].
func (b *Batch) Interrupt() {
	b.interrupted.Store(true)
	// The only error is that the socket is closed, and then no Receive waits.
	_ = b.conn.SetReadDeadline(time.Unix(1, 0))
}

// Joined returns 0: there is nothing to join replies with.
func (*Batch) Joined() uint64 { return 0 }

// GaveWay returns 0: nobody gives way.
func (*Batch) GaveWay() uint64 { return 0 }

// Receive waits for datagrams and returns how many came: one at least, and those
// that were there already. The last ones are gone, and their replies that were
// not flushed.
func (b *Batch) Receive() (int, error) {
	b.reply = nil
	var err error
	b.n, b.nc, b.flags, b.to.addr, err = b.conn.ReadMsgUDPAddrPort(b.rx, b.control[:])
	if err != nil {
		return 0, err
	}
	b.to.info = ParsePacketInfo(b.control[:b.nc])
	return 1, nil
}

// Poll is Receive for what has come already: it does not wait for long, and
// returns 0 when there is nothing. Interrupt does not end it.
func (b *Batch) Poll() (int, error) {
	if err := b.conn.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		return 0, err
	}
	n, err := b.Receive()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	_ = b.conn.SetReadDeadline(time.Time{}) // closed: the next Receive says so
	if b.interrupted.Load() {
		b.Interrupt() // which may have been before that
	}
	return n, err
}

// Datagram returns the i-th datagram of the last Receive.
func (b *Batch) Datagram(int) Datagram {
	from := netip.AddrPortFrom(b.to.addr.Addr().Unmap().WithZone(""), b.to.addr.Port())
	return Datagram{Msg: b.rx[:b.n], From: from, Cut: Truncated(b.flags), Group: b.to.info.Group, Local: b.to.info.Local}
}

// Reply queues msg, which the next Flush sends to who sent the i-th datagram,
// from where that was sent to. It is for datagrams that Datagram has returned,
// for each once. Until the Flush msg is borrowed.
func (b *Batch) Reply(_ int, msg []byte) { b.reply = msg }

// Flush sends the replies that are queued. What goes wrong with one costs that
// one: lost is called with the error.
func (b *Batch) Flush(lost func(error)) {
	if b.reply == nil {
		return
	}
	_, _, err := b.conn.WriteMsgUDPAddrPort(b.reply, b.to.info.AppendControl(b.source[:0]), b.to.addr)
	b.reply = nil
	if err != nil {
		lost(err)
	}
}

// Return is the way back to who sent a datagram.
type Return struct {
	addr netip.AddrPort
	info PacketInfo
}

// Return returns the way back to who sent the i-th datagram, which Datagram has
// returned.
func (b *Batch) Return(int) Return { return b.to }

// Send sends msg at once.
func (b *Batch) Send(msg []byte, to Return) error {
	if err := b.conn.SetWriteDeadline(time.Now().Add(sendPatience)); err != nil {
		return err
	}
	_, _, err := b.conn.WriteMsgUDPAddrPort(msg, to.info.AppendControl(nil), to.addr)
	return err
}
