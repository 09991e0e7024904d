package policy

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

func rules(t testing.TB, lines ...string) []Rule {
	t.Helper()
	words := map[string]Action{"allow": Allow, "allow_snoop": AllowSnoop, "refuse": Refuse, "deny": Deny}
	var out []Rule
	for _, line := range lines {
		prefix, word, _ := strings.Cut(line, " ")
		action, ok := words[word]
		if !ok {
			t.Fatalf("%q has no action", line)
		}
		out = append(out, Rule{Prefix: netip.MustParsePrefix(prefix), Action: action})
	}
	return out
}

func newSet(t testing.TB, rules []Rule) *Set {
	t.Helper()
	s, err := New(Options{Rules: rules})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAdmitTakesTheMostSpecificPrefixInWhateverOrder(t *testing.T) {
	list := rules(t,
		"192.0.2.0/24 allow", "192.0.2.128/25 deny", "192.0.2.200/32 allow_snoop",
		"198.51.100.0/24 allow", "2001:db8::/32 allow", "2001:db8:1::/48 refuse", "2001:db8:1::53/128 allow_snoop", "::1/128 allow")
	for range 20 {
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		s := newSet(t, list)
		for addr, want := range map[string]Action{
			"192.0.2.0":       Allow,
			"192.0.2.127":     Allow,
			"192.0.2.128":     Deny,
			"192.0.2.199":     Deny,
			"192.0.2.200":     AllowSnoop,
			"192.0.2.201":     Deny,
			"192.0.2.255":     Deny,
			"192.0.3.0":       Refuse,
			"192.0.1.255":     Refuse,
			"198.51.100.7":    Allow,
			"2001:db8::1":     Allow,
			"2001:db8:1::1":   Refuse,
			"2001:db8:1::53":  AllowSnoop,
			"2001:db8:2::":    Allow,
			"2001:db9::":      Refuse,
			"::1":             Allow,
			"::2":             Refuse,
			"::":              Refuse,
			"0.0.0.0":         Refuse,
			"255.255.255.255": Refuse,
		} {
			if got := s.Admit(netip.MustParseAddr(addr)); got != want {
				t.Errorf("with %v, %s: %v, want %v", list, addr, got, want)
			}
		}
	}
}

func TestAdmitRefusesWhoeverNoRuleNames(t *testing.T) { // Unbound's default
	for what, s := range map[string]*Set{
		"no rules":   newSet(t, nil),
		"other ones": newSet(t, rules(t, "192.0.2.0/24 allow", "2001:db8::/32 allow")),
	} {
		for _, addr := range []string{"0.0.0.0", "203.0.113.1", "255.255.255.255", "::", "fe80::1%eth0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"} {
			if got := s.Admit(netip.MustParseAddr(addr)); got != Refuse {
				t.Errorf("%s: %s: %v", what, addr, got)
			}
		}
		if got := s.Admit(netip.Addr{}); got != Refuse {
			t.Errorf("%s: no address: %v", what, got)
		}
	}
}

func TestAdmitTakesAWholeFamilyAndItsEdges(t *testing.T) {
	s := newSet(t, rules(t, "0.0.0.0/0 allow", "::/0 deny", "0.0.0.0/32 refuse", "255.255.255.255/32 allow_snoop", "::/128 allow",
		"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128 allow_snoop", "128.0.0.0/1 deny"))
	for addr, want := range map[string]Action{
		"0.0.0.0": Refuse, "0.0.0.1": Allow, "127.255.255.255": Allow, "128.0.0.0": Deny, "255.255.255.254": Deny, "255.255.255.255": AllowSnoop,
		"::": Allow, "::1": Deny, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe": Deny, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": AllowSnoop,
	} {
		if got := s.Admit(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v, want %v", addr, got, want)
		}
	}
}

func TestAdmitKeepsTheFamiliesApart(t *testing.T) {
	s := newSet(t, rules(t, "::/0 allow", "192.0.2.0/24 deny"))
	for addr, want := range map[string]Action{
		"::ffff:192.0.2.1":    Deny,   // what a socket of both families calls 192.0.2.1
		"::ffff:198.51.100.1": Refuse, // IPv4, although ::/0 holds the octets
		"::ffff:192.0.2.1%1":  Deny,
		"::192.0.2.1":         Allow, // IPv4-compatible, which is IPv6 (RFC 4291 §2.5.5.1)
		"c000:201::":          Allow, // begins with the octets of 192.0.2.1
		"198.51.100.1":        Refuse,
	} {
		if got := s.Admit(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v, want %v", addr, got, want)
		}
	}
}

func TestAdmitIgnoresZones(t *testing.T) {
	s := newSet(t, rules(t, "fe80::/10 allow"))
	for _, addr := range []string{"fe80::1", "fe80::1%eth0", "fe80::1%2"} {
		if got := s.Admit(netip.MustParseAddr(addr)); got != Allow {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

func TestNewRefusesRulesThatMeanNothingOrTwoThings(t *testing.T) {
	prefix := netip.MustParsePrefix
	for _, c := range []struct {
		rules []Rule
		want  string
	}{
		{[]Rule{{prefix("192.0.2.0/24"), Allow}, {prefix("192.0.2.0/25"), Allow}, {prefix("192.0.2.0/24"), Deny}}, "rule 2: deny for 192.0.2.0/24, for which rule 0 says allow"},
		{[]Rule{{netip.Prefix{}, Allow}}, "rule 0: invalid Prefix is not a prefix"},
		{[]Rule{{netip.PrefixFrom(netip.MustParseAddr("192.0.2.0"), 33), Allow}}, "is not a prefix"},
		{[]Rule{{prefix("::ffff:192.0.2.0/120"), Allow}}, "rule 0: ::ffff:192.0.2.0/120 is IPv4-mapped"},
		{[]Rule{{prefix("::ffff:0:0/96"), Allow}}, "is IPv4-mapped"},
		{[]Rule{{prefix("192.0.2.1/24"), Allow}}, "rule 0: 192.0.2.1/24 has bits set after the first 24; the whole prefix is 192.0.2.0/24"},
		{[]Rule{{prefix("2001:db8::1/64"), Allow}}, "has bits set after the first 64"},
		{[]Rule{{Prefix: prefix("192.0.2.0/24")}}, "rule 0: 192.0.2.0/24 has no action"},
		{[]Rule{{prefix("192.0.2.0/24"), Deny + 1}}, "has no action"},
	} {
		s, err := New(Options{Rules: c.rules})
		if s != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.rules, err, c.want)
		}
	}
}

func TestNewTakesTheSameRuleTwice(t *testing.T) {
	s := newSet(t, rules(t, "192.0.2.0/24 allow", "192.0.2.0/24 allow"))
	if got := s.Admit(netip.MustParseAddr("192.0.2.1")); got != Allow {
		t.Errorf("192.0.2.1: %v", got)
	}
}

func TestNewRefusesMoreThanMaxRules(t *testing.T) {
	rule := Rule{netip.MustParsePrefix("192.0.2.0/24"), Allow}
	list := make([]Rule, MaxRules+1)
	for i := range list {
		list[i] = rule
	}
	if _, err := New(Options{Rules: list}); err == nil || !strings.Contains(err.Error(), "at most 100000") {
		t.Errorf("New(%d rules): %v", len(list), err)
	}
	if _, err := New(Options{Rules: list[:MaxRules]}); err != nil {
		t.Errorf("New(%d rules): %v", MaxRules, err)
	}
}

func TestActionsAreInUnboundsWords(t *testing.T) {
	for action, want := range map[Action]string{Allow: "allow", AllowSnoop: "allow_snoop", Refuse: "refuse", Deny: "deny", 0: "Action(0)", 6: "Action(6)", AllowCookie: "allow_cookie"} {
		if got := action.String(); got != want {
			t.Errorf("action %d is called %q, want %q", uint8(action), got, want)
		}
	}
}

// naive is the longest-prefix match that Admit is held to.
func naive(rules []Rule, client netip.Addr) Action {
	best, action := -1, Refuse
	for _, r := range rules {
		if r.Prefix.Contains(client.Unmap().WithZone("")) && r.Prefix.Bits() > best {
			best, action = r.Prefix.Bits(), r.Action
		}
	}
	return action
}

// edges returns the addresses where p begins and ends, and those beside.
func edges(p netip.Prefix) []netip.Addr {
	octets := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < 8*len(octets); i++ {
		octets[i/8] |= 0x80 >> (i % 8)
	}
	first := p.Masked().Addr()
	last, _ := netip.AddrFromSlice(octets)
	var out []netip.Addr
	for _, a := range []netip.Addr{first.Prev(), first, first.Next(), last.Prev(), last, last.Next()} {
		if a.IsValid() {
			out = append(out, a)
		}
	}
	return out
}

func TestAdmitAgreesWithANaiveScan(t *testing.T) {
	for name, world := range worlds {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			list := world(rng, 250)
			s := newSet(t, list)
			for _, r := range list {
				for _, a := range edges(r.Prefix) {
					if got, want := s.Admit(a), naive(list, a); got != want {
						t.Fatalf("%v: %v, want %v", a, got, want)
					}
				}
			}
		})
	}
}

