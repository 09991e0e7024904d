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

// trial is a set, signed well, that a test damages.
type trial struct {
	set  rrset.Set
	zone wire.Name
	keys []*dns.DNSKEY
	now  time.Time
}

func (tr *trial) verify() (Proof, error) {
	return VerifySet(&tr.set, tr.zone, tr.keys, tr.now, NewBudget())
}

// newTrial returns a trial with the records of text, signed by k, after fill
// has changed what the signature is to say: it is cryptographically good.
func newTrial(t *testing.T, k zoneSigner, fill func(*dns.RRSIG), text ...string) *trial {
	t.Helper()
	tr := &trial{set: setOf(t, text...), zone: exampleZone, keys: []*dns.DNSKEY{k.DNSKEY}, now: testNow}
	sig := k.template(&tr.set)
	if fill != nil {
		fill(sig)
	}
	tr.set.Sigs = []*dns.RRSIG{k.sign(t, &tr.set, sig)}
	return tr
}

func TestVerifySetRefusesWhatAGoodSignatureMayNotSay(t *testing.T) {
	at := func(d time.Duration) uint32 { return serial(testNow.Add(d)) }
	const day = 24 * time.Hour
	for _, tt := range []struct {
		name string
		fill func(*dns.RRSIG)
		code ede.Code
		text string
	}{
		{"expired", func(r *dns.RRSIG) { r.Expiration = at(-2 * day) }, ede.SignatureExpired, "expired 2026-02-27T12:00:00Z"},
		{"expired in 1970", func(r *dns.RRSIG) { r.Expiration, r.Inception = 1000, 0 }, ede.SignatureExpired, "expired 1970-01-01T00:16:40Z"},
		{"not yet valid", func(r *dns.RRSIG) { r.Inception = at(2 * day) }, ede.SignatureNotYetValid, "not valid before 2026-03-03T12:00:00Z"},
		{"expires before its inception", func(r *dns.RRSIG) { r.Inception, r.Expiration = at(day), at(-day) }, ede.SignatureExpiredBeforeValid, "expires before"},
		{"valid for more than 68 years", func(r *dns.RRSIG) { r.Expiration = r.Inception + 1<<31 }, ede.SignatureExpiredBeforeValid, "expires before"},
		{"signed by another zone", func(r *dns.RRSIG) { r.SignerName = "test." }, ede.Bogus, "signer is not example."},
		{"signed by the parent", func(r *dns.RRSIG) { r.SignerName = "." }, ede.Bogus, "signer is not example."},
		{"signed by a child", func(r *dns.RRSIG) { r.SignerName = "www.example." }, ede.Bogus, "signer is not example."},
		{"covers another type", func(r *dns.RRSIG) { r.TypeCovered = dns.TypeAAAA }, ede.RRSIGsMissing, "no RRSIG"},
		{"of another class", func(r *dns.RRSIG) { r.Hdr.Class = dns.ClassCHAOS }, ede.RRSIGsMissing, "no RRSIG"},
		{"of another owner", func(r *dns.RRSIG) { r.Hdr.Name = "ftp.example." }, ede.RRSIGsMissing, "no RRSIG"},
		{"more labels than the owner", func(r *dns.RRSIG) { r.Labels = 3 }, ede.Bogus, "more labels"},
		{"labels of all", func(r *dns.RRSIG) { r.Labels = 255 }, ede.Bogus, "more labels"},
		{"fewer labels than the signer (CVE-2026-44690)", func(r *dns.RRSIG) { r.Labels = 0 }, ede.Bogus, "fewer labels"},
		{"another key's tag", func(r *dns.RRSIG) { r.KeyTag++ }, ede.DNSKEYMissing, "no key"},
		{"another supported algorithm than its key", func(r *dns.RRSIG) { r.Algorithm = dns.ED25519 }, ede.DNSKEYMissing, "no key"},
		{"DSA", func(r *dns.RRSIG) { r.Algorithm = dns.DSA }, ede.UnsupportedDNSKEYAlgorithm, "algorithm 3: unsupported"},
		{"a private algorithm", func(r *dns.RRSIG) { r.Algorithm = dns.PRIVATEDNS }, ede.UnsupportedDNSKEYAlgorithm, "algorithm 253: unsupported"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := newSigner("example.", dns.ECDSAP256SHA256, 256)
			p, err := newTrial(t, k, tt.fill, exampleA...).verify()
			refused(t, p, err, tt.code, tt.text)
		})
	}
}

