package frontend

import (
	"fmt"
	"net"
	"reflect"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/resolver"
)

func BenchmarkPack(b *testing.B) {
	name := wire.MustParseName("www.zone0001.example.")
	rr, err := dns.NewRR("www.zone0001.example. 300 IN A 192.0.2.1")
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	ans := &resolver.Answer{Records: []rrset.Set{{Name: name, Type: wire.TypeA, RRs: []dns.RR{rr}, Until: now.Add(time.Hour)}}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := pack(wire.Question{Name: name, Type: wire.TypeA}, ans, false, now); err != nil {
			b.Fatal(err)
		}
	}
}

// addresses returns an answer with records of one name, and the question.
func addresses(t *testing.T, trust rrset.Trust, until time.Time, records ...string) (wire.Question, *resolver.Answer) {
	t.Helper()
	s := rrset.Set{Trust: trust, Until: until}
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		s.RRs = append(s.RRs, rr)
		s.Name, s.Type = wire.MustParseName(rr.Header().Name), wire.Type(rr.Header().Rrtype)
	}
	return wire.Question{Name: s.Name, Type: s.Type}, &resolver.Answer{Records: []rrset.Set{s}, Trust: trust}
}

func TestAddressesArePackedAsTheLibraryDoes(t *testing.T) {
	now := time.Now()
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("www.example. 300 IN A 192.0.2.%d", i))
	}
	for name, records := range map[string][]string{
		"one A":         {"www.example. 300 IN A 192.0.2.1"},
		"AAAA":          {"www.example. 300 IN AAAA 2001:db8::1", "www.example. 300 IN AAAA ::ffff:192.0.2.1"},
		"100 A":         many,
		"odd owner":     {`a\.b\032\200.example. 300 IN A 192.0.2.1`},
		"without life":  {"www.example. 0 IN A 192.0.2.1"},
		"of two labels": {"example.org. 300 IN A 192.0.2.1", "example.org. 300 IN A 192.0.2.2"},
	} {
		for _, trust := range []rrset.Trust{rrset.Unchecked, rrset.Secure} {
			until := now.Add(300 * time.Second)
			if name == "without life" {
				until = now
			}
			q, ans := addresses(t, trust, until, records...)
			if packCommon(q, ans, false, now) == nil {
				t.Errorf("%s: left to the library", name)
			}
			got, err := pack(q, ans, false, now)
			if err != nil {
				t.Fatal(err)
			}
			want, err := packAny(q, ans, false, now)
			if err != nil {
				t.Fatal(err)
			}
			want.MarkPlain()
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s, %v:\n got %+v\nwant %+v", name, trust, got, want)
			}
		}
	}
}

func TestSignedAddressesArePackedAsTheLibraryDoes(t *testing.T) {
	now := time.Now()
	q, ans := addresses(t, rrset.Secure, now.Add(300*time.Second), "www.example. 300 IN A 192.0.2.1", "www.example. 300 IN A 192.0.2.2")
	for _, text := range []string{
		"www.example. 300 IN RRSIG A 13 2 300 20300101000000 20200101000000 1 example. c2lnbmF0dXJl",
		"www.example. 300 IN RRSIG A 8 2 300 20300101000000 20200101000000 2 example. YW5vdGhlciBvbmU=",
	} {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		ans.Records[0].Sigs = append(ans.Records[0].Sigs, rr.(*dns.RRSIG))
	}
	for _, do := range []bool{false, true} {
		if packCommon(q, ans, do, now) == nil {
			t.Errorf("DO %v: left to the library", do)
		}
		got, err := packForm(q, ans, do, now)
		if err != nil {
			t.Fatal(err)
		}
		want, err := packAny(q, ans, do, now)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("DO %v:\n got %+v\nwant %+v", do, got, want)
		}
	}
}

