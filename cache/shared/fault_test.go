package shared

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// load asks c for names as clients would, at a pace, and returns how long each
// had to wait.
type load struct {
	c     *Cache
	names []Key
	took  []time.Duration
	late  []time.Duration // what sleeps took too long: that is the machine's doing
	hits  int
}

// run asks n times in steps of pace, from clients goroutines.
func (l *load) run(t testing.TB, n int, pace time.Duration) {
	t.Helper()
	const clients = 8
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for j := range n / clients {
				k := l.names[(j*clients+i)%len(l.names)]
				begun := time.Now()
				_, ok := l.c.Get(t.Context(), k)
				took := time.Since(begun)
				mu.Lock()
				l.took = append(l.took, took)
				if ok {
					l.hits++
				}
				mu.Unlock()
				begun = time.Now()
				time.Sleep(pace)
				slept := time.Since(begun)
				mu.Lock()
				l.late = append(l.late, slept-pace)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// percentile returns how long all but the slowest had to wait for servers: a look-up
// waits for three turns of a machine that is busy, ours, the server's and ours again.
func (l *load) percentile(p int) time.Duration {
	const turns = 3
	slices.Sort(l.took)
	slices.Sort(l.late)
	return l.took[len(l.took)*p/100] - turns*l.late[len(l.late)*p/100]
}

func (l *load) reset() { l.took, l.late, l.hits = nil, nil, 0 }

// descriptors counts those of this process.
func descriptors(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// faulty is a cluster of three with a load on it.
func faulty(t *testing.T) (*load, []*realServer) {
	t.Helper()
	var servers []*realServer
	var list []Server
	for i := range 3 {
		m := startMemcached(t, fmt.Sprintf("memcached-%d", i), "-m", "64")
		servers, list = append(servers, m), append(list, m.Server)
	}
	l := &load{c: newTestCache(t, func(o *Options) { hurried(o); o.Budget = 5 * time.Millisecond }, list...)}
	for i := range 300 {
		l.names = append(l.names, keyOf(fmt.Sprintf("name%d.example.com.", i)))
	}
	l.fill(t)
	return l, servers
}

// fill writes all names, and waits until they are there. Nobody else asks
// meanwhile.
func (l *load) fill(t testing.TB) {
	t.Helper()
	budget := l.c.opt.Budget
	defer func() { l.c.opt.Budget = budget }()
	l.c.opt.Budget = time.Second // a busy machine is no reason to miss here
	eventually(t, "the names were written", func() bool {
		for i, k := range l.names {
			l.c.Set(k, fresh(t, k))
			if i%100 == 99 { // no more than queues hold
				time.Sleep(20 * time.Millisecond)
			}
		}
		l.reset()
		l.run(t, len(l.names), 0)
		return l.hits >= len(l.names)*9/10
	})
	l.reset()
}

// bounded checks that the load left nothing behind that grows with it.
func bounded(t *testing.T, l *load, goroutines, files int) {
	t.Helper()
	perServer := l.c.opt.Batches + setters + spareConn
	if n := runtime.NumGoroutine(); n > goroutines+3*(2*perServer) {
		t.Errorf("%d goroutines, %d before", n, goroutines)
	}
	if n := descriptors(t); n > files+3*perServer {
		t.Errorf("%d descriptors, %d before", n, files)
	}
	for name, s := range l.c.Stats().Servers {
		if s.Connections > perServer {
			t.Errorf("%s has %d connections", name, s.Connections)
		}
	}
}

// Most look-ups must not have waited for a server that is out: as few as trip
// its breaker, and those of its first moments. A busy machine makes single ones
// late, so that the median is what is held to the budget's fraction, and the
// counters say how many waited.
func TestFrozenServerIsLeftAlone(t *testing.T) {
	l, servers := faulty(t)
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	before := l.c.Stats().Servers
	servers[0].Signal(syscall.SIGSTOP)
	l.run(t, 3000, 2*time.Millisecond)
	const s0 = "memcached-0"
	s := l.c.Stats().Servers[s0]
	servers[0].Signal(syscall.SIGCONT)
	if s.State != Out || s.Trips == 0 {
		t.Errorf("a frozen server is %v, %d trips", s.State, s.Trips)
	}
	if s.Late > 200 {
		t.Errorf("%d look-ups waited for it in vain", s.Late)
	}
	if p := l.percentile(90); p > 5*time.Millisecond {
		t.Errorf("nine in ten waited up to %v", p)
	}
	if s.Dials > 100 {
		t.Errorf("%d tries to connect", s.Dials)
	}
	asked, hits := uint64(0), uint64(0)
	for name, now := range l.c.Stats().Servers { // a machine that is busy has these late as well, which says nothing
		if was := before[name]; name != s0 {
			asked += now.Gets - now.Late - now.Busy - (was.Gets - was.Late - was.Busy)
			hits += now.Hits - was.Hits
		}
	}
	if hits < asked/2 || hits == 0 {
		t.Errorf("%d hits of %d look-ups that the two other servers have answered", hits, asked)
	}
	bounded(t, l, goroutines, files)
	eventually(t, "the server is back", func() bool { return l.c.Stats().Servers["memcached-0"].State != Out })
}

func TestKilledServerComesBackEmpty(t *testing.T) {
	l, servers := faulty(t)
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	servers[1].Kill()
	l.run(t, 2000, time.Millisecond)
	s := l.c.Stats().Servers["memcached-1"]
	if s.State != Out || s.Dials > 100 {
		t.Errorf("a dead server is %v, %d tries to connect", s.State, s.Dials)
	}
	if p := l.percentile(90); p > 5*time.Millisecond {
		t.Errorf("nine in ten waited up to %v", p)
	}
	bounded(t, l, goroutines, files)
	// What belongs to it is written to the runner-up, so that it is shared still.
	l.fill(t)
	if n := l.c.Stats().StandIns; n == 0 {
		t.Error("no other server stands in for it")
	}
	servers[1].Restart(t)
	eventually(t, "the server is asked again", func() bool { return l.c.Stats().Servers["memcached-1"].State != Out })
}

func TestFlappingServerIsAskedLess(t *testing.T) {
	l, servers := faulty(t)
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			for _, s := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT} {
				servers[2].Signal(s)
				select {
				case <-stop:
					servers[2].Signal(syscall.SIGCONT)
					return
				case <-time.After(250 * time.Millisecond):
				}
			}
		}
	})
	l.run(t, 6000, 2*time.Millisecond)
	close(stop)
	wg.Wait()
	if s := l.c.Stats().Servers["memcached-2"]; s.Late > 400 {
		t.Errorf("%d look-ups waited for it in vain", s.Late)
	}
	bounded(t, l, goroutines, files)
	eventually(t, "the server is back", func() bool { return l.c.Stats().Servers["memcached-2"].State != Out })
}

