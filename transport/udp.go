package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"shirube/dnstap"
	"shirube/internal/netx"
)

// UDPOptions configures a [UDP]. A zero field but Handler means its default.
type UDPOptions struct {
	Handler Handler
	Slots   *Slots // shared with the other transports; nil: DefaultSlots of its own

	// MaxSize is the longest response in octets, and what is said to clients
	// in OPT records. A client that takes less gets less (RFC 9715 §3.2).
	MaxSize int

	// Timeout is how long a deferred query may take, from its arrival.
	Timeout time.Duration

	// DiscardTimeout is the age at which an answer is not sent any more. The
	// client has given up by then, and answers that an attacker can hold back
	// for longer, he can make burst at one address (DNSBomb, CVE-2024-33655).
	DiscardTimeout time.Duration

	Batch   int       // datagrams to a system call, up to netx.MaxBatch; netx.DefaultBatch
	Loop    netx.Loop // how the readers wait
	GiveWay bool      // clients on this machine run first: see netx.BatchOptions

	Tap *dnstap.Tap  // is told of every query and response; nil: nobody is
	Log *slog.Logger // nil: nowhere
}

// UDPStats is what a [UDP] has seen since it was made.
type UDPStats struct {
	Counts
	Late        uint64                // answers that were discarded for their age
	BadSource   uint64                // datagrams that nobody can be answered on
	Unlisted    uint64                // datagrams from others than the proxies that were expected
	NoProxy     uint64                // datagrams from proxies that did not say for whom they ask
	Overflow    uint64                // datagrams that the kernel threw away, as nobody had read those before them
	ReadErrors  uint64                // ICMP errors of earlier responses included
	Joined      uint64                // responses that went to their client in one piece with others
	GaveWay     uint64                // times that a reader let clients on this machine run before it read on
	Resting     int                   // goroutines that wait for a query that takes longer, now
	Waiting     int                   // queries that took a slot, and wait to be begun, now
	ShedWaiting uint64                // queries answered by Shed because too many waited
	Untold      uint64                // of them, those that got no answer
	SendErrors  [NumSendErrors]uint64 // responses that were not sent, by what went wrong

	// Batches counts the reads by how many datagrams they brought: 1, 2 and 3, 4
	// to 7, and so on.
	Batches [NumBatchSizes]uint64

	// Skew is how uneven the sockets of one address are loaded: what the busiest
	// reader received by the mean of all. 1 is even; as much as there are readers
	// means that one does it all, as when all clients are behind one proxy. With
	// several addresses it is that of the worst; 0 without traffic.
	Skew float64
}

// NumBatchSizes is how many sizes of batches are told apart in [UDPStats].
const NumBatchSizes = 8 // up to netx.MaxBatch

// UDP serves DNS over UDP on sockets that share their clients, with a
// goroutine for each.
type UDP struct {
	service
	batch   int // datagrams to a system call
	loop    netx.Loop
	giveWay bool
	discard atomic.Int64 // nanoseconds: UDPOptions.DiscardTimeout
	buffers sync.Pool    // of *[]byte, for the answers to deferred queries

	mu      sync.Mutex // guards what is below it, and Start against Shutdown
	readers []*udpReader
	gone    UDPStats        // of readers that were removed
	ctx     context.Context // that queries are served under; nil: not started
	cancel  context.CancelFunc
	stopped bool // for good

	closing sync.Once
	closed  error // what closing the sockets came to
}

// NewUDP returns a server for conns, which it owns from now on: see
// netx.ListenUDP. It serves nothing before [UDP.Start].
func NewUDP(opt UDPOptions, conns ...*net.UDPConn) *UDP {
	u := &UDP{
		service: newService(opt.Handler, opt.Slots, opt.Timeout, opt.MaxSize, opt.Log),
		loop:    opt.Loop,
		giveWay: opt.GiveWay,
		cancel:  func() {},
	}
	u.tap = opt.Tap
	u.discard.Store(int64(orDefault(opt.DiscardTimeout, DefaultDiscardTimeout)))
	u.batch = min(orDefault(opt.Batch, netx.DefaultBatch), netx.MaxBatch)
	u.buffers.New = func() any { b := make([]byte, 0, u.udpSize()); return &b }
	u.Add(conns...)
	return u
}

