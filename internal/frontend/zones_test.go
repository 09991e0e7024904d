package frontend

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/cache/shared"
	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// zoneFleet is what a fleet has been told of zones, in memory.
type zoneFleet struct {
	told []shared.Zone
}

func (z *zoneFleet) Zones(_ context.Context, names []wire.Name, _ uint64, _ time.Duration) (found []shared.Zone) {
	for _, n := range names {
		for _, t := range z.told {
			if t.Name == n {
				found = append(found, t)
			}
		}
	}
	return found
}

func (z *zoneFleet) TellZone(_ uint64, t shared.Zone) { z.told = append(z.told, t) }

func (z *zoneFleet) Doubt(wire.Name) {}

// knownZones is what a server knows.
type knownZones struct {
	cuts  map[wire.Name]*rrset.Cut
	links map[wire.Name]*rrset.Link
}

func closest[T any](m map[wire.Name]*T, n wire.Name) *T {
	for ok := true; ok; n, ok = n.Parent() {
		if found := m[n]; found != nil {
			return found
		}
	}
	return nil
}

func (k *knownZones) Cut(n wire.Name) *rrset.Cut   { return closest(k.cuts, n) }
func (k *knownZones) Link(n wire.Name) *rrset.Link { return closest(k.links, n) }

// learnedZones is a server that knows example.com., and what is above it.
func learnedZones(t *testing.T) *knownZones {
	t.Helper()
	now := time.Now()
	ds, err := dns.NewRR("example.com. 3600 DS 12345 13 2 49FD46E6C4B45C55D4AC49FD46E6C4B45C55D4AC49FD46E6C4B45C55D4AC4955")
	if err != nil {
		t.Fatal(err)
	}
	key, err := dns.NewRR("example.com. 3600 DNSKEY 257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==")
	if err != nil {
		t.Fatal(err)
	}
	example, com := wire.MustParseName("example.com."), wire.MustParseName("com.")
	signed := set(t, "example.com. 1 DS 12345 13 2 49FD46E6C4B45C55D4AC49FD46E6C4B45C55D4AC49FD46E6C4B45C55D4AC4955", time.Hour, rrset.Unchecked)
	signed.RRs, signed.Rank = []dns.RR{ds}, rrset.Authority
	return &knownZones{
		cuts: map[wire.Name]*rrset.Cut{
			wire.Root: {Zone: wire.Root},
			com:       {Zone: com, Since: now, Until: now.Add(48 * time.Hour), Servers: []rrset.Server{{Host: wire.MustParseName("ns.com."), Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.2")}}}},
			example: {Zone: example, Since: now, Until: now.Add(24 * time.Hour), DS: &signed, Servers: []rrset.Server{
				{Host: wire.MustParseName("ns1.example.com."), Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("2001:db8::11")}},
				{Host: wire.MustParseName("ns.example.net.")},
			}},
		},
		links: map[wire.Name]*rrset.Link{
			example: {Zone: example, Trust: rrset.Secure, Keys: []*dns.DNSKEY{key.(*dns.DNSKEY)}, Since: now, Until: now.Add(time.Hour)},
			com:     {Zone: com, Trust: rrset.Insecure, Since: now, Until: now.Add(time.Hour), Err: &ede.Error{Code: ede.UnsupportedDNSKEYAlgorithm, Text: "nobody knows it"}},
		},
	}
}

// What is told of a zone comes back as it was.
func TestZonesSurviveTheirForm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known := learnedZones(t)
		now := time.Now()
		for zone, cut := range known.cuts {
			if zone == wire.Root {
				continue
			}
			got, err := unpackZone(packCut(cut, now), now)
			if err != nil || got.Link != nil {
				t.Fatal(err)
			}
			if g, w := fmt.Sprint(got.Cut.Zone, got.Cut.Servers, got.Cut.Since.Unix(), got.Cut.Until.Unix()), fmt.Sprint(cut.Zone, cut.Servers, cut.Since.Unix(), cut.Until.Unix()); g != w {
				t.Errorf("got %s, expected %s", g, w)
			}
			if (got.Cut.DS == nil) != (cut.DS == nil) {
				t.Fatalf("%v: DS %v", zone, got.Cut.DS)
			}
			if ds := got.Cut.DS; ds != nil && (len(ds.RRs) != 1 || len(ds.Sigs) != len(cut.DS.Sigs) || ds.Rank != rrset.Authority || !ds.Until.Equal(cut.DS.Until)) {
				t.Errorf("got %+v, expected %+v", *ds, *cut.DS)
			}
		}
		for _, link := range known.links {
			got, err := unpackZone(packLink(link), now)
			if err != nil || got.Cut != nil {
				t.Fatal(err)
			}
			l := got.Link
			if l.Zone != link.Zone || l.Trust != link.Trust || fmt.Sprint(l.Keys, l.Err) != fmt.Sprint(link.Keys, link.Err) || !l.Until.Equal(link.Until) || !l.Since.Equal(link.Since) {
				t.Errorf("got %+v, expected %+v", *l, *link)
			}
		}
	})
}

