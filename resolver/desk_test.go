package resolver

import (
	"context"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/cache"
	"shirube/internal/exchange"
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/resolver/infra"
)

// addressOf is the address that moody gives a name.
func addressOf(n wire.Name) netip.Addr {
	h := crc32.ChecksumIEEE([]byte(n))
	return netip.AddrFrom4([4]byte{198, 18, byte(h >> 8), byte(h)})
}

// moody answers with what the name asked for has, sooner or later, or not at all, and
// waits for the end of a context or looks at it now and then.
type moody struct{}

func (moody) Exchange(ctx context.Context, req exchange.Request) (exchange.Response, error) {
	takes := time.Duration(rand.IntN(600)) * time.Millisecond
	if rand.IntN(2) == 0 {
		select {
		case <-time.After(min(takes, req.Timeout)):
		case <-ctx.Done():
			return exchange.Response{}, ctx.Err()
		}
	} else {
		for left := min(takes, req.Timeout); left > 0; left -= 10 * time.Millisecond {
			if time.Sleep(10 * time.Millisecond); ctx.Err() != nil {
				return exchange.Response{}, ctx.Err()
			}
		}
	}
	if takes > req.Timeout || rand.IntN(10) == 0 {
		return exchange.Response{}, exchange.ErrTimeout
	}
	m := answerTo(req.Question)
	if rand.IntN(10) == 0 {
		m.Rcode, m.Answer = dns.RcodeRefused, nil
	}
	return exchange.Response{Msg: m, RTT: takes, Size: 60}, nil
}

// TestDesksAreNobodysButTheirOwners has many questions resolved at a time, with late
// servers, second ones, shared answers and clients who give up. Each has to get what
// is its own; the race detector sees who is at a desk that he has left.
func TestDesksAreNobodysButTheirOwners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := cache.NewMemory(cache.MemoryOptions{})
		r, err := New(Options{Exchanger: moody{}, Memory: m, NoPriming: true, NoIPv6: true})
		if err != nil {
			t.Fatal(err)
		}
		r.hedges.saved.Store(hedgeShare * hedgeBurst)
		cut := &rrset.Cut{Zone: wire.MustParseName("example.com."), Until: time.Now().Add(24 * time.Hour)}
		for i := range 5 {
			cut.Servers = append(cut.Servers, serverAt(i+1))
		}
		m.PutCut(cut)
		var wg sync.WaitGroup
		for g := range 40 {
			wg.Go(func() {
				for i := range 50 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(3000))*time.Millisecond)
					q := question(fmt.Sprintf("n%d-%d.example.com. A", g/2, i)) // two ask the same
					ans, err := r.Resolve(ctx, Query{Question: q})
					cancel()
					if err == nil && (len(ans.Records) != 1 || ans.Records[0].Name != q.Name || !hasAddress(ans.Records[0], addressOf(q.Name))) {
						t.Errorf("%v: %+v", q, ans)
					}
				}
			})
		}
		wg.Wait()
		if s := r.Stats(); s.Hedged == 0 || s.HedgesWon == 0 || s.Shared == 0 || s.Failures == 0 || s.Failures == s.Resolutions {
			t.Errorf("not much has happened: %+v", s)
		}
	})
}

// quick answers at once, and does not look at its context.
func quick(_ context.Context, req exchange.Request) (exchange.Response, error) {
	return exchange.Response{Msg: answerTo(req.Question), RTT: time.Millisecond, Size: 60}, nil
}

// slow is quick, later.
func slow(ctx context.Context, req exchange.Request) (exchange.Response, error) {
	time.Sleep(150 * time.Millisecond)
	return quick(ctx, req)
}

// answerTo is the address of q's name.
func answerTo(q wire.Question) *dns.Msg {
	m := new(dns.Msg).SetQuestion(q.Name.String(), uint16(q.Type))
	m.Response, m.Authoritative = true, true
	h := dns.RR_Header{Name: q.Name.String(), Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}
	m.Answer = []dns.RR{&dns.A{Hdr: h, A: net.IP(addressOf(q.Name).AsSlice())}}
	return m
}

func hasAddress(s rrset.Set, want netip.Addr) bool {
	a, ok := address(s.RRs[0])
	return ok && a == want
}

func TestDeskThatWasLeftIsEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, at := newScripted(t, &scripted{servers: map[netip.Addr]func(context.Context, exchange.Request) (exchange.Response, error){
			ip(1): quick, ip(2): quick,
		}})
		r.infra = infra.New(infra.Options{}) // no server is known to be slow: of such a one there is no pair
		w := r.work(Query{Question: question("www.example.com. A")})
		d := w.desk
		if err := w.enter(question("www.example.com. A")); err != nil {
			t.Fatal(err)
		}
		if rep, err := r.searchZone(t.Context(), question("www.example.com. A"), at, nil, w); err != nil || rep.Verdict != Positive {
			t.Fatal(rep, err)
		}
		s, p, a := d.search, d.pair, d.asked
		if s == nil || p == nil || a == nil {
			t.Fatal("not put back:", s, p, a)
		}
		r.leaveDesk(w)
		if w.limits != (Limits{}) || w.path != nil {
			t.Error("the account is good yet")
		}
		if len(s.tries) != 0 || s.cut != nil {
			t.Error("the search is good yet")
		}
		if p.s != nil || p.w != nil || p.ctx != nil || p.late.Stop() || a.rep != nil || d.found[0] != nil {
			t.Error("what was found out is held on to")
		}
	})
}

func TestSearchThatHadManyServersIsNotHeld(t *testing.T) {
	for _, tt := range []struct {
		servers int
		held    bool
	}{{mostTries, true}, {mostTries + 1, false}} {
		w := &work{desk: &desk{}}
		s := &search{tries: make([]try, tt.servers)}
		w.returnSearch(s)
		if held := w.desk.search == s; held != tt.held {
			t.Errorf("after %d servers it is held: %v", tt.servers, held)
		}
		if len(s.tries) != 0 && tt.held {
			t.Errorf("%d servers are left in it", len(s.tries))
		}
	}
}

// TestPairThatOthersHaveSeenIsNotUsedAgain: its timer may have gone off just now, or
// somebody may wait for its context.
func TestPairThatOthersHaveSeenIsNotUsedAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		first func(context.Context, exchange.Request) (exchange.Response, error)
		again bool
	}{
		"in time":              {quick, true},
		"late":                 {slow, false},
		"its context was had":  {server(50*time.Millisecond, dns.RcodeSuccess), false},
		"overtaken by another": {server(time.Hour, dns.RcodeSuccess), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, at := newScripted(t, &scripted{servers: map[netip.Addr]func(context.Context, exchange.Request) (exchange.Response, error){
					ip(1): tt.first, ip(2): quick,
				}})
				w := r.work(Query{Question: question("www.example.com. A")})
				found, _ := askFirst(t, r, at, w)
				if len(found) == 0 || !found[0].useful() {
					t.Fatal(found)
				}
				if again := w.desk.pair != nil; again != tt.again {
					t.Errorf("used again: %v", again)
				}
			})
		})
	}
}
