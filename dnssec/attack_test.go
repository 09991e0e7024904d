package dnssec

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// collidingKey returns the nth key of zone that has the wanted tag: RSA of 4096
// bits with an exponent of 64, the most that is verified with.
func collidingKey(zone string, n int, tag uint16) *dns.DNSKEY {
	k := &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: zone, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600},
		Flags: 256, Protocol: 3, Algorithm: dns.RSASHA256,
	}
	octets := []byte("\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF" + strings.Repeat("\xAB", 512))
	binary.BigEndian.PutUint32(octets[100:], uint32(n))
	z := zoneKey{rr: k, octets: octets}
	// An octet at an even offset weighs 256. The tag is a sum modulo 2¹⁶−1, or
	// nearly, so what is missing to it can be put into two octets.
	var at [2]byte
	for guess := range 3 {
		binary.BigEndian.PutUint16(octets[200:], 0)
		missing := int(tag) - int(z.computeTag()) + guess - 1
		binary.BigEndian.PutUint16(at[:], uint16((missing+2*0xFFFF)%0xFFFF))
		copy(octets[200:], at[:])
		if z.computeTag() == tag {
			break
		}
	}
	k.PublicKey = base64.StdEncoding.EncodeToString(octets)
	return k
}

// keyTrap returns keys of one tag, and a set with as many signatures as if by
// them (CVE-2023-50387).
func keyTrap(t testing.TB, n int) (*rrset.Set, []*dns.DNSKEY) {
	t.Helper()
	s := setOf(t, exampleA...)
	var keys []*dns.DNSKEY
	for i := range n {
		k := collidingKey("example.", i, 0x1234)
		if k.KeyTag() != 0x1234 {
			t.Fatalf("key %d has the tag %#x", i, k.KeyTag())
		}
		keys = append(keys, k)
		sig := zoneSigner{DNSKEY: k}.template(&s)
		octets := make([]byte, 512)
		octets[10] = byte(i + 1)
		sig.Signature = base64.StdEncoding.EncodeToString(octets)
		s.Sigs = append(s.Sigs, sig)
	}
	return &s, keys
}

// attackTime is what one set may take on a slow and busy machine with the race
// detector. Without limits, the sets below take a hundred times as long.
const attackTime = 2 * time.Second

func TestKeyTrapCostsEightVerifications(t *testing.T) {
	s, keys := keyTrap(t, 100)
	b := &Budget{Verifications: 1 << 20}
	start := time.Now()
	p, err := VerifySet(s, exampleZone, keys, testNow, b)
	refused(t, p, err, ede.Bogus, "does not verify")
	if spent := 1<<20 - b.Verifications; spent != MaxSignatures*MaxKeysPerTag {
		t.Errorf("%d verifications, expected %d", spent, MaxSignatures*MaxKeysPerTag)
	}
	if took := time.Since(start); took > attackTime {
		t.Errorf("took %v, expected at most %v", took, attackTime)
	}
}

func TestKeyTrapInTheDNSKEYSetCostsEightVerifications(t *testing.T) {
	s, keys := keyTrap(t, 100)
	set := rrset.Set{Name: exampleZone, Type: wire.TypeDNSKEY}
	var ds []*dns.DS
	for i, k := range keys {
		set.RRs = append(set.RRs, k)
		ds = append(ds, k.ToDS(dns.SHA256))
		sig := *s.Sigs[i]
		sig.Hdr.Name, sig.TypeCovered, sig.Labels = "example.", dns.TypeDNSKEY, 1
		set.Sigs = append(set.Sigs, &sig)
	}
	b := &Budget{Verifications: 1 << 20}
	start := time.Now()
	_, p, err := VerifyKeys(exampleZone, ds, set, testNow, b)
	refused(t, p, err, ede.Bogus, "does not verify")
	if spent := 1<<20 - b.Verifications; spent != MaxSignatures*MaxKeysPerTag {
		t.Errorf("%d verifications, expected %d", spent, MaxSignatures*MaxKeysPerTag)
	}
	if took := time.Since(start); took > attackTime {
		t.Errorf("took %v, expected at most %v", took, attackTime)
	}
}