// worlds are lists of n rules of the kinds that stress a table: spread out,
// crowded together, and nested.
var worlds = map[string]func(rng *rand.Rand, n int) []Rule{
	"v4 everywhere": func(rng *rand.Rand, n int) []Rule {
		return distinct(n, rng, func() netip.Prefix { return v4(rng.Uint32(), 8+rng.IntN(25)) })
	},
	"v4 customers of one /12": func(rng *rand.Rand, n int) []Rule {
		return distinct(n, rng, func() netip.Prefix { return v4(10<<24|rng.Uint32()&0xFFFFF, 29+rng.IntN(4)) })
	},
	"v4 nested": func(rng *rand.Rand, n int) []Rule {
		return distinct(n, rng, func() netip.Prefix { return v4(0xC0000200|rng.Uint32()&rng.Uint32()&0xFFFF, rng.IntN(33)) })
	},
	"v6 everywhere": func(rng *rand.Rand, n int) []Rule {
		return distinct(n, rng, func() netip.Prefix { return v6(1<<61|rng.Uint64()>>3, rng.Uint64(), 20+rng.IntN(45)) })
	},
	"v6 customers of one /32": func(rng *rand.Rand, n int) []Rule {
		return distinct(n, rng, func() netip.Prefix { return v6(0x20010db8<<32|rng.Uint64()>>32, 0, 48+8*rng.IntN(3)) })
	},
	"v6 hosts of one /64": func(rng *rand.Rand, n int) []Rule {
		return distinct(n, rng, func() netip.Prefix { return v6(0x20010db8<<32, rng.Uint64()&0xFFFFF, 124+rng.IntN(5)) })
	},
	"v6 nested": func(rng *rand.Rand, n int) []Rule {
		return distinct(n, rng, func() netip.Prefix {
			return v6(0x20010db8<<32|rng.Uint64()&rng.Uint64()>>40, rng.Uint64(), rng.IntN(129))
		})
	},
}

