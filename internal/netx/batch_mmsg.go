//go:build linux && (amd64 || arm64)

package netx

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Batch reads the datagrams of a UDP socket and sends the replies to them, many
// with one system call and without allocating. The clients' addresses stay as
// the kernel wrote them: they are parsed for who wants to know, and never put
// together again.
//
// One goroutine at a time uses it, between [Batch.Attach] and [Batch.Detach].
// Others may call [Batch.Send] and [Batch.Interrupt].
type Batch struct {
	conn     *net.UDPConn
	raw      syscall.RawConn
	rawErr   error // why there is no raw
	blocking bool
	room     room
	way      giveWay
	thread   atomic.Int64 // that may be waiting in the kernel; 0: none

	rx       []mmsghdr
	names    []unix.RawSockaddrInet6 // of either family, for a sockaddr_in is shorter
	controls [][ControlSize]byte
	infos    []PacketInfo
	got      int // of rx, by the last Receive

	tx         []mmsghdr
	iovs       []unix.Iovec
	txControls [][ControlSize]byte
	queued     int // of tx, by Reply
	replies    int // to the last Receive, sent or queued
	joiner     joiner
	joined     atomic.Uint64 // see Joined
	out        []mmsghdr     // what Flush sends
	sent       int           // of them

	sendings sync.Pool // of *sending: Send is called by many at once

	// What the functions below return. They are made once, for a method value
	// allocates.
	n     int
	errno syscall.Errno

	receive func(fd uintptr) bool
	try     func(fd uintptr)
	wait    func(fd uintptr) bool

	// sendmmsg is the system call, but in tests.
	sendmmsg func(fd uintptr, msgs []mmsghdr) (int, syscall.Errno)
}

// mmsghdr is struct mmsghdr of 64-bit systems (recvmmsg(2)).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32 // octets received or sent
	_   [4]byte
}

// NewBatch returns a Batch for c, which still has to be closed by the caller, and
// is not to be read by anybody else.
func NewBatch(c *net.UDPConn, opt BatchOptions) *Batch {
	size := opt.size()
	b := &Batch{
		conn:     c,
		rx:       make([]mmsghdr, size),
		names:    make([]unix.RawSockaddrInet6, size),
		controls: make([][ControlSize]byte, size),
		infos:    make([]PacketInfo, size),
		tx:       make([]mmsghdr, size),
		iovs:     make([]unix.Iovec, 2*size),
		joiner:   newJoiner(size),
		sendmmsg: sendmmsg,
		way:      giveWay{on: opt.GiveWay, yield: schedYield},

		txControls: make([][ControlSize]byte, size),
	}
	b.raw, b.rawErr = c.SyscallConn()
	if b.rawErr == nil && (opt.Loop == LoopBlocking || opt.Loop == LoopAuto && autoBlocks) {
		b.blocking = block(b.raw) == nil // or it is closed, and nothing will wait for it
	}
	if b.rawErr == nil && !b.blocking {
		_ = b.room.find(b.raw) // or it costs more, as everywhere else
	}
	b.receive, b.try, b.wait = b.receiveOn, b.tryOn, b.waitOn
	buf := make([]byte, size*opt.MaxMessage)
	for i := range b.rx {
		iov := &b.iovs[i]
		iov.Base = unsafe.SliceData(buf[i*opt.MaxMessage:])
		iov.SetLen(opt.MaxMessage)
		b.rx[i].hdr = unix.Msghdr{
			Name: (*byte)(unsafe.Pointer(&b.names[i])), Iov: iov, Iovlen: 1, Control: &b.controls[i][0],
		}
		b.tx[i].hdr = unix.Msghdr{Iov: &b.iovs[size+i], Iovlen: 1, Control: &b.txControls[i][0]}
		b.reset(i)
	}
	return b
}

// autoBlocks is what LoopAuto means. A thread that waits in the kernel gives its
// place among GOMAXPROCS away and has to get one back for each batch; see
// bench/README.md for what that costs.
const autoBlocks = false

