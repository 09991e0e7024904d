// Package ca is a certificate authority that lives in memory, for the demo and
// for tests. Nobody trusts it who was not told to.
package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// DefaultLife is how long a certificate is good for.
const DefaultLife = 7 * 24 * time.Hour

// Authority issues certificates.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Leaf is what a certificate is for. At least one name or address is needed by
// clients that look.
type Leaf struct {
	Names []string
	Addrs []netip.Addr
	From  time.Time     // default: a minute ago
	Life  time.Duration // DefaultLife

	Client bool // who has it may show it to servers, too
}

// Issued is a certificate with its chain and its key, in PEM.
type Issued struct{ Certificate, Key []byte }

// New returns an authority of that name.
func New(name string) (*Authority, error) {
	template, err := template(name, time.Now().Add(-time.Minute), 10*DefaultLife)
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &Authority{cert, key}, err
}

func template(name string, from time.Time, life time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: from.Add(life),
	}, err
}

// PEM returns the authority's own certificate.
func (a *Authority) PEM() []byte { return encode("CERTIFICATE", a.cert.Raw) }

// Pool returns what a client needs to trust the authority.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// Issue returns a new certificate with a new key.
func (a *Authority) Issue(l Leaf) (Issued, error) {
	if l.From.IsZero() {
		l.From = time.Now().Add(-time.Minute)
	}
	if l.Life == 0 {
		l.Life = DefaultLife
	}
	name := ""
	if len(l.Names) > 0 {
		name = l.Names[0] // there are clients that want one
	}
	c, err := template(name, l.From, l.Life)
	if err != nil {
		return Issued{}, err
	}
	c.DNSNames, c.KeyUsage, c.ExtKeyUsage = l.Names, x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	if l.Client {
		c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	for _, addr := range l.Addrs {
		c.IPAddresses = append(c.IPAddresses, net.IP(addr.AsSlice()))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Issued{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return Issued{}, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Issued{}, err
	}
	return Issued{encode("CERTIFICATE", der), encode("PRIVATE KEY", private)}, nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// Write puts i into two files of dir, and returns their names. Each is renamed
// into its place whole.
func (i Issued) Write(dir, name string) (certificate, key string, err error) {
	certificate, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	for _, f := range []struct {
		path string
		text []byte
	}{{key, i.Key}, {certificate, i.Certificate}} {
		if err := os.WriteFile(f.path+".new", f.text, 0o600); err != nil {
			return "", "", fmt.Errorf("write a certificate: %w", err)
		}
		if err := os.Rename(f.path+".new", f.path); err != nil {
			return "", "", fmt.Errorf("write a certificate: %w", err)
		}
	}
	return certificate, key, nil
}
