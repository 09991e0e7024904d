package daemon

import (
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

// collections returns how often garbage is collected while n octets of it are
// made.
func collections(n int) uint32 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const piece = 16 << 10 // few are made sooner, above all under the race detector
	for range n / piece {
		kept = make([]byte, piece)
	}
	runtime.ReadMemStats(&after)
	return after.NumGC - before.NumGC
}

var kept []byte

// alone runs the test that calls it in a process of its own, as other tests leave
// memory, and reports whether this is that process.
func alone(t *testing.T) bool {
	t.Helper()
	const child = "SHIRUBE_TEST_ALONE"
	if os.Getenv(child) != "" {
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), child+"=1", "GOGC=", "GOMEMLIMIT=")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v: %s", err, out)
	}
	return false
}

func TestGarbageIsCollectedAfterLeastGarbage(t *testing.T) {
	if !alone(t) {
		return
	}
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
		{0, 32 << 20, 800},
		{1 << 20, 32 << 20, 800}, // of 4 MiB, whatever lives
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
