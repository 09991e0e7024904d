package cache

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"time"
	"unsafe"

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
	nsec := func(types ...uint16) dns.RR {
		h := dns.RR_Header{Name: "example.", Rrtype: dns.TypeNSEC, Class: dns.ClassINET}
		return &dns.NSEC{Hdr: h, NextDomain: "a.example.", TypeBitMap: types}
	}
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
		{"NS", rr(t, "www.example. 300 IN NS ns.example."), true},
		{"NS of an escaped name", rr(t, `www.example. 300 IN NS a\.b.example.`), false},
		{"NS of no name", &dns.NS{Hdr: dns.RR_Header{Name: "example.", Rrtype: dns.TypeNS, Class: dns.ClassINET}}, false},
		{"CNAME", rr(t, "www.example. 300 IN CNAME Web.example."), true},
		{"MX", rr(t, "www.example. 300 IN MX 10 mail.example."), true},
		{"SOA", rr(t, "example. 300 IN SOA ns.example. admin.example. 1 2 3 4 5"), true},
		{"SOA of a mailbox with a dot", rr(t, `example. 300 IN SOA ns.example. a\.b.example. 1 2 3 4 5`), false},
		{"DS", rr(t, "example. 300 IN DS 1 13 2 "+strings.Repeat("0f", 32)), true},
		{"DS in capitals", &dns.DS{Hdr: dns.RR_Header{Name: "example.", Rrtype: dns.TypeDS, Class: dns.ClassINET}, Digest: "0F"}, false},
		{"DS of half an octet", &dns.DS{Hdr: dns.RR_Header{Name: "example.", Rrtype: dns.TypeDS, Class: dns.ClassINET}, Digest: "0f0"}, false},
		{"DNSKEY", rr(t, "example. 300 IN DNSKEY 257 3 13 AAEC"), true},
		{"DNSKEY of two octets", rr(t, "example. 300 IN DNSKEY 257 3 13 AAE="), true},
		{"DNSKEY of one octet", rr(t, "example. 300 IN DNSKEY 257 3 13 AQ=="), true},
		{"DNSKEY with bits for nothing", rr(t, "example. 300 IN DNSKEY 257 3 13 AAF="), false},
		{"DNSKEY with more of them", rr(t, "example. 300 IN DNSKEY 257 3 13 AR=="), false},
		{"DNSKEY without padding", rr(t, "example. 300 IN DNSKEY 257 3 13 AAE"), false},
		{"DNSKEY with all of it padding", rr(t, "example. 300 IN DNSKEY 257 3 13 AA==AA=="), false},
		{"NSEC", rr(t, "example. 300 IN NSEC a.example. NS SOA RRSIG NSEC CAA"), true},
		{"NSEC of types in no order", nsec(dns.TypeNSEC, dns.TypeA), false},
		{"NSEC of a type twice", nsec(dns.TypeA, dns.TypeA), false},
		{"NSEC of no types", nsec(), false},
		{"TXT", rr(t, `www.example. 300 IN TXT "x"`), false},
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
	sig := rr(t, "www.example. 300 IN RRSIG A 13 2 300 20300101000000 20200101000000 1 example. AAEC").(*dns.RRSIG)
	signed := rrset.Set{RRs: []dns.RR{a("www.example.", dns.TypeA, v4)}, Sigs: []*dns.RRSIG{sig}}
	m := dns.Msg{Answer: signed.RRs, Ns: []dns.RR{sig}, Compress: true}
	if msg, err := m.Pack(); err != nil || !survives(signed, msg) || !faithful(signed) {
		t.Errorf("a signature is not taken on trust, or does not survive, %v", err)
	}
	sig.Signature = "AAED="
	if faithful(signed) {
		t.Error("an odd signature is taken on trust")
	}
}

