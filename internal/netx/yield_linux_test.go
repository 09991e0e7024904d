package netx

import (
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// TestYieldLetsThoseRunForWhomPacketsHaveCome has one processor's place, and one
// goroutine that always has something to do.
func TestYieldLetsThoseRunForWhomPacketsHaveCome(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var read atomic.Int64
	waits := make(chan struct{})
	// Owner: the test. End: when c is closed. Bound: one.
	go func() {
		close(waits)
		for b := make([]byte, 16); ; read.Add(1) {
			if _, err := c.Read(b); err != nil {
				return
			}
		}
	}()
	<-waits
	y := NewYield()
	defer y.Close()
	y.Wait() // the goroutine waits for packets
	out := dialUDP(t, c.LocalAddr().(*net.UDPAddr).AddrPort())
	const rounds = 200
	waited := 0
	for i := range int64(rounds) {
		mustWrite(t, out, "packet")
		for until := time.Now().Add(10 * time.Second); read.Load() <= i; waited++ {
			if time.Now().After(until) {
				t.Fatal("a packet was never seen")
			}
			y.Wait()
		}
	}
	if waited > rounds+rounds/10 { // another thread may have been told first, now and then
		t.Errorf("it took %d times for %d packets", waited, rounds)
	}
}

func TestYieldAllocatesNothing(t *testing.T) {
	y := NewYield()
	defer y.Close()
	if n := testing.AllocsPerRun(100, y.Wait); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestYieldIsEnoughWithoutADescriptor(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var y Yield
	var ran atomic.Bool
	// Owner: the test. End: at once. Bound: one.
	go func() { ran.Store(true) }()
	for range 100 { // one is enough but for each 61st turn of the scheduler
		y.Wait()
	}
	y.Close()
	if !ran.Load() {
		t.Error("nobody else has run")
	}
}
