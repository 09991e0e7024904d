package resolver

import (
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// delegated returns the zone whose servers the authority section names, if
// any. Of several it is the first that the question is in and that is not the
// zone asked: a server has one delegation for one name, and what else it says
// is none of this question's business.
func (rd *reading) delegated() (owner wire.Name) {
	for _, rec := range rd.authority {
		switch {
		case rec.typ != wire.TypeNS:
		case rec.name != rd.cut.Zone && rd.q.Name.Within(rec.name):
			return rec.name
		case owner == "":
			owner = rec.name
		}
	}
	return owner
}

// refers reports whether the authority section, as it came, names the servers
// of a zone that is meets. It tells one lame server from the other; nothing of
// what it sees is used.
func (rd *reading) refers(is func(owner wire.Name) bool) bool {
	for _, rr := range rd.msg.Ns[:min(len(rd.msg.Ns), maxRecords)] {
		if rr.Header().Rrtype != dns.TypeNS {
			continue
		}
		if owner, err := wire.ParseName(rr.Header().Name); err == nil && is(owner) {
			return true
		}
	}
	return false
}

// referral returns the referral to zone, whose servers recs names. The cut
// ends with the first of what it rests on, the cut above included.
func (rd *reading) referral(zone wire.Name, recs []record) *reply {
	cut := &rrset.Cut{Zone: zone, Since: rd.now}
	var hosts []wire.Name
	for _, rec := range recs {
		if rec.name != zone {
			continue
		}
		host, ok := nameServer(rec.rr)
		if ok && len(hosts) < maxServers && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
			cut.Servers = append(cut.Servers, rrset.Server{Host: host, Addrs: rd.glue(host)})
		}
	}
	if hosts == nil {
		return lame(wire.NoError, "referral without a server")
	}
	cut.Until = earlier(
		rd.now.Add(rd.leastTTL(recs, func(r record) bool { return r.typ == wire.TypeNS && r.name == zone })),
		rd.now.Add(rd.leastTTL(rd.additional, func(r record) bool { return isAddress(r) && slices.Contains(hosts, r.name) })))
	if !rd.cut.Until.IsZero() {
		cut.Until = earlier(cut.Until, rd.cut.Until)
	}
	cut.DS = rd.delegatedDS(zone)
	return &reply{Verdict: Referral, Cut: cut}
}

// delegatedDS returns what the authority section says of the keys of zone, to
// which it refers: its DS set, or the denial of it (RFC 4035 §3.1.4).
func (rd *reading) delegatedDS(zone wire.Name) *rrset.Set {
	if s, ok := rd.set(rd.authority, zone, wire.TypeDS, rrset.Authority); ok {
		return &s
	}
	proofs := rd.shortProofs()
	if len(proofs) == 0 {
		return nil
	}
	s := rrset.Set{Name: zone, Type: wire.TypeDS, Rank: rrset.Authority, Until: proofs[0].Until, Denial: &rrset.Denial{Sets: proofs}}
	for _, p := range proofs {
		s.Until = earlier(s.Until, p.Until)
	}
	return &s
}

// referredDS judges a referral to the zone whose DS set was asked for: its
// parent's server knows no DNSSEC, or answers in an odd place (RFC 4035
// §3.1.4.1).
func (rd *reading) referredDS(neg *reply) *reply {
	if s, ok := rd.set(rd.authority, rd.q.Name, wire.TypeDS, rrset.Authority); ok {
		return &reply{Verdict: Positive, Sets: []rrset.Set{s}}
	}
	return doubtful(neg.Rcode, "referral for a DS question", neg)
}

// leastTTL returns the smallest TTL of the records that used picks, within the
// bounds on all TTLs.
func (rd *reading) leastTTL(recs []record, used func(record) bool) time.Duration {
	least := rd.ttls.Max
	for _, rec := range recs {
		if used(rec) {
			least = min(least, clampTTL(rec.rr.Header().Ttl))
		}
	}
	return max(least, min(rd.ttls.Min, rd.ttls.Max))
}

// glue returns the addresses of host in the additional section. Only an
// address of a server that the referral names is glue (CVE-2026-42960).
func (rd *reading) glue(host wire.Name) []netip.Addr {
	var addrs []netip.Addr
	for _, rec := range rd.additional {
		if rec.name != host || len(addrs) == maxAddrs {
			continue
		}
		if addr, ok := address(rec.rr); ok && !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// apexGlue returns the addresses that came with a zone's own NS set.
func (rd *reading) apexGlue(set rrset.Set) map[wire.Name][]netip.Addr {
	glue := make(map[wire.Name][]netip.Addr)
	for _, host := range hostsOf(set) {
		if addrs := rd.glue(host); addrs != nil {
			glue[host] = addrs
		}
	}
	return glue
}

func isAddress(r record) bool { return isAddressType(r.typ) }

func isAddressType(typ wire.Type) bool { return typ == wire.TypeA || typ == wire.TypeAAAA }

// nameServer returns the name of the server in an NS record.
func nameServer(rr dns.RR) (wire.Name, bool) {
	ns, ok := rr.(*dns.NS)
	if !ok {
		return "", false
	}
	host, err := wire.ParseName(ns.Ns)
	return host, err == nil
}

// address returns the address in an A or AAAA record.
func address(rr dns.RR) (netip.Addr, bool) {
	switch rr := rr.(type) {
	case *dns.A:
		return netip.AddrFromSlice(rr.A.To4())
	case *dns.AAAA:
		return netip.AddrFromSlice(rr.AAAA.To16())
	}
	return netip.Addr{}, false
}

// addGlue gives the servers of cut that have no address those that came with
// the referral, whoever may say so (Unbound's harden-glue: no).
func (r *Resolver) addGlue(cut *rrset.Cut, msg *dns.Msg, now time.Time) {
	rd := &reading{sections: scrub(msg, wire.Root, wire.Root), ttls: r.opt.TTL}
	for i := range cut.Servers {
		srv := &cut.Servers[i]
		if srv.Addrs != nil {
			continue
		}
		if srv.Addrs = rd.glue(srv.Host); srv.Addrs == nil {
			continue
		}
		ttl := rd.leastTTL(rd.additional, func(rec record) bool { return isAddress(rec) && rec.name == srv.Host })
		cut.Until = earlier(cut.Until, now.Add(ttl))
	}
}
