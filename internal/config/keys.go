package config

import (
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"shirube/internal/wire"
)

// Kind is what the value of a key is.
type Kind int

// The kinds of values.
const (
	KindSection  Kind = iota // keys with values of their own
	KindList                 // any number of elements
	KindBool                 // true or false
	KindInteger              // a whole number
	KindDuration             // see [ParseDuration]
	KindSize                 // see [ParseSize]
	KindText                 // any text
	KindEnum                 // one of a few words
	KindPrefix               // addresses in CIDR notation
	KindAddrPort             // an IP address and a port
	KindAddress              // an IP address, with or without a port
	KindName                 // a domain name
	KindPin                  // the hash of a public key
	KindAnchor               // a DS or DNSKEY record
	KindDate                 // a point in time, or nothing
	KindOverride             // the same, or -1
	KindSecret               // hexadecimal digits that nobody else may see
)

// Key is what is known of one key of the file. A list's element is described
// as a key without a name.
type Key struct {
	Name   string // as it is written, `tcp_in_flight`
	Path   string // from the root, `limits.tcp_in_flight` or `listen[].address`
	Struct string // the Go type that holds the field, `Limits`
	Field  string // the Go field, `TCPInFlight`; empty for an element
	Kind   Kind

	Default  string   // in YAML, on one line; empty if there is none
	Defaults []string // of a list: its elements in YAML, one line each
	Required bool     // has to be given, for there is no default
	Auto     bool     // of a size: may be [Auto]
	Restart  bool     // a running server cannot change it

	// The range of a number, of a duration in nanoseconds, of a size in
	// bytes, or of how many elements a list has. Both ends are allowed;
	// math.MaxInt64 is no bound.
	Min, Max int64

	Values  []string // of an enum
	Keys    []Key    // of a section
	Element *Key     // of a list

	index int // of the field in its type
}

// enum is a type whose values are a few words.
type enum interface{ values() []string }

// element is a type whose values, as elements of a list, have defaults.
type element interface{ defaults() any }

// Keys describes the keys of a configuration file, in the order of the types.
func Keys() []Key {
	return sectionKeys(reflect.ValueOf(Default()), "", false)
}

// sectionKeys describes the fields of v, a struct that holds its defaults. restart
// says that none of them can be changed without a restart.
func sectionKeys(v reflect.Value, path string, restart bool) []Key {
	var keys []Key
	for i := range v.NumField() {
		field := v.Type().Field(i)
		k := Key{
			Name:   field.Tag.Get("yaml"),
			Struct: v.Type().Name(),
			Field:  field.Name,
			index:  i,
		}
		k.Path = join(path, k.Name)
		_, k.Required = field.Tag.Lookup("required")
		_, k.Auto = field.Tag.Lookup("auto")
		k.Restart = restart || field.Tag.Get("reload") == "restart"
		k.describe(v.Field(i))
		if limits, ok := field.Tag.Lookup("range"); ok {
			k.bound(limits)
		}
		keys = append(keys, k)
	}
	return keys
}

// describe fills in what follows from the type and the value of a field's
// default.
func (k *Key) describe(v reflect.Value) {
	k.Kind, k.Max = kindOf(v.Type())
	switch k.Kind {
	case KindSection:
		k.Keys = sectionKeys(v, k.Path, k.Restart)
		return
	case KindList:
		k.describeList(v)
	case KindEnum:
		k.Values = v.Interface().(enum).values()
	}
	if !k.Required {
		k.Default = k.format(v)
	}
}

// describeList fills in what is known of a list with the default v.
func (k *Key) describeList(v reflect.Value) {
	k.Element = &Key{Path: k.Path + "[]", Struct: v.Type().Elem().Name(), Required: true, Restart: k.Restart}
	k.Element.describe(fresh(v.Type().Elem()))
	for i := range v.Len() {
		k.Defaults = append(k.Defaults, k.Element.format(v.Index(i)))
	}
}

// fresh returns what an element of type t is before its keys are read.
func fresh(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	if e, ok := v.Interface().(element); ok {
		v.Set(reflect.ValueOf(e.defaults()))
	}
	return v
}

