package policy

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// key is an address, of either family, as a number whose top bit is the
// address's first.
type key struct{ hi, lo uint64 }

// key4 returns a, an address of IPv4, mapped or not. It is in the upper 32 bits.
func key4(a netip.Addr) key {
	b := a.As4()
	return key{hi: uint64(binary.BigEndian.Uint32(b[:])) << 32}
}

// key6 returns a, an address of IPv6. AsSlice is inlined and allocates nothing;
// what As16 returns is copied with one wide load from two stores just made, which
// stalls the processor for as long as the look-up takes.
func key6(a netip.Addr) key {
	b := a.AsSlice()
	return key{hi: binary.BigEndian.Uint64(b[:8]), lo: binary.BigEndian.Uint64(b[8:])}
}

// before returns 1 when k is less than o, else 0. It has no branch for the
// processor to guess wrong.
func (k key) before(o key) uint64 {
	_, borrow := bits.Sub64(k.lo, o.lo, 0)
	_, borrow = bits.Sub64(k.hi, o.hi, borrow)
	return borrow
}

// compare is cmp.Compare for keys.
func (k key) compare(o key) int {
	return cmp.Or(cmp.Compare(k.hi, o.hi), cmp.Compare(k.lo, o.lo))
}

// last returns the last address of the prefix of n bits that begins with k.
func (k key) last(n int) key {
	if n < 64 {
		return key{hi: k.hi | ^uint64(0)>>n, lo: ^uint64(0)}
	}
	return key{hi: k.hi, lo: k.lo | ^uint64(0)>>(n-64)}
}

// next returns the address behind k; there is none behind the last.
func (k key) next() (next key, ok bool) {
	lo, carry := bits.Add64(k.lo, 1, 0)
	hi, overflow := bits.Add64(k.hi, 0, carry)
	return key{hi, lo}, overflow == 0
}

// octet returns k with octet i, which is 0 in k, set to c.
func (k key) octet(i, c int) key {
	if i < 8 {
		k.hi |= uint64(c) << (56 - 8*i)
	} else {
		k.lo |= uint64(c) << (120 - 8*i)
	}
	return k
}
