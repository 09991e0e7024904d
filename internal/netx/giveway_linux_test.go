//go:build linux && (amd64 || arm64)

package netx

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Who asks much from this machine is let run before the reader goes on, and asks more
// meanwhile.
func TestReceiveGivesWayToWhoAsksMuchFromHere(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:0", "[::1]:0"} {
		b, c := busyBatch(t, listen)
		exchange(t, b, c, givenFrom, givenFrom)
		gave := 0
		b.way.yield = func() { gave++; mustWrite(t, c, "more") }
		if n, err := b.Receive(); n != 1 || err != nil || gave != 1 || b.GaveWay() != 1 {
			t.Errorf("%s: received %d, %v, and gave way %d times, %d counted; want 1 and once", listen, n, err, gave, b.GaveWay())
		}
	}
}

// What comes over a network waits for nobody's processor, and what was not answered
// is to be dealt with by this process.
func TestReceiveGivesNoWayWhereNobodyAsksMore(t *testing.T) {
	for _, tt := range []struct {
		name          string
		asked, served int
		change        func(b *Batch)
	}{
		{"switched off", givenFrom, givenFrom, func(b *Batch) { b.way.on = false }},
		{"as many as there is room for", busyRoom, busyRoom, func(*Batch) {}},
		{"few", givenFrom - 1, givenFrom - 1, func(*Batch) {}},
		{"one of them a miss", givenFrom, givenFrom - 1, func(*Batch) {}},
		{"from elsewhere", givenFrom, givenFrom, func(b *Batch) {
			(*unix.RawSockaddrInet4)(unsafe.Pointer(&b.names[givenFrom-1])).Addr = [4]byte{192, 0, 2, 1}
		}},
		{"it took long a moment ago", givenFrom, givenFrom, func(b *Batch) { b.way.until = time.Now().Add(time.Minute) }},
	} {
		b, c := busyBatch(t, "127.0.0.1:0")
		exchange(t, b, c, tt.asked, tt.served)
		tt.change(b)
		b.way.yield = func() { t.Errorf("%s: gave way", tt.name) }
		wantNothing(t, b)
		if n := b.GaveWay(); n != 0 {
			t.Errorf("%s: gave way %d times", tt.name, n)
		}
	}
}

// Way is given once for a batch, whatever has come of it; and also when somebody has
// looked for more since.
func TestReceiveGivesWayOnceForABatch(t *testing.T) {
	for _, polls := range []int{0, 2} {
		b, c := busyBatch(t, "127.0.0.1:0")
		exchange(t, b, c, givenFrom, givenFrom)
		gave := 0
		b.way.yield = func() { gave++ }
		for range polls {
			if n, err := b.Poll(); n != 0 || err != nil {
				t.Fatal(n, err)
			}
		}
		wantNothing(t, b)
		wantNothing(t, b)
		if gave != 1 {
			t.Errorf("after %d polls: gave way %d times, want once", polls, gave)
		}
	}
}

// A stranger who computes something has the processor for a small share of the time
// at most.
func TestGivingWayToWhoDoesNotStopIsRare(t *testing.T) {
	var took time.Duration
	g := giveWay{on: true, yield: func() { time.Sleep(took) }}
	local := unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: netip.IPv6Loopback().As16()}
	for _, tt := range []struct {
		took  time.Duration
		pause bool
	}{{0, false}, {2 * givenMost, true}} {
		took, g.until = tt.took, time.Time{}
		g.after(givenFrom, givenFrom+1, givenFrom, &local)
		begin := time.Now()
		before := g.times.Load()
		g.give()
		if g.times.Load() == before {
			t.Fatal("gave no way")
		}
		lost := time.Since(begin)
		g.after(givenFrom, givenFrom+1, givenFrom, &local)
		// The machine may have made a yield long that is not.
		if pause := time.Until(g.until) > 0; pause != tt.pause && lost < givenMost {
			t.Errorf("after %v: pauses %v, want %v", lost, pause, tt.pause)
		}
		if tt.pause {
			if rest := time.Until(g.until); rest < (givenShare-8)*tt.took {
				t.Errorf("after %v: gives no way for %v", lost, rest)
			}
			g.give()
		}
	}
	g.until = time.Now()
	g.after(givenFrom, givenFrom+1, givenFrom, &local)
	if g.give(); g.times.Load() != 3 {
		t.Errorf("gave way %d times, want 3: twice, and when the pause was over", g.times.Load())
	}
}

func TestWhatIsThisMachine(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1": true, "127.3.2.1": true, "128.0.0.1": false, "192.0.2.1": false,
	} {
		sa := unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: netip.MustParseAddr(addr).As4()}
		var any6 unix.RawSockaddrInet6
		*(*unix.RawSockaddrInet4)(unsafe.Pointer(&any6)) = sa
		if got := isLoopback(&any6); got != want {
			t.Errorf("%s: %v, want %v", addr, got, want)
		}
	}
	for addr, want := range map[string]bool{
		"::1": true, "::ffff:127.0.0.1": true, "::ffff:192.0.2.1": false, "2001:db8::1": false, "::": false, "fe80::1": false,
	} {
		sa := unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: netip.MustParseAddr(addr).As16()}
		if got := isLoopback(&sa); got != want {
			t.Errorf("%s: %v, want %v", addr, got, want)
		}
	}
	if isLoopback(new(unix.RawSockaddrInet6)) {
		t.Error("who has no address is this machine")
	}
}

// busyBatch returns a Batch that waits by Go's poller, and a client.
func busyBatch(t *testing.T, listen string) (*Batch, *net.UDPConn) {
	t.Helper()
	b, at := newBatch(t, listen, BatchOptions{Size: busyRoom, GiveWay: true})
	return b, dialUDP(t, at)
}

// busyRoom is how many datagrams the batches of busyBatch have room for.
const busyRoom = givenFrom + 2

// exchange has c ask, and be answered by b, as many times.
func exchange(t *testing.T, b *Batch, c *net.UDPConn, asked, answered int) {
	t.Helper()
	for range asked {
		mustWrite(t, c, "query")
	}
	if n, err := b.Receive(); n != asked || err != nil {
		t.Fatal(n, err)
	}
	for i := range answered {
		b.Datagram(i)
		b.Reply(i, []byte("answer"))
	}
	b.Flush(func(err error) { t.Error(err) })
	for range answered {
		wantRead(t, c, "answer")
	}
}

// wantNothing has b wait for a moment, in vain.
func wantNothing(t *testing.T, b *Batch) {
	t.Helper()
	if err := b.conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Receive(); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("received %d, %v", n, err)
	}
}
