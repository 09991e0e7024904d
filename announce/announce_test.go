package announce

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// world is a resolver, others of its fleet, and routers, as the announcer sees
// them. Everything answers at once.
type world struct {
	mu       sync.Mutex
	silent   map[Transport]bool // of the resolver here
	cut      bool               // nobody can ask the Internet
	dead     map[string]bool    // others, by address
	ready    Readiness
	readyErr error

	applied []string // what the driver was told, each change once: "1.5s 192.0.2.53/32 announced"
	began   time.Time
	routes  map[netip.Prefix]How
	broken  error // what the driver returns
	closed  bool
}

func newWorld() *world {
	return &world{
		silent: map[Transport]bool{}, dead: map[string]bool{}, ready: Readiness{Ready: true},
		routes: map[netip.Prefix]How{}, began: time.Now(),
	}
}

const (
	health = "health.example."
	canary = "canary.example."
)

var vip4, vip6 = netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("2001:db8::53")

// exchange is an [Exchange].
func (w *world) exchange(_ context.Context, to Target, query []byte) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := new(dns.Msg)
	if err := q.Unpack(query); err != nil {
		return nil, err
	}
	here := to.At.Addr() == vip4 || to.At.Addr() == vip6
	if here && w.silent[to.Transport] || w.dead[to.At.Addr().String()] {
		return nil, errors.New("connection refused")
	}
	r := new(dns.Msg).SetReply(q)
	switch {
	case q.Question[0].Name == canary && w.cut:
		r.Rcode = dns.RcodeServerFailure
	case q.Question[0].Name == health:
		rr, err := dns.NewRR(health + " 0 IN A 127.0.0.1")
		if err != nil {
			return nil, err
		}
		r.Answer = []dns.RR{rr}
	}
	return r.Pack()
}

func (w *world) Apply(_ context.Context, routes []Route) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken != nil {
		return w.broken
	}
	for _, r := range routes {
		if w.routes[r.Prefix] != r.How {
			w.applied = append(w.applied, fmt.Sprintf("%v %s %s", time.Since(w.began), r.Prefix, r.How))
		}
		w.routes[r.Prefix] = r.How
	}
	return nil
}

func (w *world) Peers() []Peer { return nil }

func (w *world) Close() error {
	w.closed = true
	return nil
}

// options are with one address over UDP and DoT, and no others.
func (w *world) options() Options {
	return Options{
		VIPs: []VIP{{
			Addr: vip4, Prefixes: []netip.Prefix{netip.PrefixFrom(vip4, 32)},
			Targets: []Target{{UDP, netip.AddrPortFrom(vip4, 53)}, {DoT, netip.AddrPortFrom(vip4, 853)}},
		}},
		Probes:   Probes{Interval: time.Second, Timeout: time.Second, Rise: 2, Fall: 3, Name: health, Needed: 1},
		Fleet:    Fleet{Needed: 1, Keep: true},
		Drain:    Drain{Graceful: 5 * time.Second, Settle: time.Second},
		Exchange: w.exchange,
		Ready: func(context.Context) (Readiness, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.ready, w.readyErr
		},
	}
}

// member is another of the fleet.
func memberAt(addr string) Target {
	return Target{UDP, netip.AddrPortFrom(netip.MustParseAddr(addr), 53)}
}

// play runs an announcer, and has events happen at their times, a bit after the
// round of that second. It returns what was announced when.
func (w *world) play(t *testing.T, opt Options, until time.Duration, events map[time.Duration]func()) []string {
	t.Helper()
	a, err := New(opt, w)
	if err != nil {
		t.Fatal(err)
	}
	w.began = time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx, t.Context()) }() // ends with ctx, which ends below
	for at := time.Duration(0); at < until; at += time.Second / 2 {
		if do := events[at]; do != nil {
			w.mu.Lock()
			do()
			w.mu.Unlock()
		}
		time.Sleep(time.Second / 2)
	}
	w.mu.Lock()
	got := slices.Clone(w.applied)
	w.mu.Unlock()
	s := a.Stats()
	if text := new(strings.Builder); s.WritePrometheus(text) != nil || !strings.Contains(text.String(), "shirube_announce_state{") {
		t.Errorf("metrics: %s", text)
	}
	cancel()
	if err := <-done; err != nil || !w.closed {
		t.Errorf("%v, closed: %v", err, w.closed)
	}
	return got
}

