package shared

import (
	"fmt"
	"testing"
	"time"

	"shirube/internal/wire"
)

func TestFlushedEntriesAreNotTakenAnyMore(t *testing.T) {
	m := startMemcached(t, "memcached-0")
	for name, tt := range map[string]struct {
		f    Flush
		gone bool
	}{
		"the name":            {Flush{Name: wire.MustParseName("www.example.com.")}, true},
		"its type":            {Flush{Name: wire.MustParseName("www.example.com."), Type: wire.TypeA}, true},
		"another type":        {Flush{Name: wire.MustParseName("www.example.com."), Type: wire.TypeMX}, false},
		"the name above":      {Flush{Name: wire.MustParseName("example.com.")}, false},
		"all below that":      {Flush{Name: wire.MustParseName("example.com."), Below: true}, true},
		"all":                 {Flush{Name: wire.Root, Below: true}, true},
		"another name":        {Flush{Name: wire.MustParseName("ww.example.com."), Below: true}, false},
		"what was older then": {Flush{Name: wire.Root, Below: true, Until: time.Now().Add(-time.Hour)}, false},
	} {
		c := newTestCache(t, func(o *Options) { o.Secrets.Names = secret(byte(len(name))) }, m.Server)
		k := keyOf("www.example.com.")
		set(t, c, k, fresh(t, k))
		if _, ok := get(t, c, k); !ok {
			t.Fatalf("%s: a miss before the order", name)
		}
		if tt.f.Until.IsZero() {
			tt.f.Until = time.Now()
		}
		c.Flush(tt.f)
		if _, ok := get(t, c, k); ok == tt.gone {
			t.Errorf("%s: a hit is %v", name, ok)
		}
		if !tt.gone {
			continue
		}
		if c.Stats().Rejected[reason("flushed")] != 1 {
			t.Errorf("%s: %+v", name, c.Stats())
		}
		e := fresh(t, k)
		e.Stored = tt.f.Until.Add(time.Millisecond)
		set(t, c, k, e)
		if _, ok := get(t, c, k); !ok {
			t.Errorf("%s: what came after the order is not taken", name)
		}
	}
}

func TestOrdersToForgetAreBounded(t *testing.T) {
	var l flushes
	k := keyOf("www.example.com.")
	e := Entry{Stored: noon}
	for i := range 2 * maxFlushes {
		l.add(Flush{Name: wire.MustParseName(fmt.Sprintf("n%d.example.", i)), Until: noon.Add(time.Second)})
		if i == maxFlushes-1 && l.covers(k, &e) {
			t.Error("a name is forgotten that no order is about")
		}
	}
	if len(l.list) > maxFlushes || !l.covers(k, &e) {
		t.Errorf("%d orders, and not the one to forget everything", len(l.list))
	}
	l.add(Flush{Name: wire.Root, Below: true, Until: noon.Add(2 * time.Second)})
	for range 3 {
		l.add(Flush{Name: k.Name, Until: noon.Add(maxExpiry*time.Second + time.Hour)})
	}
	if len(l.list) != 1 {
		t.Errorf("%d orders; one is not over", len(l.list))
	}
}
