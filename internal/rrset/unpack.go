package rrset

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// Why a message cannot be read.
var (
	errHeader    = errors.New("it is shorter than a header")
	errQuestions = errors.New("it has more than one question")
	errCut       = errors.New("it ends in the middle of a record")
)

// Unpack reads msg as [dns.Msg.Unpack] does, but a record whose RDATA makes no
// sense for its type does not cost the rest of the message: as long as RDLENGTH
// says where it ends it becomes a [dns.RFC3597], as a record of an unknown type
// does (RFC 3597 §3). What is to be thought of it is the caller's to decide.
//
// Errors: msg ends too early, a name outside of RDATA is malformed, there are
// several questions, or an OPT or TSIG record makes no sense: those are about
// the message. Nothing of msg is kept.
func Unpack(msg []byte) (*dns.Msg, error) {
	if len(msg) < wire.HeaderLen {
		return nil, errHeader
	}
	m := &dns.Msg{MsgHdr: headerOf(msg)}
	off := wire.HeaderLen
	switch binary.BigEndian.Uint16(msg[4:]) {
	case 0:
	case 1:
		if off == len(msg) {
			return nil, errCut
		}
		name, end, err := dns.UnpackDomainName(msg, off)
		if err != nil {
			return nil, fmt.Errorf("the question: %w", err)
		}
		if off = end + 4; off > len(msg) {
			return nil, errCut
		}
		m.Question = []dns.Question{{
			Name: name, Qtype: binary.BigEndian.Uint16(msg[end:]), Qclass: binary.BigEndian.Uint16(msg[end+2:]),
		}}
	default:
		return nil, errQuestions
	}
	for i, section := range [...]*[]dns.RR{&m.Answer, &m.Ns, &m.Extra} {
		for range binary.BigEndian.Uint16(msg[6+2*i:]) {
			rr, end, err := unpackRecord(msg, off)
			if err != nil {
				return nil, err
			}
			*section, off = append(*section, rr), end
		}
	}
	if opt := m.IsEdns0(); opt != nil {
		m.Rcode |= opt.ExtendedRcode()
	}
	return m, nil
}

// headerOf reads the header of msg (RFC 1035 §4.1.1, RFC 4035 §3).
func headerOf(msg []byte) dns.MsgHdr {
	bits := binary.BigEndian.Uint16(msg[2:])
	return dns.MsgHdr{
		Id:                 binary.BigEndian.Uint16(msg),
		Response:           bits&(1<<15) != 0,
		Opcode:             int(bits >> 11 & 0xF),
		Authoritative:      bits&(1<<10) != 0,
		Truncated:          bits&(1<<9) != 0,
		RecursionDesired:   bits&(1<<8) != 0,
		RecursionAvailable: bits&(1<<7) != 0,
		Zero:               bits&(1<<6) != 0,
		AuthenticatedData:  bits&(1<<5) != 0,
		CheckingDisabled:   bits&(1<<4) != 0,
		Rcode:              int(bits & 0xF),
	}
}

// unpackRecord returns the record at off, and where it ends.
func unpackRecord(msg []byte, off int) (dns.RR, int, error) {
	if off == len(msg) { // where the library sees a record without anything
		return nil, 0, errCut
	}
	rr, end, wrong := dns.UnpackRR(msg, off)
	if wrong == nil {
		return rr, end, nil
	}
	name, fixed, err := dns.UnpackDomainName(msg, off)
	if err != nil {
		return nil, 0, fmt.Errorf("an owner: %w", err)
	}
	if fixed+10 > len(msg) {
		return nil, 0, errCut
	}
	h := dns.RR_Header{
		Name: name, Rrtype: binary.BigEndian.Uint16(msg[fixed:]), Class: binary.BigEndian.Uint16(msg[fixed+2:]),
		Ttl: binary.BigEndian.Uint32(msg[fixed+4:]), Rdlength: binary.BigEndian.Uint16(msg[fixed+8:]),
	}
	data := fixed + 10
	if end = data + int(h.Rdlength); end > len(msg) {
		return nil, 0, errCut
	}
	if h.Rrtype == dns.TypeOPT || h.Rrtype == dns.TypeTSIG {
		return nil, 0, fmt.Errorf("a %s record: %w", dns.TypeToString[h.Rrtype], wrong)
	}
	return &dns.RFC3597{Hdr: h, Rdata: hex.EncodeToString(msg[data:end])}, end, nil
}
