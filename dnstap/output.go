package dnstap

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// How long things take.
const (
	flushInterval = 100 * time.Millisecond // what is in a lane waits no longer
	minBackoff    = 100 * time.Millisecond // after a first failure of an output
	maxBackoff    = 10 * time.Second
	stallNotice   = time.Second      // a write that takes longer is a stall
	logInterval   = 10 * time.Second // between two lines about one output
)

// sink is where an output writes to, once it is open. One goroutine uses it.
type sink interface {
	// write writes whole frames, and returns how many octets of them arrived.
	write(b []byte) (int, error)
	// tick is called now and then.
	tick(now time.Time) error
	// gone is closed when writing is of no use any more.
	gone() <-chan struct{}
	// finish says that this was all, and closes the sink; unless all is well, in
	// order. No more calls follow.
	finish(well bool) error
}

// output sends frames to one place.
type output struct {
	name    string
	open    func(context.Context) (sink, error)
	filter  filter
	privacy privacy
	head    []byte // of each frame, before the message: identity and version
	tail    []byte // after it
	queue   *queue
	lanes   []lane
	log     *slog.Logger

	settings  any
	successor atomic.Pointer[output] // of the same name, which has taken over; nil: none has
	drain     chan struct{}          // closed when nothing more comes
	closing   sync.Once
	end       context.Context
	abort     context.CancelFunc
	ended     chan struct{} // closed when nothing more is sent

	inheriting sync.Mutex
	before     *output     // of the same name, which has not ended yet; nil: none
	inherited  OutputStats // of those that have

	// What the writer is at.
	pending *chunk // that was begun; nil: none
	off     int    // what of it was sent, in octets
	logged  time.Time
	down    bool // the last attempt failed, and the log says so

	left      atomic.Int64 // frames in pending that were not sent
	sent      atomic.Uint64
	octets    atomic.Uint64
	discarded atomic.Uint64 // dropped by the writer, at the end
	opened    atomic.Uint64
	failures  atomic.Uint64
	writing   atomic.Int64 // when the write under way began, in Unix nanoseconds; 0: none is
	connected atomic.Bool
}

func newOutput(opt *Options, conf *Output, lanes int) (*output, error) {
	if places(conf) != 1 {
		return nil, errOutput
	}
	o := &output{
		name: conf.Name, settings: conf.Settings, filter: newFilter(&conf.Filter), lanes: make([]lane, lanes),
		drain: make(chan struct{}), ended: make(chan struct{}),
	}
	var err error
	if o.privacy, err = newPrivacy(&conf.Privacy); err != nil {
		return nil, err
	}
	o.log = opt.Log.With("output", conf.Name)
	switch {
	case conf.Stream != nil:
		o.open, err = conf.Stream.opener()
	case conf.File != nil:
		o.open, err = conf.File.opener(o.log)
	default:
		o.open = func(context.Context) (sink, error) { return taker(conf.Take), nil }
	}
	if err != nil {
		return nil, err
	}
	size := conf.QueueSize
	if size == 0 {
		size = DefaultQueueSize
	}
	o.queue = newQueue(size)
	o.setHead(opt.Identity, opt.Version)
	o.tail = []byte{tagKind, kindMessage}
	return o, nil
}

// places returns to how many places conf sends.
func places(conf *Output) (n int) {
	for _, given := range []bool{conf.Stream != nil, conf.File != nil, conf.Take != nil} {
		if given {
			n++
		}
	}
	return n
}

// taker is a function of this process that frames are given to.
type taker func(frame []byte)

func (f taker) write(b []byte) (int, error) {
	for at := 0; at < len(b); {
		n := int(binary.BigEndian.Uint32(b[at:]))
		at += lengthLen
		f(b[at : at+n])
		at += n
	}
	return len(b), nil
}

func (taker) tick(time.Time) error  { return nil }
func (taker) gone() <-chan struct{} { return nil }
func (taker) finish(bool) error     { return nil }

// setHead makes what every frame begins with.
func (o *output) setHead(identity, version string) {
	o.head = nil
	if identity != "" {
		o.head = appendBytes(o.head, tagIdentity, []byte(identity))
	}
	if version != "" {
		o.head = appendBytes(o.head, tagVersion, []byte(version))
	}
	o.head = append(o.head, tagMessage)
}

// emit queues m, whose message Message has size octets. It reports false, and has
// done nothing, when the output is closed.
func (o *output) emit(at int, m *Message, size int) bool {
	length := len(o.head) + varintLen(uint64(size)) + size + len(o.tail)
	l := &o.lanes[at&(len(o.lanes)-1)]
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return false
	}
	l.emitted++
	c := l.room(o.queue, lengthLen+length)
	if c == nil {
		l.dropped++
		l.mu.Unlock()
		return true
	}
	querier := m.Query.Addr()
	if m.Type.isClient() {
		querier = o.privacy.address(querier, &l.hash)
	}
	b := binary.BigEndian.AppendUint32(c.b, uint32(length))
	b = append(b, o.head...)
	b = m.appendTo(binary.AppendUvarint(b, uint64(size)), querier)
	c.b = append(b, o.tail...)
	c.n++
	l.mu.Unlock()
	return true
}

