package dnstap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"shirube/internal/wire"
)

// Record is one frame, decoded. Its bytes are those of the frame. What the frame
// does not have is zero.
type Record struct {
	Identity, Version, Extra []byte

	Type           uint32 // Message.Type of dnstap.proto
	SocketFamily   uint32 // enum SocketFamily
	SocketProtocol uint32 // enum SocketProtocol
	HTTPProtocol   uint32 // enum HttpProtocol

	Query, Response         netip.AddrPort
	QueryTime, ResponseTime time.Time // in UTC

	QueryMessage, ResponseMessage []byte
	QueryZone                     []byte

	Policy RecordPolicy
}

// RecordPolicy is message Policy of a [Record].
type RecordPolicy struct {
	Type          []byte
	Rule, Value   []byte
	Action, Match uint32
}

// IsResponse reports whether r is about a response.
func (r *Record) IsResponse() bool { return r.Type != 0 && r.Type&1 == 0 }

// Message returns the message that r is about.
func (r *Record) Message() []byte {
	if r.IsResponse() {
		return r.ResponseMessage
	}
	return r.QueryMessage
}

// Time returns when that message came or went.
func (r *Record) Time() time.Time {
	if r.IsResponse() {
		return r.ResponseTime
	}
	return r.QueryTime
}

// Question returns the question of the message that r is about. The name is
// borrowed, and as it stands there.
func (r *Record) Question() (name []byte, typ wire.Type, class uint16, ok bool) {
	msg := r.Message()
	if name = questionName(msg); name == nil {
		return nil, 0, 0, false
	}
	rest := msg[wire.HeaderLen+len(name):]
	if len(rest) < 4 {
		return nil, 0, 0, false
	}
	return name, wire.Type(binary.BigEndian.Uint16(rest)), binary.BigEndian.Uint16(rest[2:]), true
}

// Rcode returns the four bits of the header of a response.
func (r *Record) Rcode() (rcode wire.Rcode, ok bool) {
	if !r.IsResponse() || len(r.ResponseMessage) < wire.HeaderLen {
		return 0, false
	}
	return wire.Rcode(r.ResponseMessage[3] & 15), true
}

// Errors of decoding a frame.
var (
	errTruncated = errors.New("a field is cut off")
	errWireType  = errors.New("a field of a kind that protobuf has not got")
	errTwice     = errors.New("two messages in it")
	errNoMessage = errors.New("no message in it")
	errAddress   = errors.New("an address of neither 4 nor 16 octets")
)

// Decode reads a frame into r. It does not allocate. Fields that it does not
// know it steps over.
func (r *Record) Decode(frame []byte) error {
	*r = Record{}
	var message []byte
	var kind uint64
	twice := false
	err := fields(frame, func(num uint32, v uint64, b []byte) {
		switch num {
		case 1:
			r.Identity = b
		case 2:
			r.Version = b
		case 3:
			r.Extra = b
		case 14:
			twice = message != nil
			message = b
		case 15:
			kind = v
		}
	})
	switch {
	case err != nil:
		return fmt.Errorf("dnstap: %w", err)
	case twice:
		return fmt.Errorf("dnstap: %w", errTwice)
	case kind != kindMessage || message == nil:
		return fmt.Errorf("dnstap: %w", errNoMessage)
	}
	if err := r.decodeMessage(message); err != nil {
		return fmt.Errorf("dnstap message: %w", err)
	}
	return nil
}

// ends are the parts of two addresses and two times, which come in any order.
type ends struct {
	query, response           []byte
	queryPort, responsePort   uint16
	querySec, responseSec     uint64
	queryNsec, responseNsec   uint32
	queryTimed, responseTimed bool
}

func (r *Record) decodeMessage(b []byte) error {
	var e ends
	var policy []byte
	err := fields(b, func(num uint32, v uint64, b []byte) {
		switch num {
		case 1:
			r.Type = uint32(v)
		case 2:
			r.SocketFamily = uint32(v)
		case 3:
			r.SocketProtocol = uint32(v)
		case 10:
			r.QueryMessage = b
		case 11:
			r.QueryZone = b
		case 14:
			r.ResponseMessage = b
		case 15:
			policy = b
		case 16:
			r.HTTPProtocol = uint32(v)
		default:
			e.set(num, v, b)
		}
	})
	if err != nil {
		return err
	}
	if r.Type == 0 {
		return errNoMessage
	}
	if e.queryTimed {
		r.QueryTime = time.Unix(int64(e.querySec), int64(e.queryNsec)).UTC()
	}
	if e.responseTimed {
		r.ResponseTime = time.Unix(int64(e.responseSec), int64(e.responseNsec)).UTC()
	}
	var ok, ok2 bool
	r.Query, ok = addrPort(e.query, e.queryPort)
	r.Response, ok2 = addrPort(e.response, e.responsePort)
	if !ok || !ok2 {
		return errAddress
	}
	return r.Policy.decode(policy)
}

func (e *ends) set(num uint32, v uint64, b []byte) {
	switch num {
	case 4:
		e.query = b
	case 5:
		e.response = b
	case 6:
		e.queryPort = uint16(v)
	case 7:
		e.responsePort = uint16(v)
	case 8:
		e.querySec, e.queryTimed = v, true
	case 9:
		e.queryNsec = uint32(v)
	case 12:
		e.responseSec, e.responseTimed = v, true
	case 13:
		e.responseNsec = uint32(v)
	}
}

// addrPort reads an address, which may not be there.
func addrPort(b []byte, port uint16) (netip.AddrPort, bool) {
	if b == nil {
		return netip.AddrPort{}, true
	}
	a, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a, port), ok
}

func (p *RecordPolicy) decode(b []byte) error {
	return fields(b, func(num uint32, v uint64, b []byte) {
		switch num {
		case 1:
			p.Type = b
		case 2:
			p.Rule = b
		case 3:
			p.Action = uint32(v)
		case 4:
			p.Match = uint32(v)
		case 5:
			p.Value = b
		}
	})
}

// fields calls f with each field of a protobuf message: its number, and either
// its value or its octets, which are not nil then.
func fields(b []byte, f func(num uint32, v uint64, octets []byte)) error {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return errTruncated
		}
		b = b[n:]
		var v uint64
		var octets []byte
		switch tag & 7 {
		case wireVarint:
			if v, n = binary.Uvarint(b); n <= 0 {
				return errTruncated
			}
			b = b[n:]
		case wireFixed32:
			if len(b) < 4 {
				return errTruncated
			}
			v, b = uint64(binary.LittleEndian.Uint32(b)), b[4:]
		case wireFixed64:
			if len(b) < 8 {
				return errTruncated
			}
			v, b = binary.LittleEndian.Uint64(b), b[8:]
		case wireBytes:
			length, n := binary.Uvarint(b)
			if n <= 0 || length > uint64(len(b)-n) {
				return errTruncated
			}
			b = b[n:]
			octets, b = b[:length:length], b[length:]
		default:
			return errWireType
		}
		f(uint32(min(tag>>3, 1<<32-1)), v, octets)
	}
	return nil
}
