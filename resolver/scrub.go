package resolver

import (
	"reflect"
	"slices"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// The most that is looked at in one response. What is beyond is dropped: it
// cannot be needed, and all of it costs time and memory (CVE-2024-1737,
// CacheFlush).
const (
	maxRecords = 500 // of a section
	maxPerSet  = 100 // of an RRset
	maxSigs    = 8   // that cover an RRset: each may cost the validator (KeyTrap, CVE-2023-50387); Unbound's is the same
)

// record is a resource record with its owner, parsed once.
type record struct {
	name wire.Name
	typ  wire.Type
	rr   dns.RR
}

// sections is what is left of a response after scrub.
type sections struct {
	answer, authority, additional []record

	// broken lists the sets that lost a record whose RDATA makes no sense.
	broken []wire.Question
}

// scrub drops from msg what a server of zone may not say: records of other
// classes, of owners that are not in the zone, such that can only be asked for,
// NSEC records that reach beyond the zone, and records whose RDATA makes no
// sense. The order is kept.
//
// asked is a name that records are likely to have; it need not be one.
func scrub(msg *dns.Msg, asked, zone wire.Name) sections {
	var s sections
	s.answer = s.scrub(msg.Answer, asked, zone)
	s.authority = s.scrub(msg.Ns, asked, zone)
	s.additional = s.scrub(msg.Extra, asked, zone)
	return s
}

// scrub returns what is left of one section.
func (s *sections) scrub(rrs []dns.RR, asked, zone wire.Name) []record {
	rrs = rrs[:min(len(rrs), maxRecords)]
	if len(rrs) == 0 || len(rrs) == 1 && rrs[0].Header().Rrtype == dns.TypeOPT {
		return nil
	}
	keep := make([]record, 0, len(rrs))
	text, last := "", wire.Name("") // an owner, and what it was parsed to: sets come in one piece
	for _, rr := range rrs {
		h := rr.Header()
		typ := wire.Type(h.Rrtype)
		if h.Class != dns.ClassINET || typ == 0 || typ.Meta() {
			continue
		}
		if last == "" || h.Name != text {
			name := asked
			if !asked.Spells(h.Name) {
				var err error
				if name, err = wire.ParseName(h.Name); err != nil {
					continue
				}
			}
			text, last = h.Name, name
		}
		if !last.Within(zone) {
			continue
		}
		if nsec, ok := rr.(*dns.NSEC); ok && !nextWithin(nsec, zone) {
			continue
		}
		if !whole(rr) {
			s.broken = append(s.broken, wire.Question{Name: last, Type: typ})
			continue
		}
		keep = append(keep, record{last, typ, rr})
	}
	return keep
}

// nextWithin reports whether nsec denies names of zone only (RFC 4034 §4.1.1:
// its next name is one of the zone; CVE-2026-13321).
func nextWithin(nsec *dns.NSEC, zone wire.Name) bool {
	next, err := wire.ParseName(nsec.NextDomain)
	return err == nil && next.Within(zone)
}

// whole reports whether rr has all the fields that cannot be empty: names,
// addresses, and the text of TXT. The parser takes a record whose RDATA ends
// before its last field, since dynamic updates have some that are empty (RFC
// 2136 §2.4); packed again for a client, it would be malformed. Numbers that
// are missing become 0, which the server might have said as well.
func whole(rr dns.RR) bool {
	switch rr := rr.(type) { // what filled says of the types that nearly all records are of, sooner
	case *dns.A:
		return len(rr.A) > 0
	case *dns.AAAA:
		return len(rr.AAAA) > 0
	case *dns.NS:
		return rr.Ns != ""
	case *dns.CNAME:
		return rr.Target != ""
	case *dns.SOA:
		return rr.Ns != "" && rr.Mbox != ""
	case *dns.MX:
		return rr.Mx != ""
	case *dns.TXT:
		return len(rr.Txt) > 0
	case *dns.RRSIG:
		return rr.SignerName != ""
	case *dns.NSEC:
		return rr.NextDomain != ""
	case *dns.DS, *dns.DNSKEY, *dns.NSEC3:
		return true
	case *dns.RFC3597:
		return opaque(rr.Hdr.Rrtype)
	}
	return filled(reflect.ValueOf(rr).Elem())
}

// opaque reports whether RDATA that the parser makes no sense of is passed on as
// it is (RFC 3597 §3): of a type that the parser does not know, or of one that
// grows, so that what makes no sense today may be a newer version of it, and
// that has no name in it which could be compressed. Of all other types it is
// just wrong.
func opaque(typ uint16) bool {
	switch typ {
	case dns.TypeSVCB, dns.TypeHTTPS, dns.TypeAPL, dns.TypeLOC, dns.TypeIPSECKEY, dns.TypeAMTRELAY:
		return true
	}
	_, known := dns.TypeToRR[typ]
	return !known
}

// filled is whole for a struct of miekg/dns, by the tags that tell its packer
// what each field is.
func filled(v reflect.Value) bool {
	for i := range v.NumField() {
		field, f := v.Type().Field(i), v.Field(i)
		switch field.Tag.Get("dns") {
		case "domain-name", "cdomain-name":
			if f.Kind() == reflect.String && f.Len() == 0 { // not the list of HIP, which may be empty
				return false
			}
		case "a", "aaaa", "txt":
			if f.Len() == 0 {
				return false
			}
		}
		if field.Anonymous && !filled(f) { // HTTPS is a SVCB
			return false
		}
	}
	return true
}

// set returns the RRset of name and typ in recs, with its signatures.
func (rd *reading) set(recs []record, name wire.Name, typ wire.Type, rank rrset.Rank) (rrset.Set, bool) {
	s := rrset.Set{Name: name, Type: typ, Rank: rank}
	if slices.Contains(rd.broken, wire.Question{Name: name, Type: typ}) {
		// An address is of use without the others, and nobody takes those of a
		// name for all that there are. Any other set is whole or useless (RFC
		// 2181 §5).
		if s.Maimed = isAddressType(typ); !s.Maimed {
			rd.maimed = true
			return rrset.Set{}, false
		}
	}
	owner := ""
	ttl := rd.ttls.Max
	seen := 0 // of typ, duplicates included: to find them is quadratic
	for _, rec := range recs {
		if rec.name != name {
			continue
		}
		if rec.typ == typ {
			if seen++; seen > maxPerSet {
				rd.over = true
			}
		}
		sig, isSig := rec.rr.(*dns.RRSIG)
		switch {
		case rec.typ == typ && seen <= maxPerSet && !contains(s.RRs, rec.rr):
			s.RRs = append(s.RRs, rec.rr)
		case isSig && wire.Type(sig.TypeCovered) == typ && len(s.Sigs) < maxSigs:
			s.Sigs = append(s.Sigs, sig)
		default:
			continue
		}
		// One spelling for all, so that names compress against the question,
		// and with it take the client's; one TTL for all (RFC 2181 §5.2).
		if owner == "" {
			if owner = rec.rr.Header().Name; !name.Spells(owner) {
				owner = name.String()
			}
		}
		rec.rr.Header().Name = owner
		ttl = min(ttl, clampTTL(rec.rr.Header().Ttl))
	}
	s.Until = rd.now.Add(max(ttl, min(rd.ttls.Min, rd.ttls.Max)))
	return s, len(s.RRs) > 0
}

// contains reports whether rr is among rrs already (RFC 2181 §5: duplicates
// are suppressed).
func contains(rrs []dns.RR, rr dns.RR) bool {
	return slices.ContainsFunc(rrs, func(have dns.RR) bool { return dns.IsDuplicate(have, rr) })
}

// clampTTL returns ttl as a duration: with the top bit set it is 0 (RFC 2181
// §8).
func clampTTL(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}
