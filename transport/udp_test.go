package transport

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/netx"
	"shirube/internal/wire"
)

func TestUDPAnswersInlineAndDeferred(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		u, at := startUDP(t, UDPOptions{Handler: newScripted()}, addr)
		c := dial(t, "udp", at)
		wantRcode(t, askUDP(t, c, 1, "hit"), dns.RcodeSuccess)
		wantRcode(t, askUDP(t, c, 2, "miss"), dns.RcodeSuccess)
		write(t, c, packQuery(t, 3, "drop"))
		write(t, c, packQuery(t, 4, "none"))
		wantRcode(t, askUDP(t, c, 5, "hit"), dns.RcodeSuccess) // 3 and 4 got nothing before it
		eventually(t, "all is counted", func() bool { return u.Stats().Dropped == 2 })
		s := u.Stats()
		if s.Received != 5 || s.Answered != 3 || s.Deferred != 2 || s.Status[wire.OK] != 5 {
			t.Errorf("%s: %+v", addr, s)
		}
		wantBalance(t, s.Counts, s.Late)
	}
}

// seen is a Handler that tells what it was given.
type seen struct{ queries chan wire.Query }

func (h seen) TryServe(buf []byte, q *wire.Query) ([]byte, Outcome) {
	h.queries <- *q
	return buf, Dropped
}

func (h seen) Serve(context.Context, []byte, *wire.Query) []byte { return nil }

func (h seen) Shed([]byte, *wire.Query, string) []byte { return nil }

func (h seen) Reject(netip.AddrPort, wire.Rcode) (wire.Rcode, bool) { return 0, false }

func TestUDPFillsInTheQuery(t *testing.T) {
	h := seen{make(chan wire.Query, 1)}
	_, at := startUDP(t, UDPOptions{Handler: h, MaxSize: 1400}, "127.0.0.1:0")
	c := dial(t, "udp", at)
	tests := []struct{ size, limit int }{{0, 512}, {100, 512}, {1300, 1300}, {4096, 1400}}
	for _, tt := range tests {
		m := new(dns.Msg)
		m.SetQuestion("example.org.", dns.TypeA)
		if tt.size > 0 {
			m.SetEdns0(uint16(tt.size), false)
		}
		before := time.Now()
		write(t, c, pack(t, m))
		q := <-h.queries
		if q.Client != c.LocalAddr().(*net.UDPAddr).AddrPort() || q.Proto != wire.UDP || q.Limit != tt.limit {
			t.Errorf("size %d: client %s, %s, limit %d", tt.size, q.Client, q.Proto, q.Limit)
		}
		if q.Received.Before(before) || q.Received.After(time.Now()) {
			t.Errorf("received at %s", q.Received)
		}
	}
}

func TestUDPShedsWithoutASlot(t *testing.T) {
	h := newScripted()
	slots := NewSlots(2, 0)
	u, at := startUDP(t, UDPOptions{Handler: h, Slots: slots}, "127.0.0.1:0")
	c := dial(t, "udp", at)
	write(t, c, packQuery(t, 1, "slow"))
	write(t, c, packQuery(t, 2, "slow"))
	h.waitBegan(t, 2)
	m := askUDP(t, c, 3, "slow")
	wantRcode(t, m, dns.RcodeServerFailure)
	if text := edeOf(t, m); text != busyText {
		t.Errorf("EXTRA-TEXT %q", text)
	}
	wantRcode(t, askUDP(t, c, 4, "hit"), dns.RcodeSuccess) // what needs no slot is still answered
	plain := new(dns.Msg)
	plain.SetQuestion("slow.example.org.", dns.TypeA)
	write(t, c, pack(t, plain))
	if m := unpack(t, receiveUDP(t, c)); m.Rcode != dns.RcodeServerFailure || m.IsEdns0() != nil { // RFC 6891 §7
		t.Errorf("without EDNS: %v", m)
	}
	if s := slots.Stats(); s.InUse != 2 || s.Peak != 2 || s.Shed != 2 {
		t.Errorf("%+v", s)
	}
	close(h.release)
	for range 2 {
		wantRcode(t, unpack(t, receiveUDP(t, c)), dns.RcodeSuccess)
	}
	eventually(t, "all slots are free", func() bool { return slots.Stats().InUse == 0 })
	s := u.Stats()
	if s.Shed != 2 || s.Deferred != 2 {
		t.Errorf("%+v", s)
	}
	wantBalance(t, s.Counts, s.Late)
}

