package transport

import (
	"context"
	"errors"
	"math/bits"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"shirube/internal/netx"
	"shirube/internal/wire"
)

// udpReader serves one socket. All of it but the counters belongs to the
// goroutine in run: queries are read, answered and sent without leaving it, a
// batch at a time, and the next ones reuse the same memory. A query that takes
// longer leaves as a copy.
type udpReader struct {
	udp     *UDP
	conn    *net.UDPConn
	local   netip.AddrPort // of the socket; perhaps all addresses
	batch   *netx.Batch
	proxies *Proxies      // who alone may use the socket; nil: everybody
	came    []arrival     // in the batch
	next    []*wire.Query // of them, those that are queries
	telling time.Time     // since when those were told that told counts
	told    int           // queries that were told that there is no room for them
	tx      []byte        // what the queries of a batch are answered with, one after the other
	lost    func(error)   // is r.notSent: made once, for a method value allocates

	n udpCounters

	cancel  context.CancelFunc // ends the queries in flight
	reading sync.WaitGroup
	serving sync.WaitGroup // queries in flight
	crew    crew           // who answer them
	queue   queue          // of them, those that wait to be begun
	yield   *netx.Yield    // after which more of them begin; run's
	ending  sync.Once
	stop    chan struct{} // closed when no more queries are to be read
	idle    chan struct{} // closed after stop, when nothing is in flight
}

// arrival is a datagram that has come.
type arrival struct {
	refused bool   // it is thrown away, and the rest says nothing
	msg     []byte // borrowed from the batch
	status  wire.Status
	q       wire.Query
}

type udpCounters struct {
	counters
	late       atomic.Uint64
	untold     atomic.Uint64
	badSource  atomic.Uint64
	unlisted   atomic.Uint64
	noProxy    atomic.Uint64
	overflow   atomic.Uint64 // as of when it was last asked for
	readErrors atomic.Uint64
	sendErrors [NumSendErrors]atomic.Uint64
	batches    [NumBatchSizes]atomic.Uint64
	_          [64]byte // see counters
}

func newUDPReader(u *UDP, c *net.UDPConn, proxies *Proxies) *udpReader {
	r := &udpReader{udp: u, conn: c, proxies: proxies, cancel: func() {}, stop: make(chan struct{}), idle: make(chan struct{})}
	most := maxQuery
	if proxies != nil {
		most += MaxProxyHeader
	}
	r.batch = netx.NewBatch(c, netx.BatchOptions{MaxMessage: most, Size: u.batch, Loop: u.loop, GiveWay: u.giveWay})
	if a, ok := c.LocalAddr().(*net.UDPAddr); ok {
		r.local = netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	}
	r.came, r.next = make([]arrival, u.batch), make([]*wire.Query, 0, u.batch)
	r.tx = make([]byte, 0, u.batch*int(u.udpSize()))
	r.lost = r.notSent
	return r
}

// start begins to read. It is called once, and not after stopReading.
func (r *udpReader) start(ctx context.Context) {
	ctx, r.cancel = context.WithCancel(ctx)
	// Owner: UDP. End: stopReading. Bound: one for each socket.
	r.reading.Go(func() { r.run(ctx) })
}

// stopReading makes r end after the datagrams that have come, once.
func (r *udpReader) stopReading() {
	r.ending.Do(func() {
		close(r.stop)
		r.batch.Interrupt()
		// Owner: who calls, and waits for idle. End: that of the last query in
		// flight. Bound: one for each reader.
		go func() {
			r.reading.Wait() // nobody reads: nobody adds to serving
			r.serving.Wait()
			r.crew.dismiss()
			close(r.idle)
		}()
	})
}

// close closes the socket.
func (r *udpReader) close() error {
	r.overflow() // the last time that it can be known
	return r.conn.Close()
}

