package anchor

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/clock"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// tracker returns a Tracker that never runs.
func tracker(t *testing.T, a *Anchors) *Tracker {
	t.Helper()
	tr, err := NewTracker(TrackerOptions{Anchors: a, Fetch: func(context.Context, wire.Name) (rrset.Set, error) {
		return rrset.Set{}, errors.New("not to be called")
	}})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// follow runs a Tracker until stop is called.
func follow(t *testing.T, opt TrackerOptions) (stop func()) {
	t.Helper()
	tr, err := NewTracker(opt)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { tr.Run(ctx); close(done) }() // owner: the test; end: cancel; bound: one
	return func() { cancel(); <-done }
}

// TestRollOverOfSixtyDays is a whole roll-over, with a restart in its middle: a
// new key comes, waits, is trusted, and the old one is revoked and goes.
func TestRollOverOfSixtyDays(t *testing.T) {
	old, next, zsk := newPair(t, 257), newPair(t, 257), newPair(t, 256)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		zone := func(_ context.Context, name wire.Name) (rrset.Set, error) {
			if name != example {
				return rrset.Set{}, errors.New("not asked here")
			}
			z := zoneKeys{ttl: 86400, life: 14 * day}
			switch age := time.Since(start); {
			case age < 5*day:
				z.keys, z.signers = []pair{old, zsk}, []pair{old}
			case age < 40*day:
				z.keys, z.signers = []pair{old, next, zsk}, []pair{old}
			case age < 50*day:
				z.keys, z.signers = []pair{old.revoked(), next, zsk}, []pair{old.revoked(), next}
			default:
				z.keys, z.signers = []pair{next, zsk}, []pair{next}
			}
			return z.set(t, time.Now()), nil
		}
		var a *Anchors
		var signals []string
		run := func(until time.Duration) (stop func()) {
			var err error
			a, err = New(Options{Records: []dns.RR{old.ds()}, NoRoot: true, Directory: dir})
			if err != nil {
				t.Fatal(err)
			}
			if s, _ := a.State(example); time.Since(start) > 0 && len(s.Keys) != 2 {
				t.Fatalf("after the restart: %v", states(s))
			}
			// It asks every half a day: half of the TTL.
			stop = follow(t, TrackerOptions{Anchors: a, Fetch: zone, Signal: func(_ context.Context, q wire.Question) {
				signals = append(signals, q.Name.String())
			}})
			time.Sleep(time.Until(start.Add(until)))
			synctest.Wait()
			return stop
		}
		expect := func(at time.Duration, oldState, nextState KeyState) {
			t.Helper()
			time.Sleep(time.Until(start.Add(at)))
			synctest.Wait()
			s, _ := a.State(example)
			if got := states(s); got[old.KeyTag()] != oldState || got[next.KeyTag()] != nextState {
				t.Fatalf("after %v: old %v, next %v; want %v, %v", at, got[old.KeyTag()], got[next.KeyTag()], oldState, nextState)
			}
		}
		stop := run(day)
		expect(4*day, Valid, Start)
		expect(6*day, Valid, AddPend)
		expect(20*day, Valid, AddPend)
		stop()
		stop = run(20 * day)
		expect(34*day, Valid, AddPend)
		expect(36*day, Valid, Valid)
		expect(41*day, Revoked, Valid)
		expect(79*day, Revoked, Valid)
		expect(81*day, Removed, Valid)
		stop()
		got, _ := a.Closest(example)
		if len(got.Keys) != 1 || len(got.DS) != 0 || got.Keys[0].KeyTag() != next.KeyTag() {
			t.Errorf("trusted at last: %v", got)
		}
		if n := len(signals); n < 150 || n > 180 {
			t.Errorf("%d key tag queries in 81 days", n)
		}
		both, _ := KeyTagQuery(example, slices.Sorted(slices.Values([]uint16{old.KeyTag(), next.KeyTag()})))
		if !slices.Contains(signals, both.Name.String()) {
			t.Errorf("never told that both keys are trusted: %v", signals[60:80])
		}
	})
}

