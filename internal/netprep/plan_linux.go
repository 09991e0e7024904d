package netprep

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// plan compares what there is with what is wanted. Routes come last: addresses that
// they leave from have to be usable.
func plan(o Options) ([]Step, error) {
	s, err := look(&o)
	if err != nil {
		return nil, err
	}
	var steps []Step
	if s.flags&unix.IFF_UP == 0 {
		return []Step{{what: "wait until " + s.name + " is up"}}, nil // what it has is not there before
	}
	steps = append(steps, o.rejection(s)...)
	kept := s.addresses
	if o.RejectRA != WayNone {
		kept = nil
		for _, a := range s.addresses {
			if !a.advertised() {
				kept = append(kept, a)
				continue
			}
			steps = append(steps, Step{
				what: fmt.Sprintf("delete the address %s from %s", a.prefix, s.name),
				do:   func() error { return change(unix.RTM_DELADDR, 0, a.raw, unix.EADDRNOTAVAIL) },
			})
		}
		steps = append(steps, withdrawals(s, kept)...)
	}
	for _, p := range o.Addresses {
		if !slices.ContainsFunc(kept, func(a address) bool { return a.prefix == p }) {
			a := address{prefix: p, flags: unix.IFA_F_PERMANENT}
			if p.Addr().Is6() {
				a.flags |= unix.IFA_F_TENTATIVE // at first
			}
			kept = append(kept, a)
			steps = append(steps, Step{
				what: fmt.Sprintf("add the address %s to %s", p, s.name),
				do:   func() error { return addAddress(p, s.index) },
			})
		}
	}
	waits, err := usable(kept)
	if err != nil {
		return nil, err
	}
	steps = append(steps, waits...)
	for _, gateway := range o.Gateways {
		more, err := o.reroute(s, kept, gateway)
		if err != nil {
			return nil, err
		}
		steps = append(steps, more...)
	}
	return steps, nil
}

// rejection returns the step that keeps router advertisements out.
func (o *Options) rejection(s *state) []Step {
	step := Step{what: "have router advertisements on " + s.name + " dropped (nftables)", do: func() error { return dropAdvertisements(s.name) }}
	bySysctl := Step{what: "set " + s.sysctlKey() + " = 0", do: func() error { return s.refuseAdvertisements() }}
	refused := s.acceptRA == "0"
	switch o.RejectRA {
	case WaySysctl:
		if refused {
			return nil
		}
		return []Step{bySysctl}
	case WayNFTables:
		refused = false
	case WayAuto:
		step.do = func() error {
			err := dropAdvertisements(s.name)
			if !errors.Is(err, errNoNFTables) {
				return err
			}
			return errors.Join(err, bySysctl.do())
		}
	default:
		return nil
	}
	if refused || s.rule == there {
		return nil
	}
	step.unseen = s.rule == unseen
	return []Step{step}
}

// withdrawals returns the steps that delete the routes that advertisements have
// brought: to routers and what is behind them (RFC 4861 §6.3.4, RFC 4191), and to
// networks on the link in which the interface keeps no address.
func withdrawals(s *state, kept []address) (steps []Step) {
	for _, r := range s.routes {
		onLink := r.protocol == unix.RTPROT_KERNEL && !r.gateway.IsValid() && r.to.Addr().Is6() && !r.to.Addr().IsLinkLocalUnicast() && !r.to.Addr().IsMulticast() &&
			!slices.ContainsFunc(kept, func(a address) bool { return a.prefix.Masked() == r.to || a.prefix.Addr() == r.to.Addr() })
		if r.link == s.index && (r.protocol == unix.RTPROT_RA || onLink) {
			steps = append(steps, s.deletion(r))
		}
	}
	return steps
}

// deletion returns the step that deletes a route.
func (s *state) deletion(r route) Step {
	return Step{
		what: "delete the route " + s.describe(r),
		do:   func() error { return change(unix.RTM_DELROUTE, 0, r.raw, unix.ESRCH) },
	}
}

