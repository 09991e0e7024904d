package daemon

import (
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/ede"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

const staleAnswer, staleNXDomain = int(ede.StaleAnswer) + 1, int(ede.StaleNXDOMAIN) + 1 // as step.ede has them

// failing and silent make the servers of example.com. and other.net. fail;
// working mends them.
func failing(n *simnet.Net) { breakBoth(n, simnet.Rcode(wire.ServFail)) }
func silent(n *simnet.Net)  { breakBoth(n, simnet.Silent()) }
func working(n *simnet.Net) { breakBoth(n) }

func breakBoth(n *simnet.Net, faults ...simnet.Fault) {
	n.Break("192.0.2.11", faults...)
	n.Break("192.0.2.21", faults...)
}

// records returns what makes a world in which example.com. has records.
func records(zone string) func(n *simnet.Net) {
	return func(n *simnet.Net) {
		n.Serve("192.0.2.11", "example.com.", "example.com. 3600 SOA ns1.example.com. host.example.com. 1 1800 900 604800 60\n"+zone)
	}
}

// stale returns what changes the configuration of stale answers.
func stale(change func(*config.ServeStale)) func(*config.Config) {
	return func(cfg *config.Config) { change(&cfg.Cache.ServeStale) }
}

func TestScenariosStale(t *testing.T) { // www.example.com. AAAA has a TTL of 60 s
	www6 := []string{"www.example.com. AAAA 2001:db8::1"}
	fresh := step{ask: "www.example.com. AAAA", answer: www6, ttls: []int{60}, noEDE: true}
	play(t, []scenario{
		{name: "answers stale after the client's time", steps: []step{
			fresh,
			{after: 61 * time.Second, do: silent, ask: "www.example.com. AAAA", answer: www6, ttls: []int{30}, ede: staleAnswer, within: 1800 * time.Millisecond},
		}},
		{name: "answers stale at once when the resolution fails", steps: []step{
			fresh,
			{after: 61 * time.Second, do: failing, ask: "www.example.com. AAAA", answer: www6, ttls: []int{30}, ede: staleAnswer, within: 100 * time.Millisecond, sent: []string{"192.0.2.11 www.example.com. AAAA"}},
		}},
		{name: "answers anew when it can", steps: []step{
			fresh,
			{after: 61 * time.Second, ask: "www.example.com. AAAA", answer: www6, ttls: []int{60}, noEDE: true, most: 1},
		}},
		{name: "rests for half a minute after each failure", steps: []step{
			fresh,
			{after: 61 * time.Second, do: failing, ask: "www.example.com. AAAA", ede: staleAnswer, most: 1},
			{after: 29 * time.Second, ask: "www.example.com. AAAA", answer: www6, ttls: []int{30}, ede: staleAnswer, none: true, within: time.Nanosecond},
			{after: 2 * time.Second, ask: "www.example.com. AAAA", ede: staleAnswer, sent: []string{"192.0.2.11 www.example.com. AAAA"}},
			{after: 29 * time.Second, ask: "www.example.com. AAAA", ede: staleAnswer, none: true},
			{after: 2 * time.Second, ask: "www.example.com. AAAA", ede: staleAnswer, sent: []string{"192.0.2.11 www.example.com. AAAA"}},
			{after: 29 * time.Second, do: working, ask: "www.example.com. AAAA", ede: staleAnswer, none: true},
			{after: 2 * time.Second, ask: "www.example.com. AAAA", answer: www6, ttls: []int{60}, noEDE: true, most: 1},
			{after: 2 * time.Second, ask: "www.example.com. AAAA", ttls: []int{58}, noEDE: true, none: true},
		}},
		{name: "rests as long as it is told", cfg: stale(func(s *config.ServeStale) { s.Recheck = 5 * time.Second }), steps: []step{
			fresh,
			{after: 61 * time.Second, do: failing, ask: "www.example.com. AAAA", ede: staleAnswer, most: 1},
			{after: 4 * time.Second, ask: "www.example.com. AAAA", ede: staleAnswer, none: true},
			{after: 2 * time.Second, ask: "www.example.com. AAAA", ede: staleAnswer, sent: []string{"192.0.2.11 www.example.com. AAAA"}},
		}},
		{name: "keeps a stale answer for a day", steps: []step{
			fresh,
			{after: 86459 * time.Second, do: failing, ask: "www.example.com. AAAA", answer: www6, ede: staleAnswer},
			{after: 32 * time.Second, ask: "www.example.com. AAAA", rcode: wire.ServFail, noAns: true, ede: unreachable},
		}},
		{name: "keeps a stale answer as long as it is told", cfg: stale(func(s *config.ServeStale) { s.MaxAge = time.Minute }), steps: []step{
			fresh,
			{after: 119 * time.Second, do: failing, ask: "www.example.com. AAAA", answer: www6, ede: staleAnswer},
			{after: 2 * time.Second, ask: "www.example.com. AAAA", rcode: wire.ServFail, ede: unreachable},
		}},
		{name: "never answers stale if told not to", cfg: stale(func(s *config.ServeStale) { s.Enabled = false }), steps: []step{
			fresh,
			{after: 61 * time.Second, do: failing, ask: "www.example.com. AAAA", rcode: wire.ServFail, noAns: true, ede: unreachable},
		}},
		{name: "gives the stale answer the TTL it is told", cfg: stale(func(s *config.ServeStale) { s.ReplyTTL = 7 * time.Second }), steps: []step{
			fresh,
			{after: 61 * time.Second, do: failing, ask: "www.example.com. AAAA", ttls: []int{7}, ede: staleAnswer},
		}},
		{name: "gives a stale answer no more TTL than it came with", world: records("s.example.com. 12 A 198.51.100.1"), steps: []step{
			{ask: "s.example.com. A", ttls: []int{12}},
			{after: 13 * time.Second, do: failing, ask: "s.example.com. A", ttls: []int{12}, ede: staleAnswer},
		}},
		{name: "gives what has not expired of a chain what it has left", cfg: stale(func(s *config.ServeStale) { s.ReplyTTL = time.Hour }), steps: []step{
			{ask: "alias.example.com. A", ttls: []int{300, 600}},
			{after: 301 * time.Second, do: failing, ask: "alias.example.com. A", ttls: []int{300, 299}, ede: staleAnswer},
		}},
		{name: "says of a stale NXDOMAIN that it is one", steps: []step{
			{ask: "nx.example.com. A", rcode: wire.NXDomain},
			{after: 301 * time.Second, do: failing, ask: "nx.example.com. A", rcode: wire.NXDomain, noAns: true, soa: "example.com.", ede: staleNXDomain},
		}},
		{name: "says of a stale NODATA that it is stale", steps: []step{
			{ask: "www.example.com. TXT", noAns: true},
			{after: 301 * time.Second, do: failing, ask: "www.example.com. TXT", noAns: true, soa: "example.com.", ede: staleAnswer},
		}},
		{name: "answers stale without EDNS", steps: []step{
			fresh,
			{ask: "www.example.com. AAAA +noedns", ttls: []int{60}, none: true},
			{after: 61 * time.Second, do: failing, ask: "www.example.com. AAAA +noedns", answer: www6, ttls: []int{30}, noEDE: true},
		}},
	})
}

func TestScenariosNeverStale(t *testing.T) {
	play(t, []scenario{
		{name: "has nothing stale of TTL 0", world: records("z.example.com. 0 A 198.51.100.1"), steps: []step{
			{ask: "z.example.com. A", ttls: []int{0}},
			{after: time.Second, do: failing, ask: "z.example.com. A", rcode: wire.ServFail, ede: unreachable},
		}},
		{name: "forgets a stale answer for one of TTL 0", world: records("z.example.com. 20 A 198.51.100.1"), steps: []step{
			{ask: "z.example.com. A", ttls: []int{20}},
			{after: 21 * time.Second, do: records("z.example.com. 0 A 198.51.100.2"), ask: "z.example.com. A", ttls: []int{0}},
			{after: time.Second, do: failing, ask: "z.example.com. A", rcode: wire.ServFail, ede: unreachable},
		}},
		{name: "forgets a stale answer for a denial", steps: []step{ // RFC 8767 §4
			{ask: "www.example.com. AAAA", ttls: []int{60}},
			{after: 61 * time.Second, do: records(""), ask: "www.example.com. AAAA", rcode: wire.NXDomain, noEDE: true},
			{after: 61 * time.Second, do: failing, ask: "www.example.com. AAAA", rcode: wire.NXDomain, noAns: true, ede: staleNXDomain},
		}},
		{name: "forgets the form of a stale answer that nobody asked for", steps: []step{
			{ask: "www.example.com. AAAA", ttls: []int{60}},
			{ask: "www.example.com. AAAA +do", ttls: []int{60}, none: true},
			{after: 61 * time.Second, do: records("www.example.com. 60 AAAA 2001:db8::2"), ask: "www.example.com. AAAA", answer: []string{"www.example.com. AAAA 2001:db8::2"}},
			{after: 61 * time.Second, do: failing, ask: "www.example.com. AAAA +do", answer: []string{"www.example.com. AAAA 2001:db8::2"}, ede: staleAnswer},
		}},
		{name: "has no stale failure", world: failing, steps: []step{
			{ask: "www.example.com. AAAA", rcode: wire.ServFail, ede: unreachable},
			{after: time.Hour, ask: "www.example.com. AAAA", rcode: wire.ServFail, ede: unreachable, most: 1},
		}},
		{name: "does not answer CD with what was not asked with CD", steps: []step{
			{ask: "www.example.com. AAAA", ttls: []int{60}},
			{after: 61 * time.Second, do: failing, ask: "www.example.com. AAAA +cd", rcode: wire.ServFail, ede: unreachable},
			{ask: "www.example.com. AAAA", ttls: []int{30}, ede: staleAnswer},
		}},
		{name: "shows nothing stale to who does not ask for recursion", cfg: func(cfg *config.Config) {
			cfg.AccessControl[0].Action = config.ActionAllowSnoop
		}, steps: []step{ // RFC 8767 §5
			{ask: "www.example.com. AAAA", ttls: []int{60}},
			{ask: "www.example.com. AAAA +nord", ttls: []int{60}, none: true},
			{after: 61 * time.Second, ask: "www.example.com. AAAA +nord", rcode: wire.Refused, noAns: true, none: true},
		}},
	})
}

func TestScenariosStaleAtOnce(t *testing.T) {
	play(t, []scenario{
		{name: "answers stale at once and looks for better", cfg: stale(func(s *config.ServeStale) { s.ClientTimeout = 0 }), steps: []step{
			{ask: "www.example.com. AAAA", ttls: []int{60}},
			{
				after: 61 * time.Second, ask: "www.example.com. AAAA", ttls: []int{30}, ede: staleAnswer, within: time.Nanosecond,
				settle: time.Second, sent: []string{"192.0.2.11 www.example.com. AAAA"},
			},
			{ask: "www.example.com. AAAA", ttls: []int{60}, noEDE: true, none: true},
		}},
		{name: "goes on looking after the client's time", cfg: stale(func(s *config.ServeStale) { s.ClientTimeout = 100 * time.Millisecond }), steps: []step{
			{ask: "www.example.com. AAAA", ttls: []int{60}},
			{
				after: 61 * time.Second, do: func(n *simnet.Net) { n.SetRTT("192.0.2.11", 300*time.Millisecond) },
				ask: "www.example.com. AAAA", ttls: []int{30}, ede: staleAnswer, within: 100 * time.Millisecond, settle: time.Second,
			},
			{ask: "www.example.com. AAAA", noEDE: true, none: true},
		}},
	})
}

func TestStaleAnswersComeAtTheClientsTimeAndNotBefore(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		ask(t, p, "www.example.com. AAAA")
		time.Sleep(61 * time.Second)
		silent(n)
		begun := time.Now()
		var wg sync.WaitGroup
		for i := range 3 { // each has its own time, whoever started the search
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 100 * time.Millisecond)
				asked := time.Now()
				if m := ask(t, p, "www.example.com. AAAA"); len(m.Answer) != 1 {
					t.Errorf("got %v", m)
				} else if took := time.Since(asked); took != 1800*time.Millisecond && time.Since(begun) < 2*time.Second {
					t.Errorf("client %d was answered after %v", i, took)
				}
			})
		}
		wg.Wait()
		s := p.Frontend.Stats()
		if s.StaleLate+s.StaleFailed != 3 || s.StaleLate == 0 || s.Failures != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestStaleAnswersGoToThoseTurnedAway(t *testing.T) {
	inBubble(t, func(cfg *config.Config, _ *simnet.Net) { cfg.Limits.Waiters = 2 }, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		ask(t, p, "www.example.com. AAAA")
		time.Sleep(61 * time.Second)
		silent(n)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if m := ask(t, p, "www.example.com. AAAA"); m.Rcode != dns.RcodeSuccess || m.Answer[0].Header().Ttl != 30 {
					t.Errorf("got %v", m)
				}
			})
		}
		wg.Wait()
		if s := p.Frontend.Stats(); s.StaleBusy != 8 || s.StaleLate != 2 || s.ShedWaiters != 8 {
			t.Errorf("busy %d, late %d, turned away %d; want 8, 2, 8", s.StaleBusy, s.StaleLate, s.ShedWaiters)
		}
		if m := ask(t, p, "www.example.com. AAAA"); len(m.Answer) != 1 { // the places of those who left are free
			t.Errorf("got %v", m)
		}
		if s := p.Frontend.Stats(); s.StaleBusy != 8 {
			t.Errorf("one more was turned away")
		}
	})
}

