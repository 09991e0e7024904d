package lab

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// numZones is how many zones there are below the TLDs.
const numZones = 200

// tlds are the top-level domains: words for what has a place on a map. None of
// them exists on the Internet, so nothing of the lab can be mistaken for it.
var tlds = [...]string{"lab.", "mura.", "machi.", "shima.", "minato."}

// World is the name space of a lab: its zones, who serves them, and what there
// is to ask. It depends on its seed alone, and is immutable.
type World struct {
	seed    uint64
	signed  bool
	zones   []*zone
	origins map[wire.Name]*zone
	asked   []asked
}

// zone is one zone as it is written down.
type zone struct {
	origin  string
	servers []host
	text    strings.Builder // RFC 1035 §5.1
	security
	insecure bool // signed in a way that nobody knows

	glued map[string]bool // hosts whose addresses text already has
}

// host is a name server. It may be lame or silent, and is of no use then.
type host struct {
	name  string
	addrs []netip.Addr
}

// NewWorld returns the world that seed makes, of which nothing is signed.
func NewWorld(seed uint64) *World { return newWorld(seed, false) }

func newWorld(seed uint64, signed bool) *World {
	b := &builder{
		World:  World{seed: seed, signed: signed, origins: make(map[wire.Name]*zone)},
		random: rand.New(rand.NewPCG(seed, 0x5348_4952_5542_4500)),
		byName: make(map[string]*zone),
	}
	b.infrastructure()
	b.special()
	b.ordinary(numZones - (len(b.zones) - 1 - len(tlds))) // not counting the root and the TLDs
	b.bogus()
	b.reverse()
	return &b.World
}

// builder makes a World.
type builder struct {
	World

	random    *rand.Rand
	byName    map[string]*zone
	providers []provider
	pointers  []pointer
	addresses int // handed out so far
	secured   int // zones so far whose way to be signed is left to their turn
}

// provider is a company that serves other people's zones.
type provider struct {
	origin string
	hosts  []host
}

// pointer is a record for the reverse zone.
type pointer struct {
	addr netip.Addr
	name string
}

// zone makes a zone of the given default TTL in seconds, with its SOA and NS
// records, and the delegation in the zone above.
func (b *builder) zone(origin string, ttl int, servers ...host) *zone {
	return b.securedZone(origin, ttl, b.secure(origin), servers...)
}

// securedZone is zone for one that is signed as s says.
func (b *builder) securedZone(origin string, ttl int, s security, servers ...host) *zone {
	z := &zone{origin: origin, servers: servers, security: s, glued: make(map[string]bool)}
	fmt.Fprintf(&z.text, "$ORIGIN %s\n$TTL %d\n", origin, ttl)
	z.add("@", "SOA", "%s hostmaster.%s 1 3600 600 604800 300", servers[0].name, strings.TrimPrefix(origin, "."))
	for _, h := range servers {
		z.add("@", "NS", "%s", h.name)
	}
	z.glue(servers)
	b.zones = append(b.zones, z)
	b.byName[origin] = z
	b.origins[wire.MustParseName(origin)] = z
	if origin != "." {
		b.delegate(origin, servers...).text.WriteString(s.ds)
	}
	return z
}

// delegate writes the delegation of origin to servers into the zone above, which
// it returns.
func (b *builder) delegate(origin string, servers ...host) *zone {
	_, above, _ := strings.Cut(origin, ".")
	parent := b.byName[above]
	if parent == nil {
		parent = b.byName["."]
	}
	for _, h := range servers {
		parent.add(origin, "NS", "%s", h.name)
	}
	parent.glue(servers)
	return parent
}

// add writes one record. Names without a final dot are relative to the zone.
func (z *zone) add(owner, typ, format string, args ...any) {
	fmt.Fprintf(&z.text, "%s %s %s\n", owner, typ, fmt.Sprintf(format, args...))
}

// glue writes the addresses of the hosts that are named within the zone,
// unless it has them already.
func (z *zone) glue(hosts []host) {
	for _, h := range hosts {
		if z.glued[h.name] || !wire.MustParseName(h.name).Within(wire.MustParseName(z.origin)) {
			continue
		}
		z.glued[h.name] = true
		for _, a := range h.addrs {
			if a.Is4() {
				z.add(h.name, "A", "%s", a)
			} else {
				z.add(h.name, "AAAA", "%s", a)
			}
		}
	}
}

