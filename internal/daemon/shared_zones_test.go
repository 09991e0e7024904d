package daemon

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/control"
	"shirube/internal/memcached"
	"shirube/internal/rrset"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// newSignedMember is newMember in the world that is signed.
func newSignedMember(t *testing.T, mc *memcached.Process, change func(*config.Config, *simnet.Net)) *member {
	t.Helper()
	cfg := fleetConfig(t, mc)
	validating(&cfg)
	m := &member{net: simnet.New()}
	baseWorld(m.net)
	signedWorld(m.net)
	if change != nil {
		change(&cfg, m.net)
	}
	p, err := NewPipeline(cfg, m.net, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	m.Pipeline = p
	return m
}

// busies asks for as many names of zone as make it busy, and waits until the
// fleet knows.
func (m *member) busies(t *testing.T, zone string) {
	t.Helper()
	for _, name := range []string{"www", "other", "a.b.c", "alias", "here.wild"} {
		if got := ask(t, m.Pipeline, name+"."+zone+" A"); got.Rcode != dns.RcodeSuccess {
			t.Fatalf("%s.%s: %v", name, zone, got)
		}
	}
	m.written(t)
}

func TestServerThatHasJustStartedAsksOneServerForANewName(t *testing.T) {
	mc := memcached.Start(t)
	a := newSignedMember(t, mc, nil)
	for zone, want := range map[string]struct {
		ad bool
		at string
	}{
		"example.com.": {true, exampleCom}, "other.net.": {true, otherNet}, "bare.net.": {false, bareNet}, "plain.org.": {false, plainOrg},
	} {
		a.busies(t, zone)
		spec := zone + " MX"
		b := newSignedMember(t, mc, nil)
		got := ask(t, b.Pipeline, spec+" +ad")
		if got.Rcode != dns.RcodeSuccess || got.AuthenticatedData != want.ad {
			t.Errorf("%s: got\n%v", spec, got)
		}
		if sent := b.net.Log().Questions(); len(sent) != 1 || !strings.HasPrefix(sent[0], want.at+" ") {
			t.Errorf("%s: asked %q", spec, sent)
		}
		if s := b.Resolver.Stats(); s.FleetCuts == 0 || s.FleetLinks == 0 {
			t.Errorf("%s: %+v", spec, s)
		}
		off := newSignedMember(t, mc, func(cfg *config.Config, _ *simnet.Net) { cfg.SharedCache.Delegations = false })
		spec = "www." + zone + " TXT"
		ask(t, off.Pipeline, spec)
		if sent := off.net.Log().Questions(); len(sent) < 3 || off.Shared.Stats().ZonesFound > 0 {
			t.Errorf("%s, switched off: asked %q", spec, sent)
		}
	}
}

// hosted adds hosted.com., whose only server is in plain.org. and has no glue.
func hosted(_ *config.Config, n *simnet.Net) {
	serveCom(n, "hosted.com. 172800 NS ns.plain.org.\n")
	n.Serve(plainOrg, "plain.org.", strings.ReplaceAll(siteText, "@", "plain.org.")+"ns.plain.org. 300 A "+plainOrg+"\n")
	n.Serve(plainOrg, "hosted.com.", strings.ReplaceAll(siteText, "@", "hosted.com."))
}

// A server without glue is found, too: what the fleet knows of its own zone has
// its address, as that zone's parent gave it.
func TestServerThatHasJustStartedAsksOneServerForANewNameOfAHostedZone(t *testing.T) {
	mc := memcached.Start(t)
	a := newSignedMember(t, mc, hosted)
	a.busies(t, "hosted.com.")
	b := newSignedMember(t, mc, hosted)
	if got := ask(t, b.Pipeline, "hosted.com. MX"); got.Rcode != dns.RcodeSuccess || len(got.Answer) != 1 {
		t.Errorf("got\n%v", got)
	}
	if sent := b.net.Log().Questions(); len(sent) != 1 || !strings.HasPrefix(sent[0], plainOrg+" ") {
		t.Errorf("asked %q", sent)
	}
	if set, ok := b.Memory.Set(wire.MustParseName("ns.plain.org."), wire.TypeA); ok { // glue is for asking, not for clients
		t.Errorf("memory has %v", set)
	}
	// Where that zone is configured here, nobody else's word on it counts.
	c := newSignedMember(t, mc, func(cfg *config.Config, n *simnet.Net) {
		hosted(cfg, n)
		cfg.StubZones = []config.Zone{{Name: wire.MustParseName("plain.org."), Servers: []config.Server{{Address: config.Address{AddrPort: netip.MustParseAddrPort(plainOrg + ":53")}}}}}
	})
	if got := ask(t, c.Pipeline, "hosted.com. MX"); got.Rcode != dns.RcodeSuccess {
		t.Errorf("got\n%v", got)
	}
	if cut := c.Memory.Cut(wire.MustParseName("ns.plain.org.")); cut != nil && cut.Zone == wire.MustParseName("plain.org.") {
		t.Errorf("the cut of a configured zone was taken: %+v", cut)
	}
}

// A cut that is handed round ends when it would have where it was learned,
// however often: a child that its parent has let go cannot live on in a fleet.
func TestDelegationsThatAreHandedRoundDoNotLiveOn(t *testing.T) {
	mc := memcached.Start(t)
	a := newSignedMember(t, mc, nil)
	a.busies(t, "example.com.")
	zone := wire.MustParseName("example.com.")
	first, link := a.Memory.Cut(zone), a.Memory.Link(zone)
	for i := range 3 {
		b := newSignedMember(t, mc, nil)
		for n := range busyNames {
			ask(t, b.Pipeline, fmt.Sprintf("n%d-%d.wild.example.com. TXT", i, n))
		}
		b.written(t)
		cut, l := b.Memory.Cut(zone), b.Memory.Link(zone)
		if cut.Zone != zone || cut.Until.After(first.Until.Add(time.Second)) || l.Until.After(link.Until.Add(time.Second)) {
			t.Errorf("at server %d it lasts until %v and %v; where it was learned, %v and %v", i, cut.Until, l.Until, first.Until, link.Until)
		}
		if sent := b.net.Log().Questions(); slices.ContainsFunc(sent, func(s string) bool { return strings.HasPrefix(s, comServer) }) {
			t.Errorf("server %d has asked the parent: %q", i, sent)
		}
	}
}

// busyNames is as many resolutions as make a zone busy, and more.
const busyNames = 5

func TestAnchorsOfTheReaderGoBeforeWhatTheFleetHasProven(t *testing.T) {
	mc := memcached.Start(t)
	a := newSignedMember(t, mc, nil)
	a.busies(t, "example.com.")
	b := newSignedMember(t, mc, func(cfg *config.Config, _ *simnet.Net) {
		cfg.DNSSEC.NegativeTrustAnchors = []config.NegativeTrustAnchor{{Name: wire.MustParseName("example.com."), For: time.Hour}}
	})
	got := ask(t, b.Pipeline, "x.wild.example.com. TXT +ad")
	if got.Rcode != dns.RcodeSuccess || got.AuthenticatedData || b.Resolver.Stats().FleetLinks != 1 { // that of com.
		t.Errorf("with a negative trust anchor: %+v\n%v", b.Resolver.Stats(), got)
	}
	c := newSignedMember(t, mc, func(cfg *config.Config, _ *simnet.Net) {
		cfg.DNSSEC.TrustAnchors = append(cfg.DNSSEC.TrustAnchors, config.TrustAnchor(strings.TrimSpace(siteKeyOf("example.com.").DS())))
	})
	if got := ask(t, c.Pipeline, "y.wild.example.com. TXT +ad"); !got.AuthenticatedData || c.Shared.Stats().ZonesFound != 0 {
		t.Errorf("with an anchor of its own, by which it judges otherwise: %+v\n%v", c.Shared.Stats(), got)
	}
}

func siteKeyOf(zone string) *simnet.Key { return simnet.NewKey(zone, simnet.KeyOptions{}) }

func TestZonesThatAreBogusOrRareAreNotShared(t *testing.T) {
	mc := memcached.Start(t)
	a := newSignedMember(t, mc, func(_ *config.Config, n *simnet.Net) { siteWith(damaged())(n) })
	for i := range busyNames {
		if got := ask(t, a.Pipeline, fmt.Sprintf("n%d.site.com. A", i)); got.Rcode != dns.RcodeServerFailure {
			t.Fatalf("got\n%v", got)
		}
	}
	for range 2 { // as often as it is not busy
		ask(t, a.Pipeline, "www.other.net. A")
	}
	a.written(t)
	if told := a.Shared.Stats().ZonesTold; told != 0 {
		t.Errorf("%d zones were told", told)
	}
	b := newSignedMember(t, mc, func(_ *config.Config, n *simnet.Net) { site(simnet.Signing{})(n) })
	if got := ask(t, b.Pipeline, "www.site.com. A +ad"); !got.AuthenticatedData {
		t.Errorf("got\n%v", got)
	}
}

// Keys that were changed without care, and servers that are not there any more,
// are not believed for longer because the fleet knew them.
func TestZoneThatTheFleetKnowsWronglyIsLookedForAnew(t *testing.T) {
	later := func(cfg *config.Config) { // for whom what a knows is three minutes old
		cfg.Debug.ClockOffsetFile = filepath.Join(t.TempDir(), "offset")
		if err := os.WriteFile(cfg.Debug.ClockOffsetFile, []byte("180\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mc := memcached.Start(t)
	a := newSignedMember(t, mc, func(_ *config.Config, n *simnet.Net) { site(simnet.Signing{})(n) })
	a.busies(t, "site.com.")
	key := simnet.NewKey("site.com.", simnet.KeyOptions{Label: "new"})
	b := newSignedMember(t, mc, func(cfg *config.Config, n *simnet.Net) {
		later(cfg)
		siteWithDS(simnet.Signing{Keys: []*simnet.Key{key}}, key.DS())(n)
	})
	got := ask(t, b.Pipeline, "x.wild.site.com. TXT +ad")
	if !got.AuthenticatedData || b.Resolver.Stats().FleetLinks == 0 {
		t.Errorf("with other keys: %+v\n%v", b.Resolver.Stats(), got)
	}
	zone := wire.MustParseName("site.com.")
	if l := b.Memory.Link(zone); l.Zone != zone || l.Trust != rrset.Secure {
		t.Errorf("%+v", l)
	}
}

func TestFlushedZonesDoNotComeBackFromTheFleet(t *testing.T) {
	mc := memcached.Start(t)
	a := newSignedMember(t, mc, nil)
	a.busies(t, "example.com.")
	b := newSignedMember(t, mc, nil)
	b.flush(control.Flush{Name: wire.MustParseName("com."), Below: true})
	ask(t, b.Pipeline, "x.wild.example.com. TXT")
	if s := b.Resolver.Stats(); s.FleetCuts+s.FleetLinks > 0 || len(b.net.Log().Questions()) < 3 {
		t.Errorf("%+v, asked %q", s, b.net.Log().Questions())
	}
}

// Zones that are configured come from elsewhere, and are nobody else's business.
func TestConfiguredZonesAreNotShared(t *testing.T) {
	mc := memcached.Start(t)
	stub := func(cfg *config.Config, _ *simnet.Net) {
		cfg.StubZones = []config.Zone{{Name: wire.MustParseName("com."), Servers: []config.Server{{Address: config.Address{AddrPort: netip.MustParseAddrPort(comServer + ":53")}}}}}
	}
	a := newSignedMember(t, mc, stub)
	a.busies(t, "example.com.")
	if told := a.Shared.Stats().ZonesTold; told != 0 {
		t.Errorf("%d zones were told", told)
	}
	b := newSignedMember(t, mc, stub)
	ask(t, b.Pipeline, "x.wild.example.com. TXT")
	if s := b.Shared.Stats(); s.ZonesFound > 0 {
		t.Errorf("%+v", s)
	}
}
