package localroot

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

func TestDigestIsThatOfTheRFCsExamples(t *testing.T) {
	example := wire.MustParseName("example.")
	digests := 0
	for _, name := range []string{"rfc8976-a1-simple.zone", "rfc8976-a2-complex.zone", "rfc8976-a3-several-digests.zone"} {
		rrs := records(t, "example.", file(t, name))
		if err := verify(rrs, example, 2018031900, Require); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, md := range usableDigests(rrs, example, 2018031900) {
			digests++
			sum, err := digest(rrs, example, newHash(md.Hash))
			if err != nil || hex.EncodeToString(sum) != md.Digest {
				t.Errorf("%s, hash %d: got %x, %v, want %s", name, md.Hash, sum, err, md.Digest)
			}
		}
	}
	if digests != 4 {
		t.Errorf("checked %d digests, want 4", digests)
	}
}

// signed returns the records of testdata/root.zone with digests of its own: each
// of more is a hash, and what to do to its record.
func withDigest(t *testing.T, more ...func(*dns.ZONEMD)) []dns.RR {
	t.Helper()
	rrs := records(t, ".", file(t, "root.zone"))
	var digests []dns.RR
	for _, change := range more {
		md := &dns.ZONEMD{
			Hdr:    dns.RR_Header{Name: ".", Rrtype: dns.TypeZONEMD, Class: dns.ClassINET, Ttl: 86400},
			Serial: 7, Scheme: schemeSimple, Hash: hashSHA384,
		}
		if change != nil {
			change(md)
		}
		if md.Digest == "" {
			h := newHash(md.Hash)
			if h == nil {
				h = newHash(hashSHA384)
			}
			sum, err := digest(rrs, wire.Root, h)
			if err != nil {
				t.Fatal(err)
			}
			md.Digest = hex.EncodeToString(sum)
		}
		digests = append(digests, md)
	}
	return append(rrs, digests...)
}

func TestVerifyFollowsThePolicy(t *testing.T) {
	sha512 := func(md *dns.ZONEMD) { md.Hash = hashSHA512 }
	wrong := func(md *dns.ZONEMD) { md.Digest = strings.Repeat("00", 48) }
	short := func(md *dns.ZONEMD) { md.Digest = "c68090d90a7aed716bc459f9" }
	upper := func(md *dns.ZONEMD) {
		sum, err := digest(records(t, ".", file(t, "root.zone")), wire.Root, newHash(hashSHA384))
		if err != nil {
			t.Fatal(err)
		}
		md.Digest = fmt.Sprintf("%X", sum)
	}
	for _, test := range []struct {
		name              string
		digests           []func(*dns.ZONEMD)
		require, ifExists error
	}{
		{"none", nil, errNoDigest, nil},
		{"right", []func(*dns.ZONEMD){nil}, nil, nil},
		{"right, in upper case", []func(*dns.ZONEMD){upper}, nil, nil},
		{"right, SHA-512", []func(*dns.ZONEMD){sha512}, nil, nil},
		{"wrong", []func(*dns.ZONEMD){wrong}, errBadDigest, errBadDigest},
		{"one wrong, one right", []func(*dns.ZONEMD){wrong, sha512}, nil, nil},
		{"of another serial", []func(*dns.ZONEMD){func(md *dns.ZONEMD) { md.Serial = 6 }}, errNoDigest, errNoDigest},
		{"unknown scheme", []func(*dns.ZONEMD){func(md *dns.ZONEMD) { md.Scheme = 2 }}, errNoDigest, errNoDigest},
		{"unknown hash", []func(*dns.ZONEMD){func(md *dns.ZONEMD) { md.Hash = 3 }}, errNoDigest, errNoDigest},
		{"too short", []func(*dns.ZONEMD){short}, errNoDigest, errNoDigest},
		{"twice", []func(*dns.ZONEMD){nil, wrong}, errNoDigest, errNoDigest},
	} {
		rrs := withDigest(t, test.digests...)
		for policy, want := range map[ZONEMD]error{Require: test.require, IfPresent: test.ifExists, Ignore: nil} {
			if err := verify(rrs, wire.Root, 7, policy); !errors.Is(err, want) {
				t.Errorf("%s, policy %d: %v, want %v", test.name, policy, err, want)
			}
		}
	}
}

func TestVerifyNoticesEveryChange(t *testing.T) {
	good := withDigest(t, nil)
	if err := verify(good, wire.Root, 7, Require); err != nil {
		t.Fatal(err)
	}
	for i, rr := range good {
		if rr.Header().Rrtype == dns.TypeZONEMD {
			continue
		}
		changed := append([]dns.RR{}, good...)
		changed[i] = dns.Copy(rr)
		changed[i].Header().Ttl++
		if err := verify(changed, wire.Root, 7, Require); !errors.Is(err, errBadDigest) {
			t.Errorf("the TTL of %v: %v", rr, err)
		}
		if err := verify(append(changed[:i:i], good[i+1:]...), wire.Root, 7, Require); !errors.Is(err, errBadDigest) {
			t.Errorf("without %v: %v", rr, err)
		}
	}
	more := append([]dns.RR{}, good...)
	more = append(more, records(t, ".", "evil. 1 NS ns.evil.")...)
	if err := verify(more, wire.Root, 7, Require); !errors.Is(err, errBadDigest) {
		t.Errorf("one more: %v", err)
	}
}

// TestDigestFoldsTheNamesThatDNSSECFolds holds the list of RFC 4034 §6.2, as RFC
// 6840 §5.1 corrects it: NSEC and what came later keep their letters.
func TestDigestFoldsTheNamesThatDNSSECFolds(t *testing.T) {
	for text, folds := range map[string]bool{
		"NS A.": true, "SOA A. B. 1 1 1 1 1": true, "CNAME A.": true, "DNAME A.": true, "PTR A.": true, "MX 1 A.": true,
		"SRV 1 1 1 A.": true, `NAPTR 1 1 "" "" "" A.`: true, "KX 1 A.": true, "RP A. B.": true, "MINFO A. B.": true,
		"AFSDB 1 A.": true, "RT 1 A.": true, "PX 1 A. B.": true, "MB A.": true, "MG A.": true, "MR A.": true, "MD A.": true, "MF A.": true,
		"RRSIG A 13 0 1 20991231000000 20200101000000 1 A. AAAA": true,
		"NSEC A. A": false, "SVCB 1 A.": false, `TXT "A"`: false,
	} {
		rr := records(t, ".", "X.Test. 1 IN "+text)[0]
		folded, err := packCanonical(rr)
		if err != nil {
			t.Fatal(err)
		}
		lowered, err := packCanonical(records(t, ".", "x.test. 1 IN "+strings.NewReplacer(" A.", " a.", " B.", " b.").Replace(text))[0])
		if err != nil {
			t.Fatal(err)
		}
		if same := string(folded) == string(lowered); same != (folds || text == `TXT "A"`) {
			t.Errorf("%s: folded: %v, want %v", text, same, folds)
		}
	}
}
