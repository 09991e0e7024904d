package rpl

import (
	"encoding/binary"
	"encoding/hex"
	"errors"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// errRecord reports that a message ends in the middle of a record.
var errRecord = errors.New("a record is cut")

// unpack returns the message in octets. Records whose RDATA is wrong for their
// type become [dns.RFC3597], as they are in entries: there are scenarios that
// want them passed on.
func unpack(octets []byte) (*dns.Msg, error) {
	m := new(dns.Msg)
	strict := m.Unpack(octets)
	if strict == nil {
		return m, nil
	}
	if len(octets) < wire.HeaderLen {
		return nil, strict
	}
	// The header and the question alone, then the records one by one.
	head := append([]byte(nil), octets...)
	clear(head[6:wire.HeaderLen])
	m = new(dns.Msg)
	if err := m.Unpack(head); err != nil {
		return nil, err
	}
	off := wire.HeaderLen
	for range m.Question {
		_, end, err := dns.UnpackDomainName(octets, off)
		if err != nil {
			return nil, err
		}
		off = end + 4
	}
	for i, section := range []*[]dns.RR{&m.Answer, &m.Ns, &m.Extra} {
		for range binary.BigEndian.Uint16(octets[6+2*i:]) {
			rr, end, err := unpackRecord(octets, off)
			if err != nil {
				return nil, err
			}
			*section = append(*section, rr)
			off = end
		}
	}
	if opt := m.IsEdns0(); opt != nil {
		m.Rcode |= opt.ExtendedRcode()
	}
	return m, nil
}

// unpackRecord returns the record at off, and where it ends.
func unpackRecord(octets []byte, off int) (dns.RR, int, error) {
	rr, end, wrong := dns.UnpackRR(octets, off)
	if wrong == nil {
		return rr, end, nil
	}
	name, fixed, err := dns.UnpackDomainName(octets, off)
	if err != nil {
		return nil, 0, err
	}
	if fixed+10 > len(octets) {
		return nil, 0, errRecord
	}
	typ := binary.BigEndian.Uint16(octets[fixed:])
	if typ == dns.TypeOPT || typ == dns.TypeTSIG { // everybody takes them for what they are
		return nil, 0, wrong
	}
	data := fixed + 10
	end = data + int(binary.BigEndian.Uint16(octets[fixed+8:]))
	if end > len(octets) {
		return nil, 0, errRecord
	}
	return &dns.RFC3597{
		Hdr: dns.RR_Header{
			Name: name, Rrtype: typ, Class: binary.BigEndian.Uint16(octets[fixed+2:]),
			Ttl: binary.BigEndian.Uint32(octets[fixed+4:]), Rdlength: uint16(end - data),
		},
		Rdata: hex.EncodeToString(octets[data:end]),
	}, end, nil
}
