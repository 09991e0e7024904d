package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"shirube/internal/netx"
	"shirube/internal/wire"
)

func listenUDP(tb testing.TB, addr string) *net.UDPConn {
	tb.Helper()
	conns, err := netx.ListenUDP(tb.Context(), netip.MustParseAddrPort(addr), 1)
	if err != nil {
		tb.Fatal(err)
	}
	return conns[0]
}

// startDoQ starts a server on loopback.
func startDoQ(tb testing.TB, opt QUICOptions) (*DoQ, netip.AddrPort) {
	tb.Helper()
	opt.TLS = trusted(tb).server("doq")
	socket := listenUDP(tb, "127.0.0.1:0")
	at := socket.LocalAddr().(*net.UDPAddr).AddrPort()
	d := NewDoQ(unhurriedQUIC(opt))
	d.Add(socket)
	d.Start(context.Background())
	shutDown(tb, d)
	return d, at
}

// startDoH3 starts a server on loopback, and returns its URL.
func startDoH3(tb testing.TB, opt QUICOptions) (*DoH3, netip.AddrPort, string) {
	tb.Helper()
	opt.TLS = trusted(tb).server("h3")
	socket := listenUDP(tb, "127.0.0.1:0")
	at := socket.LocalAddr().(*net.UDPAddr).AddrPort()
	d := NewDoH3(unhurriedQUIC(opt))
	d.Start(context.Background())
	d.Add(socket)
	shutDown(tb, d)
	return d, at, "https://" + at.String() + DefaultPath
}

// quicClient returns the configuration of a client that knows the server by its
// address.
func quicClient(tb testing.TB, protocol string) *tls.Config {
	config := trusted(tb).client(protocol)
	config.ServerName = "127.0.0.1"
	return config
}

// dialQUIC connects from loopback.
func dialQUIC(tb testing.TB, to netip.AddrPort, config *tls.Config) (*quic.Conn, error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	c, err := quic.DialAddrEarly(ctx, to.String(), config, &quic.Config{Versions: []quic.Version{quic.Version1}})
	if err == nil {
		tb.Cleanup(func() { _ = c.CloseWithError(0, "") })
		select {
		case <-c.HandshakeComplete():
		case <-c.Context().Done():
			err = context.Cause(c.Context())
		}
	}
	return c, err
}

