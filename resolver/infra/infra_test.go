package infra

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"shirube/internal/wire"
)

var (
	zone  = wire.MustParseName("example.com.")
	other = wire.MustParseName("example.net.")
	start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
)

// addr returns the nth address of TEST-NET-1.
func addr(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), 53)
}

func addrs(n int) []netip.AddrPort {
	var a []netip.AddrPort
	for i := range n {
		a = append(a, addr(i+1))
	}
	return a
}

// timeoutOf returns the timeout that a question to a for zone gets at now.
func timeoutOf(tab *Table, a netip.AddrPort, now time.Time) time.Duration {
	_, hint := tab.Choose(zone, []netip.AddrPort{a}, now)
	return hint.Timeout
}

// shares returns how often each of candidates is chosen, of 1, when no question
// waits for an answer of one that was never measured.
func shares(tab *Table, candidates []netip.AddrPort, now time.Time) []float64 {
	const draws = 20_000
	share := make([]float64, len(candidates))
	for range draws {
		i, _ := tab.Choose(zone, candidates, now)
		share[i] += 1.0 / draws
		tab.servers[key{candidates[i], zone}].firstUntil = time.Time{}
	}
	return share
}

func TestFirstEightyAreChosenFrom(t *testing.T) {
	chosen := make(map[int]bool)
	for i, share := range shares(New(Options{}), addrs(maxCandidates+20), start) {
		if share > 0 {
			chosen[i] = true
		}
	}
	if len(chosen) != maxCandidates || chosen[maxCandidates] {
		t.Errorf("%d are chosen", len(chosen))
	}
}

// timeOut lets n questions time out one after the other, each sent when the
// last one had, and returns when the last one did.
func timeOut(tab *Table, a netip.AddrPort, n int, now time.Time) time.Time {
	for range n {
		now = now.Add(timeoutOf(tab, a, now))
		tab.Failed(a, zone, Timeout, now)
	}
	return now
}

func TestTimeoutFollowsRFC6298(t *testing.T) {
	const ms = time.Millisecond
	tests := []struct {
		name string
		rtts []time.Duration
		want time.Duration
	}{
		{"unknown", nil, 400 * ms},
		{"answered without a measurement", []time.Duration{0}, 400 * ms},
		{"first: R + 4 × R/2", []time.Duration{100 * ms}, 300 * ms},
		// RTTVAR = 3/4 × 50 + 1/4 × |100−180| = 57.5, SRTT = 7/8 × 100 + 1/8 × 180 = 110
		{"second", []time.Duration{100 * ms, 180 * ms}, 340 * ms},
		// RTTVAR = 3/4 × 57.5 + 1/4 × |110−70| = 53.125, SRTT = 7/8 × 110 + 1/8 × 70 = 105
		{"third", []time.Duration{100 * ms, 180 * ms, 70 * ms}, 317*ms + 500*time.Microsecond},
		{"not measured changes nothing", []time.Duration{100 * ms, 0, -5}, 300 * ms},
		{"lower bound", []time.Duration{ms}, 50 * ms},
		{"upper bound", []time.Duration{time.Hour}, 4 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tab := New(Options{})
			for _, rtt := range tt.rtts {
				tab.Answered(addr(1), zone, rtt, start)
			}
			if got := timeoutOf(tab, addr(1), start); got != tt.want {
				t.Errorf("timeout %v, want %v", got, tt.want)
			}
		})
	}
}

func TestTimeoutOfASteadyServerKeepsAMargin(t *testing.T) {
	tab := New(Options{})
	for range 200 {
		tab.Answered(addr(1), zone, 100*time.Millisecond, start)
	}
	// The variance is gone; half of MinTimeout stays (RFC 6298 §2, G).
	got := timeoutOf(tab, addr(1), start)
	if got < 125*time.Millisecond || got > 126*time.Millisecond {
		t.Errorf("timeout %v, want 125 ms", got)
	}
}

