package cache

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/ede"
	"shirube/internal/wire"
)

func TestAnswersGiveBackWhatWasPut(t *testing.T) {
	c := NewAnswers(AnswersOptions{})
	q := question("www.example.", wire.TypeA)
	if m, _ := ask(t, c, query(t, "www.example.", wire.TypeA), epoch); m != nil {
		t.Fatalf("an empty cache answers %v", m)
	}
	c.Put(q, false, false, hosts(t, "www.example.", epoch, "www.example. 300 IN A 192.0.2.1"))
	m, _ := ask(t, c, query(t, "WwW.Example.", wire.TypeA, withID(99)), after(100))
	if m == nil || m.Id != 99 || m.Question[0].Name != "WwW.Example." || len(m.Answer) != 1 {
		t.Fatalf("the answer is %v", m)
	}
	if got := m.Answer[0].String(); got != "WwW.Example.\t200\tIN\tA\t192.0.2.1" {
		t.Errorf("the record is %s", got)
	}
	if m, _ = ask(t, c, query(t, "www.example.", wire.TypeA), after(299.999)); m == nil {
		t.Error("gone before its time")
	}
	if m, _ = ask(t, c, query(t, "www.example.", wire.TypeA), after(300)); m != nil {
		t.Error("still there when its time is over")
	}
}

func TestAnswersCountAHitFromTheQueryOnEvenIfItCameFirst(t *testing.T) {
	c := NewAnswers(AnswersOptions{})
	c.Put(question("www.example.", wire.TypeA), false, false, hosts(t, "www.example.", epoch, "www.example. 30 IN A 192.0.2.1"))
	for _, seconds := range []float64{-0.001, -1, -10} {
		m, _ := ask(t, c, query(t, "www.example.", wire.TypeA), after(seconds))
		if m == nil || m.Answer[0].Header().Ttl != 30 {
			t.Errorf("%v s before it was stored the answer is %v", -seconds, m)
		}
	}
}

func TestAnswersKeepDOAndCDApart(t *testing.T) { // RFC 4035 §3.2.1, §3.2.2
	c := NewAnswers(AnswersOptions{})
	q := question("www.example.", wire.TypeA)
	type form struct{ do, cd bool }
	forms := map[form][]option{{}: nil, {do: true}: {withDO}, {cd: true}: {withCD}, {true, true}: {withDO, withCD}}
	stored := map[form]string{}
	for f, opts := range forms {
		if m, _ := ask(t, c, query(t, "www.example.", wire.TypeA, opts...), epoch); m != nil {
			t.Fatalf("%+v finds the answer of another: %v", f, m)
		}
		stored[f] = fmt.Sprintf("192.0.2.%d", len(stored)+1)
		c.Put(q, f.do, f.cd, hosts(t, "www.example.", epoch, "www.example. 300 IN A "+stored[f]))
	}
	for f, opts := range forms {
		m, _ := ask(t, c, query(t, "www.example.", wire.TypeA, opts...), epoch)
		if m == nil || m.Answer[0].(*dns.A).A.String() != stored[f] {
			t.Errorf("%+v: the answer is %v, want %s", f, m, stored[f])
		}
	}
}

func TestAnswersFoldTheNameButNeverTheType(t *testing.T) {
	c := NewAnswers(AnswersOptions{})
	for _, typ := range []wire.Type{65, 'A'<<8 | 'A', 'A', 'Z'<<8 | 1} {
		folded := typ | typ&0x4000>>1 | typ&0x40>>1
		if typ == folded {
			t.Fatalf("TYPE%d does not change when it is folded", uint16(typ))
		}
		q := question("www.example.", typ)
		c.Put(q, false, false, answerOf(t, response(q, rr(t, "www.example. 300 IN A 192.0.2.1")), epoch))
		if m, _ := ask(t, c, query(t, "WWW.example.", typ), epoch); m == nil {
			t.Errorf("TYPE%d is not found", uint16(typ))
		}
		if m, _ := ask(t, c, query(t, "www.example.", folded), epoch); m != nil {
			t.Errorf("TYPE%d is answered by what is known of TYPE%d", uint16(folded), uint16(typ))
		}
	}
}

