package dnstap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// rotatedFormat is what names of files that are complete have before their
// extension: UTC, so that they sort by age.
const rotatedFormat = "20060102T150405.000Z"

// fileMode keeps what clients ask from other users of the machine.
const fileMode = 0o640

// File says which files frames are written to. The one that is written has the
// name Path. When it is complete it gets the time into its name, before the
// extension.
type File struct {
	Path    string
	MaxSize int64         // octets after which a file is complete; 0: no bound
	MaxAge  time.Duration // after which it is; 0: no bound
	Keep    int           // complete files that are kept, the latest; 0: all
}

// opener returns a function that begins a file.
func (f *File) opener(log *slog.Logger) (func(context.Context) (sink, error), error) {
	if f.Path == "" {
		return nil, errors.New("a file without a path")
	}
	r := &files{conf: *f, log: log}
	return func(context.Context) (sink, error) {
		if r.file == nil {
			if err := r.begin(); err != nil {
				return nil, err
			}
		}
		return r, nil
	}, nil
}

// files writes one file after the other. A write that failed leaves the file
// open, without the frame that was cut: when there is room again it goes on.
type files struct {
	conf  File
	log   *slog.Logger
	file  *os.File // nil: none
	size  int64
	begun time.Time
}

// begin begins a file. One that is there, from a process before, is put away.
func (r *files) begin() error {
	start := AppendControl(nil, ControlStart)
	if old, err := os.Stat(r.conf.Path); err == nil && old.Mode().IsRegular() && !r.blank(old.Size()) {
		if err := r.putAway(old.ModTime()); err != nil {
			return err
		}
	}
	file, err := os.OpenFile(r.conf.Path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	if _, err := file.Write(start); err != nil {
		_ = file.Close()
		return err
	}
	r.file, r.size, r.begun = file, int64(len(start)), time.Now()
	return nil
}

// blank reports whether the file that is there, of a size, has no frame: it is no
// loss, and to put it away would cost one that has some, with each start of a
// process that does not live for long.
func (r *files) blank(size int64) bool {
	whole := AppendControl(AppendControl(nil, ControlStart), ControlStop)
	if size > int64(len(whole)) {
		return false
	}
	b, err := os.ReadFile(r.conf.Path)
	return err == nil && bytes.HasPrefix(whole, b)
}

func (r *files) write(b []byte) (int, error) {
	if r.file == nil { // the last one was completed, and no other could be begun
		if err := r.begin(); err != nil {
			return 0, err
		}
	}
	n, err := r.file.Write(b)
	if err == nil {
		r.size += int64(n)
		if r.conf.MaxSize > 0 && r.size >= r.conf.MaxSize {
			r.rotate()
		}
		return n, nil
	}
	_, whole := countFrames(b, n)
	r.size += int64(whole)
	if cut := r.restore(); cut != nil {
		// Nothing after the cut frame could be read: this file is done for.
		_ = r.file.Close()
		r.file = nil
		return whole, errors.Join(err, cut)
	}
	return whole, err
}

// restore makes the file end after its last whole frame.
func (r *files) restore() error {
	if err := r.file.Truncate(r.size); err != nil {
		return err
	}
	_, err := r.file.Seek(r.size, 0)
	return err
}

func (r *files) tick(now time.Time) error {
	if r.file != nil && r.conf.MaxAge > 0 && now.Sub(r.begun) >= r.conf.MaxAge {
		r.rotate()
	}
	return nil
}

// rotate completes the file. What goes wrong loses no frame, so it is only
// logged. The next write begins the next file.
func (r *files) rotate() {
	err := r.complete()
	if err == nil {
		err = r.putAway(time.Now())
	}
	if err != nil {
		r.log.Warn("a file of dnstap could not be completed", "file", r.conf.Path, "error", err)
	}
}

// complete closes the file.
func (r *files) complete() error {
	_, err := r.file.Write(AppendControl(nil, ControlStop))
	if err != nil {
		err = errors.Join(err, r.restore())
	}
	err = errors.Join(err, r.file.Close())
	r.file = nil
	return err
}

// putAway gives the file the time into its name, and removes those that are too
// old. Two of one millisecond are told apart by moving the time.
func (r *files) putAway(at time.Time) error {
	for {
		name := r.rotated(at.UTC().Format(rotatedFormat))
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			if err := os.Rename(r.conf.Path, name); err != nil {
				return err
			}
			return r.prune()
		}
		at = at.Add(time.Millisecond)
	}
}

// rotated returns the name of a complete file.
func (r *files) rotated(at string) string {
	ext := filepath.Ext(r.conf.Path)
	return strings.TrimSuffix(r.conf.Path, ext) + "-" + at + ext
}

// prune removes the oldest complete files beyond Keep.
func (r *files) prune() error {
	if r.conf.Keep <= 0 {
		return nil
	}
	dir := filepath.Dir(r.conf.Path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	before, after, _ := strings.Cut(filepath.Base(r.rotated("\x00")), "\x00")
	var old []string
	for _, e := range entries {
		at, ok := strings.CutPrefix(e.Name(), before)
		if at, ok2 := strings.CutSuffix(at, after); ok && ok2 && isRotated(at) {
			old = append(old, e.Name())
		}
	}
	slices.Sort(old)
	for _, name := range old[:max(len(old)-r.conf.Keep, 0)] {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("remove an old file: %w", err)
		}
	}
	return nil
}

func isRotated(at string) bool {
	_, err := time.Parse(rotatedFormat, at)
	return err == nil
}

// gone is never closed: a file does not hang up.
func (r *files) gone() <-chan struct{} { return nil }

func (r *files) finish(well bool) error {
	if !well || r.file == nil {
		return nil // it goes on where it ended
	}
	if err := r.complete(); err != nil {
		return err
	}
	return nil
}
