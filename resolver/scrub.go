package resolver

import (
	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// The most that is looked at in one response. What is beyond is dropped: it
// cannot be needed, and all of it costs time and memory (CVE-2024-1737,
// CacheFlush).
const (
	maxRecords = 500 // of a section
	maxPerSet  = 100 // of an RRset
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
}

// scrub drops from msg what a server of zone may not say: records of other
// classes, of owners that are not in the zone, and such that can only be asked
// for. The order is kept.
func scrub(msg *dns.Msg, zone wire.Name) sections {
	return sections{
		answer:     scrubSection(msg.Answer, zone),
		authority:  scrubSection(msg.Ns, zone),
		additional: scrubSection(msg.Extra, zone),
	}
}

func scrubSection(rrs []dns.RR, zone wire.Name) []record {
	var keep []record
	for _, rr := range rrs[:min(len(rrs), maxRecords)] {
		h := rr.Header()
		typ := wire.Type(h.Rrtype)
		if h.Class != dns.ClassINET || typ == 0 || typ.Meta() {
			continue
		}
		name, err := wire.ParseName(h.Name)
		if err != nil || !name.Within(zone) {
			continue
		}
		keep = append(keep, record{name, typ, rr})
	}
	return keep
}
