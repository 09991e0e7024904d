package control

import (
	"reflect"
	"strings"
	"unicode"
)

// Summary is implemented by what is more than people want to see of it: a
// histogram.
type Summary interface{ Summary() map[string]any }

// Counters returns a snapshot of counters as nested sections by the names of
// its fields in snake_case; embedded structs count as their container's, and a
// [Summary] is what it says of itself. words has the names of the elements of
// arrays, by the path of the array ("udp.status"); one without names is a list.
func Counters(snapshot any, words map[string][]string) map[string]any {
	out := make(map[string]any)
	section(out, reflect.ValueOf(snapshot), "", words)
	return out
}

// section adds the fields of v to out.
func section(out map[string]any, v reflect.Value, path string, words map[string][]string) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if !field.IsExported() {
			continue
		}
		if field.Anonymous {
			section(out, v.Field(i), path, words)
			continue
		}
		name := snake(field.Name)
		out[name] = value(v.Field(i), path+name, words)
	}
}

// value returns the document of one field.
func value(v reflect.Value, path string, words map[string][]string) any {
	if s, ok := v.Interface().(Summary); ok {
		return s.Summary()
	}
	switch v.Kind() {
	case reflect.Struct:
		inner := make(map[string]any)
		section(inner, v, path+".", words)
		return inner
	case reflect.Map: // from names
		inner := make(map[string]any, v.Len())
		for _, name := range v.MapKeys() {
			inner[name.String()] = value(v.MapIndex(name), path+"."+name.String(), words)
		}
		return inner
	case reflect.Array:
		names := words[path]
		if len(names) != v.Len() {
			return v.Interface()
		}
		inner := make(map[string]any, v.Len())
		for i, name := range names {
			inner[name] = value(v.Index(i), path+"."+name, words)
		}
		return inner
	}
	return v.Interface()
}

// snake returns a Go name in snake_case: InUse is in_use, SRTTMillis
// srtt_millis, DoH3 doh3.
func snake(name string) string {
	var b strings.Builder
	runes := []rune(strings.NewReplacer("IPv", "Ipv", "DoT", "Dot", "DoH", "Doh", "DoQ", "Doq").Replace(name))
	for i, r := range runes {
		lowerNext := i+1 < len(runes) && unicode.IsLower(runes[i+1])
		if i > 0 && unicode.IsUpper(r) && (unicode.IsLower(runes[i-1]) || lowerNext) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