func TestTimeoutDoublesWithEachTimeoutAndRecovers(t *testing.T) {
	tab := New(Options{})
	tab.Answered(addr(1), zone, 100*time.Millisecond, start)
	now := start
	for i, want := range []string{"300ms", "600ms", "1.2s", "2.4s", "4s", "4s"} {
		got := timeoutOf(tab, addr(1), now)
		if got.String() != want {
			t.Fatalf("after %d timeouts: timeout %v, want %s", i, got, want)
		}
		now = now.Add(got)
		tab.Failed(addr(1), zone, Timeout, now)
	}
	tab.Answered(addr(1), zone, 0, start)
	if got := timeoutOf(tab, addr(1), now); got != 300*time.Millisecond {
		t.Errorf("after an answer: timeout %v, want 300 ms", got)
	}
}

func TestTimeoutsOfConcurrentQuestionsCountOnce(t *testing.T) {
	tab := New(Options{})
	tab.Answered(addr(1), zone, 100*time.Millisecond, start) // timeout 300 ms
	lost := start.Add(300 * time.Millisecond)
	for i := range 100 { // a hundred questions sent during 300 ms of silence
		tab.Failed(addr(1), zone, Timeout, lost.Add(time.Duration(i)*2*time.Millisecond))
	}
	if got := timeoutOf(tab, addr(1), lost); got != 600*time.Millisecond {
		t.Errorf("timeout %v, want 600 ms: it doubled more than once", got)
	}
	alive := []netip.AddrPort{addr(1), addr(2)}
	timeOut(tab, addr(2), DeadAfter, start.Add(-3*time.Second)) // dead until after lost
	for range 100 {
		if i, _ := tab.Choose(zone, alive, lost); i != 0 {
			t.Fatal("one burst of lost questions put the server out of use")
		}
	}
	if got := tab.Stats().Failures[Timeout]; got != 105 {
		t.Errorf("%d timeouts in the statistics, want 105", got)
	}
}

func TestChooseIsEvenWithinTheBand(t *testing.T) {
	tab := New(Options{})
	a := addrs(4)
	tab.Answered(a[0], zone, 10*time.Millisecond, start)  // 50 ms
	tab.Answered(a[1], zone, 100*time.Millisecond, start) // 300 ms
	tab.Answered(a[2], zone, 148*time.Millisecond, start) // 444 ms; a[3] is unknown: 400 ms
	for i, share := range shares(tab, a, start) {
		if math.Abs(share-0.25) > 0.02 {
			t.Errorf("server %d chosen %.3f of the time, want 0.25 ± 0.02", i, share)
		}
	}
}

// While one question finds out how fast a server is, the others go to those that
// are known to be good, or that nobody has asked; when there are none they go
// there as well.
func TestServerThatWasNeverMeasuredIsTriedByOneQuestion(t *testing.T) {
	for name, tt := range map[string]struct {
		known time.Duration // RTT of the other server; 0: nothing is known of it either
		most  int           // of 1000 questions, to the first server
	}{
		"beside a good one":   {20 * time.Millisecond, 1000/explore + 30}, // exploration, and one
		"beside a new one":    {0, 600},
		"beside a slower one": {2 * time.Second, 1000},
	} {
		tab := New(Options{})
		a := addrs(2)
		if tt.known > 0 {
			tab.Answered(a[1], zone, tt.known, start)
		}
		tab.Choose(zone, a[:1], start)
		to := 0
		for range 1000 {
			if i, _ := tab.Choose(zone, a, start); i == 0 {
				to++
			}
		}
		if to > tt.most || tt.known == 2*time.Second && to < 900 {
			t.Errorf("%s: %d of 1000 questions went to it, want %d at most", name, to, tt.most)
		}
	}
}

