package lab

import (
	"fmt"
	"net/netip"
	"strings"

	"shirube/internal/wire"
)

// maxAliases is how many aliases a resolver is expected to follow: the limit of
// this one, of Unbound and of BIND.
const maxAliases = 11

// special makes the zones that each have one thing out of the ordinary. Their
// names are the same whatever the seed.
func (b *builder) special() {
	b.chains()
	b.redirections()
	b.wildcards()
	b.emptyNonTerminals()
	b.largeAnswers()
	b.shortLived()
	b.glueless()
	b.brokenServers()
	b.circle()
	b.onlyIPv6()
}

// web writes the addresses of owner into z, and returns the IPv4 one.
func (b *builder) web(z *zone, owner string) netip.Addr {
	v4, v6 := b.address()
	z.add(owner, "A", "%s", v4)
	z.add(owner, "AAAA", "%s", v6)
	return v4
}

// chains makes n0 … n12, where n9 is nine aliases away from an address and each
// alias leads into another zone, and a loop.
func (b *builder) chains() {
	var hops [4]*zone
	for i := range hops {
		p := b.providers[i]
		_, tld, _ := strings.Cut(p.origin, ".")
		hops[i] = b.zone(fmt.Sprintf("hop%d.%s", i+1, tld), 3600, p.hosts...)
	}
	at := func(n int) *zone { return hops[n%len(hops)] }
	b.web(at(0), "n0")
	for n := 1; n <= maxAliases+1; n++ {
		at(n).add(fmt.Sprintf("n%d", n), "CNAME", "n%d.%s", n-1, at(n-1).origin)
		name := fmt.Sprintf("n%d.%s", n, at(n).origin)
		if n > maxAliases {
			b.askFailing(name, wire.TypeA, fmt.Sprintf("chain of %d aliases: more than are followed", n))
			continue
		}
		b.askSpecial(name, wire.TypeA, fmt.Sprintf("chain of %d aliases across zones", n))
		b.askSpecial(name, wire.TypeMX, fmt.Sprintf("chain of %d aliases to no such type", n))
	}
	at(0).add("loop", "CNAME", "loop.%s", at(1).origin)
	at(1).add("loop", "CNAME", "loop.%s", at(0).origin)
	b.askFailing("loop."+at(0).origin, wire.TypeA, "aliases in a circle")
	at(2).add("dangling", "CNAME", "nosuch.%s", at(3).origin)
	b.askSpecial("dangling."+at(2).origin, wire.TypeA, "alias to no such name in another zone")
}

// redirections makes a DNAME into another zone (RFC 6672).
func (b *builder) redirections() {
	old := b.zone("legacy.lab.", 3600, b.providers[0].hosts...)
	moved := b.zone("relocated.mura.", 3600, b.providers[1].hosts...)
	old.add("@", "DNAME", "archive.of.the.old.site.%s", moved.origin)
	old.add("@", "TXT", `"moved"`)
	b.web(moved, "www.archive.of.the.old.site")
	b.web(moved, "a.b.archive.of.the.old.site")

	b.askSpecial("www.legacy.lab.", wire.TypeA, "name below a DNAME")
	b.askSpecial("a.b.legacy.lab.", wire.TypeAAAA, "name two labels below a DNAME")
	b.askSpecial("nosuch.legacy.lab.", wire.TypeA, "no such name behind a DNAME")
	b.askSpecial("legacy.lab.", wire.TypeTXT, "other data at a DNAME")
	b.askSpecial("legacy.lab.", wire.TypeDNAME, "the DNAME itself")
	long := strings.Repeat(strings.Repeat("x", wire.MaxLabelLen)+".", 3) + strings.Repeat("y", 37)
	b.askSpecial(long+".legacy.lab.", wire.TypeA, "name that a DNAME makes too long (YXDOMAIN)")
}

// wildcards makes wildcards, and what they do not cover (RFC 4592).
func (b *builder) wildcards() {
	z := b.zone("wild.machi.", 3600, b.providers[2].hosts...)
	b.web(z, "*")
	z.add("*", "MX", "10 mail")
	z.add("*.deep", "TXT", `"below deep"`)
	z.add("*.alias", "CNAME", "n1.hop2.mura.")
	b.web(z, "exists")

	b.askSpecial("any.wild.machi.", wire.TypeA, "name from a wildcard")
	b.askSpecial("a.b.c.wild.machi.", wire.TypeMX, "name from a wildcard, several labels below")
	b.askSpecial("any.wild.machi.", wire.TypeTXT, "name from a wildcard, no such type")
	b.askSpecial("exists.wild.machi.", wire.TypeMX, "name beside a wildcard, no such type")
	b.askSpecial("x.exists.wild.machi.", wire.TypeA, "no such name: the wildcard does not reach below one that exists")
	b.askSpecial("deep.wild.machi.", wire.TypeTXT, "empty non-terminal above a wildcard")
	b.askSpecial("x.deep.wild.machi.", wire.TypeTXT, "name from a deeper wildcard")
	b.askSpecial("x.alias.wild.machi.", wire.TypeA, "alias from a wildcard, into another zone")
	b.askSpecial("*.wild.machi.", wire.TypeMX, "the wildcard itself")
}

