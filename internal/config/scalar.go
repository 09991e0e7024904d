package config

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// fault is why a value could not be taken.
type fault struct {
	message string
	nearest string // the value that was probably meant
}

// faultf returns a fault without a suggestion.
func faultf(format string, args ...any) *fault {
	return &fault{message: fmt.Sprintf(format, args...)}
}

// expects says what a value of k is, for a report.
func (k *Key) expects() string {
	switch k.Kind {
	case KindSection:
		return "a section"
	case KindList:
		return k.expectsList()
	case KindBool:
		return "true or false"
	case KindInteger:
		return "a whole number " + k.Bounds()
	case KindDuration:
		return "a duration " + k.Bounds() + ", such as " + k.example("5s")
	case KindSize:
		size := "a size " + k.Bounds() + ", such as " + k.example("64MiB")
		if k.Auto {
			return Auto.String() + " or " + size
		}
		return size
	case KindEnum:
		return oneOf(k.Values)
	case KindPrefix:
		return "an address prefix, such as 192.0.2.0/24"
	case KindAddrPort:
		return `an IP address and a port, such as 192.0.2.1:53 or "[2001:db8::1]:53"`
	case KindAddress:
		return `an IP address, such as 192.0.2.1, or with a port, such as 192.0.2.1:5353 or "[2001:db8::1]:5353"`
	case KindName:
		return "a domain name, such as example.com"
	case KindPin:
		return "the SHA-256 hash of a public key: 44 characters of base64"
	case KindAnchor:
		return "a DS or DNSKEY record, such as \"example. IN DS 12345 13 2 0123…CDEF\""
	case KindDate:
		return "a time, such as 2026-01-31T12:00:00Z, 20260131120000 or seconds since 1970"
	case KindOverride:
		return "a time, such as 2026-01-31T12:00:00Z, 20260131120000 or seconds since 1970, or -1"
	case KindSecret:
		return "32 hexadecimal digits"
	}
	return "text"
}

func (k *Key) expectsList() string {
	switch k.Element.Kind {
	case KindEnum:
		return "a list of " + oneOf(k.Element.Values) + ", such as [" + strings.Join(k.Element.Values, ", ") + "]"
	case KindSection:
		var names []string
		for _, sub := range k.Element.Keys {
			names = append(names, sub.Name)
		}
		return "a list of sections with the keys " + strings.Join(names, " and ")
	}
	return "a list"
}

// example returns the default of k, or other if that shows nothing.
func (k *Key) example(other string) string {
	if k.Default == "" || k.Default == "0" || k.Default == Auto.String() {
		return other
	}
	return k.Default
}

// oneOf lists the words that a value can be.
func oneOf(words []string) string {
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// set reads the scalar n, a value of k, into dst.
func (k *Key) set(dst reflect.Value, n *yaml.Node) *fault {
	if empty(n) {
		return faultf("found nothing; expected %s", k.expects())
	}
	switch k.Kind {
	case KindBool:
		return k.setBool(dst, n)
	case KindInteger:
		return k.setInteger(dst, n)
	case KindDuration:
		return k.setDuration(dst, n)
	case KindSize:
		return k.setSize(dst, n)
	case KindEnum:
		return k.setEnum(dst, n)
	case KindPrefix:
		return k.setPrefix(dst, n)
	case KindAddrPort:
		return k.setAddrPort(dst, n)
	case KindAddress:
		return k.setAddress(dst, n)
	case KindName:
		return k.setName(dst, n)
	case KindPin:
		return k.setPin(dst, n)
	case KindAnchor:
		return k.setAnchor(dst, n)
	case KindDate, KindOverride:
		return k.setDate(dst, n)
	case KindSecret:
		return k.setSecret(dst, n)
	}
	return k.setText(dst, n)
}

// unexpected returns the fault of a value that is nothing of its kind.
func (k *Key) unexpected(n *yaml.Node, nearest string) *fault {
	f := faultf("found %s; expected %s", found(n), k.expects())
	f.nearest = nearest
	return f
}

// setBool takes what YAML 1.2 calls a boolean, in one spelling. In YAML 1.1
// `no` and `off` are others, and to a YAML 1.2 parser they are text: taking
// neither keeps a file from meaning two things.
func (k *Key) setBool(dst reflect.Value, n *yaml.Node) *fault {
	text := strings.ToLower(n.Value)
	switch {
	case n.Style == 0 && (n.Value == "true" || n.Value == "false"):
		dst.SetBool(n.Value == "true")
		return nil
	case slices.Contains([]string{"true", "yes", "on", "y", "1", "enabled"}, text):
		return k.unexpected(n, "true")
	case slices.Contains([]string{"false", "no", "off", "n", "0", "disabled"}, text):
		return k.unexpected(n, "false")
	}
	return k.unexpected(n, "")
}

// setInteger takes decimal digits only: 010, 0x10 and 1_000 are numbers to
// some readers of YAML and other numbers, or text, to others.
func (k *Key) setInteger(dst reflect.Value, n *yaml.Node) *fault {
	v, err := strconv.ParseInt(n.Value, 10, 64)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange), n.Style != 0, strconv.FormatInt(v, 10) != n.Value:
		plain := strings.NewReplacer("_", "", ",", "", "'", "").Replace(n.Value)
		if v, err := strconv.ParseInt(plain, 10, 64); err == nil && v >= k.Min && v <= k.Max {
			return k.unexpected(n, strconv.FormatInt(v, 10))
		}
		return k.unexpected(n, "")
	case err != nil, v < k.Min, v > k.Max:
		return k.unexpected(n, "")
	}
	if dst.CanUint() {
		dst.SetUint(uint64(v)) // Min is never negative
		return nil
	}
	dst.SetInt(v)
	return nil
}

