package resolver

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/cache"
	"shirube/internal/ede"
	"shirube/internal/exchange"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// fakeFleet knows zones, and remembers what it was asked.
type fakeFleet struct {
	known   map[wire.Name]FleetZone
	asked   [][]wire.Name
	within  []time.Duration
	takes   time.Duration
	doubted []wire.Name
}

func (f *fakeFleet) Zones(_ context.Context, zones []wire.Name, within time.Duration) (found []FleetZone) {
	f.asked, f.within = append(f.asked, zones), append(f.within, within)
	time.Sleep(f.takes)
	for _, z := range zones {
		if k, ok := f.known[z]; ok {
			found = append(found, k)
		}
	}
	return found
}

func (f *fakeFleet) Doubt(zone wire.Name) { f.doubted = append(f.doubted, zone) }

// ownAnchors are an anchor of the root and of own.example., and none below
// off.example.
type ownAnchors struct{}

func (ownAnchors) Closest(n wire.Name) (wire.Name, []*dns.DS, bool) {
	if own := wire.MustParseName("own.example."); n.Within(own) {
		return own, nil, true
	}
	return wire.Root, nil, true
}

func (ownAnchors) Negative(n wire.Name) *ede.Error {
	if n.Within(wire.MustParseName("off.example.")) {
		return &ede.Error{Code: ede.NegativeTrustAnchor}
	}
	return nil
}

// nobody is asked.
type nobody struct{}

func (nobody) Exchange(context.Context, exchange.Request) (exchange.Response, error) {
	return exchange.Response{}, exchange.ErrTimeout
}

func newFleetResolver(t *testing.T, f *fakeFleet) (*Resolver, *cache.Memory) {
	t.Helper()
	m := cache.NewMemory(cache.MemoryOptions{})
	r, err := New(Options{Exchanger: nobody{}, Memory: m, Fleet: f, Anchors: ownAnchors{}})
	if err != nil {
		t.Fatal(err)
	}
	return r, m
}

func fleetCut(zone string, lasts time.Duration) *rrset.Cut {
	return &rrset.Cut{
		Zone: wire.MustParseName(zone), Since: time.Now(), Until: time.Now().Add(lasts),
		Servers: []rrset.Server{{Host: wire.MustParseName("ns.example."), Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}},
	}
}

func fleetLink(zone string, trust rrset.Trust, keys int) *rrset.Link {
	l := &rrset.Link{Zone: wire.MustParseName(zone), Trust: trust, Since: time.Now(), Until: time.Now().Add(time.Hour)}
	for range keys {
		l.Keys = append(l.Keys, new(dns.DNSKEY))
	}
	return l
}

func TestFleetIsAskedForZonesBelowThoseThatRefer(t *testing.T) {
	f := &fakeFleet{}
	r, m := newFleetResolver(t, f)
	n := wire.MustParseName("a.b.c.d.example.")
	ask := func() string {
		f.asked = nil
		r.askFleet(t.Context(), n, &work{fleet: time.Second})
		return fmt.Sprint(f.asked)
	}
	if got := ask(); got != "[[example. d.example. c.d.example. b.c.d.example.]]" {
		t.Errorf("knowing nothing: %s", got)
	}
	m.PutCut(fleetCut("example.", time.Hour))
	if got := ask(); got != "[[d.example. c.d.example. b.c.d.example. a.b.c.d.example.]]" {
		t.Errorf("below a top-level zone: %s", got)
	}
	m.PutCut(fleetCut("d.example.", time.Hour))
	if got := ask(); got != "[]" {
		t.Errorf("below a zone that refers to nobody: %s", got)
	}
	r.referrers.add(wire.MustParseName("d.example."))
	if got := ask(); got != "[[c.d.example. b.c.d.example. a.b.c.d.example.]]" {
		t.Errorf("below one that does: %s", got)
	}
	n = wire.MustParseName("d.example.")
	if got := ask(); got != "[]" {
		t.Errorf("for what is known: %s", got)
	}
}

// A zone whose servers lie elsewhere is of no use before somebody knows where they
// are: one more look at the fleet, in the same time, and none where glue is known.
func TestFleetIsAskedWhereServersWithoutGlueAre(t *testing.T) {
	hosted, hoster := fleetCut("hosted.example.", time.Hour), fleetCut("hoster.test.", time.Hour)
	hosted.Servers = []rrset.Server{{Host: wire.MustParseName("ns.hoster.test.")}}
	hoster.Servers[0].Host = hosted.Servers[0].Host
	f := &fakeFleet{known: map[wire.Name]FleetZone{hosted.Zone: {Cut: hosted}, hoster.Zone: {Cut: hoster}}}
	r, m := newFleetResolver(t, f)
	w := &work{fleet: time.Second}
	r.askFleet(t.Context(), wire.MustParseName("hosted.example."), w)
	if got := fmt.Sprint(f.asked); got != "[[example. hosted.example.] [test. hoster.test.]]" {
		t.Errorf("asked for %s", got)
	}
	if got := r.parentsGlue(hosted.Servers[0].Host); len(got) != 1 || got[0] != hoster.Servers[0].Addrs[0] {
		t.Errorf("the address is %v", got)
	}
	if f.within[1] > f.within[0] || w.fleet > f.within[1] {
		t.Errorf("within %v, and then %v", f.within, w.fleet)
	}
	f.asked = nil
	next := *hosted
	next.Zone = wire.MustParseName("next.example.")
	f.known[next.Zone] = FleetZone{Cut: &next}
	r.askFleet(t.Context(), next.Zone, w)
	if got := fmt.Sprint(f.asked); got != "[[next.example.]]" && got != "[[example. next.example.]]" {
		t.Errorf("asked for %s, knowing where its server is", got)
	}
	if _, ok := m.Set(hosted.Servers[0].Host, wire.TypeA); ok {
		t.Error("glue is in the memory for answers")
	}
}

