package cache

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"unsafe"
)

// arena is one share of the answers: a piece of memory that is no business of
// the garbage collector's, with an index. Which answers stay is decided as
// S3-FIFO does ("FIFO queues are all you need for cache eviction", SOSP 2023):
// what is new goes into a small queue; what was used there more than once moves
// to the main queue when its turn comes, the rest goes and leaves its ghost; what
// comes back while its ghost is there goes to the main queue at once. What
// reaches the end of that stays for another round if it was used. So names that
// are asked for once, which are many, push out no others, and a hit writes one
// word, if that.
//
// A queue is a log: answers are appended to its head and go from its tail, so
// nothing is ever swept or compacted. What goes before its turn, because a newer
// answer has another size, leaves a dead slot.
type arena struct {
	mu     sync.RWMutex
	moving bool     // to the next table: what is new goes there, and in the end nothing is here any more
	memory []byte   // the slots: of the small queue, then of the main queue
	index  []place  // a multiple of ways, as is its capacity; none: nothing is kept
	ghosts []uint16 // as many as there may be places

	small, main queue
	*arenaRules
	counts ArenaCounts
	_      [48]byte // whole cache lines
}

// arenaRules are what all arenas have in common.
type arenaRules struct {
	seed     maphash.Seed // secret: nobody can aim at one arena or bucket
	maxStale atomic.Int64 // nanoseconds: AnswersOptions.MaxStale
	remarks  *remarks
}

// hash returns the hash of key.
//
// It is the same for all forms of an answer, with DO or CD and without: who looks
// for one after the other finds the same cache lines.
func (r *arenaRules) hash(key []byte) uint64 { return maphash.Bytes(r.seed, key[:len(key)-1]) }

// ArenaCounts is what arenas count.
type ArenaCounts struct {
	Entries    int
	Evicted    uint64 // to make room
	Expired    uint64 // found to be of no use when their turn came
	Promoted   uint64 // from the small queue to the main queue
	Reinserted uint64 // into the main queue, for another round
	Returned   uint64 // straight to the main queue, for their ghost was there
	Replaced   uint64 // by a newer answer, in place
	Crowded    uint64 // out of the index, before their turn
}

// add adds n to c.
func (c *ArenaCounts) add(n ArenaCounts) {
	c.Entries += n.Entries
	c.Evicted += n.Evicted
	c.Expired += n.Expired
	c.Promoted += n.Promoted
	c.Reinserted += n.Reinserted
	c.Returned += n.Returned
	c.Replaced += n.Replaced
	c.Crowded += n.Crowded
}

const (
	// meanSlot is the size of slots that the index is made for, in octets: when
	// all are that small, every place is taken. It is a message of some 135 octets
	// with its head. Smaller ones waste memory, larger ones places.
	meanSlot = 168
	// bucketSize is what a bucket takes with its ghosts, and the slots for it.
	bucketSize = ways * (8 + 2 + meanSlot)
	// smallShare is the part of the memory that the small queue has, one in so
	// many. A tenth is what the paper found best over all its traces.
	smallShare = 10
	// promoted is how often an answer has to be used in the small queue to be
	// moved to the main queue. Two, as in the paper.
	promoted = 2
	// maxShare is the part of a queue that one answer may have, one in so many.
	maxShare = 4
	// maxMoves bounds how many used answers one put moves, so that it costs no
	// more than another when all are used.
	maxMoves = 64
)

// lay gives a its memory, which is all zeros, and begins at a multiple of
// eight.
func (a *arena) lay(memory []byte) {
	first, n := indexSize(len(memory) / bucketSize)
	if n == 0 {
		return
	}
	places, ghosts := n*ways*8, n*ways*2
	a.index = unsafe.Slice((*place)(unsafe.Pointer(&memory[0])), n*ways)[:first*ways]
	a.ghosts = unsafe.Slice((*uint16)(unsafe.Pointer(&memory[places])), n*ways)
	a.memory = memory[places+ghosts:]
	end := len(a.memory) &^ (unit - 1)
	border := end / smallShare &^ (unit - 1)
	a.small, a.main = queue{to: border}, queue{from: border, to: end, head: border, tail: border}
}

// queue is a ring of slots between two offsets.
type queue struct {
	from, to   int
	head, tail int // where the next one begins, and the oldest
	used       int // octets from tail to head
	popped     int // octets that ever were before the tail: see walk
}

func (q *queue) size() int { return q.to - q.from }

// take makes the next n octets part of q, and returns where they begin.
func (q *queue) take(n int) int {
	at := q.head
	q.used += n
	if q.head += n; q.head == q.to {
		q.head = q.from
	}
	return at
}

// pop takes the oldest n octets away.
func (q *queue) pop(n int) {
	q.used -= n
	q.popped += n
	if q.tail += n; q.tail == q.to {
		q.tail = q.from
	}
}

// room returns where a slot of n octets fits at the head of q, of which it is
// part from then on, if it does. The end of the ring stays empty where it is too
// short.
func (a *arena) room(q *queue, n int) (off int, ok bool) {
	if q.used == 0 {
		q.head, q.tail = q.from, q.from
	}
	if q.used == 0 || q.head > q.tail {
		rest := q.to - q.head
		if rest >= n {
			return q.take(n), true
		}
		if rest >= slotHead {
			a.at(q.head).free(rest)
		}
		q.take(rest)
	}
	if q.used == q.size() || q.tail-q.head < n {
		return 0, false
	}
	return q.take(n), true
}

// oldest returns the slot at the tail of q, or nil if there is none.
func (a *arena) oldest(q *queue) *slot {
	if rest := q.to - q.tail; rest < slotHead && q.used > 0 {
		q.pop(rest)
	}
	if q.used == 0 {
		return nil
	}
	return a.at(q.tail)
}

