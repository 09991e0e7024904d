package dnssec

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"math/bits"

	"github.com/cloudflare/circl/sign/ed448"
	"github.com/miekg/dns"
)

// Sizes of RSA keys. RFC 5702 §2.1 and RFC 3110 §3 want 512 bits at least,
// RFC 5702 §2.2 wants 1024 for RSA/SHA-512; Unbound, BIND and Knot Resolver
// hold to the same. A key of 512 bits is no protection to speak of, but its
// zone is as well off as one without signatures, and to refuse its names
// helps nobody.
const (
	minKeyBits       = 512
	minKeyBitsSHA512 = 1024
	minStdlibBits    = 1024      // crypto/rsa refuses shorter ones
	maxStdlibE       = 1<<31 - 1 // and larger exponents
)

// Octets of the keys and signatures that have but one length (RFC 6605 §4,
// RFC 8080 §3, §4).
const (
	sizeP256    = 32 // of a coordinate, and of half a signature
	sizeP384    = 48
	sizeEd448   = ed448.PublicKeySize
	sizeEd25519 = ed25519.PublicKeySize
)

// supportedAlgorithm reports whether signatures of algorithm a are verified
// here: all that RFC 8624 §3.1 has a validator know, and Ed448.
func supportedAlgorithm(a uint8) bool {
	switch a {
	case dns.RSASHA1, dns.RSASHA1NSEC3SHA1, dns.RSASHA256, dns.RSASHA512,
		dns.ECDSAP256SHA256, dns.ECDSAP384SHA384, dns.ED25519, dns.ED448:
		return true
	}
	return false
}

// supportedDigest reports whether DS records of digest type d are verified
// here (RFC 8624 §3.3).
func supportedDigest(d uint8) bool {
	return d == dns.SHA1 || d == dns.SHA256 || d == dns.SHA384
}

// appendDigest appends the digest of data that DS records of type d hold.
func appendDigest(buf []byte, d uint8, data []byte) []byte {
	switch d {
	case dns.SHA1:
		h := sha1.Sum(data) //nolint:gosec // RFC 4034 §5.1.4; [usableDS] prefers the others
		return append(buf, h[:]...)
	case dns.SHA256:
		h := sha256.Sum256(data)
		return append(buf, h[:]...)
	case dns.SHA384:
		h := sha512.Sum384(data)
		return append(buf, h[:]...)
	}
	return buf
}

// What a key or a signature is found to be when it is not a good one.
var (
	errKey       = errors.New("malformed key")
	errSignature = errors.New("signature does not verify")
)

// checkKey reports whether key, the octets of a public key, has the form that
// algorithm a wants. That a point is on its curve is found out on use.
func checkKey(a uint8, key []byte) error {
	var want int
	switch a {
	case dns.ECDSAP256SHA256:
		want = 2 * sizeP256
	case dns.ECDSAP384SHA384:
		want = 2 * sizeP384
	case dns.ED25519:
		want = sizeEd25519
	case dns.ED448:
		want = sizeEd448
	default:
		_, _, err := splitRSA(a, key)
		return err
	}
	if len(key) != want {
		return fmt.Errorf("%w: %d octets, expected %d", errKey, len(key), want)
	}
	return nil
}

// splitRSA returns the exponent and the modulus of key (RFC 3110 §2), both
// within their limits.
func splitRSA(a uint8, key []byte) (e, n []byte, err error) {
	if len(key) < 3 {
		return nil, nil, fmt.Errorf("%w: %d octets", errKey, len(key))
	}
	size, rest := int(key[0]), key[1:]
	if size == 0 { // the length takes three octets
		size, rest = int(key[1])<<8|int(key[2]), key[3:]
	}
	if size == 0 || size >= len(rest) {
		return nil, nil, fmt.Errorf("%w: exponent of %d octets in %d", errKey, size, len(key))
	}
	e, n = rest[:size], rest[size:]
	if e[0] == 0 || n[0] == 0 { // RFC 3110 §2: "prohibited"
		return nil, nil, fmt.Errorf("%w: leading zero", errKey)
	}
	if size*8 > MaxExponent {
		return nil, nil, fmt.Errorf("%w: exponent of %d bits, at most %d", errKey, size*8, MaxExponent)
	}
	// An even modulus is no product of two primes, nor can an even exponent be
	// undone; with 1 for an exponent, anybody can sign.
	if e[size-1]&1 == 0 || n[len(n)-1]&1 == 0 || size == 1 && e[0] == 1 {
		return nil, nil, fmt.Errorf("%w: no RSA key", errKey)
	}
	low := minKeyBits
	if a == dns.RSASHA512 {
		low = minKeyBitsSHA512
	}
	if size := bits.Len8(n[0]) + 8*(len(n)-1); size < low || size > MaxKeyBits {
		return nil, nil, fmt.Errorf("%w: modulus of %d bits, expected %d to %d", errKey, size, low, MaxKeyBits)
	}
	return e, n, nil
}

