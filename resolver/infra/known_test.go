package infra

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"shirube/internal/wire"
)

func TestKnownSaysHowAServerIs(t *testing.T) {
	table, addr, zone := New(Options{}), netip.MustParseAddrPort("192.0.2.1:53"), wire.MustParseName("example.")
	now := time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC)
	if k, ok := table.Known(addr, zone, now); ok || table.Stats().Servers != 0 {
		t.Errorf("of a stranger: %+v; %d servers", k, table.Stats().Servers)
	}
	table.Answered(addr, zone, 40*time.Millisecond, now)
	if k, ok := table.Known(addr, zone, now); !ok || k != (Known{SRTT: 40 * time.Millisecond, RTTVar: 20 * time.Millisecond, Timeout: 120 * time.Millisecond, Heard: now}) {
		t.Errorf("after an answer: %+v", k)
	}
	table.Failed(addr, zone, Lame, now)
	if k, _ := table.Known(addr, zone, now); !k.LameUntil.Equal(now.Add(LameFor)) {
		t.Errorf("when it is lame: %+v", k)
	}
	now = now.Add(LameFor)
	table.TCPOnly(addr, zone)
	table.Bare(addr, zone, true, now)
	for range DeadAfter {
		now = now.Add(MaxTimeout)
		table.Failed(addr, zone, Timeout, now)
	}
	k, _ := table.Known(addr, zone, now)
	if !k.LameUntil.IsZero() || k.Silences != DeadAfter || !k.DeadUntil.Equal(now.Add(MinBackoff)) || !k.Bare || !k.TCP {
		t.Errorf("when it is dead: %+v", k)
	}
	if k, _ := table.Known(addr, zone, now.Add(MinBackoff)); !k.DeadUntil.IsZero() {
		t.Errorf("when its time has come: %+v", k)
	}
}

func TestTroubledAreTheLastThatAreDeadOrLame(t *testing.T) {
	table, zone := New(Options{}), wire.MustParseName("example.com.")
	now := time.Date(2026, 11, 22, 7, 0, 0, 0, time.UTC)
	addr := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 53)
	}
	found := func(most int) (last []int) {
		for _, s := range table.Troubled(most, now) {
			if s.Zone != zone || s.DeadUntil.IsZero() && s.LameUntil.IsZero() {
				t.Errorf("found %+v", s)
			}
			last = append(last, int(s.Server.Addr().As4()[3]))
		}
		return last
	}
	if got := found(8); got != nil {
		t.Errorf("of an empty table: %v", got)
	}
	bury(t, table, addr(1), now)
	for range 3 { // once is enough
		table.Failed(addr(2), zone, Lame, now)
	}
	table.Failed(addr(3), zone, Malformed, now)
	table.Failed(addr(4), zone, Timeout, now) // may be asked again
	for most, want := range map[int][]int{8: {3, 2, 1}, 2: {3, 2}} {
		if got := found(most); !slices.Equal(got, want) {
			t.Errorf("of %d: %v; want %v", most, got, want)
		}
	}
	table.Answered(addr(2), zone, time.Millisecond, now)
	if got := found(8); !slices.Equal(got, []int{3, 1}) {
		t.Errorf("after one has answered: %v", got)
	}
	now = now.Add(LameFor)
	if got := found(8); len(got) != 0 {
		t.Errorf("a minute later: %v", got)
	}
	for i := range 2 * lastTroubled {
		table.Failed(addr(i), zone, Lame, now)
	}
	if got := found(1000); len(got) != lastTroubled || got[0] != 2*lastTroubled-1 {
		t.Errorf("of many: %v", got)
	}
}
