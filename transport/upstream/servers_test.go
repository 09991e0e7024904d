package upstream

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"
)

// numbered returns the nth of many addresses.
func numbered(n int) netip.AddrPort {
	a := netip.MustParseAddr("2001:db8::").As16()
	binary.BigEndian.PutUint32(a[12:], uint32(n))
	return netip.AddrPortFrom(netip.AddrFrom16(a), 53)
}

func TestServersAreBoundedAndTheOnesInUseStay(t *testing.T) {
	s := newServers()
	learn := func(e *server) { e.foldsTil = 7 }
	const busy = 100
	for n := range 4 * maxServers {
		s.update(numbered(n), int64(n), learn)
		if n%64 == 0 {
			for i := range min(busy, n) {
				s.get(numbered(i), int64(n))
			}
		}
	}
	total := 0
	for i := range s.shards {
		total += len(s.shards[i].m)
	}
	if total > maxServers || total < maxServers*9/10 || int64(total) != s.known.Load() {
		t.Errorf("%d servers remembered, %d counted, %d are the most", total, s.known.Load(), maxServers)
	}
	if got := s.forgotten.Load(); got != uint64(4*maxServers-total) {
		t.Errorf("%d forgotten, %d remembered of %d", got, total, 4*maxServers)
	}
	kept := 0
	for n := range busy {
		if s.get(numbered(n), 0).foldsTil == 7 {
			kept++
		}
	}
	if kept < busy*9/10 {
		t.Errorf("%d of %d busy servers are still known", kept, busy)
	}
	if got := s.get(numbered(5*maxServers), 0); got != nothing {
		t.Errorf("knows %+v of a server never seen", got)
	}
}

func TestServersCanBeUsedByManyAtOnce(t *testing.T) {
	s := newServers()
	var all sync.WaitGroup
	const workers, rounds = 8, 2000
	for range workers {
		all.Go(func() { // ends after its rounds
			for n := range rounds {
				s.update(numbered(n%10), 1, func(e *server) { e.verifyAt++ })
				s.get(numbered(n%10), 1)
			}
		})
	}
	all.Wait()
	if got := s.get(numbered(3), 1).verifyAt; got != workers*rounds/10 {
		t.Errorf("%d updates of %d", got, workers*rounds/10)
	}
}

// nothing is what is known of a server that nothing is known of.
var nothing server
