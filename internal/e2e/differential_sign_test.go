package e2e

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// zoneKey is a key of a zone with its private half.
type zoneKey struct {
	*dns.DNSKEY

	private func(data []byte) []byte // the signature of data
	keys    bool                     // it signs the DNSKEY set
	data    bool                     // it signs the other sets
	hidden  bool                     // it is not in the DNSKEY set
}

// newKey makes a key that signs everything.
func newKey(zone string, algorithm uint8) *zoneKey {
	k := &zoneKey{keys: true, data: true}
	k.DNSKEY = &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: zone, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: labTTL},
		Flags: dns.ZONE | dns.SEP, Protocol: 3, Algorithm: algorithm,
	}
	var public []byte
	switch algorithm {
	case dns.ECDSAP256SHA256:
		public, k.private = newECDSA(elliptic.P256(), crypto.SHA256)
	case dns.ECDSAP384SHA384:
		public, k.private = newECDSA(elliptic.P384(), crypto.SHA384)
	case dns.ED25519:
		pub, priv, err := ed25519.GenerateKey(rand.Reader)
		must(err)
		public, k.private = pub, func(data []byte) []byte { return ed25519.Sign(priv, data) }
	default:
		public, k.private = newRSA(algorithm, 1024, 65537)
	}
	k.PublicKey = base64.StdEncoding.EncodeToString(public)
	return k
}

// must ends the test program: what it is about is this file's own mistakes.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func newECDSA(curve elliptic.Curve, h crypto.Hash) (public []byte, sign func([]byte) []byte) {
	priv, err := ecdsa.GenerateKey(curve, rand.Reader)
	must(err)
	point, err := priv.PublicKey.Bytes()
	must(err)
	return point[1:], func(data []byte) []byte {
		r, s, err := ecdsa.Sign(rand.Reader, priv, digest(h, data))
		must(err)
		size := (curve.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	}
}

func digest(h crypto.Hash, data []byte) []byte {
	d := h.New()
	d.Write(data)
	return d.Sum(nil)
}

// rsaHashes are the hashes of RSA algorithms, and how they are named in what is
// signed (RFC 8017 §9.2 note 1). The constants need crypto/sha1 and its kin.
var rsaHashes = map[uint8]struct {
	crypto.Hash
	prefix string
}{
	dns.RSASHA1:          {crypto.SHA1, "3021300906052b0e03021a05000414"},
	dns.RSASHA1NSEC3SHA1: {crypto.SHA1, "3021300906052b0e03021a05000414"},
	dns.RSASHA256:        {crypto.SHA256, "3031300d060960864801650304020105000420"},
	dns.RSASHA512:        {crypto.SHA512, "3051300d060960864801650304020305000440"},
}

var _ = [...]int{sha1.Size, sha256.Size, sha512.Size}

// newRSA makes an RSA key of any size and exponent: crypto/rsa makes none that
// is weak, and zones have them.
func newRSA(algorithm uint8, bits int, e int64) (public []byte, sign func([]byte) []byte) {
	one, exponent := big.NewInt(1), big.NewInt(e)
	n, d := new(big.Int), (*big.Int)(nil)
	for d == nil || n.BitLen() != bits {
		p, err := rand.Prime(rand.Reader, bits/2)
		must(err)
		q, err := rand.Prime(rand.Reader, bits/2)
		must(err)
		n.Mul(p, q)
		d = new(big.Int).ModInverse(exponent, new(big.Int).Mul(p.Sub(p, one), q.Sub(q, one)))
	}
	octets := exponent.Bytes()
	public = append(append([]byte{byte(len(octets))}, octets...), n.Bytes()...)
	h := rsaHashes[algorithm]
	prefix, err := hex.DecodeString(h.prefix)
	must(err)
	return public, func(data []byte) []byte {
		info := append(slices.Clone(prefix), digest(h.Hash, data)...)
		block := slices.Repeat([]byte{0xFF}, bits/8)
		block[0], block[1], block[len(block)-len(info)-1] = 0, 1, 0
		copy(block[len(block)-len(info):], info)
		return new(big.Int).Exp(new(big.Int).SetBytes(block), d, n).FillBytes(make([]byte, bits/8))
	}
}

// rawSigner has the library give what is to be signed as it is: that is what it
// does for Ed25519. Only the octet that names the algorithm is then another.
type rawSigner struct{ *zoneKey }

func (s rawSigner) Public() crypto.PublicKey { return nil }

