//go:build linux && (amd64 || arm64)

package netx

import (
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// wantsRoom reports whether the runtime's poller is told of room in the send buffer
// of b.
func wantsRoom(t *testing.T, b *Batch) bool {
	t.Helper()
	var event unix.EpollEvent
	err := onFD(b.raw, func(fd int) (err error) {
		_, event, err = registration(fd)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if event.Events&unix.EPOLLIN == 0 || event.Events&unix.EPOLLET == 0 {
		t.Fatalf("events are %#x", event.Events)
	}
	return event.Events&unix.EPOLLOUT != 0
}

// TestPollerIsToldOfRoomOnlyWhenSomebodyWaits has a send find no room. It goes on as
// soon as the kernel says that there is some, which it does when something has left.
func TestPollerIsToldOfRoomOnlyWhenSomebodyWaits(t *testing.T) {
	b, at := newBatch(t, "127.0.0.1:0", BatchOptions{Loop: LoopPoller})
	if wantsRoom(t, b) {
		t.Error("the poller is told of room that nobody waits for")
	}
	calls, wanted := 0, false
	b.sendmmsg = func(fd uintptr, msgs []mmsghdr) (int, syscall.Errno) {
		switch calls++; calls {
		case 1: // the first look
			return -1, unix.EAGAIN
		case 2: // the one before it waits
			wanted = wantsRoom(t, b)
			if n, errno := sendmmsg(fd, msgs[:1]); n != 1 {
				t.Error(errno)
			}
			return -1, unix.EAGAIN
		}
		return sendmmsg(fd, msgs)
	}
	c := dialUDP(t, at)
	mustWrite(t, c, "query")
	began := time.Now()
	echo(t, b, 1, func(Datagram) {})
	for _, want := range []string{"later", "reply", "reply"} {
		wantRead(t, c, want)
	}
	if d := time.Since(began); !wanted || d >= sendPatience {
		t.Errorf("the poller was asked for room: %t; sent after %s", wanted, d)
	}
	if wantsRoom(t, b) {
		t.Error("the poller is told of room when nobody waits any more")
	}
}

// TestRoomIsAskedForUntilTheLastHasIt has two wait at a time, of a Batch and of another
// one that comes after it to the same socket.
func TestRoomIsAskedForUntilTheLastHasIt(t *testing.T) {
	b, _ := newBatch(t, "127.0.0.1:0", BatchOptions{Loop: LoopPoller})
	asksUntilTheLastHasIt(t, b)
	asksUntilTheLastHasIt(t, NewBatch(b.conn, BatchOptions{MaxMessage: 64, Loop: LoopPoller}))
}

func asksUntilTheLastHasIt(t *testing.T, b *Batch) {
	t.Helper()
	for i, step := range []struct {
		do   func(syscall.RawConn)
		want bool
	}{{b.room.want, true}, {b.room.want, true}, {b.room.leave, true}, {b.room.leave, false}, {b.room.want, true}, {b.room.leave, false}} {
		step.do(b.raw)
		if got := wantsRoom(t, b); got != step.want {
			t.Errorf("step %d: asked for: %t", i, got)
		}
	}
}

// TestReadersAreWokenThoughNobodyAsksForRoom reads long after the sends.
func TestReadersAreWokenThoughNobodyAsksForRoom(t *testing.T) {
	b, at := newBatch(t, "[::1]:0", BatchOptions{Loop: LoopPoller})
	c := dialUDP(t, at)
	for range 3 {
		// Owner: the test. End: with the write. Bound: one at a time.
		timer := time.AfterFunc(20*time.Millisecond, func() { _, _ = c.Write([]byte("query")) })
		echo(t, b, 1, func(Datagram) {})
		timer.Stop()
		wantRead(t, c, "later")
		wantRead(t, c, "reply")
	}
}

// TestParseWatched reads what kernels have written, and what they have not.
func TestParseWatched(t *testing.T) {
	const info = "pos:\t0\nflags:\t02000002\nmnt_id:\t15\nino:\t1057\n" +
		"tfd:        4 events:       19 data:          1a2b3c  pos:0 ino:421 sdev:f\n" +
		"tfd:       17 events: 8000201d data: 80007f5c2c0d8e98  pos:0 ino:8f3a sdev:8\n" +
		"tfd:       18 events: xyz data: 1\ntfd:       19 events: 1 data: g\ntfd: 20\n"
	if e, ok := parseWatched(info, 17); !ok || e.Events != 0x8000201d || uint32(e.Fd) != 0x2c0d8e98 || uint32(e.Pad) != 0x80007f5c {
		t.Errorf("%#v, %t", e, ok)
	}
	for _, fd := range []int{0, 1, 18, 19, 20} {
		if e, ok := parseWatched(info, fd); ok {
			t.Errorf("%d: %#v", fd, e)
		}
	}
}

// TestRoomIsNotTouchedOfWhatNobodyWatches does not know the descriptor.
func TestRoomIsNotTouchedOfWhatNobodyWatches(t *testing.T) {
	var r room
	c := mustListenUDP(t, netip.MustParseAddrPort("127.0.0.1:0"), 1)[0]
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := registration(1 << 20); err == nil {
		t.Error("a descriptor that there is not is watched")
	}
	r.want(raw)
	r.leave(raw)
	if r.waiting != 0 || r.epoll != 0 {
		t.Errorf("%+v", &r)
	}
}
