package transport

import (
	"encoding/binary"
	"testing"
	"time"

	"shirube/internal/netx"
	"shirube/internal/wire"
)

// numbered returns a query with an ID.
func numbered(t *testing.T, id int) *wire.Query {
	t.Helper()
	q := new(wire.Query)
	if status := q.Parse(packQuery(t, uint16(id), "miss")); status != wire.OK {
		t.Fatalf("status %d", status)
	}
	return q
}

func TestQueueBeginsSoManyARoundAndTheRestInTheirOrder(t *testing.T) {
	var l queue
	begun := 0
	for i := range mostBegun + maxWaiting {
		if l.full() {
			t.Fatalf("it is full with %d", l.size())
		}
		if l.admit(numbered(t, i), netx.Return{}) {
			begun++
		}
	}
	if begun != mostBegun || l.size() != maxWaiting || !l.full() || l.shed.Load() != 1 {
		t.Fatalf("%d are begun, %d wait, %d are shed", begun, l.size(), l.shed.Load())
	}
	if l.next() {
		t.Error("more are begun in the same round")
	}
	var w udpWorker
	for i := mostBegun; l.size() > 0; {
		l.turn()
		for n := 0; l.next(); i++ {
			if n++; n > mostBegun {
				t.Fatalf("%d are begun in a round", n)
			}
			l.pop(&w)
			if got := int(w.q.ID()); got != i {
				t.Fatalf("%d is begun, want %d", got, i)
			}
		}
	}
}

func TestUDPTellsSomeOfEachMillisecondThatThereIsNoRoom(t *testing.T) {
	u, _ := startUDP(t, UDPOptions{Handler: newScripted()}, "127.0.0.1:0")
	r := newUDPReader(u, u.readers[0].conn, nil) // one that does not read
	began := time.Now()
	for i := range 4 * mostTold {
		tx := []byte("others' responses")
		q := numbered(t, 1)
		q.Limit, q.Received = 512, began.Add(time.Duration(i/(2*mostTold))*tellInterval)
		rsp, outcome := r.turnAway(tx, q)
		told := i%(2*mostTold) < mostTold
		switch {
		case told && (outcome != Answered || wire.RcodeOf(rsp[len(tx):]) != wire.ServFail):
			t.Errorf("number %d: outcome %d, %x", i, outcome, rsp)
		case !told && (outcome != Dropped || string(rsp) != string(tx)):
			t.Errorf("number %d: outcome %d, %q", i, outcome, rsp)
		}
	}
	if shed, untold := r.n.shed.Load(), r.n.untold.Load(); shed != 4*mostTold || untold != 2*mostTold {
		t.Errorf("%d are shed, %d of them without a word", shed, untold)
	}
}

// TestUDPHitsDoNotWaitForMisses asks for hits among misses of which none ends: a
// hit is answered although misses wait, and those are all begun, though nothing
// more comes.
func TestUDPHitsDoNotWaitForMisses(t *testing.T) {
	const misses, every = maxWaiting, 100 // as many as may wait: none is shed
	h := newScripted()
	u, addr := startUDP(t, UDPOptions{Handler: h}, "127.0.0.1:0")
	c, flood := dial(t, "udp", addr), dial(t, "udp", addr)
	for i := range misses {
		write(t, flood, packQuery(t, uint16(i), "slow"))
		if i%every == 0 {
			wantRcode(t, askUDP(t, c, uint16(i), "hit"), 0)
		}
	}
	h.waitBegan(t, misses)
	if s := u.Stats(); s.Waiting != 0 || s.Shed != 0 || s.Deferred != misses {
		t.Errorf("%d wait, %d are shed, %d were deferred", s.Waiting, s.Shed, s.Deferred)
	}
	close(h.release)
}

func TestUDPShutdownBeginsWhatWaits(t *testing.T) {
	h := newScripted()
	u, addr := startUDP(t, UDPOptions{Handler: h}, "127.0.0.1:0")
	c := dial(t, "udp", addr)
	const misses = 150
	for i := range misses {
		write(t, c, packQuery(t, uint16(i), "miss"))
	}
	if err := u.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	ids := make(map[uint16]bool)
	for range misses {
		ids[binary.BigEndian.Uint16(receiveUDP(t, c))] = true
	}
	if len(ids) != misses {
		t.Errorf("%d of %d are answered", len(ids), misses)
	}
}
