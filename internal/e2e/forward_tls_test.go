package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shirube/internal/porttest"
)

// certified is a key with its certificate.
type certified struct {
	*x509.Certificate

	key *ecdsa.PrivateKey
}

// certify makes a certificate for a name, issued by by; nil: an authority's own.
func certify(t *testing.T, name string, by *certified) *certified {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	issuer := &certified{template, key}
	if by == nil {
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	} else {
		template.DNSNames, template.ExtKeyUsage = []string{name}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		issuer = by
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.Certificate, &key.PublicKey, issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &certified{c, key}
}

// pin returns the hash that c's key is pinned by (RFC 7858 §4.2).
func (c *certified) pin() string {
	h := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(h[:])
}

// pem returns c as a file has it.
func (c *certified) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// private returns c's key as a file has it.
func (c *certified) private(t *testing.T) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// TestForwardsEncryptedToWhomItKnows has a zone forwarded to an Unbound over TLS or
// HTTPS, known by its name or by its key.
func TestForwardsEncryptedToWhomItKnows(t *testing.T) {
	const name = "dns.upstream.example"
	authority := certify(t, "Authority of this test", nil)
	upstream := certify(t, name, authority)
	stranger := certify(t, name, certify(t, "Authority of another test", nil))
	dir := t.TempDir()
	trusted := filepath.Join(dir, "authorities.pem")
	writeFile(t, trusted, authority.pem())
	// The authority's certificate is sent too, so that a pin of its key finds it.
	writeFile(t, filepath.Join(dir, "chain.pem"), upstream.pem()+authority.pem())
	writeFile(t, filepath.Join(dir, "key.pem"), upstream.private(t))
	port, web := porttest.Take(t), porttest.Take(t)
	four, six := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), netip.AddrPortFrom(netip.IPv6Loopback(), port)
	startUnbound(t, fmt.Sprintf(`
  tls-port: %d
  https-port: %d
  http-endpoint: "/resolve"
  tls-service-pem: %q
  tls-service-key: %q
  local-zone: "forwarded.example." static
  local-data: "www.forwarded.example. 300 IN A 198.51.100.77"
`, port, web, filepath.Join(dir, "chain.pem"), filepath.Join(dir, "key.pem")), four, six, netip.AddrPortFrom(four.Addr(), web), netip.AddrPortFrom(six.Addr(), web))

	for _, c := range []struct {
		name, server string
		at           netip.AddrPort
		trusted      bool // its authority
		status       string
	}{
		{"name", "tls_name: " + name, four, true, "NOERROR"},
		{"name over IPv6", "tls_name: " + name, six, true, "NOERROR"},
		{"another name", "tls_name: dns.elsewhere.example", four, true, "SERVFAIL"},
		{"name, by an authority that is not trusted", "tls_name: " + name, four, false, "SERVFAIL"},
		{"key", fmt.Sprintf("pins: [%q]", upstream.pin()), four, false, "NOERROR"},
		{"one of two keys", fmt.Sprintf("pins: [%q, %q]", stranger.pin(), upstream.pin()), six, false, "NOERROR"},
		{"the authority's key", fmt.Sprintf("pins: [%q]", authority.pin()), four, false, "NOERROR"},
		{"another key", fmt.Sprintf("pins: [%q]", stranger.pin()), four, true, "SERVFAIL"},
		{"another key, right name", fmt.Sprintf("tls_name: %s, pins: [%q]", name, stranger.pin()), four, true, "SERVFAIL"},
		{"HTTPS, name", "doh_path: /resolve, tls_name: " + name, netip.AddrPortFrom(four.Addr(), web), true, "NOERROR"},
		{"HTTPS, name over IPv6", "doh_path: /resolve, tls_name: " + name, netip.AddrPortFrom(six.Addr(), web), true, "NOERROR"},
		{"HTTPS, key", fmt.Sprintf("doh_path: /resolve, pins: [%q]", upstream.pin()), netip.AddrPortFrom(four.Addr(), web), false, "NOERROR"},
		{"HTTPS, another name", "doh_path: /resolve, tls_name: dns.elsewhere.example", netip.AddrPortFrom(four.Addr(), web), true, "SERVFAIL"},
		{"HTTPS, another path", "doh_path: /, tls_name: " + name, netip.AddrPortFrom(four.Addr(), web), true, "SERVFAIL"},
		{"key, another name", fmt.Sprintf("tls_name: dns.elsewhere.example, pins: [%q]", upstream.pin()), four, false, "NOERROR"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			authorities := filepath.Join(dir, "none.pem") // no such file: nobody is trusted
			if c.trusted {
				authorities = trusted
			}
			over := "tls"
			if strings.Contains(c.server, "doh_path") {
				over = "doh"
			}
			s := serve(t, settings{
				env:  []string{"SSL_CERT_FILE=" + authorities, "SSL_CERT_DIR=" + t.TempDir()},
				more: fmt.Sprintf("forward_zones:\n  - {name: forwarded.example, %s: true, servers: [{address: %q, %s}]}\n", over, c.at, c.server),
			})
			for _, q := range []struct {
				question

				status  string
				records int
			}{
				{question{"www.forwarded.example.", "A"}, "NOERROR", 1},
				{question{"www.forwarded.example.", "MX"}, "NOERROR", 0},
				{question{"nosuch.forwarded.example.", "A"}, "NXDOMAIN", 0},
			} {
				if c.status != "NOERROR" {
					q.status, q.records = c.status, 0
				}
				r := s.ask("dig", "127.0.0.1").one(t, q.name, q.typ)
				if r.status != q.status || len(r.sections["ANSWER"]) != q.records {
					t.Errorf("%v: %s and %d records, want %s and %d\n%s", q.question, r.status, len(r.sections["ANSWER"]), q.status, q.records, r.raw)
				}
			}
		})
	}
}
