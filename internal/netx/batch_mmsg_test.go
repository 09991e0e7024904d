//go:build linux && (amd64 || arm64)

package netx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What goes wrong with some replies must not cost the others.
func TestFlushLosesOnlyWhatCannotBeSent(t *testing.T) {
	type result struct {
		n     int
		errno syscall.Errno
	}
	refuse := func(errno syscall.Errno) result { return result{-1, errno} }
	tests := []struct {
		name    string
		results []result // of the first system calls; those after succeed
		lost    []error
		missing []int // of the replies
	}{
		{"in pieces", []result{{3, 0}, {1, 0}}, nil, nil},
		{"interrupted", []result{{2, 0}, refuse(unix.EINTR), refuse(unix.EINTR)}, nil, nil},
		{"no memory", []result{{2, 0}, refuse(unix.ENOBUFS)}, []error{unix.ENOBUFS}, []int{2}},
		{"the first", []result{refuse(unix.EPERM)}, []error{unix.EPERM}, []int{0}},
		{"the last", []result{{7, 0}, refuse(unix.EHOSTUNREACH)}, []error{unix.EHOSTUNREACH}, []int{7}},
		{
			"several",
			[]result{refuse(unix.EMSGSIZE), refuse(unix.EPERM), {1, 0}, refuse(unix.ENOBUFS)},
			[]error{unix.EMSGSIZE, unix.EPERM, unix.ENOBUFS},
			[]int{0, 1, 3},
		},
		{"no room", []result{{2, 0}, refuse(unix.EAGAIN)}, nil, nil},
	}
	for _, tt := range tests {
		eachLoop(t, func(t *testing.T, loop Loop) {
			b, at := newBatch(t, "127.0.0.1:0", BatchOptions{Loop: loop})
			b.joiner.apart = 1 // each on its own
			results := tt.results
			b.sendmmsg = func(fd uintptr, msgs []mmsghdr) (int, syscall.Errno) {
				if len(results) == 0 {
					return sendmmsg(fd, msgs)
				}
				r := results[0]
				results = results[1:]
				if r.errno != 0 {
					return r.n, r.errno
				}
				return sendmmsg(fd, msgs[:r.n])
			}
			const all = 8
			c := dialUDP(t, at)
			for range all {
				mustWrite(t, c, "query")
			}
			if n, err := b.Receive(); n != all || err != nil {
				t.Fatal(n, err)
			}
			for i := range all {
				b.Datagram(i)
				b.Reply(i, []byte(fmt.Sprint(i)))
			}
			var lost []error
			b.Flush(func(err error) { lost = append(lost, err) })
			if !slices.Equal(lost, tt.lost) {
				t.Errorf("%s: lost %v, want %v", tt.name, lost, tt.lost)
			}
			for i := range all {
				if !slices.Contains(tt.missing, i) {
					wantRead(t, c, fmt.Sprint(i))
				}
			}
		})
	}
}

func TestFlushGivesUpWhenThereIsNoRoom(t *testing.T) {
	eachLoop(t, func(t *testing.T, loop Loop) {
		b, at := newBatch(t, "127.0.0.1:0", BatchOptions{Loop: loop})
		b.sendmmsg = func(uintptr, []mmsghdr) (int, syscall.Errno) { return -1, unix.EAGAIN }
		c := dialUDP(t, at)
		for range 2 { // the second time, the deadline of the first has passed
			for range 3 {
				mustWrite(t, c, "query")
			}
			if n, err := b.Receive(); n != 3 || err != nil {
				t.Fatal(n, err)
			}
			for i := range 3 {
				b.Datagram(i)
				b.Reply(i, []byte("lost"))
			}
			began, lost := time.Now(), 0
			b.Flush(func(err error) {
				if lost++; !errors.Is(err, unix.EAGAIN) {
					t.Error(err)
				}
			})
			if d := time.Since(began); lost != 3 || d < sendPatience || d > 100*sendPatience {
				t.Errorf("%d lost after %s", lost, d)
			}
		}
		b.sendmmsg = sendmmsg
		mustWrite(t, c, "query")
		echo(t, b, 1, func(Datagram) {})
		wantRead(t, c, "later")
	})
}

// listenBoth returns a socket that takes IPv4 datagrams as well as IPv6 ones, as
// one that was opened elsewhere may.
func listenBoth(t *testing.T) *net.UDPConn {
	t.Helper()
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		return onFD(rc, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1) })
	}}
	pc, err := lc.ListenPacket(context.Background(), "udp", "[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pc.Close() })
	return pc.(*net.UDPConn)
}

func TestBatchTakesIPv4OnIPv6Sockets(t *testing.T) {
	c := listenBoth(t)
	b := NewBatch(c, BatchOptions{MaxMessage: 64})
	for _, a := range []string{"127.0.0.1", "127.0.0.2", "::1"} {
		client := dialUDP(t, netip.AddrPortFrom(netip.MustParseAddr(a), addrOf(c).Port()))
		mustWrite(t, client, "query")
		echo(t, b, 1, func(d Datagram) {
			if d.From != addrOf(client) {
				t.Errorf("from %s, not %s", d.From, addrOf(client))
			}
		})
		wantRead(t, client, "later")
		wantRead(t, client, "reply")
	}
}

// lookAroundAfter has a thread that waits for c in the kernel look around only after d.
func lookAroundAfter(t *testing.T, c *net.UDPConn, d time.Duration) {
	t.Helper()
	rc, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	timeout := unix.NsecToTimeval(int64(d))
	if err := onFD(rc, func(fd int) error { return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout) }); err != nil {
		t.Fatal(err)
	}
}

// Interrupt may come at any moment, also between a look at the deadline and the
// system call.
func TestBatchInterruptIsNeverMissed(t *testing.T) {
	eachLoop(t, func(t *testing.T, loop Loop) {
		var slow int
		for i := range 300 {
			c := mustListenUDP(t, netip.MustParseAddrPort("127.0.0.1:0"), 1)[0]
			b := NewBatch(c, BatchOptions{MaxMessage: 64, Loop: loop})
			lookAroundAfter(t, c, time.Minute)
			done := make(chan error, 1)
			go func() { // ends by Interrupt
				b.Attach()
				defer b.Detach()
				_, err := b.Receive()
				done <- err
			}()
			time.Sleep(time.Duration(i) * time.Microsecond)
			began := time.Now()
			b.Interrupt()
			if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			if time.Since(began) > 30*time.Second {
				slow++
			}
			_ = c.Close()
		}
		if slow > 0 {
			t.Errorf("%d of 300 were waited for", slow)
		}
	})
}

func TestBatchOfClosedSocketFails(t *testing.T) {
	eachLoop(t, func(t *testing.T, loop Loop) {
		c := mustListenUDP(t, netip.MustParseAddrPort("127.0.0.1:0"), 1)[0]
		_ = c.Close()
		b := NewBatch(c, BatchOptions{MaxMessage: 64, Loop: loop})
		b.Attach()
		defer b.Detach()
		if _, err := b.Receive(); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		b.Interrupt()
		if err := b.Send([]byte("x"), Return{}); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}
