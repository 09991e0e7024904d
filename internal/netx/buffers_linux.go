package netx

import (
	"fmt"
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SetBuffers sizes the buffers of c, and returns which became smaller than asked
// for: the kernel bounds them without an error, but for who has CAP_NET_ADMIN.
func SetBuffers(c *net.UDPConn, want Buffers) ([]Shortfall, error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var short []Shortfall
	for _, b := range []struct {
		size             int
		name, limit      string
		force, opt, read int
	}{
		{want.Receive, "receive", "net.core.rmem_max", unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, unix.SO_RCVBUF},
		{want.Send, "send", "net.core.wmem_max", unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, unix.SO_SNDBUF},
	} {
		if b.size == 0 {
			continue
		}
		var got int
		err := onFD(rc, func(fd int) (err error) {
			if unix.SetsockoptInt(fd, unix.SOL_SOCKET, b.force, b.size) != nil {
				if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, b.opt, b.size); err != nil {
					return err
				}
			}
			got, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, b.opt)
			return err
		})
		if err != nil {
			return short, fmt.Errorf("size the %s buffer of %s: %w", b.name, c.LocalAddr(), err)
		}
		if got /= 2; got < b.size { // the kernel doubles it for its own needs (socket(7))
			short = append(short, Shortfall{Buffer: b.name, Want: b.size, Got: got, Limit: b.limit})
		}
	}
	return short, nil
}

// SystemBuffers returns how large the system makes the buffers of a socket of
// which nobody says it.
func SystemBuffers() (b Buffers, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return b, os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(fd) }() // nothing was sent
	if b.Receive, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF); err == nil {
		b.Send, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
	}
	return Buffers{Receive: b.Receive / 2, Send: b.Send / 2}, os.NewSyscallError("getsockopt", err) // socket(7): doubled
}

// Overflow returns how many datagrams for c the kernel has thrown away, which is
// what it does when the receive buffer is full.
func Overflow(c *net.UDPConn) (uint64, error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var info [unix.SK_MEMINFO_VARS]uint32 // socket(7)
	err = onFD(rc, func(fd int) error {
		size := uint32(unsafe.Sizeof(info))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if errno != 0 {
			return os.NewSyscallError("getsockopt SO_MEMINFO", errno)
		}
		return nil
	})
	return uint64(info[unix.SK_MEMINFO_DROPS]), err
}
