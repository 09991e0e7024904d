package dnssec

import (
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// vectors has the examples of the RFCs: a key, its DS where one is given, and a
// set with its signature.
var vectors = []struct {
	name     string
	key, ds  string
	set      []string // with its RRSIG
	at       string
	wildcard string
}{
	{
		name: "RFC 4034 §5.4: DS with SHA-1",
		key: "dskey.example.com. DNSKEY 256 3 5 AQOeiiR0GOMYkDshWoSKz9XzfwJr1AYtsmx3TGkJaNXVbfi/2pHm822aJ5iI9BMzNXxeYCmZ" +
			"DRD99WYwYqUSdjMmmAphXdvxegXd/M5+X7OrzKBaMbCVdFLUUh6DhweJBjEVv5f2wwjM9XzcnOf+EPbtG9DMBmADjFDc2w/rljwvFw==",
		ds: "dskey.example.com. DS 60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118",
	},
	{
		name: "RFC 4509 §2.3: DS with SHA-256",
		key: "dskey.example.com. DNSKEY 256 3 5 AQOeiiR0GOMYkDshWoSKz9XzfwJr1AYtsmx3TGkJaNXVbfi/2pHm822aJ5iI9BMzNXxeYCmZ" +
			"DRD99WYwYqUSdjMmmAphXdvxegXd/M5+X7OrzKBaMbCVdFLUUh6DhweJBjEVv5f2wwjM9XzcnOf+EPbtG9DMBmADjFDc2w/rljwvFw==",
		ds: "dskey.example.com. DS 60485 5 2 D4B7D520E7BB5F0F67674A0CCEB1E3E0614B93C4F9E99B8383F6A1E4469DA50A",
	},
	{
		name: "RFC 4035 §B.6: RSA/SHA-1, exponent 3, wildcard",
		key: "example. DNSKEY 256 3 5 AQOy1bZVvpPqhg4j7EJoM9rI3ZmyEx2OzDBVrZy/lvI5CQePxXHZS4i8dANH4DX3tbHol61ek8EFMcsG" +
			"XxKciJFHyhl94C+NwILQdzsUlSFovBZsyl/NX6yEbtw/xN9ZNcrbYvgjjZ/UVPZIySFNsgEYvh0z2542lzMKR4Dh8uZffQ==",
		set: []string{
			"a.z.w.example. 3600 MX 1 ai.example.",
			"a.z.w.example. 3600 RRSIG MX 5 2 3600 20040509183619 20040409183619 38519 example. OMK8rAZlepfzLWW75Dxd63jy" +
				"2wswESzxDKG2f9AMN1CytCd10cYISAxfAdvXSZ7xujKAtPbctvOQ2ofO7AZJ+d01EeeQTVBPq4/6KCWhqe2XTjnkVLNvvhnc0u28" +
				"aoSsG0+4InvkkOHknKxw4kX18MMR34i8lC36SR5xBni8vHI=",
		},
		at: "20040501120000", wildcard: "*.w.example.",
	},
	{
		name: "RFC 5702 §6.1: RSA/SHA-256, 512 bits",
		key:  "example.net. DNSKEY 256 3 8 AwEAAcFcGsaxxdgiuuGmCkVImy4h99CqT7jwY3pexPGcnUFtR2Fh36BponcwtkZ4cAgtvd4Qs8PkxUdp6p/DlUmObdk=",
		set: []string{
			"www.example.net. 3600 A 192.0.2.91",
			"www.example.net. 3600 RRSIG A 8 3 3600 20300101000000 20000101000000 9033 example.net. kRCOH6u7l0QGy9qpC9l1sLncJcOK" +
				"FLJ7GhiUOibu4teYp5VE9RncriShZNz85mwlMgNEacFYK/lPtPiVYP4bwg==",
		},
		at: "20101231000000",
	},
	{
		name: "RFC 5702 §6.2: RSA/SHA-512",
		key: "example.net. DNSKEY 256 3 10 AwEAAdHoNTOW+et86KuJOWRDp1pndvwb6Y83nSVXXyLA3DLroROUkN6X0O6pnWnjJQujX/AyhqFDxj13" +
			"tOnD9u/1kTg7cV6rklMrZDtJCQ5PCl/D7QNPsgVsMu1J2Q8gpMpztNFLpPBz1bWXjDtaR7ZQBlZ3PFY12ZTSncorffcGmhOL",
		set: []string{
			"www.example.net. 3600 A 192.0.2.91",
			"www.example.net. 3600 RRSIG A 10 3 3600 20300101000000 20000101000000 3740 example.net. tsb4wnjRUDnB1BUi+t6TMTXThjVn" +
				"G+eCkWqjvvjhzQL1d0YRoOe0CbxrVDYd0xDtsuJRaeUw1ep94PzEWzr0iGYgZBWm/zpq+9fOuagYJRfDqfReKBzMweOLDiNa8iP5g9vMhpuv6OPl" +
				"vpXwm9Sa9ZXIbNl1MBGk0fthPgxdDLw=",
		},
		at: "20101231000000",
	},
	{
		name: "RFC 6605 §6.1: ECDSA P-256",
		key:  "example.net. DNSKEY 257 3 13 GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA==",
		ds:   "example.net. DS 55648 13 2 b4c8c1fe2e7477127b27115656ad6256f424625bf5c1e2770ce6d6e37df61d17",
		set: []string{
			"www.example.net. 3600 A 192.0.2.1",
			"www.example.net. 3600 RRSIG A 13 3 3600 20100909100439 20100812100439 55648 example.net. qx6wLYqmh+l9oCKTN6qIc+bw6ya+KJ8oMz0YP107epXA" +
				"yGmt+3SNruPFKG7tZoLBLlUzGGus7ZwmwWep666VCw==",
		},
		at: "20100820000000",
	},
	{
		name: "RFC 6605 §6.2: ECDSA P-384",
		key: "example.net. DNSKEY 257 3 14 xKYaNhWdGOfJ+nPrL8/arkwf2EY3MDJ+SErKivBVSum1w/egsXvSADtNJhyem5RCOpgQ6K8X1DRSEkrb" +
			"YQ+OB+v8/uX45NBwY8rp65F6Glur8I/mlVNgF6W/qTI37m40",
		ds: "example.net. DS 10771 14 4 72d7b62976ce06438e9c0bf319013cf801f09ecc84b8d7e9495f27e305c6a9b0563a9b5f4d288405c3008a946df983d6",
		set: []string{
			"www.example.net. 3600 A 192.0.2.1",
			"www.example.net. 3600 RRSIG A 14 3 3600 20100909102025 20100812102025 10771 example.net. /L5hDKIvGDyI1fcARX3z65qrmPsVz73QD1Mr5CEqOiLP" +
				"95hxQouuroGCeZOvzFaxsT8Glr74hbavRKayJNuydCuzWTSSPdz7wnqXL5bdcJzusdnI0RSMROxxwGipWcJm",
		},
		at: "20100820000000",
	},
	{
		name: "RFC 8080 §6.1: Ed25519 (erratum 4935)",
		key:  "example.com. DNSKEY 257 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=",
		ds:   "example.com. DS 3613 15 2 3aa5ab37efce57f737fc1627013fee07bdf241bd10f3b1964ab55c78e79a304b",
		set: []string{
			"example.com. 3600 MX 10 mail.example.com.",
			"example.com. 3600 RRSIG MX 15 2 3600 1440021600 1438207200 3613 example.com. oL9krJun7xfBOIWcGHi7mag5/hdZrKWw15jPGrHpjQeR" +
				"AvTdszaPD+QLs3fx8A4M3e23mRZ9VrbpMngwcrqNAg==",
		},
		at: "20150805000000",
	},
	{
		name: "RFC 8080 §6.2: Ed448, first (erratum 4935)",
		key:  "example.com. DNSKEY 257 3 16 3kgROaDjrh0H2iuixWBrc8g2EpBBLCdGzHmn+G2MpTPhpj/OiBVHHSfPodx1FYYUcJKm1MDpJtIA",
		ds:   "example.com. DS 9713 16 2 6ccf18d5bc5d7fc2fceb1d59d17321402f2aa8d368048db93dd811f5cb2b19c7",
		set: []string{
			"example.com. 3600 MX 10 mail.example.com.",
			"example.com. 3600 RRSIG MX 16 2 3600 1440021600 1438207200 9713 example.com. 3cPAHkmlnxcDHMyg7vFC34l0blBhuG1qpwLmjInI8w1C" +
				"MB29FkEAIJUA0amxWndkmnBZ6SKiwZSAxGILn/NBtOXft0+Gj7FSvOKxE/07+4RQvE581N3Aj/JtIyaiYVdnYtyMWbSNyGEY2213WKsJlwEA",
		},
		at: "20150805000000",
	},
	{
		name: "RFC 8080 §6.2: Ed448, second (erratum 4935)",
		key:  "example.com. DNSKEY 257 3 16 kkreGWoccSDmUBGAe7+zsbG6ZAFQp+syPmYUurBRQc3tDjeMCJcVMRDmgcNLp5HlHAMy12VoISsA",
		ds:   "example.com. DS 38353 16 2 645ff078b3568f5852b70cb60e8e696cc77b75bfaaffc118cf79cbda1ba28af4",
		set: []string{
			"example.com. 3600 MX 10 mail.example.com.",
			"example.com. 3600 RRSIG MX 16 2 3600 1440021600 1438207200 38353 example.com. E1/oLjSGIbmLny/4fcgM1z4oL6aqo+izT3urCyHyvEp4" +
				"Sp8Syg1eI+lJ57CSnZqjJP41O/9l4m0AsQ4f7qI1gVnML8vWWiyW2KXhT9kuAICUSxv5OWbf81Rq7Yu60npabODB0QFPb/rkW3kUZmQ0YQUA",
		},
		at: "20150805000000",
	},
}

func TestExamplesOfTheRFCsVerify(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			key := setOf(t, v.key).RRs[0].(*dns.DNSKEY)
			zone := wire.MustParseName(key.Hdr.Name)
			if v.ds != "" {
				entries, err := entryKeys(zone, []*dns.DS{setOf(t, v.ds).RRs[0].(*dns.DS)}, readKeys([]*dns.DNSKEY{key}))
				if err != nil || len(entries) != 1 {
					t.Errorf("by DS: %d keys, %v", len(entries), err)
				}
			}
			if v.set == nil {
				return
			}
			now, err := time.Parse("20060102150405", v.at)
			if err != nil {
				t.Fatal(err)
			}
			s := setOf(t, v.set...)
			p, err := VerifySet(&s, zone, []*dns.DNSKEY{key}, now, NewBudget())
			if err != nil || p.Trust != rrset.Secure || p.Wildcard != "" && p.Wildcard.String() != v.wildcard || p.Wildcard == "" && v.wildcard != "" {
				t.Errorf("%v, %v; expected it secure, wildcard %q", p, err, v.wildcard)
			}
		})
	}
}

