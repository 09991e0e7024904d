package netx

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// batches is whether this system has any.
var batches = runtime.GOOS == "linux" && (runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64")

// eachLoop runs f for both loops.
func eachLoop(t *testing.T, f func(t *testing.T, loop Loop)) {
	t.Helper()
	for _, loop := range []Loop{LoopPoller, LoopBlocking} {
		t.Run(loop.String(), func(t *testing.T) { f(t, loop) })
	}
}

// newBatch returns a Batch that the test's goroutine uses, and where it listens.
func newBatch(t *testing.T, listen string, opt BatchOptions) (*Batch, netip.AddrPort) {
	t.Helper()
	c := mustListenUDP(t, netip.MustParseAddrPort(listen), 1)[0]
	opt.MaxMessage = 64
	b := NewBatch(c, opt)
	b.Attach()
	t.Cleanup(b.Detach)
	return b, addrOf(c)
}

// dialUDP returns a socket that takes datagrams from to only.
func dialUDP(t *testing.T, to netip.AddrPort) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	return c
}

func mustWrite(t *testing.T, c net.Conn, msg string) {
	t.Helper()
	if _, err := c.Write([]byte(msg)); err != nil {
		t.Fatal(err)
	}
}

func wantRead(t *testing.T, c net.Conn, want string) {
	t.Helper()
	var b [128]byte
	if n, err := c.Read(b[:]); err != nil || string(b[:n]) != want {
		t.Errorf("got %q, %v; want %q", b[:n], err, want)
	}
}

func TestBatchBringsAllThatWaits(t *testing.T) {
	eachLoop(t, func(t *testing.T, loop Loop) {
		b, at := newBatch(t, "127.0.0.1:0", BatchOptions{Size: 32, Loop: loop})
		const all = 40
		clients := make([]*net.UDPConn, all)
		for i := range clients {
			clients[i] = dialUDP(t, at)
			mustWrite(t, clients[i], fmt.Sprint(i))
		}
		calls := 0
		for next := 0; next < all; calls++ {
			n, err := b.Receive()
			if err != nil {
				t.Fatal(err)
			}
			for i := range n {
				d := b.Datagram(i)
				if string(d.Msg) != fmt.Sprint(next) || d.From != addrOf(clients[next]) || d.Cut || d.Group {
					t.Errorf("%q from %s, not %d from %s", d.Msg, d.From, next, addrOf(clients[next]))
				}
				if next%3 != 0 { // not everybody is answered
					b.Reply(i, []byte(fmt.Sprint("re ", next)))
				}
				next++
			}
			b.Flush(func(err error) { t.Error(err) })
		}
		if batches && calls != 2 {
			t.Errorf("%d datagrams took %d calls", all, calls)
		}
		for i, c := range clients {
			if i%3 != 0 {
				wantRead(t, c, fmt.Sprint("re ", i))
			}
		}
	})
}

// echo sends n datagrams back, each half of them in another way, and fails the
// test for those that want says are wrong.
func echo(t *testing.T, b *Batch, n int, want func(d Datagram)) {
	t.Helper()
	for n > 0 {
		got, err := b.Receive()
		if err != nil {
			t.Fatal(err)
		}
		for i := range got {
			d := b.Datagram(i)
			want(d)
			b.Reply(i, []byte("reply"))
			if err := b.Send([]byte("later"), b.Return(i)); err != nil {
				t.Error(err)
			}
		}
		b.Flush(func(err error) { t.Error(err) })
		n -= got
	}
}

