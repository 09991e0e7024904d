package dnssec

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

var (
	exampleZone = wire.MustParseName("example.")
	exampleA    = []string{
		"www.example. 3600 IN A 192.0.2.1", "www.example. 3600 IN A 192.0.2.2", "www.example. 3600 IN A 192.0.2.10",
	}
)

// refused fails the test unless err is of code and its text has want.
func refused(t *testing.T, p Proof, err error, code ede.Code, want string) {
	t.Helper()
	if err == nil {
		t.Fatalf("accepted as %v, expected EDE %d %q", p, code, want)
	}
	e, ok := errors.AsType[*ede.Error](err)
	if !ok || e.Code != code || !strings.Contains(e.Text, want) {
		t.Fatalf("EDE %d %q, expected EDE %d with %q", ede.Of(err).Code, err, code, want)
	}
	if p != (Proof{}) {
		t.Errorf("a proof comes with the error: %v", p)
	}
}

func TestEachAlgorithmVerifiesFromTheDSToTheSet(t *testing.T) {
	for _, a := range algorithms {
		for _, digest := range []uint8{dns.SHA1, dns.SHA256, dns.SHA384} {
			t.Run(fmt.Sprintf("algorithm %d digest %d", a, digest), func(t *testing.T) {
				k := newSigner("example.", a, 257)
				b := NewBudget()
				keys, proof, err := VerifyKeys(exampleZone, []*dns.DS{k.ds(digest)}, keySet(t, k), testNow, b)
				if err != nil || proof.Trust != rrset.Secure || len(keys) != 1 {
					t.Fatalf("%d keys, %v, %v; expected one, secure", len(keys), proof, err)
				}
				s := setOf(t, exampleA...)
				s.Sigs = []*dns.RRSIG{k.sign(t, &s, k.template(&s))}
				proof, err = VerifySet(&s, exampleZone, keys, testNow, b)
				want := Proof{Trust: rrset.Secure, Until: testNow.Add(time.Hour)}
				if err != nil || proof != want {
					t.Fatalf("%v, %v; expected %v", proof, err, want)
				}
				if spent := DefaultVerifications - b.Verifications; spent != 2 {
					t.Errorf("%d verifications paid for, expected 2", spent)
				}
			})
		}
	}
}

func TestVerifySetRefusesWhatAnyAlgorithmDidNotSign(t *testing.T) {
	for _, a := range algorithms {
		t.Run(dns.AlgorithmToString[a], func(t *testing.T) {
			k := newSigner("example.", a, 257)
			s := setOf(t, exampleA...)
			good := k.sign(t, &s, k.template(&s)).Signature
			octets, err := base64.StdEncoding.DecodeString(good)
			if err != nil {
				t.Fatal(err)
			}
			damaged := map[string][]byte{
				"empty":      {},
				"one octet":  octets[:1],
				"truncated":  octets[:len(octets)-1],
				"too long":   append(octets[:len(octets):len(octets)], 0),
				"half":       octets[:len(octets)/2],
				"all zeroes": make([]byte, len(octets)), // CVE-2022-21449
				"all ones":   []byte(strings.Repeat("\xFF", len(octets))),
			}
			for _, bit := range []int{0, 7, 8*len(octets)/2 + 3, 8*len(octets) - 17, 8*len(octets) - 1} {
				flipped := []byte(string(octets))
				flipped[bit/8] ^= 1 << (bit % 8)
				damaged[fmt.Sprintf("bit %d", bit)] = flipped
			}
			for name, sig := range damaged {
				t.Run(name, func(t *testing.T) {
					s := s
					r := k.template(&s)
					r.Signature = base64.StdEncoding.EncodeToString(sig)
					s.Sigs = []*dns.RRSIG{r}
					p, err := VerifySet(&s, exampleZone, []*dns.DNSKEY{k.DNSKEY}, testNow, NewBudget())
					refused(t, p, err, ede.Bogus, "signature does not verify")
				})
			}
		})
	}
}
