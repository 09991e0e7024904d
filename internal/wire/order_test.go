package wire

import (
	"slices"
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
