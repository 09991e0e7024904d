package wire

import (
	"net/netip"
	"testing"
)

func TestNetworkOf(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.254", true},
		{"192.0.2.1", "192.0.3.1", false},
		{"192.0.2.1", "::ffff:192.0.2.9", true},
		{"2001:db8::1", "2001:db8:0:ff:ffff::1", true},
		{"2001:db8::1", "2001:db8:0:100::1", false},
		{"0.0.0.0", "::", false},
		{"0.0.192.2", "::c0:0200:0:0:0:0", false}, // same bits in another family
		{"fe80::1%lo", "fe80::2", true},
	} {
		a, b := netip.MustParseAddr(tt.a), netip.MustParseAddr(tt.b)
		if same := NetworkOf(a) == NetworkOf(b); same != tt.same {
			t.Errorf("%s and %s are one network: %v", a, b, same)
		}
	}
	if NetworkOf(netip.Addr{}) == 0 || NetworkOf(netip.Addr{}) == NetworkOf(netip.IPv6Unspecified()) {
		t.Error("clients without an address share with nobody, or with others")
	}
}
