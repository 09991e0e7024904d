package daemon

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"
)

// collections returns how often garbage is collected while n octets of it are
// made.
func collections(n int) uint32 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range n / 1024 {
		kept = make([]byte, 1024)
	}
	runtime.ReadMemStats(&after)
	return after.NumGC - before.NumGC
}

var kept []byte

func TestGarbageIsCollectedAfterLeastGarbage(t *testing.T) {
	t.Setenv("GOGC", "")
	limit := debug.SetMemoryLimit(math.MaxInt64) // that of another test, maybe
	defer debug.SetMemoryLimit(limit)
	stop := PaceGarbage()
	runtime.GC() // now the pace is that of what lives
	paced := collections(20 * leastGarbage)
	stop()
	runtime.GC()
	if unpaced := collections(20 * leastGarbage); paced > 30 || 3*unpaced < 4*paced { // a little oftener than asked for: the collector begins early
		t.Errorf("%d collections, %d without the pace", paced, unpaced)
	}
	if got := debug.SetGCPercent(100); got != 100 {
		t.Errorf("GOGC is %d afterwards", got)
	}
}

func TestOperatorsPaceOfGarbageCounts(t *testing.T) {
	t.Setenv("GOGC", "50")
	before := debug.SetGCPercent(50)
	defer debug.SetGCPercent(before)
	defer PaceGarbage()()
	if got := debug.SetGCPercent(50); got != 50 {
		t.Errorf("GOGC became %d", got)
	}
}

func TestGarbageIsAFewPercentOfALargeHeap(t *testing.T) {
	for _, tt := range []struct {
		live, least uint64
		want        int
	}{
		{0, 32 << 20, 3200},
		{4 << 20, 32 << 20, 800},
		{32 << 20, 32 << 20, 100},
		{10 << 30, 32 << 20, 100},
		{64 << 20, 4 << 20, 100},
	} {
		if got := garbagePercent(tt.live, tt.least); got != tt.want {
			t.Errorf("%d octets live: %d %%, want %d", tt.live, got, tt.want)
		}
	}
}