func TestChooseExploresServersBeyondTheBand(t *testing.T) {
	tab := New(Options{})
	a := addrs(10)
	tab.Answered(a[0], zone, 20*time.Millisecond, start)
	for _, slow := range a[1:] {
		tab.Answered(slow, zone, 800*time.Millisecond, start)
	}
	share := shares(tab, a, start)
	// One choice in 20 falls on any of the ten.
	if want := 1 - 0.05*0.9; math.Abs(share[0]-want) > 0.01 {
		t.Errorf("best server chosen %.3f of the time, want %.3f ± 0.01", share[0], want)
	}
	for i, s := range share[1:] {
		if math.Abs(s-0.005) > 0.003 {
			t.Errorf("slow server %d chosen %.4f of the time, want 0.005 ± 0.003", i+1, s)
		}
	}
}

func TestDeadServerIsLeftAloneThenTriedAgain(t *testing.T) {
	tab := New(Options{})
	a := addrs(2)
	tab.Answered(a[1], zone, time.Millisecond, start)
	now := timeOut(tab, a[0], DeadAfter-1, start)
	if share := shares(tab, a, now); share[0] == 0 {
		t.Errorf("after %d timeouts the server is never chosen", DeadAfter-1)
	}
	for _, seconds := range []int{5, 10, 20, 40, 60, 60} {
		now = timeOut(tab, a[0], 1, now)
		end := now.Add(time.Duration(seconds) * time.Second)
		if share := shares(tab, a, end.Add(-1)); share[0] != 0 {
			t.Errorf("backoff %d s: the dead server is chosen %.4f of the time", seconds, share[0])
		}
		share := shares(tab, a, end)
		if share[0] == 0 || share[0] > 0.05 {
			t.Errorf("after %d s of backoff the server is chosen %.4f of the time, want some, at most 0.05", seconds, share[0])
		}
		now = end
	}
	tab.Answered(a[0], zone, time.Millisecond, start)
	if share := shares(tab, a, now); math.Abs(share[0]-0.5) > 0.02 {
		t.Errorf("after its recovery the server is chosen %.3f of the time, want 0.5 ± 0.02", share[0])
	}
	timeOut(tab, a[0], 1, now)
	if share := shares(tab, a, now.Add(time.Second)); math.Abs(share[0]-0.5) > 0.02 {
		t.Errorf("one timeout after the recovery: chosen %.3f of the time, want 0.5 ± 0.02", share[0])
	}
	now = timeOut(tab, a[0], DeadAfter, now.Add(time.Minute))
	if share := shares(tab, a, now.Add(MinBackoff)); share[0] == 0 {
		t.Error("the backoff did not begin anew after the recovery")
	}
}

func TestFailuresOfADeadServerDoNotProlongItsBackoff(t *testing.T) {
	tab := New(Options{})
	a := addrs(2)
	tab.Answered(a[1], zone, time.Millisecond, start)
	dead := timeOut(tab, a[0], DeadAfter, start)
	for i := range 20 {
		tab.Failed(a[0], zone, Timeout, dead.Add(time.Duration(i)*200*time.Millisecond))
		tab.Failed(a[0], zone, Unreachable, dead.Add(time.Duration(i)*200*time.Millisecond))
	}
	if share := shares(tab, a, dead.Add(MinBackoff)); share[0] == 0 {
		t.Error("stragglers prolonged the backoff")
	}
}

// bury makes a dead at now.
func bury(t *testing.T, tab *Table, a netip.AddrPort, now time.Time) {
	t.Helper()
	at := now.Add(-time.Minute)
	for range DeadAfter {
		at = at.Add(MaxTimeout)
		tab.Failed(a, zone, Timeout, at)
	}
	for tab.servers[key{a, zone}].deadUntil.Before(now) {
		tab.Failed(a, zone, Timeout, tab.servers[key{a, zone}].deadUntil)
	}
}

