package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/netx"
	"shirube/internal/wire"
)

func TestTCPAnswersInlineAndDeferred(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"} {
		s, at := startTCP(t, TCPOptions{Handler: newScripted()}, addr)
		c := dial(t, "tcp", at)
		wantRcode(t, askTCP(t, c, 1, "hit"), dns.RcodeSuccess)
		wantRcode(t, askTCP(t, c, 2, "miss"), dns.RcodeSuccess)
		write(t, c, frame(packQuery(t, 3, "drop"), packQuery(t, 4, "none")))
		wantRcode(t, askTCP(t, c, 5, "hit"), dns.RcodeSuccess) // 3 and 4 got nothing before it
		eventually(t, "all is counted", func() bool { return s.Stats().Dropped == 2 })
		st := s.Stats()
		if st.Received != 5 || st.Answered != 3 || st.Deferred != 2 || st.Accepted != 1 || st.Open != 1 {
			t.Errorf("%s: %+v", addr, st)
		}
		wantBalance(t, st.Counts, 0)
	}
}

func TestTCPFillsInTheQuery(t *testing.T) {
	h := seen{make(chan wire.Query, 1)}
	for opt, want := range map[wire.Proto]wire.Proto{0: wire.TCP, wire.TCP: wire.TCP, wire.DoT: wire.DoT} {
		_, at := startTCP(t, TCPOptions{Handler: h, Proto: opt}, "127.0.0.1:0")
		c := dial(t, "tcp", at)
		before := time.Now()
		write(t, c, frame(packQuery(t, 1, "hit")))
		q := <-h.queries
		if q.Client != c.LocalAddr().(*net.TCPAddr).AddrPort() || q.Proto != want || q.Limit != wire.MaxMsgSize {
			t.Errorf("client %s, %s, limit %d", q.Client, q.Proto, q.Limit)
		}
		if q.Received.Before(before) || q.Received.After(time.Now()) {
			t.Errorf("received at %s", q.Received)
		}
	}
}

func TestTCPFramingSplitAtEveryOctet(t *testing.T) {
	s, p := servePipes(t, TCPOptions{Handler: newScripted()})
	stream := frame(packQuery(t, 1, "hit"), packQuery(t, 2, "hit"))
	for split := 1; split < len(stream); split++ {
		c, _ := p.dial(t, "192.0.2.1:4000")
		go func() { // a write to a pipe lasts until it is read
			_, _ = c.Write(stream[:split])
			_, _ = c.Write(stream[split:])
		}()
		for id := uint16(1); id <= 2; id++ {
			if m := unpack(t, receiveTCP(t, c)); m.Id != id || m.Rcode != dns.RcodeSuccess {
				t.Fatalf("split at %d: %v", split, m)
			}
		}
		_ = c.Close()
	}
	if n := s.Stats().Answered; n != 2*uint64(len(stream)-1) {
		t.Errorf("%d answers", n)
	}
}

func TestTCPAnswersPipelinedHitsInOneWrite(t *testing.T) {
	_, p := servePipes(t, TCPOptions{Handler: newScripted()})
	c, writes := p.dial(t, "192.0.2.1:4000")
	const n = 10
	var all [][]byte
	for id := range uint16(n) {
		all = append(all, packQuery(t, id, "hit"))
	}
	write(t, c, frame(all...))
	for id := range uint16(n) {
		if m := unpack(t, receiveTCP(t, c)); m.Id != id {
			t.Errorf("ID %d, not %d", m.Id, id)
		}
	}
	if w := writes.Load(); w != 1 {
		t.Errorf("%d writes", w)
	}
}

// RFC 7766 §8.
func TestTCPWritesLengthAndMessageTogether(t *testing.T) {
	_, p := servePipes(t, TCPOptions{Handler: newScripted()})
	c, writes := p.dial(t, "192.0.2.1:4000")
	for i, label := range []string{"hit", "miss", "big", "bigmiss"} {
		askTCP(t, c, uint16(i), label)
		if w := writes.Load(); w != int64(i+1) {
			t.Errorf("%s: %d writes", label, w)
		}
	}
}