// stumbling is a Handler that panics on what it is not to serve.
type stumbling struct{ *scripted }

func (stumbling) Reject(netip.AddrPort, wire.Rcode) (wire.Rcode, bool) { panic("in Reject") }

func TestPanicWhileTurningAwayCostsOneMessage(t *testing.T) {
	h := stumbling{newScripted()}
	u, at := startUDP(t, UDPOptions{Handler: h, Slots: NewSlots(1, 0)}, "127.0.0.1:0")
	c := dial(t, "udp", at)
	write(t, c, packQuery(t, 1, "slow"))
	h.waitBegan(t, 1)
	defer close(h.release)
	m := askUDP(t, c, 2, "fall")
	wantRcode(t, m, dns.RcodeServerFailure)
	if text := edeOf(t, m); text != faultText {
		t.Errorf("EXTRA-TEXT %q", text)
	}
	malformed := packQuery(t, 3, "hit")
	malformed[5] = 2
	write(t, c, malformed)
	wantRcode(t, askUDP(t, c, 4, "hit"), dns.RcodeSuccess) // and nothing came before it
	if n := u.Stats().Panics; n != 2 {
		t.Errorf("%d panics counted, want 2", n)
	}
}

func TestSlotsAreSharedByTransports(t *testing.T) {
	h := newScripted()
	slots := NewSlots(1, 0)
	_, udpAt := startUDP(t, UDPOptions{Handler: h, Slots: slots}, "127.0.0.1:0")
	tcp, tcpAt := startTCP(t, TCPOptions{Handler: h, Slots: slots}, "127.0.0.1:0")
	write(t, dial(t, "udp", udpAt), packQuery(t, 1, "slow"))
	h.waitBegan(t, 1)
	c := dial(t, "tcp", tcpAt)
	m := askTCP(t, c, 2, "slow")
	wantRcode(t, m, dns.RcodeServerFailure)
	if text := edeOf(t, m); text != busyText {
		t.Errorf("EXTRA-TEXT %q", text)
	}
	close(h.release)
	eventually(t, "the slot is free", func() bool { return slots.Stats().InUse == 0 })
	wantRcode(t, askTCP(t, c, 3, "slow"), dns.RcodeSuccess)
	s := tcp.Stats()
	if s.Shed != 1 || s.Deferred != 1 {
		t.Errorf("%+v", s)
	}
	wantBalance(t, s.Counts, 0)
}

// DNSBomb (CVE-2024-33655).
func TestUDPDiscardsLateAnswers(t *testing.T) {
	h := newScripted()
	u, at := startUDP(t, UDPOptions{Handler: h, DiscardTimeout: 50 * time.Millisecond}, "127.0.0.1:0")
	c := dial(t, "udp", at)
	write(t, c, packQuery(t, 1, "slow"))
	h.waitBegan(t, 1)
	time.Sleep(60 * time.Millisecond)
	close(h.release)
	eventually(t, "the answer is discarded", func() bool { return u.Stats().Late == 1 })
	wantRcode(t, askUDP(t, c, 2, "hit"), dns.RcodeSuccess) // and nothing came before it
	s := u.Stats()
	if s.Answered != 1 {
		t.Errorf("%+v", s)
	}
	wantBalance(t, s.Counts, s.Late)
}

func TestUDPEndsDeferredQueriesAtTheirDeadline(t *testing.T) {
	h := newScripted() // nobody releases
	slots := NewSlots(1, 0)
	u, at := startUDP(t, UDPOptions{Handler: h, Slots: slots, Timeout: 30 * time.Millisecond}, "127.0.0.1:0")
	write(t, dial(t, "udp", at), packQuery(t, 1, "slow"))
	eventually(t, "the query is given up", func() bool { return u.Stats().Dropped == 1 && slots.Stats().InUse == 0 })
}

