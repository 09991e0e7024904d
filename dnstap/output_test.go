package dnstap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	golang "github.com/dnstap/golang-dnstap"
)

func TestNilTapIsOff(t *testing.T) {
	var tap *Tap
	tap.Start()
	tap.Emit(0, message(ClientQuery, 1))
	if tap.Wants(ClientQuery) || tap.Stats() != nil || tap.Close(t.Context()) != nil {
		t.Error("a nil Tap does something")
	}
}

func TestNewRefusesWhatMakesNoSense(t *testing.T) {
	unix := &Stream{Network: "unix", Address: "x"}
	for name, out := range map[string]Output{
		"nowhere":          {},
		"two places":       {Stream: unix, File: &File{Path: "x"}},
		"network":          {Stream: &Stream{Network: "udp", Address: "x"}},
		"TLS on a socket":  {Stream: &Stream{Network: "unix", Address: "x", TLS: &tls.Config{MinVersion: tls.VersionTLS13}}},
		"file":             {File: &File{}},
		"prefix":           {Stream: unix, Privacy: Privacy{Bits4: 33}},
		"length of a hash": {Stream: unix, Privacy: Privacy{HashKey: []byte("short")}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := New(Options{Outputs: []Output{out}}); err == nil {
				t.Error("no error")
			}
		})
	}
	if _, err := New(Options{Identity: string(make([]byte, MaxIdentity+1))}); err == nil {
		t.Error("no error for a long identity")
	}
}

// clientTLS returns what a client needs to trust server.
func clientTLS(server *httptest.Server) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return &tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS13}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// emitMany emits n messages on several goroutines.
func emitMany(tap *Tap, n int) {
	var wg sync.WaitGroup
	for lane := range 4 {
		wg.Go(func() { // ends when it has emitted its share
			for i := range n / 4 {
				tap.Emit(lane, message(ClientResponse, uint16(i)))
			}
		})
	}
	wg.Wait()
}

func TestCollectorsGetEveryFrame(t *testing.T) {
	server := httptest.NewUnstartedServer(nil) // for its certificate
	server.StartTLS()
	t.Cleanup(server.Close)
	inTheClear := func(t *testing.T) net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	for _, tt := range []struct {
		name   string
		listen func(t *testing.T) net.Listener
		stream Stream
	}{
		{"unix", func(t *testing.T) net.Listener { return listenUnix(t, socketPath(t)) }, Stream{Network: "unix"}},
		{"TCP", inTheClear, Stream{Network: "tcp"}},
		{"TLS", func(t *testing.T) net.Listener { return tls.NewListener(inTheClear(t), server.TLS) }, Stream{Network: "tcp", TLS: clientTLS(server)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ln := tt.listen(t)
			c := collect(ln)
			tt.stream.Address = ln.Addr().String()
			tap := start(t, Options{Outputs: []Output{{Stream: &tt.stream, Filter: all(), QueueSize: 64 << 20}}})
			const n = 100_000
			emitMany(tap, n)
			shut(t, tap)
			s := stats(t, tap)
			if s.Sent != n || s.Emitted != n || s.Opened != 1 {
				t.Errorf("%+v", s)
			}
			if frames, clean := c.wait(); frames != n || clean != 1 {
				t.Errorf("%d frames came, and %d ends", frames, clean)
			}
		})
	}
}

// A quiet server's frames must not wait for company.
func TestFramesLeaveSoon(t *testing.T) {
	ln := listenUnix(t, socketPath(t))
	c := collect(ln)
	defer c.kill()
	tap := start(t, Options{Outputs: []Output{{Stream: &Stream{Network: "unix", Address: ln.Addr().String()}, Filter: all()}}})
	tap.Emit(3, message(ClientQuery, 1))
	waitFor(t, tap, "sent", func(s OutputStats) bool { return s.Sent == 1 })
}

// TestDropsAreCountedToTheFrame has a collector that takes the connection and
// reads nothing.
func TestDropsAreCountedToTheFrame(t *testing.T) {
	path := socketPath(t)
	ln := listenUnix(t, path)
	hold, taken := make(chan struct{}), make(chan net.Conn, 10)
	var wg sync.WaitGroup
	wg.Go(func() { // ends with ln
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			taken <- conn
			wg.Go(func() { // ends with hold
				if _, err := ReadControl(conn); err == nil {
					_, _ = conn.Write(AppendControl(nil, ControlAccept))
				}
				<-hold
				_ = conn.Close()
			})
		}
	})
	tap, err := New(Options{Outputs: []Output{{Stream: &Stream{Network: "unix", Address: path}, Filter: all(), QueueSize: 2 << 20}}})
	if err != nil {
		t.Fatal(err)
	}
	tap.Start()
	<-taken
	const n = 100_000
	begun := time.Now()
	emitMany(tap, n)
	if took := time.Since(begun); took > patience/2 { // it would be endless
		t.Errorf("emitting took %v", took)
	}
	waitFor(t, tap, "stalled", func(s OutputStats) bool { return s.State == Stalled })
	s := stats(t, tap)
	if s.Emitted != n || s.Dropped == 0 || s.Dropped < n/2 {
		t.Errorf("%+v", s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := tap.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("closing said %v", err)
	}
	s = stats(t, tap)
	if s.Queued != 0 || s.Emitted != n {
		t.Errorf("%+v", s)
	}
	tap.Emit(0, message(ClientQuery, 1))
	if after := stats(t, tap); after.Emitted != n {
		t.Errorf("a closed Tap has counted: %+v", after)
	}
	close(hold)
	_ = ln.Close()
	wg.Wait()
}

