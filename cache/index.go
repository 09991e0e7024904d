package cache

import "math/bits"

// The index of an arena: buckets of eight places, one cache line each. An
// answer is in either of two buckets, which both follow from its tag, so that
// places can be moved without a look at what they name. Thus buckets hardly
// overflow before nearly all of them are full.
//
// It begins with a few buckets, and has twice as many whenever they are three
// quarters full, up to what there is room for: a cache with little in it touches
// little memory.

// firstBuckets is how many an arena begins with, at least; less than twice as
// many at most.
const firstBuckets = 16

// ways is how many places a bucket has.
const ways = 8

// indexSize returns how many buckets the index has that has room for n: at first,
// and when it has been doubled as often as that is possible. It leaves out less
// than one of firstBuckets.
func indexSize(n int) (first, most int) {
	doublings := max(bits.Len(uint(n))-bits.Len(firstBuckets), 0)
	first = n >> doublings
	return first, first << doublings
}

// bucket returns the first bucket for places with a tag.
func (a *arena) bucket(tag uint32) int { return scale(tag, a.buckets()) }

// second returns the second bucket for places with a tag.
func (a *arena) second(tag uint32) int {
	return scale(tag*0x9E3779B1, a.buckets()) // the golden ratio, as a hash of the tag
}

// buckets returns how many there are.
func (a *arena) buckets() int { return len(a.index) / ways }

// scale maps x onto 0..n-1, evenly. Where it maps x to b, it maps it to 2b or 2b+1
// for twice the n.
func scale(x uint32, n int) int {
	high, _ := bits.Mul64(uint64(x)<<32, uint64(n))
	return int(high)
}

// other returns the bucket that places with the given tag may be in besides b.
func (a *arena) other(b int, tag uint32) int {
	if o := a.second(tag); o != b {
		return o
	}
	return a.bucket(tag)
}

// row returns the places in bucket b.
func (a *arena) row(b int) *[ways]place { return (*[ways]place)(a.index[b*ways:]) }

// find returns the slot of key, which has hash h, or nil.
func (a *arena) find(h uint64, key []byte) *slot {
	if len(a.index) == 0 {
		return nil
	}
	tag := tagOf(h)
	if s := a.search(a.bucket(tag), tag, key); s != nil {
		return s
	}
	return a.search(a.second(tag), tag, key)
}

// search looks for key in one bucket.
func (a *arena) search(b int, tag uint32, key []byte) *slot {
	for _, p := range a.row(b) {
		if p.tag() == tag && p != 0 {
			if s := a.at(p.offset()); s.is(key) {
				return s
			}
		}
	}
	return nil
}

// tagged returns the first place with a tag, or 0.
func (a *arena) tagged(tag uint32) place {
	if len(a.index) == 0 {
		return 0
	}
	for _, b := range [...]int{a.bucket(tag), a.second(tag)} {
		for _, p := range a.row(b) {
			if p.tag() == tag && p != 0 {
				return p
			}
		}
	}
	return 0
}

// relink puts to in the place of from, an entry of a key with the same hash.
func (a *arena) relink(from, to place) {
	for _, b := range [...]int{a.bucket(from.tag()), a.second(from.tag())} {
		for i, p := range a.row(b) {
			if p == from {
				a.row(b)[i] = to
				return
			}
		}
	}
}

// link adds p, the place of an answer. If there is no room for it, another answer
// goes.
func (a *arena) link(p place) {
	for !a.settle(p) { // ends when it cannot grow
		if !a.grow() {
			a.squeeze(p)
			return
		}
	}
}

// settle adds p to the index, if there is room.
func (a *arena) settle(p place) bool {
	b, o := a.bucket(p.tag()), a.second(p.tag())
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
func (a *arena) squeeze(p place) {
	var least *place
	worth := ^uint32(0)
	for _, b := range [...]int{a.bucket(p.tag()), a.second(p.tag())} {
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

// grow makes the index twice as large, and reports whether that was possible. It
// reads no more than the index: a put that has to do so takes a tenth of a
// millisecond, not ten.
func (a *arena) grow() bool {
	n := a.buckets()
	if 2*n*ways > cap(a.index) {
		return false
	}
	a.index = a.index[:2*n*ways]
	for b := n - 1; b >= 0; b-- { // what is in b goes to 2b and 2b+1, which are empty by then, or b itself
		row := *a.row(b)
		clear(a.row(b)[:])
		for _, p := range row {
			if p == 0 {
				continue
			}
			to := a.bucket(p.tag())
			if to/2 != b {
				to = a.second(p.tag())
			}
			a.put(to, p)
		}
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
func ghostOf(h uint64) uint16 { return max(uint16(h>>48), 1) }
