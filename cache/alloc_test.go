//go:build !race

package cache

import (
	"strings"
	"testing"
	"time"

	"shirube/internal/ede"
	"shirube/internal/wire"
)

// TestAppendAllocNothing holds the cache's part of a hit over UDP to what
// DESIGN §2.1 promises. The race detector allocates by itself.
func TestAppendAllocNothing(t *testing.T) {
	c := NewAnswers(AnswersOptions{MaxStale: time.Hour, Prefetch: true, Recheck: time.Nanosecond, Rotate: true})
	long := strings.Repeat("abcdefghi.", 25)
	big := "big.example."
	for _, n := range []string{"www.example.", long} {
		c.Put(question(n, wire.TypeA), false, false, hosts(t, n, epoch, n+" 300 IN CNAME cdn."+n[:4], "cdn."+n[:4]+" 30 IN A 192.0.2.1"))
	}
	c.Put(question("many.example.", wire.TypeA), false, false, hosts(t, "many.example.", epoch, "many.example. 30 IN A 192.0.2.1", "many.example. 30 IN A 192.0.2.2"))
	c.Put(question(big, wire.TypeA), false, false, blob(t, big, MaxAnswer-100, epoch))
	c.Fail(question("lame.example.", wire.TypeA), false, ede.Errorf(ede.NetworkError, "unreachable"), epoch)
	for _, w := range []struct {
		what  string
		name  string
		at    float64
		found bool
	}{
		{"hit", "wWw.example.", 3, true},
		{"hit of a long name", long, 3, true},
		{"hit whose addresses take turns", "many.example.", 3, true},
		{"hit of what is due", "many.example.", 29, true},
		{"hit that is cut off", big, 3, true},
		{"failure", "LAME.example.", 0.5, true},
		{"miss", "absent.example.", 3, false},
		{"miss of what is expired", "www.example.", 30, false},
	} {
		q := query(t, w.name, wire.TypeA, withEDNS(1232))
		buf := make([]byte, 0, 1232) // what fits the client fits the buffer
		now := after(w.at)
		together := []*wire.Query{q, q, q}
		allocs := testing.AllocsPerRun(1000, func() {
			c.Expect(together)
			if _, hit := c.Append(buf, q, now); hit.Found != w.found {
				t.Fatalf("%s: found %v", w.what, hit.Found)
			}
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations", w.what, allocs)
		}
	}
}

func TestCutAllocNothing(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	m.PutCut(zoneCut("example.", 1<<40))
	n := name(strings.Repeat("a.", 100) + "example.")
	if allocs := testing.AllocsPerRun(100, func() {
		if m.Cut(n) == nil {
			t.Fatal("no cut")
		}
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}
