package resolver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/dnssec"
	"shirube/internal/exchange"
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/resolver/infra"
)

// scripted is an exchanger whose servers are functions.
type scripted struct {
	mu      sync.Mutex
	asked   []netip.Addr
	under   int // exchanges under way now
	most    int // … and at once so far
	servers map[netip.Addr]func(ctx context.Context, req exchange.Request) (exchange.Response, error)
}

func (s *scripted) Exchange(ctx context.Context, req exchange.Request) (exchange.Response, error) {
	s.mu.Lock()
	s.asked = append(s.asked, req.Server.Addr())
	s.under++
	s.most = max(s.most, s.under)
	serve := s.servers[req.Server.Addr()]
	s.mu.Unlock()
	resp, err := serve(ctx, req)
	s.mu.Lock()
	s.under--
	s.mu.Unlock()
	return resp, err
}

// server answers every question with the given rcode, or with an address, after
// d; it is silent if d is more than the timeout.
func server(d time.Duration, rcode int) func(context.Context, exchange.Request) (exchange.Response, error) {
	return func(ctx context.Context, req exchange.Request) (exchange.Response, error) {
		wait := time.NewTimer(min(d, req.Timeout))
		defer wait.Stop()
		select {
		case <-ctx.Done():
			return exchange.Response{}, ctx.Err()
		case <-wait.C:
		}
		if d > req.Timeout {
			return exchange.Response{}, exchange.ErrTimeout
		}
		m := new(dns.Msg).SetQuestion(req.Question.Name.String(), uint16(req.Question.Type))
		m.Response, m.Authoritative, m.Rcode = true, true, rcode
		if rcode == dns.RcodeSuccess {
			rr, err := dns.NewRR(req.Question.Name.String() + " 60 A 198.51.100.1")
			if err != nil {
				return exchange.Response{}, err
			}
			m.Answer = []dns.RR{rr}
		}
		return exchange.Response{Msg: m, RTT: d, Size: 100}, nil
	}
}

// nothing is a memory that forgets.
type nothing struct{}

func (nothing) Cut(wire.Name) *rrset.Cut                   { return nil }
func (nothing) PutCut(*rrset.Cut)                          {}
func (nothing) Link(wire.Name) *rrset.Link                 { return nil }
func (nothing) PutLink(*rrset.Link)                        {}
func (nothing) Set(wire.Name, wire.Type) (rrset.Set, bool) { return rrset.Set{}, false }
func (nothing) PutSet(rrset.Set)                           {}
func (nothing) AppendAddrs(dst []netip.Addr, _ wire.Name, _ wire.Type) []netip.Addr {
	return dst
}

func (nothing) PutDenials(wire.Name, []rrset.Set)     {}
func (nothing) NSEC(_, _ wire.Name) (rrset.Set, bool) { return rrset.Set{}, false }
func (nothing) Chain(wire.Name) (rrset.Chain, rrset.Set, bool) {
	return rrset.Chain{}, rrset.Set{}, false
}

func (nothing) NSEC3(wire.Name, [dnssec.HashLen]byte) (s rrset.Set, match, ok bool) {
	return rrset.Set{}, false, false
}

func ip(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}) }

func ipPort(n int) netip.AddrPort { return netip.AddrPortFrom(ip(n), 53) }

func serverAt(n int) rrset.Server {
	return rrset.Server{Host: wire.MustParseName(fmt.Sprintf("ns%d.example.", n)), Addrs: []netip.Addr{ip(n)}}
}

// newScripted returns a resolver and two servers of example.com., of which the
// first, at 192.0.2.1, is the one to be asked first.
func newScripted(t *testing.T, ex *scripted) (*Resolver, authority) {
	t.Helper()
	r, err := New(Options{Exchanger: ex, Memory: nothing{}})
	if err != nil {
		t.Fatal(err)
	}
	r.hedges.saved.Store(hedgeShare * hedgeBurst)
	cut := &rrset.Cut{Zone: wire.MustParseName("example.com."), Servers: []rrset.Server{serverAt(1), serverAt(2)}}
	r.infra.Answered(ipPort(1), cut.Zone, 40*time.Millisecond, time.Now())
	r.infra.Answered(ipPort(2), cut.Zone, 3*time.Second, time.Now()) // not even within the band
	return r, authority{cut: cut}
}

// askFirst asks the server at 192.0.2.1 first.
func askFirst(t *testing.T, r *Resolver, at authority, w *work) ([]*asked, time.Duration) {
	t.Helper()
	s := r.search(at, nil)
	s.asking = time.Now()
	for i := range s.tries {
		if s.tries[i].Addr == ipPort(1) {
			found := r.askPair(t.Context(), i, infra.Hint{Timeout: 400 * time.Millisecond, Late: 100 * time.Millisecond}, question("www.example.com A"), s, w)
			return found, time.Since(s.asking)
		}
	}
	t.Fatal("no first server")
	return nil, 0
}

