package netx

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Offsets at which a classic BPF program finds what is not in the packet
// (SKF_AD_OFF, SKF_AD_CPU and SKF_AD_RANDOM of linux/filter.h).
const (
	ancillary       = 0x1_0000_0000 - 0x1000
	ancillaryCPU    = ancillary + 36
	ancillaryRandom = ancillary + 56
)

// Steer tells the kernel how to pick one of conns, which are all the sockets of
// one [ListenUDP], from now on. A single one needs no picking. What waits to be
// read stays where it is.
func Steer(conns []*net.UDPConn, s Steering) error {
	if len(conns) < 2 {
		return nil
	}
	if s == SteerByClient {
		return unsteer(conns[0])
	}
	from := uint32(ancillaryRandom)
	if s == SteerByCPU {
		from = ancillaryCPU
	}
	// The result is the number of a socket, in the order that they were bound in.
	// Of a number that no socket has any more the kernel makes the client's.
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: from},
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(len(conns))},
		{Code: unix.BPF_RET | unix.BPF_A},
	}
	rc, err := conns[0].SyscallConn()
	if err != nil {
		return err
	}
	err = onFD(rc, func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
	if err != nil {
		return fmt.Errorf("set SO_ATTACH_REUSEPORT_CBPF on %s: %w", conns[0].LocalAddr(), err)
	}
	return nil
}

// unsteer has the kernel pick among c and those that share its address as if it
// had never been told: who had the sockets before may have.
func unsteer(c *net.UDPConn) error {
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	err = onFD(rc, func(fd int) error {
		err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOPROTOOPT) { // it was not; Linux before 5.3 cannot
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("set SO_DETACH_REUSEPORT_BPF on %s: %w", c.LocalAddr(), err)
	}
	return nil
}
