package dnssec

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// delegation is what [VerifyKeys] is given.
type delegation struct {
	ds   []*dns.DS
	keys rrset.Set
}

func (d *delegation) verify() ([]*dns.DNSKEY, Proof, error) {
	return VerifyKeys(exampleZone, d.ds, d.keys, testNow, NewBudget())
}

// newDelegation returns a good one, of a key of its own for the DNSKEY set
// (ECDSA) and one for the rest of the zone (Ed25519).
func newDelegation(t testing.TB) (d *delegation, ksk, zsk zoneSigner) {
	ksk, zsk = newSigner("example.", dns.ECDSAP256SHA256, 257), newSigner("example.", dns.ED25519, 256)
	return &delegation{ds: []*dns.DS{ksk.ds(dns.SHA256)}, keys: keySet(t, ksk, zsk)}, ksk, zsk
}

func TestVerifyKeysRefusesBogusDelegations(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(d *delegation, ksk, zsk zoneSigner)
		code   ede.Code
		text   string
	}{
		{"a bit of the digest", func(d *delegation, _, _ zoneSigner) { d.ds[0].Digest = flipHex(d.ds[0].Digest) }, ede.DNSKEYMissing, "another digest"},
		{"a digest too short", func(d *delegation, _, _ zoneSigner) { d.ds[0].Digest = d.ds[0].Digest[:40] }, ede.DNSKEYMissing, "another digest"},
		{"a digest too long", func(d *delegation, _, _ zoneSigner) { d.ds[0].Digest += "00" }, ede.DNSKEYMissing, "another digest"},
		{"a digest of no octets", func(d *delegation, _, _ zoneSigner) { d.ds[0].Digest = "" }, ede.DNSKEYMissing, "another digest"},
		{"a digest that is no hexadecimal", func(d *delegation, _, _ zoneSigner) { d.ds[0].Digest = "zz" }, ede.DNSKEYMissing, "another digest"},
		{"a digest of another type", func(d *delegation, _, _ zoneSigner) { d.ds[0].DigestType = dns.SHA384 }, ede.DNSKEYMissing, "another digest"},
		{"another tag", func(d *delegation, _, _ zoneSigner) { d.ds[0].KeyTag++ }, ede.DNSKEYMissing, "matches no DNSKEY"},
		{"another algorithm than the key", func(d *delegation, _, _ zoneSigner) { d.ds[0].Algorithm = dns.RSASHA256 }, ede.DNSKEYMissing, "matches no DNSKEY"},
		{"the digest of another zone's key", func(d *delegation, _, _ zoneSigner) {
			d.ds[0] = newSigner("test.", dns.ECDSAP256SHA256, 257).ds(dns.SHA256)
		}, ede.DNSKEYMissing, "another digest"},
		{"no DS", func(d *delegation, _, _ zoneSigner) { d.ds = nil }, ede.DNSKEYMissing, "no DS"},
		{"no keys", func(d *delegation, _, _ zoneSigner) { d.keys.RRs = nil }, ede.DNSKEYMissing, "no DNSKEY"},
		{"keys of another zone", func(d *delegation, _, _ zoneSigner) { d.keys.Name = wire.Root }, ede.DNSKEYMissing, "no DNSKEY"},
		{"another type", func(d *delegation, _, _ zoneSigner) { d.keys.Type = wire.TypeA }, ede.DNSKEYMissing, "no DNSKEY"},
		{"a record that is no key", func(d *delegation, _, _ zoneSigner) { d.keys.RRs[1] = setOf(t, "example. TXT a").RRs[0] }, ede.Bogus, "not an RRset"},
		{"no signature", func(d *delegation, _, _ zoneSigner) { d.keys.Sigs = nil }, ede.RRSIGsMissing, "no RRSIG"},
		{"a key more", func(d *delegation, _, _ zoneSigner) {
			d.keys.RRs = append(d.keys.RRs, signerOf("example.", dns.ED25519, 256, newPrivate(dns.ED25519)).DNSKEY)
		}, ede.Bogus, "does not verify"},
		{"a key less", func(d *delegation, _, _ zoneSigner) { d.keys.RRs = d.keys.RRs[:1] }, ede.Bogus, "does not verify"},
		{"flags of a key", func(d *delegation, _, _ zoneSigner) { d.keys.RRs[1].(*dns.DNSKEY).Flags++ }, ede.Bogus, "does not verify"},
		{"signed by a key that no DS vouches for", func(d *delegation, _, zsk zoneSigner) {
			d.keys.Sigs = []*dns.RRSIG{zsk.sign(t, &d.keys, zsk.template(&d.keys))}
		}, ede.DNSKEYMissing, "no key"},
		{"signed for another time", func(d *delegation, ksk, _ zoneSigner) {
			r := ksk.template(&d.keys)
			r.Expiration = serial(testNow.Add(-48 * time.Hour))
			d.keys.Sigs = []*dns.RRSIG{ksk.sign(t, &d.keys, r)}
		}, ede.SignatureExpired, "expired"},
		{"a good SHA-1 beside a bad SHA-256 (RFC 4509 §3)", func(d *delegation, ksk, _ zoneSigner) {
			d.ds[0].Digest = flipHex(d.ds[0].Digest)
			d.ds = append(d.ds, ksk.ds(dns.SHA1))
		}, ede.DNSKEYMissing, "another digest"},
		{"an unsupported algorithm beside one that fails", func(d *delegation, _, _ zoneSigner) {
			d.ds[0].Digest = flipHex(d.ds[0].Digest)
			d.ds = append(d.ds, &dns.DS{KeyTag: 1, Algorithm: dns.DSA, DigestType: dns.SHA256})
		}, ede.DNSKEYMissing, "another digest"},
		{"an unsupported digest beside one that fails", func(d *delegation, ksk, _ zoneSigner) {
			d.ds[0].Digest = flipHex(d.ds[0].Digest)
			d.ds = append(d.ds, &dns.DS{KeyTag: ksk.KeyTag(), Algorithm: ksk.Algorithm, DigestType: dns.GOST94})
		}, ede.DNSKEYMissing, "another digest"},
		{"more DS than are looked at before the good one", func(d *delegation, _, _ zoneSigner) {
			bad := *d.ds[0]
			bad.Digest = flipHex(bad.Digest)
			d.ds = append(slices.Repeat([]*dns.DS{&bad}, MaxDS), d.ds...)
		}, ede.DNSKEYMissing, "another digest"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, ksk, zsk := newDelegation(t)
			if _, _, err := d.verify(); err != nil {
				t.Fatalf("before: %v", err)
			}
			tt.damage(d, ksk, zsk)
			keys, p, err := d.verify()
			refused(t, p, err, tt.code, tt.text)
			if keys != nil {
				t.Errorf("%d keys come with the error", len(keys))
			}
		})
	}
}

