// Package shared is the cache that the servers of a fleet have in common, on
// memcached: what one of them has resolved, the others need not.
//
// It can only help. Whoever asks waits for a few milliseconds at most, whatever
// memcached does; what cannot be had in that time, or is in any way not as it
// should be, is a miss. What is read is believed only if it was sealed with a
// secret of the fleet for the very question: who can write to memcached can make
// it forget, and no more.
package shared

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"shirube/internal/clock"
)

// Options configures a [Cache]. Zero means the default.
type Options struct {
	Servers []Server // that are known from the start
	File    string   // that lists servers, followed by Run; "": none
	Service Service  // whose members are servers, followed by Run; zero: none

	Secrets    Secrets
	Generation uint64      // entries of another one do not exist
	TLS        *tls.Config // nil: in the open
	Auth       Auth        // zero: none
	Writer     string      // this server's name, for people

	Budget  time.Duration // that one look-up may take; default 5 ms
	Timeout time.Duration // of one operation on a connection; default 250 ms
	Batches int           // look-ups under way with one server at once; default 4

	Life   time.Duration // of the longest-lived entries that the fleet has, after which nobody need remember a flush; default 30 days
	Settle time.Duration // that a resolution may take, after which what was flushed is forgotten once more; default 6 s

	Clock *clock.Clock // that entries are judged by; nil: the real time
	Log   *slog.Logger // default: none
}

// Service is a name in the DNS whose members are servers: a headless service of
// Kubernetes. It is looked up at Resolvers, the first of them that knows it, which
// must not be this server, nor ask it.
type Service struct {
	Name      string // fully qualified
	Port      uint16 // of the members, where SRV records do not say it
	Resolvers []netip.AddrPort
}

// Cache is the shared cache as one server sees it. It is safe for concurrent
// use.
type Cache struct {
	opt     Options
	ring    *ring
	servers atomic.Pointer[[]*server]

	changing sync.Mutex // held by who changes the servers
	closed   bool

	flushes flushes
	doubts  doubts
	fleet   fleet
	begun   time.Time
	counts  counters
}

// counters are what a Cache counts, but for each server's own.
type counters struct {
	hits, stale, failures, misses atomic.Uint64
	skipped                       atomic.Uint64 // look-ups that no server was there for
	standIns                      atomic.Uint64
	tooLarge                      atomic.Uint64
	leased, yielded, unheard      atomic.Uint64 // leases
	awaited, inVain               atomic.Uint64 // waits for who has one
	zonesTold, zonesFound         atomic.Uint64
	rejected                      [NumReasons]atomic.Uint64
	skew                          skew
}

// standInLife bounds how long an entry lies with a server that stands in for
// another, in seconds: when that is back, nobody looks here.
const standInLife = 60

// maxExpiry is the longest relative time that memcached knows, in seconds: what
// is more is a date, and long past. 0 would be for ever.
const maxExpiry = 30 * 24 * 60 * 60

// MaxFailure is how long a failure is shared, at most: long enough to spare the
// servers that fail, and soon tried again.
const MaxFailure = 30 * time.Second

