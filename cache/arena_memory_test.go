//go:build linux && !race

package cache

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"shirube/internal/wire"
)

// resident returns how many bytes of memory are there, from proc_pid_smaps(5).
// No other mapping is merged with it: it has small pages only.
func resident(tb testing.TB, memory []byte) int64 {
	tb.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	from := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(memory))))
	to := from + uint64(len(memory))
	inside, sum := false, int64(0)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if start, end, ok := strings.Cut(fields[0], "-"); ok {
			a, errA := strconv.ParseUint(start, 16, 64)
			b, errB := strconv.ParseUint(end, 16, 64)
			inside = errA == nil && errB == nil && a < to && b > from
		} else if inside && fields[0] == "Rss:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				tb.Fatal(err)
			}
			sum += kib << 10
		}
	}
	return sum
}

func TestAnswersTakeMemoryAsTheyComeAndNoMoreThanTheirBytes(t *testing.T) {
	const limit = 64 << 20
	before := heap()
	c := NewAnswers(AnswersOptions{Bytes: limit})
	room := func() (mapped, onHeap int64) { return resident(t, c.table.Load().memory), heap() - before }
	if mapped, onHeap := room(); mapped > 64<<10 || onHeap > 1<<20 {
		t.Errorf("empty, %d bytes are resident, and %d on the heap", mapped, onHeap)
	}
	key := make([]byte, 0, maxKey)
	put := func(from, to int) {
		for i := from; i < to; i++ {
			n := numbered(uint64(i))
			key = appendKey(key[:0], []byte(n), wire.TypeA, false, false)
			c.put(key, sized(t, n, 100+i%200, 3600, 1, epoch))
		}
	}
	put(0, 1000)
	if mapped, _ := room(); mapped > 4<<20 {
		t.Errorf("with 1000 answers %d bytes are resident", mapped)
	}
	put(1000, 600_000)
	for i := range 100_000 { // failures take theirs from the same bytes
		c.Fail(question(fmt.Sprintf("h%d.example.", i), wire.TypeA), false, nil, epoch)
	}
	mapped, onHeap := room()
	st := c.Stats()
	t.Logf("%d bytes are resident, %d on the heap, of %d: %d answers, %d failures", mapped, onHeap, limit, st.Answers.Entries, st.Failures.Entries)
	if st.Answers.Evicted == 0 || st.Failures.Evicted == 0 {
		t.Errorf("there was room for all: %+v", st)
	}
	if mapped+onHeap > limit || mapped < limit*8/10 {
		t.Errorf("%d bytes are resident, and %d on the heap; allowed are %d", mapped, onHeap, limit)
	}
	if int64(len(c.table.Load().memory)) > st.Answers.Reserved || st.Answers.Reserved > limit {
		t.Errorf("%d bytes are mapped, %d reserved", len(c.table.Load().memory), st.Answers.Reserved)
	}
	runtime.KeepAlive(c)
}

func TestResizeGivesMemoryBackAsItGoes(t *testing.T) {
	c := NewAnswers(AnswersOptions{Bytes: 64 << 20})
	for i := range 300_000 {
		n := numbered(uint64(i))
		c.put(appendKey(nil, []byte(n), wire.TypeA, false, false), sized(t, n, 150, 3600, 1, epoch))
	}
	old := c.table.Load()
	to, err := newTable(32<<20, &c.rules, c.from)
	if err != nil {
		t.Fatal(err)
	}
	full := resident(t, old.memory)
	old.next.Store(to)
	for i := range old.arenas {
		c.move(old, i, to, c.since(epoch))
		if i%32 != 0 {
			continue
		}
		if left, most := resident(t, old.memory), full*int64(len(old.arenas)-i)/int64(len(old.arenas))+1<<20; left > most {
			t.Fatalf("with %d arenas moved, %d bytes of %d are resident", i+1, left, full)
		}
	}
	if left := resident(t, old.memory); left > 2<<20 { // pages that two share
		t.Errorf("at the end %d bytes are resident", left)
	}
	c.table.Store(to)
	checkArenas(t, c)
	runtime.KeepAlive(old)
}

func TestMemoryOfForgottenCachesIsUnmapped(t *testing.T) {
	mappings := func() int {
		text, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), "\n")
	}
	size := func() int64 { // of all mappings
		text, err := os.ReadFile("/proc/self/statm")
		if err != nil {
			t.Fatal(err)
		}
		pages, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return pages * int64(os.Getpagesize())
	}
	before, mapped := size(), mappings()
	for range 50 {
		NewAnswers(AnswersOptions{Bytes: 256 << 20}).Stats()
		runtime.GC()
	}
	for range 100 { // cleanups have a goroutine of their own
		runtime.GC()
		if size() < before+2<<30 {
			break
		}
	}
	if after := size(); after > before+2<<30 {
		t.Errorf("%d bytes were mapped, %d are now; %d and %d mappings", before, after, mapped, mappings())
	}
}
