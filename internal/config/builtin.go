package config

import "shirube/internal/wire"

// BuiltinZones configures the zones that every resolver answers by itself.
type BuiltinZones struct {
	// Whether to answer them: NXDOMAIN, but for `localhost` and the names of
	// loopback addresses. They are those of RFC 6303 and RFC 7793 (Unbound's
	// default local zones, BIND's empty zones) and of RFC 6761, RFC 7686, RFC
	// 8375 and RFC 9665.
	Enabled bool `yaml:"enabled"`
	// Names to resolve like any other, with all below them, as
	// `10.in-addr.arpa` where private addresses have names (Unbound's
	// `nodefault`). Zones in `forward_zones` and `stub_zones` need not be
	// listed: they come first.
	Except []wire.Name `yaml:"except" range:"0..1000"`
}
