package dnssec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// The layout of what is packed.
const (
	headerLen = 12 // of a message (RFC 1035 §4.1.1)
	fixedLen  = 10 // of a record behind its owner: type, class, TTL, RDLENGTH (RFC 1035 §3.2.1)
)

// canonical is an RRset in canonical form and order (RFC 4034 §6), but for
// the owner and TTL, which each signature may want otherwise.
type canonical struct {
	typ   wire.Type
	rdata [][]byte // sorted, none twice
}

// canonicalise returns the records of s in canonical form. That they are an
// RRset, of the name and type that s says, is checked on the way. The time it
// takes grows with n log n.
func canonicalise(s *rrset.Set) (canonical, error) {
	if c, ok := canonicalAddresses(s); ok {
		return c, nil
	}
	// As a message: PackRR writes to the records, which others read meanwhile.
	msg, err := (&dns.Msg{Answer: s.RRs}).Pack()
	if err != nil {
		return canonical{}, fmt.Errorf("packing the records: %w", err)
	}
	c := canonical{typ: s.Type, rdata: make([][]byte, 0, len(s.RRs))}
	rest := msg[headerLen:]
	for _, rr := range s.RRs {
		rdata, after, ok := cutRDATA(s, rest)
		if !ok {
			return c, fmt.Errorf("a record of another set: %s", rr.Header().Name)
		}
		lowerNames(s.Type, rdata)
		c.rdata = append(c.rdata, rdata)
		rest = after
	}
	c.sort()
	return c, nil
}

// sort puts the records in order (RFC 4034 §6.3), and what is there twice counts
// once.
func (c *canonical) sort() {
	slices.SortFunc(c.rdata, bytes.Compare)
	c.rdata = slices.CompactFunc(c.rdata, bytes.Equal)
}

// canonicalAddresses is canonicalise, sooner, for addresses in order. Of others
// it knows nothing.
func canonicalAddresses(s *rrset.Set) (canonical, bool) {
	if s.Type != wire.TypeA && s.Type != wire.TypeAAAA {
		return canonical{}, false
	}
	c := canonical{typ: s.Type, rdata: make([][]byte, 0, len(s.RRs))}
	all := make([]byte, 0, 16*len(s.RRs)) // of IPv6
	for _, rr := range s.RRs {
		if rr == nil {
			return canonical{}, false
		}
		h := rr.Header()
		start := len(all)
		var ok bool
		if all, ok = rrset.AppendRDATA(all, rr); !ok || wire.Type(h.Rrtype) != s.Type || h.Class != dns.ClassINET || !s.Name.Spells(h.Name) {
			return canonical{}, false
		}
		c.rdata = append(c.rdata, all[start:len(all):len(all)])
	}
	c.sort()
	return c, true
}

// cutRDATA returns the RDATA of the first of rrs, packed records, when it is of
// s, and those behind it.
func cutRDATA(s *rrset.Set, rrs []byte) (rdata, after []byte, ok bool) {
	fixed := len(s.Name)
	if len(rrs) < fixed+fixedLen || !wire.EqualFold(rrs[:fixed], []byte(s.Name)) ||
		binary.BigEndian.Uint16(rrs[fixed:]) != uint16(s.Type) || binary.BigEndian.Uint16(rrs[fixed+2:]) != wire.ClassIN {
		return nil, nil, false
	}
	rdata = rrs[fixed+fixedLen:]
	n := int(binary.BigEndian.Uint16(rrs[fixed+fixedLen-2:]))
	if len(rdata) < n {
		return nil, nil, false
	}
	return rdata[:n:n], rdata[n:], true
}

