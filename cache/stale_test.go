package cache

import (
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/ede"
	"shirube/internal/wire"
)

// staleCache remembers answers for a minute beyond their time.
func staleCache() *Answers { return NewAnswers(AnswersOptions{MaxStale: time.Minute}) }

// askStale returns the stale answer to q, or nil.
func askStale(t *testing.T, c *Answers, q *wire.Query, now time.Time) (*dns.Msg, Hit) {
	t.Helper()
	buf, hit := c.Stale([]byte("before"), q, now)
	if string(buf[:6]) != "before" || !hit.Found && len(buf) != 6 {
		t.Fatalf("Stale left %q in the buffer", buf)
	}
	if found, _ := c.HoldsStale(q, now); found != hit.Found {
		t.Errorf("HoldsStale says %v, Stale %v", found, hit.Found)
	}
	if !hit.Found {
		return nil, hit
	}
	return unpack(t, buf[6:]), hit
}

func TestStaleAnswersAreForThoseWhoAskForThem(t *testing.T) {
	c := staleCache()
	c.Put(question("www.example.", wire.TypeA), false, false, hosts(t, "www.example.", epoch, "www.example. 300 IN CNAME a.example.", "a.example. 20 IN A 192.0.2.1"))
	q := query(t, "wWw.example.", wire.TypeA, withID(7), withEDNS(1232))
	for _, tt := range []struct {
		at          float64
		live, stale bool
	}{
		{0, true, false}, {19.9, true, false}, {20, false, true}, {79.9, false, true}, {80, false, false}, {1000, false, false},
	} {
		if m, _ := ask(t, c, q, after(tt.at)); (m != nil) != tt.live {
			t.Errorf("after %v s: Append found %v, want %v", tt.at, m != nil, tt.live)
		}
		m, hit := askStale(t, c, q, after(tt.at))
		if (m != nil) != tt.stale {
			t.Errorf("after %v s: Stale found %v, want %v", tt.at, m != nil, tt.stale)
		}
		if m == nil {
			continue
		}
		if m.Id != 7 || m.Question[0].Name != "wWw.example." || hit.EDE.Code != ede.StaleAnswer {
			t.Errorf("after %v s: EDE %d, %v", tt.at, hit.EDE.Code, m)
		}
		// The alias is capped, the address has no more than it came with.
		if got := [2]uint32{m.Answer[0].Header().Ttl, m.Answer[1].Header().Ttl}; got != [2]uint32{30, 20} {
			t.Errorf("after %v s: TTLs %v, want 30 and 20", tt.at, got)
		}
	}
}

func TestStaleAnswersKeepWhatIsLeftOfTheirLiveRecords(t *testing.T) {
	c := NewAnswers(AnswersOptions{MaxStale: time.Hour, StaleTTL: time.Hour})
	c.Put(question("www.example.", wire.TypeA), false, false, hosts(t, "www.example.", epoch, "www.example. 300 IN CNAME a.example.", "a.example. 20 IN A 192.0.2.1"))
	m, _ := askStale(t, c, query(t, "www.example.", wire.TypeA), after(100))
	if m == nil || m.Answer[0].Header().Ttl != 200 || m.Answer[1].Header().Ttl != 20 {
		t.Errorf("got %v, want TTLs 200 and 20", m)
	}
}

func TestStaleAnswersStayAuthenticAndSaySoAboutNames(t *testing.T) { // RFC 8914 §4.20
	c := staleCache()
	q := question("nx.example.", wire.TypeA)
	m := response(q)
	m.Rcode, m.AuthenticatedData, m.Ns = dns.RcodeNameError, true, rrs(t, "example. 60 IN SOA ns.example. root.example. 1 2 3 4 60")
	c.Put(q, true, false, answerOf(t, m, epoch))
	got, hit := askStale(t, c, query(t, "nx.example.", wire.TypeA, withDO), after(61))
	if got == nil || got.Rcode != dns.RcodeNameError || !got.AuthenticatedData || hit.EDE.Code != ede.StaleNXDOMAIN || got.Ns[0].Header().Ttl != 30 {
		t.Errorf("EDE %v, %v", hit.EDE, got)
	}
}

func TestStaleAnswersAreCutOffLikeOthers(t *testing.T) {
	c := staleCache()
	c.Put(question("big.example.", wire.TypeTXT), false, false, answerOf(t, response(question("big.example.", wire.TypeTXT),
		rrs(t, "big.example. 5 IN TXT "+strings.Repeat(`"`+strings.Repeat("x", 200)+`" `, 3))...), epoch))
	m, _ := askStale(t, c, query(t, "big.example.", wire.TypeTXT), after(6))
	if m == nil || !m.Truncated || len(m.Answer) != 0 {
		t.Errorf("got %v, want TC", m)
	}
}

