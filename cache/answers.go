// Package cache remembers what the resolver has learned: finished answers in
// wire format, and the RRsets and zone cuts that resolution works with.
package cache

import (
	"hash/maphash"
	"sync/atomic"
	"time"

	"shirube/internal/ede"
	"shirube/internal/wire"
)

// AnswersOptions configures [Answers]. Zero means the default.
type AnswersOptions struct {
	// Bytes is how much memory may be taken; default 64 MiB. One eighth of it
	// is for failures. What needs more than 1/64 of its share is not kept.
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
	opt         AnswersOptions
	answers     *store[string, *Answer]
	failures    *store[string, failure]
	failureHits atomic.Uint64
}

// NewAnswers returns an empty cache.
func NewAnswers(opt AnswersOptions) *Answers {
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
	return &Answers{
		opt:      opt,
		answers:  newStore[string, *Answer](opt.Bytes - opt.Bytes/8),
		failures: newStore[string, failure](opt.Bytes / 8),
	}
}

// maxKey is the length of the longest key: name, type and bits.
const maxKey = wire.MaxNameLen + 3

// The bits of a request that change what an answer may hold (RFC 4035 §3.2.1,
// §3.2.2).
const (
	keyDO byte = 1 << iota
	keyCD
)

// appendKey appends the key for a question: the folded name, which says itself
// where it ends, the type, and the request bits. The class is always IN.
func appendKey(buf, rawName []byte, typ wire.Type, do, cd bool) []byte {
	buf = wire.AppendFolded(buf, rawName)
	bits := byte(0)
	if do {
		bits |= keyDO
	}
	if cd {
		bits |= keyCD
	}
	return append(buf, byte(typ>>8), byte(typ), bits)
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

// Hit is what [Answers.Append] found.
type Hit struct {
	Found bool
	EDE   *ede.Error // to be sent along, or nil
	Due   Due        // what to renew, if anything: the caller is the one who has to see to it
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
	if e := lookup(c.answers, key); e != nil {
		switch a := e.val; {
		case a.alive(now):
			e.touch()
			return c.appendLive(buf, q, now, e)
		case q.RD && c.isStale(a, now): // RFC 8767 §5: without RD, no word of it
			return buf, Hit{}
		}
	}
	key[len(key)-1] &^= keyDO
	if e := lookup(c.failures, key); e != nil && e.val.alive(now) {
		e.touch()
		c.failureHits.Add(1)
		return wire.AppendReply(buf, q, wire.ServFail), Hit{Found: true, EDE: e.val.err}
	}
	return buf, Hit{}
}

// appendLive appends the answer in e, which is alive.
func (c *Answers) appendLive(buf []byte, q *wire.Query, now time.Time, e *entry[string, *Answer]) ([]byte, Hit) {
	a, start := e.val, len(buf)
	buf = a.Append(buf, q, now)
	if c.opt.Rotate && len(buf)-start == len(a.msg) {
		a.ring.turn(buf[start:], a)
	}
	hit := Hit{Found: true, EDE: a.ede}
	if c.opt.Prefetch && q.RD && a.due(now, c.opt.Recheck) {
		hit.Due = dueOf(e)
	}
	return buf, hit
}

// Put stores a as the answer to questions for q with the given DO and CD,
// unless it is the answer to another question, or older than the one that is
// there. One that is longer than [MaxAnswer] or without life (RFC 1035 §3.2.1:
// TTL 0 is for the one who asked) is not stored, but ends the old one: that is
// outdated, and must not come back as a stale answer. That q could not be
// answered before a was made is forgotten in any case.
func (c *Answers) Put(q wire.Question, do, cd bool, a *Answer) {
	if !a.about(q) {
		return
	}
	var b [maxKey]byte
	key := appendKey(b[:0], []byte(q.Name), q.Type, do, cd)
	if len(a.msg) <= MaxAnswer && a.life() > 0 {
		c.answers.put(maphash.Bytes(c.answers.seed, key), string(key), a, a.size()+keySize(key),
			func(old *Answer) bool { return old.stored.After(a.stored) && old.alive(a.stored) })
	} else if lookup(c.answers, key) != nil {
		c.answers.drop(maphash.Bytes(c.answers.seed, key), string(key),
			func(old *Answer) bool { return !old.stored.After(a.stored) })
	}
	key[len(key)-1] &^= keyDO
	if lookup(c.failures, key) != nil {
		c.failures.drop(maphash.Bytes(c.failures.seed, key), string(key),
			func(f failure) bool { return !f.stored.After(a.stored) })
	}
}

// Expires returns when the answer to questions for q with the given DO and CD
// expires or has expired, if there is one.
func (c *Answers) Expires(q wire.Question, do, cd bool) (time.Time, bool) {
	var b [maxKey]byte
	e := lookup(c.answers, appendKey(b[:0], []byte(q.Name), q.Type, do, cd))
	if e == nil {
		return time.Time{}, false
	}
	return e.val.Expires(), true
}

// keySize returns the bytes that a key takes in memory: the allocator rounds
// up, by an eighth at most beyond the first few.
func keySize(key []byte) int64 { return int64(len(key) + len(key)/8 + 8) }

// AnswersStats is a snapshot of [Answers].
type AnswersStats struct {
	Answers     StoreStats
	Failures    StoreStats
	FailureHits uint64
}

// Stats returns a snapshot.
func (c *Answers) Stats() AnswersStats {
	return AnswersStats{Answers: c.answers.stats(), Failures: c.failures.stats(), FailureHits: c.failureHits.Load()}
}
