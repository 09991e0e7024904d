package discovery

import (
	"encoding/binary"

	"shirube/internal/wire"
)

// maxString is how long a <character-string> may be, in octets (RFC 1035 §3.3).
const maxString = 255

// characterString returns text, of maxString octets at most, as it is in RDATA.
func characterString(text string) string { return string([]byte{byte(len(text))}) + text }

// question is a pointer to the name in question (RFC 1035 §4.1.4).
const question = "\xc0\x0c"

// record returns a record whose owner is the name in question.
func record(typ wire.Type, class uint16, ttl uint32, rdata string) []byte {
	return appendRecord(nil, question, typ, class, ttl, rdata)
}

// appendRecord appends a record with a TTL in seconds.
func appendRecord(b []byte, owner string, typ wire.Type, class uint16, ttl uint32, rdata string) []byte {
	b = append(b, owner...)
	b = binary.BigEndian.AppendUint16(b, uint16(typ))
	b = binary.BigEndian.AppendUint16(b, class)
	b = binary.BigEndian.AppendUint32(b, ttl)
	b = binary.BigEndian.AppendUint16(b, uint16(len(rdata)))
	return append(b, rdata...)
}

// The keys of SvcParams (RFC 9460 §14.3.2, RFC 9461 §5).
const (
	keyALPN     = 1
	keyPort     = 3
	keyIPv4Hint = 4
	keyIPv6Hint = 6
	keyDoHPath  = 7
)

// appendParam appends one of the SvcParams.
func appendParam(b []byte, key uint16, value []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, key)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}

// appendParams appends the SvcParams of o, in ascending order of their keys (RFC
// 9460 §2.2). Addresses are said by others in DNR (RFC 9463 §3.1.5): there hints
// is false.
func (o *Offer) appendParams(b []byte, hints bool) []byte {
	var v []byte
	for _, id := range o.ALPN {
		v = append(v, characterString(id)...)
	}
	b = appendParam(b, keyALPN, v)
	if o.Port != o.usualPort() { // automatically mandatory (RFC 9461 §4.2): who does not know it takes nothing
		b = appendParam(b, keyPort, binary.BigEndian.AppendUint16(nil, o.Port))
	}
	if hints {
		var v4, v6 []byte
		for _, a := range o.Addresses {
			if a.Is4() {
				v4 = append(v4, a.AsSlice()...)
			} else {
				v6 = append(v6, a.AsSlice()...)
			}
		}
		if len(v4) > 0 {
			b = appendParam(b, keyIPv4Hint, v4)
		}
		if len(v6) > 0 {
			b = appendParam(b, keyIPv6Hint, v6)
		}
	}
	if o.Path != "" { // has to be there for HTTP (RFC 9461 §5)
		b = appendParam(b, keyDoHPath, []byte(o.Path))
	}
	return b
}

// appendSVCB appends the RDATA of o (RFC 9460 §2.2).
func (o *Offer) appendSVCB(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, o.Priority)
	b = append(b, o.Target...) // never compressed
	return o.appendParams(b, true)
}
