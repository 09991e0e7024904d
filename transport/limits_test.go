package transport

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestSlotsAreBounded(t *testing.T) {
	s := NewSlots(2, 0)
	if !s.take(1) || !s.take(1) || s.take(1) || s.take(1) {
		t.Fatal("not two slots")
	}
	if got, want := s.Stats(), (SlotsStats{Limit: 2, PerNetwork: 2, InUse: 2, Networks: 1, Peak: 2, Shed: 2}); got != want {
		t.Errorf("%+v, not %+v", got, want)
	}
	s.give(1)
	if !s.take(1) {
		t.Error("a slot that was given back cannot be taken")
	}
	s.give(1)
	s.give(1)
	if got, want := s.Stats(), (SlotsStats{Limit: 2, PerNetwork: 2, InUse: 0, Peak: 2, Shed: 2}); got != want {
		t.Errorf("%+v, not %+v", got, want)
	}
}

func TestSlotsAreExactUnderContention(t *testing.T) {
	const limit, takers, rounds = 4, 16, 2000
	s := NewSlots(limit, 0)
	var wg sync.WaitGroup
	for range takers {
		wg.Go(func() {
			for range rounds {
				if s.take(1) {
					s.give(1)
				}
			}
		})
	}
	wg.Wait()
	st := s.Stats()
	if st.InUse != 0 || st.Peak > limit || st.Peak < 1 {
		t.Errorf("%+v", st)
	}
}

func TestSlotsOfOneNetworkAreBounded(t *testing.T) {
	const flood, other = 1, 2
	s := NewSlots(4, 2)
	if !s.take(flood) || !s.take(flood) || s.take(flood) || s.take(flood) {
		t.Fatal("not two slots of four")
	}
	if !s.take(other) || !s.take(other) {
		t.Error("another network is left none")
	}
	if s.take(3) {
		t.Error("five slots of four")
	}
	if got, want := s.Stats(), (SlotsStats{Limit: 4, PerNetwork: 2, InUse: 4, Networks: 2, Peak: 4, Shed: 3, ShedNetwork: 2}); got != want {
		t.Errorf("%+v, not %+v", got, want)
	}
	for range 2 {
		s.give(flood)
		s.give(other)
	}
	if got := s.Stats(); got.InUse != 0 || got.Networks != 0 {
		t.Errorf("%+v after all was given back", got)
	}
}

func TestSlotsDefault(t *testing.T) {
	if n := NewSlots(0, 0).Stats().Limit; n != DefaultSlots {
		t.Errorf("%d slots", n)
	}
}

func TestQuietLogWritesOncePerInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := newQuietLog(slog.New(slog.NewTextHandler(&out, nil)))
		for range 100 {
			l.error("trouble")
		}
		if n := strings.Count(out.String(), "trouble"); n != 1 {
			t.Errorf("%d records of 100 at once", n)
		}
		time.Sleep(logInterval)
		l.error("trouble")
		if n := strings.Count(out.String(), "trouble"); n != 2 || !strings.Contains(out.String(), "not_logged=99") {
			t.Errorf("%d records after the interval:\n%s", n, out.String())
		}
	})
}

func TestBackoffWaitsLongerUpToItsMaximum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backoff{spare: 2, min: time.Millisecond, max: 4 * time.Millisecond}
		waits := func() (d []time.Duration) {
			for range 7 {
				start := time.Now()
				if !b.failed(nil) {
					t.Fatal("stopped")
				}
				d = append(d, time.Since(start)/time.Millisecond)
			}
			return d
		}
		want := [7]time.Duration{0, 0, 1, 2, 4, 4, 4}
		if got := [7]time.Duration(waits()); got != want {
			t.Errorf("waited %v ms", got)
		}
		b.ok()
		if got := [7]time.Duration(waits()); got != want {
			t.Errorf("after success waited %v ms", got)
		}
		stop := make(chan struct{})
		close(stop)
		if b.failed(stop) {
			t.Error("waits although it has to stop")
		}
	})
}

func TestClientOf(t *testing.T) {
	tests := []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"2001:db8::1", "2001:db8::ffff:1", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"fe80::1%lo", "fe80::2", true},
	}
	for _, tt := range tests {
		a, b := netip.MustParseAddr(tt.a), netip.MustParseAddr(tt.b)
		if same := clientOf(a) == clientOf(b); same != tt.same {
			t.Errorf("%s and %s are one client: %v", a, b, same)
		}
	}
	if clientOf(netip.Addr{}) != (netip.Prefix{}) {
		t.Error("no address has a prefix")
	}
}

func TestNamesOfReasons(t *testing.T) {
	seen := map[string]bool{}
	for r := range NumCloseReasons {
		seen[r.String()] = true
	}
	for e := range NumSendErrors {
		seen[e.String()] = true
	}
	if len(seen) != int(NumCloseReasons)+int(NumSendErrors) || seen[""] {
		t.Errorf("names are missing or not unique: %v", seen)
	}
}
