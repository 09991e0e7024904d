package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestOtherDriversMakeRoutesInBIRD has BIRD take what the drivers loopback and bird
// make: an address on an interface, and a file.
func TestOtherDriversMakeRoutesInBIRD(t *testing.T) {
	t.Parallel()
	inside(t, "TestOtherDriversInside")
}

// TestOtherDriversInside is the other side.
func TestOtherDriversInside(t *testing.T) {
	if os.Getenv(insideEnv) == "" {
		return
	}
	l := newLab(t)
	included, socket := l.write("bird/vips.conf", ""), l.dir+"/bird.ctl"
	file := l.write("bird.conf", fmt.Sprintf(`
log stderr all;
router id 10.99.0.1;
protocol device { scan time 1; }
protocol direct { ipv4; ipv6; interface "lo"; }
include "%s";
`, included))
	l.start("", "bird", "-f", "-c", file, "-s", socket)
	l.await("BIRD listens", func() bool { _, err := os.Stat(socket); return err == nil })
	routes := func() string { return l.birdRoutes(socket) }
	has := func(n int, words ...string) func() bool {
		return func() bool {
			text, count := routes(), 0
			for _, w := range words {
				if strings.Contains(text, w) {
					count++
				}
			}
			return count == n
		}
	}
	// The address itself cannot be asked while it is away.
	const common = "\nprobes: {interval: 200ms, timeout: 200ms, rise: 2, fall: 2}\nresolver: {admin_socket: %s}\ndrain: {graceful: 5m}\n"
	resolver := l.resolver("", "127.0.0.1:53", "[::1]:53")
	onLoopback := l.announcer("loopback", fmt.Sprintf("driver: loopback\nvips:\n  - {address: 192.0.2.1, ask_at: [127.0.0.1]}\n  - {address: '2001:db8::1', ask_at: ['::1']}\n"+common, l.socket("")))
	inFile := l.announcer("bird", fmt.Sprintf(`
driver: bird
bird: {file: %s, control_socket: %s}
bgp: {med: 77, communities: ["64512:53"]}
vips:
  - {address: 192.0.2.2, ask_at: [127.0.0.1]}
  - {address: "2001:db8::2", ask_at: ["::1"], prefixes: ["2001:db8::/48"]}
`+common, included, socket, l.socket("")))
	addresses := []string{"192.0.2.1/32", "2001:db8::1/128"}
	files := []string{"192.0.2.2/32", "2001:db8::/48"}
	l.await("BIRD has the addresses on loopback", has(2, addresses...))
	l.await("BIRD has the routes of the file", has(4, append(files, "med: 77", "(64512,53)")...))

	// Whoever takes an address away by hand is corrected.
	l.run("ip", "addr", "del", "192.0.2.1/32", "dev", "lo")
	l.await("the address is back", has(2, addresses...))

	resolver.end(syscall.SIGKILL)
	l.await("nothing is left of a dead resolver", has(0, append(addresses, files...)...))
	resolver = l.resolver("", "127.0.0.1:53", "[::1]:53")
	l.await("it is announced again", has(4, append(addresses, files...)...))

	inFile.signal(syscall.SIGTERM)
	l.await("the routes of the file say GRACEFUL_SHUTDOWN", has(1, "(65535,0)"))
	for _, p := range []*process{onLoopback, inFile} {
		l.await("an announcer hastens when told again", p.told(syscall.SIGTERM))
	}
	l.await("announcers that end leave nothing", has(0, append(addresses, files...)...))
	resolver.end(syscall.SIGTERM)
}