// TestUnauthenticatedErrorsBuryNobody: an ICMP error that an attacker managed
// to place, or a thousand of them at once, leave the server in use.
func TestUnauthenticatedErrorsBuryNobody(t *testing.T) {
	tab := New(Options{})
	a := addrs(2)
	tab.Answered(a[0], zone, time.Millisecond, start)
	tab.Answered(a[1], zone, time.Millisecond, start)
	for i := range 1000 {
		tab.Failed(a[0], zone, Unreachable, start.Add(time.Duration(i)*50*time.Microsecond))
	}
	if share := shares(tab, a, start.Add(50*time.Millisecond)); math.Abs(share[0]-0.5) > 0.02 {
		t.Errorf("server with forged errors chosen %.4f of the time, want half", share[0])
	}
}

func TestUnreachableServerIsDeadAsASilentOneIs(t *testing.T) {
	for _, cause := range []Cause{Timeout, Unreachable, NoRoute} {
		tab := New(Options{})
		a := addrs(2)
		tab.Answered(a[1], zone, time.Millisecond, start)
		now := start
		for i := range DeadAfter {
			if share := shares(tab, a, now); share[0] == 0 {
				t.Errorf("cause %d: out of use after %d", cause, i)
			}
			now = now.Add(timeoutOf(tab, a[0], now))
			tab.Failed(a[0], zone, cause, now)
		}
		if share := shares(tab, a, now.Add(MinBackoff-1)); share[0] != 0 {
			t.Errorf("cause %d: chosen %.4f of the time when dead", cause, share[0])
		}
	}
}

func TestLameServerIsALastResort(t *testing.T) {
	for name, cause := range map[string]Cause{"lame": Lame, "malformed": Malformed} {
		t.Run(name, func(t *testing.T) {
			tab := New(Options{})
			a := addrs(2)
			tab.Answered(a[0], zone, time.Millisecond, start)
			tab.Answered(a[1], zone, 3*time.Second, start) // as slow as a server can be
			tab.Failed(a[0], zone, cause, start)
			if share := shares(tab, a, start.Add(LameFor-1)); share[0] != 0 {
				t.Errorf("lame server chosen %.4f of the time beside a good one", share[0])
			}
			if i, _ := tab.Choose(zone, a[:1], start); i != 0 {
				t.Error("the only server is not chosen")
			}
			if share := shares(tab, a, start.Add(LameFor)); share[0] < 0.9 {
				t.Errorf("after a minute the server is chosen %.3f of the time", share[0])
			}
		})
	}
}

func TestDeadServerComesAfterLameOne(t *testing.T) {
	tab := New(Options{})
	a := addrs(2)
	bury(t, tab, a[0], start)
	tab.Failed(a[1], zone, Lame, start)
	if share := shares(tab, a, start); share[0] != 0 {
		t.Errorf("dead server chosen %.4f of the time", share[0])
	}
	bury(t, tab, a[1], start)
	tab.Failed(a[0], zone, Lame, start) // it answers, if only so
	if share := shares(tab, a, start); share[0] < 0.9999 {
		t.Errorf("server that answers chosen %.4f of the time, want always", share[0])
	}
}

func TestAllDeadServersAreStillTried(t *testing.T) {
	tab := New(Options{})
	a := addrs(3)
	for _, x := range a {
		bury(t, tab, x, start)
	}
	for i, share := range shares(tab, a, start) {
		if math.Abs(share-1.0/3) > 0.02 {
			t.Errorf("server %d chosen %.3f of the time, want one third", i, share)
		}
	}
}

func TestServersAreKnownByZone(t *testing.T) {
	tab := New(Options{})
	a := addrs(2)
	tab.Answered(a[1], zone, time.Millisecond, start)
	tab.Answered(a[0], other, 100*time.Millisecond, start)
	tab.Failed(a[0], other, Lame, start)
	tab.Bare(a[0], other, true, start)
	if share := shares(tab, a, start); math.Abs(share[0]-0.5) > 0.02 {
		t.Errorf("server lame for another zone chosen %.3f of the time, want 0.5 ± 0.02", share[0])
	}
	_, hint := tab.Choose(zone, a[:1], start)
	if hint != (Hint{Timeout: FirstTimeout, Late: FirstLate}) {
		t.Errorf("hint %+v for a zone nothing is known of", hint)
	}
}