// run reads until stopReading. No error of the socket ends it: whoever can cause
// one (ICMP, a full queue) could switch the server off.
func (r *udpReader) run(ctx context.Context) {
	r.batch.Attach()
	defer r.batch.Detach()
	r.yield = netx.NewYield()
	defer r.yield.Close()
	defer r.beginAll(ctx)
	// Single errors are ICMP's answers to earlier responses, and come as fast
	// as clients like; a socket that gives nothing else is broken.
	wait := backoff{spare: 16, min: time.Millisecond, max: time.Second}
	for {
		n, err := r.receive()
		if isClosed(r.stop) {
			r.handleBatch(ctx, n)
			r.finishReading(ctx)
			return
		}
		switch {
		case err == nil:
			wait.ok()
			r.round(ctx, n)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			r.n.readErrors.Add(1)
			wait.failed(r.stop)
		}
	}
}

// receive waits for datagrams, but not while there are queries to be begun: then it
// lets others run, and returns those that have come, if any.
func (r *udpReader) receive() (int, error) {
	if r.queue.n == 0 {
		return r.batch.Receive()
	}
	r.yield.Wait()
	return r.batch.Poll()
}

// round deals with n datagrams that were read, and with those that have come
// meanwhile, so that hits among them need not wait for misses.
func (r *udpReader) round(ctx context.Context, n int) {
	for taken := n; ; taken += n {
		r.handleBatch(ctx, n)
		if n < r.udp.batch || taken >= roundMost {
			break
		}
		more, err := r.batch.Poll()
		if err != nil {
			r.n.readErrors.Add(1)
		}
		if n = more; err != nil || n == 0 {
			break
		}
	}
	r.turn(ctx)
	if n == r.udp.batch && r.queue.n == 0 {
		// There is more, and a reader that never waits keeps the goroutines that
		// it started from running, for as long as the runtime lets it.
		r.yield.Wait()
	}
}

// lastReads bounds how many datagrams are read after it was decided to read no
// more: as many as a full receive buffer of the usual size has.
const lastReads = 10_000

// finishReading deals with the datagrams that have come already: nobody else
// will.
func (r *udpReader) finishReading(ctx context.Context) {
	for left := lastReads; left > 0; {
		n, err := r.batch.Poll()
		switch {
		case err == nil && n == 0:
			return
		case err != nil: // of an earlier response, most likely
			r.n.readErrors.Add(1)
			left--
			continue
		}
		r.handleBatch(ctx, n)
		r.turn(ctx)
		left -= n
	}
}

// beginAll begins what waits: nobody else will.
func (r *udpReader) beginAll(ctx context.Context) {
	for r.queue.n > 0 {
		r.turn(ctx)
		r.yield.Wait()
	}
}

// handleBatch deals with n datagrams. All have come by now, if not just now: one
// look at the clock does for them.
func (r *udpReader) handleBatch(ctx context.Context, n int) {
	if n == 0 {
		return
	}
	r.n.batches[bits.Len(uint(n))-1].Add(1)
	now, tx := time.Now(), r.tx
	r.read(n, now)
	for i := range n {
		tx = r.handle(ctx, tx, i)
	}
	r.batch.Flush(r.lost)
	if cap(tx) > cap(r.tx) { // answers may be longer than they were
		r.tx = tx[:0]
	}
}

// read parses n datagrams, which came by now, and tells the Handler of the queries
// among them.
func (r *udpReader) read(n int, now time.Time) {
	r.next = r.next[:0]
	for i := range n {
		m := &r.came[i]
		m.refused = !r.open(m, i, now)
		if !m.refused && m.status == wire.OK {
			r.next = append(r.next, &m.q)
		}
	}
	r.udp.expect(&r.n.counters, r.next)
}

// open reads the i-th datagram into m. It reports false if that is to be thrown
// away.
func (r *udpReader) open(m *arrival, i int, now time.Time) bool {
	d := r.batch.Datagram(i)
	if d.Group || badSource(d.From) {
		r.n.received.Add(1)
		r.n.badSource.Add(1)
		return false
	}
	ends, ok := r.unwrap(&d)
	if !ok {
		r.n.received.Add(1)
		return false
	}
	q := &m.q
	m.msg, m.status = d.Msg, parse(q, d.Msg, d.Cut)
	q.Client, q.Proto, q.Received, q.Limit = ends.client, wire.UDP, now, q.UDPLimit(int(r.udp.udpSize()))
	q.Local = ends.server
	return true
}

