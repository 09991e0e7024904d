package upstream

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
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

// A socket that another's end has the kernel leave out of one reading is in the next.
func TestForeignReadsTheKernelsListsTwice(t *testing.T) {
	const first, left = "   77: 0100007F:0FA0 00000000:0000 07\n", "   78: 0100007F:0FA1 00000000:0000 07\n"
	files, opened := t.TempDir(), map[string]int{}
	open := func(list string) (*os.File, error) {
		opened[list]++
		name, lines := filepath.Join(files, "list"), first
		if opened[list] > 1 {
			lines += left
		}
		if err := os.WriteFile(name, []byte(lines), 0o600); err != nil {
			return nil, err
		}
		return os.Open(name)
	}
	var f foreign
	var own portSet
	y := netx.NewYield()
	defer y.Close()
	f.readLists(open, &own, y)
	if !f.has(0x0FA0) || !f.has(0x0FA1) {
		t.Error("a socket that one reading lacks is not known")
	}
	if len(opened) != 2 || opened["/proc/self/net/udp"] != 2 || opened["/proc/self/net/udp6"] != 2 {
		t.Errorf("read: %v", opened)
	}
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
