package cache

import (
	"encoding/binary"
	"errors"
	"math"
	"time"

	"shirube/internal/ede"
	"shirube/internal/wire"
)

// MaxAnswer is the largest answer that is kept, in octets (DESIGN §6). A larger
// one is given to those who wait for it, and forgotten.
const MaxAnswer = 16 << 10

// Answer is one finished response in wire format, without an OPT record. It is
// never changed: readers copy it out and edit their own copy.
type Answer struct {
	form
	stored  time.Time // when it was as it is
	ede     *ede.Error
	seconds uint32    // that it lives from then on
	plain   bool      // the same with and without DO
	few     [6]uint16 // what ttls is kept in, if that is all
}

// form is what an answer says.
type form struct {
	msg   []byte   // its AD bit says what validation found
	ttls  []uint16 // offsets of the TTL fields in msg
	ring  ring     // of its records
	spare uint16   // records at the end of the authority section that may be left out
}

// ErrAnswer reports bytes that are not a whole response with one question and
// without an OPT record.
var ErrAnswer = errors.New("cache: not a response that can be kept")

// Header bits in octet 2 of a message (RFC 1035 §4.1.1).
const (
	bitQR, bitAA, bitTC = 0x80, 0x04, 0x02
	opcodeMask          = 0x78
)

// maxTTL is the largest TTL there is, in seconds (RFC 2181 §8).
const maxTTL = 1<<31 - 1

// NewAnswer makes an Answer of msg, a response with one question and no OPT
// record, as it is at stored. It takes over msg. ttls, in seconds, are those of the
// records in their order; nil leaves the ones that are there. The Answer lives
// as long as the record with the smallest TTL: RFC 2308 §5 has the denial go
// with its SOA record, and an alias is of no use without the rest of its chain.
// extended, if not nil, is sent along, its cause excepted. The error is
// [ErrAnswer].
//
// Ages are measured with the monotonic clock when stored has its reading, as
// that of [time.Now] does: setting the clock neither kills answers nor keeps
// them alive.
func NewAnswer(msg []byte, ttls []uint32, stored time.Time, extended *ede.Error) (*Answer, error) {
	a := &Answer{stored: stored, ede: sendable(extended)}
	offsets, _, ok := wire.AppendTTLOffsets(a.few[:0], msg)
	if !ok || msg[2]&(bitQR|opcodeMask|bitTC) != bitQR || binary.BigEndian.Uint16(msg[4:]) != 1 {
		return nil, ErrAnswer
	}
	records := int(binary.BigEndian.Uint16(msg[6:])) + int(binary.BigEndian.Uint16(msg[8:])) + int(binary.BigEndian.Uint16(msg[10:]))
	if len(offsets) != records || ttls != nil && len(ttls) != records { // fewer offsets: an OPT record
		return nil, ErrAnswer
	}
	msg[2] &^= bitAA   // memory is nobody's authority (RFC 1035 §4.1.1)
	least := uint32(0) // without a record nothing says how long it holds (RFC 2308 §5)
	for i, off := range offsets {
		ttl := binary.BigEndian.Uint32(msg[off:])
		if ttls != nil {
			ttl = ttls[i]
		}
		if ttl > maxTTL { // RFC 2181 §8
			ttl = 0
		}
		binary.BigEndian.PutUint32(msg[off:], ttl)
		if i == 0 || ttl < least {
			least = ttl
		}
	}
	a.form, a.seconds = form{msg: msg, ttls: offsets, ring: findRing(msg, offsets)}, least
	return a, nil
}

// MarkPlain records that a has no DNSSEC records that were left out for want of
// DO, nor any that are there because of it: with and without it is the same. It
// is for whoever made a, before anybody else has it.
func (a *Answer) MarkPlain() { a.plain = true }

// MarkSpare records that the last n records of the authority section are of use
// to the client, but not part of the answer, so that they are left out where
// there is no room (RFC 2181 §9). It is for whoever made a, before anybody else
// has it.
func (a *Answer) MarkSpare(n int) { a.spare = uint16(min(n, int(binary.BigEndian.Uint16(a.msg[8:])))) }

