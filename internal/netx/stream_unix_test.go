//go:build unix

package netx

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"
)

// notes is a Memory that counts.
type notes struct {
	buf    []byte
	spaces atomic.Int64
	waits  atomic.Int64
}

func (m *notes) Space() []byte { m.spaces.Add(1); return m.buf }

func (m *notes) Wait() { m.waits.Add(1) }

// streamPair returns a Stream, its connection, and the other end.
func streamPair(t *testing.T, mem Memory) (*Stream, *net.TCPConn, net.Conn) {
	t.Helper()
	l, err := ListenTCP(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = far.Close(), near.Close() })
	for _, c := range []net.Conn{far, near} {
		if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := NewStream(near, mem)
	if err != nil {
		t.Fatal(err)
	}
	return s, near, far
}

func TestStreamReadsIntoItsMemory(t *testing.T) {
	mem := &notes{buf: make([]byte, 4)}
	s, _, far := streamPair(t, mem)
	if _, err := far.Write([]byte("abcdef")); err != nil {
		t.Fatal(err)
	}
	got := ""
	for len(got) < 6 {
		n, err := s.Read()
		if n < 1 || n > 4 || err != nil {
			t.Fatal(n, err)
		}
		got += string(mem.buf[:n])
	}
	if got != "abcdef" {
		t.Errorf("read %q", got)
	}
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Read(); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %d, %v", n, err)
	}
}

func TestStreamGivesItsMemoryUpWhileItWaits(t *testing.T) {
	mem := &notes{buf: make([]byte, 100)}
	s, near, far := streamPair(t, mem)
	done := make(chan int)
	go func() {
		n, _ := s.Read()
		done <- n
	}()
	for until := time.Now().Add(10 * time.Second); mem.waits.Load() == 0 && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
	if mem.waits.Load() != 1 || mem.spaces.Load() != 1 {
		t.Fatalf("%d waits, memory asked for %d times", mem.waits.Load(), mem.spaces.Load())
	}
	if _, err := far.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	if n := <-done; n != 3 || mem.spaces.Load() != 2 || string(mem.buf[:3]) != "abc" {
		t.Errorf("%d octets, memory asked for %d times: %q", n, mem.spaces.Load(), mem.buf[:3])
	}
	if err := near.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Read(); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || mem.waits.Load() != 2 {
		t.Errorf("at the deadline: %d, %v, %d waits", n, err, mem.waits.Load())
	}
}

func TestStreamReportsAReset(t *testing.T) {
	s, near, far := streamPair(t, &notes{buf: make([]byte, 100)})
	if err := far.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	_ = far.Close()
	if n, err := s.Read(); n != 0 || err == nil || errors.Is(err, io.EOF) {
		t.Errorf("after a reset: %d, %v", n, err)
	}
	_ = near.Close()
	if _, err := s.Read(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if _, err := s.TryWrite([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestStreamWritesWhatThereIsRoomFor(t *testing.T) {
	s, near, far := streamPair(t, &notes{buf: make([]byte, 100)})
	if err := near.SetWriteBuffer(8 << 10); err != nil {
		t.Fatal(err)
	}
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // 16 MiB: more than any buffers hold
	n, err := s.TryWrite(big)
	if n == len(big) || err != nil {
		t.Fatalf("%d octets of %d were written without a wait, %v", n, len(big), err)
	}
	if more, err := s.TryWrite(big[n:]); err != nil {
		t.Errorf("%d octets without room, %v", more, err)
	} else {
		n += more
	}
	got := make([]byte, n)
	if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, big[:n]) {
		t.Errorf("what came is not what was written: %v", err)
	}
}

// attended has s attended, and gives what has come in each turn to turns until
// something but octets comes, which is its error.
func attended(s *Stream, mem *notes, turns chan<- string) error {
	var end error
	err := s.Attend(func() bool {
		got := ""
		for {
			n, err := s.Read()
			got += string(mem.buf[:n])
			if err == nil {
				continue
			}
			if end = err; errors.Is(err, ErrEmpty) {
				end = nil
			}
			turns <- got
			return end != nil
		}
	})
	return errors.Join(err, end)
}

func TestStreamIsAttendedWheneverSomethingComes(t *testing.T) {
	mem := &notes{buf: make([]byte, 4)}
	s, near, far := streamPair(t, mem)
	turns, end := make(chan string), make(chan error)
	go func() { end <- attended(s, mem, turns) }()
	if got := <-turns; got != "" {
		t.Errorf("%q before anything", got)
	}
	for _, part := range []string{"abc", "defg", "hijklmnop", "q"} {
		if _, err := far.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
		for got := ""; got != part; got += <-turns { // loopback may deliver it in pieces
			if len(got) > len(part) {
				t.Fatalf("%q came, for %q", got, part)
			}
		}
	}
	if err := near.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := <-end; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("at the deadline: %v", err)
	}
	if err := near.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	// What came meanwhile is there in the first turn, and with it the end.
	if _, err := far.Write([]byte("rst")); err != nil {
		t.Fatal(err)
	}
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Millisecond) // or two turns are had, which is as good
	go func() { end <- attended(s, mem, turns) }()
	if got, err := untilEnd(turns, end); got != "rst" || !errors.Is(err, io.EOF) {
		t.Errorf("%q, %v", got, err)
	}
}

// untilEnd returns what comes until the end, and that.
func untilEnd(turns <-chan string, end <-chan error) (got string, err error) {
	for {
		select {
		case part := <-turns:
			got += part
		case err := <-end:
			return got, err
		}
	}
}

// The end of the stream that comes together with octets is no news of its own.
func TestStreamHearsOfTheEndThatComesWithOctets(t *testing.T) {
	for range 100 {
		mem := &notes{buf: make([]byte, 100)}
		s, _, far := streamPair(t, mem)
		turns, end := make(chan string, 10), make(chan error)
		go func() { end <- attended(s, mem, turns) }()
		<-turns
		_, err := far.Write([]byte("abc"))
		if err = errors.Join(err, far.(*net.TCPConn).CloseWrite()); err != nil {
			t.Fatal(err)
		}
		if err := <-end; !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
}
