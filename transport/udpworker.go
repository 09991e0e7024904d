package transport

import (
	"context"
	"sync"

	"shirube/internal/netx"
	"shirube/internal/stack"
	"shirube/internal/wire"
)

// maxIdleWorkers is how many workers of a reader wait for the next query: they
// hold a stack of [stack.Size] each.
const maxIdleWorkers = 128

// udpWorker answers deferred queries of one reader, one after the other, on a
// goroutine of its own, with memory of its own. The last to become idle is the
// first to get work: its stack and memory are in the processor's caches still. A
// goroutine for each query would begin with a small stack in cold memory.
type udpWorker struct {
	r    *udpReader
	q    wire.Query // the query to be answered, and the way back; the worker's while it works
	to   netx.Return
	wake chan struct{} // has one when there is a query; closed when there are to be no more
}

// crew are the workers of a reader.
type crew struct {
	mu   sync.Mutex
	idle []*udpWorker
	all  sync.WaitGroup
}

// worker returns a worker that waits for a query.
func (r *udpReader) worker(ctx context.Context) *udpWorker {
	w := r.crew.take()
	if w == nil {
		w = &udpWorker{r: r, wake: make(chan struct{}, 1)}
		// Owner: r. End: when the query is answered and maxIdleWorkers are idle,
		// or after stopReading, by Serve's deadline or stopReading's. Bound: Slots,
		// of which each that works has one, and maxIdleWorkers. Excess: shed, by
		// who calls.
		r.crew.all.Go(func() { w.run(ctx) })
	}
	return w
}

// run answers the queries that w is given.
func (w *udpWorker) run(ctx context.Context) {
	for range w.wake {
		stack.Reserve() // also when it was made smaller while w was idle
		w.r.finish(ctx, &w.q, w.to)
		stays := w.r.crew.rest(w)
		w.r.serving.Done() // not before: who waits for that dismisses the idle ones
		if !stays {
			return
		}
	}
}

// take returns an idle worker, or nil.
func (c *crew) take() *udpWorker {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.idle)
	if n == 0 {
		return nil
	}
	w := c.idle[n-1]
	c.idle = c.idle[:n-1]
	return w
}

// rest makes w idle, and reports whether there is room for it.
func (c *crew) rest(w *udpWorker) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.idle) >= maxIdleWorkers {
		return false
	}
	c.idle = append(c.idle, w)
	return true
}

// resting returns how many workers are idle.
func (c *crew) resting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.idle)
}

// dismiss ends the workers, all of which are idle.
func (c *crew) dismiss() {
	c.mu.Lock()
	for _, w := range c.idle {
		close(w.wake)
	}
	c.idle = nil
	c.mu.Unlock()
	c.all.Wait()
}
