package dnstap

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"time"

	"shirube/internal/wire"
)

// Type is what kind of message a frame is about, in the numbers of
// Message.Type of dnstap.proto.
type Type uint8

// The types that this server emits.
const (
	ResolverQuery     Type = 3 // to an authoritative server
	ResolverResponse  Type = 4
	ClientQuery       Type = 5
	ClientResponse    Type = 6
	ForwarderQuery    Type = 7 // to a server that is asked to recurse
	ForwarderResponse Type = 8
	NumTypes          Type = 9 // one more than the last, for arrays; 0 to 2 are not used
)

// isResponse reports whether t is a response: the even ones.
func (t Type) isResponse() bool { return t&1 == 0 }

// isClient reports whether t is between a client and this server.
func (t Type) isClient() bool { return t == ClientQuery || t == ClientResponse }

// Message is one DNS message that came or went. All of it is borrowed for the
// call of [Tap.Emit].
type Message struct {
	Type   Type
	Proto  wire.Proto
	HTTP   uint8 // the major version, where Proto leaves it open; 0: the usual one
	Policy wire.Policy

	Query    netip.AddrPort // who asks; the zero AddrPort: nobody knows
	Response netip.AddrPort // who is asked; alike

	QueryTime    time.Time // also of a response: when its query came or went
	ResponseTime time.Time // of a response; zero: now

	Zone wire.Name // whose server is asked; "": does not apply
	Msg  []byte    // the message itself
}

// Tags of the fields of message Dnstap: the number times eight, and the wire
// type (dnstap.proto of 2024, commit 6412261; protobuf's encoding guide).
const (
	tagIdentity = 1<<3 | wireBytes
	tagVersion  = 2<<3 | wireBytes
	tagMessage  = 14<<3 | wireBytes
	tagKind     = 15<<3 | wireVarint // Dnstap.type
	kindMessage = 1                  // Dnstap.MESSAGE
)

// Tags of the fields of message Message.
const (
	tagType             = 1<<3 | wireVarint
	tagSocketFamily     = 2<<3 | wireVarint
	tagSocketProtocol   = 3<<3 | wireVarint
	tagQueryAddress     = 4<<3 | wireBytes
	tagResponseAddress  = 5<<3 | wireBytes
	tagQueryPort        = 6<<3 | wireVarint
	tagResponsePort     = 7<<3 | wireVarint
	tagQueryTimeSec     = 8<<3 | wireVarint
	tagQueryTimeNsec    = 9<<3 | wireFixed32
	tagQueryMessage     = 10<<3 | wireBytes
	tagQueryZone        = 11<<3 | wireBytes
	tagResponseTimeSec  = 12<<3 | wireVarint
	tagResponseTimeNsec = 13<<3 | wireFixed32
	tagResponseMessage  = 14<<3 | wireBytes
	tagPolicy           = 15<<3 | wireBytes
	tagHTTPProtocol     = 16<<3 | wireVarint // two octets long, as all from 16 on
)

// Tags of the fields of message Policy.
const (
	tagPolicyType   = 1<<3 | wireBytes
	tagPolicyAction = 3<<3 | wireVarint
	tagPolicyMatch  = 4<<3 | wireVarint
)

// Wire types of protobuf.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// Values of enum SocketFamily.
const (
	familyINET  = 1
	familyINET6 = 2
)

// socketProtocols are the values of enum SocketProtocol. That which tells HTTP/3
// from HTTP/2 is a field of its own.
var socketProtocols = [wire.NumProtos]byte{
	wire.UDP: 1, wire.TCP: 2, wire.DoT: 3, wire.DoH: 4, wire.DoH3: 4, wire.DoQ: 7,
}

// httpProtocols are the usual values of enum HttpProtocol, which are the versions;
// 0 is none.
var httpProtocols = [wire.NumProtos]byte{wire.DoH: 2, wire.DoH3: 3}

// http returns m's value of enum HttpProtocol.
func (m *Message) http() byte {
	usual := httpProtocols[m.Proto]
	if usual == 0 || m.HTTP < 1 || m.HTTP > 3 {
		return usual
	}
	return m.HTTP
}

// Values of enums Policy.Action and Policy.Match.
const (
	actionDrop      = 4
	actionTruncate  = 5
	actionLocalData = 6
	matchQName      = 1
	matchClientIP   = 2
)

// policies are the messages Policy, encoded. For REFUSED there is no action.
var policies = [wire.NumPolicies]string{
	wire.PolicyDenied:  policy("ACL", actionDrop, matchClientIP),
	wire.PolicyRefused: policy("ACL", 0, matchClientIP),
	wire.PolicyCookie:  policy("COOKIE", actionTruncate, matchClientIP),
	wire.PolicyBuiltin: policy("BUILTIN", actionLocalData, matchQName),
}

