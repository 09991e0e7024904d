package shared

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"shirube/internal/wire"
)

// zoneOf is something that is known of a zone, just learned.
func zoneOf(name string, keys bool) Zone {
	now := time.Now()
	return Zone{Name: wire.MustParseName(name), Keys: keys, Stored: now, Until: now.Add(time.Hour), Text: []byte("of " + name + fmt.Sprint(keys))}
}

// tell writes z, and waits until it is there or is not going to be.
func tell(t testing.TB, c *Cache, scope uint64, z Zone) {
	t.Helper()
	settled(t, c, func() { c.TellZone(scope, z) })
}

// zones returns what c finds of names, in order.
func zones(t testing.TB, c *Cache, scope uint64, names ...string) (texts []string) {
	t.Helper()
	var list []wire.Name
	for _, n := range names {
		list = append(list, wire.MustParseName(n))
	}
	for _, z := range c.Zones(t.Context(), list, scope, time.Second) {
		texts = append(texts, string(z.Text))
	}
	return texts
}

func TestFleetKnowsWhatOneServerTellsOfZones(t *testing.T) {
	var list []Server
	for i := range 3 {
		list = append(list, startMemcached(t, fmt.Sprintf("memcached-%d", i)).Server)
	}
	a, b := newTestCache(t, nil, list...), newTestCache(t, nil, list...)
	for _, name := range []string{"com.", "example.com.", "www.example.com."} {
		tell(t, a, 7, zoneOf(name, false))
	}
	keys := zoneOf("example.com.", true)
	tell(t, a, 7, keys)
	got := b.Zones(t.Context(), []wire.Name{keys.Name}, 7, time.Second)
	if len(got) != 2 || got[0].Keys || !got[1].Keys || got[1].Writer != "test" || !bytes.Equal(got[1].Text, keys.Text) ||
		!got[1].Stored.Equal(keys.Stored.Truncate(time.Millisecond)) || !got[1].Until.Equal(keys.Until.Truncate(time.Millisecond)) {
		t.Errorf("%+v", got)
	}
	if got := zones(t, b, 7, "com.", "example.com.", "www.example.com.", "none.example.com."); len(got) != 4 {
		t.Errorf("%q", got)
	}
	if got := zones(t, b, 8, "com.", "example.com."); len(got) != 0 {
		t.Errorf("of another scope: %q", got)
	}
	if s := b.Stats(); s.ZonesFound != 6 || a.Stats().ZonesTold != 4 {
		t.Errorf("%+v", s)
	}
}

