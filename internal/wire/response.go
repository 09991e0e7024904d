package wire

import (
	"encoding/binary"
	"slices"
)

// AppendHeader appends a response to msg, a request of at least [HeaderLen]
// octets, that is a bare header: nothing of what the client sent is echoed
// but its ID, opcode and RD (RFC 1035 §4.1.1).
func AppendHeader(buf, msg []byte, rcode Rcode) []byte {
	return append(buf,
		msg[0], msg[1],
		bitQR|msg[2]&(opcodeMask|bitRD), bitRA|byte(rcode&0xF),
		0, 0, 0, 0, 0, 0, 0, 0)
}

// AppendReply appends the start of a response to q: header and question, if
// there is one, in the client's spelling. The counts of all other sections are
// 0. RA is set, and RD and CD are q's (RFC 1035 §4.1.1, RFC 4035 §3.2.2).
func AppendReply(buf []byte, q *Query, rcode Rcode) []byte {
	start := len(buf)
	buf = AppendHeader(buf, q.msg, rcode)
	buf[start+3] |= q.msg[3] & bitCD
	buf[start+5] = q.msg[5] // QDCOUNT, 0 or 1
	return append(buf, q.RawQuestion()...)
}

// Readdress makes msg, a whole response to the same question, the response to
// q: it writes q's ID, its spelling of the name (so that 0x20 checks hold, and
// with it that of every compressed name that points there), and its RD and CD;
// QR and RA are set. The rcode, AA and TC are msg's own, and so is AD where the
// client has asked to see it. The caller has compared the questions: another
// one, of another length, would be written over the records.
func Readdress(msg []byte, q *Query) {
	copy(msg, q.msg[:2])
	msg[2] = bitQR | msg[2]&(bitAA|bitTC) | q.msg[2]&bitRD
	msg[3] = bitRA | msg[3]&(bitAD|0xF) | q.msg[3]&bitCD
	if !q.DO && !q.AD { // RFC 6840 §5.8
		msg[3] &^= bitAD
	}
	copy(msg[HeaderLen:], q.RawQuestion())
}

// Age takes age seconds off each TTL of msg, a whole message whose TTL fields
// are at offsets. No TTL falls below 0.
func Age(msg []byte, offsets []uint16, age uint32) {
	for _, off := range offsets {
		left := ttlAt(msg, int(off))
		binary.BigEndian.PutUint32(msg[off:], left-min(left, age))
	}
}

// Truncate cuts the message that begins at buf[start] to header and question,
// and sets TC (RFC 2181 §9: what remains must not be used, so nothing remains).
func Truncate(buf []byte, start int, q *Query) []byte {
	msg := buf[start:]
	msg[2] |= bitTC
	clear(msg[6:HeaderLen])
	return buf[:start+q.at.question]
}

// Option is an EDNS option to be sent (RFC 6891 §6.1.2).
type Option struct {
	Code uint16
	Data []byte
	Text string // follows Data on the wire
}

// The codes of the options that this server knows.
const (
	OptionNSID      uint16 = 3  // RFC 5001 §2.3
	OptionCookie    uint16 = 10 // RFC 7873 §4
	OptionKeepalive uint16 = 11 // RFC 7828 §3.1
	OptionPadding   uint16 = 12 // RFC 7830 §3
	OptionEDE       uint16 = 15 // RFC 8914 §2
)

// OPTLen is the length in octets of an OPT record without options.
const OPTLen = 11

// OPTRoom returns the octets that the OPT record of a response to q cannot do
// without: a client that misses its cookie throws the response away (RFC 7873
// §5.3).
func (q *Query) OPTRoom() int {
	switch {
	case !q.EDNS:
		return 0
	case q.Cookie.Answered():
		return OPTLen + cookieOptionLen
	}
	return OPTLen
}

// Len returns the octets that o takes in an OPT record.
func (o Option) Len() int { return 4 + len(o.Data) + len(o.Text) }

// AppendOPT appends an OPT record to the message that begins at buf[start] and
// has none yet: the size that this server takes on UDP, the upper bits of
// rcode, q's DO (RFC 3225 §3), and those of options that keep the message
// within q.Limit, in their order. The bare record of [OPTLen] octets is appended
// whatever the limit: leave room for it. A client that pads gets padding back where
// nobody can see more of its messages than how long they are. Without EDNS in the query there is none
// in the response (RFC 6891 §7).
func AppendOPT(buf []byte, start int, q *Query, size uint16, rcode Rcode, options ...Option) []byte {
	if !q.EDNS {
		return buf
	}
	flags := byte(0)
	if q.DO {
		flags = 0x80
	}
	buf = append(buf, 0, 0, byte(TypeOPT), byte(size>>8), byte(size), byte(rcode>>4), 0, flags, 0, 0, 0)
	rdata := len(buf)
	limit := min(q.Limit, MaxMsgSize) // what 16 bits of length can say
	for _, o := range options {
		if len(buf)-start+o.Len() > limit {
			continue
		}
		n := len(o.Data) + len(o.Text)
		buf = append(buf, byte(o.Code>>8), byte(o.Code), byte(n>>8), byte(n))
		buf = append(buf, o.Data...)
		buf = append(buf, o.Text...)
	}
	if q.Padding && q.Proto.Encrypted() {
		buf = appendPadding(buf, start, limit)
	}
	binary.BigEndian.PutUint16(buf[rdata-2:], uint16(len(buf)-rdata))
	arcount := buf[start+10 : start+12]
	binary.BigEndian.PutUint16(arcount, binary.BigEndian.Uint16(arcount)+1)
	return buf
}

// PaddingBlock is what the length of a padded response is a multiple of, in octets
// (RFC 8467 §4.1).
const PaddingBlock = 468

// appendPadding appends an option that makes the message at buf[start:] a multiple
// of PaddingBlock, or as long as limit (RFC 7830 §3).
func appendPadding(buf []byte, start, limit int) []byte {
	n := len(buf) - start + 4
	if n > limit {
		return buf
	}
	pad := min((PaddingBlock-n%PaddingBlock)%PaddingBlock, limit-n)
	buf = append(buf, byte(OptionPadding>>8), byte(OptionPadding), byte(pad>>8), byte(pad))
	buf = slices.Grow(buf, pad)
	end := len(buf) + pad
	clear(buf[len(buf):end]) // RFC 7830 §3: 0x00
	return buf[:end]
}

// RcodeOf returns the rcode in the header of msg: its low four bits.
func RcodeOf(msg []byte) Rcode { return Rcode(msg[3] & 0xF) }
