package cache

import (
	"math/bits"
	"runtime"
	"sync/atomic"
	"unsafe"
)

const (
	// usualArenas is how many arenas there are: many times the number of cores,
	// so that two readers seldom meet, and no more, for each has pages of its
	// own.
	usualArenas = 256
	// minArena is how much memory each has at least, so that the largest answers
	// are no great part of a queue. Below 32 MiB there are fewer.
	minArena = 128 << 10
	// maxArena is what makes them more: to double the index of an arena should not
	// take long.
	maxArena = 16 << 20
	// maxArenas is how many there are at most: 64 GiB of the largest.
	maxArenas = 4096
)

// arenasFor returns how many arenas share so many bytes: a power of two.
func arenasFor(size int64) int {
	n := max(min(size/minArena, usualArenas), size/maxArena, 1)
	return 1 << (bits.Len64(uint64(min(n, maxArenas))) - 1)
}

// table is all the arenas of a cache.
type table struct {
	arenas   []arena // a power of two
	memory   []byte  // of all of them, in their order
	each     int     // octets of it for each
	from     source
	cleanup  runtime.Cleanup
	reserved int64                 // octets, its own included
	next     atomic.Pointer[table] // that takes its place; see Answers.Resize
}

// source is where memory comes from. All its functions take what the first one
// returned.
type source struct {
	get  func(size int) ([]byte, error) // zeros, at a multiple of 64 octets; not touched
	idle func(part []byte)              // the octets are not needed any more
	put  func(memory []byte)            // the end of all
}

// newTable returns a table that takes so many bytes in all. The error is that of
// the source.
func newTable(size int64, rules *arenaRules, from source) (*table, error) {
	size = max(size, 0)
	n := arenasFor(size)
	each := (int(size) - n*int(unsafe.Sizeof(arena{}))) / n &^ 63 // whole cache lines
	if each < bucketSize {
		each = 0
	}
	t := &table{arenas: make([]arena, n), each: each, from: from, reserved: int64(n) * (int64(unsafe.Sizeof(arena{})) + int64(each))}
	if each > 0 {
		var err error
		if t.memory, err = from.get(n * each); err != nil {
			return nil, err
		}
		// What readers hold on to is an arena, which is in the array.
		t.cleanup = runtime.AddCleanup(&t.arenas[0], from.put, t.memory)
	}
	for i := range t.arenas {
		t.arenas[i].arenaRules = rules
		t.arenas[i].lay(t.memory[i*each:][:each])
	}
	return t, nil
}

// arena returns the arena for keys with hash h.
func (t *table) arena(h uint64) *arena { return &t.arenas[h&uint64(len(t.arenas)-1)] }

// retire is the end of t, all of whose arenas are gone.
func (t *table) retire() {
	if t.memory != nil {
		t.cleanup.Stop()
		t.from.put(t.memory)
	}
}

// stats returns a snapshot of t and of what takes its place.
func (t *table) stats() ArenaStats {
	var st ArenaStats
	for ; t != nil; t = t.next.Load() {
		st.Reserved = t.reserved
		for i := range t.arenas {
			a := &t.arenas[i]
			a.mu.RLock()
			st.Bytes += int64(a.small.used + a.main.used)
			st.add(a.counts)
			a.mu.RUnlock()
		}
	}
	return st
}

// onHeap is memory from Go's heap, without a pointer in it. It is for tests, for
// the race detector watches no other, and for systems without mappings.
func onHeap() source {
	return source{
		get: func(size int) ([]byte, error) {
			words := make([]uint64, (size+7)/8+8) // the first may be anywhere in a cache line
			memory := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), len(words)*8)
			start := -int(uintptr(unsafe.Pointer(&words[0]))) & 63
			return memory[start:][:size], nil
		},
		idle: func([]byte) {},
		put:  func([]byte) {},
	}
}
