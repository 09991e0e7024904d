package transport

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
)

func TestDeferredQueriesShareWorkers(t *testing.T) {
	h := newScripted()
	u, addr := startUDP(t, UDPOptions{Handler: h}, "127.0.0.1:0")
	c := dial(t, "udp", addr)
	for i := range 100 {
		askUDP(t, c, uint16(i), fmt.Sprintf("miss%d", i)) // the answer holds what was asked
	}
	eventually(t, "a few workers rest", func() bool { // one that has just sent its answer may not rest yet
		n := u.Stats().Resting
		return 1 <= n && n <= 5
	})
}

func TestNoMoreThanMaxIdleWorkersWait(t *testing.T) {
	h := newScripted()
	u, addr := startUDP(t, UDPOptions{Handler: h}, "127.0.0.1:0")
	before := runtime.NumGoroutine()
	c := dial(t, "udp", addr)
	const queries = 2 * maxIdleWorkers
	for i := range queries {
		write(t, c, packQuery(t, uint16(i), "slow"))
	}
	h.waitBegan(t, queries)
	close(h.release)
	ids := make(map[uint16]bool)
	for range queries {
		ids[binary.BigEndian.Uint16(receiveUDP(t, c))] = true
	}
	if len(ids) != queries {
		t.Errorf("%d of %d queries were answered", len(ids), queries)
	}
	eventually(t, "the others end", func() bool {
		return u.Stats().Resting == maxIdleWorkers && runtime.NumGoroutine() <= before+maxIdleWorkers
	})
	if err := u.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	eventually(t, "all end", func() bool { return runtime.NumGoroutine() < before })
}
