package resolver

import (
	"net/netip"
	"slices"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

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

// apexGlue returns the addresses that came with a zone's own NS set.
func (rd *reading) apexGlue(ns rrset.Set) map[wire.Name][]netip.Addr {
	glue := make(map[wire.Name][]netip.Addr)
	for _, rr := range ns.RRs {
		if ns, ok := rr.(*dns.NS); ok {
			if host, err := wire.ParseName(ns.Ns); err == nil {
				if addrs := rd.glue(host); addrs != nil {
					glue[host] = addrs
				}
			}
		}
	}
	return glue
}
