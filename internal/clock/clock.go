// Package clock is the time that data is judged by: what is kept, for how long,
// and whether a signature has begun or expired. It is the real time, except in
// a test of the server from outside, which cannot wait for a day to pass and
// moves this clock instead.
//
// What is measured or waited for goes by the real time whatever this clock
// says: round trips, timeouts, deadlines, sockets.
package clock

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// MaxOffset is how far a clock can be moved, either way. Twice as much is the
// most that two of its times can be apart, and less than a [time.Duration]
// holds.
const MaxOffset = 100 * 365 * 24 * time.Hour

// Clock tells the time. A nil one tells the real time; so does the zero value,
// until Set. It is safe for concurrent use, and goes back when it is set back:
// whoever keeps its times has to expect some that are still to come.
type Clock struct {
	offset atomic.Int64 // nanoseconds
	file   *file        // that says the offset; nil: Set does
}

// FromFile returns a clock that is as many seconds ahead of the real time as
// the file at path says when the clock is asked: a decimal number, which may
// have a fraction or a sign. It is read each time, and not watched, so that who
// writes it and then sends a query finds it obeyed: a notice from the system
// would race with the query, and a poll of its age or size would miss a change
// within one tick of the file system's clock. That costs some microseconds and
// is not for production. A file that is missing or that says nothing changes
// nothing; log is told once for each reason.
func FromFile(path string, log *slog.Logger) *Clock {
	c := &Clock{file: &file{path: path, log: log}}
	c.file.read(&c.offset)
	return c
}

// Set moves the clock to offset ahead of the real time, within [MaxOffset]. It
// is not for a clock with a file.
func (c *Clock) Set(offset time.Duration) {
	c.offset.Store(int64(min(max(offset, -MaxOffset), MaxOffset)))
}

// Offset returns how far the clock is ahead of the real time.
func (c *Clock) Offset() time.Duration {
	if c == nil {
		return 0
	}
	if c.file != nil {
		return c.file.read(&c.offset)
	}
	return time.Duration(c.offset.Load())
}

// Now returns the time. Like that of [time.Now], it has a monotonic reading.
func (c *Clock) Now() time.Time { return c.At(time.Now()) }

// At returns what the clock shows at t, a real time.
func (c *Clock) At(t time.Time) time.Time {
	if c == nil {
		return t
	}
	return t.Add(c.Offset())
}
