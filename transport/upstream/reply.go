package upstream

import (
	"encoding/binary"
	"fmt"

	"github.com/miekg/dns"

	"shirube/internal/exchange"
	"shirube/internal/wire"
)

// verdict says whether a message is the reply to a query, and if not, why.
type verdict uint8

// The verdicts. All but matches mean: drop it, count it, go on waiting.
const (
	matches       verdict = iota
	wrongSource           // not the server's; await finds out
	tooLong               // longer than was offered; alike
	tooShort              // empty, or shorter than a header
	wrongID               // a guess, or the reply to another query
	wrongHeader           // no response, or to no query
	wrongQuestion         // right ID, other question
	numVerdicts           // how many there are
)

// The bits of octet 2 of a header (RFC 1035 §4.1.1).
const (
	bitQR      = 0x80
	maskOpcode = 0x78
	bitTC      = 0x02
)

// judge says whether msg, which the server sent, is the reply to q (RFC 5452
// §4.2, §9.1).
func (q *query) judge(msg []byte) verdict {
	switch {
	case len(msg) < wire.HeaderLen:
		return tooShort
	case binary.BigEndian.Uint16(msg) != q.id:
		return wrongID
	case msg[2]&(bitQR|maskOpcode) != bitQR:
		return wrongHeader
	case binary.BigEndian.Uint16(msg[4:]) == 0 && saysOnlyError(msg):
		return matches
	case binary.BigEndian.Uint16(msg[4:]) != 1 || !q.echoedIn(msg[wire.HeaderLen:]):
		return wrongQuestion
	}
	return matches
}

// saysOnlyError reports whether msg, a response without a question, has a right
// to be: old servers answer so when they fail, and then there is nothing else
// in it but perhaps an OPT record.
func saysOnlyError(msg []byte) bool {
	switch wire.RcodeOf(msg) {
	case wire.FormErr, wire.ServFail, wire.NotImp, wire.Refused:
		return binary.BigEndian.Uint32(msg[6:]) == 0 // ANCOUNT, NSCOUNT
	}
	return false
}

// echoedIn reports whether a question section is the one that was sent. This is
// the one place that decides how far the spelling of the name may differ.
func (q *query) echoedIn(section []byte) bool {
	if len(section) < len(q.question) {
		return false
	}
	section = section[:len(q.question)]
	name := len(q.question) - 4
	return wire.EqualFold(section[:name], q.question[:name]) && string(section[name:]) == string(q.question[name:])
}

// truncated reports whether msg, a reply, has TC set.
func truncated(msg []byte) bool { return msg[2]&bitTC != 0 }

// parse returns the message in msg, a matching reply. It keeps nothing of msg.
// The error wraps [exchange.ErrMalformed].
func parse(msg []byte) (*dns.Msg, error) {
	if err := vet(msg); err != nil {
		return nil, fmt.Errorf("%w: %w", exchange.ErrMalformed, err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(msg); err != nil {
		return nil, fmt.Errorf("%w: %w", exchange.ErrMalformed, err)
	}
	return m, nil
}