func TestKeysThatFailCountAsTried(t *testing.T) {
	// CVE-2025-8677: keys that match, but are no points of their curve, cost
	// time without being verified with.
	s := setOf(t, exampleA...)
	var keys []*dns.DNSKEY
	for i := range 100 {
		octets := make([]byte, 64)
		octets[2*i%60], octets[63] = 1, 1 // one sum for all
		k := &dns.DNSKEY{Flags: 256, Protocol: 3, Algorithm: dns.ECDSAP256SHA256, PublicKey: base64.StdEncoding.EncodeToString(octets)}
		keys = append(keys, k)
		sig := zoneSigner{DNSKEY: k}.template(&s)
		sig.SignerName = "example."
		sig.Inception += uint32(i)
		sig.Signature = base64.StdEncoding.EncodeToString(make([]byte, 64))
		s.Sigs = append(s.Sigs, sig)
	}
	b := &Budget{Verifications: 1 << 20}
	p, err := VerifySet(&s, exampleZone, keys, testNow, b)
	refused(t, p, err, ede.Bogus, "not on the curve")
	if spent := 1<<20 - b.Verifications; spent != MaxSignatures*MaxKeysPerTag {
		t.Errorf("%d keys tried, expected %d", spent, MaxSignatures*MaxKeysPerTag)
	}
}

func TestManyDSCostEightTimesTwoDigests(t *testing.T) {
	// 100 DS records that each match 100 keys by tag: without a limit, 10,000
	// digests of half a kilobyte.
	_, keys := keyTrap(t, 100)
	var ds []*dns.DS
	for i := range 100 {
		ds = append(ds, &dns.DS{KeyTag: 0x1234, Algorithm: dns.RSASHA256, DigestType: dns.SHA256, Digest: strings.Repeat("00", i)})
	}
	good := keys[50].ToDS(dns.SHA256) // the 51st key of its tag is not looked at
	if entries, err := entryKeys(exampleZone, []*dns.DS{good}, readKeys(keys)); err == nil {
		t.Errorf("%d keys found, expected none", len(entries))
	}
	good = keys[0].ToDS(dns.SHA256) // nor is the 101st DS
	if entries, err := entryKeys(exampleZone, append(ds, good), readKeys(keys)); err == nil {
		t.Errorf("%d keys found, expected none", len(entries))
	}
	if entries, err := entryKeys(exampleZone, append(ds[:MaxDS-1:MaxDS-1], good), readKeys(keys)); err != nil || len(entries) != 1 {
		t.Errorf("%d keys, %v; expected one", len(entries), err)
	}
}

func TestSecondKeyOfATagVerifies(t *testing.T) {
	k := newSigner("example.", dns.RSASHA256, 256)
	other := collidingKey("example.", 1, k.KeyTag())
	tr := newTrial(t, k, nil, exampleA...)
	for _, keys := range [][]*dns.DNSKEY{
		{k.DNSKEY, other},
		{other, k.DNSKEY},
		{other, other, other, k.DNSKEY}, // copies of one
	} {
		tr.keys = keys
		if p, err := tr.verify(); err != nil || p.Trust != rrset.Secure {
			t.Errorf("%d keys: %v, %v; expected it secure", len(keys), p, err)
		}
	}
	tr.keys = []*dns.DNSKEY{other, collidingKey("example.", 2, k.KeyTag()), k.DNSKEY}
	p, err := tr.verify()
	refused(t, p, err, ede.Bogus, "does not verify")
}

func TestManySignaturesWithoutAChanceTakeLittleTime(t *testing.T) {
	k := newSigner("example.", dns.ECDSAP256SHA256, 256)
	tr := newTrial(t, k, nil, exampleA...)
	sig := *tr.set.Sigs[0]
	sig.Expiration = serial(testNow.Add(-48 * time.Hour))
	tr.set.Sigs = nil
	for range 2000 { // more than fit into a message
		tr.set.Sigs = append(tr.set.Sigs, &sig)
	}
	start := time.Now()
	b := NewBudget()
	p, err := VerifySet(&tr.set, tr.zone, tr.keys, tr.now, b)
	refused(t, p, err, ede.SignatureExpired, "expired")
	if took := time.Since(start); took > attackTime || b.Verifications != DefaultVerifications {
		t.Errorf("%v and %d verifications left", took, b.Verifications)
	}
}

