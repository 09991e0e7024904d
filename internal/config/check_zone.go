package config

import (
	"fmt"
	"net/netip"

	"shirube/internal/wire"
)

// configured is a zone of the file, and where it is.
type configured struct {
	*Zone
	path string
}

// zones reports what makes no sense about zones whose servers are configured.
func (d *decoder) zones(cfg *Config) {
	var all []configured
	for i := range cfg.ForwardZones {
		all = append(all, configured{&cfg.ForwardZones[i], fmt.Sprintf("forward_zones[%d]", i)})
	}
	for i := range cfg.StubZones {
		all = append(all, configured{&cfg.StubZones[i], fmt.Sprintf("stub_zones[%d]", i)})
	}
	byName := map[wire.Name]configured{}
	for _, z := range all {
		first, again := byName[z.Name]
		switch {
		case z.Name == "": // reported already
		case again:
			d.contradiction(fmt.Sprintf("found %s again; %s has it already", z.Name, first.path), z.path+".name")
		default:
			byName[z.Name] = z
		}
	}
	for _, z := range all {
		d.zone(z, cfg)
		d.zoneHosts(z, byName)
	}
}

// zone reports what makes no sense about a zone by itself.
func (d *decoder) zone(z configured, cfg *Config) {
	servers, hosts := z.path+".servers", z.path+".hosts"
	if len(z.Servers)+len(z.Hosts) == 0 && !d.failed[servers] && !d.failed[hosts] {
		d.contradiction("found a zone without a server; expected servers or hosts", z.path)
	}
	if z.TCP && z.TLS {
		d.contradiction("found true for both tcp and tls; tls is over TCP already", z.path+".tcp", z.path+".tls")
	}
	if z.DoH && (z.TCP || z.TLS) {
		d.contradiction("found true for doh and for tcp or tls; doh is over both already", z.path+".doh")
	}
	first := map[netip.AddrPort]int{}
	for i, s := range z.Servers {
		path := fmt.Sprintf("%s[%d]", servers, i)
		d.server(s, path, z, cfg)
		at := s.Address.Or(z.Port())
		j, again := first[at]
		switch {
		case !s.Address.IsValid() && s.Address.Port() == 0: // reported already
		case again:
			d.contradiction(fmt.Sprintf("found %s again; servers[%d] has it already", at, j), path+".address")
		default:
			first[at] = i
		}
	}
}

// Port returns the port that servers of z without one are asked on.
func (z *Zone) Port() uint16 {
	switch {
	case z.TLS:
		return 853 // RFC 7858 §3.1
	case z.DoH:
		return 443 // RFC 8484 §8.1
	}
	return 53
}

// encryption returns the key that has z's servers asked encrypted.
func (z *Zone) encryption() (key string, on bool) {
	if z.DoH {
		return "doh", true
	}
	return "tls", z.TLS
}

// server reports what makes no sense about one server of a zone.
func (d *decoder) server(s Server, path string, z configured, cfg *Config) {
	authentic := s.TLSName != "" || len(s.Pins) > 0
	key, encrypted := z.encryption()
	at := z.path + "." + key
	known := !d.failed[z.path+".tls"] && !d.failed[z.path+".doh"]
	switch {
	case encrypted && !authentic && !d.failed[path+".tls_name"] && !d.failed[path+".pins"]:
		d.contradiction(fmt.Sprintf("found a server without tls_name and pins in a zone with %s, which anybody could impersonate; expected one of the two", key), path, at)
	case !encrypted && s.TLSName != "" && known:
		d.contradiction("found tls_name in a zone without tls; expected tls: true beside servers, or doh: true", path+".tls_name")
	case !encrypted && len(s.Pins) > 0 && known:
		d.contradiction("found pins in a zone without tls; expected tls: true beside servers, or doh: true", path+".pins")
	case !z.DoH && s.DoHPath != "" && known:
		d.contradiction("found doh_path in a zone without doh; expected doh: true beside servers", path+".doh_path")
	case s.DoHPath != "" && !isPath(s.DoHPath):
		d.contradiction(fmt.Sprintf("found %q; expected a path, such as /dns-query", shorten(s.DoHPath)), path+".doh_path")
	case s.Address.Addr().IsValid() && listens(cfg, s.Address.Or(z.Port())):
		d.contradiction(fmt.Sprintf("found %s, where this server itself listens", s.Address.Or(z.Port())), path+".address")
	default:
		d.family(s.Address, path+".address", cfg)
	}
}

// family reports an address of a family that is not to be used.
func (d *decoder) family(a Address, path string, cfg *Config) {
	switch {
	case a.Addr().Is4() && !cfg.Resolver.IPv4:
		d.contradiction(fmt.Sprintf("found the IPv4 address %s; resolver.ipv4 is false", a), path, "resolver.ipv4")
	case a.Addr().Is6() && !cfg.Resolver.IPv6:
		d.contradiction(fmt.Sprintf("found the IPv6 address %s; resolver.ipv6 is false", a), path, "resolver.ipv6")
	}
}

// listens reports whether this server has a at one of its listeners, as far as
// the file can tell.
func listens(cfg *Config, a netip.AddrPort) bool {
	for _, l := range cfg.Listen {
		switch {
		case l.Address == a:
			return true
		case l.Address.Addr().IsUnspecified() && a.Addr().IsLoopback() && l.Address.Port() == a.Port() &&
			l.Address.Addr().Is4() == a.Addr().Is4():
			return true
		}
	}
	return false
}

// zoneHosts reports servers whose address only the zone itself could tell, where
// nobody in it can be asked.
func (d *decoder) zoneHosts(z configured, byName map[wire.Name]configured) {
	if len(z.Servers) > 0 {
		return
	}
	for i, host := range z.Hosts {
		for n, ok := host, host != ""; ok; n, ok = n.Parent() {
			closest, is := byName[n]
			if !is {
				continue
			}
			if closest.Zone == z.Zone {
				d.contradiction(fmt.Sprintf("found %s, whose address would be asked of the zone itself; expected its address in servers", host),
					fmt.Sprintf("%s.hosts[%d]", z.path, i))
			}
			break
		}
	}
}
