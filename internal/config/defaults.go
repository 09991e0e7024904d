package config

import (
	"net/netip"
	"time"

	"shirube/internal/wire"
)

// Default returns the configuration of a server without a file: loopback only,
// everything in process. It and the functions below are the one
// place where defaults are written.
func Default() Config {
	loopback4 := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	return Config{
		Listen: []Listener{
			listener(netip.AddrPortFrom(loopback4, 5353)),
			listener(netip.AddrPortFrom(netip.IPv6Loopback(), 5353)),
		},
		UDP: udp(),
		TLS: TLS{Certificates: []Certificate{}},
		DoH: DoH{Path: "/dns-query", TrustedProxies: []netip.Prefix{}},
		AccessControl: []AccessRule{
			{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8), Action: ActionAllow},
			{Prefix: netip.PrefixFrom(netip.IPv6Loopback(), 128), Action: ActionAllow},
		},
		Cache: Cache{
			AnswersSize:    Auto,
			RRsetsSize:     64 << 20,
			MaxTTL:         24 * time.Hour,
			MaxNegativeTTL: time.Hour,
			MinFailureTTL:  time.Second,
			MaxFailureTTL:  5 * time.Minute,
			Prefetch:       true,
			RotateRRsets:   true,

			MinimalResponses: true,

			ServeStale: ServeStale{
				Enabled:       true,
				MaxAge:        24 * time.Hour,
				ReplyTTL:      30 * time.Second,
				ClientTimeout: 1800 * time.Millisecond,
				Recheck:       30 * time.Second,
			},
		},
		SharedCache:  sharedCache(),
		Resolver:     defaultResolver(),
		Cookies:      Cookies{Enabled: true, Secrets: []Secret{}},
		Discovery:    defaultDiscovery(),
		Provisioning: defaultProvisioning(),
		BuiltinZones: BuiltinZones{Enabled: true, Except: []wire.Name{}},
		ForwardZones: []Zone{},
		StubZones:    []Zone{},
		LocalRoot:    LocalRoot{Servers: []Address{}, ZONEMD: ZONEMDRequire},
		DNSSEC: DNSSEC{
			Validation:           true,
			RootTrustAnchor:      true,
			TrustAnchors:         []TrustAnchor{},
			TrustAnchorFiles:     []string{},
			AutoTrustAnchor:      true,
			NegativeTrustAnchors: []NegativeTrustAnchor{},
			Sentinel:             true,
			Telemetry:            true,
			AggressiveNSEC:       true,
			MaxNSEC3Iterations:   50,
			HardenBelowNXDomain:  true,
			BogusTTL:             time.Minute,
			DisabledAlgorithms:   []Algorithm{},
			DisabledDSDigests:    []Digest{},
		},
		Limits:  defaultLimits(),
		Dnstap:  defaultDnstap(),
		Tracing: defaultTracing(),
		Log:     Log{Level: LevelInfo, Format: FormatText, SlowResolutions: SlowResolutions{Interval: 10 * time.Second}},
		Control: Control{Enabled: true},
		Admin:   Admin{Enabled: true, Listen: []AdminListener{}},
		Health:  defaultHealth(),
	}
}

// defaultResolver returns the default of resolver.
func defaultResolver() Resolver {
	return Resolver{
		PrimeRoot:           true,
		QNameMinimisation:   MinimisationRelaxed,
		IPv4:                true,
		IPv6:                true,
		DoNotQueryLocalhost: true,
		UseCapsForID:        true,
		UpstreamCookies:     true,
		HardenGlue:          true,
		Port:                53,

		OpportunisticEncryption: []AuthorityEncryption{},
		EncryptedPort:           853,

		EDNSSize:   1232,
		Timeout:    6 * time.Second,
		MaxQueries: 100,
		MaxAliases: 11,
	}
}

// udp returns the default of the section udp.
func udp() UDP {
	return UDP{
		Loop:          UDPLoopAuto,
		Batch:         128,
		GiveWay:       true,
		Steering:      UDPSteeringOff,
		ReceiveBuffer: 4 << 20, // 20 ms of 200,000 queries a second
		SendBuffer:    1 << 20,
	}
}

// defaultLimits returns the default of limits.
func defaultLimits() Limits {
	return Limits{
		InFlight:                10_000,
		Waiters:                 100,
		UDPSize:                 1232,
		UDPDiscardTimeout:       1900 * time.Millisecond,
		TCPConnections:          4096,
		TCPConnectionsPerClient: 256,
		TCPInFlight:             32,
		TCPFirstByteTimeout:     3 * time.Second,
		TCPMessageTimeout:       5 * time.Second,
		TCPIdleTimeout:          10 * time.Second,
		TLSConnections:          8192,
		TLSConnectionsPerClient: 256,
		TLSHandshakesPerClient:  50,
		DoHStreams:              100,
		DoHIdleTimeout:          30 * time.Second,
		DoQStreams:              64,
		DoQStreamTimeout:        3 * time.Second,
		DoQIdleTimeout:          30 * time.Second,
		DrainTimeout:            5 * time.Second,
	}
}

// listener returns the default listener for an address.
func listener(address netip.AddrPort) Listener {
	return Listener{
		Address: address, Protocols: []Protocol{ProtocolUDP, ProtocolTCP},
		ProxyProtocol: ProxyProtocol{From: []netip.Prefix{}},
	}
}

// defaults returns what an element of listen is before its keys are read.
func (Listener) defaults() any { return listener(netip.AddrPort{}) }
