package config

import (
	"fmt"
	"net/netip"
	"time"

	"shirube/internal/wire"
)

// Health configures how the server says whether it is ready for clients: over
// DNS, and at `/readyz` of the admin listener.
type Health struct {
	// A name that load balancers ask for, over any transport, as
	// `health.isp.example`. It is answered here, whoever it belongs to and however
	// busy the resolver is, with TTL 0: while the server is ready, with
	// `addresses`, and TXT `ready`. Empty: none.
	Name string `yaml:"name"`
	// The addresses of the name: one IPv4 and one IPv6 at most. Some load
	// balancers (F5) want to see one of the type that they ask for.
	Addresses []Address `yaml:"addresses" range:"0..2"`
	// What the name is answered with while the server is not ready: `servfail`,
	// `refused`, `nxdomain`, `nodata` (NOERROR without data) or `drop`, which is
	// nothing at all.
	NotReady NotReady `yaml:"not_ready"`
	// Who may ask for the name besides those who may ask for anything
	// (`access_control`): the load balancers' own addresses.
	Clients []netip.Prefix `yaml:"clients" range:"0..64"`
	// The server is not ready when the root, or what stands for it
	// (`forward_zones`), could not be asked for so long. `0`: that is no reason.
	// It costs a query a few times a minute, and only while nothing else is
	// answered. Off by default: when the Internet is gone for all servers, one
	// that answers from memory is better than none.
	RootGrace time.Duration `yaml:"root_grace" range:"0..1d"`
}

// NotReady is what a server that is not ready answers.
type NotReady string

// The answers.
const (
	NotReadyServFail NotReady = "servfail"
	NotReadyRefused  NotReady = "refused"
	NotReadyNXDomain NotReady = "nxdomain"
	NotReadyNoData   NotReady = "nodata"
	NotReadyDrop     NotReady = "drop"
)

func (NotReady) values() []string {
	return []string{
		string(NotReadyServFail), string(NotReadyRefused), string(NotReadyNXDomain), string(NotReadyNoData), string(NotReadyDrop),
	}
}

// defaultHealth returns the default of health.
func defaultHealth() Health {
	return Health{
		Addresses: []Address{
			{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)},
			{netip.AddrPortFrom(netip.IPv6Loopback(), 0)},
		},
		NotReady: NotReadyServFail,
		Clients:  []netip.Prefix{},
	}
}

// Domain returns the name; "" if there is none.
func (h *Health) Domain() wire.Name {
	if h.Name == "" {
		return ""
	}
	n, err := wire.ParseName(h.Name)
	if err != nil {
		return "" // it was checked when it was read
	}
	return n
}

// health reports a name that is none, and addresses that are no two.
func (d *decoder) health(h *Health) {
	if h.Name != "" {
		switch n, err := wire.ParseName(h.Name); {
		case err != nil:
			d.contradiction(fmt.Sprintf("found %q, which is %v; expected a domain name", shorten(h.Name), err), "health.name")
		case n == wire.Root:
			d.contradiction("found the root; expected a name that nobody else asks for", "health.name")
		}
	}
	families := map[bool]int{}
	for i, a := range h.Addresses {
		path := fmt.Sprintf("health.addresses[%d]", i)
		families[a.Addr().Is4()]++
		switch {
		case !a.IsValid():
		case a.Port() != 0:
			d.contradiction(fmt.Sprintf("found %s; expected an address without a port", a), path)
		case families[a.Addr().Is4()] > 1:
			d.contradiction(fmt.Sprintf("found %s, a second address of its family; expected one IPv4 and one IPv6 at most", a), path)
		}
	}
}
