package cache

import (
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

func BenchmarkPutSet(b *testing.B) {
	for kind, records := range map[string][]string{
		"A":   {"www.zone0001.example. 300 IN A 192.0.2.1", "www.zone0001.example. 300 IN A 192.0.2.2"},
		"TXT": {`www.zone0001.example. 300 IN TXT "v=spf1 -all"`},
	} {
		b.Run(kind, func(b *testing.B) {
			m := NewMemory(MemoryOptions{})
			s := rrset.Set{Name: name("www.zone0001.example."), RRs: rrs(b, records...), Rank: rrset.AuthAnswer, Until: time.Now().Add(time.Hour)}
			s.Type = wire.Type(s.RRs[0].Header().Rrtype)
			b.ReportAllocs()
			for b.Loop() {
				m.PutSet(s)
			}
		})
	}
}

func TestAFaithfulSetSurvives(t *testing.T) {
	header := func(owner string, typ uint16) dns.RR_Header {
		return dns.RR_Header{Name: owner, Rrtype: typ, Class: dns.ClassINET, Ttl: 300}
	}
	a := func(owner string, typ uint16, ip net.IP) dns.RR { return &dns.A{Hdr: header(owner, typ), A: ip} }
	aaaa := func(owner string, ip net.IP) dns.RR {
		return &dns.AAAA{Hdr: header(owner, dns.TypeAAAA), AAAA: ip}
	}
	v4, v6 := net.IP{192, 0, 2, 1}, net.ParseIP("2001:db8::1")
	for _, tt := range []struct {
		what     string
		rr       dns.RR
		faithful bool
	}{
		{"A", a("www.example.", dns.TypeA, v4), true},
		{"A, mapped into IPv6", a("www.example.", dns.TypeA, v4.To16()), true},
		{"A of the root", a(".", dns.TypeA, v4), true},
		{"A in capitals", a("_Sip.EXAMPLE-1.", dns.TypeA, v4), true},
		{"AAAA", aaaa("www.example.", v6), true},
		{"AAAA that is a mapped address", aaaa("www.example.", v4.To16()), true},
		{"A that is IPv6", a("www.example.", dns.TypeA, v6), false},
		{"A without address", a("www.example.", dns.TypeA, nil), false},
		{"A said to be TXT", a("www.example.", dns.TypeTXT, v4), false},
		{"A with an escaped dot", a(`a\.b.example.`, dns.TypeA, v4), false},
		{"A with a needless escape", a(`\097.example.`, dns.TypeA, v4), false},
		{"A with a parenthesis", a("(.example.", dns.TypeA, v4), false},
		{"AAAA without address", aaaa("www.example.", nil), false},
		{"AAAA that is short", aaaa("www.example.", v4), false},
		{"NS", rr(t, "www.example. 300 IN NS ns.example."), false},
	} {
		s := rrset.Set{Name: name("www.example."), Type: wire.TypeA, RRs: []dns.RR{tt.rr}}
		if got := faithful(s); got != tt.faithful {
			t.Errorf("%s: faithful %v, want %v", tt.what, got, tt.faithful)
		}
		if !tt.faithful {
			continue
		}
		m := dns.Msg{Answer: s.RRs}
		if msg, err := m.Pack(); err != nil || !survives(s, msg) {
			t.Errorf("%s: it does not survive, %v", tt.what, err)
		}
	}
	signed := rrset.Set{RRs: []dns.RR{a("www.example.", dns.TypeA, v4)}, Sigs: []*dns.RRSIG{{}}}
	if faithful(signed) {
		t.Error("a signature is taken on trust")
	}
}
