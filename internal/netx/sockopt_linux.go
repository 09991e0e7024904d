package netx

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// canShare says that several sockets can have one address, and that the kernel
// spreads clients over them (socket(7)).
const canShare = true

// prepareUDP sets the options of a UDP socket that is to be bound to addr.
func prepareUDP(fd int, addr netip.Addr, join bool) error {
	type option struct {
		name              string
		level, opt, value int
	}
	opts := []option{
		// A spoofed query must not make this server broadcast; the standard
		// library switches it on.
		{"SO_BROADCAST", unix.SOL_SOCKET, unix.SO_BROADCAST, 0},
	}
	// RFC 9715 §3.1, appendix C: OMIT takes no path MTU from ICMP, so a
	// forged one cannot make responses of the configured size fragment.
	if addr.Is4() {
		opts = append(opts, option{"IP_MTU_DISCOVER", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT})
	} else {
		opts = append(opts, option{"IPV6_MTU_DISCOVER", unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT})
	}
	switch {
	case !addr.IsUnspecified():
	case addr.Is4():
		opts = append(opts, option{"IP_PKTINFO", unix.IPPROTO_IP, unix.IP_PKTINFO, 1})
	default:
		opts = append(opts, option{"IPV6_RECVPKTINFO", unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1})
	}
	for _, o := range opts {
		if err := unix.SetsockoptInt(fd, o.level, o.opt, o.value); err != nil {
			return fmt.Errorf("set %s: %w", o.name, err)
		}
	}
	if join {
		return setShared(fd)
	}
	return nil
}

// setFree lets fd be bound to addr though no interface has it.
func setFree(fd int, addr netip.Addr) error {
	level, opt := unix.IPPROTO_IP, unix.IP_FREEBIND
	if !addr.Is4() {
		level, opt = unix.IPPROTO_IPV6, unix.IPV6_FREEBIND
	}
	if err := unix.SetsockoptInt(fd, level, opt, 1); err != nil {
		return fmt.Errorf("set IP_FREEBIND: %w", err)
	}
	return nil
}

// setShared lets other sockets have fd's address too.
func setShared(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return fmt.Errorf("set SO_REUSEPORT: %w", err)
	}
	return nil
}