// verify reports whether sig is a signature of algorithm a over data by key,
// which [checkKey] has passed. The key is parsed anew each time: that costs
// less than 1 % of the verification (BenchmarkParseKey), and spares the owner
// of the keys a second form of them.
func verify(a uint8, key, data, sig []byte) error {
	ok := false
	switch a {
	case dns.RSASHA1, dns.RSASHA1NSEC3SHA1:
		h := sha1.Sum(data) //nolint:gosec // RFC 3110 §3, RFC 5155 §2: what the zone signs with
		return verifyRSA(a, key, crypto.SHA1, h[:], sig)
	case dns.RSASHA256:
		h := sha256.Sum256(data)
		return verifyRSA(a, key, crypto.SHA256, h[:], sig)
	case dns.RSASHA512:
		h := sha512.Sum512(data)
		return verifyRSA(a, key, crypto.SHA512, h[:], sig)
	case dns.ECDSAP256SHA256:
		h := sha256.Sum256(data)
		return verifyECDSA(elliptic.P256(), sizeP256, key, h[:], sig)
	case dns.ECDSAP384SHA384:
		h := sha512.Sum384(data)
		return verifyECDSA(elliptic.P384(), sizeP384, key, h[:], sig)
	case dns.ED25519:
		ok = len(key) == sizeEd25519 && ed25519.Verify(key, data, sig)
	case dns.ED448: // RFC 8080 §4: the context is empty
		ok = len(key) == sizeEd448 && ed448.Verify(key, data, sig, "")
	}
	if !ok {
		return errSignature
	}
	return nil
}

// verifyECDSA reports whether sig, two numbers of size octets, is a signature
// over hash by the point key, two coordinates of as many (RFC 6605 §4).
func verifyECDSA(curve elliptic.Curve, size int, key, hash, sig []byte) error {
	if len(sig) != 2*size {
		return fmt.Errorf("%w: %d octets, expected %d", errSignature, len(sig), 2*size)
	}
	var point [1 + 2*sizeP384]byte
	point[0] = 4 // uncompressed (SEC 1 §2.3.3), the form that DNSKEY records leave unsaid
	pub, err := ecdsa.ParseUncompressedPublicKey(curve, point[:1+copy(point[1:], key)])
	if err != nil {
		return fmt.Errorf("%w: not on the curve", errKey)
	}
	var der [2*(sizeP384+3) + 2]byte
	if !ecdsa.VerifyASN1(pub, hash, appendDER(der[:0], sig[:size], sig[size:])) {
		return errSignature
	}
	return nil
}

// appendDER appends the SEQUENCE of the INTEGERs r and s, which crypto/ecdsa
// wants a signature to be. Each is at most 48 octets, so one octet holds any
// of the lengths.
func appendDER(buf, r, s []byte) []byte {
	start := len(buf)
	buf = append(buf, asn1.TagSequence|0x20, 0)
	for _, n := range [2][]byte{r, s} {
		for len(n) > 1 && n[0] == 0 {
			n = n[1:]
		}
		buf = append(buf, asn1.TagInteger, byte(len(n)))
		if n[0]&0x80 != 0 { // it would be negative
			buf[len(buf)-1]++
			buf = append(buf, 0)
		}
		buf = append(buf, n...)
	}
	buf[start+1] = byte(len(buf) - start - 2)
	return buf
}

// verifyRSA reports whether sig is a signature over hash by key, padded as
// RFC 8017 §8.2 says (RFC 3110 §3, RFC 5702 §3).
func verifyRSA(a uint8, key []byte, h crypto.Hash, hash, sig []byte) error {
	eOctets, nOctets, err := splitRSA(a, key)
	if err != nil {
		return err
	}
	if len(sig) != len(nOctets) {
		return fmt.Errorf("%w: %d octets, expected %d", errSignature, len(sig), len(nOctets))
	}
	var e uint64 // MaxExponent bits
	for _, o := range eOctets {
		e = e<<8 | uint64(o)
	}
	n := new(big.Int).SetBytes(nOctets)
	if e > maxStdlibE || n.BitLen() < minStdlibBits {
		return verifyOddRSA(n, e, h, hash, sig)
	}
	if rsa.VerifyPKCS1v15(&rsa.PublicKey{N: n, E: int(e)}, h, hash, sig) != nil {
		return errSignature
	}
	return nil
}

// verifyOddRSA is rsa.VerifyPKCS1v15 for the keys that it refuses: short ones,
// and those with an exponent above 2³¹, such as 2³²+1, which BIND made for
// years when asked for a large one. Nothing here is secret, so nothing has to
// take the same time whatever the numbers are.
func verifyOddRSA(n *big.Int, e uint64, h crypto.Hash, hash, sig []byte) error {
	s := new(big.Int).SetBytes(sig)
	if s.Cmp(n) >= 0 { // RFC 8017 §5.2.2
		return errSignature
	}
	s.Exp(s, new(big.Int).SetUint64(e), n)
	// The expected block is made and compared, instead of taking apart what
	// came: parsers of it have been fooled (CVE-2006-4339).
	prefix := pkcs1Prefix(h)
	pad := len(sig) - len(prefix) - len(hash) - 3
	if pad < 8 { // RFC 8017 §9.2 step 3
		return errSignature
	}
	want := make([]byte, 0, len(sig))
	want = append(want, 0, 1)
	for range pad {
		want = append(want, 0xFF)
	}
	want = append(append(append(want, 0), prefix...), hash...)
	if s.Cmp(new(big.Int).SetBytes(want)) != 0 {
		return errSignature
	}
	return nil
}

// pkcs1Prefix returns what comes before a hash in a signed block: its name and
// length in DER (RFC 8017 §9.2 note 1).
func pkcs1Prefix(h crypto.Hash) string {
	switch h {
	case crypto.SHA1:
		return "\x30\x21\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x14"
	case crypto.SHA256:
		return "\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"
	default: // crypto.SHA512
		return "\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40"
	}
}
