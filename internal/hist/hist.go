// Package hist counts how long things take, in buckets that are the same
// everywhere, so that histograms can be added up. To observe costs two atomic
// additions and no allocation.
package hist

import (
	"fmt"
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	// octaves is how often the first bound is doubled: 1 µs to 16.8 s, which
	// is longer than any question may take by default.
	octaves = 24
	// NumBounds is how many bounds there are: the ends of the octaves, and the
	// middles of them.
	NumBounds = 2*octaves + 1
)

// Bound returns the upper end of bucket i, which belongs to it. What is longer
// than the last bound is in a bucket without an end.
func Bound(i int) time.Duration {
	if i%2 == 0 {
		return time.Microsecond << (i / 2)
	}
	return 3 * (time.Microsecond / 2) << (i / 2)
}

// Index returns the bucket of d, NumBounds for that without a bound.
func Index(d time.Duration) int {
	if d <= time.Microsecond {
		return 0
	}
	octave := bits.Len64(uint64((d - 1) / time.Microsecond)) // d is in (2^(octave-1), 2^octave] µs
	i := 2 * octave
	if d <= Bound(i-1) {
		i--
	}
	return min(i, NumBounds)
}

// Histogram counts durations. Its zero value is ready. It is safe for
// concurrent use; who observes often has one of his own.
type Histogram struct {
	counts [NumBounds + 1]atomic.Uint64
	sum    atomic.Int64 // nanoseconds
}

// Observe counts d. One that is negative, as when a clock was set back, counts
// as none at all.
func (h *Histogram) Observe(d time.Duration) {
	d = max(d, 0)
	h.counts[Index(d)].Add(1)
	h.sum.Add(int64(d))
}

// AddTo adds what h has counted to s.
func (h *Histogram) AddTo(s *Snapshot) {
	for i := range h.counts {
		s.counts[i] += h.counts[i].Load()
	}
	s.sum += time.Duration(h.sum.Load())
}

// Snapshot returns what h has counted. Durations that are observed meanwhile
// may be in the sum and not in a bucket, or the other way round.
func (h *Histogram) Snapshot() (s Snapshot) {
	h.AddTo(&s)
	return s
}

// Snapshot is what a [Histogram] had counted at one moment.
type Snapshot struct {
	counts [NumBounds + 1]uint64
	sum    time.Duration
}

// Add adds what o holds to s.
func (s *Snapshot) Add(o Snapshot) {
	for i, n := range o.counts {
		s.counts[i] += n
	}
	s.sum += o.sum
}

// Count returns how many durations there are.
func (s Snapshot) Count() (n uint64) {
	for _, c := range s.counts {
		n += c
	}
	return n
}

// Sum returns the durations' sum.
func (s Snapshot) Sum() time.Duration { return s.sum }

// Bucket returns how many durations are in bucket i, up to NumBounds, which is
// the one without an end.
func (s Snapshot) Bucket(i int) uint64 { return s.counts[i] }

// Quantile returns the duration that the part q of all is not longer than, as
// far as buckets can tell: the bound above it. Of nothing it is 0, and beyond
// the last bound it is that.
func (s Snapshot) Quantile(q float64) time.Duration {
	total := s.Count()
	if total == 0 {
		return 0
	}
	rank := uint64(q * float64(total))
	var seen uint64
	for i := range NumBounds {
		if seen += s.counts[i]; seen > rank || seen == total {
			return Bound(i)
		}
	}
	return Bound(NumBounds - 1)
}

// Summary returns what a person wants to know of s, by name.
func (s Snapshot) Summary() map[string]any {
	return map[string]any{
		"count": s.Count(), "sum_seconds": s.sum.Seconds(),
		"p50_seconds": s.Quantile(0.5).Seconds(), "p95_seconds": s.Quantile(0.95).Seconds(), "p99_seconds": s.Quantile(0.99).Seconds(),
	}
}

// String returns the same as [Snapshot.Summary], on one line.
func (s Snapshot) String() string {
	return fmt.Sprintf("{Count:%d P50:%v P95:%v P99:%v}", s.Count(), s.Quantile(0.5), s.Quantile(0.95), s.Quantile(0.99))
}