func TestOtherAnswersAreLeftToTheLibrary(t *testing.T) {
	now := time.Now()
	for name, change := range map[string]func(q *wire.Question, ans *resolver.Answer){
		"another name": func(q *wire.Question, _ *resolver.Answer) { q.Name = wire.MustParseName("alias.example.") },
		"the root": func(q *wire.Question, ans *resolver.Answer) { // a pointer is longer than its name
			q.Name, ans.Records[0].Name = wire.Root, wire.Root
		},
		"another type":      func(q *wire.Question, _ *resolver.Answer) { q.Type = wire.TypeAAAA },
		"an rcode":          func(_ *wire.Question, ans *resolver.Answer) { ans.Rcode = wire.NXDomain },
		"a proof":           func(_ *wire.Question, ans *resolver.Answer) { ans.Denial = ans.Records },
		"servers":           func(_ *wire.Question, ans *resolver.Answer) { ans.Authority = ans.Records },
		"two sets":          func(_ *wire.Question, ans *resolver.Answer) { ans.Records = append(ans.Records, ans.Records[0]) },
		"no set":            func(_ *wire.Question, ans *resolver.Answer) { ans.Records = nil },
		"a false signature": func(_ *wire.Question, ans *resolver.Answer) { ans.Records[0].Sigs = []*dns.RRSIG{{}} },
		"no record":         func(_ *wire.Question, ans *resolver.Answer) { ans.Records[0].RRs = nil },
		"a broken address":  func(_ *wire.Question, ans *resolver.Answer) { ans.Records[0].RRs[0].(*dns.A).A = net.IP{1, 2} },
		"another class":     func(_ *wire.Question, ans *resolver.Answer) { ans.Records[0].RRs[0].Header().Class = dns.ClassCHAOS },
		"a false type":      func(_ *wire.Question, ans *resolver.Answer) { ans.Records[0].RRs[0].Header().Rrtype = dns.TypeTXT },
		"text": func(q *wire.Question, ans *resolver.Answer) {
			q.Type, ans.Records[0].Type = wire.TypeTXT, wire.TypeTXT
			ans.Records[0].RRs = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: "www.example.", Rrtype: dns.TypeTXT, Class: dns.ClassINET}}}
		},
	} {
		q, ans := addresses(t, rrset.Unchecked, now.Add(time.Hour), "www.example. 300 IN A 192.0.2.1")
		change(&q, ans)
		if got := packCommon(q, ans, true, now); got != nil {
			t.Errorf("%s: packed as %x", name, got)
		}
	}
}

func TestAdditionalSectionIsPackedUnlessItIsTooLong(t *testing.T) {
	now := time.Now()
	q, ans := addresses(t, rrset.Insecure, now.Add(time.Hour), "example. 300 IN NS ns.example.")
	for records, want := range map[int]int{10: 10, 2000: 0} {
		more := make([]string, records)
		for i := range more {
			more[i] = fmt.Sprintf("ns.example. 300 IN A 10.0.%d.%d", i/256, i%256)
		}
		_, beside := addresses(t, rrset.Insecure, now.Add(time.Hour), more...)
		ans.Additional = beside.Records
		a, err := pack(q, ans, false, now)
		if err != nil {
			t.Fatal(err)
		}
		query := &wire.Query{}
		raw := append([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, "\x07example\x00\x00\x02\x00\x01"...)
		if status := query.Parse(raw); status != wire.OK {
			t.Fatalf("the query is %v", status)
		}
		query.Limit = wire.MaxMsgSize
		m := new(dns.Msg)
		if err := m.Unpack(a.Append(nil, query, now)); err != nil {
			t.Fatal(err)
		}
		if len(m.Answer) != 1 || len(m.Extra) != want {
			t.Errorf("of %d additional records %d are given beside %d, want %d", records, len(m.Extra), len(m.Answer), want)
		}
	}
}

func TestServersArePackedBehindTheDenialUnlessTheyAreTooLong(t *testing.T) {
	now := time.Now()
	q, ans := addresses(t, rrset.Insecure, now.Add(time.Hour), "www.example. 300 IN A 192.0.2.1")
	_, proof := addresses(t, rrset.Insecure, now.Add(time.Hour), "a.example. 300 IN NSEC z.example. A")
	ans.Denial = proof.Records
	_, beside := addresses(t, rrset.Insecure, now.Add(time.Hour), "ns.example. 300 IN A 192.0.2.2")
	ans.Additional = beside.Records
	for servers, want := range map[int]struct{ ns, extra int }{10: {11, 1}, 1000: {1, 0}} {
		more := make([]string, servers)
		for i := range more {
			more[i] = fmt.Sprintf("example. 300 IN NS ns%d.example.", i)
		}
		_, set := addresses(t, rrset.Insecure, now.Add(time.Hour), more...)
		ans.Authority = set.Records
		a, err := pack(q, ans, true, now)
		if err != nil {
			t.Fatal(err)
		}
		query := &wire.Query{}
		raw := append([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, "\x03www\x07example\x00\x00\x01\x00\x01"...)
		if status := query.Parse(raw); status != wire.OK {
			t.Fatalf("the query is %v", status)
		}
		for limit, want := range map[int]struct{ ns, extra int }{wire.MaxMsgSize: want, 100: {1, 0}} {
			query.Limit = limit
			m := new(dns.Msg)
			if err := m.Unpack(a.Append(nil, query, now)); err != nil {
				t.Fatal(err)
			}
			if m.Truncated || len(m.Answer) != 1 || len(m.Ns) != want.ns || len(m.Extra) != want.extra || m.Ns[0].Header().Rrtype != dns.TypeNSEC {
				t.Errorf("%d servers in %d octets: TC %v, %d, %d and %d records, want 1, %d and %d",
					servers, limit, m.Truncated, len(m.Answer), len(m.Ns), len(m.Extra), want.ns, want.extra)
			}
		}
	}
	if !plain(&resolver.Answer{Authority: ans.Authority}) {
		t.Error("unsigned servers are of DNSSEC")
	}
	ans.Authority[0].Sigs = []*dns.RRSIG{{}}
	if plain(&resolver.Answer{Authority: ans.Authority}) {
		t.Error("signatures of servers are the same with and without DO")
	}
}
