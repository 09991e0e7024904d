package frontend

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"shirube/internal/wire"
)

// The bounds of the refresher. What it drops is asked for again when it is due
// the next time, or has expired.
const (
	maxRefreshQueue = 1024 // answers that are due, at once
	maxRefreshing   = 64   // of them being renewed
)

// refresher renews popular answers before they expire, so that nobody has to
// wait for them. No client waits for it.
type refresher struct {
	queue                    chan due
	running                  atomic.Bool
	wg                       sync.WaitGroup
	renewed, failed, dropped atomic.Uint64
}

// due is an answer that is to be renewed. It has its name in itself, so that
// nothing is allocated to hand it on.
type due struct {
	by     *Frontend // that is to renew it
	name   [wire.MaxNameLen]byte
	length uint8 // of name
	looks  uint8 // how often it came to the refresher before
	typ    wire.Type
	cd     bool
	until  time.Time // what its parts have to outlive; see cache.Hit
}

// question returns what to ask for.
func (d *due) question() (wire.Question, error) {
	name, err := wire.FromWire(d.name[:d.length])
	return wire.Question{Name: name, Type: d.typ}, err
}

// refreshSoon hands the answer to q to the refresher. It does not block, nor
// allocate but for the first time, when it starts what New must not.
func (f *Frontend) refreshSoon(q *wire.Query, until time.Time) {
	d := due{by: f, typ: q.Type, cd: q.CD, until: until}
	d.length = uint8(copy(d.name[:], q.RawName()))
	select {
	case f.refresher.queue <- d:
	default:
		f.refresher.dropped.Add(1)
	}
	if !f.refresher.running.Load() && f.refresher.running.CompareAndSwap(false, true) {
		// Owner: f. End: Close. Bound: one; what does not fit into its queue
		// is dropped.
		f.refresher.wg.Go(f.refreshAll)
	}
}

// refreshAll renews what is due until f is closed.
func (f *Frontend) refreshAll() {
	places := make(chan struct{}, maxRefreshing)
	server := f.flights.server
	for {
		select {
		case places <- struct{}{}:
		case <-server.Done():
			return
		}
		select {
		case d := <-f.refresher.queue:
			// Owner: f. End: its flight's. Bound: maxRefreshing; the rest waits
			// in the queue.
			f.refresher.wg.Go(func() {
				d.by.refresh(server, &d)
				<-places
			})
		case <-server.Done():
			return
		}
	}
}

// refresh renews one answer. It is a flight like any other: clients that find
// the answer expired in the meantime join it.
func (f *Frontend) refresh(server context.Context, d *due) {
	question, err := d.question()
	if err != nil { // it was a name when it was parsed
		f.refresher.failed.Add(1)
		return
	}
	k := flightKey{question, d.cd, f.generation}
	if !f.turn(server, k, d) {
		return
	}
	fl, err := f.flights.join(k, 0, f.bounds, func(server context.Context) *outcome { return f.resolve(server, k, d.until) })
	switch {
	case errors.Is(err, errWaiters): // many are at it already
		return
	case err != nil:
		f.refresher.dropped.Add(1)
		return
	}
	out, err := f.flights.wait(server, fl, nil)
	switch {
	case err != nil: // the server's end
	case out.err != nil:
		f.refresher.failed.Add(1)
	default:
		f.refresher.renewed.Add(1)
	}
}
