package daemon

import (
	"net/netip"
	"testing"

	"shirube/internal/config"
)

func TestHTTP3IsToldOfOnlyWhereAllClientsFindIt(t *testing.T) {
	at := func(port uint16, protocols ...config.Protocol) config.Listener {
		return config.Listener{Address: netip.AddrPortFrom(netip.IPv6Loopback(), port), Protocols: protocols}
	}
	both := []config.Protocol{config.ProtocolDoH, config.ProtocolDoH3}
	for _, c := range []struct {
		what      string
		listeners []config.Listener
		want      uint16
	}{
		{"none", nil, 0},
		{"both", []config.Listener{at(443, both...), at(53, config.ProtocolUDP)}, 443},
		{"both, twice", []config.Listener{at(443, both...), at(443, both...)}, 443},
		{"one without", []config.Listener{at(443, both...), at(443, config.ProtocolDoH)}, 0},
		{"two ports", []config.Listener{at(443, both...), at(8443, both...)}, 0},
		{"HTTP/3 alone", []config.Listener{at(443, config.ProtocolDoH3)}, 0},
	} {
		if got := http3Port(c.listeners); got != c.want {
			t.Errorf("%s: %d, want %d", c.what, got, c.want)
		}
	}
}
