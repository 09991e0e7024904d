package shared

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"shirube/internal/wire"
)

// How the list of flushes is followed.
const (
	pollFlushes = 500 * time.Millisecond // between two looks, so that none is a second after another though a server is silent
	maxListAge  = 3 * time.Second        // without a look, nothing is taken or told: it may have been flushed
	maxCopies   = 5                      // servers that have the list
)

// flushGrace is for how long after a flush what others tell about its names is
// not taken: they may have found it before they knew, for as long as they tell
// anything without a look at the list, and by a clock that is ahead.
const flushGrace = maxListAge + maxSkew

// fleet is what a server knows of the flushes of its fleet. The zero value knows
// of none, and takes everything.
type fleet struct {
	heeds  atomic.Bool   // nothing is taken before the list is known, or without it
	synced atomic.Int64  // when the list was known last, in nanoseconds after Cache.begun; 0: never
	forget func([]Flush) // has the rest of this server obey; nil: there is none

	syncing sync.Mutex // held by who reads and writes the copies, and by who uses again
	again   []again
	unread  bool  // that the list cannot be read has been said
	trouble error // what came of it where it could not be read, lately

	mu     sync.Mutex
	list   flushList
	bumped time.Time // when the epoch was learned
	copies int       // that were read the last time
	of     int       // that there are

	given, learned, written, compacted, behind atomic.Uint64
}

// again is what is to be forgotten once more, when that is over which was under
// way the first time.
type again struct {
	what []Flush
	at   time.Time
}

// everything is an order about all that is shared.
func everything(until time.Time) Flush { return Flush{Name: wire.Root, Below: true, Until: until} }

// everything reports whether f is one.
func (f *Flush) everything() bool { return f.Name == wire.Root && f.Below && f.Type == 0 }

// Heed has nothing be taken or told from now on that may have been flushed by
// another server: nothing at all while the list of flushes is not known, which
// Follow sees to.
func (c *Cache) Heed() { c.fleet.heeds.Store(true) }

