package netx

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// control returns one control message, padded.
func control(level, typ int32, data ...byte) []byte {
	b := append(appendHeader(nil, level, typ, len(data)), data...)
	return append(b, make([]byte, unix.CmsgSpace(len(data))-len(b))...)
}

var (
	lo     = binary.NativeEndian.AppendUint32(nil, 7)
	local6 = netip.MustParseAddr("2001:db8::1").As16()
	linkLo = netip.MustParseAddr("fe80::1").As16()
	group6 = netip.MustParseAddr("ff02::1").As16()
	mapped = netip.MustParseAddr("::ffff:192.0.2.1").As16()
	stamp  = control(unix.SOL_SOCKET, unix.SCM_TIMESTAMP, make([]byte, 16)...)
	info4  = control(unix.IPPROTO_IP, unix.IP_PKTINFO, append(slices.Clone(lo), 192, 0, 2, 1, 192, 0, 2, 1)...)
	bcast4 = control(unix.IPPROTO_IP, unix.IP_PKTINFO, append(slices.Clone(lo), 192, 0, 2, 1, 192, 0, 2, 255)...)
)

func info6(a [16]byte) []byte {
	return control(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, append(a[:], lo...)...)
}

func TestParsePacketInfo(t *testing.T) {
	tests := []struct {
		name    string
		control []byte
		want    PacketInfo
	}{
		{"none", nil, PacketInfo{}},
		{"v4", info4, PacketInfo{Local: netip.MustParseAddr("192.0.2.1"), iface: 7}},
		{"v4 broadcast", bcast4, PacketInfo{Local: netip.MustParseAddr("192.0.2.1"), Group: true, iface: 7}},
		{"v6", info6(local6), PacketInfo{Local: netip.AddrFrom16(local6), iface: 7}},
		{"v6 multicast", info6(group6), PacketInfo{Group: true}},
		{"v4 on a v6 socket", info6(mapped), PacketInfo{Local: netip.AddrFrom16(mapped), iface: 7}},
		{"behind another", slices.Concat(stamp, info4), PacketInfo{Local: netip.MustParseAddr("192.0.2.1"), iface: 7}},
		{"another only", stamp, PacketInfo{}},
		{"too short for a header", info4[:unix.SizeofCmsghdr-1], PacketInfo{}},
		{"cut off", info4[:unix.SizeofCmsghdr+4], PacketInfo{}},
		{"short data", control(unix.IPPROTO_IP, unix.IP_PKTINFO, 1, 2, 3), PacketInfo{}},
		{"length 0", make([]byte, 32), PacketInfo{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := ParsePacketInfo(tt.control); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestAppendControlLeavesTheInterfaceToRouting(t *testing.T) {
	tests := []struct {
		name  string
		in    []byte
		iface uint32
	}{
		{"v4", info4, 0},
		{"v6", info6(local6), 0},
		{"v4 on a v6 socket", info6(mapped), 0},
		{"link-local", info6(linkLo), 7}, // RFC 4007 §6
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := ParsePacketInfo(tt.in)
			out := in.AppendControl(nil)
			h, data, _, err := unix.ParseOneSocketControlMessage(out)
			if err != nil {
				t.Fatal(err)
			}
			iface, local := data[:4], data[4:8]
			if h.Level == unix.IPPROTO_IPV6 {
				iface, local = data[16:], data[:16]
			}
			if got := binary.NativeEndian.Uint32(iface); got != tt.iface {
				t.Errorf("interface %d, want %d", got, tt.iface)
			}
			if !slices.Equal(local, in.Local.AsSlice()) {
				t.Errorf("source %v, want %v", local, in.Local)
			}
		})
	}
	if out := (PacketInfo{}).AppendControl(nil); len(out) != 0 {
		t.Errorf("%d octets for no packet info", len(out))
	}
}

func TestPacketInfoAllocatesNothing(t *testing.T) {
	var buf [ControlSize]byte
	for _, in := range [][]byte{info4, info6(local6), slices.Concat(stamp, info6(linkLo))} {
		got := 0
		if n := testing.AllocsPerRun(100, func() { got = len(ParsePacketInfo(in).AppendControl(buf[:0])) }); n != 0 || got == 0 {
			t.Errorf("%v allocations, %d octets", n, got)
		}
	}
}

func FuzzParsePacketInfo(f *testing.F) {
	f.Add(info4)
	f.Add(info6(group6))
	f.Add(slices.Concat(stamp, info6(local6)))
	f.Fuzz(func(t *testing.T, control []byte) {
		p := ParsePacketInfo(control)
		if out := p.AppendControl(nil); p.Local.IsValid() && ParsePacketInfo(out).Local != p.Local {
			t.Errorf("%+v does not survive", p)
		}
	})
}
