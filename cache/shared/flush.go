package shared

import (
	"sync"
	"time"

	"shirube/internal/wire"
)

// maxFlushes is how many orders to forget are remembered. One more makes them one
// order to forget everything.
const maxFlushes = 2 * maxOrders

// Flush is an order to forget what was stored until a time.
type Flush struct {
	Name  wire.Name
	Below bool      // all names below Name as well
	Type  wire.Type // questions of this type; 0: all
	Until time.Time
}

// covers reports whether f is about an entry about k.
func (f *Flush) covers(k Key, e *Entry) bool {
	about := k.Name == f.Name || f.Below && k.Name.Within(f.Name)
	return about && (f.Type == 0 || f.Type == k.Type) && !e.Stored.After(f.Until)
}

// flushes are the orders that this server was given. The zero value has none.
type flushes struct {
	mu   sync.RWMutex
	list []Flush
}

// add remembers f, and forgets those that can be about nothing any more.
func (l *flushes) add(f Flush) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.list[:0]
	for _, old := range l.list {
		same := old.Name == f.Name && old.Below == f.Below && old.Type == f.Type
		if same && old.Until.After(f.Until) {
			f.Until = old.Until
		}
		if !same && f.Until.Sub(old.Until) < maxExpiry*time.Second {
			kept = append(kept, old)
		}
	}
	clear(l.list[len(kept):])
	if l.list = append(kept, f); len(l.list) > maxFlushes {
		l.list = []Flush{{Name: wire.Root, Below: true, Until: f.Until}}
	}
}

// covers reports whether an entry about k was to be forgotten.
func (l *flushes) covers(k Key, e *Entry) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for i := range l.list {
		if l.list[i].covers(k, e) {
			return true
		}
	}
	return false
}

// Flush has this server take none of the entries that f is about, whoever has
// them: what it finds in their place it tells the fleet.
func (c *Cache) Flush(f Flush) { c.flushes.add(f) }