// usable returns the steps to wait until no address is being looked for at others
// any more (DAD, RFC 4862 §5.4): nobody can bind a socket to it.
func usable(list []address) (steps []Step, err error) {
	for _, a := range list {
		switch {
		case a.flags&unix.IFA_F_DADFAILED != 0:
			return nil, fmt.Errorf("the address %s is somebody else's, too (duplicate address detection)", a.prefix)
		case a.flags&unix.IFA_F_TENTATIVE != 0:
			steps = append(steps, Step{what: fmt.Sprintf("wait until the address %s is usable (duplicate address detection)", a.prefix)})
		}
	}
	return steps, nil
}

// reroute returns the steps to a default route by a gateway, and no other one of its
// family. Networks of the cluster go where the default route went: their routes come
// first, so that they are there all the time.
func (o *Options) reroute(s *state, kept []address, gateway netip.Addr) (steps []Step, err error) {
	source, err := sourceFor(kept, gateway)
	if err != nil {
		return nil, err
	}
	want := route{to: everything(gateway), gateway: gateway, source: source, link: s.index}
	var others []route
	found := false
	for _, r := range s.routes {
		switch {
		case r.to != want.to:
		case r.is(want) && !found:
			found = true
		case o.RejectRA == WayNone || r.link != s.index || r.protocol != unix.RTPROT_RA: // that is deleted already
			others = append(others, r)
		}
	}
	for _, network := range o.ClusterRoutes {
		if network.Addr().Is4() != gateway.Is4() {
			continue
		}
		if slices.ContainsFunc(s.routes, func(r route) bool { return r.to == network && r.link != s.index }) {
			continue
		}
		i := slices.IndexFunc(others, func(r route) bool { return r.link != s.index && r.gateway.IsValid() })
		if i < 0 {
			return nil, fmt.Errorf("the network %s has no route by another interface, and there is no default route by one to take it from", network)
		}
		by := route{to: network, gateway: others[i].gateway, link: others[i].link}
		steps = append(steps, s.addition(by))
	}
	for _, r := range others {
		steps = append(steps, s.deletion(r))
	}
	if !found {
		steps = append(steps, s.addition(want))
	}
	return steps, nil
}

// addition returns the step that adds a route.
func (s *state) addition(r route) Step {
	return Step{what: "add the route " + s.describe(r), do: func() error { return addRoute(r) }}
}

// everything is the destination of a default route of an address's family.
func everything(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// sourceFor returns the address that packets to a gateway leave from: the one in a
// network with it. It is said in the route, so that an address that comes later is
// not chosen in its place.
func sourceFor(list []address, gateway netip.Addr) (netip.Addr, error) {
	var own []netip.Addr
	for _, a := range list {
		if a.prefix.Addr().Is4() != gateway.Is4() || a.prefix.Addr().IsLinkLocalUnicast() || a.advertised() {
			continue
		}
		if a.prefix.Contains(gateway) {
			return a.prefix.Addr(), nil
		}
		own = append(own, a.prefix.Addr())
	}
	switch {
	case !gateway.IsLinkLocalUnicast():
		return netip.Addr{}, fmt.Errorf("found the gateway %s; expected one in a network of its addresses %v", gateway, own)
	case len(own) == 1:
		return own[0], nil
	}
	return netip.Addr{}, nil // the kernel chooses: there is nothing to choose by
}

// refuseAdvertisements has the interface take no router advertisements.
func (s *state) refuseAdvertisements() error {
	err := writeSysctl(s.acceptRAFile, "0\n")
	switch {
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("the sysctl cannot be set: /proc/sys is read-only, as in a container that is not privileged (the way %s takes the capability NET_ADMIN only): %w", WayNFTables, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the sysctl cannot be set: the capability NET_ADMIN is needed, and user 0: %w", err)
	}
	return err
}