// TestTrackerTellsTroubleOnceAndGoesOn has a zone that fails, for days.
func TestTrackerTellsTroubleOnceAndGoesOn(t *testing.T) {
	key, stranger := newPair(t, 257), newPair(t, 257)
	synctest.Test(t, func(t *testing.T) {
		var log buffer
		start := time.Now()
		var asked atomic.Int64
		a, err := New(Options{Records: []dns.RR{key.ds()}, NoRoot: true, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		stop := follow(t, TrackerOptions{Anchors: a, Fetch: func(ctx context.Context, _ wire.Name) (rrset.Set, error) {
			asked.Add(1)
			z := zoneKeys{keys: []pair{stranger}, signers: []pair{stranger}, ttl: 86400, life: 14 * day}
			switch age := time.Since(start); {
			case age < 10*time.Hour:
				return rrset.Set{}, errors.New("no server answers")
			case age < 20*time.Hour:
				<-ctx.Done()
				return rrset.Set{}, ctx.Err()
			case age > 30*time.Hour:
				z.keys, z.signers = []pair{key}, []pair{key}
			}
			return z.set(t, time.Now()), nil
		}})
		defer stop()
		time.Sleep(29 * time.Hour)
		synctest.Wait()
		if n := asked.Load(); n < 28 || n > 30 { // RFC 5011 §2.3: once an hour, nothing being known
			t.Errorf("asked %d times in 29 hours", n)
		}
		if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "cannot follow") || !strings.Contains(got, "no server answers") {
			t.Errorf("the log has %q", got)
		}
		if s, _ := a.State(example); !trusts(s, key) || trusts(s, stranger) {
			t.Error("what is trusted has changed")
		}
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if got := log.String(); strings.Count(got, "following a zone's trust anchors again") != 1 {
			t.Errorf("the log has %q", got)
		}
	})
}

// TestRevocationOfAllAnchorsIsTheEndOfThem: RFC 5011 §5. The zone above, if it
// has an anchor, is in charge again.
func TestRevocationOfAllAnchorsIsTheEndOfThem(t *testing.T) {
	key := newPair(t, 257)
	synctest.Test(t, func(t *testing.T) {
		var log buffer
		a, err := New(Options{Records: []dns.RR{key.ds()}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		var asked atomic.Int64
		r := key.revoked()
		stop := follow(t, TrackerOptions{Anchors: a, Fetch: func(_ context.Context, zone wire.Name) (rrset.Set, error) {
			if zone == wire.Root {
				return rrset.Set{}, errors.New("not now")
			}
			asked.Add(1)
			return zoneKeys{keys: []pair{r}, signers: []pair{r}, ttl: 3600, life: 14 * day}.set(t, time.Now()), nil
		}})
		defer stop()
		time.Sleep(100 * day)
		synctest.Wait()
		if got, ok := a.Closest(example); !ok || got.Zone != wire.Root {
			t.Errorf("got %v, %v", got, ok)
		}
		if got := log.String(); strings.Count(got, "level=ERROR") != 1 {
			t.Errorf("the log has %q", got)
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

// TestUnwritableDirectoryIsToldOnceAndValidationGoesOn uses paths that not even
// root can write to.
func TestUnwritableDirectoryIsToldOnceAndValidationGoesOn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Join(file, "below"), "/proc/shirube"} {
		t.Run(dir, func(t *testing.T) {
			old, next := newPair(t, 257), newPair(t, 257)
			synctest.Test(t, func(t *testing.T) {
				var log buffer
				a, err := New(Options{Records: []dns.RR{old.ds()}, NoRoot: true, Directory: dir, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))})
				if err != nil {
					t.Fatal(err)
				}
				stop := follow(t, TrackerOptions{Anchors: a, Fetch: func(context.Context, wire.Name) (rrset.Set, error) {
					return zoneKeys{keys: []pair{old, next}, signers: []pair{old}, ttl: 3600, life: 14 * day}.set(t, time.Now()), nil
				}})
				defer stop()
				synctest.Wait()
				if got := log.String(); strings.Count(got, "cannot keep what is learned") != 1 || !strings.Contains(got, dir) {
					t.Errorf("at the start the log has %q", got)
				}
				time.Sleep(31 * day)
				synctest.Wait()
				if s, _ := a.State(example); states(s)[next.KeyTag()] != Valid {
					t.Errorf("got %v", states(s))
				}
				if got := log.String(); strings.Count(got, "cannot keep what is learned") != 1 {
					t.Errorf("after a month the log has %q", got)
				}
			})
		})
	}
}

func TestDirectoryThatBecomesWritableIsTold(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // in its way
		t.Fatal(err)
	}
	var log buffer
	a, err := New(Options{Directory: dir, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	tr := tracker(t, a)
	s, _ := a.State(wire.Root)
	tr.save(s)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	tr.save(s)
	if got := log.String(); !strings.Contains(got, "keeping what is learned of trust anchors again") {
		t.Errorf("the log has %q", got)
	}
	if _, err := readState(filepath.Join(dir, "root.json"), wire.Root); err != nil {
		t.Error(err)
	}
}

// TestTrackerSurvivesClocksThatAreSet: a due time that was computed with a clock
// far ahead does not stop it for years.
func TestTrackerSurvivesClocksThatAreSet(t *testing.T) {
	key := newPair(t, 257)
	synctest.Test(t, func(t *testing.T) {
		c := new(clock.Clock)
		var asked atomic.Int64
		c.Set(10 * 365 * day)
		a, err := New(Options{Records: []dns.RR{key.ds()}, NoRoot: true, Clock: c})
		if err != nil {
			t.Fatal(err)
		}
		stop := follow(t, TrackerOptions{Anchors: a, Fetch: func(context.Context, wire.Name) (rrset.Set, error) {
			asked.Add(1)
			return zoneKeys{keys: []pair{key}, signers: []pair{key}, ttl: 86400, life: 14 * day}.set(t, c.Now()), nil
		}})
		defer stop()
		synctest.Wait()
		c.Set(0)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if n := asked.Load(); n != 2 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestNewTrackerNeedsItsParts(t *testing.T) {
	if _, err := NewTracker(TrackerOptions{}); err == nil {
		t.Error("no error without Anchors and Fetch")
	}
}
