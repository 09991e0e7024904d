package cache

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// flushNames are in and around example.com.
var flushNames = []string{".", "com.", "example.com.", "www.example.com.", "a.www.example.com.", "notexample.com.", "example.net."}

// flushable returns the memory of a set of each type, a cut and a link of every
// name.
func flushable(t *testing.T) *Memory {
	t.Helper()
	m := NewMemory(MemoryOptions{})
	until := time.Now().Add(time.Hour)
	for _, n := range flushNames {
		for _, typ := range []wire.Type{wire.TypeA, wire.TypeMX, wire.TypeCNAME, rrset.AnyType} {
			m.PutSet(rrset.Set{Name: name(n), Type: typ, Until: until, Denial: &rrset.Denial{}})
		}
		m.PutCut(&rrset.Cut{Zone: name(n), Until: until, Servers: []rrset.Server{{Host: name("ns."), Addrs: []netip.Addr{netip.IPv6Loopback()}}}})
		m.PutLink(&rrset.Link{Zone: name(n), Until: until, Since: time.Now()})
	}
	return m
}

// flushes are scopes, and what they leave of flushNames.
var flushes = []struct {
	scope Scope
	left  []string
}{
	{Scope{Name: name("example.com.")}, []string{".", "com.", "www.example.com.", "a.www.example.com.", "notexample.com.", "example.net."}},
	{Scope{Name: name("example.com."), Below: true}, []string{".", "com.", "notexample.com.", "example.net."}},
	{Scope{Name: name("www.example.com."), Below: true}, []string{".", "com.", "example.com.", "notexample.com.", "example.net."}},
	{Scope{Name: name("nothing.example.com."), Below: true}, flushNames},
	{Scope{Name: wire.Root}, flushNames[1:]},
	{Everything, nil},
}

func TestFlushForgetsANameOrAllBelowIt(t *testing.T) {
	for _, tt := range flushes {
		t.Run(fmt.Sprintf("%v below=%v", tt.scope.Name, tt.scope.Below), func(t *testing.T) {
			m := flushable(t)
			gone := len(flushNames) - len(tt.left)
			if got, want := m.Flush(tt.scope), (MemoryFlushed{Sets: 4 * gone, Cuts: gone, Links: gone}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			for _, n := range flushNames {
				want := slices.Contains(tt.left, n)
				_, set := m.Set(name(n), wire.TypeA)
				cut, link := m.Cut(name(n)), m.Link(name(n))
				if set != want || (cut != nil && cut.Zone == name(n)) != want || (link != nil && link.Zone == name(n)) != want {
					t.Errorf("%s: set %v, cut %v, link %v; want them to be there: %v", n, set, cut, link, want)
				}
			}
			if s := m.Stats(); s.Sets.Entries != 4*len(tt.left) || s.Cuts.Entries != len(tt.left) || s.Links.Entries != len(tt.left) {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestFlushOfATypeForgetsWhatAnswersForIt(t *testing.T) {
	n := name("example.com.")
	for _, tt := range []struct {
		typ  wire.Type
		want MemoryFlushed
		left []wire.Type
	}{
		{wire.TypeA, MemoryFlushed{Sets: 3}, []wire.Type{wire.TypeMX}},
		{wire.TypeTXT, MemoryFlushed{Sets: 2}, []wire.Type{wire.TypeA, wire.TypeMX}},
		{wire.TypeNS, MemoryFlushed{Sets: 2, Cuts: 1}, []wire.Type{wire.TypeA, wire.TypeMX}},
		{wire.TypeDS, MemoryFlushed{Sets: 2, Cuts: 1, Links: 1}, []wire.Type{wire.TypeA, wire.TypeMX}},
		{wire.TypeDNSKEY, MemoryFlushed{Sets: 2, Links: 1}, []wire.Type{wire.TypeA, wire.TypeMX}},
	} {
		m := flushable(t)
		if got := m.Flush(Scope{Name: n, Type: tt.typ}); got != tt.want {
			t.Errorf("%v: got %+v, want %+v", tt.typ, got, tt.want)
		}
		var left []wire.Type
		for _, typ := range []wire.Type{wire.TypeA, wire.TypeMX, wire.TypeCNAME, rrset.AnyType} {
			if _, ok := m.Set(n, typ); ok {
				left = append(left, typ)
			}
		}
		if !slices.Equal(left, tt.left) {
			t.Errorf("%v: %v are left, want %v", tt.typ, left, tt.left)
		}
	}
}

// putFlushable stores an answer to q.
func putFlushable(t *testing.T, c *Answers, q wire.Question, do bool) {
	t.Helper()
	c.Put(q, do, false, answerOf(t, response(q, rr(t, "example. 300 IN TXT x")), time.Now()))
	if _, ok := c.Expires(q, do, false); !ok {
		t.Fatalf("the answer to %v was not stored", q)
	}
}

func TestFlushForgetsAnswersAndFailures(t *testing.T) {
	for _, tt := range flushes {
		t.Run(fmt.Sprintf("%v below=%v", tt.scope.Name, tt.scope.Below), func(t *testing.T) {
			c := NewAnswers(AnswersOptions{MaxStale: time.Hour})
			for _, n := range flushNames {
				for _, do := range []bool{false, true} {
					putFlushable(t, c, wire.Question{Name: name(n), Type: wire.TypeA}, do)
				}
				c.Fail(wire.Question{Name: name(n), Type: wire.TypeMX}, false, nil, time.Now())
			}
			gone := len(flushNames) - len(tt.left)
			if got, want := c.Flush(tt.scope), (AnswersFlushed{Answers: 2 * gone, Failures: gone}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			for _, n := range flushNames {
				_, ok := c.Expires(wire.Question{Name: name(n), Type: wire.TypeA}, true, false)
				if ok != slices.Contains(tt.left, n) {
					t.Errorf("%s is there: %v", n, ok)
				}
			}
		})
	}
}

func TestFlushOfATypeLeavesAnswersOfOthers(t *testing.T) {
	c := NewAnswers(AnswersOptions{})
	q := wire.Question{Name: name("example.com."), Type: wire.TypeA}
	other := wire.Question{Name: q.Name, Type: wire.TypeMX}
	putFlushable(t, c, q, false)
	putFlushable(t, c, other, false)
	if got := c.Flush(Scope{Name: q.Name, Type: q.Type}); got != (AnswersFlushed{Answers: 1}) {
		t.Errorf("%+v", got)
	}
	if _, ok := c.Expires(q, false, false); ok {
		t.Error("what was to go is there")
	}
	if _, ok := c.Expires(other, false, false); !ok {
		t.Error("what was to stay is gone")
	}
}
