package netx

import "net/netip"

// ControlSize is the size in octets of a buffer that takes the control
// messages of one datagram: packet info of either family, and room for what
// else a socket that was opened elsewhere may have been told to report.
const ControlSize = 128

// PacketInfo says where a datagram was sent to. The zero PacketInfo knows
// nothing; that of a reply leaves the choice of its source to the kernel.
type PacketInfo struct {
	// Local is the address of this host that the datagram was sent to, and
	// that a reply has to leave from, or the client will not know it (RFC
	// 2181 §4.1).
	Local netip.Addr

	// Group says that the datagram was sent to a broadcast or multicast
	// address. Local is then the kernel's proposal for a reply.
	Group bool

	// iface is the index of the interface it came in on. The interface that a
	// reply leaves by is the routing table's business, but for link-local
	// addresses, which mean nothing without (RFC 4007 §6).
	iface uint32
}