func mustDialQUIC(tb testing.TB, to netip.AddrPort) *quic.Conn {
	tb.Helper()
	c, err := dialQUIC(tb, to, quicClient(tb, "doq"))
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// sendDoQ sends octets on a new stream, and the end of it.
func sendDoQ(tb testing.TB, c *quic.Conn, b []byte) *quic.Stream {
	tb.Helper()
	str, err := c.OpenStreamSync(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	_ = str.SetDeadline(time.Now().Add(patience))
	if _, err := str.Write(b); err != nil {
		tb.Fatal(err)
	}
	if err := str.Close(); err != nil {
		tb.Fatal(err)
	}
	return str
}

// receiveDoQ returns the response on a stream, which has to be all there is.
func receiveDoQ(str io.Reader) ([]byte, error) {
	raw, err := io.ReadAll(str)
	if err != nil {
		return nil, err
	}
	if len(raw) < prefixLen || int(binary.BigEndian.Uint16(raw)) != len(raw)-prefixLen {
		return nil, errors.New("a response of another length than it says")
	}
	return raw[prefixLen:], nil
}

// askDoQ sends a query on a stream of its own, and returns the answer.
func askDoQ(t *testing.T, c *quic.Conn, label string) *dns.Msg {
	t.Helper()
	raw, err := receiveDoQ(sendDoQ(t, c, frame(packQuery(t, 0, label))))
	if err != nil {
		t.Fatalf("%s: %v", label, err)
	}
	return unpack(t, raw)
}

func TestDoQAnswers(t *testing.T) {
	d, at := startDoQ(t, QUICOptions{Handler: newScripted()})
	c := mustDialQUIC(t, at)
	for _, label := range []string{"hit", "miss", "big", "bigmiss"} {
		wantRcode(t, askDoQ(t, c, label), dns.RcodeSuccess)
	}
	for _, label := range []string{"panic", "crash", "over"} {
		wantRcode(t, askDoQ(t, c, label), dns.RcodeServerFailure)
	}
	for _, label := range []string{"drop", "none"} {
		_, err := receiveDoQ(sendDoQ(t, c, frame(packQuery(t, 0, label))))
		var reset *quic.StreamError
		if !errors.As(err, &reset) || reset.ErrorCode != doqUnspecifiedError {
			t.Errorf("%s: %v", label, err)
		}
	}
	for _, m := range []struct {
		msg   []byte
		rcode wire.Rcode
	}{
		{append(packQuery(t, 0, "hit"), make([]byte, 2*maxQuery)...), wire.FormErr},
		{func() []byte { m := packQuery(t, 0, "hit"); m[2] |= 5 << 3; return m }(), wire.NotImp},
		{func() []byte { m := packQuery(t, 0, "hit"); m[5] = 2; return m }(), wire.FormErr},
	} {
		raw, err := receiveDoQ(sendDoQ(t, c, frame(m.msg)))
		if err != nil || wire.RcodeOf(raw) != m.rcode {
			t.Errorf("%x, %v; want %v", raw, err, m.rcode)
		}
	}
	s := d.Stats()
	wantBalance(t, s.Counts, 0)
	if s.Accepted != 1 || s.ProtocolErrors != 0 || s.Panics != 2 {
		t.Errorf("%+v", s)
	}
}

// TestDoQEndsWhoDoesNotSpeakIt sends what RFC 9250 §4.3.3 says is a protocol error.
func TestDoQEndsWhoDoesNotSpeakIt(t *testing.T) {
	d, at := startDoQ(t, QUICOptions{Handler: newScripted()})
	keepalive := new(dns.Msg).SetQuestion("hit.example.org.", dns.TypeA)
	keepalive.Id = 0
	keepalive.SetEdns0(1232, false)
	keepalive.IsEdns0().Option = append(keepalive.IsEdns0().Option, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE})
	response := packQuery(t, 0, "hit")
	response[2] |= 0x80
	breaches := []struct {
		what string
		sent []byte
	}{
		{"a message ID", frame(packQuery(t, 1, "hit"))},
		{"edns-tcp-keepalive", frame(pack(t, keepalive))},
		{"two queries on a stream", frame(packQuery(t, 0, "hit"), packQuery(t, 0, "hit"))},
		{"an octet more", append(frame(packQuery(t, 0, "hit")), 0)},
		{"an octet less", frame(packQuery(t, 0, "hit"))[:20]},
		{"half a length", []byte{0}},
		{"nothing", nil},
		{"an empty message", []byte{0, 0}},
		{"a response", frame(response)},
	}
	for _, b := range breaches {
		c := mustDialQUIC(t, at)
		_, err := receiveDoQ(sendDoQ(t, c, b.sent))
		var closed *quic.ApplicationError
		if !errors.As(err, &closed) || !closed.Remote || closed.ErrorCode != doqProtocolError {
			t.Errorf("%s: %v", b.what, err)
		}
	}
	if s := d.Stats(); s.ProtocolErrors != uint64(len(breaches)) {
		t.Errorf("%+v", s)
	}
	c := mustDialQUIC(t, at)
	if _, err := c.OpenUniStream(); err == nil {
		t.Error("a unidirectional stream can be opened")
	}
	wantRcode(t, askDoQ(t, c, "hit"), dns.RcodeSuccess)
}

// TestDoQBoundsStreamsOfAnOctet opens all streams that it may and more, sends one
// octet on each (CVE-2026-32934), or the length of the longest message.
func TestDoQBoundsStreamsOfAnOctet(t *testing.T) {
	for _, sent := range [][]byte{{0xFF}, {0xFF, 0xFF}} {
		d, at := startDoQ(t, QUICOptions{Handler: newScripted(), StreamTime: 300 * time.Millisecond})
		before := runtime.NumGoroutine()
		const conns = 20
		var clients []*quic.Conn
		for range conns {
			clients = append(clients, mustDialQUIC(t, at))
		}
		idle := runtime.NumGoroutine()
		var start, end runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&start)
		opened := 0
		for _, c := range clients {
			for range 10 * DefaultDoQStreams {
				str, err := c.OpenStream()
				if err != nil {
					break // no credit
				}
				opened++
				var cut *quic.StreamError // on a busy machine it may come by now
				if _, err := str.Write(sent); err != nil && !errors.As(err, &cut) {
					t.Fatal(err)
				}
			}
		}
		// One that was cut off by now has made room for another.
		if again := int(d.Stats().TooSlow); opened < conns*DefaultDoQStreams || opened > conns*DefaultDoQStreams+again {
			t.Errorf("%d streams were opened, %d of them cut off meanwhile", opened, again)
		}
		eventually(t, "they are cut off", func() bool { return d.Stats().TooSlow == uint64(opened) })
		runtime.ReadMemStats(&end)
		if n := runtime.NumGoroutine(); n > idle+opened {
			t.Errorf("%d goroutines for %d streams", n-idle, opened)
		}
		if grown := int64(end.HeapInuse) - int64(start.HeapInuse); grown > 32<<20 {
			t.Errorf("%d octets for %d streams", grown, opened)
		}
		wantRcode(t, askDoQ(t, mustDialQUIC(t, at), "hit"), dns.RcodeSuccess)
		for _, c := range clients {
			_ = c.CloseWithError(0, "")
		}
		eventually(t, "their goroutines have ended", func() bool { return runtime.NumGoroutine() <= before+20 })
	}
}

