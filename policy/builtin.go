package policy

import (
	"fmt"

	"shirube/internal/wire"
)

// Builtin is a zone that every resolver answers by itself, because nobody else
// has the word on it: addresses that are private to each site, or names that
// are not in the DNS at all. To ask the root for them would show it what is
// nobody's business there, and burden it with it (RFC 6303 §1, RFC 6761).
type Builtin struct {
	Name wire.Name
	// Loopback: the zone's name and all below it stand for this machine (RFC
	// 6761 §6.3).
	Loopback bool
	// Host is the one name in the zone that stands for localhost., if there is
	// one: it has a PTR record.
	Host wire.Name
}

// builtins lists the zones: first those of the Special-Use Domain Names
// registry that are not to be resolved, then the locally served zones of RFC
// 6303 §4 and RFC 7793. resolver.arpa. and local. are not among them: the first
// is ours to answer otherwise (RFC 9462 §6.4), the second is not asked of
// resolvers on purpose, and has data at some sites.
func builtins() []Builtin {
	list := []Builtin{
		{Name: "\x09localhost\x00", Loopback: true}, // RFC 6761 §6.3
	}
	add := func(names ...string) {
		for _, n := range names {
			list = append(list, Builtin{Name: wire.MustParseName(n)})
		}
	}
	add("test.", "invalid.", // RFC 6761 §6.2, §6.4
		"onion.",                   // RFC 7686 §2
		"home.arpa.",               // RFC 8375 §4
		"service.arpa.",            // RFC 9665 §10.2
		"0.in-addr.arpa.",          // this network
		"10.in-addr.arpa.",         // private (RFC 1918)
		"168.192.in-addr.arpa.",    //
		"254.169.in-addr.arpa.",    // link-local (RFC 3927)
		"2.0.192.in-addr.arpa.",    // documentation (RFC 5737)
		"100.51.198.in-addr.arpa.", //
		"113.0.203.in-addr.arpa.",  //
		"255.255.255.255.in-addr.arpa.",
		"d.f.ip6.arpa.",                                                            // unique local (RFC 4193)
		"8.e.f.ip6.arpa.", "9.e.f.ip6.arpa.", "a.e.f.ip6.arpa.", "b.e.f.ip6.arpa.", // link-local
		"8.b.d.0.1.0.0.2.ip6.arpa.", // documentation (RFC 3849)
	)
	for i := 16; i < 32; i++ { // private (RFC 1918)
		add(fmt.Sprintf("%d.172.in-addr.arpa.", i))
	}
	for i := 64; i < 128; i++ { // shared by providers (RFC 7793)
		add(fmt.Sprintf("%d.100.in-addr.arpa.", i))
	}
	const zeros = "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0."
	add("0." + zeros + "ip6.arpa.")
	one := wire.MustParseName("1." + zeros + "ip6.arpa.")
	return append(list,
		Builtin{Name: one, Host: one},
		Builtin{Name: wire.MustParseName("127.in-addr.arpa."), Host: wire.MustParseName("1.0.0.127.in-addr.arpa.")})
}

// Builtins finds the builtin zone that a name is in. It is immutable, and safe
// for concurrent use. A nil one has no zones.
type Builtins struct {
	zones map[wire.Name]*Builtin // nil: somebody else has the word from here on down
	tops  map[wire.Name]bool     // the last labels of all zones
}

// NewBuiltins returns the builtin zones without those of the given names, which
// are resolved as any other name is, and so is all that is below them. A name
// that is in no builtin zone changes nothing.
func NewBuiltins(except []wire.Name) *Builtins {
	b := &Builtins{zones: make(map[wire.Name]*Builtin), tops: make(map[wire.Name]bool)}
	for _, z := range builtins() {
		b.zones[z.Name] = &z
		b.tops[z.Name.Tail(1)] = true
	}
	for _, n := range except {
		b.zones[n] = nil
	}
	return b
}

// Find returns the zone that the folded name n, in wire format, is in, and the
// offset in n where the zone's name begins; or nil. It allocates nothing.
func (b *Builtins) Find(n []byte) (*Builtin, int) {
	if b == nil || !b.tops[wire.Name(n[lastLabel(n):])] {
		return nil, 0
	}
	for i := 0; n[i] != 0; i += 1 + int(n[i]) {
		if z, ok := b.zones[wire.Name(n[i:])]; ok {
			return z, i
		}
	}
	return nil, 0
}

// lastLabel returns the offset of the last label but the root's in n.
func lastLabel(n []byte) int {
	last := 0
	for i := 0; n[i] != 0; i += 1 + int(n[i]) {
		last = i
	}
	return last
}