// flipHex returns digits with a bit of the last one flipped.
func flipHex(digits string) string {
	last := digits[len(digits)-1]
	if last == '0' {
		return digits[:len(digits)-1] + "1"
	}
	return digits[:len(digits)-1] + "0"
}

func TestVerifyKeysRefusesEntryKeysThatMayNotSign(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(*dns.DNSKEY)
		code   ede.Code
		text   string
	}{
		{"no zone key", func(k *dns.DNSKEY) { k.Flags = 1 }, ede.NoZoneKeyBitSet, "not a zone key"},
		{"revoked (RFC 5011 §2.1)", func(k *dns.DNSKEY) { k.Flags |= dns.REVOKE }, ede.DNSKEYMissing, "revoked"},
		{"protocol 4", func(k *dns.DNSKEY) { k.Protocol = 4 }, ede.Bogus, "protocol 4"},
		{"malformed", func(k *dns.DNSKEY) { k.PublicKey = "AAAA" }, ede.Bogus, "malformed key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ksk := newSigner("example.", dns.ECDSAP256SHA256, 257)
			tt.damage(ksk.DNSKEY)
			d := delegation{[]*dns.DS{ksk.ds(dns.SHA256)}, keySet(t, ksk)}
			keys, p, err := d.verify()
			refused(t, p, err, tt.code, tt.text)
			if keys != nil {
				t.Errorf("%d keys come with the error", len(keys))
			}
		})
	}
}

