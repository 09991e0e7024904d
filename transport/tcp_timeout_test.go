package transport

import (
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// closedAfter waits until the server closes c, throwing away what comes, and
// returns how long that took.
func closedAfter(c net.Conn) time.Duration {
	start := time.Now()
	var b [512]byte
	for {
		if _, err := c.Read(b[:]); err != nil {
			return time.Since(start)
		}
	}
}

// wantReason wants one connection to have ended, for this reason.
func wantReason(t *testing.T, s *TCP, reason CloseReason) {
	t.Helper()
	synctest.Wait()
	var want [NumCloseReasons]uint64
	want[reason] = 1
	if got := s.Stats(); got.Closed != want || got.Open != 0 {
		t.Errorf("%d open, ended by %v, not by %s", got.Open, got.Closed, reason)
	}
}

// timeoutTest runs f against a server with the default timeouts, in fake time.
func timeoutTest(t *testing.T, opt TCPOptions, f func(t *testing.T, s *TCP, h *scripted, c net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		h := newScripted() // its channels have to be of the bubble
		opt.Handler = h
		s, p := servePipes(t, opt)
		c, _ := p.dial(t, "192.0.2.1:4000")
		f(t, s, h, c)
	})
}

func TestTCPClosesWithoutAFirstByte(t *testing.T) {
	timeoutTest(t, TCPOptions{}, func(t *testing.T, s *TCP, _ *scripted, c net.Conn) {
		if d := closedAfter(c); d != 3*time.Second {
			t.Errorf("closed after %s", d)
		}
		wantReason(t, s, ClosedFirstByte)
	})
}

func TestTCPClosesIdleConnections(t *testing.T) {
	timeoutTest(t, TCPOptions{}, func(t *testing.T, s *TCP, _ *scripted, c net.Conn) {
		for range 3 { // each message starts the time again
			askTCP(t, c, 1, "hit")
			time.Sleep(9 * time.Second)
		}
		if d := closedAfter(c); d != time.Second {
			t.Errorf("closed after %s", d)
		}
		wantReason(t, s, ClosedIdle)
	})
}

func TestTCPIsNotIdleWithAQueryInFlight(t *testing.T) {
	timeoutTest(t, TCPOptions{Timeout: time.Minute}, func(t *testing.T, s *TCP, h *scripted, c net.Conn) {
		start := time.Now()
		time.AfterFunc(34*time.Second, func() { close(h.release) })
		askTCP(t, c, 1, "slow")
		if d := time.Since(start); d != 34*time.Second {
			t.Errorf("answered after %s", d)
		}
		if d := closedAfter(c); d != 10*time.Second {
			t.Errorf("closed %s after the answer", d)
		}
		wantReason(t, s, ClosedIdle)
	})
}

func TestTCPDribblingDoesNotExtendAMessagesTime(t *testing.T) {
	timeoutTest(t, TCPOptions{}, func(t *testing.T, s *TCP, _ *scripted, c net.Conn) {
		start := time.Now()
		for _, b := range frame(packQuery(t, 1, "hit")) {
			if _, err := c.Write([]byte{b}); err != nil {
				break
			}
			time.Sleep(900 * time.Millisecond)
		}
		if d := closedAfter(c); d != 0 {
			t.Errorf("open %s after the last octet", d)
		}
		if d := time.Since(start); d < 5*time.Second || d > 6*time.Second {
			t.Errorf("closed after %s", d)
		}
		wantReason(t, s, ClosedSlowWriter)
	})
}

func TestTCPAnnouncedLengthDoesNotExtendAMessagesTime(t *testing.T) {
	timeoutTest(t, TCPOptions{}, func(t *testing.T, s *TCP, _ *scripted, c net.Conn) {
		// Answered FORMERR after 4096 octets, and then it goes on, slowly.
		write(t, c, append([]byte{0xFF, 0xFF}, make([]byte, maxQuery)...))
		receiveTCP(t, c)
		start := time.Now()
		for range 100 {
			if _, err := c.Write([]byte{0}); err != nil {
				break
			}
			time.Sleep(time.Second)
		}
		if d := time.Since(start); d < 5*time.Second || d > 6*time.Second {
			t.Errorf("closed after %s", d)
		}
		wantReason(t, s, ClosedSlowWriter)
	})
}

func TestTCPEachMessageHasItsOwnTime(t *testing.T) {
	timeoutTest(t, TCPOptions{}, func(t *testing.T, s *TCP, _ *scripted, c net.Conn) {
		one := frame(packQuery(t, 1, "hit"))
		half := len(one) / 2
		// Each write ends one message and begins the next.
		write(t, c, one[:half])
		for range 5 {
			time.Sleep(4 * time.Second)
			write(t, c, append(append([]byte(nil), one[half:]...), one[:half]...))
			receiveTCP(t, c)
		}
		if d := closedAfter(c); d != 5*time.Second {
			t.Errorf("closed after %s", d)
		}
		wantReason(t, s, ClosedSlowWriter)
	})
}

