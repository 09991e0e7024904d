package lab_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/lab"
	"shirube/internal/porttest"
)

// start starts a lab for the length of a test.
func start(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	l, err := lab.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// at returns where the lab's server of an address listens.
func at(l *lab.Lab, addr string) string {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), l.Port()).String()
}

// ask asks over network, with EDNS.
func ask(t *testing.T, network, server, name string, typ uint16) *dns.Msg {
	t.Helper()
	c := &dns.Client{Net: network, Timeout: 2 * time.Second}
	m, _, err := c.ExchangeContext(t.Context(), new(dns.Msg).SetQuestion(name, typ).SetEdns0(1232, false), server)
	if err != nil {
		t.Fatalf("%s over %s at %s: %v", name, network, server, err)
	}
	return m
}

func TestLabServesEveryZoneOnSockets(t *testing.T) {
	l := start(t, lab.Options{Seed: 1})
	_, index := writeZones(t, l.World)
	seen := make(map[string]bool)
	for _, z := range index {
		for _, a := range z.addrs {
			for _, network := range []string{"udp", "tcp"} {
				if network == "tcp" && seen[a.String()] { // once for each server will do
					continue
				}
				m := ask(t, network, at(l, a.String()), z.zone, dns.TypeSOA)
				if !m.Authoritative || len(m.Answer) != 1 {
					t.Errorf("%s over %s at %s: got %v", z.zone, network, a, m)
				}
			}
			seen[a.String()] = true
		}
	}
	if !seen["::1"] {
		t.Error("nothing was asked over IPv6")
	}
}

func TestLabHasBrokenServers(t *testing.T) {
	l := start(t, lab.Options{Seed: 1})
	for _, network := range []string{"udp", "tcp"} {
		if m := ask(t, network, at(l, "127.53.3.1"), "www.lame.lab.", dns.TypeA); m.Rcode != dns.RcodeRefused {
			t.Errorf("lame server over %s: got %s", network, dns.RcodeToString[m.Rcode])
		}
		c := &dns.Client{Net: network, Timeout: 50 * time.Millisecond}
		_, _, err := c.ExchangeContext(t.Context(), new(dns.Msg).SetQuestion("www.lame.lab.", dns.TypeA), at(l, "127.53.3.2"))
		if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() {
			t.Errorf("silent server over %s: got error %v, want a timeout", network, err)
		}
	}
}

func TestLabTruncatesWhatDoesNotFitUDP(t *testing.T) {
	l := start(t, lab.Options{Seed: 1})
	server := at(l, "127.53.2.9") // of host5.minato., which serves large.minato.
	for _, tt := range []struct {
		network       string
		edns          uint16
		wantLen       int // at most
		wantTruncated bool
	}{
		{"udp", 0, 512, true},
		{"udp", 100, 512, true},
		{"udp", 1232, 1232, true},
		{"udp", 65535, 1232, true},
		{"tcp", 0, 65535, false},
		{"tcp", 1232, 65535, false},
	} {
		query := new(dns.Msg).SetQuestion("many.large.minato.", dns.TypeTXT)
		if tt.edns > 0 {
			query.SetEdns0(tt.edns, false)
		}
		c := &dns.Client{Net: tt.network, Timeout: 2 * time.Second, UDPSize: 65535}
		m, _, err := c.ExchangeContext(t.Context(), query, server)
		if err != nil {
			t.Fatal(err)
		}
		m.Compress = true // as it came
		if m.Truncated != tt.wantTruncated || m.Len() > tt.wantLen || !m.Truncated && len(m.Answer) != 64 {
			t.Errorf("%s, EDNS size %d: TC %v, %d octets, %d records", tt.network, tt.edns, m.Truncated, m.Len(), len(m.Answer))
		}
	}
}

func TestLabsDoNotShareAPort(t *testing.T) {
	first := start(t, lab.Options{Seed: 1})
	second := start(t, lab.Options{Seed: 2})
	if first.Port() == second.Port() {
		t.Errorf("both have port %d", first.Port())
	}
	if p := first.Port(); p < lab.DefaultPort || p >= lab.DefaultPort+100 {
		t.Errorf("port %d was found", p)
	}
	if l, err := lab.Start(t.Context(), lab.Options{Port: first.Port()}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("at the first's port: got %v, %v", l, err)
	}
}

func TestLabLetsGoOfPortsWhenOneIsTaken(t *testing.T) {
	port := porttest.Take(t)
	// The last server's TCP socket is the last to be opened.
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", netip.AddrPortFrom(netip.IPv6Loopback(), port).String())
	if err != nil {
		t.Fatal(err)
	}
	if l, err := lab.Start(t.Context(), lab.Options{Port: port}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("got %v, %v", l, err)
	}
	taken.Close()
	if l := start(t, lab.Options{Port: port}); l.Port() != port {
		t.Errorf("got port %d, want %d", l.Port(), port)
	}
}

func TestLabStartsWithinAFifthOfASecond(t *testing.T) {
	best := time.Hour
	for range 5 { // the machine may be busy with other tests
		began := time.Now()
		l := start(t, lab.Options{Seed: 1})
		best = min(best, time.Since(began))
		l.Close()
	}
	if limit := 200 * time.Millisecond * slowdown; best >= limit {
		t.Errorf("the fastest start of five took %v, want less than %v", best, limit)
	}
}