// FuzzFaithfulSurvives: whatever record a message has, if it is faithful it
// survives, and so it does with what a text form may have made of it.
func TestAddressesArePackedAsTheLibraryPacksThem(t *testing.T) {
	for _, records := range [][]string{
		{"www.example. 300 IN A 192.0.2.1"},
		{"www.example. 300 IN A 192.0.2.1", "www.example. 300 IN A 192.0.2.2", "www.example. 0 IN A 192.0.2.3"},
		{"_a-b.c0.example. 2147483647 IN AAAA 2001:db8::1", "_a-b.c0.example. 1 IN AAAA ::ffff:192.0.2.1"},
	} {
		s := rrset.Set{RRs: rrs(t, records...)}
		h := s.RRs[0].Header()
		s.Name, s.Type = wire.MustParseName(h.Name), wire.Type(h.Rrtype)
		sig := rrs(t, h.Name+" 299 IN RRSIG A 13 2 300 20300101000000 20200101000000 1 example. c2lnbmF0dXJl")[0]
		if len(s.RRs) > 1 {
			s.Sigs = []*dns.RRSIG{sig.(*dns.RRSIG)}
		}
		m := dns.Msg{Answer: s.RRs, Compress: true}
		if s.Sigs != nil {
			m.Ns = []dns.RR{sig}
		}
		if got, want := packCommon(s), pack(t, &m); !bytes.Equal(got, want) {
			t.Errorf("%s: %x, want %x", records, got, want)
		}
		p, err := packSet(s)
		if err != nil {
			t.Fatal(err)
		}
		if name := p.ownName(); name != s.Name || unsafe.StringData(string(name)) != &p.msg[wire.HeaderLen] {
			t.Errorf("%s: the name is not that in the message, but %v", records, name)
		}
	}
	for name, change := range map[string]func(*rrset.Set){
		"no signature": func(s *rrset.Set) { s.Sigs = []*dns.RRSIG{{}} },
		"another's signature": func(s *rrset.Set) {
			s.Sigs = []*dns.RRSIG{rrs(t, "wwx.example. 300 IN RRSIG A 13 2 300 20300101000000 20200101000000 1 example. c2lnbmF0dXJl")[0].(*dns.RRSIG)}
		},
		"no record":        func(s *rrset.Set) { s.RRs = nil },
		"a broken address": func(s *rrset.Set) { s.RRs[0].(*dns.A).A = []byte{1, 2} },
		"another class":    func(s *rrset.Set) { s.RRs[0].Header().Class = dns.ClassCHAOS },
		"another owner":    func(s *rrset.Set) { s.RRs[0].Header().Name = "wwx.example." },
		"another spelling": func(s *rrset.Set) { s.RRs[0].Header().Name = "WWW.example." },
		"another type":     func(s *rrset.Set) { s.Type = wire.TypeAAAA },
		"no type of them":  func(s *rrset.Set) { s.Type = wire.TypeTXT },
	} {
		s := rrset.Set{Name: wire.MustParseName("www.example."), Type: wire.TypeA, RRs: rrs(t, "www.example. 300 IN A 192.0.2.1")}
		change(&s)
		if got := packCommon(s); got != nil {
			t.Errorf("%s: packed as %x", name, got)
		}
	}
}

func FuzzFaithfulSurvives(f *testing.F) {
	for _, text := range []string{
		"www.example. 300 IN A 192.0.2.1", "www.example. 300 IN NS ns.example.", "example. 300 IN SOA ns.example. a.example. 1 2 3 4 5",
		"example. 300 IN DS 1 13 2 0f0f", "example. 300 IN DNSKEY 257 3 13 AAE=", "example. 300 IN NSEC a.example. NS SOA",
		"www.example. 300 IN RRSIG A 13 2 300 20300101000000 20200101000000 1 example. AAEC", "www.example. 300 IN MX 1 m.example.",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		one, err := dns.NewRR(text)
		if err != nil || one == nil {
			return
		}
		s := rrset.Set{RRs: []dns.RR{one}}
		if !faithful(s) {
			return
		}
		m := dns.Msg{Answer: s.RRs}
		if msg, err := m.Pack(); err == nil && !survives(s, msg) {
			t.Errorf("%v does not survive", one)
		}
	})
}
