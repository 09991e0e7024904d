package upstream

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// TestAnswersOfABurstLetPacketsBeLookedForInBetween has one processor's place, as
// many exchanges under way as come back at once, and somebody who waits for a packet
// that comes with the first.
func TestAnswersOfABurstLetPacketsBeLookedForInBetween(t *testing.T) {
	const exchanges = 16 * mostWoken
	held := make(chan datagram, exchanges)
	server := serveUDP(t, "127.0.0.1", func(d datagram) { held <- d })
	c := newClient(t, Options{})
	client, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var over, before atomic.Int64
	var all sync.WaitGroup
	all.Go(func() { // ends with the packet, or the socket
		if _, err := client.Read(make([]byte, 16)); err != nil {
			t.Error(err)
		}
		before.Store(over.Load())
	})
	for range exchanges {
		all.Go(func() {
			if _, err := c.Exchange(t.Context(), request(server)); err != nil {
				t.Error(err)
			}
			if over.Add(1) == 1 {
				if _, err := client.WriteTo([]byte("packet"), client.LocalAddr()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	burst := make([]datagram, 0, exchanges)
	for range exchanges {
		burst = append(burst, <-held)
	}
	for _, d := range burst {
		d.reply(good(d.query))
	}
	all.Wait()
	if n := before.Load(); n > 2*mostWoken {
		t.Errorf("it was seen after %d of %d exchanges", n, exchanges)
	}
}