// Sign implements [crypto.Signer].
func (s rawSigner) Sign(_ io.Reader, data []byte, _ crypto.SignerOpts) ([]byte, error) {
	data = slices.Clone(data)
	data[2] = s.Algorithm // RFC 4034 §3.1.8.1: type covered, algorithm, …
	return s.private(data), nil
}

// sign returns k's signature of a set. change may alter its fields before it is
// made.
func (k *zoneKey) sign(set []dns.RR, change func(*dns.RRSIG)) *dns.RRSIG {
	now := time.Now()
	sig := &dns.RRSIG{
		Hdr: dns.RR_Header{Ttl: set[0].Header().Ttl}, Algorithm: dns.ED25519, KeyTag: k.KeyTag(), SignerName: k.Hdr.Name,
		Inception: uint32(now.Add(-24 * time.Hour).Unix()), Expiration: uint32(now.Add(7 * 24 * time.Hour).Unix()),
	}
	if change != nil {
		change(sig)
	}
	must(sig.Sign(rawSigner{k}, set))
	sig.Algorithm = k.Algorithm
	return sig
}

// labTTL is the TTL of all records of the laboratory.
const labTTL = 3600

// labZone is a zone that is signed, and damaged, here.
type labZone struct {
	name  string
	keys  []*zoneKey
	hash  *dns.NSEC3PARAM // nil: NSEC
	stamp func(set []dns.RR, sig *dns.RRSIG)
	rrs   []dns.RR // signatures too, once it is signed
}

// abs returns the name that a relative one stands for.
func (z *labZone) abs(owner string) string {
	if owner == "@" {
		return z.name
	}
	if z.name == "." {
		return owner + "."
	}
	return owner + "." + z.name
}

// add adds records in the form of a zone file.
func (z *labZone) add(text string) {
	p := dns.NewZoneParser(strings.NewReader(text), z.name, "")
	p.SetDefaultTTL(labTTL)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		z.rrs = append(z.rrs, rr)
	}
	must(p.Err())
}

// sets returns the sets that z is to sign, in canonical order: not those below
// a cut, nor the NS set at one (RFC 4035 §2.2).
func (z *labZone) sets() [][]dns.RR {
	byKey := make(map[string][]dns.RR)
	for _, rr := range z.rrs {
		h := rr.Header()
		if cut := z.cutAbove(h.Name); h.Rrtype == dns.TypeRRSIG || cut != "" && (!sameName(cut, h.Name) || h.Rrtype != dns.TypeDS && h.Rrtype != dns.TypeNSEC) {
			continue
		}
		key := fmt.Sprintf("%s\x00\x00%05d", order(h.Name), h.Rrtype)
		byKey[key] = append(byKey[key], rr)
	}
	return sortedValues(byKey)
}

func sortedValues[V any](m map[string]V) []V {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	out := make([]V, 0, len(m))
	for _, k := range keys {
		out = append(out, m[k])
	}
	return out
}

// order returns what names sort by as RFC 4034 §6.1 has them sorted: here there
// are no labels with octets that are less than those of a name.
func order(name string) string {
	labels := dns.SplitDomainName(strings.ToLower(name))
	slices.Reverse(labels)
	return strings.Join(labels, "\x00")
}

func sameName(a, b string) bool { return strings.EqualFold(a, b) }

// cutAbove returns the delegation that a name is at or below, or "".
func (z *labZone) cutAbove(name string) string {
	for _, rr := range z.rrs {
		if h := rr.Header(); h.Rrtype == dns.TypeNS && !sameName(h.Name, z.name) && dns.IsSubDomain(h.Name, name) {
			return dns.CanonicalName(h.Name)
		}
	}
	return ""
}

// sign adds keys, denials and signatures to z.
func (z *labZone) sign() {
	for _, k := range z.keys {
		if !k.hidden {
			z.rrs = append(z.rrs, k.DNSKEY)
		}
	}
	if z.hash != nil {
		z.rrs = append(z.rrs, z.hash)
		z.chain3()
	} else {
		z.chain()
	}
	for _, set := range z.sets() {
		z.signSet(set)
	}
}

// signSet adds the signatures of a set by all keys that are to sign it.
func (z *labZone) signSet(set []dns.RR) {
	for _, k := range z.keys {
		if isKeys := set[0].Header().Rrtype == dns.TypeDNSKEY; isKeys && !k.keys || !isKeys && !k.data {
			continue
		}
		z.rrs = append(z.rrs, k.sign(set, func(sig *dns.RRSIG) {
			if z.stamp != nil {
				z.stamp(set, sig)
			}
		}))
	}
}

