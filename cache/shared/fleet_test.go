package shared

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"shirube/internal/clock"
	"shirube/internal/wire"
)

// forgotten is what a server of a fleet was told to forget.
type forgotten struct {
	mu   sync.Mutex
	list []Flush
}

func (f *forgotten) add(what []Flush) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, what...)
}

func (f *forgotten) about(n wire.Name) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fl := range f.list {
		if fl.Name == n {
			return true
		}
	}
	return false
}

// member returns a cache that follows the flushes of its fleet, and what it was
// told to forget, when it has read of them for the first time.
func member(t testing.TB, change func(*Options), servers ...*realServer) (*Cache, *forgotten) {
	t.Helper()
	var list []Server
	for _, s := range servers {
		list = append(list, s.Server)
	}
	c := newTestCache(t, change, list...)
	var told forgotten
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { c.Follow(ctx, told.add) }) // ends with the test
	t.Cleanup(func() { cancel(); wg.Wait() })
	eventually(t, "the list was read", func() bool { return c.fleet.synced.Load() != 0 })
	return c, &told
}

func threeMemcached(t testing.TB) []*realServer {
	return []*realServer{startMemcached(t, "memcached-0"), startMemcached(t, "memcached-1"), startMemcached(t, "memcached-2")}
}

// flush gives an order that the fleet has to take.
func flush(t testing.TB, c *Cache, f Flush) Told {
	t.Helper()
	told, err := c.FlushFleet(t.Context(), f)
	if err != nil {
		t.Fatalf("%v: %v", told, err)
	}
	return told
}

// home returns the server that has the entries about k.
func home(c *Cache, k Key, servers []*realServer) *realServer {
	s, _ := nearest(*c.servers.Load(), c.ring.digest(k).route())
	for _, r := range servers {
		if r.Name == s.Name {
			return r
		}
	}
	return nil
}

func TestFlushIsObeyedByTheWholeFleet(t *testing.T) {
	if pollFlushes > time.Second/2 {
		t.Errorf("the list is looked at every %v", pollFlushes)
	}
	servers := threeMemcached(t)
	a, _ := member(t, nil, servers...)
	b, forgets := member(t, nil, servers...)
	www, mx, other := keyOf("www.example.com."), keyOf("example.com."), keyOf("www.example.org.")
	for _, k := range []Key{www, mx, other} {
		set(t, a, k, fresh(t, k))
		if _, ok := get(t, b, k); !ok {
			t.Fatalf("%v: a miss before the order", k)
		}
	}
	if told := flush(t, a, Flush{Name: wire.MustParseName("example.com."), Below: true}); told.Copies != 3 || told.Of != 3 {
		t.Errorf("%v", told)
	}
	begun := time.Now()
	eventually(t, "the other has read of it", func() bool { return forgets.about(wire.MustParseName("example.com.")) })
	t.Logf("obeyed after %v", time.Since(begun))
	before := b.Stats().Rejected[reason("flushed")]
	for _, k := range []Key{www, mx} {
		for name, c := range map[string]*Cache{"who ordered it": a, "the other": b} {
			if _, ok := get(t, c, k); ok {
				t.Errorf("%v: a hit, of %s", k, name)
			}
		}
	}
	if n := b.Stats().Rejected[reason("flushed")]; n != before+2 {
		t.Errorf("%d misses were counted as flushed", n-before)
	}
	if _, ok := get(t, b, other); !ok {
		t.Error("a miss of what nobody flushed")
	}
	late, _ := member(t, nil, servers...)
	if _, ok := get(t, late, www); ok {
		t.Error("a hit, of who came later")
	}
	if s := late.Stats().Fleet; s.Orders != 1 || s.Read != 3 || s.Copies != 3 || s.Age <= 0 {
		t.Errorf("%+v", s)
	}
}

