package main

import (
	"fmt"
	"net/netip"
	"strings"

	"shirube/internal/lab/ca"
)

// The ports of DoT (RFC 7858 §3.1) and DoH.
const (
	dotPort = 853
	dohPort = 443
)

// identity is the certificate that all servers show, and who issued it.
type identity struct {
	*ca.Authority

	certificate, key string // files
}

// newIdentity makes a certificate for the addresses of as many servers as there may
// be.
func newIdentity(dir string) (*identity, error) {
	a, err := ca.New("Authority of the benchmark")
	if err != nil {
		return nil, err
	}
	leaf := ca.Leaf{Names: []string{"dns.bench"}}
	for i := range 32 {
		leaf.Addrs = append(leaf.Addrs, netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)}))
	}
	issued, err := a.Issue(leaf)
	if err != nil {
		return nil, err
	}
	id := &identity{Authority: a}
	id.certificate, id.key, err = issued.Write(dir, "server")
	return id, err
}

// The following return the configuration of a server with DoT and DoH besides, if
// the lab has an identity; conf if not.

func (l *lab) secureUnbound(c *contestant, conf string) string {
	if l.identity == nil {
		return conf
	}
	return conf + fmt.Sprintf(`server:
  interface: %[1]s@%[2]d
  interface: %[1]s@%[3]d
  tls-port: %[2]d
  https-port: %[3]d
  tls-service-key: %[4]q
  tls-service-pem: %[5]q
  incoming-num-tcp: 1000
`, c.addr, dotPort, dohPort, l.identity.key, l.identity.certificate)
}

func (l *lab) secureKnot(c *contestant, conf string) string {
	if l.identity == nil {
		return conf
	}
	return conf + fmt.Sprintf(`net.listen('%[1]s', %[2]d, { kind = 'tls' })
net.listen('%[1]s', %[3]d, { kind = 'doh2' })
net.tls('%[4]s', '%[5]s')
net.tls_sticket_secret('all processes are to resume the sessions of each other')
`, c.addr, dotPort, dohPort, l.identity.certificate, l.identity.key)
}

func (l *lab) secureBIND(c *contestant, conf string) string {
	if l.identity == nil {
		return conf
	}
	listen := fmt.Sprintf(`  listen-on port %[1]d tls bench { %[3]s; };
  listen-on port %[2]d tls bench http default { %[3]s; };
  http-listener-clients 2000;
  http-streams-per-connection 2000;
  listen-on-v6`, dotPort, dohPort, c.addr)
	return strings.Replace(conf, "  listen-on-v6", listen, 1) +
		fmt.Sprintf("tls bench { cert-file %q; key-file %q; };\n", l.identity.certificate, l.identity.key)
}

func (l *lab) secureSDNS(c *contestant, conf string) string {
	if l.identity == nil {
		return conf
	}
	return fmt.Sprintf("bindtls = \"%[1]s:%[2]d\"\nbinddoq = \"%[1]s:%[2]d\"\nbinddoh = \"%[1]s:%[3]d\"\ntlscertificate = %[4]q\ntlsprivatekey = %[5]q\n",
		c.addr, dotPort, dohPort, l.identity.certificate, l.identity.key) + conf
}

// secureShirube lifts what limits one client, as there is no other.
func (l *lab) secureShirube(c *contestant, conf string) string {
	if l.identity == nil {
		return conf
	}
	listen := fmt.Sprintf(`listen:
  - {address: "%[1]s:%[2]d", protocols: [dot, doq]}
  - {address: "%[1]s:%[3]d", protocols: [doh, doh3]}
`, c.addr, dotPort, dohPort)
	conf = strings.Replace(conf, "listen:\n", listen, 1)
	limits := "limits:\n  tls_connections: 250000\n  tls_connections_per_client: 30000\n  tls_handshakes_per_client: 0\n"
	return strings.Replace(conf, "limits:\n", limits, 1) +
		fmt.Sprintf("tls:\n  certificates:\n    - {cert_file: %q, key_file: %q}\n", l.identity.certificate, l.identity.key)
}