// owners returns the names that z says something about, in canonical order, and
// the types there.
func (z *labZone) owners() (names []string, types map[string][]uint16) {
	types = make(map[string][]uint16)
	for _, rr := range z.rrs {
		h := rr.Header()
		name := dns.CanonicalName(h.Name)
		if cut := z.cutAbove(name); cut != "" && (cut != name || h.Rrtype != dns.TypeNS && h.Rrtype != dns.TypeDS) {
			continue
		}
		if !slices.Contains(types[name], h.Rrtype) {
			types[name] = append(types[name], h.Rrtype)
		}
	}
	for name := range types {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(order(a), order(b)) })
	return names, types
}

// chain adds NSEC records.
func (z *labZone) chain() {
	names, types := z.owners()
	for i, name := range names {
		bits := append(types[name], dns.TypeNSEC, dns.TypeRRSIG)
		slices.Sort(bits)
		z.rrs = append(z.rrs, &dns.NSEC{
			Hdr:        dns.RR_Header{Name: name, Rrtype: dns.TypeNSEC, Class: dns.ClassINET, Ttl: labTTL},
			NextDomain: names[(i+1)%len(names)], TypeBitMap: bits,
		})
	}
}

// optOut is the flag of NSEC3 records (RFC 5155 §3.1.2.1), and of the NSEC3PARAM
// record that says here how they are to be; it is 0 in one that is served.
const optOut = 1

// chain3 adds NSEC3 records.
func (z *labZone) chain3() {
	flags := z.hash.Flags
	z.hash.Flags = 0 // RFC 5155 §4.1.2
	names, types := z.owners()
	hashes := make(map[string]string)
	for _, name := range names {
		if flags&optOut != 0 && !sameName(name, z.name) && slices.Contains(types[name], dns.TypeNS) && !slices.Contains(types[name], dns.TypeDS) {
			continue
		}
		for n := name; len(n) >= len(z.name); n = n[strings.IndexByte(n, '.')+1:] { // empty non-terminals too
			hashes[dns.HashName(n, dns.SHA1, z.hash.Iterations, z.hash.Salt)] = n
			if n == z.name {
				break
			}
		}
	}
	var sorted []string
	for h := range hashes {
		sorted = append(sorted, h)
	}
	slices.Sort(sorted)
	for i, h := range sorted {
		bits := slices.Clone(types[hashes[h]])
		if slices.Contains(bits, dns.TypeDS) || len(bits) > 0 && !slices.Contains(bits, dns.TypeNS) || hashes[h] == z.name {
			bits = append(bits, dns.TypeRRSIG)
		}
		slices.Sort(bits)
		z.rrs = append(z.rrs, &dns.NSEC3{
			Hdr:  dns.RR_Header{Name: strings.ToLower(h) + "." + z.name, Rrtype: dns.TypeNSEC3, Class: dns.ClassINET, Ttl: labTTL},
			Hash: z.hash.Hash, Flags: flags, Iterations: z.hash.Iterations, SaltLength: z.hash.SaltLength, Salt: z.hash.Salt,
			HashLength: 20, NextDomain: sorted[(i+1)%len(sorted)], TypeBitMap: bits,
		})
	}
}

// drop removes records.
func (z *labZone) drop(which func(dns.RR) bool) { z.rrs = slices.DeleteFunc(z.rrs, which) }

// signs reports whether rr is a signature of a type; 0: of any.
func signs(rr dns.RR, typ uint16) bool {
	sig, ok := rr.(*dns.RRSIG)
	return ok && (typ == 0 || sig.TypeCovered == typ)
}

// resign makes the signatures of the sets of a type anew, after they were
// changed. Other sets keep theirs.
func (z *labZone) resign(typ uint16) {
	z.drop(func(rr dns.RR) bool { return signs(rr, typ) })
	for _, set := range z.sets() {
		if set[0].Header().Rrtype == typ {
			z.signSet(set)
		}
	}
}

// each calls change with every record of a kind.
func each[T dns.RR](z *labZone, change func(T)) {
	for _, rr := range z.rrs {
		if rr, ok := rr.(T); ok {
			change(rr)
		}
	}
}

// text returns z as a zone file.
func (z *labZone) text() string {
	var b strings.Builder
	for _, rr := range z.rrs { // the SOA record was added first
		fmt.Fprintln(&b, rr)
	}
	return b.String()
}

// entry returns the DS records for the keys of z that a parent has normally.
func (z *labZone) entry(digests ...uint8) (out []*dns.DS) {
	for _, k := range z.keys {
		for _, d := range digests {
			if k.keys && !k.hidden {
				out = append(out, k.ToDS(d))
			}
		}
	}
	return out
}
