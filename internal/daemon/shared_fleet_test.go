package daemon

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/memcached"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// wholeFleet is many servers, as the daemon builds them, on some memcached and
// with one clock, which a test moves.
type wholeFleet struct {
	members []*Pipeline
	net     *simnet.Net
	clock   string // the file with its offset
	offset  time.Duration
}

const (
	fleetSize = 24
	hotTTL    = 100 * time.Second

	popularity = time.Second // within which somebody asks again for what is popular
)

func newWholeFleet(t *testing.T, servers ...*memcached.Process) *wholeFleet {
	t.Helper()
	fl := &wholeFleet{net: simnet.New(), clock: filepath.Join(t.TempDir(), "offset")}
	baseWorld(fl.net)
	fl.net.Serve(exampleCom, "example.com.", `
example.com. 3600 SOA ns1.example.com. host.example.com. 1 1800 900 604800 300
example.com. 3600 NS ns1.example.com.
ns1.example.com. 3600 A 192.0.2.11
*.hot.example.com. 100 A 198.51.100.1
`)
	fl.net.SetRTT(exampleCom, 45*time.Millisecond)
	fl.advance(t, 0)
	for range fleetSize {
		cfg := fleetConfig(t, servers...)
		cfg.Debug.ClockOffsetFile = fl.clock
		cfg.Resolver.QNameMinimisation = "off"
		p, err := NewPipeline(cfg, fl.net, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		fl.members = append(fl.members, p)
	}
	return fl
}

// advance moves the clock of all.
func (fl *wholeFleet) advance(t *testing.T, by time.Duration) {
	t.Helper()
	fl.offset += by
	next := fl.clock + ".next"
	if err := os.WriteFile(next, fmt.Appendf(nil, "%f\n", fl.offset.Seconds()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, fl.clock); err != nil {
		t.Fatal(err)
	}
}

// ask has all members asked for name at once.
func (fl *wholeFleet) ask(t *testing.T, name string) {
	t.Helper()
	var wg sync.WaitGroup
	for _, p := range fl.members {
		wg.Go(func() {
			if got := ask(t, p, name+" A"); got == nil || got.Rcode != dns.RcodeSuccess || len(got.Answer) != 1 {
				t.Errorf("%s: %v", name, got)
			}
		})
	}
	wg.Wait()
}

// warm has name resolved once, and known to all members as popular.
func (fl *wholeFleet) warm(t *testing.T, name string) {
	t.Helper()
	ask(t, fl.members[0], name+" A")
	(&member{Pipeline: fl.members[0]}).written(t)
	for range 3 {
		fl.ask(t, name)
	}
	fl.net.ResetLog()
}

// resolutions returns how often name was asked for upstream.
func (fl *wholeFleet) resolutions(name string) (n int) {
	for _, q := range fl.net.Log().Questions() {
		if q == exampleCom+" "+name+" A" { // its parents are asked for it before, the first time
			n++
		}
	}
	return n
}

// What expires everywhere at once is resolved by one server for all. The others
// wait for it for a tenth of a second at most: tries in which somebody's time ran
// out, for this machine was busy, show nothing.
func TestFleetResolvesWhatExpiresAtOnceOnce(t *testing.T) {
	fl := newWholeFleet(t, memcached.Start(t), memcached.Start(t), memcached.Start(t))
	const names, tries = 8, 60
	ideal, resolved, void := 0, 0, 0
	for i := 0; i < tries && ideal < names; i++ {
		name := fmt.Sprintf("n%d.hot.example.com.", i)
		fl.warm(t, name)
		fl.advance(t, hotTTL+100*time.Millisecond)
		before, begun := fl.inVain(), time.Now()
		fl.ask(t, name)
		if fl.inVain() > before || time.Since(begun) > popularity/2 {
			void++
			continue
		}
		ideal++
		resolved += fl.resolutions(name)
	}
	t.Logf("%d names that %d servers miss at once were resolved %d times; %d tries more show nothing", ideal, fleetSize, resolved, void)
	if ideal == 0 || float64(resolved) > 1.2*float64(ideal) {
		t.Errorf("%d names were resolved %d times", ideal, resolved)
	}
}

// inVain returns how many of the fleet waited in vain, or had no word of the
// lease.
func (fl *wholeFleet) inVain() (n uint64) {
	for _, p := range fl.members {
		s := p.Shared.Stats()
		n += s.InVain + s.Unheard + s.Skipped
		for _, server := range s.Servers {
			n += server.Late + server.Errors + server.Busy
		}
	}
	return n
}

// What is about to expire everywhere at once is renewed by one server for all.
// Tries in which no word of a lease came in time, for this machine was busy, show
// nothing.
func TestFleetRenewsWhatExpiresAtOnceOnce(t *testing.T) {
	fl := newWholeFleet(t, memcached.Start(t), memcached.Start(t), memcached.Start(t))
	const names, tries = 6, 30
	ideal, resolved := 0, 0
	for i := 0; i < tries && ideal < names; i++ {
		name := fmt.Sprintf("n%d.hot.example.com.", i)
		q := wire.Question{Name: wire.MustParseName(name), Type: wire.TypeA}
		fl.warm(t, name)
		end, _ := fl.members[0].Answers.Expires(q, false, false)
		fl.advance(t, hotTTL-5*time.Second)
		before := fl.inVain()
		fl.ask(t, name)
		renewed := func(p *Pipeline) bool {
			now, ok := p.Answers.Expires(q, false, false)
			return ok && now.Sub(end) > hotTTL/2
		}
		for until := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			n := 0
			for _, p := range fl.members {
				if renewed(p) {
					n++
				}
			}
			if n == fleetSize {
				break
			}
			if time.Now().After(until) {
				t.Fatalf("%s: %d servers have the new answer", name, n)
			}
		}
		if fl.inVain() == before {
			ideal++
			resolved += fl.resolutions(name)
		}
	}
	t.Logf("%d names that %d servers renew at once were resolved %d times", ideal, fleetSize, resolved)
	if ideal == 0 || float64(resolved) > 1.2*float64(ideal) {
		t.Errorf("%d names were resolved %d times", ideal, resolved)
	}
}
