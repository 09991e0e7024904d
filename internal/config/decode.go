package config

import (
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// place is where something is in a file; both numbers start at 1.
type place struct{ line, column int }

// decoder lays a file over the defaults and collects what is wrong with it.
type decoder struct {
	report

	keys   []Key
	given  map[string]place // where each key and each element of a list is, by path
	failed map[string]bool  // paths whose values could not be taken
}

func newDecoder(keys []Key) *decoder {
	return &decoder{keys: keys, given: map[string]place{}, failed: map[string]bool{}}
}

// problem notes a problem with the node of a path.
func (d *decoder) problem(n *yaml.Node, path, nearest, format string, args ...any) {
	d.failed[path] = true
	d.add(Problem{
		Line:    n.Line,
		Column:  n.Column,
		Path:    path,
		Message: fmt.Sprintf(format, args...),
		Nearest: nearest,
	})
}

// value decodes n, the value of k, into dst.
func (d *decoder) value(n *yaml.Node, k *Key, dst reflect.Value, path string) {
	if !d.plain(n, path) {
		return
	}
	switch k.Kind {
	case KindSection:
		d.section(n, k.Keys, dst, path)
	case KindList:
		d.list(n, k, dst, path)
	default:
		if n.Kind != yaml.ScalarNode {
			d.problem(n, path, "", "found %s; expected %s", found(n), k.expects())
			return
		}
		if fault := k.set(dst, n); fault != nil {
			d.problem(n, path, fault.nearest, "%s", fault.message)
		}
	}
}

// plain checks that n is written out, and tells whether its value can be
// looked at. Anchors, aliases and tags would make a file of a few lines large,
// and its meaning depend on the reader's YAML.
func (d *decoder) plain(n *yaml.Node, path string) bool {
	switch {
	case n.Kind == yaml.AliasNode:
		d.problem(n, path, "", "found the alias *%s; expected the value itself", printable(n.Value))
	case n.Anchor != "":
		d.problem(n, path, "", "found the anchor &%s; expected the value without it", printable(n.Anchor))
	case n.Style&yaml.TaggedStyle != 0:
		d.problem(n, path, "", "found the tag %s; expected the value without it", printable(n.Tag))
	default:
		return true
	}
	return n.Kind == yaml.MappingNode || n.Kind == yaml.SequenceNode
}

// section decodes the keys of n into the struct dst.
func (d *decoder) section(n *yaml.Node, keys []Key, dst reflect.Value, path string) {
	if empty(n) {
		return // all of its keys are commented out
	}
	if n.Kind != yaml.MappingNode {
		d.problem(n, path, "", "found %s; expected a section: lines of a key, a colon and a value", found(n))
		return
	}
	lines := map[string]int{} // of the keys seen
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		k, ok := d.key(name, keys, path)
		if !ok {
			continue
		}
		at := join(path, k.Name)
		if line, again := lines[k.Name]; again {
			d.problem(name, at, "", "found a second time; first on line %d", line)
			continue
		}
		lines[k.Name] = name.Line
		d.given[at] = place{value.Line, value.Column}
		if k.Kind == KindSection || k.Kind == KindList {
			d.given[at] = place{name.Line, name.Column} // the value starts further down
		}
		d.value(value, k, dst.Field(k.index), at)
	}
}

// key returns the key that n names. `-` and `_` are the same in a key.
func (d *decoder) key(n *yaml.Node, keys []Key, path string) (*Key, bool) {
	if n.Kind != yaml.ScalarNode {
		d.problem(n, path, "", "found %s where a key has to be", found(n))
		return nil, false
	}
	if !d.plain(n, path) {
		return nil, false
	}
	if n.Tag == "!!merge" {
		d.problem(n, path, "", "found the merge key <<; expected the keys themselves")
		return nil, false
	}
	name := strings.ReplaceAll(n.Value, "-", "_")
	var names []string
	for i := range keys {
		if keys[i].Name == name {
			return &keys[i], true
		}
		names = append(names, keys[i].Name)
	}
	meant := ""
	if !strings.Contains(path, "[") {
		meant = elsewhere(d.keys, name)
	}
	if meant == "" && !d.full() { // comparing takes long, and nobody would see it
		if meant = nearest(n.Value, names); meant != "" {
			d.failed[join(path, meant)] = true // not missing, and not its default
		}
	}
	d.problem(n, join(path, printable(n.Value)), meant, "unknown key")
	return nil, false
}

// elsewhere returns the path of the key with the given name in any section,
// or nothing.
func elsewhere(keys []Key, name string) string {
	for _, k := range keys {
		if k.Name == name {
			return k.Path
		}
		if path := elsewhere(k.Keys, name); path != "" {
			return path
		}
	}
	return ""
}

// list decodes the elements of n into the slice dst, in place of those that
// it has.
func (d *decoder) list(n *yaml.Node, k *Key, dst reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		meant := ""
		if n.Kind == yaml.ScalarNode && k.Element.Kind == KindEnum && !empty(n) {
			meant = "[" + nearest(n.Value, k.Element.Values) + "]"
		}
		if meant == "[]" {
			meant = ""
		}
		d.problem(n, path, meant, "found %s; expected %s", found(n), k.expects())
		return
	}
	if count := int64(len(n.Content)); count < k.Min || count > k.Max {
		d.problem(n, path, "", "found a list of %d; expected a list %s", count, k.Bounds())
		return
	}
	elements := reflect.MakeSlice(dst.Type(), 0, len(n.Content))
	lines := map[string]int{} // of the elements that are not sections
	for i, c := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.given[at] = place{c.Line, c.Column}
		v := fresh(dst.Type().Elem())
		d.value(c, k.Element, v, at)
		d.required(c, k.Element, at)
		if k.Element.Kind != KindSection && !d.failed[at] {
			text := k.Element.format(v)
			if line, again := lines[text]; again {
				if k.Element.Kind == KindSecret {
					text = "the same secret"
				}
				d.problem(c, at, "", "found %s again; first on line %d", text, line)
			}
			lines[text] = c.Line
		}
		elements = reflect.Append(elements, v)
	}
	dst.Set(elements)
}

// required reports the keys that a section in a list has to have and has not.
func (d *decoder) required(n *yaml.Node, k *Key, path string) {
	if d.failed[path] {
		return
	}
	for _, sub := range k.Keys {
		at := join(path, sub.Name)
		if _, ok := d.given[at]; sub.Required && !ok && !d.failed[at] {
			d.problem(n, at, "", "missing; expected %s", sub.expects())
		}
	}
}

// empty tells whether n is nothing at all, as in `cache:`.
func empty(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Style == 0 && n.Anchor == "" && n.Tag == "!!null"
}

// found describes n in a report.
func found(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.MappingNode:
		return "a section"
	case n.Kind == yaml.AliasNode:
		return "an alias"
	case empty(n):
		return "nothing"
	case n.Style != 0 || n.Tag == "!!str":
		return fmt.Sprintf("%q", shorten(n.Value))
	}
	return printable(n.Value)
}