func TestZonesThatAreNotAsTheyShouldBeAreNotTaken(t *testing.T) {
	m := startMemcached(t, "memcached-0")
	now := time.Now()
	good := zoneOf("example.com.", false)
	for name, tt := range map[string]struct {
		z    Zone
		why  string
		name string // of the key that it is put at; "": its own
	}{
		"good":        {good, "", ""},
		"ended":       {Zone{Name: good.Name, Stored: now.Add(-time.Hour), Until: now.Add(-time.Second)}, "old", ""},
		"future":      {Zone{Name: good.Name, Stored: now.Add(time.Minute), Until: now.Add(time.Hour)}, "future", ""},
		"another":     {zoneOf("example.net.", false), "question", ""},
		"other part":  {zoneOf("example.com.", true), "question", ""},
		"moved":       {good, "tag", "elsewhere"},
		"never known": {Zone{Name: good.Name, Until: now.Add(time.Hour)}, "form", ""},
		"never ends":  {Zone{Name: good.Name, Stored: now}, "form", ""},
	} {
		c := newTestCache(t, nil, m.Server)
		key := keyName(forCut, 0, c.ring.digest(zoneKey(good.Name, 0)))
		sealed := key
		if tt.name != "" {
			sealed = tt.name
		}
		item := &memcache.Item{Key: key, Value: c.ring.seal(sealed, tt.z.appendBody(nil)), Expiration: 60}
		if err := only(c).client.Set(item); err != nil {
			t.Fatal(err)
		}
		got := zones(t, c, 0, "example.com.")
		if len(got) > 0 != (tt.why == "") {
			t.Errorf("%s: %q", name, got)
		}
		if s := c.Stats(); tt.why != "" && s.Rejected[reason(tt.why)] != 1 {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// An answer is not a zone, nor the other way round, though both are sealed with
// the same secret.
func TestZonesAndAnswersAreNotTakenForEachOther(t *testing.T) {
	z, e := zoneOf("example.com.", false), fresh(t, keyOf("example.com."))
	if _, err := parseBody(z.appendBody(nil)); err == nil {
		t.Error("a zone is an answer")
	}
	if _, err := parseZone(e.appendBody(nil)); err == nil {
		t.Error("an answer is a zone")
	}
}

func TestOlderWordOnAZoneDoesNotReplaceANewerOne(t *testing.T) {
	m := startMemcached(t, "memcached-0")
	c := newTestCache(t, nil, m.Server)
	old, younger := zoneOf("example.com.", false), zoneOf("example.com.", false)
	old.Stored, old.Text, younger.Text = old.Stored.Add(-time.Minute), []byte("old"), []byte("young")
	for _, order := range [][]Zone{{old, younger}, {younger, old}} {
		m.Tell(t, "flush_all\r\n")
		for _, z := range order {
			tell(t, c, 0, z)
		}
		if got := zones(t, c, 0, "example.com."); len(got) != 1 || got[0] != "young" {
			t.Errorf("%q", got)
		}
	}
}

func TestFlushedAndDoubtfulZonesAreNotTaken(t *testing.T) {
	m := startMemcached(t, "memcached-0")
	for name, forget := range map[string]func(*Cache){
		"flush of all":      func(c *Cache) { c.Flush(Flush{Name: wire.Root, Below: true, Until: time.Now()}) },
		"flush of the zone": func(c *Cache) { c.Flush(Flush{Name: wire.MustParseName("example.com."), Until: time.Now()}) },
		"flush of its keys": func(c *Cache) {
			c.Flush(Flush{Name: wire.MustParseName("example.com."), Type: wire.TypeDNSKEY, Until: time.Now()})
		},
		"doubt":               func(c *Cache) { c.Doubt(wire.MustParseName("example.com.")) },
		"doubt of everything": func(c *Cache) { c.Doubt(wire.Root) },
	} {
		c := newTestCache(t, nil, m.Server)
		z := zoneOf("example.com.", false)
		z.Stored = z.Stored.Add(-time.Second)
		tell(t, c, 0, z)
		if got := zones(t, c, 0, "example.com."); len(got) != 1 {
			t.Fatalf("%s: %q before", name, got)
		}
		forget(c)
		if got := zones(t, c, 0, "example.com."); len(got) != 0 {
			t.Errorf("%s: %q", name, got)
		}
		z.Stored = time.Now().Add(10 * time.Millisecond)
		tell(t, c, 0, z)
		if got := zones(t, c, 0, "example.com."); len(got) != 1 {
			t.Errorf("%s: %q of what was learned since", name, got)
		}
		m.Tell(t, "flush_all\r\n")
	}
}

func TestDoubtsAreBounded(t *testing.T) {
	var d doubts
	now := time.Now()
	for i := range 3*maxDoubts + 1 {
		d.add(wire.MustParseName(fmt.Sprintf("n%d.example.", i)), now.Add(time.Duration(i)*time.Second))
	}
	if n := len(d.since); n > maxDoubts {
		t.Errorf("%d are remembered", n)
	}
	z := Zone{Name: wire.MustParseName("n0.example."), Stored: now}
	if !d.cover(&z) {
		t.Error("the first is forgotten")
	}
	z.Stored = now.Add(time.Hour)
	if d.cover(&z) {
		t.Error("what is learned later is in doubt")
	}
}

func TestZonesAreLookedUpWithinTheirTime(t *testing.T) {
	silent := startFake(t, func(net.Conn, string, *bufio.Reader) bool { return true })
	c := newTestCache(t, func(o *Options) { hurried(o); o.Budget = 10 * time.Millisecond }, silent.Server)
	begun := time.Now()
	var names []wire.Name
	for i := range 2 * maxZones {
		names = append(names, wire.MustParseName(fmt.Sprintf("n%d.example.", i)))
	}
	if got := c.Zones(t.Context(), names, 0, time.Minute); len(got) > 0 {
		t.Errorf("%v", got)
	}
	if took := time.Since(begun); took > patience {
		t.Errorf("it took %v", took)
	}
	if n := one(c.Stats()).Gets; n != maxZones {
		t.Errorf("%d zones were looked up", n)
	}
}

func FuzzParseZone(f *testing.F) {
	for _, z := range []Zone{zoneOf("example.com.", false), zoneOf(".", true)} {
		f.Add(z.appendBody(nil))
	}
	f.Add([]byte{bodyZone})
	f.Fuzz(func(t *testing.T, b []byte) {
		z, err := parseZone(b)
		if err != nil {
			return
		}
		again, err := parseZone(z.appendBody(nil))
		if err != nil || again.Name != z.Name || again.Keys != z.Keys || !again.Stored.Equal(z.Stored) || !again.Until.Equal(z.Until) ||
			again.Writer != z.Writer || !bytes.Equal(again.Text, z.Text) {
			t.Errorf("%+v, then %+v, %v", z, again, err)
		}
	})
}
