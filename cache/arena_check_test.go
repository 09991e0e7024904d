package cache

import "testing"

// checkArenas walks all arenas of c and verifies what always holds. Nobody may
// be writing.
func checkArenas(tb testing.TB, c *Answers) {
	tb.Helper()
	t := c.table.Load()
	if t.next.Load() != nil {
		tb.Fatal("the cache is being resized")
	}
	uses := map[uint16]uint32{}
	keys := map[string]bool{}
	for i := range t.arenas {
		a := &t.arenas[i]
		if a.moving {
			tb.Fatalf("arena %d moves", i)
		}
		checkArena(tb, a, func(h uint64, key string, s *slot) {
			if t.arena(h) != a || keys[key] {
				tb.Fatalf("%q is in the wrong arena %d, or twice there", key, i)
			}
			keys[key] = true
			if s.remark() != 0 {
				uses[s.remark()]++
			}
		})
	}
	checkRemarks(tb, c.rules.remarks, uses)
	if st := c.Stats(); st.Answers.Entries != len(keys) || st.Answers.Bytes > st.Answers.Reserved || st.Answers.Reserved > max(c.limit.Load(), 512) {
		tb.Fatalf("with %d answers and %d bytes the statistics are %+v", len(keys), c.limit.Load(), st.Answers)
	}
}

// checkArena verifies one arena, and shows each of its answers to seen.
func checkArena(tb testing.TB, a *arena, seen func(h uint64, key string, s *slot)) {
	tb.Helper()
	starts := map[int]uint64{} // offset to hash
	for _, q := range []*queue{&a.small, &a.main} {
		checkQueue(tb, a, q, func(off int, s *slot) {
			h := a.hashOf(s)
			starts[off] = h
			seen(h, string(s.appendKey(nil)), s)
		})
	}
	if len(starts) != a.counts.Entries {
		tb.Fatalf("%d answers in the queues, %d are counted", len(starts), a.counts.Entries)
	}
	indexed := 0
	for b := range a.buckets() {
		for _, p := range a.row(b) {
			if p == 0 {
				continue
			}
			indexed++
			h, ok := starts[p.offset()]
			if !ok {
				tb.Fatalf("bucket %d names offset %d, where nothing begins", b, p.offset())
			}
			if p != placeOf(h, p.offset()) || b != a.bucket(p.tag()) && b != a.second(p.tag()) {
				tb.Fatalf("what is at %d, of hash %x, is in bucket %d as %x", p.offset(), h, b, p)
			}
			delete(starts, p.offset()) // each once
		}
	}
	if len(starts) > 0 {
		tb.Fatalf("%d answers are not in the index, which has %d", len(starts), indexed)
	}
}

// checkQueue walks q from its tail to its head, and shows its answers to seen.
func checkQueue(tb testing.TB, a *arena, q *queue, seen func(off int, s *slot)) {
	tb.Helper()
	if q.used < 0 || q.used > q.size() || q.size() > 0 && (q.tail < q.from || q.tail >= q.to || q.head < q.from || q.head >= q.to) {
		tb.Fatalf("the queue is %+v", *q)
	}
	off, left := q.tail, q.used
	for left > 0 {
		n := q.to - off
		if n >= slotHead {
			s := a.at(off)
			n = s.bytes()
			if n < slotHead || off+n > q.to || n > left {
				tb.Fatalf("the slot at %d has %d octets, %d are left of %+v", off, n, left, *q)
			}
			if s.state.Load()&slotDead == 0 {
				if slotHead+2*s.ttls()+int(s.octets) > n || s.seconds == 0 {
					tb.Fatalf("the slot at %d, of %d octets, holds %d and %d TTLs, for %d s", off, n, s.octets, s.ttls(), s.seconds)
				}
				seen(off, s)
			}
		}
		left -= n
		if off += n; off == q.to {
			off = q.from
		}
	}
	if left != 0 || q.used > 0 && off != q.head {
		tb.Fatalf("the walk of %+v ends at %d with %d octets left", *q, off, left)
	}
}

// checkRemarks verifies that r has what is used, each as often as it is.
func checkRemarks(tb testing.TB, r *remarks, uses map[uint16]uint32) {
	tb.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.number) != len(uses) {
		tb.Fatalf("%d remarks are held, %d are used", len(r.number), len(uses))
	}
	for m, n := range r.number {
		if r.uses[n] != uses[n] || r.of(n) == nil || r.of(n).Code != m.code || r.of(n).Text != m.text {
			tb.Fatalf("remark %d, %+v, counts %d uses, and has %d", n, m, r.uses[n], uses[n])
		}
	}
}
