package stack

import (
	"runtime"
	"sync"
	"testing"
)

func TestReserveMakesTheStackLargeOnce(t *testing.T) {
	const goroutines, want = 1000, Size
	var before, after runtime.MemStats
	var ready, done sync.WaitGroup
	hold := make(chan struct{})
	runtime.GC() // it gives idle stacks back: all that come are new
	runtime.ReadMemStats(&before)
	ready.Add(goroutines)
	for range goroutines {
		done.Go(func() {
			Reserve()
			ready.Done()
			<-hold
		})
	}
	ready.Wait()
	runtime.ReadMemStats(&after)
	close(hold)
	done.Wait()
	// Other stacks are among them: a fifth either way.
	if got := (after.StackInuse - before.StackInuse) / goroutines; got < want*4/5 || got > want*6/5 {
		t.Errorf("a stack of %d bytes, want about %d", got, want)
	}
}
