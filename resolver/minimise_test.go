package resolver

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"shirube/internal/wire"
)

// longName returns a name of n labels.
func longName(n int) wire.Name {
	return wire.MustParseName(strings.Repeat("a.", n-1) + "z.")
}

// shown returns how many labels of q each question on its way shows, when every
// answer is NODATA.
func shown(t *testing.T, m *minimiser, q wire.Question) []int {
	t.Helper()
	var labels []int
	for {
		ask := m.next(q)
		labels = append(labels, ask.Name.Labels())
		if ask == q {
			return labels
		}
		if ask.Type != wire.TypeA || !q.Name.Within(ask.Name) || ask.Name == q.Name {
			t.Fatalf("asked %v on the way to %v", ask, q)
		}
		if len(labels) > 200 {
			t.Fatalf("no end: %v", labels)
		}
	}
}

func TestMinimiserShowsLabelsAsRFC9156Says(t *testing.T) {
	tests := []struct {
		labels, cut int
		want        []int
	}{
		{1, 0, []int{1}},
		{2, 0, []int{1, 2}},
		{3, 0, []int{1, 2, 3}},
		{3, 1, []int{2, 3}},
		{3, 2, []int{3}},
		{3, 3, []int{3}},
		{10, 0, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
		{11, 0, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 11}},
		{16, 0, []int{1, 2, 3, 4, 6, 8, 10, 12, 14, 16}},
		// RFC 9156 §2.3: what does not divide goes to the last questions.
		{18, 0, []int{1, 2, 3, 4, 6, 8, 10, 12, 15, 18}},
		{18, 12, []int{13, 14, 15, 16, 17, 18}},
		{127, 0, []int{1, 2, 3, 4, 24, 44, 64, 85, 106, 127}},
		{127, 2, []int{3, 4, 5, 6, 26, 46, 66, 86, 106, 127}},
	}
	for _, tt := range tests {
		t.Run(strconv.Itoa(tt.labels)+" labels below "+strconv.Itoa(tt.cut), func(t *testing.T) {
			m := &minimiser{shown: tt.cut}
			if got := shown(t, m, wire.Question{Name: longName(tt.labels), Type: wire.TypeTXT}); !slices.Equal(got, tt.want) {
				t.Errorf("shows %v labels, want %v", got, tt.want)
			}
		})
	}
}

func TestMinimiserAsksFewQuestionsAndNoneTwice(t *testing.T) {
	for _, mode := range []Minimisation{Relaxed, Strict} {
		for labels := 1; labels <= 127; labels++ {
			for cut := 0; cut <= labels; cut++ {
				m := &minimiser{mode: mode, shown: cut}
				got := shown(t, m, wire.Question{Name: longName(labels), Type: wire.TypeA})
				if len(got) > maxMinimiseCount {
					t.Errorf("%d labels below %d: %d questions", labels, cut, len(got))
				}
				for i := 1; i < len(got); i++ {
					if got[i] <= got[i-1] {
						t.Errorf("%d labels below %d: shows %v", labels, cut, got)
					}
				}
				if got[0] < cut {
					t.Errorf("%d labels below %d: shows %v", labels, cut, got)
				}
			}
		}
	}
}

func TestMinimiserCountsOverCuts(t *testing.T) {
	q := wire.Question{Name: longName(127), Type: wire.TypeAAAA}
	m := &minimiser{}
	questions := 0
	for cut := 0; cut < 127; cut++ { // each label is a cut
		m.shown = cut
		for {
			ask := m.next(q)
			questions++
			if ask == q {
				break
			}
			if ask.Name.Labels() > cut {
				break // a referral
			}
		}
	}
	if m.steps != maxMinimiseCount {
		t.Errorf("%d minimised questions over 127 cuts, want %d", m.steps, maxMinimiseCount)
	}
	if m.next(q) != q {
		t.Error("a name is shortened beyond the limit")
	}
	if questions != 127 {
		t.Errorf("%d questions, want one a cut", questions)
	}
}

func TestMinimiserShowsAnInitialCutsNameNeverAgain(t *testing.T) {
	q := wire.Question{Name: wire.MustParseName("a.b.c.example.com."), Type: wire.TypeMX}
	m := &minimiser{shown: wire.MustParseName("example.com.").Labels()} // a cached cut
	want := []string{"c.example.com. A", "b.c.example.com. A", "a.b.c.example.com. MX"}
	for _, w := range want {
		if got := m.next(q); got.String() != w {
			t.Errorf("asked %v, want %s", got, w)
		}
	}
}

func TestMinimiserShowsUnderscoredLabelsTogether(t *testing.T) {
	tests := []struct {
		name, cut string
		want      []string
	}{
		{"_25._tcp.mail.example.org.", "org.", []string{"example.org. A", "mail.example.org. A", "_25._tcp.mail.example.org. TLSA"}},
		{"_ldap._tcp.dc._msdcs.example.org.", "example.org.", []string{"_msdcs.example.org. A", "dc._msdcs.example.org. A", "_ldap._tcp.dc._msdcs.example.org. TLSA"}},
		{"a._x._y._z.example.org.", "org.", []string{"example.org. A", "_x._y._z.example.org. A", "a._x._y._z.example.org. TLSA"}},
		{"_a.b.", ".", []string{"b. A", "_a.b. TLSA"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := wire.Question{Name: wire.MustParseName(tt.name), Type: 52}
			m := &minimiser{shown: wire.MustParseName(tt.cut).Labels()}
			for _, w := range tt.want {
				if got := m.next(q); got.String() != w {
					t.Errorf("asked %v, want %s", got, w)
				}
			}
		})
	}
}

func TestMinimiserModes(t *testing.T) {
	q := wire.Question{Name: wire.MustParseName("www.example.com."), Type: wire.TypeA}
	tests := []struct {
		mode   Minimisation
		first  string
		relax  bool
		second string
	}{
		{Relaxed, "com. A", true, "www.example.com. A"},
		{Strict, "com. A", false, "example.com. A"},
		{Off, "www.example.com. A", false, "www.example.com. A"},
	}
	for _, tt := range tests {
		m := &minimiser{mode: tt.mode}
		if got := m.next(q); got.String() != tt.first {
			t.Errorf("mode %d: asked %v, want %s", tt.mode, got, tt.first)
		}
		if got := m.relax(); got != tt.relax {
			t.Errorf("mode %d: relax() = %v", tt.mode, got)
		}
		if got := m.next(q); got.String() != tt.second {
			t.Errorf("mode %d: then asked %v, want %s", tt.mode, got, tt.second)
		}
		if m.relax() {
			t.Errorf("mode %d: relaxed twice", tt.mode)
		}
	}
}

func TestMinimiserAsksTheRootInFull(t *testing.T) {
	q := wire.Question{Name: wire.Root, Type: wire.TypeNS}
	if got := (&minimiser{}).next(q); got != q {
		t.Errorf("asked %v, want %v", got, q)
	}
}
