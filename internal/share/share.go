// Package share bounds how much of what there is for all any one of them has:
// places for queries by client network, and by the zone that they wait for.
package share

import "sync"

// Shares counts what each K holds. It is safe for concurrent use, and its zero
// value is ready. It remembers those only who hold something, so it is as large
// as what there is to hold.
type Shares[K comparable] struct {
	mu     sync.Mutex
	held   map[K]int
	denied uint64
}

// Take gives k one more, which Give takes back, and reports whether k had fewer
// than most.
func (s *Shares[K]) Take(k K, most int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.held[k]
	if n >= most {
		s.denied++
		return false
	}
	if s.held == nil {
		s.held = make(map[K]int)
	}
	s.held[k] = n + 1
	return true
}

// Full reports whether Take would say no to k. Who does not even ask it then tells
// Denied.
func (s *Shares[K]) Full(k K, most int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[k] >= most
}

// Denied counts as if Take had said no.
func (s *Shares[K]) Denied() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied++
}

// Give takes back one of what k holds.
func (s *Shares[K]) Give(k K) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[k]--; s.held[k] == 0 {
		delete(s.held, k)
	}
}

// Stats returns how many hold something now, and how often Take said no.
func (s *Shares[K]) Stats() (holders int, denied uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.held), s.denied
}
