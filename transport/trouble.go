package transport

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// logInterval is how far apart two records of one [quietLog] are at least.
const logInterval = time.Second

// quietLog writes one record a second at most, so that trouble that a client
// can make again and again does not fill a disk.
type quietLog struct {
	log   *slog.Logger
	state *quietState
}

type quietState struct {
	next atomic.Int64  // Unix nanoseconds before which nothing is written
	held atomic.Uint64 // records not written since the last one
}

// newQuietLog returns a quietLog that writes to log; nil is nowhere.
func newQuietLog(log *slog.Logger) quietLog {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return quietLog{log: log, state: new(quietState)}
}

func (l quietLog) error(msg string, args ...any) {
	now := time.Now().UnixNano()
	next := l.state.next.Load()
	if now < next || !l.state.next.CompareAndSwap(next, now+int64(logInterval)) {
		l.state.held.Add(1)
		return
	}
	l.log.Log(context.Background(), slog.LevelError, msg, append(args, "not_logged", l.state.held.Swap(0))...)
}

// backoff spaces out the attempts of a loop whose calls fail, so that it does
// not spin when they fail at once and for ever.
type backoff struct {
	spare    int // failures in a row that cost no wait: single ones mean nothing
	min, max time.Duration

	failures int
	delay    time.Duration
}

// ok forgets the failures so far.
func (b *backoff) ok() { b.failures, b.delay = 0, 0 }

// failed waits as long as one more failure asks for. It reports false when stop
// was closed meanwhile.
func (b *backoff) failed(stop <-chan struct{}) bool {
	if b.failures++; b.failures <= b.spare {
		return true
	}
	b.delay = min(max(2*b.delay, b.min), b.max)
	t := time.NewTimer(b.delay)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-stop:
		return false
	}
}
