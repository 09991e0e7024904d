package cache

import (
	"encoding/binary"
	"time"

	"shirube/internal/ede"
	"shirube/internal/wire"
)

// stale returns the stale answer to q, in an arena that has to be unlocked, or
// nil. key is room for that of a question.
func (c *Answers) stale(key []byte, q *wire.Query, now int64) (*arena, *slot) {
	if c.opt.Load().MaxStale <= 0 || q.Class != wire.ClassIN {
		return nil, nil
	}
	key = appendKey(key[:0], q.RawName(), q.Type, q.DO, q.CD)
	if a, s := c.locate(key); s != nil {
		if s.stale(now, a.maxStale.Load()) {
			return a, s
		}
		a.mu.RUnlock()
	}
	key[len(key)-1] ^= keyDO // nobody may have asked with this one while the zone was reached
	if a, s := c.locate(key); s != nil {
		if s.state.Load()&slotPlain != 0 && s.stale(now, a.maxStale.Load()) {
			return a, s
		}
		a.mu.RUnlock()
	}
	return nil, nil
}

// HoldsStale reports whether [Answers.Stale] has an answer to q, and whether
// there is no need to look for a better one: the last try failed, less than
// AnswersOptions.Recheck ago (RFC 8767 §5, the failure recheck timer).
func (c *Answers) HoldsStale(q *wire.Query, now time.Time) (found, failing bool) {
	var b [maxKey]byte
	a, s := c.stale(b[:], q, c.since(now))
	if s == nil {
		return false, false
	}
	a.mu.RUnlock()
	e := lookup(c.failures.Load(), appendKey(b[:0], q.RawName(), q.Type, false, q.CD))
	return true, e != nil && e.val.since(now, c.opt.Load().Recheck)
}

// Stale appends the answer to q that has expired, but not for longer than
// AnswersOptions.MaxStale, as [Answers.Append] does for a live one. Its EDE is
// [ede.StaleAnswer] or [ede.StaleNXDOMAIN] without a text (RFC 8914 §4.4,
// §4.20). It is for those only who have tried to get a better one, or have
// reason not to.
func (c *Answers) Stale(buf []byte, q *wire.Query, now time.Time) ([]byte, Hit) {
	var b [maxKey]byte
	at := c.since(now)
	a, s := c.stale(b[:], q, at)
	if s == nil {
		return buf, Hit{}
	}
	defer a.mu.RUnlock()
	s.touch()
	f := s.form()
	code := ede.StaleAnswer
	if wire.RcodeOf(f.msg) == wire.NXDomain {
		code = ede.StaleNXDOMAIN
	}
	age := seconds(time.Duration(s.age(at)))
	return f.appendStale(buf, q, age, uint32(c.opt.Load().StaleTTL/time.Second)), Hit{Found: true, EDE: &ede.Error{Code: code}}
}

// appendStale is append for an answer that has expired: none of its records
// has a TTL of more than ttl, nor of more than it came with, nor 0 (RFC 8767
// §4). AD stays, as in Unbound: the data was proven when it came, and that it is
// stale now is said by the Extended DNS Error.
func (f *form) appendStale(buf []byte, q *wire.Query, age, ttl uint32) []byte {
	start := len(buf)
	buf = f.append(buf, q, age)
	msg := buf[start:]
	ttls := f.ttls
	if len(msg) != len(f.msg) {
		if msg[2]&bitTC != 0 {
			return buf
		}
		ttls = ttls[:int(binary.BigEndian.Uint16(msg[6:]))+int(binary.BigEndian.Uint16(msg[8:]))] // no additional section
	}
	for _, off := range ttls {
		left := binary.BigEndian.Uint32(msg[off:])
		if left == 0 { // this one has expired; the others may not have
			left = binary.BigEndian.Uint32(f.msg[off:])
		}
		binary.BigEndian.PutUint32(msg[off:], min(left, ttl))
	}
	return buf
}
