package dnssec

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// dnssecProtocol is the one value of a DNSKEY record's protocol field
// (RFC 4034 §2.1.2).
const dnssecProtocol = 3

// Supported reports whether a DNSKEY set could be found good by ds, an
// authenticated DS set. When not, its zone is insecure (RFC 4035 §5.2,
// RFC 6840 §5.2), and the error is what to tell a client. An empty set
// supports nothing, and proves nothing either: there is no error then.
func Supported(ds []*dns.DS) (bool, *ede.Error) {
	if len(ds) == 0 {
		return false, nil
	}
	known := false
	for _, d := range ds {
		if !supportedAlgorithm(d.Algorithm) {
			continue
		}
		if supportedDigest(d.DigestType) {
			return true, nil
		}
		known = true
	}
	if known {
		return false, ede.Errorf(ede.UnsupportedDSDigest, "DS with no supported digest: %s",
			numbers(ds, func(d *dns.DS) uint8 { return d.DigestType }))
	}
	return false, ede.Errorf(ede.UnsupportedDNSKEYAlgorithm, "DS with no supported algorithm: %s",
		numbers(ds, func(d *dns.DS) uint8 { return d.Algorithm }))
}

// numbers lists what of gives for ds, each number once, and not without end.
func numbers(ds []*dns.DS, of func(*dns.DS) uint8) string {
	var seen []uint8
	var list []string
	for _, d := range ds {
		n := of(d)
		if slices.Contains(seen, n) {
			continue
		}
		if len(seen) == MaxDS {
			list = append(list, "…")
			break
		}
		seen = append(seen, n)
		list = append(list, strconv.Itoa(int(n)))
	}
	return strings.Join(list, ", ")
}

// VerifyKeys decides which keys of zone may sign, by ds, the authenticated DS
// set that its parent (or a trust anchor) has for it. keys is the DNSKEY set as
// it was received.
//
// With Trust Secure it returns the keys that may sign, for [VerifySet]; with
// Trust Insecure none, and a Note, since ds is nothing that is supported. The
// error is an *[ede.Error]: the keys are bogus, or [ErrBudget].
func VerifyKeys(zone wire.Name, ds []*dns.DS, keys rrset.Set, now time.Time, b *Budget) ([]*dns.DNSKEY, Proof, error) {
	if len(ds) == 0 { // no chain leads here; that there is none takes a proof, not an empty list
		return nil, Proof{}, ede.Errorf(ede.DNSKEYMissing, "no DS for %s", zone)
	}
	if ok, why := Supported(ds); !ok {
		return nil, Proof{Trust: rrset.Insecure, Note: why}, nil
	}
	if keys.Name != zone || keys.Type != wire.TypeDNSKEY || len(keys.RRs) == 0 {
		return nil, Proof{}, ede.Errorf(ede.DNSKEYMissing, "no DNSKEY for %s", zone)
	}
	all := readKeys(rrset.Records[*dns.DNSKEY](&keys))
	entries, err := entryKeys(zone, ds, all)
	if err != nil {
		return nil, Proof{}, err
	}
	proof, err := verifySet(&keys, zone, entries, now, b)
	if err != nil {
		return nil, Proof{}, err
	}
	usable := make([]*dns.DNSKEY, 0, len(all))
	for i := range all {
		if all[i].code == usableKey {
			usable = append(usable, all[i].rr)
		}
	}
	return usable, proof, nil
}

// zoneKey is a DNSKEY record, unpacked.
type zoneKey struct {
	rr     *dns.DNSKEY
	octets []byte // the public key
	tag    uint16
	code   ede.Code // why it must not verify anything, or usableKey
	fault  string   // the same in words
}

// usableKey is the code of a key with no fault. Other (0) is never a fault's.
const usableKey = ede.Other

// readKeys unpacks keys and judges each. Of those that are the same it returns
// the first, so that a copy does not use up its tag's [MaxKeysPerTag].
func readKeys(keys []*dns.DNSKEY) []zoneKey {
	size := 0
	for _, k := range keys {
		size += base64.StdEncoding.DecodedLen(len(k.PublicKey))
	}
	buf := make([]byte, size)
	out := make([]zoneKey, 0, len(keys))
	for _, rr := range keys {
		n, err := base64.StdEncoding.Decode(buf, []byte(rr.PublicKey))
		k := zoneKey{rr: rr, octets: buf[:n:n]}
		buf = buf[n:]
		k.tag = k.computeTag()
		if slices.ContainsFunc(out, k.same) {
			continue
		}
		if k.judge(); err != nil {
			k.code, k.fault = ede.Bogus, errKey.Error()
		}
		out = append(out, k)
	}
	return out
}

// same reports whether k and o are the same key.
func (k *zoneKey) same(o zoneKey) bool {
	return k.tag == o.tag && k.rr.Algorithm == o.rr.Algorithm && k.rr.Flags == o.rr.Flags &&
		k.rr.Protocol == o.rr.Protocol && bytes.Equal(k.octets, o.octets)
}

