package control

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"shirube/internal/wire"
)

// patience is how long a test waits for what has to happen.
const patience = 30 * time.Second

// fake is a backend that answers with what the tests look for.
func fake() Backend {
	level := "info"
	return Backend{
		Status: func() Status { return Status{Version: "v9", State: StateReady} },
		Stats:  func() map[string]any { return map[string]any{"udp": map[string]any{"received": 7}} },
		Lookup: func(n wire.Name) Lookup { return Lookup{Name: n.String(), Zone: "example.", Kind: "learned"} },
		Flights: func() Flights {
			return Flights{Flights: []Flight{{Name: "www.example.", Type: "A", Waiters: 3}}}
		},
		Trace: func(_ context.Context, q wire.Question, tell func(any)) (TraceEnd, error) {
			tell(map[string]string{"step": "question", "question": q.String()})
			return TraceEnd{Step: StepAnswer, Rcode: "NOERROR", Records: []string{"www.example. 1 IN A 192.0.2.1"}}, nil
		},
		Flush: func(_ context.Context, f Flush) (Flushed, error) {
			n := Flushed{Answers: 1, RRsets: int(f.Type)}
			if f.Below {
				n.Cuts = len(f.Name)
			}
			if f.Fleet && f.Name == "\x05alone\x00" {
				return n, errors.New("there is no fleet")
			}
			if f.Fleet {
				n.Fleet = &FleetFlushed{Servers: 2, Of: 3}
			}
			return n, nil
		},
		Cache: func() CacheLayers { return CacheLayers{Memory: []Cache{{Name: "answers"}}} },
		Entry: func(_ context.Context, q wire.Question) CacheEntry {
			return CacheEntry{Name: q.Name.String(), Type: q.Type.String(), Memory: []MemoryEntry{}}
		},
		Top: func(most int) []Asked { return []Asked{{Name: "www.example.", Type: "A", Count: uint32(most)}} },
		Drain: func(on bool) error {
			if !on && level == "debug" {
				return errors.New("the server is stopping")
			}
			return nil
		},
		HandOver:  func(int) (*Estate, error) { return nil, errors.New("the server is stopping") },
		Upgrade:   func(context.Context) (int, error) { return 7, nil },
		Reload:    func(context.Context) (Reloaded, error) { return Reloaded{Changed: []string{"log.level"}}, nil },
		Validates: func() bool { return true },
		Anchors:   func() []Anchor { return []Anchor{{Zone: ".", Trusted: []uint16{20326}}} },
		Negatives: func() []Negative { return []Negative{{Name: "broken.example.", Reason: "a test"}} },
		AddNegative: func(n wire.Name, lasts time.Duration, reason string) (Negative, error) {
			if lasts > 7*24*time.Hour {
				return Negative{}, errors.New("too long for RFC 7646")
			}
			return Negative{Name: n.String(), Until: time.Unix(0, 0).Add(lasts), Reason: reason}, nil
		},
		RemoveNegative: func(n wire.Name) bool { return n == wire.MustParseName("broken.example.") },
		LogLevel:       func() string { return level },
		SetLogLevel: func(l string) error {
			if l != "debug" {
				return errors.New("expected debug")
			}
			level = l
			return nil
		},
	}
}

// socketPath returns a path for a socket whose directory everybody may enter.
func socketPath(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} { // the second is 0700
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "s")
}

// serve starts a server with the fake backend, which lasts as long as the test.
func serve(t *testing.T, change func(*Options), before func(*Server)) *Server {
	t.Helper()
	opt := Options{Path: socketPath(t), Group: -1, UID: os.Geteuid(), Backend: fake(), Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&opt)
	}
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	if before != nil {
		before(s)
	}
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// dial connects to s. The connection is closed at the end of the test.
func dial(t *testing.T, s *Server) *net.UnixConn {
	t.Helper()
	c, err := net.Dial("unix", s.opt.Path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.UnixConn)
}

// someUser and someGroup are nobody's on any machine that these tests run on.
const (
	someUser  = 54321
	someGroup = 54322
)

// asSomeone runs f as someUser, of the group someGroup alone. It needs root: it
// changes the credentials of one thread, which ends with f.
func asSomeone(t *testing.T, f func()) {
	t.Helper()
	failed := make(chan error, 1)
	// Owner: this test. End: f's. Bound: one. The thread is never unlocked, so
	// that it ends, and no other goroutine gets its credentials.
	go func() {
		runtime.LockOSThread()
		groups := [1]uint32{someGroup}
		for _, call := range []struct{ number, a, b, c uintptr }{
			{syscall.SYS_SETGROUPS, 1, uintptr(unsafe.Pointer(&groups)), 0},
			{syscall.SYS_SETRESGID, someUser, someUser, someUser},
			{syscall.SYS_SETRESUID, someUser, someUser, someUser},
		} {
			if _, _, errno := syscall.RawSyscall(call.number, call.a, call.b, call.c); errno != 0 {
				failed <- errno
				return
			}
		}
		f()
		failed <- nil
	}()
	if err := <-failed; err != nil {
		t.Fatal("cannot become another user:", err)
	}
}

// stale leaves a socket behind that nobody listens on, as a crash does.
func stale(t *testing.T) string {
	t.Helper()
	path := socketPath(t)
	if err := syscall.Mknod(path, syscall.S_IFSOCK|0o660, 0); err != nil {
		t.Fatal(err)
	}
	return path
}
