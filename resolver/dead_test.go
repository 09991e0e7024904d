package resolver

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"shirube/internal/ede"
	"shirube/internal/wire"
)

var (
	deadKey   = zoneKey{zone: wire.MustParseName("example.com.")}
	deadStart = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	errSilent = ede.Errorf(ede.NoReachableAuthority, "nobody answers")
)

func TestDeadZoneRestsForLongerEachTime(t *testing.T) {
	d := &deadZones{limit: 10}
	now := deadStart
	if probe, err := d.admit(deadKey, now); probe || err != nil {
		t.Fatalf("unknown zone: %v, %v", probe, err)
	}
	d.dies(deadKey, silentDeath, false, errSilent, now)
	for _, seconds := range []int{1, 2, 4, 8, 10, 10} { // RFC 9520 §3.2: never above 5 min
		end := now.Add(time.Duration(seconds) * time.Second)
		if _, err := d.admit(deadKey, end.Add(-1)); !errors.Is(err, errSilent) {
			t.Errorf("before %d s are over: %v", seconds, err)
		}
		if probe, err := d.admit(deadKey, end); !probe || err != nil {
			t.Errorf("after %d s: %v, %v", seconds, probe, err)
		}
		if probe, err := d.admit(deadKey, end); probe || err == nil {
			t.Error("a second one was let through")
		}
		now = end.Add(time.Second)
		d.dies(deadKey, silentDeath, true, errSilent, now)
	}
	d.alive(deadKey)
	if probe, err := d.admit(deadKey, now); probe || err != nil || d.count() != 0 {
		t.Errorf("after an answer: %v, %v, %d remembered", probe, err, d.count())
	}
}

// loopedAt is d.looped at now.
func loopedAt(d *deadZones, n, top wire.Name, now time.Time) error {
	return d.looped(n, top, func() time.Time { return now })
}

func TestLoopRestsForFiveMinutesAtMostAndForAllBelowIt(t *testing.T) {
	d := &deadZones{limit: 10}
	below, top := wire.MustParseName("a.b.example.com."), wire.MustParseName("com.")
	now := deadStart
	for _, seconds := range []int{5, 10, 20, 40, 80, 160, 300, 300} { // RFC 9520 §3.2
		if err := loopedAt(d, below, top, now); err != nil {
			t.Fatalf("before it is found again: %v", err)
		}
		d.dies(deadKey, loopDeath, true, errSilent, now)
		end := now.Add(time.Duration(seconds) * time.Second)
		for _, n := range []wire.Name{below, deadKey.zone} {
			if err := loopedAt(d, n, top, end.Add(-1)); !errors.Is(err, errSilent) {
				t.Errorf("%v before %d s are over: %v", n, seconds, err)
			}
		}
		for _, n := range []wire.Name{top, wire.MustParseName("other.com.")} {
			if err := loopedAt(d, n, wire.Root, now); err != nil {
				t.Errorf("%v: %v", n, err)
			}
		}
		if err := loopedAt(d, below, deadKey.zone, now); err != nil { // its servers are to be asked
			t.Errorf("from the zone itself: %v", err)
		}
		now = end
	}
	d.dies(deadKey, silentDeath, true, errSilent, now)
	if err := loopedAt(d, below, top, now); err != nil || d.loops.Load() != 0 {
		t.Errorf("of a zone that is silent only: %v, %d loops", err, d.loops.Load())
	}
	d.dies(deadKey, loopDeath, true, errSilent, now)
	d.alive(deadKey)
	if d.loops.Load() != 0 {
		t.Errorf("%d loops when all is well", d.loops.Load())
	}
}

func TestDeadZoneIsFoundOnceByManyWhoAskTogether(t *testing.T) {
	d := &deadZones{limit: 10}
	for i := range 100 {
		d.dies(deadKey, silentDeath, false, errSilent, deadStart.Add(time.Duration(i)*time.Millisecond))
	}
	if probe, err := d.admit(deadKey, deadStart.Add(minDead)); !probe || err != nil {
		t.Errorf("after a second: %v, %v: it counted more than once", probe, err)
	}
	if got := d.found.Load(); got != 1 {
		t.Errorf("found %d times", got)
	}
}

func TestProbeThatDoesNotFindOutLeavesItToTheNext(t *testing.T) {
	d := &deadZones{limit: 10}
	d.dies(deadKey, silentDeath, false, errSilent, deadStart)
	now := deadStart.Add(minDead)
	if probe, _ := d.admit(deadKey, now); !probe {
		t.Fatal("no probe")
	}
	d.unknown(deadKey, now)
	if probe, err := d.admit(deadKey, now); !probe || err != nil {
		t.Errorf("the next: %v, %v", probe, err)
	}
	// One that never says what it found blocks the others for a while only.
	if probe, err := d.admit(deadKey, now.Add(deadProbe)); !probe || err != nil {
		t.Errorf("after %v: %v, %v", deadProbe, probe, err)
	}
}

func TestDeathLongAgoIsForgotten(t *testing.T) {
	d := &deadZones{limit: 10}
	d.dies(deadKey, silentDeath, false, errSilent, deadStart)
	if probe, err := d.admit(deadKey, deadStart.Add(minDead+forgetDead+1)); probe || err != nil || d.count() != 0 {
		t.Errorf("%v, %v, %d remembered", probe, err, d.count())
	}
}

func TestDeadZonesAreBounded(t *testing.T) {
	d := &deadZones{limit: 100}
	for i := range 1000 {
		d.dies(zoneKey{zone: wire.MustParseName(fmt.Sprintf("z%d.example.", i))}, silentDeath, false, errSilent, deadStart)
	}
	if d.count() != 100 || d.evicted.Load() != 900 {
		t.Errorf("%d remembered, %d evicted, want 100 and 900", d.count(), d.evicted.Load())
	}
}

func TestDeathWithoutACodeIsNotRemembered(t *testing.T) {
	d := &deadZones{limit: 10}
	d.dies(deadKey, silentDeath, false, errors.New("something of this machine"), deadStart)
	if d.count() != 0 {
		t.Error("remembered")
	}
}

func TestDeathDoesNotLastWhenTheClockIsSetBack(t *testing.T) {
	for _, back := range []time.Duration{20 * time.Second, time.Hour, 10 * 365 * 24 * time.Hour} {
		d := &deadZones{limit: 10}
		d.dies(deadKey, lostDeath, false, errSilent, deadStart)
		if _, err := d.admit(deadKey, deadStart.Add(-back)); err != nil {
			t.Errorf("set back by %v: %v", back, err)
		}
	}
}

func TestZoneHeardLatelyIsNotDeadAtTheFirstSilence(t *testing.T) {
	lately := silentDeath
	lately.lately = true
	d := deadZones{limit: 10}
	for i := range maxStrikes {
		d.dies(deadKey, lately, false, errSilent, deadStart)
		if probe, err := d.admit(deadKey, deadStart); probe || err != nil || d.found.Load() != 0 {
			t.Fatalf("after %d silences: probe %v, %v", i+1, probe, err)
		}
	}
	d.alive(deadKey) // an answer wipes them out
	d.dies(deadKey, lately, false, errSilent, deadStart)
	if _, err := d.admit(deadKey, deadStart); err != nil {
		t.Fatalf("after an answer and a silence: %v", err)
	}
	for range maxStrikes {
		d.dies(deadKey, lately, false, errSilent, deadStart)
	}
	if _, err := d.admit(deadKey, deadStart); err == nil || d.found.Load() != 1 {
		t.Errorf("%d silences in a row, and the zone counts as alive; found %d", maxStrikes+1, d.found.Load())
	}
}
