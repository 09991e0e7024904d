package wire

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strconv"
	"time"
)

// HeaderLen is the length of a message header in octets (RFC 1035 §4.1.1).
const HeaderLen = 12

// MinUDPSize is what every requester can take, in octets (RFC 1035 §4.2.1,
// RFC 6891 §6.2.3).
const MinUDPSize = 512

// MaxMsgSize is the largest message there is: two octets of length on TCP.
const MaxMsgSize = 65535

// MaxOptions bounds the EDNS options read from one query; a query with more is
// malformed. No client sends ten, and the peers were made to crawl by
// thousands (CVE-2026-41292, CVE-2026-42944).
const MaxOptions = 32

// Header bits: the first three in octet 2, the rest in octet 3 (RFC 1035
// §4.1.1, RFC 4035 §3.1.6, §3.2.2).
const (
	bitQR, bitAA, bitTC, bitRD = 0x80, 0x04, 0x02, 0x01
	bitRA, bitZ, bitAD, bitCD  = 0x80, 0x40, 0x20, 0x10
	opcodeMask                 = 0x78
)

// Status says what to do with a message that came in as a request.
type Status uint8

// What to do with a message. All but OK and UnsupportedVersion leave the Query
// unusable: answer them with [AppendHeader], from the bytes alone.
const (
	OK                 Status = iota
	Ignored                   // not a request, or too short to answer: send nothing
	Malformed                 // answer with FORMERR
	UnsupportedOpcode         // answer with NOTIMP
	UnsupportedVersion        // of EDNS; the question was read: answer with BADVERS (RFC 6891 §6.1.3)
	NumStatus                 // how many there are, for arrays of counters
)

// Proto is the transport that a query came in on.
type Proto uint8

// The transports.
const (
	UDP Proto = iota
	TCP
	DoT
	DoH
	DoH3
	DoQ
	NumProtos // how many there are, for arrays of counters
)

var protoNames = [NumProtos]string{"UDP", "TCP", "DoT", "DoH", "DoH3", "DoQ"}

// String returns the usual name of p.
func (p Proto) String() string {
	if p >= NumProtos {
		return "Proto" + strconv.Itoa(int(p))
	}
	return protoNames[p]
}

// Query is one request, read in place. It borrows the message it was parsed
// from: whoever owns that buffer decides how long the Query is good for. The
// transport fills the first four fields; [Query.Parse] leaves them alone.
type Query struct {
	Client   netip.AddrPort // who asks; the port may be 0 behind a proxy
	Received time.Time      // when the query's last octet arrived
	Limit    int            // octets that the response may have, OPT included
	Proto    Proto

	Type  Type
	Class uint16

	RD, AD, CD bool // RFC 1035 §4.1.1; RFC 6840 §5.7; RFC 4035 §3.2.2

	EDNS    bool   // the query had an OPT record
	DO      bool   // RFC 3225 §3
	UDPSize uint16 // RFC 6891 §6.2.3, at least 512; 0 without EDNS

	msg      []byte
	question int // offset just past the question section
	optStart int // the OPT record's RDATA in msg
	optEnd   int
}

// ID returns the message ID.
func (q *Query) ID() uint16 { return binary.BigEndian.Uint16(q.msg) }

// Msg returns the whole message.
func (q *Query) Msg() []byte { return q.msg }

// RawQuestion returns the question section, in the client's own spelling.
func (q *Query) RawQuestion() []byte { return q.msg[HeaderLen:q.question] }

// RawName returns the query name, in the client's own spelling.
func (q *Query) RawName() []byte { return q.msg[HeaderLen : q.question-4] }

// Question returns what q asks, folded. It allocates.
func (q *Query) Question() Question {
	return Question{Name: foldName(q.RawName()), Type: q.Type}
}

// Clone returns a copy of q that owns its memory.
func (q *Query) Clone() *Query {
	c := *q
	c.msg = bytes.Clone(q.msg)
	return &c
}

