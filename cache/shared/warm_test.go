package shared

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"shirube/internal/wire"
)

// hotList returns so many questions, the first the most popular.
func hotList(n int, name string) (list []Hot) {
	for i := range n {
		q := wire.Question{Name: wire.MustParseName(fmt.Sprintf(name, i)), Type: wire.TypeAAAA}
		list = append(list, Hot{q, uint32(n - i)})
	}
	return list
}

// publish tells list, and waits until it is there.
func publish(t *testing.T, c *Cache, list []Hot) {
	t.Helper()
	c.Publish(list)
	eventually(t, "the list is there", func() bool {
		for _, s := range *c.servers.Load() {
			s.mu.Lock()
			waiting := len(s.stores) + s.setting
			s.mu.Unlock()
			if waiting > 0 {
				return false
			}
		}
		return true
	})
}

func TestHotQuestionsOfSeveralServersAddUp(t *testing.T) {
	servers := threeMemcached(t)
	var caches []*Cache
	var list []Server
	for _, s := range servers {
		list = append(list, s.Server)
	}
	for i := range 2 {
		writer := fmt.Sprintf("dns-%d", i) // of two slots
		caches = append(caches, newTestCache(t, func(o *Options) { o.Writer = writer }, list...))
	}
	if seedOf("dns-0")%hotSlots == seedOf("dns-1")%hotSlots {
		t.Fatal("both names are of one slot; take others")
	}
	if got := caches[0].Hottest(t.Context(), 10); len(got) != 0 {
		t.Errorf("%v before anything was told", got)
	}
	common, own := hotList(3, "n%d.example."), hotList(2, "own%d.example.")
	publish(t, caches[0], common)
	publish(t, caches[1], append(own, common[2]))
	got := caches[1].Hottest(t.Context(), 10)
	counts := map[wire.Question]uint32{}
	for _, h := range got {
		counts[h.Question] = h.Count
	}
	if len(got) != 5 || counts[common[2].Question] != 2 || counts[common[0].Question] != 3 || got[0] != common[0] {
		t.Errorf("%v", got)
	}
	if got := caches[1].Hottest(t.Context(), 2); len(got) != 2 {
		t.Errorf("%d of 2", len(got))
	}
	stranger := newTestCache(t, func(o *Options) { o.Secrets = Secrets{Values: [][]byte{secret(9)}} }, list...)
	if got := stranger.Hottest(t.Context(), 10); len(got) != 0 {
		t.Errorf("another fleet reads %v", got)
	}
}

func TestHotQuestionsAreBounded(t *testing.T) {
	m := startMemcached(t, "memcached-0")
	c := newTestCache(t, nil, m.Server)
	publish(t, c, hotList(MaxHot+500, "name-%d.of-some-length.example."))
	got := c.Hottest(t.Context(), 2*MaxHot)
	if len(got) != MaxHot || got[0].Count != MaxHot+500 || got[MaxHot-1].Count != 501 {
		t.Errorf("%d questions, from %v to %v", len(got), got[0], got[len(got)-1])
	}
	if s := one(c.Stats()); s.Dropped > 0 || s.Refused > 0 {
		t.Errorf("%+v", s)
	}
	for list := hotList(2000, "a-name-that-is-quite-a-bit-longer-than-most-names-are-%d.of-some-length.example."); len(list) > 0; {
		var part []byte
		if part, list = appendHot(nil, list); len(c.ring.seal("name", part)) > MaxValue {
			t.Fatalf("a part of %d octets", len(part))
		}
	}
}

func TestHotQuestionsSurviveTheirForm(t *testing.T) {
	list := hotList(3, "n%d.example.")
	part, rest := appendHot(nil, list)
	got, err := parseHot(part)
	if err != nil || len(rest) != 0 || len(got) != 3 || got[2] != list[2] {
		t.Errorf("%v, %v", got, err)
	}
	for name, tt := range map[string]struct {
		body []byte
		want error
	}{
		"empty":        {nil, errForm},
		"another body": {append([]byte{bodyHot}, part[1:]...), errForm},
		"another form": {append([]byte{bodyHotPart, hotForm + 1}, part[2:]...), errVersion},
		"cut off":      {part[:len(part)-1], errForm},
		"no type":      {[]byte{bodyHotPart, hotForm, 0, 0, 0, 1, 0, 0, 1, 0}, errForm},
		"no name":      {[]byte{bodyHotPart, hotForm, 0, 0, 0, 1, 0, 1, 2, 1, 'a'}, errForm},
	} {
		if _, err := parseHot(tt.body); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v; expected %v", name, err, tt.want)
		}
	}
	head := hotHead{parts: 200}
	if got, err := parseHotHead(append(head.appendBody(nil), "and more"...)); err != nil || got != head {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := parseHotHead([]byte{bodyHot, hotForm + 1, 0}); !errors.Is(err, errVersion) {
		t.Error(err)
	}
	if _, err := parseHotHead([]byte{bodyHot, hotForm}); !errors.Is(err, errForm) {
		t.Error(err)
	}
}

func TestLoadTakesWhatIsThere(t *testing.T) {
	servers := threeMemcached(t)
	c, _ := member(t, nil, servers...)
	var keys []Key
	for i := range 4 * loadBatch {
		k := keyOf(fmt.Sprintf("n%d.example.", i))
		if keys = append(keys, k); i%2 == 0 {
			set(t, c, k, fresh(t, k))
		}
	}
	load := func() map[Key]bool {
		var mu sync.Mutex
		found := make(map[Key]bool)
		c.Load(t.Context(), keys, func(k Key, e Entry) {
			mu.Lock()
			defer mu.Unlock()
			found[k] = answers(e.Msg, k.Question)
		})
		return found
	}
	if found := load(); len(found) != 2*loadBatch || !found[keys[0]] || found[keys[1]] {
		t.Errorf("%d of %d", len(found), 2*loadBatch)
	}
	flush(t, c, Flush{Name: keys[0].Name})
	servers[0].Signal(syscall.SIGSTOP)
	defer servers[0].Signal(syscall.SIGCONT)
	begun := time.Now()
	found := load()
	if len(found) >= 2*loadBatch || found[keys[0]] {
		t.Errorf("%d of those that a frozen server has none of", len(found))
	}
	if took := time.Since(begun); took > patience {
		t.Errorf("a frozen server holds it up for %v", took)
	}
	for name, s := range c.Stats().Servers {
		if s.Trips > 0 {
			t.Errorf("%s is out for it", name)
		}
	}
}

func FuzzParseHot(f *testing.F) {
	part, _ := appendHot(nil, hotList(3, "n%d.example."))
	f.Add(part)
	f.Add(hotHead{parts: 200}.appendBody(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := parseHotHead(b); err == nil {
			if again, err := parseHotHead(h.appendBody(nil)); err != nil || again != h {
				t.Errorf("%+v is read as %+v, %v", h, again, err)
			}
		}
		list, err := parseHot(b)
		if err != nil {
			return
		}
		for len(list) > 0 {
			part, rest := appendHot(nil, list)
			again, err := parseHot(part)
			if err != nil || len(again) != len(list)-len(rest) || again[0] != list[0] {
				t.Fatalf("%v is read as %v, %v", list, again, err)
			}
			list = rest
		}
	})
}
