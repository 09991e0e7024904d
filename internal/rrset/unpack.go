package rrset

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"

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
	one := &struct { // one allocation
		dns.Msg
		question [1]dns.Question
	}{}
	m := &one.Msg
	m.MsgHdr = headerOf(msg)
	rd := reader{msg: msg}
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
		rd.note(wire.HeaderLen, name)
		one.question[0] = dns.Question{Name: name, Qtype: binary.BigEndian.Uint16(msg[end:]), Qclass: binary.BigEndian.Uint16(msg[end+2:])}
		m.Question = one.question[:]
	default:
		return nil, errQuestions
	}
	var counts [3]int
	for i := range counts {
		counts[i] = int(binary.BigEndian.Uint16(msg[6+2*i:]))
	}
	var all []dns.RR // of all sections
	if n := counts[0] + counts[1] + counts[2]; n > 0 {
		all = make([]dns.RR, 0, min(n, (len(msg)-off)/shortest))
	}
	for i, section := range [...]*[]dns.RR{&m.Answer, &m.Ns, &m.Extra} {
		if counts[i] == 0 {
			continue
		}
		from := len(all)
		for range counts[i] {
			rr, end, err := rd.record(off)
			if err != nil {
				return nil, err
			}
			all, off = append(all, rr), end
		}
		*section = all[from:len(all):len(all)]
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

// shortest is how many octets a record has at least: the root's, without RDATA.
const shortest = 11

// reader reads the records of one message.
type reader struct {
	msg []byte

	// The names last read, and where: most owners are pointers to the question
	// or to the owner before them.
	names [2]struct {
		off  int
		name string
	}
	next int // of names to be forgotten
}

// note remembers that name is at off.
func (rd *reader) note(off int, name string) {
	rd.names[rd.next].off, rd.names[rd.next].name = off, name
	rd.next = (rd.next + 1) % len(rd.names)
}

// owner returns the owner at off, and where it ends.
func (rd *reader) owner(off int) (name string, end int, err error) {
	at := off
	if off+2 <= len(rd.msg) && rd.msg[off] >= 0xC0 { // RFC 1035 §4.1.4
		at = int(binary.BigEndian.Uint16(rd.msg[off:])) & 0x3FFF
		for i := range rd.names {
			if known := &rd.names[i]; known.off == at && known.name != "" {
				return known.name, off + 2, nil
			}
		}
	}
	if name, end, err = dns.UnpackDomainName(rd.msg, off); err == nil {
		rd.note(at, name)
	}
	return name, end, err
}

// record returns the record at off, and where it ends. Those that nearly all
// messages consist of it reads itself, with a third of the library's
// allocations; what is odd about them is left to the library.
func (rd *reader) record(off int) (dns.RR, int, error) {
	name, fixed, err := rd.owner(off)
	if err != nil || fixed+10 > len(rd.msg) {
		return unpackRecord(rd.msg, off)
	}
	h := dns.RR_Header{
		Name: name, Rrtype: binary.BigEndian.Uint16(rd.msg[fixed:]), Class: binary.BigEndian.Uint16(rd.msg[fixed+2:]),
		Ttl: binary.BigEndian.Uint32(rd.msg[fixed+4:]), Rdlength: binary.BigEndian.Uint16(rd.msg[fixed+8:]),
	}
	data := fixed + 10
	if end := data + int(h.Rdlength); end <= len(rd.msg) && (data < end || h.Rrtype == dns.TypeOPT) {
		if rr := common(h, rd.msg[:end], data); rr != nil {
			return rr, end, nil
		}
	}
	return unpackRecord(rd.msg, off)
}

// common returns the record of header h whose RDATA is msg[off:], or nil: it is
// of another type, or makes no sense.
func common(h dns.RR_Header, msg []byte, off int) dns.RR {
	switch {
	case h.Rrtype == dns.TypeA && len(msg)-off == net.IPv4len:
		own := &struct {
			dns.A
			octets [net.IPv4len]byte
		}{octets: [net.IPv4len]byte(msg[off:])}
		own.Hdr, own.A.A = h, own.octets[:]
		return &own.A
	case h.Rrtype == dns.TypeAAAA && len(msg)-off == net.IPv6len:
		own := &struct {
			dns.AAAA
			octets [net.IPv6len]byte
		}{octets: [net.IPv6len]byte(msg[off:])}
		own.Hdr, own.AAAA.AAAA = h, own.octets[:]
		return &own.AAAA
	case h.Rrtype == dns.TypeNS:
		if name, ok := onlyName(msg, off); ok {
			return &dns.NS{Hdr: h, Ns: name}
		}
	case h.Rrtype == dns.TypeCNAME:
		if name, ok := onlyName(msg, off); ok {
			return &dns.CNAME{Hdr: h, Target: name}
		}
	case h.Rrtype == dns.TypeMX && len(msg)-off > 2:
		if name, ok := onlyName(msg, off+2); ok {
			return &dns.MX{Hdr: h, Preference: binary.BigEndian.Uint16(msg[off:]), Mx: name}
		}
	case h.Rrtype == dns.TypeRRSIG && len(msg)-off > rrsigFixed:
		signer, end, err := dns.UnpackDomainName(msg, off+rrsigFixed)
		if err != nil || end >= len(msg) {
			return nil
		}
		return &dns.RRSIG{
			Hdr: h, TypeCovered: binary.BigEndian.Uint16(msg[off:]), Algorithm: msg[off+2], Labels: msg[off+3],
			OrigTtl: binary.BigEndian.Uint32(msg[off+4:]), Expiration: binary.BigEndian.Uint32(msg[off+8:]),
			Inception: binary.BigEndian.Uint32(msg[off+12:]), KeyTag: binary.BigEndian.Uint16(msg[off+16:]),
			SignerName: signer, Signature: base64.StdEncoding.EncodeToString(msg[end:]),
		}
	case h.Rrtype == dns.TypeOPT && len(msg) == off: // without options
		return &dns.OPT{Hdr: h}
	}
	return nil
}

// rrsigFixed is how many octets of RDATA are before a signature's signer (RFC
// 4034 §3.1).
const rrsigFixed = 18

// onlyName returns the name that msg[off:] consists of.
func onlyName(msg []byte, off int) (string, bool) {
	name, end, err := dns.UnpackDomainName(msg, off)
	return name, err == nil && end == len(msg)
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