func TestStaleAnswersAreKeptByDOAndCD(t *testing.T) {
	c := staleCache()
	c.Put(question("www.example.", wire.TypeA), false, false, hosts(t, "www.example.", epoch, "www.example. 5 IN A 192.0.2.1"))
	for _, o := range []option{withDO, withCD} {
		if m, _ := askStale(t, c, query(t, "www.example.", wire.TypeA, o), after(6)); m != nil {
			t.Errorf("another's answer: %v", m)
		}
	}
	if m, _ := askStale(t, NewAnswers(AnswersOptions{}), query(t, "www.example.", wire.TypeA), after(6)); m != nil {
		t.Errorf("switched off: %v", m)
	}
}

func TestFailureLeavesAStaleAnswerAlone(t *testing.T) {
	c := staleCache()
	question := question("www.example.", wire.TypeA)
	c.Put(question, false, false, hosts(t, "www.example.", epoch, "www.example. 5 IN A 192.0.2.1"))
	q := query(t, "www.example.", wire.TypeA)
	if _, failing := c.HoldsStale(q, after(6)); failing {
		t.Error("failing before any failure")
	}
	for i := range 8 { // long enough for a failure without a stale answer to last for minutes
		at := 6 + 6*float64(i)
		c.Fail(question, false, ede.Errorf(ede.NetworkError, "unreachable"), after(at))
		if m, _ := ask(t, c, q, after(at+0.5)); m != nil {
			t.Errorf("after %v s: the failure hides the stale answer: %v", at, m)
		}
		if found, failing := c.HoldsStale(q, after(at+0.5)); !found || !failing {
			t.Errorf("after %v s: found %v, failing %v", at, found, failing)
		}
		if m, _ := ask(t, c, query(t, "www.example.", wire.TypeA, withoutRD), after(at+0.5)); m == nil || m.Rcode != dns.RcodeServerFailure {
			t.Errorf("without RD: %v, want the failure", m)
		}
	}
}

func TestRecheckDoesNotGrow(t *testing.T) { // RFC 8767 §5
	c := NewAnswers(AnswersOptions{MaxStale: 24 * time.Hour, Recheck: 10 * time.Second})
	question := question("www.example.", wire.TypeA)
	c.Put(question, false, false, hosts(t, "www.example.", epoch, "www.example. 5 IN A 192.0.2.1"))
	q := query(t, "www.example.", wire.TypeA)
	for i := range 20 {
		at := 6 + 10*float64(i)
		if _, failing := c.HoldsStale(q, after(at)); failing {
			t.Fatalf("after %v s: it may not be tried again", at)
		}
		c.Fail(question, false, nil, after(at))
		if _, failing := c.HoldsStale(q, after(at+9.9)); !failing {
			t.Fatalf("after %v s: it may be tried again", at+9.9)
		}
	}
}

func TestNewAnswerEndsTheStaleOne(t *testing.T) { // RFC 8767 §4
	q := question("www.example.", wire.TypeA)
	for _, tt := range []struct {
		what string
		a    *Answer
	}{
		{"of TTL 0", hosts(t, "www.example.", after(6), "www.example. 0 IN A 192.0.2.2")},
		{"that is too long", blob(t, "www.example.", MaxAnswer+100, after(6))},
		{"without a record", answerOf(t, response(q), after(6))},
	} {
		c := staleCache()
		c.Put(q, false, false, hosts(t, "www.example.", epoch, "www.example. 5 IN A 192.0.2.1"))
		c.Put(q, false, false, tt.a)
		_, there := c.Expires(q, false, false)
		if m, _ := askStale(t, c, query(t, "www.example.", wire.TypeA), after(7)); m != nil || there {
			t.Errorf("%s: %v", tt.what, m)
		}
	}
	c := staleCache()
	c.Put(q, false, false, hosts(t, "www.example.", after(10), "www.example. 5 IN A 192.0.2.1"))
	c.Put(q, false, false, hosts(t, "www.example.", epoch, "www.example. 0 IN A 192.0.2.2")) // came late
	if at, there := c.Expires(q, false, false); !there || !at.Equal(after(15)) {
		t.Errorf("an older answer ended a newer one: %v, expires %v", there, at)
	}
}
