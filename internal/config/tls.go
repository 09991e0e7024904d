package config

import (
	"fmt"
	"net/netip"
	"strings"
)

// TLS configures what clients of encrypted transports are shown.
type TLS struct {
	// Certificates, each with its key. The first is shown to clients that name no
	// server and whose address for this one is in no certificate. The files are
	// looked at each second, and those that have changed are taken up without a
	// restart, if they are good.
	Certificates []Certificate `yaml:"certificates" range:"0..1000"`
	// A file with the secret that the keys of TLS session tickets follow from, of
	// 64 hexadecimal digits, as `openssl rand -hex 32` prints them. All servers
	// behind one address need the same, or clients that come back to another one
	// shake hands anew. A second line may have the secret before, to take what
	// was made with it. It is looked at each second too. Empty: the keys are
	// random, and this process's alone.
	TicketSecretFile string `yaml:"ticket_secret_file"`
}

// Certificate is a certificate with its key.
type Certificate struct {
	// A file in PEM with the certificate, and behind it those between it and
	// the authority's. A relative path starts at the directory that the server
	// was started in.
	CertFile string `yaml:"cert_file" required:"true"`
	// A file in PEM with its key. It may be the same file.
	KeyFile string `yaml:"key_file" required:"true"`
}

// DoH configures DNS over HTTPS.
type DoH struct {
	// The path that queries are sent to (RFC 8484 §4.1): that of the URL which
	// clients are given, without `{?dns}`.
	Path string `yaml:"path"`
	// Proxies that are believed when they say in `X-Forwarded-For` for whom they
	// ask, as address prefixes, on listeners with `doh_cleartext` only.
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies" range:"0..1000"`
	// Path of a unix socket on which the same is served as with `doh_cleartext`: DNS
	// over HTTP/1.1 and HTTP/2 without TLS, to a proxy on this machine that has the
	// certificate. 107 octets at most; its directory has to be there. Whoever may
	// use it is believed for whom it asks, in `X-Forwarded-For`. Empty: none.
	Socket string `yaml:"socket"`
	// A group whose members may use the socket, besides root and the server's own
	// user: a name or a number. The server has to be a member of it, or to run as
	// root. Empty: none.
	Group string `yaml:"group"`
}

// encrypted reports whether p needs a certificate.
func (p Protocol) encrypted() bool {
	switch p {
	case ProtocolDoT, ProtocolDoH, ProtocolDoH3, ProtocolDoQ:
		return true
	}
	return false
}

// datagrams reports whether p is over UDP, and not over TCP.
func (p Protocol) datagrams() bool { return p == ProtocolUDP || p == ProtocolDoQ || p == ProtocolDoH3 }

// tls reports what makes no sense about encrypted transports.
func (d *decoder) tls(cfg *Config) {
	if path := cfg.DoH.Path; !isPath(path) {
		d.contradiction(fmt.Sprintf("found %q; expected a path, such as /dns-query", shorten(path)), "doh.path")
	}
	l := &cfg.Limits
	if _, given := d.where("limits.tls_connections_per_client"); given && l.TLSConnectionsPerClient > l.TLSConnections {
		d.exceeds("limits", "tls_connections_per_client", l.TLSConnectionsPerClient, "tls_connections", l.TLSConnections)
	}
	if cfg.DoH.Group != "" && cfg.DoH.Socket == "" {
		d.contradiction("found a group and no socket; expected doh.socket with it", "doh.group")
	}
	for i, listener := range cfg.Listen {
		if p := listener.ProxyProtocol; p.InsideTLS && len(p.From) == 0 {
			d.contradiction("found inside_tls, and no proxies; expected them in proxy_protocol.from", fmt.Sprintf("listen[%d].proxy_protocol.inside_tls", i))
		}
		path := fmt.Sprintf("listen[%d].protocols", i)
		told := len(cfg.TLS.Certificates) > 0 || d.failed["tls.certificates"]
		for _, p := range listener.Protocols {
			switch {
			case p.encrypted() && !told:
				told = true
				d.contradiction(fmt.Sprintf("found %s, and no certificate; expected one in tls.certificates", p), path)
			case (p == ProtocolDoQ || p == ProtocolDoH3) && len(listener.ProxyProtocol.From) > 0:
				d.contradiction(fmt.Sprintf("found %s, and proxy_protocol.from; the PROXY protocol is not spoken over QUIC", p), path)
			case listener.ProxyProtocol.InsideTLS && p != ProtocolDoT && p != ProtocolDoH:
				d.contradiction(fmt.Sprintf("found %s, and proxy_protocol.inside_tls; expected dot or doh, which have TLS", p), path)
			case p == ProtocolDoHCleartext && listener.Address.IsValid() && !listener.Address.Addr().IsLoopback() && len(cfg.DoH.TrustedProxies) == 0:
				d.contradiction(fmt.Sprintf("found %s for %s, where everybody could read along; expected a loopback address, or the proxies in front of it in doh.trusted_proxies",
					p, listener.Address), path)
			}
		}
	}
}

// isPath reports whether text can be the path of a URL.
func isPath(text string) bool {
	return strings.HasPrefix(text, "/") && !strings.ContainsAny(text, "?#{} ")
}

// ownCertificate reports, of TLS to somebody else at path, a certificate without its
// key, or a key without its certificate.
func (d *decoder) ownCertificate(certificate, key, path string) {
	if (certificate == "") != (key == "") {
		d.contradiction("found one of cert_file and key_file; expected both or none", path+".cert_file", path+".key_file")
	}
}
