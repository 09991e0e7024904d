package config

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// contradictions reports values that are good each for itself and not
// together. Values that are wrong already are not looked at again.
func (d *decoder) contradictions(cfg *Config) {
	d.listeners(cfg.Listen)
	d.tls(cfg)
	d.accessRules(cfg.AccessControl)
	d.cookies(cfg)
	d.identity(&cfg.Identity)
	d.discovery(&cfg.Discovery)
	d.provisioning(&cfg.Provisioning)
	d.lifetimes(&cfg.Cache)
	d.zones(cfg)
	d.staleInTime(cfg)
	d.sharedCache(cfg)
	d.localRoot(cfg)
	d.dnssec(cfg)
	d.dnstap(cfg)
	d.tracing(&cfg.Tracing)
	d.admin(cfg.Admin.Listen)
	d.health(&cfg.Health)
	d.debug(cfg)
	if r := &cfg.Resolver; !r.IPv4 && !r.IPv6 {
		d.contradiction("found false for both ipv4 and ipv6, which leaves no way to ask; expected true for one of them",
			"resolver.ipv4", "resolver.ipv6")
	}
	// The default for one client is no contradiction: all may then be one's.
	_, given := d.where("limits.tcp_connections_per_client")
	if l := &cfg.Limits; given && l.TCPConnectionsPerClient > l.TCPConnections {
		d.exceeds("limits", "tcp_connections_per_client", l.TCPConnectionsPerClient,
			"tcp_connections", l.TCPConnections)
	}
}

// contradiction notes a problem that the values at paths have together. It
// stands where the file gives the last of them.
func (d *decoder) contradiction(message string, paths ...string) {
	p := Problem{Path: paths[0], Message: message}
	for _, path := range paths {
		if d.failed[path] {
			return
		}
		at, given := d.where(path)
		if given && (at.line > p.Line || at.line == p.Line && at.column > p.Column) {
			p.Path, p.Line, p.Column = path, at.line, at.column
		}
	}
	if p.Line == 0 {
		at, _ := d.where(p.Path)
		p.Line, p.Column = at.line, at.column
	}
	d.add(p)
}

// where returns the place of a path, and whether the file has it; if not, the
// place of the nearest section around it that the file has.
func (d *decoder) where(path string) (at place, given bool) {
	if at, given = d.given[path]; given {
		return at, true
	}
	for path != "" {
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
		if at, ok := d.given[path]; ok {
			return at, false
		}
	}
	return place{1, 1}, false
}

// exceeds notes that in a section the value of the key low is larger than that
// of the key high.
func (d *decoder) exceeds(section, low string, lowValue any, high string, highValue any) {
	lowPath, highPath := join(section, low), join(section, high)
	value := func(path string, v any) string {
		if _, given := d.where(path); !given {
			return show(v) + ", the default"
		}
		return show(v)
	}
	d.contradiction(fmt.Sprintf("%s (%s) is more than %s (%s)",
		low, value(lowPath, lowValue), high, value(highPath, highValue)), lowPath, highPath)
}

// show writes a value as the file has it.
func show(v any) string {
	if t, ok := v.(time.Duration); ok {
		return FormatDuration(t)
	}
	return fmt.Sprint(v)
}

func (d *decoder) lifetimes(c *Cache) {
	if c.MinTTL > c.MaxTTL {
		d.exceeds("cache", "min_ttl", c.MinTTL, "max_ttl", c.MaxTTL)
	}
	if c.MinFailureTTL > c.MaxFailureTTL {
		d.exceeds("cache", "min_failure_ttl", c.MinFailureTTL, "max_failure_ttl", c.MaxFailureTTL)
	}
}

// staleInTime reports a client_timeout after which the stale answer would be
// dropped for being late. The default is no contradiction: who lowers the
// other wants late answers dropped, stale ones too.
func (d *decoder) staleInTime(cfg *Config) {
	const path, limit = "cache.serve_stale.client_timeout", "limits.udp_discard_timeout"
	_, given := d.where(path)
	if s := &cfg.Cache.ServeStale; given && s.Enabled && s.ClientTimeout > cfg.Limits.UDPDiscardTimeout {
		d.contradiction(fmt.Sprintf("client_timeout (%s) is more than limits.udp_discard_timeout (%s): a stale answer would come too late to be sent over UDP",
			show(s.ClientTimeout), show(cfg.Limits.UDPDiscardTimeout)), path, limit)
	}
}

// listeners reports transports of an address that are listed twice or need the
// same port, which could not be bound or would share their clients by chance.
func (d *decoder) listeners(listeners []Listener) {
	type socket struct {
		address   netip.AddrPort
		datagrams bool
	}
	type taken struct {
		listener int
		protocol Protocol
	}
	first := map[socket]taken{}
	for i, l := range listeners {
		d.proxies(&l.ProxyProtocol, fmt.Sprintf("listen[%d].proxy_protocol.from", i))
		if !l.Address.IsValid() {
			continue
		}
		for _, p := range l.Protocols {
			s := socket{l.Address, p.datagrams()}
			by, again := first[s]
			switch {
			case !again:
				first[s] = taken{i, p}
			case by.protocol == p && by.listener == i: // reported as an element that is there twice
			case by.protocol == p:
				d.contradiction(fmt.Sprintf("found %s for %s again; listen[%d] has it already", l.Address, p, by.listener),
					fmt.Sprintf("listen[%d].address", i))
			default:
				d.contradiction(fmt.Sprintf("found %s for %s; listen[%d] has %s there, which needs the same port", p, l.Address, by.listener, by.protocol),
					fmt.Sprintf("listen[%d].protocols", i))
			}
		}
	}
}

// proxies reports address ranges of proxies that hold everybody: who is a proxy
// can say that he is anybody else.
func (d *decoder) proxies(p *ProxyProtocol, path string) {
	for i, prefix := range p.From {
		if prefix.IsValid() && prefix.Bits() == 0 {
			d.contradiction(fmt.Sprintf("found %s; everybody could then ask in everybody's name", prefix), fmt.Sprintf("%s[%d]", path, i))
		}
	}
}

// accessRules reports prefixes with two actions. The same rule twice is
// harmless, and lists that are put together from parts have it.
func (d *decoder) accessRules(rules []AccessRule) {
	first := map[netip.Prefix]int{}
	for i, r := range rules {
		path := fmt.Sprintf("access_control[%d]", i)
		if !r.Prefix.IsValid() || r.Action == "" {
			continue
		}
		j, again := first[r.Prefix]
		if !again {
			first[r.Prefix] = i
			continue
		}
		if before := rules[j].Action; before != r.Action {
			d.contradiction(fmt.Sprintf("found %s for %s; access_control[%d] says %s", r.Action, r.Prefix, j, before),
				path+".action")
		}
	}
}