func TestPanicCostsOneQuery(t *testing.T) {
	var mu sync.Mutex
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(writerFunc(func(b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return out.Write(b)
	}), nil))
	h := newScripted()
	slots := NewSlots(4, 0)
	u, at := startUDP(t, UDPOptions{Handler: h, Slots: slots, Log: log}, "127.0.0.1:0")
	tcp, tcpAt := startTCP(t, TCPOptions{Handler: h, Slots: slots, Log: log}, "127.0.0.1:0")
	c, tc := dial(t, "udp", at), dial(t, "tcp", tcpAt)
	for i := range uint16(20) {
		for _, label := range []string{"panic", "crash"} {
			for _, m := range []*dns.Msg{askUDP(t, c, i, label), askTCP(t, tc, i, label)} {
				wantRcode(t, m, dns.RcodeServerFailure)
				if text := edeOf(t, m); text != faultText {
					t.Errorf("EXTRA-TEXT %q", text)
				}
			}
		}
	}
	wantRcode(t, askUDP(t, c, 99, "hit"), dns.RcodeSuccess)
	wantRcode(t, askTCP(t, tc, 99, "hit"), dns.RcodeSuccess)
	eventually(t, "all slots are free", func() bool { return slots.Stats().InUse == 0 })
	us, ts := u.Stats(), tcp.Stats()
	if us.Panics != 40 || ts.Panics != 40 {
		t.Errorf("%d and %d panics counted", us.Panics, ts.Panics)
	}
	wantBalance(t, us.Counts, us.Late)
	wantBalance(t, ts.Counts, 0)
	mu.Lock()
	defer mu.Unlock()
	if n := strings.Count(out.String(), "level=ERROR"); n == 0 || n > 10 {
		t.Errorf("%d records of 80 panics", n)
	}
	if !strings.Contains(out.String(), "panic.example.org.") {
		t.Errorf("the log does not say which question:\n%s", out.String())
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestUDPNeverSendsMoreThanTheLimit(t *testing.T) {
	u, at := startUDP(t, UDPOptions{Handler: newScripted(), MaxSize: 1400}, "127.0.0.1:0")
	c := dial(t, "udp", at)
	write(t, c, packQuery(t, 1, "big"))
	if n := len(receiveUDP(t, c)); n != 1400 {
		t.Errorf("%d octets", n)
	}
	m := askUDP(t, c, 2, "over")
	wantRcode(t, m, dns.RcodeServerFailure)
	if text := edeOf(t, m); text != faultText {
		t.Errorf("EXTRA-TEXT %q", text)
	}
	if n := u.Stats().Unfit; n != 1 {
		t.Errorf("%d unfit", n)
	}
}

func TestUDPOversizedDatagramIsMalformed(t *testing.T) {
	u, at := startUDP(t, UDPOptions{Handler: newScripted()}, "127.0.0.1:0")
	c := dial(t, "udp", at)
	good := packQuery(t, 7, "hit")
	write(t, c, append(good, make([]byte, maxQuery+1-len(good))...)) // one octet too many
	m := unpack(t, receiveUDP(t, c))
	wantRcode(t, m, dns.RcodeFormatError)
	if m.Id != 7 || len(m.Question) != 0 {
		t.Errorf("%v", m)
	}
	write(t, c, padded(t, 8, maxQuery)) // as long as can be
	wantRcode(t, unpack(t, receiveUDP(t, c)), dns.RcodeSuccess)
	write(t, c, append(padded(t, 6, maxQuery), 0)) // its first 4096 octets are a good query
	wantRcode(t, unpack(t, receiveUDP(t, c)), dns.RcodeFormatError)
	write(t, c, padded(t, 9, maxQuery+1)) // its first 4096 octets parse no further than its option
	wantRcode(t, unpack(t, receiveUDP(t, c)), dns.RcodeFormatError)
	response := make([]byte, 5000)
	response[2] = 0x80
	write(t, c, response)
	wantRcode(t, askUDP(t, c, 10, "hit"), dns.RcodeSuccess)
	s := u.Stats()
	if s.Status[wire.Malformed] != 3 || s.Status[wire.Ignored] != 1 {
		t.Errorf("%+v", s.Status)
	}
}

// padded returns a well-formed query of size octets.
func padded(t *testing.T, id uint16, size int) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion("hit.example.org.", dns.TypeA)
	m.Id = id
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT, Class: 1232}}
	opt.Option = []dns.EDNS0{&dns.EDNS0_PADDING{}}
	m.Extra = []dns.RR{opt}
	opt.Option[0] = &dns.EDNS0_PADDING{Padding: make([]byte, size-len(pack(t, m)))}
	raw := pack(t, m)
	if len(raw) != size {
		t.Fatalf("%d octets, not %d", len(raw), size)
	}
	return raw
}

