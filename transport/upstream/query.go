package upstream

import (
	"crypto/rand"
	"encoding/binary"

	"shirube/internal/exchange"
	"shirube/internal/wire"
)

// The ports that queries leave from: all but the privileged ones (RFC 5452
// §9.2, RFC 6056 §3.2).
const (
	firstPort = 1024
	numPorts  = 65536 - firstPort
)

// maxQueryLen is the length of the longest query, in octets: with the longest
// cookie, a request for keepalive, and padding.
const maxQueryLen = wire.HeaderLen + wire.MaxNameLen + 4 + wire.OPTLen + 4 + maxCookieLen + 4 + 4 + paddingBlock

// drawPortAndID draws both from the system's source of randomness: one for the
// whole process, cryptographically strong, and 50 ns a draw. Nothing here may
// ever be split between cores: from a port that gives away its core's share of
// the ports, the next ones are guessed (CVE-2026-50252).
func drawPortAndID() (port, id uint16) {
	var b [6]byte
	rand.Read(b[:]) // never fails
	// A 32-bit draw scaled to the range: no port is more than 1.00002 times
	// as likely as another.
	scaled := uint64(binary.BigEndian.Uint32(b[:])) * numPorts >> 32
	return uint16(firstPort + scaled), binary.BigEndian.Uint16(b[4:])
}

// draft is what a query is made of.
type draft struct {
	req       *exchange.Request
	id        uint16
	ednsSize  int
	spelling  []byte // of the name; nil for the name as it is
	cookie    []byte // client cookie, and server cookie if there is one; nil for none
	keepalive bool
	padded    bool
}

// query is a query as it was sent: what a reply has to match.
type query struct {
	msg      []byte // the whole message
	id       uint16
	question []byte // of msg: name, type, class
	limit    int    // octets that a reply over UDP may have
	spelled  bool   // the name has a spelling that the reply must have too
	cookie   []byte // of msg: the client cookie; nil without one
}

// The bits of octets 2 and 3 of a header (RFC 1035 §4.1.1, RFC 4035 §3.2.2).
const (
	bitQR      = 0x80
	maskOpcode = 0x78
	bitTC      = 0x02
	bitRD      = 0x01
	bitCD      = 0x10
)

// build writes the query that d describes into s, with TCP's length in front of
// it.
func (s *scratch) build(d draft) query {
	b := append(s.out[:0], 0, 0) // the length, below
	b = binary.BigEndian.AppendUint16(b, d.id)
	b = append(b,
		0, 0, // QR, opcode, AA, TC, RD; RA, Z, AD, CD, rcode
		0, 1, 0, 0, 0, 0, 0, 0) // QDCOUNT, ANCOUNT, NSCOUNT, ARCOUNT
	if d.req.RD {
		b[2+2] |= bitRD
	}
	if d.req.CD {
		b[2+3] |= bitCD
	}
	question := len(b)
	if d.spelling == nil {
		b = append(b, d.req.Question.Name...)
	} else {
		b = append(b, d.spelling...)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(d.req.Question.Type))
	b = binary.BigEndian.AppendUint16(b, wire.ClassIN)
	end := len(b)
	q := query{id: d.id, limit: wire.MinUDPSize, spelled: d.spelling != nil} // RFC 6891 §6.2.5
	if !d.req.Bare {
		q.limit = d.ednsSize
		b[2+11] = 1 // ARCOUNT
		b = d.appendOPT(b)
		if d.cookie != nil {
			at := end + wire.OPTLen + 4
			q.cookie = b[at : at+clientCookieLen]
		}
	}
	binary.BigEndian.PutUint16(b, uint16(len(b)-2)) // RFC 1035 §4.2.2
	q.msg, q.question = b[2:], b[question:end]
	return q
}

// appendOPT appends the OPT record to b, which holds the length and all of the
// message before it. A cookie is its first option.
func (d *draft) appendOPT(b []byte) []byte {
	b = append(b, 0, 0, byte(wire.TypeOPT), byte(d.ednsSize>>8), byte(d.ednsSize),
		0, 0, 0x80, 0, // RFC 4035 §3.2.1: DO, whatever the client wants
		0, 0)
	options := len(b)
	if d.cookie != nil {
		b = appendOption(b, optCookie, d.cookie)
	}
	if d.keepalive {
		b = appendOption(b, optKeepalive, nil) // RFC 7828 §3.2.1
	}
	if d.padded { // RFC 8467 §4.1
		var zeroes [paddingBlock]byte
		short := (len(b) - 2 + 4) % paddingBlock
		b = appendOption(b, optPadding, zeroes[:(paddingBlock-short)%paddingBlock])
	}
	binary.BigEndian.PutUint16(b[options-2:], uint16(len(b)-options))
	return b
}
