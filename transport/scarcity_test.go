package transport

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

func TestTCPIdleTimeShrinksWhenConnectionsRunShort(t *testing.T) {
	for _, c := range []struct {
		open           int
		idle, promised time.Duration
	}{
		{0, 10 * time.Second, 10 * time.Second},
		{50, 10 * time.Second, 10 * time.Second},
		{51, 9800 * time.Millisecond, 9800 * time.Millisecond},
		{75, 5 * time.Second, 5 * time.Second},
		{89, 2200 * time.Millisecond, 2200 * time.Millisecond},
		{90, 2 * time.Second, 0}, // RFC 7828 §3.3.2
		{98, minIdle, 0},
		{100, minIdle, 0},
	} {
		s := NewTCP(TCPOptions{Handler: newScripted(), MaxConns: 100})
		s.conns.open.Store(int64(c.open))
		if idle, promised := s.idleTime(), s.promisedIdle(); idle != c.idle || promised != c.promised {
			t.Errorf("%d of 100 open: idle for %s, promised %s; want %s, %s", c.open, idle, promised, c.idle, c.promised)
		}
	}
	s := NewTCP(TCPOptions{Handler: newScripted(), MaxConns: 2, IdleTimeout: minIdle / 2})
	if s.conns.open.Store(2); s.idleTime() != minIdle/2 {
		t.Errorf("idle for %s, longer than is configured", s.idleTime())
	}
}

// fill opens n connections that have been answered once.
func (p *pipes) fill(t *testing.T, n int) (conns []net.Conn) {
	t.Helper()
	for i := range n {
		c, _ := p.dial(t, fmt.Sprintf("192.0.2.%d:4000", i))
		time.Sleep(time.Microsecond)
		askTCP(t, c, 1, "hit")
		conns = append(conns, c)
	}
	return conns
}

func TestTCPIdleConnectionsGoWhenConnectionsRunShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := servePipes(t, TCPOptions{Handler: newScripted(), MaxConns: 100})
		p.fill(t, 50)
		time.Sleep(1900 * time.Millisecond)
		young := p.fill(t, 41)
		// With nine places left 1.8 s are all that an idle one has. The first of the
		// fifty to hear of it go, and leave time for the others.
		time.Sleep(hurryInterval)
		synctest.Wait()
		if st := s.Stats(); st.Closed[ClosedIdle] < 5 || st.Closed[ClosedIdle] > 20 {
			t.Errorf("%d idle connections have ended", st.Closed[ClosedIdle])
		}
		for _, c := range young {
			askTCP(t, c, 2, "hit")
		}
		time.Sleep(8 * time.Second)
		synctest.Wait()
		if st := s.Stats(); st.Open != 41 {
			t.Errorf("%d are open, and not the 41 that were in use", st.Open)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if st := s.Stats(); st.Open != 0 || st.Closed[ClosedIdle] != 91 {
			t.Errorf("%d are open", st.Open)
		}
	})
}

// Clients that come and go where connections begin to run short must not have
// all others looked at each time.
func TestTCPIdleConnectionsAreToldOnceInAWhile(t *testing.T) {
	r := newRoster(4, 4)
	now := time.Now()
	at := func(open int, after time.Duration) (bool, time.Duration) {
		t.Helper()
		r.open.Store(int64(open))
		r.alarm.fall(r.scarce()) // as remove does
		return r.short(now.Add(after))
	}
	for _, c := range []struct {
		open  int
		after time.Duration
		tell  bool
		wait  time.Duration
	}{
		{2, 0, false, 0},
		{3, 0, true, 0},
		{3, 0, false, 0}, // as short as before
		{2, 0, false, 0},
		{3, hurryInterval / 4, false, hurryInterval * 3 / 4},
		{2, 0, false, 0},
		{3, hurryInterval / 2, false, 0}, // somebody waits
		{3, hurryInterval, true, 0},
	} {
		if tell, wait := at(c.open, c.after); tell != c.tell || wait != c.wait {
			t.Errorf("%d open after %s: tell %v, wait %s", c.open, c.after, tell, wait)
		}
	}
}

func TestTCPHurryLeavesHandshakesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := servePipes(t, TCPOptions{Handler: newScripted()})
		c, _ := p.dial(t, "192.0.2.1:4000")
		time.Sleep(time.Second)
		s.conns.each((*tcpConn).hurry)
		askTCP(t, c, 1, "hit")
		s.conns.each((*tcpConn).hurry) // a look at the time that is left changes nothing
		if d := closedAfter(c); d != DefaultIdleTimeout {
			t.Errorf("closed after %s", d)
		}
	})
}

