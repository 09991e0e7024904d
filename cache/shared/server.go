package shared

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"shirube/internal/hist"
)

// The bounds of what is under way with one server.
const (
	maxBatch  = 32  // look-ups asked for at once
	maxQueue  = 512 // look-ups that wait; one more is a miss
	setters   = 2   // values being written
	maxStores = 256 // entries waiting to be written; the oldest goes for one more
	spareConn = 2   // connections: to see whether a server has come back, and to write the list of flushes
)

// server is one memcached server. Everything that waits for it does so on
// goroutines of its own, few and counted, so that nobody else does.
type server struct {
	Server
	seed    uint64           // of its place among the others, from its name
	client  *memcache.Client // for all but look-ups
	dialer  *dialer
	breaker breaker
	slots   []*slot // of look-ups

	ctx  context.Context // ends when the server is no longer used
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex
	lookups []*lookup
	idle    []*slot // last in, first out: so that as few connections are used as will do
	claims  []*claim
	stores  []store
	setting int

	tooLong string // key of what is in place of a list of flushes, and has to go; held by Cache.fleet.syncing

	counts serverCounts
}

type serverCounts struct {
	gets, hits, late, errors, busy atomic.Uint64
	stored, kept, dropped, refused atomic.Uint64
	batches, rejected              atomic.Uint64
	took                           hist.Histogram
}

// lookup is one question to a server: the values of some keys.
type lookup struct {
	keys  []string
	items map[string]*memcache.Item // what came, of this look-up's and others' keys
	err   error
	gone  atomic.Bool   // nobody waits any more
	done  chan struct{} // closed when items and err are there
	begun time.Time
}

// store is one entry to be written.
type store struct {
	name    string
	value   func() (value []byte, seconds int32) // made when it is written; nil value: not any more
	fresher func(old []byte) bool                // whether what is there is to stay
	once    bool                                 // only where nothing is
}

// addr is where a server is, always the same one to the client library.
type addr struct{ text string }

func (a *addr) Network() string { return "tcp" }
func (a *addr) String() string  { return a.text }

// PickServer implements [memcache.ServerSelector] for a client of one server.
func (a *addr) PickServer(string) (net.Addr, error) { return a, nil }

// Each implements [memcache.ServerSelector].
func (a *addr) Each(f func(net.Addr) error) error { return f(a) }

var _ memcache.ServerSelector = (*addr)(nil)

func newServer(where Server, opt *Options) *server {
	s := &server{Server: where, seed: seedOf(where.Name)}
	most := opt.Batches + setters + spareConn
	s.dialer = &dialer{
		timeout: opt.Timeout, most: most, auth: opt.Auth, refused: func() { s.counts.refused.Add(1) },
		connect: new(net.Dialer).DialContext,
	}
	if opt.TLS != nil {
		s.dialer.tls = opt.TLS.Clone()
		if s.dialer.tls.ServerName == "" {
			s.dialer.tls.ServerName = where.host()
		}
	}
	at := &addr{where.Addr.String()}
	s.client = memcache.NewFromSelector(at)
	s.client.Timeout, s.client.MaxIdleConns, s.client.DialContext = opt.Timeout, setters+spareConn, s.dialer.dial
	for range opt.Batches {
		s.slots = append(s.slots, newSlot(at, opt.Timeout, s.dialer))
	}
	s.idle = slices.Clone(s.slots)
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// host returns the name that the server's certificate has to be for: its own
// one if it is a name of the DNS, else its address.
func (s *Server) host() string {
	if _, err := netip.ParseAddr(s.Name); err == nil || s.Name == "" {
		return s.Addr.Addr().String()
	}
	return s.Name
}

// close ends what is under way. It waits for as long as one operation takes.
func (s *server) close() {
	s.mu.Lock() // nobody begins anything between a look at ctx and its goroutine
	s.stop()
	s.mu.Unlock()
	s.wg.Wait()
	_ = s.client.Close() // nothing is written any more
	for _, sl := range s.slots {
		sl.close()
	}
}

// seize returns a slot for a look-up on the caller's goroutine, who gives it
// back; nil: none is idle, and what waits is to go together.
func (s *server) seize() *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.idle) - 1
	if last < 0 || s.ctx.Err() != nil {
		return nil
	}
	sl := s.idle[last]
	s.idle = s.idle[:last]
	s.wg.Add(1)
	return sl
}