// receiveTimeout is when a thread that waits in the kernel looks around if
// nothing has come. What it does for [Batch.Interrupt] matters more: with a
// timeout a signal ends the wait, without one the call is restarted (signal(7)).
const receiveTimeout = time.Second

// block makes c's socket one that threads wait for in the kernel.
func block(c syscall.RawConn) error {
	return onFD(c, func(fd int) error {
		timeout := unix.NsecToTimeval(int64(receiveTimeout))
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
			return err
		}
		return unix.SetNonblock(fd, false)
	})
}

// Attach says that from now on the calling goroutine uses the Batch.
func (b *Batch) Attach() {
	if b.blocking {
		runtime.LockOSThread() // so that Interrupt knows whom to wake
	}
}

// Detach says that the calling goroutine does not use the Batch any more.
func (b *Batch) Detach() {
	if b.blocking {
		runtime.UnlockOSThread()
	}
}

// Interrupt ends the Receive under way and all later ones, with
// [os.ErrDeadlineExceeded].
func (b *Batch) Interrupt() {
	// The only error is that the socket is closed, and then no Receive waits.
	_ = b.conn.SetReadDeadline(time.Unix(1, 0))
	if !b.blocking {
		return
	}
	// A signal that comes before the thread waits is lost; so more follow. It is
	// the one by which the Go runtime interrupts its threads, and means nothing
	// to one that needs no interruption.
	for until := time.Now().Add(receiveTimeout); time.Now().Before(until); time.Sleep(wakeInterval) {
		thread := b.thread.Load()
		if thread == 0 {
			return
		}
		_ = unix.Tgkill(unix.Getpid(), int(thread), unix.SIGURG) // the thread may be gone
	}
}

// wakeInterval is how far apart the signals of [Batch.Interrupt] are.
const wakeInterval = 100 * time.Microsecond

// Receive waits for datagrams and returns how many came: one at least, and those
// that were there already. The last ones are gone, and their replies that were
// not flushed.
func (b *Batch) Receive() (int, error) {
	b.forget()
	if b.rawErr != nil {
		return 0, b.rawErr
	}
	b.way.give()
	for {
		if b.blocking {
			b.thread.Store(int64(unix.Gettid())) // before the deadline is looked at: see Interrupt
		}
		err := b.raw.Read(b.receive)
		if b.blocking {
			b.thread.Store(0)
		}
		switch {
		case err != nil:
			return 0, err
		case b.errno == 0:
			b.got = b.n
			return b.n, nil
		case b.errno != unix.EINTR && b.errno != unix.EAGAIN:
			return 0, os.NewSyscallError("recvmmsg", b.errno)
		}
	}
}

// receiveOn is the system call of Receive. It reports false when there is
// nothing to read and the poller has to wait. A call that does not wait is not
// announced to the runtime, nor are those of Flush and Send: with a full batch they take long
// enough for it to think that the thread is stuck and to start another one, which
// costs more than what the two of them delay a garbage collection by, 0.1 ms.
func (b *Batch) receiveOn(fd uintptr) bool {
	var n int
	if b.blocking {
		n, b.errno = awaitMessages(fd, b.rx)
	} else {
		n, b.errno = recvmmsg(fd, b.rx)
	}
	b.n = n
	return b.blocking || b.errno != unix.EAGAIN
}

// Poll is Receive for what has come already: it does not wait, and returns 0 when
// there is nothing. Interrupt does not end it.
func (b *Batch) Poll() (int, error) {
	b.forget()
	if b.rawErr != nil {
		return 0, b.rawErr
	}
	var n int
	var errno syscall.Errno
	err := b.raw.Control(func(fd uintptr) { n, errno = recvmmsg(fd, b.rx) })
	switch {
	case err != nil:
		return 0, err
	case errno == unix.EAGAIN:
		return 0, nil
	case errno != 0:
		return 0, os.NewSyscallError("recvmmsg", errno)
	}
	b.got = n
	return b.got, nil
}

// forget makes room for the next datagrams.
func (b *Batch) forget() {
	if b.got > 0 {
		b.way.after(b.got, len(b.rx), b.replies, &b.names[b.got-1])
	}
	for i := range b.got {
		b.reset(i)
	}
	b.got, b.queued, b.replies = 0, 0, 0
}

