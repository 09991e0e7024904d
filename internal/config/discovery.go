package config

import (
	"fmt"
	"net/netip"
	"time"

	"shirube/discovery"
	"shirube/internal/wire"
)

// Discovery configures how clients find out what this server can do.
type Discovery struct {
	// The name of this server, as `dns.isp.example`: the one that its certificate
	// is for, and that clients are given which are configured by name. It is the
	// target of what DDR says, and `_dns.` below it says the same to who knows it
	// (RFC 9462 §5), here in place of what the Internet says. Empty: the first name
	// of the certificate is the target, and no name is answered here.
	Name wire.Name `yaml:"name"`
	// The addresses by which clients know this server, where it is asked at others:
	// those of the load balancer or router that writes addresses anew, one
	// IPv4 and one IPv6 mostly. The certificate has to have them, and clients are
	// sent there. Empty: clients know it by the addresses that it is asked at, which
	// is so also behind anycast, direct server return and the PROXY protocol.
	Addresses []Address `yaml:"addresses" range:"0..64"`
	// How encrypted transports are found by clients that know an address (RFC 9462).
	DDR DDR `yaml:"ddr"`
	// What the server says that it does (RFC 9606).
	RESINFO RESINFO `yaml:"resinfo"`
}

// DDR configures the Discovery of Designated Resolvers.
type DDR struct {
	// Answer `_dns.resolver.arpa` with the encrypted transports that are listened
	// to at the address that was asked and that the certificate proves: it has to
	// have that address. Others are left out, for clients could not verify them;
	// the log says which, and why. With `false` nothing is found. All else in
	// `resolver.arpa` is empty in any case, and never asked of anybody.
	Enabled bool `yaml:"enabled"`
	// Transports to advertise, the best first.
	Preference []Encrypted `yaml:"preference" range:"0..4"`
	// Advertise at private addresses, for which there are no certificates, what
	// the certificate does not prove there: for clients that want no proof (RFC 9462
	// §4.3). Others try in vain, and some (iOS 16) for long.
	Opportunistic bool `yaml:"opportunistic"`
	// The ports that clients reach, where a load balancer or a Kubernetes Service
	// has others than are listened to.
	Ports DDRPorts `yaml:"ports"`
}

// Encrypted is an encrypted transport.
type Encrypted string

func (Encrypted) values() []string {
	return []string{string(ProtocolDoH3), string(ProtocolDoH), string(ProtocolDoT), string(ProtocolDoQ)}
}

// DDRPorts are the ports that clients reach; 0: those that are listened to.
type DDRPorts struct {
	// Of DNS over TLS. `0`: the port of the listener.
	DoT uint16 `yaml:"dot"`
	// Of DNS over HTTPS. `0`: the port of the listener.
	DoH uint16 `yaml:"doh"`
	// Of DNS over HTTP/3. `0`: the port of the listener.
	DoH3 uint16 `yaml:"doh3"`
	// Of DNS over QUIC. `0`: the port of the listener.
	DoQ uint16 `yaml:"doq"`
}

// RESINFO configures what the server says that it does.
type RESINFO struct {
	// Answer RESINFO at `resolver.arpa`, and at `discovery.name`: whether names are
	// minimised, and which Extended DNS Errors there are.
	Enabled bool `yaml:"enabled"`
	// A page for people about this server, by https. Empty: none is named.
	InfoURL string `yaml:"info_url"`
}

// defaultDiscovery returns the default of discovery.
func defaultDiscovery() Discovery {
	return Discovery{
		Addresses: []Address{},
		DDR: DDR{
			Enabled:    true,
			Preference: []Encrypted{Encrypted(ProtocolDoH3), Encrypted(ProtocolDoH), Encrypted(ProtocolDoT), Encrypted(ProtocolDoQ)},
		},
		RESINFO: RESINFO{Enabled: true},
	}
}