func (k *Key) setDuration(dst reflect.Value, n *yaml.Node) *fault {
	d, err := ParseDuration(n.Value)
	if err != nil {
		return k.mismeasured(n, err, durationUnits())
	}
	return k.setMeasure(dst, n, int64(d))
}

func (k *Key) setSize(dst reflect.Value, n *yaml.Node) *fault {
	if k.Auto && n.Value == Auto.String() {
		dst.SetInt(int64(Auto))
		return nil
	}
	s, err := ParseSize(n.Value)
	if err != nil {
		return k.mismeasured(n, err, sizeUnits())
	}
	return k.setMeasure(dst, n, int64(s))
}

func (k *Key) setMeasure(dst reflect.Value, n *yaml.Node, v int64) *fault {
	if v >= k.Min && v <= k.Max {
		dst.SetInt(v)
		return nil
	}
	// A bare number is bytes, and was most likely not meant to be.
	if meant, err := ParseSize(n.Value + "MiB"); k.Kind == KindSize && err == nil && meant > 0 {
		return k.unexpected(n, meant.String())
	}
	return k.unexpected(n, "")
}

// mismeasured returns the fault of a duration or size that could not be read
// for the reason err.
func (k *Key) mismeasured(n *yaml.Node, err error, units []unit) *fault {
	if errors.Is(err, errForm) {
		return k.unexpected(n, "")
	}
	f := faultf("found %s, which %v; expected %s", found(n), err, k.expects())
	number, name, rest := cutMeasure(n.Value)
	if rest != "" {
		return f
	}
	guesses := []string{suggestUnit(units, name), nearestSizeUnit(name)}
	if errors.Is(err, errNoUnit) {
		guesses = []string{"s", "ms"} // only durations need a unit
	}
	for _, guess := range guesses {
		v, err := k.measure(number + guess)
		if guess != "" && err == nil && v >= k.Min && v <= k.Max {
			f.nearest = number + guess
			break
		}
	}
	return f
}

// nearestSizeUnit returns the unit that was cut short, as M or Mi. Of the two
// that a single letter may be, most programs mean the power of 1024.
func nearestSizeUnit(name string) string {
	if len(strings.TrimSuffix(name, "i")) != 1 {
		return ""
	}
	for _, u := range sizeUnits() {
		if strings.HasSuffix(u.name, "iB") && strings.EqualFold(u.name[:1], name[:1]) {
			return u.name
		}
	}
	return ""
}

func (k *Key) setEnum(dst reflect.Value, n *yaml.Node) *fault {
	if !slices.Contains(k.Values, n.Value) {
		return k.unexpected(n, nearest(n.Value, k.Values))
	}
	dst.SetString(n.Value)
	return nil
}

// setPrefix takes a prefix without bits in its host part, which are more often
// a typing error than a liberty, or a whole address.
func (k *Key) setPrefix(dst reflect.Value, n *yaml.Node) *fault {
	p, err := netip.ParsePrefix(n.Value)
	if a, bare := netip.ParseAddr(n.Value); bare == nil && a.Zone() == "" {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	switch {
	case err != nil:
		return k.unexpected(n, "")
	case p.Addr().Is4In6():
		return faultf("found %s, an IPv4 address in IPv6; clients with one are looked up as IPv4", found(n))
	case p != p.Masked():
		f := faultf("found %s, which has bits set after the first %d; expected a whole prefix", found(n), p.Bits())
		f.nearest = p.Masked().String()
		return f
	}
	dst.Set(reflect.ValueOf(p))
	return nil
}

func (k *Key) setAddrPort(dst reflect.Value, n *yaml.Node) *fault {
	a, err := netip.ParseAddrPort(n.Value)
	switch {
	case err != nil:
		return k.unexpected(n, nearestAddrPort(n.Value))
	case a.Port() == 0:
		return faultf("found %s, whose port is 0; expected a port from 1 to 65535", found(n))
	case a.Addr().Is4In6():
		f := faultf("found %s, an IPv4 address in IPv6; expected the IPv4 address", found(n))
		f.nearest = netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String()
		return f
	}
	dst.Set(reflect.ValueOf(a))
	return nil
}

// nearestAddrPort returns the address that was meant by some that other
// programs take, or nothing.
func nearestAddrPort(text string) string {
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return fmt.Sprintf("%q", netip.AddrPortFrom(a.Unmap(), 53))
	}
	host, port, _ := strings.Cut(text, ":")
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return ""
	}
	switch host {
	case "", "*":
		return fmt.Sprintf("%q", "[::]:"+port)
	case "localhost":
		return fmt.Sprintf("%q", "127.0.0.1:"+port)
	}
	return ""
}

func (k *Key) setText(dst reflect.Value, n *yaml.Node) *fault {
	switch {
	case n.Style == 0 && n.Tag != "!!str":
		return faultf("found %s; expected text, in quotes if this is it", found(n))
	case strings.ContainsFunc(n.Value, func(r rune) bool { return r != '\t' && unicode.IsControl(r) }): // records are copied with their tabs
		return faultf("found %s; expected text without control characters", found(n))
	}
	dst.SetString(n.Value)
	return nil
}
