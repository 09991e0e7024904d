package cache

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// orders asks for n, typ until every order of the answer section must have
// been seen, and returns them by how often each was.
func orders(t *testing.T, c *Answers, n string, typ wire.Type, options ...option) map[string]int {
	t.Helper()
	q := query(t, n, typ, options...)
	seen := make(map[string]int)
	for range 600 {
		m, _ := ask(t, c, q, after(1))
		if m == nil {
			t.Fatal("no answer")
		}
		var order []string
		for _, rr := range m.Answer {
			order = append(order, rr.String())
		}
		seen[strings.Join(order, "\n")]++
	}
	return seen
}

func TestAddressesTakeTurnsAtBeingTheFirst(t *testing.T) {
	sig := "www.example. 300 IN RRSIG A 13 2 300 20261231000000 20261101000000 1 example. " + strings.Repeat("A", 86) + "=="
	a := func(owner string, n int) (records []string) {
		for i := range n {
			records = append(records, fmt.Sprintf("%s 300 IN A 192.0.2.%d", owner, i+1))
		}
		return records
	}
	for _, tt := range []struct {
		what    string
		typ     wire.Type
		records []string
		fixed   int // records before the set
		n       int // of the set
	}{
		{"addresses", wire.TypeA, a("www.example.", 4), 0, 4},
		{"with a signature", wire.TypeA, append(a("www.example.", 3), sig), 0, 3},
		{"after aliases", wire.TypeA, append([]string{"www.example. 300 IN CNAME b.example.", "b.example. 300 IN CNAME cdn.example."}, a("cdn.example.", 3)...), 2, 3},
		{"IPv6 addresses", wire.TypeAAAA, []string{"www.example. 300 IN AAAA 2001:db8::1", "www.example. 300 IN AAAA 2001:db8::2"}, 0, 2},
		{"one address", wire.TypeA, a("www.example.", 1), 0, 1},
		{"mail servers", wire.TypeMX, []string{"www.example. 300 IN MX 1 a.example.", "www.example. 300 IN MX 1 b.example."}, 0, 1},
		{"addresses of two names", wire.TypeA, []string{"www.example. 300 IN A 192.0.2.1", "b.example. 300 IN A 192.0.2.2"}, 0, 1},
		{"addresses apart", wire.TypeA, []string{"www.example. 300 IN A 192.0.2.1", "www.example. 300 IN TXT x", "www.example. 300 IN A 192.0.2.2"}, 0, 1},
	} {
		q := question("www.example.", tt.typ)
		m := response(q, rrs(t, tt.records...)...)
		c := NewAnswers(AnswersOptions{Rotate: true})
		c.Put(q, false, false, answerOf(t, m, after(1)))
		want := make(map[string]bool) // every rotation of the set, and nothing else
		for from := range tt.n {
			order := slices.Clone(tt.records)
			for i := range tt.n {
				order[tt.fixed+i] = tt.records[tt.fixed+(from+i)%tt.n]
			}
			var lines []string
			for _, rr := range rrs(t, order...) {
				lines = append(lines, rr.String())
			}
			want[strings.Join(lines, "\n")] = true
		}
		got := orders(t, c, "www.example.", tt.typ)
		for order, times := range got {
			if !want[order] {
				t.Errorf("%s: answered\n%s", tt.what, order)
			} else if times < 600/tt.n/2 { // of 600 / n; less than half of it is not chance
				t.Errorf("%s: only %d times\n%s", tt.what, times, order)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d orders, want %d: %v", tt.what, len(got), len(want), slices.Collect(maps.Keys(got)))
		}
	}
}

func TestAddressesKeepTheirOrderWhenTold(t *testing.T) {
	q := question("www.example.", wire.TypeA)
	c := NewAnswers(AnswersOptions{})
	c.Put(q, false, false, hosts(t, "www.example.", after(1), "www.example. 300 IN A 192.0.2.1", "www.example. 300 IN A 192.0.2.2"))
	if got := orders(t, c, "www.example.", wire.TypeA); len(got) != 1 {
		t.Errorf("%d orders", len(got))
	}
}

func TestAnAnswerThatIsCutOffHasNothingToTurn(t *testing.T) {
	q := question("www.example.", wire.TypeA)
	var records []dns.RR
	for i := range 60 {
		records = append(records, rr(t, fmt.Sprintf("www.example. 300 IN A 192.0.2.%d", i)))
	}
	c := NewAnswers(AnswersOptions{Rotate: true})
	c.Put(q, false, false, answerOf(t, response(q, records...), after(1)))
	for range 50 {
		if m, _ := ask(t, c, query(t, "www.example.", wire.TypeA), after(1)); !m.Truncated || len(m.Answer) != 0 {
			t.Fatalf("got %v, want TC", m)
		}
	}
}