// reset makes room for the i-th datagram of the next Receive: the kernel writes
// lengths over what it was offered.
func (b *Batch) reset(i int) {
	h := &b.rx[i].hdr
	h.Namelen, h.Controllen = unix.SizeofSockaddrInet6, ControlSize
}

// Datagram returns the i-th datagram of the last Receive.
func (b *Batch) Datagram(i int) Datagram {
	m := &b.rx[i]
	b.infos[i] = PacketInfo{}
	if m.hdr.Controllen > 0 {
		b.infos[i] = ParsePacketInfo(b.controls[i][:m.hdr.Controllen])
	}
	d := Datagram{
		Msg:   unsafe.Slice(m.hdr.Iov.Base, m.hdr.Iov.Len)[:m.n],
		Cut:   Truncated(int(m.hdr.Flags)),
		Group: b.infos[i].Group,
		Local: b.infos[i].Local,
	}
	if m.hdr.Namelen > 0 {
		d.From = addrPort(&b.names[i])
	}
	return d
}

// addrPort returns what a sockaddr says (ip(7), ipv6(7)). The interface that a
// link-local address is on stays there: it is the kernel's number, good for the
// way back, where the name would have to be looked up.
func addrPort(sa *unix.RawSockaddrInet6) netip.AddrPort {
	switch sa.Family {
	case unix.AF_INET:
		sa4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(sa4.Addr), hostOrder(sa4.Port))
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), hostOrder(sa.Port))
	}
	return netip.AddrPort{}
}

// hostOrder returns a port that is in network order in memory.
func hostOrder(port uint16) uint16 {
	var p [2]byte
	binary.NativeEndian.PutUint16(p[:], port)
	return binary.BigEndian.Uint16(p[:])
}

// Reply queues msg, which the next Flush sends to who sent the i-th datagram,
// from where that was sent to. It is for datagrams that Datagram has returned,
// for each once. Until the Flush msg is borrowed.
func (b *Batch) Reply(i int, msg []byte) {
	h := &b.tx[b.queued].hdr
	h.Name, h.Namelen = (*byte)(unsafe.Pointer(&b.names[i])), b.rx[i].hdr.Namelen
	h.Controllen = uint64(len(b.infos[i].AppendControl(b.txControls[b.queued][:0])))
	h.Iov.Base = unsafe.SliceData(msg)
	h.Iov.SetLen(len(msg))
	b.queued++
	b.replies++
}

// Flush sends the replies that are queued. What goes wrong with one costs that
// one: lost is called with the error. Those to one client may arrive in another
// order, for they are joined where that saves work.
func (b *Batch) Flush(lost func(error)) {
	if b.queued == 0 {
		return
	}
	out := b.joiner.join(b.tx[:b.queued])
	if n := b.queued - len(out); n > 0 {
		b.joined.Add(uint64(n))
	}
	b.queued = 0
	b.flush(out, lost)
}

// Joined returns how many replies did without a passage through the network stack
// of their own, as they went along with others to the same client. Anybody may
// ask.
func (b *Batch) Joined() uint64 { return b.joined.Load() }

// GaveWay returns how often Receive has let other programs of this machine run first,
// which might ask more. Anybody may ask.
func (b *Batch) GaveWay() uint64 { return b.way.times.Load() }

// flush sends out.
func (b *Batch) flush(out []mmsghdr, lost func(error)) {
	b.out, b.sent = out, 0
	for b.sent < len(b.out) {
		err := b.raw.Control(b.try)
		if err == nil && b.errno == unix.EAGAIN {
			err = b.await(b.wait)
		}
		switch {
		case err != nil: // closed, or no room for too long
			for ; b.sent < len(b.out); b.sent++ {
				for range b.out[b.sent].hdr.Iovlen {
					lost(err)
				}
			}
		case b.errno == 0:
			b.sent += b.n
		case b.errno == unix.EINTR:
		case isJoined(&b.out[b.sent]):
			b.apart(lost)
		default:
			lost(b.errno)
			b.sent++
		}
	}
}