// Nobody tells what he began to find before he knew of the order, and nobody
// takes what somebody may have found so.
func TestWhatWasUnderWayDoesNotComeBack(t *testing.T) {
	m := startMemcached(t, "memcached-0")
	a, _ := member(t, nil, m)
	b, _ := member(t, nil, m)
	k := keyOf("www.example.com.")
	begun := time.Now()
	flush(t, a, Flush{Name: k.Name})
	e := fresh(t, k)
	e.Stored, e.Began = time.Now().Add(flushGrace+time.Second), begun
	before := one(a.Stats()).Stored
	a.Set(k, e)
	e.Stored, e.Began = time.Now(), time.Time{} // as one that does not know yet would
	b.fleet.heeds.Store(false)
	b.flushes = flushes{}
	set(t, b, k, e)
	if _, ok := get(t, a, k); ok || one(a.Stats()).Stored != before {
		t.Errorf("a hit; %d entries told", one(a.Stats()).Stored-before)
	}
}

func TestFlushOfEverythingBeginsAnEpoch(t *testing.T) {
	servers := threeMemcached(t)
	a, _ := member(t, nil, servers...)
	b, forgets := member(t, nil, servers...)
	k := keyOf("www.example.com.")
	set(t, a, k, fresh(t, k))
	flush(t, a, Flush{Name: k.Name})
	if told := flush(t, a, everything(time.Now())); told.Epoch == 0 {
		t.Errorf("%+v", told)
	}
	eventually(t, "the other has read of it", func() bool { return forgets.about(wire.Root) })
	if _, ok := get(t, b, k); ok {
		t.Error("a hit")
	}
	other := keyOf("www.example.org.")
	begun := fresh(t, other)
	begun.Began = time.Now().Add(-time.Hour)
	a.Set(other, begun)
	e := fresh(t, other) // at once: there is nothing to be waited for
	set(t, a, other, e)
	if got, ok := get(t, b, other); !ok || !got.Stored.Equal(e.Stored.Truncate(time.Millisecond)) {
		t.Errorf("%+v, %v", got, ok)
	}
	if a, b := a.Stats().Fleet, b.Stats().Fleet; a.Epoch != b.Epoch || a.Epoch == 0 || b.Learned == 0 {
		t.Errorf("%+v, %+v", a, b)
	}
}

// A memcached that misses a flush, frozen as it is, has what was flushed when it
// comes back. Nobody takes it, also not who comes new, and it is told.
func TestServerThatMissedAFlushBringsNothingBack(t *testing.T) {
	servers := threeMemcached(t)
	a, _ := member(t, nil, servers...)
	k := keyOf("www.example.com.")
	set(t, a, k, fresh(t, k))
	missed := home(a, k, servers)
	missed.Signal(syscall.SIGSTOP)
	told := flush(t, a, Flush{Name: k.Name})
	missed.Signal(syscall.SIGCONT)
	if told.Copies != 2 || told.Of != 3 {
		t.Errorf("%v", told)
	}
	late, _ := member(t, nil, servers...)
	if _, ok := get(t, late, k); ok || late.Stats().Rejected[reason("flushed")] != 1 {
		t.Errorf("a hit is %v: %+v", ok, late.Stats())
	}
	eventually(t, "it has the list", func() bool {
		return strings.Contains(missed.Tell(t, "get "+a.ring.keys.Load().lists[0].name+"\r\n"), "VALUE")
	})
}

// Somebody who can write to every memcached brings back the entry, and the list
// as it was before. Those who know the order do not take it, and write the list
// again.
func TestReplayAcrossAFlushIsAMiss(t *testing.T) {
	servers := threeMemcached(t)
	a, _ := member(t, nil, servers...)
	k := keyOf("www.example.com.")
	set(t, a, k, fresh(t, k))
	flush(t, a, Flush{Name: wire.MustParseName("before.example.")})
	at := home(a, k, servers)
	name := keyName(forAnswer, 0, a.ring.digest(k))
	entry, list := raw(t, at, name), raw(t, at, a.ring.keys.Load().lists[0].name)
	flush(t, a, Flush{Name: k.Name})
	e := fresh(t, k)
	e.Stored = time.Now().Add(time.Second)
	for _, s := range servers {
		replay(t, s, a.ring.keys.Load().lists[0].name, list)
	}
	replay(t, at, name, entry)
	if _, ok := get(t, a, k); ok || a.Stats().Rejected[reason("flushed")] != 1 {
		t.Errorf("a hit is %v: %+v", ok, a.Stats().Rejected)
	}
	written := a.Stats().Fleet.Written
	eventually(t, "the list was written again", func() bool { return a.Stats().Fleet.Written >= written+3 })
	late, _ := member(t, nil, servers...)
	if _, ok := get(t, late, k); ok || late.Stats().Fleet.Orders != 2 {
		t.Errorf("a hit is %v: %+v", ok, late.Stats().Fleet)
	}
}

