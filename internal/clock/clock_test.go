package clock

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// offsetFile is a file for a clock, and what its log was told.
type offsetFile struct {
	t    *testing.T
	path string
	log  bytes.Buffer
}

func newFile(t *testing.T) *offsetFile {
	return &offsetFile{t: t, path: filepath.Join(t.TempDir(), "offset")}
}

func (f *offsetFile) clock() *Clock {
	return FromFile(f.path, slog.New(slog.NewTextHandler(&f.log, nil)))
}

func (f *offsetFile) write(text string) {
	f.t.Helper()
	if err := os.WriteFile(f.path, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f *offsetFile) warnings() int { return strings.Count(f.log.String(), "level=WARN") }

func TestNilClockTellsTheRealTime(t *testing.T) {
	var c *Clock
	now := time.Now()
	if !c.At(now).Equal(now) || c.Offset() != 0 || time.Since(c.Now()) > time.Minute {
		t.Errorf("%v is %v by a nil clock", now, c.At(now))
	}
	if n := testing.AllocsPerRun(100, func() { _ = c.Now() }); n != 0 {
		t.Errorf("%v allocations to tell the time", n)
	}
}

func TestSetClockIsAheadOrBehindWithinItsBounds(t *testing.T) {
	var c Clock
	now := time.Now()
	for _, tt := range []struct{ set, want time.Duration }{
		{0, 0},
		{time.Hour, time.Hour},
		{-time.Hour, -time.Hour},
		{2 * MaxOffset, MaxOffset},
		{-2 * MaxOffset, -MaxOffset},
	} {
		c.Set(tt.set)
		if got := c.At(now).Sub(now); got != tt.want {
			t.Errorf("set to %v, the clock is %v ahead, want %v", tt.set, got, tt.want)
		}
	}
}

// TestTimesOfAMovedClockKeepTheirMonotonicReading: else the real clock being
// set would move what is kept after all.
func TestTimesOfAMovedClockKeepTheirMonotonicReading(t *testing.T) {
	var c Clock
	c.Set(20 * 365 * 24 * time.Hour)
	if now := c.Now(); !strings.Contains(now.String(), " m=") {
		t.Errorf("%v has none", now)
	}
}

func TestFileIsObeyedFromTheNextLookOn(t *testing.T) {
	f := newFile(t)
	f.write("0")
	c := f.clock()
	for _, tt := range []struct {
		text string
		want time.Duration
	}{
		{"86400\n", 24 * time.Hour},
		{"86401\n", 24*time.Hour + time.Second}, // same size, and the same tick of the file's clock
		{"-86400", -24 * time.Hour},
		{"  +1.5 ", 1500 * time.Millisecond},
		{"-0.25\r\n", -250 * time.Millisecond},
		{"3e3", 3000 * time.Second},
		{"315360000.000000001", 315360000 * time.Second}, // a float has no room for more
		{"0", 0},
	} {
		f.write(tt.text)
		now := time.Now()
		if got := c.At(now).Sub(now); got != tt.want {
			t.Errorf("%q: the clock is %v ahead, want %v", tt.text, got, tt.want)
		}
	}
	if f.log.Len() > 0 {
		t.Errorf("the log was told %s", &f.log)
	}
}

func TestFileThatIsReplacedOrRemovedIsNoticed(t *testing.T) {
	f := newFile(t)
	c := f.clock()
	if c.Offset() != 0 || f.warnings() != 1 {
		t.Errorf("without its file the clock is %v ahead, after %d warnings", c.Offset(), f.warnings())
	}
	f.write("10")
	next := newFile(t)
	next.write("20")
	if c.Offset() != 10*time.Second {
		t.Errorf("the clock is %v ahead", c.Offset())
	}
	if err := os.Rename(next.path, f.path); err != nil {
		t.Fatal(err)
	}
	if c.Offset() != 20*time.Second {
		t.Errorf("after a rename the clock is %v ahead", c.Offset())
	}
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	if c.Offset() != 20*time.Second || f.warnings() != 2 {
		t.Errorf("with its file removed the clock is %v ahead, after %d warnings", c.Offset(), f.warnings())
	}
}

func TestFileThatSaysNothingChangesNothingAndIsToldOnce(t *testing.T) {
	for _, text := range []string{
		"soon", "1 2", "1h", "0x10p", "NaN", "Inf", "-1e300", "1e10", strings.Repeat("0", 100),
	} {
		f := newFile(t)
		f.write("60")
		c := f.clock()
		f.write(text)
		for range 3 {
			if got := c.Offset(); got != time.Minute {
				t.Errorf("%q: the clock is %v ahead", text, got)
			}
		}
		if f.warnings() != 1 || !strings.Contains(f.log.String(), f.path) {
			t.Errorf("%q: the log was told %s", text, &f.log)
		}
		f.write("30")
		if got := c.Offset(); got != 30*time.Second {
			t.Errorf("after %q the clock is %v ahead", text, got)
		}
		f.write(text)
		if c.Offset(); f.warnings() != 2 {
			t.Errorf("%q again: the log was told %s", text, &f.log)
		}
	}
}

// TestFileThatIsBeingWrittenIsNoTrouble: most writers empty a file first.
func TestFileThatIsBeingWrittenIsNoTrouble(t *testing.T) {
	f := newFile(t)
	f.write("60")
	c := f.clock()
	f.write("")
	if c.Offset() != time.Minute || f.log.Len() > 0 {
		t.Errorf("the clock is %v ahead, and the log was told %s", c.Offset(), &f.log)
	}
}

func TestPipeInPlaceOfAFileHoldsNobodyUp(t *testing.T) {
	f := newFile(t)
	if err := syscall.Mkfifo(f.path, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := f.clock().Offset(); got != 0 || f.warnings() != 1 {
		t.Errorf("the clock is %v ahead, after %d warnings", got, f.warnings())
	}
}

func TestClockIsForManyAtOnce(t *testing.T) {
	f := newFile(t)
	f.write("1")
	c := f.clock()
	var wg sync.WaitGroup
	for range 8 { // each ends after a hundred looks
		wg.Go(func() {
			for range 100 {
				if d := c.Offset(); d != time.Second && d != 2*time.Second {
					t.Errorf("the clock is %v ahead", d)
				}
			}
		})
	}
	for i := range 100 {
		f.write([]string{"1", "2"}[i%2])
	}
	wg.Wait()
}