func policy(typ string, action, match byte) string {
	b := append([]byte{tagPolicyType, byte(len(typ))}, typ...)
	if action != 0 {
		b = append(b, tagPolicyAction, action)
	}
	return string(append(b, tagPolicyMatch, match))
}

// addressLen returns how long a is in a frame, in octets: 4 or 16, never an IPv4
// address in IPv6. 0: there is none.
func addressLen(a netip.Addr) int {
	switch {
	case !a.IsValid():
		return 0
	case a.Unmap().Is4():
		return 4
	}
	return 16
}

// varintLen returns how many octets v takes.
func varintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// bytesLen returns how long a field of n octets is, with a tag of one.
func bytesLen(n int) int { return 1 + varintLen(uint64(n)) + n }

// timeLen returns how long the two fields of t are.
func timeLen(t time.Time) int { return 1 + varintLen(uint64(t.Unix())) + 1 + 4 }

// size returns how long m is as message Message, in octets: exactly what
// appendTo appends.
func (m *Message) size() int {
	n := 2 + 2 + bytesLen(len(m.Msg)) + timeLen(m.QueryTime)
	q, r := addressLen(m.Query.Addr()), addressLen(m.Response.Addr())
	if q+r > 0 {
		n += 2
	}
	if q > 0 {
		n += bytesLen(q) + 1 + varintLen(uint64(m.Query.Port()))
	}
	if r > 0 {
		n += bytesLen(r) + 1 + varintLen(uint64(m.Response.Port()))
	}
	if m.Type.isResponse() {
		n += timeLen(m.ResponseTime)
	}
	if m.Zone != "" {
		n += bytesLen(len(m.Zone))
	}
	if p := policies[m.Policy]; p != "" {
		n += bytesLen(len(p))
	}
	if m.http() != 0 {
		n += 3
	}
	return n
}

// appendTo appends m as message Message, with querier in place of the address
// of who asks.
func (m *Message) appendTo(b []byte, querier netip.Addr) []byte {
	b = append(b, tagType, byte(m.Type))
	q, r := addressLen(querier), addressLen(m.Response.Addr())
	if family := max(q, r); family == 4 {
		b = append(b, tagSocketFamily, familyINET)
	} else if family == 16 {
		b = append(b, tagSocketFamily, familyINET6)
	}
	b = append(b, tagSocketProtocol, socketProtocols[m.Proto])
	if q > 0 {
		b = appendAddress(b, tagQueryAddress, querier)
	}
	if r > 0 {
		b = appendAddress(b, tagResponseAddress, m.Response.Addr())
	}
	if q > 0 {
		b = binary.AppendUvarint(append(b, tagQueryPort), uint64(m.Query.Port()))
	}
	if r > 0 {
		b = binary.AppendUvarint(append(b, tagResponsePort), uint64(m.Response.Port()))
	}
	b = appendTime(b, tagQueryTimeSec, tagQueryTimeNsec, m.QueryTime)
	if !m.Type.isResponse() {
		b = appendBytes(b, tagQueryMessage, m.Msg)
	}
	if m.Zone != "" {
		b = append(b, tagQueryZone)
		b = binary.AppendUvarint(b, uint64(len(m.Zone)))
		b = append(b, m.Zone...)
	}
	if m.Type.isResponse() {
		b = appendTime(b, tagResponseTimeSec, tagResponseTimeNsec, m.ResponseTime)
		b = appendBytes(b, tagResponseMessage, m.Msg)
	}
	if p := policies[m.Policy]; p != "" {
		b = append(append(b, tagPolicy, byte(len(p))), p...)
	}
	if v := m.http(); v != 0 {
		b = append(binary.AppendUvarint(b, tagHTTPProtocol), v)
	}
	return b
}

func appendBytes(b []byte, tag byte, v []byte) []byte {
	b = binary.AppendUvarint(append(b, tag), uint64(len(v)))
	return append(b, v...)
}

func appendAddress(b []byte, tag byte, a netip.Addr) []byte {
	if a = a.Unmap(); a.Is4() {
		v := a.As4()
		return append(append(b, tag, 4), v[:]...)
	}
	v := a.As16()
	return append(append(b, tag, 16), v[:]...)
}

func appendTime(b []byte, sec, nsec byte, t time.Time) []byte {
	b = binary.AppendUvarint(append(b, sec), uint64(t.Unix()))
	return binary.LittleEndian.AppendUint32(append(b, nsec), uint32(t.Nanosecond()))
}
