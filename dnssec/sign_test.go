package dnssec

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudflare/circl/sign/ed448"
	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// algorithms has all that are supported.
var algorithms = []uint8{
	dns.RSASHA1, dns.RSASHA1NSEC3SHA1, dns.RSASHA256, dns.RSASHA512,
	dns.ECDSAP256SHA256, dns.ECDSAP384SHA384, dns.ED25519, dns.ED448,
}

// testNow is the time of all tests that need no other.
var testNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// zoneSigner is a key of a zone with its private half.
type zoneSigner struct {
	*dns.DNSKEY
	private crypto.Signer
}

// privateKeys makes the private keys of the tests once: RSA ones take long.
var privateKeys = sync.OnceValue(func() map[uint8]crypto.Signer {
	keys := make(map[uint8]crypto.Signer)
	for _, a := range algorithms {
		keys[a] = newPrivate(a)
	}
	return keys
})

func newPrivate(a uint8) (k crypto.Signer) {
	var err error
	switch a {
	case dns.ECDSAP256SHA256:
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case dns.ECDSAP384SHA384:
		k, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case dns.ED25519:
		_, k, err = ed25519.GenerateKey(rand.Reader)
	case dns.ED448:
		_, k, err = ed448.GenerateKey(rand.Reader)
	default:
		k, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		panic(err)
	}
	return k
}

// newSigner returns a key of zone with the algorithm's one private key.
func newSigner(zone string, a uint8, flags uint16) zoneSigner {
	return signerOf(zone, a, flags, privateKeys()[a])
}

// signerOf returns a key of zone whose private half is k.
func signerOf(zone string, a uint8, flags uint16, k crypto.Signer) zoneSigner {
	var octets []byte
	switch pub := k.Public().(type) {
	case *rsa.PublicKey:
		e := binary.BigEndian.AppendUint64(nil, uint64(pub.E))
		for e[0] == 0 {
			e = e[1:]
		}
		octets = append(append([]byte{byte(len(e))}, e...), pub.N.Bytes()...)
	case *ecdsa.PublicKey:
		b, err := pub.Bytes()
		if err != nil {
			panic(err)
		}
		octets = b[1:]
	case ed25519.PublicKey:
		octets = pub
	case ed448.PublicKey:
		octets = pub
	}
	return zoneSigner{&dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: zone, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600},
		Flags: flags, Protocol: 3, Algorithm: a, PublicKey: base64.StdEncoding.EncodeToString(octets),
	}, k}
}

// template returns a signature of s by k as a good signer fills it in, but for
// the signature itself.
func (k zoneSigner) template(s *rrset.Set) *dns.RRSIG {
	return &dns.RRSIG{
		Hdr:         dns.RR_Header{Name: s.Name.String(), Rrtype: dns.TypeRRSIG, Class: dns.ClassINET, Ttl: 3600},
		TypeCovered: uint16(s.Type), Algorithm: k.Algorithm, Labels: uint8(signedLabels(s.Name)), OrigTtl: 3600,
		Expiration: serial(testNow.Add(7 * 24 * time.Hour)), Inception: serial(testNow.Add(-7 * 24 * time.Hour)),
		KeyTag: k.KeyTag(), SignerName: k.Hdr.Name,
	}
}

// sign makes sig, whatever its fields say, a signature of s by k.
func (k zoneSigner) sign(t testing.TB, s *rrset.Set, sig *dns.RRSIG) *dns.RRSIG {
	t.Helper()
	form, err := canonicalise(s)
	if err != nil {
		t.Fatal(err)
	}
	owner := s.Name
	if labels := int(sig.Labels); labels < signedLabels(s.Name) {
		owner = asterisk + s.Name.Tail(labels)
	}
	data := form.appendSigned(nil, sig, wire.MustParseName(sig.SignerName), owner)
	sig.Signature = base64.StdEncoding.EncodeToString(k.signData(t, data))
	return sig
}

func (k zoneSigner) signData(t testing.TB, data []byte) []byte {
	t.Helper()
	var h crypto.Hash
	digest := data
	switch k.Algorithm {
	case dns.RSASHA1, dns.RSASHA1NSEC3SHA1:
		d := sha1.Sum(data)
		h, digest = crypto.SHA1, d[:]
	case dns.RSASHA256, dns.ECDSAP256SHA256:
		d := sha256.Sum256(data)
		h, digest = crypto.SHA256, d[:]
	case dns.ECDSAP384SHA384:
		d := sha512.Sum384(data)
		h, digest = crypto.SHA384, d[:]
	case dns.RSASHA512:
		d := sha512.Sum512(data)
		h, digest = crypto.SHA512, d[:]
	}
	if ec, ok := k.private.(*ecdsa.PrivateKey); ok {
		r, s, err := ecdsa.Sign(rand.Reader, ec, digest)
		if err != nil {
			t.Fatal(err)
		}
		size := (ec.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	}
	sig, err := k.private.Sign(rand.Reader, digest, h)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// ds returns the DS record for k with a digest of type d.
func (k zoneSigner) ds(d uint8) *dns.DS { return k.ToDS(d) }

// setOf returns the set of the records in text.
func setOf(t testing.TB, text ...string) rrset.Set {
	t.Helper()
	s := rrset.Set{Until: testNow.Add(time.Hour)}
	for _, line := range text {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if s.Name == "" {
			s.Name, s.Type = wire.MustParseName(rr.Header().Name), wire.Type(rr.Header().Rrtype)
		}
		if sig, ok := rr.(*dns.RRSIG); ok {
			s.Sigs = append(s.Sigs, sig)
			continue
		}
		s.RRs = append(s.RRs, rr)
	}
	return s
}

// keySet returns the DNSKEY set of keys, signed by the first of them.
func keySet(t testing.TB, keys ...zoneSigner) rrset.Set {
	t.Helper()
	s := rrset.Set{Name: wire.MustParseName(strings.ToLower(keys[0].Hdr.Name)), Type: wire.TypeDNSKEY}
	for _, k := range keys {
		s.RRs = append(s.RRs, k.DNSKEY)
	}
	s.Sigs = []*dns.RRSIG{keys[0].sign(t, &s, keys[0].template(&s))}
	return s
}
