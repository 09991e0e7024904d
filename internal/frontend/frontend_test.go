package frontend

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/cache"
	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/policy"
	"shirube/resolver"
	"shirube/transport"
)

// stub is a resolver that does as it is told.
type stub func(ctx context.Context, q wire.Question) (*resolver.Answer, error)

func (s stub) Resolve(ctx context.Context, q resolver.Query) (*resolver.Answer, error) {
	return s(ctx, q.Question)
}

func (stub) Refuses(resolver.Query) *ede.Error { return nil }

// newFrontend returns a frontend that allows everybody and asks s.
func newFrontend(t testing.TB, s stub, change func(*Options)) *Frontend {
	t.Helper()
	everybody, err := policy.New(policy.Options{Rules: []policy.Rule{{Prefix: netip.MustParsePrefix("127.0.0.0/8"), Action: policy.Allow}}})
	if err != nil {
		t.Fatal(err)
	}
	opt := Options{Policy: everybody, Answers: cache.NewAnswers(cache.AnswersOptions{}), Resolver: s}
	if change != nil {
		change(&opt)
	}
	f, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// query returns the query for name and typ as a client on this machine sends
// it; change may edit it.
func query(t testing.TB, name string, typ uint16, change func(*dns.Msg)) *wire.Query {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name, typ)
	m.SetEdns0(1232, false)
	if change != nil {
		change(m)
	}
	raw, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	q := &wire.Query{Client: netip.MustParseAddrPort("127.0.0.1:1234"), Received: time.Now(), Limit: wire.MaxMsgSize}
	if status := q.Parse(raw); status != wire.OK {
		t.Fatal("the query does not parse:", status)
	}
	return q
}

// answer asks f as a transport does.
func answer(t *testing.T, f *Frontend, q *wire.Query) *dns.Msg {
	t.Helper()
	prefix := []byte{1, 2} // as a stream transport's length: it must stay
	out, outcome := f.TryServe(prefix, q)
	if outcome == transport.Deferred {
		out = f.Serve(t.Context(), prefix, q)
	}
	if len(out) < 2 || out[0] != 1 || out[1] != 2 {
		t.Fatalf("what was in the buffer is gone: %x", out)
	}
	m := new(dns.Msg)
	if err := m.Unpack(out[2:]); err != nil {
		t.Fatal(err)
	}
	return m
}

// set is an RRset of one record with a signature.
func set(t testing.TB, text string, ttl time.Duration, trust rrset.Trust) rrset.Set {
	t.Helper()
	rr, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	h := rr.Header()
	sig, err := dns.NewRR(h.Name + " 9 RRSIG " + dns.TypeToString[h.Rrtype] + " 13 2 9 20300101000000 20200101000000 1 example.com. AAAA")
	if err != nil {
		t.Fatal(err)
	}
	return rrset.Set{
		Name: wire.MustParseName(h.Name), Type: wire.Type(h.Rrtype), RRs: []dns.RR{rr}, Sigs: []*dns.RRSIG{sig.(*dns.RRSIG)},
		Rank: rrset.AuthAnswer, Trust: trust, Until: time.Now().Add(ttl),
	}
}

