package infra

import (
	"net/netip"
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