// The examples that RFC 8080 was printed with are of three labels, which
// example.com does not have: the signatures are good, and nevertheless bogus.
func TestPrintedExampleOfRFC8080HasTooManyLabels(t *testing.T) {
	key := setOf(t, "example.com. DNSKEY 257 3 16 3kgROaDjrh0H2iuixWBrc8g2EpBBLCdGzHmn+G2MpTPhpj/OiBVHHSfPodx1FYYUcJKm1MDpJtIA").RRs[0].(*dns.DNSKEY)
	s := setOf(t, "example.com. 3600 MX 10 mail.example.com.",
		"example.com. 3600 RRSIG MX 16 3 3600 1440021600 1438207200 9713 example.com. Nmc0rgGKpr3GKYXcB1JmqqS4NYwhmechvJTqVzt3jR+Q"+
			"y/lSLFoIk1L+9e39GPL+5tVzDPN3f9kAwiu8KCuPPjtl227ayaCZtRKZuJax7n9NuYlZJIusX0SOIOKBGzG+yWYtz1/jjbzl5GGkWvREUCUA")
	p, err := VerifySet(&s, wire.MustParseName("example.com."), []*dns.DNSKEY{key}, time.Unix(1439000000, 0), NewBudget())
	refused(t, p, err, ede.Bogus, "more labels")
}
