package cache

import (
	"unsafe"

	"shirube/internal/prefetch"
	"shirube/internal/wire"
)

// together is how many answers are fetched at a time: more than a processor has
// fetches under way, and few enough that the first is still near when the last comes.
const together = 32

// Expect has the processor fetch what [Answers.Append] reads for each of qs, which
// are to be asked next. To find an answer is to read three places one after the other,
// each of which says where the next one is, and where many answers are kept, or others
// use the processor too, each of them is far away: as far as some hundred instructions.
// Here all of qs are on the way to the first place before any of them goes to the
// second (group prefetching: "Improving hash join performance through prefetching", ICDE
// 2004). It changes nothing, waits for nobody and may be left out.
func (c *Answers) Expect(qs []*wire.Query) {
	for len(qs) > 0 {
		n := min(len(qs), together)
		c.expect(qs[:n])
		qs = qs[n:]
	}
}

func (c *Answers) expect(qs []*wire.Query) {
	var b [maxKey]byte
	var sought [together]struct {
		a *arena
		h uint64
	}
	t := c.table.Load() // a hint: what moves meanwhile is fetched when it is looked for
	for i, q := range qs {
		s := &sought[i]
		s.h = c.rules.hash(appendKey(b[:0], q.RawName(), q.Type, false, false))
		s.a = t.arena(s.h)
		s.a.fetch()
	}
	for i := range qs {
		sought[i].a.fetchBuckets(sought[i].h)
	}
	for i := range qs {
		sought[i].a.fetchSlot(sought[i].h)
	}
}

// cacheLine is what the processors that matter fetch at a time, in octets.
const cacheLine = 64

// fetch has a itself fetched, its lock and where its parts are.
func (a *arena) fetch() {
	p := uintptr(unsafe.Pointer(a))
	prefetch.Line(p)
	prefetch.Line(p + cacheLine)
}

// fetchBuckets has both buckets fetched that a key with hash h may be in, unless
// somebody writes.
func (a *arena) fetchBuckets(h uint64) {
	if !a.mu.TryRLock() {
		return
	}
	if len(a.index) > 0 {
		tag := tagOf(h)
		prefetch.Line(uintptr(unsafe.Pointer(a.row(a.bucket(tag)))))
		prefetch.Line(uintptr(unsafe.Pointer(a.row(a.second(tag)))))
	}
	a.mu.RUnlock()
}

// fetchSlot has the slot fetched that a key with hash h is in most likely, unless
// somebody writes: the beginning of it, which is all of most answers.
func (a *arena) fetchSlot(h uint64) {
	if !a.mu.TryRLock() {
		return
	}
	if p := a.tagged(tagOf(h)); p != 0 {
		at := uintptr(unsafe.Pointer(a.at(p.offset())))
		prefetch.Line(at)
		prefetch.Line(at + cacheLine)
	}
	a.mu.RUnlock()
}
