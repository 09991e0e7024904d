//go:build !race

package daemon

import (
	"runtime/debug"
	"syscall"
	"testing"
)

// faults returns how often the system has to give memory while n octets are
// allocated that stay, and written to.
func faults(t *testing.T, n int) int64 {
	t.Helper()
	var before, after syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
		t.Fatal(err)
	}
	for range n / 1024 {
		b := make([]byte, 1024)
		b[0] = 1
		live = append(live, b)
	}
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
		t.Fatal(err)
	}
	return after.Minflt - before.Minflt
}

var live = make([][]byte, 0, 4*fetchedHeap/1024)

// TestHeapIsThereBeforeItIsNeeded compares what was fetched with what was not.
func TestHeapIsThereBeforeItIsNeeded(t *testing.T) {
	if !alone(t) {
		return
	}
	defer PaceGarbage()()
	debug.SetGCPercent(-1)
	fetched, beyond := faults(t, fetchedHeap*3/4), faults(t, fetchedHeap*3/2)
	if fetched*8 > beyond { // half as many pages
		t.Errorf("%d faults within what was fetched, %d beyond, which is twice as much", fetched, beyond)
	}
}
