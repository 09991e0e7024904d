// Package cache remembers what the resolver has learned: finished answers in
// wire format, and the RRsets and zone cuts that resolution works with.
package cache

import (
	"encoding/binary"
	"hash/maphash"
	"sync/atomic"
	"time"

	"shirube/internal/ede"
	"shirube/internal/wire"
)

// AnswersOptions configures [Answers]. Zero means the default.
type AnswersOptions struct {
	Bytes int64 // default 64 MiB; one eighth of it is for failures

	// How long a failure to resolve is remembered: MinFailure the first time,
	// twice as long each further time in a row, to MaxFailure (RFC 9520 §3.2).
	MinFailure time.Duration // default 1 s
	MaxFailure time.Duration // default 5 min
}

// Answers holds finished responses in wire format. It is safe for concurrent
// use.
type Answers struct {
	opt      AnswersOptions
	answers  *store[string, *Answer]
	failures *store[string, failure]
	hits     atomic.Uint64 // of failures
}

// failure is a question that could not be answered.
type failure struct {
	err     *ede.Error
	expires int64         // Unix milliseconds
	lasts   time.Duration // from its storing to expires
}

// NewAnswers returns an empty cache.
func NewAnswers(opt AnswersOptions) *Answers {
	if opt.Bytes == 0 {
		opt.Bytes = 64 << 20
	}
	if opt.MinFailure == 0 {
		opt.MinFailure = time.Second
	}
	if opt.MaxFailure == 0 {
		opt.MaxFailure = 5 * time.Minute
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

// appendKey appends the key for q: the folded name, the type, and the request
// bits. A failure is the same with and without DO.
func appendKey(buf []byte, rawName []byte, typ wire.Type, do, cd bool) []byte {
	buf = wire.AppendFolded(buf, rawName)
	buf = binary.BigEndian.AppendUint16(buf, uint16(typ))
	bits := byte(0)
	if do {
		bits |= keyDO
	}
	if cd {
		bits |= keyCD
	}
	return append(buf, bits)
}

// byBytes returns the shard for a key.
func byBytes[V any](s *store[string, V], key []byte) *shard[string, V] {
	return &s.shards[maphash.Bytes(s.seed, key)%shardCount]
}

// lookup returns the value of key, which is not copied.
func lookup[V any](s *store[string, V], key []byte) (V, bool) {
	sh := byBytes(s, key)
	sh.mu.RLock()
	e := sh.entries[string(key)]
	sh.mu.RUnlock()
	return e.value()
}

// Hit is what [Answers.Append] found.
type Hit struct {
	Found bool
	EDE   *ede.Error // to be sent along, or nil
}

// Append appends the live answer to q to buf, as it is at now, without an OPT
// record: in q's spelling, with its ID and the bits it may see, TTLs counted
// down, cut off with TC if it would exceed q.Limit together with a bare OPT
// record. A failure that is remembered is an answer too. It allocates nothing.
func (c *Answers) Append(buf []byte, q *wire.Query, now time.Time) ([]byte, Hit) {
	var b [maxKey]byte
	key := appendKey(b[:0], q.RawName(), q.Type, q.DO, q.CD)
	if a, ok := lookup(c.answers, key); ok && now.UnixMilli() < a.expires && a.answers(q) {
		return a.Append(buf, q, now), Hit{Found: true, EDE: a.ede}
	}
	key[len(key)-1] &^= keyDO
	if f, ok := lookup(c.failures, key); ok && now.UnixMilli() < f.expires {
		c.hits.Add(1)
		return wire.AppendReply(buf, q, wire.ServFail), Hit{Found: true, EDE: f.err}
	}
	return buf, Hit{}
}

// Put stores a as the answer to questions for q with the given DO and CD,
// unless it is longer than [MaxAnswer], has no life left, or is older than the
// one that is there. That q could not be answered before is forgotten.
func (c *Answers) Put(q wire.Question, do, cd bool, a *Answer) {
	if len(a.msg) > MaxAnswer || a.expires <= a.stored {
		return
	}
	var b [maxKey]byte
	key := appendKey(b[:0], []byte(q.Name), q.Type, do, cd)
	c.answers.put(byBytes(c.answers, key), string(key), a, a.size()+int64(len(key)),
		func(old *Answer) bool { return old.stored > a.stored })
	key[len(key)-1] &^= keyDO
	if _, ok := lookup(c.failures, key); ok {
		byBytes(c.failures, key).drop(string(key))
	}
}

// Fail remembers that q could not be answered, and why. A failure that follows
// another, without an answer in between and within the longest time that one is
// remembered, lasts twice as long (RFC 9520 §3.2). An answer that is still
// alive hides it.
func (c *Answers) Fail(q wire.Question, cd bool, err *ede.Error, now time.Time) {
	var b [maxKey]byte
	key := appendKey(b[:0], []byte(q.Name), q.Type, false, cd)
	f := failure{err: err, lasts: c.opt.MinFailure}
	if old, ok := lookup(c.failures, key); ok {
		if now.Sub(time.UnixMilli(old.expires)) < c.opt.MaxFailure {
			f.lasts = min(2*old.lasts, c.opt.MaxFailure)
		}
	}
	f.expires = now.Add(f.lasts).UnixMilli()
	size := int64(len(key)+len(err.Text)) + 96
	c.failures.put(byBytes(c.failures, key), string(key), f, size,
		func(old failure) bool { return old.expires > now.UnixMilli() }) // another flight's, just now
}

// AnswersStats is a snapshot of [Answers].
type AnswersStats struct {
	Answers     StoreStats
	Failures    StoreStats
	FailureHits uint64
}

// Stats returns a snapshot.
func (c *Answers) Stats() AnswersStats {
	return AnswersStats{Answers: c.answers.stats(), Failures: c.failures.stats(), FailureHits: c.hits.Load()}
}
