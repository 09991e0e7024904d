package rrset

import (
	"encoding/base64"
	"encoding/binary"
	"net"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// AppendRDATA appends to buf what is the RDATA of rr on the wire, if rr is one
// of those that most answers consist of: an address, or a signature by a zone of
// a name without special characters, all in order and of the type in its header. Else it reports false. It
// is what the library would append, without its reflection and its maps.
func AppendRDATA(buf []byte, rr dns.RR) ([]byte, bool) {
	typ := rr.Header().Rrtype
	switch rr := rr.(type) {
	case *dns.A:
		addr := rr.A.To4()
		return append(buf, addr...), addr != nil && typ == dns.TypeA
	case *dns.AAAA:
		return append(buf, rr.AAAA...), len(rr.AAAA) == net.IPv6len && typ == dns.TypeAAAA
	case *dns.RRSIG:
		buf, ok := appendRRSIG(buf, rr)
		return buf, ok && typ == dns.TypeRRSIG
	}
	return buf, false
}

// appendRRSIG is AppendRDATA for a signature (RFC 4034 §3.1).
func appendRRSIG(buf []byte, rr *dns.RRSIG) ([]byte, bool) {
	buf = binary.BigEndian.AppendUint16(buf, rr.TypeCovered)
	buf = append(buf, rr.Algorithm, rr.Labels)
	buf = binary.BigEndian.AppendUint32(buf, rr.OrigTtl)
	buf = binary.BigEndian.AppendUint32(buf, rr.Expiration)
	buf = binary.BigEndian.AppendUint32(buf, rr.Inception)
	buf = binary.BigEndian.AppendUint16(buf, rr.KeyTag)
	buf, ok := wire.AppendPlainName(buf, rr.SignerName)
	if !ok {
		return buf, false
	}
	start := len(buf)
	buf, err := strictBase64.AppendDecode(buf, []byte(rr.Signature))
	// Strict, and of the length that it has to have, there is one text for some
	// octets (RFC 4648 §3.5).
	return buf, err == nil && len(buf) > start && strictBase64.EncodedLen(len(buf)-start) == len(rr.Signature)
}

var strictBase64 = base64.StdEncoding.Strict()

// AppendRecord appends rr, of class IN, with the given owner and TTL, if
// [AppendRDATA] knows it. owner is as it is on the wire: a name, or a pointer to
// one.
func AppendRecord(buf []byte, owner string, rr dns.RR, ttl uint32) ([]byte, bool) {
	h := rr.Header()
	buf = append(buf, owner...)
	buf = append(buf, byte(h.Rrtype>>8), byte(h.Rrtype), 0, dns.ClassINET)
	buf = binary.BigEndian.AppendUint32(buf, ttl)
	buf = append(buf, 0, 0)
	start := len(buf)
	buf, ok := AppendRDATA(buf, rr)
	binary.BigEndian.PutUint16(buf[start-2:], uint16(len(buf)-start))
	return buf, ok && h.Class == dns.ClassINET
}
