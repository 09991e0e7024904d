// Package memcached starts real memcached servers for tests, on loopback
// addresses.
package memcached

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"shirube/internal/porttest"
)

// patience is how long something may take that takes a moment on a quiet machine.
const patience = 30 * time.Second

// Process is a memcached under way.
type Process struct {
	Addr netip.AddrPort
	args []string
	cmd  *exec.Cmd
}

// Start starts a memcached with the given arguments, with one thread and on a port
// that stays its own while it is down. It ends with the test.
func Start(t testing.TB, args ...string) *Process {
	t.Helper()
	p := &Process{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), porttest.Take(t)), args: args}
	p.start(t)
	t.Cleanup(p.Kill)
	return p
}

// start starts the process, and waits until it listens.
func (p *Process) start(t testing.TB) {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	where := filepath.Join(t.TempDir(), "port")
	args := append([]string{"-l", "127.0.0.1", "-p", strconv.Itoa(int(p.Addr.Port())), "-U", "0", "-u", me.Username, "-t", "1"}, p.args...)
	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), "memcached", args...)
	p.cmd.Env = append(os.Environ(), "MEMCACHED_PORT_FILENAME="+where)
	var errors bytes.Buffer
	p.cmd.Stderr = &errors
	if err := p.cmd.Start(); err != nil {
		p.cmd = nil
		t.Fatalf("memcached has to be installed (tools/install-test-deps): %v", err)
	}
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		if isComplete(where) {
			return
		}
	}
	p.Kill()
	t.Fatalf("memcached %v does not start: %s", args, errors.String())
}

// isComplete reports whether memcached has written its port to file, which it does
// when it listens.
func isComplete(file string) bool {
	text, err := os.ReadFile(file)
	return err == nil && strings.HasSuffix(string(text), "\n")
}

// Kill ends it at once.
func (p *Process) Kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		p.cmd = nil
	}
}

// Restart starts it anew, empty, on the port that it had.
func (p *Process) Restart(t testing.TB) {
	t.Helper()
	p.Kill()
	p.start(t)
}

// Signal sends it a signal, as a fault would. After SIGSTOP it has stopped when
// Signal returns.
func (p *Process) Signal(s syscall.Signal) {
	_ = p.cmd.Process.Signal(s)
	for until := time.Now().Add(patience); s == syscall.SIGSTOP && !p.stopped() && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
}

// stopped reports whether all its threads have stopped (proc(5)): a signal only
// asks them to.
func (p *Process) stopped() bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
	for _, t := range threads {
		stat, _ := os.ReadFile(t)
		if _, rest, _ := strings.Cut(string(stat), ") "); rest != "" && rest[0] != 'T' {
			return false
		}
	}
	return true
}

// Tell sends it text and returns its answer, up to a line that ends one.
func (p *Process) Tell(t testing.TB, text string) string {
	t.Helper()
	conn, err := net.DialTimeout("tcp", p.Addr.String(), patience) //nolint:noctx // it has a time-out
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for lines := bufio.NewReader(conn); ; {
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
