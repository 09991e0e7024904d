package upstream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/exchange"
	"shirube/internal/porttest"
	"shirube/internal/wire"
)

// overTCP returns a request over TCP for the nth of many names.
func overTCP(s *authority, n int) exchange.Request {
	req := request(s.addr)
	req.TCP = true
	req.Question.Name = wire.MustParseName(fmt.Sprintf("host-%d.example.", n))
	return req
}

// atOnce asks n questions at once, and returns how many failed, after all ended.
func atOnce(t *testing.T, c *Client, s *authority, n int) (failed int) {
	t.Helper()
	var errs atomic.Int32
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { // ends with its exchange
			req := overTCP(s, i)
			resp, err := c.Exchange(context.Background(), req)
			if err != nil {
				errs.Add(1)
			} else if resp.Msg.Question[0].Name != req.Question.Name.String() {
				t.Errorf("asked for %v, got\n%v", req.Question, resp.Msg)
			}
		})
	}
	all.Wait()
	return int(errs.Load())
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in %v: %s", patience, what)
		}
	}
}

// serveTCPScript makes a server whose every connection is handle's.
func serveTCPScript(t testing.TB, handle func(n int, conn net.Conn)) *authority {
	t.Helper()
	var conns atomic.Int32
	return &authority{addr: serveTCP(t, "127.0.0.1", func(conn net.Conn) { handle(int(conns.Add(1)), conn) })}
}

// answerAll answers all queries of a connection.
func answerAll(conn net.Conn) {
	(&authority{script: func(a asked) []byte { return good(a.raw) }}).tcp(conn)
}

func TestExchangesUseAConnectionAgain(t *testing.T) {
	s := serveScript(t, func(a asked) []byte { return good(a.raw) })
	c := newClient(t, Options{})
	for n := range 5 {
		exchangeOK(t, c, overTCP(s, n))
	}
	if got := c.Stats(); got.Connections != (Connections{Open: 1, Made: 1}) || got.TCP != (Sent{IPv4: 5}) || got.Answers != 5 {
		t.Errorf("Stats are %+v", got)
	}
	for i, q := range s.queries() { // RFC 7828 §3.2.1
		if opts := q.msg.IsEdns0().Option; (len(opts) == 1 && opts[0].Option() == dns.EDNS0TCPKEEPALIVE) != (i == 0) {
			t.Errorf("query %d has %v", i, opts)
		}
	}
}

func TestExchangesShareAConnectionAndMayBeAnsweredInAnyOrder(t *testing.T) {
	const together = 32
	s := serveTCPScript(t, func(_ int, conn net.Conn) {
		for {
			var queries [][]byte
			for range together {
				q := readQuery(conn)
				if q == nil {
					return
				}
				queries = append(queries, q)
			}
			rand.Shuffle(together, func(i, j int) { queries[i], queries[j] = queries[j], queries[i] })
			for _, q := range queries {
				write(conn, frame(good(q)))
			}
		}
	})
	c := newClient(t, Options{ConnectionsPerServer: 1})
	for range 3 {
		if failed := atOnce(t, c, s, together); failed > 0 {
			t.Errorf("%d failed", failed)
		}
	}
	if got := c.Stats(); got.Connections != (Connections{Open: 1, Made: 1}) || got.Answers != 3*together {
		t.Errorf("Stats are %+v", got)
	}
}

func TestConnectionsPerServerAndQueriesOnEachAreBounded(t *testing.T) {
	const perServer, pipelined, total = 3, 4, 50
	var conns, most, inFlight atomic.Int32
	release := make(chan struct{})
	s := serveTCPScript(t, func(_ int, conn net.Conn) {
		conns.Add(1)
		var unanswered atomic.Int32
		var answers sync.WaitGroup
		defer answers.Wait()
		for {
			q := readQuery(conn)
			if q == nil {
				return
			}
			if n := unanswered.Add(1); n > pipelined {
				t.Errorf("%d queries at once on a connection", n)
			}
			most.Store(max(most.Load(), inFlight.Add(1)))
			answers.Go(func() { // ends with release
				<-release
				unanswered.Add(-1)
				inFlight.Add(-1)
				write(conn, frame(good(q)))
			})
		}
	})
	c := newClient(t, Options{ConnectionsPerServer: perServer, Pipelined: pipelined})
	done := make(chan int)
	go func() { done <- atOnce(t, c, s, total) }() // ends with the exchanges
	eventually(t, "all places are taken", func() bool { return inFlight.Load() == perServer*pipelined })
	eventually(t, "the others wait", func() bool { return c.Stats().Connections.Waited == total-perServer*pipelined })
	close(release)
	if failed := <-done; failed > 0 {
		t.Errorf("%d failed", failed)
	}
	if conns.Load() != perServer || most.Load() > perServer*pipelined {
		t.Errorf("%d connections, %d queries at once", conns.Load(), most.Load())
	}
	if got := c.Stats().Connections; got.Open != perServer || got.Made != perServer || got.Shed != 0 {
		t.Errorf("%+v", got)
	}
}

