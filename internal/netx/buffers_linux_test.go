package netx

import (
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestBuffersAreAsLargeAsAskedFor(t *testing.T) {
	c := mustListenUDP(t, loopbackPorts[0], 1)[0]
	before := getsockopt(t, c, unix.SOL_SOCKET, unix.SO_SNDBUF)
	short, err := SetBuffers(c, Buffers{Receive: 100_000})
	if err != nil || len(short) != 0 {
		t.Errorf("%v, %v", short, err)
	}
	if n := getsockopt(t, c, unix.SOL_SOCKET, unix.SO_RCVBUF); n != 200_000 { // socket(7): doubled
		t.Errorf("receive buffer of %d", n)
	}
	if n := getsockopt(t, c, unix.SOL_SOCKET, unix.SO_SNDBUF); n != before {
		t.Errorf("send buffer of %d, before %d", n, before)
	}
}

// powerless runs f without the capability to go beyond the system's limits.
func powerless(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		err := unix.Capset(&header, &none[0])
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestBuffersThatTheSystemLimitsAreReported(t *testing.T) {
	c := mustListenUDP(t, loopbackPorts[1], 1)[0]
	const want = 1 << 30 // more than anybody allows
	powerless(t, func() {
		short, err := SetBuffers(c, Buffers{Receive: want, Send: want})
		if err != nil || len(short) != 2 {
			t.Errorf("%v, %v", short, err)
			return
		}
		for i, limit := range []string{"net.core.rmem_max", "net.core.wmem_max"} {
			s := short[i]
			if s.Want != want || s.Got <= 0 || s.Got >= want || s.Limit != limit {
				t.Errorf("%+v", s)
			}
			if r := s.Remedy(); r != "sysctl -w "+limit+"=1073741824" {
				t.Error(r)
			}
		}
	})
	if r := (Shortfall{Buffer: "send"}).Remedy(); strings.Contains(r, "sysctl") {
		t.Error(r)
	}
}

func TestOverflowCountsWhatTheKernelThrewAway(t *testing.T) {
	c := mustListenUDP(t, loopbackPorts[0], 1)[0]
	if _, err := SetBuffers(c, Buffers{Receive: 4096}); err != nil {
		t.Fatal(err)
	}
	client := dialUDP(t, addrOf(c))
	const all = 100
	for range all {
		mustWrite(t, client, strings.Repeat("x", 500))
	}
	lost, err := Overflow(c)
	if err != nil || lost == 0 {
		t.Fatalf("%d, %v", lost, err)
	}
	if got := drain(t, c); got+int(lost) != all {
		t.Errorf("%d came and %d were lost of %d", got, lost, all)
	}
	_ = c.Close()
	if _, err := Overflow(c); err == nil {
		t.Error("a closed socket has a count")
	}
}

func TestBuffersGoBackToTheSystems(t *testing.T) {
	c := mustListenUDP(t, loopbackPorts[0], 1)[0]
	sizes := func() [2]int {
		return [2]int{getsockopt(t, c, unix.SOL_SOCKET, unix.SO_RCVBUF), getsockopt(t, c, unix.SOL_SOCKET, unix.SO_SNDBUF)}
	}
	before := sizes()
	if _, err := SetBuffers(c, Buffers{Receive: 50_000, Send: 60_000}); err != nil || sizes() != [2]int{100_000, 120_000} {
		t.Fatalf("%v, %v", sizes(), err)
	}
	system, err := SystemBuffers()
	if err != nil {
		t.Fatal(err)
	}
	if short, err := SetBuffers(c, system); err != nil || len(short) > 0 || sizes() != before {
		t.Errorf("%v, at first %v; %v, %v", sizes(), before, short, err)
	}
}
