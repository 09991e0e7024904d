package transport

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"shirube/internal/netx"
	"shirube/internal/wire"
)

// stuck is a Handler that is busy with its first query until it is released.
type stuck struct {
	*scripted
	once    sync.Once
	busy    chan struct{} // closed when it is
	release chan struct{}
}

func (h *stuck) TryServe(buf []byte, q *wire.Query) ([]byte, Outcome) {
	h.once.Do(func() {
		close(h.busy)
		<-h.release
	})
	return h.scripted.TryServe(buf, q)
}

// What has come to a socket is in nobody else's hands.
func TestUDPAnswersWhatHasComeBeforeItStops(t *testing.T) {
	ends := map[string]func(ctx context.Context, u *UDP) error{
		"shutdown": func(ctx context.Context, u *UDP) error { return u.Shutdown(ctx) },
		"removal":  func(ctx context.Context, u *UDP) error { return u.Remove(ctx, u.readers[0].conn) },
	}
	for name, end := range ends {
		eachLoop(t, func(t *testing.T, loop netx.Loop) {
			const queries = 100 // several batches
			h := &stuck{scripted: newScripted(), busy: make(chan struct{}), release: make(chan struct{})}
			u, at := startUDP(t, UDPOptions{Handler: h, Loop: loop}, "127.0.0.1:0")
			c := dial(t, "udp", at)
			r := u.readers[0]
			write(t, c, packQuery(t, 0, "hit"))
			<-h.busy
			for i := range queries {
				write(t, c, packQuery(t, uint16(i+1), "hit"))
			}
			done := make(chan error)
			go func() { done <- end(t.Context(), u) }() // owner: this test; end: that of u; bound: one
			eventually(t, "reading stops", func() bool { return isClosed(r.stop) })
			close(h.release)
			if err := <-done; err != nil {
				t.Error(err)
			}
			for range queries + 1 {
				if m := unpack(t, receiveUDP(t, c)); m.Rcode != dns.RcodeSuccess {
					t.Errorf("%s: %v", name, m)
				}
			}
			if s := u.Stats(); s.Answered != queries+1 {
				t.Errorf("%s: the counters have %d answers", name, s.Answered)
			}
		})
	}
}

func TestUDPServesSocketsAsTheyComeAndGo(t *testing.T) {
	u, at := startUDP(t, UDPOptions{Handler: newScripted()}, "127.0.0.1:0")
	first := dial(t, "udp", at)
	for i := range 3 {
		conns, err := netx.ListenUDP(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), 2)
		if err != nil {
			t.Fatal(err)
		}
		u.Add(conns...)
		c := dial(t, "udp", conns[0].LocalAddr().(*net.UDPAddr).AddrPort())
		for _, c := range []net.Conn{c, first} {
			write(t, c, packQuery(t, 1, "hit"))
			if m := unpack(t, receiveUDP(t, c)); m.Rcode != dns.RcodeSuccess {
				t.Errorf("%v", m)
			}
		}
		if err := u.Remove(t.Context(), conns...); err != nil {
			t.Error(err)
		}
		if s := u.Stats(); s.Answered != uint64(2*(i+1)) || len(u.readers) != 1 {
			t.Errorf("%d answers, %d readers", s.Answered, len(u.readers))
		}
		if _, err := conns[0].Write(nil); err == nil {
			t.Error("a socket that was removed is open")
		}
	}
	if err := u.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	conns, err := netx.ListenUDP(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), 1)
	if err != nil {
		t.Fatal(err)
	}
	u.Add(conns...)
	if err := conns[0].Close(); err == nil {
		t.Error("a socket that was added after the end is open")
	}
}

func TestTCPServesListenersAsTheyComeAndGo(t *testing.T) {
	s, at := startTCP(t, TCPOptions{Handler: newScripted()}, "127.0.0.1:0")
	first := dial(t, "tcp", at)
	for range 3 {
		l, err := netx.ListenTCP(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
		if err != nil {
			t.Fatal(err)
		}
		s.Add(l)
		added := l.Addr().(*net.TCPAddr).AddrPort()
		c := dial(t, "tcp", added)
		ask := func(c net.Conn) {
			t.Helper()
			write(t, c, frame(packQuery(t, 1, "hit")))
			if m := unpack(t, receiveTCP(t, c)); m.Rcode != dns.RcodeSuccess {
				t.Errorf("%v", m)
			}
		}
		ask(c)
		ask(first)
		if err := s.Remove(l); err != nil {
			t.Error(err)
		}
		ask(c) // it goes on
		if c, err := net.Dial("tcp", added.String()); err == nil {
			_ = c.Close()
			t.Error("a listener that was removed accepts")
		}
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	l, err := netx.ListenTCP(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	s.Add(l)
	if err := l.Close(); err == nil {
		t.Error("a listener that was added after the end is open")
	}
}
