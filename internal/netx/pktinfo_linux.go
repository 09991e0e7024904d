package netx

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Lengths of struct in_pktinfo (ip(7)) and struct in6_pktinfo (RFC 3542 §6.1).
const (
	pktinfo4Len = unix.SizeofInet4Pktinfo
	pktinfo6Len = unix.SizeofInet6Pktinfo
)

// ParsePacketInfo returns the packet info among the control messages that came
// with a datagram, the zero PacketInfo when there is none. It does not
// allocate.
func ParsePacketInfo(control []byte) PacketInfo {
	for len(control) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(control)
		switch {
		case err != nil:
			return PacketInfo{}
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= pktinfo4Len:
			return parse4(data)
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= pktinfo6Len:
			return parse6(data)
		}
		control = rest
	}
	return PacketInfo{}
}

// parse4 reads a struct in_pktinfo: interface, the local address, and the
// destination in the header, which differ for broadcasts and multicasts.
func parse4(data []byte) PacketInfo {
	local, dst := [4]byte(data[4:8]), [4]byte(data[8:12])
	return PacketInfo{
		Local: netip.AddrFrom4(local),
		Group: local != dst,
		iface: binary.NativeEndian.Uint32(data),
	}
}

// parse6 reads a struct in6_pktinfo: the destination, and the interface. The
// address stays as it is when it is IPv4's: the reply's control message has to
// be of the socket's family.
func parse6(data []byte) PacketInfo {
	p := PacketInfo{
		Local: netip.AddrFrom16([16]byte(data[:16])),
		iface: binary.NativeEndian.Uint32(data[16:]),
	}
	if p.Local.IsMulticast() {
		return PacketInfo{Group: true}
	}
	return p
}

// AppendControl appends the control message that makes a reply leave from
// p.Local: nothing for the zero PacketInfo. It has to be the last one in buf,
// and with room there it does not allocate.
func (p PacketInfo) AppendControl(buf []byte) []byte {
	switch {
	case p.Local.Is4():
		buf = appendHeader(buf, unix.IPPROTO_IP, unix.IP_PKTINFO, pktinfo4Len)
		local := p.Local.As4()
		buf = append(buf, 0, 0, 0, 0) // the interface: let the routing table say
		buf = append(buf, local[:]...)
		return append(buf, 0, 0, 0, 0)
	case p.Local.Is6():
		iface := uint32(0)
		if p.Local.IsLinkLocalUnicast() {
			iface = p.iface
		}
		buf = appendHeader(buf, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, pktinfo6Len)
		local := p.Local.As16()
		buf = append(buf, local[:]...)
		return binary.NativeEndian.AppendUint32(buf, iface)
	}
	return buf
}

// appendHeader appends a struct cmsghdr for n octets of data (cmsg(3)).
func appendHeader(buf []byte, level, typ int32, n int) []byte {
	if unix.SizeofPtr == 8 { // cmsg_len is a size_t
		buf = binary.NativeEndian.AppendUint64(buf, uint64(unix.CmsgLen(n)))
	} else {
		buf = binary.NativeEndian.AppendUint32(buf, uint32(unix.CmsgLen(n)))
	}
	buf = binary.NativeEndian.AppendUint32(buf, uint32(level))
	return binary.NativeEndian.AppendUint32(buf, uint32(typ))
}
