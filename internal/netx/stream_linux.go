//go:build linux && (amd64 || arm64)

package netx

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// recvNow and sendNow are system calls that never wait, so that the runtime need not
// be told of them: see [Batch]. To it a thread in a write, which on its way often
// does all the work of the other end too, looks stuck, and it starts others.

func recvNow(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
	return result(n, errno)
}

func sendNow(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	return result(n, errno)
}

func result(n uintptr, errno syscall.Errno) (int, error) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// tellRest has recvRest say what is left on a TCP connection (TCP_INQ, Linux 4.18),
// and reports whether it will.
func tellRest(fd int) bool { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_INQ, 1) == nil }

// recvRest is recvNow that says also how many octets are left: 1 at least if the
// stream's end has come, too, and if it is not known. It is never interrupted.
func recvRest(fd int, b []byte) (n, rest int, err error) {
	var control struct {
		unix.Cmsghdr

		rest int32
		_    int32
	}
	iov := unix.Iovec{Base: unsafe.SliceData(b), Len: uint64(len(b))}
	hdr := unix.Msghdr{Iov: &iov, Iovlen: 1, Control: (*byte)(unsafe.Pointer(&control)), Controllen: uint64(unsafe.Sizeof(control))}
	for {
		got, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&hdr)), unix.MSG_DONTWAIT)
		switch {
		case errno == unix.EINTR:
		case errno != 0:
			return 0, 0, errno
		case hdr.Controllen == 0 || control.Level != unix.IPPROTO_TCP || control.Type != unix.TCP_CM_INQ:
			return int(got), 1, nil
		default:
			return int(got), int(control.rest), nil
		}
	}
}
