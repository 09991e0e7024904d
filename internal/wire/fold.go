package wire

import "encoding/binary"

// Names are compared without regard to the case of the letters of ASCII, and of
// no others (RFC 4343 §3). Length octets are at most 63, below 'A', so a whole
// name in wire format can be folded without looking where its labels begin.

// AppendFolded appends the wire-format name in b to buf in lower case.
func AppendFolded(buf, b []byte) []byte {
	start := len(buf)
	buf = append(buf, b...)
	for rest := buf[start:]; len(rest) > 0; {
		if len(rest) >= 8 {
			binary.LittleEndian.PutUint64(rest, lower8(binary.LittleEndian.Uint64(rest)))
			rest = rest[8:]
			continue
		}
		rest[0] = lower(rest[0])
		rest = rest[1:]
	}
	return buf
}

// EqualFold reports whether a and b, names in wire format, are the same name
// (RFC 4343 §3).
func EqualFold(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for len(a) >= 8 && len(b) >= 8 {
		if lower8(binary.LittleEndian.Uint64(a)) != lower8(binary.LittleEndian.Uint64(b)) {
			return false
		}
		a, b = a[8:], b[8:]
	}
	for i := range min(len(a), len(b)) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

// lower returns c in lower case.
func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// lower8 is lower for eight octets at once, without a branch for a client's mix
// of cases to mislead: every query's name is folded on the way to its answer.
func lower8(x uint64) uint64 {
	const ones = 0x0101010101010101
	low7 := x & (0x7F * ones)
	fromA := low7 + (0x80-'A')*ones                // top bit of an octet: it is 'A' or above
	aboveZ := low7 + (0x7F-'Z')*ones               // top bit of an octet: it is above 'Z'
	upper := (fromA ^ aboveZ) &^ x & (0x80 * ones) // and is ASCII
	return x | upper>>2                            // 0x80>>2 is 'a' − 'A'
}