func TestFewServersLeftAreLeftAlone(t *testing.T) {
	l, servers := faulty(t)
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	for _, m := range servers {
		m.Kill()
	}
	l.run(t, 2000, time.Millisecond)
	s := l.c.Stats()
	if s.Skipped < 1500 {
		t.Errorf("%d of 2000 look-ups were not tried, without servers", s.Skipped)
	}
	if p := l.percentile(90); p > 5*time.Millisecond {
		t.Errorf("nine in ten waited up to %v", p)
	}
	bounded(t, l, goroutines, files)
	for _, m := range servers {
		m.Restart(t)
	}
	eventually(t, "the servers are back", func() bool {
		for _, s := range l.c.Stats().Servers {
			if s.State == Out {
				return false
			}
		}
		return true
	})
}

// alone is a load on one server.
func alone(t *testing.T, s Server) *load {
	t.Helper()
	l := &load{c: newTestCache(t, func(o *Options) { hurried(o); o.Budget = 5 * time.Millisecond }, s)}
	for i := range 100 {
		l.names = append(l.names, keyOf(fmt.Sprintf("name%d.example.com.", i)))
	}
	return l
}

func TestSilentAndSlowServersCostNoMoreThanTheBudget(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	for name, answer := range map[string]func(net.Conn, string, *bufio.Reader) bool{
		"silent": func(net.Conn, string, *bufio.Reader) bool { return true },
		"slow": func(conn net.Conn, line string, _ *bufio.Reader) bool {
			select {
			case <-time.After(50 * time.Millisecond):
			case <-stop:
			}
			reply := "END\r\n"
			if line == "version" {
				reply = "VERSION 1\r\n"
			}
			_, err := conn.Write([]byte(reply))
			return err == nil
		},
		"closing": func(net.Conn, string, *bufio.Reader) bool { return false },
	} {
		f := startFake(t, answer)
		l := alone(t, f.Server)
		goroutines, files := runtime.NumGoroutine(), descriptors(t)
		l.run(t, 1000, time.Millisecond)
		s := l.c.Stats()
		if l.hits > 0 || one(s).State != Out {
			t.Errorf("%s: %d hits, %v", name, l.hits, one(s).State)
		}
		if s.Skipped < 600 {
			t.Errorf("%s: %d of 1000 look-ups were not tried", name, s.Skipped)
		}
		if p := l.percentile(90); p > 10*time.Millisecond {
			t.Errorf("%s: nine in ten waited up to %v", name, p)
		}
		if most := f.most.Load(); most > int64(l.c.opt.Batches+setters+spareConn) {
			t.Errorf("%s: %d connections", name, most)
		}
		if all := f.all.Load(); all > 100 {
			t.Errorf("%s: %d connections, one after the other", name, all)
		}
		bounded(t, l, goroutines, files+50)
	}
}

