package rpl

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// record reads one resource record. The parser of zone files is stricter than
// those that the scenarios were written for; where it matters it is helped.
func (r *reader) record(text string) (dns.RR, error) {
	w := strings.Fields(text)
	for i := 1; i < min(len(w)-1, 3); i++ { // to the parser, ANY is a type
		if _, ok := typeOf(w[i+1]); ok && w[i] == "ANY" {
			w[i] = "CLASS255"
			text = strings.Join(w, " ")
		}
	}
	rr, err := r.parse(text)
	raw, opaque := r.opaque(w)
	switch {
	case opaque && (err != nil || string(rdata(raw)) != string(rdata(rr))):
		rr = raw
	case err != nil:
		return nil, err
	}
	switch rr.Header().Rrtype {
	case dns.TypeOPT, dns.TypeTSIG: // what they say is said in other ways
		return nil, errPseudo
	}
	repair(rr)
	return rr, nil
}

// errPseudo reports a record that belongs to a message, not to a zone.
var errPseudo = errors.New("an OPT or TSIG record cannot be written as text")

// parse is the parser of zone files.
func (r *reader) parse(text string) (dns.RR, error) {
	zp := dns.NewZoneParser(strings.NewReader(text+"\n"), r.origin, "")
	zp.SetDefaultTTL(r.ttl)
	rr, ok := zp.Next()
	if err := zp.Err(); err != nil {
		return nil, err
	}
	if !ok || rr.Header().Name == "" { // that of the record before, of which the parser knows nothing
		return nil, fmt.Errorf("%.80q is no record", text)
	}
	return rr, nil
}

// opaque reads a record whose RDATA is given in hexadecimal (RFC 3597 §5) and
// is wrong for its type, which is what such scenarios are about.
func (r *reader) opaque(w []string) (dns.RR, bool) {
	i := slices.Index(w, `\#`)
	if i < 2 {
		return nil, false
	}
	typ, ok := typeOf(w[i-1])
	if !ok || typ == dns.TypeOPT || typ == dns.TypeTSIG {
		return nil, false
	}
	w = slices.Clone(w)
	w[i-1] = "TYPE65280" // for private use (RFC 6895 §3.1): the parser knows nothing of its RDATA
	rr, err := r.parse(strings.Join(w, " "))
	if err != nil {
		return nil, false
	}
	rr.Header().Rrtype = typ
	return rr, true
}

// repair makes rr packable as it was meant: type bitmaps in any order, and
// base64 that ends early or has strange characters in it.
func repair(rr dns.RR) {
	switch rr := rr.(type) {
	case *dns.NSEC:
		rr.TypeBitMap = inOrder(rr.TypeBitMap)
	case *dns.NSEC3:
		rr.TypeBitMap = inOrder(rr.TypeBitMap)
	case *dns.RRSIG:
		rr.Signature = lenientBase64(rr.Signature)
	case *dns.DNSKEY:
		rr.PublicKey = lenientBase64(rr.PublicKey)
	}
}

// inOrder returns types sorted, each once.
func inOrder(types []uint16) []uint16 {
	slices.Sort(types)
	return slices.Compact(types)
}

// lenientBase64 returns text as base64 that decodes.
func lenientBase64(text string) string {
	if _, err := base64.StdEncoding.DecodeString(text); err == nil {
		return text
	}
	var digits strings.Builder
	for _, c := range []byte(text) {
		if c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '+' || c == '/' {
			digits.WriteByte(c)
		}
	}
	text = digits.String()
	if len(text)%4 == 1 { // six bits make no octet
		text = text[:len(text)-1]
	}
	data, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return ""
	}
	return base64.StdEncoding.EncodeToString(data)
}