// expect fails the test unless routes changed so.
func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("found\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

const half = time.Second / 2

func TestAddressIsAnnouncedAfterRiseAndWithdrawnAfterFall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		got := w.play(t, w.options(), 12*time.Second, map[time.Duration]func(){
			3*time.Second + half: func() { w.silent[DoT] = true }, // one transport of two
			8*time.Second + half: func() { w.silent[DoT] = false },
		})
		expect(t, got, "1s 192.0.2.53/32 announced", "6s 192.0.2.53/32 withdrawn", "10s 192.0.2.53/32 announced")
	})
}

func TestFewerFailuresThanFallMoveNoRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		got := w.play(t, w.options(), 12*time.Second, map[time.Duration]func(){
			3*time.Second + half: func() { w.silent[UDP] = true },
			5*time.Second + half: func() { w.silent[UDP] = false },
			6*time.Second + half: func() { w.readyErr = errors.New("refused") },
			8*time.Second + half: func() { w.readyErr = nil },
		})
		expect(t, got, "1s 192.0.2.53/32 announced")
	})
}

func TestAddressesAreJudgedEachByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		opt := w.options()
		opt.VIPs = append(opt.VIPs, VIP{
			Addr: vip6, Prefixes: []netip.Prefix{netip.PrefixFrom(vip6, 128)},
			Targets: []Target{{TCP, netip.AddrPortFrom(vip6, 53)}},
		})
		got := w.play(t, opt, 9*time.Second, map[time.Duration]func(){
			3*time.Second + half: func() { w.silent[TCP] = true },
		})
		expect(t, got, "1s 192.0.2.53/32 announced", "1s 2001:db8::53/128 announced", "6s 2001:db8::53/128 withdrawn")
	})
}

func TestPrefixOfSeveralAddressesStaysWithTheBest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, order := range [][2]Transport{{UDP, TCP}, {TCP, UDP}} { // whichever of the addresses is ill
			w := newWorld()
			opt := w.options()
			prefix := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
			opt.VIPs[0].Prefixes = prefix
			opt.VIPs = append(opt.VIPs, VIP{Addr: vip4, Prefixes: prefix, Targets: []Target{{TCP, netip.AddrPortFrom(vip4, 53)}}})
			got := w.play(t, opt, 12*time.Second, map[time.Duration]func(){
				3*time.Second + half: func() { w.silent[order[0]] = true },
				7*time.Second + half: func() { w.silent[order[1]] = true },
			})
			expect(t, got, "1s 192.0.2.0/24 announced", "10s 192.0.2.0/24 withdrawn")
		}
	})
}

func TestResolverThatDrainsIsMarkedAtOnceThenWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		got := w.play(t, w.options(), 30*time.Second, map[time.Duration]func(){
			3*time.Second + half:  func() { w.ready = Readiness{Causes: []string{codeDraining}} },
			12*time.Second + half: func() { w.readyErr, w.ready = errors.New("refused"), Readiness{} },
			14*time.Second + half: func() { w.readyErr, w.ready = nil, Readiness{Ready: true} },
		})
		expect(t, got, "1s 192.0.2.53/32 announced", "4s 192.0.2.53/32 draining", "9s 192.0.2.53/32 withdrawn", "16s 192.0.2.53/32 announced")
	})
}

func TestRestartThatIsOverSoonWithdrawsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		got := w.play(t, w.options(), 12*time.Second, map[time.Duration]func(){
			3*time.Second + half: func() { w.ready = Readiness{Causes: []string{codeDraining}} },
			5*time.Second + half: func() { w.ready = Readiness{Ready: true} },
		})
		expect(t, got, "1s 192.0.2.53/32 announced", "4s 192.0.2.53/32 draining", "7s 192.0.2.53/32 announced")
	})
}

func TestOperatorsFileWithdrawsEvenTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		opt := w.options()
		opt.Drain.DisableFile = filepath.Join(t.TempDir(), "disabled")
		opt.Fleet.Members = []Target{memberAt("198.51.100.1")}
		w.dead["198.51.100.1"] = true
		got := w.play(t, opt, 20*time.Second, map[time.Duration]func(){
			3*time.Second + half: func() {
				if err := os.WriteFile(opt.Drain.DisableFile, nil, 0o600); err != nil {
					t.Error(err)
				}
			},
			// What was withdrawn on purpose does not come back as the last resort.
			10*time.Second + half: func() { w.silent[UDP] = true },
			15*time.Second + half: func() {
				if err := os.Remove(opt.Drain.DisableFile); err != nil {
					t.Error(err)
				}
			},
		})
		expect(t, got, "1s 192.0.2.53/32 announced", "4s 192.0.2.53/32 draining", "9s 192.0.2.53/32 withdrawn")
	})
}

func TestWithoutMembersACauseThatAllMayShareKeepsTheRoute(t *testing.T) {
	for _, tt := range []struct {
		name string
		keep bool
		do   func(w *world)
		want string
	}{
		{"canaries, kept", true, func(w *world) { w.cut = true }, "last_resort"},
		{"canaries, not kept", false, func(w *world) { w.cut = true }, "withdrawn"},
		{"no root, kept", true, func(w *world) {
			w.ready = Readiness{Causes: []string{codeNoRoot}}
			w.silent[UDP] = true // its health name says so too
		}, "last_resort"},
		{"a cause of its own", true, func(w *world) { w.ready = Readiness{Causes: []string{codeNoRoot, "warming"}} }, "withdrawn"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				opt := w.options()
				opt.Probes.Canaries, opt.Fleet.Keep = []string{canary}, tt.keep
				got := w.play(t, opt, 9*time.Second, map[time.Duration]func(){3*time.Second + half: func() { tt.do(w) }})
				expect(t, got, "1s 192.0.2.53/32 announced", "6s 192.0.2.53/32 "+tt.want)
			})
		})
	}
}

func TestLastOfTheFleetIsNotWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		opt := w.options()
		// The last one is of the other family, and counts for nothing.
		opt.Fleet.Members = []Target{memberAt("198.51.100.1"), memberAt("198.51.100.2"), memberAt("2001:db8:1::1")}
		got := w.play(t, opt, 30*time.Second, map[time.Duration]func(){
			3*time.Second + half:  func() { w.silent[UDP] = true },                               // only here: others are well
			8*time.Second + half:  func() { w.silent[UDP] = false },                              // and back
			13*time.Second + half: func() { w.dead["198.51.100.1"] = true },                      // one left
			18*time.Second + half: func() { w.dead["198.51.100.2"], w.silent[UDP] = true, true }, // the same cause here and there
			25*time.Second + half: func() { delete(w.dead, "198.51.100.2") },                     // which gets over it
		})
		expect(t, got, "1s 192.0.2.53/32 announced", "6s 192.0.2.53/32 withdrawn", "10s 192.0.2.53/32 announced",
			"21s 192.0.2.53/32 last_resort", "27s 192.0.2.53/32 withdrawn")
	})
}

func TestOthersThatWereNotAskedYetMayBeWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		opt := w.options()
		opt.Fleet.Members = []Target{memberAt("198.51.100.1")}
		w.silent[UDP] = true // the resolver starts after the announcer
		got := w.play(t, opt, 9*time.Second, map[time.Duration]func(){4*time.Second + half: func() { w.silent[UDP] = false }})
		expect(t, got, "6s 192.0.2.53/32 announced")
	})
}

