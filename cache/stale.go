package cache

import (
	"encoding/binary"
	"time"

	"shirube/internal/ede"
	"shirube/internal/wire"
)

// isStale reports whether a has expired at now, and may be of use all the same
// (RFC 8767 §5, the maximum stale timer).
func (c *Answers) isStale(a *Answer, now time.Time) bool {
	over := now.Sub(a.stored) - a.life()
	return over >= 0 && over < c.opt.MaxStale
}

// stale returns the stale answer to q, or nil.
func (c *Answers) stale(q *wire.Query, now time.Time) *entry[string, *Answer] {
	if c.opt.MaxStale <= 0 || q.Class != wire.ClassIN {
		return nil
	}
	var b [maxKey]byte
	key := appendKey(b[:0], q.RawName(), q.Type, q.DO, q.CD)
	if e := lookup(c.answers, key); e != nil && c.isStale(e.val, now) {
		return e
	}
	key[len(key)-1] ^= keyDO // nobody may have asked with this one while the zone was reached
	if e := lookup(c.answers, key); e != nil && e.val.plain && c.isStale(e.val, now) {
		return e
	}
	return nil
}

// HoldsStale reports whether [Answers.Stale] has an answer to q, and whether
// there is no need to look for a better one: the last try failed, less than
// AnswersOptions.Recheck ago (RFC 8767 §5, the failure recheck timer).
func (c *Answers) HoldsStale(q *wire.Query, now time.Time) (found, failing bool) {
	if c.stale(q, now) == nil {
		return false, false
	}
	var b [maxKey]byte
	e := lookup(c.failures, appendKey(b[:0], q.RawName(), q.Type, false, q.CD))
	return true, e != nil && e.val.since(now, c.opt.Recheck)
}

// Stale appends the answer to q that has expired, but not for longer than
// AnswersOptions.MaxStale, as [Answers.Append] does for a live one. Its EDE is
// [ede.StaleAnswer] or [ede.StaleNXDOMAIN] without a text (RFC 8914 §4.4,
// §4.20). It is for those only who have tried to get a better one, or have
// reason not to.
func (c *Answers) Stale(buf []byte, q *wire.Query, now time.Time) ([]byte, Hit) {
	e := c.stale(q, now)
	if e == nil {
		return buf, Hit{}
	}
	e.touch()
	code := ede.StaleAnswer
	if wire.RcodeOf(e.val.msg) == wire.NXDomain {
		code = ede.StaleNXDOMAIN
	}
	return e.val.appendStale(buf, q, now, uint32(c.opt.StaleTTL/time.Second)), Hit{Found: true, EDE: &ede.Error{Code: code}}
}

// appendStale is Append for an answer that has expired: none of its records
// has a TTL of more than ttl, nor of more than it came with, nor 0 (RFC 8767
// §4). AD stays, as in Unbound: the data was proven when it came, and that it is
// stale now is said by the Extended DNS Error.
func (a *Answer) appendStale(buf []byte, q *wire.Query, now time.Time, ttl uint32) []byte {
	start := len(buf)
	buf = a.Append(buf, q, now)
	msg := buf[start:]
	ttls := a.ttls
	if len(msg) != len(a.msg) {
		if msg[2]&bitTC != 0 {
			return buf
		}
		ttls = ttls[:int(binary.BigEndian.Uint16(msg[6:]))+int(binary.BigEndian.Uint16(msg[8:]))] // no additional section
	}
	for _, off := range ttls {
		left := binary.BigEndian.Uint32(msg[off:])
		if left == 0 { // this one has expired; the others may not have
			left = binary.BigEndian.Uint32(a.msg[off:])
		}
		binary.BigEndian.PutUint32(msg[off:], min(left, ttl))
	}
	return buf
}