// raw returns the value of a key, which has one.
func raw(t *testing.T, s *realServer, name string) string {
	t.Helper()
	value, ok := rawIfAny(t, s, name)
	if !ok {
		t.Fatalf("%s has no value", name)
	}
	return value
}

// rawIfAny returns the value of a key, and whether it has one.
func rawIfAny(t *testing.T, s *realServer, name string) (value string, ok bool) {
	t.Helper()
	head, rest, ok := strings.Cut(s.Tell(t, "get "+name+"\r\n"), "\r\n")
	var flags, size int
	n, _ := fmt.Sscanf(strings.TrimPrefix(head, "VALUE "+name), "%d %d", &flags, &size)
	if !ok || n != 2 || len(rest) < size {
		return "", false
	}
	return rest[:size], true
}

// replay writes a value.
func replay(t *testing.T, s *realServer, name, value string) {
	t.Helper()
	s.Tell(t, fmt.Sprintf("set %s 0 600 %d\r\n%s\r\n", name, len(value), value))
}

// What a later version says is left alone by this one, which still obeys what it
// knows.
func TestOrdersOfLaterVersionsAreKept(t *testing.T) {
	m := startMemcached(t, "memcached-0")
	a, _ := member(t, nil, m)
	seal := a.ring.keys.Load().lists[0]
	k := keyOf("www.example.com.")
	set(t, a, k, fresh(t, k))
	known := newOrder(Flush{Name: k.Name, Until: time.Now()})
	later := order{kind: 77, about: "what is to come", id: 5, until: time.Now()}
	l := flushList{}
	l.put(known)
	l.put(later)
	replay(t, m, seal.name, string(a.ring.seal(seal.name, l.appendBody(nil))))
	eventually(t, "it has read of it", func() bool { return a.Stats().Fleet.Orders == 2 })
	if _, ok := get(t, a, k); ok {
		t.Error("a hit")
	}
	flush(t, a, Flush{Name: wire.MustParseName("another.example.")})
	body, err := a.ring.open(seal.name, []byte(raw(t, m, seal.name)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parseFlushList(body); err != nil || got.orders[later.key()].id != 5 || len(got.orders) != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	// Another form of list is not written over, and nothing is taken: it may say
	// that all is flushed.
	form := append([]byte{bodyFlushes, listForm + 1}, body[2:]...)
	replay(t, m, seal.name, string(a.ring.seal(seal.name, form)))
	eventually(t, "nothing is taken", func() bool { return a.behind(time.Now()) })
	if body, err := a.ring.open(seal.name, []byte(raw(t, m, seal.name))); err != nil || body[1] != listForm+1 {
		t.Errorf("%v, %v", body, err)
	}
}

// Whatever somebody puts in place of the list, on all memcached at once, it is
// written over, and the fleet goes on as before: what is no list says nothing, be
// it with the version or the secret of others.
func TestWhatIsNoListIsWrittenOver(t *testing.T) {
	servers := threeMemcached(t)
	a, _ := member(t, nil, servers...)
	k := keyOf("www.example.com.")
	set(t, a, k, fresh(t, k))
	flush(t, a, Flush{Name: wire.MustParseName("before.example.")})
	name := a.ring.keys.Load().lists[0].name
	other := newTestRing(t, Secrets{Values: [][]byte{secret(9)}})
	for what, value := range map[string]string{
		"noise":             "\xffnoise",
		"one octet":         string(rune(version)),
		"of another secret": string(other.seal(name, new(flushList).appendBody(nil))),
		"unsealed":          string(newTestRing(t, Secrets{}).seal(name, new(flushList).appendBody(nil))),
		"of another key":    string(a.ring.seal("other", new(flushList).appendBody(nil))),
		"too long":          strings.Repeat("x", MaxValue+1),
		"an entry":          string(a.ring.seal(name, (&Entry{Stored: noon, Life: time.Second}).appendBody(nil))),
	} {
		for _, s := range servers {
			replay(t, s, name, value)
		}
		for _, s := range servers {
			eventually(t, what+" is written over", func() bool {
				value, ok := rawIfAny(t, s, name) // it may have been removed a moment ago
				if !ok {
					return false
				}
				body, err := a.ring.open(name, []byte(value))
				return err == nil && body[0] == bodyFlushes
			})
		}
		eventually(t, what+" keeps nobody from what is shared", func() bool {
			_, ok := a.Get(t.Context(), k)
			return ok
		})
	}
	late, _ := member(t, nil, servers...)
	if _, ok := get(t, late, k); !ok || late.Stats().Fleet.Orders != 1 {
		t.Errorf("a hit is %v, and there are %d orders", ok, late.Stats().Fleet.Orders)
	}
}

// An order counts from when it was given, not from when the clock of who gave it
// says, be that an hour off.
func TestFlushesOfWrongClocksAreObeyed(t *testing.T) {
	for _, off := range []time.Duration{time.Hour, -time.Hour} {
		m := startMemcached(t, "memcached-0")
		b, forgets := member(t, nil, m)
		var wrong clock.Clock
		wrong.Set(off)
		a, _ := member(t, func(o *Options) { o.Clock = &wrong }, m)
		k := keyOf("www.example.com.")
		set(t, b, k, fresh(t, k))
		flush(t, a, Flush{Name: k.Name})
		eventually(t, "the other has read of it", func() bool { return forgets.about(k.Name) })
		if _, ok := get(t, b, k); ok {
			t.Errorf("%v: a hit", off)
		}
		e := fresh(t, k)
		e.Stored = time.Now().Add(flushGrace + time.Second)
		if b.flushes.covers(k, &e) {
			t.Errorf("%v: what comes after the order is flushed, too", off)
		}
		written := func() bool { return b.Stats().Fleet.Written+a.Stats().Fleet.Written >= 1 }
		eventually(t, "all is written", written)
		if off < 0 {
			eventually(t, "the time of the order was corrected", func() bool {
				late, _ := member(t, nil, m)
				_, ok := get(t, late, k)
				return !ok && late.Stats().Rejected[reason("flushed")] == 1
			})
		}
	}
}

func TestFlushListThatIsTooLongIsANewEpoch(t *testing.T) {
	m := startMemcached(t, "memcached-0")
	a, _ := member(t, nil, m)
	b, forgets := member(t, nil, m)
	k := keyOf("www.example.com.")
	set(t, b, k, fresh(t, k))
	long := strings.Repeat("x", 60) + "." + strings.Repeat("y", 60) + "."
	for i := range maxOrders {
		a.fleet.mu.Lock()
		o := newOrder(Flush{Name: wire.MustParseName(fmt.Sprintf("n%d.%sexample.", i, long)), Until: time.Now()})
		a.fleet.list.put(o)
		over := a.fleet.list.overflows()
		a.fleet.mu.Unlock()
		if over {
			break
		}
	}
	flush(t, a, Flush{Name: wire.MustParseName("one.more.example.")})
	eventually(t, "the other has begun the epoch", func() bool { return forgets.about(wire.Root) })
	if _, ok := get(t, b, k); ok {
		t.Error("a hit")
	}
	if s := a.Stats().Fleet; s.Compacted != 1 || s.Orders != 0 || s.Epoch == 0 || s.Octets > maxListOctets {
		t.Errorf("%+v", s)
	}
}

func TestNothingIsTakenWithoutTheList(t *testing.T) {
	servers := threeMemcached(t)
	a, _ := member(t, nil, servers...)
	k := keyOf("www.example.com.")
	set(t, a, k, fresh(t, k))
	b := newTestCache(t, hurried, servers[0].Server, servers[1].Server, servers[2].Server)
	if b.Heed(); !b.behind(time.Now()) {
		t.Error("the list is known before it was read")
	}
	if _, ok := get(t, b, k); ok || b.Stats().Fleet.Behind == 0 {
		t.Errorf("a hit before the list was read: %+v", b.Stats().Fleet)
	}
	b.sync(t.Context())
	if _, ok := get(t, b, k); !ok {
		t.Error("a miss with the list")
	}
	for _, s := range servers[:2] { // a third of the copies is not enough
		s.Signal(syscall.SIGSTOP)
		defer s.Signal(syscall.SIGCONT)
	}
	eventually(t, "the list is too old", func() bool { b.sync(t.Context()); return b.behind(time.Now()) })
	if told, err := b.FlushFleet(t.Context(), Flush{Name: k.Name}); !errors.Is(err, ErrUntold) || told.Copies != 1 || told.Of != 3 {
		t.Errorf("%v, %v", told, err)
	}
}

// While one secret follows another, servers that have only one of the two still
// obey each other.
// With two secrets each server has two copies of the list; it counts as one.
func TestOrdersAreToldByServers(t *testing.T) {
	a, _ := member(t, func(o *Options) { o.Secrets.Values = [][]byte{secret(2), secret(1)} }, threeMemcached(t)...)
	if told := flush(t, a, Flush{Name: wire.MustParseName("www.example.com.")}); told.Copies != 3 || told.Of != 3 {
		t.Errorf("%v", told)
	}
}

// Who has the wrong password is told so, once, and sees it in what is counted.
func TestFleetThatCannotBeReadIsToldOf(t *testing.T) {
	auth := filepath.Join(t.TempDir(), "auth")
	if err := os.WriteFile(auth, []byte("shirube:hidden-word\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := startMemcached(t, "memcached-0", "-Y", auth)
	var log strings.Builder // written by one goroutine, which has ended when it is read
	c := newTestCache(t, func(o *Options) {
		o.Auth, o.Log = Auth{"shirube", "wrong"}, slog.New(slog.NewTextHandler(&log, nil))
	}, m.Server)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { c.Follow(ctx, nil) })
	eventually(t, "the server is out", func() bool { s := one(c.Stats()); return s.State == Out && s.Errors > 0 })
	eventually(t, "that is old", func() bool { return c.Stats().Fleet.Age > maxListAge+2*pollFlushes })
	cancel()
	wg.Wait()
	if said := log.String(); strings.Count(said, "level=WARN") != 1 || !strings.Contains(said, "the server does not know us") {
		t.Errorf("the log says\n%s", said)
	}
}

func TestFlushesReachThoseWithTheOtherSecret(t *testing.T) {
	m := startMemcached(t, "memcached-0")
	with := func(values ...[]byte) func(*Options) { return func(o *Options) { o.Secrets = Secrets{Values: values} } }
	for name, tt := range map[string]struct{ from, to func(*Options) }{
		"the first to change": {with(secret(2), secret(1)), with(secret(1))},
		"the last to change":  {with(secret(1)), with(secret(2), secret(1))},
		"neither":             {with(), with()},
	} {
		a, _ := member(t, tt.from, m)
		b, forgets := member(t, tt.to, m)
		n := wire.MustParseName(strings.ReplaceAll(name, " ", "-") + ".example.")
		flush(t, a, Flush{Name: n})
		eventually(t, name+": the other has read of it", func() bool { return forgets.about(n) })
		_ = b
	}
	stranger, _ := member(t, with(secret(9)), m)
	if s := stranger.Stats(); s.Fleet.Orders != 0 || one(s).Rejected != 0 {
		t.Errorf("another fleet's list is read: %+v", s.Fleet)
	}
}

func TestFlushedNamesAreForgottenOnceMore(t *testing.T) {
	m := startMemcached(t, "memcached-0")
	n := wire.MustParseName("www.example.com.")
	a, forgets := member(t, func(o *Options) { o.Settle = 100 * time.Millisecond }, m)
	flush(t, a, Flush{Name: n})
	eventually(t, "twice", func() bool {
		forgets.mu.Lock()
		defer forgets.mu.Unlock()
		return len(forgets.list) == 2
	})
}
