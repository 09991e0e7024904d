package frontend

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/cache"
	"shirube/cache/shared"
	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/resolver"
)

// fleet is a shared cache in memory, without sealing, servers and waiting.
type fleet struct {
	mu      sync.Mutex
	entries map[shared.Key]shared.Entry
	gets    int
	leases  map[shared.Key]time.Time
	claims  int
	mute    bool // says nothing of leases
}

func (m *fleet) Get(_ context.Context, k shared.Key) (shared.Entry, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gets++
	e, ok := m.entries[k]
	return e, ok
}

// Set implements [Shared]. Times lose what memcached does not hold.
func (m *fleet) Set(k shared.Key, e shared.Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.entries[k]; ok && e.Failed() {
		return
	}
	e.Stored, e.Deadline = e.Stored.Round(0).Truncate(time.Millisecond), e.Deadline.Round(0)
	e.Msg = append([]byte(nil), e.Msg...)
	m.entries[k] = e
}

// Claim implements [Shared].
func (m *fleet) Claim(_ context.Context, k shared.Key, _ time.Duration) shared.Claim {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.claims++
	if m.mute {
		return shared.Unheard
	}
	if at, ok := m.leases[k]; ok && time.Since(at) < leaseOfFleet {
		return shared.Anothers
	}
	if m.leases == nil {
		m.leases = make(map[shared.Key]time.Time)
	}
	m.leases[k] = time.Now()
	return shared.Ours
}

// Await implements [Shared].
func (m *fleet) Await(ctx context.Context, k shared.Key, patience time.Duration) (shared.Entry, bool) {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		time.Sleep(min(5*time.Millisecond, time.Until(end)))
		if e, ok := m.Get(ctx, k); ok && (e.Failed() || e.Fresh(time.Now())) {
			return e, true
		}
	}
	return shared.Entry{}, false
}

// leaseOfFleet is how long a lease lasts there.
const leaseOfFleet = 3 * time.Second

func (m *fleet) only(t *testing.T) shared.Entry {
	t.Helper()
	if len(m.entries) != 1 {
		t.Fatalf("%d entries: %v", len(m.entries), m.entries)
	}
	for _, e := range m.entries {
		return e
	}
	return shared.Entry{}
}

func newFleet() *fleet { return &fleet{entries: make(map[shared.Key]shared.Entry)} }

// sharingWith has a frontend share with m.
func sharingWith(m *fleet, change func(*Options)) func(*Options) {
	return func(o *Options) {
		o.Answers = cache.NewAnswers(cache.AnswersOptions{MaxStale: time.Hour, Prefetch: true})
		o.Sharing = Sharing{Cache: m, MaxStale: time.Hour}
		if change != nil {
			change(o)
		}
	}
}

// text returns a message as it reads, without what is another in each.
func text(m *dns.Msg) string {
	m.Id = 0
	return m.String()
}

var (
	withDO = func(m *dns.Msg) { m.IsEdns0().SetDo() }
	withAD = func(m *dns.Msg) { m.AuthenticatedData = true }
	withCD = func(m *dns.Msg) { m.CheckingDisabled = true }
)

