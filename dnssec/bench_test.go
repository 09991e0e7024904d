package dnssec

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"errors"
	"fmt"
	"testing"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
)

// BenchmarkVerifySet is one set of three addresses by the second of two keys,
// as in most zones.
func BenchmarkVerifySet(b *testing.B) {
	for _, a := range algorithms {
		b.Run(dns.AlgorithmToString[a], func(b *testing.B) {
			s, keys := signedSet(b, a)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := VerifySet(s, exampleZone, keys, testNow, NewBudget()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func signedSet(t testing.TB, a uint8) (*rrset.Set, []*dns.DNSKEY) {
	k, other := newSigner("example.", a, 256), signerOf("example.", a, 257, newPrivate(a))
	s := setOf(t, exampleA...)
	s.Sigs = []*dns.RRSIG{k.sign(t, &s, k.template(&s))}
	return &s, []*dns.DNSKEY{other.DNSKEY, k.DNSKEY}
}

// BenchmarkWithoutCryptography is all of VerifySet but what Go's libraries do:
// to be compared with BenchmarkVerifySet.
func BenchmarkWithoutCryptography(b *testing.B) {
	for _, n := range []int{1, 3, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, keys := signedSet(b, dns.ECDSAP256SHA256)
			for i := len(s.RRs); i < n; i++ {
				s.RRs = append(s.RRs, setOf(b, fmt.Sprintf("www.example. A 198.51.100.%d", i)).RRs...)
			}
			s.RRs = s.RRs[:n]
			b.ReportAllocs()
			for b.Loop() {
				v := verifier{set: s, zone: exampleZone, keys: readKeys(keys), now: testNow, budget: NewBudget()}
				if _, ok := v.check(s.Sigs[0]); !ok {
					b.Fatal(v.failed())
				}
				form, err := canonicalise(s)
				if err != nil {
					b.Fatal(err)
				}
				form.appendSigned(nil, s.Sigs[0], exampleZone, s.Name)
			}
		})
	}
}

// BenchmarkLibrary is miekg/dns's verification of the same set as
// BenchmarkVerifySet's, without the checks that it leaves to its caller.
func BenchmarkLibrary(b *testing.B) {
	s, keys := signedSet(b, dns.ECDSAP256SHA256)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Sigs[0].Verify(keys[1], s.RRs); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkParseKey is what an already parsed key would save.
func BenchmarkParseKey(b *testing.B) {
	k := newSigner("example.", dns.ECDSAP256SHA256, 256)
	octets, err := base64.StdEncoding.DecodeString(k.PublicKey)
	if err != nil {
		b.Fatal(err)
	}
	point := append([]byte{4}, octets...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyKeys(b *testing.B) {
	d, _, _ := newDelegation(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := d.verify(); err != nil {
			b.Fatal(err)
		}
	}
}

// TestVerifySetAllocatesLittle holds the share that is ours: Go's verification
// with P-256 alone allocates 17 times.
func TestVerifySetAllocatesLittle(t *testing.T) {
	s, keys := signedSet(t, dns.ECDSAP256SHA256)
	const most = 30
	if n := testing.AllocsPerRun(20, func() {
		if _, err := VerifySet(s, exampleZone, keys, testNow, NewBudget()); err != nil {
			t.Fatal(err)
		}
	}); n > most {
		t.Errorf("%.0f allocations, expected at most %d", n, most)
	}
}

// FuzzVerify looks for keys and signatures that verification cannot bear.
func FuzzVerify(f *testing.F) {
	for _, a := range algorithms {
		k := newSigner("example.", a, 256)
		key, err := base64.StdEncoding.DecodeString(k.PublicKey)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(a, key, k.signData(f, []byte("data")))
	}
	f.Fuzz(func(t *testing.T, a uint8, key, sig []byte) {
		if !supportedAlgorithm(a) || checkKey(a, key) != nil {
			return
		}
		// It may well verify: keys of small order are good for any data.
		if err := verify(a, key, []byte("data"), sig); err != nil && !errors.Is(err, errKey) && !errors.Is(err, errSignature) {
			t.Errorf("algorithm %d: %v", a, err)
		}
	})
}
