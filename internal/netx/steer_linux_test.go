package netx

import (
	"errors"
	"net"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// spread sends n datagrams from one port, and returns how many each of the
// sockets got.
func spread(t *testing.T, conns []*net.UDPConn, n int) []int {
	t.Helper()
	c := dialUDP(t, addrOf(conns[0]))
	for range n {
		mustWrite(t, c, "x")
	}
	got := make([]int, len(conns))
	for i := range conns {
		got[i] = drain(t, conns[i])
		n -= got[i]
	}
	if n != 0 {
		t.Errorf("%d datagrams are missing: %v", n, got)
	}
	return got
}

// A front proxy looks like one client.
func TestSteeringAtRandomSpreadsOneClient(t *testing.T) {
	for _, listen := range loopbackPorts {
		conns := mustListenUDP(t, listen, 4)
		busy := 0
		for _, n := range spread(t, conns, 50) {
			busy += min(n, 1)
		}
		if busy != 1 {
			t.Errorf("without steering %d sockets served one client", busy)
		}
		if err := Steer(conns, SteerRandom); err != nil {
			t.Fatal(err)
		}
		for i, n := range spread(t, conns, 200) {
			if n == 0 { // once in 10^24 runs
				t.Errorf("socket %d of %s got nothing", i, listen)
			}
		}
	}
}

// On loopback a datagram comes in on the CPU that sent it.
func TestSteeringByCPU(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.SchedSetaffinity(0, &before) }()
	for _, listen := range loopbackPorts {
		conns := mustListenUDP(t, listen, 2)
		if err := Steer(conns, SteerByCPU); err != nil {
			t.Fatal(err)
		}
		for cpu := range 1024 {
			if !before.IsSet(cpu) {
				continue
			}
			var one unix.CPUSet
			one.Set(cpu)
			if err := unix.SchedSetaffinity(0, &one); err != nil {
				t.Fatal(err)
			}
			if got := spread(t, conns, 20); got[cpu%2] != 20 {
				t.Errorf("from CPU %d: %v", cpu, got)
			}
		}
	}
}

func TestSteeringOutlivesASocket(t *testing.T) {
	conns := mustListenUDP(t, loopbackPorts[0], 3)
	if err := Steer(conns, SteerRandom); err != nil {
		t.Fatal(err)
	}
	_ = conns[0].Close()
	spread(t, conns[1:], 100)
}

func TestSteeringNeedsNothingForOneSocket(t *testing.T) {
	conns := mustListenUDP(t, loopbackPorts[0], 1)
	_ = conns[0].Close()
	for _, s := range []Steering{SteerByClient, SteerRandom, SteerByCPU} {
		if err := Steer(conns, s); err != nil {
			t.Error(err)
		}
	}
	if err := Steer(append(conns, conns[0]), SteerRandom); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed sockets: %v", err)
	}
}

// A proxy has gone, or clients are to stay with their sockets again.
func TestSteeringEnds(t *testing.T) {
	for _, listen := range loopbackPorts {
		conns := mustListenUDP(t, listen, 4)
		if err := Steer(conns, SteerByClient); err != nil {
			t.Errorf("there was none: %v", err)
		}
		for _, s := range []Steering{SteerRandom, SteerByClient} {
			if err := Steer(conns, s); err != nil {
				t.Fatal(err)
			}
		}
		busy := 0
		for _, n := range spread(t, conns, 50) {
			busy += min(n, 1)
		}
		if busy != 1 {
			t.Errorf("%d sockets served one client", busy)
		}
	}
}