func TestTCPBoundsWhatIsWrittenTogether(t *testing.T) {
	_, p := servePipes(t, TCPOptions{Handler: newScripted()})
	c, writes := p.dial(t, "192.0.2.1:4000")
	q := packQuery(t, 1, "big")
	write(t, c, frame(q, q, q))
	for range 3 {
		if n := len(receiveTCP(t, c)); n != 60_000 {
			t.Fatalf("%d octets", n)
		}
	}
	if w := writes.Load(); w != 3 {
		t.Errorf("180,000 octets in %d writes", w)
	}
}

// RFC 7766 §7.
func TestTCPAnswersOvertakeEachOther(t *testing.T) {
	h := newScripted()
	_, at := startTCP(t, TCPOptions{Handler: h}, "127.0.0.1:0")
	c := dial(t, "tcp", at)
	write(t, c, frame(packQuery(t, 1, "slow"), packQuery(t, 2, "hit"), packQuery(t, 3, "miss")))
	got := map[uint16]bool{}
	for range 2 {
		got[unpack(t, receiveTCP(t, c)).Id] = true
	}
	if !got[2] || !got[3] {
		t.Errorf("before the slow one came %v", got)
	}
	close(h.release)
	if m := unpack(t, receiveTCP(t, c)); m.Id != 1 {
		t.Errorf("ID %d", m.Id)
	}
}

func TestTCPMaxInFlightStopsReading(t *testing.T) {
	h := newScripted()
	slots := NewSlots(100, 0)
	s, at := startTCP(t, TCPOptions{Handler: h, Slots: slots, MaxInFlight: 3}, "127.0.0.1:0")
	c := dial(t, "tcp", at)
	write(t, c, frame(packQuery(t, 99, "hit")))
	for id := range uint16(8) {
		write(t, c, frame(packQuery(t, id, "slow")))
	}
	write(t, c, frame(packQuery(t, 100, "hit")))
	h.waitBegan(t, 3)
	if m := unpack(t, receiveTCP(t, c)); m.Id != 99 { // what is ready does not wait for the stall
		t.Errorf("ID %d", m.Id)
	}
	eventually(t, "reading stalls", func() bool { return s.Stats().Stalled == 1 })
	time.Sleep(20 * time.Millisecond)
	if st := slots.Stats(); st.InUse != 3 || st.Peak != 3 {
		t.Errorf("%+v", st)
	}
	seenIDs := map[uint16]bool{}
	for range 8 {
		h.release <- struct{}{}
		seenIDs[unpack(t, receiveTCP(t, c)).Id] = true
		if len(seenIDs) < 5 && seenIDs[100] {
			t.Error("a query was read while too many were in flight")
		}
	}
	seenIDs[unpack(t, receiveTCP(t, c)).Id] = true
	if len(seenIDs) != 9 {
		t.Errorf("answered: %v", seenIDs)
	}
	if st := slots.Stats(); st.Peak != 3 {
		t.Errorf("%+v", st)
	}
}

func TestTCPLimitsConnections(t *testing.T) {
	s, at := startTCP(t, TCPOptions{Handler: newScripted(), MaxConns: 3}, "127.0.0.1:0")
	var open []net.Conn
	for range 3 {
		c := dial(t, "tcp", at)
		askTCP(t, c, 1, "hit")
		open = append(open, c)
	}
	wantClosed(t, dial(t, "tcp", at))
	wantClosed(t, dial(t, "tcp", at))
	if st := s.Stats(); st.Open != 3 || st.OverTotal != 2 || st.OverClient != 0 || st.Accepted != 3 {
		t.Errorf("%+v", st)
	}
	_ = open[0].Close()
	eventually(t, "there is room again", func() bool { return s.Stats().Open == 2 })
	askTCP(t, dial(t, "tcp", at), 1, "hit")
}

