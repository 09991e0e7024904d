package dnssec

import (
	"encoding/base64"
	"errors"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// How far a signature may be out of its time, since clocks are: a tenth of its
// life, within these bounds. They are Unbound's val-sig-skew-min and -max.
const (
	MinSkew = time.Hour
	MaxSkew = 24 * time.Hour
	// skewShare is the part of a signature's life.
	skewShare = 10
)

// VerifySet verifies s, which is of zone, by keys, those of zone that may sign
// ([VerifyKeys]). The Proof is Secure. Of a set without records, or one that no
// signature verifies, it returns an *[ede.Error]: the set is bogus, or
// [ErrBudget]. With a zero now it does not matter when a signature is valid. It does not read s.Until, and looks at no TTL but those of the
// signatures.
func VerifySet(s *rrset.Set, zone wire.Name, keys []*dns.DNSKEY, now time.Time, b *Budget) (Proof, error) {
	return verifySet(s, zone, readKeys(keys), now, b)
}

func verifySet(s *rrset.Set, zone wire.Name, keys []zoneKey, now time.Time, b *Budget) (Proof, error) {
	if err := checkSet(s, zone); err != nil {
		return Proof{}, err
	}
	v := verifier{set: s, zone: zone, keys: keys, now: now, budget: b}
	for _, sig := range s.Sigs {
		candidates, ok := v.check(sig)
		if !ok {
			continue
		}
		if v.tried++; v.tried > MaxSignatures {
			break
		}
		verified, err := v.try(sig, candidates)
		if err != nil {
			return Proof{}, err
		}
		if verified {
			return Proof{Trust: rrset.Secure, Until: until(sig, now), Wildcard: v.wildcard(sig)}, nil
		}
	}
	return Proof{}, v.failed()
}

// checkSet reports why s cannot have a signature of zone that counts.
func checkSet(s *rrset.Set, zone wire.Name) error {
	switch {
	case len(s.RRs) == 0:
		return ede.Errorf(ede.Bogus, "%s %s: no records to verify", s.Name, s.Type)
	case !s.Name.Within(zone): // RFC 4035 §5.3.1
		return ede.Errorf(ede.Bogus, "%s %s: not in the zone %s", s.Name, s.Type, zone)
	case s.Type == wire.TypeDS && s.Name == zone:
		// RFC 4035 §2.4, §3.1.4.1: a zone does not vouch for itself.
		return ede.Errorf(ede.Bogus, "%s DS: by the zone itself, expected its parent", s.Name)
	case len(s.Sigs) == 0:
		return ede.Errorf(ede.RRSIGsMissing, "%s %s: no RRSIG", s.Name, s.Type)
	}
	return nil
}

// verifier is the verification of one set.
type verifier struct {
	set    *rrset.Set
	zone   wire.Name
	keys   []zoneKey
	now    time.Time
	budget *Budget

	form   canonical // of set, made for the first signature that gets so far
	signed []byte    // scratch: what a signature signs
	tried  int       // signatures
	worst  failure
}

// failure is what is known about why nothing verifies: of all reasons, that of
// the signature (or DS) that came furthest, the first of several. The others
// are of a key being rolled, more often than not.
type failure struct {
	stage stage
	code  ede.Code
	text  string
	sig   *dns.RRSIG // that it is about, if any
}

// stage is a check that was not passed, in the order they are made.
type stage int

const (
	stageNone      stage = iota
	stageCovers          // of the wrong owner, type or class
	stageSigner          // by another zone, or of labels that cannot be
	stageAlgorithm       // supported here
	stageKey             // there
	stageDigest          // of the key, as the DS has it
	stageFault           // of the key
	stageTime            // valid now
	stageVerified        // by a key
)

// consider keeps the new reason if it is the more telling one, and reports
// whether it is.
func (f *failure) consider(s stage, c ede.Code, text string) bool {
	if s <= f.stage {
		return false
	}
	*f = failure{stage: s, code: c, text: text}
	return true
}

// refuse keeps a reason why sig is of no use.
func (v *verifier) refuse(sig *dns.RRSIG, s stage, c ede.Code, text string) {
	if v.worst.consider(s, c, text) {
		v.worst.sig = sig
	}
}

// failed returns the error for a set that no signature verifies.
func (v *verifier) failed() error {
	w := &v.worst
	switch {
	case w.stage <= stageCovers:
		return ede.Errorf(ede.RRSIGsMissing, "%s %s: no RRSIG", v.set.Name, v.set.Type)
	case w.code == ede.SignatureExpired:
		w.text += v.stamp(w.sig.Expiration)
	case w.code == ede.SignatureNotYetValid:
		w.text += v.stamp(w.sig.Inception)
	}
	return ede.Errorf(w.code, "%s %s: RRSIG %d algorithm %d: %s",
		v.set.Name, v.set.Type, w.sig.KeyTag, w.sig.Algorithm, w.text)
}

// stamp spells t, the serial number of a second near now.
func (v *verifier) stamp(t uint32) string {
	return v.now.Add(distance(serial(v.now), t)).UTC().Format(time.RFC3339)
}

// check makes all checks of sig that are not cryptography (RFC 4035 §5.3.1),
// and returns the keys that may have made it. They cost next to nothing, so
// every signature is checked, and only those with a chance count as tried.
func (v *verifier) check(sig *dns.RRSIG) ([]*zoneKey, bool) {
	switch {
	case sig.TypeCovered != uint16(v.set.Type) || sig.Hdr.Class != wire.ClassIN || !named(sig.Hdr.Name, v.set.Name):
		v.refuse(sig, stageCovers, ede.RRSIGsMissing, "")
	case !named(sig.SignerName, v.zone):
		v.refuse(sig, stageSigner, ede.Bogus, "signer is not "+v.zone.String())
	case int(sig.Labels) > signedLabels(v.set.Name):
		v.refuse(sig, stageSigner, ede.Bogus, "more labels than the name has")
	case int(sig.Labels) < v.zone.Labels():
		// A wildcard above its own zone would be one for other zones' names
		// (CVE-2026-44690).
		v.refuse(sig, stageSigner, ede.Bogus, "fewer labels than the signer has")
	case !supportedAlgorithm(sig.Algorithm):
		v.refuse(sig, stageAlgorithm, ede.UnsupportedDNSKEYAlgorithm, "unsupported algorithm")
	default:
		candidates := matching(v.keys, sig.KeyTag, sig.Algorithm)
		return candidates, v.checkKeys(sig, candidates) && v.checkTime(sig)
	}
	return nil, false
}

// named reports whether text is name.
func named(text string, name wire.Name) bool {
	n, err := wire.ParseName(text)
	return err == nil && n == name
}

// signedLabels returns the number of labels that a signature of name has, if
// it is not expanded from a wildcard: all but the root's and the asterisk of a
// wildcard itself (RFC 4034 §3.1.3).
func signedLabels(name wire.Name) int {
	if len(name) > 1 && name[:2] == asterisk {
		return name.Labels() - 1
	}
	return name.Labels()
}

// asterisk is the label that makes a name a wildcard (RFC 4592 §2.1.1).
const asterisk = "\x01*"

// wildcard returns the wildcard that sig says the set was made of, or "".
func (v *verifier) wildcard(sig *dns.RRSIG) wire.Name {
	if int(sig.Labels) == signedLabels(v.set.Name) {
		return ""
	}
	// At least one label is replaced by the shortest there is, so this is a
	// name.
	return asterisk + v.set.Name.Tail(int(sig.Labels))
}

// checkKeys reports whether one of candidates may have made sig.
func (v *verifier) checkKeys(sig *dns.RRSIG, candidates []*zoneKey) bool {
	for _, k := range candidates {
		if k.code == usableKey {
			return true
		}
	}
	if len(candidates) == 0 {
		v.refuse(sig, stageKey, ede.DNSKEYMissing, "no key of that tag and algorithm may sign")
	} else {
		v.refuse(sig, stageFault, candidates[0].code, candidates[0].fault)
	}
	return false
}

// checkTime reports whether sig is valid now (RFC 4035 §5.3.1).
func (v *verifier) checkTime(sig *dns.RRSIG) bool {
	if v.now.IsZero() {
		return true
	}
	now := serial(v.now)
	skew := skew(sig)
	switch {
	case distance(sig.Inception, sig.Expiration) < 0:
		v.refuse(sig, stageTime, ede.SignatureExpiredBeforeValid, "expires before its inception")
	case distance(now, sig.Inception) > skew:
		v.refuse(sig, stageTime, ede.SignatureNotYetValid, "not valid before ")
	case distance(sig.Expiration, now) > skew:
		v.refuse(sig, stageTime, ede.SignatureExpired, "expired ")
	default:
		return true
	}
	return false
}

// serial returns t as signatures have it: seconds since 1970, modulo 2³²
// (RFC 4034 §3.1.5).
func serial(t time.Time) uint32 { return uint32(t.Unix()) }

// distance returns the time from a to b in serial arithmetic (RFC 1982): less
// than nothing when b is before a.
func distance(a, b uint32) time.Duration { return time.Duration(int32(b-a)) * time.Second }

// skew returns by how much sig may be out of its time.
func skew(sig *dns.RRSIG) time.Duration {
	return min(max(distance(sig.Inception, sig.Expiration)/skewShare, MinSkew), MaxSkew)
}

// until returns when what sig, which is valid at now, vouches for is no longer
// to be believed: after the original TTL, the TTL of sig, or its expiration,
// whichever comes first (RFC 4035 §5.3.3). One that has expired, but is within
// its skew, is good for the rest of that.
func until(sig *dns.RRSIG, now time.Time) time.Time {
	ttl := time.Duration(min(sig.OrigTtl, sig.Hdr.Ttl)) * time.Second
	if now.IsZero() {
		return now.Add(ttl)
	}
	left := distance(serial(now), sig.Expiration)
	if left <= 0 {
		left += skew(sig)
	}
	return now.Add(min(ttl, left))
}

// try reports whether one of candidates made sig. An error ends the
// verification of the set.
func (v *verifier) try(sig *dns.RRSIG, candidates []*zoneKey) (bool, error) {
	if v.form.rdata == nil {
		var err error
		if v.form, err = canonicalise(v.set); err != nil {
			return false, ede.Wrap(err, ede.Bogus, "%s %s: not an RRset", v.set.Name, v.set.Type)
		}
	}
	octets, ok := decode(sig.Signature)
	if !ok {
		v.refuse(sig, stageVerified, ede.Bogus, "malformed signature")
		return false, nil
	}
	owner := v.wildcard(sig)
	if owner == "" {
		owner = v.set.Name
	}
	v.signed = v.form.appendSigned(v.signed[:0], sig, v.zone, owner)
	for _, k := range candidates {
		if k.code != usableKey {
			continue
		}
		if err := v.budget.verify(); err != nil {
			return false, err
		}
		err := verify(sig.Algorithm, k.octets, v.signed, octets)
		if err == nil {
			return true, nil
		}
		if errors.Is(err, errKey) {
			v.refuse(sig, stageFault, ede.Bogus, err.Error())
			continue
		}
		v.refuse(sig, stageVerified, ede.Bogus, err.Error())
	}
	return false, nil
}

// decode returns the octets that text, of a record, stands for.
func decode(text string) ([]byte, bool) {
	octets, err := base64.StdEncoding.DecodeString(text)
	return octets, err == nil
}
