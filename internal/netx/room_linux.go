//go:build linux && (amd64 || arm64)

package netx

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// room says when the runtime's poller is told of room in a socket's send buffer:
// only while somebody waits for it.
//
// The runtime asks its epoll instance for both directions of every descriptor, once
// and for all. For a UDP socket the kernel then reports room after each datagram
// that has left (sock_def_write_space), whether or not there had been none: that is
// a lock, a queue and often a thread woken for nothing, with every response. It was
// 3 to 5 % of what a cached answer costs, and more in what it led to. Servers in C
// do not ask for it.
//
// The runtime has no way to say so. But what it has asked for, and by which word it
// knows the descriptor again, stands in /proc/self/fdinfo (proc(5)), and may be
// changed from outside (EPOLL_CTL_MOD). Where that cannot be read, all stays as the
// runtime wants it.
type room struct {
	mu      sync.Mutex
	epoll   int             // the runtime's; 0: not known, and nothing is changed
	event   unix.EpollEvent // what it asked for
	waiting int             // who wait for room
}

// find finds out what the runtime has asked for c, and asks for less.
func (r *room) find(c syscall.RawConn) error {
	return onFD(c, func(fd int) error {
		epoll, event, err := registration(fd)
		if err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.epoll, r.event = epoll, event
		return r.ask(fd)
	})
}

// want has the poller told of room from now on, once at least if there is some
// (epoll_ctl(2) looks). Each call is followed by one of leave.
func (r *room) want(c syscall.RawConn) { r.change(c, +1) }

// leave undoes a want.
func (r *room) leave(c syscall.RawConn) { r.change(c, -1) }

func (r *room) change(c syscall.RawConn, by int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.epoll == 0 {
		return
	}
	before := r.waiting
	if r.waiting += by; (before > 0) != (r.waiting > 0) {
		// The socket is closed, or else whoever waits does so until his deadline.
		_ = onFD(c, r.ask)
	}
}

// ask asks the runtime's epoll instance to tell of fd what it was asked for, and of
// room if somebody waits for it. The caller has locked r.
func (r *room) ask(fd int) error {
	event := r.event
	event.Events &^= unix.EPOLLOUT
	if r.waiting > 0 {
		event.Events |= unix.EPOLLOUT
	}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(r.epoll, unix.EPOLL_CTL_MOD, fd, &event))
}

// lowestEpolls bounds the descriptors among which the runtime's epoll instance is
// looked for. It makes it with the first file or socket that it opens, so that only
// sockets that were passed to the process come before.
const lowestEpolls = 1024

// registration returns the epoll instance that watches fd, and what it was asked for.
func registration(fd int) (epoll int, event unix.EpollEvent, err error) {
	for epoll := range lowestEpolls {
		name := strconv.Itoa(epoll)
		kind, err := os.Readlink("/proc/self/fd/" + name)
		if err != nil || kind != "anon_inode:[eventpoll]" {
			continue
		}
		info, err := os.ReadFile("/proc/self/fdinfo/" + name)
		if err != nil {
			return 0, event, err
		}
		if event, ok := parseWatched(string(info), fd); ok {
			return epoll, event, nil
		}
	}
	return 0, event, fmt.Errorf("no epoll instance among the first %d descriptors watches descriptor %d", lowestEpolls, fd)
}

// parseWatched finds what an epoll instance was asked for of fd in its fdinfo: a line
// for each descriptor, as "tfd: 7 events: 8000201d data: 7f5c2c0d8e98 pos:0 …".
func parseWatched(info string, fd int) (event unix.EpollEvent, ok bool) {
	for line := range strings.Lines(info) {
		f := strings.Fields(line)
		if len(f) < 6 || f[0] != "tfd:" || f[1] != strconv.Itoa(fd) || f[2] != "events:" || f[4] != "data:" {
			continue
		}
		events, err := strconv.ParseUint(f[3], 16, 32)
		if err != nil {
			return event, false
		}
		data, err := strconv.ParseUint(f[5], 16, 64)
		if err != nil {
			return event, false
		}
		event.Events = uint32(events)
		*(*[8]byte)(unsafe.Pointer(&event.Fd)) = *(*[8]byte)(unsafe.Pointer(&data)) // epoll_data_t, of which x/sys has the halves
		return event, true
	}
	return event, false
}