// reserve makes room for n octets in q, which is a's, at now. moves is how many
// answers may be moved for that.
func (a *arena) reserve(q *queue, n int, now int64, moves *int) int {
	for {
		if off, ok := a.room(q, n); ok {
			return off
		}
		s := a.oldest(q)
		switch {
		case s == nil:
		case s.state.Load()&slotDead != 0:
			q.pop(s.bytes())
		case s.over(now, a.maxStale.Load()):
			a.forget(s)
			a.counts.Expired++
			q.pop(s.bytes())
		case q == &a.small:
			a.leaveSmall(s, now, moves)
		default:
			a.leaveMain(s, moves)
		}
	}
}

// leaveSmall is the end of s, the oldest slot of the small queue, in there.
func (a *arena) leaveSmall(s *slot, now int64, moves *int) {
	size, off := s.bytes(), a.small.tail
	// As long as there is room, nothing has to go: otherwise a cache that fills
	// up would keep a tenth.
	spare := a.main.size()-a.main.used > 4*size
	if *moves > 0 && (spare || s.state.Load()&freqMask >= promoted) {
		*moves--
		h := a.hashOf(s)
		to := a.reserve(&a.main, size, now, moves)
		copy(a.memory[to:to+size], a.memory[off:off+size])
		a.relink(placeOf(h, off), placeOf(h, to))
		t := a.at(to)
		t.state.Store(t.state.Load() &^ freqMask)
		a.counts.Promoted++
	} else {
		a.haunt(a.forget(s))
		a.counts.Evicted++
	}
	a.small.pop(size)
}

// leaveMain is the end of s, the oldest slot of the main queue, in its place.
func (a *arena) leaveMain(s *slot, moves *int) {
	size, off := s.bytes(), a.main.tail
	state := s.state.Load()
	if state&freqMask == 0 || *moves <= 0 {
		a.forget(s)
		a.counts.Evicted++
		a.main.pop(size)
		return
	}
	*moves--
	h := a.hashOf(s)
	a.main.pop(size)
	// There is room: what was just freed ends with s, in one piece. What is
	// written there before the copy is written before s, or after the ring's
	// turn.
	to, _ := a.room(&a.main, size)
	copy(a.memory[to:to+size], a.memory[off:off+size])
	a.relink(placeOf(h, off), placeOf(h, to))
	a.at(to).state.Store(state - 1)
	a.counts.Reinserted++
}

// hashOf returns the hash of the key of s.
func (a *arena) hashOf(s *slot) uint64 {
	var b [maxKey]byte
	return a.hash(s.appendKey(b[:0]))
}

// forget takes s, whose key's hash it returns, out of the index.
func (a *arena) forget(s *slot) uint64 {
	h := a.hashOf(s)
	a.relink(placeOf(h, a.offsetOf(s)), 0)
	a.retire(s)
	return h
}

// retire makes s, which is in the index no more, a dead slot.
func (a *arena) retire(s *slot) {
	a.remarks.release(s.remark())
	s.free(s.bytes())
	a.counts.Entries--
}

// store makes x, stored at the given time, the answer to the question of key,
// which has hash h, unless the one that is there is newer and alive.
func (a *arena) store(h uint64, key []byte, x *Answer, stored int64) {
	size := slotSize(&x.form)
	q, freq := &a.small, uint32(0)
	if old := a.find(h, key); old != nil {
		if old.storedAt() > stored && old.alive(stored) {
			return
		}
		if room := old.bytes(); size <= room && room-size <= room/maxSlack {
			a.remarks.release(old.remark())
			old.write(key, x, stored, a.remarks.hold(x.ede))
			a.counts.Replaced++
			return
		}
		freq = old.state.Load() & freqMask // a popular answer stays popular when it is refreshed
		if a.offsetOf(old) >= a.main.from {
			q = &a.main
		}
		a.forget(old)
	} else if a.haunted(h) {
		q = &a.main
		a.counts.Returned++
	}
	if size > q.size()/maxShare {
		q = &a.main // where it does not push out all others
	}
	if size > q.size()/maxShare {
		return
	}
	if a.crowded() {
		a.grow()
	}
	moves := maxMoves
	off := a.reserve(q, size, stored, &moves)
	s := a.at(off)
	s.size = uint16(size / unit)
	s.state.Store(freq)
	s.write(key, x, stored, a.remarks.hold(x.ede))
	a.link(placeOf(h, off))
	a.counts.Entries++
}

// maxSlack is the part of a slot that may be left empty by a newer answer, one
// in so many.
const maxSlack = 4

// walkAtOnce is how many slots are looked at while an arena is locked by who has
// to look at all of them: for a tenth of a millisecond, so that those who ask
// hardly notice.
const walkAtOnce = 256

// walk calls f with the answers in the next slots of q, which is a's, from so
// many octets after the first that ever was in it, and returns where to go on,
// and whether there is more. f may forget what it is called with. In between a
// may be unlocked: what is moved meanwhile is moved to the head of a queue, and
// what has gone by then is passed over.
func (a *arena) walk(q *queue, from int, f func(s *slot)) (next int, more bool) {
	next = max(from, q.popped)
	for range walkAtOnce {
		done := next - q.popped
		if done >= q.used {
			return next, false
		}
		off := q.tail + done
		if off >= q.to {
			off -= q.size()
		}
		n := q.to - off
		if n >= slotHead {
			s := a.at(off)
			n = s.bytes()
			if s.state.Load()&slotDead == 0 {
				f(s)
			}
		}
		next += n
	}
	return next, true
}
