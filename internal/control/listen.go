package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
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

// listener is a unix socket that knows its file.
type listener struct {
	*net.UnixListener
	path string
	file os.FileInfo
}

// listen opens the socket at path, for gid too if that is not negative. The
// file of a socket that nobody listens on is replaced; any other file is not.
func listen(ctx context.Context, path string, gid int) (*listener, error) {
	l, err := tryListen(ctx, path)
	if errors.Is(err, syscall.EADDRINUSE) {
		if err = removeStale(ctx, path); err == nil {
			l, err = tryListen(ctx, path)
		}
	}
	if err != nil {
		return nil, explain(path, err)
	}
	if gid >= 0 {
		err = os.Lchown(path, -1, gid)
	}
	if err == nil {
		err = os.Chmod(path, socketMode) // the umask may have taken something away
	}
	if err == nil {
		l.file, err = os.Lstat(path)
	}
	if err != nil {
		return nil, errors.Join(explain(path, err), l.UnixListener.Close(), os.Remove(path))
	}
	return l, nil
}

// tryListen binds the socket. Linux gives the file the mode of the descriptor,
// less the umask: it is never open to others, not even for a moment.
func tryListen(ctx context.Context, path string) (*listener, error) {
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
	u := l.(*net.UnixListener) // what Listen returns for unix
	u.SetUnlinkOnClose(false)  // see Close
	return &listener{UnixListener: u, path: path}, nil
}

// removeStale removes the socket at path if nobody listens on it.
func removeStale(ctx context.Context, path string) error {
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
		return errors.New("another server listens there; each needs a socket of its own (control.socket)")
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, fs.ErrNotExist): // it has just gone
		return nil
	}
	return err
}

// explain gives err its place, and says what to do about it where that is known.
func explain(path string, err error) error {
	err = fmt.Errorf("control socket %s: %w", path, shorten(err))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: make the directory %s, or let systemd do it (RuntimeDirectory=)", err, filepath.Dir(path))
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: the server needs a directory that it can write to, and has to be in the group that control.group names", err)
	}
	return err
}

// shorten returns err without the words of package net and os that repeat the
// path.
func shorten(err error) error {
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
// by now.
func (l *listener) Close() error {
	err := l.UnixListener.Close()
	if file, serr := os.Lstat(l.path); serr == nil && os.SameFile(file, l.file) {
		err = errors.Join(err, os.Remove(l.path))
	}
	return err
}