// answers that one server may share, each to a question for www.example.com.
func sharedAnswers(t *testing.T) map[string]*resolver.Answer {
	unsigned := func(s rrset.Set) rrset.Set { s.Sigs = nil; return s }
	a := set(t, "www.example.com. 1 AAAA 2001:db8::1", 300*time.Second, rrset.Secure)
	second, err := dns.NewRR("www.example.com. 1 AAAA 2001:db8::2")
	if err != nil {
		t.Fatal(err)
	}
	a.RRs = append(a.RRs, second)
	soa := set(t, "example.com. 1 SOA ns host 1 2 3 4 5", 30*time.Second, rrset.Secure)
	return map[string]*resolver.Answer{
		"secure":   {Records: []rrset.Set{a}, Trust: rrset.Secure},
		"insecure": {Records: []rrset.Set{unsigned(a)}, Trust: rrset.Insecure},
		"alias": {Records: []rrset.Set{
			set(t, "example.com. 1 DNAME example.net.", 100*time.Second, rrset.Secure),
			unsigned(set(t, "www.example.com. 1 CNAME www.example.net.", 100*time.Second, rrset.Secure)),
			set(t, "www.example.net. 1 AAAA 2001:db8::1", 300*time.Second, rrset.Secure),
		}, Trust: rrset.Secure},
		"wildcard": {
			Records: []rrset.Set{a}, Trust: rrset.Secure,
			Denial: []rrset.Set{set(t, "a.example.com. 1 NSEC z.example.com. A", 300*time.Second, rrset.Secure)},
		},
		"no data": {Denial: []rrset.Set{soa, set(t, "www.example.com. 1 NSEC z.example.com. A", 30*time.Second, rrset.Secure)}, Trust: rrset.Secure},
		"no name": {Rcode: wire.NXDomain, Denial: []rrset.Set{
			soa, set(t, "a.example.com. 1 NSEC z.example.com. A", 30*time.Second, rrset.Secure),
			set(t, "example.com. 1 NSEC a.example.com. A", 30*time.Second, rrset.Secure),
		}, Trust: rrset.Secure},
		"noted": {Records: []rrset.Set{unsigned(a)}, Trust: rrset.Insecure, Note: &ede.Error{Code: ede.UnsupportedDNSKEYAlgorithm, Text: "why"}},
		"full": {
			Records: []rrset.Set{a}, Trust: rrset.Secure,
			Authority:  []rrset.Set{set(t, "example.com. 1 NS ns.example.com.", 200*time.Second, rrset.Secure)},
			Additional: []rrset.Set{set(t, "ns.example.com. 1 A 192.0.2.53", 200*time.Second, rrset.Secure)},
		},
	}
}

// What a server took from the shared cache it gives as the one that resolved it
// would, whoever asks for it in whatever form, at any later time.
func TestSharedAnswersAreAsGoodAsResolvedOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name := range sharedAnswers(t) {
			ans := sharedAnswers(t)[name] // which lives from now on
			m := newFleet()
			resolve := stub(func(context.Context, wire.Question) (*resolver.Answer, error) { return ans, nil })
			never := stub(func(context.Context, wire.Question) (*resolver.Answer, error) {
				t.Errorf("%s: resolved again", name)
				return nil, ede.Errorf(ede.Other, "no")
			})
			a, b := newFrontend(t, resolve, sharingWith(m, nil)), newFrontend(t, never, sharingWith(m, nil))
			ask := func(f *Frontend, change func(*dns.Msg)) string {
				return text(answer(t, f, query(t, "wWw.example.com.", dns.TypeAAAA, change)))
			}
			forms := map[string]func(*dns.Msg){"plain": nil, "DO": withDO, "AD": withAD}
			first := ask(a, nil)
			for form, change := range forms {
				if got, want := ask(b, change), ask(a, change); got != want {
					t.Errorf("%s, %s: got\n%s\nexpected\n%s", name, form, got, want)
				}
			}
			if strings.Contains(first, "RRSIG") {
				t.Errorf("%s: signatures for who did not ask for them", name)
			}
			if e := m.only(t); e.Trust != ans.Trust || e.Stale != time.Hour {
				t.Errorf("%s: %+v", name, e)
			}
			time.Sleep(7*time.Second + 400*time.Millisecond)
			c := newFrontend(t, never, sharingWith(m, nil))
			for form, change := range forms {
				if got, want := ask(c, change), ask(a, change); got != want {
					t.Errorf("%s, %s, later: got\n%s\nexpected\n%s", name, form, got, want)
				}
			}
			if s := b.Stats().Shared; s.Hits == 0 || s.Set != 0 {
				t.Errorf("%s: %+v", name, s)
			}
		}
	})
}

func TestWhatIsNotForAllIsNotShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := func() *resolver.Answer {
			return &resolver.Answer{Records: []rrset.Set{set(t, "www.example.com. 1 A 192.0.2.1", 300*time.Second, rrset.Secure)}, Trust: rrset.Secure}
		}
		with := func(f func(*resolver.Answer)) *resolver.Answer { a := good(); f(a); return a }
		tests := []struct {
			name   string
			ans    *resolver.Answer
			asked  string
			typ    uint16
			change func(*dns.Msg)
			shared bool
		}{
			{"good", good(), "www.example.com.", dns.TypeA, nil, true},
			{"with CD", good(), "www.example.com.", dns.TypeA, withCD, false},
			{"bogus", with(func(a *resolver.Answer) { a.Trust = rrset.Bogus }), "www.example.com.", dns.TypeA, nil, false},
			{"indeterminate", with(func(a *resolver.Answer) { a.Trust = rrset.Indeterminate }), "www.example.com.", dns.TypeA, nil, false},
			{"not to be kept", with(func(a *resolver.Answer) { a.NoCache = true }), "www.example.com.", dns.TypeA, nil, false},
			{"without life", with(func(a *resolver.Answer) { a.Records[0].Until = time.Now() }), "www.example.com.", dns.TypeA, nil, false},
			{"negative trust anchor", with(func(a *resolver.Answer) {
				a.Trust, a.Note = rrset.Insecure, &ede.Error{Code: ede.NegativeTrustAnchor}
			}), "www.example.com.", dns.TypeA, nil, false},
			{"an error of DNAME", with(func(a *resolver.Answer) { a.Rcode = wire.YXDomain }), "www.example.com.", dns.TypeA, nil, false},
			{"signatures", good(), "www.example.com.", dns.TypeRRSIG, nil, false},
			{"sentinel", good(), "root-key-sentinel-is-ta-20326.example.com.", dns.TypeA, nil, false},
			{"of another zone's servers", good(), "www.inside.example.", dns.TypeA, nil, false},
			{"an alias into another zone", with(func(a *resolver.Answer) {
				a.Records = []rrset.Set{
					set(t, "www.example.com. 1 CNAME www.inside.example.", 300*time.Second, rrset.Secure),
					set(t, "www.inside.example. 1 A 192.0.2.1", 300*time.Second, rrset.Secure),
				}
			}), "www.example.com.", dns.TypeA, nil, false},
			{"an alias into another zone that denies", with(func(a *resolver.Answer) {
				a.Records = a.Records[:0]
				a.Records = append(a.Records, set(t, "www.example.com. 1 CNAME www.inside.example.", 300*time.Second, rrset.Secure))
				a.Denial = []rrset.Set{set(t, "example. 1 SOA ns host 1 2 3 4 5", 30*time.Second, rrset.Secure)}
			}), "www.example.com.", dns.TypeA, nil, false},
			{"too large", with(func(a *resolver.Answer) {
				s := &a.Records[0]
				for range 300 {
					s.RRs = append(s.RRs, &dns.TXT{Hdr: dns.RR_Header{Name: "www.example.com.", Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{strings.Repeat("x", 100)}})
				}
			}), "www.example.com.", dns.TypeA, nil, false},
		}
		inside := wire.MustParseName("inside.example.")
		for _, tt := range tests {
			m := newFleet()
			f := newFrontend(t, func(context.Context, wire.Question) (*resolver.Answer, error) { return tt.ans, nil }, sharingWith(m, func(o *Options) {
				o.Sharing.Scope = func(n wire.Name) uint64 {
					if n.Within(inside) {
						return 7
					}
					return 3
				}
			}))
			answer(t, f, query(t, tt.asked, tt.typ, tt.change))
			if tt.name == "of another zone's servers" { // with its own key
				for k := range m.entries {
					if k.Scope != 7 {
						t.Errorf("%s: %+v", tt.name, k)
					}
				}
				continue
			}
			if (len(m.entries) > 0) != tt.shared {
				t.Errorf("%s: %v", tt.name, m.entries)
			}
		}
	})
}

