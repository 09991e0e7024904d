package transport

import (
	"context"
	"sync/atomic"
	"time"

	"shirube/dnstap"
	"shirube/internal/netx"
	"shirube/internal/wire"
)

// Hits are answered by the reader, misses by goroutines that share its processor
// with it. Go gives it no priority: whoever is to be run waits for all that are to
// be run before, and as long as there are any, no packets are looked for. So a
// reader lets only few misses begin before it looks for packets again, and lets
// all others run in between ([netx.Yield]). The rest wait in a queue. When that is
// full there have been more misses for a while than can be resolved, and who comes
// late is turned away, which costs a twentieth of a resolution.
const (
	// maxWaiting is how many queries wait to be begun, for each reader: longer ones
	// only make those wait who are answered in the end.
	maxWaiting = 1024
	// mostBegun is how many queries are begun in a round: each takes some ten
	// microseconds until it waits for a server, and as much when that has answered.
	// To look for packets takes two. With twice as many the median hit of a flood takes
	// twice as long, and no more of the flood is resolved (bench/README.md).
	mostBegun = 2
	// roundMost is after how many datagrams no further batch is read in a round, so
	// that others are let in at the processor.
	roundMost = 256
	// mostTold is how many queries are told in each tellInterval that there is no room
	// for them, so that their clients ask another server at once. To tell all who ask
	// in a flood costs more than to read what they ask, and they may not be who they
	// seem.
	mostTold     = 16
	tellInterval = time.Millisecond
)

// queue are the queries of a reader that wait to be begun, in the order that they
// came in. All but the counters belongs to the reader.
type queue struct {
	ring  []waiting // a power of two; grows up to maxWaiting
	first int       // in ring
	n     int
	begun int // in this round

	waits atomic.Int32  // is n, for others
	shed  atomic.Uint64 // queries that found it full
}

// waiting is a query that waits, with the way back.
type waiting struct {
	q  wire.Query
	to netx.Return
}

// size returns how many queries wait. Anybody may ask.
func (l *queue) size() int { return int(l.waits.Load()) }

// full reports whether there is no room for one more, and counts it.
func (l *queue) full() bool {
	if l.n < maxWaiting {
		return false
	}
	l.shed.Add(1)
	return true
}

// admit reports whether q may begin at once. Else it is copied, to wait. There is
// room: see full.
func (l *queue) admit(q *wire.Query, to netx.Return) (begins bool) {
	if l.n == 0 && l.begun < mostBegun {
		l.begun++
		return true
	}
	if l.n == len(l.ring) {
		l.grow()
	}
	w := &l.ring[(l.first+l.n)%len(l.ring)]
	q.CopyTo(&w.q)
	w.to = to
	l.n++
	l.waits.Store(int32(l.n))
	return false
}

// grow doubles the ring.
func (l *queue) grow() {
	ring := make([]waiting, max(2*len(l.ring), 64))
	for i := range l.n {
		ring[i] = l.ring[(l.first+i)%len(l.ring)]
	}
	l.ring, l.first = ring, 0
}

// next reports whether a query that waits is to be begun now, by who calls pop.
func (l *queue) next() bool {
	if l.n == 0 || l.begun == mostBegun {
		return false
	}
	l.begun++
	return true
}

// pop takes the query that waits longest to w.
func (l *queue) pop(w *udpWorker) {
	p := &l.ring[l.first]
	p.q.CopyTo(&w.q)
	w.to = p.to
	l.first = (l.first + 1) % len(l.ring)
	l.n--
	l.waits.Store(int32(l.n))
}

// turn begins the next round.
func (l *queue) turn() { l.begun = 0 }

// leave has q, which has a slot, answered by a worker, back the way of to: now, or
// when it is its turn.
func (r *udpReader) leave(ctx context.Context, q *wire.Query, to netx.Return) {
	r.serving.Add(1)
	if !r.queue.admit(q, to) {
		return
	}
	w := r.worker(ctx)
	q.CopyTo(&w.q)
	w.to = to
	w.wake <- struct{}{} // there is room: nobody else has w
}

// turnAway answers q, for which there is no room in the queue: with a stale answer,
// if there is one, else with why.
func (r *udpReader) turnAway(tx []byte, q *wire.Query) ([]byte, Outcome) {
	r.n.shed.Add(1)
	rsp := r.udp.shed(&r.n.counters, tx, q)
	if wire.RcodeOf(rsp[len(tx):]) == wire.ServFail && !r.tells(q.Received) {
		r.n.untold.Add(1)
		return tx, Dropped
	}
	if r.udp.tap != nil {
		r.udp.emit(&r.n.counters, dnstap.ClientResponse, q, rsp[len(tx):])
	}
	return rsp, Answered
}

// tells reports whether one more client is told that there is no room.
func (r *udpReader) tells(now time.Time) bool {
	if now.Sub(r.telling) >= tellInterval {
		r.telling, r.told = now, 0
	}
	r.told++
	return r.told <= mostTold
}

// turn ends a round: queries that wait are begun.
func (r *udpReader) turn(ctx context.Context) {
	for r.queue.next() {
		w := r.worker(ctx)
		r.queue.pop(w)
		w.wake <- struct{}{}
	}
	r.queue.turn()
}