func TestServePacksForTheClient(t *testing.T) {
	positive := func(trust rrset.Trust) stub {
		return func(context.Context, wire.Question) (*resolver.Answer, error) {
			return &resolver.Answer{
				Records: []rrset.Set{set(t, "a.example.com. 1 CNAME b.example.com.", 300*time.Second, trust), set(t, "b.example.com. 1 A 192.0.2.1", 60*time.Second, trust)},
				Trust:   trust,
			}, nil
		}
	}
	negative := stub(func(context.Context, wire.Question) (*resolver.Answer, error) {
		return &resolver.Answer{Rcode: wire.NXDomain, Denial: []rrset.Set{
			set(t, "example.com. 1 SOA ns host 1 2 3 4 5", 30*time.Second, rrset.Secure),
			set(t, "example.com. 1 NSEC z.example.com. A", 30*time.Second, rrset.Secure),
		}, Trust: rrset.Secure}, nil
	})
	do := func(m *dns.Msg) { m.IsEdns0().SetDo() }
	ad := func(m *dns.Msg) { m.AuthenticatedData = true }
	for _, tt := range []struct {
		name       string
		s          stub
		change     func(*dns.Msg)
		rcode      int
		answer, ns int
		ad         bool
		ttl        uint32 // of the first record
	}{
		{name: "without DO there are no signatures", s: positive(rrset.Secure), answer: 2, ttl: 300},
		{name: "with DO there are", s: positive(rrset.Secure), change: do, answer: 4, ad: true, ttl: 300},
		{name: "AD is for who asks for it", s: positive(rrset.Secure), change: ad, answer: 2, ad: true, ttl: 300},
		{name: "AD is for secure data", s: positive(rrset.Insecure), change: do, answer: 4, ttl: 300},
		{name: "AD is not for unchecked data", s: positive(rrset.Unchecked), change: do, answer: 4, ttl: 300},
		{name: "a denial has its SOA record", s: negative, rcode: dns.RcodeNameError, ns: 1, ttl: 30},
		{name: "a denial has its proof with DO", s: negative, change: do, rcode: dns.RcodeNameError, ns: 4, ad: true, ttl: 30},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFrontend(t, tt.s, nil)
			for _, round := range []string{"resolved", "from memory"} {
				m := answer(t, f, query(t, "A.example.com.", dns.TypeA, tt.change))
				if m.Rcode != tt.rcode || len(m.Answer) != tt.answer || len(m.Ns) != tt.ns || m.AuthenticatedData != tt.ad {
					t.Errorf("%s: got %v", round, m)
				}
				if rrs := append(m.Answer, m.Ns...); rrs[0].Header().Ttl != tt.ttl {
					t.Errorf("%s: TTL %d, want %d", round, rrs[0].Header().Ttl, tt.ttl)
				}
				if m.Question[0].Name != "A.example.com." || tt.answer > 0 && m.Answer[0].Header().Name != "A.example.com." {
					t.Errorf("%s: the client's spelling is gone: %v", round, m)
				}
				if !m.RecursionAvailable || m.Authoritative || !m.Response || m.IsEdns0() == nil || m.IsEdns0().UDPSize() != 1232 {
					t.Errorf("%s: flags or OPT: %v", round, m)
				}
			}
			if s := f.Stats(); s.Hits != 1 || s.Misses != 1 || s.Resolved != 1 {
				t.Errorf("hits %d, misses %d, resolved %d; want 1 each", s.Hits, s.Misses, s.Resolved)
			}
		})
	}
}

func TestServeSaysWhatFailed(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		code uint16
		text string
	}{
		{"an Extended DNS Error", ede.Errorf(ede.NoReachableAuthority, "nobody there"), dns.ExtendedErrorCodeNoReachableAuthority, "nobody there"},
		{"one that is wrapped", errors.Join(ede.Errorf(ede.NetworkError, "no way")), dns.ExtendedErrorCodeNetworkError, "no way"},
		{"any other error", errors.New("secret"), dns.ExtendedErrorCodeOther, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFrontend(t, func(context.Context, wire.Question) (*resolver.Answer, error) { return nil, tt.err }, nil)
			for _, round := range []string{"resolved", "from memory"} {
				m := answer(t, f, query(t, "x.example.com.", dns.TypeA, nil))
				if m.Rcode != dns.RcodeServerFailure {
					t.Fatalf("%s: %v", round, m)
				}
				opt := m.IsEdns0()
				if len(opt.Option) != 1 {
					t.Fatalf("%s: no Extended DNS Error: %v", round, m)
				}
				if e := opt.Option[0].(*dns.EDNS0_EDE); e.InfoCode != tt.code || e.ExtraText != tt.text {
					t.Errorf("%s: %v, want %d %q", round, e, tt.code, tt.text)
				}
			}
		})
	}
}

func TestServeSurvivesAPanic(t *testing.T) {
	f := newFrontend(t, func(context.Context, wire.Question) (*resolver.Answer, error) { panic("boom") }, nil)
	m := answer(t, f, query(t, "x.example.com.", dns.TypeA, nil))
	if m.Rcode != dns.RcodeServerFailure || f.Stats().Panics != 1 || f.Stats().Flights != 0 {
		t.Errorf("got %v, stats %+v", m, f.Stats())
	}
}