// Provisioning configures what customers' routers are told.
type Provisioning struct {
	// Where the routers of customers with IPv6 ask how they get IPv4 (HB46PP: the
	// TXT record of `4over6.info`), by the addresses of customers; the most specific
	// prefix decides. Empty: the name is one like any other.
	HB46PP []HB46PP `yaml:"hb46pp" range:"0..1000"`
	// What clients in none of `hb46pp` are told: `servfail`, after which a router
	// goes on as before and asks again; `nodata`, after which it takes IPv4 over
	// IPv6 down; or `recurse`, what the Internet says.
	HB46PPOthers HB46PPOthers `yaml:"hb46pp_others"`
}

// HB46PP is what the clients of some prefixes are told.
type HB46PP struct {
	// A name for people, in reports.
	Name string `yaml:"name" required:"true"`
	// Addresses that it is for, as `2001:db8::/36`.
	Clients []netip.Prefix `yaml:"clients" range:"1..10000"`
	// The provisioning server, by https or http. Its name has to have an AAAA record
	// here, for routers have IPv6 only.
	URL string `yaml:"url" required:"true"`
	// Have the router verify the server's certificate (`t=b`). It has to be `false`
	// with http (`t=a`).
	VerifyCert bool `yaml:"verify_cert"`
	// TTL of the record, in whole seconds.
	TTL time.Duration `yaml:"ttl" range:"1s..7d"`
}

// defaults returns what an element of hb46pp is before its keys are read.
func (HB46PP) defaults() any {
	return HB46PP{Clients: []netip.Prefix{}, VerifyCert: true, TTL: time.Hour}
}

// HB46PPOthers is what clients in no view are told.
type HB46PPOthers string

// What they are told.
const (
	HB46PPServFail HB46PPOthers = "servfail"
	HB46PPNoData   HB46PPOthers = "nodata"
	HB46PPRecurse  HB46PPOthers = "recurse"
)

func (HB46PPOthers) values() []string {
	return []string{string(HB46PPServFail), string(HB46PPNoData), string(HB46PPRecurse)}
}

// defaultProvisioning returns the default of provisioning.
func defaultProvisioning() Provisioning {
	return Provisioning{HB46PP: []HB46PP{}, HB46PPOthers: HB46PPServFail}
}

// View returns h as it is used.
func (h *HB46PP) View() discovery.View {
	return discovery.View{Name: h.Name, Clients: h.Clients, URL: h.URL, VerifyCert: h.VerifyCert, TTL: uint32(h.TTL / time.Second)}
}

// discovery reports what cannot be said.
func (d *decoder) discovery(s *Discovery) {
	ddr := discovery.DDR{Name: s.Name}
	if err := ddr.Check(); err != nil {
		d.contradiction(fmt.Sprintf("found %s; expected the name of a server", s.Name), "discovery.name")
	}
	for i, a := range s.Addresses {
		if a.IsValid() && a.Port() != 0 {
			d.contradiction(fmt.Sprintf("found %s; expected an address without a port (see discovery.ddr.ports)", a), fmt.Sprintf("discovery.addresses[%d]", i))
		}
	}
	if url := s.RESINFO.InfoURL; url != "" {
		if err := discovery.CheckInfoURL(url); err != nil {
			d.contradiction(err.Error(), "discovery.resinfo.info_url")
		}
	}
}

// provisioning reports what routers would not understand.
func (d *decoder) provisioning(p *Provisioning) {
	first := map[netip.Prefix]string{}
	for i := range p.HB46PP {
		h := &p.HB46PP[i]
		path := fmt.Sprintf("provisioning.hb46pp[%d]", i)
		view := h.View()
		if _, err := view.Text(); err != nil && h.URL != "" {
			d.contradiction(err.Error(), path+".url", path+".verify_cert")
		}
		if h.TTL%time.Second != 0 {
			d.contradiction(fmt.Sprintf("found %s; expected whole seconds", show(h.TTL)), path+".ttl")
		}
		if _, given := d.where(path + ".clients"); !given {
			d.contradiction("found no clients; expected their prefixes", path+".clients")
		}
		for j, prefix := range h.Clients {
			at := fmt.Sprintf("%s.clients[%d]", path, j)
			by, again := first[prefix]
			switch {
			case !prefix.IsValid(): // reported already
			case again:
				d.contradiction(fmt.Sprintf("found %s again; %s has it already", prefix, by), at)
			default:
				first[prefix] = at
			}
		}
	}
}
