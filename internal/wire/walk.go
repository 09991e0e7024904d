package wire

import (
	"encoding/binary"
	"net/netip"
)

// rrAt is where the parts of a resource record are in a message.
type rrAt struct {
	owner int // offset of the owner name
	ttl   int // offset of the TTL field
	rdata int // offset of the RDATA
	end   int // offset just past the RDATA
	typ   Type
}

// readRR finds the parts of the record at off.
func readRR(msg []byte, off int) (rr rrAt, ok bool) {
	fixed, ok := skipName(msg, off)
	if !ok || fixed+10 > len(msg) {
		return rrAt{}, false
	}
	rr = rrAt{
		owner: off,
		typ:   Type(binary.BigEndian.Uint16(msg[fixed:])),
		ttl:   fixed + 4,
		rdata: fixed + 10,
	}
	rr.end = rr.rdata + int(binary.BigEndian.Uint16(msg[fixed+8:]))
	return rr, rr.end <= len(msg)
}

// skipName returns the offset just past the possibly compressed name at off.
// It does not follow the pointer, so what it costs is bounded by one name. The
// pointer has to point back to before the name, at something that can be one
// (RFC 1035 §4.1.4, "a prior occurrence"), which rules out loops.
func skipName(msg []byte, off int) (next int, ok bool) {
	start := off
	for off < len(msg) && off < start+MaxNameLen {
		switch l := int(msg[off]); {
		case l == 0:
			return off + 1, true
		case l >= 0xC0:
			if off+2 > len(msg) {
				return 0, false
			}
			to := (l&0x3F)<<8 | int(msg[off+1])
			return off + 2, to >= HeaderLen && to < start
		case l > MaxLabelLen: // RFC 6891 §5: the other label types are dead
			return 0, false
		default:
			off += 1 + l
		}
	}
	return 0, false
}

// skipQuestions returns the offset just past the question section of msg, which has
// a whole header.
func skipQuestions(msg []byte) (off int, ok bool) {
	off = HeaderLen
	for range binary.BigEndian.Uint16(msg[4:]) {
		if off, ok = skipName(msg, off); !ok || off+4 > len(msg) {
			return 0, false
		}
		off += 4
	}
	return off, true
}

// AppendTTLOffsets appends to dst the offset of each TTL field in msg, a whole
// message, and returns the smallest TTL found, in seconds: the largest there is
// when there are no records. An OPT record has no TTL (RFC 6891 §6.1.3). It
// reports false, and what it appended means nothing, when msg is not well formed.
func AppendTTLOffsets(dst []uint16, msg []byte) (offsets []uint16, least uint32, ok bool) {
	if len(msg) < HeaderLen || len(msg) > MaxMsgSize {
		return dst, 0, false
	}
	off, ok := skipQuestions(msg)
	if !ok {
		return dst, 0, false
	}
	least = maxTTL
	records := int(binary.BigEndian.Uint16(msg[6:])) + int(binary.BigEndian.Uint16(msg[8:])) + int(binary.BigEndian.Uint16(msg[10:]))
	for range records {
		rr, ok := readRR(msg, off)
		if !ok {
			return dst, 0, false
		}
		off = rr.end
		if rr.typ != TypeOPT {
			dst = append(dst, uint16(rr.ttl))
			least = min(least, ttlAt(msg, rr.ttl))
		}
	}
	return dst, least, off == len(msg)
}

// AppendAddrs appends to dst the addresses in the A and AAAA records of the answer
// section of msg, up to what is not well formed. It does not look at their owners.
func AppendAddrs(dst []netip.Addr, msg []byte) []netip.Addr {
	if len(msg) < HeaderLen {
		return dst
	}
	off, ok := skipQuestions(msg)
	if !ok {
		return dst
	}
	for range binary.BigEndian.Uint16(msg[6:]) {
		rr, ok := readRR(msg, off)
		if !ok {
			return dst
		}
		switch rdata := msg[rr.rdata:rr.end]; {
		case rr.typ == TypeA && len(rdata) == 4:
			dst = append(dst, netip.AddrFrom4([4]byte(rdata)))
		case rr.typ == TypeAAAA && len(rdata) == 16:
			dst = append(dst, netip.AddrFrom16([16]byte(rdata)))
		}
		off = rr.end
	}
	return dst
}

// maxTTL is the largest TTL there is, in seconds (RFC 2181 §8).
const maxTTL = 1<<31 - 1

// ttlAt returns the TTL whose field is at off, in seconds. One with the top bit
// set counts as 0 (RFC 2181 §8).
func ttlAt(msg []byte, off int) uint32 {
	if ttl := binary.BigEndian.Uint32(msg[off:]); ttl <= maxTTL {
		return ttl
	}
	return 0
}