func TestVerifySetRefusesWhatWasChangedAfterSigning(t *testing.T) {
	sig := func(tr *trial) *dns.RRSIG { return tr.set.Sigs[0] }
	for _, tt := range []struct {
		name   string
		damage func(*trial)
		code   ede.Code
		text   string
	}{
		{"a bit of a record", func(tr *trial) { tr.set.RRs[0].(*dns.A).A[3] ^= 1 }, ede.Bogus, "does not verify"},
		{"a record more", func(tr *trial) { tr.set.RRs = append(tr.set.RRs, setOf(t, "www.example. A 192.0.2.9").RRs...) }, ede.Bogus, "does not verify"},
		{"a record less", func(tr *trial) { tr.set.RRs = tr.set.RRs[1:] }, ede.Bogus, "does not verify"},
		{"no record", func(tr *trial) { tr.set.RRs = nil }, ede.Bogus, "no records"},
		{"a record of another name", func(tr *trial) { tr.set.RRs[1].Header().Name = "ftp.example." }, ede.Bogus, "not an RRset"},
		{"a record of another class", func(tr *trial) { tr.set.RRs[1].Header().Class = dns.ClassCHAOS }, ede.Bogus, "not an RRset"},
		{"a record of another type", func(tr *trial) { tr.set.RRs[1] = setOf(t, "www.example. TXT a").RRs[0] }, ede.Bogus, "not an RRset"},
		{"a record that is none", func(tr *trial) { tr.set.RRs[1] = nil }, ede.Bogus, "not an RRset"},
		{"all of another name", func(tr *trial) { tr.set = renamed(tr.set, "ftp.example.") }, ede.RRSIGsMissing, "no RRSIG"},
		{"all of another name, the signature too", func(tr *trial) {
			tr.set = renamed(tr.set, "ftp.example.")
			sig(tr).Hdr.Name = "ftp.example."
		}, ede.Bogus, "does not verify"},
		{"the original TTL", func(tr *trial) { sig(tr).OrigTtl++ }, ede.Bogus, "does not verify"},
		{"the expiration", func(tr *trial) { sig(tr).Expiration++ }, ede.Bogus, "does not verify"},
		{"the inception", func(tr *trial) { sig(tr).Inception-- }, ede.Bogus, "does not verify"},
		{"the labels, as if of a wildcard", func(tr *trial) { sig(tr).Labels = 1 }, ede.Bogus, "does not verify"},
		{"the signature, to what is no base64", func(tr *trial) { sig(tr).Signature = "!" }, ede.Bogus, "malformed signature"},
		{"no signature", func(tr *trial) { tr.set.Sigs = nil }, ede.RRSIGsMissing, "no RRSIG"},
		{"no key", func(tr *trial) { tr.keys = nil }, ede.DNSKEYMissing, "no key"},
		{"another zone", func(tr *trial) { tr.zone = wire.MustParseName("test.") }, ede.Bogus, "not in the zone test."},
		{"a zone of no name", func(tr *trial) { tr.zone = "" }, ede.Bogus, "not in the zone"},
		{"the zone's parent", func(tr *trial) { tr.zone = wire.Root }, ede.Bogus, "signer is not ."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := newSigner("example.", dns.ECDSAP256SHA256, 256)
			tr := newTrial(t, k, nil, exampleA...)
			if _, err := tr.verify(); err != nil {
				t.Fatalf("before: %v", err)
			}
			tt.damage(tr)
			p, err := tr.verify()
			refused(t, p, err, tt.code, tt.text)
		})
	}
}

// renamed returns s under another name.
func renamed(s rrset.Set, name string) rrset.Set {
	s.Name = wire.MustParseName(name)
	for _, rr := range s.RRs {
		rr.Header().Name = name
	}
	return s
}