func TestStaleSharedAnswerIsForWantOfABetterOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newFleet()
		ok := true
		resolve := stub(func(context.Context, wire.Question) (*resolver.Answer, error) {
			if !ok {
				return nil, ede.Errorf(ede.NoReachableAuthority, "nobody answers")
			}
			return &resolver.Answer{Records: []rrset.Set{set(t, "www.example.com. 1 A 192.0.2.1", 300*time.Second, rrset.Secure)}, Trust: rrset.Secure}, nil
		})
		a, b, c := newFrontend(t, resolve, sharingWith(m, nil)), newFrontend(t, resolve, sharingWith(m, nil)), newFrontend(t, resolve, sharingWith(m, nil))
		answer(t, a, query(t, "www.example.com.", dns.TypeA, nil))
		time.Sleep(10 * time.Minute)
		ok = false
		got := answer(t, b, query(t, "www.example.com.", dns.TypeA, nil))
		if got.Rcode != dns.RcodeSuccess || len(got.Answer) != 1 || got.Answer[0].Header().Ttl != 30 || !strings.Contains(got.String(), "Stale Answer") {
			t.Errorf("got\n%v", got)
		}
		if s := b.Stats().Shared; s.Stale != 1 || s.Hits != 0 {
			t.Errorf("%+v", s)
		}
		ok = true
		if got := answer(t, c, query(t, "www.example.com.", dns.TypeA, nil)); len(got.Answer) != 1 || got.Answer[0].Header().Ttl != 300 {
			t.Errorf("a stale answer, though there is a better one:\n%v", got)
		}
		time.Sleep(2 * time.Hour) // out of use everywhere
		ok = false
		d := newFrontend(t, resolve, sharingWith(m, nil))
		e := m.only(t)
		if got := answer(t, d, query(t, "www.example.com.", dns.TypeA, nil)); got.Rcode != dns.RcodeServerFailure && e.Fresh(time.Now()) {
			t.Errorf("got\n%v", got)
		}
	})
}

// A name that its parent has let go is not kept alive by servers that tell
// each other of it (ghost domains).
func TestSharedAnswersEndWithTheirDelegation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newFleet()
		begun := time.Now()
		ends := begun.Add(100 * time.Second)
		resolve := stub(func(context.Context, wire.Question) (*resolver.Answer, error) {
			return &resolver.Answer{Records: []rrset.Set{
				set(t, "www.example.com. 1 CNAME www.example.net.", 300*time.Second, rrset.Secure),
				set(t, "www.example.net. 1 A 192.0.2.1", 300*time.Second, rrset.Secure),
			}, Trust: rrset.Secure}, nil
		})
		delegated := func(o *Options) {
			o.Sharing.Delegated = func(n wire.Name) time.Time {
				if n == wire.MustParseName("www.example.net.") {
					return ends
				}
				return begun.Add(time.Hour)
			}
		}
		a := newFrontend(t, resolve, sharingWith(m, delegated))
		answer(t, a, query(t, "www.example.com.", dns.TypeA, nil))
		if e := m.only(t); !e.Deadline.Equal(ends) || e.Fresh(ends) {
			t.Errorf("%+v", e)
		}
		b := newFrontend(t, resolve, sharingWith(m, delegated))
		time.Sleep(40 * time.Second)
		for _, rr := range answer(t, b, query(t, "www.example.com.", dns.TypeA, nil)).Answer {
			if ttl := rr.Header().Ttl; ttl != 60 {
				t.Errorf("a TTL of %d; its delegation ends in 60 seconds", ttl)
			}
		}
		if s := b.Stats().Shared; s.Hits != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// A server whose clock is ahead, as far as that is borne, gives nobody a TTL that
// the zone did not give.
func TestClockThatIsAheadMakesNoTTLLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newFleet()
		resolve := stub(func(context.Context, wire.Question) (*resolver.Answer, error) {
			return &resolver.Answer{Records: []rrset.Set{set(t, "www.example.com. 1 A 192.0.2.1", 300*time.Second, rrset.Secure)}, Trust: rrset.Secure}, nil
		})
		answer(t, newFrontend(t, resolve, sharingWith(m, nil)), query(t, "www.example.com.", dns.TypeA, nil))
		for k, e := range m.entries {
			e.Stored = e.Stored.Add(2 * time.Second)
			m.entries[k] = e
		}
		b := newFrontend(t, resolve, sharingWith(m, nil))
		if ttl := answer(t, b, query(t, "www.example.com.", dns.TypeA, nil)).Answer[0].Header().Ttl; ttl != 300 || b.Stats().Shared.Hits != 1 {
			t.Errorf("a TTL of %d; the zone has 300: %+v", ttl, b.Stats().Shared)
		}
	})
}