// emptyNonTerminals makes names that exist only because of those below them.
func (b *builder) emptyNonTerminals() {
	z := b.zone("ent.shima.", 3600, b.providers[3].hosts...)
	b.web(z, "a.b.c.d")
	for _, name := range []string{"b.c.d.ent.shima.", "c.d.ent.shima.", "d.ent.shima."} {
		b.askSpecial(name, wire.TypeA, "empty non-terminal")
	}
	b.askSpecial("a.b.c.d.ent.shima.", wire.TypeA, "name below empty non-terminals")
	b.askSpecial("x.c.d.ent.shima.", wire.TypeA, "no such name below an empty non-terminal")
}

// largeAnswers makes RRsets that take TCP to fetch.
func (b *builder) largeAnswers() {
	z := b.zone("large.minato.", 3600, b.providers[4].hosts...)
	for i := range 64 {
		z.add("many", "TXT", `"record %02d of 64: %s"`, i+1, strings.Repeat("0123456789", 8))
	}
	for range 80 {
		v4, _ := b.address()
		z.add("wide", "A", "%s", v4)
	}
	z.add("*.fresh", "TXT", `"made for whatever name"`) // not signed: nobody can make it up from what it knows
	b.askSpecial("many.large.minato.", wire.TypeTXT, "64 TXT records, 6 kB: truncated on UDP")
	b.askSpecial("wide.large.minato.", wire.TypeA, "80 addresses: truncated on UDP")
}

// shortLived makes data that may not be kept, or not for long.
func (b *builder) shortLived() {
	z := b.zone("zero.mura.", 0, b.providers[1].hosts...)
	b.web(z, "www")
	z.add("@", "TXT", `"for this once"`)
	b.askSpecial("www.zero.mura.", wire.TypeA, "TTL 0")
	b.askSpecial("zero.mura.", wire.TypeTXT, "TTL 0")

	low := b.zone("low.mura.", 3600, b.providers[1].hosts...)
	for _, ttl := range []int{1, 5, 10} {
		v4, _ := b.address()
		owner := fmt.Sprintf("ttl%d", ttl)
		low.add(fmt.Sprintf("%s %d", owner, ttl), "A", "%s", v4)
		b.askSpecial(owner+".low.mura.", wire.TypeA, fmt.Sprintf("TTL %d", ttl))
	}
}

// glueless makes zones whose servers' addresses take a resolution of their
// own, and one where that takes yet another.
func (b *builder) glueless() {
	z := b.zone("glueless.lab.", 3600, b.providers[2].hosts...)
	b.web(z, "www")
	hosts := []host{
		{"ns1.glueless.lab.", []netip.Addr{serverAddr(groupProvider, 9)}},
		{"ns2.glueless.lab.", []netip.Addr{serverAddr(groupProvider, 10)}},
	}
	z.glue(hosts) // its own data: the delegation of glueless2 is not in lab.
	second := b.zone("glueless2.mura.", 3600, hosts...)
	b.web(second, "www")
	b.askSpecial("www.glueless.lab.", wire.TypeA, "delegation without glue")
	b.askSpecial("www.glueless2.mura.", wire.TypeA, "delegation without glue to servers in a zone that has none either")
}

// brokenServers makes a zone where one server of three is well, and two where
// none is.
func (b *builder) brokenServers() {
	lame := func(zone string) host { return host{"ns1." + zone, []netip.Addr{lameAddr()}} }
	silent := func(zone string) host { return host{"ns2." + zone, []netip.Addr{silentAddr()}} }
	z := b.zone("lame.lab.", 3600, lame("lame.lab."), silent("lame.lab."),
		host{"ns3.lame.lab.", []netip.Addr{serverAddr(groupProvider, 11)}})
	b.web(z, "www")
	b.askSpecial("www.lame.lab.", wire.TypeA, "one server refuses, one is silent, one is well")

	b.delegate("dead.minato.", lame("dead.minato."), silent("dead.minato."))
	b.askFailing("www.dead.minato.", wire.TypeA, "one server refuses, one is silent")
	b.delegate("refused.minato.", lame("refused.minato."))
	b.askFailing("www.refused.minato.", wire.TypeA, "the only server refuses")
}

// circle makes two zones that need each other's servers to be found.
func (b *builder) circle() {
	addrs := []netip.Addr{serverAddr(groupProvider, 12)}
	in1, in2 := host{"ns.circle2.mura.", addrs}, host{"ns.circle1.lab.", addrs}
	first := b.zone("circle1.lab.", 3600, in1)
	second := b.zone("circle2.mura.", 3600, in2)
	first.glue([]host{in2})
	second.glue([]host{in1})
	b.web(first, "www")
	b.askFailing("www.circle1.lab.", wire.TypeA, "delegations in a circle, without glue")
}

// onlyIPv6 makes a zone that nobody serves over IPv4.
func (b *builder) onlyIPv6() {
	z := b.zone("six.shima.", 3600, host{"ns.six.shima.", []netip.Addr{netip.IPv6Loopback()}})
	b.web(z, "www")
	b.askSpecial("www.six.shima.", wire.TypeA, "server with an IPv6 address only")
}
