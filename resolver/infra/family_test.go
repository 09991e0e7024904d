package infra

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// addr6 returns the nth address of the documentation prefix.
func addr6(n int) netip.AddrPort {
	a := netip.MustParseAddr("2001:db8::").As16()
	a[15] = byte(n)
	return netip.AddrPortFrom(netip.AddrFrom16(a), 53)
}

// dual is a server nothing is known of, at an address of each family.
var dual = []netip.AddrPort{addr(200), addr6(200)}

// noRoute makes n servers of IPv6 unreachable.
func noRoute(tab *Table, n int, now time.Time) {
	for i := range n {
		tab.Failed(addr6(i+1), zone, NoRoute, now)
	}
}

func TestFamilyWithoutARouteComesLast(t *testing.T) {
	tab := New(Options{})
	for range 10 {
		tab.Failed(addr6(1), zone, NoRoute, start) // one server is not a family
	}
	if share := shares(tab, dual, start); share[1] < 0.45 {
		t.Errorf("IPv6 chosen %.3f of the time because of one server", share[1])
	}
	noRoute(tab, Unrouted, start)
	if share := shares(tab, dual, start.Add(MinOut-1)); share[1] != 0 {
		t.Errorf("IPv6 without a route chosen %.3f of the time", share[1])
	}
	tab.Failed(dual[0], zone, Lame, start)
	bury(t, tab, dual[0], start)
	if share := shares(tab, dual, start); share[1] != 0 {
		t.Errorf("IPv6 without a route goes before a dead server, %.3f of the time", share[1])
	}
	if i, hint := tab.Choose(zone, dual[1:], start); i != 0 || !hint.Last {
		t.Errorf("the only server: %d, %+v", i, hint)
	}
}

func TestFamilyIsTriedAgainByOneChoiceInMany(t *testing.T) {
	tab := New(Options{})
	noRoute(tab, Unrouted, start)
	now := start
	for _, seconds := range []int{30, 60, 120, 240, 480, 600, 600} {
		if share := shares(tab, dual, now.Add(time.Duration(seconds)*time.Second-1)); share[1] != 0 {
			t.Errorf("chosen %.4f of the time before %d s are over", share[1], seconds)
		}
		now = now.Add(time.Duration(seconds) * time.Second)
		if share := shares(tab, dual, now); share[1] == 0 || share[1] > 1.0/OutProbe {
			t.Errorf("chosen %.4f of the time after %d s", share[1], seconds)
		}
		tab.Failed(addr6(1), zone, NoRoute, now)
	}
	if got := tab.Stats().FamilyOut; got != [2]uint64{0, 8} {
		t.Errorf("put last %v times, want 8 times", got)
	}
}

func TestOneAnswerBringsAFamilyBack(t *testing.T) {
	for name, answer := range map[string]func(*Table){
		"answer":    func(tab *Table) { tab.Answered(addr6(9), zone, time.Millisecond, start) },
		"refusal":   func(tab *Table) { tab.Failed(addr6(9), zone, Lame, start) },
		"malformed": func(tab *Table) { tab.Failed(addr6(9), zone, Malformed, start) },
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			tab := New(Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
			noRoute(tab, 10, start)
			noRoute(tab, 10, start.Add(MinOut))
			answer(tab)
			if share := shares(tab, dual, start); share[1] < 0.45 {
				t.Errorf("chosen %.3f of the time after an answer", share[1])
			}
			if got := strings.Count(log.String(), "\n"); got != 2 {
				t.Errorf("%d lines in the log, want one when it failed and one when it recovered:\n%s", got, log.String())
			}
		})
	}
}

func TestFamilyThatIsSilentComesLastIfTheOtherIsNot(t *testing.T) {
	for _, works := range []bool{true, false} {
		tab := New(Options{})
		for i := range Unanswered {
			now := start.Add(time.Duration(i) * time.Second)
			if works {
				tab.Answered(addr(1), zone, time.Millisecond, now)
			}
			tab.Failed(addr6(i+1), zone, Timeout, now)
		}
		share := shares(tab, dual, start.Add(Unanswered*time.Second))
		if out := share[1] == 0; out != works {
			t.Errorf("IPv4 works: %v, IPv6 chosen %.3f of the time", works, share[1])
		}
	}
}

func TestFamilyWithAnswersInBetweenIsNotSilent(t *testing.T) {
	tab := New(Options{})
	for i := range 10 * Unanswered {
		tab.Answered(addr(1), zone, time.Millisecond, start)
		tab.Failed(addr6(i+1), zone, Timeout, start)
		if i%(Unanswered-1) == 0 {
			tab.Answered(addr6(200), other, time.Millisecond, start)
		}
	}
	if got := tab.Stats().FamilyOut; got != [2]uint64{} {
		t.Errorf("put last %v times", got)
	}
}

func TestBothFamiliesWithoutARouteAreAsGood(t *testing.T) {
	tab := New(Options{})
	noRoute(tab, Unrouted, start)
	for i := range Unrouted {
		tab.Failed(addr(i+1), zone, NoRoute, start)
	}
	if share := shares(tab, dual, start); share[1] < 0.45 || share[1] > 0.55 {
		t.Errorf("IPv6 chosen %.3f of the time, want half", share[1])
	}
}
