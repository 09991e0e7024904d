package transport

import (
	"sync/atomic"

	"shirube/internal/hist"
	"shirube/internal/wire"
)

// Counts is what became of the messages that a transport received. When
// nothing is in flight,
//
//	Status[wire.OK] = Answered + Dropped + Shed + Late
//
// with the Late of [UDPStats].
type Counts struct {
	Received uint64                 // messages, whatever they are
	Status   [wire.NumStatus]uint64 // of them, by what they are
	Answered uint64                 // queries that were given a response, panics included
	Dropped  uint64                 // queries that the Handler wants no response to
	Deferred uint64                 // queries that took a slot
	Shed     uint64                 // queries answered by Shed, for want of a slot or because too many waited
	Panics   uint64                 // queries that the Handler panicked on
	Unfit    uint64                 // responses of the Handler that broke the query's Limit, replaced by SERVFAIL

	// Responses by what was asked for, and by their code: all that were made,
	// those among them that came too late or could not be sent.
	Types  [NumTypeClasses]uint64
	Rcodes [NumRcodeClasses]uint64

	// How long queries took from their arrival until the response was made: of
	// those answered at once every 64th, of those that were deferred all.
	AtOnce hist.Snapshot
	Later  hist.Snapshot
}

// sampled is one in how many queries that are answered at once has its time
// taken; a power of two.
const sampled = 64

// counters collects [Counts]. The padding keeps those of two readers off one
// cache line, where their cores would fight for it.
type counters struct {
	_        [64]byte
	lane     int // of the tap; of whoever has no socket to itself, the client's port says more
	received atomic.Uint64
	status   [wire.NumStatus]atomic.Uint64
	answered atomic.Uint64
	dropped  atomic.Uint64
	deferred atomic.Uint64
	shed     atomic.Uint64
	panics   atomic.Uint64
	unfit    atomic.Uint64
	tally    tally
	atOnce   hist.Histogram
	later    hist.Histogram
	_        [64]byte
}

// addTo adds n to sum.
func (n *counters) addTo(sum *Counts) {
	sum.Received += n.received.Load()
	for i := range n.status {
		sum.Status[i] += n.status[i].Load()
	}
	sum.Answered += n.answered.Load()
	sum.Dropped += n.dropped.Load()
	sum.Deferred += n.deferred.Load()
	sum.Shed += n.shed.Load()
	sum.Panics += n.panics.Load()
	sum.Unfit += n.unfit.Load()
	n.tally.addTo(sum)
	n.atOnce.AddTo(&sum.AtOnce)
	n.later.AddTo(&sum.Later)
}
