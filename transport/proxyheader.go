package transport

import (
	"encoding/binary"
	"net/netip"
)

// Header of the PROXY protocol, version 2 (haproxy.org, proxy-protocol.txt, §2.2):
// a signature, version and command, family and transport, the length of what
// follows; then both ends' addresses and ports, and TLVs.
const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyFixedLen  = len(proxySignature) + 4

	proxyVersion = 0x20 // in the high nibble of the octet whose low one is the command
	proxyLocal   = 0x0  // the proxy itself asks: it looks whether somebody is here
	proxyProxy   = 0x1  // it asks for a client

	proxyInet4Len = 12 // two addresses, two ports
	proxyInet6Len = 36
)

// MaxProxyHeader is the longest header that is taken, in octets, TLVs included:
// PowerDNS's bound.
const MaxProxyHeader = 512

// maybeProxy reports whether b, the first octets of a header or fewer, can be
// those of one.
func maybeProxy(b []byte) bool {
	n := min(len(b), len(proxySignature))
	return string(b[:n]) == proxySignature[:n]
}

// proxyLen returns the length of the header that begins with fixed, which has
// proxyFixedLen octets. It reports false if that is none, or one that is too
// long: version 1 is text and begins otherwise.
func proxyLen(fixed []byte) (n int, ok bool) {
	v := fixed[len(proxySignature)]
	n = proxyFixedLen + int(binary.BigEndian.Uint16(fixed[proxyFixedLen-2:]))
	ok = maybeProxy(fixed) && (v == proxyVersion|proxyLocal || v == proxyVersion|proxyProxy) && n <= MaxProxyHeader
	return n, ok
}

// proxied are the ends that a header names: who asks, and whom he has asked. Both
// have no address if those are whoever sent it, and who got it.
type proxied struct{ client, server netip.AddrPort }

// parseProxy returns the ends that a header names, which is as long as proxyLen
// says. It reports false if it cannot make sense of it. TLVs are stepped over,
// whatever is in them.
func parseProxy(header []byte) (p proxied, ok bool) {
	if header[len(proxySignature)] == proxyVersion|proxyLocal {
		return p, true // whatever family it says
	}
	addresses := header[proxyFixedLen:]
	switch header[len(proxySignature)+1] {
	case 0x11, 0x12: // AF_INET, stream and datagram
		if len(addresses) < proxyInet4Len {
			return p, false
		}
		p.client = netip.AddrPortFrom(netip.AddrFrom4([4]byte(addresses)), binary.BigEndian.Uint16(addresses[8:]))
		p.server = netip.AddrPortFrom(netip.AddrFrom4([4]byte(addresses[4:])), binary.BigEndian.Uint16(addresses[10:]))
	case 0x21, 0x22: // AF_INET6
		if len(addresses) < proxyInet6Len {
			return p, false
		}
		p.client = netip.AddrPortFrom(netip.AddrFrom16([16]byte(addresses)).Unmap(), binary.BigEndian.Uint16(addresses[32:]))
		p.server = netip.AddrPortFrom(netip.AddrFrom16([16]byte(addresses[16:])).Unmap(), binary.BigEndian.Uint16(addresses[34:]))
	case 0x00, 0x31, 0x32: // AF_UNSPEC; AF_UNIX, which has no clients of DNS and falls back to that
		return p, true
	default:
		return p, false
	}
	return p, !p.client.Addr().IsUnspecified() && !p.client.Addr().IsMulticast()
}