func TestAnswersKnowClassINOnly(t *testing.T) {
	c := NewAnswers(AnswersOptions{})
	c.Put(question("www.example.", wire.TypeA), false, false, hosts(t, "www.example.", epoch, "www.example. 300 IN A 192.0.2.1"))
	c.Fail(question("lame.example.", wire.TypeA), false, nil, epoch)
	for _, n := range []string{"www.example.", "lame.example."} {
		if m, _ := ask(t, c, query(t, n, wire.TypeA), epoch); m == nil {
			t.Errorf("%s of class IN is not answered", n)
		}
		chaos := query(t, n, wire.TypeA, func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS })
		if m, _ := ask(t, c, chaos, epoch); m != nil {
			t.Errorf("%s of class CH is answered with %v", n, m)
		}
	}
}

func TestKeysOfDifferentQuestionsDiffer(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	type asked struct {
		folded string
		typ    wire.Type
		do, cd bool
	}
	labels := []string{"\x01a", "\x01A", "\x02aA", "\x03www", "\x01\x00", "\x01\x01", "\x02\x00\x01", "\x03\x00A\x00", "\x04\x00\x00\x01\x00"}
	types := []wire.Type{0, 1, 28, 65, 97, 0x0041, 0x4100, 0x6100, 0x4141, 0x6161, 0xFFFF}
	seen := map[string]asked{}
	for range 20_000 {
		var raw []byte
		for range rng.IntN(4) {
			raw = append(raw, labels[rng.IntN(len(labels))]...)
		}
		raw = append(raw, 0)
		a := asked{string(wire.AppendFolded(nil, raw)), types[rng.IntN(len(types))], rng.IntN(2) == 0, rng.IntN(2) == 0}
		key := string(appendKey(nil, raw, a.typ, a.do, a.cd))
		if other, ok := seen[key]; ok && other != a {
			t.Fatalf("%+v and %+v have the same key %x", a, other, key)
		}
		seen[key] = a
	}
	if len(seen) < 1000 {
		t.Fatalf("only %d different questions were tried", len(seen))
	}
	longest := bytes.Repeat([]byte("\x3f"+strings.Repeat("x", 63)), 3)
	longest = append(longest, "\x3d"+strings.Repeat("x", 61)+"\x00"...)
	if got := len(appendKey(nil, longest, 1, true, true)); len(longest) != wire.MaxNameLen || got != maxKey {
		t.Errorf("the key of the longest name has %d octets, want %d", got, maxKey)
	}
}

func TestPutRefusesTheAnswerToAnotherQuestion(t *testing.T) {
	a := hosts(t, "www.example.", epoch, "www.example. 300 IN A 192.0.2.1")
	chaos := response(question("www.example.", wire.TypeA), rr(t, "www.example. 300 IN A 192.0.2.1"))
	chaos.Question[0].Qclass = dns.ClassCHAOS
	for _, c := range []struct {
		q wire.Question
		a *Answer
	}{
		{question("example.", wire.TypeA), a},
		{question("wwx.example.", wire.TypeA), a},
		{question("www.example.", wire.TypeAAAA), a},
		{question("www.example."+strings.Repeat("more.", 30), wire.TypeA), a},
		{wire.Question{Type: wire.TypeA}, a},
		{question("www.example.", wire.TypeA), answerOf(t, chaos, epoch)},
	} {
		cache := NewAnswers(AnswersOptions{})
		if cache.Put(c.q, false, false, c.a); cache.Stats().Answers.Entries != 0 {
			t.Errorf("kept as the answer to %+v", c.q)
		}
	}
}