func TestVerifyKeysTakesOneGoodPathOfMany(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(d *delegation, ksk zoneSigner)
	}{
		{"a DS of a key to come", func(d *delegation, _ zoneSigner) {
			d.ds = append([]*dns.DS{{KeyTag: 1, Algorithm: dns.ECDSAP256SHA256, DigestType: dns.SHA256}}, d.ds...)
		}},
		{"a DS that does not match, and the one that does", func(d *delegation, _ zoneSigner) {
			bad := *d.ds[0]
			bad.Digest = flipHex(bad.Digest)
			d.ds = append([]*dns.DS{&bad}, d.ds...)
		}},
		{"many DS that cost nothing", func(d *delegation, _ zoneSigner) {
			for i := range 100 {
				d.ds = append(d.ds, &dns.DS{KeyTag: uint16(i), Algorithm: uint8(i), DigestType: uint8(i % 5)})
			}
			slices.Reverse(d.ds)
		}},
		{"SHA-1 of this algorithm, SHA-256 of another", func(d *delegation, ksk zoneSigner) {
			d.ds = []*dns.DS{ksk.ds(dns.SHA1), {KeyTag: 1, Algorithm: dns.ED25519, DigestType: dns.SHA256}}
		}},
		{"SHA-1 beside an unsupported digest", func(d *delegation, ksk zoneSigner) {
			d.ds = []*dns.DS{ksk.ds(dns.SHA1), {KeyTag: ksk.KeyTag(), Algorithm: ksk.Algorithm, DigestType: dns.GOST94}}
		}},
		{"a DS in upper case", func(d *delegation, _ zoneSigner) { d.ds[0].Digest = strings.ToUpper(d.ds[0].Digest) }},
		{"a key twice", func(d *delegation, _ zoneSigner) { d.keys.RRs = append(d.keys.RRs, d.keys.RRs...) }},
	} {
		d, ksk, _ := newDelegation(t)
		tt.change(d, ksk)
		keys, p, err := d.verify()
		if err != nil || p.Trust != rrset.Secure || len(keys) != 2 {
			t.Errorf("%s: %d keys, %v, %v; expected two, secure", tt.name, len(keys), p, err)
		}
	}
}

