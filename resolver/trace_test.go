package resolver

import (
	"fmt"
	"testing"
	"unsafe"

	"shirube/internal/wire"
)

// A resolution of any length is kept in so many steps: the first and the last.
func TestRecordingKeepsBothEnds(t *testing.T) {
	for _, n := range []int{0, 1, keptSteps, 2 * keptSteps, 2*keptSteps + 1, 3 * keptSteps, 10*keptSteps + 7} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			r := NewRecording()
			w := &work{trace: &r.trace, path: make([]wire.Question, 1)}
			for i := range n {
				w.tell(&moment{step: StepQuery, octets: i, marks: answered})
			}
			events, omitted := r.Events()
			if want := max(n-2*keptSteps, 0); omitted != want || len(events) != n-want {
				t.Fatalf("%d steps, and %d left out", len(events), omitted)
			}
			for i, e := range events {
				want := i
				if i >= keptSteps {
					want += omitted
				}
				if e.Octets != want {
					t.Errorf("step %d is what was told as %d; want %d", i, e.Octets, want)
				}
			}
		})
	}
}

// TestRecordingIsSmall holds what all questions in flight may have in memory for
// their steps: 10,000 of them 160 MiB, if each asks for as much as it may.
func TestRecordingIsSmall(t *testing.T) {
	if size := 2 * keptSteps * unsafe.Sizeof(moment{}); size > 16<<10 {
		t.Errorf("%d octets for a resolution", size)
	}
}
