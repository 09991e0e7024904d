package config

import (
	"encoding/base64"
	"net/netip"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"shirube/internal/wire"
)

// setAddress takes the address of a server, with a port or without.
func (k *Key) setAddress(dst reflect.Value, n *yaml.Node) *fault {
	a, err := netip.ParseAddrPort(n.Value)
	if addr, bare := netip.ParseAddr(n.Value); bare == nil {
		a, err = netip.AddrPortFrom(addr, 0), nil
	} else if err == nil && a.Port() == 0 {
		return faultf("found %s, whose port is 0; expected a port from 1 to 65535, or none", found(n))
	}
	if err != nil {
		return k.unexpected(n, nearestAddress(n.Value))
	}
	addr := a.Addr()
	switch {
	case addr.Is4In6():
		f := faultf("found %s, an IPv4 address in IPv6; expected the IPv4 address", found(n))
		f.nearest = Address{netip.AddrPortFrom(addr.Unmap(), a.Port())}.String()
		return f
	case addr.Zone() != "", addr.Is6() && addr.IsLinkLocalUnicast():
		return faultf("found %s, an address of one link; expected one that needs no interface", found(n))
	case addr.IsUnspecified(), addr.IsMulticast(), addr.Is4() && (addr.As4()[0] == 0 || addr.As4()[0] >= 240):
		return faultf("found %s, which is the address of no single server", found(n))
	}
	dst.Set(reflect.ValueOf(Address{a}))
	return nil
}

// nearestAddress returns the address that was meant by what other programs
// take: Unbound's address@port, dnsmasq's address#port.
func nearestAddress(text string) string {
	host, port, ok := strings.Cut(strings.Replace(text, "#", "@", 1), "@")
	addr, err := netip.ParseAddr(host)
	if !ok || err != nil {
		return ""
	}
	if addr.Is6() {
		host = "[" + host + "]"
	}
	if _, err := netip.ParseAddrPort(host + ":" + port); err != nil {
		return addr.String() // address#name: the name has a key of its own
	}
	return `"` + host + ":" + port + `"`
}

// setName takes a domain name, with or without its final dot. One that may be
// missing may be empty.
func (k *Key) setName(dst reflect.Value, n *yaml.Node) *fault {
	if n.Value == "" && !k.Required {
		dst.SetString("")
		return nil
	}
	var text string
	if f := k.setText(reflect.ValueOf(&text).Elem(), n); f != nil {
		return f
	}
	name, err := wire.ParseName(text)
	// Other octets are allowed in a name (RFC 2181 §11), but here they are meant
	// to be something else; an international name is written as its A-label
	// (RFC 5890 §2.3.2.1).
	odd := func(r rune) bool { return r > '~' || strings.ContainsRune(" /:@#", r) }
	if err != nil || strings.ContainsFunc(text, odd) {
		return k.unexpected(n, "")
	}
	dst.SetString(string(name))
	return nil
}

// setPin takes the hash of a public key.
func (k *Key) setPin(dst reflect.Value, n *yaml.Node) *fault {
	hash, err := base64.StdEncoding.Strict().DecodeString(n.Value)
	if err != nil || len(hash) != 32 {
		return k.unexpected(n, "")
	}
	dst.SetString(n.Value)
	return nil
}