// TestOthersThatCannotMakeUpTheirMindMayBeWell: a node that has just started, and
// loses packets, is not the last.
func TestOthersThatCannotMakeUpTheirMindMayBeWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		opt := w.options()
		const other = "198.51.100.1"
		opt.Fleet.Members = []Target{memberAt(other)}
		w.silent[UDP], w.dead[other] = true, true
		got := w.play(t, opt, 9*time.Second, map[time.Duration]func(){
			0*time.Second + half: func() { delete(w.dead, other) },
			1*time.Second + half: func() { w.dead[other] = true },
			2*time.Second + half: func() { delete(w.dead, other) },
			4*time.Second + half: func() { w.silent[UDP] = false },
		})
		expect(t, got, "6s 192.0.2.53/32 announced")
	})
}

// TestWhatHasJustStruckTheLastOtherKeepsTheRoute: it fell silent a second after this
// one did, and is not taken to be down yet.
func TestWhatHasJustStruckTheLastOtherKeepsTheRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		opt := w.options()
		opt.Fleet.Members = []Target{memberAt("198.51.100.1")}
		got := w.play(t, opt, 12*time.Second, map[time.Duration]func(){
			3*time.Second + half: func() { w.silent[UDP] = true },
			4*time.Second + half: func() { w.dead["198.51.100.1"] = true },
		})
		expect(t, got, "1s 192.0.2.53/32 announced", "6s 192.0.2.53/32 last_resort")
	})
}

func TestEndIsAnnouncedBeforeItComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		before := w.play(t, w.options(), 4*time.Second, nil)
		expect(t, w.applied[len(before):], "4s 192.0.2.53/32 draining", "9s 192.0.2.53/32 withdrawn")
		if took := time.Since(w.began); took != 10*time.Second { // drain.graceful and drain.settle later
			t.Errorf("the end came after %v", took)
		}
	})
}

func TestHastenedEndWithdrawsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		a, err := New(w.options(), w)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		hasten, hastened := context.WithTimeout(t.Context(), 5*time.Second)
		defer hastened()
		if err := a.Run(ctx, hasten); err != nil {
			t.Error(err)
		}
		expect(t, w.applied, "1s 192.0.2.53/32 announced", "4s 192.0.2.53/32 draining", "5s 192.0.2.53/32 withdrawn")
	})
}

func TestDriverThatFailsIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.broken = errors.New("no such socket")
		got := w.play(t, w.options(), 6*time.Second, map[time.Duration]func(){3*time.Second + half: func() { w.broken = nil }})
		expect(t, got, "4s 192.0.2.53/32 announced")
	})
}

func TestOptionsThatMakeNoSenseAreRefused(t *testing.T) {
	w := newWorld()
	for name, spoil := range map[string]func(o *Options){
		"no addresses":            func(o *Options) { o.VIPs = nil },
		"no exchange":             func(o *Options) { o.Exchange = nil },
		"no transport":            func(o *Options) { o.VIPs[0].Targets = nil },
		"no interval":             func(o *Options) { o.Probes.Interval = 0 },
		"timeout beyond interval": func(o *Options) { o.Probes.Timeout = time.Hour },
		"no rise":                 func(o *Options) { o.Probes.Rise = 0 },
	} {
		opt := w.options()
		spoil(&opt)
		if _, err := New(opt, w); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}

func TestSlowAnswersAreFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		opt := w.options()
		slow := false
		opt.Exchange = func(ctx context.Context, to Target, query []byte) ([]byte, error) {
			if w.mu.Lock(); !slow {
				w.mu.Unlock()
				return w.exchange(ctx, to, query)
			}
			w.mu.Unlock()
			<-ctx.Done()
			return nil, ctx.Err()
		}
		got := w.play(t, opt, 9*time.Second, map[time.Duration]func(){3*time.Second + half: func() { slow = true }})
		// The third question is asked at 6 s, and waited for until 7 s.
		expect(t, got, "1s 192.0.2.53/32 announced", "7s 192.0.2.53/32 withdrawn")
	})
}