func TestBareServerIsAskedWithoutEDNSForAWhile(t *testing.T) {
	tab := New(Options{})
	tab.Bare(addr(1), zone, true, start)
	for i := range BareFor {
		if _, hint := tab.Choose(zone, addrs(1), start); !hint.Bare {
			t.Fatalf("question %d is asked with EDNS", i+1)
		}
	}
	if _, hint := tab.Choose(zone, addrs(1), start); hint.Bare {
		t.Errorf("question %d is still asked without EDNS", BareFor+1)
	}
}

func TestFailureOnEDNSThatMayBeForgedHasToComeTwiceSoon(t *testing.T) {
	bare := func(tab *Table) bool {
		_, hint := tab.Choose(zone, addrs(1), start)
		return hint.Bare
	}
	tab := New(Options{})
	tab.Bare(addr(1), zone, false, start)
	if bare(tab) {
		t.Error("one failure is enough")
	}
	tab.Bare(addr(1), zone, false, start.Add(BareAgain+1))
	if bare(tab) {
		t.Errorf("a second failure after more than %v is enough", BareAgain)
	}
	tab.Bare(addr(1), zone, false, start.Add(2*BareAgain+1))
	if !bare(tab) {
		t.Errorf("a second failure after %v is not enough", BareAgain)
	}
}

func TestOneQuestionFindsOutWhetherADeadServerIsBack(t *testing.T) {
	tab := New(Options{})
	a := addrs(2)
	tab.Answered(a[1], zone, time.Millisecond, start)
	end := timeOut(tab, a[0], DeadAfter, start).Add(MinBackoff)
	for range 20 { // backoffs
		chosen := 0
		var patience time.Duration
		for range 1000 {
			if i, hint := tab.Choose(zone, a, end); i == 0 {
				chosen++
				patience = hint.Timeout
			}
		}
		if chosen != 1 {
			t.Fatalf("%d questions at once to a server that may be dead, want 1", chosen)
		}
		end = end.Add(patience)
		tab.Failed(a[0], zone, Timeout, end)
		end = end.Add(MaxBackoff)
	}
}

func TestAnswerIsLateBeforeItIsTooLate(t *testing.T) {
	const ms = time.Millisecond
	tests := []struct {
		name string
		rtts []time.Duration
		want time.Duration
	}{
		{"unknown", nil, 200 * ms},
		{"first: R + 2 × R/2", []time.Duration{100 * ms}, 200 * ms},
		{"steady: 1.5 × R", slices.Repeat([]time.Duration{100 * ms}, 100), 150 * ms},
		{"lower bound", []time.Duration{ms}, 20 * ms},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tab := New(Options{})
			for _, rtt := range tt.rtts {
				tab.Answered(addr(1), zone, rtt, start)
			}
			if _, hint := tab.Choose(zone, addrs(1), start); hint.Late.Round(ms) != tt.want {
				t.Errorf("late after %v (timeout %v), want %v", hint.Late, hint.Timeout, tt.want)
			}
		})
	}
}

func TestServerThatIsOvertakenIsSlowerThanThat(t *testing.T) {
	tab := New(Options{})
	a := addrs(2)
	tab.Answered(a[1], zone, 10*time.Millisecond, start)
	tab.Late(a[0], zone, 210*time.Millisecond, start)
	if got := timeoutOf(tab, a[0], start); got != 2*(210+420)*time.Millisecond {
		t.Errorf("timeout %v, want 1.26 s", got)
	}
	if share := shares(tab, a, start); share[0] > 0.05 {
		t.Errorf("chosen %.3f of the time", share[0])
	}
	tab.Late(a[1], zone, time.Millisecond, start) // shorter than its RTT: says nothing about it
	if got := timeoutOf(tab, a[1], start); got != 70*time.Millisecond {
		t.Errorf("timeout %v, want 70 ms", got)
	}
	if got := tab.Stats().Late; got != 2 {
		t.Errorf("counted %d, want 2", got)
	}
}