// apart deals with a piece that could not be sent because of errno.
func (b *Batch) apart(lost func(error)) {
	piece, rest := &b.out[b.sent], b.out[b.sent+1:]
	b.joined.Add(-(piece.hdr.Iovlen - 1))
	if refused(b.errno) {
		b.flush(b.joiner.split(piece), lost) // none of which is joined
	} else {
		for range piece.hdr.Iovlen {
			lost(b.errno)
		}
	}
	b.out, b.sent = rest, 0
}

// tryOn sends what fits into the send buffer now. An error is that of the first
// reply (sendmmsg(2)).
func (b *Batch) tryOn(fd uintptr) { b.n, b.errno = b.sendmmsg(fd, b.out[b.sent:]) }

// waitOn is tryOn for the poller: it reports false if that has to wait.
func (b *Batch) waitOn(fd uintptr) bool {
	b.tryOn(fd)
	return b.errno != unix.EAGAIN
}

// await has send called when there is room in the send buffer, until it reports
// true. Other than a look with RawConn.Control it makes senders wait for each
// other.
func (b *Batch) await(send func(fd uintptr) bool) error {
	if err := b.conn.SetWriteDeadline(time.Now().Add(sendPatience)); err != nil {
		return err
	}
	b.room.want(b.raw)
	defer b.room.leave(b.raw)
	err := b.raw.Write(send)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return unix.EAGAIN // what it means to the caller
	}
	return err
}

// recvmmsg reads what is there, and does not wait.
func recvmmsg(fd uintptr, msgs []mmsghdr) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&msgs[0])), uintptr(len(msgs)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// awaitMessages waits for the first one in the kernel.
func awaitMessages(fd uintptr, msgs []mmsghdr) (int, syscall.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&msgs[0])), uintptr(len(msgs)), unix.MSG_WAITFORONE, 0, 0)
	return int(n), errno
}

func sendmmsg(fd uintptr, msgs []mmsghdr) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&msgs[0])), uintptr(len(msgs)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// Return is the way back to who sent a datagram.
type Return struct {
	name unix.RawSockaddrInet6
	size uint32 // of name
	info PacketInfo
}

// Return returns the way back to who sent the i-th datagram, which Datagram has
// returned.
func (b *Batch) Return(i int) Return {
	return Return{name: b.names[i], size: b.rx[i].hdr.Namelen, info: b.infos[i]}
}

// Send sends msg at once.
func (b *Batch) Send(msg []byte, to Return) error {
	if b.rawErr != nil {
		return b.rawErr
	}
	s, ok := b.sendings.Get().(*sending)
	if !ok {
		s = new(sending)
		s.once = func(fd uintptr) { s.send(fd) }
	}
	defer b.sendings.Put(s)
	s.to, s.iov.Base = to, unsafe.SliceData(msg)
	s.iov.SetLen(len(msg))
	s.hdr = unix.Msghdr{
		Name: (*byte)(unsafe.Pointer(&s.to.name)), Namelen: to.size, Iov: &s.iov, Iovlen: 1,
		Control: &s.control[0], Controllen: uint64(len(to.info.AppendControl(s.control[:0]))),
	}
	err := b.raw.Control(s.once)
	if err == nil && s.errno == unix.EAGAIN {
		err = b.await(s.send)
	}
	if err == nil && s.errno != 0 {
		err = os.NewSyscallError("sendmsg", s.errno)
	}
	s.iov.Base = nil // msg is the caller's again
	return err
}

// sending is what one call of Send needs that the kernel and the runtime want to
// be on the heap. It is used again for the next one.
type sending struct {
	to      Return
	control [ControlSize]byte
	iov     unix.Iovec
	hdr     unix.Msghdr
	errno   syscall.Errno
	once    func(fd uintptr) // send, bound once
}

// send reports whether the datagram was sent, or cannot be.
func (s *sending) send(fd uintptr) bool {
	for {
		_, _, s.errno = unix.RawSyscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&s.hdr)), unix.MSG_DONTWAIT)
		if s.errno != unix.EINTR {
			return s.errno != unix.EAGAIN
		}
	}
}
