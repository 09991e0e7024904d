package dnstap

import (
	"sync"
	"sync/atomic"
)

// chunkSize is how much of a queue is handed on at once, in octets: more than
// the longest frame, which is a message of 65,535 and what is said about it.
const chunkSize = 128 << 10

// minChunks is the least that a queue has: some to be filled while others are
// sent.
const minChunks = 8

// chunk holds whole frames with their lengths, as they go to the collector.
type chunk struct {
	b []byte
	n int // frames
}

// queue holds the chunks of one output. Its memory is taken once; the chunk that
// was sent last is filled next, as it is still in the processor's cache.
type queue struct {
	spare atomic.Int32  // len(free), to be looked at without the lock
	ready chan struct{} // has one when there may be full chunks

	mu   sync.Mutex
	free []*chunk
	full []*chunk // a ring: count from first on
	at   int
	n    int
}

func newQueue(octets int) *queue {
	count := max(octets/chunkSize, minChunks)
	q := &queue{ready: make(chan struct{}, 1), full: make([]*chunk, count)}
	memory := make([]byte, count*chunkSize)
	for i := range count {
		q.free = append(q.free, &chunk{b: memory[i*chunkSize : i*chunkSize : (i+1)*chunkSize]})
	}
	q.spare.Store(int32(count))
	return q
}

// take returns an empty chunk; nil if there is none.
func (q *queue) take() *chunk {
	if q.spare.Load() == 0 {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	last := len(q.free) - 1
	if last < 0 {
		return nil
	}
	c := q.free[last]
	q.free = q.free[:last]
	q.spare.Store(int32(last))
	return c
}

// push adds a chunk to those that are to be sent. It never blocks.
func (q *queue) push(c *chunk) {
	q.mu.Lock()
	q.full[(q.at+q.n)%len(q.full)] = c
	q.n++
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// pop returns the chunk that waits the longest; nil if there is none.
func (q *queue) pop() *chunk {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.n == 0 {
		return nil
	}
	c := q.full[q.at]
	q.full[q.at] = nil
	q.at = (q.at + 1) % len(q.full)
	q.n--
	return c
}

// give takes back a chunk that was taken or popped.
func (q *queue) give(c *chunk) {
	c.b, c.n = c.b[:0], 0
	q.mu.Lock()
	q.free = append(q.free, c)
	q.spare.Store(int32(len(q.free)))
	q.mu.Unlock()
}

// frames returns how many frames wait in full chunks.
func (q *queue) frames() (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.n {
		n += q.full[(q.at+i)%len(q.full)].n
	}
	return n
}

// lane is where one goroutine, or a few, put their frames. A UDP reader has one
// to itself mostly, so that its lock is free and its memory in its core's cache.
type lane struct {
	_ [64]byte // nobody else's on its cache lines

	mu      sync.Mutex
	cur     *chunk // nil: none
	closed  bool
	emitted uint64
	dropped uint64
	hash    [16]byte // room to hash an address in

	_ [64]byte
}

// room returns where a frame of size octets is to be appended, by who holds the
// lane's lock; nil: nowhere.
func (l *lane) room(q *queue, size int) *chunk {
	if c := l.cur; c != nil {
		if cap(c.b)-len(c.b) >= size {
			return c
		}
		l.cur = nil
		q.push(c)
	}
	if size > chunkSize {
		return nil
	}
	l.cur = q.take()
	return l.cur
}

// flush hands on what the lane has, though it is not full.
func (l *lane) flush(q *queue) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cur != nil && l.cur.n > 0 {
		q.push(l.cur)
		l.cur = nil
	}
}

// close hands on what the lane has, and takes no more.
func (l *lane) close(q *queue) {
	l.flush(q)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.cur != nil { // what came between the two
		q.push(l.cur)
		l.cur = nil
	}
}
