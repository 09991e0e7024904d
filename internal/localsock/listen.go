// Package localsock is unix sockets that only some users of this machine may use:
// by the mode of the socket's file, and once more by what the kernel says of who
// connects.
package localsock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// socketMode is what the socket's file is created with: for the server's user
// and the configured group.
const socketMode = 0o660

// maxPath is how long the path of a unix socket may be (unix(7): 108 octets
// with the zero at the end).
const maxPath = 107

// probeTime is how long another server may take to accept the connection that
// finds out whether it is there. A unix socket answers at once, or its queue is
// full.
const probeTime = time.Second

// Options configures a [Listener].
type Options struct {
	Path    string // of the socket
	UID     int    // the server's own user
	Group   int    // ID of a group that may use it, besides root and UID; negative: none
	Section string // of the configuration, which has the keys `socket` and `group`; what the socket is called by

	Friends   int // connections at once, of those who may use it; one more is closed on arrival
	Strangers int // of those who may not, and are told so

	Log *slog.Logger // told who is turned away; nil: nobody is
}

// Listener is a unix socket that knows its file, and whose the connections are.
type Listener struct {
	*net.UnixListener
	opt    Options
	file   *file
	allows allows

	friends, strangers atomic.Int32 // connections open
}

// Listen opens a socket. The file of a socket that nobody listens on is
// replaced; any other file is not. Errors name the path, and what to do about it.
func Listen(ctx context.Context, opt Options) (*Listener, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	path := opt.Path
	u, err := tryListen(ctx, path)
	if errors.Is(err, syscall.EADDRINUSE) {
		if err = opt.removeStale(ctx); err == nil {
			u, err = tryListen(ctx, path)
		}
	}
	if err != nil {
		return nil, opt.explain(err)
	}
	l := newListener(u, &opt, new(file))
	if err = l.Restrict(); err == nil {
		l.file.FileInfo, err = os.Lstat(path)
	}
	if err != nil {
		return nil, errors.Join(opt.explain(err), u.Close(), os.Remove(path))
	}
	return l, nil
}

// file is the file of a socket. The last Listener removes it.
type file struct {
	os.FileInfo
	listeners atomic.Int32
}

func newListener(u *net.UnixListener, opt *Options, f *file) *Listener {
	u.SetUnlinkOnClose(false) // see Close
	f.listeners.Add(1)
	return &Listener{UnixListener: u, opt: *opt, file: f, allows: allows{uid: opt.UID, gid: opt.Group}}
}

// Again returns another Listener on the socket of l, by other options of the same
// path. Each has to be closed, and the socket is there until both are. Call
// [Listener.Restrict] when the other options are to count for the file too.
func (l *Listener) Again(opt Options) (*Listener, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	f, err := l.File()
	if err != nil {
		return nil, opt.explain(err)
	}
	defer func() { _ = f.Close() }() // it is a copy
	u, err := net.FileListener(f)
	if err != nil {
		return nil, opt.explain(err)
	}
	return newListener(u.(*net.UnixListener), &opt, l.file), nil // what l is
}

// Restrict makes the socket's file one for the server's user and the group.
func (l *Listener) Restrict() error {
	if l.opt.Group >= 0 {
		if err := os.Lchown(l.opt.Path, -1, l.opt.Group); err != nil {
			return err
		}
	}
	return os.Chmod(l.opt.Path, socketMode) // the umask may have taken something away
}

// tryListen binds the socket. Linux gives the file the mode of the descriptor,
// less the umask: it is never open to others, not even for a moment.
func tryListen(ctx context.Context, path string) (*net.UnixListener, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("found %d octets; expected at most %d (unix(7))", len(path), maxPath)
	}
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) (err error) {
		return errors.Join(rc.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), socketMode) }), err)
	}}
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	return l.(*net.UnixListener), nil // what Listen returns for unix
}

// removeStale removes the socket if nobody listens on it.
func (o *Options) removeStale(ctx context.Context) error {
	path := o.Path
	switch file, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case file.Mode().Type() != fs.ModeSocket:
		return errors.New("a file is there that is no socket; remove it, or choose another path")
	}
	d := net.Dialer{Timeout: probeTime}
	c, err := d.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = c.Close() // nothing was said on it
		return fmt.Errorf("another server listens there; each needs a socket of its own (%s.socket)", o.Section)
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, fs.ErrNotExist): // it has just gone
		return nil
	}
	return err
}

// explain gives err its place, and says what to do about it where that is known.
func (o *Options) explain(err error) error {
	err = fmt.Errorf("%s socket %s: %w", o.Section, o.Path, Shorten(err))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: make the directory %s, or let systemd do it (RuntimeDirectory=)", err, filepath.Dir(o.Path))
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: the server needs a directory that it can write to, and has to be in the group that %s.group names", err, o.Section)
	}
	return err
}

// Shorten returns err without the words of package net and os that repeat the
// path.
func Shorten(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err
	}
	if s, ok := errors.AsType[*os.SyscallError](err); ok && !strings.Contains(s.Syscall, " ") {
		err = s.Err
	}
	return err
}

// Close closes the socket and removes its file, unless that is another server's
// by now. Further calls do nothing.
func (l *Listener) Close() error {
	err := l.UnixListener.Close()
	if errors.Is(err, net.ErrClosed) {
		return err
	}
	if l.file.listeners.Add(-1) > 0 {
		return err
	}
	if now, serr := os.Lstat(l.opt.Path); serr == nil && os.SameFile(now, l.file.FileInfo) {
		err = errors.Join(err, os.Remove(l.opt.Path))
	}
	return err
}
