package upstream

import (
	"net/netip"
	"sync"
	"testing"
)

// bins is how many parts the ports, or the IDs, are divided into: 63 ports
// less than 1,024 each.
const bins = 64

// surprise is a value of chi-square with 63 degrees of freedom that fair draws
// exceed once in 10⁹ times.
const surprise = 150

// chiSquare returns how far counts are from all being alike.
func chiSquare(counts [bins]int, total int) (x float64) {
	want := float64(total) / bins
	for _, n := range counts {
		d := float64(n) - want
		x += d * d / want
	}
	return x
}

func TestDrawSpreadsOverAllPortsAndIDs(t *testing.T) {
	const total = 10_000
	var ports, ids, sums [bins]int
	for range total {
		port, id := drawPortAndID()
		if port < firstPort {
			t.Fatalf("drew port %d", port)
		}
		ports[(int(port)-firstPort)*bins/numPorts]++
		ids[int(id)*bins/65536]++
		sums[(int(id)+int(port))&0xFFFF*bins/65536]++ // even, if either tells nothing of the other
	}
	for name, counts := range map[string][bins]int{"ports": ports, "IDs": ids, "sums": sums} {
		if x := chiSquare(counts, total); x > surprise {
			t.Errorf("%s: chi-square is %.0f: %v", name, x, counts)
		}
	}
}

func TestDrawReachesTheFirstAndTheLastPort(t *testing.T) {
	var low, high bool
	for range 4 << 20 { // 65 draws a port
		switch port, _ := drawPortAndID(); port {
		case firstPort:
			low = true
		case 65535:
			high = true
		}
		if low && high {
			return
		}
	}
	t.Errorf("first port drawn: %v; last: %v", low, high)
}

// CVE-2026-50252: the ports of one goroutine, or core, must not be a part of
// all ports that can be told from the others'.
func TestDrawGivesEachGoroutineAllPorts(t *testing.T) {
	const goroutines, total = 8, 10_000
	var counts [goroutines][bins]int
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() { // ends after its draws
			for range total {
				port, _ := drawPortAndID()
				counts[g][(int(port)-firstPort)*bins/numPorts]++
			}
		})
	}
	all.Wait()
	for g := range goroutines {
		if x := chiSquare(counts[g], total); x > surprise {
			t.Errorf("goroutine %d: chi-square is %.0f: %v", g, x, counts[g])
		}
	}
}

func TestExchangeLeavesFromAPortOfItsOwnEachTime(t *testing.T) {
	const total = 1000
	from := make(chan netip.AddrPort, total)
	server := serveUDP(t, "127.0.0.1", func(d datagram) { from <- d.from; d.reply(good(d.query)) })
	c := newClient(t, Options{})
	var counts [bins]int
	seen := map[uint16]bool{}
	for range total {
		exchangeOK(t, c, request(server))
		port := (<-from).Port()
		seen[port] = true
		counts[(int(port)-firstPort)*bins/numPorts]++
	}
	if x := chiSquare(counts, total); x > surprise {
		t.Errorf("chi-square is %.0f: %v", x, counts)
	}
	if len(seen) < total-50 { // by chance, 8 are not the first of their port
		t.Errorf("%d exchanges from %d ports", total, len(seen))
	}
}