// appendSigned appends what sig, with name for its signer, signs: the set
// under the name owner (RFC 4034 §3.1.8.1, RFC 4035 §5.3.2).
func (c *canonical) appendSigned(buf []byte, sig *dns.RRSIG, signer, owner wire.Name) []byte {
	size := 18 + len(signer)
	for _, rdata := range c.rdata {
		size += len(owner) + fixedLen + len(rdata)
	}
	buf = slices.Grow(buf, size)
	buf = binary.BigEndian.AppendUint16(buf, sig.TypeCovered)
	buf = append(buf, sig.Algorithm, sig.Labels)
	buf = binary.BigEndian.AppendUint32(buf, sig.OrigTtl)
	buf = binary.BigEndian.AppendUint32(buf, sig.Expiration)
	buf = binary.BigEndian.AppendUint32(buf, sig.Inception)
	buf = binary.BigEndian.AppendUint16(buf, sig.KeyTag)
	buf = append(buf, signer...)
	for _, rdata := range c.rdata {
		buf = append(buf, owner...)
		buf = binary.BigEndian.AppendUint16(buf, uint16(c.typ))
		buf = binary.BigEndian.AppendUint16(buf, wire.ClassIN)
		buf = binary.BigEndian.AppendUint32(buf, sig.OrigTtl) // RFC 4034 §6.2 (5)
		buf = binary.BigEndian.AppendUint16(buf, uint16(len(rdata)))
		buf = append(buf, rdata...)
	}
	return buf
}

// lowerNames folds the names in rdata, of type t, in place, if t is one of the
// types whose names are (RFC 4034 §6.2 (3); RFC 6840 §5.1 takes NSEC and HINFO
// out of that list). In all other types letters stay as they are, those of
// later RFCs among them (RFC 3597 §7). RDATA that is not as its type wants it
// is left alone: nobody has signed it otherwise.
func lowerNames(t wire.Type, rdata []byte) {
	skip, names := 0, 1
	switch uint16(t) {
	case dns.TypeNS, dns.TypeMD, dns.TypeMF, dns.TypeCNAME, dns.TypeMB, dns.TypeMG, dns.TypeMR, dns.TypePTR,
		dns.TypeDNAME, dns.TypeNXT:
	case dns.TypeSOA, dns.TypeMINFO, dns.TypeRP:
		names = 2
	case dns.TypeMX, dns.TypeAFSDB, dns.TypeRT, dns.TypeKX:
		skip = 2 // a preference
	case dns.TypePX:
		skip, names = 2, 2
	case dns.TypeSRV:
		skip = 6 // priority, weight, port
	case dns.TypeSIG, dns.TypeRRSIG:
		skip = 18 // all before the signer
	case dns.TypeNAPTR:
		skip = naptrStrings(rdata)
	case typeA6:
		skip = a6Suffix(rdata)
	default:
		return
	}
	for range names {
		n := 0
		if skip < len(rdata) {
			n = nameLen(rdata[skip:])
		}
		if n == 0 {
			return
		}
		wire.AppendFolded(rdata[:skip], rdata[skip:skip+n])
		skip += n
	}
}

// typeA6 is an early form of AAAA records (RFC 2874, historic since RFC 6563).
const typeA6 = 38

// a6Suffix returns the length of what comes before the name of an A6 record:
// the length of the prefix that the name stands for, in bits, and the rest of
// the address (RFC 2874 §3.1).
func a6Suffix(rdata []byte) int {
	if len(rdata) == 0 || rdata[0] == 0 || rdata[0] > 128 {
		return len(rdata)
	}
	return 1 + (128-int(rdata[0])+7)/8
}

// naptrStrings returns the length of what comes before the name of a NAPTR
// record: order, preference and three strings (RFC 3403 §4.1).
func naptrStrings(rdata []byte) int {
	off := 4
	for range 3 {
		if off >= len(rdata) {
			return len(rdata)
		}
		off += 1 + int(rdata[off])
	}
	return off
}

// nameLen returns the length of the uncompressed name that b begins with, or 0
// when there is none.
func nameLen(b []byte) int {
	for off := 0; off < len(b) && off < wire.MaxNameLen; off += 1 + int(b[off]) {
		switch {
		case b[off] == 0:
			return off + 1
		case b[off] > wire.MaxLabelLen:
			return 0
		}
	}
	return 0
}