func TestBadSourcesAreRecognised(t *testing.T) {
	for s, bad := range map[string]bool{
		"192.0.2.1:53":       false,
		"192.0.2.1:1":        false,
		"[2001:db8::1]:4000": false,
		"[fe80::1%lo]:4000":  false,
		"192.0.2.1:0":        true,
		"0.0.0.0:53":         true,
		"[::]:53":            true,
		"224.0.0.251:5353":   true,
		"255.255.255.255:53": true,
		"[ff02::fb]:5353":    true,
	} {
		if badSource(netip.MustParseAddrPort(s)) != bad {
			t.Errorf("%s is bad: %v", s, !bad)
		}
	}
}

func TestUDPWildcardRepliesFromTheAddressThatWasAsked(t *testing.T) {
	tests := []struct{ listen, ask string }{
		{"0.0.0.0:0", "127.0.0.1"},
		{"0.0.0.0:0", "127.0.0.2"},
		{"[::]:0", "::1"},
	}
	for _, tt := range tests {
		_, at := startUDP(t, UDPOptions{Handler: newScripted()}, tt.listen)
		c := dial(t, "udp", netip.AddrPortFrom(netip.MustParseAddr(tt.ask), at.Port())) // connected: hears nobody else
		for i, label := range []string{"hit", "miss", "panic"} {
			askUDP(t, c, uint16(i), label)
		}
		bad := packQuery(t, 4, "hit")
		bad[2] |= 0x10 // opcode
		write(t, c, bad)
		wantRcode(t, unpack(t, receiveUDP(t, c)), dns.RcodeNotImplemented)
	}
}

func TestUDPIgnoresBroadcasts(t *testing.T) {
	u, at := startUDP(t, UDPOptions{Handler: newScripted()}, "0.0.0.0:0")
	c := dial(t, "udp", netip.AddrPortFrom(netip.MustParseAddr("127.255.255.255"), at.Port()))
	write(t, c, packQuery(t, 1, "hit"))
	eventually(t, "it is counted", func() bool { return u.Stats().BadSource == 1 })
	if s := u.Stats(); s.Answered != 0 || s.Received != 1 {
		t.Errorf("%+v", s)
	}
}

func TestUDPSurvivesSendErrors(t *testing.T) {
	u, at := startUDP(t, UDPOptions{Handler: hugeAnswers{newScripted()}, MaxSize: wire.MaxMsgSize}, "127.0.0.1:0")
	c := dial(t, "udp", at)
	for i := range uint16(40) {
		write(t, c, packQuery(t, i, "huge"))
	}
	eventually(t, "all are counted", func() bool { return u.Stats().SendErrors[SendTooBig] == 40 })
	askUDP(t, c, 1, "hit")
}

