package frontend

import (
	"encoding/binary"

	"shirube/internal/wire"
	"shirube/policy"
)

// The data of builtin zones: that which RFC 6303 §3 suggests, as Unbound has it.
const (
	builtinTTL = 10800 // seconds
	localhost  = "\x09localhost\x00"
	// builtinSOA: MNAME localhost., RNAME nobody.invalid., serial 1, refresh
	// 3600, retry 1200, expire 604800, minimum 10800.
	builtinSOA = localhost + "\x06nobody\x07invalid\x00" +
		"\x00\x00\x00\x01\x00\x00\x0e\x10\x00\x00\x04\xb0\x00\x09\x3a\x80\x00\x00\x2a\x30"
	loopback4 = "\x7f\x00\x00\x01"
	loopback6 = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"
)

// Offsets in a header (RFC 1035 §4.1.1).
const (
	flagsAt = 2
	flagAA  = 0x04
	ancount = 7 // the low octets: there are never many records
	nscount = 9
	arcount = 11
)

// builtin answers q, whose folded name is name, if it is about a builtin zone. It
// allocates nothing.
func (f *Frontend) builtin(buf []byte, q *wire.Query, name []byte) ([]byte, bool) {
	zone, at := f.opt.Builtins.Find(name)
	if zone == nil || at == 0 && q.Type == wire.TypeDS { // that is the parent's to say (RFC 4035 §3.1.4.1)
		return buf, false
	}
	start := len(buf)
	buf = wire.AppendReply(buf, q, wire.NoError)
	buf[start+flagsAt] |= flagAA // nobody else's word counts here
	if rdata := builtinData(zone, name, at, q.Type); rdata != "" {
		buf[start+ancount] = 1
		return f.finish(appendRecord(buf, 0, q.Type, builtinTTL, rdata), start, q, nil), true
	}
	if !zone.Loopback && at > 0 && !zone.Host.Within(wire.Name(name)) {
		buf[start+3] |= byte(wire.NXDomain)
	}
	buf[start+nscount] = 1 // RFC 2308 §3
	return f.finish(appendRecord(buf, at, wire.TypeSOA, builtinTTL, builtinSOA), start, q, nil), true
}

// builtinData returns the RDATA of the one record of typ at name, which is in
// zone from offset at on; "" if there is none.
func builtinData(zone *policy.Builtin, name []byte, at int, typ wire.Type) string {
	switch {
	case typ == wire.TypeSOA && at == 0:
		return builtinSOA
	case typ == wire.TypeNS && at == 0:
		return localhost
	case typ == wire.TypeA && zone.Loopback:
		return loopback4
	case typ == wire.TypeAAAA && zone.Loopback:
		return loopback6
	case typ == wire.TypePTR && zone.Host != "" && string(name) == string(zone.Host):
		return localhost
	}
	return ""
}

// appendRecord appends the record of typ whose owner begins at offset at of the
// name in question, and whose TTL is in seconds.
func appendRecord(buf []byte, at int, typ wire.Type, ttl uint32, rdata string) []byte {
	owner := uint16(0xC000 | wire.HeaderLen + at) // RFC 1035 §4.1.4
	buf = binary.BigEndian.AppendUint16(buf, owner)
	buf = binary.BigEndian.AppendUint16(buf, uint16(typ))
	buf = binary.BigEndian.AppendUint16(buf, wire.ClassIN)
	buf = binary.BigEndian.AppendUint32(buf, ttl)
	buf = binary.BigEndian.AppendUint16(buf, uint16(len(rdata)))
	return append(buf, rdata...)
}
