package dnstap

import (
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// change puts outputs in force.
func change(t *testing.T, tap *Tap, opt Options) {
	t.Helper()
	c, err := tap.Prepare(opt)
	if err != nil {
		t.Fatal(err)
	}
	c.Commit()
}

// TestChangesLoseAndDoubleNothing replaces a file again and again, with one of
// another identity, while many goroutines emit.
func TestChangesLoseAndDoubleNothing(t *testing.T) {
	dir := t.TempDir()
	conf := func(settings int) Options {
		return Options{Outputs: []Output{{
			Name: "out", File: &File{Path: filepath.Join(dir, "out")}, Filter: all(), QueueSize: 64 << 20, Settings: settings,
		}}}
	}
	tap := start(t, conf(0))
	var emitted atomic.Uint64
	var emitters sync.WaitGroup
	var stop atomic.Bool
	for lane := range 4 {
		emitters.Go(func() { // ends with stop
			for !stop.Load() {
				tap.Emit(lane, message(ClientQuery, uint16(lane)))
				if emitted.Add(1)%64 == 0 {
					time.Sleep(time.Millisecond) // leave something to the writers
				}
			}
		})
	}
	for i := range 20 {
		change(t, tap, conf(i+1))
		for before := emitted.Load(); emitted.Load() < before+100; {
			time.Sleep(time.Millisecond)
		}
	}
	stop.Store(true)
	emitters.Wait()
	shut(t, tap)
	s := stats(t, tap)
	if s.Emitted != emitted.Load() || s.Sent != s.Emitted || s.Opened != 21 {
		t.Errorf("%d emitted: %+v", emitted.Load(), s)
	}
	total := 0
	for _, name := range listing(t, dir) {
		total += len(readFile(t, filepath.Join(dir, name)))
	}
	if uint64(total) != emitted.Load() {
		t.Errorf("%d frames of %d", total, emitted.Load())
	}
}

func TestUnchangedOutputsGoOn(t *testing.T) {
	dir := t.TempDir()
	conf := func(names ...string) (opt Options) {
		for _, name := range names {
			opt.Outputs = append(opt.Outputs, Output{Name: name, File: &File{Path: filepath.Join(dir, name)}, Filter: all(), Settings: "s"})
		}
		return opt
	}
	tap := start(t, conf("a", "b"))
	a := tap.named("a")
	tap.Emit(0, message(ClientQuery, 1))
	change(t, tap, conf("c", "a"))
	tap.Emit(0, message(ClientQuery, 2))
	if tap.named("a") != a || tap.named("b") != nil {
		t.Error("another output, or one too many")
	}
	if got := tap.Stats(); len(got) != 2 || got[0].Emitted != 1 || got[1].Emitted != 2 {
		t.Errorf("%+v", got)
	}
	opt := conf("a")
	opt.Identity = "another"
	change(t, tap, opt)
	tap.Emit(0, message(ClientQuery, 3))
	if tap.named("a") == a {
		t.Error("frames go on to have the identity of before")
	}
	change(t, tap, Options{})
	if tap.Wants(ClientQuery) {
		t.Error("messages are wanted by nobody")
	}
	shut(t, tap)
	counts := map[string]int{}
	for _, name := range listing(t, dir) {
		counts[name[:1]] += len(readFile(t, filepath.Join(dir, name)))
	}
	if counts["a"] != 3 || counts["b"] != 1 || counts["c"] != 1 {
		t.Errorf("%v", counts)
	}
}

// TestChangeDoesNotWaitForACollectorThatIsAway drops an output whose collector
// never came.
func TestChangeDoesNotWaitForACollectorThatIsAway(t *testing.T) {
	tap := start(t, Options{Outputs: []Output{{Name: "away", Stream: &Stream{Network: "unix", Address: socketPath(t)}, Filter: all()}}})
	tap.Emit(0, message(ClientQuery, 1))
	away := tap.named("away")
	change(t, tap, Options{})
	select {
	case <-away.ended:
	case <-time.After(patience):
		t.Fatal("it never ended")
	}
	if s := away.Stats(); s.Emitted != 1 || s.Dropped != 1 || s.Queued != 0 {
		t.Errorf("%+v", s)
	}
}

func TestChangeThatMakesNoSenseChangesNothing(t *testing.T) {
	tap := start(t, Options{Outputs: []Output{{Name: "a", File: &File{Path: filepath.Join(t.TempDir(), "a")}, Filter: all()}}})
	if _, err := tap.Prepare(Options{Outputs: []Output{{Name: "a", File: &File{}}}}); err != nil { // the same settings: not looked at
		t.Error(err)
	}
	if _, err := tap.Prepare(Options{Outputs: []Output{{Name: "b", File: &File{}}}}); err == nil {
		t.Error("no error")
	}
	if tap.named("a") == nil {
		t.Error("the output is gone")
	}
}