// What a server finds by options that do not hold any more is told nobody.
func TestSupersededAnswersAreNotShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newFleet()
		var f *Frontend
		resolve := stub(func(context.Context, wire.Question) (*resolver.Answer, error) {
			f.current.Store(f.generation + 1) // as if another one began now
			return &resolver.Answer{Records: []rrset.Set{set(t, "www.example.com. 1 A 192.0.2.1", 300*time.Second, rrset.Secure)}, Trust: rrset.Secure}, nil
		})
		f = newFrontend(t, resolve, sharingWith(m, nil))
		if rsp := answer(t, f, query(t, "www.example.com.", dns.TypeA, nil)); len(rsp.Answer) != 1 || len(m.entries) != 0 {
			t.Errorf("%d entries are shared, and the client has\n%v", len(m.entries), rsp)
		}
	})
}

// An answer that is good is not given up because another server has failed to
// renew it.
func TestFailureOfAnotherDoesNotReplaceAGoodAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		f := newFrontend(t, nil, sharingWith(newFleet(), nil))
		e := shared.Entry{Stored: now, Life: 10 * time.Second, Note: &ede.Error{Code: ede.NoReachableAuthority}}
		q := wire.Question{Name: wire.MustParseName("www.example.com."), Type: wire.TypeA}
		for until, want := range map[time.Time]bool{{}: true, now.Add(20 * time.Second): false} {
			out := &outcome{f: f, k: flightKey{q: q}}
			if ok, stale := f.take(&e, out, until); ok != want || stale != nil || (out.err != nil) != want {
				t.Errorf("until %v: %v, %v, %v", until, ok, stale, out.err)
			}
		}
	})
}

func TestFailuresAreSharedByWhoIsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newFleet()
		asked := 0
		resolve := stub(func(_ context.Context, q wire.Question) (*resolver.Answer, error) {
			asked++
			switch {
			case strings.HasPrefix(string(q.Name[1:]), "good"):
				return &resolver.Answer{Records: []rrset.Set{set(t, q.Name.String()+" 1 A 192.0.2.1", 300*time.Second, rrset.Secure)}, Trust: rrset.Secure}, nil
			case strings.HasPrefix(string(q.Name[1:]), "bogus"):
				return nil, ede.Errorf(ede.Bogus, "the signature is wrong")
			}
			return nil, ede.Errorf(ede.NoReachableAuthority, "nobody answers")
		})
		ill, well, other := newFrontend(t, resolve, sharingWith(m, nil)), newFrontend(t, resolve, sharingWith(m, nil)), newFrontend(t, resolve, sharingWith(m, nil))
		answer(t, ill, query(t, "dead.example.com.", dns.TypeA, nil))
		if len(m.entries) > 0 {
			t.Errorf("a server that resolves nothing says that others cannot: %v", m.entries)
		}
		for i := range 5 {
			answer(t, well, query(t, fmt.Sprintf("good%d.example.com.", i), dns.TypeA, nil))
		}
		clear(m.entries)
		answer(t, well, query(t, "bogus.example.com.", dns.TypeA, nil))
		if len(m.entries) > 0 {
			t.Errorf("a verdict is shared: %v", m.entries)
		}
		answer(t, well, query(t, "dead.example.com.", dns.TypeA, nil))
		if e := m.only(t); !e.Failed() || e.Life != time.Second || e.Note.Code != ede.NoReachableAuthority {
			t.Errorf("%+v", e)
		}
		before := asked
		got := answer(t, other, query(t, "dead.example.com.", dns.TypeA, nil))
		if got.Rcode != dns.RcodeServerFailure || asked != before || !strings.Contains(got.String(), "nobody answers") {
			t.Errorf("asked %d times more; got\n%v", asked-before, got)
		}
		if s := other.Stats().Shared; s.Failures != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestFloodsOfDenialsAreNotShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newFleet()
		zone := "example.com."
		f := newFrontend(t, func(context.Context, wire.Question) (*resolver.Answer, error) {
			return &resolver.Answer{Rcode: wire.NXDomain, Trust: rrset.Secure, Denial: []rrset.Set{
				set(t, zone+" 1 SOA ns host 1 2 3 4 5", 30*time.Second, rrset.Secure),
			}}, nil
		}, sharingWith(m, nil))
		ask := func(from, to int) int {
			before := len(m.entries)
			for i := from; i < to; i++ {
				answer(t, f, query(t, fmt.Sprintf("%d.%s", i, zone), dns.TypeA, nil))
			}
			return len(m.entries) - before
		}
		if n := ask(0, 500); n != denialBurst {
			t.Errorf("%d of 500 at once", n)
		}
		time.Sleep(2 * time.Second)
		if n := ask(500, 1000); n != 2*denialRate {
			t.Errorf("%d of 500 two seconds later", n)
		}
		zone = "example.net."
		if n := ask(0, 10); n != 10 {
			t.Errorf("%d of 10 of another zone", n)
		}
		if s := f.Stats().Shared; s.Floods != 1000-denialBurst-2*denialRate {
			t.Errorf("%+v", s)
		}
	})
}

