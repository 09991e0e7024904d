package daemon

import (
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// localRoot configures a copy of the root zone from a file in testdata.
func localRoot(file string) func(*config.Config) {
	return func(cfg *config.Config) {
		cfg.LocalRoot.Enabled, cfg.LocalRoot.File = true, "testdata/"+file
	}
}

func TestScenariosLocalRoot(t *testing.T) {
	priming := func(cfg *config.Config) { cfg.Resolver.PrimeRoot = true }
	noRoot := func(n *simnet.Net) { n.Break("192.0.2.1", simnet.Rcode(wire.Refused)) } // whoever asks it gets nowhere
	public := []string{"www.example.com. A 198.51.100.1", "www.example.com. A 198.51.100.2"}
	asksRoot := []string{"192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.11 www.example.com. A"}
	steps := []step{
		{ask: "www.example.com. A", answer: public, sent: []string{"192.0.2.2 example.com. A", "192.0.2.11 www.example.com. A"}},
		{ask: "www.other.net. A", sent: []string{"192.0.2.3 other.net. A", "192.0.2.21 www.other.net. A"}},
		{ask: "www.nothing. A", rcode: wire.NXDomain, soa: ".", none: true},
		{ask: "nothing. A", rcode: wire.NXDomain, soa: ".", none: true},
		{ask: "com. DS", answer: []string{"com. DS 1 13 2 0000000000000000000000000000000000000000000000000000000000000000"}, none: true},
		{ask: "net. DS", noAns: true, soa: ".", none: true},
		{ask: "nothing. DS", rcode: wire.NXDomain, soa: ".", none: true},
		{ask: ". NS", answer: []string{". NS ns.root."}, none: true},
		{ask: ". SOA", none: true},
		{ask: ". AAAA", noAns: true, soa: ".", none: true},
		{ask: "ns.root. A", answer: []string{"ns.root. A 192.0.2.1"}, none: true},
		{ask: "root. A", noAns: true, soa: ".", none: true},
	}
	play(t, []scenario{
		{name: "asks no root server", cfg: localRoot("root.zone"), world: noRoot, steps: steps},
		{name: "asks no root server when it primes", cfg: all(localRoot("root.zone"), priming), world: noRoot, steps: steps},
		{name: "asks no root server without minimisation", cfg: all(localRoot("root.zone"), func(cfg *config.Config) {
			cfg.Resolver.QNameMinimisation = config.MinimisationOff
		}), world: noRoot, steps: []step{
			{ask: "www.example.com. A", answer: public, sent: []string{"192.0.2.2 www.example.com. A", "192.0.2.11 www.example.com. A"}},
			{ask: "www.nothing. A", rcode: wire.NXDomain, soa: ".", none: true},
		}},
		{name: "keeps what the copy says as long as its TTL", cfg: localRoot("root.zone"), world: noRoot, steps: []step{
			{ask: "com. DS", ttls: []int{86400}, none: true},
			{ask: "www.nothing. A", rcode: wire.NXDomain, none: true},
			{after: 100 * time.Second, ask: "com. DS", ttls: []int{86300}, none: true},
		}},
		{name: "asks the root when the digest is wrong", cfg: localRoot("root-digest-wrong.zone"), steps: []step{{ask: "www.example.com. A", answer: public, sent: asksRoot}}},
		{name: "uses a copy whose digest is wrong if it is told not to look", cfg: all(localRoot("root-digest-wrong.zone"), func(cfg *config.Config) {
			cfg.LocalRoot.ZONEMD = config.ZONEMDOff
		}), world: func(n *simnet.Net) { n.Join("192.0.2.2", "192.0.2.66") }, steps: []step{
			{ask: "www.example.com. A", answer: public, sent: []string{"192.0.2.66 example.com. A", "192.0.2.11 www.example.com. A"}},
		}},
		{name: "asks the root when there is no digest", cfg: localRoot("root-no-digest.zone"), steps: []step{{ask: "www.example.com. A", answer: public, sent: asksRoot}}},
		{name: "uses a copy without a digest if it may", cfg: all(localRoot("root-no-digest.zone"), func(cfg *config.Config) {
			cfg.LocalRoot.ZONEMD = config.ZONEMDIfPresent
		}), world: noRoot, steps: steps[:3]},
		{name: "asks the root when the file is missing", cfg: localRoot("no-such.zone"), steps: []step{{ask: "www.example.com. A", answer: public, sent: asksRoot}}},
		{name: "asks the root when the copy has expired", cfg: localRoot("root.zone"), steps: []step{
			{ask: "www.nothing. A", rcode: wire.NXDomain, none: true},
			{after: 8 * 24 * time.Hour, ask: "www.example.com. A", answer: public, sent: asksRoot},
		}},
		{name: "goes without the copy for zones with servers of their own", cfg: all(localRoot("root.zone"), forward("corp.", "192.0.2.100"), stub("net.", "192.0.2.21")), world: func(n *simnet.Net) {
			noRoot(n)
			n.Serve("192.0.2.100", "corp.", "www.corp. 300 A 10.0.0.1")
			n.Break("192.0.2.100", recursive())
		}, steps: []step{
			{ask: "www.corp. A", answer: []string{"www.corp. A 10.0.0.1"}, sent: []string{"192.0.2.100 www.corp. A"}},
			{ask: "corp. DS", rcode: wire.NXDomain, none: true},
			{ask: "www.other.net. A", sent: []string{"192.0.2.21 other.net. A", "192.0.2.21 www.other.net. A"}},
		}},
	})
}

func TestTraceTellsOfTheLocalRoot(t *testing.T) {
	inBubble(t, func(cfg *config.Config, _ *simnet.Net) { localRoot("root.zone")(cfg) }, func(t *testing.T, p *Pipeline, _ *simnet.Net) {
		steps, err := traced(t, p, "www.example.com.")
		want := []string{"1 question www.example.com. A", "1 zone . com. A", "1 verdict com. com. A", "1 zone com. example.com. A"}
		if err != nil || len(steps) < len(want) || !slices.Equal(steps[:len(want)], want) {
			t.Errorf("error %v; got\n%s", err, strings.Join(steps, "\n"))
		}
	})
}

// TestDaemonTransfersTheRootZone has a whole server get the zone over TCP.
func TestDaemonTransfersTheRootZone(t *testing.T) {
	text, err := os.Open("testdata/root.zone")
	if err != nil {
		t.Fatal(err)
	}
	defer text.Close()
	var rrs []dns.RR
	zp := dns.NewZoneParser(text, ".", "")
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		rrs = append(rrs, rr)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	primary := &dns.Server{Listener: ln, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Authoritative, m.Answer = true, rrs[:1]
		if q.Question[0].Qtype == dns.TypeAXFR {
			m.Answer = append(append([]dns.RR{}, rrs...), rrs[0])
		}
		if err := w.WriteMsg(m); err != nil {
			t.Error(err)
		}
	})}
	go func() { _ = primary.ActivateAndServe() }() // ends with Shutdown
	defer func() {
		if err := primary.Shutdown(); err != nil {
			t.Error(err)
		}
	}()

	cfg := config.Default()
	cfg.Cache.AnswersSize = 16 << 20
	cfg.Listen[0].Address, cfg.Listen[1].Address = netip.MustParseAddrPort("127.0.0.1:0"), netip.MustParseAddrPort("[::1]:0")
	cfg.Resolver.RootHints, cfg.Resolver.DoNotQueryLocalhost, cfg.Resolver.PrimeRoot = "testdata/nobody.hints", false, false
	cfg.DNSSEC.Validation = false
	cfg.LocalRoot.Enabled = true
	cfg.LocalRoot.Servers = []config.Address{{AddrPort: netip.MustParseAddrPort(ln.Addr().String())}}
	d, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	for d.Stats().LocalRoot.Serial != 7 {
		if t.Context().Err() != nil || d.Stats().LocalRoot.Failures > 0 {
			t.Fatalf("no zone: %+v", d.Stats().LocalRoot)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if m := ask(t, d.Pipeline(), "nothing. A"); m.Rcode != dns.RcodeNameError {
		t.Errorf("got %v", m)
	}
	if s := d.Stats(); s.LocalRoot.Transfers != 1 || s.LocalRoot.Answers == 0 {
		t.Errorf("%+v", s.LocalRoot)
	}
}
