// Package cache remembers what the resolver has learned: finished answers in
// wire format, and the RRsets and zone cuts that resolution works with.
package cache

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"shirube/internal/ede"
	"shirube/internal/wire"
)

// AnswersOptions configures [Answers]. Zero means the default.
type AnswersOptions struct {
	// Bytes is how much memory may be taken; default 64 MiB. An eighth of it, 16
	// MiB at most, is for failures. Of a cache below 1 MiB, answers that take
	// more than a quarter of it are not kept.
	Bytes int64

	// How long a failure to resolve is remembered: MinFailure the first time,
	// twice as long each further time in a row, to MaxFailure. Both are held
	// to what RFC 9520 §3.2 allows: 1 s to 5 min.
	MinFailure time.Duration // default 1 s
	MaxFailure time.Duration // default 5 min

	// MaxStale is how long an answer may still be of use after it has expired,
	// for want of a better one (RFC 8767); 0: not at all.
	MaxStale time.Duration
	// StaleTTL is the TTL of the records of such an answer; default 30 s (RFC
	// 8767 §4). Whole seconds, at least one.
	StaleTTL time.Duration
	// Recheck is how long nobody needs to try again after a failure to renew an
	// answer, be it expired or about to; default 30 s (RFC 8767 §5).
	Recheck time.Duration

	Prefetch bool // ask for popular answers to be renewed before they expire
	Rotate   bool // let the records of an address set take turns at being the first
}

// Answers holds finished responses in wire format. It is safe for concurrent
// use.
type Answers struct {
	opt         atomic.Pointer[AnswersOptions] // with defaults filled in
	base        time.Time                      // that times are counted from
	rules       arenaRules
	from        source // of memory
	table       atomic.Pointer[table]
	failures    atomic.Pointer[store[string, failure]]
	failureHits atomic.Uint64
	limit       atomic.Int64 // AnswersOptions.Bytes
	resizing    sync.Mutex   // held by who moves answers, or looks at all
	rest        rest         // between the arenas' parts, of who does so
}

// NewAnswers returns an empty cache.
func NewAnswers(opt AnswersOptions) *Answers { return newAnswers(opt, mapped()) }

// newAnswers is NewAnswers with memory from a source.
func newAnswers(opt AnswersOptions, from source) *Answers {
	opt = opt.withDefaults()
	c := &Answers{from: from, base: time.Now()}
	c.opt.Store(&opt)
	p := portion(opt.Bytes)
	c.rules = arenaRules{seed: maphash.MakeSeed(), remarks: newRemarks(p.remarks)}
	c.rules.maxStale.Store(int64(opt.MaxStale))
	t, err := newTable(p.arenas, &c.rules, from)
	if err != nil { // as for any other data structure: there is the heap, or no going on
		t, _ = newTable(p.arenas, &c.rules, onHeap())
	}
	c.table.Store(t)
	c.failures.Store(newStore[string, failure](p.failures))
	c.limit.Store(opt.Bytes)
	return c
}

// withDefaults fills in what was left zero.
func (opt AnswersOptions) withDefaults() AnswersOptions {
	if opt.Bytes == 0 {
		opt.Bytes = 64 << 20
	}
	if opt.MaxFailure == 0 {
		opt.MaxFailure = maxFailure
	}
	opt.MaxFailure = min(max(opt.MaxFailure, minFailure), maxFailure)
	opt.MinFailure = min(max(opt.MinFailure, minFailure), opt.MaxFailure)
	if opt.StaleTTL == 0 {
		opt.StaleTTL = 30 * time.Second
	}
	opt.StaleTTL = max(opt.StaleTTL, time.Second) // RFC 8767 §4: more than 0
	if opt.Recheck == 0 {
		opt.Recheck = 30 * time.Second
	}
	return opt
}

// Configure changes all but Bytes to what opt says: for what is looked up or
// stored from now on. [Answers.Resize] changes Bytes.
func (c *Answers) Configure(opt AnswersOptions) {
	opt = opt.withDefaults()
	c.rules.maxStale.Store(int64(opt.MaxStale))
	c.opt.Store(&opt)
}

