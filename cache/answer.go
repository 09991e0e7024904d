package cache

import (
	"encoding/binary"
	"errors"
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
	msg     []byte   // its AD bit says what validation found
	ttls    []uint16 // offsets of the TTL fields in msg
	stored  int64    // Unix milliseconds
	expires int64    // Unix milliseconds
	ede     *ede.Error
}

// ErrAnswer reports bytes that are not a response with one question.
var ErrAnswer = errors.New("cache: not a well-formed response")

// NewAnswer makes an Answer of msg, a response with one question and no OPT
// record, as it is at stored. It keeps msg. ttls, in seconds, are those of the
// records in their order, and are written into msg; nil leaves the ones that
// are there. The Answer lives as long as the record with the smallest TTL.
// extended, if not nil, is sent along.
func NewAnswer(msg []byte, ttls []uint32, stored time.Time, extended *ede.Error) (*Answer, error) {
	offsets, _, ok := wire.AppendTTLOffsets(nil, msg)
	if !ok || msg[4] != 0 || msg[5] != 1 || ttls != nil && len(ttls) != len(offsets) {
		return nil, ErrAnswer
	}
	least := uint32(0) // without a record nothing says how long it holds (RFC 2308 §5)
	for i, off := range offsets {
		field := msg[off : off+4]
		if ttls != nil {
			binary.BigEndian.PutUint32(field, ttls[i])
		}
		if ttl := binary.BigEndian.Uint32(field); i == 0 || ttl < least {
			least = ttl
		}
	}
	now := stored.UnixMilli()
	return &Answer{msg: msg, ttls: offsets, stored: now, expires: now + int64(least)*1000, ede: extended}, nil
}

// Append appends the response to q, a query for a's own question, as it is at
// now: in q's spelling, with its ID, aged, and cut off with TC if it is too
// long. Room is left for an OPT record without options.
func (a *Answer) Append(buf []byte, q *wire.Query, now time.Time) []byte {
	start := len(buf)
	buf = append(buf, a.msg...)
	msg := buf[start:]
	wire.Readdress(msg, q)
	limit := q.Limit
	if q.EDNS {
		limit -= wire.OPTLen
	}
	if len(msg) > limit {
		return wire.Truncate(buf, start, q)
	}
	wire.Age(msg, a.ttls, a.age(now))
	return buf
}

// age returns how old a is in whole seconds.
func (a *Answer) age(now time.Time) uint32 {
	return uint32(max(now.UnixMilli()-a.stored, 0) / 1000)
}

// EDE returns the Extended DNS Error that goes with a, or nil.
func (a *Answer) EDE() *ede.Error { return a.ede }

// Expires returns when a must not be used any more.
func (a *Answer) Expires() time.Time { return time.UnixMilli(a.expires) }

// size returns the bytes that a takes in memory. The Extended DNS Error's own
// are few, and shared by all who have the same failure.
func (a *Answer) size() int64 { return int64(cap(a.msg)+2*cap(a.ttls)) + 96 }

// answers reports whether a is about q's question: the caller found it by a
// key that says so, so this is the check on the key.
func (a *Answer) answers(q *wire.Query) bool {
	want := q.RawQuestion()
	if len(a.msg) < wire.HeaderLen+len(want) {
		return false
	}
	got := a.msg[wire.HeaderLen:][:len(want)]
	name := len(want) - 4 // letters fold in the name only: 65 is HTTPS, 97 is not
	return wire.EqualFold(got[:name], want[:name]) && string(got[name:]) == string(want[name:])
}
