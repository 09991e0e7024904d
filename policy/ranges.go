package policy

import (
	"cmp"
	"slices"
)

// span is a prefix with its action.
type span struct {
	first  key
	bits   int
	action Action
}

// ranges cuts all addresses into ranges with one action each: range i begins at
// starts[i] and ends where the next one begins. The first begins at address 0.
// There are at most two more than twice the prefixes.
type ranges struct {
	starts  []key
	actions []Action
}

// flatten returns the ranges in which the most specific of spans, no two of which
// are of the same prefix, decides, and Refuse where there is none.
func flatten(spans []span) ranges {
	// A prefix comes behind the ones that hold it, which are open when it comes.
	slices.SortFunc(spans, func(a, b span) int {
		return cmp.Or(a.first.compare(b.first), cmp.Compare(a.bits, b.bits))
	})
	r := ranges{starts: []key{{}}, actions: []Action{Refuse}}
	open := []span{{bits: 0, action: Refuse}} // each holds the next; the first is everything
	for _, s := range spans {
		for open[len(open)-1].ends(s.first) {
			open = r.closeLast(open)
		}
		open = append(open, s)
		r.add(s.first, s.action)
	}
	for len(open) > 1 {
		open = r.closeLast(open)
	}
	return r
}

// ends reports whether s ends before k.
func (s span) ends(k key) bool { return s.first.last(s.bits).before(k) == 1 }

// closeLast ends the innermost of the open spans: behind it the one around it
// goes on.
func (r *ranges) closeLast(open []span) []span {
	inner, open := open[len(open)-1], open[:len(open)-1]
	if behind, ok := inner.first.last(inner.bits).next(); ok {
		r.add(behind, open[len(open)-1].action)
	}
	return open
}

// add says that from k on, which is not before the last range, action holds.
func (r *ranges) add(k key, action Action) {
	i := len(r.starts) - 1
	if r.starts[i] == k { // nothing was in the last range
		r.starts, r.actions = r.starts[:i], r.actions[:i]
		i--
	}
	if i < 0 || r.actions[i] != action {
		r.starts, r.actions = append(r.starts, k), append(r.actions, action)
	}
}
