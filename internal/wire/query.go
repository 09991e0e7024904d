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

// Encrypted reports whether nobody between the client and the server, or its
// proxy, can read along.
func (p Proto) Encrypted() bool { return p >= DoT }

// Policy is what the server's policy did about a query, for those who log it.
type Policy uint8

// What policy does.
const (
	NoPolicy      Policy = iota
	PolicyDenied         // dropped, for the client's address
	PolicyRefused        // refused, for the client's address
	PolicyCookie         // sent back for want of a cookie
	PolicyBuiltin        // answered by the server's own word
	NumPolicies          // how many there are, for tables
)

// Query is one request, read in place. It borrows the message it was parsed
// from: whoever owns that buffer decides how long the Query is good for. The
// transport fills the first six fields and HTTP, and whoever answers Policy;
// [Query.Parse] leaves them alone.
type Query struct {
	Client   netip.AddrPort // who asks; the port may be 0 behind a proxy
	Local    netip.AddrPort // who is asked, of this host's addresses, or of a proxy's; the zero AddrPort: nobody knows
	Received time.Time      // when the query's last octet arrived
	Limit    int            // octets that the response may have, OPT included
	Proto    Proto
	Idle     time.Duration // how long the query's connection may be silent; on TCP and DoT
	Policy   Policy        // that acted on the query
	HTTP     uint8         // the major version of HTTP; 0: the usual one of Proto, or none

	Type  Type
	Class uint16

	RD, AD, CD bool // RFC 1035 §4.1.1; RFC 6840 §5.7; RFC 4035 §3.2.2

	EDNS      bool   // the query had an OPT record
	DO        bool   // RFC 3225 §3
	NSID      bool   // asks who answers (RFC 5001 §2.1)
	Padding   bool   // pads (RFC 7830 §3), on any transport
	Keepalive bool   // asks how long its connection may be silent, on any transport (RFC 7828 §3.2)
	Cookie    Cookie // RFC 7873 §5.2; whoever answers makes up his mind about it
	UDPSize   uint16 // RFC 6891 §6.2.3, at least 512; 0 without EDNS

	msg []byte
	at  places
}

// places are offsets in a query.
type places struct {
	question          int // just past the question section
	options, end      int // the OPT record's RDATA
	cookie, cookieEnd int // the data of the first COOKIE option
}

// ID returns the message ID.
func (q *Query) ID() uint16 { return binary.BigEndian.Uint16(q.msg) }

// Msg returns the whole message.
func (q *Query) Msg() []byte { return q.msg }

// RawQuestion returns the question section, in the client's own spelling.
func (q *Query) RawQuestion() []byte { return q.msg[HeaderLen:q.at.question] }

// RawName returns the query name, in the client's own spelling; nothing if there
// is no question.
func (q *Query) RawName() []byte { return q.msg[HeaderLen:max(q.at.question-4, HeaderLen)] }

// NoQuestion reports whether q asks for nothing but a server cookie (RFC 7873
// §5.4). Such a query has a COOKIE option.
func (q *Query) NoQuestion() bool { return q.at.question == HeaderLen }

// RawCookie returns the data of the query's COOKIE option, borrowed from the
// message: a client cookie of [ClientCookieLen] octets, and perhaps a server
// cookie. It is empty if there is none.
func (q *Query) RawCookie() []byte { return q.msg[q.at.cookie:q.at.cookieEnd:q.at.cookieEnd] }

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

// CopyTo makes dst a copy of q that lasts, in the memory of the copy that dst was
// before, if it was one.
func (q *Query) CopyTo(dst *Query) {
	msg := append(dst.msg[:0], q.msg...)
	*dst = *q
	dst.msg = msg
}

