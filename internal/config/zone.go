package config

import (
	"encoding/base64"
	"net/netip"

	"shirube/internal/wire"
)

// Zone is a zone whose servers are configured.
type Zone struct {
	// Name of the zone, as `example.com`; `.` is the root, so everything.
	Name wire.Name `yaml:"name" required:"true"`
	// Servers by address. They are asked wherever they are, loopback included.
	// At least one of `servers` and `hosts` has to have an element.
	Servers []Server `yaml:"servers" range:"0..16"`
	// Servers by name, whose addresses are looked up. One in the zone itself
	// needs one of `servers` to ask for it. With `tls` or `doh` the name has to
	// be in the server's certificate; with `doh` the path is `/dns-query`.
	Hosts []wire.Name `yaml:"hosts" range:"0..13"`
	// Ask over TCP only.
	TCP bool `yaml:"tcp"`
	// Ask over TLS only (RFC 7858). Each of `servers` then needs `tls_name` or
	// `pins`.
	TLS bool `yaml:"tls"`
	// Ask over HTTPS only (RFC 8484), by HTTP/2. Each of `servers` then needs
	// `tls_name` or `pins`.
	DoH bool `yaml:"doh"`
	// When none of the servers helps, resolve the name as if the zone were not
	// in this file.
	First bool `yaml:"first"`
	// Keep nothing that the servers say in memory, so that each question is
	// asked anew: for servers that answer differently from one moment to the
	// next. That they failed is kept (RFC 9520).
	NoCache bool `yaml:"no_cache"`
}

// Server is a name server that the operator knows.
type Server struct {
	// IP address, as `192.0.2.1` or `2001:db8::1`, or with a port, as
	// `192.0.2.1:5353` or `[2001:db8::1]:5353`. Without one it is port 53, or
	// 853 with `tls`, or 443 with `doh`.
	Address Address `yaml:"address" required:"true"`
	// Name that the server's certificate has to be for, issued by an authority
	// that this machine trusts.
	TLSName wire.Name `yaml:"tls_name"`
	// SHA-256 hashes of public keys, as `openssl dgst -sha256 -binary | base64`
	// prints them of a SubjectPublicKeyInfo (RFC 7858 §4.2). The server has to
	// have one of them, or a certificate that one of them signed. With
	// `tls_name` too, the key decides, and the server is only told the name.
	Pins []Pin `yaml:"pins" range:"0..8"`
	// The path of the URL that queries are posted to with `doh`. Its host is
	// `tls_name`, or without one the address. Empty: `/dns-query`.
	DoHPath string `yaml:"doh_path"`
}

// Address is where a server is: an IP address, and a port or 0 for the usual
// one.
type Address struct{ netip.AddrPort }

// String writes a as the file has it.
func (a Address) String() string {
	if a.Port() == 0 && a.IsValid() {
		return a.Addr().String()
	}
	return a.AddrPort.String()
}

// Or returns a, with port in place of none.
func (a Address) Or(port uint16) netip.AddrPort {
	if a.Port() != 0 {
		return a.AddrPort
	}
	return netip.AddrPortFrom(a.Addr(), port)
}

// Pin is the SHA-256 hash of a public key in base64.
type Pin string

// Hash returns the hash itself, 32 octets.
func (p Pin) Hash() []byte {
	hash, err := base64.StdEncoding.DecodeString(string(p))
	if err != nil {
		return nil // no key has it; and it was checked when it was read
	}
	return hash
}