// handle deals with the i-th datagram, and returns tx with the response to it.
// Where there is none, what was appended in vain is left for the next one to
// write over.
func (r *udpReader) handle(ctx context.Context, tx []byte, i int) []byte {
	m := &r.came[i]
	if m.refused {
		return tx
	}
	q := &m.q
	rsp, outcome := r.udp.answer(&r.n.counters, tx, m.msg, q, m.status)
	if outcome == Deferred {
		var ok bool
		if r.queue.full() {
			rsp, outcome = r.turnAway(tx, q)
		} else if rsp, ok = r.udp.take(&r.n.counters, tx, q); ok {
			r.leave(ctx, q, r.batch.Return(i))
			return tx
		} else {
			outcome = Answered
		}
	}
	if outcome != Answered {
		return tx
	}
	r.batch.Reply(i, rsp[len(tx):])
	return rsp
}

// unwrap returns whose message is in d, and whom it has asked: who sent it or, if
// that is a proxy, whom it names in a header, which unwrap takes off. It reports
// false if d is to be thrown away.
func (r *udpReader) unwrap(d *netx.Datagram) (ends proxied, ok bool) {
	ends = proxied{client: d.From, server: r.local}
	if d.Local.IsValid() {
		ends.server = netip.AddrPortFrom(d.Local, r.local.Port())
	}
	if !r.proxies.expected() {
		return ends, true
	}
	if !r.proxies.lists(d.From.Addr()) {
		r.n.unlisted.Add(1)
		return ends, false
	}
	named, msg, ok := unwrapProxy(d.Msg)
	if !ok {
		r.n.noProxy.Add(1)
		return ends, false
	}
	if d.Msg = msg; len(msg) > maxQuery {
		d.Msg, d.Cut = msg[:maxQuery], true
	}
	if named.client.IsValid() {
		ends = named
	}
	return ends, true
}

// badSource reports whether a response to a is worth nothing to anybody, or
// would go to more than one host: port 0 (RFC 768: no reply), no address, and
// groups (RFC 1122 §4.1.3.6).
func badSource(a netip.AddrPort) bool {
	ip := a.Addr()
	return a.Port() == 0 || ip.IsUnspecified() || ip.IsMulticast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// finish answers a deferred query, on a worker's goroutine.
func (r *udpReader) finish(ctx context.Context, q *wire.Query, to netx.Return) {
	buf := r.udp.buffers.Get().(*[]byte)
	defer r.udp.buffers.Put(buf)
	rsp := r.udp.serve(ctx, &r.n.counters, (*buf)[:0], q)
	switch {
	case rsp == nil:
	case time.Since(q.Received) > time.Duration(r.udp.discard.Load()):
		r.n.late.Add(1)
	default:
		r.udp.answered(&r.n.counters, q, rsp)
		if err := r.batch.Send(rsp, to); err != nil {
			r.notSent(err)
		}
	}
}

// notSent counts a response that could not be sent. To the client it is lost,
// and he asks again.
func (r *udpReader) notSent(err error) { r.n.sendErrors[sendErrorOf(err)].Add(1) }

// overflow returns how many datagrams the kernel has thrown away; of a socket that
// is closed, how many there were when it was not.
func (r *udpReader) overflow() uint64 {
	if n, err := netx.Overflow(r.conn); err == nil {
		r.n.overflow.Store(n)
	}
	return r.n.overflow.Load()
}

// addTo adds what r has counted to sum.
func (r *udpReader) addTo(sum *UDPStats) {
	r.n.addTo(&sum.Counts)
	sum.Late += r.n.late.Load()
	sum.BadSource += r.n.badSource.Load()
	sum.Unlisted += r.n.unlisted.Load()
	sum.NoProxy += r.n.noProxy.Load()
	sum.Overflow += r.overflow()
	sum.ReadErrors += r.n.readErrors.Load()
	sum.Joined += r.batch.Joined()
	sum.GaveWay += r.batch.GaveWay()
	sum.Resting += r.crew.resting()
	sum.Waiting += r.queue.size()
	sum.ShedWaiting += r.queue.shed.Load()
	sum.Untold += r.n.untold.Load()
	for i := range r.n.sendErrors {
		sum.SendErrors[i] += r.n.sendErrors[i].Load()
	}
	for i := range r.n.batches {
		sum.Batches[i] += r.n.batches[i].Load()
	}
}