func TestServerThatIsAlwaysOvertakenIsDead(t *testing.T) {
	tab := New(Options{})
	a := addrs(2)
	tab.Answered(a[1], zone, 10*time.Millisecond, start)
	now := start
	for range DeadAfter {
		now = now.Add(5 * time.Second)
		tab.Late(a[0], zone, 200*time.Millisecond, now)
	}
	if share := shares(tab, a, now); share[0] != 0 {
		t.Errorf("chosen %.3f of the time", share[0])
	}
}

func TestSilentServerIsTriedOverTCPNowAndThen(t *testing.T) {
	tab := New(Options{})
	now := start
	var over []int
	for i := range 3 * tcpEvery {
		_, hint := tab.Choose(zone, addrs(1), now)
		if hint.TCP {
			over = append(over, i)
		}
		if _, again := tab.Choose(zone, addrs(1), now); again.TCP {
			t.Errorf("question %d: another one at the same time goes over TCP too", i)
		}
		now = now.Add(MaxBackoff + MaxTimeout)
		tab.Failed(addr(1), zone, Timeout, now)
		now = now.Add(MaxBackoff)
	}
	if want := []int{2, 6, 10}; !slices.Equal(over, want) {
		t.Errorf("over TCP: questions %v, want %v", over, want)
	}
}

func TestServerThatAnswersOverTCPOnlyIsAskedSoForAWhile(t *testing.T) {
	tab := New(Options{})
	tab.TCPOnly(addr(1), zone)
	for i := range TCPFor {
		if _, hint := tab.Choose(zone, addrs(1), start); !hint.TCP || hint.Late != 2*FirstLate {
			t.Fatalf("question %d: %+v", i+1, hint)
		}
		if i < TCPFor-1 {
			tab.TCPOnly(addr(1), zone) // does not make it longer
		}
	}
	if _, hint := tab.Choose(zone, addrs(1), start); hint.TCP {
		t.Errorf("question %d still goes over TCP", TCPFor+1)
	}
}

func TestCountOfSilencesHasNoEnd(t *testing.T) {
	tab := New(Options{})
	now := start
	for range 1000 {
		now = now.Add(time.Hour)
		tab.Failed(addr(1), zone, Timeout, now)
		if s := tab.servers[key{addr(1), zone}].silences; s >= mostSilences {
			t.Fatalf("%d silences", s)
		}
	}
	if got := timeoutOf(tab, addr(1), now); got != MaxTimeout {
		t.Errorf("timeout %v, want %v", got, MaxTimeout)
	}
	if _, hint := tab.Choose(zone, addrs(1), now); !hint.Last {
		t.Error("a dead server is not said to be a last resort")
	}
}

func TestHeardKnowsWhoSpokeSince(t *testing.T) {
	tab := New(Options{})
	a := addrs(4)
	tab.Answered(a[0], zone, time.Millisecond, start)
	tab.Failed(a[1], zone, Lame, start.Add(time.Second))
	tab.Failed(a[2], zone, Malformed, start.Add(2*time.Second))
	tab.Failed(a[3], zone, Timeout, start.Add(3*time.Second))
	for i, want := range []time.Duration{0, time.Second, 2 * time.Second} {
		at := start.Add(want)
		if !tab.Heard(zone, a[i:i+1], at.Add(-1)) || tab.Heard(zone, a[i:i+1], at) {
			t.Errorf("server %d was not heard at %v", i, want)
		}
	}
	if tab.Heard(zone, a[3:], start.Add(-time.Hour)) || tab.Heard(other, a, start.Add(-time.Hour)) {
		t.Error("silence was heard")
	}
}

