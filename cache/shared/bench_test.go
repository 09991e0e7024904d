package shared

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"golang.org/x/sys/unix"
)

// cpuTime returns the CPU time that this process has used.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkGet compares the CPU time of this process that a look-up takes, of
// what another server has told, with that of the client library's own, in turns.
func BenchmarkGet(b *testing.B) {
	m := startMemcached(b, "memcached-0")
	c := newTestCache(b, nil, m.Server)
	keys := make([]Key, 256)
	for i := range keys {
		keys[i] = keyOf(fmt.Sprintf("name%d.example.com.", i))
	}
	l := &load{c: c, names: keys}
	l.fill(b)
	plain := memcache.New(m.Server.Addr.String())
	plain.MaxIdleConns = 32
	defer func() { _ = plain.Close() }()
	names := make([][]string, len(keys))
	for i, k := range keys {
		d := c.ring.digest(k)
		names[i] = []string{keyName(forAnswer, 0, d), keyName(forFailure, 0, d)}
	}
	ways := []struct {
		name string
		get  func(i int)
	}{
		{"one-key", func(i int) {
			if _, err := plain.Get(names[i%len(names)][0]); err != nil {
				b.Error(err)
			}
		}},
		{"two-keys", func(i int) {
			if got, err := plain.GetMulti(names[i%len(names)]); err != nil || len(got) != 1 {
				b.Error(err)
			}
		}},
		{"ours", func(i int) {
			if _, ok := c.Get(context.Background(), keys[i%len(keys)]); !ok {
				b.Error("a miss")
			}
		}},
	}
	for _, load := range []struct {
		name    string
		clients int
		pace    time.Duration
	}{{"one-after-the-other", 1, 0}, {"paced", 1, 250 * time.Microsecond}, {"16-at-once", 16, 0}} {
		b.Run(load.name, func(b *testing.B) {
			const round = 500
			used := make([]time.Duration, len(ways))
			for range b.N {
				for w, way := range ways {
					begun := cpuTime(b)
					var wg sync.WaitGroup
					if load.pace > 0 {
						next := time.Now()
						for i := range round {
							next = next.Add(load.pace)
							time.Sleep(time.Until(next))
							wg.Go(func() { way.get(i) })
						}
					} else {
						for n := range load.clients {
							wg.Go(func() {
								for i := range round / load.clients {
									way.get(i*load.clients + n)
								}
							})
						}
					}
					wg.Wait()
					used[w] += cpuTime(b) - begun
				}
			}
			for w, way := range ways {
				b.ReportMetric(float64(used[w].Nanoseconds())/float64(b.N*round/load.clients*load.clients)/1000, way.name+"-cpu-µs/get")
			}
		})
	}
}
