package config

import (
	"net/netip"
	"regexp"
	"testing"
	"time"

	"shirube/internal/wire"
)

// eachKey calls do with every key, those of sections and of the sections in
// lists included.
func eachKey(keys []Key, do func(*Key)) {
	for i := range keys {
		k := &keys[i]
		do(k)
		eachKey(k.Keys, do)
		if k.Element != nil {
			eachKey(k.Element.Keys, do)
		}
	}
}

func TestKeysFollowTheHouseStyle(t *testing.T) {
	name := regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	seen := map[string]bool{}
	eachKey(Keys(), func(k *Key) {
		if !name.MatchString(k.Name) {
			t.Errorf("%s is not in snake case", k.Path)
		}
		if seen[k.Path] {
			t.Errorf("%s is there twice", k.Path)
		}
		seen[k.Path] = true
		if k.Kind != KindSection && k.Required == (k.Default != "") {
			t.Errorf("%s is required: %v, and has the default %q", k.Path, k.Required, k.Default)
		}
		if (k.Kind == KindEnum) != (k.Values != nil) {
			t.Errorf("%s has the values %q", k.Path, k.Values)
		}
	})
	for _, path := range []string{"listen[].address", "cache.max_ttl", "limits.tcp_in_flight", "log.level"} {
		if !seen[path] {
			t.Errorf("no key %s", path)
		}
	}
}

// TestEveryDefaultIsAGoodValue reads each default as if it stood in a file.
func TestEveryDefaultIsAGoodValue(t *testing.T) {
	for _, section := range Keys() {
		if section.Kind != KindSection {
			if _, err := Parse("f", []byte(section.Name+": "+section.Default)); err != nil {
				t.Error(err)
			}
		}
		for _, k := range section.Keys {
			if report := tryKey(section.Name, k.Name, k.Default); report != "<nil>" {
				t.Errorf("%s: %s", k.Default, report)
			}
		}
	}
}

func TestNearestFindsWhatWasMeant(t *testing.T) {
	keys := []string{"in_flight", "tcp_in_flight", "tcp_idle_timeout", "udp_size", "level", "ipv4", "ipv6"}
	for word, want := range map[string]string{
		"tcp_inflight":     "tcp_in_flight",
		"tcpInFlight":      "tcp_in_flight",
		"tcp-in-fligth":    "tcp_in_flight",
		"TCP_IDLE_TIMEOUT": "tcp_idle_timeout",
		"levl":             "level",
		"levels":           "level",
		"ipv":              "ipv4",
		"ip":               "",
		"x":                "",
		"":                 "",
		"colour":           "",
	} {
		if got := nearest(word, keys); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}

func TestDistanceCountsEdits(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"a", "", 1},
		{"", "abc", 3},
		{"abc", "abc", 0},
		{"abc", "acb", 1},
		{"abcd", "badc", 2},
		{"kitten", "sitting", 3},
		{"port", "prot", 1},
	} {
		got, back := distance(test.a, test.b), distance(test.b, test.a)
		if got != test.want || back != test.want {
			t.Errorf("%q and %q: got %d and %d, want %d", test.a, test.b, got, back, test.want)
		}
	}
}

func TestPathsAreFoundAtTheNearestSectionAround(t *testing.T) {
	d := newDecoder(Keys())
	d.given["cache"] = place{3, 1}
	d.given["listen"] = place{7, 1}
	d.given["listen[1]"] = place{9, 5}
	for path, want := range map[string]place{
		"cache":               {3, 1},
		"cache.max_ttl":       {3, 1},
		"listen[1].protocols": {9, 5},
		"listen[0].protocols": {7, 1},
		"log.level":           {1, 1},
	} {
		if got, _ := d.where(path); got != want {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
	}
	if _, given := d.where("cache.max_ttl"); given {
		t.Error("cache.max_ttl is given, though the file has only cache")
	}
}

func TestYAMLSaysTheWholeConfiguration(t *testing.T) {
	other := Default()
	other.Listen = []Listener{{Address: netip.MustParseAddrPort("[2001:db8::1]:53"), Protocols: []Protocol{ProtocolTCP}}}
	other.AccessControl = []AccessRule{{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Action: ActionDeny}}
	other.Cache.MaxTTL, other.Cache.AnswersSize = 90*time.Minute, 1536<<10
	other.Resolver.RootHints, other.Resolver.QNameMinimisation = `a "file": #1`, MinimisationOff
	other.StubZones = []Zone{{
		Name: wire.MustParseName("example."), Hosts: []wire.Name{wire.MustParseName("ns.example.")},
		Servers: []Server{{Address: Address{AddrPort: netip.MustParseAddrPort("192.0.2.1:53")}}},
	}}
	other.Debug = Debug{Enabled: true, ClockOffsetFile: "/tmp/x"}
	for _, c := range []Config{Default(), other} {
		got, err := Parse("f", []byte(c.YAML()))
		if err != nil || got.YAML() != c.YAML() {
			t.Errorf("%s\nis read as\n%s\n%v", c.YAML(), got.YAML(), err)
		}
	}
}
