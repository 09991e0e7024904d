package localsock

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// socketPath returns where a socket may be made.
func socketPath(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "s")
}

// at returns options for a socket.
func at(path string) Options {
	return Options{Path: path, UID: os.Geteuid(), Group: -1, Section: "control", Friends: 4, Strangers: 2}
}

func listen(ctx context.Context, path string) (*Listener, error) { return Listen(ctx, at(path)) }

// TestSocketIsNeverOpenToOthers looks at what bind(2) makes of it, before any
// chmod.
func TestSocketIsNeverOpenToOthers(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	path := socketPath(t)
	l, err := tryListen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if file, err := os.Lstat(path); err != nil || file.Mode().Perm()&0o007 != 0 {
		t.Errorf("%v, %v", file.Mode(), err)
	}
}

func TestSocketOfASuccessorStays(t *testing.T) {
	path := socketPath(t)
	first, err := listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil { // as somebody may do by hand
		t.Fatal(err)
	}
	second, err := listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the first took the second's socket along: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
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

func TestStaleSocketIsReplaced(t *testing.T) {
	l, err := listen(t.Context(), stale(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestListenTakesNothingFromOthers(t *testing.T) {
	living := socketPath(t)
	l, err := listen(t.Context(), living)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if _, err := listen(t.Context(), living); err == nil || !strings.Contains(err.Error(), "another server listens there") {
		t.Errorf("at a living server's socket: %v", err)
	}
	c, err := net.Dial("unix", living)
	if err != nil {
		t.Fatalf("the living server cannot be connected to any more: %v", err)
	}
	_ = c.Close()
	path := socketPath(t)
	if err := os.WriteFile(path, []byte("dear"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(t.Context(), path); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("at a file: %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "dear" {
		t.Errorf("the file: %q, %v", text, err)
	}
}

func TestListenSaysWhatToDo(t *testing.T) {
	for path, want := range map[string]string{
		filepath.Join(t.TempDir(), "none", "s"):                 "make the directory",
		filepath.Join(t.TempDir(), strings.Repeat("x", 200)):    "expected at most 107",
		filepath.Join("/proc", "no-such-file-can-be-made.sock"): "control socket /proc/",
	} {
		if _, err := listen(t.Context(), path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

// A reload makes another listener of the one that there is.
func TestSocketIsThereUntilTheLastListenerIsClosed(t *testing.T) {
	path := socketPath(t)
	first, err := listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := first.Again(at(path))
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if err := first.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed again: %v", err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if err := second.Restrict(); err != nil {
		t.Error(err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its file: %v", err)
	}
}