// A host that drops every packet: connecting gets no answer.
func TestBlackHoleCostsNoMoreThanTheBudget(t *testing.T) {
	// A listener whose queue is full does as well, on any machine.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 0) }); err != nil {
		t.Fatal(err)
	}
	at := ln.Addr().String()
	for range 3 { // in a row: a machine that is busy may be late for one
		for {
			conn, err := net.DialTimeout("tcp", at, 100*time.Millisecond)
			if err != nil {
				break
			}
			defer func() { _ = conn.Close() }()
		}
	}
	l := alone(t, Server{"hole", netip.MustParseAddrPort(at)})
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	l.run(t, 1000, time.Millisecond)
	s := l.c.Stats()
	if one(s).State != Out || s.Skipped < 600 || one(s).Dials > 100 {
		t.Errorf("%+v", s)
	}
	if p := l.percentile(90); p > 10*time.Millisecond {
		t.Errorf("nine in ten waited up to %v", p)
	}
	bounded(t, l, goroutines, files)
}

// A server that is not what it was: all it says is forged, or another's.
func TestLyingServerIsNotBelieved(t *testing.T) {
	forger := newTestRing(t, Secrets{Values: [][]byte{secret(66)}})
	e := fresh(t, keyOf("name0.example.com."))
	old := forger.seal("x", e.appendBody(nil))
	f := startFake(t, func(conn net.Conn, line string, _ *bufio.Reader) bool {
		if line == "version" {
			_, err := conn.Write([]byte("VERSION 1\r\n"))
			return err == nil
		}
		var reply strings.Builder
		for _, key := range strings.Fields(line)[1:] {
			forged := slices.Clone(old)
			fmt.Fprintf(&reply, "VALUE %s 0 %d 1\r\n%s\r\n", key, len(forged), forged)
		}
		_, err := conn.Write([]byte(reply.String() + "END\r\n"))
		return err == nil
	})
	l := alone(t, f.Server)
	l.run(t, 200, 0)
	if s := l.c.Stats(); l.hits > 0 || s.Rejected[reason("secret")] == 0 {
		t.Errorf("%d hits, %+v", l.hits, s)
	}
	id := newTestRing(t, Secrets{Values: [][]byte{secret(1)}}).seal("x", nil)[:secretEnd]
	copy(old, id) // as if it were our secret
	l = alone(t, f.Server)
	l.run(t, 200, 0)
	if s := l.c.Stats(); l.hits > 0 || s.Rejected[reason("tag")] == 0 || one(s).Trips == 0 {
		t.Errorf("%d hits, %+v", l.hits, s)
	}
}