// TestQUICStreamsThatAreResetStayBounded cancels each query at once, with others
// in its place, whose answers take long.
func TestQUICStreamsThatAreResetStayBounded(t *testing.T) {
	h := newScripted()
	d, at := startDoQ(t, QUICOptions{Handler: h, MaxStreams: 8})
	c := mustDialQUIC(t, at)
	for range 500 {
		str := sendDoQ(t, c, frame(packQuery(t, 0, "slow")))
		str.CancelRead(doqRequestCancelled)
	}
	eventually(t, "all have ended", func() bool { s := d.Stats(); return s.Received > 0 && d.slots.Stats().InUse == 0 })
	if s := d.slots.Stats(); s.Peak > 8 {
		t.Errorf("%+v", s)
	}
	wantRcode(t, askDoQ(t, c, "hit"), dns.RcodeSuccess)
}

func TestDoQShedsWithoutASlot(t *testing.T) {
	h := newScripted()
	defer close(h.release)
	d, at := startDoQ(t, QUICOptions{Handler: h, Slots: NewSlots(1, 0)})
	c := mustDialQUIC(t, at)
	sendDoQ(t, c, frame(packQuery(t, 0, "slow")))
	h.waitBegan(t, 1)
	if m := askDoQ(t, c, "miss"); edeOf(t, m) != busyText || d.Stats().Shed != 1 {
		t.Errorf("%v, %+v", m, d.Stats())
	}
}

// TestQUICAsksForTheAddressUnderLoad has so many handshakes under way that a client
// has to show its address first.
func TestQUICAsksForTheAddressUnderLoad(t *testing.T) {
	d, at := startDoQ(t, QUICOptions{Handler: newScripted()})
	mustDialQUIC(t, at)
	if s := d.Stats(); s.Retries != 0 {
		t.Errorf("%+v", s)
	}
	eventually(t, "no handshake is under way", func() bool { return d.handshakes.Load() == 0 })
	d.handshakes.Add(retryAbove)
	wantRcode(t, askDoQ(t, mustDialQUIC(t, at), "hit"), dns.RcodeSuccess)
	if s := d.Stats(); s.Retries == 0 { // one for each of the client's first packets
		t.Errorf("%+v", s)
	}
	d.handshakes.Add(maxQUICHandshakes - retryAbove)
	if _, err := dialQUIC(t, at, quicClient(t, "doq")); err == nil {
		t.Error("more handshakes than there may be")
	}
	if s := d.Stats(); s.Refused == 0 {
		t.Errorf("%+v", s)
	}
	d.handshakes.Add(-maxQUICHandshakes)
	eventually(t, "the failed handshakes are not counted any more", func() bool { return d.handshakes.Load() == 0 })
}

