package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/control"
	"shirube/transport/clients"
)

// inheritable starts a server on all transports that can be taken over from.
func inheritable(t *testing.T) *everywhere {
	t.Helper()
	return serveEverywhere(t, func(cfg *config.Config) {
		cfg.Control.Socket = filepath.Join(t.TempDir(), "control.sock")
		cfg.Admin.Socket = filepath.Join(t.TempDir(), "admin.sock")
		cfg.DoH.Socket = filepath.Join(t.TempDir(), "doh.sock")
	})
}

// reaches asks s over every transport.
func (s *everywhere) reaches(t *testing.T, when string) {
	t.Helper()
	q, err := new(dns.Msg).SetQuestion("localhost.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range clients.Ways() {
		if m, _ := askWay(t, s.dial(t, w, "127.0.0.11"), q, 10*time.Second); m == nil || m.Rcode != dns.RcodeSuccess {
			t.Errorf("%s: %s got %v", when, w.Name, m)
		}
	}
	if rcode, err := askSocket(t, s.Pipeline().Config.DoH.Socket, "127.0.0.11"); err != nil || rcode != dns.RcodeSuccess {
		t.Errorf("%s: the socket of DoH: %d, %v", when, rcode, err)
	}
}

// heirOf returns a server that is to take over from s, and asks for its sockets.
func heirOf(t *testing.T, s *everywhere, change func(*config.Config)) *Daemon {
	t.Helper()
	cfg := s.Pipeline().Config
	if change != nil {
		change(&cfg)
	}
	next, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := next.TakeOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	return next
}

func TestHeirServesOnEveryTransport(t *testing.T) {
	s := inheritable(t)
	next := heirOf(t, s, nil)
	s.reaches(t, "before the heir serves")
	if err := next.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := next.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-s.next.superseded:
	default:
		t.Error("the server before does not know that it is over")
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	s.reaches(t, "when the server before has ended")
	for socket, path := range map[string]string{"control": next.cfg().Control.Socket, "admin": next.cfg().Admin.Socket} {
		if _, err := control.NewClient(path).Do(t.Context(), "GET", map[string]string{"control": "/v1/status", "admin": "/status.json"}[socket], nil, nil); err != nil {
			t.Errorf("the %s socket: %v", socket, err)
		}
	}
}

func TestServerGoesOnWhenItsHeirDoesNot(t *testing.T) {
	s := inheritable(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	next := heirOf(t, s, func(cfg *config.Config) {
		cfg.Listen = append(slices.Clone(cfg.Listen), config.Listener{
			Address: taken.Addr().(*net.TCPAddr).AddrPort(), Protocols: []config.Protocol{config.ProtocolTCP},
		})
	})
	if err := next.Start(); err == nil {
		t.Fatal("it has bound what somebody else has")
	}
	s.settle(t)
	s.reaches(t, "after one that gave up at once")

	h, err := control.Inherit(t.Context(), s.cfg().Control.Socket)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]int{}
	if err := h.Sockets(func(name string, fd int) { names[strings.SplitN(name, "-", 2)[0]]++; _ = syscall.Close(fd) }); err != nil {
		t.Fatal(err)
	}
	for _, proto := range []string{"udp", "tcp", "dot", "doq", "doh", "doh3"} {
		if names[proto] == 0 {
			t.Errorf("no socket of %s is handed over, only %v", proto, names)
		}
	}
	if _, err := control.Inherit(t.Context(), s.cfg().Control.Socket); err == nil || !strings.Contains(err.Error(), "hands over to another") {
		t.Errorf("a second heir: %v", err)
	}
	if err := h.Serve(); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil { // as a process that dies then
		t.Fatal(err)
	}
	s.settle(t)
	s.reaches(t, "after one that gave up when it was to serve")
	if s.State() != Ready {
		t.Errorf("it is %v", s.State())
	}
}

// settle waits until nobody takes over from s.
func (s *everywhere) settle(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !s.reloading.TryLock(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the hand-over does not end")
		}
	}
	s.reloading.Unlock()
}

func TestNobodyToTakeOverFromIsNoFault(t *testing.T) {
	cfg := scenarioConfig(t)
	cfg.Control.Socket = filepath.Join(t.TempDir(), "control.sock")
	d, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.TakeOver(t.Context()); err != nil || d.next.heir != nil {
		t.Errorf("got %v", err)
	}
	d.Pipeline().Config.Control.Socket = ""
	if err := d.TakeOver(t.Context()); err == nil {
		t.Error("without a control socket it is said to work")
	}
}

func TestHandOverIsRefusedWhereItWouldDoHarm(t *testing.T) {
	s := inheritable(t)
	if _, err := s.upgrade(t.Context()); err == nil || !strings.Contains(err.Error(), "command line") {
		t.Errorf("a server without a successor: %v", err)
	}
	s.become(Stopping, Ready)
	if _, err := s.handOver(7); !errors.Is(err, errStopping) {
		t.Errorf("a server that stops: %v", err)
	}
}
