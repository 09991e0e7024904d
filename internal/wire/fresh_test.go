package wire

import (
	"testing"

	"github.com/miekg/dns"
)

func TestFreshnessIsThatOfRFC8484(t *testing.T) {
	const soa = "example.org. 900 IN SOA ns.example.org. host.example.org. 1 2 3 4 "
	for _, c := range []struct {
		name              string
		rcode             int
		answer, authority []string
		want              uint32
	}{
		{"the smallest TTL", dns.RcodeSuccess, []string{"a.example.org. 300 IN CNAME b.example.org.", "b.example.org. 60 IN A 192.0.2.1"}, nil, 60},
		{"not that of other sections", dns.RcodeSuccess, []string{"a.example.org. 300 IN A 192.0.2.1"}, []string{"example.org. 5 IN NS ns.example.org."}, 300},
		{"a TTL with the top bit set", dns.RcodeSuccess, []string{"a.example.org. 3000000000 IN A 192.0.2.1"}, nil, 0},
		{"a denial: the TTL", dns.RcodeNameError, nil, []string{soa + "3600"}, 900},
		{"a denial: MINIMUM", dns.RcodeSuccess, nil, []string{"example.org. 5 IN NS ns.example.org.", soa + "300"}, 300},
		{"a denial that does not say", dns.RcodeSuccess, nil, []string{"example.org. 5 IN NS ns.example.org."}, 0},
		{"an alias to nowhere", dns.RcodeNameError, []string{"a.example.org. 20 IN CNAME b.example.org."}, []string{soa + "300"}, 20},
		{"a failure", dns.RcodeServerFailure, nil, []string{soa + "300"}, 0},
	} {
		m := new(dns.Msg).SetQuestion("a.example.org.", dns.TypeA)
		m.Response, m.Rcode, m.Compress = true, c.rcode, true
		for _, text := range c.answer {
			m.Answer = append(m.Answer, mustRR(t, text))
		}
		for _, text := range c.authority {
			m.Ns = append(m.Ns, mustRR(t, text))
		}
		m.SetEdns0(1232, false)
		raw, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if got := Freshness(raw); got != c.want {
			t.Errorf("%s: %d s, want %d s", c.name, got, c.want)
		}
		for i := range raw { // what is cut off is not looked for
			Freshness(raw[:i])
		}
	}
}

func mustRR(t *testing.T, text string) dns.RR {
	t.Helper()
	rr, err := dns.NewRR(text)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}