// sendable returns what a client gets to see of err: its cause is for the log,
// and may hold on to much memory.
func sendable(err *ede.Error) *ede.Error {
	if err == nil || err.Err == nil {
		return err
	}
	return &ede.Error{Code: err.Code, Text: err.Text}
}

// Append appends the response to q, a query for a's own question, as it is at
// now: in q's spelling, with its ID, its RD and CD, and AD if it may see it;
// aged; without its additional section if it is longer than q.Limit, then without
// what is marked as spare, and cut off with TC if that does not help. Room is left
// for what the OPT record needs.
// Never more than q.Limit octets are appended.
func (a *Answer) Append(buf []byte, q *wire.Query, now time.Time) []byte {
	return a.append(buf, q, seconds(now.Sub(a.stored)))
}

// append is Append for an answer that is age seconds old.
func (f *form) append(buf []byte, q *wire.Query, age uint32) []byte {
	start := len(buf)
	limit := q.Limit - q.OPTRoom()
	msg, ttls := f.msg, f.ttls
	spare := uint16(0) // left out
	if len(msg) > limit {
		msg, ttls = f.upTo(0)
	}
	if len(msg) > limit && f.spare > 0 {
		spare = f.spare
		msg, ttls = f.upTo(spare)
	}
	if len(msg) > limit { // RFC 2181 §9
		return wire.Truncate(wire.AppendReply(buf, q, wire.RcodeOf(f.msg)), start, q)
	}
	buf = append(buf, msg...)
	if len(msg) < len(f.msg) {
		binary.BigEndian.PutUint16(buf[start+8:], binary.BigEndian.Uint16(f.msg[8:])-spare) // NSCOUNT
		clear(buf[start+10 : start+wire.HeaderLen])                                         // ARCOUNT
	}
	wire.Readdress(buf[start:], q)
	wire.Age(buf[start:], ttls, age)
	return buf
}

// upTo returns f without its additional section, which may be left out where
// there is no room (RFC 2181 §9), and without the last spare records of the
// authority section, but for the counts of them.
func (f *form) upTo(spare uint16) (msg []byte, ttls []uint16) {
	records := int(binary.BigEndian.Uint16(f.msg[6:])) + int(binary.BigEndian.Uint16(f.msg[8:])) - int(spare)
	if records == 0 || records == len(f.ttls) {
		return f.msg, f.ttls
	}
	last := int(f.ttls[records-1])
	return f.msg[:last+6+int(binary.BigEndian.Uint16(f.msg[last+4:]))], f.ttls[:records]
}

// seconds returns the whole seconds of an age. A query may have come in before
// its answer did, and a clock may go back: then the answer is new.
func seconds(age time.Duration) uint32 {
	return uint32(min(max(age, 0)/time.Second, math.MaxUint32))
}

// life returns how long a lives after it was stored.
func (a *Answer) life() time.Duration { return time.Duration(a.seconds) * time.Second }

// alive reports whether a may still be used at now.
func (a *Answer) alive(now time.Time) bool { return within(now, a.Expires(), a.life()) }

// Message returns a in wire format, as it was when it was stored. It must not be
// changed.
func (a *Answer) Message() []byte { return a.msg }

// EDE returns the Extended DNS Error that goes with a, or nil.
func (a *Answer) EDE() *ede.Error { return a.ede }

// Expires returns when a must not be used any more.
func (a *Answer) Expires() time.Time { return a.stored.Add(a.life()) }

// errorSize returns the bytes that err, which may be nil, takes in memory.
func errorSize(err *ede.Error) int64 {
	if err == nil {
		return 0
	}
	return 48 + int64(len(err.Text))
}

// about reports whether a answers q.
func (a *Answer) about(q wire.Question) bool {
	name := a.msg[wire.HeaderLen:]
	if len(name) < len(q.Name)+4 {
		return false
	}
	fixed := name[len(q.Name):] // letters fold in the name only: type 65 is HTTPS, 97 is not
	return wire.EqualFold(name[:len(q.Name)], []byte(q.Name)) &&
		wire.Type(binary.BigEndian.Uint16(fixed)) == q.Type && binary.BigEndian.Uint16(fixed[2:]) == wire.ClassIN
}
