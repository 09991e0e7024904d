package wire

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// longest is a name of 255 octets on the wire: three labels of 63 octets, one
// of 61, and the root's.
var longest = strings.Repeat(strings.Repeat("a", 63)+".", 3) + strings.Repeat("a", 61)

func TestParseNameReadsPresentationFormat(t *testing.T) {
	for _, c := range []struct{ text, wire string }{
		{".", "\x00"},
		{"com", "\x03com\x00"},
		{"com.", "\x03com\x00"},
		{"WWW.Example.COM.", "\x03www\x07example\x03com\x00"},
		{`a\.b.c`, "\x03a.b\x01c\x00"},
		{`a\\.c`, "\x02a\\\x01c\x00"},
		{`a\046b`, "\x03a.b\x00"},
		{`\065\z`, "\x02az\x00"},               // an escaped capital is still one (RFC 4343 §2.1)
		{`a\0461`, "\x03a.1\x00"},              // three digits and no more
		{`\000\255`, "\x02\x00\xFF\x00"},       // any octet (RFC 2181 §11)
		{"\xC3\x84", "\x02\xC3\x84\x00"},       // capitals of ASCII only
		{`Donald\032E\.`, "\x09donald e.\x00"}, // after RFC 4343 §2.2
		{`\.`, "\x01.\x00"},
		{"*.example", "\x01*\x07example\x00"},
		{"_dns.resolver.arpa", "\x04_dns\x08resolver\x04arpa\x00"},
		{strings.Repeat("a", 63), "\x3F" + strings.Repeat("a", 63) + "\x00"},
		{strings.Repeat(`\097`, 63), "\x3F" + strings.Repeat("a", 63) + "\x00"},
	} {
		n, err := ParseName(c.text)
		if err != nil || string(n) != c.wire {
			t.Errorf("ParseName(%q) = %q, %v, want %q", c.text, string(n), err, c.wire)
		}
	}
	for _, s := range []string{longest, longest + "."} {
		if n, err := ParseName(s); err != nil || len(n) != MaxNameLen {
			t.Errorf("the longest name has %d octets, %v, want %d", len(n), err, MaxNameLen)
		}
	}
}

func TestParseNameRefusesWhatIsNoName(t *testing.T) {
	for what, s := range map[string]string{
		"nothing":                 "",
		"a leading dot":           ".com",
		"two dots":                "a..b",
		"two dots at the end":     "a..",
		"dots only":               "..",
		"a label of 64":           strings.Repeat("a", 64),
		"an escaped label of 64":  strings.Repeat(`\097`, 64) + ".com",
		"256 octets":              longest + "a",
		"256 octets and a dot":    longest + "a.",
		"127 labels and one":      strings.Repeat("a.", 128),
		"a backslash at the end":  `a\`,
		"an escape of one digit":  `a\1`,
		"an escape of two digits": `a\12.`,
		"an escape with a letter": `a\12x`,
		"an escape above 255":     `a\256`,
	} {
		if n, err := ParseName(s); err == nil || n != "" {
			t.Errorf("%s: ParseName(%q) = %q, %v, want an error", what, s, string(n), err)
		}
	}
}

func TestNameStringEscapesSoThatParseNameReadsItBack(t *testing.T) {
	for _, c := range []struct {
		name Name
		want string
	}{
		{Root, "."},
		{"", ""},
		{"\x03www\x07example\x00", "www.example."},
		{"\x09a.\\\"$();@\x00", `a\.\\\"\$\(\)\;\@.`},
		{"\x04a b\x7f\x00", `a\032b\127.`},
		{"\x03\x00\x09\xFF\x00", `\000\009\255.`},
		{"\x05it's-\x00", "it's-."},
	} {
		if got := c.name.String(); got != c.want {
			t.Errorf("%q.String() = %q, want %q", string(c.name), got, c.want)
		}
	}
	for c := range 256 { // every octet, first, in the middle and last
		n, err := FromWire([]byte{3, byte(c), 'x', byte(c), 1, byte(c), 0})
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseName(n.String()); err != nil || back != n {
			t.Errorf("octet %d: %q, printed %q, is read back as %q, %v", c, string(n), n, string(back), err)
		}
	}
}

