//go:build !race

package daemon

import (
	"bytes"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/cache"
	"shirube/internal/config"
	"shirube/internal/ede"
	"shirube/internal/porttest"
	"shirube/internal/wire"
)

// serveLocal runs a whole server on listen that has in memory what it will be
// asked for, and returns it with a socket of the network connected to it at ask.
func serveLocal(t *testing.T, network, listen, ask string, edits ...func(*config.Config)) (*Daemon, net.Conn) {
	t.Helper()
	cfg := scenarioConfig(t)
	// Nothing is to be resolved. If something is, it stays on this machine.
	cfg.Resolver.RootHints, cfg.Resolver.DoNotQueryLocalhost = "testdata/nobody.hints", false
	cfg.Cache.MinFailureTTL = cfg.Cache.MaxFailureTTL // it must not run out within a test
	cfg.Identity.NSID = "tokyo-1"
	take := porttest.Take
	if netip.MustParseAddr(listen).IsUnspecified() {
		take = porttest.TakeWildcard
	}
	port := take(t)
	cfg.Listen = []config.Listener{{
		Address:   netip.AddrPortFrom(netip.MustParseAddr(listen), port),
		Protocols: []config.Protocol{config.Protocol(network)},
	}}
	for _, edit := range edits {
		edit(&cfg)
	}
	d, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	remember(t, d.Pipeline())
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Shutdown(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	c, err := net.Dial(network, netip.AddrPortFrom(netip.MustParseAddr(ask), port).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return d, c
}

// TestAllocProxiedUDPHit has a proxy name a client who may ask, and one who may not.
func TestAllocProxiedUDPHit(t *testing.T) {
	d, c := serveLocal(t, "udp", "127.0.0.1", "127.0.0.1", func(cfg *config.Config) {
		cfg.Listen[0].ProxyProtocol.From = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
		cfg.AccessControl = []config.AccessRule{{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Action: config.ActionAllow}}
	})
	raw, _ := parseAsk(t, "wWw.ExAmPlE.cOm. A +do +cookie +nsid")
	for client, rcode := range map[string]int{"198.51.100.7": dns.RcodeSuccess, "203.0.113.7": dns.RcodeRefused} {
		query := append(proxyHeaderFor(client), raw...)
		var buf [4096]byte
		exchange := func() {
			if _, err := c.Write(query); err != nil {
				t.Fatal(err)
			}
			if n, err := c.Read(buf[:]); err != nil || n < wire.HeaderLen || int(buf[3]&0xF) != rcode {
				t.Fatal(n, err, buf[3])
			}
		}
		exchange()
		if avg := testing.AllocsPerRun(1000, exchange); avg != 0 {
			t.Errorf("%s: %v allocations from socket to socket, want 0", client, avg)
		}
	}
	if s := d.Pipeline().Frontend.Stats(); s.Misses != 0 || s.Hits == 0 || s.Refused == 0 {
		t.Errorf("%+v", s)
	}
}

// TestAllocTappedUDPHit has a tap take all messages.
func TestAllocTappedUDPHit(t *testing.T) {
	d, c := serveLocal(t, "udp", "127.0.0.1", "127.0.0.1", func(cfg *config.Config) {
		tapped, _ := tapConfig(t)
		cfg.Dnstap = tapped.Dnstap
	})
	raw, _ := parseAsk(t, "www.example.com. A")
	var buf [4096]byte
	exchange := func() {
		if _, err := c.Write(raw); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(buf[:]); err != nil {
			t.Fatal(err)
		}
	}
	exchange()
	if avg := testing.AllocsPerRun(5000, exchange); avg != 0 {
		t.Errorf("%v allocations from socket to socket, want 0", avg)
	}
	if s := d.tap.Stats().Total(); s.Emitted < 10_000 || s.Dropped != 0 {
		t.Errorf("%+v", s)
	}
}

// TestAllocUDPHit asks a whole server, from socket to socket. AllocsPerRun
// counts what every goroutine of the process allocates, so the server's readers
// are in it.
func TestAllocUDPHit(t *testing.T) {
	for _, tt := range []struct{ name, listen, ask, query string }{
		{"IPv4", "127.0.0.1", "127.0.0.1", "www.example.com. A"},
		{"IPv6", "::1", "::1", "www.example.com. A"},
		{"IPv4 on all addresses", "0.0.0.0", "127.0.0.9", "www.example.com. A"},
		{"IPv6 on all addresses", "::", "::1", "www.example.com. A"},
		{"without EDNS", "127.0.0.1", "127.0.0.1", "www.example.com. A +noedns"},
		{"DO", "127.0.0.1", "127.0.0.1", "www.example.com. A +do"},
		{"other spelling", "127.0.0.1", "127.0.0.1", "wWw.ExAmPlE.cOm. A"},
		{"truncated", "127.0.0.1", "127.0.0.1", "large.example.com. TXT +noedns"},
		{"failure", "127.0.0.1", "127.0.0.1", "broken.example.com. A"},
		{"refused", "127.0.0.1", "127.0.0.1", "www.example.com. A +nord"},
		{"NSID", "127.0.0.1", "127.0.0.1", "www.example.com. A +nsid"},
		{"cookie", "127.0.0.1", "127.0.0.1", "www.example.com. A +cookie"},
		{"NSID and cookie over IPv6", "::1", "::1", "www.example.com. A +cookie +nsid"},
		{"failure with NSID and cookie", "127.0.0.1", "127.0.0.1", "broken.example.com. A +cookie +nsid"},
		{"ANY", "127.0.0.1", "127.0.0.1", "www.example.com. ANY"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, c := serveLocal(t, "udp", tt.listen, tt.ask)
			raw, _ := parseAsk(t, tt.query)
			var buf [4096]byte
			n := 0
			exchange := func() {
				if _, err := c.Write(raw); err != nil {
					t.Fatal(err)
				}
				var err error
				if n, err = c.Read(buf[:]); err != nil {
					t.Fatal(err)
				}
			}
			exchange()
			m := new(dns.Msg)
			if err := m.Unpack(buf[:n]); err != nil || m.Question[0].Name == "" {
				t.Fatal(err, m)
			}
			options := strings.Count(tt.query, "+cookie") + strings.Count(tt.query, "+nsid")
			if opt := m.IsEdns0(); opt != nil && len(slices.DeleteFunc(opt.Option, isEDE)) != options {
				t.Errorf("%d options were asked for, of %v", options, m)
			}
			if avg := testing.AllocsPerRun(2000, exchange); avg != 0 {
				t.Errorf("%v allocations from socket to socket, want 0", avg)
			}
			if s := d.Pipeline().Frontend.Stats(); s.Misses != 0 {
				t.Errorf("%d queries were no hits", s.Misses)
			}
		})
	}
}

// TestAllocTCPHit asks a whole server over TCP, from socket to socket: queries
// that it reads at once, and that it answers at once.
func TestAllocTCPHit(t *testing.T) {
	const pipelined = 8
	for _, tt := range []struct{ name, at, query string }{
		{"IPv4", "127.0.0.1", "www.example.com. A"},
		{"IPv6", "::1", "www.example.com. A"},
		{"without EDNS", "127.0.0.1", "www.example.com. A +noedns"},
		{"DO", "127.0.0.1", "www.example.com. A +do"},
		{"other spelling", "127.0.0.1", "wWw.ExAmPlE.cOm. A +do"},
		{"large", "127.0.0.1", "large.example.com. TXT"},
		{"failure", "127.0.0.1", "broken.example.com. A"},
		{"refused", "127.0.0.1", "www.example.com. A +nord"},
		{"keepalive", "127.0.0.1", "www.example.com. A +keepalive"},
		{"cookie", "127.0.0.1", "www.example.com. A +do +cookie"},
		{"all of them", "::1", "wWw.ExAmPlE.cOm. A +do +cookie +nsid +keepalive"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, c := serveLocal(t, "tcp", tt.at, tt.at)
			raw, _ := parseAsk(t, tt.query)
			one := append(binary.BigEndian.AppendUint16(nil, uint16(len(raw))), raw...)
			queries := bytes.Repeat(one, pipelined)
			buf := make([]byte, 1<<16)
			exchange := func() {
				if _, err := c.Write(queries); err != nil {
					t.Fatal(err)
				}
				for range pipelined {
					if _, err := io.ReadFull(c, buf[:2]); err != nil {
						t.Fatal(err)
					}
					if _, err := io.ReadFull(c, buf[2:2+binary.BigEndian.Uint16(buf)]); err != nil {
						t.Fatal(err)
					}
				}
			}
			exchange()
			m := new(dns.Msg)
			if err := m.Unpack(buf[2 : 2+binary.BigEndian.Uint16(buf)]); err != nil {
				t.Fatal(err)
			}
			asked := strings.Count(tt.query, "+cookie") + strings.Count(tt.query, "+nsid") + strings.Count(tt.query, "+keepalive")
			if opt := m.IsEdns0(); opt != nil && len(slices.DeleteFunc(opt.Option, isEDE)) != asked {
				t.Errorf("%d options were asked for, of %v", asked, m)
			}
			if avg := testing.AllocsPerRun(1000, exchange); avg != 0 {
				t.Errorf("%v allocations from socket to socket, want 0", avg)
			}
			if s := d.Pipeline().Frontend.Stats(); s.Misses != 0 {
				t.Errorf("%d queries were no hits", s.Misses)
			}
		})
	}
}

