package transport

import "sync/atomic"

// Slots bounds the queries that a whole server has in flight: those that were
// deferred and are not answered yet. All transports share one Slots. A query
// that gets none is answered SERVFAIL at once, so that what the queries in
// flight hold (goroutines, memory, sockets to name servers) is bounded too.
type Slots struct {
	limit int64
	inUse atomic.Int64
	peak  atomic.Int64
	shed  atomic.Uint64
}

// SlotsStats is what a [Slots] has seen.
type SlotsStats struct {
	Limit int64
	InUse int64  // now
	Peak  int64  // the most at once
	Shed  uint64 // queries that got none
}

// NewSlots returns n slots, [DefaultSlots] if n is not positive.
func NewSlots(n int) *Slots { return &Slots{limit: int64(orDefault(n, DefaultSlots))} }

// Stats returns the current numbers. Each is exact; together they are not of
// one moment.
func (s *Slots) Stats() SlotsStats {
	return SlotsStats{Limit: s.limit, InUse: s.inUse.Load(), Peak: s.peak.Load(), Shed: s.shed.Load()}
}

// take takes a slot, which give gives back, and reports whether one was left.
func (s *Slots) take() bool {
	for {
		n := s.inUse.Load()
		if n >= s.limit {
			s.shed.Add(1)
			return false
		}
		if s.inUse.CompareAndSwap(n, n+1) {
			s.sawPeak(n + 1)
			return true
		}
	}
}

func (s *Slots) sawPeak(n int64) {
	for {
		peak := s.peak.Load()
		if n <= peak || s.peak.CompareAndSwap(peak, n) {
			return
		}
	}
}

func (s *Slots) give() { s.inUse.Add(-1) }