// What is renewed before it expires is taken from who has done so already, if
// that is better than what is there.
func TestRenewedAnswersAreTakenFromTheFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newFleet()
		resolved := 0
		resolve := stub(func(context.Context, wire.Question) (*resolver.Answer, error) {
			resolved++
			return &resolver.Answer{Records: []rrset.Set{set(t, "www.example.com. 1 A 192.0.2.1", 100*time.Second, rrset.Secure)}, Trust: rrset.Secure}, nil
		})
		a, b := newFrontend(t, resolve, sharingWith(m, nil)), newFrontend(t, resolve, sharingWith(m, nil))
		for _, f := range []*Frontend{a, b} {
			for range 3 {
				answer(t, f, query(t, "www.example.com.", dns.TypeA, nil))
			}
		}
		if resolved != 1 {
			t.Fatalf("resolved %d times", resolved)
		}
		time.Sleep(95 * time.Second)
		for _, f := range []*Frontend{a, b} {
			answer(t, f, query(t, "www.example.com.", dns.TypeA, nil)) // due: what the fleet has ends at the same time
			time.Sleep(maxSpread)
			synctest.Wait()
		}
		if resolved != 2 {
			t.Errorf("resolved %d times; expected once more for both", resolved)
		}
		if s := b.Stats(); s.Shared.Renewed != 1 || s.Refreshed != 1 {
			t.Errorf("%+v", s)
		}
		got := answer(t, b, query(t, "www.example.com.", dns.TypeA, nil))
		if len(got.Answer) != 1 || got.Answer[0].Header().Ttl < 98 {
			t.Errorf("got\n%v", got)
		}
	})
}

func TestSharedAnswersThatMakeNoSenseAreNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := &resolver.Answer{Records: []rrset.Set{set(t, "www.example.com. 1 A 192.0.2.1", 300*time.Second, rrset.Secure)}, Trust: rrset.Secure}
		pack := func(change func(*dns.Msg)) []byte {
			q := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA)
			q.Response = true
			q.Answer = []dns.RR{good.Records[0].RRs[0]}
			change(q)
			raw, err := q.Pack()
			if err != nil {
				t.Fatal(err)
			}
			return raw
		}
		for name, msg := range map[string][]byte{
			"cut off":       pack(func(*dns.Msg) {})[:40],
			"an OPT record": pack(func(m *dns.Msg) { m.SetEdns0(1232, true) }),
			"a lone RRSIG":  pack(func(m *dns.Msg) { m.Answer = []dns.RR{good.Records[0].Sigs[0]} }),
			"another class": pack(func(m *dns.Msg) { m.Answer[0].Header().Class = dns.ClassCHAOS }),
			"a query's type": pack(func(m *dns.Msg) {
				m.Ns = []dns.RR{&dns.ANY{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeANY, Class: 1}}}
			}),
		} {
			m := newFleet()
			good.Records[0].RRs[0].Header().Class = dns.ClassINET
			f := newFrontend(t, func(context.Context, wire.Question) (*resolver.Answer, error) { return good, nil }, sharingWith(m, nil))
			k := shared.Key{Question: wire.Question{Name: wire.MustParseName("www.example.com."), Type: wire.TypeA}}
			m.entries[k] = shared.Entry{Stored: time.Now(), Life: time.Minute, Trust: rrset.Secure, Msg: msg}
			if got := answer(t, f, query(t, "www.example.com.", dns.TypeA, nil)); len(got.Answer) != 1 || f.Stats().Shared.Hits != 0 {
				t.Errorf("%s: got\n%v", name, got)
			}
		}
	})
}
