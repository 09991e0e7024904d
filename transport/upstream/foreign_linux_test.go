package upstream

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"shirube/internal/netx"
)

func TestForeignReadsTheKernelsList(t *testing.T) {
	const list = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
   77: 0100007F:0FA0 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 0
   78: 00000000:0FA1 0100007F:0035 01 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 0
 1079: 00000000000000000000000001000000:0FA2 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000
   80: nonsense
   81: 00000000:0FA`
	var f foreign
	var own portSet
	own.add(0x0FA1) // of a query under way
	y := netx.NewYield()
	defer y.Close()
	f.read(strings.NewReader(list), &own, y)
	for port, want := range map[uint16]bool{0x0FA0: true, 0x0FA1: false, 0x0FA2: true, 0x0FA: false, 0x35: false, 0: false} {
		if f.has(port) != want {
			t.Errorf("port %d: %v", port, !want)
		}
	}
	f.ports.clear()
	f.read(strings.NewReader(strings.Repeat(strings.Split(list, "\n")[1]+"\n", mostListed+100)+" 1: 00000000:1111 \n"), &own, y)
	if !f.has(0x0FA0) || f.has(0x1111) {
		t.Errorf("of a list that is too long not the first %d are read", mostListed)
	}
	f.read(strings.NewReader(strings.Repeat("x", 10_000)), &own, y) // ends
}

func TestPortsOfAProgramAreKnownAfterOneSearch(t *testing.T) {
	c := newClient(t, Options{})
	p, err := c.pollers.get()
	if err != nil {
		t.Fatal(err)
	}
	var ports []uint16
	for range 5 * maxSearches / 4 {
		conn, err := net.ListenUDP("udp4", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if port := conn.LocalAddr().(*net.UDPAddr).AddrPort().Port(); p.kept.keeps(0, port) {
			ports = append(ports, port)
		}
	}
	s := &newScratch(1232).socket
	if op, err := s.open(p, netip.MustParseAddrPort("127.0.0.1:53"), ports[0]); op != "bind" || err != unix.EADDRINUSE { //nolint:errorlint // as it comes
		t.Fatalf("%s: %v", op, err)
	}
	settles(t, "ports that are not known to be another's", 0, func() (n int) {
		for _, port := range ports {
			if p.kept.keeps(0, port) {
				n++
			}
		}
		return n
	})
	if n := p.kept.foreign.searches.Load(); n != 1 {
		t.Errorf("%d searches", n)
	}
}
