package transport

import (
	"sync/atomic"

	"shirube/internal/share"
	"shirube/internal/wire"
)

// Slots bounds the queries that a whole server has in flight, and those of one
// client network: those that were deferred and are not answered yet. All
// transports share one Slots. A query that gets none is answered at once (see
// [Handler]), so that what the queries in flight hold (goroutines, memory,
// sockets to name servers) is bounded too, and one network's flood leaves room
// for the others.
type Slots struct {
	limit      atomic.Int64
	perNetwork atomic.Int64
	networks   share.Shares[wire.Network]
	inUse      atomic.Int64
	peak       atomic.Int64
	shed       atomic.Uint64
}

// SlotsStats is what a [Slots] has seen.
type SlotsStats struct {
	Limit       int64
	PerNetwork  int
	InUse       int64  // now
	Networks    int    // of clients that have one, now
	Peak        int64  // the most at once
	Shed        uint64 // queries that got none
	ShedNetwork uint64 // of them, because their network had enough
}

// NewSlots returns n slots, [DefaultSlots] if n is not positive, of which the
// clients of one network have perNetwork at most; all, if that is not positive.
func NewSlots(n, perNetwork int) *Slots {
	s := new(Slots)
	s.Resize(n, perNetwork)
	return s
}

// Resize changes how many slots there are, as NewSlots does. Those that are taken
// stay so, if they are more than that.
func (s *Slots) Resize(n, perNetwork int) {
	n = orDefault(n, DefaultSlots)
	s.limit.Store(int64(n))
	s.perNetwork.Store(int64(orDefault(perNetwork, n)))
}

// Stats returns the current numbers. Each is exact; together they are not of
// one moment.
func (s *Slots) Stats() SlotsStats {
	networks, denied := s.networks.Stats()
	return SlotsStats{
		Limit: s.limit.Load(), PerNetwork: int(s.perNetwork.Load()), InUse: s.inUse.Load(), Networks: networks, Peak: s.peak.Load(),
		Shed: s.shed.Load(), ShedNetwork: denied,
	}
}

// take takes a slot for a client of network, which give gives back, and reports
// whether one was left.
func (s *Slots) take(network wire.Network) bool {
	for {
		n := s.inUse.Load()
		if n >= s.limit.Load() {
			s.shed.Add(1)
			return false
		}
		if s.inUse.CompareAndSwap(n, n+1) {
			break
		}
	}
	if !s.networks.Take(network, int(s.perNetwork.Load())) {
		s.inUse.Add(-1)
		s.shed.Add(1)
		return false
	}
	s.sawPeak(s.inUse.Load())
	return true
}

func (s *Slots) sawPeak(n int64) {
	for {
		peak := s.peak.Load()
		if n <= peak || s.peak.CompareAndSwap(peak, n) {
			return
		}
	}
}

func (s *Slots) give(network wire.Network) {
	s.inUse.Add(-1)
	s.networks.Give(network)
}
