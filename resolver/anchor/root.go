package anchor

import "github.com/miekg/dns"

// RootAnchors returns the trust anchors of the root that are built in, as IANA
// publishes them (RFC 9718, https://data.iana.org/root-anchors/root-anchors.xml):
// KSK-2017, which signs since 11 October 2018, and KSK-2024, its successor. They
// were compared with those in BIND's bind.keys, and a test computes them from
// the keys. KSK-2010 (19036) is revoked.
func RootAnchors() []dns.RR {
	root := dns.RR_Header{Name: ".", Rrtype: dns.TypeDS, Class: dns.ClassINET}
	return []dns.RR{
		&dns.DS{
			Hdr: root, KeyTag: 20326, Algorithm: dns.RSASHA256, DigestType: dns.SHA256,
			Digest: "e06d44b80b8f1d39a95c0b0d7c65d08458e880409bbc683457104237c7f8ec8d",
		},
		&dns.DS{
			Hdr: root, KeyTag: 38696, Algorithm: dns.RSASHA256, DigestType: dns.SHA256,
			Digest: "683d2d0acb8c9b712a1948b27f741219298d0a450d612c483af444a4c0fb2b16",
		},
	}
}
