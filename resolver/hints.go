package resolver

import (
	"fmt"
	"io"
	"net/netip"
	"slices"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// rootServers is the root zone's NS set with its addresses, as IANA publishes
// it in named.root (b.root-servers.net renumbered on 2023-11-27).
var rootServers = [13][2]string{
	{"198.41.0.4", "2001:503:ba3e::2:30"},
	{"170.247.170.2", "2801:1b8:10::b"},
	{"192.33.4.12", "2001:500:2::c"},
	{"199.7.91.13", "2001:500:2d::d"},
	{"192.203.230.10", "2001:500:a8::e"},
	{"192.5.5.241", "2001:500:2f::f"},
	{"192.112.36.4", "2001:500:12::d0d"},
	{"198.97.190.53", "2001:500:1::53"},
	{"192.36.148.17", "2001:7fe::53"},
	{"192.58.128.30", "2001:503:c27::2:30"},
	{"193.0.14.129", "2001:7fd::1"},
	{"199.7.83.42", "2001:500:9f::42"},
	{"202.12.27.33", "2001:dc3::35"},
}

// RootHints returns the servers of the Internet's root, to begin with until
// the root has been asked itself (RFC 9609 §2).
func RootHints() []rrset.Server {
	servers := make([]rrset.Server, 0, len(rootServers))
	for i, addrs := range rootServers {
		servers = append(servers, rrset.Server{
			Host:  wire.MustParseName(string(rune('a'+i)) + ".root-servers.net."),
			Addrs: []netip.Addr{netip.MustParseAddr(addrs[0]), netip.MustParseAddr(addrs[1])},
		})
	}
	return servers
}

// hintTTL is the TTL of records that have none. It is not looked at: hints are
// good until the root has been asked.
const hintTTL = 3600000

// ParseHints reads root hints from a zone file: NS records of the root and
// addresses of their targets; other records are passed over. The errors name
// file and what is wrong with it: it cannot be read or parsed, has no servers,
// or a server without an address.
func ParseHints(text io.Reader, file string) ([]rrset.Server, error) {
	addrs := make(map[wire.Name][]netip.Addr)
	var hosts []wire.Name
	zp := dns.NewZoneParser(text, ".", "") // file is in all errors alike
	zp.SetDefaultTTL(hintTTL)
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		owner, err := wire.ParseName(rr.Header().Name)
		if err != nil || rr.Header().Class != dns.ClassINET {
			return nil, fmt.Errorf("reading root hints: %s: no record of class IN: %v", file, rr)
		}
		if addr, ok := address(rr); ok && !slices.Contains(addrs[owner], addr) {
			addrs[owner] = append(addrs[owner], addr)
		}
		ns, ok := rr.(*dns.NS)
		if !ok || owner != wire.Root {
			continue
		}
		host, err := wire.ParseName(ns.Ns)
		if err != nil {
			return nil, fmt.Errorf("reading root hints: %s: name server %q: %w", file, ns.Ns, err)
		}
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	if err := zp.Err(); err != nil {
		return nil, fmt.Errorf("reading root hints: %s: %w", file, err)
	}
	if len(hosts) == 0 {
		return nil, fmt.Errorf("reading root hints: %s: no NS record of the root", file)
	}
	servers := make([]rrset.Server, 0, len(hosts))
	for _, h := range hosts {
		if addrs[h] == nil {
			return nil, fmt.Errorf("reading root hints: %s: no address of %v", file, h)
		}
		servers = append(servers, rrset.Server{Host: h, Addrs: addrs[h]})
	}
	return servers, nil
}
