package daemon

import (
	"log/slog"
	"syscall"
	"testing"

	"shirube/internal/netx"
)

// TestEverySocketGoesToTheNextProcess binds every transport from the sockets of a
// server that still has them: nobody else could.
func TestEverySocketGoesToTheNextProcess(t *testing.T) {
	first := serveEverywhere(t, nil)
	passed := new(netx.Passed)
	for _, l := range first.listening {
		if len(l.sockets) == 0 {
			t.Errorf("%s has no sockets for the process after it", l.endpoint)
		}
		for _, s := range l.sockets {
			if err := passed.Pass(l.storedAs(), duplicateOf(t, s)); err != nil {
				t.Fatal(err)
			}
		}
	}
	next, err := New(first.Pipeline().Config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	next.passed = passed
	if err := next.Start(); err != nil {
		t.Fatal(err)
	}
	if got, want := len(next.listening), len(first.listening); got != want {
		t.Errorf("the next server listens in %d places, want %d", got, want)
	}
	if err := next.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	for _, l := range []int{0, 1} { // and the first one still has its own
		if m, err := askListener([]string{"udp", "tcp"}[l], first.Pipeline().Config.Listen[0]); err != nil {
			t.Errorf("%v, %v", m, err)
		}
	}
}

// duplicateOf returns a duplicate of a socket's descriptor.
func duplicateOf(t *testing.T, s syscall.Conn) (fd int) {
	t.Helper()
	rc, err := s.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if ctl := rc.Control(func(orig uintptr) { fd, err = syscall.Dup(int(orig)) }); ctl != nil || err != nil {
		t.Fatal(ctl, err)
	}
	return fd
}
