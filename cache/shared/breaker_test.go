package shared

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A minute without memcached: it is tried less and less, nobody who asks waits,
// and it has all its questions back soon after it has come back.
func TestServerThatIsGoneForAMinuteIsTriedLessAndLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const away = time.Minute
		c := newTestCache(t, nil, Server{Name: "memcached-0", Addr: netip.MustParseAddrPort("192.0.2.1:11211")})
		s := only(c)
		began := time.Now()
		var tries record[time.Duration]
		s.dialer.connect = func(context.Context, string, string) (net.Conn, error) {
			if tries.add(time.Since(began)); time.Since(began) < away {
				return nil, errors.New("connection refused")
			}
			return pingable(), nil
		}
		k := keyOf("www.example.com.")
		for get(t, c, k); !s.breaker.out.Load(); get(t, c, k) {
			if time.Since(began) > time.Second {
				t.Fatal("it is not out after a second")
			}
			time.Sleep(minRedial)
		}
		out, before := time.Since(began), len(tries.all())
		skipped := c.Stats().Skipped
		for time.Since(began) < away {
			asked := time.Now()
			if _, ok := get(t, c, k); ok || time.Since(asked) > 0 {
				t.Fatalf("after %v: found %v, in %v", asked.Sub(began), ok, time.Since(asked))
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := c.Stats().Skipped - skipped; n < 550 {
			t.Errorf("%d look-ups were spared", n)
		}
		at, pause := out+minOut, minOut
		var due []time.Duration
		for ; at < away; at += pause {
			due = append(due, at)
			pause = min(2*pause, maxOut)
		}
		back, last := at, out
		for _, at := range due { // the first may come too soon after a connection that failed
			if !slices.ContainsFunc(tries.all()[before:], func(try time.Duration) bool { return near(try, at) }) && at-last > maxRedial*3/2 {
				t.Errorf("out after %v, it was not tried after %v", out, at)
			}
			last = at
		}
		for _, try := range tries.all()[before:] {
			if !slices.ContainsFunc(due, func(at time.Duration) bool { return near(try, at) }) {
				t.Errorf("out after %v, it was tried after %v", out, try)
			}
		}
		time.Sleep(back - time.Since(began) + time.Millisecond)
		if st := one(c.Stats()); st.State != Ramping || st.Trips != 1 {
			t.Errorf("%v after %v, %d trips", st.State, time.Since(began), st.Trips)
		}
		time.Sleep(rampTime)
		if _, standIn := c.pick(1<<32|99, time.Now()); standIn || !s.breaker.admits(99, time.Now()) || one(c.Stats()).State != In {
			t.Errorf("%v after %v", one(c.Stats()).State, time.Since(began))
		}
	})
}

// near reports whether two times are the same, but for what simulated time adds.
func near(a, b time.Duration) bool { return (a - b).Abs() < time.Millisecond }

// pingable returns a connection to a server that says its version.
func pingable() net.Conn {
	ours, theirs := net.Pipe()
	// Owner: the connection. Ends when it is closed.
	go func() {
		for lines := bufio.NewReader(theirs); ; {
			if _, err := lines.ReadString('\n'); err != nil {
				return
			}
			if _, err := theirs.Write([]byte("VERSION 1\r\n")); err != nil {
				return
			}
		}
	}()
	return ours
}
