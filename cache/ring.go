package cache

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"

	"shirube/internal/wire"
)

// ring is a set of addresses in the answer section whose records take turns at
// being the first. All that differs between them is the address, so moving
// addresses is moving records, and nothing else in the message has to change.
// The order of a set means nothing, to DNSSEC neither (RFC 2181 §5, RFC 4034
// §6.3).
type ring struct {
	first, n uint16 // records, counted from the start of the message; n is 0 or more than 1
}

// findRing returns the first set of addresses of msg, a whole message whose TTL
// fields are at ttls. Its records follow each other, and their owners are
// written alike.
func findRing(msg []byte, ttls []uint16) ring {
	answers := min(int(binary.BigEndian.Uint16(msg[6:])), len(ttls))
	for i := 1; i < answers; i++ {
		if !isAddress(msg, ttls[i-1]) {
			continue
		}
		n := 1
		for i-1+n < answers && continues(msg, ttls[i-1], ttls[i+n-2], ttls[i+n-1]) {
			n++
		}
		if n > 1 {
			return ring{first: uint16(i - 1), n: uint16(n)}
		}
	}
	return ring{}
}

// rdataLen returns the length of the RDATA of the record whose TTL field is
// at ttl.
func rdataLen(msg []byte, ttl uint16) uint16 { return binary.BigEndian.Uint16(msg[ttl+4:]) }

// isAddress reports whether the record whose TTL field is at ttl is an address.
func isAddress(msg []byte, ttl uint16) bool {
	switch wire.Type(binary.BigEndian.Uint16(msg[ttl-4:])) {
	case wire.TypeA:
		return rdataLen(msg, ttl) == 4 // RFC 1035 §3.4.1
	case wire.TypeAAAA:
		return rdataLen(msg, ttl) == 16 // RFC 3596 §2.2
	}
	return false
}

// continues reports whether the record whose TTL field is at next, right after
// the one at last, is the same as the one at first but for its RDATA.
func continues(msg []byte, first, last, next uint16) bool {
	start := last + 6 + rdataLen(msg, last)
	head := msg[start : next+6] // owner, type, class, TTL, length
	return int(first)+6 >= len(head) && bytes.Equal(head, msg[int(first)+6-len(head):first+6])
}

// turn lets any of the records of r be the first in msg, a copy of f's. It is
// chance and not a counter because a counter would be written by all who hit,
// and not the query's ID, as in Unbound, because over HTTPS that is always 0
// (RFC 8484 §4.1).
func (r ring) turn(msg []byte, f *form) {
	if r.n == 0 {
		return
	}
	ttls := f.ttls[r.first:][:r.n]
	size := rdataLen(f.msg, ttls[0])
	from := rand.IntN(len(ttls)) //nolint:gosec // a spread of load, and no secret
	for _, to := range ttls {
		copy(msg[to+6:][:size], f.msg[ttls[from]+6:])
		if from++; from == len(ttls) {
			from = 0
		}
	}
}
