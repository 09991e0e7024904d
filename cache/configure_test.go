package cache

import (
	"fmt"
	"hash/maphash"
	"testing"
	"time"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

func TestConfigureCountsForWhatIsRememberedAlready(t *testing.T) {
	c := NewAnswers(AnswersOptions{})
	q := question("www.example.", wire.TypeA)
	c.Put(q, false, false, hosts(t, "www.example.", after(0), "www.example. 10 A 192.0.2.1"))
	for _, tt := range []struct {
		opt  AnswersOptions
		want uint32 // the TTL of the stale answer; 0: there is none
	}{
		{AnswersOptions{}, 0},
		{AnswersOptions{MaxStale: time.Hour, StaleTTL: 7 * time.Second}, 7},
		{AnswersOptions{MaxStale: time.Hour}, 10}, // no more than it came with
		{AnswersOptions{MaxStale: time.Second}, 0},
	} {
		c.Configure(tt.opt)
		m, hit := askStale(t, c, query(t, "www.example.", wire.TypeA), after(60))
		switch {
		case hit.Found != (tt.want > 0):
			t.Errorf("%+v: found %v", tt.opt, hit.Found)
		case hit.Found && m.Answer[0].Header().Ttl != tt.want:
			t.Errorf("%+v: got %v", tt.opt, m.Answer)
		}
	}
}

func TestStoreBecomesLargerAndSmaller(t *testing.T) {
	s := newStore[string, int](1 << 20)
	put := func(n int) {
		for i := range n {
			key := fmt.Sprintf("key-%d", i)
			s.put(maphash.String(s.seed, key), key, i, 100, nil)
		}
	}
	put(20_000)
	full := s.stats()
	for _, size := range []int64{4 << 20, 64 << 10, 0, 1 << 20} {
		s.resize(size)
		check(t, s)
		if st := s.stats(); size < full.Bytes && st.Bytes > max(size, 8*leastBuckets*shardCount) || size > 1<<20 && st.Entries != full.Entries {
			t.Errorf("%d bytes: %+v", size, st)
		}
		put(40_000)
		check(t, s)
		if st := s.stats(); st.Bytes > max(size, 8*leastBuckets*shardCount) || size > 0 && st.Bytes < size/2 {
			t.Errorf("%d bytes, when it is full: %+v", size, st)
		}
	}
}

func TestMemoryKeepsWhatThereIsRoomFor(t *testing.T) {
	m := NewMemory(MemoryOptions{Bytes: 1 << 20})
	m.PutSet(addrSet(t, "192.0.2.1", rrset.AuthAnswer, rrset.Insecure, time.Hour))
	m.PutCut(zoneCut("example.", time.Hour))
	m.Resize(8 << 20)
	if got := addrIn(m); got != "192.0.2.1" || m.Cut(name("www.example.")) == nil {
		t.Errorf("a larger memory has %q, %v", got, m.Cut(name("www.example.")))
	}
	m.Resize(0)
	if s := m.Stats(); s.Sets.Entries+s.Cuts.Entries+s.Links.Entries+s.Denials.Entries != 0 {
		t.Errorf("without room it has %+v", s)
	}
}
