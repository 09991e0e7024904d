package control

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shirube/internal/wire"
)

// answers reports whether s answers who asks now.
func answers(t *testing.T, s *Server) {
	t.Helper()
	if status, text := request(t, s, "GET", "/v1/status", ""); status != 200 {
		t.Errorf("%d, %s", status, text)
	}
}

// rest returns what comes until the server closes, which it has to.
func rest(t *testing.T, c net.Conn) string {
	t.Helper()
	b, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection stays open; so far came %q", b)
	}
	return string(b) // a reset is an end too
}

func TestSlowRequestsAreCut(t *testing.T) {
	const limit = 100 * time.Millisecond
	s := serve(t, nil, func(s *Server) { s.http.ReadTimeout, s.http.IdleTimeout = limit, limit })
	for what, begin := range map[string]string{
		"nothing":       "",
		"half a header": "GET /v1/status HT",
		"half a body":   "POST /v1/cache/flush HTTP/1.1\r\nHost: shirube\r\nContent-Length: 100\r\n\r\n{\"name\":",
		"idle after":    getStatus,
	} {
		c := dial(t, s)
		begun := time.Now()
		if _, err := io.WriteString(c, begin); err != nil {
			t.Fatal(err)
		}
		rest(t, c)
		if took := time.Since(begun); took < limit/2 {
			t.Errorf("%s: closed after %v", what, took)
		}
	}
	dribbled := dial(t, s)
	begun := time.Now()
	for sent := 0; ; sent++ { // an octet now and then wins no time
		if _, err := io.WriteString(dribbled, "G"); err != nil {
			break
		}
		if time.Since(begun) > patience {
			t.Fatalf("an octet at a time keeps a connection for more than %v, and %d octets", patience, sent)
		}
		time.Sleep(limit / 10)
	}
	answers(t, s)
}

func TestLongRequestsAreRefused(t *testing.T) {
	s := serve(t, nil, nil)
	status, text := request(t, s, "POST", "/v1/cache/flush", `{"name":"`+strings.Repeat("x", maxBody)+`"}`)
	if status != http.StatusRequestEntityTooLarge || !strings.Contains(text, "8192") {
		t.Errorf("%d, %s", status, text)
	}
	c := dial(t, s)
	_, _ = io.WriteString(c, "GET /v1/status HTTP/1.1\r\nHost: shirube\r\nX: "+strings.Repeat("x", maxHeader)+"\r\n\r\n") // it may close in the middle
	if got := rest(t, c); !strings.HasPrefix(got, "HTTP/1.1 431 ") {
		t.Errorf("got %.100q", got)
	}
	endless := dial(t, s)
	written, chunk := 0, bytes.Repeat([]byte("x"), 4096)
	for written < 16<<20 {
		n, err := endless.Write(chunk)
		written += n
		if err != nil {
			break
		}
	}
	if written > 4<<20 { // the kernel's buffers take some of it
		t.Errorf("%d octets were taken", written)
	}
	answers(t, s)
}

func TestGarbageDoesNoHarm(t *testing.T) {
	s := serve(t, nil, nil)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 200 {
		c := dial(t, s)
		junk := make([]byte, 1+rng.IntN(300))
		for j := range junk {
			junk[j] = byte(rng.Uint32())
		}
		if i%2 == 0 {
			junk = append([]byte("GET /v1/"), junk...)
		}
		_, _ = c.Write(append(junk, "\r\n\r\n"...)) // it may close in the middle
		_ = c.CloseWrite()
		rest(t, c)
		_ = c.Close()
	}
	for _, line := range []string{
		"PRI * HTTP/2.0", "GET / HTTP/9.9", "CONNECT /v1/status HTTP/1.1", "GET http://other/v1/status HTTP/1.1", "OPTIONS * HTTP/1.1",
		"GET /v1/status\x00 HTTP/1.1", "POST /v1/log HTTP/1.1\r\nTransfer-Encoding: chunked",
	} {
		c := dial(t, s)
		_, _ = io.WriteString(c, line+"\r\nHost: shirube\r\nConnection: close\r\n\r\nffffffffffffffff\r\n") // likewise
		_ = c.CloseWrite()
		rest(t, c)
	}
	answers(t, s)
}

func TestHalfClosedConnectionsAreAnswered(t *testing.T) {
	s := serve(t, nil, nil)
	c := dial(t, s)
	if _, err := io.WriteString(c, getStatus); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := rest(t, c); !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("got %q", got)
	}
	gone := dial(t, s) // asks, and is not there for the answer
	if _, err := io.WriteString(gone, strings.Repeat(getStatus, 10)); err != nil {
		t.Fatal(err)
	}
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	answers(t, s)
}

