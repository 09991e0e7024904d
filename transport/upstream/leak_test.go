package upstream

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// descriptors returns how many this process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// settles waits until count, of what takes a moment to go away, is down to most.
func settles(t *testing.T, what string, most int, count func() int) {
	t.Helper()
	for end := time.Now().Add(patience); count() > most; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("%d %s, %d before", count(), what, most)
			return
		}
	}
}

func TestExchangeLeavesNothingBehind(t *testing.T) {
	tc := answerWith(badAddr, func(m *dns.Msg) { m.Truncated = true })
	answers := serveBoth(t, replies(good), repliesTCP(good))
	silent := serveBoth(t, func(datagram) {}, silentTCP)
	overTCP := serveBoth(t, replies(tc), repliesTCP(good))
	hangsUp := serveBoth(t, replies(tc), func(net.Conn) {})

	const exchanges, workers = 2000, 20
	c := newClient(t, Options{})
	exchangeOK(t, c, request(answers)) // so that the poller is there
	goroutines, fds := runtime.NumGoroutine(), descriptors(t)-c.Stats().Sockets.Kept
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() { // ends after its exchanges
			for i := range exchanges / workers {
				ctx, cancel := context.WithCancel(context.Background())
				req := request(answers)
				switch (w + i) % 20 {
				case 0:
					req.Server, req.Timeout = silent, 5*time.Millisecond
				case 1:
					req.Server = silent
					time.AfterFunc(3*time.Millisecond, cancel)
				case 2:
					req.Server, req.TCP = silent, true
					time.AfterFunc(3*time.Millisecond, cancel)
				case 3:
					req.Server = overTCP
				case 4:
					req.Server = hangsUp
				}
				c.Exchange(ctx, req) //nolint:errcheck // what is left behind is the same
				cancel()
			}
		})
	}
	all.Wait()
	settles(t, "goroutines", goroutines, runtime.NumGoroutine)
	settles(t, "descriptors", fds, func() int { return descriptors(t) - c.Stats().Sockets.Kept })
	got := c.Stats()
	if got.InFlight != 0 || got.Answers != 1+exchanges*16/20 || got.Timeouts != exchanges/20 {
		t.Errorf("Stats are %+v", got)
	}
}

func TestCloseEndsQuestionsOverUDP(t *testing.T) {
	silent := serveUDP(t, "127.0.0.1", func(datagram) {})
	goroutines, fds := runtime.NumGoroutine(), descriptors(t)
	const exchanges = 50
	c := newClient(t, Options{})
	errs := make(chan error, exchanges)
	for range exchanges { // each ends with its exchange
		go func() {
			_, err := c.Exchange(context.Background(), request(silent))
			errs <- err
		}()
	}
	settles(t, "queries not sent", 0, func() int { return exchanges - int(c.Stats().UDP.IPv4) })
	c.Close()
	for range exchanges {
		if err := <-errs; !errors.Is(err, ErrClosed) {
			t.Errorf("error is %v", err)
		}
	}
	if _, err := c.Exchange(context.Background(), request(silent)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close the error is %v", err)
	}
	settles(t, "goroutines", goroutines, runtime.NumGoroutine)
	settles(t, "descriptors", fds, func() int { return descriptors(t) })
}