func TestNameStringSurvivesRandomNames(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		n := randomName(rng)
		back, err := ParseName(n.String())
		if err != nil || back != n {
			t.Fatalf("%q, printed %q, is read back as %q, %v", string(n), n, string(back), err)
		}
		// miekg/dns, which writes names for the upstream side, reads them alike.
		var buf [MaxNameLen]byte
		end, err := dns.PackDomainName(n.String(), buf[:], 0, nil, false)
		if err != nil || string(buf[:end]) != string(n) {
			t.Fatalf("miekg/dns packs %q as %q, %v", n, buf[:end], err)
		}
	}
}

// randomName returns a folded name of at most 255 octets, of any octets.
func randomName(rng *rand.Rand) Name {
	var b []byte
	for range rng.IntN(12) {
		l := 1 + rng.IntN(20)
		if rng.IntN(8) == 0 {
			l = MaxLabelLen
		}
		if len(b)+1+l+1 > MaxNameLen {
			break
		}
		b = append(b, byte(l))
		for range l {
			b = append(b, byte(rng.Uint32()))
		}
	}
	n, err := FromWire(append(b, 0))
	if err != nil {
		panic(err)
	}
	return n
}

func TestFromWireTakesOneUncompressedName(t *testing.T) {
	label63 := "\x3F" + strings.Repeat("a", 63)
	for _, c := range []struct {
		what, in, want string
		ok             bool
	}{
		{"the root", "\x00", "\x00", true},
		{"the root and more", "\x00\x01\x02", "\x00", true},
		{"capitals", "\x03WwW\x00", "\x03www\x00", true},
		{"more behind it", "\x01a\x00\x01b\x00", "\x01a\x00", true},
		{"255 octets", label63 + label63 + label63 + "\x3D" + strings.Repeat("a", 61) + "\x00", "", true},
		{"256 octets", label63 + label63 + label63 + "\x3E" + strings.Repeat("a", 62) + "\x00", "", false},
		{"128 labels", strings.Repeat("\x01a", 128) + "\x00", "", false},
		{"nothing", "", "", false},
		{"no root", "\x01a", "", false},
		{"a label that runs off", "\x05a\x00", "", false},
		{"a pointer", "\xC0\x00", "", false},
		{"a label and a pointer", "\x01a\xC0\x00", "", false},
		{"a label of 64", "\x40" + strings.Repeat("a", 64) + "\x00", "", false},
		{"a label of type 10", "\x80\x00", "", false},
	} {
		n, err := FromWire([]byte(c.in))
		if (err == nil) != c.ok || c.want != "" && string(n) != c.want || !c.ok && n != "" {
			t.Errorf("%s: FromWire(%q) = %q, %v", c.what, c.in, string(n), err)
		}
	}
}

func TestMustParseNamePanicsOnlyOnWhatIsNoName(t *testing.T) {
	if n := MustParseName("a.b"); n != "\x01a\x01b\x00" {
		t.Errorf("MustParseName(a.b) = %q", string(n))
	}
	defer func() {
		if recover() == nil {
			t.Error("MustParseName took a..b")
		}
	}()
	MustParseName("a..b")
}

func TestNameParentIsTheNameAbove(t *testing.T) {
	var up []string
	for n, ok := MustParseName(`www.a\.b.example`), true; ok; n, ok = n.Parent() {
		up = append(up, n.String())
	}
	want := []string{`www.a\.b.example.`, `a\.b.example.`, "example.", "."}
	if !slices.Equal(up, want) {
		t.Errorf("the way up is %q, want %q", up, want)
	}
	if n, ok := Name("").Parent(); ok {
		t.Errorf("no name has the parent %q", string(n))
	}
}

func TestNameLabelsDoesNotCountTheRoot(t *testing.T) {
	for s, want := range map[string]int{".": 0, "com": 1, "www.example.com": 3, `a\.b.c`: 2, longest: 4, strings.Repeat("a.", 127): 127} {
		if got := MustParseName(s).Labels(); got != want {
			t.Errorf("%s has %d labels, want %d", s, got, want)
		}
	}
	if got := Name("").Labels(); got != 0 {
		t.Errorf("no name has %d labels", got)
	}
}

