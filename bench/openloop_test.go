package main

import (
	"bytes"
	"fmt"
	"os/exec"
	"runtime/debug"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestOpenLoopAsksAtItsRateAndTimesEveryAnswer(t *testing.T) {
	questions := []string{"a.example A", "b.example AAAA", "c.example MX"}
	got, err := openLoop(t.Context(), loopback(t, 3), questions, 2000, 100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if got.Asked != 200 || got.NXDomain != 200 || got.Failed != 0 {
		t.Errorf("%+v: %v", *got, got.why)
	}
	if got.P50 <= 0 || got.P50 > got.P999 || got.P999 > got.Max || got.Rate <= 0 {
		t.Errorf("latencies and rate make no sense: %+v", *got)
	}
}

// It goes on asking a server that says nothing to one name, and counts what has
// no answer.
func TestOpenLoopDoesNotWaitForAnswers(t *testing.T) {
	silent := responder(t, func(msg []byte) {
		if bytes.Contains(msg, []byte("lost")) {
			msg[12]++ // no answer to this question
		}
		msg[2] |= 0x80
	})
	got, err := openLoop(t.Context(), silent, []string{"a.example A", "lost.example A"}, 1000, 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if got.Max != milliseconds(openPatience) {
		t.Errorf("what has no answer after %v is said to have taken %v ms", openPatience, got.Max)
	}
	if got.NoError != 25 || got.Failed != 25 || got.why[outcomeNone] != 25 {
		t.Errorf("%+v: %v", *got, got.why)
	}
}

func TestOpenLoopOfNoQueriesIsRefused(t *testing.T) {
	if got, err := openLoop(t.Context(), loopback(t, 0), []string{"a.example A"}, 1000, 0); err == nil {
		t.Errorf("%+v", *got)
	}
}

// A thread that runs before all others cannot wait for the collector of garbage, which
// may have no CPU meanwhile.
func TestNothingIsCollectedWhileAskingIsUrgent(t *testing.T) {
	query := newQuery(0, "a.example.", 1)
	var first, last debug.GCStats
	var kept []byte
	o := newOpenLoop(func(i int) []byte {
		kept = make([]byte, 1<<20) // 200 MiB in all, many times what makes it collect otherwise
		debug.ReadGCStats(&last)
		if i == 0 {
			first = last
		}
		return query
	})
	percent := gcPercent()
	if err := o.run(t.Context(), loopback(t, 0), mostUrgent, o.atMost(100)); err != nil {
		t.Fatal(err)
	}
	if last.NumGC != first.NumGC || len(kept) == 0 {
		t.Errorf("%d collections while it asked", last.NumGC-first.NumGC)
	}
	if got := gcPercent(); got != percent {
		t.Errorf("garbage is collected at %d %% afterwards, not at %d", got, percent)
	}
	if got := debug.SetMemoryLimit(-1); got == openHeap {
		t.Errorf("memory is limited to %d octets afterwards", got)
	}
}

// The thread that watches all others has to run when it is waited for.
func TestWatcherRunsBeforeAllOthersWhileAskingIsUrgent(t *testing.T) {
	all, err := threads()
	if err != nil {
		t.Fatal(err)
	}
	policies := func() (self, watcher uint32) {
		for thread, at := range map[int]*uint32{0: &self, all[1]: &watcher} {
			attr, err := unix.SchedGetAttr(thread, 0)
			if err != nil {
				t.Error(err)
				continue
			}
			*at = attr.Policy
		}
		return self, watcher
	}
	_, before := policies()
	var self, watcher uint32
	query := newQuery(0, "a.example.", 1)
	o := newOpenLoop(func(int) []byte {
		self, watcher = policies()
		return query
	})
	if err := o.run(t.Context(), loopback(t, 0), 1000, o.atMost(1)); err != nil {
		t.Fatal(err)
	}
	if self != watcher { // both, or neither where it is not allowed
		t.Errorf("policy %d asks, and %d watches", self, watcher)
	}
	if _, after := policies(); after != before {
		t.Errorf("policy %d watches afterwards, not %d", after, before)
	}
}

// What the thread that asks starts is not to run before all others, too: two threads
// of a server that did turned for ten minutes until a third one would have run.
func TestNobodyInheritsToRunBeforeAllOthers(t *testing.T) {
	query := newQuery(0, "a.example.", 1)
	var started error
	var child uint32
	o := newOpenLoop(func(int) []byte {
		cmd := exec.Command("sleep", "60")
		if started = cmd.Start(); started != nil {
			return query
		}
		attr, err := unix.SchedGetAttr(cmd.Process.Pid, 0)
		if started = err; err == nil {
			child = attr.Policy
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return query
	})
	if err := o.run(t.Context(), loopback(t, 0), 1000, o.atMost(1)); err != nil || started != nil {
		t.Fatal(err, started)
	}
	if child != unix.SCHED_NORMAL {
		t.Errorf("a child has policy %d", child)
	}
}

// gcPercent returns what [debug.SetGCPercent] was told last.
func gcPercent() int {
	percent := debug.SetGCPercent(100)
	debug.SetGCPercent(percent)
	return percent
}

func TestOpenLoopAsksFromTheCPUsItIsTold(t *testing.T) {
	var mine, seen unix.CPUSet
	if err := unix.SchedGetaffinity(0, &mine); err != nil {
		t.Fatal(err)
	}
	cpu := 0
	for !mine.IsSet(cpu) {
		cpu++
	}
	query := newQuery(0, "a.example.", 1)
	o := newOpenLoop(func(int) []byte {
		if err := unix.SchedGetaffinity(0, &seen); err != nil {
			t.Error(err)
		}
		return query
	})
	o.cpus = fmt.Sprintf("%d-%d", cpu, cpu)
	if err := o.run(t.Context(), loopback(t, 0), 1000, o.atMost(1)); err != nil {
		t.Fatal(err)
	}
	if seen.Count() != 1 || !seen.IsSet(cpu) {
		t.Errorf("asked from %d CPUs, not from %s alone", seen.Count(), o.cpus)
	}
	for _, wrong := range []string{"all", "3-2", "0-100000"} {
		o.cpus = wrong
		if err := o.run(t.Context(), loopback(t, 0), 1000, o.atMost(1)); err == nil {
			t.Errorf("CPUs %q: no error", wrong)
		}
	}
}

func TestPausesEndNotBeforeTheyAreDue(t *testing.T) {
	for _, spin := range []time.Duration{0, 20 * time.Microsecond, time.Second} {
		began := time.Now()
		late := pauseUntil(began, 200*time.Microsecond, spin)
		if got := time.Since(began); late < 0 || got < 200*time.Microsecond+late {
			t.Errorf("spin %v: it says that it is %v late, after %v", spin, late, got)
		}
	}
}

// IDs repeat after 65,536 queries of a socket: an answer is to the last of them.
func TestAnswersAreToTheLastQueryOfAnID(t *testing.T) {
	o := &openLoopRun{sockets: make([]int, 3), due: make([]int64, 3*70_000+2)} // the last is of socket 1
	for _, tt := range []struct {
		socket int
		id     uint16
		want   int
	}{
		{1, uint16(70_000 - 65_536), 3*70_000 + 1},
		{1, uint16(70_001 - 65_536), 3*4465 + 1},
		{2, uint16(69_999 - 65_536), 3*69_999 + 2},
		{0, 5000, 3 * 5000},
		{2, 4464, 3*4464 + 2},
	} {
		if got := o.numbered(tt.socket, tt.id); got != tt.want {
			t.Errorf("socket %d, ID %d: query %d, want %d", tt.socket, tt.id, got, tt.want)
		}
	}
	o.due = o.due[:2]
	if got := []int{o.numbered(2, 0), o.numbered(0, 1), o.numbered(0, 65_535), o.numbered(1, 0)}; got[0] != -1 || got[1] != -1 || got[2] != -1 || got[3] != 1 {
		t.Errorf("of what nobody asked: %v", got)
	}
}
