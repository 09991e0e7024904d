package control

import (
	"errors"
	"io/fs"
	"os"
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

func TestBackendIsWhole(t *testing.T) {
	if _, err := New(Options{Path: "x", Backend: Backend{}}); err == nil {
		t.Error("a backend without functions passes")
	}
	b := fake()
	b.AddNegative = nil
	if _, err := New(Options{Path: "x", Backend: b}); err == nil {
		t.Error("a backend with half of the anchors passes")
	}
}