func TestTCPLimitsConnectionsPerClient(t *testing.T) {
	s, p := servePipes(t, TCPOptions{Handler: newScripted(), MaxConnsPerClient: 2})
	var last net.Conn
	for _, from := range []string{ // 192.0.2.1 and 2001:db8::/64 twice, others once
		"192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1", "[::ffff:192.0.2.3]:1",
		"[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8:0:1::1]:1",
	} {
		last, _ = p.dial(t, from)
		askTCP(t, last, 1, "hit")
	}
	for _, from := range []string{"192.0.2.1:3", "[2001:db8::ffff]:1"} {
		c, _ := p.dial(t, from)
		wantClosed(t, c)
	}
	if st := s.Stats(); st.OverClient != 2 || st.OverTotal != 0 || st.Open != 7 {
		t.Errorf("%+v", st)
	}
	_ = last.Close()
	eventually(t, "the client is forgotten", func() bool {
		s.conns.mu.Lock()
		defer s.conns.mu.Unlock()
		return len(s.conns.clients) == 4
	})
}

func TestTCPClosesOnWhatIsNoQuery(t *testing.T) {
	response := packQuery(t, 1, "hit")
	response[2] |= 0x80
	for name, stream := range map[string][]byte{
		"zero length":     {0, 0},
		"too short":       frame(make([]byte, 11)),
		"announced short": {0, 5},
		"a response":      frame(response),
		"a long response": append([]byte{0xFF, 0xFF, 0, 1, 0x80, 0}, make([]byte, 5000)...),
		"behind a query":  append(frame(packQuery(t, 2, "hit")), 0, 0),
	} {
		s, p := servePipes(t, TCPOptions{Handler: newScripted()})
		c, _ := p.dial(t, "192.0.2.1:4000")
		go func() { _, _ = c.Write(stream) }()
		if name == "behind a query" { // which is answered
			if m := unpack(t, receiveTCP(t, c)); m.Id != 2 {
				t.Errorf("%v", m)
			}
		}
		wantClosed(t, c)
		eventually(t, "it is counted", func() bool { st := s.Stats(); return st.Closed[ClosedNoQuery] == 1 && st.Open == 0 })
		if st := s.Stats(); st.Status[wire.Ignored] != 1 {
			t.Errorf("%s: %+v", name, st)
		}
	}
}

func TestTCPOversizedMessageIsMalformed(t *testing.T) {
	s, at := startTCP(t, TCPOptions{Handler: newScripted()}, "127.0.0.1:0")
	c := dial(t, "tcp", at)
	for _, size := range []int{maxQuery, maxQuery + 1, wire.MaxMsgSize} {
		write(t, c, frame(padded(t, uint16(size), size)))
		m := unpack(t, receiveTCP(t, c))
		want := dns.RcodeFormatError
		if size == maxQuery {
			want = dns.RcodeSuccess
		}
		wantRcode(t, m, want)
		if m.Id != uint16(size) {
			t.Errorf("ID %d", m.Id)
		}
	}
	write(t, c, frame(append(padded(t, 6, maxQuery), 0))) // its first 4096 octets are a good query
	wantRcode(t, unpack(t, receiveTCP(t, c)), dns.RcodeFormatError)
	wantRcode(t, askTCP(t, c, 1, "hit"), dns.RcodeSuccess)
	if n := s.Stats().Status[wire.Malformed]; n != 3 {
		t.Errorf("%d malformed", n)
	}
}

func TestTCPReplacesAnAnswerThatDoesNotFit(t *testing.T) {
	s, at := startTCP(t, TCPOptions{Handler: newScripted()}, "127.0.0.1:0")
	c := dial(t, "tcp", at)
	m := askTCP(t, c, 1, "over")
	wantRcode(t, m, dns.RcodeServerFailure)
	edeOf(t, m)
	wantRcode(t, askTCP(t, c, 2, "hit"), dns.RcodeSuccess)
	if n := s.Stats().Unfit; n != 1 {
		t.Errorf("%d unfit", n)
	}
}