func TestZonesAreToldWhenTheyAreBusyAndOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known, fleet := learnedZones(t), new(zoneFleet)
		z := NewZones(ZonesOptions{Cache: fleet, Memory: known})
		www := []wire.Name{wire.MustParseName("www.example.com."), wire.MustParseName("www.example.com.")}
		for i := range 10 {
			z.tell(www)
			want := 0
			if i+1 >= busyZone {
				want = 4 // a cut and keys of two zones
			}
			if len(fleet.told) != want {
				t.Fatalf("after %d resolutions %d things are told", i+1, len(fleet.told))
			}
		}
		example := wire.MustParseName("example.com.")
		renewed := *known.links[example]
		renewed.Since = time.Now().Add(time.Second)
		known.links[example] = &renewed
		z.tell(www)
		if len(fleet.told) != 5 || !fleet.told[4].Keys {
			t.Errorf("after new keys: %d things are told", len(fleet.told))
		}
		time.Sleep(retellZone)
		for range busyZone {
			z.tell(www)
		}
		if len(fleet.told) != 9 {
			t.Errorf("after ten minutes, when memcached may have lost them: %d", len(fleet.told))
		}
		bogus := *known.links[example]
		bogus.Trust, bogus.Since = rrset.Bogus, time.Now()
		known.links[example] = &bogus
		z.tell(www)
		time.Sleep(23*time.Hour + 45*time.Minute)
		for range busyZone {
			z.tell(www)
		}
		for _, told := range fleet.told[9:] {
			if told.Keys || told.Name == example && !known.cuts[example].Until.After(time.Now().Add(leastZone)) {
				t.Errorf("%v, keys %v: told though it is bogus, or has ended", told.Name, told.Keys)
			}
		}
	})
}

// Of zones that meet in a slot the busiest stays, and no slot grows.
func TestZonesThatMeetDoNotCrowdOutABusyOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known, fleet := learnedZones(t), new(zoneFleet)
		z := NewZones(ZonesOptions{Cache: fleet, Memory: known})
		z.slots = z.slots[:1]
		now := time.Now()
		cut := func(i int) *rrset.Cut {
			return &rrset.Cut{Zone: wire.MustParseName(fmt.Sprintf("n%d.example.", i)), Since: now, Until: now.Add(time.Hour)}
		}
		for range 20 {
			z.busy(cut(0), nil, now)
		}
		for i := range 15 {
			if told, _ := z.busy(cut(i+1), nil, now); told {
				t.Errorf("zone %d is busy", i+1)
			}
		}
		younger := cut(0)
		younger.Since = now.Add(time.Second)
		if told, _ := z.busy(younger, nil, now); !told {
			t.Error("the busy one has been forgotten")
		}
	})
}

func TestZonesThatMakeNoSenseAreNotTaken(t *testing.T) {
	now := time.Now()
	for name, z := range map[string]shared.Zone{
		"empty cut":  {},
		"empty keys": {Keys: true},
		"short keys": {Keys: true, Text: []byte{4, 0, 0, 9, 'x'}},
		"no message": {Keys: true, Text: []byte{4, 0, 0, 0, 'x'}},
		"other keys": {Keys: true, Text: append([]byte{4, 0, 0, 0}, packed(t, "example.com. 1 A 192.0.2.1", 0)...)},
		"no server":  {Text: packed(t, "example.com. 1 A 192.0.2.1", 1)},
	} {
		z.Name, z.Stored, z.Until = wire.MustParseName("example.com."), now, now.Add(time.Hour)
		if got, err := unpackZone(&z, now); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	fleet := &zoneFleet{told: []shared.Zone{{Name: wire.MustParseName("com."), Stored: now, Until: now.Add(time.Hour)}}}
	z := NewZones(ZonesOptions{Cache: fleet, Memory: learnedZones(t)})
	if got := z.Zones(t.Context(), []wire.Name{wire.MustParseName("com.")}, time.Second); len(got) > 0 {
		t.Errorf("%+v", got)
	}
}

// packed returns a message with a record in its answer or authority section.
func packed(t *testing.T, text string, section int) []byte {
	t.Helper()
	rr, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	*[]*[]dns.RR{&m.Answer, &m.Ns}[section] = []dns.RR{rr}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzUnpackZone(f *testing.F) {
	m := new(dns.Msg).SetQuestion("example.com.", dns.TypeNS)
	raw, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw, false)
	f.Add(append([]byte{4, 0, 0, 0}, raw...), true)
	now := time.Now()
	f.Fuzz(func(t *testing.T, text []byte, keys bool) {
		before := bytes.Clone(text)
		z := shared.Zone{Name: wire.MustParseName("example.com."), Keys: keys, Stored: now, Until: now.Add(time.Hour), Text: text}
		got, err := unpackZone(&z, now)
		if err == nil && (got.Cut == nil) == (got.Link == nil) {
			t.Errorf("%+v", got)
		}
		if !bytes.Equal(before, text) {
			t.Error("it has changed what it was given")
		}
	})
}
