package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"shirube/internal/exchange"
	"shirube/internal/wire"
)

func TestNewRefusesOptionsThatMakeNoSense(t *testing.T) {
	for _, o := range []Options{
		{EDNSSize: 511},
		{EDNSSize: 4097},
		{EDNSSize: -1},
		{MaxInFlight: -1},
		{MaxInFlight: 32_257},
		{TCPTimeout: -1},
		{Connections: -1},
		{Connections: 32_257},
		{ConnectionsPerServer: -1},
		{Pipelined: -1},
		{Pipelined: 1001},
		{IdleTimeout: -1},
	} {
		if c, err := New(o); err == nil || c != nil {
			t.Errorf("New(%+v) returned %v, %v", o, c, err)
		}
	}
	for _, o := range []Options{{}, {EDNSSize: 512}, {EDNSSize: 4096}, {MaxInFlight: 32_256}} {
		if _, err := New(o); err != nil {
			t.Errorf("New(%+v): %v", o, err)
		}
	}
}

func TestExchangeRefusesWhatCannotBeAsked(t *testing.T) {
	ok := request(netip.MustParseAddrPort("127.0.0.1:53"))
	for name, change := range map[string]func(*exchange.Request){
		"no address":   func(r *exchange.Request) { r.Server = netip.AddrPort{} },
		"no port":      func(r *exchange.Request) { r.Server = netip.AddrPortFrom(r.Server.Addr(), 0) },
		"all zeroes":   func(r *exchange.Request) { r.Server = netip.MustParseAddrPort("0.0.0.0:53") },
		"mapped zero":  func(r *exchange.Request) { r.Server = netip.MustParseAddrPort("[::ffff:0.0.0.0]:53") },
		"IPv6 zero":    func(r *exchange.Request) { r.Server = netip.MustParseAddrPort("[::]:53") },
		"multicast":    func(r *exchange.Request) { r.Server = netip.MustParseAddrPort("[ff02::fb]:5353") },
		"with a zone":  func(r *exchange.Request) { r.Server = netip.MustParseAddrPort("[fe80::1%eth0]:53") },
		"no name":      func(r *exchange.Request) { r.Question.Name = "" },
		"no time":      func(r *exchange.Request) { r.Timeout = 0 },
		"time is over": func(r *exchange.Request) { r.Timeout = -time.Second },
	} {
		c := newClient(t, Options{})
		req := ok
		change(&req)
		if _, err := c.Exchange(context.Background(), req); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
		if c.Stats() != (Stats{}) {
			t.Errorf("%s: Stats are %+v", name, c.Stats())
		}
	}
}

func TestExchangeIsBusyAboveMaxInFlight(t *testing.T) {
	asked := make(chan datagram, 2)
	server := serveUDP(t, "127.0.0.1", func(d datagram) { asked <- d })
	var log bytes.Buffer
	c := newClient(t, Options{MaxInFlight: 2, Log: slog.New(slog.NewTextHandler(&log, nil))})
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() { // ends with the answers below
			if _, err := c.Exchange(context.Background(), request(server)); err != nil {
				t.Error(err)
			}
		})
	}
	first, second := <-asked, <-asked
	for range 3 {
		if _, err := c.Exchange(context.Background(), request(server)); !errors.Is(err, ErrBusy) {
			t.Errorf("the third at once: %v", err)
		}
	}
	if got := c.Stats(); got.Busy != 3 || got.InFlight != 2 {
		t.Errorf("Stats are %+v", got)
	}
	if n := strings.Count(log.String(), "too many exchanges"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, &log)
	}
	first.reply(good(first.query))
	second.reply(good(second.query))
	both.Wait()
	both.Go(func() { d := <-asked; d.reply(good(d.query)) }) // ends with the exchange below
	exchangeOK(t, c, request(server))
	both.Wait()
}

// takenPort returns a port that no other socket can have until the test ends.
func takenPort(t *testing.T) uint16 {
	conn, err := net.ListenUDP("udp4", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

func TestExchangeDrawsAgainWhenThePortIsTaken(t *testing.T) {
	taken := takenPort(t)
	from := make(chan netip.AddrPort, 1)
	server := serveUDP(t, "127.0.0.1", func(d datagram) { from <- d.from; d.reply(good(d.query)) })
	c := newClient(t, Options{})
	draws := 0
	var last uint16
	c.draw = func() (port, id uint16) {
		draws++
		port, id = drawPortAndID()
		if draws < maxPortDraws-3 { // what is left is for ports that are taken by chance
			port = taken
		}
		last = port
		return port, id
	}
	exchangeOK(t, c, request(server))
	if got := c.Stats().PortTaken; got != uint64(draws-1) || draws < maxPortDraws-3 {
		t.Errorf("%d draws, %d in vain", draws, got)
	}
	if got := (<-from).Port(); got != last {
		t.Errorf("asked from port %d, drew %d", got, last)
	}
}

func TestExchangeFailsWhenNoPortIsFree(t *testing.T) {
	taken := takenPort(t)
	server := serveUDP(t, "127.0.0.1", replies(good))
	var log bytes.Buffer
	c := newClient(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	c.draw = func() (port, id uint16) { return taken, 1 }
	for range 2 {
		if _, err := c.Exchange(context.Background(), request(server)); !errors.Is(err, ErrNoPort) {
			t.Errorf("error is %v", err)
		}
	}
	if got := c.Stats(); got.PortTaken != 2*maxPortDraws || got.Errors != (Errors{Exhausted: 2}) || got.UDP != (Sent{}) {
		t.Errorf("Stats are %+v", got)
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, &log)
	}
}

func TestExchangeFailsWhenDescriptorsRunOut(t *testing.T) {
	server := serveBoth(t, replies(good), repliesTCP(good))
	c := newClient(t, Options{})
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 1, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	_, errUDP := c.Exchange(context.Background(), request(server))
	req := request(server)
	req.TCP = true
	_, errTCP := c.Exchange(context.Background(), req)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(errUDP, syscall.EMFILE) || !errors.Is(errTCP, syscall.EMFILE) {
		t.Errorf("errors are %v and %v", errUDP, errTCP)
	}
	if got := c.Stats(); got != (Stats{Errors: Errors{Exhausted: 2}}) {
		t.Errorf("Stats are %+v", got)
	}
	exchangeOK(t, c, request(server))
}

func TestKindOfTellsFailuresApart(t *testing.T) {
	for want, errs := range map[failure][]error{
		refused:      {syscall.ECONNREFUSED, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}},
		unreachable:  {syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT},
		closed:       {io.EOF, errGone, syscall.ECONNRESET, syscall.EPIPE},
		exhausted:    {ErrNoPort, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM},
		untrusted:    {errPins, &tls.CertificateVerificationError{Err: x509.HostnameError{}}},
		otherFailure: {syscall.EPERM, errors.New("other")},
	} {
		for _, err := range errs {
			if got := kindOf(err); got != want {
				t.Errorf("%v is failure %d, want %d", err, got, want)
			}
		}
	}
}

func TestErrorSaysWhatAndToWhom(t *testing.T) {
	e := &Error{
		Op: "receive", Server: netip.MustParseAddrPort("192.0.2.1:53"),
		Question: wire.Question{Name: "\x07example\x00", Type: wire.TypeNS}, Err: exchange.ErrTimeout,
	}
	if got, want := e.Error(), "ask 192.0.2.1:53 for example. NS over UDP: receive: no answer in time"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	e.Over = wire.TCP
	if !strings.Contains(e.Error(), " over TCP: ") {
		t.Errorf("%q", e)
	}
}
