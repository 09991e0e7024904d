package netprep

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"shirube/internal/netlink"
)

// state is what there is.
type state struct {
	name         string
	index        int
	flags        uint32
	acceptRA     string // the sysctl; empty: it has none, nor IPv6
	acceptRAFile string
	rule         presence
	addresses    []address // of the interface
	routes       []route   // of the main table
}

// presence is what can be told of the rule that drops advertisements.
type presence int

const (
	missing presence = iota
	there
	unseen // only those may look that may change it
)

// look reads the state.
func look(o *Options) (*state, error) {
	link, err := net.InterfaceByName(o.Interface)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAbsent, err)
	}
	s := &state{name: link.Name, index: link.Index}
	if link.Flags&net.FlagUp != 0 {
		s.flags = unix.IFF_UP
	}
	if o.RejectRA != WayNone {
		root := o.sysctl
		if root == "" {
			root = "/proc/sys"
		}
		s.acceptRAFile = filepath.Join(root, "net/ipv6/conf", link.Name, "accept_ra")
		text, err := os.ReadFile(s.acceptRAFile)
		s.acceptRA = strings.TrimSpace(string(text))
		if errors.Is(err, fs.ErrNotExist) {
			s.acceptRA = "0" // without IPv6 nobody takes any
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", s.sysctlKey(), err)
		}
		if s.rule, err = ruleOf(link.Name); err != nil {
			return nil, err
		}
	}
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		if err := s.addAddresses(family); err != nil {
			return nil, fmt.Errorf("addresses: %w", err)
		}
		if err := s.addRoutes(family); err != nil {
			return nil, fmt.Errorf("routes: %w", err)
		}
	}
	return s, nil
}

// sysctlKey is the name by which people know it.
func (s *state) sysctlKey() string { return "net.ipv6.conf." + s.name + ".accept_ra" }

// writeSysctl is [os.WriteFile] for a file that is there.
func writeSysctl(file, text string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// address is one of an interface.
type address struct {
	prefix netip.Prefix // with the address itself
	flags  uint32
	raw    []byte // as the kernel describes it
}

// advertised reports whether the address came by a router advertisement: who
// configures one does so for good. One that has been leased by DHCPv6 looks the same.
func (a *address) advertised() bool {
	return a.prefix.Addr().Is6() && !a.prefix.Addr().IsLinkLocalUnicast() && a.flags&unix.IFA_F_PERMANENT == 0
}

// addAddresses adds the interface's addresses of a family.
func (s *state) addAddresses(family byte) error {
	question := make([]byte, unix.SizeofIfAddrmsg)
	question[0] = family
	list, err := netlink.Dump(unix.NETLINK_ROUTE, netlink.Message{Type: unix.RTM_GETADDR, Body: question})
	if err != nil {
		return err
	}
	for _, m := range list {
		// struct ifaddrmsg: family, length of the prefix, flags, scope, interface.
		if m.Type != unix.RTM_NEWADDR || len(m.Body) < unix.SizeofIfAddrmsg || m.Body[0] != family || binary.NativeEndian.Uint32(m.Body[4:]) != uint32(s.index) {
			continue
		}
		a := address{flags: uint32(m.Body[2]), raw: m.Body}
		values, err := attributes(m.Body[unix.SizeofIfAddrmsg:])
		if err != nil {
			return err
		}
		if f := values[unix.IFA_FLAGS]; len(f) == 4 {
			a.flags = binary.NativeEndian.Uint32(f)
		}
		text := values[unix.IFA_LOCAL] // of a link between two, IFA_ADDRESS is the other's
		if text == nil {
			text = values[unix.IFA_ADDRESS]
		}
		if ip, ok := netip.AddrFromSlice(text); ok {
			a.prefix = netip.PrefixFrom(ip, int(m.Body[1]))
			s.addresses = append(s.addresses, a)
		}
	}
	return nil
}

// attributes returns attributes by their types.
func attributes(b []byte) (map[uint16][]byte, error) {
	list, err := netlink.Attrs(b)
	values := make(map[uint16][]byte, len(list))
	for _, a := range list {
		values[a.Type] = a.Value
	}
	return values, err
}

// route is one of the main table.
type route struct {
	to       netip.Prefix
	gateway  netip.Addr // invalid: none, or several
	source   netip.Addr // invalid: the kernel chooses
	link     int        // 0: several
	protocol uint8
	raw      []byte // as the kernel describes it
}

// is reports whether packets go the same way by both.
func (r *route) is(other route) bool {
	return r.to == other.to && r.gateway == other.gateway && r.link == other.link && r.source == other.source && r.protocol != unix.RTPROT_RA
}

// describe says a route as ip(8) does.
func (s *state) describe(r route) string {
	var b strings.Builder
	if r.to.Bits() == 0 {
		b.WriteString(map[bool]string{true: "IPv4 default", false: "IPv6 default"}[r.to.Addr().Is4()])
	} else {
		b.WriteString(r.to.String())
	}
	if r.gateway.IsValid() {
		fmt.Fprintf(&b, " via %s", r.gateway)
	}
	if r.link == s.index {
		fmt.Fprintf(&b, " dev %s", s.name)
	} else if link, err := net.InterfaceByIndex(r.link); err == nil {
		fmt.Fprintf(&b, " dev %s", link.Name)
	}
	if r.source.IsValid() {
		fmt.Fprintf(&b, " src %s", r.source)
	}
	return b.String()
}

// addRoutes adds the routes of a family.
func (s *state) addRoutes(family byte) error {
	question := make([]byte, unix.SizeofRtMsg)
	question[0] = family
	list, err := netlink.Dump(unix.NETLINK_ROUTE, netlink.Message{Type: unix.RTM_GETROUTE, Body: question})
	if err != nil {
		return err
	}
	for _, m := range list {
		// struct rtmsg: family, lengths of the prefixes to and from, TOS, table,
		// protocol, scope, type, flags.
		if m.Type != unix.RTM_NEWROUTE || len(m.Body) < unix.SizeofRtMsg || m.Body[0] != family ||
			m.Body[4] != unix.RT_TABLE_MAIN || m.Body[7] != unix.RTN_UNICAST || binary.NativeEndian.Uint32(m.Body[8:])&unix.RTM_F_CLONED != 0 {
			continue
		}
		values, err := attributes(m.Body[unix.SizeofRtMsg:])
		if err != nil {
			return err
		}
		to := netip.IPv4Unspecified()
		if family == unix.AF_INET6 {
			to = netip.IPv6Unspecified()
		}
		if a, ok := netip.AddrFromSlice(values[unix.RTA_DST]); ok {
			to = a
		}
		r := route{to: netip.PrefixFrom(to, int(m.Body[1])), protocol: m.Body[5], raw: m.Body}
		r.gateway, _ = netip.AddrFromSlice(values[unix.RTA_GATEWAY])
		r.source, _ = netip.AddrFromSlice(values[unix.RTA_PREFSRC])
		if oif := values[unix.RTA_OIF]; len(oif) == 4 {
			r.link = int(binary.NativeEndian.Uint32(oif))
		}
		s.routes = append(s.routes, r)
	}
	return nil
}