func v4(addr uint32, bits int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, addr))), bits).Masked()
}

func v6(hi, lo uint64, bits int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, hi), lo))), bits).Masked()
}

// distinct returns n rules for prefixes that differ. The prefix that netip calls
// IPv4-mapped is left out.
func distinct(n int, rng *rand.Rand, prefix func() netip.Prefix) []Rule {
	seen := map[netip.Prefix]bool{}
	var out []Rule
	for len(out) < n {
		if p := prefix(); !seen[p] && !p.Addr().Is4In6() {
			seen[p] = true
			out = append(out, Rule{Prefix: p, Action: Allow + Action(rng.IntN(4))})
		}
	}
	return out
}

func TestASetOfTenThousandRulesIsCompact(t *testing.T) {
	for name, world := range worlds {
		n := 10_000
		if strings.Contains(name, "nested") {
			continue // in them there are not so many prefixes
		}
		s := newSet(t, world(rand.New(rand.NewPCG(1, 2)), n))
		size := 0
		for _, tab := range []table{s.v4, s.v6} {
			size += 16*cap(tab.starts) + cap(tab.actions) + 4*cap(tab.slots)
			if len(tab.starts) > 2*n+1 {
				t.Errorf("%s: %d ranges", name, len(tab.starts))
			}
		}
		if size > 3<<20 {
			t.Errorf("%s: %d octets", name, size)
		}
	}
}

