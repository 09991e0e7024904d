// Package systemd speaks to the service manager, if there is one: it takes the
// sockets that are handed to the process (sd_listen_fds(3)), and says how the
// process is doing (sd_notify(3)). It is all that libsystemd would be needed for.
package systemd

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Notifier tells the manager. A nil one tells nobody.
type Notifier struct{ to *net.UnixAddr }

// NewNotifier returns the notifier that the environment asks for; nil if it asks
// for none.
func NewNotifier() *Notifier {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" || path[0] != '/' && path[0] != '@' {
		return nil // others, as vsock:, are for machines
	}
	return &Notifier{&net.UnixAddr{Name: path, Net: "unixgram"}}
}

// Notify sends assignments, such as Ready, each a line.
func (n *Notifier) Notify(assignments ...string) error { return n.send(nil, assignments) }

// The assignments.
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
	Watchdog = "WATCHDOG=1"
)

// Reloading says that a reload begins; it ends with Ready. The manager wants to
// know when, to tell it from one before.
func Reloading() string {
	return fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", monotonic().Microseconds())
}

// MainPID says that another process is the service's main one from now on.
func MainPID(pid int) string { return fmt.Sprintf("MAINPID=%d", pid) }

// Status is what people read in `systemctl status`.
func Status(text string) string { return "STATUS=" + strings.ReplaceAll(text, "\n", " ") }

// Store has the manager keep duplicates of the sockets under a name, until Forget
// or the end of the service: the next process gets them. Sockets that it has
// already are not kept twice.
func (n *Notifier) Store(name string, sockets ...syscall.Conn) error {
	fds := make([]int, 0, len(sockets))
	defer func() {
		for _, fd := range fds {
			_ = syscall.Close(fd) // a duplicate
		}
	}()
	for _, s := range sockets {
		fd, err := duplicate(s)
		if err != nil {
			return err
		}
		fds = append(fds, fd)
	}
	// An error on a socket, such as a client's ICMP message, is no reason for the
	// manager to let go of it.
	return n.send(fds, []string{"FDSTORE=1", "FDPOLL=0", "FDNAME=" + name})
}

// Forget has the manager let go of what it keeps under a name.
func (n *Notifier) Forget(name string) error {
	return n.send(nil, []string{"FDSTOREREMOVE=1", "FDNAME=" + name})
}

// Barrier waits until the manager has done what it was told before, but no longer
// than patience.
func (n *Notifier) Barrier(patience time.Duration) error {
	if n == nil {
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // nothing is written to it
	rc, err := w.SyscallConn()
	if err == nil {
		ctl := rc.Control(func(fd uintptr) { err = n.send([]int{int(fd)}, []string{"BARRIER=1"}) })
		err = errors.Join(err, ctl)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return err
	}
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	// The manager closes its end when it has come to it.
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("wait for the service manager: %w", err)
	}
	return nil
}

// Name makes text a name that a socket can have: at most 255 characters without
// control characters and colons.
func Name(text string) string {
	clean := func(r rune) rune {
		if r <= ' ' || r >= 0x7F || r == ':' {
			return '_'
		}
		return r
	}
	name := strings.Map(clean, text)
	return name[:min(len(name), maxName)]
}

const maxName = 255

// send sends one datagram.
func (n *Notifier) send(fds []int, assignments []string) error {
	if n == nil {
		return nil
	}
	// Package net sends descriptors from sockets that are not connected only.
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	defer func() { _ = c.Close() }() // what was sent is sent
	var rights []byte
	if len(fds) > 0 {
		rights = syscall.UnixRights(fds...)
	}
	if _, _, err := c.WriteMsgUnix([]byte(strings.Join(assignments, "\n")), rights, n.to); err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	return nil
}

// duplicate returns a duplicate of a socket, which is not inherited by children.
func duplicate(s syscall.Conn) (fd int, err error) {
	rc, err := s.SyscallConn()
	if err != nil {
		return 0, err
	}
	ctl := rc.Control(func(orig uintptr) {
		if fd, err = syscall.Dup(int(orig)); err == nil {
			syscall.CloseOnExec(fd)
		}
	})
	if ctl != nil {
		return 0, ctl
	}
	return fd, err
}

// WatchdogInterval returns within what time the manager wants to hear Watchdog; 0:
// it does not.
func WatchdogInterval() time.Duration {
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	usec, err := strconv.ParseUint(os.Getenv("WATCHDOG_USEC"), 10, 53)
	if err != nil {
		return 0
	}
	return time.Duration(usec) * time.Microsecond
}
