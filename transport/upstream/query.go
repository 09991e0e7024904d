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

// maxQueryLen is the length of the longest query, in octets.
const maxQueryLen = wire.HeaderLen + wire.MaxNameLen + 4 + wire.OPTLen

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

// query is a query as it was sent: what a reply has to match.
type query struct {
	msg      []byte // the whole message
	id       uint16
	question []byte // of msg: name, type, class
	limit    int    // octets that a reply over UDP may have
}

// build writes the query for req into s, with TCP's length in front of msg.
// RD is clear: the server is asked for what it knows by itself. CD is clear too,
// servers that are authoritative have no use for it.
func (s *scratch) build(req *exchange.Request, id uint16, ednsSize int) query {
	b := append(s.out[:0], 0, 0) // the length, below
	b = binary.BigEndian.AppendUint16(b, id)
	b = append(b,
		0, 0, // QR, opcode, AA, TC, RD; RA, Z, AD, CD, rcode
		0, 1, 0, 0, 0, 0, 0, 0) // QDCOUNT, ANCOUNT, NSCOUNT, ARCOUNT
	question := len(b)
	b = append(b, req.Question.Name...)
	b = binary.BigEndian.AppendUint16(b, uint16(req.Question.Type))
	b = binary.BigEndian.AppendUint16(b, wire.ClassIN)
	end := len(b)
	limit := wire.MinUDPSize // RFC 6891 §6.2.5
	if !req.Bare {
		limit = ednsSize
		b[2+11] = 1 // ARCOUNT
		b = append(b, 0, 0, byte(wire.TypeOPT), byte(limit>>8), byte(limit),
			0, 0, 0x80, 0, // RFC 4035 §3.2.1: DO, whatever the client wants
			0, 0)
	}
	binary.BigEndian.PutUint16(b, uint16(len(b)-2)) // RFC 1035 §4.2.2
	return query{msg: b[2:], id: id, question: b[question:end], limit: limit}
}