func TestQUICConnectionsCountAsAllOthers(t *testing.T) {
	conns := NewConns(ConnsOptions{PerClient: 2, Handshakes: -1})
	_, doq := startDoQ(t, QUICOptions{Handler: newScripted(), Conns: conns})
	_, doh3, _ := startDoH3(t, QUICOptions{Handler: newScripted(), Conns: conns})
	first := mustDialQUIC(t, doq)
	if _, err := dialQUIC(t, doh3, quicClient(t, "h3")); err != nil {
		t.Fatal(err)
	}
	for _, to := range []struct {
		at       netip.AddrPort
		protocol string
	}{{doq, "doq"}, {doh3, "h3"}} {
		if _, err := dialQUIC(t, to.at, quicClient(t, to.protocol)); err == nil {
			t.Errorf("%s: a third connection of one client", to.protocol)
		}
	}
	if s := conns.Stats(); s.Open != 2 || s.OverClient < 2 { // once for each of the client's first packets
		t.Errorf("%+v", s)
	}
	_ = first.CloseWithError(0, "")
	eventually(t, "a connection that is closed makes room", func() bool { return conns.Stats().Open == 1 })
}

// TestQUICClientsMayMove has a client go on from another address (RFC 9000 §9).
// TestQUICHandshakesOfAClientAreLimited: one that shakes hands too often has to show
// first that the address is its own, and then is turned away.
func TestQUICHandshakesOfAClientAreLimited(t *testing.T) {
	conns := NewConns(ConnsOptions{Handshakes: 1})
	d, at := startDoQ(t, QUICOptions{Handler: newScripted(), Conns: conns})
	for n := 0; conns.Stats().OverRate == 0; n++ { // a busy machine may take long for the first few
		if n == 100 {
			t.Fatalf("%d handshakes were let through: %+v", n, conns.Stats())
		}
		if c, err := dialQUIC(t, at, quicClient(t, "doq")); err == nil {
			_ = c.CloseWithError(0, "")
		}
	}
	if d.Stats().Retries == 0 {
		t.Error("the client was not asked to show its address")
	}
	eventually(t, "who was turned away takes no place", func() bool { return conns.Stats().Open == 0 && d.Stats().Handshakes == 0 })
}

func TestQUICClientsMayMove(t *testing.T) {
	seen := make(chan netip.AddrPort, 10_000)
	_, at := startDoQ(t, QUICOptions{Handler: watching{newScripted(), seen}})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	at1, from := &quic.Transport{Conn: listenUDP(t, "127.0.0.1:0")}, &quic.Transport{Conn: listenUDP(t, "127.0.0.2:0")}
	defer func() { _, _ = at1.Close(), from.Close() }()
	c, err := at1.Dial(ctx, net.UDPAddrFromAddrPort(at), quicClient(t, "doq"), nil)
	if err != nil {
		t.Fatal(err)
	}
	askDoQ(t, c, "hit")
	path, err := c.AddPath(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.Probe(ctx); err != nil {
		t.Fatal(err)
	}
	if err := path.Switch(); err != nil {
		t.Fatal(err)
	}
	askDoQ(t, c, "hit")
	askDoQ(t, c, "miss")
	if before := <-seen; before.Addr() != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("at first from %v", before)
	}
	<-seen
	eventually(t, "it is known where the client is now", func() bool {
		askDoQ(t, c, "hit")
		return (<-seen).Addr() == netip.MustParseAddr("127.0.0.2")
	})
}

