package dnssec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

func TestNamesAreFoldedInTheRDATAOfOldTypesOnly(t *testing.T) {
	for _, tt := range []struct{ record, want string }{
		{"A.Test. NS NS.Test.", "\x02ns\x04test\x00"},
		{"A.Test. MD NS.Test.", "\x02ns\x04test\x00"},
		{"A.Test. MF NS.Test.", "\x02ns\x04test\x00"},
		{"A.Test. MB NS.Test.", "\x02ns\x04test\x00"},
		{"A.Test. MG NS.Test.", "\x02ns\x04test\x00"},
		{"A.Test. MR NS.Test.", "\x02ns\x04test\x00"},
		{"A.Test. CNAME NS.Test.", "\x02ns\x04test\x00"},
		{"A.Test. DNAME NS.Test.", "\x02ns\x04test\x00"},
		{"A.Test. PTR NS.Test.", "\x02ns\x04test\x00"},
		{"A.Test. SOA NS.Test. Root.Test. 65 66 67 68 69", "\x02ns\x04test\x00\x04root\x04test\x00\x00\x00\x00A\x00\x00\x00B\x00\x00\x00C\x00\x00\x00D\x00\x00\x00E"},
		{"A.Test. MINFO A.Test. B.Test.", "\x01a\x04test\x00\x01b\x04test\x00"},
		{"A.Test. RP A.Test. B.Test.", "\x01a\x04test\x00\x01b\x04test\x00"},
		{"A.Test. MX 16705 MX.Test.", "AA\x02mx\x04test\x00"},
		{"A.Test. AFSDB 16705 MX.Test.", "AA\x02mx\x04test\x00"},
		{"A.Test. RT 16705 MX.Test.", "AA\x02mx\x04test\x00"},
		{"A.Test. KX 16705 MX.Test.", "AA\x02mx\x04test\x00"},
		{"A.Test. PX 16705 A.Test. B.Test.", "AA\x01a\x04test\x00\x01b\x04test\x00"},
		{"A.Test. SRV 16705 16705 16705 MX.Test.", "AAAAAA\x02mx\x04test\x00"},
		{`A.Test. NAPTR 16705 16705 "U" "E2U+SIP" "!RE!" A.Test.`, "AAAA\x01U\x07E2U+SIP\x04!RE!\x01a\x04test\x00"},
		{"A.Test. NXT B.Test. A", "\x01b\x04test\x00\x00\x01\x40"},
		{`A.Test. TYPE38 \# 17 40 4142434445464748 014204546573740A`, "\x40ABCDEFGH\x01B\x04Test\x0A"},
		{`A.Test. TYPE38 \# 17 40 4142434445464748 0142045465737400`, "\x40ABCDEFGH\x01b\x04test\x00"},
		{`A.Test. TYPE38 \# 17 00 41424344454647484142434445464748`, "\x00ABCDEFGHABCDEFGH"},
		{`A.Test. TYPE38 \# 4 80 014100`, "\x80\x01a\x00"},
		{`A.Test. TYPE38 \# 4 81 014100`, "\x81\x01A\x00"},
		{"A.Test. NSEC B.Test. A", "\x01B\x04Test\x00\x00\x01\x40"}, // RFC 6840 §5.1
		{`A.Test. HINFO PC UNIX`, "\x02PC\x04UNIX"},
		{`A.Test. TXT "ABC"`, "\x03ABC"},
		{"A.Test. SVCB 16705 B.Test.", "AA\x01B\x04Test\x00"}, // RFC 3597 §7
		{"A.Test. HTTPS 16705 B.Test.", "AA\x01B\x04Test\x00"},
		{"A.Test. LP 16705 B.Test.", "AA\x01B\x04Test\x00"},
		{`A.Test. TYPE65000 \# 3 014100`, "\x01A\x00"},
		{"A.Test. A 65.66.67.68", "ABCD"},
		{`A.Test. PTR A\000\.B.Test.`, "\x04a\x00.b\x04test\x00"},
	} {
		s := setOf(t, tt.record)
		c, err := canonicalise(&s)
		if err != nil || len(c.rdata) != 1 || string(c.rdata[0]) != tt.want {
			t.Errorf("%s: %q, %v; expected %q", tt.record, c.rdata, err, tt.want)
		}
	}
}

