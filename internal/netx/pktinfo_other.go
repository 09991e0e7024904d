//go:build !linux

package netx

// ParsePacketInfo returns the zero PacketInfo: on this system a reply from a
// wildcard socket leaves from the address that the kernel chooses.
func ParsePacketInfo([]byte) PacketInfo { return PacketInfo{} }

// AppendControl appends nothing.
func (PacketInfo) AppendControl(buf []byte) []byte { return buf }
