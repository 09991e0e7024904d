package transport

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"shirube/internal/netx"
	"shirube/internal/wire"
)

// eachLoop runs f for both loops.
func eachLoop(t *testing.T, f func(t *testing.T, loop netx.Loop)) {
	t.Helper()
	for _, loop := range []netx.Loop{netx.LoopPoller, netx.LoopBlocking} {
		t.Run(loop.String(), func(t *testing.T) { f(t, loop) })
	}
}

// gated is a Handler whose TryServe waits at the label "gate", so that what comes
// meanwhile is read in one batch.
type gated struct {
	hugeAnswers
	open chan struct{}
}

func newGated() gated { return gated{hugeAnswers{newScripted()}, make(chan struct{})} }

func (h gated) TryServe(buf []byte, q *wire.Query) ([]byte, Outcome) {
	if string(firstLabel(q)) == "gate" {
		h.began <- "gate"
		<-h.open
		return append(buf, "this must not be sent"...), Dropped
	}
	return h.hugeAnswers.TryServe(buf, q)
}

// Whatever else is in the batch, and whatever comes of it: each query gets one
// response, its own, where it came from.
func TestUDPEveryQueryGetsItsOwnResponse(t *testing.T) {
	labels := []string{"hit", "miss", "panic", "big", "crash", "over", "hit", "bigmiss"}
	const clients, rounds = 16, 30
	eachLoop(t, func(t *testing.T, loop netx.Loop) {
		conns, err := netx.ListenUDP(t.Context(), netip.MustParseAddrPort("0.0.0.0:0"), 2)
		if err != nil {
			t.Fatal(err)
		}
		u := NewUDP(UDPOptions{Handler: newScripted(), Loop: loop}, conns...)
		u.Start(context.Background())
		shutDown(t, u)
		port := conns[0].LocalAddr().(*net.UDPAddr).AddrPort().Port()
		var wg sync.WaitGroup
		for i := range clients {
			c := dial(t, "udp", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + i%5)}), port))
			wg.Go(func() { // ends when it has all answers, or its patience ends
				for round := range rounds {
					askMany(t, c, uint16(i*1000+round*20), labels)
				}
			})
		}
		wg.Wait()
		s := u.Stats()
		if n := uint64(clients * rounds * len(labels)); s.Answered != n || s.Received != n {
			t.Errorf("%d queries: %+v", n, s)
		}
		wantBalance(t, s.Counts, s.Late)
	})
}

// askMany sends a query for each label, a dropped one and a response among them,
// and wants one response to each query and nothing else.
func askMany(t *testing.T, c net.Conn, first uint16, labels []string) {
	waiting := make(map[uint16]string)
	for i, label := range labels {
		id := first + uint16(i)
		name := fmt.Sprint(label, id)
		waiting[id] = name + ".example.org."
		if _, err := c.Write(packQuery(t, id, name)); err != nil {
			t.Error(err)
			return
		}
	}
	buf := make([]byte, wire.MaxMsgSize)
	for len(waiting) > 0 {
		n, err := c.Read(buf)
		if err != nil {
			t.Errorf("no response to %v: %v", waiting, err)
			return
		}
		m := new(dns.Msg)
		if err := m.Unpack(buf[:n]); err != nil || !m.Response || len(m.Question) != 1 || m.Question[0].Name != waiting[m.Id] {
			t.Errorf("a response to nothing that was asked (%v): %v, %v", waiting, err, m)
			return
		}
		delete(waiting, m.Id)
	}
}

// One response of a batch that cannot be sent costs that one.
func TestUDPSendErrorCostsOneResponse(t *testing.T) {
	eachLoop(t, func(t *testing.T, loop netx.Loop) {
		h := newGated()
		u, at := startUDP(t, UDPOptions{Handler: h, MaxSize: wire.MaxMsgSize, Loop: loop}, "127.0.0.1:0")
		c := dial(t, "udp", at)
		write(t, c, packQuery(t, 99, "gate"))
		h.waitBegan(t, 1)
		want := make(map[uint16]bool)
		for i := range uint16(20) {
			label := "hit"
			if i%4 == 0 {
				label = "huge"
			} else {
				want[i] = true
			}
			write(t, c, packQuery(t, i, label))
		}
		close(h.open)
		for len(want) > 0 {
			m := unpack(t, receiveUDP(t, c))
			if !want[m.Id] {
				t.Fatalf("a response to %d", m.Id)
			}
			delete(want, m.Id)
		}
		eventually(t, "five are lost", func() bool { return u.Stats().SendErrors[SendTooBig] == 5 })
		if s := u.Stats(); s.Answered != 20 {
			t.Errorf("%+v", s)
		}
	})
}

