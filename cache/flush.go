package cache

import "shirube/internal/wire"

// Scope is a part of what is remembered, to be forgotten.
type Scope struct {
	Name  wire.Name
	Below bool      // all names below Name as well
	Type  wire.Type // what would answer questions of this type; 0: everything
}

// Everything is all that is remembered.
var Everything = Scope{Name: wire.Root, Below: true}

// covers reports whether n is a name of s.
func (s Scope) covers(n wire.Name) bool {
	return n == s.Name || s.Below && n.Within(s.Name)
}

// flush forgets all entries that goes says so of, and returns how many they
// were. One shard after the other is locked, each for as long as it takes to go
// through it: what is put into one meanwhile stays.
func (s *store[K, V]) flush(goes func(K) bool) (forgotten int) {
	for i := range s.shards {
		forgotten += s.shards[i].flush(goes)
	}
	return forgotten
}

func (sh *shard[K, V]) flush(goes func(K) bool) int {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	before := sh.count()
	for i := range sh.rings {
		e := sh.rings[i].hand
		for range sh.rings[i].count {
			next := e.next
			if goes(e.key) {
				sh.remove(e)
			}
			e = next
		}
	}
	return before - sh.count()
}