// Configure changes MaxSize, Timeout and DiscardTimeout to those of opt, for queries
// that come from now on. The rest of opt does not count.
func (u *UDP) Configure(opt UDPOptions) {
	u.set.change(opt.Timeout, opt.MaxSize)
	u.discard.Store(int64(orDefault(opt.DiscardTimeout, DefaultDiscardTimeout)))
}

// Start begins to serve. The end of ctx ends the queries in flight, but only
// [UDP.Shutdown] ends the server. To start twice, or after Shutdown, does
// nothing.
func (u *UDP) Start(ctx context.Context) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ctx != nil || u.stopped {
		return
	}
	u.ctx, u.cancel = context.WithCancel(ctx)
	for _, r := range u.readers {
		r.start(u.ctx)
	}
}

// Add serves conns too, which u owns from now on: at once, if u has been started.
// After Shutdown it closes them.
func (u *UDP) Add(conns ...*net.UDPConn) { u.AddBehind(nil, conns...) }

// AddBehind is [UDP.Add] for conns that clients come to by proxies, if there are
// any.
func (u *UDP) AddBehind(proxies *Proxies, conns ...*net.UDPConn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, c := range conns {
		if u.stopped {
			_ = c.Close() // nobody was served on it
			continue
		}
		r := newUDPReader(u, c, proxies)
		r.n.lane = len(u.readers)
		u.readers = append(u.readers, r)
		if u.ctx != nil {
			r.start(u.ctx)
		}
	}
}

// Remove serves conns no more: it answers what has come by them and closes them.
// Those that u does not have do not count. When ctx is done first it cancels
// what is still in flight, and returns ctx's error.
func (u *UDP) Remove(ctx context.Context, conns ...*net.UDPConn) error {
	u.mu.Lock()
	var removed []*udpReader
	u.readers = slices.DeleteFunc(u.readers, func(r *udpReader) bool {
		if !slices.Contains(conns, r.conn) {
			return false
		}
		removed = append(removed, r)
		return true
	})
	u.mu.Unlock()
	abandoned := u.end(ctx, removed)
	var err error
	for _, r := range removed {
		err = errors.Join(err, r.close())
		u.mu.Lock()
		r.addTo(&u.gone)
		u.mu.Unlock()
	}
	return errors.Join(abandoned, err)
}

// Shutdown stops reading, lets the queries in flight finish, and closes the
// sockets. When ctx is done first it cancels what is still in flight, and
// returns ctx's error. It can be called again, also while another call waits.
func (u *UDP) Shutdown(ctx context.Context) error {
	u.mu.Lock()
	u.stopped = true
	readers := slices.Clone(u.readers)
	u.mu.Unlock()
	abandoned := u.end(ctx, readers)
	u.cancel()
	u.closing.Do(func() {
		for _, r := range readers {
			u.closed = errors.Join(u.closed, r.close())
		}
	})
	return errors.Join(abandoned, u.closed)
}

// end ends readers, and returns when nothing of theirs is in flight any more.
func (u *UDP) end(ctx context.Context, readers []*udpReader) (abandoned error) {
	for _, r := range readers {
		r.stopReading()
	}
	for _, r := range readers {
		select {
		case <-r.idle:
		case <-ctx.Done():
			abandoned = fmt.Errorf("UDP queries were abandoned: %w", ctx.Err())
		}
	}
	for _, r := range readers {
		r.cancel()
		<-r.idle // Serve returns when its context is done
	}
	return abandoned
}

// longAgo is a deadline that has passed on every clock.
var longAgo = time.Unix(1, 0)

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Stats returns the current numbers. Each is exact; together they are not of
// one moment.
func (u *UDP) Stats() UDPStats {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.gone
	for _, r := range u.readers {
		r.addTo(&s)
	}
	s.Skew = u.skew()
	return s
}

// skew returns the Skew of [UDPStats]. The caller holds mu.
func (u *UDP) skew() (worst float64) {
	type load struct{ readers, total, most uint64 }
	loads := make(map[string]load)
	for _, r := range u.readers {
		at := r.conn.LocalAddr().String()
		l, n := loads[at], r.n.received.Load()
		loads[at] = load{l.readers + 1, l.total + n, max(l.most, n)}
	}
	for _, l := range loads {
		if l.total > 0 {
			worst = max(worst, float64(l.most*l.readers)/float64(l.total))
		}
	}
	return worst
}