// hostAddrs returns the addresses that this host has, and more on loopback.
func hostAddrs(t *testing.T) (addrs []netip.Addr) {
	t.Helper()
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range interfaces {
		own, err := i.Addrs()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range own {
			addr := netip.MustParsePrefix(a.String()).Addr()
			if addr.IsLinkLocalUnicast() && addr.Is6() {
				addr = addr.WithZone(i.Name) // RFC 4007 §6
			}
			addrs = append(addrs, addr)
		}
	}
	return append(addrs, netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.1.2.3"))
}

// The clients are connected, and take datagrams only from the address that they
// asked. All of them are in one batch.
func TestBatchRepliesFromTheAddressThatWasAsked(t *testing.T) {
	eachLoop(t, func(t *testing.T, loop Loop) {
		for _, listen := range []string{"0.0.0.0:0", "[::]:0"} {
			b, at := newBatch(t, listen, BatchOptions{Loop: loop})
			from := make(map[netip.AddrPort]*net.UDPConn)
			for _, a := range hostAddrs(t) {
				if a.Is4() != at.Addr().Is4() {
					continue
				}
				c := dialUDP(t, netip.AddrPortFrom(a, at.Port()))
				mustWrite(t, c, "query")
				from[netip.AddrPortFrom(addrOf(c).Addr().WithZone(""), addrOf(c).Port())] = c
			}
			echo(t, b, len(from), func(d Datagram) {
				if from[d.From] == nil {
					t.Errorf("a datagram from %s", d.From)
				}
			})
			for _, c := range from {
				wantRead(t, c, "later")
				wantRead(t, c, "reply")
			}
		}
	})
}

func TestBatchSaysWhatWasCut(t *testing.T) {
	eachLoop(t, func(t *testing.T, loop Loop) {
		b, at := newBatch(t, "127.0.0.1:0", BatchOptions{Loop: loop})
		c := dialUDP(t, at)
		for _, size := range []int{64, 65, 0, 1} {
			mustWrite(t, c, strings.Repeat("x", size))
		}
		want := []int{64, 64, 0, 1}
		echo(t, b, len(want), func(d Datagram) {
			if len(d.Msg) != want[0] || d.Cut != (len(want) == 3) {
				t.Errorf("%d octets, cut %v; want %d", len(d.Msg), d.Cut, want[0])
			}
			want = want[1:]
		})
	})
}

func TestBatchKnowsGroups(t *testing.T) {
	eachLoop(t, func(t *testing.T, loop Loop) {
		b, at := newBatch(t, "0.0.0.0:0", BatchOptions{Loop: loop})
		c := dialUDP(t, netip.AddrPortFrom(netip.MustParseAddr("127.255.255.255"), at.Port()))
		mustWrite(t, c, "query")
		if n, err := b.Receive(); n != 1 || err != nil || !b.Datagram(0).Group {
			t.Errorf("%d datagrams, %v: not to a group", n, err)
		}
	})
}

func TestBatchAllocatesNothing(t *testing.T) {
	eachLoop(t, func(t *testing.T, loop Loop) {
		for listen, ask := range map[string]string{"127.0.0.1:0": "127.0.0.1", "[::1]:0": "::1", "0.0.0.0:0": "127.0.0.7", "[::]:0": "::1"} {
			b, at := newBatch(t, listen, BatchOptions{Loop: loop})
			c := dialUDP(t, netip.AddrPortFrom(netip.MustParseAddr(ask), at.Port()))
			query, reply, buf := []byte("query"), []byte("reply"), make([]byte, 64)
			lost := func(err error) { t.Error(err) }
			exchange := func() {
				for range 3 {
					if _, err := c.Write(query); err != nil {
						t.Fatal(err)
					}
				}
				for got := 0; got < 3; {
					n, err := b.Receive()
					if err != nil {
						t.Fatal(err)
					}
					for i := range n {
						if d := b.Datagram(i); len(d.Msg) != len(query) {
							t.Fatal(d)
						}
						b.Reply(i, reply)
					}
					b.Flush(lost)
					got += n
				}
				for range 3 {
					if _, err := c.Read(buf); err != nil {
						t.Fatal(err)
					}
				}
			}
			exchange()
			if n := testing.AllocsPerRun(500, exchange); n != 0 {
				t.Errorf("%s: %v allocations", listen, n)
			}
		}
	})
}

// A thread that waits in the kernel looks around once a second, interrupted or not:
// one try of some has to be quicker than that, however busy the machine is.
func TestBatchInterruptEndsReceive(t *testing.T) {
	eachLoop(t, func(t *testing.T, loop Loop) {
		const tries, atOnce = 8, 300 * time.Millisecond
		best := interrupted(t, loop)
		for n := 1; n < tries && best > atOnce; n++ {
			best = min(best, interrupted(t, loop))
		}
		if best > atOnce {
			t.Errorf("it took %s, the quickest of %d times", best, tries)
		}
	})
}

// interrupted returns how long it takes to end a Receive, and another one.
func interrupted(t *testing.T, loop Loop) time.Duration {
	t.Helper()
	c := mustListenUDP(t, netip.MustParseAddrPort("127.0.0.1:0"), 1)[0]
	b := NewBatch(c, BatchOptions{MaxMessage: 64, Loop: loop})
	done := make(chan error)
	go func() { // ends by Interrupt
		b.Attach()
		defer b.Detach()
		_, err := b.Receive()
		done <- err
		_, err = b.Receive()
		done <- err
	}()
	time.Sleep(10 * time.Millisecond)
	began := time.Now()
	b.Interrupt()
	for range 2 {
		if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	}
	return time.Since(began)
}
