package transport

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"shirube/dnstap"
	"shirube/internal/netx"
	"shirube/internal/wire"
)

// Hits are answered by the reader, misses by goroutines that share its processor
// with it. Go gives it no priority: whoever is to be run waits for all that are to
// be run before, and as long as there are any, no packets are looked for. So a
// reader lets only so many misses begin before it reads again, and fewer when it
// finds that meanwhile many datagrams have come. The others wait in a queue. When
// that is full there have been more misses for a while than can be resolved, and
// who comes late is turned away, which costs a twentieth of a resolution.
const (
	// maxWaiting is how many queries wait to be begun, for each reader: longer ones
	// only make those wait who are answered in the end.
	maxWaiting = 1024
	// mostBegun and leastBegun are how many queries are begun in a round: each takes
	// some tens of microseconds until it waits for a server.
	mostBegun, leastBegun = 64, 4
	// manyRead is how many datagrams of a round mean that its reader was away for
	// long.
	manyRead = 8
	// roundBatches is how many batches are read in a round at most, before others
	// are let in at the processor.
	roundBatches = 8
	// mostTold is how many queries of a round are told that there is no room for
	// them, so that their clients ask another server at once. To tell all who ask in
	// a flood costs more than to read what they ask, and they may not be who they
	// seem.
	mostTold = 16
	// beginInterval is when queries that wait are begun at the latest, should there
	// be no more datagrams to read.
	beginInterval = time.Millisecond
)

// queue are the queries of a reader that wait to be begun, in the order that they
// came in.
type queue struct {
	mu    sync.Mutex // of the reader and the timer
	ring  []waiting  // a power of two; grows up to maxWaiting
	first int        // in ring
	n     int
	begun int // in this round
	may   int // be begun in a round; 0: mostBegun
	armed bool

	shed atomic.Uint64 // queries that found it full
}

// waiting is a query that waits, with the way back.
type waiting struct {
	q  wire.Query
	to netx.Return
}

// size returns how many queries wait.
func (l *queue) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

// full reports whether there is no room for one more, and counts it.
func (l *queue) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n < maxWaiting {
		return false
	}
	l.shed.Add(1)
	return true
}

// admit reports whether q may begin at once. Else it is copied, to wait. There is
// room: full has said so to the reader, which alone makes it longer.
func (l *queue) admit(q *wire.Query, to netx.Return) (begins bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n == 0 && l.begun < l.allowed() {
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
	return false
}

// grow doubles the ring.
func (l *queue) grow() {
	ring := make([]waiting, max(2*len(l.ring), mostBegun))
	for i := range l.n {
		ring[i] = l.ring[(l.first+i)%len(l.ring)]
	}
	l.ring, l.first = ring, 0
}

// allowed returns how many queries may be begun in a round.
func (l *queue) allowed() int {
	if l.may == 0 {
		return mostBegun
	}
	return l.may
}

// next reports whether a query that waits is to be begun now, by who calls pop.
func (l *queue) next() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n == 0 || l.begun >= l.allowed() {
		return false
	}
	l.begun++
	return true
}

// pop takes the query that waits longest to w.
func (l *queue) pop(w *udpWorker) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &l.ring[l.first]
	p.q.CopyTo(&w.q)
	w.to = p.to
	l.first = (l.first + 1) % len(l.ring)
	l.n--
}

// turn begins the next round. The last one has read so many datagrams; 0: there
// was nobody to read.
func (l *queue) turn(read int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begun = 0
	switch {
	case read >= manyRead: // halved when it is too much, and one more when it is not: as TCP shares a line
		l.may = max(l.allowed()/2, leastBegun)
	case read > 0:
		l.may = min(l.allowed()+1, mostBegun)
	}
}

// ease lets more begin, as there is nothing to read: nobody is kept waiting.
func (l *queue) ease() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.may = min(2*l.allowed(), mostBegun)
}

// arm reports whether a timer is to be set, for the first who asks while queries
// wait.
func (l *queue) arm() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n == 0 || l.armed {
		return false
	}
	l.armed = true
	return true
}

// disarm says that the timer has come.
func (l *queue) disarm() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = false
}

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
	if wire.RcodeOf(rsp[len(tx):]) == wire.ServFail {
		if r.told == mostTold {
			r.n.untold.Add(1)
			return tx, Dropped
		}
		r.told++
	}
	if r.udp.tap != nil {
		r.udp.emit(&r.n.counters, dnstap.ClientResponse, q, rsp[len(tx):])
	}
	return rsp, Answered
}

// turn is the end of a round in which so many datagrams were read: queries that
// wait are begun. It is called by the reader, and by a timer.
func (r *udpReader) turn(ctx context.Context, read int) {
	r.turning.Lock()
	defer r.turning.Unlock()
	for r.queue.next() {
		w := r.worker(ctx)
		r.queue.pop(w)
		w.wake <- struct{}{}
	}
	r.queue.turn(read)
	if r.queue.arm() {
		// Owner: r. End: when no query waits; those have slots. Bound: one for each
		// reader.
		time.AfterFunc(beginInterval, func() {
			r.queue.disarm()
			if !r.batch.Waiting() { // or the reader would be there already, if it could
				r.queue.ease()
			}
			r.turn(ctx, 0)
		})
	}
}