func TestTheSecondConnectionIsOpenedWhenTheFirstIsFull(t *testing.T) {
	s := serveTCPScript(t, func(_ int, conn net.Conn) { silentTCP(conn) })
	c := newClient(t, Options{Pipelined: 3})
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for n := range 4 {
		all.Go(func() { c.Exchange(ctx, overTCP(s, n)) }) //nolint:errcheck // cancelled below
		eventually(t, "it is on its way", func() bool { return c.Stats().TCP.IPv4 == uint64(n+1) })
		want := uint64(1)
		if n == 3 {
			want = 2
		}
		if got := c.Stats().Connections.Made; got != want {
			t.Errorf("%d connections for %d queries", got, n+1)
		}
	}
	cancel()
	all.Wait()
}

func TestAWaitForAPlaceIsBoundedInTime(t *testing.T) {
	s := serveTCPScript(t, func(_ int, conn net.Conn) { silentTCP(conn) })
	c := newClient(t, Options{ConnectionsPerServer: 1, Pipelined: 1})
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { c.Exchange(ctx, overTCP(s, 1)) }) //nolint:errcheck // cancelled below
	eventually(t, "the place is taken", func() bool { return c.Stats().TCP.IPv4 == 1 })

	req := overTCP(s, 2)
	req.Timeout = 30 * time.Millisecond
	if _, err := c.Exchange(context.Background(), req); !errors.Is(err, exchange.ErrTimeout) {
		t.Errorf("after its Timeout: %v", err)
	}
	short, end := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer end()
	if _, err := c.Exchange(short, overTCP(s, 3)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("at ctx's deadline: %v", err)
	}
	if got := c.Stats(); got.TCP != (Sent{IPv4: 1}) || got.Connections.Waited != 2 || got.InFlight != 1 {
		t.Errorf("Stats are %+v", got)
	}
	cancel()
	all.Wait()
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	for _, l := range c.pool.lines {
		if l.waiting.Len() != 0 {
			t.Errorf("%d still wait", l.waiting.Len())
		}
	}
}

func TestConnectionsInAllAreBounded(t *testing.T) {
	silent := func(_ int, conn net.Conn) { silentTCP(conn) }
	a, b, third := serveTCPScript(t, silent), serveTCPScript(t, silent), serveScript(t, func(a asked) []byte { return good(a.raw) })
	c := newClient(t, Options{Connections: 2})
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for i, s := range []*authority{a, b} {
		all.Go(func() { c.Exchange(ctx, overTCP(s, 1)) }) //nolint:errcheck // cancelled below
		eventually(t, "it is on its way", func() bool { return c.Stats().TCP.IPv4 == uint64(i+1) })
	}
	_, err := c.Exchange(context.Background(), overTCP(third, 1))
	if !errors.Is(err, ErrBusy) || c.Stats().Connections.Shed != 1 {
		t.Errorf("%v, %+v", err, c.Stats())
	}
	all.Go(func() { c.Exchange(ctx, overTCP(a, 2)) }) //nolint:errcheck // cancelled below
	eventually(t, "an open connection takes more", func() bool { return c.Stats().TCP.IPv4 == 3 })
	if got := c.Stats().Connections; got.Open != 2 || got.Made != 2 {
		t.Errorf("%+v", got)
	}
	cancel()
	all.Wait()
	exchangeOK(t, c, overTCP(third, 1))
	if got := c.Stats().Connections; got.Evicted != 1 || got.Open != 2 {
		t.Errorf("%+v", got)
	}
}

func TestTheLongestIdleConnectionMakesWay(t *testing.T) {
	var servers []*authority
	for range 3 {
		servers = append(servers, serveScript(t, func(a asked) []byte { return good(a.raw) }))
	}
	c := newClient(t, Options{Connections: 2})
	for _, i := range []int{0, 1, 0, 2, 0} { // 2 takes the place of 1
		exchangeOK(t, c, overTCP(servers[i], i))
	}
	if got := c.Stats().Connections; got != (Connections{Open: 2, Made: 3, Evicted: 1}) {
		t.Errorf("%+v", got)
	}
}