func TestLabEndsWithoutLeaks(t *testing.T) {
	for what, end := range map[string]func(*lab.Lab, context.CancelFunc){
		"Close":   func(l *lab.Lab, _ context.CancelFunc) { l.Close(); l.Close() },
		"context": func(_ *lab.Lab, cancel context.CancelFunc) { cancel() },
	} {
		t.Run(what, func(t *testing.T) {
			port, before := porttest.Take(t), runtime.NumGoroutine()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			l, err := lab.Start(ctx, lab.Options{Seed: 1, Port: port})
			if err != nil {
				t.Fatal(err)
			}
			conn, err := net.Dial("tcp", at(l, "127.53.0.1")) // open, and idle
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			ask(t, "tcp", at(l, "127.53.0.1"), ".", dns.TypeSOA)

			end(l, cancel)
			deadline := time.Now().Add(5 * time.Second)
			for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
				time.Sleep(5 * time.Millisecond)
			}
			if after := runtime.NumGoroutine(); after > before {
				t.Errorf("%d goroutines before, %d after", before, after)
			}
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				t.Error("the connection is open still")
			}
			again, err := lab.Start(t.Context(), lab.Options{Seed: 1, Port: port})
			if err != nil {
				t.Fatalf("at the same port: %v", err)
			}
			again.Close()
		})
	}
}

func TestLabDoesNotStartWhenContextIsDone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if l, err := lab.Start(ctx, lab.Options{}); err == nil {
		l.Close()
		t.Error("no error")
	}
}

func TestLabAnswersManyAtOnce(t *testing.T) {
	l := start(t, lab.Options{Seed: 1})
	var clients sync.WaitGroup // 16 clients, each ends after 50 questions; waited for below
	for i := range 16 {
		clients.Go(func() {
			network := []string{"udp", "tcp"}[i%2]
			conn, err := dns.Dial(network, at(l, "::1"))
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			c := &dns.Client{Net: network, Timeout: 5 * time.Second}
			for range 50 {
				m, _, err := c.ExchangeWithConnContext(t.Context(), new(dns.Msg).SetQuestion("www.six.shima.", dns.TypeA), conn)
				if err != nil || len(m.Answer) != 1 {
					t.Errorf("got %v, %v", m, err)
					return
				}
			}
		})
	}
	clients.Wait()
}

func TestLabClosesConnectionsBeyondItsLimit(t *testing.T) {
	l := start(t, lab.Options{Seed: 1})
	server := at(l, "127.53.0.1")
	var open []*dns.Conn
	for range 64 {
		c, err := dns.Dial("tcp", server)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		open = append(open, c)
	}
	surplus, err := net.Dial("tcp", server)
	if err != nil {
		t.Fatal(err)
	}
	defer surplus.Close()
	if err := surplus.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := surplus.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the 65th connection: got %v, want its end", err)
	}
	c := &dns.Client{Net: "tcp", Timeout: 5 * time.Second}
	m, _, err := c.ExchangeWithConnContext(t.Context(), new(dns.Msg).SetQuestion(".", dns.TypeSOA), open[63])
	if err != nil || len(m.Answer) != 1 {
		t.Errorf("the 64th connection: got %v, %v", m, err)
	}
}

func TestLabSurvivesWhatIsNoQuery(t *testing.T) {
	l := start(t, lab.Options{Seed: 1})
	server := at(l, "127.53.0.1")
	good, err := new(dns.Msg).SetQuestion(".", dns.TypeSOA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	response := slices.Clone(good)
	response[2] |= 0x80
	cut := good[:len(good)-3]
	for _, tt := range []struct {
		what string
		msg  []byte
		want []byte // from octet 2 on: flags, counts
	}{
		{"nothing", nil, nil},
		{"half a header", good[:6], nil},
		{"a response", response, nil},
		{"a question cut short", cut, []byte{0x81, 1, 0, 0, 0, 0, 0, 0, 0, 0}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			conn, err := net.Dial("udp", server)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write(tt.msg); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write(good); err != nil { // what it answers is the sign that the first is done with
				t.Fatal(err)
			}
			if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
			var got []byte
			for {
				buf := make([]byte, 4096)
				n, err := conn.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				if buf[7] == 1 { // an answer
					break
				}
				got = buf[2:n]
			}
			if !bytes.Equal(got, tt.want) {
				t.Errorf("got % x, want % x", got, tt.want)
			}
		})
	}
}

func TestLabClosesConnectionThatBringsNoQuery(t *testing.T) {
	l := start(t, lab.Options{Seed: 1})
	conn, err := net.Dial("tcp", at(l, "127.53.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(binary.BigEndian.AppendUint16(nil, 4097)); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the connection's end", err)
	}
}

func TestLabLogsQueriesAtDebugOnly(t *testing.T) {
	for level, want := range map[slog.Level]bool{slog.LevelInfo: false, slog.LevelDebug: true} {
		var out bytes.Buffer
		l := start(t, lab.Options{Seed: 1, Log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level}))})
		ask(t, "udp", at(l, "127.53.0.1"), "logged.lab.", dns.TypeA)
		l.Close()
		if got := strings.Contains(out.String(), "logged.lab."); got != want {
			t.Errorf("level %v: query logged: %v\n%s", level, got, out.String())
		}
		if !strings.Contains(out.String(), "lab listens") {
			t.Errorf("level %v: the start is not logged\n%s", level, out.String())
		}
	}
}