// A read deadline that has passed is an error that every read gives at once.
func TestUDPReaderDoesNotSpinOnErrors(t *testing.T) {
	u, at := startUDP(t, UDPOptions{Handler: newScripted()}, "127.0.0.1:0")
	c := dial(t, "udp", at)
	conn := u.readers[0].conn
	start := time.Now()
	if err := conn.SetReadDeadline(longAgo); err != nil {
		t.Fatal(err)
	}
	eventually(t, "errors are counted", func() bool { return u.Stats().ReadErrors > 20 })
	time.Sleep(100 * time.Millisecond)
	if n, d := u.Stats().ReadErrors, time.Since(start); n > 16+uint64(d/time.Millisecond) {
		t.Errorf("%d errors in %s", n, d)
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	askUDP(t, c, 1, "hit")
}

// hugeAnswers answers "huge" with 65,535 octets, which no datagram can carry.
type hugeAnswers struct{ *scripted }

func (h hugeAnswers) TryServe(buf []byte, q *wire.Query) ([]byte, Outcome) {
	if string(firstLabel(q)) == "huge" {
		return appendBig(buf, q, q.Limit), Answered
	}
	return h.scripted.TryServe(buf, q)
}

func TestUDPDrainsQueriesInFlight(t *testing.T) {
	h := newScripted()
	u, at := startUDP(t, UDPOptions{Handler: h}, "127.0.0.1:0")
	c := dial(t, "udp", at)
	write(t, c, packQuery(t, 1, "slow"))
	h.waitBegan(t, 1)
	done := make(chan error)
	go func() { done <- u.Shutdown(t.Context()) }()
	eventually(t, "reading stops", func() bool { return isClosed(u.readers[0].stop) })
	select {
	case err := <-done:
		t.Fatalf("shut down with a query in flight: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(h.release)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if m := unpack(t, receiveUDP(t, c)); m.Id != 1 || m.Rcode != dns.RcodeSuccess {
		t.Errorf("%v", m)
	}
	if err := u.Shutdown(t.Context()); err != nil {
		t.Errorf("again: %v", err)
	}
}

func TestUDPShutdownAbandonsWhenItsContextEnds(t *testing.T) {
	h := newScripted()
	u, at := startUDP(t, UDPOptions{Handler: h}, "127.0.0.1:0")
	write(t, dial(t, "udp", at), packQuery(t, 1, "slow"))
	h.waitBegan(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := u.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if s := u.Stats(); s.Dropped != 1 {
		t.Errorf("%+v", s)
	}
}

func TestUDPSecondShutdownHurriesTheFirst(t *testing.T) {
	h := newScripted()
	u, at := startUDP(t, UDPOptions{Handler: h}, "127.0.0.1:0")
	write(t, dial(t, "udp", at), packQuery(t, 1, "slow"))
	h.waitBegan(t, 1)
	first := make(chan error)
	go func() { first <- u.Shutdown(t.Context()) }()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := u.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("second: %v", err)
	}
	if err := <-first; err != nil {
		t.Errorf("first: %v", err)
	}
}

func TestUDPShutdownWithoutStartClosesSockets(t *testing.T) {
	conns, err := netx.ListenUDP(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), 2)
	if err != nil {
		t.Fatal(err)
	}
	u := NewUDP(UDPOptions{Handler: newScripted()}, conns...)
	if err := u.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	for _, c := range conns {
		if err := c.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a socket was left open: %v", err)
		}
	}
	u.Start(t.Context()) // too late: nothing happens
	if err := u.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestUDPServesFromEverySocket(t *testing.T) {
	conns, err := netx.ListenUDP(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), 3)
	if err != nil {
		t.Fatal(err)
	}
	u := NewUDP(UDPOptions{Handler: newScripted()}, conns...)
	u.Start(context.Background())
	shutDown(t, u)
	at := conns[0].LocalAddr().(*net.UDPAddr).AddrPort()
	const clients = 100
	for i := range uint16(clients) {
		askUDP(t, dial(t, "udp", at), i, "hit")
	}
	for i, r := range u.readers {
		if r.n.answered.Load() == 0 {
			t.Errorf("reader %d answered none of %d clients", i, clients)
		}
	}
	if s := u.Stats(); s.Answered != clients {
		t.Errorf("%+v", s)
	}
}
