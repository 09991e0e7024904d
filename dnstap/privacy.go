package dnstap

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"net/netip"
)

// HashKeyLen is the length of a key to hash addresses with, in octets.
const HashKeyLen = 16

// Privacy says what of clients' addresses an output shows. Names, and what
// clients put into their messages, are shown as they are.
type Privacy struct {
	// Bits4 and Bits6 are how many bits of an address are left; the others are
	// zero. 0: all of them.
	Bits4, Bits6 int

	// HashKey, of [HashKeyLen] octets, replaces what is left by a keyed hash
	// that looks like an address: the same for the same client, as long as the
	// key is. Nil: it is not replaced.
	HashKey []byte
}

// privacy is a [Privacy] ready for use.
type privacy struct {
	bits4, bits6 int
	block        cipher.Block // nil: nothing is hashed
}

func newPrivacy(p *Privacy) (privacy, error) {
	out := privacy{bits4: 32, bits6: 128}
	if p.Bits4 > 0 {
		out.bits4 = p.Bits4
	}
	if p.Bits6 > 0 {
		out.bits6 = p.Bits6
	}
	if out.bits4 > 32 || out.bits6 > 128 {
		return privacy{}, fmt.Errorf("prefixes of %d and %d bits; at most 32 and 128 are possible", out.bits4, out.bits6)
	}
	if p.HashKey == nil {
		return out, nil
	}
	if len(p.HashKey) != HashKeyLen {
		return privacy{}, fmt.Errorf("a hash key of %d octets; %d are needed", len(p.HashKey), HashKeyLen)
	}
	var err error
	out.block, err = aes.NewCipher(p.HashKey)
	return out, err
}

// address returns what is shown of a. The room is lent for the hash, so that
// nothing is allocated.
//
// The hash is one block of AES: a pseudorandom permutation of IPv6 addresses,
// so that no two clients become one; of IPv4 addresses the first four octets of
// it, which two of them may have in common. Who has the key can undo it.
func (p *privacy) address(a netip.Addr, room *[aes.BlockSize]byte) netip.Addr {
	a = a.Unmap()
	bits := p.bits6
	if a.Is4() {
		bits = p.bits4
	}
	if bits < a.BitLen() {
		prefix, err := a.Prefix(bits)
		if err != nil { // of no address
			return netip.Addr{}
		}
		a = prefix.Addr()
	}
	if p.block == nil || !a.IsValid() {
		return a
	}
	*room = a.As16()
	p.block.Encrypt(room[:], room[:])
	if a.Is4() {
		return netip.AddrFrom4([4]byte(room[:4]))
	}
	return netip.AddrFrom16(*room)
}
