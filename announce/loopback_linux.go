package announce

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"shirube/internal/netlink"
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

// change asks the kernel for it, and returns its word.
func (l *Loopback) change(op uint16, p netip.Prefix) error {
	return netlink.Do(unix.NETLINK_ROUTE, l.request(op, p))
}

// request returns a message with struct ifaddrmsg and the address.
func (l *Loopback) request(op uint16, p netip.Prefix) netlink.Message {
	family, addr := byte(unix.AF_INET6), p.Addr().AsSlice()
	if p.Addr().Is4() {
		family = unix.AF_INET
	}
	body := []byte{family, byte(p.Bits()), unix.IFA_F_NODAD, unix.RT_SCOPE_UNIVERSE}
	body = binary.NativeEndian.AppendUint32(body, l.index)
	for _, attribute := range []uint16{unix.IFA_LOCAL, unix.IFA_ADDRESS} {
		body = netlink.Attr(body, attribute, addr)
	}
	flags := uint16(unix.NLM_F_ACK)
	if op == unix.RTM_NEWADDR {
		flags |= unix.NLM_F_CREATE | unix.NLM_F_EXCL
	}
	return netlink.Message{Type: op, Flags: flags, Body: body}
}