// kindOf returns the kind of values of type t, and the largest one if it is
// measured.
func kindOf(t reflect.Type) (Kind, int64) {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return KindDuration, math.MaxInt64
	case reflect.TypeFor[Size]():
		return KindSize, math.MaxInt64
	case reflect.TypeFor[netip.Prefix]():
		return KindPrefix, 0
	case reflect.TypeFor[netip.AddrPort]():
		return KindAddrPort, 0
	case reflect.TypeFor[Address]():
		return KindAddress, 0
	case reflect.TypeFor[wire.Name]():
		return KindName, 0
	case reflect.TypeFor[Pin]():
		return KindPin, 0
	case reflect.TypeFor[TrustAnchor]():
		return KindAnchor, 0
	case reflect.TypeFor[Date]():
		return KindDate, 0
	case reflect.TypeFor[Override]():
		return KindOverride, 0
	case reflect.TypeFor[Secret]():
		return KindSecret, 0
	}
	if t.Implements(reflect.TypeFor[enum]()) {
		return KindEnum, 0
	}
	switch t.Kind() {
	case reflect.Struct:
		return KindSection, 0
	case reflect.Slice:
		return KindList, math.MaxInt64
	case reflect.Bool:
		return KindBool, 0
	case reflect.Int:
		return KindInteger, math.MaxInt64
	case reflect.Uint16:
		return KindInteger, math.MaxUint16
	case reflect.String:
		return KindText, 0
	}
	panic(fmt.Sprintf("config: a field has the type %v, which has no kind", t))
}

// bound reads a range tag: `1..9`, or `1..` for no bound above but the type's.
func (k *Key) bound(tag string) {
	low, high, found := strings.Cut(tag, "..")
	var err error
	if k.Min, err = k.measure(low); err == nil && high != "" {
		k.Max, err = k.measure(high)
	}
	if err != nil || !found {
		panic(fmt.Sprintf("config: %s has the range tag %q: %v", k.Path, tag, err))
	}
}

// measure reads one end of a range.
func (k *Key) measure(text string) (int64, error) {
	switch k.Kind {
	case KindDuration:
		d, err := ParseDuration(text)
		return int64(d), err
	case KindSize:
		s, err := ParseSize(text)
		return int64(s), err
	}
	return strconv.ParseInt(text, 10, 64)
}

// FormatMeasure writes an end of the range of k the way that values of k are
// written.
func (k *Key) FormatMeasure(n int64) string {
	switch k.Kind {
	case KindDuration:
		return FormatDuration(time.Duration(n))
	case KindSize:
		return Size(n).String()
	}
	return strconv.FormatInt(n, 10)
}

// Bounds says in words what the range of k is, as `from 1s to 5m`, or nothing
// if there is none.
func (k *Key) Bounds() string {
	switch k.Max {
	case 0:
		return ""
	case math.MaxInt64:
		return "of " + k.FormatMeasure(k.Min) + " or more"
	}
	return "from " + k.FormatMeasure(k.Min) + " to " + k.FormatMeasure(k.Max)
}

// Change is a key that has another value in one configuration than in another.
type Change struct {
	Path    string // of a list: its own
	Restart bool   // a running server cannot make it
}

// Changes returns the keys that have another value in to than in from.
func Changes(from, to Config) []Change {
	return changes(Keys(), reflect.ValueOf(from), reflect.ValueOf(to))
}

func changes(keys []Key, from, to reflect.Value) []Change {
	var list []Change
	for i := range keys {
		k := &keys[i]
		a, b := from.Field(k.index), to.Field(k.index)
		switch {
		case k.Kind == KindSection:
			list = append(list, changes(k.Keys, a, b)...)
		case !reflect.DeepEqual(a.Interface(), b.Interface()):
			list = append(list, Change{k.Path, k.Restart})
		}
	}
	return list
}

// format writes v as a value of k in YAML, on one line.
func (k *Key) format(v reflect.Value) string {
	switch k.Kind {
	case KindSection:
		var parts []string
		for _, sub := range k.Keys {
			parts = append(parts, sub.Name+": "+sub.format(v.Field(sub.index)))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case KindList:
		var parts []string
		for i := range v.Len() {
			parts = append(parts, k.Element.format(v.Index(i)))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case KindDuration:
		return FormatDuration(v.Interface().(time.Duration))
	case KindText, KindAddrPort, KindPrefix, KindAddress, KindName, KindPin, KindAnchor, KindDate, KindOverride, KindSecret:
		return strconv.Quote(fmt.Sprint(v.Interface()))
	}
	return fmt.Sprint(v.Interface())
}

// YAML returns a configuration file that says c, every key in it.
func (c Config) YAML() string {
	var b strings.Builder
	v := reflect.ValueOf(c)
	keys := sectionKeys(v, "", false)
	for i := range keys {
		fmt.Fprintf(&b, "%s: %s\n", keys[i].Name, keys[i].format(v.Field(keys[i].index)))
	}
	return b.String()
}

// join returns the path of a key in the section at path.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
