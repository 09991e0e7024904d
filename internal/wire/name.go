// Package wire reads and edits DNS messages in place, without building a tree
// of Go values for them (RFC 1035 §4.1). It knows bytes only.
package wire

import (
	"errors"
	"strings"
)

// The limits of RFC 1035 §2.3.4, in octets.
const (
	MaxNameLen  = 255 // a whole name on the wire, the root's zero octet included
	MaxLabelLen = 63
)

// Name is a domain name in lower-case, uncompressed wire format.
//
// As a string it can be compared, sorted and used as a map key, and the name
// above it is a substring of it, so a walk towards the root allocates nothing.
// The zero Name is no name at all: nothing is within it, it is within nothing,
// and it has no labels; the root is [Root]. Any other Name must come from a
// constructor of this package.
type Name string

// Root is the name of the root zone.
const Root Name = "\x00"

// ErrName reports text or bytes that are not a domain name.
var ErrName = errors.New("not a domain name")

// ParseName returns the name that s spells in presentation format (RFC 1035
// §5.1), with \X and \DDD escapes. A missing final dot is taken as read. The
// error is [ErrName].
func ParseName(s string) (Name, error) {
	if s == "." {
		return Root, nil
	}
	var b [MaxNameLen]byte
	n := 1 // b[start] will hold the length of the label that begins there
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		i++
		if c == '.' {
			if n == start+1 { // an empty label
				return "", ErrName
			}
			b[start] = byte(n - start - 1)
			start = n
			n++
			if n > MaxNameLen {
				return "", ErrName
			}
			continue
		}
		if c == '\\' {
			var ok bool
			if c, i, ok = unescape(s, i); !ok {
				return "", ErrName
			}
		}
		// One octet must stay free for the root's.
		if n-start-1 == MaxLabelLen || n >= MaxNameLen-1 {
			return "", ErrName
		}
		b[n] = lower(c)
		n++
	}
	if n == 1 { // the empty string
		return "", ErrName
	}
	if n > start+1 { // no final dot
		b[start] = byte(n - start - 1)
		start = n
		n++
	}
	b[start] = 0
	return Name(b[:n]), nil
}

// unescape returns the octet that the escape at s[i:], behind its backslash,
// stands for, and where the text goes on.
func unescape(s string, i int) (c byte, next int, ok bool) {
	if i >= len(s) {
		return 0, i, false
	}
	if s[i] < '0' || s[i] > '9' {
		return s[i], i + 1, true
	}
	if i+3 > len(s) {
		return 0, i, false
	}
	v := 0
	for _, d := range []byte(s[i : i+3]) {
		if d < '0' || d > '9' {
			return 0, i, false
		}
		v = v*10 + int(d-'0')
	}
	return byte(v), i + 3, v <= 255
}

// MustParseName is [ParseName] for names that the program itself spells. It
// panics where ParseName returns an error.
func MustParseName(s string) Name {
	n, err := ParseName(s)
	if err != nil {
		panic("wire: " + s + ": " + err.Error())
	}
	return n
}

// FromWire returns the uncompressed name that b begins with, folded to lower
// case. Its length on the wire is len of the result. A compression pointer, or
// a name that does not end within b or within 255 octets, is [ErrName].
func FromWire(b []byte) (Name, error) {
	n := nameLen(b)
	if n < 0 {
		return "", ErrName
	}
	return foldName(b[:n]), nil
}

// foldName returns the name that b, which is one and nothing more, spells.
func foldName(b []byte) Name {
	var buf [MaxNameLen]byte
	return Name(AppendFolded(buf[:0], b))
}

// nameLen returns the length of the uncompressed name that b begins with, or
// −1 when there is none.
func nameLen(b []byte) int {
	off := 0
	for off < len(b) && off < MaxNameLen {
		l := int(b[off])
		off++
		if l == 0 {
			return off
		}
		if l > MaxLabelLen {
			return -1
		}
		off += l
	}
	return -1
}

// Parent returns the name above n. The root has none.
func (n Name) Parent() (Name, bool) {
	if len(n) <= 1 {
		return "", false
	}
	return n[1+int(n[0]):], true
}

// Labels returns the number of labels in n, not counting the root's.
func (n Name) Labels() (count int) {
	for len(n) > 1 {
		n = n[1+int(n[0]):]
		count++
	}
	return count
}

// Within reports whether n is zone, or below it.
func (n Name) Within(zone Name) bool {
	for len(n) > len(zone) {
		n = n[1+int(n[0]):]
	}
	return n == zone && zone != ""
}

// Tail returns the last labels labels of n: n itself when it has no more, the
// root when labels is 0 or less.
func (n Name) Tail(labels int) Name {
	for range n.Labels() - max(labels, 0) {
		n = n[1+int(n[0]):]
	}
	return n
}

// String returns n in presentation format, with a final dot, as dig prints it.
// [ParseName] reads it back.
func (n Name) String() string {
	if n == Root {
		return "."
	}
	var b strings.Builder
	b.Grow(len(n))
	for len(n) > 1 {
		l := int(n[0])
		for _, c := range []byte(n[1 : 1+l]) {
			writeEscaped(&b, c)
		}
		b.WriteByte('.')
		n = n[1+l:]
	}
	return b.String()
}

// Spells reports whether s is what String returns for n, of letters, digits,
// hyphens and underscores only: of other names it does not know. It allocates
// nothing.
func (n Name) Spells(s string) bool {
	if s == "" || len(n) != len(s)+1 { // each label has its length before it or a dot behind it; and there is the root's
		return false
	}
	for len(n) > 1 {
		l := int(n[0])
		if n[1:1+l] != Name(s[:l]) || s[l] != '.' {
			return false
		}
		for _, c := range []byte(s[:l]) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
		n, s = n[1+l:], s[l+1:]
	}
	return s == ""
}

// AppendPlainName appends to buf the name that s spells, with its final dot, as it
// is on the wire and in the spelling that it has, if it is of letters, digits,
// hyphens and underscores only. Else it reports false.
func AppendPlainName(buf []byte, s string) ([]byte, bool) {
	start := len(buf)
	for s != "" && s != "." {
		label := len(buf)
		buf = append(buf, 0)
		i := 0
		for ; i < len(s) && s[i] != '.'; i++ {
			c := s[i]
			if lower := c | 0x20; (lower < 'a' || lower > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return buf, false
			}
			buf = append(buf, c)
		}
		if i == 0 || i > MaxLabelLen || i == len(s) {
			return buf, false
		}
		buf[label] = byte(i)
		if s = s[i+1:]; s == "" {
			s = "."
		}
	}
	buf = append(buf, 0)
	return buf, s == "." && len(buf)-start <= MaxNameLen
}

// writeEscaped writes one octet of a label: \DDD for what is not printing ASCII,
// the space among it (RFC 4343 §2.1), and \X for what a zone file would take for
// its own (RFC 1035 §5.1; $ begins its directives).
func writeEscaped(b *strings.Builder, c byte) {
	switch {
	case c < '!' || c > '~':
		b.WriteByte('\\')
		b.WriteByte('0' + c/100)
		b.WriteByte('0' + c/10%10)
		b.WriteByte('0' + c%10)
	case strings.IndexByte(`."$();@\`, c) >= 0:
		b.WriteByte('\\')
		b.WriteByte(c)
	default:
		b.WriteByte(c)
	}
}