func TestRDATAIsFoldedOnlyIfItIsOfItsForm(t *testing.T) {
	for _, tt := range []struct {
		typ         uint16
		rdata, want string
	}{
		{dns.TypeNS, "", ""},
		{dns.TypeNS, "\x02AB", "\x02AB"},
		{dns.TypeNS, "\x02AB\xC0\x0C", "\x02AB\xC0\x0C"},
		{dns.TypeNS, "\x40AB\x00", "\x40AB\x00"},
		{dns.TypeNS, strings.Repeat("\x01A", 128) + "\x00", strings.Repeat("\x01A", 128) + "\x00"},
		{dns.TypeNS, "\x01A\x00TRAILING", "\x01a\x00TRAILING"},
		{dns.TypeMX, "A", "A"},
		{dns.TypeMX, "AB", "AB"},
		{dns.TypeSOA, "\x01A\x00\x05B", "\x01a\x00\x05B"},
		{dns.TypeNAPTR, "AAAA\x01A\xFFA", "AAAA\x01A\xFFA"},
		{dns.TypeNAPTR, "AA", "AA"},
		{typeA6, "", ""},
		{typeA6, "\x01A", "\x01A"},
	} {
		got := []byte(tt.rdata)
		if lowerNames(wire.Type(tt.typ), got); string(got) != tt.want {
			t.Errorf("%s %q: %q, expected %q", dns.Type(tt.typ), tt.rdata, got, tt.want)
		}
	}
}

func TestRecordsAreSortedByTheirRDATA(t *testing.T) {
	s := setOf(t, `a. TXT "b"`, `a. TXT "aa"`, `a. TXT "B"`, `a. TXT ""`, `a. TXT "b"`, `a. TXT "a" "a"`, `a. TXT "\255"`)
	c, err := canonicalise(&s)
	want := []string{"\x00", "\x01B", "\x01a\x01a", "\x01b", "\x01\xFF", "\x02aa"}
	if err != nil || !slices.EqualFunc(c.rdata, want, func(a []byte, b string) bool { return string(a) == b }) {
		t.Errorf("%q, %v; expected %q", c.rdata, err, want)
	}
}

// Others may be looking at them.
func TestRecordsAreNotWrittenTo(t *testing.T) {
	s := setOf(t, `a. TXT "b"`, `a. TXT "a"`)
	const mark = 12345 // which nobody would put there
	for _, rr := range s.RRs {
		rr.Header().Rdlength = mark
	}
	if _, err := canonicalise(&s); err != nil {
		t.Fatal(err)
	}
	for _, rr := range s.RRs {
		if n := rr.Header().Rdlength; n != mark {
			t.Errorf("%v: RDLENGTH is now %d", rr, n)
		}
	}
}

func TestSetsOfAnySizeArePacked(t *testing.T) {
	for _, n := range []int{1, 2, 100, 1000} {
		for _, size := range []int{0, 1, 255, 60000} {
			if n*size > 6000000 {
				continue
			}
			s := rrset.Set{Name: wire.MustParseName("a."), Type: 65000}
			for i := range n {
				s.RRs = append(s.RRs, &dns.RFC3597{
					Hdr:   dns.RR_Header{Name: "a.", Rrtype: 65000, Class: dns.ClassINET},
					Rdata: fmt.Sprintf("%08x", n-i) + strings.Repeat("ab", size),
				})
			}
			c, err := canonicalise(&s)
			if err != nil || len(c.rdata) != n {
				t.Fatalf("%d records of %d octets: %d, %v", n, size, len(c.rdata), err)
			}
			for i, rdata := range c.rdata {
				if len(rdata) != size+4 || int(binary.BigEndian.Uint32(rdata)) != i+1 || bytes.Trim(rdata[4:], "\xAB") != nil && len(bytes.Trim(rdata[4:], "\xAB")) > 0 {
					t.Fatalf("%d records of %d octets: record %d is %d octets, %x…", n, size, i, len(rdata), rdata[:4])
				}
			}
		}
	}
}

