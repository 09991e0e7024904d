package clock

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// maxFile is how much of the file is read, in octets: more is no number.
const maxFile = 64

// file is a file with an offset in it.
type file struct {
	path string
	log  *slog.Logger

	mu   sync.Mutex // who reads later has what was written later
	told string     // what is wrong with the file, as the log was told last
}

// read brings offset up to date and returns it.
func (f *file) read(offset *atomic.Int64) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.parse()
	switch {
	case err == nil:
		offset.Store(int64(d))
		f.told = ""
	case errors.Is(err, errEmpty): // somebody is writing it: os.WriteFile empties it first
	case err.Error() != f.told:
		f.told = err.Error()
		f.log.Warn("debug.clock_offset_file cannot be used; the clock stays as it is",
			"file", f.path, "offset", time.Duration(offset.Load()), "error", err)
	}
	return time.Duration(offset.Load())
}

var errEmpty = errors.New("empty; expected a number of seconds")

// parse returns the offset that the file has now.
func (f *file) parse() (time.Duration, error) {
	// O_NONBLOCK: a pipe without a writer must not hold up everybody.
	in, err := os.OpenFile(f.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = in.Close() }() // only read
	if info, err := in.Stat(); err != nil || !info.Mode().IsRegular() {
		return 0, errors.Join(err, errors.New("not a regular file"))
	}
	var buf [maxFile + 1]byte
	n, err := io.ReadFull(in, buf[:])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, err
	}
	return parse(string(buf[:n]))
}

// parse reads a number of seconds.
func parse(text string) (time.Duration, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return 0, errEmpty
	}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(seconds) || len(text) > maxFile {
		return 0, fmt.Errorf("found %.20q; expected a number of seconds", text)
	}
	if math.Abs(seconds) > MaxOffset.Seconds() {
		return 0, fmt.Errorf("found %g seconds; expected at most %g either way", seconds, MaxOffset.Seconds())
	}
	// The parts apart: together, the nanoseconds of a large number are lost.
	whole, part := math.Modf(seconds)
	return time.Duration(whole)*time.Second + time.Duration(math.Round(part*1e9)), nil
}