func TestFullMemoryLosesEntriesOnly(t *testing.T) {
	for name, args := range map[string][]string{"evicting": {"-m", "2"}, "refusing": {"-m", "2", "-M"}} {
		m := startMemcached(t, "memcached-0", args...)
		c := newTestCache(t, nil, m.Server)
		var last Key
		for i := range 600 {
			last = keyOf(fmt.Sprintf("name%d.example.com.", i))
			e := fresh(t, last)
			e.Msg = append(e.Msg, make([]byte, 14<<10)...)
			c.Set(last, e)
			if i%100 == 99 {
				eventually(t, "all is written", func() bool {
					s := (*c.servers.Load())[0]
					s.mu.Lock()
					defer s.mu.Unlock()
					return len(s.stores) == 0 && s.setting == 0
				})
			}
		}
		s := one(c.Stats())
		if s.State != In || s.Errors > 0 || s.Dials > uint64(c.opt.Batches+setters+spareConn) {
			t.Errorf("%s: %+v", name, s)
		}
		if name == "refusing" && s.Refused == 0 {
			t.Errorf("%s: %+v", name, s)
		}
		if _, ok := get(t, c, last); ok != (name == "evicting") {
			t.Errorf("%s: the last entry is there: %v", name, ok)
		}
	}
}

func TestConnectionLimitOfTheServerIsAMiss(t *testing.T) {
	m := startMemcached(t, "memcached-0", "-c", "40", "-o", "maxconns_fast")
	var taken []net.Conn
	defer func() {
		for _, conn := range taken {
			_ = conn.Close()
		}
	}()
	for range 60 {
		conn, err := net.Dial("tcp", m.Server.Addr.String())
		if err != nil {
			break
		}
		taken = append(taken, conn)
	}
	// memcached has noticed them when it closes one that comes later.
	eventually(t, "no connection is left", func() bool {
		conn, err := net.Dial("tcp", m.Server.Addr.String())
		if err != nil {
			return true
		}
		taken = append(taken, conn)
		_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		_, err = io.ReadAll(conn)
		return !errors.Is(err, os.ErrDeadlineExceeded)
	})
	l := alone(t, m.Server)
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	l.run(t, 400, time.Millisecond)
	s := l.c.Stats()
	if l.hits > 0 || one(s).State != Out {
		t.Errorf("%d hits, %+v", l.hits, s)
	}
	bounded(t, l, goroutines, files)
	for _, conn := range taken {
		_ = conn.Close()
	}
	eventually(t, "the server is asked again", func() bool { return l.c.Stats().Servers["memcached-0"].State != Out })
}

func TestManyLookUpsShareFewConnections(t *testing.T) {
	m := startMemcached(t, "memcached-0")
	c := newTestCache(t, unhurried, m.Server)
	k := keyOf("www.example.com.")
	set(t, c, k, fresh(t, k))
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			for range 20 {
				if _, ok := c.Get(t.Context(), k); !ok {
					t.Error("a miss")
				}
			}
		})
	}
	wg.Wait()
	s := one(c.Stats())
	if s.Batches >= s.Gets || s.Dials > uint64(c.opt.Batches+setters) {
		t.Errorf("%d look-ups in %d requests on %d connections", s.Gets, s.Batches, s.Dials)
	}
}
