package cache

import "math/bits"

// The index of an arena: buckets of eight places, one cache line each. An
// answer is in either of two buckets, and the one follows from the other and
// the tag, so that places can be moved without a look at what they name. Thus
// buckets hardly overflow before nearly all of them are full.
//
// It begins with a few buckets, and has twice as many whenever they are three
// quarters full, up to what there is room for: a cache with little in it touches
// little memory.

// firstBuckets is how many an arena begins with.
const firstBuckets = 8

// ways is how many places a bucket has.
const ways = 8

// bucket returns the first bucket for a key with hash h. It depends on bits
// that neither choose the arena nor are the tag.
func (a *arena) bucket(h uint64) int { return scale(uint32(h>>16), a.buckets()) }

// buckets returns how many there are.
func (a *arena) buckets() int { return len(a.index) / ways }

// scale maps x onto 0..n-1, evenly.
func scale(x uint32, n int) int {
	high, _ := bits.Mul64(uint64(x)<<32, uint64(n))
	return int(high)
}

// other returns the bucket that places with the given tag may be in besides b.
func (a *arena) other(b int, tag uint64) int {
	n := a.buckets()
	o := scale(uint32(tag)*0x9E3779B1, n) - b // the golden ratio, as a hash of the tag
	if o < 0 {
		o += n
	}
	return o
}

// row returns the places in bucket b.
func (a *arena) row(b int) *[ways]place { return (*[ways]place)(a.index[b*ways:]) }

// find returns the slot of key, which has hash h, or nil.
func (a *arena) find(h uint64, key []byte) *slot {
	if len(a.index) == 0 {
		return nil
	}
	b, tag := a.bucket(h), h>>tagShift
	if s := a.search(b, tag, key); s != nil {
		return s
	}
	return a.search(a.other(b, tag), tag, key)
}

// search looks for key in one bucket.
func (a *arena) search(b int, tag uint64, key []byte) *slot {
	for _, p := range a.row(b) {
		if p.tag() == tag && p != 0 {
			if s := a.at(p.offset()); s.is(key) {
				return s
			}
		}
	}
	return nil
}

// relink puts to in the place of from, an entry of a key with hash h.
func (a *arena) relink(h uint64, from, to place) {
	b := a.bucket(h)
	for _, b := range [...]int{b, a.other(b, h>>tagShift)} {
		for i, p := range a.row(b) {
			if p == from {
				a.row(b)[i] = to
				return
			}
		}
	}
}

// link adds p, the place of an answer whose key has hash h. If there is no room
// for it, another answer goes.
func (a *arena) link(h uint64, p place) {
	if !a.settle(h, p) && !a.grow() {
		a.squeeze(h, p)
	}
}

// settle adds p to the index, if there is room.
func (a *arena) settle(h uint64, p place) bool {
	b := a.bucket(h)
	o := a.other(b, p.tag())
	if a.put(b, p) || a.put(o, p) {
		return true
	}
	for _, full := range [...]int{b, o} { // one who can live elsewhere moves
		for i, q := range a.row(full) {
			if a.put(a.other(full, q.tag()), q) {
				a.row(full)[i] = p
				return true
			}
		}
	}
	return false
}

// squeeze puts p in place of the answer in its buckets that was used least; of
// those, one that is in the small queue still, and has shown nothing yet.
func (a *arena) squeeze(h uint64, p place) {
	b := a.bucket(h)
	var least *place
	worth := ^uint32(0)
	for _, b := range [...]int{b, a.other(b, p.tag())} {
		for i, q := range a.row(b) {
			w := a.at(q.offset()).state.Load() & freqMask << 1
			if q.offset() >= a.main.from {
				w++
			}
			if w < worth {
				least, worth = &a.row(b)[i], w
			}
		}
	}
	a.retire(a.at(least.offset()))
	a.counts.Crowded++
	*least = p
}

// crowded reports whether the index should grow.
func (a *arena) crowded() bool { return a.counts.Entries >= len(a.index)/4*3 }

// grow makes the index larger, and adds all answers to it, also one that is not
// in it yet. It reports whether that was possible.
func (a *arena) grow() bool {
	if len(a.index) == cap(a.index) {
		return false
	}
	for fits := false; !fits; {
		clear(a.index)
		a.index = a.index[:min(2*len(a.index), cap(a.index))]
		fits = true
		last := len(a.index) == cap(a.index)
		a.each(func(_ *queue, s *slot) {
			h := a.hashOf(s)
			p := placeOf(h, a.offsetOf(s))
			switch {
			case !fits || a.settle(h, p):
			case last:
				a.squeeze(h, p)
			default:
				fits = false
			}
		})
	}
	return true
}

// put adds p to bucket b, if there is room.
func (a *arena) put(b int, p place) bool {
	for i, q := range a.row(b) {
		if q == 0 {
			a.row(b)[i] = p
			return true
		}
	}
	return false
}

// The ghosts of an arena are the tags of answers that went before anybody used
// them, as many as the index may have places: eight in a row, the latest first.

// ghostsOf returns those that the one for hash h is among.
func (a *arena) ghostsOf(h uint64) *[ways]uint16 {
	return (*[ways]uint16)(a.ghosts[scale(uint32(h>>16), len(a.ghosts)/ways)*ways:])
}

// haunt remembers that the answer with hash h went.
func (a *arena) haunt(h uint64) {
	row := a.ghostsOf(h)
	copy(row[1:], row[:])
	row[0] = ghostOf(h)
}

// haunted reports whether the answer with hash h went a while ago, and forgets
// it.
func (a *arena) haunted(h uint64) bool {
	if a.counts.Evicted == 0 || len(a.ghosts) == 0 { // counts come along when a cache is resized
		return false
	}
	row := a.ghostsOf(h)
	for i, g := range row {
		if g == ghostOf(h) {
			copy(row[i:], row[i+1:])
			row[ways-1] = 0
			return true
		}
	}
	return false
}

// ghostOf returns the ghost for hash h; 0 is none.
func ghostOf(h uint64) uint16 { return max(uint16(h>>tagShift), 1) }