// give gives back a slot that was seized. What has come to wait meanwhile goes
// on with it, and so does a connection whose answer is late.
func (s *server) give(sl *slot) {
	defer s.wg.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	if sl.late == nil && len(s.lookups) == 0 {
		s.idle = append(s.idle, sl)
		return
	}
	// As in ask.
	s.wg.Go(func() { s.get(sl) })
}

// lookUp asks for the value of key on the caller's goroutine, until a time. The
// error is errElsewhere if that has to be done elsewhere.
func (s *server) lookUp(sl *slot, until time.Time, key string) (*memcache.Item, error) {
	defer s.give(sl)
	item, err := sl.get(until, key)
	if errors.Is(err, errElsewhere) {
		return nil, err
	}
	s.counts.batches.Add(1)
	if sl.late == nil {
		s.broken(err)
	}
	return item, err
}

// ask has keys looked up. The result is there when the look-up is done; nil:
// too many wait.
func (s *server) ask(now time.Time, keys ...string) *lookup {
	l := &lookup{keys: keys, done: make(chan struct{}), begun: now}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.lookups) >= maxQueue || s.ctx.Err() != nil {
		s.counts.busy.Add(1)
		return nil
	}
	s.lookups = append(s.lookups, l)
	if last := len(s.idle) - 1; last >= 0 {
		sl := s.idle[last]
		s.idle = s.idle[:last]
		// Owner: s. End: when no look-up waits; what it waits for itself ends by
		// its time-out. Bound: slots; what comes meanwhile waits, and goes
		// together.
		s.wg.Go(func() { s.get(sl) })
	}
	return l
}

// get asks for what waits until nothing does. If an answer is late, it waits for
// that before.
func (s *server) get(sl *slot) {
	if sl.late != nil {
		s.broken(sl.rescue())
	}
	for {
		batch := s.take(sl)
		if len(batch) == 0 {
			return
		}
		items, err := s.fetch(sl, batch)
		for _, l := range batch {
			l.items, l.err = items, err
			close(l.done)
		}
	}
}

// fetch asks for all keys of a batch. With an error some may have come.
func (s *server) fetch(sl *slot, batch []*lookup) (map[string]*memcache.Item, error) {
	if err := s.ctx.Err(); err != nil {
		return nil, err
	}
	s.counts.batches.Add(1)
	keys := make([]string, 0, 2*len(batch))
	for _, l := range batch {
		keys = append(keys, l.keys...)
	}
	items, err := sl.getAll(keys)
	s.broken(err)
	return items, err
}

// take returns the look-ups that go together next; with none the slot is idle,
// and the goroutine is to end.
func (s *server) take(sl *slot) []*lookup {
	s.mu.Lock()
	defer s.mu.Unlock()
	var batch []*lookup
	n := 0
	for ; n < len(s.lookups) && len(batch) < maxBatch; n++ {
		if l := s.lookups[n]; !l.gone.Load() {
			batch = append(batch, l)
		}
	}
	rest := copy(s.lookups, s.lookups[n:])
	clear(s.lookups[rest:])
	s.lookups = s.lookups[:rest]
	if len(batch) == 0 {
		s.idle = append(s.idle, sl)
	}
	return batch
}

// broken has connections that wait for use closed when one was found broken:
// they mostly are, too, and each would cost a question to find out.
func (s *server) broken(err error) {
	if err == nil || errors.Is(err, errPace) || errors.Is(err, errConnections) || isCacheError(err) {
		return
	}
	_ = s.client.Close() // only those that nobody uses
	for _, sl := range s.slots {
		_ = sl.client.Close()
	}
}