// FuzzSetsVerifyAsTheLibraryHasIt signs sets of any type with miekg/dns, then
// changes something, and compares its verdict with ours.
func FuzzSetsVerifyAsTheLibraryHasIt(f *testing.F) {
	for _, text := range []string{
		"a. A 192.0.2.1", "a. NS NS.b.", "a. SOA A.b. C.d. 1 2 3 4 5", "a. MX 1 M.x.", `a. TXT "Abc"`, "a. SRV 1 2 3 S.v.",
		`a. NAPTR 1 2 "A" "B" "C" D.e.`, "a. DS 1 8 2 " + strings.Repeat("AB", 32), "a. NSEC B.c. A NS RRSIG",
		"a. NSEC3 1 0 1 AB CPNMU09BFUDVE5ROFG1PJ1SATHRA7G1L A", `a. HTTPS 1 T.g. alpn="h2" ipv4hint=192.0.2.1`,
		`a. CAA 0 issue "CA.example"`, "a. TLSA 1 1 1 ABCD", `a. TYPE65000 \# 2 4142`, "a. RP A.b. C.d.", "a. DNSKEY 256 3 8 AwEAAQ==",
		"a. LOC 42 21 54 N 71 06 18 W -24m 30m", "a. CERT 1 2 8 AAAA", "a. SSHFP 1 1 AB", "a. AAAA 2001:db8::1", "a. PX 1 A.b. C.d.",
	} {
		rr, err := dns.NewRR(text)
		if err != nil {
			f.Fatalf("%s: %v", text, err)
		}
		buf := make([]byte, 1024)
		n, err := dns.PackRR(rr, buf, 0, nil, false)
		if err != nil {
			f.Fatalf("%s: %v", text, err)
		}
		for change := range uint8(changes) {
			f.Add(rr.Header().Rrtype, buf[3+10:n], uint16(n), "Www.Example.", change)
		}
	}
	k := newSigner("example.", dns.ED25519, 256)
	f.Fuzz(func(t *testing.T, typ uint16, rdata []byte, split uint16, owner string, change uint8) {
		s, ok := fuzzedSet(typ, rdata, split, owner)
		if !ok {
			return
		}
		sig := k.template(&s)
		sig.Hdr.Name, sig.SignerName = s.RRs[0].Header().Name, "eXample."
		if sig.Sign(k.private, s.RRs) != nil {
			return
		}
		s.Sigs = []*dns.RRSIG{sig}
		b := NewBudget()
		if _, err := VerifySet(&s, exampleZone, []*dns.DNSKEY{k.DNSKEY}, testNow, b); err != nil {
			t.Fatalf("%v\n%v\n%v", err, sig, s.RRs)
		}
		key := *k.DNSKEY
		damageOneThing(change, split, sig, &key, s.RRs)
		theirs := sig.Verify(&key, s.RRs)
		if theirs == nil && !sig.ValidityPeriod(testNow) {
			theirs = dns.ErrTime
		}
		_, ours := VerifySet(&s, exampleZone, []*dns.DNSKEY{&key}, testNow, b)
		if (ours == nil) != (theirs == nil) {
			t.Fatalf("ours %v, theirs %v\n%v\n%v\n%v", ours, theirs, sig, &key, s.RRs)
		}
	})
}

// fuzzedSet returns a set of one or two records of the type typ, if owner is a
// name below example. and rdata something that both sides make sense of.
func fuzzedSet(typ uint16, rdata []byte, split uint16, owner string) (s rrset.Set, ok bool) {
	name, err := wire.ParseName(owner)
	if err != nil || !name.Within(exampleZone) || wire.Type(typ).Meta() || typ == 0 || len(rdata) > 2000 {
		return s, false
	}
	switch typ {
	case typeA6, dns.TypeNXT, dns.TypeRRSIG: // in which miekg/dns does not fold names
		return s, false
	case dns.TypeDS:
		if name == exampleZone {
			return s, false
		}
	}
	cut := min(int(split), len(rdata))
	s = rrset.Set{Name: name, Type: wire.Type(typ)}
	for _, part := range [2][]byte{rdata[:cut], rdata[cut:]} {
		wireRR := []byte(name)
		wireRR = binary.BigEndian.AppendUint16(wireRR, typ)
		wireRR = binary.BigEndian.AppendUint16(wireRR, dns.ClassINET)
		wireRR = binary.BigEndian.AppendUint32(wireRR, 3600)
		wireRR = binary.BigEndian.AppendUint16(wireRR, uint16(len(part)))
		rr, end, err := dns.UnpackRR(append(wireRR, part...), 0)
		if err != nil || end != len(wireRR)+len(part) {
			continue
		}
		// The library unpacks records that end early, and packs them with
		// names that were not there. They do not survive being printed.
		same, err := dns.NewRR(rr.String())
		if err != nil || same == nil || !bytes.Equal(packed(same), packed(rr)) {
			continue
		}
		s.RRs = append(s.RRs, rr)
	}
	return s, len(s.RRs) > 0
}

// packed returns rr in wire format.
func packed(rr dns.RR) []byte {
	buf := make([]byte, dns.Len(rr)+1)
	n, err := dns.PackRR(rr, buf, 0, nil, false)
	if err != nil {
		return nil
	}
	return buf[:n]
}

// changes is the number of things that damageOneThing can do.
const changes = 12

// damageOneThing changes one thing, or nothing, of what a signature rests on.
func damageOneThing(change uint8, by uint16, sig *dns.RRSIG, k *dns.DNSKEY, rrs []dns.RR) {
	switch change % changes {
	case 0:
	case 1:
		sig.OrigTtl += uint32(by)
	case 2:
		sig.KeyTag += by
	case 3: // whole days, so that no tolerance decides
		sig.Expiration = serial(testNow.Add(time.Duration(int(by)%200-100)*24*time.Hour + 12*time.Hour))
	case 4:
		sig.TypeCovered += by
	case 5:
		octets := []byte(sig.Signature)
		octets[int(by)%(len(octets)-4)] ^= 1
		sig.Signature = string(octets)
	case 6:
		rrs[0].Header().Ttl = uint32(by)
	case 7:
		k.Flags &^= by & dns.ZONE
		sig.KeyTag = k.KeyTag()
	case 8:
		k.Protocol = uint8(by)
		sig.KeyTag = k.KeyTag()
	case 9:
		slices.Reverse(rrs)
	case 10:
		sig.Labels += uint8(by)
	case 11:
		k.Algorithm += uint8(by)
	}
}
