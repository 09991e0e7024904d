package config

import (
	"fmt"

	"shirube/internal/wire"
)

// LocalRoot configures a copy of the root zone.
type LocalRoot struct {
	// Whether to keep a copy. It needs `file`, `servers` or both; of both, the
	// newer zone counts. Without one that is good and not expired, the root
	// servers are asked.
	Enabled bool `yaml:"enabled"`
	// A zone file with the whole root zone. It is read again within half a
	// minute when it has changed, and is good for as long after it was written
	// as its SOA record says. A relative path starts at the directory that the
	// server was started in.
	File string `yaml:"file"`
	// Servers that allow the root zone to be transferred (AXFR), as addresses
	// with or without a port. They are asked as often as the zone's SOA record
	// says.
	Servers []Address `yaml:"servers" range:"0..16"`
	// What to do about the zone's digest (RFC 8976). `require` uses no zone
	// without one that matches; `if_present` uses one that has none; `off` does
	// not look. A digest shows damage: somebody who can change the zone on its
	// way can change the digest too.
	ZONEMD ZONEMD `yaml:"zonemd"`
}

// ZONEMD is what to do about a zone's digest.
type ZONEMD string

// The policies.
const (
	ZONEMDRequire   ZONEMD = "require"
	ZONEMDIfPresent ZONEMD = "if_present"
	ZONEMDOff       ZONEMD = "off"
)

func (ZONEMD) values() []string {
	return []string{string(ZONEMDRequire), string(ZONEMDIfPresent), string(ZONEMDOff)}
}

// localRoot reports what makes no sense about the copy of the root zone.
func (d *decoder) localRoot(cfg *Config) {
	l := &cfg.LocalRoot
	if !l.Enabled {
		return
	}
	if l.File == "" && len(l.Servers) == 0 && !d.failed["local_root.file"] && !d.failed["local_root.servers"] {
		d.contradiction("found true without file and servers; expected one of them", "local_root.enabled")
	}
	for i, z := range cfg.ForwardZones {
		if z.Name == wire.Root {
			d.contradiction("found a zone for the root beside local_root.enabled; only one of them can answer for it",
				fmt.Sprintf("forward_zones[%d].name", i), "local_root.enabled")
		}
	}
	for i, z := range cfg.StubZones {
		if z.Name == wire.Root {
			d.contradiction("found a zone for the root beside local_root.enabled; only one of them can answer for it",
				fmt.Sprintf("stub_zones[%d].name", i), "local_root.enabled")
		}
	}
	for i, a := range l.Servers {
		d.family(a, fmt.Sprintf("local_root.servers[%d]", i), cfg)
	}
}
