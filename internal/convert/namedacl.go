package convert

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// matchList is an address match list of BIND: the first element that holds an address
// decides, for it, or against it behind `!`.
type matchList struct {
	elements []matchElement
	open     bool // its elements are being looked for
}

// matchElement is a prefix, a list, or what nobody can tell here: the rest.
type matchElement struct {
	not    bool
	prefix netip.Prefix
	list   *matchList
}

// The lists that BIND has by itself. localhost is all addresses of its machine, which
// are not known here.
var builtinLists = map[string][]string{"any": {"0.0.0.0/0", "::/0"}, "none": {}, "localhost": {"127.0.0.0/8", "::1/128"}}

// compile returns the list that statements are of. What cannot be told is noted.
func (t *named) compile(list []statement) *matchList {
	m := new(matchList)
	for i := range list {
		m.elements = append(m.elements, t.element(&list[i])...)
	}
	return m
}

// element returns the elements that one statement of a list is of.
func (t *named) element(s *statement) []matchElement {
	items, not := s.items, false
	for len(items) > 0 && items[0].text == "!" && !items[0].quoted {
		items, not = items[1:], !not
	}
	if len(items) == 1 && items[0].braces {
		return []matchElement{{not: not, list: t.compile(items[0].block)}}
	}
	if len(items) != 1 {
		t.untold(s, "only addresses can be told apart: neither keys nor countries")
		return []matchElement{{not: not}}
	}
	name := items[0].text
	if prefix, err := namedPrefix(name); err == nil {
		return []matchElement{{not: not, prefix: prefix}}
	}
	return []matchElement{{not: not, list: t.acl(s, name)}}
}

// acl returns the list of a name; nil: what is in it cannot be told.
func (t *named) acl(s *statement, name string) *matchList {
	if prefixes, ok := builtinLists[name]; ok {
		if name == "localhost" {
			t.note(s.from, "localhost", false, "it is the loopback addresses here; add others of the machine, if its own programs ask from them")
		}
		m := new(matchList)
		for _, p := range prefixes {
			m.elements = append(m.elements, matchElement{prefix: netip.MustParsePrefix(p)})
		}
		return m
	}
	if name == "localnets" {
		t.untold(s, "name the networks of the machine in access_control")
		return nil
	}
	if m := t.compiled[name]; m != nil {
		if m.open {
			t.untold(s, "it refers to itself")
			return nil
		}
		return m
	}
	block, ok := t.acls[name]
	if !ok {
		t.untold(s, "there is no acl "+name)
		return nil
	}
	if t.nesting >= maxNesting {
		t.untold(s, "it is in too many lists")
		return nil
	}
	t.nesting++
	m := &matchList{open: true}
	t.compiled[name] = m
	m.elements, m.open = t.compile(block).elements, false
	t.nesting--
	return m
}

// untold notes an element that cannot be translated.
func (t *named) untold(s *statement, why string) {
	var words []string
	for i := range s.items {
		words = append(words, s.items[i].text)
	}
	meant := t.meant
	if words[0] == "!" {
		meant += ", nor does what follows it count"
	}
	t.note(s.from, strings.ReplaceAll(strings.Join(words, " "), "! ", "!"), true, why+"; "+meant)
}

// namedPrefix parses an address, or a prefix that may be short, as 10/8.
func namedPrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		addr = addr.WithZone("")
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	host, bits, ok := strings.Cut(text, "/")
	if ok && !strings.Contains(host, ":") {
		for strings.Count(host, ".") < 3 {
			host += ".0"
		}
	}
	p, err := netip.ParsePrefix(host + "/" + bits)
	return p.Masked(), err
}

// prefixes adds all prefixes that m mentions to a set.
func (m *matchList) prefixes(set map[netip.Prefix]bool, seen map[*matchList]bool) {
	if m == nil || seen[m] {
		return
	}
	seen[m] = true
	for _, e := range m.elements {
		if e.prefix.IsValid() {
			set[e.prefix] = true
		}
		e.list.prefixes(set, seen)
	}
}

// verdicts are what lists say of a prefix, all whose addresses are alike to them.
type verdicts struct {
	prefix netip.Prefix
	known  map[doubtful]int
}

// doubtful is a list, and what is taken of that which cannot be told.
type doubtful struct {
	list  *matchList
	doubt bool
}

// of returns 1 if m is for the prefix, -1 if it is against it, and 0 if it does not
// mention it. What cannot be told is taken as doubt says: such that nobody may ask
// who could not before.
func (w *verdicts) of(m *matchList, doubt bool) int {
	key := doubtful{m, doubt}
	if v, ok := w.known[key]; ok {
		return v
	}
	w.known[key] = 0
	for _, e := range m.elements {
		holds := doubt != e.not
		switch {
		case e.prefix.IsValid():
			holds = e.prefix.Bits() <= w.prefix.Bits() && e.prefix.Contains(w.prefix.Addr())
		case e.list != nil:
			// What a list in a list is against, it does not mention: a double negation
			// allows nothing.
			holds = w.of(e.list, doubt != e.not) > 0
		}
		if holds {
			w.known[key] = map[bool]int{true: -1, false: 1}[e.not]
			break
		}
	}
	return w.known[key]
}

// maxPrefixes bounds how many prefixes lists may mention.
const maxPrefixes = 10_000

// asking is who may ask.
type asking struct {
	all    []*matchList // everybody who is in each of them
	ignore *matchList   // and those who are in this one are told nothing
	action string       // of those who may
}

// rules returns access_control for a: for each prefix that is mentioned, from whole
// to part, what becomes of the clients in it, unless it is what becomes of those around
// it.
func (a *asking) rules() (rules []string, err error) {
	set := map[netip.Prefix]bool{netip.MustParsePrefix("0.0.0.0/0"): true, netip.MustParsePrefix("::/0"): true}
	seen := map[*matchList]bool{}
	for _, m := range append(slices.Clone(a.all), a.ignore) {
		m.prefixes(set, seen)
	}
	if len(set) > maxPrefixes {
		return nil, fmt.Errorf("found more than %d prefixes", maxPrefixes)
	}
	list := make([]netip.Prefix, 0, len(set))
	for p := range set {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	type around struct {
		prefix netip.Prefix
		action string
	}
	var stack []around
	for _, p := range list {
		for len(stack) > 0 && !stack[len(stack)-1].prefix.Contains(p.Addr()) {
			stack = stack[:len(stack)-1]
		}
		before := "refuse"
		if len(stack) > 0 {
			before = stack[len(stack)-1].action
		}
		action := a.becomes(p)
		stack = append(stack, around{p, action})
		if action != before {
			rules = append(rules, fmt.Sprintf("{prefix: %q, action: %s}", p, action))
		}
	}
	return rules, nil
}

// becomes returns what becomes of the clients in a prefix, without those in others in it.
func (a *asking) becomes(p netip.Prefix) string {
	w := verdicts{p, map[doubtful]int{}}
	if a.ignore != nil && w.of(a.ignore, false) > 0 {
		return "deny"
	}
	for _, m := range a.all {
		if w.of(m, false) <= 0 {
			return "refuse"
		}
	}
	return a.action
}