func TestAnIdleConnectionIsClosed(t *testing.T) {
	closed := make(chan time.Time, 2)
	s := serveTCPScript(t, func(_ int, conn net.Conn) {
		answerAll(conn)
		closed <- time.Now()
	})
	const idle = 50 * time.Millisecond
	c := newClient(t, Options{IdleTimeout: idle})
	for n := range 2 {
		start := time.Now()
		exchangeOK(t, c, overTCP(s, n))
		if took := (<-closed).Sub(start); took < idle || took > patience {
			t.Errorf("closed after %v", took)
		}
	}
	if got := c.Stats().Connections; got != (Connections{Made: 2, Idle: 2}) {
		t.Errorf("%+v", got)
	}
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	if len(c.pool.lines) != 0 || c.pool.open != 0 || c.pool.idle.Len() != 0 {
		t.Errorf("%d lines, %d open, %d idle", len(c.pool.lines), c.pool.open, c.pool.idle.Len())
	}
}

// asksToKeep answers with edns-tcp-keepalive, in units of 100 ms.
func asksToKeep(units uint16) func(asked) []byte {
	return func(a asked) []byte {
		return answerWith(goodAddr, with(0, &dns.EDNS0_LOCAL{Code: dns.EDNS0TCPKEEPALIVE, Data: []byte{byte(units >> 8), byte(units)}}))(a.raw)
	}
}

func TestTheServerSaysHowLongAnIdleConnectionIsKept(t *testing.T) { // RFC 7828
	for units, want := range map[uint16]time.Duration{1: 100 * time.Millisecond, 50: 5 * time.Second, 300: maxIdle, 65535: maxIdle} {
		s := serveScript(t, asksToKeep(units))
		c := newClient(t, Options{})
		exchangeOK(t, c, overTCP(s, 1))
		c.pool.mu.Lock()
		for _, l := range c.pool.lines {
			if got := l.conns[0].idleFor; got != want {
				t.Errorf("%d units: idle for %v, want %v", units, got, want)
			}
		}
		c.pool.mu.Unlock()
		if units == 1 {
			eventually(t, "it is closed", func() bool { return c.Stats().Connections == Connections{Made: 1, Idle: 1} })
		}
		c.Close()
	}
}

func TestAConnectionIsClosedAtOnceWhenTheServerWantsThat(t *testing.T) { // RFC 7828 §3.4
	s := serveScript(t, asksToKeep(0))
	c := newClient(t, Options{})
	for n := range 3 {
		exchangeOK(t, c, overTCP(s, n))
	}
	eventually(t, "they are closed", func() bool { return c.Stats().Connections == Connections{Made: 3} })
	if failed := atOnce(t, c, s, 20); failed > 0 {
		t.Errorf("%d failed", failed)
	}
}

func TestExchangeTriesANewConnectionWhenTheServerClosedTheOld(t *testing.T) { // RFC 7766 §6.2.4
	for name, last := range map[string]func(net.Conn){
		"at the query":  func(conn net.Conn) { readQuery(conn) },
		"with a reset":  func(conn net.Conn) { readQuery(conn); reset(conn) },
		"before it":     func(net.Conn) {},
		"before, reset": func(conn net.Conn) { reset(conn) },
	} {
		s := serveTCPScript(t, func(n int, conn net.Conn) {
			if n == 1 {
				write(conn, frame(good(readQuery(conn))))
				last(conn)
				return
			}
			answerAll(conn)
		})
		c := newClient(t, Options{})
		exchangeOK(t, c, overTCP(s, 1))
		resp := exchangeOK(t, c, overTCP(s, 2))
		if got := c.Stats(); got.Connections.Made != 2 || got.Errors != (Errors{}) || resp.Resent > int(got.Connections.Retried) {
			t.Errorf("%s: Resent %d, %+v", name, resp.Resent, got)
		}
		c.Close()
	}
}

func TestExchangeTriesOneNewConnectionOnly(t *testing.T) {
	s := serveTCPScript(t, func(n int, conn net.Conn) {
		q := readQuery(conn)
		if n == 1 && q != nil {
			write(conn, frame(good(q)))
			readQuery(conn)
		}
	})
	c := newClient(t, Options{})
	exchangeOK(t, c, overTCP(s, 1))
	_, err := c.Exchange(context.Background(), overTCP(s, 2))
	if got := c.Stats(); !errors.Is(err, io.EOF) || got.Connections.Made != 2 || got.Connections.Retried != 1 || got.Errors != (Errors{Closed: 1}) {
		t.Errorf("%v, %+v", err, got)
	}
}

