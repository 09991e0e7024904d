package prefetch

import (
	"testing"
	"unsafe"
)

// TestLineTakesAnyAddress has what was never memory fetched, which would end the
// program if it were read.
func TestLineTakesAnyAddress(t *testing.T) {
	words := [16]uint64{1, 2, 3}
	before := words
	for _, p := range []uintptr{0, 1, 1 << 40, ^uintptr(0), uintptr(unsafe.Pointer(&words[0]))} {
		Line(p)
	}
	if words != before {
		t.Errorf("%d became %d", before, words)
	}
	if allocs := testing.AllocsPerRun(100, func() { Line(uintptr(unsafe.Pointer(&words[0]))) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}
