package shared

import (
	"bufio"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shirube/internal/memcached"
)

// realServer is a memcached with a name.
type realServer struct {
	Server
	*memcached.Process
}

// startMemcached starts a memcached with the given arguments, which ends with
// the test.
func startMemcached(t testing.TB, name string, args ...string) *realServer {
	t.Helper()
	p := memcached.Start(t, args...)
	return &realServer{Server{Name: name, Addr: p.Addr}, p}
}

// fake is a server that answers as a test has it, and counts its connections.
type fake struct {
	Server
	ln    net.Listener
	open  atomic.Int64
	all   atomic.Int64
	most  atomic.Int64
	lines atomic.Int64 // requests read
	wg    sync.WaitGroup
}

// startFake starts a server that has answer called for each line that it
// reads. If answer returns false, the connection ends.
func startFake(t testing.TB, answer func(conn net.Conn, line string, lines *bufio.Reader) bool) *fake {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{Server: Server{Name: "fake", Addr: ln.Addr().(*net.TCPAddr).AddrPort()}, ln: ln}
	f.wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			f.all.Add(1)
			f.most.Store(max(f.most.Load(), f.open.Add(1)))
			f.wg.Go(func() {
				defer f.open.Add(-1)
				defer func() { _ = conn.Close() }()
				f.serve(conn, answer)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		f.wg.Wait()
	})
	return f
}

func (f *fake) serve(conn net.Conn, answer func(net.Conn, string, *bufio.Reader) bool) {
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		f.lines.Add(1)
		if !answer(conn, strings.TrimSpace(line), lines) {
			return
		}
	}
}

// newTestCache returns a cache with these servers that ends with the test.
func newTestCache(t testing.TB, change func(*Options), servers ...Server) *Cache {
	t.Helper()
	opt := Options{
		Servers: servers, Secrets: Secrets{Values: [][]byte{secret(1)}}, Writer: "test",
		Budget: 2 * time.Second, Timeout: 2 * time.Second, // a busy machine answers late
	}
	if change != nil {
		change(&opt)
	}
	c, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// fresh returns an entry about k that was stored just now.
func fresh(t testing.TB, k Key) Entry {
	e := entryOf(t, k)
	e.Stored = time.Now()
	e.Deadline = time.Time{}
	return e
}

// unhurried has a server that answers never be late, however busy the machine is.
func unhurried(o *Options) { o.Timeout, o.Budget = patience, patience }

// hurried has a server that says nothing be given up soon, as by default.
func hurried(o *Options) { o.Timeout = 250 * time.Millisecond }

// eventually waits until it holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("in %v it has not come true: %s", patience, what)
}

// one returns what is known of the only server.
func one(s Stats) ServerStats {
	for _, server := range s.Servers {
		return server
	}
	return ServerStats{}
}

// reason returns the place of a word in [Reasons].
func reason(word string) int { return slices.Index(Reasons(), word) }

// record is what happened, in its order, whoever did it.
type record[T any] struct {
	mu   sync.Mutex
	list []T
}

func (r *record[T]) add(v T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, v)
}

func (r *record[T]) all() []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}