func TestQUICConnectionsThatAskNothingAreClosed(t *testing.T) {
	d, at := startDoQ(t, QUICOptions{Handler: newScripted(), IdleTimeout: 300 * time.Millisecond})
	c, err := quic.DialAddr(t.Context(), at.String(), quicClient(t, "doq"), &quic.Config{KeepAlivePeriod: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	askDoQ(t, c, "hit")
	select {
	case <-c.Context().Done():
	case <-time.After(patience):
		t.Error("the connection is still open")
	}
	eventually(t, "nothing is left of it", func() bool { return d.Stats().Open == 0 && d.opt.Conns.Stats().Open == 0 })
}

func TestQUICShutdownAnswersWhatIsInFlight(t *testing.T) {
	h := newScripted()
	d, at := startDoQ(t, QUICOptions{Handler: h})
	c := mustDialQUIC(t, at)
	str := sendDoQ(t, c, frame(packQuery(t, 0, "slow")))
	h.waitBegan(t, 1)
	down := make(chan error, 1)
	go func() { down <- d.Shutdown(t.Context()) }()
	eventually(t, "the server stops", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.stopped })
	h.release <- struct{}{}
	raw, err := receiveDoQ(str)
	if err != nil || wire.RcodeOf(raw) != wire.NoError {
		t.Errorf("%x, %v", raw, err)
	}
	if err := d.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
	var closed *quic.ApplicationError
	<-c.Context().Done()
	if err := context.Cause(c.Context()); !errors.As(err, &closed) || closed.ErrorCode != doqNoError {
		t.Errorf("closed with %v", err)
	}
}

func TestQUICShutdownAbandonsWhenItsContextEnds(t *testing.T) {
	h := newScripted()
	d, at := startDoQ(t, QUICOptions{Handler: h})
	sendDoQ(t, mustDialQUIC(t, at), frame(packQuery(t, 0, "slow")))
	h.waitBegan(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := d.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if s := d.slots.Stats(); s.InUse != 0 {
		t.Errorf("%+v", s)
	}
}

// TestQUICSocketsComeAndGo serves on a second socket, and ends that alone.
func TestQUICSocketsComeAndGo(t *testing.T) {
	h := newScripted()
	d, at := startDoQ(t, QUICOptions{Handler: h})
	stays := mustDialQUIC(t, at)
	second := listenUDP(t, "127.0.0.1:0")
	d.Add(second)
	goes := mustDialQUIC(t, second.LocalAddr().(*net.UDPAddr).AddrPort())
	str := sendDoQ(t, goes, frame(packQuery(t, 0, "slow")))
	h.waitBegan(t, 1)
	removed := make(chan error, 1)
	go func() { removed <- d.Remove(t.Context(), second) }()
	eventually(t, "the socket is not served any more", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return len(d.sockets) == 1 })
	h.release <- struct{}{}
	if raw, err := receiveDoQ(str); err != nil || wire.RcodeOf(raw) != wire.NoError {
		t.Errorf("%x, %v", raw, err)
	}
	if err := <-removed; err != nil {
		t.Error(err)
	}
	<-goes.Context().Done()
	wantRcode(t, askDoQ(t, stays, "hit"), dns.RcodeSuccess)
}

// http3Client returns a client of HTTP/3.
func http3Client(tb testing.TB) *http.Client {
	tr := &http3.Transport{TLSClientConfig: trusted(tb).client()}
	tb.Cleanup(func() { _ = tr.Close() })
	return &http.Client{Transport: tr, Timeout: patience}
}

func TestDoH3AnswersByGetAndPost(t *testing.T) {
	d, _, url := startDoH3(t, QUICOptions{Handler: newScripted()})
	c := http3Client(t)
	for _, label := range []string{"hit", "miss", "big", "bigmiss"} {
		wantRcode(t, askWeb(t, c, url, label), dns.RcodeSuccess)
		rsp, raw := do(t, c, http.MethodGet, getURL(url, packQuery(t, 0, label)), "", nil)
		if rsp.StatusCode != http.StatusOK || rsp.ProtoMajor != 3 || rsp.Header.Get("Content-Type") != mediaType || rsp.Header.Get("Cache-Control") != "max-age=0" {
			t.Errorf("%s %s %v", rsp.Proto, rsp.Status, rsp.Header)
		}
		wantRcode(t, unpack(t, raw), dns.RcodeSuccess)
	}
	for _, label := range []string{"drop", "none"} {
		if rsp, _, err := try(t.Context(), c, http.MethodPost, url, mediaType, bytes.NewReader(packQuery(t, 0, label))); err == nil {
			t.Errorf("%s: %s", label, rsp.Status)
		}
	}
	rsp, _ := do(t, c, http.MethodGet, url, "", nil)
	if rsp.StatusCode != http.StatusBadRequest {
		t.Error(rsp.Status)
	}
	s := d.Stats()
	wantBalance(t, s.Counts, 0)
	if s.Requests != 11 || s.Accepted == 0 {
		t.Errorf("%+v", s)
	}
}

// TestDoH3CutsStreamsOfAnOctet opens requests that do not go on.
func TestDoH3CutsStreamsOfAnOctet(t *testing.T) {
	_, at, url := startDoH3(t, QUICOptions{Handler: newScripted(), StreamTime: 200 * time.Millisecond})
	c, err := dialQUIC(t, at, quicClient(t, "h3"))
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	var streams []*quic.Stream
	for range DefaultStreams {
		str, err := c.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		var cut *quic.StreamError                                                // on a busy machine it may come by now
		if _, err := str.Write([]byte{1}); err != nil && !errors.As(err, &cut) { // HEADERS, without a length
			t.Fatal(err)
		}
		streams = append(streams, str)
	}
	var ended sync.WaitGroup
	for _, str := range streams {
		ended.Go(func() {
			_ = str.SetReadDeadline(time.Now().Add(patience))
			var reset *quic.StreamError
			if _, err := io.ReadAll(str); !errors.As(err, &reset) {
				t.Errorf("got %v", err)
			}
		})
	}
	ended.Wait()
	eventually(t, "their goroutines have ended", func() bool { return runtime.NumGoroutine() <= before+10 })
	wantRcode(t, askWeb(t, http3Client(t), url, "hit"), dns.RcodeSuccess)
}

// TestQUICAnswersThatNobodyTakesAreBounded asks for long answers with as many streams
// as there may be, and gives credit for none.
func TestQUICAnswersThatNobodyTakesAreBounded(t *testing.T) {
	config := &quic.Config{InitialStreamReceiveWindow: 1, MaxStreamReceiveWindow: 1}
	dialStingy := func(at netip.AddrPort, protocol string) *quic.Conn {
		t.Helper()
		c, err := quic.DialAddr(t.Context(), at.String(), quicClient(t, protocol), config)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	doq, at := startDoQ(t, QUICOptions{Handler: newScripted(), MessageTimeout: patience})
	c := dialStingy(at, "doq")
	for range DefaultDoQStreams {
		sendDoQ(t, c, frame(packQuery(t, 0, "big")))
	}
	const fit = maxHeld/60_000 + 1
	eventually(t, "as many are held as may be", func() bool { return doq.Stats().Untaken == DefaultDoQStreams-fit })
	_ = c.CloseWithError(0, "")
	eventually(t, "the connection is gone", func() bool { return doq.Stats().Open == 0 })
	wantRcode(t, askDoQ(t, mustDialQUIC(t, at), "big"), dns.RcodeSuccess)

	doh3, at3, url := startDoH3(t, QUICOptions{Handler: newScripted(), MessageTimeout: patience})
	c = dialStingy(at3, "h3")
	web := (&http3.Transport{}).NewClientConn(c)
	for range DefaultStreams {
		go func() { // ends with the connection
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+at3.String()+getURL(DefaultPath, packQuery(t, 0, "big")), http.NoBody)
			if err == nil {
				if rsp, err := web.RoundTrip(r); err == nil { // and is not read
					context.AfterFunc(c.Context(), func() { _ = rsp.Body.Close() })
				}
			}
		}()
	}
	eventually(t, "as many are held as may be", func() bool { return doh3.Stats().Untaken >= DefaultStreams/2 })
	_ = c.CloseWithError(0, "")
	eventually(t, "the connection is gone", func() bool { return doh3.Stats().Open == 0 })
	wantRcode(t, askWeb(t, http3Client(t), url, "big"), dns.RcodeSuccess)
}
