package daemon

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// leastGarbage is how many octets Go may allocate before it looks for those that
// nobody needs any more, if that is more than what is needed (GOGC=100). Answers
// are not in its heap, so that is small for long, and by itself Go begins at 4
// MiB: with names that are not in memory that was a twentieth of all CPU time. It
// is 1/16 of what Go may have at most.
const leastGarbage = 64 << 20

// fetchedHeap is how much of it is there from the start; the rest comes as it is
// needed.
const fetchedHeap = 32 << 20

// PaceGarbage has Go collect garbage less often while there is little, for the
// whole process, until stop is called. The operator's word (GOGC) counts more.
func PaceGarbage() (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	p := &garbagePace{sample: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}}
	p.before = debug.SetGCPercent(100)
	p.adjust()
	fetchHeap(min(fetchedHeap, p.least()))
	p.await()
	return func() {
		p.stopped.Store(true)
		debug.SetGCPercent(p.before)
	}
}

type garbagePace struct {
	sample  []metrics.Sample
	before  int
	stopped atomic.Bool
}

// await has p adjusted after the next collection, and after each that follows.
func (p *garbagePace) await() {
	runtime.SetFinalizer(&struct{ _ [64]byte }{}, func(any) {
		if !p.stopped.Load() {
			p.adjust()
			p.await()
		}
	})
}

// adjust sets how much more there may be than what is needed.
func (p *garbagePace) adjust() {
	metrics.Read(p.sample)
	debug.SetGCPercent(garbagePercent(p.sample[0].Value.Uint64(), p.least()))
}

// least returns how much garbage there may be at least.
func (*garbagePace) least() uint64 { return min(leastGarbage, uint64(debug.SetMemoryLimit(-1))/16) }

// fetchHeap has the system give Go's heap n octets, in pages of 2 MiB where it
// can: the heap would grow to that with the first ten thousand questions, a page
// of 4 KiB at a time, for which a twentieth of their CPU time went. As there may be
// that much garbage, Go does not give it back.
func fetchHeap(n uint64) {
	b := make([]byte, n+hugePage) // so that n are whole pages wherever it begins
	useHugePages(b)
	for i := 0; i < len(b); i += os.Getpagesize() {
		b[i] = 1
	}
	runtime.KeepAlive(b)
	runtime.GC() // which frees b
}

// hugePage is the size of a huge page, in octets. The system's may be another one;
// then less of the memory is in one.
const hugePage = 2 << 20

// leastLive is what Go takes for live when less is: it collects nothing before the
// heap has 4 MiB, or so many more as the percentage is more than 100 (runtime/mgcpacer.go,
// heapMinimum).
const leastLive = 4 << 20

// garbagePercent returns how much garbage there may be beside live octets, in
// percent of what Go takes for that.
func garbagePercent(live, least uint64) int {
	return int(max(100, least*100/max(live, leastLive)))
}
