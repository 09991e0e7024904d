package wire

import "encoding/binary"

// Freshness returns for how many seconds a cache may keep msg, a whole response:
// the smallest TTL in the answer section, and of a response without answers that
// of the denial, as RFC 2308 §5 counts it (RFC 8484 §5.1). It is 0 for failures,
// and for what is not well formed.
func Freshness(msg []byte) uint32 {
	if len(msg) < HeaderLen {
		return 0
	}
	if rcode := RcodeOf(msg); rcode != NoError && rcode != NXDomain {
		return 0
	}
	off, ok := skipQuestions(msg)
	if !ok {
		return 0
	}
	if answers := binary.BigEndian.Uint16(msg[6:]); answers > 0 {
		least := uint32(maxTTL)
		for range answers {
			rr, ok := readRR(msg, off)
			if !ok {
				return 0
			}
			least, off = min(least, ttlAt(msg, rr.ttl)), rr.end
		}
		return least
	}
	for range binary.BigEndian.Uint16(msg[8:]) {
		rr, ok := readRR(msg, off)
		switch {
		case !ok:
			return 0
		case rr.typ == TypeSOA && rr.end-rr.rdata >= 4:
			return min(ttlAt(msg, rr.ttl), ttlAt(msg, rr.end-4)) // MINIMUM is its last field
		}
		off = rr.end
	}
	return 0
}