// keyTail is how long a key is behind the name: type, class and bits.
const keyTail = 5

// maxKey is the length of the longest key.
const maxKey = wire.MaxNameLen + keyTail

// The bits of a request that change what an answer may hold (RFC 4035 §3.2.1,
// §3.2.2).
const (
	keyDO byte = 1 << iota
	keyCD
	keyMask = keyDO | keyCD
)

// appendKey appends the key for a question: the question section with its name
// folded, which says itself where it ends, and the request bits. The class is
// always IN.
func appendKey(buf, rawName []byte, typ wire.Type, do, cd bool) []byte {
	buf = wire.AppendFolded(buf, rawName)
	bits := byte(0)
	if do {
		bits |= keyDO
	}
	if cd {
		bits |= keyCD
	}
	return append(buf, byte(typ>>8), byte(typ), byte(wire.ClassIN>>8), byte(wire.ClassIN&0xFF), bits)
}

// lookup returns the entry of key, which is not copied, or nil.
func lookup[V any](s *store[string, V], key []byte) *entry[string, V] {
	h := maphash.Bytes(s.seed, key)
	sh := s.shard(h)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	bucket, hash := sh.slot(h)
	for e := *bucket; e != nil; e = e.link {
		if e.hash == hash && e.key == string(key) {
			return e
		}
	}
	return nil
}

// ownArena returns the arena where the answer to the question of key, which has
// hash h, is to be stored at now, locked for writing. If there is one already, it
// is there.
func (c *Answers) ownArena(h uint64, key []byte, now int64) *arena {
	for t := c.table.Load(); ; t = t.next.Load() {
		a := t.arena(h)
		a.mu.Lock()
		if !a.moving {
			return a
		}
		if s := a.find(h, key); s != nil {
			a.pass(s, t.next.Load(), now)
		}
		a.mu.Unlock()
	}
}

// locate returns the slot of key in an arena that has to be unlocked, or nil.
func (c *Answers) locate(key []byte) (*arena, *slot) {
	h := c.rules.hash(key)
	for t := c.table.Load(); ; t = t.next.Load() { // what moves, moves to the next, so it is not missed
		a := t.arena(h)
		a.mu.RLock()
		if s := a.find(h, key); s != nil {
			return a, s
		}
		moving := a.moving
		a.mu.RUnlock()
		if !moving {
			return nil, nil
		}
	}
}

// since returns t as it is kept: in nanoseconds after the base. Like the age
// that it leads to, it goes by the monotonic clock if t has its reading.
func (c *Answers) since(t time.Time) int64 { return int64(t.Sub(c.base)) }

// Hit is what [Answers.Append] found.
type Hit struct {
	Found bool
	EDE   *ede.Error // to be sent along, or nil
	// Due, if not zero, asks the caller, and nobody else, to have the answer
	// renewed before it expires. The parts of the new one have to outlive this
	// time: what does not is to be fetched anew; what does may come from memory.
	Due time.Time
}

// Append appends the live answer to q to buf, as it is at now, without an OPT
// record: in q's spelling, with its ID and the bits it may see, TTLs counted
// down, cut off with TC if it would exceed q.Limit together with a bare OPT
// record. A failure that is remembered is an answer too, unless [Answers.Stale]
// has a better one. It allocates nothing if buf has room for q.Limit octets.
func (c *Answers) Append(buf []byte, q *wire.Query, now time.Time) ([]byte, Hit) {
	if q.Class != wire.ClassIN {
		return buf, Hit{}
	}
	var b [maxKey]byte
	key := appendKey(b[:0], q.RawName(), q.Type, q.DO, q.CD)
	out, hit, stale := c.appendLive(buf, key, q, c.since(now))
	if hit.Found || stale && q.RD { // RFC 8767 §5: without RD, no word of what is stale
		return out, hit
	}
	key[len(key)-1] &^= keyDO
	if e := lookup(c.failures.Load(), key); e != nil && e.val.alive(now) {
		e.touch()
		c.failureHits.Add(1)
		return wire.AppendReply(buf, q, wire.ServFail), Hit{Found: true, EDE: e.val.err}
	}
	return buf, Hit{}
}

