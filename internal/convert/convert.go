// Package convert translates the configurations of other resolvers. What it cannot
// translate it lists, by file and line: nothing is lost in silence.
package convert

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Source is where something stands in a file of the other resolver.
type Source struct {
	File string
	Line int // from 1
}

// Note is an option that has no counterpart.
type Note struct {
	Source
	Option string
	Lost   bool   // clients, or those who run the server, will notice; else it is not needed
	Why    string // what is so in its place
}

// String returns n as a line of a report.
func (n Note) String() string {
	what := "not needed"
	if n.Lost {
		what = "NOT CONVERTED"
	}
	return fmt.Sprintf("%s:%d: %s: %s: %s", n.File, n.Line, n.Option, what, n.Why)
}

// entry is one value of the configuration that comes out.
type entry struct {
	path    string // of sections and the key: `cache.prefetch`
	value   string // in YAML, on one line
	element bool   // one of the list at path
	from    Source
	option  string
}

// Result is what comes of a conversion.
type Result struct {
	entries []entry
	notes   []Note
}

// Notes returns what was not converted, by file and line.
func (r *Result) Notes() []Note {
	notes := slices.Clone(r.notes)
	slices.SortStableFunc(notes, func(a, b Note) int { return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line)) })
	return notes
}

// Lost returns how many of the notes tell of something that will be missed.
func (r *Result) Lost() (n int) {
	for _, note := range r.notes {
		if note.Lost {
			n++
		}
	}
	return n
}

// note adds one.
func (r *Result) note(from Source, option string, lost bool, why string) {
	r.notes = append(r.notes, Note{from, option, lost, why})
}

// set gives a key a value. The last one counts.
func (r *Result) set(from Source, option, path, value string) {
	for i := range r.entries {
		if e := &r.entries[i]; e.path == path && !e.element {
			e.value, e.from, e.option = value, from, option
			return
		}
	}
	r.entries = append(r.entries, entry{path, value, false, from, option})
}

// add appends an element to a list, once.
func (r *Result) add(from Source, option, path, value string) {
	if !slices.ContainsFunc(r.entries, func(e entry) bool { return e.element && e.path == path && e.value == value }) {
		r.entries = append(r.entries, entry{path, value, true, from, option})
	}
}

// Text returns the configuration. Of each of its lines, the second result says which
// entry it is of; -1: none.
func (r *Result) Text() (text string, of []int) {
	var b strings.Builder
	line := func(depth, entry int, format string, args ...any) {
		fmt.Fprintf(&b, strings.Repeat("  ", depth)+format+"\n", args...)
		of = append(of, entry)
	}
	order := r.order()
	var open []string // sections that the line before was in
	list := ""
	for _, i := range order {
		e := &r.entries[i]
		words := strings.Split(e.path, ".")
		sections, key := words[:len(words)-1], words[len(words)-1]
		same := 0
		for same < len(open) && same < len(sections) && open[same] == sections[same] {
			same++
		}
		for depth := same; depth < len(sections); depth++ {
			line(depth, -1, "%s:", sections[depth])
		}
		open = sections
		switch {
		case !e.element:
			line(len(sections), i, "%s: %s", key, e.value)
		case list != e.path:
			line(len(sections), -1, "%s:", key)
			fallthrough
		default:
			line(len(sections)+1, i, "- %s", e.value)
		}
		list = ""
		if e.element {
			list = e.path
		}
	}
	return b.String(), of
}

// order returns the indexes of entries such that those of a section, and of a list,
// are together, where the first of them stands.
func (r *Result) order() []int {
	first := map[string]int{}
	rank := func(path string) (ranks []int) {
		words := strings.Split(path, ".")
		for n := range words {
			ranks = append(ranks, first[strings.Join(words[:n+1], ".")])
		}
		return ranks
	}
	var order []int
	for i := range r.entries {
		order = append(order, i)
		words := strings.Split(r.entries[i].path, ".")
		for n := range words {
			prefix := strings.Join(words[:n+1], ".")
			if _, seen := first[prefix]; !seen {
				first[prefix] = i
			}
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return slices.Compare(rank(r.entries[a].path), rank(r.entries[b].path)) })
	return order
}

// Drop takes the entries out that some lines of Text are of, and notes why. It
// reports whether there was any.
func (r *Result) Drop(why map[int]string) bool {
	_, of := r.Text()
	gone := map[int]bool{}
	for line, reason := range why {
		if line < 1 || line > len(of) || of[line-1] < 0 || gone[of[line-1]] {
			continue
		}
		e := r.entries[of[line-1]]
		gone[of[line-1]] = true
		r.note(e.from, e.option, true, reason)
	}
	var kept []entry
	for i := range r.entries {
		if !gone[i] {
			kept = append(kept, r.entries[i])
		}
	}
	r.entries = kept
	return len(gone) > 0
}
