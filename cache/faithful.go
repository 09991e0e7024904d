package cache

import (
	"net"
	"strings"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
)

// faithful reports whether s is one of those that survive without a doubt, so
// that it need not be tried: of the types that most sets and all their
// signatures and denials are of, of names without a special character.
func faithful(s rrset.Set) bool {
	for _, rr := range s.RRs {
		if !faithfulRecord(rr) {
			return false
		}
	}
	for _, sig := range s.Sigs {
		if !faithfulRecord(sig) {
			return false
		}
	}
	return true
}

// faithfulRecord is faithful for one record. What is text in the Go value and
// not in the message has to be as the library writes it when it reads: to two
// texts of the same octets it is not the same record.
func faithfulRecord(rr dns.RR) bool {
	typ, same := dns.TypeNone, false
	switch rr := rr.(type) {
	case *dns.A:
		typ, same = dns.TypeA, rr.A.To4() != nil
	case *dns.AAAA:
		typ, same = dns.TypeAAAA, len(rr.AAAA) == net.IPv6len
	case *dns.NS:
		typ, same = dns.TypeNS, plain(rr.Ns)
	case *dns.CNAME:
		typ, same = dns.TypeCNAME, plain(rr.Target)
	case *dns.MX:
		typ, same = dns.TypeMX, plain(rr.Mx)
	case *dns.SOA:
		typ, same = dns.TypeSOA, plain(rr.Ns) && plain(rr.Mbox)
	case *dns.DS:
		typ, same = dns.TypeDS, hexadecimal(rr.Digest)
	case *dns.DNSKEY:
		typ, same = dns.TypeDNSKEY, base64(rr.PublicKey)
	case *dns.RRSIG:
		typ, same = dns.TypeRRSIG, plain(rr.SignerName) && base64(rr.Signature)
	case *dns.NSEC:
		typ, same = dns.TypeNSEC, plain(rr.NextDomain) && ascending(rr.TypeBitMap)
	}
	h := rr.Header()
	return same && h.Rrtype == typ && plain(h.Name)
}

// plain reports whether name is there, and is of letters, digits, hyphens,
// underscores and dots only, which mean themselves in text and in a message.
func plain(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '.', c == '-', c == '_', 'A' <= c && c <= 'Z':
		default:
			return false
		}
	}
	return name != ""
}

// hexadecimal reports whether text is whole octets in small digits.
func hexadecimal(text string) bool {
	for i := range len(text) {
		if c := text[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return text != "" && len(text)%2 == 0
}

// base64 reports whether text is whole octets in the only way to write them (RFC
// 4648 §4, §3.5: bits that stand for nothing are zero).
func base64(text string) bool {
	digits := strings.TrimSuffix(strings.TrimSuffix(text, "="), "=")
	last := 0 // value of the last digit
	for i := range len(digits) {
		switch c := digits[i]; {
		case 'A' <= c && c <= 'Z':
			last = int(c - 'A')
		case 'a' <= c && c <= 'z':
			last = int(c-'a') + 26
		case '0' <= c && c <= '9':
			last = int(c-'0') + 52
		case c == '+':
			last = 62
		case c == '/':
			last = 63
		default:
			return false
		}
	}
	switch len(text) - len(digits) {
	case 1:
		return len(text)%4 == 0 && last&3 == 0
	case 2:
		return len(text)%4 == 0 && last&15 == 0
	}
	return text != "" && len(text)%4 == 0
}

// ascending reports whether types are there, in the order that they are read in,
// none twice.
func ascending(types []uint16) bool {
	for i := 1; i < len(types); i++ {
		if types[i] <= types[i-1] {
			return false
		}
	}
	return len(types) > 0
}
