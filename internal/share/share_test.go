package share

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestSharesAreEachBounded(t *testing.T) {
	var s Shares[string]
	if !s.Take("a", 2) || !s.Take("a", 2) || s.Take("a", 2) {
		t.Error("not two for a")
	}
	if !s.Take("b", 2) {
		t.Error("none for b, because of a")
	}
	s.Give("a")
	if !s.Take("a", 2) || s.Take("a", 2) {
		t.Error("what was given back cannot be taken, or twice")
	}
	if holders, denied := s.Stats(); holders != 2 || denied != 2 {
		t.Errorf("%d holders, %d denied, want 2 and 2", holders, denied)
	}
}

func TestSharesTellWhoHasEnough(t *testing.T) {
	var s Shares[string]
	if s.Full("a", 1) || !s.Take("a", 1) || !s.Full("a", 1) || s.Full("a", 2) || s.Full("b", 1) {
		t.Error("full too early, or not at all")
	}
	s.Give("a")
	if s.Full("a", 1) {
		t.Error("full after all was given back")
	}
	if _, denied := s.Stats(); denied != 0 {
		t.Errorf("%d denied by a question alone", denied)
	}
	s.Denied()
	if holders, denied := s.Stats(); holders != 0 || denied != 1 {
		t.Errorf("%d holders, %d denied, want 0 and 1", holders, denied)
	}
}

func TestSharesForgetWhoHoldsNothing(t *testing.T) {
	var s Shares[int]
	for k := range 1000 {
		s.Take(k, 1)
		s.Give(k)
	}
	if holders, _ := s.Stats(); holders != 0 {
		t.Errorf("%d are remembered", holders)
	}
}

func TestSharesAreExactUnderContention(t *testing.T) {
	const most = 3
	var s Shares[int]
	var held, worst atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 1000 {
				if s.Take(0, most) {
					if n := held.Add(1); n > most {
						worst.Store(n)
					}
					held.Add(-1)
					s.Give(0)
				}
			}
		})
	}
	wg.Wait()
	if holders, _ := s.Stats(); holders != 0 || worst.Load() != 0 {
		t.Errorf("%d holders left, %d at once, want 0 and at most %d", holders, worst.Load(), most)
	}
}