func TestAServerThatAnswersOneQueryPerConnectionServesManyAtOnce(t *testing.T) {
	s := serveTCPScript(t, func(_ int, conn net.Conn) { repliesTCP(good)(conn) })
	c := newClient(t, Options{})
	for range 3 {
		if failed := atOnce(t, c, s, 40); failed > 0 {
			t.Errorf("%d of 40 failed: %+v", failed, c.Stats())
		}
	}
}

func TestABadConnectionFailsOnlyWhatIsOnIt(t *testing.T) {
	for name, nonsense := range map[string]func([]byte) []byte{
		"unknown ID":     octets(1, 0x55),
		"other question": octets(13, 1),
		"query":          func(q []byte) []byte { return q },
		"short frame":    func(q []byte) []byte { return q[:5] },
	} {
		other := serveTCPScript(t, func(_ int, conn net.Conn) {
			q := readQuery(conn)
			time.Sleep(50 * time.Millisecond)
			write(conn, frame(good(q)))
		})
		s := serveTCPScript(t, func(n int, conn net.Conn) {
			if n > 1 {
				answerAll(conn)
				return
			}
			q := readQuery(conn)
			readQuery(conn)
			write(conn, frame(nonsense(q)))
			silentTCP(conn)
		})
		c := newClient(t, Options{Pipelined: 2, ConnectionsPerServer: 1})
		var all sync.WaitGroup
		for n := range 2 {
			all.Go(func() { // ends with its exchange
				if resp, err := c.Exchange(context.Background(), overTCP(s, n)); !errors.Is(err, exchange.ErrMalformed) || resp.Size == 0 {
					t.Errorf("%s: %v, Size %d", name, err, resp.Size)
				}
			})
		}
		all.Go(func() { // ends with its exchange
			if _, err := c.Exchange(context.Background(), overTCP(other, 1)); err != nil {
				t.Errorf("%s: to another server: %v", name, err)
			}
		})
		all.Wait()
		exchangeOK(t, c, overTCP(s, 3))
		if got := c.Stats(); got.Malformed != 2 || got.Connections.Made != 3 || got.Answers != 2 {
			t.Errorf("%s: Stats are %+v", name, got)
		}
		c.Close()
	}
}

func TestAHalfOpenConnectionIsReplaced(t *testing.T) {
	s := serveTCPScript(t, func(n int, conn net.Conn) {
		if n == 1 {
			write(conn, frame(good(readQuery(conn))))
			silentTCP(conn)
			return
		}
		answerAll(conn)
	})
	c := newClient(t, Options{TCPTimeout: 300 * time.Millisecond})
	exchangeOK(t, c, overTCP(s, 1))
	if _, err := c.Exchange(context.Background(), overTCP(s, 2)); !errors.Is(err, exchange.ErrTimeout) {
		t.Errorf("on the half-open one: %v", err)
	}
	exchangeOK(t, c, overTCP(s, 3))
	if got := c.Stats(); got.Connections.Made != 2 || got.Connections.Open != 1 || got.Timeouts != 1 {
		t.Errorf("Stats are %+v", got)
	}
}

func TestASlowAnswerDoesNotEndAConnectionThatBringsOthers(t *testing.T) {
	slow := wire.MustParseName("host-0.example.").String()
	s := serveScript(t, func(a asked) []byte {
		if a.spelling() == slow {
			return nil
		}
		return good(a.raw)
	})
	c := newClient(t, Options{TCPTimeout: 400 * time.Millisecond})
	var all sync.WaitGroup
	all.Go(func() { // ends with its exchange
		if _, err := c.Exchange(context.Background(), overTCP(s, 0)); !errors.Is(err, exchange.ErrTimeout) {
			t.Errorf("the slow one: %v", err)
		}
	})
	eventually(t, "it is on its way", func() bool { return c.Stats().TCP.IPv4 == 1 })
	exchangeOK2(t, c, overTCP(s, 1))
	all.Wait()
	exchangeOK(t, c, overTCP(s, 2))
	if got := c.Stats().Connections; got.Made != 1 {
		t.Errorf("%+v", got)
	}
}

// exchangeOK2 is exchangeOK while others are under way.
func exchangeOK2(t *testing.T, c *Client, req exchange.Request) {
	t.Helper()
	if _, err := c.Exchange(context.Background(), req); err != nil {
		t.Fatal(err)
	}
}