func TestNameWithinComparesWholeLabels(t *testing.T) {
	for _, c := range []struct {
		name, zone string
		want       bool
	}{
		{"example.com", "example.com", true},
		{"EXAMPLE.com", "example.COM", true},
		{"www.example.com", "example.com", true},
		{"a.b.www.example.com", "com", true},
		{"example.com", ".", true},
		{".", ".", true},
		{".", "com", false},
		{"com", "example.com", false},
		{"badexample.com", "example.com", false},
		{"example.com.evil", "example.com", false},
		{"example.net", "example.com", false},
		{`a\.example.com`, "example.com", false}, // one label, "a.example"
		// The octets of the zone are the end of the name's, but not at a label.
		{`x\007example\003com`, "example.com", false},
	} {
		if got := MustParseName(c.name).Within(MustParseName(c.zone)); got != c.want {
			t.Errorf("%s within %s: %v, want %v", c.name, c.zone, got, c.want)
		}
	}
	for _, c := range [][2]Name{{"", ""}, {"", Root}, {Root, ""}, {MustParseName("a.b"), ""}} {
		if c[0].Within(c[1]) {
			t.Errorf("%q is within %q, one of which is no name", string(c[0]), string(c[1]))
		}
	}
}

func TestNameTailKeepsTheLastLabels(t *testing.T) {
	n := MustParseName("a.b.c")
	for labels, want := range map[int]string{-1: ".", 0: ".", 1: "c.", 2: "b.c.", 3: "a.b.c.", 4: "a.b.c."} {
		if got := n.Tail(labels).String(); got != want {
			t.Errorf("the last %d labels of %s are %s, want %s", labels, n, got, want)
		}
	}
	if got := Root.Tail(3); got != Root {
		t.Errorf("the last 3 labels of the root are %q", string(got))
	}
}

func TestNameWalksAgreeOnRandomNames(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		n := randomName(rng)
		labels := n.Labels()
		if _, ok := dns.IsDomainName(n.String()); !ok || labels != dns.CountLabel(n.String()) {
			t.Fatalf("%s has %d labels, for miekg/dns %d", n, labels, dns.CountLabel(n.String()))
		}
		for up := n; ; {
			if up.Labels() != labels || n.Tail(labels) != up || !n.Within(up) {
				t.Fatalf("%s and %s, %d labels: Labels %d, Tail %s, Within %v", n, up, labels, up.Labels(), n.Tail(labels), n.Within(up))
			}
			above, ok := up.Parent()
			if !ok {
				break
			}
			if above.Within(up) {
				t.Fatalf("%s is within %s", above, up)
			}
			up = above
			labels--
		}
		if other := randomName(rng); n.Within(other) != dns.IsSubDomain(other.String(), n.String()) {
			t.Fatalf("%s within %s: %v", n, other, n.Within(other))
		}
	}
}

