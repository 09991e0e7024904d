package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// proxyHeader returns a header with this octet of version and command, of family
// and transport, and what follows the length.
func proxyHeader(version, family byte, rest string) []byte {
	b := append([]byte(proxySignature), version, family)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(rest))), rest...)
}

// What follows the length in headers for 198.51.100.7 and 2001:db8::7, port 4660.
const (
	proxyInet4 = "\xc6\x33\x64\x07" + "\xc0\x00\x02\x35" + "\x12\x34" + "\x00\x35"
	proxyInet6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x35" + "\x12\x34" + "\x00\x35"
	proxyMapped = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc6\x33\x64\x07" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x35" + "\x12\x34" + "\x00\x35"
	proxyTLV = "\x03\x00\x04\xde\xad\xbe\xef" + "\x04\x00\x02no" // PP2_TYPE_CRC32C, PP2_TYPE_NOOP
)

// proxyCases are headers and whom they name, "" for who sent them, or "none" for
// those that are not to be taken.
var proxyCases = []struct {
	name   string
	header []byte
	want   string
}{
	{"TCP over IPv4", proxyHeader(0x21, 0x11, proxyInet4), "198.51.100.7:4660"},
	{"UDP over IPv4", proxyHeader(0x21, 0x12, proxyInet4), "198.51.100.7:4660"},
	{"TCP over IPv6", proxyHeader(0x21, 0x21, proxyInet6), "[2001:db8::7]:4660"},
	{"UDP over IPv6", proxyHeader(0x21, 0x22, proxyInet6), "[2001:db8::7]:4660"},
	{"IPv4 in IPv6", proxyHeader(0x21, 0x22, proxyMapped), "198.51.100.7:4660"},
	{"TLVs", proxyHeader(0x21, 0x12, proxyInet4+proxyTLV), "198.51.100.7:4660"},
	{"a TLV that ends too early", proxyHeader(0x21, 0x22, proxyInet6+"\x01\xff\xff"), "[2001:db8::7]:4660"},
	{"as long as it may be", proxyHeader(0x21, 0x12, proxyInet4+strings.Repeat("\x04", MaxProxyHeader-28)), "198.51.100.7:4660"},
	{"port 0", proxyHeader(0x21, 0x11, "\xc6\x33\x64\x07\xc0\x00\x02\x35\x00\x00\x00\x35"), "198.51.100.7:0"},
	{"LOCAL", proxyHeader(0x20, 0x00, ""), ""},
	{"LOCAL with addresses", proxyHeader(0x20, 0x11, proxyInet4), ""},
	{"LOCAL with a family that is none", proxyHeader(0x20, 0xff, "abc"), ""},
	{"AF_UNSPEC", proxyHeader(0x21, 0x00, ""), ""},
	{"AF_UNSPEC with TLVs", proxyHeader(0x21, 0x00, proxyTLV), ""},
	{"AF_UNIX", proxyHeader(0x21, 0x31, strings.Repeat("/", 216)), ""},

	{"too long", proxyHeader(0x21, 0x12, proxyInet4+strings.Repeat("\x04", MaxProxyHeader-27)), "none"},
	{"as long as can be said", proxyHeader(0x21, 0x12, strings.Repeat("\x04", 65535)), "none"},
	{"IPv4 addresses that are cut", proxyHeader(0x21, 0x11, proxyInet4[:11]), "none"},
	{"IPv6 addresses that are cut", proxyHeader(0x21, 0x21, proxyInet6[:35]), "none"},
	{"IPv6 with IPv4 addresses", proxyHeader(0x21, 0x22, proxyInet4), "none"},
	{"no addresses", proxyHeader(0x21, 0x11, ""), "none"},
	{"IPv4 over no transport", proxyHeader(0x21, 0x10, proxyInet4), "none"},
	{"a transport that is none", proxyHeader(0x21, 0x13, proxyInet4), "none"},
	{"a family that is none", proxyHeader(0x21, 0x41, proxyInet4), "none"},
	{"a command that is none", proxyHeader(0x22, 0x11, proxyInet4), "none"},
	{"version 1 in a header of version 2", proxyHeader(0x11, 0x11, proxyInet4), "none"},
	{"version 3", proxyHeader(0x31, 0x11, proxyInet4), "none"},
	{"version 1", []byte("PROXY TCP4 198.51.100.7 192.0.2.53 4660 53\r\n"), "none"},
	{"version 1, the shortest", []byte("PROXY UNKNOWN\r\n"), "none"},
	{"another signature", bytes.Replace(proxyHeader(0x21, 0x11, proxyInet4), []byte("QUIT"), []byte("quit"), 1), "none"},
	{"the unspecified IPv4 address", proxyHeader(0x21, 0x11, "\x00\x00\x00\x00\xc0\x00\x02\x35\x12\x34\x00\x35"), "none"},
	{"the unspecified IPv6 address", proxyHeader(0x21, 0x21, strings.Repeat("\x00", 36)), "none"},
	{"a group", proxyHeader(0x21, 0x12, "\xe0\x00\x00\x01\xc0\x00\x02\x35\x12\x34\x00\x35"), "none"},
	{"a query", []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x03com\x00\x00\x01\x00\x01"), "none"},
}

var (
	proxyAt = netip.MustParseAddrPort("192.0.2.80:5000")
	proxyTo = netip.MustParseAddrPort("192.0.2.81:53")
)

// pieces is a connection from proxyAt to proxyTo that brings so many octets with a read.
type pieces struct {
	net.Conn

	rest []byte
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	n := copy(b[:min(len(b), p.size)], p.rest)
	p.rest = p.rest[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (*pieces) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(proxyAt) }

func (*pieces) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(proxyTo) }

// greeted returns what is read from a connection behind the header, and whose it
// is.
func greeted(stream []byte, size int) (ends proxied, rest []byte, err error) {
	c := &proxiedConn{Conn: &pieces{rest: stream, size: size}, listed: true}
	rest, err = io.ReadAll(c)
	return proxied{addrPort(c.RemoteAddr()), addrPort(c.LocalAddr())}, rest, err
}

// sent returns what is made of a datagram from proxyAt to proxyTo.
func sent(b []byte) (ends proxied, msg []byte, ok bool) {
	if ends, msg, ok = unwrapProxy(b); !ends.client.IsValid() {
		ends = proxied{proxyAt, proxyTo}
	}
	return ends, msg, ok
}

// proxyServer is whom the clients in proxyCases have asked.
func proxyServer(client string) netip.AddrPort {
	switch {
	case client == "":
		return proxyTo
	case client[0] == '[':
		return netip.MustParseAddrPort("[2001:db8::35]:53")
	default:
		return netip.MustParseAddrPort("192.0.2.53:53")
	}
}

func TestProxyHeadersNameBothEnds(t *testing.T) {
	for _, tt := range proxyCases {
		const after = "a message"
		all := append(bytes.Clone(tt.header), after...)
		none := tt.want == "none"
		want := proxied{proxyAt, proxyServer(tt.want)}
		if tt.want != "" && !none {
			want.client = netip.MustParseAddrPort(tt.want)
		}
		ends, msg, ok := sent(all)
		if ok == none || ok && (ends != want || string(msg) != after) {
			t.Errorf("%s: a datagram of %v with %q, %v", tt.name, ends, msg, ok)
		}
		for _, size := range []int{1, 7, 16, 1 << 16} {
			ends, rest, err := greeted(all, size)
			switch {
			case none:
				if !errors.Is(err, errNoProxy) || len(rest) > 0 {
					t.Errorf("%s: a connection in pieces of %d brings %q, %v", tt.name, size, rest, err)
				}
			case err != nil || ends != want || string(rest) != after:
				t.Errorf("%s: a connection in pieces of %d of %v brings %q, %v", tt.name, size, ends, rest, err)
			}
		}
	}
}

func TestProxyHeadersCutAtAnyOctetAreRefused(t *testing.T) {
	for _, tt := range proxyCases {
		if tt.want == "none" {
			continue
		}
		for n := range tt.header {
			cut := tt.header[:n]
			if ends, msg, ok := unwrapProxy(cut); ok {
				t.Errorf("%s: %d octets of %d are of %v with %q", tt.name, n, len(tt.header), ends, msg)
			}
			if ends, rest, err := greeted(cut, 1); n > 0 && err == nil || len(rest) > 0 || ends.client != proxyAt {
				t.Errorf("%s: %d octets of %d are of %v with %q, %v", tt.name, n, len(tt.header), ends, rest, err)
			}
		}
	}
}

// FuzzProxyHeader holds what is made of a datagram to what is made of a
// connection with the same octets.
func FuzzProxyHeader(f *testing.F) {
	for _, tt := range proxyCases {
		f.Add(tt.header, 3)
	}
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		ends, msg, ok := sent(b)
		if ok && (!ends.client.IsValid() || ends.client.Addr().Is4In6() || !bytes.HasSuffix(b, msg) || len(b)-len(msg) > MaxProxyHeader) {
			t.Fatalf("a datagram of %v with %d octets of %d", ends, len(msg), len(b))
		}
		from, rest, err := greeted(bytes.Clone(b), max(size, 1))
		if ok != (err == nil && len(b) > 0) || ok && (from != ends || !bytes.Equal(rest, msg)) {
			t.Fatalf("a datagram is %v, of %v with %x; a connection is %v, of %v with %x", ok, ends, msg, err, from, rest)
		}
	})
}
