package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestInternetIsTheSameEveryTime(t *testing.T) {
	a, b := buildInternet(20, 500, zoneAddrs), buildInternet(20, 500, zoneAddrs)
	if fmt.Sprint(*a) != fmt.Sprint(*b) {
		t.Error("two internets of the same size differ")
	}
}

func TestInternetHasTheNamesAskedFor(t *testing.T) {
	for _, size := range []struct{ zones, names int }{{1, 1}, {3, 10}, {300, 10_000}} {
		net := buildInternet(size.zones, size.names, zoneAddrs)
		if len(net.questions) != size.names {
			t.Errorf("%d zones, %d names: %d questions", size.zones, size.names, len(net.questions))
		}
		seen := make(map[string]bool)
		for _, q := range net.questions {
			name, _, _ := strings.Cut(q, " ")
			if seen[name] {
				t.Errorf("%d zones, %d names: %s is asked twice", size.zones, size.names, name)
			}
			seen[name] = true
		}
		if got := len(net.zones); got != size.zones+hosters(zoneAddrs) {
			t.Errorf("%d zones, %d names: made %d zones with the hosters'", size.zones, size.names, got)
		}
	}
}

// owners returns the text of all zones' records by owner and type.
func owners(net *internet) map[string]bool {
	out := make(map[string]bool)
	for _, z := range append(append([]zone{net.root}, net.tlds...), net.zones...) {
		for line := range strings.Lines(z.text) {
			f := strings.Fields(line)
			out[f[0]] = true
			out[f[0]+" "+f[3]] = true
		}
	}
	return out
}

func TestInternetCountsTheNamesThatDoNotExist(t *testing.T) {
	net := buildInternet(30, 2000, zoneAddrs)
	exist := owners(net)
	missing := 0
	for _, q := range net.questions {
		name, _, _ := strings.Cut(q, " ")
		if !exist[name+"."] {
			missing++
		}
	}
	if missing != len(net.missing) || missing == 0 {
		t.Errorf("%d names do not exist; %d are said to", missing, len(net.missing))
	}
}

func TestEveryZoneIsDelegatedToNameServersWithAddresses(t *testing.T) {
	net := buildInternet(40, 400, zoneAddrs)
	exist := owners(net)
	parents := net.root.text
	for _, tld := range net.tlds {
		parents += tld.text
	}
	for _, z := range append(append([]zone{}, net.tlds...), net.zones...) {
		servers := 0
		for line := range strings.Lines(parents) {
			f := strings.Fields(line)
			if f[0] != z.name || f[3] != "NS" || strings.HasPrefix(z.text, line) {
				continue
			}
			servers++
			if !exist[f[4]+" A"] {
				t.Errorf("%s: name server %s has no address", z.name, f[4])
			}
		}
		if servers < 2 {
			t.Errorf("%s is delegated to %d name servers", z.name, servers)
		}
	}
}