func TestSecondServerIsAskedWhenTheFirstIsLate(t *testing.T) {
	const ms = time.Millisecond
	tests := []struct {
		name                   string
		first, second          time.Duration
		firstRcode, secondCode int
		took                   time.Duration
		sent, won              int
		useful                 bool
	}{
		{"in time", 99 * ms, 10 * ms, 0, 0, 99 * ms, 1, 0, true},
		{"lame in time", 99 * ms, 10 * ms, dns.RcodeRefused, 0, 99 * ms, 1, 0, false},
		{"overtaken", 390 * ms, 10 * ms, 0, 0, 110 * ms, 2, 1, true},
		{"silent", time.Hour, 10 * ms, 0, 0, 110 * ms, 2, 1, true},
		{"late, but before the second", 150 * ms, 300 * ms, 0, 0, 150 * ms, 2, 0, true},
		{"late, and the second is lame", 150 * ms, 10 * ms, 0, dns.RcodeRefused, 150 * ms, 2, 0, true},
		{"late and lame", 150 * ms, 300 * ms, dns.RcodeRefused, 0, 400 * ms, 2, 0, true}, // it is not overtaken
		{"both lame", 150 * ms, 300 * ms, dns.RcodeRefused, dns.RcodeServerFailure, 400 * ms, 2, 0, false},
		{"both silent", time.Hour, time.Hour, 0, 0, 4100 * ms, 2, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ex := &scripted{servers: map[netip.Addr]func(context.Context, exchange.Request) (exchange.Response, error){
					ip(1): server(tt.first, tt.firstRcode), ip(2): server(tt.second, tt.secondCode),
				}}
				r, at := newScripted(t, ex)
				w := newWork(t, r.opt.Limits)
				found, took := askFirst(t, r, at, w)
				if took != tt.took || len(ex.asked) != tt.sent || w.queries != tt.sent || ex.under != 0 || ex.most > 2 {
					t.Errorf("took %v, asked %v, paid %d, %d still under way, %d at once; want %v and %d", took, ex.asked, w.queries, ex.under, ex.most, tt.took, tt.sent)
				}
				useful := false
				for i := range found {
					useful = useful || found[i].useful()
				}
				st := r.Stats()
				if useful != tt.useful || int(st.HedgesWon) != tt.won || int(st.Hedged) != tt.sent-1 {
					t.Errorf("useful %v, %d second tries, %d won; want %v, %d, %d", useful, st.Hedged, st.HedgesWon, tt.useful, tt.sent-1, tt.won)
				}
			})
		})
	}
}

func TestSecondTryEndsWithTheClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ex := &scripted{servers: map[netip.Addr]func(context.Context, exchange.Request) (exchange.Response, error){
			ip(1): server(time.Hour, 0), ip(2): server(time.Hour, 0),
		}}
		r, at := newScripted(t, ex)
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		defer cancel()
		begun := time.Now()
		_, err := r.askZone(ctx, question("www.example.com A"), at, newWork(t, r.opt.Limits))
		if err == nil || time.Since(begun) != 150*time.Millisecond || ex.under != 0 {
			t.Errorf("error %v after %v, %d exchanges still under way", err, time.Since(begun), ex.under)
		}
		if got := r.dead.count(); got != 0 {
			t.Error("a client's impatience was taken for the end of a zone")
		}
	})
}

func TestSecondTryIsNotSentBeyondTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ex := &scripted{servers: map[netip.Addr]func(context.Context, exchange.Request) (exchange.Response, error){
			ip(1): server(150*time.Millisecond, 0), ip(2): server(time.Millisecond, 0),
		}}
		r, at := newScripted(t, ex)
		limits := r.opt.Limits
		limits.Queries = 1
		found, _ := askFirst(t, r, at, newWork(t, limits))
		if len(ex.asked) != 1 || !found[0].useful() {
			t.Errorf("asked %v, found %+v", ex.asked, found)
		}
	})
}

func TestHedgesAreATenthOfAllQueries(t *testing.T) {
	var h hedges
	if h.pay() {
		t.Error("one before there was any query")
	}
	paid := 0
	for range 10_000 {
		h.earn()
		if h.pay() {
			paid++
		}
	}
	if paid != 10_000/hedgeShare {
		t.Errorf("%d second tries for 10,000 queries", paid)
	}
	for range 100_000 {
		h.earn()
	}
	paid = 0
	for h.pay() {
		paid++
	}
	if paid != hedgeBurst {
		t.Errorf("%d saved up, want %d", paid, hedgeBurst)
	}
	if sent := h.sent.Load(); sent != 10_000/hedgeShare+hedgeBurst || h.denied.Load() != 9000+2 {
		t.Errorf("counted %d sent and %d denied", sent, h.denied.Load())
	}
}

func TestFlightIsSharedByThoseWhoWantItsServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flights
		k := flightKey{q: question("www.example.com A")}
		yes := func(netip.AddrPort) bool { return true }
		no := func(netip.AddrPort) bool { return false }
		fl, leads := f.board(k, ipPort(1), yes)
		if fl == nil || !leads {
			t.Fatal("the first does not lead")
		}
		if other, leads := f.board(k, ipPort(2), no); other != nil || !leads {
			t.Error("who does not want the server does not fly alone")
		}
		if other, leads := f.board(flightKey{q: question("www.example.com AAAA")}, ipPort(2), yes); other == fl || !leads {
			t.Error("another question shares the flight")
		}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				fl, leads := f.board(k, ipPort(2), yes)
				if leads {
					t.Error("two lead one flight")
					return
				}
				found, err := fl.wait(t.Context())
				if err != nil || len(found) != 1 || len(found[0].rep.Sets) != 1 {
					t.Errorf("%v, %v", found, err)
					return
				}
				found[0].rep.Sets[0].Trust = rrset.Secure // its own: the race detector looks on
			})
		}
		synctest.Wait()
		f.land(k, fl, []*asked{{rep: &reply{Verdict: Positive, Sets: make([]rrset.Set, 1)}}, {err: context.Canceled}})
		wg.Wait()
		if _, leads := f.board(k, ipPort(1), yes); !leads || f.shared.Load() != 10 {
			t.Errorf("leads %v after the landing, %d shared", leads, f.shared.Load())
		}
	})
}

// TestFlightOutlivesItsLeadersClient: those who shared it go on by themselves.
func TestFlightOutlivesItsLeadersClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ex := &scripted{servers: map[netip.Addr]func(context.Context, exchange.Request) (exchange.Response, error){
			ip(1): server(80*time.Millisecond, 0), ip(2): server(80*time.Millisecond, 0),
		}}
		r, at := newScripted(t, ex)
		hurry, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := r.askZone(hurry, question("www.example.com A"), at, newWork(t, r.opt.Limits)); err == nil {
				t.Error("answered too late")
			}
		})
		synctest.Wait()
		for range 5 {
			wg.Go(func() {
				if rep, err := r.askZone(t.Context(), question("www.example.com A"), at, newWork(t, r.opt.Limits)); err != nil || rep.Verdict != Positive {
					t.Errorf("%v, %v", rep, err)
				}
			})
		}
		wg.Wait()
		if len(ex.asked) != 2 && len(ex.asked) != 3 { // one of five in twenty explores
			t.Errorf("%d queries", len(ex.asked))
		}
	})
}

func TestCausesOfFailures(t *testing.T) {
	for _, tt := range []struct {
		err   error
		cause infra.Cause
		blame bool
	}{
		{fmt.Errorf("x: %w", exchange.ErrTimeout), infra.Timeout, true},
		{fmt.Errorf("x: %w", exchange.ErrMalformed), infra.Malformed, true},
		{fmt.Errorf("x: %w", syscall.ECONNREFUSED), infra.Unreachable, true},
		{fmt.Errorf("x: %w", syscall.ECONNRESET), infra.Unreachable, true},
		{io.EOF, infra.Unreachable, true},
		{fmt.Errorf("x: %w", syscall.ENETUNREACH), infra.NoRoute, true},
		{fmt.Errorf("x: %w", syscall.EHOSTUNREACH), infra.NoRoute, true},
		{fmt.Errorf("x: %w", syscall.EAFNOSUPPORT), infra.NoRoute, true},
		{fmt.Errorf("x: %w", syscall.EMFILE), 0, false}, // this machine's fault
		{errors.New("too many exchanges at once"), 0, false},
	} {
		if cause, blame := causeOf(tt.err); cause != tt.cause || blame != tt.blame {
			t.Errorf("%v: %d, %v", tt.err, cause, blame)
		}
	}
}

func TestTroubleOfThisMachineIsNotHeldAgainstServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := func(context.Context, exchange.Request) (exchange.Response, error) {
			return exchange.Response{}, syscall.EMFILE
		}
		ex := &scripted{servers: map[netip.Addr]func(context.Context, exchange.Request) (exchange.Response, error){ip(1): busy, ip(2): busy}}
		r, at := newScripted(t, ex)
		for range 10 {
			if _, err := r.askZone(t.Context(), question("www.example.com A"), at, newWork(t, r.opt.Limits)); err == nil {
				t.Error("answered")
			}
		}
		if s := r.Stats(); s.DeadFound != 0 || s.Infra.Failures != (infra.Stats{}).Failures {
			t.Errorf("%d dead zones, failures %v", s.DeadFound, s.Infra.Failures)
		}
	})
}
