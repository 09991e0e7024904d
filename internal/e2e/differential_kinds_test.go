package e2e

import (
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// kind is a way for a zone to be signed, well or not.
type kind struct {
	name    string
	why     string
	alg     uint8                      // default: ECDSA P-256
	hash    *dns.NSEC3PARAM            // NSEC3; default: NSEC
	more    string                     // records to add
	ask     []question                 // in addition to those for every zone; names are relative
	prepare func(z *labZone)           // before it is signed
	damage  func(z *labZone)           // afterwards
	ds      func(z *labZone) []*dns.DS // default: SHA-256

	// contradictory zones have what their denials deny: of what is concluded
	// from those, nothing is expected.
	contradictory bool

	// stricter says why Shirube may trust less than Unbound here; "": it must
	// not.
	stricter string
}

// params returns what says how NSEC3 records are to be.
func params(iterations uint16, salt string, flags uint8) *dns.NSEC3PARAM {
	return &dns.NSEC3PARAM{
		Hdr:  dns.RR_Header{Rrtype: dns.TypeNSEC3PARAM, Class: dns.ClassINET}, // TTL 0; the name is set later
		Hash: dns.SHA1, Flags: flags, Iterations: iterations, SaltLength: uint8(len(salt) / 2), Salt: salt,
	}
}

// signed at another time.
func between(from, to time.Duration, types ...uint16) func(*labZone) {
	return func(z *labZone) {
		z.stamp = func(set []dns.RR, sig *dns.RRSIG) {
			if len(types) > 0 && set[0].Header().Rrtype != types[0] {
				return
			}
			now := time.Now()
			sig.Inception, sig.Expiration = uint32(now.Add(from).Unix()), uint32(now.Add(to).Unix())
		}
	}
}

// without removes the signatures of a type.
func without(typ uint16) func(*labZone) {
	return func(z *labZone) { z.drop(func(rr dns.RR) bool { return signs(rr, typ) }) }
}

// withoutType removes the records of a type and their signatures.
func withoutType(typ uint16) func(*labZone) {
	return func(z *labZone) { z.drop(func(rr dns.RR) bool { return rr.Header().Rrtype == typ || signs(rr, typ) }) }
}

// flipped damages the signatures of a type; 0: of all.
func flipped(typ uint16) func(*labZone) {
	return func(z *labZone) {
		each(z, func(sig *dns.RRSIG) {
			if signs(sig, typ) {
				sig.Signature = flip(sig.Signature)
			}
		})
	}
}

// flip changes one bit of a signature.
func flip(signature string) string {
	b, err := base64.StdEncoding.DecodeString(signature)
	must(err)
	b[len(b)/2] ^= 1
	return base64.StdEncoding.EncodeToString(b)
}

// split has one key sign the keys and another the rest.
func split(z *labZone) {
	zsk := newKey(z.name, z.keys[0].Algorithm)
	zsk.Flags, zsk.keys = dns.ZONE, false
	z.keys[0].data = false
	z.keys = append(z.keys, zsk)
}

// flagged changes the first key before it signs.
func flagged(change func(*dns.DNSKEY)) func(*labZone) {
	return func(z *labZone) { change(z.keys[0].DNSKEY) }
}

// weak gives a zone an RSA key of any size.
func weak(bits int, e int64) func(*labZone) {
	return func(z *labZone) {
		public, sign := newRSA(z.keys[0].Algorithm, bits, e)
		z.keys[0].PublicKey, z.keys[0].private = base64.StdEncoding.EncodeToString(public), sign
	}
}

// garbage puts n signatures that look right and are not before each good one.
func garbage(n int) func(*labZone) {
	return func(z *labZone) {
		var out []dns.RR
		for _, rr := range z.rrs {
			if sig, ok := rr.(*dns.RRSIG); ok {
				for i := range n {
					bad := *sig
					bad.Expiration -= uint32(i + 1)
					out = append(out, &bad)
				}
			}
			out = append(out, rr)
		}
		z.rrs = out
	}
}

// tampered returns the zone's DS records, changed.
func tampered(change func(*dns.DS)) func(*labZone) []*dns.DS {
	return func(z *labZone) []*dns.DS {
		ds := z.entry(dns.SHA256)
		for _, d := range ds {
			change(d)
		}
		return ds
	}
}

func wrongDigest(ds *dns.DS) { ds.Digest = strings.Repeat("ab", len(ds.Digest)/2) }

// claim adds the types that are asked for to a bitmap.
func claim(bits []uint16) []uint16 {
	bits = append(bits, dns.TypeA, dns.TypeMX, dns.TypeTXT, dns.TypeAAAA, dns.TypeCAA)
	slices.Sort(bits)
	return slices.Compact(bits)
}

// kinds are all of them. Each has a zone of its own below lab.
var kinds = []kind{
	{name: "good", why: "NSEC, ECDSA P-256"},
	{name: "n3", why: "NSEC3 as RFC 9276 wants it", hash: params(0, "", 0)},
	{name: "n3salt", why: "NSEC3 with salt", hash: params(5, "5eed", 0)},
	{name: "n3it50", why: "iterations at the limit of RFC 9276 §3.2", hash: params(50, "", 0)},
	{name: "n3it51", hash: params(51, "", 0), stricter: "more than 50 iterations are insecure here (RFC 9276 §3.2); Unbound 1.17 has 150"},
	{name: "n3it150", hash: params(150, "ab", 0), stricter: "more than 50 iterations are insecure here (RFC 9276 §3.2); Unbound 1.17 has 150"},
	{name: "n3it500", hash: params(500, "", 0)},
	{name: "n3optout", hash: params(0, "", optOut)},
	{name: "split", why: "a key for the keys and one for the data", prepare: split},
	{name: "p384", alg: dns.ECDSAP384SHA384},
	{name: "ed25519", alg: dns.ED25519},
	{name: "ed448", alg: dns.ED448, why: "signed by ldns-signzone"},
	{name: "rsasha1", alg: dns.RSASHA1},
	{name: "rsasha1n3", alg: dns.RSASHA1NSEC3SHA1, hash: params(1, "", 0)},
	{name: "rsasha256", alg: dns.RSASHA256},
	{name: "rsasha512", alg: dns.RSASHA512},
	{name: "rsae3", alg: dns.RSASHA256, prepare: weak(1024, 3)},
	{name: "rsabige", alg: dns.RSASHA256, why: "exponent above 32 bits", prepare: weak(1024, 1<<32+1)},
	{name: "rsa512", alg: dns.RSASHA256, why: "a short key", prepare: weak(512, 65537)},
	{name: "rsa2048", alg: dns.RSASHA256, prepare: weak(2048, 65537)},
	{name: "rollalg", why: "two algorithms sign everything, a DS for one", prepare: func(z *labZone) {
		z.keys = append(z.keys, newKey(z.name, dns.RSASHA256))
	}, ds: func(z *labZone) []*dns.DS { return z.entry(dns.SHA256)[:1] }},
	{name: "rollpre", why: "the next key is published and does not sign", prepare: func(z *labZone) {
		next := newKey(z.name, dns.ECDSAP256SHA256)
		next.keys, next.data = false, false
		z.keys = append(z.keys, next)
	}},
	{name: "rollds", why: "the next key has a DS already", prepare: func(z *labZone) {
		next := newKey(z.name, dns.ECDSAP256SHA256)
		next.keys, next.data, next.hidden = false, false, true
		z.keys = append(z.keys, next)
	}, ds: func(z *labZone) []*dns.DS {
		return append(z.entry(dns.SHA256), z.keys[1].ToDS(dns.SHA256))
	}},
	{name: "sigs3", why: "two bad signatures and a good one", damage: garbage(2)},
	{name: "sigs5", why: "four bad signatures and a good one", damage: garbage(4), stricter: "at most 4 signatures of a set are tried (KeyTrap, CVE-2023-50387)"},
	{name: "MiXeD", why: "names in upper and lower case", more: "UPPER MX 10 MaiL\nCamel CNAME WwW\n", ask: []question{{"upper", "MX"}, {"cAmEl", "A"}}},
	{name: "ttl", why: "TTLs above the original one", prepare: func(z *labZone) {
		z.stamp = func(_ []dns.RR, sig *dns.RRSIG) { sig.OrigTtl = 60 }
	}},
	{name: "unsigned", ds: func(*labZone) []*dns.DS { return nil }, damage: func(z *labZone) {
		z.drop(func(rr dns.RR) bool {
			t := rr.Header().Rrtype
			return t == dns.TypeRRSIG || t == dns.TypeNSEC || t == dns.TypeDNSKEY
		})
	}},
	{name: "island", why: "signed, without a DS", ds: func(*labZone) []*dns.DS { return nil }},
	{name: "islandbad", why: "signed badly, without a DS", ds: func(*labZone) []*dns.DS { return nil }, damage: flipped(0)},

	{name: "expired", prepare: between(-30*24*time.Hour, -10*24*time.Hour)},
	{name: "expireddata", why: "expired on A only", prepare: between(-30*24*time.Hour, -10*24*time.Hour, dns.TypeA)},
	{name: "expiredkeys", why: "expired on DNSKEY only", prepare: between(-30*24*time.Hour, -10*24*time.Hour, dns.TypeDNSKEY)},
	{name: "expiredsoa", why: "expired on SOA only", prepare: between(-30*24*time.Hour, -10*24*time.Hour, dns.TypeSOA)},
	{name: "skew", why: "expired half an hour ago: within the skew", prepare: between(-30*24*time.Hour, -30*time.Minute)},
	{name: "future", prepare: between(10*24*time.Hour, 30*24*time.Hour)},
	{name: "inverted", why: "expires before it begins", prepare: between(24*time.Hour, -24*time.Hour)},
	{name: "nosig", why: "no signatures at all", damage: without(0)},
	{name: "nosiga", why: "none on A", damage: without(dns.TypeA)},
	{name: "nosigsoa", why: "none on SOA", damage: without(dns.TypeSOA)},
	{name: "nosigkeys", why: "none on DNSKEY", damage: without(dns.TypeDNSKEY)},
	{name: "nosignsec", why: "none on NSEC", damage: without(dns.TypeNSEC)},
	{name: "nosignsec3", why: "none on NSEC3", hash: params(0, "", 0), damage: without(dns.TypeNSEC3)},
	{name: "nosigcname", why: "none on CNAME", damage: without(dns.TypeCNAME)},
	{name: "nosigdname", why: "none on DNAME", damage: without(dns.TypeDNAME)},
	{name: "flipped", why: "bad signatures", damage: flipped(0)},
	{name: "flippeda", why: "bad on A", damage: flipped(dns.TypeA)},
	{name: "flippedsoa", why: "bad on SOA", damage: flipped(dns.TypeSOA)},
	{name: "flippednsec", why: "bad on NSEC", damage: flipped(dns.TypeNSEC)},
	{name: "flippednsec3", why: "bad on NSEC3", hash: params(0, "", 0), damage: flipped(dns.TypeNSEC3)},
	{name: "forged", why: "data changed after it was signed", damage: func(z *labZone) {
		each(z, func(a *dns.A) { a.A[len(a.A)-1]++ })
	}},
	{name: "added", why: "a record added to signed sets", damage: func(z *labZone) {
		z.add("www A 198.51.100.66\nmail A 198.51.100.66\n")
	}},
	{name: "nokeys", why: "no DNSKEY", damage: withoutType(dns.TypeDNSKEY)},
	{name: "foreign", why: "signed by a key that is not there", prepare: func(z *labZone) {
		other := newKey(z.name, dns.ECDSAP256SHA256)
		other.keys, other.hidden = false, true
		z.keys[0].data = false
		z.keys = append(z.keys, other)
	}},
	{name: "foreignsigner", why: "signed by another zone", damage: func(z *labZone) {
		each(z, func(sig *dns.RRSIG) {
			if sig.TypeCovered == dns.TypeA {
				sig.SignerName = "good.lab."
			}
		})
	}},
	{name: "zskonly", why: "the key that has a DS signs nothing", prepare: func(z *labZone) {
		other := newKey(z.name, dns.ECDSAP256SHA256)
		other.Flags = dns.ZONE
		z.keys[0].keys, z.keys[0].data = false, false
		z.keys = append(z.keys, other)
	}, ds: func(z *labZone) []*dns.DS { return []*dns.DS{z.keys[0].ToDS(dns.SHA256)} }},
	{name: "labelsmore", why: "signatures with more labels", damage: func(z *labZone) {
		each(z, func(sig *dns.RRSIG) {
			if sig.TypeCovered == dns.TypeA {
				sig.Labels++
			}
		})
	}},
	{name: "labelsless", why: "signatures with fewer labels", damage: func(z *labZone) {
		each(z, func(sig *dns.RRSIG) {
			if sig.TypeCovered == dns.TypeA {
				sig.Labels--
			}
		})
	}},
	{name: "wildstolen", contradictory: true, why: "a wildcard's records and signature at a name, without proof", damage: func(z *labZone) {
		for _, rr := range append([]dns.RR(nil), z.rrs...) {
			h := rr.Header()
			if h.Name == z.abs("*.wild") && (h.Rrtype == dns.TypeTXT || signs(rr, dns.TypeTXT)) {
				c := dns.Copy(rr)
				c.Header().Name = z.abs("stolen.wild")
				z.rrs = append(z.rrs, c)
			}
		}
	}, ask: []question{{"stolen.wild", "TXT"}, {"stolen.wild", "A"}}},
	{name: "nonsec", why: "no NSEC", damage: withoutType(dns.TypeNSEC)},
	{name: "nonsec3", why: "no NSEC3", hash: params(0, "", 0), damage: withoutType(dns.TypeNSEC3)},
	{name: "nsecgap", why: "NSEC records that cover nothing", damage: func(z *labZone) {
		each(z, func(n *dns.NSEC) { n.NextDomain = `\000.` + n.Hdr.Name })
		z.resign(dns.TypeNSEC)
	}},
	{name: "nsecbits", why: "NSEC bitmaps that claim every type asked for", damage: func(z *labZone) {
		each(z, func(n *dns.NSEC) {
			n.TypeBitMap = claim(n.TypeBitMap)
		})
		z.resign(dns.TypeNSEC)
	}},
	{name: "nsec3bits", why: "NSEC3 bitmaps that claim every type asked for", hash: params(0, "", 0), damage: func(z *labZone) {
		each(z, func(n *dns.NSEC3) {
			n.TypeBitMap = claim(n.TypeBitMap)
		})
		z.resign(dns.TypeNSEC3)
	}},
	{name: "nsec3hash", why: "NSEC3 records of hashes that nothing has", hash: params(0, "", 0), damage: func(z *labZone) {
		each(z, func(n *dns.NSEC3) { n.Hdr.Name = "0" + n.Hdr.Name[1:] })
		z.resign(dns.TypeNSEC3)
	}},
	{name: "nsec3flags", why: "NSEC3 with a flag that nobody knows", hash: params(0, "", 0), damage: func(z *labZone) {
		each(z, func(n *dns.NSEC3) { n.Flags = 0x82 })
		z.resign(dns.TypeNSEC3)
	}},

	{name: "nozone", why: "a key without the ZONE flag", prepare: flagged(func(k *dns.DNSKEY) { k.Flags = dns.SEP })},
	{name: "revoked", why: "a revoked key", prepare: flagged(func(k *dns.DNSKEY) { k.Flags |= dns.REVOKE }), stricter: "what a zone has revoked vouches for nothing here, whatever its DS says (RFC 5011 §2.1)"},
	{name: "nosep", why: "a key without the SEP flag, which means nothing to us", prepare: flagged(func(k *dns.DNSKEY) { k.Flags = dns.ZONE })},
	{name: "protocol", why: "a key of another protocol", prepare: flagged(func(k *dns.DNSKEY) { k.Protocol = 2 })},

	{name: "dswrong", why: "another digest", ds: tampered(wrongDigest)},
	{name: "dstag", why: "a DS for a key that is not there", ds: tampered(func(ds *dns.DS) { ds.KeyTag ^= 1 })},
	{name: "dsalg", why: "a DS for a key of an algorithm that is not there", ds: tampered(func(ds *dns.DS) { ds.Algorithm = dns.RSASHA256 })},
	{name: "dsnoalg", why: "a DS of an algorithm that nobody knows", ds: tampered(func(ds *dns.DS) { ds.Algorithm = 200 })},
	{name: "dsnodigest", why: "a DS with a digest that nobody knows", ds: tampered(func(ds *dns.DS) { ds.DigestType = 200 })},
	{name: "dsshort", why: "a DS with half a digest", ds: tampered(func(ds *dns.DS) { ds.Digest = ds.Digest[:32] })},
	{name: "dssha1", why: "a DS with SHA-1", ds: func(z *labZone) []*dns.DS { return z.entry(dns.SHA1) }},
	{name: "dssha384", why: "a DS with SHA-384", ds: func(z *labZone) []*dns.DS { return z.entry(dns.SHA384) }},
	{name: "dsboth", why: "a good DS and one that nobody knows", ds: func(z *labZone) []*dns.DS {
		odd := z.keys[0].ToDS(dns.SHA256)
		odd.Algorithm = 200
		return append(z.entry(dns.SHA256), odd)
	}},
	{name: "dsdowngrade", why: "a good DS with SHA-1 and a wrong one with SHA-256 (RFC 4509 §3)", ds: func(z *labZone) []*dns.DS {
		ds := z.entry(dns.SHA1, dns.SHA256)
		wrongDigest(ds[1])
		return ds
	}, stricter: "a digest of SHA-1 does not count beside a better one (RFC 4509 §3)"},
	{name: "dsstale", why: "a good DS and one for a key that is gone", ds: func(z *labZone) []*dns.DS {
		return append(z.entry(dns.SHA256), newKey(z.name, dns.ECDSAP256SHA256).ToDS(dns.SHA256))
	}},
	{name: "dsunsigned", why: "a DS, and nothing signed", damage: func(z *labZone) {
		z.drop(func(rr dns.RR) bool {
			t := rr.Header().Rrtype
			return t == dns.TypeRRSIG || t == dns.TypeNSEC || t == dns.TypeDNSKEY
		})
	}},
}
