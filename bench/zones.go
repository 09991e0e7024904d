package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
)

// zone is a zone of the laboratory: its name, "." for the root, and its text.
type zone struct {
	key  string // its DNSKEY record, if it is signed
	name string
	text string
}

// internet is the laboratory's data: three tiers of zones, each tier served by
// one NSD on the addresses of the tier, and the questions to ask.
type internet struct {
	root  zone
	tlds  []zone
	zones []zone
	// questions are lines for dnsperf, "name type": all distinct names.
	questions []string
	// missing are the questions for names that do not exist.
	missing map[string]bool
	// asked is how many of the questions lie in zones with a name server at
	// each address.
	asked map[netip.Addr]int
}

// The tiers' addresses. Each tier has its own, so that a resolver must walk the
// delegations.
var (
	rootAddrs = addresses("198.18.0.", 3)
	tldAddrs  = addresses("198.18.1.", 4)
	zoneAddrs = addresses("198.18.2.", 8)
)

func addresses(prefix string, n int) []netip.Addr {
	out := make([]netip.Addr, n)
	for i := range out {
		out[i] = netip.MustParseAddr(fmt.Sprint(prefix, i+1))
	}
	return out
}

const (
	// zoneTTL is the TTL of all records in seconds: longer than any run.
	zoneTTL = 86400
	// zoneSeed makes every laboratory the same one.
	zoneSeed = 0x5368697275626521
)

var (
	tldNames = []string{"com", "net", "org", "io", "dev"}
	// firstLabels are the first owner names of a zone; more are numbered.
	firstLabels = []string{"www", "mail", "blog", "shop", "img", "static", "dev", "login", "api", "cdn"}
)

// hosters is the number of zones that name servers of others lie in: two
// addresses are each one's.
func hosters(addrs []netip.Addr) int { return max(1, len(addrs)/2) }

// buildInternet makes an internet with the given number of zones and of
// questions, whose zones have their name servers at addrs, two or more. Equal
// arguments give equal bytes.
func buildInternet(zones, names int, addrs []netip.Addr) *internet {
	g := &generator{
		rng: rand.New(rand.NewPCG(zoneSeed, zoneSeed)), addrs: addrs,
		delegations: make(map[string]*strings.Builder),
	}
	g.net.asked = make(map[netip.Addr]int)
	g.net.missing = make(map[string]bool)
	for _, tld := range tldNames {
		g.delegations[tld] = new(strings.Builder)
	}
	for i := range hosters(addrs) {
		g.hoster(i)
	}
	for i := range zones {
		share := names / zones
		if i < names%zones {
			share++
		}
		g.zone(i, share)
	}
	g.parents()
	g.rng.Shuffle(len(g.net.questions), func(i, j int) {
		q := g.net.questions
		q[i], q[j] = q[j], q[i]
	})
	return &g.net
}

// generator builds an internet.
type generator struct {
	rng         *rand.Rand
	addrs       []netip.Addr // of the zones' name servers
	net         internet
	delegations map[string]*strings.Builder // what a TLD says of its children
}

// hoster makes a zone whose name servers serve other zones too.
func (g *generator) hoster(i int) {
	tld := tldNames[i%len(tldNames)]
	name := fmt.Sprintf("host%02d.%s.", i, tld)
	a, b := g.hosterAddrs(i)
	ns := nsWithGlue(name, a, b)
	g.delegations[tld].WriteString(ns)
	g.net.zones = append(g.net.zones, zone{name: name, text: soa(name) + ns})
}

// hosterAddrs returns the addresses of the i-th hoster's name servers.
func (g *generator) hosterAddrs(i int) (a, b netip.Addr) {
	return g.addrs[2*i%len(g.addrs)], g.addrs[(2*i+1)%len(g.addrs)]
}

// zone makes the i-th zone with names to ask for. Every other one has its name
// servers in its own zone, with glue; the rest lie in a hoster's.
func (g *generator) zone(i, names int) {
	tld := tldNames[i%len(tldNames)]
	name := fmt.Sprintf("zone%04d.%s.", i, tld)
	at := g.rng.IntN(len(g.addrs))
	a, b := g.addrs[at], g.addrs[(at+1+g.rng.IntN(len(g.addrs)-1))%len(g.addrs)]
	ns := nsWithGlue(name, a, b)
	if i%2 == 0 {
		h := i / 2 % hosters(g.addrs)
		a, b = g.hosterAddrs(h)
		host := fmt.Sprintf("host%02d.%s.", h, tldNames[h%len(tldNames)])
		ns = record(name, "NS", "ns1."+host) + record(name, "NS", "ns2."+host)
	}
	g.net.asked[a] += names
	g.net.asked[b] += names
	g.delegations[tld].WriteString(ns)
	var text strings.Builder
	text.WriteString(soa(name))
	text.WriteString(ns)
	text.WriteString(record("target."+name, "A", g.ipv4()))
	for k := range names {
		label := fmt.Sprintf("h%05d", k)
		if k < len(firstLabels) {
			label = firstLabels[k]
		}
		g.name(&text, label+"."+name, name)
	}
	g.net.zones = append(g.net.zones, zone{name: name, text: text.String()})
}

