package resolver

import (
	"strings"
	"testing"
	"time"

	"shirube/internal/ede"
	"shirube/internal/wire"
)

// newWork returns the work of a question for www.example.com, begun.
func newWork(t *testing.T, limits Limits) *work {
	t.Helper()
	w := &work{limits: limits}
	if err := w.enter(question("www.example.com A")); err != nil {
		t.Fatal(err)
	}
	return w
}

// wantRefusal checks that err tells the client why.
func wantRefusal(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", text)
	}
	if e := ede.Of(err); e.Code != ede.NoReachableAuthority || !strings.Contains(e.Text, text) {
		t.Errorf("error %v with code %d, want %q with code %d", err, e.Code, text, ede.NoReachableAuthority)
	}
}

func TestWorkEndsAtItsQueries(t *testing.T) {
	w := newWork(t, Limits{Queries: 3, Bytes: 1000, Depth: 8})
	for range 3 {
		if w.spent() {
			t.Fatal("spent too early")
		}
		if err := w.spend(); err != nil {
			t.Fatal(err)
		}
	}
	wantRefusal(t, w.spend(), "more than 3 queries needed for www.example.com.")
	if !w.spent() || w.queries != 3 {
		t.Errorf("spent() = %v after %d queries", w.spent(), w.queries)
	}
}

func TestWorkEndsAtItsOctets(t *testing.T) {
	w := newWork(t, Limits{Queries: 3, Bytes: 1000, Depth: 8})
	if err := w.received(1000); err != nil || w.spent() {
		t.Fatalf("error %v, spent %v at the limit", err, w.spent())
	}
	wantRefusal(t, w.received(1), "more than 1000 octets received for www.example.com.")
	if !w.spent() {
		t.Error("not spent beyond the limit")
	}
}

func TestWorkEndsAtItsLookups(t *testing.T) {
	w := newWork(t, Limits{Lookups: 2, Barren: 1, Depth: 8})
	for i, want := range []bool{true, true, false, false} {
		if got := w.lookup(); got != want {
			t.Errorf("look-up %d: %v, want %v", i+1, got, want)
		}
	}
	if w.lookups != 2 {
		t.Errorf("%d look-ups, want 2", w.lookups)
	}
}

func TestWorkEndsAtItsBarrenLookups(t *testing.T) {
	w := newWork(t, Limits{Queries: 10, Lookups: 10, Bytes: 1000, Barren: 2, Aliases: 1, Depth: 8})
	for w.barren < 2 {
		if w.short() || !w.lookup() {
			t.Fatalf("refused after %d", w.barren)
		}
		w.barren++
	}
	if w.short() {
		t.Error("short before anything was refused: what failed so far failed for other reasons")
	}
	if w.lookup() || !w.short() || w.lookups != 2 {
		t.Errorf("%d look-ups, short: %v", w.lookups, w.short())
	}
}

func TestWorkIsNotResetBySubResolutions(t *testing.T) {
	w := newWork(t, Limits{Queries: 10, Lookups: 10, Barren: 1, Bytes: 1000, Depth: 3})
	for i := range 5 { // one after the other (CVE-2026-50045)
		if err := w.enter(wire.Question{Name: wire.Root, Type: wire.Type(i + 1)}); err != nil {
			t.Fatal(err)
		}
		_ = w.spend()
		_ = w.received(100)
		w.lookup()
		w.leave()
	}
	if w.queries != 5 || w.bytes != 500 || w.lookups != 5 || len(w.path) != 1 {
		t.Errorf("queries %d, octets %d, look-ups %d, depth %d; want 5, 500, 5, 1", w.queries, w.bytes, w.lookups, len(w.path))
	}
}

func TestWorkBoundsDepth(t *testing.T) {
	w := newWork(t, Limits{Depth: 3})
	if err := w.enter(question("ns.example.net A")); err != nil {
		t.Fatal(err)
	}
	if err := w.enter(question("ns.example.org A")); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, w.enter(question("ns.example.info A")), "nested deeper than 3")
	w.leave()
	if err := w.enter(question("ns.example.info A")); err != nil {
		t.Errorf("after leaving one level: %v", err)
	}
}

func TestWorkFindsServersThatDependOnThemselves(t *testing.T) {
	w := newWork(t, Limits{Depth: 8})
	if err := w.enter(question("ns.example.net A")); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, w.enter(question("www.example.com A")), "the servers of www.example.com. depend on themselves")
	if len(w.path) != 2 {
		t.Errorf("depth %d after a refusal, want 2", len(w.path))
	}
	if err := w.enter(question("www.example.com AAAA")); err != nil { // another question
		t.Error(err)
	}
	w.leave()
	w.leave()
	if err := w.enter(question("ns.example.net A")); err != nil { // again, but not within itself
		t.Error(err)
	}
}

func TestWorkRefreshesTheAnswerAndNotWhatItNeeds(t *testing.T) {
	until := time.Unix(1000, 0)
	w := &work{limits: Limits{Depth: 8}, until: until}
	if err := w.enter(question("www.example.com A")); err != nil {
		t.Fatal(err)
	}
	if got := w.outlive(); !got.Equal(until) {
		t.Errorf("the answer is to outlive %v, want %v", got, until)
	}
	if err := w.enter(question("ns.example.net A")); err != nil {
		t.Fatal(err)
	}
	if got := w.outlive(); !got.IsZero() {
		t.Errorf("a server's address is to outlive %v", got)
	}
	w.leave()
	if got := w.outlive(); !got.Equal(until) {
		t.Errorf("afterwards the answer is to outlive %v, want %v", got, until)
	}
}

// TestEndedMeansAreCounted has questions use up each of their means.
func TestEndedMeansAreCounted(t *testing.T) {
	limits := Limits{Queries: 2, Bytes: 100, Lookups: 1, Barren: 1, Aliases: 3, Depth: 8}
	var c counters
	for _, use := range []func(w *work){
		func(*work) {},
		func(w *work) { w.resent(1) },
		func(w *work) { w.resent(2) },
		func(w *work) { _ = w.received(101) },
		func(w *work) { w.lookup() },
		func(w *work) { w.lookup(); w.lookup() },
		func(w *work) { w.aliases = 3 },
	} {
		w := newWork(t, limits)
		use(w)
		c.ended(w)
	}
	got := [...]uint64{c.outOfQueries.Load(), c.outOfBytes.Load(), c.outOfLookups.Load(), c.outOfAliases.Load()}
	if got != [...]uint64{1, 1, 1, 1} {
		t.Errorf("queries, octets, look-ups and aliases were used up %v times", got)
	}
}
