package daemon

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/netx"
	"shirube/internal/porttest"
)

func TestEveryConfiguredLoopAndSteeringIsKnown(t *testing.T) {
	for _, section := range config.Keys() {
		if section.Path != "udp" {
			continue
		}
		for _, k := range section.Keys {
			for _, v := range k.Values {
				switch k.Path {
				case "udp.loop":
					if l, ok := loops[config.UDPLoop(v)]; !ok || l.String() != v {
						t.Errorf("udp.loop %s is %s", v, l)
					}
				case "udp.steering":
					if _, ok := steerings[config.UDPSteering(v)]; !ok {
						t.Errorf("udp.steering %s is not known", v)
					}
				}
			}
		}
		return
	}
	t.Error("there is no section udp")
}

func TestSmallBufferIsWarnedOfOnce(t *testing.T) {
	var out bytes.Buffer
	d := &Daemon{log: slog.New(slog.NewTextHandler(&out, nil))}
	for range 4 { // sockets
		d.warnShort(netx.Shortfall{Buffer: "receive", Want: 4 << 20, Got: 212992, Limit: "net.core.rmem_max"})
	}
	d.warnShort(netx.Shortfall{Buffer: "send", Want: 1 << 20, Got: 212992, Limit: "net.core.wmem_max"})
	log := out.String()
	if strings.Count(log, "\n") != 2 || strings.Count(log, "level=WARN") != 2 {
		t.Errorf("not two warnings:\n%s", log)
	}
	for _, want := range []string{
		`key=udp.receive_buffer wanted=4MiB got=208KiB remedy="sysctl -w net.core.rmem_max=4194304"`,
		`key=udp.send_buffer wanted=1MiB got=208KiB remedy="sysctl -w net.core.wmem_max=1048576"`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("no %s in:\n%s", want, log)
		}
	}
}

func TestServerAnswersWithEveryLoopAndSteering(t *testing.T) {
	for loop := range loops {
		for steering := range steerings {
			cfg := scenarioConfig(t)
			cfg.Resolver.RootHints, cfg.Resolver.DoNotQueryLocalhost, cfg.Resolver.PrimeRoot = "testdata/nobody.hints", false, false
			cfg.UDP = config.UDP{Loop: loop, Steering: steering, Batch: 2, ReceiveBuffer: 64 << 10}
			cfg.Limits.UDPReaders = 3
			at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), porttest.Take(t))
			cfg.Listen = []config.Listener{{Address: at, Protocols: []config.Protocol{config.ProtocolUDP}}}
			d, err := New(cfg, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Start(); err != nil {
				t.Fatal(err)
			}
			c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			raw, _ := parseAsk(t, "localhost. A")
			var buf [512]byte
			for range 20 {
				if _, err := c.Write(raw); err != nil {
					t.Fatal(err)
				}
				if n, err := c.Read(buf[:]); err != nil || n < 12 {
					t.Errorf("%s, %s: %v", loop, steering, err)
				}
			}
			_ = c.Close()
			if err := d.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestReloadSteersWhatComesFromThenOn(t *testing.T) {
	r := startReloadable(t, func(cfg *config.Config) {
		cfg.UDP.Steering, cfg.Limits.UDPReaders = config.UDPSteeringOff, 4
	})
	c, err := dns.DialTimeout("udp", r.cfg.Listen[0].Address.String(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	ask := func(n int) {
		t.Helper()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		for range n {
			if err := c.WriteMsg(new(dns.Msg).SetQuestion("localhost.", dns.TypeA)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.ReadMsg(); err != nil {
				t.Fatal(err)
			}
		}
	}
	ask(4)
	if s := r.udp.Stats().Skew; s != 4 {
		t.Errorf("one client is with one reader of four, and the skew is %v", s)
	}
	r.cfg.UDP.Steering = config.UDPSteeringRandom
	if _, err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	ask(100)
	if s := r.udp.Stats().Skew; s > 3 { // one in 10^20 runs
		t.Errorf("at random, a skew of %v", s)
	}
}