func TestTCPAnswersAfterHalfClose(t *testing.T) {
	h := newScripted()
	s, at := startTCP(t, TCPOptions{Handler: h}, "127.0.0.1:0")
	c := dial(t, "tcp", at)
	write(t, c, frame(packQuery(t, 1, "slow"), packQuery(t, 2, "hit")))
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if m := unpack(t, receiveTCP(t, c)); m.Id != 2 {
		t.Errorf("ID %d", m.Id)
	}
	close(h.release)
	if m := unpack(t, receiveTCP(t, c)); m.Id != 1 {
		t.Errorf("ID %d", m.Id)
	}
	if b, err := io.ReadAll(c); len(b) != 0 || err != nil {
		t.Errorf("%d octets, %v", len(b), err)
	}
	eventually(t, "it is counted", func() bool { return s.Stats().Closed[ClosedByClient] == 1 })
}

func TestTCPCleansUpAfterHalfAFrame(t *testing.T) {
	s, at := startTCP(t, TCPOptions{Handler: newScripted()}, "127.0.0.1:0")
	stream := frame(packQuery(t, 1, "hit"))
	for n := 1; n < len(stream); n++ {
		c := dial(t, "tcp", at)
		write(t, c, stream[:n])
		_ = c.Close()
	}
	eventually(t, "all are counted", func() bool {
		st := s.Stats()
		return st.Closed[ClosedMidMessage] == uint64(len(stream)-1) && st.Open == 0
	})
}