func TestGluelessNamesFewHostsThatLieElsewhere(t *testing.T) {
	c := &rrset.Cut{Zone: wire.MustParseName("hosted.example.")}
	add := func(host string, addrs ...netip.Addr) {
		c.Servers = append(c.Servers, rrset.Server{Host: wire.MustParseName(host), Addrs: addrs})
	}
	add("ns.hosted.example.") // only glue could have said
	for i := range maxFleetHosts + 1 {
		add(fmt.Sprintf("ns%d.hoster.test.", i))
	}
	if got := fmt.Sprint(Glueless(c)); got != "[ns0.hoster.test. ns1.hoster.test.]" {
		t.Errorf("%s", got)
	}
	add("ns.other.test.", netip.MustParseAddr("192.0.2.1"))
	if got := Glueless(c); got != nil {
		t.Errorf("%v, though one has glue", got)
	}
}

func TestQuestionWaitsForTheFleetForABoundedTime(t *testing.T) {
	f := &fakeFleet{takes: 2 * time.Millisecond}
	r, _ := newFleetResolver(t, f)
	w := &work{fleet: 3 * time.Millisecond}
	for range 5 {
		r.askFleet(t.Context(), wire.MustParseName("www.example."), w)
	}
	if n := len(f.asked); n == 0 || n > 2 || !slices.IsSortedFunc(f.within, func(a, b time.Duration) int { return int(b - a) }) {
		t.Errorf("asked %d times, within %v", n, f.within)
	}
}

// What the fleet says counts where this server would have learned the same.
func TestFleetIsNotBelievedMoreThanServers(t *testing.T) {
	many := fleetCut("example.", time.Hour)
	many.Servers = slices.Repeat(many.Servers, maxServers+1)
	none := fleetCut("example.", time.Hour)
	none.Servers = nil
	for name, tt := range map[string]struct {
		z         FleetZone
		cut, link bool
	}{
		"good":                    {FleetZone{fleetCut("example.", time.Hour), fleetLink("example.", rrset.Secure, 1)}, true, true},
		"insecure":                {FleetZone{nil, fleetLink("example.", rrset.Insecure, 0)}, false, true},
		"the root":                {FleetZone{fleetCut(".", time.Hour), fleetLink(".", rrset.Secure, 1)}, false, false},
		"another branch":          {FleetZone{fleetCut("example.net.", time.Hour), fleetLink("example.net.", rrset.Secure, 1)}, false, false},
		"ended":                   {FleetZone{fleetCut("example.", -time.Second), nil}, false, false},
		"longer than anything":    {FleetZone{fleetCut("example.", 48*time.Hour), nil}, false, false},
		"too many servers":        {FleetZone{many, nil}, false, false},
		"no servers":              {FleetZone{none, nil}, false, false},
		"bogus":                   {FleetZone{nil, fleetLink("example.", rrset.Bogus, 1)}, false, false},
		"secure without keys":     {FleetZone{nil, fleetLink("example.", rrset.Secure, 0)}, false, false},
		"an anchor of our own":    {FleetZone{nil, fleetLink("own.example.", rrset.Secure, 1)}, false, false},
		"a negative anchor":       {FleetZone{nil, fleetLink("off.example.", rrset.Secure, 1)}, false, false},
		"below a negative one":    {FleetZone{nil, fleetLink("a.off.example.", rrset.Insecure, 0)}, false, false},
		"below an anchor of ours": {FleetZone{fleetCut("a.own.example.", time.Hour), fleetLink("a.own.example.", rrset.Secure, 1)}, true, true},
	} {
		r, m := newFleetResolver(t, &fakeFleet{})
		for _, n := range []string{"www.example.", "www.a.own.example.", "www.a.off.example."} {
			r.take(tt.z, wire.MustParseName(n), time.Time{})
		}
		s := r.Stats()
		if s.FleetCuts > 0 != tt.cut || s.FleetLinks > 0 != tt.link {
			t.Errorf("%s: cut %d, link %d", name, s.FleetCuts, s.FleetLinks)
		}
		if tt.cut && m.Cut(wire.MustParseName("www.a.own.example.")) == nil {
			t.Errorf("%s: the cut is not remembered", name)
		}
	}
}

func TestWhatTheServerKnowsItselfStays(t *testing.T) {
	r, m := newFleetResolver(t, &fakeFleet{})
	own := fleetCut("example.", time.Minute)
	m.PutCut(own)
	m.PutLink(fleetLink("example.", rrset.Insecure, 0))
	r.take(FleetZone{fleetCut("example.", time.Hour), fleetLink("example.", rrset.Secure, 1)}, wire.MustParseName("www.example."), time.Time{})
	if m.Cut(own.Zone) != own || m.Link(own.Zone).Trust != rrset.Insecure {
		t.Errorf("%+v, %+v", m.Cut(own.Zone), m.Link(own.Zone))
	}
}
