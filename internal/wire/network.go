package wire

import (
	"encoding/binary"
	"net/netip"
)

// Network is what counts as one neighbourhood of clients where they share what
// there is: an IPv4 /24 or an IPv6 /56, as in BIND's response rate limiting
// (ipv4-prefix-length, ipv6-prefix-length). A smaller one is what one customer
// may have many of; in a larger one neighbours would pay for each other. The
// zero Network is nobody's.
type Network uint64

// The families, in the bits above an IPv6 /56.
const (
	network4    Network = 1 << (56 + iota)
	network6            // an IPv6 address
	networkNone         // no address: of a client that has none, which is somebody too
)

// NetworkOf returns the network that a is in. An IPv4-mapped address counts as
// IPv4.
func NetworkOf(a netip.Addr) Network {
	switch {
	case a.Is4(), a.Is4In6():
		b := a.As4()
		return network4 | Network(binary.BigEndian.Uint32(b[:])>>8)
	case a.Is6():
		b := a.As16()
		return network6 | Network(binary.BigEndian.Uint64(b[:])>>8)
	}
	return networkNone
}