// New returns a Cache. It connects to nobody before it is used. Close ends what
// it started.
func New(opt Options) (*Cache, error) {
	if opt.Budget == 0 {
		opt.Budget = 5 * time.Millisecond
	}
	if opt.Timeout == 0 {
		opt.Timeout = 250 * time.Millisecond
	}
	if opt.Batches == 0 {
		opt.Batches = 4
	}
	if opt.Life == 0 {
		opt.Life = maxExpiry * time.Second
	}
	if opt.Settle == 0 {
		opt.Settle = 6 * time.Second
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	r, err := newRing(opt.Secrets)
	if err != nil {
		return nil, fmt.Errorf("shared cache: %w", err)
	}
	c := &Cache{opt: opt, ring: r, begun: time.Now()}
	c.servers.Store(new([]*server))
	return c, c.SetServers(opt.Servers)
}

// UseSecrets has the cache go on with s, and reports whether that is anything
// new. After an error it goes on as before.
func (c *Cache) UseSecrets(s Secrets) (changed bool, err error) {
	c.changing.Lock()
	defer c.changing.Unlock()
	if s.equal(c.opt.Secrets) {
		return false, nil
	}
	if err := c.ring.use(s); err != nil {
		return false, fmt.Errorf("shared cache: %w", err)
	}
	c.opt.Secrets = s
	return true, nil
}

// Close ends everything. It takes as long as one operation may, at most.
func (c *Cache) Close() {
	c.changing.Lock()
	defer c.changing.Unlock()
	c.closed = true
	for _, s := range *c.servers.Swap(new([]*server)) {
		s.close()
	}
}

// Get returns what the fleet knows about k: an answer, which may be stale (see
// [Entry.Fresh]), or that there was none a moment ago. It takes no longer than
// Options.Budget, and ends with ctx.
func (c *Cache) Get(ctx context.Context, k Key) (Entry, bool) {
	now := time.Now()
	d := c.ring.digest(k)
	s, _ := c.pick(d.route(), now)
	if s == nil {
		c.counts.skipped.Add(1)
		return Entry{}, false
	}
	answer, failure := keyName(forAnswer, c.opt.Generation, d), keyName(forFailure, c.opt.Generation, d)
	f := fetcher{c: c, ctx: ctx, s: s, begun: now, keys: []string{answer, failure}}
	defer f.end()
	e, found := c.open(s, k, answer, f.item(answer))
	now = c.opt.Clock.Now()
	if found && !e.Failed() && e.Fresh(now) {
		c.counts.hits.Add(1)
		s.counts.hits.Add(1)
		return e, true
	}
	if found && !e.Failed() { // nothing hides it: who has tried in vain had better use it, too
		c.counts.stale.Add(1)
		return e, true
	}
	if f, failed := c.open(s, k, failure, f.item(failure)); failed && f.Failed() && f.Fresh(now) {
		c.counts.failures.Add(1)
		return f, true
	}
	c.counts.misses.Add(1)
	return Entry{}, false
}

// open returns the entry about k in the item called name, if there is one and it
// may be used.
func (c *Cache) open(s *server, k Key, name string, item *memcache.Item) (Entry, bool) {
	if item == nil || len(item.Value) == 0 { // empty: somebody's mark, not data
		return Entry{}, false
	}
	e, err := c.read(k, name, item.Value)
	if err != nil {
		s.counts.rejected.Add(1)
		c.reject(s, err)
		return Entry{}, false
	}
	return e, true
}

// read returns the entry about k in value, or why it is not used.
func (c *Cache) read(k Key, name string, value []byte) (Entry, error) {
	body, err := c.ring.open(name, value)
	if err != nil {
		return Entry{}, err
	}
	e, err := parseBody(body)
	if err != nil {
		return Entry{}, err
	}
	now := c.opt.Clock.Now()
	c.counts.skew.note(e.Stored.Sub(now), time.Since(c.begun))
	if err := e.check(k, now); err != nil {
		return e, err
	}
	if c.flushes.covers(k, &e) {
		return e, errFlushed
	}
	return e, nil
}

// Set tells the fleet e about k. It does not wait: what cannot be written soon
// is not written. A failure is told only where nothing is known, and for no
// longer than [MaxFailure].
func (c *Cache) Set(k Key, e Entry) {
	now := time.Now()
	d := c.ring.digest(k)
	s, standIn := c.pick(d.route(), now)
	if s == nil {
		return
	}
	use := byte(forAnswer)
	if e.Failed() {
		use = forFailure
		e.Life, e.Stale = min(e.Life, MaxFailure), 0
	}
	if e.Life < time.Second || !c.tellable(k, &e) {
		return
	}
	e.Writer = c.opt.Writer
	if standIn {
		c.counts.standIns.Add(1)
	}
	name := keyName(use, c.opt.Generation, d)
	s.put(store{
		name: name,
		once: e.Failed(),
		value: func() ([]byte, int32) {
			return c.seal(name, &e, standIn)
		},
		fresher: func(old []byte) bool {
			now := c.opt.Clock.Now()
			have, err := c.read(k, name, old)
			return err == nil && have.Fresh(now) && (!have.Stored.Before(e.Stored) || !e.Fresh(now)) // ours may have waited
		},
	})
}

// seal returns the value for e, and for how many seconds memcached is to keep
// it. Nil: it is not to be written.
func (c *Cache) seal(name string, e *Entry, standIn bool) ([]byte, int32) {
	until := e.Stored.Add(e.Life + e.Stale)
	if !e.Deadline.IsZero() && e.Deadline.Before(until) {
		until = e.Deadline
	}
	return c.sealUntil(name, e.appendBody(nil), until, standIn)
}

// sealUntil is seal for a body that is of use until a time.
func (c *Cache) sealUntil(name string, body []byte, until time.Time, standIn bool) ([]byte, int32) {
	left := int64(until.Sub(c.opt.Clock.Now()) / time.Second)
	if left < 1 {
		return nil, 0
	}
	value := c.ring.seal(name, body)
	if len(value) > MaxValue {
		c.counts.tooLarge.Add(1)
		return nil, 0
	}
	left = min(left, maxExpiry)
	if standIn {
		left = min(left, standInLife)
	}
	return value, int32(left)
}

// reject counts why a value of s was not used. What is forged or damaged is not
// the network's doing: a server that has such values is no better than one that
// does not answer.
func (c *Cache) reject(s *server, err error) {
	for i, reason := range reasons {
		if errors.Is(err, reason.err) {
			c.counts.rejected[i].Add(1)
		}
	}
	if errors.Is(err, errTag) {
		s.judge(wrong, time.Now())
		c.opt.Log.Debug("a value in the shared cache is forged or damaged", "server", s.Name)
	}
}