func TestUDPSkewIsThatOfTheWorstAddress(t *testing.T) {
	a, err := netx.ListenUDP(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), 4)
	if err != nil {
		t.Fatal(err)
	}
	b, err := netx.ListenUDP(t.Context(), netip.MustParseAddrPort("127.0.0.2:0"), 1)
	if err != nil {
		t.Fatal(err)
	}
	u := NewUDP(UDPOptions{Handler: newScripted()}, append(a, b...)...)
	u.Start(context.Background())
	shutDown(t, u)
	if s := u.Stats(); s.Skew != 0 {
		t.Errorf("%v without traffic", s.Skew)
	}
	c := dial(t, "udp", b[0].LocalAddr().(*net.UDPAddr).AddrPort())
	askUDP(t, c, 1, "hit")
	if s := u.Stats(); s.Skew != 1 {
		t.Errorf("%v of a single socket", s.Skew)
	}
	c = dial(t, "udp", a[0].LocalAddr().(*net.UDPAddr).AddrPort())
	for i := range uint16(10) { // one client: one socket
		askUDP(t, c, i, "hit")
	}
	if s := u.Stats(); s.Skew != float64(len(a)) {
		t.Errorf("%v with one client on %d sockets", s.Skew, len(a))
	}
}

func TestUDPDrainsInBothLoops(t *testing.T) {
	eachLoop(t, func(t *testing.T, loop netx.Loop) {
		h := newScripted()
		u, at := startUDP(t, UDPOptions{Handler: h, Loop: loop}, "127.0.0.1:0")
		c := dial(t, "udp", at)
		write(t, c, packQuery(t, 1, "slow"))
		h.waitBegan(t, 1)
		done := make(chan error)
		go func() { done <- u.Shutdown(t.Context()) }()
		eventually(t, "reading stops", func() bool { return isClosed(u.readers[0].stop) })
		close(h.release)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if m := unpack(t, receiveUDP(t, c)); m.Id != 1 || m.Rcode != dns.RcodeSuccess {
			t.Errorf("%v", m)
		}
	})
}

// foreseeing is a Handler that is told what comes, and notes in which order.
type foreseeing struct {
	gated
	mu    sync.Mutex
	notes []string // the IDs of queries it was told of, together, and of those that came
}

func (h *foreseeing) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notes = append(h.notes, fmt.Sprintf(format, args...))
}

func (h *foreseeing) Expect(qs []*wire.Query) {
	ids := make([]uint16, len(qs))
	for i, q := range qs {
		ids[i] = q.ID()
	}
	h.note("expect %d", ids)
	if ids[0] == 666 {
		panic("scripted in Expect")
	}
}

func (h *foreseeing) TryServe(buf []byte, q *wire.Query) ([]byte, Outcome) {
	h.note("%d", q.ID())
	return h.gated.TryServe(buf, q)
}

// TestUDPHandlerIsToldOfABatchBeforeIt is told of what are queries, if there are a few,
// and of nothing else that came with them.
func TestUDPHandlerIsToldOfABatchBeforeIt(t *testing.T) {
	eachLoop(t, func(t *testing.T, loop netx.Loop) {
		h := &foreseeing{gated: newGated()}
		u, at := startUDP(t, UDPOptions{Handler: h, Loop: loop, Batch: 8}, "127.0.0.1:0")
		c := dial(t, "udp", at)
		write(t, c, packQuery(t, 99, "gate"))
		h.waitBegan(t, 1)
		malformed, response := packQuery(t, 7, "hit")[:14], packQuery(t, 8, "hit")
		response[2] |= 0x80
		for _, msg := range [][]byte{
			packQuery(t, 1, "hit"), malformed, packQuery(t, 2, "hit"), response, packQuery(t, 3, "miss"), packQuery(t, 4, "hit"), {}, packQuery(t, 5, "hit"), // a batch
			packQuery(t, 666, "hit"), packQuery(t, 11, "hit"), packQuery(t, 12, "hit"), packQuery(t, 13, "hit"), malformed, malformed, malformed, malformed, // another
			packQuery(t, 21, "hit"), packQuery(t, 22, "hit"), packQuery(t, 23, "hit"), // too few to be told of
		} {
			write(t, c, msg)
		}
		close(h.open)
		want := []string{
			"99", "expect [1 2 3 4 5]", "1", "2", "3", "4", "5",
			"expect [666 11 12 13]", "666", "11", "12", "13", "21", "22", "23",
		}
		eventually(t, "all have come", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return len(h.notes) >= len(want)
		})
		h.mu.Lock()
		defer h.mu.Unlock()
		if !slices.Equal(h.notes, want) {
			t.Errorf("%q; want %q", h.notes, want)
		}
		eventually(t, "all are answered", func() bool { return u.Stats().Answered >= 12 })
		if n := u.Stats().Panics; n != 1 {
			t.Errorf("%d panics; want 1", n)
		}
	})
}
