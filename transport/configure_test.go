package transport

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestUDPTakesNewSizesAndTimeouts(t *testing.T) {
	h := newScripted()
	opt := UDPOptions{Handler: h, DiscardTimeout: time.Minute}
	u, at := startUDP(t, opt, "127.0.0.1:0")
	c := dial(t, "udp", at)
	for _, size := range []int{512, 4096, 1232} {
		opt.MaxSize = size
		u.Configure(opt)
		write(t, c, packQuery(t, 1, "big"))
		if got := len(receiveUDP(t, c)); got > size || got < size-100 {
			t.Errorf("an answer of %d octets, of %d that are allowed", got, size)
		}
	}
	close(h.release)
	opt.DiscardTimeout = time.Nanosecond
	u.Configure(opt)
	write(t, c, packQuery(t, 2, "slow"))
	eventually(t, "the answer is late", func() bool { return u.Stats().Late == 1 })
}

func TestTCPTakesNewTimeouts(t *testing.T) {
	opt := TCPOptions{Handler: newScripted(), IdleTimeout: time.Minute, FirstByteTimeout: time.Minute}
	s, at := startTCP(t, opt, "127.0.0.1:0")
	opt.FirstByteTimeout, opt.IdleTimeout = 50*time.Millisecond, 50*time.Millisecond
	s.Configure(opt)
	silent, idle := dial(t, "tcp", at), dial(t, "tcp", at)
	write(t, idle, frame(packQuery(t, 1, "hit")))
	if m := unpack(t, receiveTCP(t, idle)); m.Rcode != dns.RcodeSuccess {
		t.Errorf("%v", m)
	}
	for _, c := range []net.Conn{silent, idle} {
		wantClosed(t, c)
	}
	if s := s.Stats().Closed; s[ClosedFirstByte] != 1 || s[ClosedIdle] != 1 {
		t.Errorf("closed %v", s)
	}
}

func TestSlotsBecomeMoreAndFewer(t *testing.T) {
	s := NewSlots(1, 1)
	if !s.take(1) || s.take(2) {
		t.Error("not one slot")
	}
	s.Resize(3, 2)
	if !s.take(1) || s.take(1) || !s.take(2) || s.take(3) {
		t.Error("not three, two for a network")
	}
	s.Resize(1, 1)
	s.give(1)
	if s.take(3) {
		t.Error("two are taken, of one")
	}
	s.give(1)
	s.give(2)
	if !s.take(3) {
		t.Error("none is taken, of one")
	}
	if got := s.Stats(); got.Limit != 1 || got.PerNetwork != 1 || got.InUse != 1 {
		t.Errorf("%+v", got)
	}
}

func TestTCPTakesNewBounds(t *testing.T) {
	opt := TCPOptions{Handler: newScripted(), MaxConns: 1, MaxConnsPerClient: 1}
	s, at := startTCP(t, opt, "127.0.0.1:0")
	answered := func(c net.Conn) {
		t.Helper()
		write(t, c, frame(packQuery(t, 1, "hit")))
		receiveTCP(t, c)
	}
	first := dial(t, "tcp", at)
	answered(first)
	wantClosed(t, dial(t, "tcp", at))
	opt.MaxConns, opt.MaxConnsPerClient = 3, 2
	s.Configure(opt)
	answered(dial(t, "tcp", at))
	wantClosed(t, dial(t, "tcp", at))
	opt.MaxConns, opt.MaxConnsPerClient = 1, 1
	s.Configure(opt)
	answered(first) // it is one too many, but was there before
	wantClosed(t, dial(t, "tcp", at))
	if s := s.Stats(); s.OverTotal != 2 || s.OverClient != 1 || s.Open != 2 {
		t.Errorf("%+v", s)
	}
}

func TestConnsTakeNewBounds(t *testing.T) {
	here, there := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	c := NewConns(ConnsOptions{Total: 1, PerClient: 1, Handshakes: -1})
	if !c.enter(here, true) || c.enter(there, true) {
		t.Error("not one connection")
	}
	c.Configure(ConnsOptions{Total: 3, PerClient: 1, Handshakes: -1})
	if !c.enter(there, true) || c.enter(here, true) {
		t.Error("not one for each client")
	}
	c.Configure(ConnsOptions{Total: 10, PerClient: 10, Handshakes: 1})
	for range handshakeBurst + 1 { // the first are paid for a little by the last
		if !c.enter(here, true) {
			t.Error("a handshake is one too many")
		}
	}
	if c.enter(here, true) {
		t.Error("handshakes are as many as the client likes")
	}
	if s := c.Stats(); s.OverTotal != 1 || s.OverClient != 1 || s.OverRate != 1 || s.Open != 3+handshakeBurst {
		t.Errorf("%+v", s)
	}
}