// Parse reads the request in msg, which is borrowed until the next Parse. The
// header is judged before anything else is looked at, on every transport alike
// (CVE-2026-86003, CVE-2026-82399): a request, opcode QUERY, one question (RFC
// 9619 §4), no answers, no authority, at most two additional records. Then one
// uncompressed name, and at most one OPT record; any other additional record
// (TSIG) is stepped over. A question for IXFR has one record in the authority
// section, which is stepped over too (RFC 1995 §3). With a COOKIE option there
// may be no question (RFC 7873 §5.4).
func (q *Query) Parse(msg []byte) Status {
	if len(msg) < HeaderLen || msg[2]&bitQR != 0 {
		return Ignored
	}
	if msg[2]&opcodeMask != 0 {
		return UnsupportedOpcode
	}
	counts := binary.BigEndian.Uint64(msg[4:])
	if counts>>32&^(1<<16) != 0 || counts>>16&0xFFFF > 1 || counts&0xFFFF > 2 { // QDCOUNT ≤ 1, ANCOUNT 0, NSCOUNT ≤ 1, ARCOUNT ≤ 2
		return Malformed
	}
	q.msg = msg
	q.RD, q.AD, q.CD = msg[2]&bitRD != 0, msg[3]&bitAD != 0, msg[3]&bitCD != 0
	if counts>>32 == 0 {
		return q.parseNoQuestion()
	}
	n := nameLen(msg[HeaderLen:]) // a pointer has nothing before it to point to
	if n < 0 || HeaderLen+n+4 > len(msg) {
		return Malformed
	}
	off := HeaderLen + n + 4
	q.at.question = off
	q.Type = Type(binary.BigEndian.Uint16(msg[off-4:]))
	q.Class = binary.BigEndian.Uint16(msg[off-2:])
	if counts>>16&0xFFFF == 1 {
		soa, ok := readRR(msg, off)
		if !ok || q.Type != TypeIXFR || soa.typ != TypeSOA {
			return Malformed
		}
		off = soa.end
	}
	return q.parseAdditional(off)
}

// parseNoQuestion reads what is behind the header of a query without question,
// which has to be a COOKIE option (RFC 7873 §5.4).
func (q *Query) parseNoQuestion() Status {
	q.at.question, q.Type, q.Class = HeaderLen, 0, 0
	if q.msg[9] != 0 { // the low octet of NSCOUNT
		return Malformed
	}
	if status := q.parseAdditional(HeaderLen); status != OK || q.Cookie == CookieNone {
		return Malformed
	}
	return OK
}

// parseAdditional reads the additional section, which begins at off, up to the
// end of the message.
func (q *Query) parseAdditional(off int) Status {
	q.EDNS, q.DO, q.NSID, q.Padding, q.Keepalive, q.Cookie, q.UDPSize = false, false, false, false, false, CookieNone, 0
	q.at = places{question: q.at.question}
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
	return q.parseOptions(rr.rdata, rr.end)
}

// parseOptions reads the options in msg[off:end] (RFC 6891 §6.1.2).
func (q *Query) parseOptions(off, end int) Status {
	q.at.options, q.at.end = off, end
	for n := 0; off < end; n++ {
		if n == MaxOptions || off+4 > end {
			return Malformed
		}
		code, data := binary.BigEndian.Uint16(q.msg[off:]), off+4
		off = data + int(binary.BigEndian.Uint16(q.msg[off+2:]))
		if off > end {
			return Malformed
		}
		switch {
		case code == OptionNSID: // whatever is in it (RFC 5001 §2.1)
			q.NSID = true
		case code == OptionPadding: // whatever is in it
			q.Padding = true
		case code == OptionKeepalive: // whatever is in it: clients send nothing
			q.Keepalive = true
		case code == OptionCookie && q.Cookie == CookieNone: // the first counts (RFC 7873 §5.2)
			q.Cookie, q.at.cookie, q.at.cookieEnd = cookieOf(off-data), data, off
		}
	}
	return OK
}

// Option returns the data of the query's first EDNS option with the given
// code, borrowed from the message.
func (q *Query) Option(code uint16) (data []byte, ok bool) {
	for b := q.msg[q.at.options:q.at.end]; len(b) > 0; {
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
