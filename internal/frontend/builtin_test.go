package frontend

import (
	"context"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"shirube/internal/wire"
	"shirube/policy"
	"shirube/resolver"
)

// asked is the answer that the resolver of TestBuiltinZones gives to whatever
// it is asked.
const asked = "asked"

func TestBuiltinZones(t *testing.T) {
	f := newFrontend(t, func(context.Context, wire.Question) (*resolver.Answer, error) {
		return &resolver.Answer{Rcode: wire.YXDomain}, nil // says that it was asked
	}, func(o *Options) { o.Builtins = policy.NewBuiltins(nil) })
	const soa = " 10800 IN SOA localhost. nobody.invalid. 1 3600 1200 604800 10800"
	ten, loop, one := "10.in-addr.arpa.", "127.in-addr.arpa.", "1."+strings.Repeat("0.", 31)+"ip6.arpa."
	for _, tt := range []struct {
		name      string
		typ       uint16
		rcode     int
		answer    string // the record, or asked
		authority string // the SOA record's owner
	}{
		{"40.30.20.10.IN-addr.arpa.", dns.TypePTR, dns.RcodeNameError, "", ten},
		{ten, dns.TypePTR, 0, "", ten},
		{ten, dns.TypeSOA, 0, ten + soa, ""},
		{ten, dns.TypeNS, 0, ten + " 10800 IN NS localhost.", ""},
		{ten, dns.TypeDS, 0, asked, ""}, // its parent's
		{"20.10.in-addr.arpa.", dns.TypeDS, dns.RcodeNameError, "", ten},
		{"www.test.", dns.TypeA, dns.RcodeNameError, "", "test."},
		{"localhost.", dns.TypeA, 0, "localhost. 10800 IN A 127.0.0.1", ""},
		{"LocalHost.", dns.TypeAAAA, 0, "LocalHost. 10800 IN AAAA ::1", ""},
		{"a.localhost.", dns.TypeA, 0, "a.localhost. 10800 IN A 127.0.0.1", ""},
		{"a.localhost.", dns.TypeMX, 0, "", "localhost."},
		{"a.localhost.", dns.TypeSOA, 0, "", "localhost."},
		{"1.0.0.127.in-addr.arpa.", dns.TypePTR, 0, "1.0.0.127.in-addr.arpa. 10800 IN PTR localhost.", ""},
		{"1.0.0.127.in-addr.arpa.", dns.TypeTXT, 0, "", loop},
		{"0.0.127.in-addr.arpa.", dns.TypePTR, 0, "", loop}, // an empty non-terminal
		{"2.0.0.127.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, "", loop},
		{one, dns.TypePTR, 0, one + " 10800 IN PTR localhost.", ""},
		{"x." + one, dns.TypePTR, dns.RcodeNameError, "", one},
		{"www.example.com.", dns.TypeA, 0, asked, ""},
		{"arpa.", dns.TypeNS, 0, asked, ""},
		{".", dns.TypeNS, 0, asked, ""},
	} {
		m := answer(t, f, query(t, tt.name, tt.typ, nil))
		if tt.answer == asked {
			if m.Rcode != dns.RcodeYXDomain {
				t.Errorf("%s %s is not resolved: %v", tt.name, dns.TypeToString[tt.typ], m)
			}
			continue
		}
		var got, proof string
		if len(m.Answer) == 1 {
			got = m.Answer[0].String()
		}
		if len(m.Ns) == 1 {
			proof = m.Ns[0].String()
		}
		want := ""
		if tt.authority != "" {
			want = tt.authority + soa
		}
		if m.Rcode != tt.rcode || !m.Authoritative || !m.RecursionAvailable || m.AuthenticatedData || m.IsEdns0() == nil ||
			!strings.EqualFold(strings.Join(strings.Fields(got), " "), tt.answer) ||
			!strings.EqualFold(strings.Join(strings.Fields(proof), " "), want) {
			t.Errorf("%s %s: %v", tt.name, dns.TypeToString[tt.typ], m)
		}
	}
	if s := f.Stats(); s.Resolved != 4 {
		t.Errorf("%d questions were resolved, want 4", s.Resolved)
	}
}
