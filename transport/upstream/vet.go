package upstream

import (
	"encoding/binary"
	"errors"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// The limits on a reply, so that none takes a millisecond to unpack, or a
// megabyte of memory, whatever is in it (CVE-2024-8508, CVE-2024-11187,
// CVE-2025-30195, CVE-2026-44390). What exceeds one is malformed.
const (
	// maxRecords is how many records a reply may have in all its sections.
	// Five RRsets of a hundred records, the most that is kept, fit.
	maxRecords = 512

	// maxPointers is how many compression pointers one name may follow. A
	// name seldom needs more than five; Unbound and we stop where only a
	// crafted one can be.
	maxPointers = 32

	// maxExpansion is, in octets, how much a reply may grow when it is
	// unpacked: names without compression, and what has to become many small
	// values. As much as the longest message is long.
	maxExpansion = 64 << 10
)

// What some RDATA grows to, in octets, as near as the limits need it.
const (
	growthOfString = 32  // a character string of TXT, which may be empty
	growthOfDense  = 8   // an octet of a type bitmap, an SvcParam, an address prefix
	growthOfHIP    = 128 // an octet of RDATA that may be half of a pointer to a name
)

// What is wrong with a reply.
var (
	errShort     = errors.New("the message ends too early")
	errRecords   = errors.New("too many records")
	errNameForm  = errors.New("a name is malformed")
	errPointer   = errors.New("a compression pointer leads nowhere, or to too many others")
	errExpansion = errors.New("the message grows too much when unpacked")
	errRDATA     = errors.New("RDATA is too short for its type")
	errOPT       = errors.New("more than one OPT record, or too many options")
)

// vetting is the state of one walk over a message.
type vetting struct {
	msg    []byte
	growth int // octets, so far
	opt    int // offset of the fixed part of an OPT record, 0 before there is one
}

// vet walks over msg, a matching reply, before it is unpacked, and returns what
// its OPT record says, or what makes it malformed, or too much work. The walk
// itself takes time linear in the message and maxExpansion, and no memory.
func vet(msg []byte) (edns, error) {
	v := vetting{msg: msg}
	off := wire.HeaderLen
	if binary.BigEndian.Uint16(msg[4:]) == 1 { // or 0: judge accepts no other
		end, err := v.name(off, len(msg))
		if err != nil {
			return edns{}, err
		}
		if off = end + 4; off > len(msg) {
			return edns{}, errShort
		}
	}
	additional := int(binary.BigEndian.Uint16(msg[6:])) + int(binary.BigEndian.Uint16(msg[8:]))
	records := additional + int(binary.BigEndian.Uint16(msg[10:]))
	if records > maxRecords {
		return edns{}, errRecords
	}
	if off+11*records > len(msg) { // the shortest record: the root's, without RDATA
		return edns{}, errShort
	}
	from := len(msg) // where the additional section begins
	for i := range records {
		if i == additional {
			from = off
		}
		var err error
		if off, err = v.record(off); err != nil {
			return edns{}, err
		}
	}
	if v.opt < from {
		return edns{}, nil
	}
	return ednsAt(msg, v.opt), nil
}

// record walks over the record at off and returns where the next one is.
func (v *vetting) record(off int) (next int, err error) {
	fixed, err := v.name(off, len(v.msg))
	if err != nil {
		return 0, err
	}
	rdata := fixed + 10
	if rdata > len(v.msg) {
		return 0, errShort
	}
	end := rdata + int(binary.BigEndian.Uint16(v.msg[fixed+8:]))
	if end > len(v.msg) {
		return 0, errShort
	}
	typ := wire.Type(binary.BigEndian.Uint16(v.msg[fixed:]))
	if typ == wire.TypeOPT {
		if v.opt > 0 { // RFC 6891 §6.1.1
			return 0, errOPT
		}
		v.opt = fixed
	}
	if err := v.rdata(typ, rdata, end); err != nil {
		return 0, err
	}
	if v.growth > maxExpansion {
		return 0, errExpansion
	}
	return end, nil
}

// rdata walks over the RDATA in msg[off:end].
func (v *vetting) rdata(typ wire.Type, off, end int) error {
	if off == end {
		return emptyRDATA(typ)
	}
	switch typ {
	case wire.TypeOPT:
		return v.options(off, end)
	case wire.TypeTXT, wire.Type(dns.TypeSPF), wire.Type(dns.TypeAVC), wire.Type(dns.TypeNINFO), wire.Type(dns.TypeRESINFO):
		for ; off < end; off += 1 + int(v.msg[off]) {
			v.growth += growthOfString
		}
	case wire.TypeNSEC3, wire.Type(dns.TypeCSYNC), wire.Type(dns.TypeAPL):
		v.growth += growthOfDense * (end - off)
	case wire.Type(dns.TypeHIP):
		v.growth += growthOfHIP * (end - off)
	case wire.Type(dns.TypeNAPTR), wire.Type(dns.TypeIPSECKEY), wire.Type(dns.TypeAMTRELAY):
		v.growth += wire.MaxNameLen // one name, behind what varies
	case wire.TypeSVCB, wire.TypeHTTPS: // RFC 9460 §2.2: its name is not compressed, so that to many it is all opaque
		v.growth += growthOfDense*(end-off) + wire.MaxNameLen
	case wire.TypeNSEC, wire.Type(dns.TypeNXT):
		v.growth += growthOfDense * (end - off)
		fallthrough
	default:
		return v.rdataNames(typ, off, end)
	}
	return nil
}

// emptyRDATA refuses RDATA of no length where the type has to have some:
// unpacked, it would be a name or a number that is none. An address that is none
// is left to the resolver, as one of any other wrong length is.
func emptyRDATA(typ wire.Type) error {
	switch typ {
	case wire.TypeOPT, wire.Type(dns.TypeAPL), wire.Type(dns.TypeNULL), wire.TypeA, wire.TypeAAAA:
		return nil
	}
	if _, known := dns.TypeToRR[uint16(typ)]; known {
		return errRDATA
	}
	return nil
}

// rdataNames walks over the names that RDATA of the given type has.
func (v *vetting) rdataNames(typ wire.Type, off, end int) error {
	skip, names := namesIn(typ)
	off += skip
	for range names {
		var err error
		if off, err = v.name(off, end); err != nil {
			return err
		}
	}
	return nil
}

// namesIn returns how many names RDATA of the given type has, and how many
// octets are before them.
func namesIn(typ wire.Type) (skip, names int) {
	switch uint16(typ) {
	case dns.TypeNS, dns.TypeCNAME, dns.TypeDNAME, dns.TypePTR, dns.TypeMD, dns.TypeMF, dns.TypeMB, dns.TypeMG,
		dns.TypeMR, dns.TypeNSAPPTR, dns.TypeNSEC, dns.TypeNXT, dns.TypeTKEY, dns.TypeTSIG:
		return 0, 1
	case dns.TypeSOA, dns.TypeMINFO, dns.TypeRP, dns.TypeTALINK:
		return 0, 2
	case dns.TypeMX, dns.TypeAFSDB, dns.TypeRT, dns.TypeKX, dns.TypeLP:
		return 2, 1
	case dns.TypePX:
		return 2, 2
	case dns.TypeSRV:
		return 6, 1
	case dns.TypeSIG, dns.TypeRRSIG:
		return 18, 1
	}
	return 0, 0
}

// options walks over the options of an OPT record (RFC 6891 §6.1.2).
func (v *vetting) options(off, end int) error {
	for n := 0; off < end; n++ {
		if n == wire.MaxOptions {
			return errOPT
		}
		if off += 4; off > end {
			return errShort
		}
		off += int(binary.BigEndian.Uint16(v.msg[off-2:]))
	}
	if off > end {
		return errShort
	}
	return nil
}

// name walks over the name at off, which has to end before end, along its
// compression pointers, and returns where it ends at off. A pointer has to lead
// to before all that was read of the name, so there is no circle (RFC 1035
// §4.1.4: "a prior occurrence").
func (v *vetting) name(off, end int) (next int, err error) {
	start, length, pointers := off, 0, 0
	for off < end {
		l := int(v.msg[off])
		switch {
		case l >= 0xC0:
			if off+2 > end {
				return 0, errShort
			}
			target := int(binary.BigEndian.Uint16(v.msg[off:])) & 0x3FFF
			if pointers == 0 {
				next = off + 2
			}
			if pointers++; pointers > maxPointers || target >= start || target < wire.HeaderLen {
				return 0, errPointer
			}
			start, off = target, target
			v.growth++
			continue
		case l > wire.MaxLabelLen:
			return 0, errNameForm
		}
		off += 1 + l
		if length += 1 + l; length > wire.MaxNameLen {
			return 0, errNameForm
		}
		if l == 0 {
			v.growth += length
			if pointers == 0 {
				next = off
			}
			return next, nil
		}
	}
	return 0, errShort
}
