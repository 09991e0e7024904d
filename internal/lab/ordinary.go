package lab

import (
	"strings"

	"shirube/internal/wire"
)

// flagship is the first ordinary zone, and has that name whatever the seed.
const flagship = "shirube.lab."

// hostLabels are the names of hosts that every ordinary zone has.
var hostLabels = [...]string{
	"api", "app", "auth", "cdn", "dev", "docs", "files", "forum", "git", "img", "intra", "jobs", "login", "m",
	"media", "news", "pay", "search", "shop", "static", "status", "store", "video", "wiki",
}

// syllables make up the names of zones.
var syllables = [...]string{
	"a", "ka", "sa", "ta", "na", "ha", "ma", "ya", "ra", "wa", "ki", "shi", "chi", "ni", "mi", "ri",
	"ku", "su", "tsu", "nu", "mu", "yu", "ru", "ke", "se", "te", "ne", "me", "re", "ko", "so", "to", "no", "mo", "ro",
}

// zoneName returns a name that no zone has yet.
func (b *builder) zoneName() string {
	for {
		var s strings.Builder
		for range 2 + b.random.IntN(3) {
			s.WriteString(syllables[b.random.IntN(len(syllables))])
		}
		s.WriteByte('.')
		s.WriteString(tlds[b.random.IntN(len(tlds))])
		if b.byName[s.String()] == nil {
			return s.String()
		}
	}
}

// ordinary makes n zones of companies with a web site, mail and a few dozen
// hosts.
func (b *builder) ordinary(n int) {
	ttls := [...]int{300, 600, 3600, 14400, 86400}
	zones := make([]*zone, n)
	for i := range zones {
		origin := flagship
		if i > 0 {
			origin = b.zoneName()
		}
		zones[i] = b.zone(origin, ttls[b.random.IntN(len(ttls))], b.hosting(origin)...)
	}
	for _, z := range zones {
		b.site(z)
		b.hosts(z)
		b.aliases(z, zones[b.random.IntN(n)].origin)
		b.services(z)
		b.ask("nosuch."+z.origin, wire.TypeA, "no such name")
	}
}

// hosting returns the name servers of a zone: mostly those of one provider, at
// times under names in the zone itself, at times of two providers.
func (b *builder) hosting(origin string) []host {
	p := b.providers[b.random.IntN(len(b.providers))]
	switch b.random.IntN(8) {
	case 0, 1:
		return []host{{"ns1." + origin, p.hosts[0].addrs}, {"ns2." + origin, p.hosts[1].addrs}}
	case 2:
		if q := b.providers[b.random.IntN(len(b.providers))]; q.origin != p.origin {
			return append(append([]host(nil), p.hosts...), q.hosts...)
		}
	}
	return p.hosts
}

// site makes the apex and the web site.
func (b *builder) site(z *zone) {
	www := b.web(z, "www")
	b.pointers = append(b.pointers, pointer{www, "www." + z.origin})
	b.web(z, "@")
	z.add("@", "TXT", `"v=spf1 mx -all"`)
	z.add("@", "HTTPS", "1 . alpn=h2,h3 ipv4hint=%s", www)
	z.add("www", "HTTPS", "1 . alpn=h2,h3 ipv4hint=%s", www)
	z.add("@", "MX", "10 mail")
	z.add("@", "MX", "20 mail2")
	b.web(z, "mail")
	b.web(z, "mail2")
	z.add("_dmarc", "TXT", `"v=DMARC1; p=reject"`)
	z.add("s1._domainkey", "TXT", `"v=DKIM1; k=ed25519; p=%016x%016x"`, b.random.Uint64(), b.random.Uint64())

	for _, typ := range []wire.Type{
		wire.TypeA, wire.TypeAAAA, wire.TypeMX, wire.TypeTXT, wire.TypeHTTPS, wire.TypeNS, wire.TypeSOA,
	} {
		b.ask(z.origin, typ, "data of a zone's apex")
	}
	for _, typ := range []wire.Type{wire.TypeA, wire.TypeAAAA, wire.TypeHTTPS} {
		b.ask("www."+z.origin, typ, "data of a web site")
	}
	b.ask("www."+z.origin, wire.TypeMX, "no such type")
	b.ask("mail."+z.origin, wire.TypeA, "address of a mail server")
	b.ask("mail."+z.origin, wire.TypeAAAA, "address of a mail server")
	b.ask("_dmarc."+z.origin, wire.TypeTXT, "policy for mail")
	b.ask("s1._domainkey."+z.origin, wire.TypeTXT, "key for mail")
}

// hosts makes the hosts: some with two addresses, two thirds with IPv6.
func (b *builder) hosts(z *zone) {
	for _, label := range hostLabels {
		v4, v6 := b.address()
		z.add(label, "A", "%s", v4)
		b.ask(label+"."+z.origin, wire.TypeA, "address of a host")
		b.ask(label+"."+z.origin, wire.TypeAAAA, "IPv6 address of a host, if it has one")
		if b.random.IntN(4) == 0 {
			second, _ := b.address()
			z.add(label, "A", "%s", second)
		}
		if b.random.IntN(3) != 0 {
			z.add(label, "AAAA", "%s", v6)
		}
	}
}

// aliases makes aliases inside of the zone, and into the zone other.
func (b *builder) aliases(z *zone, other string) {
	z.add("blog", "CNAME", "www")
	z.add("home", "CNAME", "blog")
	z.add("partner", "CNAME", "www.%s", other)
	b.ask("blog."+z.origin, wire.TypeA, "alias inside of the zone")
	b.ask("home."+z.origin, wire.TypeAAAA, "alias of an alias inside of the zone")
	b.ask("partner."+z.origin, wire.TypeA, "alias into another zone")
}

// services makes SRV and SVCB records.
func (b *builder) services(z *zone) {
	z.add("_imaps._tcp", "SRV", "0 1 993 mail")
	z.add("_8443._foo.api", "SVCB", "1 api alpn=bar port=8443")
	z.add("_8443._foo.app", "SVCB", "0 _8443._foo.api")
	b.ask("_imaps._tcp."+z.origin, wire.TypeSRV, "service")
	b.ask("_8443._foo.api."+z.origin, wire.TypeSVCB, "service binding")
	b.ask("_8443._foo.app."+z.origin, wire.TypeSVCB, "service binding in alias mode")
	b.ask("_foo.api."+z.origin, wire.TypeA, "empty non-terminal")
}
