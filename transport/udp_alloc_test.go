//go:build !race

package transport

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"shirube/dnstap/dnstaptest"
	"shirube/internal/netx"
	"shirube/internal/wire"
)

// wantNoAllocations sends query again and again, and wants each to be answered
// without an allocation, the server's goroutines included.
func wantNoAllocations(t *testing.T, c net.Conn, query []byte) {
	t.Helper()
	var buf [4096]byte
	ask := func() {
		if _, err := c.Write(query); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(buf[:]); err != nil || n < 12 {
			t.Fatal(n, err)
		}
	}
	ask()
	if n := testing.AllocsPerRun(2000, ask); n != 0 {
		t.Errorf("%v allocations from socket to socket", n)
	}
}

func TestUDPHitAllocatesNothing(t *testing.T) {
	tests := []struct{ name, listen, ask string }{
		{"v4", "127.0.0.1:0", "127.0.0.1"},
		{"v6", "[::1]:0", "::1"},
		{"v4 with packet info", "0.0.0.0:0", "127.0.0.2"},
		{"v6 with packet info", "[::]:0", "::1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			eachLoop(t, func(t *testing.T, loop netx.Loop) {
				_, at := startUDP(t, UDPOptions{Handler: newScripted(), Loop: loop}, tt.listen)
				c := dial(t, "udp", netip.AddrPortFrom(netip.MustParseAddr(tt.ask), at.Port()))
				wantNoAllocations(t, c, packQuery(t, 1, "hit"))
			})
		})
	}
}

// Nor with a tap that takes everything.
func TestTappedHitAllocatesNothing(t *testing.T) {
	tap, end := dnstaptest.Record(t)
	_, at := startUDP(t, UDPOptions{Handler: newScripted(), Tap: tap}, "0.0.0.0:0")
	c := dial(t, "udp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), at.Port()))
	wantNoAllocations(t, c, packQuery(t, 1, "hit"))
	if s := tap.Stats()[0]; s.Dropped != 0 || len(end()) < 4000 {
		t.Errorf("%+v", s)
	}
}

// Nor does a header before the query cost anything, or one that is none.
func TestProxiedUDPAllocatesNothing(t *testing.T) {
	eachLoop(t, func(t *testing.T, loop netx.Loop) {
		_, at := startProxiedUDP(t, UDPOptions{Handler: newScripted(), Loop: loop}, newProxies(t, "192.0.2.0/24", "127.0.0.0/8"), "127.0.0.1:0")
		c := dial(t, "udp", at)
		hit := packQuery(t, 1, "hit")
		for _, header := range []string{proxyInet4, proxyInet4 + proxyTLV} {
			wantNoAllocations(t, c, slices.Concat(proxyHeader(0x21, 0x12, header), hit))
		}
		good := slices.Concat(proxyHeader(0x21, 0x22, proxyInet6), hit)
		var buf [4096]byte
		ask := func() {
			for _, msg := range [][]byte{hit, good} {
				if _, err := c.Write(msg); err != nil {
					t.Fatal(err)
				}
			}
			if n, err := c.Read(buf[:]); err != nil || n < 12 {
				t.Fatal(n, err)
			}
		}
		ask()
		if n := testing.AllocsPerRun(1000, ask); n != 0 {
			t.Errorf("%v allocations with one message that has no header", n)
		}
	})
}

// What a flood is answered with must not cost more than an answer.
func TestUDPRejectionsAllocateNothing(t *testing.T) {
	h := newScripted()
	_, at := startUDP(t, UDPOptions{Handler: h, Slots: NewSlots(1, 0), MaxSize: 1232}, "0.0.0.0:0")
	c := dial(t, "udp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), at.Port()))
	write(t, c, packQuery(t, 1, "slow"))
	h.waitBegan(t, 1)
	defer close(h.release)
	opcode, malformed, version := packQuery(t, 2, "hit"), packQuery(t, 3, "hit"), packQuery(t, 4, "hit")
	opcode[2] |= 0x28
	malformed[5] = 2
	version[len(version)-5] = 1
	for name, query := range map[string][]byte{
		"shed": packQuery(t, 5, "slow"), "NOTIMP": opcode, "FORMERR": malformed, "BADVERS": version,
	} {
		t.Run(name, func(t *testing.T) { wantNoAllocations(t, c, query) })
	}
}

// denying is a Handler that lets no message be answered but queries.
type denying struct{ *scripted }

func (denying) Reject(netip.AddrPort, wire.Rcode) (wire.Rcode, bool) { return 0, false }

// Nor must it cost anything to be silent: a message that gets no response goes
// before each query that does.
func TestUDPSilenceAllocatesNothing(t *testing.T) {
	_, at := startUDP(t, UDPOptions{Handler: denying{newScripted()}}, "127.0.0.1:0")
	c := dial(t, "udp", at)
	malformed, hit := packQuery(t, 3, "hit"), packQuery(t, 4, "hit")
	malformed[5] = 2
	var buf [4096]byte
	ask := func() {
		for _, msg := range [][]byte{malformed, hit} {
			if _, err := c.Write(msg); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := c.Read(buf[:]); err != nil || n < 12 || buf[1] != 4 {
			t.Fatal(n, err, buf[:2])
		}
	}
	ask()
	if n := testing.AllocsPerRun(2000, ask); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestTCPHitAllocatesNothing(t *testing.T) {
	_, at := startTCP(t, TCPOptions{Handler: newScripted()}, "127.0.0.1:0")
	wantNoAllocations(t, dial(t, "tcp", at), frame(packQuery(t, 1, "hit")))
}

func BenchmarkUDPHit(b *testing.B) {
	_, at := startUDP(b, UDPOptions{Handler: newScripted()}, "127.0.0.1:0")
	c := dial(b, "udp", at)
	query := packQuery(b, 1, "hit")
	var buf [4096]byte
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(query); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Read(buf[:]); err != nil {
			b.Fatal(err)
		}
	}
}
