package health

import (
	"slices"
	"testing"
	"time"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func TestNewStateIsReady(t *testing.T) {
	var s State
	if !s.Ready(noon) || len(s.Causes()) != 0 {
		t.Errorf("not ready: %v", s.Causes())
	}
}

func TestCauseCountsAfterItsGrace(t *testing.T) {
	var s State
	s.Begin(NoRoot, "no root server answers", time.Minute, noon)
	for after, want := range map[time.Duration]bool{0: true, 59 * time.Second: true, time.Minute: false, time.Hour: false} {
		if got := s.Ready(noon.Add(after)); got != want {
			t.Errorf("after %v: ready is %v", after, got)
		}
	}
	s.End(NoRoot)
	if !s.Ready(noon.Add(time.Hour)) {
		t.Error("not ready after the cause has gone")
	}
}

func TestCauseThatGoesOnKeepsItsBeginning(t *testing.T) {
	var s State
	s.Begin(NoRoot, "silence", time.Minute, noon)
	s.Begin(NoRoot, "still silence", time.Minute, noon.Add(50*time.Second))
	want := []Cause{{Code: NoRoot, Text: "still silence", Since: noon, Grace: time.Minute}}
	if got := s.Causes(); !slices.Equal(got, want) {
		t.Errorf("found %v; want %v", got, want)
	}
}

func TestCausesAreIndependent(t *testing.T) {
	var s State
	s.Begin(NoRoot, "", time.Minute, noon)
	s.Begin(Draining, "", 0, noon)
	before := s.Causes()
	if s.Ready(noon) {
		t.Error("ready while draining")
	}
	s.End(Draining)
	if !s.Ready(noon) {
		t.Error("not ready, for a cause that does not count yet")
	}
	if len(before) != 2 || before[0].Code != Draining {
		t.Errorf("what was read before has changed: %v", before)
	}
}

func TestReadyAllocatesNothing(t *testing.T) {
	var s State
	s.Begin(NoRoot, "", time.Minute, noon)
	if n := testing.AllocsPerRun(100, func() { s.Ready(noon) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
