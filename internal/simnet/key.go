package simnet

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// Key is a key of a zone with its private half. It is immutable.
type Key struct {
	rr      *dns.DNSKEY
	private crypto.Signer // nil: what it signs does not verify
}

// KeyOptions says which key of a zone is meant. The same key is made for the
// same options.
type KeyOptions struct {
	Algorithm uint8  // default ECDSA P-256; one that nobody knows makes a key that nobody can verify with
	Flags     uint16 // default zone key and secure entry point: it signs everything
	Label     string // tells keys apart that are the same otherwise
}

// NewKey returns the key of zone that o means. It panics if zone is wrong.
func NewKey(zone string, o KeyOptions) *Key {
	if o.Algorithm == 0 {
		o.Algorithm = dns.ECDSAP256SHA256
	}
	if o.Flags == 0 {
		o.Flags = dns.ZONE | dns.SEP
	}
	seed := sha256.Sum256(fmt.Appendf(nil, "%s %d %s", strings.ToLower(zone), o.Algorithm, o.Label))
	public, private := keyPair(o.Algorithm, seed[:])
	return &Key{private: private, rr: &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: dns.Fqdn(zone), Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: defaultTTL},
		Flags: o.Flags, Protocol: 3, Algorithm: o.Algorithm, PublicKey: base64.StdEncoding.EncodeToString(public),
	}}
}

// keyPair returns the key that follows from seed, and its public half as DNSKEY
// records have it.
func keyPair(algorithm uint8, seed []byte) (public []byte, private crypto.Signer) {
	switch algorithm {
	case dns.ECDSAP256SHA256:
		k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed) // fails for one seed in 2³²
		if err != nil {
			panic("simnet: " + err.Error())
		}
		point, err := k.PublicKey.Bytes()
		if err != nil {
			panic("simnet: " + err.Error())
		}
		return point[1:], repeatable{k} // RFC 6605 §4: without the octet that says "uncompressed"
	case dns.ED25519:
		k := ed25519.NewKeyFromSeed(seed)
		return k[ed25519.SeedSize:], k
	case dns.RSASHA1, dns.RSASHA1NSEC3SHA1, dns.RSASHA256, dns.RSASHA512:
		k := rsaKey()
		return append([]byte{3, 1, 0, 1}, k.N.Bytes()...), k // RFC 3110 §2
	}
	return append(seed, seed...), nil
}

// repeatable signs the same way every time (RFC 6979).
type repeatable struct{ *ecdsa.PrivateKey }

// Sign implements [crypto.Signer].
func (k repeatable) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.PrivateKey.Sign(nil, digest, opts)
}

// rsaKey is the one RSA key, which all zones with such an algorithm share: to
// make one takes long.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic("simnet: " + err.Error())
	}
	return k
})

// Record returns the DNSKEY record, which is shared.
func (k *Key) Record() *dns.DNSKEY { return k.rr }

// DS returns the DS records for k in master file format, one for each digest
// type; by default SHA-256. Of a type that nobody knows it has some digest.
func (k *Key) DS(digests ...uint8) string {
	if len(digests) == 0 {
		digests = []uint8{dns.SHA256}
	}
	var b strings.Builder
	for _, d := range digests {
		ds := k.rr.ToDS(d)
		if ds == nil {
			some := sha256.Sum256([]byte(k.rr.PublicKey))
			ds = k.rr.ToDS(dns.SHA256)
			ds.DigestType, ds.Digest = d, hex.EncodeToString(some[:])
		}
		ds.Hdr.Ttl = defaultTTL
		fmt.Fprintln(&b, ds)
	}
	return b.String()
}

// Lookalikes returns n other keys with the tag of k (RFC 4034 appendix B) and its
// algorithm, which nothing was ever signed with (KeyTrap, CVE-2023-50387). It
// panics if it cannot make that many.
func (k *Key) Lookalikes(n int) []*Key {
	octets, err := base64.StdEncoding.DecodeString(k.rr.PublicKey)
	if err != nil {
		panic("simnet: " + err.Error())
	}
	var keys []*Key
	// The tag is a sum of pairs of octets, so which is where does not matter. The
	// ends stay as they are: of an RSA key they have the exponent, and make the
	// modulus long and odd.
	for a := 6; a < len(octets)-2; a += 2 {
		for b := a + 2; b < len(octets)-2 && len(keys) < n; b += 2 {
			other := slices.Clone(octets)
			other[a], other[a+1], other[b], other[b+1] = octets[b], octets[b+1], octets[a], octets[a+1]
			rr := *k.rr
			rr.PublicKey = base64.StdEncoding.EncodeToString(other)
			keys = append(keys, &Key{rr: &rr})
		}
	}
	if len(keys) < n {
		panic(fmt.Sprintf("simnet: %d keys with one tag", n))
	}
	return keys
}
