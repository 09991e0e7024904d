package wire

import (
	"slices"
	"strings"
	"testing"
)

func TestCompareIsTheCanonicalOrder(t *testing.T) {
	// RFC 4034 §6.1, with the root before it, and a name that only differs in
	// length behind it.
	order := []string{
		".", "example", "a.example", "yljkjljk.a.example", "Z.a.example", "zABC.a.EXAMPLE", "z.example",
		`\001.z.example`, "*.z.example", `\200.z.example`, "zz.example", "example2",
	}
	for i, a := range order {
		for j, b := range order {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = +1
			}
			if got := Compare(MustParseName(a), MustParseName(b)); got != want {
				t.Errorf("Compare(%s, %s) is %d, want %d", a, b, got, want)
			}
		}
	}
}

func TestCompareIsNotTheOrderOfTheStrings(t *testing.T) {
	names := []Name{MustParseName("b.a"), MustParseName("a.b"), MustParseName("aa.a"), MustParseName("a")}
	slices.SortFunc(names, Compare)
	var got []string
	for _, n := range names {
		got = append(got, n.String())
	}
	if want := []string{"a.", "aa.a.", "b.a.", "a.b."}; !slices.Equal(got, want) {
		t.Errorf("the canonical order is %q, want %q", got, want)
	}
}

func TestCompareTakesTheLongestNames(t *testing.T) {
	most := Root // as many labels as there can be
	for len(most) < MaxNameLen {
		most = "\x01a" + most
	}
	if most.Labels() != maxLabels {
		t.Fatalf("%d labels, want %d", most.Labels(), maxLabels)
	}
	above, _ := most.Parent()
	if Compare(most, most) != 0 || Compare(above, most) != -1 || Compare(most, above) != +1 {
		t.Error("a name of 127 labels is not behind the name above it")
	}
}

func TestCommonAncestor(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{".", ".", "."},
		{"a.example", ".", "."},
		{"example", "test", "."},
		{"a.example", "b.example", "example"},
		{"a.example", "example", "example"},
		{"x.y.a.example", "z.a.example", "a.example"},
		{"a.a.a", "a.a", "a.a"},
		{"xa.example", "a.example", "example"}, // not a matter of octets
	} {
		a, b, want := MustParseName(c.a), MustParseName(c.b), MustParseName(c.want)
		if got := CommonAncestor(a, b); got != want {
			t.Errorf("CommonAncestor(%s, %s) is %s, want %s", a, b, got, want)
		}
		if got := CommonAncestor(b, a); got != want {
			t.Errorf("CommonAncestor(%s, %s) is %s, want %s", b, a, got, want)
		}
	}
}

func TestOrderKeysAreInTheOrderOfTheNames(t *testing.T) {
	var names []Name
	labels := []string{`\000`, `\000\000`, `\000\001`, `\001`, `\001\000`, `\002`, "a", `a\000`, "aa", "b", `\255`, "*"}
	for _, a := range labels {
		names = append(names, MustParseName(a))
		for _, b := range labels {
			names = append(names, MustParseName(a+"."+b))
		}
	}
	for _, a := range names {
		for _, b := range names {
			x, y := string(AppendOrderKey(nil, a)), string(AppendOrderKey(nil, b))
			if got, want := strings.Compare(x, y), Compare(a, b); got != want {
				t.Errorf("the keys of %s and %s compare %d, the names %d", a, b, got, want)
			}
			if got, want := strings.HasPrefix(x, y), a.Within(b); got != want {
				t.Errorf("that the key of %s begins with that of %s is %v, that it is below %v", a, b, got, want)
			}
		}
	}
	most := Root
	for len(most) < MaxNameLen {
		most = "\x01\x00" + most
	}
	if n := len(AppendOrderKey(nil, most)); n > MaxOrderKeyLen {
		t.Errorf("a key of %d octets", n)
	}
}

func TestOrderAllocatesNothing(t *testing.T) {
	a, b := MustParseName("a.b.c.d.example"), MustParseName("a.b.x.d.example")
	if n := testing.AllocsPerRun(100, func() { Compare(a, b); CommonAncestor(a, b) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCompare(b *testing.B) {
	x, y := MustParseName("www.mail.a.example.com"), MustParseName("www.mail.b.example.com")
	b.ReportAllocs()
	for b.Loop() {
		Compare(x, y)
	}
}