func TestPutKeepsNothingOverMaxAnswerOrWithoutLife(t *testing.T) {
	q := question("www.example.", wire.TypeTXT)
	sized := func(octets int) *Answer {
		msg := pack(t, response(q))
		for len(msg) < octets { // TYPE65280 records (RFC 3597)
			n := octets - len(msg) - 12
			if n > 1000 {
				n = 900
			}
			msg = append(msg, 0xC0, 12, 0xFF, 0, 0, 1, 0, 0, 0, 60, byte(n>>8), byte(n))
			msg = append(msg, make([]byte, n)...)
			msg[7]++ // ANCOUNT
		}
		a, err := NewAnswer(msg, nil, epoch, nil)
		if err != nil || len(a.msg) != octets {
			t.Fatalf("NewAnswer of %d octets: %v", len(msg), err)
		}
		return a
	}
	soa := "example. 60 IN SOA ns.example. root.example. 1 2 3 4 60"
	without := response(q)
	zero := response(q, rrs(t, "www.example. 60 IN TXT x", "www.example. 0 IN TXT y")...)
	denial := response(q)
	denial.Ns = rrs(t, soa)
	for _, c := range []struct {
		what string
		a    *Answer
		kept bool
	}{
		{"16 KiB", sized(MaxAnswer), true},
		{"an octet more", sized(MaxAnswer + 1), false},
		{"64 KiB", sized(wire.MaxMsgSize), false},
		{"no record", answerOf(t, without, epoch), false}, // RFC 2308 §5
		{"one TTL 0", answerOf(t, zero, epoch), false},
		{"a SOA record", answerOf(t, denial, epoch), true},
	} {
		cache := NewAnswers(AnswersOptions{})
		cache.Put(q, false, false, c.a)
		tcp := query(t, "www.example.", wire.TypeTXT)
		tcp.Limit = wire.MaxMsgSize
		m, _ := ask(t, cache, tcp, epoch)
		if (m != nil) != c.kept || (cache.Stats().Answers.Entries == 1) != c.kept {
			t.Errorf("%s: kept %v, want %v", c.what, m != nil, c.kept)
		}
	}
}

func TestPutReplacesAnOlderAnswerOnly(t *testing.T) {
	q := question("www.example.", wire.TypeA)
	older := hosts(t, "www.example.", epoch, "www.example. 3600 IN A 192.0.2.1")
	newer := hosts(t, "www.example.", after(1), "www.example. 300 IN A 192.0.2.2")
	same := hosts(t, "www.example.", after(1), "www.example. 300 IN A 192.0.2.3")
	for _, c := range []struct {
		what string
		puts []*Answer
		want string
	}{
		{"the newer last", []*Answer{older, newer}, "192.0.2.2"},
		{"the newer first", []*Answer{newer, older}, "192.0.2.2"},
		{"of the same age", []*Answer{newer, same}, "192.0.2.3"},
	} {
		cache := NewAnswers(AnswersOptions{})
		for _, a := range c.puts {
			cache.Put(q, false, false, a)
		}
		m, _ := ask(t, cache, query(t, "www.example.", wire.TypeA), after(2))
		if m == nil || m.Answer[0].(*dns.A).A.String() != c.want {
			t.Errorf("%s: the answer is %v, want %s", c.what, m, c.want)
		}
		if n := cache.Stats().Answers.Entries; n != 1 {
			t.Errorf("%s: there are %d answers", c.what, n)
		}
	}
}

func TestNegativeAnswersLiveAsLongAsTheirSOA(t *testing.T) { // RFC 2308 §5
	for _, rcode := range []int{dns.RcodeSuccess, dns.RcodeNameError} {
		c := NewAnswers(AnswersOptions{})
		q := question("absent.example.", wire.TypeAAAA)
		m := response(q)
		m.Rcode = rcode
		m.Ns = rrs(t, "example. 900 IN SOA ns.example. root.example. 1 2 3 4 60")
		a, err := NewAnswer(pack(t, m), []uint32{60}, epoch, nil) // the lesser of TTL and MINIMUM
		if err != nil {
			t.Fatal(err)
		}
		c.Put(q, false, false, a)
		got, _ := ask(t, c, query(t, "Absent.example.", wire.TypeAAAA), after(10))
		if got == nil || got.Rcode != rcode || len(got.Answer) != 0 || len(got.Ns) != 1 || got.Ns[0].Header().Ttl != 50 {
			t.Errorf("the answer is %v", got)
		}
		if got, _ = ask(t, c, query(t, "absent.example.", wire.TypeAAAA), after(60)); got != nil {
			t.Errorf("after its SOA record's life the answer is %v", got)
		}
		if got, _ = ask(t, c, query(t, "absent.example.", wire.TypeA), after(10)); got != nil {
			t.Errorf("another type is answered with %v", got)
		}
	}
}