func TestVerifySetRefusesKeysThatMayNotSign(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(*dns.DNSKEY)
		code   ede.Code
		text   string
	}{
		{"no zone key", func(k *dns.DNSKEY) { k.Flags = 0 }, ede.NoZoneKeyBitSet, "not a zone key"},
		{"an entry point but no zone key", func(k *dns.DNSKEY) { k.Flags = 1 }, ede.NoZoneKeyBitSet, "not a zone key"},
		{"revoked", func(k *dns.DNSKEY) { k.Flags |= dns.REVOKE }, ede.DNSKEYMissing, "revoked"},
		{"protocol 2", func(k *dns.DNSKEY) { k.Protocol = 2 }, ede.Bogus, "protocol 2"},
		{"protocol 255", func(k *dns.DNSKEY) { k.Protocol = 255 }, ede.Bogus, "protocol 255"},
		{"no octets", func(k *dns.DNSKEY) { k.PublicKey = "" }, ede.Bogus, "malformed key"},
		{"no base64", func(k *dns.DNSKEY) { k.PublicKey = "!" + k.PublicKey }, ede.Bogus, "malformed key"},
		{"an octet more", func(k *dns.DNSKEY) { k.PublicKey = base64.StdEncoding.EncodeToString(make([]byte, 65)) }, ede.Bogus, "65 octets"},
		{"no point of the curve", func(k *dns.DNSKEY) { k.PublicKey = base64.StdEncoding.EncodeToString(make([]byte, 64)) }, ede.Bogus, "not on the curve"},
		{"another key of its tag", func(k *dns.DNSKEY) {
			for tag := k.KeyTag(); ; {
				*k = *signerOf("example.", k.Algorithm, 256, newPrivate(k.Algorithm)).DNSKEY
				for ; k.Flags < 256+128; k.Flags += 2 { // bits that mean nothing (RFC 4034 §2.1.1)
					if k.KeyTag() == tag {
						return
					}
				}
			}
		}, ede.Bogus, "does not verify"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := newSigner("example.", dns.ECDSAP256SHA256, 256)
			tt.damage(k.DNSKEY)
			z := readKeys([]*dns.DNSKEY{k.DNSKEY})[0]
			p, err := newTrial(t, k, func(r *dns.RRSIG) { r.KeyTag = z.tag }, exampleA...).verify()
			refused(t, p, err, tt.code, tt.text)
		})
	}
}

func TestVerifySetTakesWhatMeansTheSame(t *testing.T) {
	for _, tt := range []struct {
		name    string
		records []string
		change  func(*trial)
	}{
		{"records in another order", exampleA, func(tr *trial) { tr.set.RRs[0], tr.set.RRs[2] = tr.set.RRs[2], tr.set.RRs[0] }},
		{"a record twice", exampleA, func(tr *trial) { tr.set.RRs = append(tr.set.RRs, tr.set.RRs[1], tr.set.RRs[0]) }},
		{"another TTL", exampleA, func(tr *trial) { tr.set.RRs[0].Header().Ttl = 7 }},
		{"a higher TTL", exampleA, func(tr *trial) { tr.set.RRs[0].Header().Ttl = 1 << 30 }},
		{"owners in upper case", exampleA, func(tr *trial) { tr.set.RRs[0].Header().Name = "WwW.eXample." }},
		{"the signature's owner and signer in upper case", exampleA, func(tr *trial) {
			tr.set.Sigs[0].Hdr.Name, tr.set.Sigs[0].SignerName = "WWW.example.", "EXAMPLE."
		}},
		{"a mail server in upper case", []string{"example. MX 10 mail.example."}, func(tr *trial) { tr.set.RRs[0].(*dns.MX).Mx = "MAIL.Example." }},
		{"a bad signature first", exampleA, func(tr *trial) {
			bad := *tr.set.Sigs[0]
			bad.OrigTtl++
			tr.set.Sigs = []*dns.RRSIG{&bad, tr.set.Sigs[0]}
		}},
		{"many signatures without a chance first", exampleA, func(tr *trial) {
			good := tr.set.Sigs[0]
			tr.set.Sigs = nil
			for i := range 100 {
				bad := *good
				switch i % 4 {
				case 0:
					bad.Algorithm = dns.DSA
				case 1:
					bad.KeyTag++
				case 2:
					bad.Expiration = serial(testNow.Add(-48 * time.Hour))
				case 3:
					bad.SignerName = "test."
				}
				tr.set.Sigs = append(tr.set.Sigs, &bad)
			}
			tr.set.Sigs = append(tr.set.Sigs, good)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := newTrial(t, newSigner("example.", dns.ECDSAP256SHA256, 256), nil, tt.records...)
			tt.change(tr)
			if p, err := tr.verify(); err != nil || p.Trust != rrset.Secure || p.Wildcard != "" {
				t.Errorf("%v, %v; expected it secure", p, err)
			}
		})
	}
}

