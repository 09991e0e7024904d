package announce

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Loopback is a [Driver] that has addresses on an interface: FRR and BIRD announce
// those that are on one ("redistribute connected"). An address that drains or is
// the last resort is there like any other: who redistributes cannot be told more.
type Loopback struct {
	index uint32
	name  string
}

// NewLoopback returns the driver for an interface, by its name.
func NewLoopback(name string) (*Loopback, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	return &Loopback{uint32(i.Index), name}, nil
}

// Apply implements [Driver]. It asks the kernel each time, so that an address which
// somebody else has removed comes back.
func (l *Loopback) Apply(_ context.Context, routes []Route) error {
	var errs []error
	for _, r := range routes {
		op, done := uint16(unix.RTM_NEWADDR), unix.EEXIST
		if r.How == Withdrawn {
			op, done = unix.RTM_DELADDR, unix.EADDRNOTAVAIL
		}
		if err := l.change(op, r.Prefix); err != nil && !errors.Is(err, done) {
			errs = append(errs, fmt.Errorf("%s on %s: %w", r.Prefix.Addr(), l.name, err))
		}
	}
	return errors.Join(errs...)
}

// Peers implements [Driver]: there are none.
func (l *Loopback) Peers() []Peer { return nil }

// Close implements [Driver]. What is there stays: see [Announcer.Run].
func (l *Loopback) Close() error { return nil }

// change sends one request to the kernel (rtnetlink(7)), and returns its word.
func (l *Loopback) change(op uint16, p netip.Prefix) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // nothing is left in it
	timeout := unix.NsecToTimeval(int64(netlinkTime))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return err
	}
	if err := unix.Sendto(fd, l.request(op, p), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	b := make([]byte, unix.Getpagesize())
	n, _, err := unix.Recvfrom(fd, b, 0)
	if err != nil {
		return err
	}
	return acknowledged(b[:n])
}

// netlinkTime is how long the kernel may take to answer; it does so at once.
const netlinkTime = time.Second

// request returns a message with struct ifaddrmsg and the address.
func (l *Loopback) request(op uint16, p netip.Prefix) []byte {
	family, addr := byte(unix.AF_INET6), p.Addr().AsSlice()
	if p.Addr().Is4() {
		family = unix.AF_INET
	}
	ne := binary.NativeEndian
	body := []byte{family, byte(p.Bits()), unix.IFA_F_NODAD, unix.RT_SCOPE_UNIVERSE}
	body = ne.AppendUint32(body, l.index)
	for _, attribute := range []uint16{unix.IFA_LOCAL, unix.IFA_ADDRESS} {
		body = ne.AppendUint16(body, uint16(unix.SizeofRtAttr+len(addr)))
		body = append(ne.AppendUint16(body, attribute), addr...) // its length is a multiple of 4
	}
	flags := uint16(unix.NLM_F_REQUEST | unix.NLM_F_ACK)
	if op == unix.RTM_NEWADDR {
		flags |= unix.NLM_F_CREATE | unix.NLM_F_EXCL
	}
	msg := ne.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	msg = ne.AppendUint16(msg, op)
	msg = ne.AppendUint16(msg, flags)
	msg = ne.AppendUint64(msg, 0) // sequence and port: there is one message
	return append(msg, body...)
}

// acknowledged returns the error in an answer of the kernel (struct nlmsgerr).
func acknowledged(b []byte) error {
	ne := binary.NativeEndian
	if len(b) < unix.SizeofNlMsghdr+4 || ne.Uint16(b[4:]) != unix.NLMSG_ERROR {
		return errors.New("netlink: not an acknowledgement")
	}
	if code := int32(ne.Uint32(b[unix.SizeofNlMsghdr:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}