func TestTCPCutsASlowReader(t *testing.T) {
	timeoutTest(t, TCPOptions{}, func(t *testing.T, s *TCP, _ *scripted, c net.Conn) {
		start := time.Now()
		write(t, c, frame(packQuery(t, 1, "big")))
		var b [1]byte
		for { // an octet every second
			if _, err := c.Read(b[:]); err != nil {
				break
			}
			time.Sleep(time.Second)
		}
		if d := time.Since(start); d < 5*time.Second || d > 6*time.Second {
			t.Errorf("closed after %s", d)
		}
		wantReason(t, s, ClosedSlowReader)
	})
}

func TestTCPCutsASlowReaderOfDeferredAnswers(t *testing.T) {
	slots := NewSlots(1, 0)
	timeoutTest(t, TCPOptions{Slots: slots}, func(t *testing.T, s *TCP, _ *scripted, c net.Conn) {
		write(t, c, frame(packQuery(t, 1, "bigmiss")))
		synctest.Wait()
		if n := slots.Stats().InUse; n != 0 {
			t.Errorf("a query that was resolved holds a slot while its answer is written")
		}
		time.Sleep(5 * time.Second)
		wantReason(t, s, ClosedSlowReader)
	})
}

func TestTCPDeferredQueryEndsAtItsDeadline(t *testing.T) {
	timeoutTest(t, TCPOptions{}, func(t *testing.T, s *TCP, _ *scripted, c net.Conn) {
		write(t, c, frame(packQuery(t, 1, "slow"))) // nobody releases
		time.Sleep(DefaultTimeout)
		synctest.Wait()
		if st := s.Stats(); st.Dropped != 1 || st.Open != 1 {
			t.Errorf("%+v", st)
		}
	})
}

func TestTCPBackpressureDoesNotAgeWhatIsUnread(t *testing.T) {
	timeoutTest(t, TCPOptions{MaxInFlight: 1}, func(t *testing.T, s *TCP, h *scripted, c net.Conn) {
		q := packQuery(t, 1, "slow")
		write(t, c, frame(q, q, q))
		for range 3 { // each has its whole time, though they came together
			time.Sleep(DefaultTimeout - time.Second)
			h.release <- struct{}{}
			wantRcode(t, unpack(t, receiveTCP(t, c)), 0)
		}
		if st := s.Stats(); st.Stalled != 2 || st.Answered != 3 {
			t.Errorf("%+v", st)
		}
	})
}

// checkBackoff has ten seconds pass in which no connection can be accepted.
func checkBackoff(t *testing.T, count func() uint64) {
	t.Helper()
	time.Sleep(10 * time.Second)
	synctest.Wait()
	if n := count(); n < 8 || n > 30 {
		t.Errorf("%d attempts in 10 s", n)
	}
}

func TestTCPAcceptErrorsBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		var broken atomic.Bool
		broken.Store(true)
		p.fail = func() error {
			if broken.Load() {
				return &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
			}
			return nil
		}
		s := NewTCP(TCPOptions{Handler: newScripted()}, p)
		s.Start(t.Context())
		shutDown(t, s)
		checkBackoff(t, func() uint64 { return s.Stats().AcceptErrors })
		broken.Store(false)
		c, _ := p.dial(t, "192.0.2.1:4000")
		askTCP(t, c, 1, "hit")
	})
}

func TestDoHAcceptErrorsBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		p.fail = func() error { return &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE} }
		d := NewDoH(DoHOptions{Handler: newScripted()})
		d.Add(p, false)
		d.Start(t.Context())
		shutDown(t, d)
		checkBackoff(t, func() uint64 { return d.Stats().AcceptErrors })
	})
}

func TestTCPShutdownEndsTheBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		p.fail = func() error { return errors.New("out of everything") }
		s := NewTCP(TCPOptions{Handler: newScripted()}, p)
		s.Start(t.Context())
		time.Sleep(10500 * time.Millisecond)
		start := time.Now()
		if err := s.Shutdown(t.Context()); err != nil || time.Since(start) != 0 {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
	})
}

// TestTCPEndsWhoSendsOctetByOctet sends each octet by itself, without a pause.
func TestTCPEndsWhoSendsOctetByOctet(t *testing.T) {
	timeoutTest(t, TCPOptions{}, func(t *testing.T, s *TCP, _ *scripted, c net.Conn) {
		for range 3 { // so many pieces are as many as may be, for each message
			msg := frame(packQuery(t, 1, "hit"+strings.Repeat("0", maxReads)))
			for i := range maxReads - 1 {
				write(t, c, msg[i:i+1])
			}
			write(t, c, msg[maxReads-1:])
			receiveTCP(t, c)
		}
		sent := 0
		for _, b := range append([]byte{0x0F, 0xFF}, make([]byte, 0xFFF)...) {
			if _, err := c.Write([]byte{b}); err != nil {
				break
			}
			sent++
		}
		if sent > maxReads+1 {
			t.Errorf("%d octets were read one by one", sent)
		}
		wantReason(t, s, ClosedDribble)
	})
}