func TestAdmitAllocatesNothing(t *testing.T) {
	s := newSet(t, worlds["v6 hosts of one /64"](rand.New(rand.NewPCG(1, 2)), 1000))
	clients := []netip.Addr{
		netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"),
		netip.MustParseAddr("::ffff:192.0.2.1"), netip.MustParseAddr("fe80::1%eth0"),
	}
	var last Action
	if allocs := testing.AllocsPerRun(100, func() {
		for _, c := range clients {
			last = s.Admit(c)
		}
	}); allocs != 0 || !last.valid() {
		t.Errorf("Admit allocates %v times and says %v", allocs, last)
	}
}

// FuzzAdmit reads rules of 18 octets (bits, action, address) and asks about the
// edges of each, in both families.
func FuzzAdmit(f *testing.F) {
	for _, world := range worlds {
		var b []byte
		for _, r := range world(rand.New(rand.NewPCG(3, 4)), 20) {
			a := r.Prefix.Addr().As16()
			b = append(append(b, byte(r.Prefix.Bits()), byte(r.Action)), a[:]...)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var list []Rule
		actions := map[netip.Prefix]Action{}
		for ; len(b) >= 18 && len(list) < 200; b = b[18:] {
			a := netip.AddrFrom16([16]byte(b[2:18])).Unmap()
			p := netip.PrefixFrom(a, int(b[0])%(a.BitLen()+1)).Masked()
			action := Allow + Action(b[1]%4)
			if before, again := actions[p]; again || p.Addr().Is4In6() {
				_, err := New(Options{Rules: append(list, Rule{p, action})})
				if wantErr := p.Addr().Is4In6() || before != action; (err != nil) != wantErr {
					t.Fatalf("%v %v, before %v: %v", p, action, before, err)
				}
				continue
			}
			actions[p] = action
			list = append(list, Rule{Prefix: p, Action: action})
		}
		s := newSet(t, list)
		for _, r := range list {
			for _, a := range edges(r.Prefix) {
				if got, want := s.Admit(a), naive(list, a); got != want {
					t.Fatalf("with %v, %v: %v, want %v", list, a, got, want)
				}
				if mapped := netip.AddrFrom16(a.As16()); a.Is4() && s.Admit(mapped) != s.Admit(a) {
					t.Fatalf("with %v, %v: %v, want %v", list, mapped, s.Admit(mapped), s.Admit(a))
				}
			}
		}
	})
}

func BenchmarkAdmit(b *testing.B) {
	for _, name := range []string{"v4 everywhere", "v4 customers of one /12", "v6 everywhere", "v6 customers of one /32", "v6 hosts of one /64"} {
		rng := rand.New(rand.NewPCG(1, 2))
		list := worlds[name](rng, 10_000)
		s := newSet(b, list)
		var clients [1 << 12]netip.Addr // more than a branch predictor learns by heart
		for i := range clients {
			at := edges(list[rng.IntN(len(list))].Prefix)
			clients[i] = at[rng.IntN(len(at))]
		}
		b.Run(name, func(b *testing.B) {
			i := 0
			for b.Loop() {
				i = (i + 1) % len(clients)
				s.Admit(clients[i])
			}
		})
	}
}
