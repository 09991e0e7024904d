package daemon

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/porttest"
)

// running is a server under [Daemon.Run].
type runningServer struct {
	*Daemon
	listen config.Listener
	stop   context.CancelFunc
	ended  chan error
	out    lockedBuffer

	mu     sync.Mutex
	states []State
}

// run runs a server until the test or stop ends it.
func run(t *testing.T, change func(*config.Config)) *runningServer {
	t.Helper()
	cfg := scenarioConfig(t)
	cfg.Resolver.RootHints, cfg.Resolver.DoNotQueryLocalhost, cfg.Resolver.PrimeRoot = "testdata/nobody.hints", false, false
	cfg.Listen = []config.Listener{listenOn(porttest.Take(t))}
	change(&cfg)
	r := &runningServer{listen: cfg.Listen[0], ended: make(chan error, 1)}
	d, err := New(cfg, slog.New(slog.NewTextHandler(&r.out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	r.Daemon = d
	d.OnState(func(s State) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.states = append(r.states, s)
	})
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	go func() { r.ended <- d.Run(ctx) }() // owner: this test; end: stop, which t.Context does at the latest; bound: one
	r.await(t, Ready)
	return r
}

// await waits until the server is in a state.
func (r *runningServer) await(t *testing.T, s State) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); r.State() != s; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the state is %v, not %v", r.State(), s)
		}
	}
}

// end waits for the server's end.
func (r *runningServer) end(t *testing.T) {
	t.Helper()
	select {
	case err := <-r.ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end")
	}
}

func TestStopServesUntilTheDrainIsOver(t *testing.T) {
	r := run(t, func(cfg *config.Config) { cfg.Drain.Delay = 5 * time.Minute })
	r.stop()
	r.await(t, Draining)
	if s := r.status(); s.State != "draining" {
		t.Errorf("the status says %s", s.State)
	}
	for _, network := range []string{"udp", "tcp"} {
		if m, err := askListener(network, r.listen); err != nil || m.Rcode != dns.RcodeSuccess {
			t.Errorf("%s while it drains: %v, %v", network, m, err)
		}
	}
	r.Hasten()
	r.end(t)
	want := []State{Ready, Draining, Stopping}
	if r.mu.Lock(); !slices.Equal(r.states, want) {
		t.Errorf("it was told %v, want %v", r.states, want)
	}
	r.mu.Unlock()
	if m, err := askListener("udp", r.listen); err == nil {
		t.Errorf("after its end: %v", m)
	}
}

func TestStopWaitsForTheDelayAndNoLonger(t *testing.T) {
	t.Parallel() // it waits more than it works
	const delay = 300 * time.Millisecond
	r := run(t, func(cfg *config.Config) { cfg.Drain.Delay = delay })
	begun := time.Now()
	r.stop()
	r.end(t)
	if took := time.Since(begun); took < delay || took > delay+30*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestDrainByOrderCountsForTheStop(t *testing.T) {
	t.Parallel() // it waits more than it works
	const delay = 3 * time.Second
	r := run(t, func(cfg *config.Config) { cfg.Drain.Delay = delay })
	for _, on := range []bool{true, true, false, false, true} {
		want := map[bool]State{true: Draining, false: Ready}[on]
		if err := r.Drain(on); err != nil || r.State() != want {
			t.Errorf("drain %v: %v, %v", on, r.State(), err)
		}
	}
	time.Sleep(delay)
	begun := time.Now()
	r.stop()
	r.end(t)
	if took := time.Since(begun); took >= delay {
		t.Errorf("it drained again, for %v", took)
	}
	for _, on := range []bool{true, false} {
		if err := r.Drain(on); err == nil || r.State() != Stopping {
			t.Errorf("drain %v after the end: %v, %v", on, r.State(), err)
		}
	}
}

func TestClientsAreToldToLeaveWhileItDrains(t *testing.T) {
	r := run(t, func(*config.Config) {})
	conn, err := dns.Dial("tcp", r.listen.Address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, tt := range []struct {
		drain bool
		want  uint16
	}{{true, 0}, {false, 100}, {true, 0}} {
		if err := r.Drain(tt.drain); err != nil {
			t.Fatal(err)
		}
		q := new(dns.Msg).SetQuestion("localhost.", dns.TypeA)
		q.SetEdns0(1232, false)
		q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE}}
		if err := conn.WriteMsg(q); err != nil {
			t.Fatal(err)
		}
		m, err := conn.ReadMsg()
		if err != nil {
			t.Fatal(err)
		}
		if len(m.IsEdns0().Option) != 1 {
			t.Fatalf("got %v", m)
		}
		if k, ok := m.IsEdns0().Option[0].(*dns.EDNS0_TCP_KEEPALIVE); !ok || k.Timeout != tt.want {
			t.Errorf("drain %v: got %v, want %d", tt.drain, m.IsEdns0(), tt.want)
		}
	}
	r.stop()
	r.end(t)
}

func TestSecondHasteAbandonsWhatIsInFlight(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.53.255.254:0") // testdata/nobody.hints
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	r := run(t, func(cfg *config.Config) {
		cfg.Resolver.Port = silent.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		cfg.Drain.Delay, cfg.Limits.DrainTimeout, cfg.Resolver.Timeout = time.Minute, time.Minute, time.Minute
	})
	c, err := dns.Dial("udp", r.listen.Address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.WriteMsg(new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := silent.ReadFrom(make([]byte, 512)); err != nil { // then it waits
		t.Fatal(err)
	}
	begun := time.Now()
	r.stop()
	r.await(t, Draining)
	r.Hasten()
	r.await(t, Stopping)
	r.Hasten()
	r.Hasten() // there is nothing left to hasten
	r.end(t)
	if took := time.Since(begun); took > r.cfg().Resolver.Timeout/2 {
		t.Errorf("it took %v", took)
	}
	if got := r.out.String(); !strings.Contains(got, "queries were abandoned") {
		t.Errorf("the log has\n%s", got)
	}
}