// appendLive appends the answer to q, whose key is given, if there is one that
// is alive. It reports whether there is a stale one.
func (c *Answers) appendLive(buf, key []byte, q *wire.Query, now int64) (out []byte, hit Hit, stale bool) {
	a, s := c.locate(key)
	if s == nil {
		return buf, Hit{}, false
	}
	defer a.mu.RUnlock()
	if !s.alive(now) {
		return buf, Hit{}, s.stale(now, a.maxStale.Load())
	}
	s.touch()
	start := len(buf)
	f := s.form()
	buf = f.append(buf, q, seconds(time.Duration(s.age(now))))
	opt := c.opt.Load()
	if opt.Rotate && len(buf)-start == len(f.msg) {
		f.ring.turn(buf[start:], &f)
	}
	hit = Hit{Found: true, EDE: a.remarks.of(s.remark())}
	if opt.Prefetch && q.RD && s.due(now, opt.Recheck) {
		hit.Due = c.expires(s).Add(minPrefetch) // else the next one were not worth renewing
	}
	return buf, hit, false
}

// Put stores a as the answer to questions for q with the given DO and CD,
// unless it is the answer to another question, or older than the one that is
// there. One that is longer than [MaxAnswer] or without life (RFC 1035 §3.2.1:
// TTL 0 is for the one who asked) is not stored, but ends the old one: that is
// outdated, and must not come back as a stale answer. That q could not be
// answered before a was made is forgotten in any case. It keeps nothing of a.
func (c *Answers) Put(q wire.Question, do, cd bool, a *Answer) {
	if !a.about(q) {
		return
	}
	var b [maxKey]byte
	key := appendKey(b[:0], []byte(q.Name), q.Type, do, cd)
	c.put(key, a)
	key[len(key)-1] &^= keyDO
	failures := c.failures.Load()
	if lookup(failures, key) != nil {
		failures.drop(maphash.Bytes(failures.seed, key), string(key),
			func(f failure) bool { return !f.stored.After(a.stored) })
	}
}

// put is Put for the answers.
func (c *Answers) put(key []byte, x *Answer) {
	h, stored := c.rules.hash(key), c.since(x.stored)
	a := c.ownArena(h, key, stored)
	defer a.mu.Unlock()
	if len(x.msg) <= MaxAnswer && x.life() > 0 {
		a.store(h, key, x, stored)
	} else if old := a.find(h, key); old != nil && old.storedAt() <= stored {
		a.forget(old)
	}
}

// Expires returns when the answer to questions for q with the given DO and CD
// expires or has expired, if there is one.
func (c *Answers) Expires(q wire.Question, do, cd bool) (time.Time, bool) {
	var b [maxKey]byte
	a, s := c.locate(appendKey(b[:0], []byte(q.Name), q.Type, do, cd))
	if s == nil {
		return time.Time{}, false
	}
	defer a.mu.RUnlock()
	return c.expires(s), true
}

// expires returns when s must not be used any more.
func (c *Answers) expires(s *slot) time.Time {
	return c.base.Add(time.Duration(s.storedAt())).Add(time.Duration(s.life()))
}

// keySize returns the bytes that a key takes in memory: the allocator rounds
// up, by an eighth at most beyond the first few.
func keySize(key []byte) int64 { return int64(len(key) + len(key)/8 + 8) }

// AnswersStats is a snapshot of [Answers].
type AnswersStats struct {
	Limit       int64 // AnswersOptions.Bytes
	Answers     ArenaStats
	Failures    StoreStats
	FailureHits uint64
}

// ArenaStats is a snapshot of the memory for answers.
type ArenaStats struct {
	Bytes    int64 // taken by answers, the dead among them included
	Reserved int64 // that may be, with the index
	ArenaCounts
}

// Stats returns a snapshot.
func (c *Answers) Stats() AnswersStats {
	return AnswersStats{
		Limit: c.limit.Load(), Answers: c.table.Load().stats(),
		Failures: c.failures.Load().stats(), FailureHits: c.failureHits.Load(),
	}
}