// emitToNext is emit for who came to an output that was replaced: one message is
// neither lost nor told twice. It goes by the rules of the output that it gets to.
func (o *output) emitToNext(at int, m *Message, size int, draw uint32) {
	for next := o.successor.Load(); next != nil; next = next.successor.Load() {
		if !next.filter.takes(m, draw) || next.emit(at, m, size) {
			return
		}
	}
}

// close takes no more frames, and has the writer end when all are sent.
func (o *output) close() {
	o.closing.Do(func() {
		for i := range o.lanes {
			o.lanes[i].close(o.queue)
		}
		close(o.drain)
	})
}

// inherit counts on from old, which has ended.
func (o *output) inherit(old *output) {
	s := old.Stats()
	o.inheriting.Lock()
	defer o.inheriting.Unlock()
	o.before, o.inherited = nil, s
}

// forward queues a frame as it is, and reports whether there was room.
func (o *output) forward(at int, frame []byte) bool {
	l := &o.lanes[at&(len(o.lanes)-1)]
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.emitted++
	c := l.room(o.queue, lengthLen+len(frame))
	if c == nil {
		l.dropped++
		return false
	}
	c.b = append(binary.BigEndian.AppendUint32(c.b, uint32(len(frame))), frame...)
	c.n++
	return true
}

// errGone says that a collector hung up.
var errGone = errors.New("the collector closed the connection")

// run sends until all is sent after drain was closed, or until end.
func (o *output) run(end context.Context, drain <-chan struct{}) {
	delay := minBackoff
	for {
		s, err := o.open(end)
		if err == nil {
			o.up()
			delay = minBackoff
			err = o.feed(end, drain, s)
			o.connected.Store(false)
		}
		if err == nil || end.Err() != nil {
			return
		}
		o.failed(err)
		select {
		case <-drain: // one failure is enough: nobody waits for a collector that is not there
			return
		default:
		}
		if !o.pause(end, drain, delay) {
			return
		}
		delay = min(2*delay, maxBackoff)
	}
}

// pause waits for delay, half of it at random, so that a fleet does not come
// back all at once, or until drain. It reports false at the end.
func (o *output) pause(end context.Context, drain <-chan struct{}, delay time.Duration) bool {
	t := time.NewTimer(delay/2 + rand.N(delay/2+1))
	defer t.Stop()
	select {
	case <-t.C:
	case <-drain:
	case <-end.Done():
		return false
	}
	return true
}

// up notes that the output is open.
func (o *output) up() {
	o.opened.Add(1)
	o.connected.Store(true)
	if o.down {
		o.down = false
		o.log.Info("dnstap is being sent again", "failures", o.failures.Load(), "dropped", o.Stats().Dropped)
	}
}

// failed notes that the output could not be opened, or not be written to any
// more. The first time in a row, and not too often, the log is told.
func (o *output) failed(err error) {
	o.failures.Add(1)
	if now := time.Now(); !o.down && now.Sub(o.logged) >= logInterval {
		o.down, o.logged = true, now
		o.log.Warn("dnstap cannot be sent; trying again, and dropping what there is no room for", "error", err)
	}
}

// feed sends what comes to s. It returns nil when all was sent after drain was
// closed.
func (o *output) feed(end context.Context, drain <-chan struct{}, s sink) error {
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	draining := false
	for {
		for o.next() {
			if err := o.send(s); err != nil {
				_ = s.finish(false) // it is given up
				return err
			}
		}
		if draining {
			if err := s.finish(true); err != nil {
				o.log.Warn("dnstap was sent, but its end was not confirmed", "error", err)
			}
			return nil
		}
		var err error
		select {
		case <-o.queue.ready:
		case now := <-tick.C:
			for i := range o.lanes {
				o.lanes[i].flush(o.queue)
			}
			err = s.tick(now)
		case <-s.gone():
			err = errGone
		case <-drain: // the lanes are closed by now: all is in the queue
			draining = true
		case <-end.Done():
			err = end.Err()
		}
		if err != nil {
			_ = s.finish(false)
			return err
		}
	}
}

// next makes sure that there is a pending chunk, and reports false if there is
// nothing to send.
func (o *output) next() bool {
	if o.pending != nil {
		return true
	}
	c := o.queue.pop()
	if c == nil {
		return false
	}
	o.pending, o.off = c, 0
	o.left.Store(int64(c.n))
	return true
}

// send sends the pending chunk. After an error, what of it did not arrive is
// left for the next sink, from the frame that was cut.
func (o *output) send(s sink) error {
	rest := o.pending.b[o.off:]
	o.writing.Store(time.Now().UnixNano())
	n, err := s.write(rest)
	o.writing.Store(0)
	if err != nil {
		frames, octets := countFrames(rest, n)
		o.off += octets
		o.count(frames, octets)
		return err
	}
	o.count(int(o.left.Load()), len(rest))
	o.queue.give(o.pending)
	o.pending = nil
	return nil
}

func (o *output) count(frames, octets int) {
	o.left.Add(int64(-frames))
	o.sent.Add(uint64(frames))
	o.octets.Add(uint64(octets))
}

// discard drops what is queued. No writer is left.
func (o *output) discard() {
	for o.next() {
		o.discarded.Add(uint64(o.left.Swap(0)))
		o.queue.give(o.pending)
		o.pending = nil
	}
}
