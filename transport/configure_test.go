package transport

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"
	"golang.org/x/net/http2"

	"shirube/internal/wire"
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
	opt.IdleTimeout = 50 * time.Millisecond
	s.Configure(opt)
	idle := dial(t, "tcp", at)
	write(t, idle, frame(packQuery(t, 1, "hit")))
	if m := unpack(t, receiveTCP(t, idle)); m.Rcode != dns.RcodeSuccess {
		t.Errorf("%v", m)
	}
	wantClosed(t, idle)
	opt.FirstByteTimeout = 50 * time.Millisecond // not before: a busy machine does not ask in that time
	s.Configure(opt)
	wantClosed(t, dial(t, "tcp", at))
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

// TestDoHTakesNewBounds has each version of HTTP go by the idle time of when the
// connection came, and one that was there before go on.
func TestDoHTakesNewBounds(t *testing.T) {
	t.Parallel()
	opt := DoHOptions{Handler: newScripted(), IdleTimeout: time.Minute}
	d, at, _ := startDoH(t, opt)
	before := dialH2(t, at)
	answered := func(c *h2) {
		t.Helper()
		stream, err := c.ask(t, "hit")
		if err != nil {
			t.Fatal(err)
		}
		if fields, _ := c.response(t, stream); fields[":status"] != "200" {
			t.Errorf("%v", fields)
		}
	}
	answered(before)
	opt.IdleTimeout, opt.MaxStreams = time.Second, 7 // in which a busy machine asks, too
	d.Configure(opt)
	two := dialH2(t, at)
	f, err := two.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := f.(*http2.SettingsFrame).Value(http2.SettingMaxConcurrentStreams); n != 7 {
		t.Errorf("%d streams, not 7", n)
	}
	answered(two)
	if _, code := two.drain(t); code != http2.ErrCodeNo {
		t.Errorf("closed with %v", code)
	}
	one := dialTLS(t, at, "http/1.1")
	write(t, one, []byte("GET / HTTP/1.1\r\nHost: dns.example\r\n\r\n"))
	if raw, err := io.ReadAll(one); err != nil || !bytes.HasPrefix(raw, []byte("HTTP/1.1 404 ")) {
		t.Errorf("%q, %v", raw, err)
	}
	answered(before)
	// Servers of former limits are not kept without connections.
	_ = before.Close()
	eventually(t, "all connections are closed", func() bool { return d.opt.Conns.Stats().Open == 0 })
	eventually(t, "one server is left", func() bool {
		opt.MaxStreams++
		d.Configure(opt)
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.servers) == 1
	})
}

// TestDoHIsConfiguredWhileItIsAsked loses no connection on the way from one server
// to the next.
func TestDoHIsConfiguredWhileItIsAsked(t *testing.T) {
	opt := DoHOptions{Handler: newScripted()}
	d, at, plain := startDoH(t, opt)
	stop := make(chan struct{})
	var changing sync.WaitGroup
	changing.Go(func() {
		for i := 1; ; i++ {
			select {
			case <-stop:
				return
			default:
				own := opt
				own.MaxStreams = i%50 + 10
				d.Configure(own)
			}
		}
	})
	for range 20 {
		for _, way := range webWays {
			c := way.client(t)
			wantRcode(t, askWeb(t, c, way.url(at, plain), "hit"), dns.RcodeSuccess)
			c.CloseIdleConnections()
		}
	}
	close(stop)
	changing.Wait()
}

func TestQUICTakesNewBounds(t *testing.T) {
	t.Parallel()
	h := newScripted()
	opt := QUICOptions{Handler: h, MaxStreams: 2, StreamTime: time.Minute, IdleTimeout: time.Minute}
	d, at := startDoQ(t, opt)
	streams := func(c *quic.Conn) (n int) {
		for ; ; n++ {
			str, err := c.OpenStream()
			if err != nil {
				return n
			}
			if _, err := str.Write([]byte{0}); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := mustDialQUIC(t, at)
	waits := sendDoQ(t, before, frame(packQuery(t, 0, "slow")))
	h.waitBegan(t, 1)
	if n := streams(before); n != 1 {
		t.Errorf("%d streams, not 2", n+1)
	}
	opt.MaxStreams, opt.StreamTime = 5, time.Second // in which a busy machine opens them all
	d.Configure(opt)
	if n := streams(mustDialQUIC(t, at)); n != 5 {
		t.Errorf("%d streams, not 5", n)
	}
	eventually(t, "those streams are cut off", func() bool { return d.Stats().TooSlow >= 5 })
	opt.IdleTimeout = time.Second // in which it asks, too
	d.Configure(opt)
	idle := mustDialQUIC(t, at)
	askDoQ(t, idle, "hit")
	select {
	case <-idle.Context().Done():
	case <-time.After(patience):
		t.Error("the idle connection is open")
	}
	close(h.release)
	if raw, err := receiveDoQ(waits); err != nil || wire.RcodeOf(raw) != wire.NoError {
		t.Errorf("the connection that was there before: %x, %v", raw, err)
	}
}
