package control

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestSocketIsForItsOwnerAndGroup(t *testing.T) {
	for _, umask := range []int{0, 0o077} {
		old := syscall.Umask(umask)
		s := serve(t, nil, nil)
		syscall.Umask(old)
		file, err := os.Lstat(s.opt.Path)
		if err != nil || file.Mode() != fs.ModeSocket|0o660 {
			t.Errorf("umask %#o: %v, %v", umask, file.Mode(), err)
		}
	}
}

// TestSocketIsNeverOpenToOthers looks at what bind(2) makes of it, before any
// chmod.
func TestSocketIsNeverOpenToOthers(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	l, err := tryListen(t.Context(), socketPath(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.UnixListener.Close() }()
	if file, err := os.Lstat(l.path); err != nil || file.Mode().Perm()&0o007 != 0 {
		t.Errorf("%v, %v", file.Mode(), err)
	}
}

func TestSocketGoesToTheConfiguredGroup(t *testing.T) {
	gid := os.Getegid()
	if os.Geteuid() == 0 {
		gid = someGroup
	}
	s := serve(t, func(opt *Options) { opt.Group = gid }, nil)
	file, err := os.Lstat(s.opt.Path)
	if err != nil {
		t.Fatal(err)
	}
	if got := file.Sys().(*syscall.Stat_t).Gid; int(got) != gid {
		t.Errorf("got the group %d, want %d", got, gid)
	}
}

func TestSocketIsRemovedAtTheEnd(t *testing.T) {
	s, err := New(Options{Path: socketPath(t), Group: -1, Backend: fake()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Start()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(s.opt.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestSocketOfASuccessorStays(t *testing.T) {
	path := socketPath(t)
	first, err := listen(t.Context(), path, -1)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil { // as somebody may do by hand
		t.Fatal(err)
	}
	second, err := listen(t.Context(), path, -1)
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
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestStaleSocketIsReplaced(t *testing.T) {
	l, err := listen(t.Context(), stale(t), -1)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestListenTakesNothingFromOthers(t *testing.T) {
	s := serve(t, nil, nil)
	if _, err := listen(t.Context(), s.opt.Path, -1); err == nil || !strings.Contains(err.Error(), "another server listens there") {
		t.Errorf("at a living server's socket: %v", err)
	}
	if _, err := NewClient(s.opt.Path).Do(t.Context(), "GET", "/v1/status", nil, nil); err != nil {
		t.Errorf("the living server does not answer any more: %v", err)
	}
	path := socketPath(t)
	if err := os.WriteFile(path, []byte("dear"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(t.Context(), path, -1); err == nil || !strings.Contains(err.Error(), "no socket") {
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
		if _, err := listen(t.Context(), path, -1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if _, err := New(Options{Path: "x", Backend: Backend{}}); err == nil {
		t.Error("a backend without functions passes")
	}
	b := fake()
	b.AddNegative = nil
	if _, err := New(Options{Path: "x", Backend: b}); err == nil {
		t.Error("a backend with half of the anchors passes")
	}
}
