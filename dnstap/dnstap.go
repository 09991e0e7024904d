// Package dnstap tells collectors what a server is asked and what it answers
// (dnstap.info), and never waits for them.
//
// A message is encoded once for each output that takes it, at the end of a
// buffer that belongs to the calling reader. Full buffers go to the output's
// writer as they are, and from there to a socket or a file. Where there is no
// room the message is dropped, and counted: what was emitted was sent, dropped,
// or is still queued, to the frame.
package dnstap

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// The limits of a [Tap].
const (
	maxLanes    = 64  // a queue has a chunk of 128 KiB in each that is in use
	MaxIdentity = 255 // octets of an identity, and of a version
)

// DefaultQueueSize is how much of an output's frames wait for its collector at
// most, in octets: a quarter of a second of 200,000 queries a second.
const DefaultQueueSize = 16 << 20

// Options configures a [Tap].
type Options struct {
	Identity string // who the server is; "": it does not say
	Version  string // what it is; "": it does not say. See [Tap.SetVersion]
	Outputs  []Output
	Log      *slog.Logger // nil: nowhere
}

// Output says where frames go and which. One of Stream, File and Take is needed.
type Output struct {
	Name string // in the log and in statistics: of each a different one

	Stream *Stream // to a collector
	File   *File   // to files

	// Take is called with each frame, which is borrowed, by the output's writer.
	Take func(frame []byte)

	Filter    Filter
	Privacy   Privacy
	QueueSize int // octets; 0: DefaultQueueSize

	// Settings are what the output was made of, for [Tap.Prepare]: an output of
	// the same name whose settings are equal is the same.
	Settings any
}

// Tap gives messages to its outputs. A nil Tap is off. Its methods may be called
// concurrently.
type Tap struct {
	current atomic.Pointer[outputs]
	seed    uint64
	lanes   int
	log     *slog.Logger

	changing sync.Mutex // held by who starts, changes or closes, and to read what is below
	started  bool
	closed   bool
	identity string
	version  string

	end     context.Context
	abort   context.CancelFunc
	writing sync.WaitGroup
}

// outputs are the outputs of a Tap at one time. They are not changed.
type outputs struct {
	list []*output
	any  [NumTypes]bool // some output may take the type
}

func newOutputs(list []*output) *outputs {
	s := &outputs{list: list}
	for _, o := range list {
		for typ, threshold := range o.filter.threshold {
			s.any[typ] = s.any[typ] || threshold > 0
		}
	}
	return s
}

// New returns a Tap that queues what comes and sends nothing before [Tap.Start].
func New(opt Options) (*Tap, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	t := &Tap{lanes: laneCount(runtime.GOMAXPROCS(0)), log: opt.Log}
	t.end, t.abort = context.WithCancel(context.Background())
	var seed [8]byte
	rand.Read(seed[:]) // never fails
	t.seed = binary.NativeEndian.Uint64(seed[:])
	t.current.Store(new(outputs))
	c, err := t.Prepare(opt)
	if err != nil {
		return nil, err
	}
	c.Commit()
	return t, nil
}

// laneCount returns how many lanes n processors need: a power of two.
func laneCount(n int) int {
	return min(1<<bits.Len(uint(max(n, 1)-1)), maxLanes)
}

// SetVersion is for who knows [Options] Version later than the rest: before
// [Tap.Start], and before anything is emitted.
func (t *Tap) SetVersion(version string) {
	t.changing.Lock()
	defer t.changing.Unlock()
	t.version = version
	for _, o := range t.current.Load().list {
		o.setHead(t.identity, t.version)
	}
}

// Start begins to send. A second call does nothing.
func (t *Tap) Start() {
	if t == nil {
		return
	}
	t.changing.Lock()
	defer t.changing.Unlock()
	if t.started || t.closed {
		return
	}
	t.started = true
	for _, o := range t.current.Load().list {
		t.write(o, o.before)
	}
}

// write has o send, when after, if it is not nil, has ended.
func (t *Tap) write(o *output, after *output) {
	// Owner: t. End: Close, or that o is not wanted any more. Bound: one for each
	// output, and as many that are about to end.
	t.writing.Go(func() {
		defer close(o.ended)
		if after != nil {
			<-after.ended
			o.inherit(after)
		}
		o.run(o.end, o.drain)
		o.discard() // what could not be sent, if the end came first
	})
}

// Close takes no more messages, sends what is queued and says goodbye to the
// collectors. When ctx ends first, what is left is dropped, and the error is
// ctx's.
func (t *Tap) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	t.changing.Lock()
	defer t.changing.Unlock()
	list := t.current.Load().list
	if !t.closed {
		t.closed = true
		for _, o := range list {
			o.close()
		}
	}
	stop := context.AfterFunc(ctx, t.abort)
	t.writing.Wait()
	late := !stop()
	t.abort()
	for _, o := range list {
		o.discard() // of a Tap that was not started
	}
	if late && ctx.Err() != nil {
		return fmt.Errorf("dnstap: frames were not sent in time: %w", context.Cause(ctx))
	}
	return nil
}

// Wants reports whether messages of a type may be taken: whether it is worth to
// find out what is to be said of one.
func (t *Tap) Wants(typ Type) bool { return t != nil && t.current.Load().any[typ] }

// Emit gives m to the outputs that take it. It neither blocks nor allocates, and
// keeps nothing of m. The same lane should be used by one goroutine only, or by
// few at a time; any number is one.
func (t *Tap) Emit(lane int, m *Message) {
	if t == nil {
		return
	}
	s := t.current.Load()
	if !s.any[m.Type] {
		return
	}
	draw, size := m.draw(t.seed), 0
	for _, o := range s.list {
		if !o.filter.takes(m, draw) {
			continue
		}
		if size == 0 {
			if m.Type.isResponse() && m.ResponseTime.IsZero() {
				m.ResponseTime = time.Now()
			}
			size = m.size()
		}
		if !o.emit(lane, m, size) { // it was replaced meanwhile
			o.emitToNext(lane, m, size, draw)
		}
	}
}

// Forward gives a frame that somebody else made to all outputs, whatever their
// filters say. It reports false when one of them has dropped it.
func (t *Tap) Forward(lane int, frame []byte) bool {
	all := true
	for _, o := range t.current.Load().list {
		all = o.forward(lane, frame) && all
	}
	return all
}

// HasRoom reports whether no output is about to drop frames: for who can wait.
func (t *Tap) HasRoom() bool {
	if t == nil {
		return true
	}
	for _, o := range t.current.Load().list {
		if o.queue.spare.Load() < minChunks/2 {
			return false
		}
	}
	return true
}

// errOutput says what an output lacks.
var errOutput = errors.New("expected one of a stream, a file and a function to send to")
