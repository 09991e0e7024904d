package shared

import (
	"bufio"
	"bytes"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// memcached is a real one, on a loopback address.
type memcached struct {
	Server
	args []string
	cmd  *exec.Cmd
}

// startMemcached starts a memcached with the given arguments, which ends with
// the test.
func startMemcached(t testing.TB, name string, args ...string) *memcached {
	t.Helper()
	m := &memcached{Server: Server{Name: name}, args: args}
	m.start(t, "-1")
	t.Cleanup(m.kill)
	return m
}

// start starts the process on a port; -1 is any.
func (m *memcached) start(t testing.TB, port string) {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	where := filepath.Join(t.TempDir(), "port")
	args := append([]string{"-l", "127.0.0.1", "-p", port, "-U", "0", "-u", me.Username, "-t", "1"}, m.args...)
	m.cmd = exec.Command("memcached", args...)
	m.cmd.Env = append(os.Environ(), "MEMCACHED_PORT_FILENAME="+where)
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var errors bytes.Buffer
	m.cmd.Stderr = &errors
	if err := m.cmd.Start(); err != nil {
		t.Fatalf("memcached has to be installed (tools/install-test-deps): %v", err)
	}
	for range 500 {
		if text, err := os.ReadFile(where); err == nil && strings.HasSuffix(string(text), "\n") {
			_, number, _ := strings.Cut(strings.TrimSpace(string(text)), ": ")
			if n, err := strconv.ParseUint(number, 10, 16); err == nil {
				m.Addr = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(n))
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.kill()
	t.Fatalf("memcached %v does not start: %s", args, errors.String())
}

// kill ends it at once.
func (m *memcached) kill() {
	if m.cmd != nil {
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait()
		m.cmd = nil
	}
}

// restart starts it anew, empty, on the port it had.
func (m *memcached) restart(t testing.TB) {
	t.Helper()
	m.kill()
	m.start(t, strconv.Itoa(int(m.Addr.Port())))
}

func (m *memcached) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := m.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// tell sends text and returns the answer up to a line that ends it.
func (m *memcached) tell(t testing.TB, text string) string {
	t.Helper()
	conn, err := net.Dial("tcp", m.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("%q: %v after %q", text, err, out.String())
		}
		out.WriteString(line)
		switch strings.TrimSpace(line) {
		case "END", "OK", "STORED", "NOT_STORED", "DELETED", "NOT_FOUND":
			return out.String()
		}
	}
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
	opt := Options{Servers: servers, Secrets: Secrets{Values: [][]byte{secret(1)}}, Writer: "test", Budget: time.Second}
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

// eventually waits until it holds, for ten seconds at most.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for range 1000 {
		if holds() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("in ten seconds it has not come true: %s", what)
}
