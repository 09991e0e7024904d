package netx

import (
	"net/netip"
	"testing"
)

// TestFreeBindingTakesAnAddressThatNobodyHas does so with every kind of socket, and
// with one that joins others.
func TestFreeBindingTakesAnAddressThatNobodyHas(t *testing.T) {
	free := Binding{Free: true}
	for _, text := range []string{"192.0.2.77:0", "[2001:db8::77]:0"} {
		at := netip.MustParseAddrPort(text)
		conns, err := free.ListenUDP(t.Context(), at, 2)
		if err != nil {
			t.Fatal(err)
		}
		conns = free.join(t.Context(), netip.AddrPortFrom(at.Addr(), localPort(conns[0])), conns, 3)
		if len(conns) != 3 {
			t.Errorf("%s: %d sockets; want 3", at, len(conns))
		}
		for _, c := range conns {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		l, err := free.ListenTCP(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}
