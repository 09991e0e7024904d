// Package policy decides who may ask. It knows addresses, not messages: what an
// [Action] means for a query is done by whoever answers it.
package policy

import (
	"fmt"
	"net/netip"
)

// Action is what happens to the queries of a client, in the words of Unbound's
// access-control. The zero Action is none, so that one that was forgotten lets
// nobody in.
type Action uint8

// The actions.
const (
	// Allow gives access to recursive clients. Queries without RD are refused:
	// they can only be meant to see what others have asked.
	Allow Action = iota + 1
	// AllowSnoop gives access to queries without RD too, which are answered
	// from memory alone (RFC 1034 §4.3.1): cache snooping, for the operator.
	AllowSnoop
	// AllowCookie is Allow for clients over a connection, and for those over
	// UDP whose query has a valid cookie (RFC 7873): who asks from an address
	// that is not his own has none. A client with another cookie is told
	// BADCOOKIE and given one; a client without is told to come over TCP.
	AllowCookie
	// Refuse answers every query with REFUSED.
	Refuse
	// Deny drops every query: the client hears nothing.
	Deny
)

var actionNames = [...]string{Allow: "allow", AllowSnoop: "allow_snoop", AllowCookie: "allow_cookie", Refuse: "refuse", Deny: "deny"}

// String returns Unbound's word for a.
func (a Action) String() string {
	if !a.valid() {
		return fmt.Sprintf("Action(%d)", uint8(a))
	}
	return actionNames[a]
}

func (a Action) valid() bool { return a >= Allow && a <= Deny }

// Rule says what happens to the clients whose address is in Prefix.
type Rule struct {
	Prefix netip.Prefix
	Action Action
}

// MaxRules bounds the rules of a [Set]. An Internet provider's prefixes are some
// thousands; a list longer than this is a mistake. Set in the most wasteful way
// that there is, so many rules take 150 MiB; usually it is less than 10.
const MaxRules = 100_000

// Options is what a Set is made of.
type Options struct {
	// Rules in any order: the most specific prefix that holds the client's
	// address decides, and none means Refuse, as in Unbound. At most MaxRules.
	Rules []Rule
}

// Set is who may do what. It is immutable, and safe for concurrent use: a
// reload builds another.
type Set struct {
	v4, v6 table
}

// New returns the Set that o describes. It is an error when there are too many
// rules, or one has no action, a prefix that is invalid, IPv4-mapped or has bits
// set in its host part, or the prefix of a rule with another action.
func New(o Options) (*Set, error) {
	if len(o.Rules) > MaxRules {
		return nil, fmt.Errorf("policy: %d rules; at most %d are allowed", len(o.Rules), MaxRules)
	}
	var v4, v6 []span
	index := make(map[netip.Prefix]int, len(o.Rules))
	for i, r := range o.Rules {
		if err := r.check(); err != nil {
			return nil, fmt.Errorf("policy: rule %d: %w", i, err)
		}
		if j, again := index[r.Prefix]; again {
			if before := o.Rules[j].Action; before != r.Action {
				return nil, fmt.Errorf("policy: rule %d: %v for %v, for which rule %d says %v", i, r.Action, r.Prefix, j, before)
			}
			continue
		}
		index[r.Prefix] = i
		if a := r.Prefix.Addr(); a.Is4() {
			v4 = append(v4, span{first: key4(a), bits: r.Prefix.Bits(), action: r.Action})
		} else {
			v6 = append(v6, span{first: key6(a), bits: r.Prefix.Bits(), action: r.Action})
		}
	}
	return &Set{v4: newTable(v4), v6: newTable(v6)}, nil
}

// check returns what is wrong with r by itself.
func (r Rule) check() error {
	switch p := r.Prefix; {
	case !p.IsValid():
		return fmt.Errorf("%v is not a prefix", p)
	case p.Addr().Is4In6():
		return fmt.Errorf("%v is IPv4-mapped; such clients count as IPv4: write the prefix so", p)
	case p != p.Masked():
		return fmt.Errorf("%v has bits set after the first %d; the whole prefix is %v", p, p.Bits(), p.Masked())
	case !r.Action.valid():
		return fmt.Errorf("%v has no action", p)
	}
	return nil
}

// Admit returns what happens to the queries of client: the action of the most
// specific prefix that holds it, or Refuse. An IPv4-mapped IPv6 address, which is
// what a socket of both families shows an IPv4 client as, counts as IPv4; a zone
// counts for nothing. It is never the zero Action. It allocates nothing.
func (s *Set) Admit(client netip.Addr) Action {
	switch {
	case client.Is4(), client.Is4In6():
		return s.v4.find(key4(client))
	case client.Is6():
		return s.v6.find(key6(client))
	}
	return Refuse // no address: nobody can be meant by a rule
}