// name writes the records of one owner name and the question for it. Of a
// hundred questions about 70 are for A, 16 AAAA, 4 MX, 4 TXT, 2 meet a CNAME,
// 2 have no data and 2 no name: what clients of resolvers ask, roughly.
func (g *generator) name(b *strings.Builder, owner, zone string) {
	qtype, missing := "A", false
	switch p := g.rng.IntN(100); {
	case p < 70:
		for range 1 + g.rng.IntN(2) {
			b.WriteString(record(owner, "A", g.ipv4()))
		}
	case p < 86:
		qtype = "AAAA"
		b.WriteString(record(owner, "AAAA", g.ipv6()))
	case p < 90:
		qtype = "MX"
		b.WriteString(record(owner, "MX", "10 target."+zone))
	case p < 94:
		qtype = "TXT"
		b.WriteString(record(owner, "TXT", fmt.Sprintf("\"v=spf1 ip4:%s -all\"", g.ipv4())))
	case p < 96:
		b.WriteString(record(owner, "CNAME", "target."+zone))
	case p < 98:
		qtype = "AAAA"
		b.WriteString(record(owner, "A", g.ipv4()))
	default:
		missing = true
	}
	question := strings.TrimSuffix(owner, ".") + " " + qtype
	g.net.questions = append(g.net.questions, question)
	if missing {
		g.net.missing[question] = true
	}
}

// parents writes the TLDs and the root.
func (g *generator) parents() {
	var rootNS, root strings.Builder
	for i, a := range rootAddrs {
		ns := fmt.Sprintf("ns%d.root-servers.", i+1)
		rootNS.WriteString(record(".", "NS", ns) + record(ns, "A", a.String()))
	}
	root.WriteString(soa(".") + rootNS.String())
	for i, tld := range tldNames {
		name := tld + "."
		nic := "nic." + name
		a, b := tldAddrs[i%len(tldAddrs)], tldAddrs[(i+1)%len(tldAddrs)]
		ns := record(name, "NS", "ns1."+nic) + record(name, "NS", "ns2."+nic) +
			record("ns1."+nic, "A", a.String()) + record("ns2."+nic, "A", b.String())
		root.WriteString(ns)
		g.net.tlds = append(g.net.tlds, zone{name: name, text: soa(name) + ns + g.delegations[tld].String()})
	}
	g.net.root = zone{name: ".", text: root.String()}
}

// ipv4 returns an address of 198.18.0.0/15, which is for benchmarks (RFC 2544).
func (g *generator) ipv4() string {
	return fmt.Sprintf("198.%d.%d.%d", 18+g.rng.IntN(2), g.rng.IntN(256), 1+g.rng.IntN(254))
}

// ipv6 returns an address of 2001:db8::/32 (RFC 3849).
func (g *generator) ipv6() string {
	return fmt.Sprintf("2001:db8:%x::%x", g.rng.IntN(1<<16), 1+g.rng.IntN(1<<16-1))
}

// rootHints returns the text of a hints file.
func rootHints() string {
	var b strings.Builder
	for i, a := range rootAddrs {
		ns := fmt.Sprintf("ns%d.root-servers.", i+1)
		b.WriteString(record(".", "NS", ns) + record(ns, "A", a.String()))
	}
	return b.String()
}

func soa(zone string) string {
	return record(zone, "SOA", "ns1.root-servers. hostmaster.root-servers. 1 7200 3600 1209600 3600")
}

func nsWithGlue(zone string, a, b netip.Addr) string {
	return record(zone, "NS", "ns1."+zone) + record(zone, "NS", "ns2."+zone) +
		record("ns1."+zone, "A", a.String()) + record("ns2."+zone, "A", b.String())
}

func record(owner, typ, data string) string {
	return fmt.Sprintf("%s %d IN %s %s\n", owner, zoneTTL, typ, data)
}
