package dnssec

import (
	"crypto/sha1"
	"encoding/hex"

	"shirube/internal/wire"
)

// HashLen is the length of a hashed owner name, in octets.
const HashLen = sha1.Size

// hashSHA1 is the only NSEC3 hash algorithm (RFC 5155 §11). It hides names a
// little, and authenticates nothing.
const hashSHA1 = 1

// HashName returns the hash of name by which NSEC3 records know it (RFC 5155
// §5): iterations is the number of additional ones. The cost grows with it, and
// with the salt; the limits are [MaxIterations] and [MaxSalt]. What a longer
// salt has behind the first MaxSalt octets is not looked at.
func HashName(name wire.Name, salt []byte, iterations uint16) [HashLen]byte {
	salt = salt[:min(len(salt), MaxSalt)]
	var b [wire.MaxNameLen + MaxSalt]byte
	n := copy(b[:], name)
	n += copy(b[n:], salt)
	hash := sha1.Sum(b[:n]) //nolint:gosec // RFC 5155 §5
	n = HashLen + copy(b[HashLen:], salt)
	for range iterations {
		copy(b[:], hash[:])
		hash = sha1.Sum(b[:n]) //nolint:gosec // RFC 5155 §5
	}
	return hash
}

// hashTextLen is the length of a hash in base 32 (20 octets are 32 digits, and
// there is no padding: RFC 5155 §1.3).
const hashTextLen = HashLen / 5 * 8

// parseHash reads a hash in base 32 with the extended hex alphabet (RFC 4648
// §7), in either case.
func parseHash(text string) (hash [HashLen]byte, ok bool) {
	if len(text) != hashTextLen {
		return hash, false
	}
	for i := range HashLen / 5 { // 8 digits are 5 octets
		var five uint64
		for _, c := range []byte(text[8*i : 8*i+8]) {
			d := digit32(c)
			if d < 0 {
				return hash, false
			}
			five = five<<5 | uint64(d)
		}
		for j := range 5 {
			hash[5*i+j] = byte(five >> (32 - 8*j))
		}
	}
	return hash, true
}

// digit32 returns the value of c, a digit of base32hex, or −1.
func digit32(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'v':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'V':
		return int(c-'A') + 10
	}
	return -1
}

// Params are what the names of a chain of NSEC3 records were hashed with. They
// can be compared.
type Params struct {
	Iterations uint16
	saltLen    uint8
	salt       [MaxSalt]byte
}

// Costly reports whether a hash with p costs more than is spent on one: than
// most iterations, or with more salt than [MaxSalt] (RFC 9276 §3.2).
func (p *Params) Costly(most uint16) bool { return p.Iterations > most || p.saltLen > MaxSalt }

// Hash returns the hash of name. It is for those p that are not costly.
func (p *Params) Hash(name wire.Name) [HashLen]byte {
	return HashName(name, p.salt[:min(p.saltLen, MaxSalt)], p.Iterations)
}

// parseParams reads the parameters of an NSEC3 record, its salt in hexadecimal.
// Of a salt that is too long no more than its length is kept.
func parseParams(iterations uint16, salt string) (p Params, ok bool) {
	p.Iterations = iterations
	if salt == "-" { // as in a zone file
		salt = ""
	}
	if len(salt) > 2*255 {
		return p, false
	}
	p.saltLen = uint8(len(salt) / 2)
	if p.saltLen > MaxSalt {
		return p, true
	}
	var text [2 * MaxSalt]byte
	_, err := hex.Decode(p.salt[:], text[:copy(text[:], salt)])
	return p, err == nil
}