func TestServeSaysThatAnAnswerCannotBePacked(t *testing.T) {
	f := newFrontend(t, func(context.Context, wire.Question) (*resolver.Answer, error) {
		s := set(t, "x.example.com. 1 TXT x", time.Minute, rrset.Unchecked)
		s.RRs[0].(*dns.TXT).Txt = []string{string(make([]byte, 300))} // more than a length octet can say
		return &resolver.Answer{Records: []rrset.Set{s}}, nil
	}, nil)
	m := answer(t, f, query(t, "x.example.com.", dns.TypeTXT, nil))
	if m.Rcode != dns.RcodeServerFailure || len(m.IsEdns0().Option) != 1 {
		t.Errorf("got %v", m)
	}
}

func TestServeEndsWithItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFrontend(t, func(ctx context.Context, _ wire.Question) (*resolver.Answer, error) {
			<-ctx.Done()
			return nil, ede.Wrap(ctx.Err(), ede.NoReachableAuthority, "out of time")
		}, func(o *Options) { o.Timeout = 2 * time.Second })
		begun := time.Now()
		if m := answer(t, f, query(t, "x.example.com.", dns.TypeA, nil)); m.Rcode != dns.RcodeServerFailure {
			t.Errorf("got %v", m)
		}
		if took := time.Since(begun); took != 2*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// do joins the flight for k and waits for it.
func do(ctx context.Context, f *flights[int, int], b bounds, k int, work func(context.Context) int) (int, error) {
	fl, err := f.join(k, 0, b, work)
	if err != nil {
		return 0, err
	}
	return f.wait(ctx, fl, nil)
}

func TestFlightsAreIndependent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := flights[int, int]{server: t.Context()}, bounds{most: 100, waiters: 100}
		work := func(k int) func(context.Context) int {
			return func(context.Context) int { time.Sleep(time.Duration(k) * time.Second); return 10 * k }
		}
		var wg sync.WaitGroup
		for k := range 10 {
			for range 5 {
				wg.Go(func() {
					begun := time.Now()
					if v, err := do(t.Context(), &f, b, k, work(k)); v != 10*k || err != nil || time.Since(begun) != time.Duration(k)*time.Second {
						t.Errorf("%d: %d, %v after %v", k, v, err, time.Since(begun))
					}
				})
			}
		}
		wg.Wait()
		f.wg.Wait()
		if s := f.stats(); s.underWay != 0 || s.shedFlights+s.shedWaiters != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestFlightsForgetACallerWhoGaveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := flights[int, int]{server: t.Context()}, bounds{most: 1, waiters: 1}
		slow := func(context.Context) int { time.Sleep(time.Minute); return 1 }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := do(ctx, &f, b, 0, slow); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		// The place of the first caller is free again; the flight is the same.
		begun := time.Now()
		if v, err := do(t.Context(), &f, b, 0, slow); v != 1 || err != nil || time.Since(begun) != 59*time.Second {
			t.Errorf("%d, %v after %v", v, err, time.Since(begun))
		}
	})
}

func TestNewNeedsItsParts(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("no error without parts")
	}
}

// Who hangs up has started a flight nevertheless.
func TestFlightsOfOneNetworkAreBounded(t *testing.T) {
	const flood, other = 1, 2
	synctest.Test(t, func(t *testing.T) {
		f, b := flights[int, int]{server: t.Context()}, bounds{most: 10, share: 2, waiters: 100}
		slow := func(context.Context) int { time.Sleep(time.Second); return 1 }
		for k := range 2 {
			fl, err := f.join(k, flood, b, slow)
			if err != nil {
				t.Fatal(err)
			}
			f.leave(fl)
		}
		if _, err := f.join(2, flood, b, slow); !errors.Is(err, errNetwork) {
			t.Error("a third one:", err)
		}
		if _, err := f.join(1, flood, b, slow); err != nil {
			t.Error("one that is under way:", err)
		}
		for k, network := range map[int]wire.Network{3: other, 4: 0, 5: 0, 6: 0} { // 0: this server's own
			if _, err := f.join(k, network, b, slow); err != nil {
				t.Error("another network's:", err)
			}
		}
		if s := f.stats(); s.underWay != 6 || s.networks != 2 || s.shedNetwork != 1 || s.shedFlights != 0 {
			t.Errorf("%+v", s)
		}
		f.wg.Wait()
		if s := f.stats(); s.underWay != 0 || s.networks != 0 {
			t.Errorf("%+v", s)
		}
		if _, err := f.join(2, flood, b, slow); err != nil {
			t.Error("when they have ended:", err)
		}
		f.wg.Wait()
	})
}