// isCacheError reports whether err is an answer of the server.
func isCacheError(err error) bool {
	return errors.Is(err, memcache.ErrCacheMiss) || errors.Is(err, memcache.ErrNotStored) || errors.Is(err, memcache.ErrCASConflict)
}

// put has w written when its turn comes.
func (s *server) put(w store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return
	}
	if len(s.stores) >= maxStores { // the newest is of most use
		s.counts.dropped.Add(1)
		copy(s.stores, s.stores[1:])
		s.stores = s.stores[:len(s.stores)-1]
	}
	s.stores = append(s.stores, w)
	s.startSetter()
}

// startSetter has what waits to be written seen to. The caller holds mu.
func (s *server) startSetter() {
	if s.setting < setters {
		s.setting++
		// Owner: s. End: when nothing is to be written; each write ends by its
		// time-out. Bound: setters; the rest waits.
		s.wg.Go(s.set)
	}
}

// set writes what waits until nothing does.
func (s *server) set() {
	for {
		s.mu.Lock()
		if cl := s.nextClaim(); cl != nil {
			s.mu.Unlock()
			s.lay(cl)
			continue
		}
		if len(s.stores) == 0 || s.ctx.Err() != nil {
			s.setting--
			s.stores = nil
			s.mu.Unlock()
			return
		}
		w := s.stores[0]
		s.stores[0] = store{}
		s.stores = s.stores[1:]
		s.mu.Unlock()
		s.write(&w)
	}
}

// write writes one entry: where nothing is, or in place of one that is not
// fresher. Nobody else's newer word is overwritten, however late ours comes.
func (s *server) write(w *store) {
	value, seconds := w.value()
	if value == nil {
		s.counts.dropped.Add(1)
		return
	}
	item := &memcache.Item{Key: w.name, Value: value, Expiration: seconds}
	err := s.client.Add(item)
	if errors.Is(err, memcache.ErrNotStored) && !w.once {
		err = s.replace(item, w.fresher)
	}
	switch {
	case err == nil:
		s.counts.stored.Add(1)
	case isCacheError(err):
		s.counts.kept.Add(1)
	default:
		s.counts.errors.Add(1)
		s.broken(err)
	}
}

// replace writes item in place of what is there, unless that is fresher.
func (s *server) replace(item *memcache.Item, fresher func(old []byte) bool) error {
	old, err := s.client.Get(item.Key)
	if err != nil {
		return err
	}
	if fresher(old.Value) {
		return memcache.ErrNotStored
	}
	item.CasID = old.CasID
	return s.client.CompareAndSwap(item)
}

// answered counts a look-up that was answered in time, if only with an error.
func (s *server) answered(err error) {
	if err != nil {
		s.counts.errors.Add(1)
	}
	s.judge(verdictOf(err), time.Now())
}

// verdictOf is that of a look-up that was answered in time.
func verdictOf(err error) verdict {
	if err != nil {
		return wrong
	}
	return well
}

// judge counts a look-up.
func (s *server) judge(v verdict, now time.Time) {
	if !s.breaker.note(v, now) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() == nil {
		// Owner: s. End: when the server is in again, or no longer used. Bound:
		// one; only who trips the breaker gets here.
		s.wg.Go(s.watch)
	}
}

// watch waits for the server to be of use again.
func (s *server) watch() {
	for {
		timer := time.NewTimer(s.breaker.pause())
		select {
		case <-s.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if s.answers() {
			s.breaker.letIn(time.Now())
			return
		}
		s.breaker.failed(time.Now())
	}
}

// answers reports whether the server answers as fast as it should.
func (s *server) answers() bool {
	for range probes {
		begun := time.Now()
		if err := s.client.Ping(); err != nil {
			s.broken(err)
			return false
		}
		if time.Since(begun) > probeLimit {
			return false
		}
	}
	return true
}