func TestStaleAnswersAreCountedByCause(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		ask(t, p, "www.example.com. AAAA")
		time.Sleep(61 * time.Second)
		failing(n)
		for range 5 {
			ask(t, p, "www.example.com. AAAA")
		}
		s := p.Frontend.Stats()
		if s.StaleFailed != 1 || s.StaleFailing != 4 || s.StaleLate+s.StaleBusy != 0 || s.Failures != 0 || s.Resolved != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// Who gets no slot of the transport's gets what there is nevertheless.
func TestStaleAnswersGoToThoseWithoutASlot(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		ask(t, p, "www.example.com. AAAA")
		time.Sleep(61 * time.Second)
		n.ResetLog()
		for name, want := range map[string]step{
			"www.example.com. AAAA":  {rcode: wire.NoError, ttls: []int{30}, ede: staleAnswer},
			"none.example.com. AAAA": {rcode: wire.ServFail, noAns: true, ede: other},
		} {
			raw, q := parseAsk(t, name)
			if status := q.Parse(raw); status != wire.OK {
				t.Fatal(status)
			}
			prefix := []byte{1, 2}
			out := p.Frontend.Shed(prefix, q, "server busy")
			m := new(dns.Msg)
			if err := m.Unpack(out[2:]); err != nil || out[0] != 1 || out[1] != 2 {
				t.Fatalf("%x: %v", out, err)
			}
			checkResponse(m, want, t.Errorf)
		}
		if s := p.Frontend.Stats(); s.StaleBusy != 1 || len(n.Log()) != 0 {
			t.Errorf("%+v, sent %v", s, n.Log())
		}
	})
}