// Parse reads the request in msg, which is borrowed until the next Parse. The
// header is judged before anything else is looked at, on every transport alike
// (CVE-2026-86003, CVE-2026-82399): a request, opcode QUERY, one question (RFC
// 9619 §4), no answers, no authority, at most two additional records. Then one
// uncompressed name, and at most one OPT record; any other additional record
// (TSIG) is stepped over. A question for IXFR has one record in the authority
// section, which is stepped over too (RFC 1995 §3).
func (q *Query) Parse(msg []byte) Status {
	if len(msg) < HeaderLen || msg[2]&bitQR != 0 {
		return Ignored
	}
	if msg[2]&opcodeMask != 0 {
		return UnsupportedOpcode
	}
	counts := binary.BigEndian.Uint64(msg[4:])
	if counts>>32 != 1<<16 || counts>>16&0xFFFF > 1 || counts&0xFFFF > 2 { // QDCOUNT 1, ANCOUNT 0, NSCOUNT ≤ 1, ARCOUNT ≤ 2
		return Malformed
	}
	n := nameLen(msg[HeaderLen:]) // a pointer has nothing before it to point to
	if n < 0 || HeaderLen+n+4 > len(msg) {
		return Malformed
	}
	q.msg = msg
	q.question = HeaderLen + n + 4
	q.Type = Type(binary.BigEndian.Uint16(msg[q.question-4:]))
	q.Class = binary.BigEndian.Uint16(msg[q.question-2:])
	q.RD, q.AD, q.CD = msg[2]&bitRD != 0, msg[3]&bitAD != 0, msg[3]&bitCD != 0
	off := q.question
	if counts>>16&0xFFFF == 1 {
		soa, ok := readRR(msg, off)
		if !ok || q.Type != TypeIXFR || soa.typ != TypeSOA {
			return Malformed
		}
		off = soa.end
	}
	return q.parseAdditional(off)
}

// parseAdditional reads the additional section, which begins at off, up to the
// end of the message.
func (q *Query) parseAdditional(off int) Status {
	q.EDNS, q.DO, q.UDPSize, q.optStart, q.optEnd = false, false, 0, 0, 0
	status := OK
	for range binary.BigEndian.Uint16(q.msg[10:]) {
		rr, ok := readRR(q.msg, off)
		if !ok {
			return Malformed
		}
		off = rr.end
		if rr.typ != TypeOPT {
			continue
		}
		if q.EDNS || q.msg[rr.owner] != 0 { // RFC 6891 §6.1.1: one OPT; §6.1.2: the root's
			return Malformed
		}
		if status = q.parseOPT(rr); status == Malformed {
			return Malformed
		}
	}
	if off != len(q.msg) {
		return Malformed
	}
	return status
}

// parseOPT reads the OPT record rr (RFC 6891 §6.1.2, §6.1.3).
func (q *Query) parseOPT(rr rrAt) Status {
	fixed := q.msg[rr.owner+1:] // type, class, TTL, RDLENGTH
	q.EDNS = true
	q.UDPSize = max(binary.BigEndian.Uint16(fixed[2:]), MinUDPSize)
	q.DO = fixed[6]&0x80 != 0
	if fixed[5] != 0 {
		return UnsupportedVersion // what its options mean is not for us to say
	}
	n := 0
	for off := rr.rdata; off < rr.end; n++ {
		if n == MaxOptions || off+4 > rr.end {
			return Malformed
		}
		off += 4 + int(binary.BigEndian.Uint16(q.msg[off+2:]))
		if off > rr.end {
			return Malformed
		}
	}
	q.optStart, q.optEnd = rr.rdata, rr.end
	return OK
}

// Option returns the data of the query's first EDNS option with the given
// code, borrowed from the message.
func (q *Query) Option(code uint16) (data []byte, ok bool) {
	for b := q.msg[q.optStart:q.optEnd]; len(b) > 0; {
		end := 4 + int(binary.BigEndian.Uint16(b[2:]))
		if binary.BigEndian.Uint16(b) == code {
			return b[4:end:end], true
		}
		b = b[end:]
	}
	return nil, false
}

// UDPLimit returns how long a response to q may be on UDP, in octets, for a
// server that sends at most most (RFC 6891 §6.2.5).
func (q *Query) UDPLimit(most int) int {
	if !q.EDNS {
		return MinUDPSize
	}
	return max(min(int(q.UDPSize), most), MinUDPSize)
}
