package upstream

import (
	"encoding/binary"
	"time"

	"shirube/internal/wire"
)

// The options that are sent, and looked for in replies.
const (
	optCookie    = 10 // RFC 7873 §4
	optKeepalive = 11 // RFC 7828 §3.1
	optPadding   = 12 // RFC 7830 §3
)

// paddingBlock is what the length of a query over TLS is a multiple of, in
// octets (RFC 8467 §4.1).
const paddingBlock = 128

// edns is what the OPT record of a reply says. The zero edns is that of a reply
// without one.
type edns struct {
	rcode   byte   // the upper eight bits of the extended rcode (RFC 6891 §6.1.3)
	options []byte // of the message; vet looked at them
}

// ednsAt reads the OPT record whose fixed part is at off in msg.
func ednsAt(msg []byte, off int) edns {
	end := off + 10 + int(binary.BigEndian.Uint16(msg[off+8:]))
	return edns{rcode: msg[off+4], options: msg[off+10 : end : end]}
}

// option returns the data of the first option with the given code, the only one
// that counts (RFC 7873 §5.3).
func (e edns) option(code uint16) (data []byte, ok bool) {
	for b := e.options; len(b) >= 4; {
		n := 4 + int(binary.BigEndian.Uint16(b[2:]))
		if n > len(b) {
			return nil, false
		}
		if binary.BigEndian.Uint16(b) == code {
			return b[4:n], true
		}
		b = b[n:]
	}
	return nil, false
}

// keepAlive returns for how long the server wants an idle connection kept open
// (RFC 7828 §3.1).
func (e edns) keepAlive() (d time.Duration, ok bool) {
	data, ok := e.option(optKeepalive)
	if !ok || len(data) != 2 {
		return 0, false
	}
	return time.Duration(binary.BigEndian.Uint16(data)) * 100 * time.Millisecond, true
}

// rcodeOf returns the whole rcode of msg, whose OPT record says e.
func (e edns) rcodeOf(msg []byte) wire.Rcode {
	return wire.Rcode(e.rcode)<<4 | wire.RcodeOf(msg)
}

// appendOption appends an option.
func appendOption(b []byte, code uint16, data []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, code)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	return append(b, data...)
}