func TestVerifySetNamesTheWildcard(t *testing.T) {
	k := newSigner("example.", dns.ECDSAP256SHA256, 256)
	for _, tt := range []struct {
		owner  string
		labels uint8
		want   string // "" for none
	}{
		{"www.example.", 2, ""},
		{"www.example.", 1, "*.example."},
		{"a.b.example.", 1, "*.example."},
		{"a.b.example.", 2, "*.b.example."},
		{"*.example.", 1, ""},             // the wildcard itself
		{"*.b.example.", 1, "*.example."}, // another made of one (RFC 4592 §2.2.1)
		{"example.", 1, ""},
		{strings.Repeat(strings.Repeat("a", 63)+".", 3) + strings.Repeat("b", 53) + ".example.", 1, "*.example."},
	} {
		s := setOf(t, tt.owner+" A 192.0.2.1")
		r := k.template(&s)
		r.Labels = tt.labels
		s.Sigs = []*dns.RRSIG{k.sign(t, &s, r)}
		p, err := VerifySet(&s, exampleZone, []*dns.DNSKEY{k.DNSKEY}, testNow, NewBudget())
		if err != nil || p.Wildcard != "" && p.Wildcard.String() != tt.want || p.Wildcard == "" && tt.want != "" {
			t.Errorf("%s with %d labels: wildcard %q, %v; expected %q", tt.owner, tt.labels, p.Wildcard, err, tt.want)
		}
	}
	// RFC 4034 §3.1.3: the asterisk does not count.
	tr := newTrial(t, k, func(r *dns.RRSIG) { r.Labels = 2 }, "*.example. A 192.0.2.1")
	p, err := tr.verify()
	refused(t, p, err, ede.Bogus, "more labels")
	// The root zone's own wildcard.
	root := newSigner(".", dns.ECDSAP256SHA256, 256)
	tr = newTrial(t, root, func(r *dns.RRSIG) { r.Labels = 0 }, "test. A 192.0.2.1")
	tr.zone = wire.Root
	if p, err := tr.verify(); err != nil || p.Wildcard.String() != "*." {
		t.Errorf("wildcard %q, %v; expected *.", p.Wildcard, err)
	}
}

func TestVerifySetTakesADSSetFromTheParentOnly(t *testing.T) {
	ds := "example. DS 1 13 2 " + strings.Repeat("00", 32)
	child := newSigner("example.", dns.ECDSAP256SHA256, 257)
	p, err := newTrial(t, child, nil, ds).verify()
	refused(t, p, err, ede.Bogus, "expected its parent")
	parent := newSigner(".", dns.ECDSAP256SHA256, 257)
	tr := newTrial(t, parent, nil, ds)
	tr.zone = wire.Root
	if p, err := tr.verify(); err != nil || p.Trust != rrset.Secure {
		t.Errorf("%v, %v; expected it secure", p, err)
	}
}

func TestSignatureMayBeATenthOfItsLifeOutOfTime(t *testing.T) {
	const hour, day = time.Hour, 24 * time.Hour
	for _, tt := range []struct {
		from, to time.Duration // the signature's time, from now on
		want     ede.Code      // Other for none
	}{
		{-1 * day, 0, ede.Other},
		{-1 * day, -2 * hour, ede.Other}, // 22 h: 2.2 h
		{-1 * day, -3 * hour, ede.SignatureExpired},
		{2 * hour, 1 * day, ede.Other},
		{3 * hour, 1 * day, ede.SignatureNotYetValid},
		{-2 * hour, -1 * hour, ede.Other}, // one hour at least
		{-2 * hour, -1*hour - time.Second, ede.SignatureExpired},
		{1 * hour, 2 * hour, ede.Other},
		{1*hour + time.Second, 2 * hour, ede.SignatureNotYetValid},
		{-100 * day, -1 * day, ede.Other}, // one day at most
		{-100 * day, -1*day - time.Second, ede.SignatureExpired},
		{1 * day, 100 * day, ede.Other},
		{1*day + time.Second, 100 * day, ede.SignatureNotYetValid},
		{0, 0, ede.Other},
		{0, -time.Second, ede.SignatureExpiredBeforeValid},
	} {
		// Seconds wrap in 2106, and signatures across that are good (RFC 1982).
		for _, now := range []time.Time{testNow, time.Unix(1<<32-10, 0), time.Unix(1<<32+10, 0)} {
			v := verifier{now: now}
			sig := &dns.RRSIG{Inception: serial(now.Add(tt.from)), Expiration: serial(now.Add(tt.to))}
			if v.checkTime(sig) != (tt.want == ede.Other) || v.worst.code != tt.want {
				t.Errorf("from %v to %v at %v: EDE %d, expected %d", tt.from, tt.to, now.UTC(), v.worst.code, tt.want)
			}
		}
	}
}