func TestTCPResetCancelsQueriesInFlightAndDoesNotLog(t *testing.T) {
	var out lockedBuffer
	h := newScripted()
	slots := NewSlots(10, 0)
	s, at := startTCP(t, TCPOptions{
		Handler: h, Slots: slots, Timeout: time.Hour, Log: slog.New(slog.NewTextHandler(&out, nil)),
	}, "127.0.0.1:0")
	c := dial(t, "tcp", at)
	write(t, c, frame(packQuery(t, 1, "slow"), packQuery(t, 2, "slow")))
	h.waitBegan(t, 2)
	if err := c.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	_ = c.Close() // a reset
	eventually(t, "all is given back", func() bool {
		st := s.Stats()
		return st.Closed[ClosedReset] == 1 && st.Open == 0 && slots.Stats().InUse == 0
	})
	wantBalance(t, s.Stats().Counts, 0)
	if b := out.String(); b != "" {
		t.Errorf("logged: %s", b)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// dialNarrow connects to a server with a receive buffer that does not grow: the
// kernel would take more than 24 MB before a slow reader showed.
func dialNarrow(t *testing.T, to netip.AddrPort) net.Conn {
	t.Helper()
	c := dial(t, "tcp", to)
	if err := c.(*net.TCPConn).SetReadBuffer(16 << 10); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTCPCutsSlowReadersOnLoopback(t *testing.T) {
	for _, label := range []string{"big", "bigmiss"} {
		s, at := startTCP(t, TCPOptions{
			Handler: newScripted(), MessageTimeout: 200 * time.Millisecond, MaxInFlight: 400, IdleTimeout: time.Hour,
		}, "127.0.0.1:0")
		c := dialNarrow(t, at)
		q := frame(packQuery(t, 1, label))
		start := time.Now()
		// 24 MB of answers, which nobody reads; the send buffer takes 4 MB. At once, so
		// that no query is cut while this waits for a processor.
		_, _ = c.Write(bytes.Repeat(q, 400))
		eventually(t, label+" is cut", func() bool { st := s.Stats(); return st.Closed[ClosedSlowReader] == 1 && st.Open == 0 })
		if d := time.Since(start); d > patience/2 {
			t.Errorf("%s: cut after %s: the answers in flight have had a timeout each", label, d)
		}
	}
}

// A client that takes each answer just in time must not keep the others waiting,
// and their goroutines with them, for a timeout each.
func TestTCPAnswersThatWaitToBeWrittenKeepTheirDeadline(t *testing.T) {
	const n, timeout = 8, 400 * time.Millisecond
	s, p := servePipes(t, TCPOptions{Handler: newScripted(), MessageTimeout: timeout})
	c, _ := p.dial(t, "192.0.2.1:4000")
	q := packQuery(t, 1, "bigmiss")
	write(t, c, frame(q, q, q, q, q, q, q, q))
	got := 0
	b := make([]byte, prefixLen+60_000)
	for range n {
		time.Sleep(timeout * 3 / 4)
		if _, err := io.ReadFull(c, b); err != nil {
			break
		}
		got++
	}
	if got > 2 {
		t.Errorf("%d answers were written, one after the other", got)
	}
	eventually(t, "it is cut", func() bool { return s.Stats().Closed[ClosedSlowReader] == 1 && s.Stats().Open == 0 })
}

func TestTCPDrainsQueriesInFlight(t *testing.T) {
	h := newScripted()
	s, at := startTCP(t, TCPOptions{Handler: h}, "127.0.0.1:0")
	busy, idle, fresh := dial(t, "tcp", at), dial(t, "tcp", at), dial(t, "tcp", at)
	write(t, busy, frame(packQuery(t, 1, "slow")))
	askTCP(t, idle, 2, "hit")
	h.waitBegan(t, 1)
	eventually(t, "all are connected", func() bool { return s.Stats().Open == 3 })
	done := make(chan error)
	go func() { done <- s.Shutdown(t.Context()) }()
	wantClosed(t, idle)
	wantClosed(t, fresh)
	if c, err := net.DialTimeout("tcp", at.String(), patience); err == nil {
		_ = c.Close()
		t.Error("accepts while it shuts down")
	}
	select {
	case err := <-done:
		t.Fatalf("shut down with a query in flight: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(h.release)
	if m := unpack(t, receiveTCP(t, busy)); m.Id != 1 || m.Rcode != dns.RcodeSuccess {
		t.Errorf("%v", m)
	}
	wantClosed(t, busy)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Errorf("again: %v", err)
	}
	if st := s.Stats(); st.Closed[ClosedShutdown] != 3 || st.Open != 0 {
		t.Errorf("%+v", st)
	}
}

func TestTCPShutdownAbandonsWhenItsContextEnds(t *testing.T) {
	h := newScripted()
	s, at := startTCP(t, TCPOptions{Handler: h, MaxInFlight: 1}, "127.0.0.1:0")
	waits, stalled, stuck := dial(t, "tcp", at), dial(t, "tcp", at), dialNarrow(t, at)
	slow := packQuery(t, 1, "slow")
	write(t, waits, frame(slow))
	write(t, stalled, frame(slow, slow)) // one in flight, one waiting for it
	for range 400 {
		write(t, stuck, frame(packQuery(t, 1, "big"))) // a write that blocks
	}
	h.waitBegan(t, 2)
	eventually(t, "one stalls", func() bool { return s.Stats().Stalled == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if d := time.Since(start); d > patience/2 {
		t.Errorf("after %s: it has waited for a client to read", d)
	}
	st := s.Stats()
	if st.Open != 0 || st.Accepted != 3 {
		t.Errorf("%+v", st)
	}
	wantBalance(t, st.Counts, 0)
}

func TestTCPShutdownWithoutStartClosesListeners(t *testing.T) {
	l, err := netx.ListenTCP(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	s := NewTCP(unhurried(TCPOptions{Handler: newScripted()}), l)
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener was left open: %v", err)
	}
	s.Start(t.Context()) // too late: nothing happens
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// openFiles returns the number of this process's descriptors.
func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil && runtime.GOOS == "linux" {
		t.Fatal(err)
	}
	return len(entries)
}

func TestTCPLeaksNothing(t *testing.T) {
	files, goroutines := openFiles(t), runtime.NumGoroutine()
	h := newScripted()
	l, err := netx.ListenTCP(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	s := NewTCP(unhurried(TCPOptions{Handler: h}), l)
	s.Start(t.Context())
	settled := func(f, g int) func() bool {
		return func() bool { return openFiles(t) <= f && runtime.NumGoroutine() <= g }
	}
	query := frame(packQuery(t, 1, "hit"), packQuery(t, 2, "miss"))
	ends := []func(c *net.TCPConn){
		func(*net.TCPConn) {}, // connects and goes
		func(c *net.TCPConn) { _, _ = c.Write(query[:7]) },
		func(c *net.TCPConn) { _, _ = c.Write([]byte{0, 0}); wantClosed(t, c) },
		func(c *net.TCPConn) { _, _ = c.Write(query); _ = c.SetLinger(0) },
		func(c *net.TCPConn) { _, _ = c.Write(query); receiveTCP(t, c); receiveTCP(t, c) },
		func(c *net.TCPConn) { _, _ = c.Write(frame(packQuery(t, 3, "slow"))) },
	}
	for i := range 1000 {
		c, err := net.DialTimeout("tcp", l.Addr().String(), patience)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		ends[i%len(ends)](c.(*net.TCPConn))
		_ = c.Close()
	}
	close(h.release)
	eventually(t, "all connections have ended", func() bool { st := s.Stats(); return st.Open == 0 && st.Accepted == 1000 })
	eventually(t, "only the listener is left", settled(files+2, goroutines+1)) // the runtime's poller may be new
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	eventually(t, "nothing is left", settled(files+1, goroutines))
}

// A length of 0xFFFF with nothing behind it must not cost 64 KiB.
func TestTCPConnectionsAreSmall(t *testing.T) {
	const n = 300
	s, at := startTCP(t, TCPOptions{Handler: newScripted(), MaxConnsPerClient: n}, "127.0.0.1:0")
	heap := func() uint64 {
		runtime.GC()
		runtime.GC() // what pools hold goes the second time
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	conns := make([]net.Conn, n)
	for i := range conns {
		conns[i] = dial(t, "tcp", at)
		askTCP(t, conns[i], 1, "big") // a connection that has done work, and is idle
		write(t, conns[i], []byte{0xFF, 0xFF})
	}
	eventually(t, "all are connected", func() bool { return s.Stats().Open == n })
	each := (int64(heap()) - int64(before)) / n
	if each > 8<<10 { // both ends together
		t.Errorf("%d octets of heap for each connection", each)
	}
	runtime.KeepAlive(conns)
}

func TestTCPKeepsNoBuffersOfLongAnswers(t *testing.T) {
	s, at := startTCP(t, TCPOptions{Handler: newScripted()}, "127.0.0.1:0")
	c := dial(t, "tcp", at)
	for i := range uint16(20) {
		askTCP(t, c, i, "big")
	}
	for range 20 {
		if n := cap(*s.buffers.Get().(*[]byte)); n != bufferSize {
			t.Fatalf("a buffer of %d octets was kept", n)
		}
	}
}

func TestTCPManyClientsAtOnce(t *testing.T) {
	h := newScripted()
	slots := NewSlots(1000, 0)
	s, at := startTCP(t, TCPOptions{Handler: h, Slots: slots}, "127.0.0.1:0")
	var wg sync.WaitGroup
	errs := make(chan error, 16)
	for range 16 {
		c := dial(t, "tcp", at)
		var stream []byte
		for id := range uint16(60) {
			stream = append(stream, frame(packQuery(t, id, []string{"hit", "miss", "big"}[id%3]))...)
		}
		wg.Go(func() {
			go func() { _, _ = c.Write(stream) }()
			ids := map[uint16]bool{}
			var buf [wire.MaxMsgSize]byte
			for range 60 {
				if _, err := io.ReadFull(c, buf[:2]); err != nil {
					errs <- err
					return
				}
				size := int(buf[0])<<8 | int(buf[1])
				if _, err := io.ReadFull(c, buf[:size]); err != nil {
					errs <- err
					return
				}
				ids[uint16(buf[0])<<8|uint16(buf[1])] = true
			}
			if len(ids) != 60 {
				errs <- fmt.Errorf("%d different answers of 60", len(ids))
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	if st := s.Stats(); st.Answered != 16*60 {
		t.Errorf("%+v", st)
	}
}
