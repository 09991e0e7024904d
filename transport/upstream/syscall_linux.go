package upstream

import (
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of a socket that never blocks, made without the scheduler's
// knowledge: it has to do nothing before and after, and does not take a
// processor away because the kernel happens to deliver other packets meanwhile.
// A single one that it knows of, for each query, wakes the thread that watches all
// others whenever that has gone to sleep because nothing was to be done; and then that
// looks every 20 us whether it is over, for a millisecond: a twentieth of all CPU time
// of cold names (runtime/proc.go: entersyscallWakeSysmon, sysmon). None allocates, as
// those of package syscall do for addresses.

// sockaddr is an address as the kernel has it.
type sockaddr struct {
	raw unix.RawSockaddrInet6 // or a RawSockaddrInet4, which is shorter, in its place
	len uint32
}

// set makes a the address addr, of port.
func (a *sockaddr) set(addr netip.Addr, port uint16) {
	*a = sockaddr{}
	if addr.Is4() {
		in4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&a.raw))
		in4.Family, in4.Addr = unix.AF_INET, addr.As4()
		a.len = unix.SizeofSockaddrInet4
	} else {
		a.raw.Family, a.raw.Addr = unix.AF_INET6, addr.As16()
		a.len = unix.SizeofSockaddrInet6
	}
	p := (*[2]byte)(unsafe.Pointer(&a.raw.Port)) // at the same place in both
	p[0], p[1] = byte(port>>8), byte(port)
}

// same reports whether a and b are the same address and port.
func (a *sockaddr) same(b *sockaddr) bool {
	if a.raw.Family != b.raw.Family || a.raw.Port != b.raw.Port {
		return false
	}
	if a.raw.Family == unix.AF_INET {
		return (*unix.RawSockaddrInet4)(unsafe.Pointer(&a.raw)).Addr == (*unix.RawSockaddrInet4)(unsafe.Pointer(&b.raw)).Addr
	}
	return a.raw.Addr == b.raw.Addr
}

// errorOf returns what the kernel said as an error.
func errorOf(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

func bind(fd int, a *sockaddr) error {
	_, _, errno := syscall.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&a.raw)), uintptr(a.len))
	return errorOf(errno)
}

func connect(fd int, a *sockaddr) error {
	_, _, errno := syscall.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&a.raw)), uintptr(a.len))
	return errorOf(errno)
}

// setOption sets an option of fd that is an int in C.
func setOption(fd, level, option, value int) error {
	v := int32(value)
	_, _, errno := syscall.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option), uintptr(unsafe.Pointer(&v)), unsafe.Sizeof(v), 0)
	return errorOf(errno)
}

// sendOn sends msg, which is not empty, on a connected socket.
func sendOn(fd int, msg []byte) error {
	_, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&msg[0])), uintptr(len(msg)), 0, 0, 0)
	return errorOf(errno)
}

// receiveOn receives one datagram into buf, which is not empty, and its source
// into from. It returns the whole length, also when buf is shorter.
func receiveOn(fd int, buf []byte, from *sockaddr) (int, error) {
	from.len = unix.SizeofSockaddrInet6
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)),
		unix.MSG_TRUNC, uintptr(unsafe.Pointer(&from.raw)), uintptr(unsafe.Pointer(&from.len)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// epollNow fills events with what there is, and returns how many.
func epollNow(fd int, events []unix.EpollEvent) int {
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(fd), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

func closeNow(fd int) {
	syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) //nolint:errcheck // there is nothing to be done about it
}
