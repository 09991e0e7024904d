package shared

import (
	"bufio"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

// pair returns two caches on one memcached.
func pair(t *testing.T) (a, b *Cache, m *realServer) {
	t.Helper()
	m = startMemcached(t, "memcached-0")
	return newTestCache(t, nil, m.Server), newTestCache(t, nil, m.Server), m
}

// nameOfLease returns the name of the key of the lease of k.
func nameOfLease(c *Cache, k Key) string {
	return keyName(forLease, c.opt.Generation, c.ring.digest(k))
}

func TestLeaseIsGivenToOne(t *testing.T) {
	a, b, _ := pair(t)
	k := keyOf("www.example.com.")
	var mu sync.Mutex
	claims := map[Claim]int{}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			got := []*Cache{a, b}[i%2].Claim(t.Context(), k, 3*time.Second) // all of them within it
			mu.Lock()
			defer mu.Unlock()
			claims[got]++
		})
	}
	wg.Wait()
	if claims[Ours] != 1 || claims[Anothers] != 19 {
		t.Errorf("claims: %v", claims)
	}
	if sa, sb := a.Stats(), b.Stats(); sa.Leased+sb.Leased != 1 || sa.Yielded+sb.Yielded != 19 {
		t.Errorf("%+v, %+v", sa, sb)
	}
	eventually(t, "the lease ends by itself", func() bool { return b.Claim(t.Context(), k, time.Second) == Ours })
}

func TestWhoWaitsHasWhatTheHolderFinds(t *testing.T) {
	a, b, _ := pair(t)
	for name, fails := range map[string]bool{"good.example.com.": false, "bad.example.com.": true} {
		k := keyOf(name)
		old := fresh(t, k)
		old.Stored = old.Stored.Add(-old.Life - time.Second) // it is stale, which is no reason to wait no more
		set(t, b, k, old)
		if a.Claim(t.Context(), k, time.Second) != Ours || b.Claim(t.Context(), k, time.Second) != Anothers {
			t.Fatal("the lease is not a's")
		}
		type found struct {
			e  Entry
			ok bool
		}
		got := make(chan found)
		go func() {
			e, ok := b.Await(t.Context(), k, patience)
			got <- found{e, ok}
		}()
		e := fresh(t, k)
		if fails {
			e.Msg = nil
		}
		a.Set(k, e)
		if f := <-got; !f.ok || f.e.Failed() != fails {
			t.Errorf("%s: %v, %+v", name, f.ok, f.e)
		}
	}
	if s := b.Stats(); s.Awaited != 2 || s.InVain != 0 {
		t.Errorf("%+v", s)
	}
}

// patience is what tests have with things that are going to happen.
const patience = 30 * time.Second

// A holder that has died costs as long as who waits has patience, and less when
// there is nothing to wait for.
func TestNobodyWaitsInVainForLong(t *testing.T) {
	a, b, m := pair(t)
	k := keyOf("dead.example.com.")
	a.Claim(t.Context(), k, time.Second)
	begun := time.Now()
	if _, ok := b.Await(t.Context(), k, 50*time.Millisecond); ok || time.Since(begun) < 50*time.Millisecond {
		t.Errorf("a dead holder's answer came after %v", time.Since(begun))
	}
	begun = time.Now()
	none := keyOf("none.example.com.")
	if _, ok := b.Await(t.Context(), none, patience); ok {
		t.Error("an answer, from nobody")
	}
	spent := keyOf("spent.example.com.")
	a.Claim(t.Context(), spent, time.Second)
	e := fresh(t, spent)
	e.Life = time.Second // and it has ended soon
	set(t, a, spent, e)
	time.Sleep(1100 * time.Millisecond)
	if _, ok := b.Await(t.Context(), spent, patience); ok {
		t.Error("an answer that has ended")
	}
	for name, value := range map[string][]byte{
		"forged":  []byte("something"),
		"another": b.ring.seal("x", appendTime([]byte{bodyLease}, time.Now())),
		"old":     b.ring.seal(nameOfLease(b, keyOf("old.example.com.")), appendTime([]byte{bodyLease}, time.Now().Add(-time.Minute))),
		"early":   b.ring.seal(nameOfLease(b, keyOf("early.example.com.")), appendTime([]byte{bodyLease}, time.Now().Add(time.Minute))),
		"no time": b.ring.seal(nameOfLease(b, keyOf("no-time.example.com.")), []byte{bodyLease}),
	} {
		k := keyOf(strings.ReplaceAll(name, " ", "-") + ".example.com.")
		item := &memcache.Item{Key: nameOfLease(b, k), Value: value, Expiration: 60}
		if err := only(b).client.Set(item); err != nil {
			t.Fatal(err)
		}
		if _, ok := b.Await(t.Context(), k, patience); ok {
			t.Errorf("%s: an answer", name)
		}
	}
	if took := time.Since(begun); took > patience {
		t.Errorf("it took %v to see that nobody is there", took)
	}
	if s := b.Stats(); s.InVain != 8 || s.Rejected[reason("tag")] == 0 {
		t.Errorf("%+v", s)
	}
	m.Kill()
	if got := b.Claim(t.Context(), k, time.Second); got != Unheard {
		t.Errorf("without a server: %v", got)
	}
	if _, ok := b.Await(t.Context(), k, patience); ok {
		t.Error("an answer, without a server")
	}
}

