package upstream

import "shirube/internal/wire"

// appendSpelling appends name to buf with its letters in upper or lower case as
// the bits of random say (draft-vixie-dnsext-dns0x20-00 §2.2). It takes a bit
// per octet of name: [wire.MaxNameLen] of them are 32 octets.
func appendSpelling(buf []byte, name wire.Name, random []byte) []byte {
	for i := range len(name) {
		c := name[i]
		// A length octet is below 'a', and everything else is in lower case.
		if 'a' <= c && c <= 'z' {
			c ^= random[i>>3] >> (i & 7) & 1 << 5
		}
		buf = append(buf, c)
	}
	return buf
}
