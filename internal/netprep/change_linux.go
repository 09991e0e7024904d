package netprep

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"shirube/internal/netlink"
)

// change has the kernel add or delete what a message describes. done is the error
// that says that it is so already.
func change(typ, flags uint16, body []byte, done unix.Errno) error {
	err := netlink.Do(unix.NETLINK_ROUTE, netlink.Message{Type: typ, Flags: flags | unix.NLM_F_ACK, Body: body})
	if errors.Is(err, done) {
		return nil
	}
	return explain(err)
}

// explain adds to an error what is needed.
func explain(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: the capability NET_ADMIN is needed, and user 0", err)
	}
	return err
}

// addAddress adds an address to an interface.
func addAddress(p netip.Prefix, link int) error {
	b := []byte{family(p.Addr()), byte(p.Bits()), 0, unix.RT_SCOPE_UNIVERSE} // struct ifaddrmsg
	b = binary.NativeEndian.AppendUint32(b, uint32(link))
	for _, typ := range []uint16{unix.IFA_LOCAL, unix.IFA_ADDRESS} {
		b = netlink.Attr(b, typ, p.Addr().AsSlice())
	}
	return change(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, b, unix.EEXIST)
}

// addRoute adds a route to the main table.
func addRoute(r route) error {
	// struct rtmsg, as described in addRoutes.
	b := []byte{family(r.to.Addr()), byte(r.to.Bits()), 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0}
	if r.to.Bits() > 0 {
		b = netlink.Attr(b, unix.RTA_DST, r.to.Addr().AsSlice())
	}
	b = netlink.Attr(b, unix.RTA_GATEWAY, r.gateway.AsSlice())
	b = netlink.Attr(b, unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, uint32(r.link)))
	if r.source.IsValid() {
		b = netlink.Attr(b, unix.RTA_PREFSRC, r.source.AsSlice())
	}
	return change(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, b, 0)
}

// family is the number of an address's family.
func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