// TestCollectorMayDieFiftyTimes loses what the system held for one that died,
// and nothing else: what was sent to those that lived arrived.
func TestCollectorMayDieFiftyTimes(t *testing.T) {
	path := socketPath(t)
	tap, err := New(Options{Outputs: []Output{{Stream: &Stream{Network: "unix", Address: path}, Filter: all(), QueueSize: 1 << 20}}})
	if err != nil {
		t.Fatal(err)
	}
	tap.Start()
	var stop atomic.Bool
	var emitting sync.WaitGroup
	var emitted atomic.Uint64
	for lane := range 2 {
		emitting.Go(func() { // ends with stop
			for i := 0; !stop.Load(); i++ {
				tap.Emit(lane, message(ClientQuery, uint16(i)))
				emitted.Add(1)
				if i%50 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	const deaths = 50
	received := 0
	for i := range deaths {
		c := collect(listenUnix(t, path))
		waitFor(t, tap, "connected again", func(s OutputStats) bool { return s.Opened > uint64(i) })
		if i%2 == 0 {
			time.Sleep(time.Millisecond)
		}
		c.kill()
		received += c.frames
	}
	stop.Store(true)
	emitting.Wait()
	last := collect(listenUnix(t, path))
	waitFor(t, tap, "connected a last time", func(s OutputStats) bool { return s.Opened > deaths })
	shut(t, tap)
	frames, clean := last.wait()
	received += frames
	s := stats(t, tap)
	if s.Emitted != emitted.Load() || s.Queued != 0 || s.Sent+s.Dropped != s.Emitted {
		t.Errorf("%d emitted: %+v", emitted.Load(), s)
	}
	if uint64(received) > s.Sent || frames == 0 || clean != 1 {
		t.Errorf("%d received, %d by the last collector, which saw %d ends: %+v", received, frames, clean, s)
	}
}

// A frame that was cut when the collector stalled is sent again, whole.
func TestStalledCollectorGetsWholeFrames(t *testing.T) {
	const n = 10
	o, length := filled(t, Output{Stream: &Stream{Network: "unix", Address: "x"}}, n)
	for _, cut := range []int{0, 3, length, length - 1, 2*length + 1, length - 1} {
		if err := o.send(cutSink{cut}); err == nil {
			t.Fatal("no error")
		}
		if s := o.Stats(); s.Sent+s.Queued != n || s.Sent != uint64(o.off/length) || o.off%length != 0 {
			t.Errorf("after %d octets: %+v, offset %d of frames of %d", cut, s, o.off, length)
		}
	}
	if s := o.Stats(); s.Sent != 3 {
		t.Errorf("%+v", s)
	}
}

// cutSink takes some octets and fails.
type cutSink struct{ n int }

func (c cutSink) write([]byte) (int, error) { return c.n, errGone }
func (cutSink) tick(time.Time) error        { return nil }
func (cutSink) gone() <-chan struct{}       { return nil }
func (cutSink) finish(bool) error           { return nil }

func TestForwardedFramesStayAsTheyAre(t *testing.T) {
	path := t.TempDir() + "/x"
	tap := start(t, Options{Identity: "not told", Outputs: []Output{{File: &File{Path: path}}}})
	m := message(ClientQuery, 7)
	frame := append([]byte{tagIdentity, 1, 'x', tagMessage, byte(m.size())}, m.appendTo(nil, m.Query.Addr())...)
	if !tap.Forward(0, append(frame, tagKind, kindMessage)) {
		t.Error("dropped")
	}
	if tap.Forward(0, make([]byte, chunkSize)) {
		t.Error("a frame that is too long was taken")
	}
	shut(t, tap)
	if s := stats(t, tap); s.Emitted != 2 || s.Sent != 1 || s.Dropped != 1 {
		t.Errorf("%+v", s)
	}
	got := readFile(t, path)
	if len(got) != 1 || string(got[0].GetIdentity()) != "x" || got[0].GetMessage().GetType() != golang.Message_CLIENT_QUERY {
		t.Errorf("%v", got)
	}
}