func TestZoneIsInsecureOnlyWithoutAnySupportedDS(t *testing.T) {
	ds := func(algorithm, digest uint8) *dns.DS { return &dns.DS{Algorithm: algorithm, DigestType: digest} }
	for _, tt := range []struct {
		name string
		ds   []*dns.DS
		code ede.Code
		text string
	}{
		{"algorithm", []*dns.DS{ds(dns.DSA, 2), ds(12, 2), ds(dns.DSA, 1)}, ede.UnsupportedDNSKEYAlgorithm, "3, 12"},
		{"digest", []*dns.DS{ds(8, 3), ds(13, 0)}, ede.UnsupportedDSDigest, "3, 0"},
		{"one or the other", []*dns.DS{ds(8, 3), ds(3, 2)}, ede.UnsupportedDSDigest, "3, 2"},
		{"RSA/MD5", []*dns.DS{ds(1, 1)}, ede.UnsupportedDNSKEYAlgorithm, "1"},
		{"many", []*dns.DS{ds(100, 2), ds(101, 2), ds(102, 2), ds(103, 2), ds(104, 2), ds(105, 2), ds(106, 2), ds(107, 2), ds(108, 2)}, ede.UnsupportedDNSKEYAlgorithm, "107, …"},
	} {
		ok, why := Supported(tt.ds)
		if ok || why.Code != tt.code || !strings.HasSuffix(why.Text, tt.text) {
			t.Errorf("%s: Supported is %t, %v; expected EDE %d with %q", tt.name, ok, why, tt.code, tt.text)
		}
		d, _, _ := newDelegation(t)
		d.ds = tt.ds
		keys, p, err := d.verify()
		if err != nil || keys != nil || p.Trust != rrset.Insecure || p.Note == nil || p.Note.Code != tt.code {
			t.Errorf("%s: %v, %v, %v; expected it insecure with EDE %d", tt.name, keys, p, err, tt.code)
		}
		// One supported record, good or not, and the others mean nothing
		// (dnssec-downgrade.net).
		d.ds = append(slices.Clone(tt.ds), ds(dns.ED25519, dns.SHA256))
		if ok, why := Supported(d.ds); !ok || why != nil {
			t.Errorf("%s and a supported one: Supported is %t, %v", tt.name, ok, why)
		}
		if _, p, err = d.verify(); err == nil {
			t.Errorf("%s and a supported one that is of no key: %v", tt.name, p)
		}
	}
	if ok, why := Supported(nil); ok || why != nil {
		t.Errorf("no DS at all: Supported is %t, %v", ok, why)
	}
}

func TestVerifyKeysReturnsTheKeysThatMaySign(t *testing.T) {
	ksk := newSigner("example.", dns.ECDSAP256SHA256, 257)
	good := newSigner("example.", dns.ED25519, 256)
	revoked := newSigner("example.", dns.RSASHA256, 257|dns.REVOKE)
	stranger := newSigner("example.", dns.ED448, 0)
	old := newSigner("example.", dns.RSASHA512, 256)
	old.Algorithm = dns.DSA
	broken := newSigner("example.", dns.ED25519, 256)
	broken.PublicKey = "AAAA"
	d := delegation{[]*dns.DS{ksk.ds(dns.SHA256)}, keySet(t, ksk, revoked, stranger, old, broken, good)}
	keys, _, err := d.verify()
	if err != nil || !slices.Equal(keys, []*dns.DNSKEY{ksk.DNSKEY, good.DNSKEY}) {
		t.Errorf("%v, %v; expected the first and the last", keys, err)
	}
}