// only returns the only server of c.
func only(c *Cache) *server { return (*c.servers.Load())[0] }

// A server that freezes while somebody waits costs one look, not the wait.
func TestFrozenServerEndsAWait(t *testing.T) {
	a, b, m := pair(t)
	b.opt.Budget = 20 * time.Millisecond
	k := keyOf("www.example.com.")
	a.Claim(t.Context(), k, time.Second)
	frozen := make(chan struct{})
	go func() {
		time.Sleep(30 * time.Millisecond)
		m.Signal(syscall.SIGSTOP)
		close(frozen)
	}()
	begun := time.Now()
	_, ok := b.Await(t.Context(), k, patience)
	took := time.Since(begun)
	<-frozen
	m.Signal(syscall.SIGCONT)
	if ok || took > patience/2 {
		t.Errorf("%v after %v", ok, took)
	}
	if s := one(b.Stats()); s.Late == 0 {
		t.Errorf("%+v", s)
	}
}

func TestLeasesAreAskedForWithinTheirTime(t *testing.T) {
	silent := startFake(t, func(net.Conn, string, *bufio.Reader) bool { return true })
	c := newTestCache(t, func(o *Options) { hurried(o); o.Budget = 10 * time.Millisecond }, silent.Server)
	begun := time.Now()
	for range 5 {
		if got := c.Claim(t.Context(), keyOf("www.example.com."), time.Minute); got != Unheard {
			t.Errorf("a silent server gives the lease: %v", got)
		}
	}
	if took := time.Since(begun); took > patience {
		t.Errorf("it took %v", took)
	}
	if got := c.Claim(t.Context(), keyOf("www.example.com."), 0); got != Unheard {
		t.Errorf("without time: %v", got)
	}
	if s := c.Stats(); s.Unheard != 5 {
		t.Errorf("%+v", s)
	}
	s := only(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.claims) > 5 {
		t.Errorf("%d claims wait", len(s.claims))
	}
}

func TestLeasesThatWaitAreBounded(t *testing.T) {
	silent := startFake(t, func(net.Conn, string, *bufio.Reader) bool { return true })
	c := newTestCache(t, nil, silent.Server)
	s, given := only(c), 0
	for range maxClaims + setters + 10 {
		if s.claim(&claim{item: c.lease("l"), done: make(chan struct{})}) {
			given++
		}
	}
	if given > maxClaims+setters {
		t.Errorf("%d wait", given)
	}
}

// What is to be written does not hold up who waits for a lease, and who waits no
// more holds up nobody.
func TestLeasesGoBeforeWritesAndWithoutThoseWhoHaveGone(t *testing.T) {
	gone, wanted := &claim{}, &claim{}
	gone.gone.Store(true)
	s := &server{stores: []store{{name: "a"}}, claims: []*claim{gone, wanted}}
	if got := s.nextClaim(); got != wanted {
		t.Errorf("first: %v", got)
	}
	if got := s.nextClaim(); got != nil {
		t.Errorf("then: %v", got)
	}
}