func TestTCPTellsTheHandlerHowLongItMayBeIdle(t *testing.T) {
	h := seen{make(chan wire.Query, 1)}
	s, p := servePipes(t, TCPOptions{Handler: h, MaxConns: 100, IdleTimeout: 7 * time.Second})
	c, _ := p.dial(t, "192.0.2.1:4000")
	eventually(t, "the connection is counted", func() bool { return s.conns.open.Load() == 1 })
	for open, want := range map[int64]time.Duration{1: 7 * time.Second, 75: 3500 * time.Millisecond, 95: 0} {
		s.conns.open.Store(open)
		write(t, c, frame(packQuery(t, 1, "hit")))
		if q := <-h.queries; q.Idle != want {
			t.Errorf("%d connections: %s, not %s", open, q.Idle, want)
		}
	}
}

// TestEncryptedIdleConnectionsGoWhenConnectionsRunShort fills all places with
// clients that ask once. They would be allowed to wait for minutes.
func TestEncryptedIdleConnectionsGoWhenConnectionsRunShort(t *testing.T) {
	const total = 20
	for _, way := range []struct {
		name string
		fill func(t *testing.T, conns *Conns) (ask func(t *testing.T))
	}{
		{"HTTP/2", func(t *testing.T, conns *Conns) func(t *testing.T) {
			_, at, _ := startDoH(t, DoHOptions{Handler: newScripted(), Conns: conns, IdleTimeout: 10 * time.Minute})
			return func(t *testing.T) {
				t.Helper()
				c := dialH2(t, at)
				stream, err := c.ask(t, "hit")
				if err != nil {
					t.Fatal(err)
				}
				c.response(t, stream)
			}
		}},
		{"DoQ", func(t *testing.T, conns *Conns) func(t *testing.T) {
			_, at := startDoQ(t, QUICOptions{Handler: newScripted(), Conns: conns, IdleTimeout: 10 * time.Minute})
			return func(t *testing.T) {
				t.Helper()
				askDoQ(t, mustDialQUIC(t, at), "hit")
			}
		}},
		{"DoH3", func(t *testing.T, conns *Conns) func(t *testing.T) {
			_, _, url := startDoH3(t, QUICOptions{Handler: newScripted(), Conns: conns, IdleTimeout: 10 * time.Minute})
			return func(t *testing.T) {
				t.Helper()
				askWeb(t, http3Client(t), url, "hit")
			}
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			conns := NewConns(ConnsOptions{Total: total, Handshakes: -1})
			ask := way.fill(t, conns)
			for range total / 2 {
				ask(t)
			}
			if s := conns.Stats(); s.Open != total/2 {
				t.Fatalf("%+v", s)
			}
			for range total { // ten take the places that are left, and ten those of others
				eventually(t, "there is room", func() bool { return conns.Stats().Open < total })
				ask(t)
			}
		})
	}
}

// TestDoHEndsConnectionsOfHTTP1WhenConnectionsRunShort answers one request on each.
func TestDoHEndsConnectionsOfHTTP1WhenConnectionsRunShort(t *testing.T) {
	conns := NewConns(ConnsOptions{Total: 10, Handshakes: -1})
	_, at, _ := startDoH(t, DoHOptions{Handler: newScripted(), Conns: conns})
	for range 8 {
		dialH2(t, at)
	}
	eventually(t, "all have come", func() bool { return conns.Stats().Open == 8 })
	c := dialTLS(t, at, "http/1.1")
	request := "GET " + getURL(DefaultPath, packQuery(t, 0, "hit")) + " HTTP/1.1\r\nHost: dns.example\r\n\r\n"
	write(t, c, []byte(request))
	if raw, err := io.ReadAll(c); err != nil || !bytes.Contains(raw, []byte("200 OK\r\n")) || !bytes.Contains(raw, []byte("Connection: close\r\n")) {
		t.Errorf("%q, %v", raw, err)
	}
}

// TestQUICClientsMaySendLittleWhenOthersMaySendMuch bounds what all of them
// together may have sent before it is read.
func TestQUICClientsMaySendLittleWhenOthersMaySendMuch(t *testing.T) {
	conns := NewConns(ConnsOptions{Handshakes: -1})
	_, at := startDoQ(t, QUICOptions{Handler: newScripted(), Conns: conns})
	mustDialQUIC(t, at)
	if s := conns.Stats(); s.Window != quicConnWindow || s.Narrow != 0 {
		t.Errorf("%+v", s)
	}
	conns.windows.Add(quicBudget - quicConnWindow)
	c := mustDialQUIC(t, at)
	if s := conns.Stats(); s.Window != quicBudget+quicLeastWindow || s.Narrow != 1 {
		t.Errorf("%+v", s)
	}
	wantRcode(t, askDoQ(t, c, "hit"), dns.RcodeSuccess)
	_ = c.CloseWithError(0, "")
	eventually(t, "its share is given back", func() bool { return conns.Stats().Window == quicBudget })
}
