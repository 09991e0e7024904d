package dnstap

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// listing returns the names in a directory, in order.
func listing(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestFilesAreRotatedBySize(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out.fstrm")
	if err := os.WriteFile(filepath.Join(dir, "out-of-here.fstrm"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tap := start(t, Options{Outputs: []Output{{File: &File{Path: path, MaxSize: 64 << 10, Keep: 3}, Filter: all()}}})
	const n = 10_000
	emitMany(tap, n)
	shut(t, tap)
	if s := stats(t, tap); s.Sent != n {
		t.Errorf("%+v", s)
	}
	names := listing(t, dir)
	if !slices.Contains(names, "out-of-here.fstrm") {
		t.Error("a foreign file was removed")
	}
	complete := slices.DeleteFunc(names, func(s string) bool { return !strings.HasPrefix(s, "out-2") })
	if len(complete) != 3 {
		t.Errorf("%q", complete)
	}
	for _, name := range complete { // each is whole
		if len(readFile(t, filepath.Join(dir, name))) == 0 {
			t.Errorf("%s is empty", name)
		}
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm()&0o027 != 0 {
			t.Errorf("%v: %v", info.Mode(), err)
		}
	}
}

func TestFilesAreRotatedByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "out")
		tap := start(t, Options{Outputs: []Output{{File: &File{Path: path, MaxAge: time.Hour}, Filter: all()}}})
		for range 3 {
			tap.Emit(0, message(ClientQuery, 1))
			time.Sleep(90 * time.Minute) // between two rotations
		}
		shut(t, tap)
		names := listing(t, dir)
		total := 0
		for _, name := range names {
			total += len(readFile(t, filepath.Join(dir, name)))
		}
		if len(names) != 3 || total != 3 {
			t.Errorf("%d frames in %q", total, names)
		}
	})
}

func TestFileOfAProcessBeforeIsPutAway(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out.fstrm")
	for i := range 3 {
		tap := start(t, Options{Outputs: []Output{{File: &File{Path: path}, Filter: all()}}})
		for range i + 1 {
			tap.Emit(0, message(ClientQuery, 1))
		}
		shut(t, tap)
	}
	total := 0
	names := listing(t, dir)
	for _, name := range names {
		total += len(readFile(t, filepath.Join(dir, name)))
	}
	if len(names) != 3 || total != 6 || len(readFile(t, path)) != 3 {
		t.Errorf("%d frames in %q", total, names)
	}
}

// A server that is started again and again, and tells nothing, leaves alone what
// one before it has told.
func TestFileWithoutFramesCostsNoOther(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out.fstrm")
	if err := os.WriteFile(path, []byte("a short text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		tap := start(t, Options{Outputs: []Output{{File: &File{Path: path, Keep: 2}, Filter: all()}}})
		if i == 0 {
			tap.Emit(0, message(ClientQuery, 1))
		}
		shut(t, tap)
	}
	names, total := listing(t, dir), 0
	for _, name := range names {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(text) != "a short text" {
			total += len(readFile(t, filepath.Join(dir, name)))
		}
	}
	if len(names) != 3 || total != 1 {
		t.Errorf("%d frames in %q", total, names)
	}
}

// TestFullDiskCutsNoFrame limits the size of files, which to a writer is much
// like a full disk, and lifts the limit again.
func TestFullDiskCutsNoFrame(t *testing.T) {
	r := &files{conf: File{Path: filepath.Join(t.TempDir(), "out")}, log: quiet()}
	if err := r.begin(); err != nil {
		t.Fatal(err)
	}
	const n = 100
	o, length := filled(t, Output{File: &r.conf}, n)
	full := limitFileSize(t, uint64(r.size)+uint64(10*length+length/2))
	err := o.send(r)
	full()
	if !errors.Is(err, syscall.EFBIG) || o.Stats().Sent != 10 {
		t.Errorf("%v after %d frames", err, o.Stats().Sent)
	}
	if err := o.send(r); err != nil {
		t.Error(err)
	}
	if err := r.finish(true); err != nil {
		t.Error(err)
	}
	if frames := readFile(t, r.conf.Path); len(frames) != n {
		t.Errorf("%d frames", len(frames))
	}
}

// limitFileSize has every write beyond size fail until the function that it
// returns is called.
func limitFileSize(t *testing.T, size uint64) func() {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	limit := before
	limit.Cur = size
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Fatal(err)
		}
	}
}