func TestTableIsBounded(t *testing.T) {
	tab := New(Options{Servers: 100})
	for i := range 1000 {
		tab.Answered(netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 53), wire.MustParseName(fmt.Sprintf("z%d.example.", i)), time.Millisecond, start)
	}
	if got := tab.Stats(); got.Servers != 100 || got.Evicted != 900 {
		t.Errorf("%d servers remembered, %d evicted, want 100 and 900", got.Servers, got.Evicted)
	}
	for i := range 1000 { // who is chosen is remembered
		tab.Choose(wire.MustParseName(fmt.Sprintf("y%d.example.", i)), addrs(2), start)
	}
	if got := tab.Stats(); got.Servers != 100 || got.Evicted != 1900 {
		t.Errorf("after Choose: %d servers remembered, %d evicted, want 100 and 1900", got.Servers, got.Evicted)
	}
}

func TestStatsCountsFailuresByCause(t *testing.T) {
	tab := New(Options{})
	for cause, n := range map[Cause]int{Timeout: 4, Unreachable: 3, Malformed: 2, Lame: 1, NoRoute: 5} {
		for range n {
			tab.Failed(addr(int(cause)), zone, cause, start)
		}
	}
	want := Stats{Servers: 5, Failures: [numCauses]uint64{Timeout: 4, Unreachable: 3, Malformed: 2, Lame: 1, NoRoute: 5}}
	if got := tab.Stats(); got != want {
		t.Errorf("Stats() = %+v, want %+v", got, want)
	}
}

func TestTableIsSafeForConcurrentUse(t *testing.T) {
	tab := New(Options{Servers: 8})
	a := addrs(16)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 500 {
				now := start.Add(time.Duration(i) * time.Second)
				n, hint := tab.Choose(zone, a, now)
				if hint.Timeout < MinTimeout || hint.Timeout > MaxTimeout {
					t.Errorf("timeout %v", hint.Timeout)
				}
				switch (g + i) % 4 {
				case 0:
					tab.Failed(a[n], zone, Cause(i%int(numCauses)), now)
				case 1:
					tab.Bare(a[n], zone, i%8 == 1, now)
				default:
					tab.Answered(a[n], zone, time.Duration(i)*time.Millisecond, start)
				}
			}
		})
	}
	wg.Wait()
	if got := tab.Stats().Servers; got > 8 {
		t.Errorf("%d servers remembered, want at most 8", got)
	}
}

func TestChooseDoesNotAllocate(t *testing.T) {
	tab := New(Options{})
	a := addrs(26) // 13 servers of two addresses
	for _, x := range a[:20] {
		tab.Answered(x, zone, 30*time.Millisecond, start)
	}
	if n := testing.AllocsPerRun(1000, func() { tab.Choose(zone, a, start) }); n != 0 {
		t.Errorf("Choose allocates %v times", n)
	}
}

func BenchmarkChoose(b *testing.B) {
	tab := New(Options{})
	a := addrs(26)
	for _, x := range a {
		tab.Answered(x, zone, 30*time.Millisecond, start)
	}
	b.ReportAllocs()
	for b.Loop() {
		tab.Choose(zone, a, start)
	}
}

func TestServersRestNoLongerWhenTheClockIsSetBack(t *testing.T) {
	for _, back := range []time.Duration{time.Hour, 10 * 365 * 24 * time.Hour} {
		tab := New(Options{})
		tab.Failed(addr(1), zone, Lame, start)
		end := timeOut(tab, addr(2), DeadAfter, start)
		for _, tt := range []struct {
			when string
			now  time.Time
			want bool
		}{
			{"before", end, true},
			{"after", end.Add(-back), false},
		} {
			for i := range 2 {
				_, hint := tab.Choose(zone, []netip.AddrPort{addr(i + 1)}, tt.now)
				if hint.Last != tt.want {
					t.Errorf("%s the clock is set back by %v, server %d is a last resort: %v", tt.when, back, i+1, hint.Last)
				}
			}
		}
	}
}
