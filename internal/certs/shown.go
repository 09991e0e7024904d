package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// shown is what handshakes choose from. It does not change.
type shown struct {
	all    []*tls.Certificate            // in the order of Options.Pairs
	byName map[string][]*tls.Certificate // in lower case; `*.example.com` as it is
	byAddr map[netip.Addr][]*tls.Certificate

	failing int // pairs whose files hold what cannot be used
}

func newShown(pairs []*pair) *shown {
	v := &shown{byName: make(map[string][]*tls.Certificate), byAddr: make(map[netip.Addr][]*tls.Certificate)}
	for _, p := range pairs {
		v.all = append(v.all, p.cert)
		for _, name := range p.cert.Leaf.DNSNames {
			name = strings.ToLower(name)
			v.byName[name] = append(v.byName[name], p.cert)
		}
		for _, ip := range p.cert.Leaf.IPAddresses {
			if a, ok := netip.AddrFromSlice(ip); ok {
				v.byAddr[a.Unmap()] = append(v.byAddr[a.Unmap()], p.cert)
			}
		}
		if p.failing {
			v.failing++
		}
	}
	return v
}

// errNone is what handshakes fail with when there is nothing to be shown.
var errNone = errors.New("no certificate is configured")

// choose returns the certificate for a client: the first one that is for the
// server it names and that it can verify. A client that knows the server by its
// address alone names none (RFC 6066 §3), and has to see one for that address
// (RFC 9462 §4.2). The first of all is for who finds none.
func (v *shown) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	switch len(v.all) {
	case 0:
		return nil, errNone
	case 1:
		return v.all[0], nil
	}
	for _, list := range [][]*tls.Certificate{v.named(hello.ServerName, localOf(hello.Conn)), v.all} {
		for _, c := range list {
			if hello.SupportsCertificate(c) == nil {
				return c, nil
			}
		}
	}
	return v.all[0], nil
}

// Shown returns the certificate that clients are shown who have connected to local
// and name that server, or none for "", if they can verify it; nil: there is none.
func (s *Store) Shown(local netip.Addr, server string) *x509.Certificate {
	v := s.shown.Load()
	if len(v.all) == 0 {
		return nil
	}
	if list := v.named(server, local.Unmap().WithZone("")); len(list) > 0 && len(v.all) > 1 {
		return list[0].Leaf
	}
	return v.all[0].Leaf
}

// Version returns another number whenever other certificates are shown than before.
func (s *Store) Version() uint64 { return s.version.Load() }

// named returns the certificates for the server that a client names, or has
// connected to.
func (v *shown) named(server string, local netip.Addr) []*tls.Certificate {
	name := strings.ToLower(strings.TrimSuffix(server, "."))
	if name == "" {
		return v.byAddr[local]
	}
	if a, err := netip.ParseAddr(name); err == nil { // not allowed there, but clear
		return v.byAddr[a.Unmap()]
	}
	_, parent, _ := strings.Cut(name, ".")
	return slices.Concat(v.byName[name], v.byName["*."+parent]) // RFC 9525 §6.3: one label
}

// localOf returns the address that a client has connected to, if c knows it.
func localOf(c net.Conn) netip.Addr {
	if c == nil {
		return netip.Addr{}
	}
	switch a := c.LocalAddr().(type) {
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap().WithZone("")
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