func TestAnAnswerThatNobodyWaitsForIsDropped(t *testing.T) {
	first := make(chan struct{})
	s := serveTCPScript(t, func(_ int, conn net.Conn) {
		late := readQuery(conn)
		close(first)
		q := readQuery(conn)
		write(conn, frame(good(late)))
		write(conn, frame(good(q)))
		answerAll(conn)
	})
	c := newClient(t, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-first; cancel() }() // ends when the server has the query
	if _, err := c.Exchange(ctx, overTCP(s, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	for n := range 3 {
		exchangeOK(t, c, overTCP(s, n))
	}
	if got := c.Stats(); got.Connections != (Connections{Open: 1, Made: 1, Late: 1}) || got.Malformed != 0 {
		t.Errorf("Stats are %+v", got)
	}
}

func TestAConnectionIsLeftWhenTooManyAnswersAreMissing(t *testing.T) {
	s := serveTCPScript(t, func(n int, conn net.Conn) {
		if n == 1 {
			silentTCP(conn)
			return
		}
		answerAll(conn)
	})
	c := newClient(t, Options{Pipelined: 4})
	for n := range 4 {
		ctx, cancel := context.WithCancel(context.Background())
		go func() { // ends when the query was sent
			eventually(t, "it is on its way", func() bool { return c.Stats().TCP.IPv4 == uint64(n+1) })
			cancel()
		}()
		if _, err := c.Exchange(ctx, overTCP(s, n)); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	}
	exchangeOK(t, c, overTCP(s, 5))
	if got := c.Stats().Connections; got.Made != 2 || got.Open != 1 {
		t.Errorf("%+v", got)
	}
}

func TestAnIDIsInFlightOncePerConnection(t *testing.T) {
	var mu sync.Mutex
	var queries [][]byte
	s := serveTCPScript(t, func(_ int, conn net.Conn) {
		for range 3 {
			q := readQuery(conn)
			mu.Lock()
			queries = append(queries, q)
			mu.Unlock()
		}
		for _, q := range queries {
			write(conn, frame(good(q)))
		}
		silentTCP(conn)
	})
	c := newClient(t, Options{})
	var draws atomic.Uint32
	c.draw = func() (port, id uint16) { return 1024, uint16(draws.Add(1) / 4) } // each four times
	if failed := atOnce(t, c, s, 3); failed > 0 {
		t.Errorf("%d failed", failed)
	}
	seen := map[uint16]bool{}
	for _, q := range queries {
		seen[binary.BigEndian.Uint16(q)] = true
	}
	if len(seen) != 3 {
		t.Errorf("IDs are %v", seen)
	}
}

func TestAllWhoWaitForAConnectionLearnThatItFailed(t *testing.T) {
	s := &authority{addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), porttest.Take(t))} // where nobody listens
	c := newClient(t, Options{ConnectionsPerServer: 1, Pipelined: 3})
	if failed := atOnce(t, c, s, 50); failed != 50 {
		t.Errorf("%d of 50 failed", failed)
	}
	if got := c.Stats(); got.Errors != (Errors{Refused: 50}) || got.Connections.Open != 0 || got.Connections.Made != 0 {
		t.Errorf("Stats are %+v", got)
	}
	if _, err := c.Exchange(context.Background(), overTCP(s, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("error is %v", err)
	}
}

func TestCloseEndsAllConnections(t *testing.T) {
	silent := serveTCPScript(t, func(_ int, conn net.Conn) { silentTCP(conn) })
	s := serveScript(t, func(a asked) []byte { return good(a.raw) })
	goroutines, fds := runtime.NumGoroutine(), descriptors(t)
	c := newClient(t, Options{ConnectionsPerServer: 1, Pipelined: 2})
	exchangeOK(t, c, overTCP(s, 1)) // idle from now on
	var all sync.WaitGroup
	for n := range 5 { // two on their way, three waiting
		all.Go(func() { // ends with Close
			if _, err := c.Exchange(context.Background(), overTCP(silent, n)); !errors.Is(err, ErrClosed) {
				t.Errorf("under way: %v", err)
			}
		})
	}
	eventually(t, "they wait", func() bool { got := c.Stats(); return got.TCP.IPv4 == 3 && got.Connections.Waited == 3 })
	c.Close()
	all.Wait()
	c.Close()
	req := request(s.addr)
	for _, req.TCP = range []bool{false, true} {
		if _, err := c.Exchange(context.Background(), req); !errors.Is(err, ErrClosed) {
			t.Errorf("afterwards, TCP %v: %v", req.TCP, err)
		}
	}
	if got := c.Stats(); got.Connections.Open != 0 || got.InFlight != 0 {
		t.Errorf("Stats are %+v", got)
	}
	settles(t, "goroutines", goroutines, runtime.NumGoroutine)
	settles(t, "descriptors", fds, func() int { return descriptors(t) })
}

// Servers that do all that is odd, many clients, limits that bite: whatever
// happens, it is one of the errors there are, and nothing stays behind.
func TestThePoolSurvivesOddServers(t *testing.T) {
	odd := func(_ int, conn net.Conn) {
		for {
			q := readQuery(conn)
			if q == nil {
				return
			}
			switch rand.IntN(12) {
			case 0:
				return
			case 1:
				reset(conn)
				return
			case 2: // no answer
			case 3:
				write(conn, frame(octets(1, 0x55)(q)))
			case 4:
				write(conn, frame(good(q))[:7])
				return
			case 5:
				write(conn, frame(asksToKeep(0)(asked{raw: q})))
			case 6:
				time.Sleep(5 * time.Millisecond)
				fallthrough
			default:
				write(conn, frame(good(q)))
			}
		}
	}
	servers := []*authority{serveTCPScript(t, odd), serveTCPScript(t, odd), serveTCPScript(t, odd), serveTCPScript(t, odd)}
	c := newClient(t, Options{Connections: 5, Pipelined: 3, IdleTimeout: 2 * time.Millisecond, TCPTimeout: 30 * time.Millisecond})
	var all sync.WaitGroup
	var answers, busy atomic.Int32
	done := make(chan struct{})
	all.Go(func() { // ends when the others have
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
				checkPool(t, c.pool)
			}
		}
	})
	var askers sync.WaitGroup
	for range 24 {
		askers.Go(func() { // ends after its exchanges
			for n := range 60 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(5+rand.IntN(60))*time.Millisecond)
				_, err := c.Exchange(ctx, overTCP(servers[rand.IntN(len(servers))], n))
				cancel()
				switch e, _ := errors.AsType[*Error](err); {
				case err == nil:
					answers.Add(1)
				case errors.Is(err, ErrBusy):
					busy.Add(1)
				case errors.Is(err, context.DeadlineExceeded), errors.Is(err, exchange.ErrTimeout), errors.Is(err, exchange.ErrMalformed):
				case e == nil || kindOf(e.Err) != closed:
					t.Errorf("unexpected: %v", err)
				}
			}
		})
	}
	askers.Wait()
	close(done)
	all.Wait()
	if got := c.Stats(); answers.Load() == 0 || got.InFlight != 0 || got.Connections.Open > 5 {
		t.Errorf("%d answers, %d busy, %+v", answers.Load(), busy.Load(), got)
	}
	eventually(t, "all connections are closed", func() bool { return c.Stats().Connections.Open == 0 })
	c.Close()
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	if len(c.pool.lines) != 0 || c.pool.open != 0 || c.pool.idle.Len() != 0 {
		t.Errorf("%d lines, %d open, %d idle", len(c.pool.lines), c.pool.open, c.pool.idle.Len())
	}
}

// checkPool fails the test when the pool's books do not balance.
func checkPool(t *testing.T, p *pool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	open, idle := 0, 0
	for to, l := range p.lines {
		usable := 0
		for _, c := range l.conns {
			open++
			if c.state <= live {
				usable++
			}
			if c.idle != nil {
				idle++
			}
			if (c.idle != nil) != (c.taken == 0) || c.state == dead || c.taken < 0 || c.taken > p.pipelined ||
				len(c.calls)-c.abandoned > c.taken || len(c.calls) > 2*p.pipelined {
				t.Errorf("connection in state %d: idle %v, %d places taken, %d calls, %d abandoned", c.state, c.idle != nil, c.taken, len(c.calls), c.abandoned)
			}
		}
		if l.peer != to || open == 0 && l.waiting.Len() == 0 || usable > max(p.perPeer, serialConnections) {
			t.Errorf("line to %v: %d connections of use, %d waiting", l.peer, usable, l.waiting.Len())
		}
	}
	if open != p.open || open > p.total || idle != p.idle.Len() || int64(open) != p.count.open.Load() {
		t.Errorf("%d connections, %d idle; the pool says %d and %d, of %d", open, idle, p.open, p.idle.Len(), p.total)
	}
}