func TestProofEndsWithWhatEndsFirst(t *testing.T) {
	for _, tt := range []struct {
		name      string
		orig, ttl uint32
		expires   time.Duration
		want      time.Duration
	}{
		{"the original TTL", 300, 3600, 7 * 24 * time.Hour, 300 * time.Second},
		{"the signature's TTL", 3600, 60, 7 * 24 * time.Hour, time.Minute},
		{"the signature", 3600, 3600, 10 * time.Second, 10 * time.Second},
		{"a TTL of zero", 0, 3600, time.Hour, 0},
		{"the skew, when the signature has ended", 86400, 86400, -time.Hour, 15*time.Hour + 42*time.Minute},
	} {
		k := newSigner("example.", dns.ECDSAP256SHA256, 256)
		tr := newTrial(t, k, func(r *dns.RRSIG) {
			r.OrigTtl, r.Hdr.Ttl, r.Expiration = tt.orig, tt.ttl, serial(testNow.Add(tt.expires))
		}, exampleA...)
		p, err := tr.verify()
		if err != nil || !p.Until.Equal(testNow.Add(tt.want)) {
			t.Errorf("%s: until %v later, %v; expected %v", tt.name, p.Until.Sub(testNow), err, tt.want)
		}
	}
}

func TestMostTellingFailureIsReported(t *testing.T) {
	k := newSigner("example.", dns.ECDSAP256SHA256, 256)
	expired := func(r *dns.RRSIG) { r.Expiration = serial(testNow.Add(-48 * time.Hour)) }
	future := func(r *dns.RRSIG) { r.Inception = serial(testNow.Add(48 * time.Hour)) }
	unknown := func(r *dns.RRSIG) { r.KeyTag ^= 1 }
	foreign := func(r *dns.RRSIG) { r.SignerName = "test." }
	unsupported := func(r *dns.RRSIG) { r.Algorithm = 12 }
	other := func(r *dns.RRSIG) { r.TypeCovered = dns.TypeTXT }
	for _, tt := range []struct {
		name string
		fill []func(*dns.RRSIG)
		want ede.Code
	}{
		{"expired, and by a key that is gone", []func(*dns.RRSIG){unknown, expired}, ede.SignatureExpired},
		{"expired and not yet valid", []func(*dns.RRSIG){expired, future}, ede.SignatureExpired},
		{"not yet valid and expired", []func(*dns.RRSIG){future, expired}, ede.SignatureNotYetValid},
		{"unsupported, and by a key that is gone", []func(*dns.RRSIG){unsupported, unknown}, ede.DNSKEYMissing},
		{"foreign and unsupported", []func(*dns.RRSIG){foreign, unsupported}, ede.UnsupportedDNSKEYAlgorithm},
		{"foreign, and of another type", []func(*dns.RRSIG){other, foreign, other}, ede.Bogus},
		{"of another type", []func(*dns.RRSIG){other, other}, ede.RRSIGsMissing},
	} {
		s := setOf(t, exampleA...)
		for _, fill := range tt.fill {
			r := k.template(&s)
			fill(r)
			s.Sigs = append(s.Sigs, k.sign(t, &s, r))
		}
		_, err := VerifySet(&s, exampleZone, []*dns.DNSKEY{k.DNSKEY}, testNow, NewBudget())
		if got := ede.Of(err).Code; got != tt.want {
			t.Errorf("%s: EDE %d (%v), expected %d", tt.name, got, err, tt.want)
		}
	}
}

func TestVerifySetEndsWithTheBudget(t *testing.T) {
	tr := newTrial(t, newSigner("example.", dns.ECDSAP256SHA256, 256), nil, exampleA...)
	b := &Budget{Verifications: 1}
	if _, err := VerifySet(&tr.set, tr.zone, tr.keys, tr.now, b); err != nil {
		t.Fatal(err)
	}
	p, err := VerifySet(&tr.set, tr.zone, tr.keys, tr.now, b)
	refused(t, p, err, ede.Bogus, "more signatures to verify")
	if !errors.Is(err, ErrBudget) {
		t.Errorf("%v is not ErrBudget", err)
	}
}

func TestVerifySetChangesNothingOfItsArguments(t *testing.T) {
	tr := newTrial(t, newSigner("example.", dns.ECDSAP256SHA256, 256), nil,
		"EXAMPLE. 5 MX 20 B.example.", "example. 7 MX 10 A.example.", "example. MX 20 b.example.")
	before := fmt.Sprint(tr.set, tr.keys)
	if _, err := tr.verify(); err != nil {
		t.Fatal(err)
	}
	if after := fmt.Sprint(tr.set, tr.keys); after != before {
		t.Errorf("before %s\nafter  %s", before, after)
	}
}