func TestKeysAreOfTheirAlgorithmsForm(t *testing.T) {
	rsa := func(e, n string) string { return string(rune(len(e))) + e + n }
	long := func(bits int) string { // a modulus
		n := make([]byte, (bits+7)/8)
		n[0] = 1 << ((bits - 1) % 8)
		n[len(n)-1] |= 1
		return string(n)
	}
	for _, tt := range []struct {
		name      string
		algorithm uint8
		key       string
		want      string // of the error; "" for none
	}{
		{"RSA, 512 bits", dns.RSASHA1, rsa("\x03", long(512)), ""},
		{"RSA, 511 bits", dns.RSASHA256, rsa("\x03", long(511)), "511 bits, expected 512 to 4096"},
		{"RSA, 4096 bits", dns.RSASHA256, rsa("\x01\x00\x01", long(4096)), ""},
		{"RSA, 4097 bits", dns.RSASHA256, rsa("\x01\x00\x01", long(4097)), "4097 bits"},
		{"RSA, 65,000 bits", dns.RSASHA256, rsa("\x01\x00\x01", long(65000)), "65000 bits"},
		{"RSA/SHA-512, 1024 bits", dns.RSASHA512, rsa("\x03", long(1024)), ""},
		{"RSA/SHA-512, 1023 bits", dns.RSASHA512, rsa("\x03", long(1023)), "expected 1024"},
		{"RSA, exponent of 64 bits", dns.RSASHA256, rsa("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", long(1024)), ""},
		{"RSA, exponent of 65 bits", dns.RSASHA256, rsa("\x01\x00\x00\x00\x00\x00\x00\x00\x01", long(1024)), "exponent of 72 bits"},
		{"RSA, exponent of 255 octets", dns.RSASHA256, "\xFF" + strings.Repeat("\x01", 255) + long(1024), "exponent of 2040 bits"},
		{"RSA, exponent of 300 octets", dns.RSASHA256, "\x00\x01\x2C" + strings.Repeat("\x01", 300) + long(1024), "exponent of 2400 bits"},
		{"RSA, length of the exponent in three octets", dns.RSASHA256, "\x00\x00\x03\x01\x00\x01" + long(1024), ""},
		{"RSA, exponent of none", dns.RSASHA256, "\x00\x00\x00" + long(1024), "exponent of 0 octets"},
		{"RSA, exponent of all", dns.RSASHA256, "\xFF" + long(1024), "exponent of 255 octets"},
		{"RSA, exponent 1", dns.RSASHA256, rsa("\x01", long(1024)), "no RSA key"},
		{"RSA, exponent 0", dns.RSASHA256, rsa("\x00", long(1024)), "leading zero"},
		{"RSA, even exponent", dns.RSASHA256, rsa("\x02", long(1024)), "no RSA key"},
		{"RSA, exponent with a leading zero", dns.RSASHA256, rsa("\x00\x03", long(1024)), "leading zero"},
		{"RSA, modulus with a leading zero", dns.RSASHA256, rsa("\x03", "\x00"+long(1024)), "leading zero"},
		{"RSA, even modulus", dns.RSASHA256, rsa("\x03", long(1024)+"\x00"), "no RSA key"},
		{"RSA, no modulus", dns.RSASHA256, "\x03\x01\x00\x01", "exponent of 3 octets in 4"},
		{"RSA, an octet", dns.RSASHA256, "\x03", "1 octets"},
		{"RSA, nothing", dns.RSASHA256, "", "0 octets"},
		{"P-256", dns.ECDSAP256SHA256, strings.Repeat("a", 64), ""},
		{"P-256, with the octet for uncompressed", dns.ECDSAP256SHA256, "\x04" + strings.Repeat("a", 64), "65 octets, expected 64"},
		{"P-256, compressed", dns.ECDSAP256SHA256, "\x02" + strings.Repeat("a", 32), "33 octets"},
		{"P-384", dns.ECDSAP384SHA384, strings.Repeat("a", 96), ""},
		{"P-384, of P-256", dns.ECDSAP384SHA384, strings.Repeat("a", 64), "64 octets, expected 96"},
		{"Ed25519", dns.ED25519, strings.Repeat("a", 32), ""},
		{"Ed25519, short", dns.ED25519, strings.Repeat("a", 31), "31 octets, expected 32"},
		{"Ed448", dns.ED448, strings.Repeat("a", 57), ""},
		{"Ed448, without sign", dns.ED448, strings.Repeat("a", 56), "56 octets, expected 57"},
	} {
		err := checkKey(tt.algorithm, []byte(tt.key))
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !errors.Is(err, errKey)) {
			t.Errorf("%s: %v, expected %q", tt.name, err, tt.want)
		}
	}
}

func TestKeyTagsAreThoseOfTheLibrary(t *testing.T) {
	for _, a := range algorithms {
		for _, flags := range []uint16{256, 257, 385, 0xFFFF} {
			k := newSigner("example.", a, flags)
			if got, want := readKeys([]*dns.DNSKEY{k.DNSKEY})[0].tag, k.KeyTag(); got != want {
				t.Errorf("algorithm %d flags %d: tag %d, expected %d", a, flags, got, want)
			}
		}
	}
	// The longest there is, of all ones: the sum must not overflow.
	k := &dns.DNSKEY{Flags: 0xFFFF, Protocol: 0xFF, Algorithm: 8, PublicKey: base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\xFF", 65531)))}
	if got := readKeys([]*dns.DNSKEY{k})[0].tag; got == 0 {
		t.Errorf("tag %d", got)
	}
}