func TestNameWalksAllocateNothing(t *testing.T) {
	n, zone := MustParseName("a.b.www.example.com"), MustParseName("com")
	sum := 0
	allocs := testing.AllocsPerRun(100, func() {
		above, _ := n.Parent()
		sum += n.Labels() + len(n.Tail(2)) + len(above)
		if n.Within(zone) {
			sum++
		}
	})
	if allocs != 0 {
		t.Errorf("Parent, Labels, Tail and Within allocate %v times", allocs)
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"", ".", `Ä\.`, `Ä\\`, "www.Example.com.", `a\.b\\.c`, `\065\255`, longest, longest + "a", `x\`, `\256`, "a..b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var buf [MaxNameLen]byte
		n, err := ParseName(s)
		if err != nil {
			end, packErr := dns.PackDomainName(dns.Fqdn(ascii(s)), buf[:], 0, nil, false)
			if packErr == nil && s != "" && !badEscape(s) { // of nothing dns.Fqdn makes the root
				t.Fatalf("%q is a name to miekg/dns, %q, and none to ParseName", s, buf[:end])
			}
			return
		}
		if again, err := FromWire([]byte(n)); err != nil || again != n {
			t.Fatalf("ParseName(%q) = %q, which is not in folded wire format", s, string(n))
		}
		if back, err := ParseName(n.String()); err != nil || back != n {
			t.Fatalf("%q, printed %q, is read back as %q, %v", string(n), n, string(back), err)
		}
		if _, ok := dns.IsDomainName(ascii(s)); !ok {
			t.Fatalf("%q is a name to ParseName and none to dns.IsDomainName", s)
		}
		end, err := dns.PackDomainName(dns.Fqdn(ascii(s)), buf[:], 0, nil, false)
		if err != nil || !EqualFold(buf[:end], []byte(n)) {
			t.Fatalf("miekg/dns packs %q as %q, %v; ParseName says %q", s, buf[:end], err, string(n))
		}
	})
}

// ascii returns s with each octet above 127 as \DDD. dns.IsFqdn miscounts the
// backslashes behind such an octet.
func ascii(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		escaped := s[i] == '\\' && i+1 < len(s)
		if escaped {
			i++
		}
		switch {
		case s[i] > 127:
			fmt.Fprintf(&b, `\%03d`, s[i])
		case escaped:
			b.WriteByte('\\')
			b.WriteByte(s[i])
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// badEscape reports whether s has an escape that RFC 4343 §2.1 leaves
// undefined, and that miekg/dns takes: \DDD above 255, a backslash before one
// or two digits, or before nothing.
func badEscape(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			continue
		}
		i++
		if i == len(s) {
			return true
		}
		if s[i] < '0' || s[i] > '9' {
			continue
		}
		if i+3 > len(s) || s[i:i+3] > "255" || strings.Trim(s[i:i+3], "0123456789") != "" {
			return true
		}
		i += 2
	}
	return false
}

func FuzzFromWire(f *testing.F) {
	for _, s := range []string{"\x00", "\x03WwW\x07example\x00\x00\x01", "\xC0\x0C", "\x40", "\x01a"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := FromWire(b)
		text, end, miekgErr := dns.UnpackDomainName(b, 0)
		if err != nil {
			if miekgErr == nil && !hasPointer(b) {
				t.Fatalf("%q begins with a name to miekg/dns, %s, and not to FromWire", b, text)
			}
			return
		}
		if miekgErr != nil || end != len(n) {
			t.Fatalf("FromWire(%q) = %q, for miekg/dns %q of %d octets, %v", b, string(n), text, end, miekgErr)
		}
		if same, err := ParseName(text); err != nil || same != n {
			t.Fatalf("FromWire(%q) = %q, for miekg/dns %q", b, string(n), text)
		}
		if !bytes.Equal([]byte(n), bytes.ToLower(b[:len(n)])) && isASCII(b[:len(n)]) {
			t.Fatalf("FromWire(%q) = %q is not its lower case", b, string(n))
		}
	})
}

// hasPointer reports whether the labels that b begins with lead to a pointer.
func hasPointer(b []byte) bool {
	for len(b) > 0 && b[0] != 0 {
		if b[0] >= 0xC0 {
			return true
		}
		b = b[min(1+int(b[0]), len(b)):]
	}
	return false
}

func isASCII(b []byte) bool {
	return bytes.IndexFunc(b, func(r rune) bool { return r > 0x7F }) < 0
}

func BenchmarkFromWire(b *testing.B) {
	name := []byte("\x03wWw\x07eXample\x03CoM\x00")
	for b.Loop() {
		if _, err := FromWire(name); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseName(b *testing.B) {
	for b.Loop() {
		if _, err := ParseName("www.example.com."); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNameWithin(b *testing.B) {
	n, zone := MustParseName("a.b.www.example.com"), MustParseName("example.com")
	for b.Loop() {
		if !n.Within(zone) {
			b.Fatal("not within")
		}
	}
}

func TestSpellsIsWhatStringSays(t *testing.T) {
	names := []string{
		".", "a.", "example.com.", "_25._tcp.mail.example.", "xn--p1ai.", "a-b.c0.", "a.b.c.d.e.f.g.",
		`a\.b.example.`, `a\032b.example.`, "a+b.example.", `\065.`, strings.Repeat("a.", 126), strings.Repeat("abc", 21) + ".",
	}
	for _, text := range names {
		n := MustParseName(text)
		if got, want := n.Spells(n.String()), !strings.ContainsAny(n.String(), `\+`) && n != Root; got != want {
			t.Errorf("%s spells %s: %v", text, n, got)
		}
		for _, other := range names {
			if o := MustParseName(other); o != n && n.Spells(o.String()) {
				t.Errorf("%s spells %s", n, o)
			}
		}
		for _, wrong := range []string{"", strings.TrimSuffix(text, "."), text + ".", strings.ToUpper(text), strings.Replace(text, ".", "x", 1), "x" + text} {
			if wrong != text && n.Spells(wrong) {
				t.Errorf("%s spells %q", n, wrong)
			}
		}
	}
	if Name("").Spells("") || MustParseName("ab.").Spells("a.\x00"[:3]) {
		t.Error("no name, or a wrong one, is spelled")
	}
}