// Follow keeps this server after the flushes of the others until ctx ends.
// forget is called with each that is new, after it counts for what is taken from
// now on; and once more after Options.Settle.
func (c *Cache) Follow(ctx context.Context, forget func([]Flush)) {
	c.Heed()
	c.fleet.syncing.Lock()
	c.fleet.forget = forget
	c.fleet.syncing.Unlock()
	tick := time.NewTicker(pollFlushes)
	defer tick.Stop()
	for {
		c.sync(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// behind reports whether the list of flushes is not known as it should be at now,
// a real time.
func (c *Cache) behind(now time.Time) bool {
	if !c.fleet.heeds.Load() {
		return false
	}
	last := c.fleet.synced.Load()
	return last == 0 || now.Sub(c.begun)-time.Duration(last) > maxListAge
}

// ErrUntold is what FlushFleet returns when most servers did not take the order.
var ErrUntold = errors.New("most servers of the shared cache do not have the order yet; it is given to them as soon as they can be reached, for as long as this server runs")

// Told is to whom an order was given.
type Told struct {
	Copies int    // servers that have it
	Of     int    // that there are for the list
	Epoch  uint64 // that was begun; 0: none
}

// FlushFleet has the whole fleet forget what f is about, of what was stored
// until now; an f that is about everything begins a new epoch. Each server
// obeys as soon as it has read of it. The error is ErrUntold.
func (c *Cache) FlushFleet(ctx context.Context, f Flush) (Told, error) {
	now := c.opt.Clock.Now()
	o := newOrder(f)
	o.id, o.learned = rand.Uint64(), now //nolint:gosec // to tell orders apart; nobody gains by a guess
	o.until = now.Truncate(time.Millisecond)
	f.Until = now
	var told Told
	c.fleet.mu.Lock()
	c.fleet.given.Add(1)
	if f.everything() {
		told.Epoch = c.fleet.list.nextEpoch(now)
		c.fleet.list.begin(told.Epoch, now)
		c.bump(now)
	} else {
		o.epoch = c.fleet.list.epoch
		if have, ok := c.fleet.list.orders[o.key()]; ok && !have.older(&o) { // given by a clock that is ahead
			o.until = have.until.Add(time.Millisecond)
		}
		c.fleet.list.put(o)
		c.compact(now)
	}
	want := c.fleet.list.clone()
	c.fleet.mu.Unlock()
	c.fleet.syncing.Lock()
	c.remember([]Flush{f})
	c.fleet.syncing.Unlock()
	told.Copies, told.Of = c.tell(ctx, &want)
	if 2*told.Copies < told.Of || told.Copies == 0 {
		return told, ErrUntold
	}
	return told, nil
}

// bump has the epoch of the list be that of all keys. The caller holds fleet.mu.
func (c *Cache) bump(now time.Time) {
	c.fleet.bumped = now
	c.ring.epoch.Store(c.fleet.list.epoch)
}

// compact makes a list that is too long a new epoch, which needs none of it. It
// reports whether it did. The caller holds fleet.mu.
func (c *Cache) compact(now time.Time) bool {
	l := &c.fleet.list
	if l.prune(now, c.opt.Life); !l.overflows() {
		return false
	}
	clear(l.orders)
	l.epoch = l.nextEpoch(now)
	c.bump(now)
	c.fleet.compacted.Add(1)
	return true
}

// put adds o, in place of an older one about the same.
func (l *flushList) put(o order) {
	if l.orders == nil {
		l.orders = make(map[string]order)
	}
	l.orders[o.key()] = o
}

// clone returns a copy of l.
func (l *flushList) clone() flushList {
	out := flushList{epoch: l.epoch}
	for _, o := range l.orders {
		out.put(o)
	}
	return out
}

// tell has the copies of the list written, and returns how many servers have all
// that is in want, of how many.
func (c *Cache) tell(ctx context.Context, want *flushList) (have, of int) {
	for range 2 { // another server may write at the same moment
		told := make(map[*server]bool) // all copies that a server has, one for each secret
		for _, at := range c.sync(ctx) {
			before, again := told[at.s]
			told[at.s] = at.known && at.list.has(want) && (before || !again)
		}
		have, of = 0, len(told)
		for _, all := range told {
			if all {
				have++
			}
		}
		if have == of {
			break
		}
	}
	return have, of
}

// listCopy is the list of flushes as one server has it, under one name.
type listCopy struct {
	s     *server
	seal  listSeal
	item  *memcache.Item // as it was read; nil: there is none
	list  flushList
	known bool // the server has answered, and what it has could be read
}

// sync reads all copies of the list, obeys what is new in them, and writes it to
// those that lack something. It returns them as they are then.
func (c *Cache) sync(ctx context.Context) []listCopy {
	c.fleet.syncing.Lock()
	defer c.fleet.syncing.Unlock()
	copies := c.readCopies(ctx)
	c.obey(copies)
	for i := range copies {
		c.mend(&copies[i])
	}
	c.settle()
	c.complain(time.Now())
	return copies
}

// complain says once that the shared cache is not used, for the list cannot be
// read, and when that is over. The caller holds fleet.syncing.
func (c *Cache) complain(now time.Time) {
	f := &c.fleet
	unread := c.behind(now) && now.Sub(c.begun) > maxListAge
	if unread == f.unread {
		return
	}
	if f.unread = unread; !unread {
		c.opt.Log.Info("the shared cache is used again")
		return
	}
	if f.trouble == nil {
		f.trouble = errors.New("no memcached answers in time")
	}
	c.opt.Log.Warn("the shared cache is not used: the fleet's flushes cannot be read", "error", f.trouble)
	f.trouble = nil
}

// readCopies asks the servers that have the list for it, all at once.
func (c *Cache) readCopies(ctx context.Context) (copies []listCopy) {
	now := time.Now()
	ctx, cancel := context.WithTimeout(ctx, c.opt.Timeout)
	defer cancel()
	seals := c.ring.keys.Load().lists
	var asked []*lookup
	servers := copyServers(*c.servers.Load())
	for _, s := range servers {
		var l *lookup
		if !s.breaker.out.Load() {
			c.clear(s)
			var names []string
			for _, seal := range seals {
				names = append(names, seal.name)
			}
			l = s.ask(now, names...)
		}
		asked = append(asked, l)
	}
	for i, l := range asked {
		answered := false
		if l != nil {
			select {
			case <-l.done:
				answered = l.err == nil
				c.hear(servers[i], l.err)
			case <-ctx.Done():
				l.gone.Store(true)
			}
		}
		for _, seal := range seals {
			at := listCopy{s: servers[i], seal: seal}
			if answered {
				c.readCopy(&at, l.items[seal.name])
			}
			copies = append(copies, at)
		}
	}
	return copies
}

// hear takes note of a server that cannot be asked for the list. One that is only
// late is no worse for it: nobody waits. The caller holds fleet.syncing.
func (c *Cache) hear(s *server, err error) {
	if err == nil {
		return
	}
	if large, ok := errors.AsType[*largeError](err); ok && c.ring.keys.Load().isList(large.key) {
		s.tooLong = large.key
	}
	s.counts.errors.Add(1)
	s.judge(wrong, time.Now())
	if !errors.Is(err, errPace) && !errors.Is(err, errConnections) {
		c.fleet.trouble = fmt.Errorf("%s: %w", s.Name, err)
	}
}

// clear removes what is in place of a list and too long to be read, which ends
// every connection that it is read on, so that nothing could be written over it.
// The caller holds fleet.syncing.
func (c *Cache) clear(s *server) {
	if s.tooLong == "" {
		return
	}
	if err := s.client.Delete(s.tooLong); err == nil || isCacheError(err) {
		s.tooLong = ""
	}
}

// copyServers returns the servers that have the list: those of all that are drawn
// to it most.
func copyServers(all []*server) []*server {
	const list = 0x666c757368 // any number, the same for all
	servers := slices.Clone(all)
	slices.SortFunc(servers, func(a, b *server) int {
		if weight(a.seed, list) > weight(b.seed, list) {
			return -1
		}
		return 1
	})
	return servers[:min(len(servers), maxCopies)]
}

// readCopy reads what a server has in place of the list. What cannot be opened
// is as good as nothing, and will be written over: the name of the key is made
// from the secret and holds the version, so that nobody who may write there
// writes anything else. But what a later version has written stays. The caller
// holds fleet.syncing.
func (c *Cache) readCopy(at *listCopy, item *memcache.Item) {
	at.known, at.item = true, item
	if item == nil || len(item.Value) == 0 {
		return
	}
	body, err := c.ring.open(at.seal.name, item.Value)
	if err == nil {
		if at.list, err = parseFlushList(body); errors.Is(err, errVersion) {
			at.known = false
			c.fleet.trouble = fmt.Errorf("%s: %w", at.s.Name, errLater)
		}
	}
	if err != nil {
		at.s.counts.rejected.Add(1)
		c.reject(at.s, err)
	}
}

// errLater says why a list that is in order is not read.
var errLater = errors.New("its list of flushes was written by a later version of this server")

// obey takes up what is new in copies.
func (c *Cache) obey(copies []listCopy) {
	f := &c.fleet
	now, wall := c.opt.Clock.Now(), time.Now()
	f.mu.Lock()
	last := f.synced.Load()
	var fresh []Flush
	begun, known := false, 0
	for i := range copies {
		if !copies[i].known {
			continue
		}
		known++
		orders, epoch := f.list.merge(&copies[i].list, now, c.opt.Life)
		begun = begun || epoch
		for _, o := range orders {
			if fl, ok := o.flush(); ok {
				fl.Until = c.corrected(&o, last, now, wall)
				fresh = append(fresh, fl)
			}
		}
	}
	if c.compact(now) || begun {
		c.bump(now)
		fresh = append(fresh, everything(now))
	}
	f.learned.Add(uint64(len(fresh)))
	f.copies, f.of = known, len(copies)
	f.mu.Unlock()
	c.remember(fresh)
	if known > 0 && 2*known >= len(copies) {
		f.synced.Store(max(int64(wall.Sub(c.begun)), 1))
	}
}

// corrected returns until when an order that is new to us is about what is
// stored, by our clock: whoever gave it has another, which may be wrong. Was the
// list known to us before it was in it, then it is from between then and now;
// who learns of it later is told so. The caller holds fleet.mu.
func (c *Cache) corrected(o *order, last int64, now, wall time.Time) time.Time {
	if last == 0 { // it may be from long ago
		if o.until.After(now) {
			return now
		}
		return o.until
	}
	since := now.Add(time.Duration(last) - wall.Sub(c.begun)).Truncate(time.Millisecond)
	if o.until.Before(since.Add(-maxSkew)) {
		o.until = since
		c.fleet.list.put(*o)
	}
	return now
}

// remember has nothing be taken any more that is flushed, then the rest of this
// server forget it, and keeps it to have it forgotten again. The caller holds
// fleet.syncing.
func (c *Cache) remember(what []Flush) {
	all := false
	for _, fl := range what {
		if fl.everything() { // its keys have other names
			all = true
			continue
		}
		fl.Until = fl.Until.Add(flushGrace)
		c.Flush(fl)
	}
	if len(what) == 0 || c.fleet.forget == nil {
		return
	}
	if all {
		what = []Flush{everything(what[len(what)-1].Until)}
		defer func() { // until here, resolutions could begin with what was there
			c.fleet.mu.Lock()
			c.fleet.bumped = c.opt.Clock.Now()
			c.fleet.mu.Unlock()
		}()
	}
	c.opt.Log.Info("flushes of the fleet", "orders", len(what), "first", what[0].Name.String(), "subtree", what[0].Below)
	c.fleet.forget(what)
	c.fleet.again = append(c.fleet.again, again{what, time.Now().Add(c.opt.Settle)})
	if most := len(c.fleet.again) - maxOrders; most > 0 { // more than there can be in the time
		c.fleet.again = c.fleet.again[most:]
	}
}

// settle has what is due forgotten again. The caller holds fleet.syncing.
func (c *Cache) settle() {
	for len(c.fleet.again) > 0 && !time.Now().Before(c.fleet.again[0].at) {
		what := c.fleet.again[0].what
		c.fleet.again = c.fleet.again[1:]
		c.fleet.forget(what)
	}
}

// mend writes the list to a server whose copy lacks something, unless it has
// changed since it was read: then it is looked at anew next time.
func (c *Cache) mend(at *listCopy) {
	c.fleet.mu.Lock()
	c.fleet.list.prune(c.opt.Clock.Now(), c.opt.Life)
	want := c.fleet.list.clone()
	c.fleet.mu.Unlock()
	if !at.known || at.list.has(&want) {
		return
	}
	value := c.ring.sealWith(at.seal.own, at.seal.id, at.seal.name, want.appendBody(nil))
	item := &memcache.Item{Key: at.seal.name, Value: value, Expiration: maxExpiry}
	var err error
	if at.item == nil {
		err = at.s.client.Add(item)
	} else {
		item.CasID = at.item.CasID
		err = at.s.client.CompareAndSwap(item)
	}
	switch {
	case err == nil:
		at.list = want
		c.fleet.written.Add(1)
	case !isCacheError(err):
		at.s.counts.errors.Add(1)
		at.s.broken(err)
		c.opt.Log.Debug("cannot write the list of flushes", "server", at.s.Name, "error", err)
	}
}

// tellable reports whether what was found about k from a time on may be told
// the others: nothing that it is made of was flushed meanwhile.
func (c *Cache) tellable(k Key, e *Entry) bool {
	begun := *e
	if !e.Began.IsZero() {
		begun.Stored = e.Began
	}
	return c.ofEpoch(begun.Stored) && !c.flushes.covers(k, &begun)
}

// ofEpoch reports whether what was begun to be found at a time, or learned then,
// was so in this epoch: all of it is of no use in another.
func (c *Cache) ofEpoch(at time.Time) bool {
	c.fleet.mu.Lock()
	defer c.fleet.mu.Unlock()
	return !at.Before(c.fleet.bumped)
}

// FleetID returns a number that servers have in common if, and only if, they find
// what the others tell of a scope: it is made of all that the names of keys are
// made of, but for the epoch, and says nothing about the secret. It is not 0.
func (c *Cache) FleetID(scope uint64) uint32 {
	names := c.ring.keys.Load().names
	buf := append([]byte("fleet"), names[:]...)
	buf = binary.BigEndian.AppendUint64(append(buf, version), c.opt.Generation)
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(buf, scope))
	return max(binary.BigEndian.Uint32(sum[:]), 1)
}

// FleetStats is a snapshot of what a server knows of its fleet.
type FleetStats struct {
	ID     uint32        // see [Cache.FleetID]; set by who knows the scope
	Orders int           // in the list
	Octets int           // that it takes
	Epoch  uint64        // milliseconds since 1970 when everything was flushed last, about; 0: never
	Age    time.Duration // since it was looked at last; 0: it is not followed
	Read   int           // copies that were read then
	Copies int           // that there are

	Given     uint64 // orders that were given here
	Learned   uint64 // orders of others
	Written   uint64 // copies that lacked something, and were mended
	Compacted uint64 // lists that were too long, and made a new epoch
	Behind    uint64 // look-ups and entries let go, for the list was not known
}

func (c *Cache) fleetStats() FleetStats {
	f := &c.fleet
	st := FleetStats{
		Given: f.given.Load(), Learned: f.learned.Load(), Written: f.written.Load(),
		Compacted: f.compacted.Load(), Behind: f.behind.Load(),
	}
	if f.heeds.Load() {
		st.Age = max(time.Since(c.begun)-time.Duration(f.synced.Load()), 1)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	st.Orders, st.Octets, st.Epoch = len(f.list.orders), f.list.octets(), f.list.epoch
	st.Read, st.Copies = f.copies, f.of
	return st
}

// String says to whom an order was given.
func (t Told) String() string { return fmt.Sprintf("%d of %d servers", t.Copies, t.Of) }