func isEDE(o dns.EDNS0) bool { return o.Option() == dns.EDNS0EDE }

// remember fills the memory of p with what the queries above ask for, so that
// nothing has to be resolved.
func remember(t *testing.T, p *Pipeline) {
	t.Helper()
	rememberAnswers(t, p, "www.example.com. 300 A 198.51.100.1", "large.example.com. 300 TXT "+largeText)
	p.Answers.Fail(wire.Question{Name: wire.MustParseName("broken.example.com."), Type: wire.TypeA}, false, longFailure, time.Now())
}

var (
	largeText   = strings.Repeat(`"`+strings.Repeat("x", 200)+`" `, 4)
	longFailure = &ede.Error{Code: ede.NoReachableAuthority, Text: "no server of example.com. answered: 192.0.2.1 timed out"}
)

// rememberAnswers puts records into the memory of p as answers to who asks for
// them, with and without DO.
func rememberAnswers(t testing.TB, p *Pipeline, records ...string) {
	t.Helper()
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		h := rr.Header()
		m := new(dns.Msg).SetQuestion(h.Name, h.Rrtype)
		m.Response, m.Compress, m.Answer = true, true, []dns.RR{rr}
		msg, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		a, err := cache.NewAnswer(msg, nil, time.Now(), nil)
		if err != nil {
			t.Fatal(err)
		}
		q := wire.Question{Name: wire.MustParseName(h.Name), Type: wire.Type(h.Rrtype)}
		p.Answers.Put(q, false, false, a)
		p.Answers.Put(q, true, false, a)
	}
}