// failedFor returns how long after now c says SERVFAIL to q, in whole seconds.
func failedFor(t *testing.T, c *Answers, q *wire.Query, now time.Time) int {
	t.Helper()
	for s := range 1000 {
		m, _ := ask(t, c, q, now.Add(time.Duration(s)*time.Second))
		if m == nil {
			return s
		}
		if m.Rcode != dns.RcodeServerFailure || len(m.Answer)+len(m.Ns)+len(m.Extra) != 0 {
			t.Fatalf("the failure is answered with %v", m)
		}
	}
	t.Fatal("the failure is remembered for more than 1000 s")
	return 0
}

func TestFailuresLastTwiceAsLongEachTimeUpToFiveMinutes(t *testing.T) { // RFC 9520 §3.2
	c := NewAnswers(AnswersOptions{})
	q, asked := question("lame.example.", wire.TypeA), query(t, "Lame.example.", wire.TypeA)
	now := epoch
	for _, want := range []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300} {
		c.Fail(q, false, nil, now)
		if got := failedFor(t, c, asked, now); got != want {
			t.Fatalf("at %v the failure is remembered for %d s, want %d", now.Sub(epoch), got, want)
		}
		now = now.Add(time.Duration(want) * time.Second)
	}
	now = now.Add(299 * time.Second) // still in a row
	if c.Fail(q, false, nil, now); failedFor(t, c, asked, now) != 300 {
		t.Error("forgotten within five minutes")
	}
	now = now.Add(600 * time.Second) // 300 after its end
	if c.Fail(q, false, nil, now); failedFor(t, c, asked, now) != 1 {
		t.Error("not forgotten after five minutes of peace")
	}
}

func TestFailuresAtTheSameTimeCountOnce(t *testing.T) {
	c := NewAnswers(AnswersOptions{})
	q, asked := question("lame.example.", wire.TypeA), query(t, "lame.example.", wire.TypeA)
	for range 10 {
		c.Fail(q, false, nil, epoch)
	}
	if got := failedFor(t, c, asked, epoch); got != 1 {
		t.Errorf("ten failures of one moment are remembered for %d s", got)
	}
	c.Fail(q, false, nil, after(-3600)) // a clock that went back
	if got := failedFor(t, c, asked, epoch); got > 2 {
		t.Errorf("after the clock went back the failure is remembered for %d s", got)
	}
}

func TestFailureTimesStayWithinTheRFC(t *testing.T) { // RFC 9520 §3.2
	for _, c := range []struct {
		opt          AnswersOptions
		first, third int // seconds
	}{
		{AnswersOptions{}, 1, 4},
		{AnswersOptions{MinFailure: time.Millisecond}, 1, 4},
		{AnswersOptions{MinFailure: 5 * time.Second}, 5, 20},
		{AnswersOptions{MinFailure: 5 * time.Second, MaxFailure: 7 * time.Second}, 5, 7},
		{AnswersOptions{MinFailure: time.Hour, MaxFailure: time.Hour}, 300, 300},
		{AnswersOptions{MinFailure: time.Hour, MaxFailure: 10 * time.Second}, 10, 10},
		{AnswersOptions{MinFailure: -1, MaxFailure: -1}, 1, 1},
	} {
		cache := NewAnswers(c.opt)
		q, asked := question("lame.example.", wire.TypeA), query(t, "lame.example.", wire.TypeA)
		now, last := epoch, 0
		for i := range 3 {
			cache.Fail(q, false, nil, now)
			last = failedFor(t, cache, asked, now)
			if i == 0 && last != c.first {
				t.Errorf("%+v: the first failure lasts %d s, want %d", c.opt, last, c.first)
			}
			now = now.Add(time.Duration(last) * time.Second)
		}
		if last != c.third {
			t.Errorf("%+v: the third failure lasts %d s, want %d", c.opt, last, c.third)
		}
	}
}

func TestFailureSaysWhy(t *testing.T) {
	c := NewAnswers(AnswersOptions{})
	why := ede.Wrap(errors.New("the cause"), ede.NoReachableAuthority, "no server answered")
	c.Fail(question("lame.example.", wire.TypeA), false, why, epoch)
	m, hit := ask(t, c, query(t, "LAME.example.", wire.TypeA, withID(3), withoutRD), epoch)
	if m == nil || m.Rcode != dns.RcodeServerFailure || m.Question[0].Name != "LAME.example." || m.Id != 3 || m.RecursionDesired {
		t.Fatalf("the answer is %v", m)
	}
	if hit.EDE == nil || hit.EDE.Code != ede.NoReachableAuthority || hit.EDE.Text != why.Text {
		t.Errorf("the error that goes with it is %v", hit.EDE)
	}
	if hit.EDE != nil && hit.EDE.Err != nil {
		t.Error("the cause is kept in memory")
	}
	if st := c.Stats(); st.FailureHits != 1 || st.Failures.Entries != 1 || st.Answers.Entries != 0 {
		t.Errorf("the statistics are %+v", st)
	}
}

