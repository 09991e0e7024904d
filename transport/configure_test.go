package transport

import (
	"net"
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