func TestConnectionsAreBounded(t *testing.T) {
	s := serve(t, nil, nil)
	before := runtime.NumGoroutine()
	var conns []*net.UnixConn
	for range 1000 {
		conns = append(conns, dial(t, s))
	}
	var closed atomic.Int64
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() { // one each, ends with its deadline
			_ = c.SetReadDeadline(time.Now().Add(patience)) // a unix socket has one
			if _, err := c.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				closed.Add(1)
			}
		})
	}
	want := int64(len(conns) - maxConnections)
	for end := time.Now().Add(patience); closed.Load() < want && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	for _, c := range conns {
		_ = c.SetReadDeadline(time.Now())
	}
	wg.Wait()
	if got := closed.Load(); got != want {
		t.Errorf("%d of 1000 connections were closed on arrival, want %d", got, want)
	}
	if now := runtime.NumGoroutine(); now > before+2*maxConnections {
		t.Errorf("%d goroutines, %d before", now, before)
	}
	for _, c := range conns {
		_ = c.Close() // some are
	}
	for range 100 { // the server has to notice
		c := dial(t, s)
		if _, err := io.WriteString(c, getStatus); err == nil {
			if _, err := c.Read(make([]byte, 1)); err == nil {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the places of closed connections are not free again")
}

// blocking returns a backend whose traces tell one step, and wait for more until
// they are called off; and a channel that hears of each that was.
func blocking(opt *Options) (ended chan struct{}) {
	ended = make(chan struct{}, 2*maxTraces)
	opt.Backend.Trace = func(ctx context.Context, _ wire.Question, tell func(any)) (TraceEnd, error) {
		tell(map[string]int{"n": 1})
		<-ctx.Done()
		ended <- struct{}{}
		return TraceEnd{}, ctx.Err()
	}
	return ended
}

// startTrace asks for a trace and returns when its first line is there.
func startTrace(t *testing.T, s *Server) *net.UnixConn {
	t.Helper()
	c := dial(t, s)
	if _, err := io.WriteString(c, "GET /v1/trace?name=a HTTP/1.1\r\nHost: shirube\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(c)
	for lines.Scan() {
		if lines.Text() == `{"n":1}` {
			return c
		}
	}
	t.Fatal("the first step does not come:", lines.Err())
	return nil
}

func TestTraceLinesComeAsTheyAreTold(t *testing.T) {
	read := make(chan struct{}) // one for each line
	s := serve(t, func(opt *Options) {
		opt.Backend.Trace = func(ctx context.Context, _ wire.Question, tell func(any)) (TraceEnd, error) {
			for n := range 3 {
				tell(map[string]int{"n": n})
				select {
				case <-read:
				case <-ctx.Done():
				}
			}
			return TraceEnd{}, errors.New("no luck")
		}
	}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	want := []string{`{"n":0}`, `{"n":1}`, `{"n":2}`, `{"step":"error","error":"no luck"}`}
	var got []string
	err := NewClient(s.opt.Path).Trace(ctx, "a", "A", func(line []byte) error {
		if got = append(got, string(line)); len(got) < len(want) {
			read <- struct{}{}
		}
		return nil
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, got %q, want %q", err, got, want)
	}
}

func TestTraceEndsWhenItsClientGoes(t *testing.T) {
	var ended chan struct{}
	s := serve(t, func(opt *Options) { ended = blocking(opt) }, nil)
	c := startTrace(t, s)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("it goes on")
	}
}

// TestTraceEndsWhenItsClientDoesNotRead floods a client that takes nothing.
func TestTraceEndsWhenItsClientDoesNotRead(t *testing.T) {
	ended := make(chan struct{})
	s := serve(t, func(opt *Options) {
		opt.Backend.Trace = func(ctx context.Context, _ wire.Question, tell func(any)) (TraceEnd, error) {
			defer close(ended)
			for range 1000 { // 10 MB: more than the kernel's buffers
				tell(strings.Repeat("x", 10_000))
			}
			<-ctx.Done()
			return TraceEnd{}, ctx.Err()
		}
	}, func(s *Server) { s.patience = 100 * time.Millisecond })
	c := dial(t, s)
	if _, err := io.WriteString(c, "GET /v1/trace?name=a HTTP/1.1\r\nHost: shirube\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("it goes on")
	}
}

func TestTracesAreBounded(t *testing.T) {
	s := serve(t, func(opt *Options) { blocking(opt) }, nil)
	for range maxTraces {
		startTrace(t, s)
	}
	if status, text := request(t, s, "GET", "/v1/trace?name=a", ""); status != http.StatusTooManyRequests {
		t.Errorf("%d, %s", status, text)
	}
	answers(t, s)
}

// TestCloseEndsTraces closes a server with a trace under way: nothing goes on
// after it.
func TestCloseEndsTraces(t *testing.T) {
	opt := Options{Path: socketPath(t), Group: -1, UID: os.Geteuid(), Backend: fake()}
	ended := blocking(&opt)
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Start()
	startTrace(t, s)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-ended:
	default:
		t.Error("the trace goes on")
	}
}
