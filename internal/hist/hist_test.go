package hist

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

func TestBoundsGrowByHalvesOfOctaves(t *testing.T) {
	for i := 1; i < NumBounds; i++ {
		ratio := float64(Bound(i)) / float64(Bound(i-1))
		if ratio < 1.33 || ratio > 1.51 {
			t.Errorf("bounds %d and %d are %v and %v", i-1, i, Bound(i-1), Bound(i))
		}
	}
	if first, last := Bound(0), Bound(NumBounds-1); first != time.Microsecond || last < 16*time.Second {
		t.Errorf("bounds from %v to %v", first, last)
	}
}

// Every bucket holds what is longer than the bound before it, and not than its
// own.
func TestDurationsAreInTheBucketOfTheirBound(t *testing.T) {
	check := func(d time.Duration) {
		t.Helper()
		want := 0
		for want < NumBounds && d > Bound(want) {
			want++
		}
		if got := Index(d); got != want {
			t.Errorf("%v is in bucket %d; want %d", d, got, want)
		}
	}
	for i := range NumBounds {
		check(Bound(i) - 1)
		check(Bound(i))
		check(Bound(i) + 1)
	}
	for range 10_000 {
		check(time.Duration(rand.Int64N(1 << (10 + rand.IntN(30)))))
	}
	check(1<<63 - 1)
}

func TestNegativeDurationsCountAsNone(t *testing.T) {
	var h Histogram
	h.Observe(-time.Second)
	if s := h.Snapshot(); s.Bucket(0) != 1 || s.Sum() != 0 || s.Count() != 1 {
		t.Errorf("%v with sum %v", s, s.Sum())
	}
}

func TestQuantilesAreTheBoundsAboveThem(t *testing.T) {
	var h Histogram
	if got := h.Snapshot().Quantile(0.5); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
	for range 99 {
		h.Observe(90 * time.Microsecond)
	}
	h.Observe(20 * time.Millisecond)
	s := h.Snapshot()
	for q, want := range map[float64]time.Duration{0: 96 * time.Microsecond, 0.5: 96 * time.Microsecond, 0.98: 96 * time.Microsecond, 0.99: 24576 * time.Microsecond, 1: 24576 * time.Microsecond} {
		if got := s.Quantile(q); got != want {
			t.Errorf("quantile %v is %v; want %v", q, got, want)
		}
	}
	if want := 99*90*time.Microsecond + 20*time.Millisecond; s.Sum() != want {
		t.Errorf("sum %v; want %v", s.Sum(), want)
	}
	if got, want := fmt.Sprint(s), "{Count:100 P50:96µs P95:96µs P99:24.576ms}"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
	if got := s.Summary()["count"]; got != uint64(100) {
		t.Errorf("the summary counts %v", got)
	}
	var endless Histogram
	endless.Observe(time.Hour)
	if got := endless.Snapshot(); got.Bucket(NumBounds) != 1 || got.Quantile(0.5) != Bound(NumBounds-1) {
		t.Errorf("an hour: %v", got)
	}
}

func TestSnapshotsAddUp(t *testing.T) {
	var a, b Histogram
	a.Observe(time.Millisecond)
	b.Observe(time.Second)
	b.Observe(time.Second)
	s := a.Snapshot()
	s.Add(b.Snapshot())
	if s.Count() != 3 || s.Sum() != 2*time.Second+time.Millisecond || s.Bucket(Index(time.Second)) != 2 {
		t.Errorf("%v with sum %v", s, s.Sum())
	}
}

func TestObserveAllocatesNothing(t *testing.T) {
	var h Histogram
	if n := testing.AllocsPerRun(100, func() { h.Observe(time.Millisecond) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	var h Histogram
	for i := 0; b.Loop(); i++ {
		h.Observe(time.Duration(i))
	}
}