// addrs returns the addresses that answer for z, sorted.
func (z *zone) addrs() []netip.Addr {
	var addrs []netip.Addr
	for _, h := range z.servers {
		for _, a := range h.addrs {
			if a != lameAddr() && a != silentAddr() {
				addrs = append(addrs, a)
			}
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

// serverAddr is an address of the lab's own network, 127.53.0.0/16.
func serverAddr(group, n int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 53, byte(group), byte(n)})
}

// The groups of addresses, by the third octet.
const (
	groupRoot = iota
	groupTLD
	groupProvider
	groupBroken
)

// lameAddr is where a server refuses every question.
func lameAddr() netip.Addr { return serverAddr(groupBroken, 1) }

// silentAddr is where a server takes every query and answers none.
func silentAddr() netip.Addr { return serverAddr(groupBroken, 2) }

// infrastructure makes the root, the TLDs and the providers. What is served on
// ::1, the one IPv6 address that every loopback has, is enough to resolve the
// zones of that server over IPv6 alone: root, shima. and a provider there.
func (b *builder) infrastructure() {
	root := []host{
		{"a.root.lab.", []netip.Addr{serverAddr(groupRoot, 1)}},
		{"b.root.lab.", []netip.Addr{serverAddr(groupRoot, 2), netip.IPv6Loopback()}},
	}
	b.zone(".", 86400, root...)
	for i, tld := range tlds {
		second := []netip.Addr{serverAddr(groupTLD, 2*i+2)}
		if tld == "shima." {
			second = append(second, netip.IPv6Loopback())
		}
		b.zone(tld, 86400,
			host{"a.nic." + tld, []netip.Addr{serverAddr(groupTLD, 2*i+1)}},
			host{"b.nic." + tld, second})
	}
	b.byName["lab."].glue(root) // there the root's hosts have a zone of their own

	for i := range 8 {
		p := provider{origin: fmt.Sprintf("host%d.%s", i+1, tlds[i%len(tlds)])}
		second := []netip.Addr{serverAddr(groupProvider, 2*i+2)}
		if i == 3 { // host4.shima.
			second = append(second, netip.IPv6Loopback())
		}
		p.hosts = []host{
			{"ns1." + p.origin, []netip.Addr{serverAddr(groupProvider, 2*i+1)}},
			{"ns2." + p.origin, second},
		}
		b.providers = append(b.providers, p)
		b.zone(p.origin, 3600, p.hosts...)
		for _, h := range p.hosts {
			b.ask(h.name, wire.TypeA, "address of a provider's name server")
		}
	}
}

// address returns the next address for a host of the lab: IPv4 from the network
// for benchmarks (RFC 2544 §C.2.2), which no resolver serves by itself as it
// does those for documentation (RFC 6303 §4.2), and IPv6 likewise (RFC 5180 §8).
func (b *builder) address() (v4, v6 netip.Addr) {
	b.addresses++
	n := b.addresses
	v4 = netip.AddrFrom4([4]byte{198, 18 + byte(n>>16), byte(n >> 8), byte(n)})
	v6 = netip.AddrFrom16([16]byte{0x20, 0x01, 0, 2, 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)})
	return v4, v6
}

// Reverse returns the zones of the lab that a resolver answers by itself
// otherwise: the names of loopback addresses, where the lab's servers are.
func Reverse() []wire.Name { return []wire.Name{"\x03127\x07in-addr\x04arpa\x00"} }

// reverse makes in-addr.arpa., which holds the name servers and the web sites.
func (b *builder) reverse() {
	z := b.zone("in-addr.arpa.", 3600, b.byName["lab."].servers...)
	seen := make(map[netip.Addr]bool)
	for _, other := range b.zones {
		for _, h := range other.servers {
			for _, a := range h.addrs {
				if a.Is4() && !seen[a] {
					seen[a] = true
					b.pointers = append(b.pointers, pointer{a, h.name})
				}
			}
		}
	}
	for _, p := range b.pointers {
		o := p.addr.As4()
		owner := fmt.Sprintf("%d.%d.%d.%d", o[3], o[2], o[1], o[0])
		z.add(owner, "PTR", "%s", p.name)
		b.ask(owner+".in-addr.arpa.", wire.TypePTR, "name of an address")
	}
}

// servers returns every server that answers, by address. A lame one has no
// zones.
func (w *World) servers() (map[netip.Addr]*simnet.Server, error) {
	zones := map[netip.Addr][]*simnet.Zone{lameAddr(): nil}
	for _, z := range w.zones {
		parsed, err := simnet.ParseZone(z.origin, z.text.String())
		if err != nil {
			return nil, fmt.Errorf("lab: %w", err)
		}
		if z.signing != nil {
			parsed = parsed.Sign(*z.signing)
		}
		for _, a := range z.addrs() {
			zones[a] = append(zones[a], parsed)
		}
	}
	servers := make(map[netip.Addr]*simnet.Server, len(zones))
	for a, zs := range zones {
		servers[a] = simnet.NewServer(zs...)
	}
	return servers, nil
}

// Install puts the world's servers on n, where the silent one is nobody.
func (w *World) Install(n *simnet.Net) error {
	servers, err := w.servers()
	if err != nil {
		return err
	}
	for a, s := range servers {
		n.Attach(a, s)
	}
	return nil
}
