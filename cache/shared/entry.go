package shared

import (
	"encoding/binary"
	"errors"
	"time"
	"unicode/utf8"

	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// Key is what an entry is about.
type Key struct {
	wire.Question

	// Scope tells apart answers to the same question that come from different
	// places or were judged by different rules: 0 is as good as any other, but
	// servers that differ in what they would have answered must differ in it.
	Scope uint64
}

// Entry is what one server tells the others about a question: its answer, or
// that it found none.
type Entry struct {
	Stored   time.Time     // when it was so, by the writer's clock, to the millisecond
	Life     time.Duration // for how long it is good from then on: whole seconds, at least one
	Stale    time.Duration // for how long after that it may be used for want of a better one
	Deadline time.Time     // the end of the delegation that it rests on: neither used nor renewed from then on; zero: none
	Trust    rrset.Trust   // what validation found: Unchecked, Insecure or Secure
	Note     *ede.Error    // what clients are told beside it, or why there is no answer; may be nil
	Began    time.Time     // when it was begun to be found, which the others are not told; zero: at Stored
	Writer   string        // the name of the server that wrote it, for people
	Msg      []byte        // the response with its DNSSEC records, without OPT, TTLs as at Stored; nil: there is none
}

// Failed reports whether e says that the question could not be answered.
func (e *Entry) Failed() bool { return e.Msg == nil }

// Expires returns when e ends, but for want of a better one.
func (e *Entry) Expires() time.Time {
	end := e.Stored.Add(e.Life)
	if !e.Deadline.IsZero() && e.Deadline.Before(end) {
		return e.Deadline
	}
	return end
}

// Fresh reports whether e is as good as an answer found at now.
func (e *Entry) Fresh(now time.Time) bool { return now.Before(e.Expires()) }

// maxSkew is by how much a writer's clock may be ahead of ours: more than any
// clock that is kept by NTP. What is from further in the future is not used: it
// would live too long by as much.
const maxSkew = 2 * time.Second

// Why a value is not used. Each is a miss, and counted.
var (
	errVersion  = errors.New("of a version that is not known")
	errSecret   = errors.New("written with a secret that is not ours")
	errTag      = errors.New("forged, or damaged, or of another key")
	errForm     = errors.New("malformed")
	errSize     = errors.New("too large")
	errQuestion = errors.New("about another question")
	errFuture   = errors.New("from the future")
	errOld      = errors.New("too old")
	errFlushed  = errors.New("flushed")
)

// check returns why e is not used for k at now, or nil. An answer that is
// stale, and may be used yet, is left to the caller.
func (e *Entry) check(k Key, now time.Time) error {
	switch {
	case e.Stored.Sub(now) > maxSkew:
		return errFuture
	case !now.Before(e.Stored.Add(e.Life + e.Stale)), !e.Deadline.IsZero() && !now.Before(e.Deadline):
		return errOld
	case e.Failed():
		return nil
	case !answers(e.Msg, k.Question):
		return errQuestion
	}
	return nil
}

// answers reports whether msg is a whole response to q, of those that are
// shared: NOERROR or NXDOMAIN.
func answers(msg []byte, q wire.Question) bool {
	const (
		qr, opcode, tc = 0x80, 0x78, 0x02 // RFC 1035 §4.1.1
		question       = 4                // octets behind its name
	)
	if len(msg) < wire.HeaderLen || msg[2]&(qr|opcode|tc) != qr || binary.BigEndian.Uint16(msg[4:]) != 1 {
		return false
	}
	if rcode := wire.RcodeOf(msg); rcode != wire.NoError && rcode != wire.NXDomain {
		return false
	}
	name, err := wire.FromWire(msg[wire.HeaderLen:])
	if err != nil || name != q.Name {
		return false
	}
	rest := msg[wire.HeaderLen+len(name):]
	return len(rest) >= question && wire.Type(binary.BigEndian.Uint16(rest)) == q.Type &&
		binary.BigEndian.Uint16(rest[2:]) == wire.ClassIN
}

// What a body is.
const (
	bodyAnswer  byte = 1
	bodyFailure byte = 2
	bodyLease   byte = 3
	bodyZone    byte = 4
)

// maxText bounds each of the texts in an entry, in octets.
const maxText = 255

// appendBody appends e in the form that values have inside: numbers in network
// order, times in milliseconds since 1970.
func (e *Entry) appendBody(buf []byte) []byte {
	kind := bodyAnswer
	if e.Failed() {
		kind = bodyFailure
	}
	buf = append(buf, kind, byte(e.Trust))
	buf = appendTime(buf, e.Stored)
	buf = binary.BigEndian.AppendUint32(buf, uint32(e.Life/time.Second))
	buf = binary.BigEndian.AppendUint32(buf, uint32(e.Stale/time.Second))
	buf = appendTime(buf, e.Deadline)
	buf = appendText(buf, e.Writer)
	if e.Note == nil {
		buf = append(buf, 0)
	} else {
		buf = append(buf, 1)
		buf = binary.BigEndian.AppendUint16(buf, uint16(e.Note.Code))
		buf = appendText(buf, e.Note.Text)
	}
	return append(buf, e.Msg...)
}

// appendTime appends t, 0 for none.
func appendTime(buf []byte, t time.Time) []byte {
	ms := uint64(0)
	if !t.IsZero() {
		ms = uint64(t.UnixMilli())
	}
	return binary.BigEndian.AppendUint64(buf, ms)
}

// appendText appends text with its length, cut off where it is too long.
func appendText(buf []byte, text string) []byte {
	text = cutText(text)
	return append(append(buf, byte(len(text))), text...)
}

// cutText returns as many characters of text as an entry may have.
func cutText(text string) string {
	if len(text) <= maxText {
		return text
	}
	end := maxText
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// parseBody reads what appendBody wrote. The message is not copied. The error
// is errForm.
func parseBody(b []byte) (Entry, error) {
	r := reader{b: b}
	kind := r.octet()
	e := Entry{Trust: rrset.Trust(r.octet())}
	e.Stored = r.time()
	e.Life = time.Duration(r.uint32()) * time.Second
	e.Stale = time.Duration(r.uint32()) * time.Second
	e.Deadline = r.time()
	e.Writer = r.text()
	switch r.octet() {
	case 0:
	case 1:
		e.Note = &ede.Error{Code: ede.Code(r.uint16())}
		e.Note.Text = r.text()
	default:
		r.bad = true
	}
	switch {
	case r.bad, e.Stored.IsZero(), e.Life <= 0:
		return Entry{}, errForm
	case kind == bodyFailure && len(r.b) == 0:
		return e, nil
	case kind != bodyAnswer, len(r.b) < wire.HeaderLen:
		return Entry{}, errForm
	case e.Trust != rrset.Unchecked && e.Trust != rrset.Insecure && e.Trust != rrset.Secure:
		return Entry{}, errForm // nobody shares what is bogus, or what it cannot judge
	}
	e.Msg = r.b
	return e, nil
}

// reader takes a body apart from its beginning. After its end it gives zeros,
// and is bad.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if len(r.b) < n {
		r.bad, r.b = true, nil
		return make([]byte, n)
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) octet() byte    { return r.take(1)[0] }
func (r *reader) uint16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) uint32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *reader) uint64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }

func (r *reader) text() string {
	text := string(r.take(int(r.octet())))
	if !utf8.ValidString(text) { // a client may be told it
		r.bad = true
	}
	return text
}

// maxMilli is the last millisecond of the year 9999: what is later is no time,
// and could not be counted with.
const maxMilli = 253402300799999

func (r *reader) time() time.Time {
	ms := r.uint64()
	switch {
	case ms == 0:
		return time.Time{}
	case ms > maxMilli:
		r.bad = true
		return time.Time{}
	}
	return time.UnixMilli(int64(ms))
}