// oddSigner makes an RSA key that crypto/rsa does not take, and signs with it.
func oddSigner(t *testing.T, bits int, e *big.Int) (key []byte, sign func(hash []byte) []byte) {
	t.Helper()
	one := big.NewInt(1)
	for {
		p, err := rand.Prime(rand.Reader, bits/2)
		if err != nil {
			t.Fatal(err)
		}
		q, err := rand.Prime(rand.Reader, bits-bits/2)
		if err != nil {
			t.Fatal(err)
		}
		n := new(big.Int).Mul(p, q)
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		d := new(big.Int).ModInverse(e, phi)
		if d == nil || n.BitLen() != bits {
			continue
		}
		key = append(append([]byte{byte(len(e.Bytes()))}, e.Bytes()...), n.Bytes()...)
		return key, func(block []byte) []byte {
			return new(big.Int).Exp(new(big.Int).SetBytes(block), d, n).FillBytes(make([]byte, bits/8))
		}
	}
}

func TestOddRSAKeysVerify(t *testing.T) {
	data := []byte("data")
	hash := sha256.Sum256(data)
	info, err := hex.DecodeString("3031300d060960864801650304020105000420") // RFC 8017 §9.2
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		bits int
		e    *big.Int
	}{
		{"exponent of 33 bits", 1024, big.NewInt(1<<32 + 1)},
		{"exponent of 64 bits", 2048, new(big.Int).SetUint64(1<<64 - 59)},
		{"modulus of 512 bits", 512, big.NewInt(65537)},
		{"modulus of 768 bits", 768, big.NewInt(3)},
		{"modulus of 1024 bits", 1024, big.NewInt(3)}, // by crypto/rsa
	} {
		key, sign := oddSigner(t, tt.bits, tt.e)
		block := func(head, pad string) []byte {
			tail := string(info) + string(hash[:])
			b := head + strings.Repeat(pad, tt.bits/8-len(head)-len(tail)-1) + "\x00" + tail
			return []byte(b)
		}
		good := sign(block("\x00\x01", "\xFF"))
		if err := checkKey(dns.RSASHA256, key); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if err := verify(dns.RSASHA256, key, data, good); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		n := new(big.Int).SetBytes(key[1+len(tt.e.Bytes()):])
		forged := append([]byte("\x00\x01\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x00"), append(info, hash[:]...)...)
		for name, sig := range map[string][]byte{
			"of other data":             sign(append(block("\x00\x01", "\xFF")[:tt.bits/8-1], 0xEE)),
			"block type 2":              sign(block("\x00\x02", "\xFF")),
			"padding of zeroes":         sign(block("\x00\x01", "\x00")),
			"padding with a flaw":       sign(block("\x00\x01\xFE", "\xFF")),
			"garbage behind the hash":   sign(append(forged, make([]byte, tt.bits/8-len(forged))...)), // CVE-2006-4339
			"plus the modulus":          new(big.Int).Add(new(big.Int).SetBytes(good), n).Bytes(),
			"zero":                      make([]byte, tt.bits/8),
			"one":                       append(make([]byte, tt.bits/8-1), 1),
			"with an octet in front":    append([]byte{0}, good...),
			"without its first octet":   good[1:],
			"of nothing":                nil,
			"the modulus":               n.Bytes(),
			"the modulus less one":      new(big.Int).Sub(n, big.NewInt(1)).Bytes(),
			"the block itself unsigned": block("\x00\x01", "\xFF"),
		} {
			if err := verify(dns.RSASHA256, key, data, sig); err == nil {
				t.Errorf("%s: a signature %s is accepted", tt.name, name)
			}
		}
		if err := verify(dns.RSASHA256, key, []byte("Data"), good); err == nil {
			t.Errorf("%s: other data is accepted", tt.name)
		}
	}
}

func TestBothRSAVerifiersAgree(t *testing.T) {
	k := newSigner("example.", dns.RSASHA256, 256)
	z := readKeys([]*dns.DNSKEY{k.DNSKEY})[0]
	_, modulus, err := splitRSA(dns.RSASHA256, z.octets)
	if err != nil {
		t.Fatal(err)
	}
	n := new(big.Int).SetBytes(modulus)
	for a, h := range map[uint8]crypto.Hash{dns.RSASHA1: crypto.SHA1, dns.RSASHA256: crypto.SHA256, dns.RSASHA512: crypto.SHA512} {
		k.Algorithm = a
		sig := k.signData(t, []byte("data"))
		hash := h.New()
		hash.Write([]byte("data"))
		if err := verifyOddRSA(n, 65537, h, hash.Sum(nil), sig); err != nil {
			t.Errorf("%v: %v", h, err)
		}
		if err := verifyRSA(a, z.octets, h, hash.Sum(nil), sig); err != nil {
			t.Errorf("%v by crypto/rsa: %v", h, err)
		}
	}
}
