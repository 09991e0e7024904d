// Package netprep prepares the network of a pod that has an interface in a VLAN: it
// keeps what router advertisements bring out for good, and has packets leave by the
// gateway that is wanted. To delete addresses once is not enough: the next
// advertisement brings them back, and they become what packets leave from.
package netprep

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

const (
	// MaxRoutes bounds the addresses, and the networks of the cluster.
	MaxRoutes = 64
	// maxName is IFNAMSIZ of if.h, without the zero behind the name.
	maxName = 15
	// pauseTime is between looks at a network that is not as wanted yet.
	pauseTime = 50 * time.Millisecond
)

// Way says how router advertisements are kept out.
type Way string

// The ways. A rule of nftables needs the capability NET_ADMIN only. The sysctl
// accept_ra needs a /proc/sys that can be written to, which in Kubernetes only
// privileged containers have.
const (
	WayNone     Way = "no"       // they are let in
	WayAuto     Way = "auto"     // by nftables; without that in the kernel, by sysctl
	WayNFTables Way = "nftables" // a rule drops them
	WaySysctl   Way = "sysctl"   // the interface takes none
)

// Ways are all there are.
func Ways() []Way { return []Way{WayAuto, WayNFTables, WaySysctl, WayNone} }

// Options say what is wanted.
type Options struct {
	Interface string // in the VLAN, as net1
	RejectRA  Way

	Addresses []netip.Prefix // that the interface has besides those it has
	Gateways  []netip.Addr   // of the default routes by Interface, one of a family at most
	// ClusterRoutes are networks that stay where the default route was.
	ClusterRoutes []netip.Prefix

	sysctl string // /proc/sys; empty: that
}

// check returns what is wrong with o.
func (o *Options) check() error {
	if name := o.Interface; name == "" || len(name) > maxName || name == "." || name == ".." || strings.ContainsAny(name, "/ \t\n") {
		return fmt.Errorf("found the interface %q; expected a name of 1 to %d octets", name, maxName)
	}
	if !slices.Contains(Ways(), o.RejectRA) {
		return fmt.Errorf("found the way %q; expected one of %v", o.RejectRA, Ways())
	}
	if n := max(len(o.Addresses), len(o.ClusterRoutes)); n > MaxRoutes {
		return fmt.Errorf("found %d addresses or networks; expected %d at most", n, MaxRoutes)
	}
	seen := map[bool]bool{}
	for _, g := range o.Gateways {
		switch {
		case !g.IsValid() || g.IsUnspecified() || g.IsMulticast() || g.Is4In6() || g.Zone() != "":
			return fmt.Errorf("found the gateway %s; expected the address of a router, without a zone", g)
		case seen[g.Is4()]:
			return fmt.Errorf("found a second gateway of a family: %s; expected one", g)
		}
		seen[g.Is4()] = true
	}
	for _, p := range o.Addresses {
		if !p.IsValid() || p.Addr().IsUnspecified() || p.Addr().IsMulticast() || p.Addr().Is4In6() {
			return fmt.Errorf("found the address %s; expected one of a machine, with the length of its network's prefix", p)
		}
	}
	for _, p := range o.ClusterRoutes {
		switch {
		case !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() || p.Bits() == 0:
			return fmt.Errorf("found the network %s; expected a prefix with no bit set behind it", p)
		case !seen[p.Addr().Is4()]:
			return fmt.Errorf("found the network %s; expected a gateway of its family: without, its route does not change", p)
		}
	}
	return nil
}

// Step is something that is not as wanted, and how it becomes so.
type Step struct {
	what string
	// do does it. nil: there is nothing to do but to wait.
	do func() error
	// unseen says that it may be as wanted: only who may change it may look.
	unseen bool
}

// String says what is done.
func (s Step) String() string { return s.what }

// Unseen reports whether it may be as wanted after all: that cannot be seen without
// the capability to change it.
func (s Step) Unseen() bool { return s.unseen }

// errAbsent is of an interface that is not there, yet.
var errAbsent = errors.New("there is no such interface")

// Plan returns what is missing for the network to be as o wants it, in its order.
// It changes nothing.
func Plan(o Options) ([]Step, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("netprep: %w", err)
	}
	steps, err := plan(o)
	if err != nil {
		return nil, fmt.Errorf("netprep: interface %s: %w", o.Interface, err)
	}
	return steps, nil
}

// Run makes the network what o wants, and returns when it is: its addresses are
// usable by then. It can be repeated. Each step is told to report before it is done.
func Run(ctx context.Context, o Options, report func(Step)) error {
	told := map[string]bool{}
	for {
		steps, err := Plan(o)
		switch {
		case err == nil && len(steps) == 0:
			return nil
		case err == nil:
			err = take(steps, func(s Step) {
				if !told[s.what] {
					told[s.what] = true
					report(s)
				}
			})
		case errors.Is(err, errAbsent):
			steps = []Step{{what: "wait until it is there"}}
			err = nil
		}
		if err != nil {
			return err
		}
		select {
		case <-time.After(pauseTime):
		case <-ctx.Done():
			return fmt.Errorf("netprep: interface %s: not done in time: %s: %w", o.Interface, steps[0], ctx.Err())
		}
	}
}

// take does steps, up to the first that has to be waited for.
func take(steps []Step, report func(Step)) error {
	for _, s := range steps {
		report(s)
		if s.do == nil {
			return nil
		}
		if err := s.do(); err != nil {
			return fmt.Errorf("netprep: %s: %w", s, err)
		}
	}
	return nil
}