// header returns what precedes the public key in the RDATA (RFC 4034 §2.1).
func (k *zoneKey) header() (h [4]byte) {
	binary.BigEndian.PutUint16(h[:], k.rr.Flags)
	h[2], h[3] = k.rr.Protocol, k.rr.Algorithm
	return h
}

// computeTag returns the tag of k (RFC 4034 appendix B). That of algorithm 1 is
// made in another way, but its keys are not used.
func (k *zoneKey) computeTag() uint16 {
	h := k.header()
	sum := uint32(h[0])<<8 + uint32(h[1]) + uint32(h[2])<<8 + uint32(h[3])
	for i, o := range k.octets { // at most 2¹⁶ of them, so the sum fits
		if i&1 == 0 {
			sum += uint32(o) << 8
		} else {
			sum += uint32(o)
		}
	}
	return uint16(sum + sum>>16)
}

// judge finds out whether k may verify anything.
func (k *zoneKey) judge() {
	switch {
	case k.rr.Flags&dns.ZONE == 0: // RFC 4034 §2.1.1
		k.code, k.fault = ede.NoZoneKeyBitSet, "not a zone key"
	case k.rr.Protocol != dnssecProtocol: // RFC 4034 §2.1.2
		k.code, k.fault = ede.Bogus, "protocol "+strconv.Itoa(int(k.rr.Protocol))+", expected 3"
	case k.rr.Flags&dns.REVOKE != 0: // RFC 5011 §2.1
		k.code, k.fault = ede.DNSKEYMissing, "revoked key"
	case !supportedAlgorithm(k.rr.Algorithm):
		k.code, k.fault = ede.UnsupportedDNSKEYAlgorithm, "unsupported algorithm"
	default:
		if err := checkKey(k.rr.Algorithm, k.octets); err != nil {
			k.code, k.fault = ede.Bogus, err.Error()
		}
	}
}

// entryKeys returns the keys that a DS record vouches for, or why there is
// none.
func entryKeys(zone wire.Name, ds []*dns.DS, keys []zoneKey) ([]zoneKey, error) {
	var entries []zoneKey
	var worst failure
	buf := make([]byte, 0, 512) // the digest and what it is made of
	looked := 0
	for _, d := range ds {
		if !usableDS(ds, d) {
			continue
		}
		// What matches no key costs nothing, and does not count: a parent may
		// list the keys of a zone's next provider, too.
		candidates := matching(keys, d.KeyTag, d.Algorithm)
		if len(candidates) == 0 {
			worst.consider(stageKey, ede.DNSKEYMissing, "DS "+describeDS(d)+" matches no DNSKEY")
			continue
		}
		if looked++; looked > MaxDS {
			break
		}
		want, err := hex.DecodeString(d.Digest)
		if err != nil {
			want = nil
		}
		for _, k := range candidates {
			h := k.header()
			buf = append(append(append(buf[:0], zone...), h[:]...), k.octets...) // RFC 4034 §5.1.4
			n := len(buf)
			buf = appendDigest(buf, d.DigestType, buf)
			switch {
			case !bytes.Equal(buf[n:], want): // of another length, too
				worst.consider(stageDigest, ede.DNSKEYMissing, "DS "+describeDS(d)+" has another digest than its DNSKEY")
			case k.code != usableKey:
				worst.consider(stageFault, k.code, "DNSKEY of DS "+describeDS(d)+": "+k.fault)
			case !slices.ContainsFunc(entries, k.same):
				entries = append(entries, *k)
			}
		}
	}
	if len(entries) == 0 {
		return nil, ede.Errorf(worst.code, "%s: %s", zone, worst.text)
	}
	return entries, nil
}

// usableDS reports whether d is one of the records of ds to go by: of a
// supported algorithm and digest, and not of SHA-1 where a better digest is
// given for the same algorithm (RFC 4509 §3), or else who can make SHA-1 collide
// need not bother about the better one.
func usableDS(ds []*dns.DS, d *dns.DS) bool {
	if !supportedAlgorithm(d.Algorithm) || !supportedDigest(d.DigestType) {
		return false
	}
	return d.DigestType != dns.SHA1 || !slices.ContainsFunc(ds, func(o *dns.DS) bool {
		return o.Algorithm == d.Algorithm && o.DigestType != dns.SHA1 && supportedDigest(o.DigestType)
	})
}

// describeDS returns the numbers of d, as they begin its RDATA.
func describeDS(d *dns.DS) string {
	return strconv.Itoa(int(d.KeyTag)) + " " + strconv.Itoa(int(d.Algorithm)) + " " + strconv.Itoa(int(d.DigestType))
}

// matching returns the keys of a tag and an algorithm, [MaxKeysPerTag] at
// most: tags are 16 bits, so two keys may well share one by chance; more do so
// by intent (CVE-2023-50387).
func matching(keys []zoneKey, tag uint16, algorithm uint8) []*zoneKey {
	var found []*zoneKey
	for i := range keys {
		if k := &keys[i]; k.tag == tag && k.rr.Algorithm == algorithm {
			if found = append(found, k); len(found) == MaxKeysPerTag {
				break
			}
		}
	}
	return found
}