func TestFailureIsTheSameWithDOButNotWithCD(t *testing.T) {
	c := NewAnswers(AnswersOptions{})
	c.Fail(question("lame.example.", wire.TypeA), false, nil, epoch)
	for _, w := range []struct {
		what  string
		opts  []option
		found bool
	}{
		{"nothing", nil, true},
		{"DO", []option{withDO}, true},
		{"CD", []option{withCD}, false}, // may be answered: what failed may be the validation
		{"DO and CD", []option{withDO, withCD}, false},
	} {
		if m, _ := ask(t, c, query(t, "lame.example.", wire.TypeA, w.opts...), epoch); (m != nil) != w.found {
			t.Errorf("asked with %s: found %v", w.what, m != nil)
		}
	}
	if m, _ := ask(t, c, query(t, "lame.example.", wire.TypeAAAA), epoch); m != nil {
		t.Errorf("another type is answered with %v", m)
	}
}

func TestLiveAnswerHidesAFailure(t *testing.T) {
	c := NewAnswers(AnswersOptions{})
	q, asked := question("www.example.", wire.TypeA), query(t, "www.example.", wire.TypeA)
	c.Put(q, false, false, hosts(t, "www.example.", epoch, "www.example. 5 IN A 192.0.2.1"))
	c.Fail(q, false, nil, after(4.5))
	if m, _ := ask(t, c, asked, after(4.9)); m == nil || m.Rcode != dns.RcodeSuccess {
		t.Errorf("while the answer is alive: %v", m)
	}
	if m, _ := ask(t, c, asked, after(5.1)); m == nil || m.Rcode != dns.RcodeServerFailure {
		t.Errorf("after the answer's end: %v", m)
	}
}

func TestAnswerEndsAFailure(t *testing.T) {
	q, asked := question("www.example.", wire.TypeA), query(t, "www.example.", wire.TypeA)
	for _, c := range []struct {
		what  string
		a     *Answer
		ended bool
	}{
		{"an answer", hosts(t, "www.example.", after(3), "www.example. 1 IN A 192.0.2.1"), true},
		{"an answer that is not kept", hosts(t, "www.example.", after(3), "www.example. 0 IN A 192.0.2.1"), true},
		{"an answer from before", hosts(t, "www.example.", epoch, "www.example. 1 IN A 192.0.2.1"), false},
		{"another's answer", hosts(t, "web.example.", after(3), "web.example. 1 IN A 192.0.2.1"), false},
	} {
		for _, do := range []bool{false, true} {
			cache := NewAnswers(AnswersOptions{})
			cache.Fail(q, false, nil, epoch)
			cache.Fail(q, false, nil, after(1)) // to 3
			cache.Put(q, do, false, c.a)
			cache.Fail(q, false, nil, after(5))
			want := 4
			if c.ended {
				want = 1
			}
			if got := failedFor(t, cache, asked, after(5)); got != want {
				t.Errorf("%s: the next failure lasts %d s, want %d", c.what, got, want)
			}
		}
	}
}

func TestFailuresAreBounded(t *testing.T) {
	c := NewAnswers(AnswersOptions{Bytes: 1 << 20})
	text := strings.Repeat("why ", 50)
	for i := range 5000 {
		c.Fail(question(fmt.Sprintf("host%d.example.", i), wire.TypeA), false, &ede.Error{Text: text}, epoch)
	}
	st := c.Stats()
	if st.Failures.Bytes > 1<<20/8 || st.Failures.Entries == 0 || st.Failures.Evicted == 0 {
		t.Errorf("the statistics are %+v", st.Failures)
	}
	if st.Failures.Entries+int(st.Failures.Evicted) != 5000 {
		t.Errorf("%d stored and %d evicted failures are not 5000", st.Failures.Entries, st.Failures.Evicted)
	}
	check(t, c.failures.Load())
}
